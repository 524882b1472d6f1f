"""Runs that were finished are kept, and found by what they were made from: a suite that was stopped goes on, another suite takes what it needs.

A run lies in the workspace, under ``suite-runs``, in a folder that is named by a hash of everything that decides it: the model and the text by
their content, the plan, what computes and with which versions. What is half done lies there too, and goes on as ``tuning.run`` goes on with
any run.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ks_core.checkpoints import whole
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.jobs import devices
from ks_core.signature import versions
from ks_core.store import workspace
from ks_core.translation.corpora import Corpus
from ks_core.tuning.plans import Plan

#: Raised by one whenever the same key could have other results than before.
VERSION = 1
#: What of a plan stands in the key by its content, or decides nothing of the result.
ELSEWHERE = ("base", "corpus", "device", "resources")
#: Files of a folder that hold weights.
WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth")


def key_of(plan: Plan, corpus: Corpus) -> str:
    """The key of a plan's run on its text, 32 hex digits. Raises ``CheckpointError`` where the base cannot be opened.

    The embedding is known by its content, the layers by their files' names, sizes and times: reading all of a large model would take minutes.
    """
    opened = open_checkpoint(plan.base)
    path = whole.root(opened).path
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.suffix in WEIGHTS)
    asked = {name: value for name, value in plan.as_dict().items() if name not in ELSEWHERE}
    told = {
        "kept": VERSION, "base": opened.content_hash, "files": [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in files],
        "vocabulary": opened.vocabulary.content_hash if opened.vocabulary else None, "plan": asked,
        "corpus": corpus.content_hash, "developing": corpus.developing, "languages": [corpus.source_language, corpus.target_language],
        "device": devices.select(plan.device).removeprefix("torch:").partition(":")[0], "resources": plan.resources.facts(),
        **versions("torch", "transformers", "peft", "sacrebleu"),
    }  # fmt: skip
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


def folder_of(key: str) -> Path:
    """Where the run of a key lies, or will."""
    return workspace.home() / "suite-runs" / key


def finished(folder: Path) -> dict[str, Any] | None:
    """The summary of a run that was finished there; ``None`` for one that was not, and for one of which an arm failed, which is
    tried again."""
    found = workspace.read_json(folder / "summary.json")
    if not isinstance(found, dict) or any(arm.get("error") for arm in found.get("arms", [])):
        return None
    return found
