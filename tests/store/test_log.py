"""The log: what goes into it, what never does, and that it does not grow without bound."""

import logging
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from helpers.places import APP
from ks_core.commands.program import main
from ks_core.errors import KSLotteryError
from ks_core.jobs import worker
from ks_core.store import log


@pytest.fixture
def written(workspace_folder):
    """Begins a log in this test's workspace; gives what reads it."""
    log.begin()
    yield lambda: log.path().read_text(encoding="utf-8")
    log.path().unlink(missing_ok=True)


SECRETS = [
    "token hf_abcdefghij0123456789",
    "https://me:hunter22@host.example/x",
    "Authorization: Bearer abcdef.ghijkl-123",
    "https://host/x?a=1&token=abcdef123&b=2",
    "the value sesame-open",
]


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_are_struck_out(text, written, monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "sesame-open")
    secret = text.split()[-1]
    logging.getLogger("ks_core.test").warning("found %s", text)
    try:
        raise ValueError(text)
    except ValueError as error:
        log.unexpected(error, "test")
    found = written()
    assert found.count(log.STRUCK) >= 3 and "Traceback" in found
    for part in ("hf_abcdefghij0123456789", "hunter22", "abcdef.ghijkl-123", "abcdef123", "sesame-open"):
        assert part not in found or part not in secret


def test_a_job_that_fails_by_a_secret_does_not_tell_it(workspace_folder, monkeypatch):
    def broken(parameters, running):
        raise KSLotteryError("the hub said no to hf_abcdefghij0123456789")

    monkeypatch.setattr("ks_core.study.scan.run_scan", broken)
    folder = workspace_folder / "jobs" / "20260101-000000-scan-abcdef"
    folder.mkdir(parents=True)
    (folder / "request.json").write_text('{"kind": "scan", "parameters": {}, "device": "cpu", "created": 1.0}')
    assert worker.main(folder) == 1
    told = "".join(p.read_text(errors="replace") for p in folder.iterdir())
    assert "hf_abcdefghij" not in told and log.STRUCK in told
    log.path().unlink()


def test_the_log_is_bounded(written, monkeypatch):
    handler = next(h for h in log.logger.handlers)
    monkeypatch.setattr(handler, "maxBytes", 2000)
    for number in range(500):
        log.logger.info("line %d of a log that is written to for days", number)
    files = sorted(Path(log.path()).parent.iterdir())
    assert len(files) == log.FILES and all(f.stat().st_size <= 2000 for f in files)


def test_levels(written, monkeypatch):
    log.logger.debug("quiet")
    log.logger.info("heard")
    assert "heard" in written() and "quiet" not in written()


def test_an_error_on_a_page_is_a_sentence_and_a_log_entry(demo_home, monkeypatch):
    monkeypatch.setattr("ks_core.checkpoints.demo.names", lambda: 1 / 0)
    monkeypatch.setattr("ks_core.checkpoints.demo.is_ready", lambda: 1 / 0)
    at = AppTest.from_file(APP, default_timeout=60).run()
    assert not at.exception and "did not expect (ZeroDivisionError)" in at.error[0].value
    assert "division by zero" not in at.error[0].value
    assert "Traceback" in log.path().read_text() and "page Overview" in log.path().read_text()
    log.path().unlink()


def test_an_error_on_the_command_line_is_a_sentence_and_a_log_entry(workspace_folder, monkeypatch, capsys):
    monkeypatch.setattr("ks_core.store.cache.Cache.entries", lambda self: 1 / 0)
    assert main(["cache"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "did not expect" in said and "Traceback" not in said
    assert "ZeroDivisionError" in log.path().read_text()
    log.path().unlink()
