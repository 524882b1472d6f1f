"""Recording: each point is the scan of the checkpoint saved then, to the bit, and the file survives what ends a training."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

from helpers import trained
from helpers.places import ROOT
from ks_core.checkpoints.adapters import write_trainable_tokens
from ks_core.errors import SettingsError, TrajectoryError
from ks_core.study.scan import Study
from ks_core.trajectory import Recorder, open_trajectory, recording
from ks_core.tuning.trainer import RowwiseAdam


def is_scan(trajectory, scan, point=-1):
    """Whether a point says what a scan says, of every row and to the bit."""
    everywhere = {
        "counts": np.zeros(trajectory.size, np.int32),
        "l2": np.zeros(trajectory.size),
        "cosine": np.ones(trajectory.size),
    }
    for name, values in everywhere.items():
        values[trajectory.token_ids] = getattr(trajectory, name)[point]
        np.testing.assert_array_equal(values[scan.token_ids], getattr(scan, name), name)
    np.testing.assert_array_equal(
        trajectory.pvalue[point], scan.pvalue[np.searchsorted(scan.token_ids, trajectory.token_ids)]
    )
    return True


def saved(model, kind, folder, tiny_folder):
    """The model's checkpoint, as each kind is saved."""
    if kind == "rows":
        laid = model.get_input_embeddings()
        write_trainable_tokens(folder, laid.ids.tolist(), laid.rows.detach().numpy(), base=str(tiny_folder))
    else:
        model.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("kind", ["whole", "tied", "rows", "tokens", "lora", "saved"])
def test_the_last_point_is_the_scan_of_the_saved_checkpoint(kind, tiny_model, tiny_folder, tmp_path):
    made = {
        "whole": lambda: trained.whole(tiny_model),
        "tied": lambda: trained.whole(tiny_model, tied=True),
        "rows": lambda: trained.rows(tiny_model),
    }
    model = made[kind]() if kind in made else trained.adapted(tiny_folder, kind)
    with Recorder(tmp_path / "a.arrow", model, every=4) as recorder:
        trained.steps(model, recorder)
    trajectory = open_trajectory(str(tiny_folder), [str(tmp_path / "a.arrow")])
    scan = Study(str(tiny_folder), saved(model, kind, tmp_path / "tuned", tiny_folder)).scan()
    assert is_scan(trajectory, scan) and scan.changed.sum() == (trajectory.l2[-1] > 0).sum() > 2
    assert trajectory.steps.tolist() == [0, 4, 6] and not trajectory.counts[0].any()
    # The rows of largest D are kept whole, as what they are less what they were.
    study = Study(str(tiny_folder), str(tmp_path / "tuned"))
    for row, (steps, shifts) in trajectory.shifts.items():
        before, after = (np.asarray(side.block(row, row + 1))[0] for side in (study.pair.before, study.pair.after))
        assert set(steps) <= {4, 6} and shifts.dtype == np.float16 and len(steps) == len(shifts)
        if steps[-1] == 6:  # a row may have been among the first earlier and not at the end
            np.testing.assert_allclose(shifts[-1], after - before, rtol=2e-3, atol=1e-6)
    first = trajectory.token_ids[trajectory.order()[:32]]
    assert set(trajectory.shifts) >= set(first[trajectory.l2[-1][trajectory.order()[:32]] > 0])
    assert any("one matrix" in note for note in trajectory.notes) == (kind == "tied")


@pytest.mark.parametrize("dtype", [pytest.param("bfloat16", marks=pytest.mark.whole), "float16"])
def test_a_point_is_of_the_dtype_in_which_the_checkpoint_is_saved(dtype, tiny_model, tmp_path):
    """Trained in float32 and saved in 16 bits: what rounding hides or adds is in the point as it is in the scan."""
    model = trained.whole(tiny_model)

    def save(name):
        weight = model.get_input_embeddings().weight.detach().to(getattr(torch, dtype))
        save_file({"model.embed_tokens.weight": weight.contiguous()}, tmp_path / f"{name}.safetensors")
        return str(tmp_path / f"{name}.safetensors")

    base = save("before")
    with Recorder(tmp_path / "a.arrow", model, every=100, stored=dtype) as recorder:
        trained.steps(model, recorder, rate=1e-3)
    assert is_scan(open_trajectory(base, [str(tmp_path / "a.arrow")]), Study(base, save("after")).scan())


