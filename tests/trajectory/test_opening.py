"""Opening trajectories: checkpoints, folders, files; what they say by hand; what is refused, and with which words."""

import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from helpers import trained
from ks_core.errors import AccessError, CheckpointError, KSLotteryError, TrajectoryError
from ks_core.ks.statistic import critical_value
from ks_core.signature import Signature
from ks_core.store import access
from ks_core.study.scan import Study
from ks_core.trajectory import (
    FILE,
    Recorder,
    Trajectory,
    figures,
    history,
    is_ready,
    known,
    layout,
    open_trajectory,
    opening,
    recording,
    tables,
)


def made(counts, dim=64, steps=None):
    """A trajectory with these integers D * dim, by hand; points are every tenth step."""
    counts = np.array(counts, np.int32)
    return Trajectory(
        steps=np.arange(len(counts)) * 10 if steps is None else np.array(steps), token_ids=np.array([3, 7, 9])[: counts.shape[1]],
        counts=counts, l2=counts / 10, cosine=1 - counts / 1000, dim=dim, size=12, signature=Signature({"made": "by hand"}),
    )  # fmt: skip


def test_wins_by_hand():
    won = round(critical_value(64, 0.05) * 64)
    found = made([[0, 0, 0], [won, 1, 0], [won - 1, won, 0], [won + 2, won + 1, won - 1]])
    assert found.first_win(0.05).tolist() == [10, 20, -1]
    assert found.stays(0.05).tolist() == [False, True, False]
    assert found.winners(0.05).sum(axis=1).tolist() == [0, 1, 1, 2]
    assert found.ranks.tolist() == [[1, 2, 3], [1, 2, 3], [2, 1, 3], [1, 2, 3]]
    assert found.sentence(0.05) == (
        "At step 30 3 rows have moved and 2 have p < 0.05. Of these the first won by step 10, half by step 10, the last by step 20."
    )
    wins = tables.wins(found, ["a"] * 12, 0.05)
    assert (
        wins.token_id.tolist() == [3, 7] and wins.times_won.tolist() == [2, 2] and wins.stays.tolist() == [False, True]
    )
    frame = tables.points(found, None, 0.05)
    assert (
        len(frame) == 12
        and frame[(frame.step == 30) & frame.winner].token_id.tolist() == [3, 7]
        and frame.token[0] == "(id 3)"
    )
    lost = made([[0, 0], [won, won], [won, 0]])
    assert lost.sentence(0.05).endswith("1 others won at some point and do not at the end.")


