"""A suite of the tiny model: two language pairs, two seeds, six steps."""

from dataclasses import replace

import pytest

from helpers import tiny_text
from ks_core.jobs.running import Running
from ks_core.store import workspace
from ks_core.suites.suite import Suite, Text
from ks_core.tuning.arms import parse_arm

STEPS = {"steps": 6, "batch_size": 4, "learning_rate": 0.05}


@pytest.fixture
def tiny_suite(tiny_folder, tmp_path):
    """The suite; its second text has targets of two words."""
    texts = []
    for name, two in (("aa-bb", False), ("aa-cc", True)):
        folder = tmp_path / name
        folder.mkdir()
        texts.append(Text(name, tiny_text.corpus(folder, two_words=two), k=3))
    arms = tuple(parse_arm(a, [7], **STEPS) for a in ("base", "embed", "partial", "transfer", "frequent"))
    return Suite("tiny", str(tiny_folder), tuple(texts), ("demo",), (0, 1), arms, sentences=4, written=1)


@pytest.fixture
def smallest(tiny_suite):
    """One pair, one seed, no answers."""
    return replace(tiny_suite, texts=tiny_suite.texts[:1], seeds=(0,), written=0)


@pytest.fixture
def running(workspace_folder):
    """A job as the work in it sees it, whose process is that of the test."""

    def made(name="job"):
        folder = workspace_folder / "jobs" / name
        folder.mkdir(parents=True)
        workspace.write_json(folder / "request.json", {"kind": "suite"})
        return Running(folder)

    return made