@pytest.mark.whole
def test_a_model_of_bfloat16_is_recorded_as_it_is(tiny_model, tmp_path):
    model = trained.whole(tiny_model).to(torch.bfloat16)
    save_file(
        {"model.embed_tokens.weight": model.get_input_embeddings().weight.detach().clone()},
        tmp_path / "before.safetensors",
    )
    with Recorder(tmp_path / "a.arrow", model, every=100) as recorder:
        trained.steps(model, recorder)
    save_file(
        {"model.embed_tokens.weight": model.get_input_embeddings().weight.detach().clone()},
        tmp_path / "after.safetensors",
    )
    base = str(tmp_path / "before.safetensors")
    assert is_scan(
        open_trajectory(base, [str(tmp_path / "a.arrow")]), Study(base, str(tmp_path / "after.safetensors")).scan()
    )


def test_steps_and_gradients_are_those_that_the_optimizer_had(tmp_path):
    """By hand: rows of two values, gradients that are given."""
    embedding = torch.nn.Embedding(5, 2)
    with Recorder(tmp_path / "a.arrow", embedding, every=1) as recorder:
        for row, gradient in ((1, [3.0, 4.0]), (1, [0.0, 1.0]), (3, [1.0, 1.0])):
            embedding.weight.grad = torch.zeros(5, 2)
            embedding.weight.grad[row] = torch.tensor(gradient)
            recorder.before_step()
            with torch.no_grad():
                embedding.weight -= embedding.weight.grad
            recorder.after_step(loss=1.5)
    trajectory = open_trajectory("", [str(tmp_path / "a.arrow")])
    assert trajectory.token_ids.tolist() == [1, 3]
    assert trajectory.touched.tolist() == [[0, 0], [1, 0], [2, 0], [2, 1]]
    # Mean squares of the values: (9 + 16) / 2 and 1 / 2 of row 1, of which 6.5 is the mean; 1 of row 3.
    np.testing.assert_allclose(trajectory.gradient[-1], [6.5**0.5, 1], rtol=1e-6)
    np.testing.assert_allclose(trajectory.l2[-1], [(9 + 25) ** 0.5, 2**0.5], rtol=1e-6)
    assert trajectory.losses == ((1, 1.5), (2, 1.5), (3, 1.5))


def test_sparse_gradients_and_rows_that_come_back(tmp_path):
    embedding = torch.nn.Embedding(6, 3, sparse=True)
    start = embedding.weight.detach().clone()
    with Recorder(tmp_path / "a.arrow", embedding, every=1) as recorder:
        optimizer = torch.optim.SparseAdam(embedding.parameters(), lr=0.1)
        embedding(torch.tensor([2, 2, 4])).sum().backward()
        recorder.before_step()
        optimizer.step()
        recorder.after_step()
        with torch.no_grad():
            embedding.weight.copy_(start)
        recorder.after_step()
    trajectory = open_trajectory("", [str(tmp_path / "a.arrow")])
    assert trajectory.token_ids.tolist() == [2, 4] and trajectory.touched[-1].tolist() == [1, 1]
    assert trajectory.l2[1].all() and not trajectory.l2[2].any() and trajectory.cosine[2].tolist() == [1, 1]


def test_only_what_changed_since_the_last_record_is_written(tiny_model, tmp_path):
    """An optimizer that steps the batch's rows alone: a record of one step holds these rows, though more have moved by then."""
    model = trained.rows(tiny_model)
    laid = model.get_input_embeddings()
    with Recorder(tmp_path / "a.arrow", model, every=1) as recorder:
        trained.steps(model, recorder, optimizer=RowwiseAdam([laid.rows], lr=0.05))
    _, records, whole = recording.read(tmp_path / "a.arrow")
    written = [sorted(record.columns["row"].tolist()) for record in records if record.step]
    assert whole and written == [
        [5, 6, 7],
        [5, 9],
        [5],
        [6, 30],
        [5, 6, 7],
        [9],
    ]  # the last token of a batch predicts nothing


