"""The callback in transformers' Trainer, and in this program's own training."""

import json
import shutil

import numpy as np
import pytest
from transformers import Trainer, TrainerCallback, TrainingArguments

from helpers import trained
from ks_core import KSLotteryCallback
from ks_core.errors import ModelError
from ks_core.study.scan import Study
from ks_core.trajectory import FILE, known, open_trajectory
from ks_core.tuning.runs import run


def trainer(model, folder, callbacks, **settings):
    """A Trainer of six steps on the batches of ``trained``, two of which make a step."""
    data = [{"input_ids": ids, "labels": ids} for batch in trained.BATCHES * 2 for ids in batch]
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=6, per_device_train_batch_size=1, gradient_accumulation_steps=2, learning_rate=0.05, logging_steps=1,
        save_strategy="steps", save_steps=3, report_to=[], use_cpu=True, disable_tqdm=True, lr_scheduler_type="constant", **settings,
    )  # fmt: skip
    return Trainer(model=model, args=arguments, train_dataset=data, callbacks=callbacks)


class Seen(TrainerCallback):
    def __init__(self):
        self.logs = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.logs.append((state.global_step, logs))


def test_a_trainer_records_every_step_that_is_due_and_every_checkpoint(tiny_model, tiny_folder, tmp_path):
    callback, seen = KSLotteryCallback(every=2, alpha=0.2), Seen()
    made = trainer(trained.whole(tiny_model), tmp_path / "run", [callback, seen])
    callback.log_to(made)
    made.train()
    trajectory = open_trajectory(str(tiny_folder), [str(tmp_path / "run")])
    assert trajectory.steps.tolist() == [0, 2, 3, 4, 6]
    checked = open_trajectory(str(tiny_folder), [str(tmp_path / "run" / f"checkpoint-{n}") for n in (6, 3)])
    assert checked.steps.tolist() == [0, 3, 6]
    for point, same in ((2, 1), (4, 2)):  # of a recording and of checkpoints, to the bit
        for name in ("counts", "l2", "cosine"):
            np.testing.assert_array_equal(getattr(trajectory, name)[point], getattr(checked, name)[same])
    # Accumulated gradients count once, and no row can be touched by more steps than there were.
    assert trajectory.touched[-1].max() <= 6 and trajectory.touched[-1].min() >= 1
    assert [step for step, _ in trajectory.losses] == [1, 2, 3, 4, 5, 6]
    assert trajectory.about["optimizer"] == "AdamW" and trajectory.about["steps"] == 6
    logged = {step: logs for step, logs in seen.logs if "ks_lottery/winners" in logs}
    assert sorted(logged) == [2, 3, 4, 6]
    assert logged[6]["ks_lottery/winners"] == trajectory.winners(0.2)[-1].sum()
    assert logged[6]["ks_lottery/largest_d"] == trajectory.statistic[-1].max()


def test_a_trainer_that_goes_on_goes_on_with_its_recording(tiny_model, tiny_folder, tmp_path):
    made = trainer(trained.whole(tiny_model), tmp_path / "one", [KSLotteryCallback(every=1)])
    made.train()
    again = trainer(
        trained.whole(tiny_model),
        tmp_path / "one",
        [KSLotteryCallback(tmp_path / "two.arrow", every=1, start=str(tiny_folder))],
    )
    shutil.copy(tmp_path / "one" / FILE, tmp_path / "two.arrow")
    again.train(resume_from_checkpoint=str(tmp_path / "one" / "checkpoint-3"))
    one, two = (open_trajectory("", [str(path)]) for path in (tmp_path / "one" / FILE, tmp_path / "two.arrow"))
    for name in ("steps", "token_ids", "counts", "l2", "touched"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), name)


def test_an_embed_tuning_of_a_run_is_recorded(tiny_plan, tmp_path):
    run(tiny_plan(["base", "embed"]), tmp_path / "run", lambda *a, **k: None)
    adapter = tmp_path / "run" / "arms" / "01-embed" / "adapter"
    found = known(str(adapter))
    assert found == str(adapter.parent / FILE)
    base = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    trajectory, scan = open_trajectory(base, [found]), Study(base, str(adapter)).scan()
    assert trajectory.steps[-1] == 12 and set(trajectory.token_ids) >= set(scan.token_ids[scan.changed])
    np.testing.assert_array_equal(trajectory.counts[-1], scan.counts[trajectory.token_ids])
    np.testing.assert_array_equal(trajectory.l2[-1], scan.l2[trajectory.token_ids])
    assert not (tmp_path / "run" / "arms" / "00-base" / FILE).exists()


def test_a_run_that_is_stopped_and_gone_on_with_has_one_recording(tiny_plan, tmp_path):
    plan = tiny_plan(["embed:steps=40"])
    run(plan, tmp_path / "one", lambda *a, **k: None)

    def report(done, total, message="", **kwargs):
        if "training" in message and done == 33:
            raise RuntimeError("the machine went away")

    with pytest.raises(ModelError, match="went away"):
        run(plan, tmp_path / "two", report)
    assert (tmp_path / "two" / "arms" / "00-embed" / "checkpoints").is_dir()
    run(plan, tmp_path / "two", lambda *a, **k: None)
    one, two = (open_trajectory("", [str(tmp_path / name / "arms" / "00-embed" / FILE)]) for name in ("one", "two"))
    for name in ("steps", "token_ids", "counts", "l2", "cosine", "touched"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), name)
    assert [s for s, _ in one.losses] == [s for s, _ in two.losses]
