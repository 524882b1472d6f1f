"""Whether a run's ticket does as well as full tuning, in nats and in chrF."""

import shutil

import numpy as np
import pytest

from ks_core.ledger import as_well
from ks_core.ledger.noninferiority import NO, OPEN, YES
from ks_core.likelihood.nats import Draws, Likelihood
from ks_core.store import workspace
from ks_core.tuning.plans import Plan


@pytest.fixture
def run(place, tmp_path):
    """The run's folder, its plan and what it gave: Embed Tuning, and the rows of its ticket copied."""
    folder = shutil.copytree(next((place / "jobs").iterdir()), tmp_path / "run")
    return (
        folder,
        workspace.read_json(folder / "request.json")["parameters"],
        workspace.read_json(folder / "result.json"),
    )


def test_the_copied_ticket_against_embed_tuning_in_nats(run):
    (found,) = as_well.of_run(*run)
    embed, transfer = (Likelihood.from_dict(arm["likelihood"]) for arm in run[2]["arms"])
    drawn = Draws(len(embed)).gain(embed, transfer)
    assert (found.own, found.other, found.unit) == ("Partial Transfer", "Embed Tuning", "nats")
    assert found.value == pytest.approx(embed.nats - transfer.nats) and found.value < 0
    assert (found.low, found.high) == pytest.approx(np.quantile(drawn[1:], [0.025, 0.975]), abs=1e-9)
    (close,) = as_well.of_run(*run, margins={"nats": 1 - found.low, "chrF": 2})
    (far,) = as_well.of_run(*run, margins={"nats": 1e-6, "chrF": 2})
    assert close.answer == YES and far.answer == (NO if found.high < 0 else OPEN)


def test_answers_are_compared_in_chrf_with_the_references_of_the_run(run):
    folder, parameters, summary = run
    references = [pair.target for pair in Plan.from_dict(parameters).corpus.load().part("test")][:4]
    for arm, texts in zip(summary["arms"], (references, ["y"] * 4), strict=True):
        arm["evaluation"] = {"scores": {}}
        told = [{"prompt": "", "text": text, "stopped": True, "tokens": 3} for text in texts]
        workspace.write_json(folder / "arms" / arm["folder"] / "answers.json", told)
    nats, chrf = as_well.of_run(folder, parameters, summary)
    assert (nats.unit, chrf.unit, chrf.answer, chrf.value) == ("nats", "chrF", NO, -100)
    assert "but for 2 chrF? No, it does worse by more than that: -100.0" in chrf.sentence


def test_without_another_arm_nothing_is_asked(run):
    folder, parameters, summary = run
    assert as_well.of_run(folder, parameters, {**summary, "arms": summary["arms"][:1]}) == []
    failed = {**summary["arms"][0], "error": "it was stopped"}
    assert as_well.of_run(folder, parameters, {**summary, "arms": [failed, summary["arms"][1]]}) == []
