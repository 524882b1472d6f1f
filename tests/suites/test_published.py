"""What is known of the paper, as data: whole, marked, consistent with itself; and laid beside what a suite measured."""

import io
import json
import re

import pytest

from helpers.places import ROOT
from ks_core.errors import SettingsError
from ks_core.study.export import read_csv, table_bytes
from ks_core.suites import beside, published
from ks_core.suites.presets import PRESETS, suite_of
from ks_core.suites.published import Result, Row
from ks_core.tickets import appendix

ROWS = {row.id: row for row in published.rows()}


def value(row, source, rule=""):
    return next(r.value for r in ROWS[row].of(source) if r.rule == rule)


def test_the_known_figures_are_there():
    assert value("base-ca", "paper") == 5.7 and value("partial-ca", "paper") == 37.7
    four = {name: value(f"{name}-four", "paper") for name in ("base", "full", "embed", "partial", "prefix")}
    assert four == {"base": 4.6, "full": 27.3, "embed": 29.0, "partial": 27.9, "prefix": 17.4}
    assert [value("base-ca", "replication", rule) for rule in ("raw", "first_line", "prompt_restart")] == [
        6.21,
        33.99,
        7.66,
    ]
    gains = {r.rule: (r.value, r.low, r.high) for r in ROWS["gain-ca"].of("replication")}
    assert gains["raw"] == (29.50, 28.59, 30.46) and gains["first_line"] == (1.72, 1.03, 2.42)
    assert [value(f"stopping-{code}", "replication") for code in ("ca", "es", "ro")] == [94, 97, 107]
    assert [value(f"gating-{part}", "replication") for part in ("instruction", "head", "tail", "source", "target")] == [
        100,
        99,
        47,
        0,
        5,
    ]


def test_what_is_second_hand_or_derived_says_so():
    results = [result for row in ROWS.values() for result in row.results]
    assert all(result.second_hand for result in results if result.source == "paper")
    assert all(
        "second hand" in result.sentence for result in results if result.second_hand and result.value is not None
    )
    assert all("about" in ROWS[f"{name}-four"].said("paper") for name in ("base", "full", "embed", "partial"))
    assert "about" not in ROWS["prefix-four"].said("paper"), "which is given as it is"
    derived = {
        "paper-gain-ca": 37.7 - 5.7, "paper-partial-share": 100 * (27.9 - 4.6) / (29.0 - 4.6), "paper-prefix-share": 100 * (17.4 - 4.6) / (29.0 - 4.6),
    }  # fmt: skip
    assert {r.id for r in results if r.derived} == set(derived)
    for result in results:
        if result.id in derived:
            assert result.value == pytest.approx(derived[result.id], abs=0.06)
    assert value("shared-six", "paper") == len(set.intersection(*map(set, appendix.published().values())))


def test_what_is_asked_of_a_suite_can_be_asked():
    for row in ROWS.values():
        assert not row.suite or row.suite in PRESETS
        assert row.suite or row.command or row.measure["kind"] == "published"
        if row.suite and row.measure["kind"] in published.OF_ARM:
            kinds = {arm.kind for arm in suite_of(PRESETS[row.suite]).arms}
            assert row.measure["arm"] in kinds or row.differs, f"{row.id}: the suite lacks its arm, and nothing says so"


def test_facts_of_protocols_are_those_of_the_presets():
    facts = published.protocols()["sibling"]["facts"]
    arms = {arm.kind: arm.recipe for arm in suite_of(PRESETS["en-ca"]).arms}
    assert f"learning rate {arms['embed'].learning_rate:g}".replace("e-05", "e-5") in facts["Embed Tuning"]
    assert (
        facts["batch"] == str(arms["embed"].batch_size) and f"warm-up {arms['embed'].warmup_share}" in facts["schedule"]
    )
    assert arms["embed"].schedule in facts["schedule"] and f"{arms['embed'].epochs:g} epochs" in facts["Embed Tuning"]


@pytest.mark.parametrize(
    "change",
    [
        {"source": "hearsay"}, {"value": None}, {"second_hand": "yes"}, {"value": "12"}, {"low": float("nan")},
    ],
)  # fmt: skip
def test_a_result_that_cannot_be(change):
    told = {"id": "a", "source": "paper", "second_hand": True, "value": 1.0, "unit": "spBLEU", **change}
    with pytest.raises(SettingsError):
        Result(**told)


@pytest.mark.parametrize(
    "change",
    [
        {"measure": {"kind": "guess"}},
        {"measure": {"kind": "share", "arm": "partial"}},
        {"measure": {"kind": "score"}},
        {"results": ()},
    ],
)
def test_a_row_that_cannot_be(change):
    good = Result("a", "paper", True, 1.0, "spBLEU")
    with pytest.raises(SettingsError):
        Row(**{"id": "a", "title": "A", "model": "M", "measure": {"kind": "none"}, "results": (good,), **change})