def test_figures_say_what_they_show():
    found = made([[0, 0, 0], [20, 5, 0], [30, 10, 0]])
    tokens = ["the", "<b>", "$x$"]
    shown = [figures.ticket_size(found, 0.05), figures.statistics(found, tokens, [0, 1], 0.05), figures.ranks(found, tokens, [0, 1]),
             figures.heat(found, tokens, [0, 1]), figures.first_wins(found, 0.05)]  # fmt: skip
    assert [f.layout.meta["alt"] for f in shown] == [
        "The ticket has 0 rows at step 0 and 1 at step 20.",
        f"D at the end: the 0.469; <b> 0.156. The critical value is {critical_value(64, 0.05):.4f}.",
        "Rank by D at the end: the 1; <b> 2.",
        "Heat map of D of 2 tokens over 3 points; at the end it lies between 0.156 and 0.469.",
        "1 rows win at some point: 1 have p < 0.05 from then on to the end, 0 not.",
    ]
    assert shown[1].data[1].name == "&lt;b&gt;"
    parted = replace(
        found, losses=((1, 3.0), (20, 2.0)), parts={"content": ((1, 2.5), (20, 2.25)), "end": ((20, 0.5),)}
    )
    drawn = figures.ticket_size(parted, 0.05)
    assert drawn.layout.meta["alt"] == (
        "The ticket has 0 rows at step 0 and 1 at step 20; the loss goes from 3.00 to 2.00; the loss on content goes from 2.50 to 2.25; "
        "the loss on the end token goes from 0.50 to 0.50."
    )
    assert [(line.name, line.yaxis) for line in drawn.data[1:]] == [
        ("loss", "y2"),
        ("loss on content", "y2"),
        ("loss on the end token", "y2"),
    ]
    assert tables.losses(parted).values.tolist() == [
        [1, "all", 3.0],
        [1, "content", 2.5],
        [20, "all", 2.0],
        [20, "content", 2.25],
        [20, "end", 0.5],
    ]
    shown_lines = tables.lines(parted, None, 0.05)
    assert shown_lines[0].split()[-3:] == ["loss", "content", "end"] and shown_lines[3].split()[-3:] == [
        "2.000",
        "2.250",
        "0.500",
    ]
    many = replace(found, losses=tuple((step, float(step)) for step in range(1, 24)), parts={"end": ((20, 0.5),)})
    drawn = figures.ticket_size(many, 0.05)  # of steps 1 to 10 and 11 to 20; those after the last point have none yet
    assert [list(line.x) for line in drawn.data[1:]] == [[10, 20], [20]]
    assert [list(line.y) for line in drawn.data[1:]] == [[5.5, 15.5], [0.5]]
    assert drawn.layout.yaxis2.title.text.endswith("mean since the point before")
    nothing = made(np.zeros((2, 0)))
    for figure in (
        figures.ticket_size(nothing, 0.05),
        figures.statistics(nothing, [], [], 0.05),
        figures.heat(nothing, [], []),
        figures.first_wins(nothing, 0.05),
    ):
        assert figure.layout.meta["alt"]
    assert nothing.sentence(0.05) == "At step 10 no row has moved."


def test_a_long_recording_is_thinned_to_its_last_point(monkeypatch):
    columns = {name: np.ones(1, dtype) for name, dtype in layout.COLUMNS.items()}
    records = [layout.Record(step, {**columns, "counts": np.array([step], np.int32)}) for step in range(10)]
    monkeypatch.setattr(history, "MOST_CELLS", 5)
    facts = {"rows": 4, "width": 64, "about": {}}
    found = history.carried_on(facts, records, Signature({}))
    assert found.steps.tolist() == [1, 3, 5, 7, 9] and found.counts[:, 0].tolist() == [1, 3, 5, 7, 9]
    assert "every 2. is shown" in found.notes[0]