def in_format(path, version):
    """The recording as an earlier program wrote it: without rows that are kept whole."""
    facts, records, _ = recording.read(path)
    path.unlink()
    writer = recording.Writer(path, {**facts, "format": version})
    for record in records:
        writer.append(record)
    writer.close()
    return recording.read(path)


def test_a_recording_of_an_earlier_program_is_read(tiny_model, tmp_path):
    model = trained.whole(tiny_model)
    with Recorder(tmp_path / "a.arrow", model, every=2) as recorder:
        trained.steps(model, recorder)
    now = open_trajectory("", [str(tmp_path / "a.arrow")])
    facts, records, whole = in_format(tmp_path / "a.arrow", 1)
    assert whole and facts["format"] == 1 and not any(len(record.shifts[0]) for record in records)
    with pa.OSFile(str(tmp_path / "a.arrow")) as file:
        assert "shift" not in pa.ipc.open_stream(file).schema.names
    then = open_trajectory("", [str(tmp_path / "a.arrow")])
    for name in ("steps", "token_ids", "counts", "l2", "cosine", "touched", "gradient"):
        np.testing.assert_array_equal(getattr(now, name), getattr(then, name), name)
    assert then.losses == now.losses and now.shifts and not then.shifts and not now.parts


def test_a_loop_can_say_its_loss_by_part(tmp_path):
    embedding = torch.nn.Embedding(5, 2)
    with Recorder(tmp_path / "a.arrow", embedding, every=2) as recorder:
        for step in range(1, 4):
            recorder.after_step(torch.tensor(2.0 * step), content=1.0 * step, end=None if step == 2 else 3 * step)
    trajectory = open_trajectory("", [str(tmp_path / "a.arrow")])
    assert list(trajectory.losses) == [(1, 2.0), (2, 4.0), (3, 6.0)]
    assert trajectory.parts == {"content": ((1, 1.0), (2, 2.0), (3, 3.0)), "end": ((1, 3.0), (3, 9.0))}


def test_of_many_rows_those_of_largest_d_are_kept_whole(tmp_path):
    """More rows move than are kept: of each record those of the largest D then, as far as they changed since the last."""
    embedding = torch.nn.Embedding(100, 8)
    torch.nn.init.ones_(embedding.weight)  # so that all go as far, to the bit
    with Recorder(tmp_path / "a.arrow", embedding, every=1) as recorder:
        for far in (range(50), range(90, 100)):
            with torch.no_grad():
                embedding.weight[list(far)] += 9.0  # D is 1, and the order that of the ids
            recorder.after_step()
    _, records, _ = recording.read(tmp_path / "a.arrow")
    kept = [record.columns["row"][record.shifts[0]].tolist() for record in records]
    assert kept == [[], list(range(32)), []], "rows 90 to 99 moved as far, and come after 32 others"
    assert (records[1].shifts[1] == 9).all() and records[1].shifts[1].shape == (32, 8)


@pytest.mark.parametrize("version", [1, 2])
def test_a_recording_goes_on_where_its_training_does(version, tiny_model, tmp_path):
    """Stopped after a record and gone on from the checkpoint of an earlier one: as if it had never been stopped. A file that an
    earlier program began is gone on with as it was begun."""
    one, two = trained.whole(tiny_model), trained.whole(tiny_model)
    with Recorder(tmp_path / "one.arrow", one, every=2) as recorder:
        trained.steps(one, recorder)
    start = two.get_input_embeddings().weight.detach().clone()
    recorder = Recorder(tmp_path / "two.arrow", two, every=2)
    optimizer = trained.steps(two, recorder, trained.BATCHES[:2])
    kept = {name: value.clone() for name, value in two.state_dict().items()}, optimizer.state_dict()
    kept = (
        kept[0],
        {"state": {0: {k: v.clone() for k, v in kept[1]["state"][0].items()}}, "param_groups": kept[1]["param_groups"]},
    )
    trained.steps(two, recorder, trained.BATCHES[4:], optimizer=optimizer)  # lost with the process
    in_format(tmp_path / "two.arrow", version)
    two.load_state_dict(kept[0])
    optimizer.load_state_dict(kept[1])
    with pytest.raises(SettingsError, match="where its embedding began"):
        Recorder(tmp_path / "two.arrow", two, every=2, at=2)
    with Recorder(tmp_path / "two.arrow", two, every=2, at=2, start=start) as again:
        trained.steps(two, again, trained.BATCHES[2:], optimizer=optimizer)
    found, expected = (open_trajectory("", [str(tmp_path / f"{name}.arrow")]) for name in ("two", "one"))
    for name in ("steps", "token_ids", "counts", "l2", "cosine", "touched"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)
    np.testing.assert_allclose(found.gradient, expected.gradient, rtol=1e-6)
    assert found.losses == expected.losses and not found.notes
    assert found.shifts.keys() == (expected.shifts.keys() if version > 1 else set())


