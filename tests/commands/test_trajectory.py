"""The command trajectory: checkpoints, a folder, a recording; what it prints and writes, and bad input."""

import shutil

import numpy as np
import pytest

from helpers import trained
from ks_core.commands.program import main
from ks_core.study.export import read_csv
from ks_core.study.scan import Study
from ks_core.trajectory import FILE, Recorder


@pytest.fixture
def recorded(tiny_model, tmp_path):
    """A recording of the tiny model's training."""
    model = trained.whole(tiny_model)
    with Recorder(tmp_path / "run" / FILE, model, every=2) as recorder:
        trained.steps(model, recorder)
    return str(tmp_path / "run" / FILE)


def test_checkpoints_are_told_step_by_step(tiny_pair, tmp_path, capsys):
    base, tuned, _ = tiny_pair
    shutil.copytree(tuned, tmp_path / "out" / "checkpoint-40")
    assert (
        main(
            [
                "trajectory",
                base,
                str(tmp_path / "out"),
                "--alpha",
                "0.2",
                "--output",
                str(tmp_path / "t.csv"),
                "--top",
                "3",
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    scan = Study(base, tuned).scan()
    assert f"At step 40 10 rows have moved and {int(scan.winners(0.2).sum())} have p < 0.2." in said
    table = read_csv(tmp_path / "t.csv")
    assert len(table) == 20 and sorted(set(table.step)) == [0, 40]
    last = table[table.step == 40].sort_values("token_id")
    np.testing.assert_array_equal(last.statistic, scan.statistic[scan.changed])
    assert set(last.token) == {f"w{i}" for i in range(3, 13)}


def test_a_recording_is_read_alone_and_beside_its_base(recorded, tiny_folder, tmp_path, capsys):
    assert main(["trajectory", recorded, "--alpha", "0.3"]) == 0
    alone = capsys.readouterr().out
    assert "(id 5)" in alone and "At step 6" in alone and " loss" in alone
    assert main(["trajectory", str(tiny_folder), recorded, "--alpha", "0.3"]) == 0
    named = capsys.readouterr().out
    assert main(["trajectory", recorded, "--losses", str(tmp_path / "losses.csv")]) == 0
    assert f"wrote {tmp_path / 'losses.csv'} (6 lines)" in capsys.readouterr().out
    losses = read_csv(tmp_path / "losses.csv")
    assert losses.step.tolist() == [1, 2, 3, 4, 5, 6] and set(losses.part) == {"all"} and (losses.nats > 0).all()
    assert " w5\n" in named and named.replace(" ", "") != alone.replace(" ", "")


@pytest.mark.parametrize(("words", "said"), [
    (["{base}"], "none is named"), (["{base}", "nowhere"], "does not exist"), (["{base}", "{file}", "--alpha", "2"], "alpha is 2"),
    (["{base}", "{file}", "--output", "x.txt"], "Expected one of"), (["nowhere.arrow"], "none is named"),
])  # fmt: skip
def test_bad_input_is_one_line(words, said, recorded, tiny_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["trajectory", *(word.format(base=tiny_folder, file=recorded) for word in words)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