def test_without_any_suite_every_row_says_how_it_would_be_measured():
    lines = beside.lines([], {"four": "9 days"})
    assert len(lines) == len(ROWS) and [line.row.against for line in lines[:5]] == [True] * 5
    rows = beside.table(lines)
    assert all(
        row["Measured here"].startswith("not run: python -m ks_core ")
        for row, line in zip(rows, lines, strict=True)
        if not line.measured
    )
    told = {line.row.id: line for line in lines}
    assert "about 9 days here" in told["embed-four"].here
    assert told["stopping-es"].command.endswith("reproduce controls --pairs en-es")
    assert told["shared-six"].measured.value == 10 and told["shared-six"].difference[1] == 0
    assert beside.as_markdown(lines).count("\n") == len(lines) + 2


def made(rows, **changes):
    """A finished suite, of which only the rows are read."""
    suite = suite_of(PRESETS["four"], **changes)

    class Job:
        id = "20260101-000000-suite-abcdef"

    return beside.Finished(suite, {"suite": suite.name, "rows": rows}, Job())


def told(kind, pair, **fields):
    share = {"value": 0.9, "low": 0.8, "high": 0.97}
    found = {"pair": pair, "kind": kind, "protocol": "sibling", "steps": 10, "seeds": 3, "sentences": 40, "of_whole": share, "of_ticket": None,
             "end_share": None, "stops": None, "scores": {}}  # fmt: skip
    return {**found, **fields}


def test_a_measured_share_stands_beside_the_published_one_with_its_interval():
    lines = beside.lines([made([told("partial", "all pairs")])])
    line = next(one for one in lines if one.row.id == "partial-share")
    assert line.measured.text == f"90% [80%, 97%] ({line.measured.model})" and line.measured.model
    source, value, low, high = line.difference
    assert source == "paper" and (value, low, high) == pytest.approx((-5.5, -15.5, 1.5))
    assert "to the paper" in line.difference_text and "3 seeds" in line.differs and "40 sentences" in line.differs
    assert [one.row.id for one in lines].index("partial-share") > 0, "what speaks against comes first"


def test_scores_are_compared_on_the_same_pairs_alone():
    scores = {
        "response": {
            "spbleu": {"value": 20.0, "low": 18.0, "high": 22.0, "gain": 15.0, "gain_low": 14.0, "gain_high": 16.0}
        }
    }
    rows = [
        told("embed", "all pairs", of_whole=None, scores=scores),
        told("embed", "en-ca", of_whole=None, scores=scores),
    ]
    same = {line.row.id: line for line in beside.lines([made(rows)])}
    assert same["embed-four"].difference == ("paper", -9.0, -11.0, -7.0)
    assert same["embed-four"].rank == 1, "clearly less than what was published"
    other = {line.row.id: line for line in beside.lines([made(rows, pairs=("en-fr", "en-da"))])}
    assert other["embed-four"].measured is None
    demo = {line.row.id: line for line in beside.lines([made(rows, base="demo:base")])}
    assert demo["embed-four"].measured is None, "a score of another model's size says nothing"


def test_a_share_without_a_clear_whole_is_not_shown():
    unclear = {"value": 3.0, "low": None, "high": None}
    lines = beside.lines([made([told("partial", "all pairs", of_whole=unclear)])])
    assert next(line for line in lines if line.row.id == "partial-share").measured is None


def test_ranges_are_left_alone_inside():
    rows = [told("matched", "en-ca", of_ticket={"value": 0.55, "low": 0.3, "high": 0.7})]
    line = next(one for one in beside.lines([made(rows)]) if one.row.id == "matched")
    assert line.difference[1] == pytest.approx(0, abs=1e-9), "55% lies between 40% and 59%"


def test_the_table_as_csv_carries_nothing_out_and_comes_back():
    lines = beside.lines([])
    text = table_bytes(beside.frame(lines), ".csv", beside.signature(lines))
    for cell in re.findall(r'(?:^|,)"?([=+@-][^,]*)', text.decode(), re.M):
        assert re.fullmatch(r"[+-]?[\d.]+", cell.strip()), f"a spreadsheet would carry {cell!r} out"
    again = read_csv(io.BytesIO(text))
    assert list(again["id"]) == [line.row.id for line in lines]
    assert again.loc[list(again["id"]).index("other-model"), "Replicated"] == "-1.5 spBLEU"


def test_the_file_is_whole():
    told = json.loads((ROOT / "assets" / "paper.json").read_text(encoding="utf-8"))
    assert set(told) == {"about", "sources", "protocols", "rows"} and set(told["sources"]) == {
        "paper",
        "replication",
        "sibling",
    }
    assert told["protocols"]["paper"]["second_hand"] is True
