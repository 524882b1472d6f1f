"""The page Paper: never empty, what a suite measured stands on it, and a read-only server starts nothing."""

from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from helpers.places import APP
from ks_core.checkpoints import demo
from ks_core.jobs import queue
from ks_core.store import workspace
from ks_core.study.scan import Study
from ks_core.suites import PRESETS, published, suite_of


@pytest.fixture
def scanned(demo_home):
    Study(demo.BASE, demo.TUNED).scan()
    return demo_home


def opened():
    at = AppTest.from_file(APP, default_timeout=120).run()
    at.switch_page("pages/paper.py").run()
    assert not at.exception and not at.error, [e.value for e in at.error]
    return at


def words(at):
    return "\n".join(str(e.value) for kind in ("markdown", "caption", "info") for e in getattr(at, kind)).replace(
        "\\", ""
    )


def test_nothing_was_measured_and_every_row_is_there(scanned):
    at = opened()
    shown = at.dataframe[0].value
    assert list(shown["Result"])[:3] and len(shown) == len(published.rows())
    assert (
        any("second hand" in text for text in shown["Published"])
        and shown["Measured here"].str.startswith("not run: ").sum() > 40
    )
    assert shown["Measured here"].str.contains("here)", regex=False).any(), "what it would take on this machine"
    suites = at.dataframe[2].value
    assert set(suites["Suite"]) == set(PRESETS) and all(suites["Takes here"])
    assert any("hf download" in text for text in suites["Missing"]) and "nothing" in set(suites["Missing"])
    assert [b.label for b in at.button if b.label == "Run the demo's suite"] and not queue.all_jobs("suite")
    assert at.metric[1].value == "1", "counted in the published tickets"


def finished(home, suite):
    """A suite that is done, as its job leaves it."""
    share = {
        "gain": 1.0,
        "gain_low": 0.9,
        "gain_high": 1.1,
        "value": 0.5,
        "low": 0.4,
        "high": 0.6,
        "whole": 2.0,
        "whole_low": 1.8,
        "whole_high": 2.2,
    }
    gain = {"value": 1.0, "low": 0.9, "high": 1.1, "pvalue": 0.001, "holm": 0.004, "of_seeds": 0.1, "of_sentences": 0.1}
    common = {
        "protocol": "demo",
        "rows": [18, 18],
        "steps": 30,
        "seeds": 3,
        "sentences": 48,
        "nats": 2.0,
        "stops": 1.0,
        "scores": {},
    }
    rows = [
        {
            "pair": "all pairs",
            "arm": "Embed Tuning",
            "kind": "embed",
            "gain": gain,
            "end_share": share,
            "of_whole": None,
            "of_ticket": share,
            **common,
        },
        {
            "pair": "all pairs",
            "arm": "Partial Tuning",
            "kind": "partial",
            "gain": gain,
            "end_share": share,
            "of_whole": share,
            "of_ticket": None,
            **common,
        },
        {
            "pair": "all pairs",
            "arm": "Most frequent rows",
            "kind": "frequent",
            "gain": gain,
            "end_share": share,
            "of_whole": share,
            "of_ticket": share,
            **common,
        },
    ]
    result = {
        "suite": suite.name,
        "rows": rows,
        "left": {"en-de, demo, seed 1, LoRA": "it *failed* <b>here</b>"},
        "runs": [],
        "notes": ["a [note](http://x.y)"],
        "signature": "suite:demo|base:b@1",
    }
    folder = home / "jobs" / "20260101-000000-suite-abcdef"
    for name, value in (
        ("request", {"kind": "suite", "parameters": suite.as_dict(), "label": "Suite demo", "number": 1, "created": 0}),
        ("status", {"state": "done"}), ("result", result),
    ):  # fmt: skip
        workspace.write_json(folder / f"{name}.json", value)


def test_what_a_suite_measured_stands_beside_what_was_published(scanned):
    finished(scanned, suite_of(PRESETS["demo"]))
    at = opened()
    shown = at.dataframe[0].value.set_index("Result")
    row = shown.loc["What Partial Tuning keeps of Embed Tuning's gain"]
    assert row["Measured here"] == "50% [40%, 60%] (SmolLM2-135M-Instruct)" and row["Difference"].startswith(
        "-45.5 [-55.5, -35.5] points to the paper"
    )
    assert "SmolLM2-135M-Instruct" in row["What differs"] and "48 sentences" in row["What differs"]
    assert shown.iloc[0]["Measured here"].endswith("%] (SmolLM2-135M-Instruct)"), (
        "what speaks against the paper and was measured comes first"
    )
    said = words(at)
    assert "the most frequent rows gain" in said and "Measured here" in [h.value for h in at.header]
    assert "it *failed* <b>here</b>" in " ".join(w.value for w in at.warning).replace("\\", "")
    assert not [b for b in at.button if b.label == "Run the demo's suite"]
    table = at.dataframe[-1].value
    assert list(table["Arm"]) == ["Embed Tuning", "Partial Tuning", "Most frequent rows"]


def test_a_read_only_server_shows_it_all_and_starts_nothing(scanned, monkeypatch):
    finished(scanned, replace(suite_of(PRESETS["demo"]), sentences=8))
    monkeypatch.setenv("KS_LOTTERY_READ_ONLY", "1")
    at = opened()
    assert len(at.dataframe[0].value) == len(published.rows())
    assert not [b for b in at.button if "suite" in b.label]
    assert "nothing" in words(at).lower()


def test_a_damaged_result_is_left_out(scanned):
    finished(scanned, suite_of(PRESETS["demo"]))
    path = scanned / "jobs" / "20260101-000000-suite-abcdef" / "request.json"
    workspace.write_json(path, {"kind": "suite", "parameters": {"arms": 3}, "number": 1, "created": 0})
    assert opened().metric[1].value == "1"
