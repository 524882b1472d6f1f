"""A whole audit as one job: it submits the steps, tells how far all of it is, and takes them with it when it is stopped."""

import time

import pytest

from helpers.tiny_text import PROMPT
from ks_core.audit.evidence import gather, glance
from ks_core.audit.inquiry import Audit
from ks_core.audit.whole import LANE, PANEL_READS, costs, left
from ks_core.jobs import queue
from ks_core.jobs.handle import FINAL
from ks_core.ledger.inquiry import Inquiry
from ks_core.tuning import estimates
from ks_core.tuning.estimates import Rates
from ks_core.tuning.plans import CorpusChoice


@pytest.fixture
def audit(tiny_pair):
    base, tuned, corpus = tiny_pair
    choice = CorpusChoice(corpus.name, source_language="A", target_language="B")
    return Audit(base, tuned, alpha=0.2, corpus=choice, prompt=PROMPT, budget="small", max_new_tokens=6)


@pytest.mark.whole
def test_one_job_runs_all_of_it_and_tells_how_far_it_is(audit):
    scan = audit.study.scan()
    assert [step.kind for step in left(audit, scan)] == ["rules", "tune", "audit"]
    job = queue.submit("whole", audit.as_dict(), label="Everything", device=LANE)
    assert queue.submit("whole", audit.as_dict(), device=LANE).id == job.id
    shares, words = [], set()
    end = time.monotonic() + 400
    while job.state not in FINAL and time.monotonic() < end:
        progress = job.progress
        if progress.total == 4:
            shares.append(progress.share)
            words.add(progress.message.partition(":")[0])
            assert progress.unit == "steps"
        time.sleep(0.2)
    assert job.state == "done", job.error + job.log_tail(30)
    assert shares == sorted(shares) and set(shares) >= {0, 0.25, 0.5} and {"Ledger", "Controls", "Audit"} <= words
    assert {(j.request["kind"], j.state) for j in queue.all_jobs()} == {
        (kind, "done") for kind in ("whole", "rules", "tune", "audit")
    }
    assert left(audit, scan) == []
    found, short = gather(audit, scan), glance(audit, scan)
    assert job.result["headline"] == found.headline and found.calibration is not None
    assert (
        short.account.worth == found.account.worth and short.waterfall == found.waterfall and short.calibration is None
    )


def test_a_cancelled_one_takes_its_step_with_it(audit):
    audit.study.scan()
    job = queue.submit("whole", audit.as_dict(), label="Everything", device=LANE)
    end = time.monotonic() + 120
    while not (steps := queue.all_jobs("rules")) and time.monotonic() < end:
        assert job.state not in FINAL, job.error
        time.sleep(0.1)
    job.cancel()
    assert job.wait(120) == "cancelled"
    assert steps[0].wait(60) == "cancelled" and not queue.all_jobs("tune")


def test_a_step_that_fails_ends_it_with_its_reason(audit, monkeypatch):
    """The text is gone by the time that it is read."""
    from pathlib import Path

    audit.study.scan()
    Path(audit.corpus.name.partition(":")[2]).unlink()
    job = queue.submit("whole", audit.as_dict(), label="Everything", device=LANE)
    assert job.wait(120) == "failed"
    (step,) = queue.all_jobs("rules")
    assert step.state == "failed" and step.error in job.error


def test_costs_are_reads_by_what_was_measured(audit):
    scan, corpus = audit.study.scan(), audit.corpus.load()
    rates = Rates(train=0.01, generate=1.0, load=2.0, characters=3.0, when=0.0)
    steps = left(audit, scan)
    told = dict(costs(audit, steps, corpus, rates))
    read = estimates.reading(audit.prompt, corpus, rates)
    asked = Inquiry.from_dict(steps[0].parameters)
    reads = asked.sentences * (2 + len(asked.rules) * len(asked.sizes)) + 3 * asked.development * asked.points
    assert told["Ledger"] == pytest.approx(2.0 + reads * read)
    assert told["Audit"] == pytest.approx(2.0 + PANEL_READS * audit.sentences * read)
    assert [name for name in told if name.startswith("Controls")] and all(seconds > 0 for seconds in told.values())
    twice = dict(costs(audit, steps, corpus, Rates(0.02, 1.0, 2.0, 3.0, 0.0)))
    assert twice["Ledger"] - 2.0 == pytest.approx(2 * (told["Ledger"] - 2.0))
