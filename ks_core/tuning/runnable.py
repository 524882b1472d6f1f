"""Whether a checkpoint can be run, and as what, told from its config.json before anything is loaded. No torch here.

A model writes after a prompt (``DECODER``), or translates what an encoder reads (``ENCODER_DECODER``), or does the former with
images beside the text (``MULTIMODAL``), which are left out. A classifier, an encoder or a model of sound does nothing of the
kind, though transformers would build a half of it and draw the missing half at random. Which class is which stands in
transformers' own lists; they are read as text, for importing them takes seconds.
"""

from __future__ import annotations

import ast
import importlib.util
import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ks_core.checkpoints import folders, whole
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.errors import KSLotteryError, ModelError

DECODER, ENCODER_DECODER, MULTIMODAL = "decoder", "encoder-decoder", "multimodal"
#: The lists of transformers in which the classes of each stand; in this order, for some stand in two.
LISTS = {MULTIMODAL: "IMAGE_TEXT_TO_TEXT", DECODER: "CAUSAL_LM", ENCODER_DECODER: "SEQ_TO_SEQ_CAUSAL_LM"}

#: Files in which transformers saves a chat template beside tokenizer_config.json.
CHAT_TEMPLATES = ("chat_template.jinja", "chat_template.json")

#: Python 3.11 cannot take code apart in two threads at once.
_ONE_AT_A_TIME = threading.Lock()

#: Kinds on the lists that see what comes after a place, as long as they are not told otherwise (``tests/tuning/test_architectures.py``).
BOTH_WAYS = ("cpmant", "diffusion_gemma", "paligemma", "xlnet")


def check(*sources: str) -> None:
    """Raise a ``KSLotteryError`` with the reason for the first source that cannot be run, as far as its files tell. The first of
    them is the base that the others are compared with."""
    for named in filter(None, sources):
        beside = sources[0] if named != sources[0] else None
        prefix = whole.prefix_of(named, beside)
        source, beside = (prefix[1], None) if prefix else (named, beside)
        whole.check(source, beside)
        config = _config(source, beside)
        if config is not None:  # GGUF, or of the hub and not here yet: known when it is loaded
            way_of(config, source)


def reads_with_encoder(source: str) -> bool:
    """Whether a source is an encoder-decoder, which is given a sentence as it is. False for what cannot be opened."""
    try:
        config = _config(source)
        return config is not None and way_of(config, source) == ENCODER_DECODER
    except KSLotteryError:
        return False


def has_chat_template(source: str) -> bool:
    """Whether a source's tokenizer is saved with a chat template, as far as its files tell. False for what cannot be opened, and
    for a GGUF file, whose template is known when it is loaded."""
    try:
        path = whole.root(open_checkpoint(source)).path
        folder = path if path.is_dir() else path.parent
        if path.suffix == ".gguf":
            return False
        if any(folders.has(folder, name) for name in CHAT_TEMPLATES):
            return True
        settings = folders.read_json(folder, "tokenizer_config.json")
    except (KSLotteryError, OSError):
        return False
    return isinstance(settings, dict) and bool(settings.get("chat_template"))


def usual_baselines(source: str) -> tuple[str, ...]:
    """The kinds of arms that ask a base in another manner, without any training, as far as they can be had of it: none for an
    encoder-decoder, and a chat only where there is a template for one."""
    if reads_with_encoder(source):
        return ()
    return ("stop", "examples", *(("chat",) if has_chat_template(source) else ()))


def way_of(config: Mapping[str, Any], source: str) -> str:
    """How a model is run, by the plain values of its config.json: ``DECODER``, ``ENCODER_DECODER`` or ``MULTIMODAL``.

    Raises ``ModelError`` for one that writes no text, or that transformers does not know.
    """
    kind, classes = str(config.get("model_type", "")), config.get("architectures")
    named = str(classes[0]) if isinstance(classes, list) and classes else ""
    lists = {way: known_classes(name) for way, name in LISTS.items()}
    # Where no class is named; and where a model was saved without a head, which is there all the same if it is tied to the
    # embedding. Loading finds that out.
    halves = config.get("is_encoder_decoder") is not False
    by_kind = [
        way
        for way in (ENCODER_DECODER, DECODER, MULTIMODAL)
        if kind in lists[way] and (halves or way != ENCODER_DECODER)
    ]
    headless = named == known_classes("").get(kind) and config.get("tie_word_embeddings") is not False
    ways = [way for way, found in lists.items() if named in found.values()] or (
        by_kind if headless or not named else []
    )
    way = ways[0] if ways else ""
    if way == ENCODER_DECODER and ("audio_config" in config or "audio_encoder" in config):
        way = ""
    if not way:
        raise ModelError(
            f"{source} is a {named or 'model of a class that it does not name'} (model type {kind or 'unknown'}), which writes no text, "
            f"or which the installed transformers does not know{' by itself' * ('auto_map' in config)}. The KS test reads its embedding; "
            "tuning, translating and the audit need a model with a language head, such as LlamaForCausalLM, or an encoder-decoder "
            "of text, such as MarianMTModel or T5ForConditionalGeneration. Open the checkpoint that has this head."
        )
    gaps = way == DECODER and kind in known_classes("MASKED_LM") and config.get("is_decoder") is not True
    if (gaps and not config.get("causal")) or kind in BOTH_WAYS:
        raise ModelError(
            f"{source} is a {named or kind} that sees the words after a place as well as those before it: an encoder, or a model "
            "that is asked in another way. Trained to write on, it would be shown the answer. The KS test reads its embedding; "
            "tuning, translating and the audit need a decoder or an encoder-decoder."
        )
    return way


@lru_cache(maxsize=8)
def known_classes(name: str) -> dict[str, str]:
    """One of transformers' lists, by the middle of its name (empty: of the models without a head): model type -> class.

    >>> known_classes("CAUSAL_LM")["gpt2"], known_classes("SEQ_TO_SEQ_CAUSAL_LM")["marian"]
    ('GPT2LMHeadModel', 'MarianMTModel')
    """
    wanted = f"MODEL_FOR_{name}_MAPPING_NAMES" if name else "MODEL_MAPPING_NAMES"
    for node in _listed().body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == wanted for t in node.targets):
            pairs = [pair for pair in ast.walk(node.value) if isinstance(pair, ast.Tuple) and len(pair.elts) == 2]
            found = [tuple(getattr(part, "value", None) for part in pair.elts) for pair in pairs]
            return {kind: one for kind, one in found if isinstance(kind, str) and isinstance(one, str)}
    return {}


@lru_cache(maxsize=1)
def _lists() -> ast.Module:
    spec = importlib.util.find_spec("transformers")
    assert spec is not None and spec.origin is not None
    return ast.parse((Path(spec.origin).parent / "models" / "auto" / "modeling_auto.py").read_text(encoding="utf-8"))


def _listed() -> ast.Module:
    with _ONE_AT_A_TIME:
        return _lists()


def _config(source: str, beside: str | None = None) -> dict[str, Any] | None:
    """The config.json of a source's root; ``None`` for a GGUF file, and where there is none."""
    path = whole.root(open_checkpoint(source, beside=beside)).path
    if path.suffix == ".gguf":
        return None
    found = folders.read_json(path if path.is_dir() else path.parent, "config.json")
    return found if isinstance(found, dict) else None
