"""The list of panels: one that is added is made, kept, told, drawn and reported, with no other line changed."""

from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from helpers.made_run import MadeRun
from helpers.own_panel import LENGTHS
from helpers.places import APP
from helpers.tiny_text import PROMPT
from ks_core.audit import controls, report, verdict
from ks_core.audit.evidence import gather
from ks_core.audit.inquiry import Audit
from ks_core.audit.panels import PANELS, make_panels, questions
from ks_core.audit.whole import carry_out, left
from ks_core.errors import JobError, SettingsError, TicketError
from ks_core.registry import named
from ks_core.tuning import comparison


class Telling:
    """What a job tells, kept."""

    def __init__(self):
        self.steps, self.events = [], []

    def progress(self, done, total, message="", *, unit="", stage=""):
        self.steps.append((message, stage))

    def event(self, **fields):
        self.events.append(fields)


@pytest.fixture
def added(monkeypatch):
    monkeypatch.setattr(PANELS, "_entries", dict(PANELS._entries))
    return PANELS.add(LENGTHS)


@pytest.fixture
def audit(tiny_pair):
    base, tuned, corpus = tiny_pair
    return Audit(base, tuned, alpha=0.2, budget="small", corpus=corpus, prompt=PROMPT, max_new_tokens=5, device="cpu")


def test_what_the_list_names_is_there():
    for panel in PANELS.values():
        loaded = (panel.function, panel.figure, panel.table, panel.written, panel.written_figure)
        assert all(callable(named(name)) for name in loaded if name)
        assert bool(panel.written) == bool(panel.written_figure) == bool(panel.written_sentence)
        assert panel.needs and panel.about.endswith("?")
    names = [question.name for question in questions()]
    assert len(set(names)) == len(names) == 10 and set(PANELS) < set(names)
    with pytest.raises(SettingsError, match="a panel 'gating' already"):
        PANELS.add(PANELS["gating"])


def test_an_added_panel_is_made_told_and_reported(added, audit):
    scan, running = audit.study.scan(), Telling()
    before = gather(audit, scan)
    assert before.missing.index("lengths") == before.missing.index("certificate") + 1
    told = verdict.as_text("", before.findings, before.missing, "", "")
    assert "not run: the lengths of the prompts" in told
    make_panels(audit, scan, ["lengths"], running)
    assert running.events == [{"panel": "lengths"}] and running.steps[-1] == ("1 of 1: counting", "lengths")
    kept = audit.panel("lengths")
    assert 0 < len(kept["words"]) <= 24 and kept["signature"] == str(audit.signature)
    found = gather(audit, scan)
    said = f"The longest prompt has {max(kept['words'])} words."
    assert found.sentences("lengths") == [said] and "lengths" not in found.missing
    page = report.build(audit.study, scan, 0.2, found)
    assert '<section id="lengths"><h2>How long are the prompts?</h2>' in page
    assert f'<li>{said} <a href="#lengths">lengths</a></li>' in page and "<caption>Words a prompt</caption>" in page


def test_an_added_panel_has_its_tab(added, audit, monkeypatch):
    from pages.parts import audited

    monkeypatch.setattr(audited, "choose", lambda study: (audit, None))
    make_panels(audit, audit.study.scan(), ["lengths"], Telling())
    at = AppTest.from_file(APP, default_timeout=60)
    at.query_params.update({"base": audit.base, "tuned": audit.tuned})
    at = at.run()
    at.session_state["audit_panel"] = "Lengths"
    at = at.switch_page("pages/audit.py").run()
    assert not at.exception and "Lengths" in [tab.label for tab in at.tabs]
    shown = [m.value for m in at.markdown] + [c.value for c in at.caption]
    assert "**How long are the prompts?**" in shown and "In words." in shown
    assert any(b.label.endswith("certificate and lengths") for b in at.button)


def test_a_whole_audit_follows_its_jobs_one_after_the_other(audit, monkeypatch):
    """The ledger first; base and ticket under another prompt only where answers are written."""
    asked = []

    def stopped(job):
        asked.append((job.request["kind"], job.request["label"], job.request["device"]))
        job.cancel()
        job.wait(60)
        if job.request["kind"] == "tune":
            raise JobError("stopped")

    scan, count = audit.study.scan(), len(audit.controls(()).arms)
    with pytest.raises(JobError, match="stopped"):
        carry_out(audit, scan, planned=lambda plan: asked.append(len(plan.arms)), follow=stopped)
    assert asked == [("rules", "Ledger", "cpu"), count, ("tune", f"Controls: {count} arms", "cpu")]
    assert [step.kind for step in left(audit, scan)] == ["rules", "tune", "audit"]
    written = left(replace(audit, generate=True), scan)
    assert [step.kind for step in written] == ["rules", "tune", "audit", "tune"]
    assert [step.parameters.get("generate", True) for step in written if step.kind == "tune"] == [True, True]
    assert [step.parameters.get("generate", True) for step in left(audit, scan)] == [True, False, False]
    with pytest.raises(TicketError, match="ticket is empty"):
        carry_out(Audit(audit.base, audit.base), Audit(audit.base, audit.base).study.scan(), follow=stopped)
    assert len(asked) == 3


def test_termination_and_controls_on_page_and_in_report(audit, monkeypatch, tmp_path):
    """Shares with their intervals, steps and overlaps, and the other protocol's prompt with the button that runs it."""
    from pages.parts import audited

    audit = replace(audit, generate=True)
    plan = audit.controls(())
    told = [
        (arm, 3 + n % 4, n > 0, {"rows": [3, 4], "in_ticket": 1} if n > 1 else {}) for n, arm in enumerate(plan.arms)
    ]
    run = MadeRun(tmp_path, told)
    monkeypatch.setattr(controls, "find", lambda study, asked: controls.Found(run if asked.prompt == PROMPT else None))
    found = gather(audit, audit.study.scan())
    assert len(found.gains) == len(plan.arms) - 1 and "1 of those 2 rows is a ticket row" in " ".join(
        found.sentences("controls")
    )
    page = report.build(audit.study, found.scan, 0.2, found)
    assert page.count(comparison.OVER_SENTENCES) >= 4 and "Of them in the ticket" in page
    monkeypatch.setattr(audited, "choose", lambda study: (audit, None))
    for title, columns in (
        ("Termination", "Share of the raw gain in chrF that remains"),
        ("Controls", "Of them in the ticket"),
    ):
        at = AppTest.from_file(APP, default_timeout=60)
        at.query_params.update({"base": audit.base, "tuned": audit.tuned})
        at = at.run()
        at.session_state["audit_panel"] = title
        at = at.switch_page("pages/audit.py").run()
        assert not at.exception
        assert any(columns in frame.value.columns and "Steps" in frame.value.columns for frame in at.dataframe)
        assert any(comparison.OVER_SENTENCES in caption.value for caption in at.caption)
        button = "Run base and ticket under that prompt"
        assert any(b.label == button for b in at.button) == (title == "Termination")