ENDLESS = """
import sys, torch
from ks_core.trajectory import Recorder
embedding = torch.nn.Embedding(400, 32)
recorder = Recorder(sys.argv[1], embedding, every=1)
while True:
    with torch.no_grad():
        embedding.weight += 0.01 * torch.randn(400, 32)
    recorder.after_step(loss=2.0)
"""


def test_a_killed_training_leaves_a_file_that_is_read(tmp_path):
    path = tmp_path / "a.arrow"
    process = subprocess.Popen([sys.executable, "-c", ENDLESS, str(path)], cwd=ROOT)
    try:
        until = time.monotonic() + 240
        while not path.exists() or path.stat().st_size < 200_000:
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    trajectory = open_trajectory("", [str(path)])
    assert trajectory.steps.tolist() == list(range(len(trajectory.steps))) and len(trajectory.steps) > 5
    assert trajectory.l2[1:].all()


def test_a_file_that_is_cut_anywhere_is_read_to_its_last_whole_record(tiny_model, tmp_path):
    model = trained.whole(tiny_model)
    with Recorder(tmp_path / "a.arrow", model, every=2) as recorder:
        trained.steps(model, recorder)
    whole = (tmp_path / "a.arrow").read_bytes()
    _, records, _ = recording.read(tmp_path / "a.arrow")
    seen = set()
    for size in range(0, len(whole), 41):
        (tmp_path / "cut.arrow").write_bytes(whole[:size])
        try:
            _, found, _ = recording.read(tmp_path / "cut.arrow")
        except TrajectoryError as error:
            assert "is no recording" in str(error)
            continue
        assert [r.step for r in found] == [r.step for r in records][: len(found)]
        assert all((a.columns["l2"] == b.columns["l2"]).all() for a, b in zip(found, records, strict=False))
        seen.add(len(found))
    assert seen == set(range(len(records)))
    (tmp_path / "cut.arrow").write_bytes(whole[:-9])
    assert "ends within a record" in open_trajectory("", [str(tmp_path / "cut.arrow")]).notes[0]


def test_a_row_that_is_no_number_ends_the_recording(tmp_path):
    embedding = torch.nn.Embedding(5, 2)
    with Recorder(tmp_path / "a.arrow", embedding, every=1) as recorder:
        for value in (1.0, float("nan"), 2.0):
            with torch.no_grad():
                embedding.weight[1] = value
            recorder.after_step(loss=value)
    trajectory = open_trajectory("", [str(tmp_path / "a.arrow")])
    assert (
        "diverged" in trajectory.notes[0]
        and trajectory.steps.tolist() == [0, 1, 2]
        and np.isfinite(trajectory.l2).all()
    )


def test_what_cannot_be_recorded_is_said_before_the_first_step(tiny_model, tiny_folder, tmp_path):
    frozen = trained.whole(tiny_model).requires_grad_(False)
    with pytest.raises(SettingsError, match="No row of the embedding is trained"):
        Recorder(tmp_path / "a.arrow", frozen)
    split = trained.whole(tiny_model)
    split.get_input_embeddings().weight.ds_id = 1  # as DeepSpeed marks what ZeRO-3 has split
    with pytest.raises(SettingsError, match="split over several processes"):
        Recorder(tmp_path / "a.arrow", split)
    model = trained.whole(tiny_model)
    for wrong in ({"every": 0}, {"stored": "int8"}, {"start": torch.zeros(3, 3)}):
        with pytest.raises(SettingsError):
            Recorder(tmp_path / "a.arrow", model, **wrong)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SettingsError, match="is no recording"):
        Recorder(tmp_path / "notes.txt", model)
    assert (tmp_path / "notes.txt").read_text() == "mine" and not (tmp_path / "a.arrow").exists()