def test_checkpoints_go_by_their_steps(tiny_pair, tmp_path):
    base, tuned, _ = tiny_pair
    for step, source in ((20, tuned), (3, base)):
        shutil.copytree(source, tmp_path / "out" / f"checkpoint-{step}")
    (tmp_path / "out" / "checkpoint-best").mkdir()
    assert not is_ready(base, [str(tmp_path / "out")])
    found = open_trajectory(base, [str(tmp_path / "out")])
    assert is_ready(base, [str(tmp_path / "out")])
    scan = Study(base, tuned).scan()
    assert found.steps.tolist() == [0, 3, 20] and found.token_ids.tolist() == scan.token_ids[scan.changed].tolist()
    np.testing.assert_array_equal(found.counts[-1], scan.counts[scan.changed])
    assert not found.counts[:2].any() and found.touched is None
    before, after = Study(base, tuned).pair.before, Study(base, tuned).pair.after
    for row, (steps, shifts) in found.shifts.items():  # of checkpoints, rows are known whole at each of them
        moved = np.asarray(after.block(row, row + 1))[0] - np.asarray(before.block(row, row + 1))[0]
        assert steps.tolist() == [3, 20] and not shifts[0].any()
        np.testing.assert_allclose(shifts[1], moved, rtol=1e-3)
    assert set(found.shifts) == set(found.token_ids)
    named = open_trajectory(base, [tuned, base])
    assert named.steps.tolist() == [0, 1, 2] and named.counts[1].all() and not named.counts[2].any()
    assert "numbered as they were named" in named.notes[0]
    for source, step in ((tuned, 7), (base, 5)):
        shutil.copytree(source, tmp_path / f"at{step}")
        (tmp_path / f"at{step}" / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    assert open_trajectory(base, [str(tmp_path / "at7"), str(tmp_path / "at5")]).steps.tolist() == [0, 5, 7]


def test_where_a_trajectory_lies_is_known(tiny_pair, tmp_path):
    base, tuned, _ = tiny_pair
    assert known(tuned) is None and known(str(tmp_path / "nothing")) is None and known("~nobody-of-this-name/x") is None
    for step in (1, 2):
        shutil.copytree(base, tmp_path / "out" / f"checkpoint-{step}")
    assert known(str(tmp_path / "out" / "checkpoint-2")) == known(str(tmp_path / "out")) == str(tmp_path / "out")


@pytest.mark.parametrize(("sources", "words"), [
    ([], "No checkpoint is named"),
    (["{base}", "{base}/nothing"], "does not exist"),
    (["{out}/checkpoint-3", "{out}/step-3"], "both of step 3"),
    (["{notes}"], "is no recording of a training"),
    (["{table}"], "is no recording of a training"),
    (["{empty}"], "is no recording of a training"),
])  # fmt: skip
def test_what_is_no_trajectory_is_said(sources, words, tiny_folder, tmp_path):
    for name in ("checkpoint-3", "step-3"):
        shutil.copytree(tiny_folder, tmp_path / "out" / name)
    (tmp_path / "notes.arrow").write_text("not at all")
    (tmp_path / "empty.arrow").touch()
    table = pa.table({"step": [1], "row": [2]})
    with pa.OSFile(str(tmp_path / "table.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    places = {
        "base": tiny_folder,
        "out": tmp_path / "out",
        "notes": tmp_path / "notes.arrow",
        "table": tmp_path / "table.arrow",
        "empty": tmp_path / "empty.arrow",
    }
    with pytest.raises((TrajectoryError, CheckpointError), match=words):
        open_trajectory(str(tiny_folder), [s.format(**places) for s in sources])


def test_checkpoints_without_a_base_are_refused(tiny_folder):
    with pytest.raises(TrajectoryError, match="none is named"):
        open_trajectory("", [str(tiny_folder)])


def test_a_recording_of_another_model_is_refused(tiny_folder, tmp_path):
    with Recorder(tmp_path / FILE, torch.nn.Embedding(5, 2)):
        pass
    with pytest.raises(TrajectoryError, match="embedding of 5 x 2"):
        open_trajectory(str(tiny_folder), [str(tmp_path)])


def test_damaged_files_are_sentences_or_less_of_the_recording(tiny_model, tmp_path):
    """A byte changed anywhere: a sentence, or records that could have been written; never another error."""
    with Recorder(tmp_path / FILE, model := trained.whole(tiny_model), every=3) as recorder:
        trained.steps(model, recorder)
    whole = (tmp_path / FILE).read_bytes()
    generator = np.random.default_rng(0)
    for place in generator.integers(0, len(whole), 300):
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << int(generator.integers(8))
        (tmp_path / "spoilt.arrow").write_bytes(spoilt)
        try:
            found = open_trajectory("", [str(tmp_path / "spoilt.arrow")])
        except KSLotteryError as error:
            assert str(error).endswith((".", "arrow."))
            continue
        assert len(found.steps) and np.isfinite(found.l2).all() and found.counts.min(initial=0) >= 0
        assert found.sentence(0.05) and len(tables.points(found, None, 0.05)) == found.counts.size


def test_a_file_that_claims_what_no_recorder_writes_is_refused(tmp_path):
    facts = {"rows": 4, "width": 8, "kind": "rows", "began": 0, "about": {}}
    columns = {name: np.zeros(1, dtype) for name, dtype in layout.COLUMNS.items()}

    def parsed(said, **changed):
        writer = recording.Writer(tmp_path / "claims.arrow", {**facts, **said})
        writer.append(layout.Record(3, {**columns, **changed}))
        writer.close()
        return list(layout.parse(io.BytesIO((tmp_path / "claims.arrow").read_bytes())))

    assert len(parsed({})) == 3 and parsed({})[-1] is True
    for said in ({"rows": 0}, {"rows": 1 << 40}, {"width": "8"}, {"began": -1}, {"format": 3}):
        (words,) = parsed(said)
        assert "is no recording" in words, said
    for values in (np.zeros((1, 7)), np.full((1, 8), np.inf)):  # too short, and no numbers
        writer = recording.Writer(tmp_path / "claims.arrow", facts)
        writer.append(layout.Record(3, columns, shifts=(np.zeros(1, np.int32), values.astype(np.float16))))
        writer.close()
        found = list(layout.parse(io.BytesIO((tmp_path / "claims.arrow").read_bytes())))
        assert [type(part) for part in found] == [dict, bool] and found[-1] is False
    for changed in (
        {"row": np.array([4])},
        {"row": np.array([-1])},
        {"l2": np.array([np.nan])},
        {"counts": np.array([9])},
        {"counts": np.array([-1])},
    ):
        assert [type(part) for part in parsed({}, **changed)] == [dict, bool] and parsed({}, **changed)[-1] is False, (
            changed
        )


def test_a_last_point_is_compared_with_the_checkpoint(tiny_model, tiny_folder, tiny_pair, tmp_path):
    model = trained.whole(tiny_model)
    with Recorder(tmp_path / FILE, model, every=3) as recorder:
        trained.steps(model, recorder)
    model.save_pretrained(tmp_path / "after")
    found = open_trajectory(str(tiny_folder), [str(tmp_path / FILE)])
    assert found.against(Study(str(tiny_folder), str(tmp_path / "after")).scan(), 0.3) == ""
    scan = Study(str(tiny_folder), tiny_pair[1]).scan()
    here, there = set(found.token_ids[found.winners(0.3)[-1]]), set(scan.token_ids[scan.winners(0.3)])
    assert (
        f"{len(here)} rows have p < 0.3 here and {len(there)} there, {len(here & there)} of them the same"
        in found.against(scan, 0.3)
    )


def test_a_recording_is_read_again_when_its_file_changes(tiny_model, tmp_path, monkeypatch):
    """And not otherwise; and whoever may not open it is refused though it was read before."""
    read, seen = recording.read, []
    monkeypatch.setattr(recording, "read", lambda path: (seen.append(path), read(path))[1])
    recorder = Recorder(tmp_path / FILE, model := trained.whole(tiny_model), every=2)
    trained.steps(model, recorder, trained.BATCHES[:2])
    first = open_trajectory("", [str(tmp_path)])
    assert open_trajectory("", [str(tmp_path)]) is first and len(seen) == 1
    trained.steps(model, recorder, trained.BATCHES[2:4])
    second = open_trajectory("", [str(tmp_path)])
    assert second.steps.tolist() == [0, 2, 4] and len(seen) == 2 and first.steps.tolist() == [0, 2]
    recorder.close()
    open_trajectory("", [str(tmp_path)])
    (tmp_path / "open").mkdir()
    monkeypatch.setenv(access.ROOTS, str(tmp_path / "open"))
    with pytest.raises(AccessError):
        opening._told(tmp_path / FILE)


def test_roots_bound_what_is_opened(tiny_folder, tmp_path, monkeypatch):
    with Recorder(tmp_path / FILE, torch.nn.Embedding(64, 16)):
        pass
    (tmp_path / "open").mkdir()
    monkeypatch.setenv(access.ROOTS, str(tmp_path / "open"))
    for place in (tmp_path, tmp_path / FILE, tmp_path / "nothing.arrow"):
        assert known(str(place)) is None
        with pytest.raises(AccessError):
            open_trajectory(str(tiny_folder), [str(place)])
