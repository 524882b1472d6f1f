"""A run of Fine-tune on the tiny model, of which several tests ask other things."""

import pytest

from helpers import tiny_text
from ks_core.jobs.running import Running
from ks_core.store import workspace
from ks_core.tuning.arms import Arm
from ks_core.tuning.jobs import run_tune
from ks_core.tuning.plans import CorpusChoice, Plan
from ks_core.tuning.recipes import Recipe


@pytest.fixture(scope="session")
def place(tmp_path_factory, tiny_model, tiny_tokenizer):
    """A tiny model, a text, and a run of Fine-tune in which its Embed Tuning gives the ticket, by steps. Made once."""
    place = tmp_path_factory.mktemp("exposure")
    tiny_model.save_pretrained(place / "tiny")
    tiny_tokenizer.save_pretrained(place / "tiny")
    (place / "pairs.tsv").write_text(tiny_text.pairs(300, two_words=True))
    corpus = CorpusChoice(f"file:{place / 'pairs.tsv'}", source_language="A", target_language="B")
    plan = Plan(str(place / "tiny"), "", rule="steps", k=5, corpus=corpus, prompt="w3 w4 {source} w6", sentences=4, device="cpu",
                arms=(Arm("embed", recipe=Recipe(steps=30, batch_size=4, learning_rate=0.05)), Arm("transfer")), generate=False)  # fmt: skip
    folder = place / "jobs" / "20260101-000000-tune-abcdef"
    workspace.write_json(
        folder / "request.json", {"kind": "tune", "parameters": plan.as_dict(), "device": "cpu", "created": 0.0}
    )
    workspace.write_json(folder / "result.json", run_tune(plan.as_dict(), Running(folder)))
    return place
