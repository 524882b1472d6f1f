"""What rules and panels learn of a training: of a real run of the tiny model, whose notes and recording lie beside its rows."""

import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ks_core.errors import TicketError
from ks_core.jobs.running import Running
from ks_core.ledger import exposure, recorded
from ks_core.store import workspace
from ks_core.study.scan import Study
from ks_core.tickets.calibration import Settings, calibrate, run_calibration
from ks_core.tickets.changed import NEEDS, Changed
from ks_core.tickets.selection import is_quick, select
from ks_core.tickets.stability import Run, compare
from ks_core.trajectory import recording
from ks_core.tuning import trainings


@pytest.fixture
def study(place, workspace_folder):
    """The pair of that run, in this test's workspace."""
    shutil.copytree(place / "jobs", workspace_folder / "jobs")
    tuned = next((workspace_folder / "jobs").glob("*/arms/00-embed/adapter"))
    return Study(str(place / "tiny"), str(tuned))


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(exposure, "DRAWS", 39)


def test_a_run_takes_its_ticket_by_steps(place):
    """The arm that copies the ticket has the five rows that most steps touched, of this run's own Embed Tuning."""
    found = workspace.read_json(place / "jobs" / "20260101-000000-tune-abcdef" / "result.json")
    _, transfer = found["arms"]
    assert not transfer["error"] and len(transfer["rows"]) == 5 and "ticket:steps 5" in found["signature"]
    assert {3, 4, 6} <= set(transfer["rows"]), "the prompt's words, which every step touches"


def test_rules_of_a_known_training(study, few):
    scan = study.scan()
    training = exposure.training_of(study)
    met = trainings.seen(training)
    moved = scan.token_ids[scan.changed].tolist()

    def ids(rule, **more):
        return set(scan.token_ids[select(scan, rule=rule, study=study, **more)].tolist())

    for rule, often in (("steps", met.steps), ("frequency", met.counts)):
        first = ids(rule, k=6)
        assert len(first) == 6 and min(often[i] for i in first) >= max(often.get(i, 0) for i in set(moved) - first)
    assert ids("prompt", k=3) <= set(met.prompt_ids)
    ticket, matched = ids("count", k=4), ids("matched", k=4)
    assert len(matched) == 4 and not ticket & matched and all(met.steps[i] for i in matched)
    assert ids("d-adjusted", k=4) != ticket
    # What the training itself recorded.
    _, records, _ = recording.read(recorded.opening._recording([recorded.opening.known(study.tuned_source)]))
    told = {}
    for record in records:
        for row, touched, gradient in zip(
            *(record.columns[n].tolist() for n in ("row", "touched", "gradient")), strict=True
        ):
            told[row] = touched * gradient
    assert ids("recorded-gradient", k=5) == set(sorted(moved, key=lambda i: -told[i])[:5])
    assert len(ids("recorded-first", k=5)) == 5


def test_the_null_is_made_once_and_tells_exposure(study, few, monkeypatch):
    scan = study.scan()
    assert not is_quick(study, scan, "noise")
    seen = []
    chosen = select(scan, rule="noise", alpha=0.1, study=study, report=lambda *told: seen.append(told))
    assert (0, 39, "training on noise") in seen and is_quick(study, scan, "noise") and is_quick(study, scan, "d-noise")

    def made(*_, **__):
        raise AssertionError("it was made before")

    monkeypatch.setattr("ks_core.ledger.noise.null", made)
    again = Study(study.base_source, study.tuned_source)
    changed = Changed.of_pair(again, again.scan()).known("null")
    assert changed.null.counts.shape == (39, len(changed)) and changed.null.dim == scan.dim
    beyond = changed.token_ids[changed.null.pvalues(changed.statistic) < 0.1]
    assert set(scan.token_ids[chosen]) == set(beyond)
    # Rows that all steps touched go further under noise than those that few did.
    steps, reached = changed.known("steps").steps, changed.null.statistic.mean(axis=0)
    assert reached[steps == steps.max()].mean() > reached[steps <= np.median(steps)].mean() + 0.02