SPREAD = """
import sys, torch
from torch.distributed.fsdp import FullyShardedDataParallel
from transformers import AutoModelForCausalLM, TrainerControl, TrainerState, TrainingArguments
from helpers import trained
from ks_core import KSLotteryCallback
from ks_core.errors import SettingsError
from ks_core.trajectory import Recorder
folder = sys.argv[1]
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=0, world_size=1)
tiny = lambda: trained.whole(AutoModelForCausalLM.from_pretrained(f"{folder}/tiny"))
cpu = torch.device("cpu")
inside = tiny()
inside.model = FullyShardedDataParallel(inside.model, device_id=cpu, use_orig_params=True)
ways = {
    "flat": lambda: FullyShardedDataParallel(tiny().requires_grad_(True), device_id=cpu),
    "original parameters": lambda: FullyShardedDataParallel(tiny(), device_id=cpu, use_orig_params=True),
    "a part of the model": lambda: inside,
}
for name, wrapped in ways.items():
    try:
        Recorder(f"{folder}/a.arrow", wrapped())
    except SettingsError as error:
        print(f"\\n{name} => {error}")
try:  # a Trainer that is to spread the model says so before it does
    said = TrainingArguments(folder, fsdp=True, use_cpu=True, report_to=[])
    KSLotteryCallback(f"{folder}/a.arrow").on_train_begin(said, TrainerState(), TrainerControl(), model=tiny())
except SettingsError as error:
    print(f"\\na Trainer's setting => {error}")
torch.distributed.destroy_process_group()
"""


@pytest.mark.whole
def test_a_model_that_the_first_fsdp_has_spread_is_refused(tiny_folder, tmp_path, forked):
    """As torch wraps it, in a process group: the embedding is not this process's alone, whatever its shape is."""
    printed = forked.program(SPREAD, tmp_path, folder=tmp_path)()
    said = dict(line.split(" => ") for line in printed.splitlines() if " => " in line)
    assert set(said) == {"flat", "original parameters", "a part of the model", "a Trainer's setting"}
    for words in said.values():
        assert "FSDP" in words and "no process has all of a row" in words and "ks_core trajectory BASE FOLDER" in words
    assert not (tmp_path / "a.arrow").exists()


TOGETHER = """
import os, sys, torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForCausalLM
from helpers import trained
from ks_core.trajectory import Recorder
rank, folder, way = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
model = trained.whole(AutoModelForCausalLM.from_pretrained(f"{folder}/tiny"))
spread = DistributedDataParallel(model) if way == "DDP" else fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
with Recorder(f"{folder}/together.arrow", spread, every=2) as recorder:
    trained.steps(spread, recorder, trained.BATCHES[rank::2])
whole = {n: p.full_tensor() if hasattr(p, "full_tensor") else p for n, p in model.state_dict().items()}
if rank == 0:
    after = trained.whole(AutoModelForCausalLM.from_pretrained(f"{folder}/tiny"))
    after.load_state_dict(whole)
    after.save_pretrained(f"{folder}/after")
torch.distributed.destroy_process_group()
"""


@pytest.mark.whole
@pytest.mark.parametrize("way", ["DDP", "fully_shard"])
def test_two_processes_that_train_together_give_one_file(tiny_folder, tmp_path, forked, way):
    """Also where each holds half of the embedding's rows."""
    started = [forked.program(TOGETHER, rank, tmp_path, way, folder=tmp_path) for rank in (0, 1)]
    for finish in started:
        finish()
    trajectory = open_trajectory(str(tiny_folder), [str(tmp_path / "together.arrow")])
    assert [p.name for p in tmp_path.glob("*.arrow")] == ["together.arrow"]
    assert is_scan(trajectory, Study(str(tiny_folder), str(tmp_path / "after")).scan())
    # Each step is a batch of either process: rows that only the second has read are touched too. The last token predicts nothing.
    steps = [
        {i for half in pair for row in half for i in row[:-1]}
        for pair in zip(trained.BATCHES[::2], trained.BATCHES[1::2], strict=True)
    ]
    expected = [sum(int(i) in step for step in steps) for i in trajectory.token_ids]
    assert trajectory.steps.tolist() == [0, 2, 3] and trajectory.touched[-1].tolist() == expected
