"""Several tuned checkpoints of one base: who shares which rows, against sets counted by hand and the demo's own scans."""

import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ks_core import drawing
from ks_core.checkpoints import demo
from ks_core.errors import PairError
from ks_core.study.scan import Study
from ks_core.tickets import several_figures
from ks_core.tickets.several import line_up


@pytest.fixture
def studies(tmp_path, tiny_folder):
    """Three tuned models: rows 3 to 7, 5 to 9, and 5 and 6 moved so far that each wins."""
    made = {}
    for name, rows in (("a", range(3, 8)), ("b", range(5, 10)), ("c", (5, 6))):
        folder = tmp_path / name
        shutil.copytree(tiny_folder, folder)
        weights = load_file(folder / "model.safetensors")
        for size, row in enumerate(rows):
            weights["model.embed_tokens.weight"][row] += np.float32(50 + size)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        made[name] = Study(str(tiny_folder), str(folder))
    return made


def test_what_tickets_share(studies):
    found = line_up(studies, ["x", "x", "y"])
    assert found.token_ids.tolist() == list(range(64)) and found.ticket.sum(axis=0).tolist() == [5, 5, 2]
    parts = {i.names: i.token_ids for i in found.intersections()}
    assert parts == {("a",): (3, 4), ("b",): (8, 9), ("a", "b", "c"): (5, 6), ("a", "b"): (7,)}
    assert {i.names: i.token_ids for i in found.intersections(by_group=True)} == {
        ("x",): (3, 4, 7, 8, 9),
        ("x", "y"): (5, 6),
    }
    assert found.sentence == "Of 7 tokens in any ticket 2 are in all 3; in one alone: 2 in a, 2 in b, 0 in c."
    table = found.table(None)
    assert set(table.token_id[:2]) == {5, 6} and table.tickets.tolist() == [3, 3, 2, 1, 1, 1, 1]
    for n, study in enumerate(studies.values()):
        scan = study.scan()
        assert np.array_equal(found.statistic[:, n], scan.statistic) and np.array_equal(found.pvalue[:, n], scan.pvalue)
        assert found.rank[scan.order(), n].tolist() == list(range(1, 65))
    assert found.overlap.matrix("shared")[0, 1] == 3


def test_what_cannot_be_compared(studies, tmp_path, tiny_folder):
    with pytest.raises(PairError, match="at least two"):
        line_up({"a": studies["a"]})
    other = Study(str(tmp_path / "a"), str(tmp_path / "b"))
    with pytest.raises(PairError, match="different bases"):
        line_up({"a": studies["a"], "other": other})


def test_figures_say_what_they_show(studies):
    found = line_up(studies)
    upset = several_figures.upset(found.intersections(), found.names)
    assert list(upset.data[0].y) == [2, 2, 2, 1] and "2 in a and b and c" in drawing.alt(upset)
    assert "a: 5 rows changed, 5 below alpha" in drawing.alt(several_figures.pvalue_outlines(found, 0.05))
    ranks = several_figures.rank_changes(found, [f"<b>{i}" for i in range(64)])
    assert len(ranks.data) == 5 and "&lt;b&gt;" in ranks.data[0].name and "2 of them are in all" in drawing.alt(ranks)


def test_nothing_changed(tiny_folder):
    found = line_up({"a": Study(str(tiny_folder), str(tiny_folder)), "b": Study(str(tiny_folder), str(tiny_folder))})
    assert found.intersections() == [] and len(found.table(None)) == 0
    for figure in (several_figures.upset([], found.names), several_figures.pvalue_outlines(found, 0.05),
                   several_figures.rank_changes(found, ["x"] * 64)):  # fmt: skip
        assert figure.layout.annotations


def test_the_demo(demo_home):
    names = ["demo:en-fr", "demo:en-fr-seed1", "demo:en-de"]
    found = line_up({n: Study(demo.BASE, n) for n in names}, ["French", "French", "German"])
    assert found.ticket[:, 0].sum() == 112
    assert sum(len(i.token_ids) for i in found.intersections()) == found.ticket.any(axis=1).sum()
    groups, member = found.grouped()
    assert groups == ("French", "German") and np.array_equal(member[:, 0], found.ticket[:, 0] | found.ticket[:, 1])