def test_calibration_and_stability_have_it_beside_them_once_it_was_made(study, few, tmp_path):
    """By the job that calibrates; until then, and where the training is not known, they say why they have not."""
    scan = study.scan()
    ticket = select(scan, rule="count", k=5)
    calibrated = calibrate(study, scan, Settings(rows=40))
    runs = [Run.from_scan(name, scan, ticket, {"seed": n}) for n, name in enumerate("ab")]
    assert exposure.beside(study, scan, ticket, calibrated, compare(runs))[2] == exposure.NOT_DONE
    asked = {"base": study.base_source, "tuned": study.tuned_source, "settings": {"rows": 40}}
    workspace.write_json(tmp_path / "job" / "request.json", {"kind": "calibration", "parameters": asked})
    assert run_calibration(asked, Running(tmp_path / "job"))["noise"] == ""
    noisy, stable, why = exposure.beside(study, scan, ticket, calibrated, compare(runs))
    assert why == "" and noisy.case("null").pvalues.size == 39 * int(scan.changed.sum())
    assert (
        f"Of {int(scan.changed.sum())} trained rows" in noisy.null_sentence
        and "the ticket's 5, and" in noisy.null_sentence
    )
    assert stable.noise.pairs == 39 and "are the same in a training on noise" in stable.noise_sentence
    copy = Study(study.base_source, str(shutil.copytree(study.tuned_source, tmp_path / "adapter")))
    assert exposure.beside(copy, scan, ticket, calibrated, None) == (calibrated, None, NEEDS["training"].about)


def test_the_same_rows_elsewhere_have_no_training_and_what_was_recorded_goes_with_them(study, few, tmp_path):
    """A copy beside its recording: its steps and gradients are known and noise can be trained; its text is not known."""
    copy = shutil.copytree(study.tuned_source, tmp_path / "adapter")
    alone = Study(study.base_source, str(copy))
    for rule in ("steps", "recorded-first", "noise", "prompt"):
        with pytest.raises(TicketError, match=r"not written down|were recorded"):
            select(alone.scan(), rule=rule, study=alone)
    whole = recorded.opening.known(study.tuned_source)
    shutil.copy(whole, tmp_path / recording.FILE)
    scan = alone.scan()
    assert set(select(scan, rule="steps", k=6, study=alone)) == set(
        select(study.scan(), rule="steps", k=6, study=study)
    )
    assert len(select(scan, rule="recorded-first", k=6, study=alone)) == 6
    with pytest.raises(TicketError, match="not written down"):
        select(scan, rule="prompt", study=alone)
    assert not exposure.is_null_kept(alone)
    told, known = (Changed.of_pair(s, scan).known("null").null.statistic.mean(axis=0) for s in (alone, study))
    # The same rows as often, between the same records: noise takes each about as far as when the very steps are known. (Means of 39
    # draws of 16 values a row are known to 0.02 each.)
    assert np.corrcoef(told, known)[0, 1] > 0.7 and abs((told - known).mean()) < 0.01
    assert exposure.is_null_kept(alone)


def test_a_recording_of_another_checkpoint_tells_nothing(study, few, tmp_path):
    """Beside rows of which one is another: none of its points has them, and neither steps nor noise are taken from it."""
    copy = shutil.copytree(study.tuned_source, tmp_path / "adapter")
    shutil.copy(recorded.opening.known(study.tuned_source), tmp_path / recording.FILE)
    file = copy / "adapter_model.safetensors"
    rows = dict(load_file(file))
    (name,) = rows
    rows[name][0] += 5  # now its D is 1
    save_file(rows, file)
    other = Study(study.base_source, str(copy))
    for rule, why in (("steps", "not written down"), ("noise", "of another checkpoint")):
        with pytest.raises(TicketError, match=why):
            select(other.scan(), rule=rule, study=other)


@pytest.mark.parametrize(
    ("about", "why"),
    [
        ({"optimizer": "Adafactor"}, "its optimizer, Adafactor"),
        ({"schedule": "polynomial"}, "its schedule, polynomial"),
        ({"weight_decay": 0.1}, "weight decay of 0.1"),
        ({"learning_rate": None}, "does not say how"),
    ],
)
def test_trainings_that_noise_cannot_follow_are_told(study, about, why):
    found = recorded.recording_of(study)
    assert not isinstance(recorded.recipe_of(found, len(found.steps) - 1), str)
    assert why in recorded.recipe_of(replace(found, about={**found.about, **about}), len(found.steps) - 1)


def test_touches_are_those_that_were_recorded(study):
    """As many of each row between two records as the recording has, never twice in a step; a broken count is told."""
    found = recorded.recording_of(study)
    last = len(found.steps) - 1
    steps = recorded.touches(found, last)
    assert len(steps) == found.steps[-1] and all(len(ids) == len(set(ids)) for ids in steps)
    for n in range(last):
        met = Counter(i for ids in steps[found.steps[n] : found.steps[n + 1]] for i in ids)
        more = found.touched[n + 1] - found.touched[n]
        assert {int(i): int(m) for i, m in zip(found.token_ids, more, strict=True) if m} == met
    assert recorded.touches(found, 1) == steps[: found.steps[1]]
    assert "do not go together" in recorded.touches(replace(found, touched=found.touched[::-1]), last)
    assert "began in the middle" in recorded.touches(replace(found, steps=found.steps + 5), last)
