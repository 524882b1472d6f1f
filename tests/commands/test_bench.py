"""The benchmark: that it runs at any size, and that its table says what was found."""

from __future__ import annotations

import argparse

import pytest

from ks_core.commands import bench
from ks_core.commands.benches import process
from ks_core.commands.scan import PARTS
from ks_core.errors import SettingsError


def options(*given):
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return parser.parse_args(given)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_every_way_agrees(dtype, capsys):
    code = bench.run(options("--rows", "40", "--dim", "33", "--dtype", dtype, "--sample", "9", "--repeat", "1"))
    out = capsys.readouterr().out
    assert code == 0 and "NO" not in out
    rows = [line.split("|") for line in out.splitlines() if line.startswith("|")]
    assert all(len(row) == 6 for row in rows)
    agreeing = [row[1].strip() for row in rows if row[4].strip() == "yes"]
    assert "this program, on the CPU" in agreeing and "this program, torch on cpu" in agreeing
    assert "9 rows, extrapolated" in out and "numpy" in out and "cores" in out


def test_disagreement_shows(monkeypatch, capsys):
    honest = bench.ks_test

    def off_by_one(*args, **kwargs):
        result = honest(*args, **kwargs)
        result.counts[0] += 1
        return result

    monkeypatch.setattr(bench, "ks_test", off_by_one)
    assert bench.run(options("--rows", "5", "--dim", "8", "--repeat", "1")) == 1
    assert "NO" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.whole)])
def test_the_whole_process_beside_scipys_loop(dtype, capsys):
    code = bench.run(
        options("--process", "--rows", "40", "--dim", "33", "--dtype", dtype, "--sample", "9", "--repeat", "1")
    )
    out = capsys.readouterr().out
    assert code == 0 and "NO" not in out and "9 rows and is extrapolated" in out
    rows = {line.split("|")[1].strip(): line.split("|")[2:] for line in out.splitlines() if line.startswith("|")}
    scan = next(cells for name, cells in rows.items() if name.startswith("`python -m ks_core scan`"))
    assert float(scan[0]) > 0 and scan[2].strip() == "yes"
    names, parts = rows["seconds of it"], [float(cell) for cell in rows[""][:-1]]
    assert [name.strip() for name in names[:-1]] == [*PARTS, "the rest", "leaving Python"]
    assert sum(parts) == pytest.approx(float(scan[0]), abs=0.06)  # eight numbers, each of two digits


def test_a_process_whose_integers_differ_shows(monkeypatch, capsys):
    honest = process._kept
    monkeypatch.setattr(process, "_kept", lambda home: [honest(home)[0] + 1, *honest(home)[1:]])
    assert bench.run(options("--process", "--rows", "5", "--dim", "8", "--repeat", "1")) == 1
    assert "NO" in capsys.readouterr().out


def test_a_pair_that_does_not_fit_on_the_disk(monkeypatch):
    monkeypatch.setattr(process.shutil, "disk_usage", lambda folder: argparse.Namespace(free=1000))
    with pytest.raises(SettingsError, match="TMPDIR"):
        bench.run(options("--process", "--rows", "5", "--dim", "8", "--repeat", "1"))


def test_ratios():
    lines = bench.table([bench.Timing("loop", 8.0), bench.Timing("ours", 0.5, True)])
    assert lines[-1] == "| ours | 0.500 | 16.0 | yes |"


def test_sizes_below_one():
    with pytest.raises(SettingsError, match="--rows"):
        bench.run(options("--rows", "0"))
