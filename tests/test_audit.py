"""The audit on a tiny pair: from the command line in one go, then on its page; and what the verdict may say."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from streamlit.testing.v1 import AppTest

from ks_core import jobs
from ks_core.__main__ import main
from ks_core.audit import verdict
from ks_core.audit.inquiry import BUDGETS, PANELS, Audit, ranking, stability, structural_row
from ks_core.audit.verdict import Finding, Gain
from ks_core.commands.audit import add_arguments
from ks_core.errors import TicketError
from ks_core.study.scan import Study
from ks_core.translation.shares import share
from ks_core.tuning.plans import CorpusChoice

PROMPT = "w3 w4\nw5 {source}\nw6"


@pytest.fixture
def pair(tmp_path, tiny_folder):
    """The tiny model, and the same with ten rows moved; parallel text for it."""
    import shutil

    tuned = tmp_path / "tuned"
    shutil.copytree(tiny_folder, tuned)
    weights = load_file(tuned / "model.safetensors")
    weights["model.embed_tokens.weight"][3:13] += np.random.default_rng(0).normal(0, 3, (10, 16)).astype(np.float32)
    save_file(weights, tuned / "model.safetensors", metadata={"format": "pt"})
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text(
        "\n".join(f"w{5 + i % 30} w{5 + i // 30} w{5 + i % 7}\tw{20 + i % 40} w{7 + i % 9}" for i in range(150))
    )
    return str(tiny_folder), str(tuned), CorpusChoice(f"file:{pairs}", source_language="A", target_language="B")


def test_the_whole_audit_from_the_command_line_and_on_its_page(pair, tmp_path, capsys):
    base, tuned, corpus = pair
    output = tmp_path / "audit.json"
    words = ["audit", base, tuned, "--alpha", "0.2", "--budget", "small", "--corpus", corpus.name, "--languages", "A,B",
             "--prompt", PROMPT, "--max-new-tokens", "6", "--output", str(output)]  # fmt: skip
    assert main(words) == 0
    printed = capsys.readouterr().out
    found = json.loads(output.read_text(encoding="utf-8"))
    assert set(found["panels"]) == set(PANELS) and all(found["panels"].values())
    gates = {r["name"]: r for r in found["panels"]["gating"]["runs"]}
    arms = {a["kind"]: a for a in found["controls"]["arms"]}
    # One exam throughout: all gates open is Partial Transfer, none is the base.
    assert gates["all"]["evaluation"] == arms["transfer"]["evaluation"]
    assert gates["none"]["evaluation"] == arms["base"]["evaluation"]
    strongest = [p for p in found["panels"]["strength"]["points"] if (p["rows"], p["strength"]) == ("ticket", 1.0)]
    assert strongest[0]["evaluation"] == arms["transfer"]["evaluation"]
    for finding in found["verdict"]:
        assert finding["sentence"] in printed
    assert "not known   how often each token was trained" in printed
    runs = len(jobs.all_jobs())
    assert main(words) == 0 and len(jobs.all_jobs()) == runs, "a second audit finds everything"

    at = AppTest.from_file(str(Path(__file__).parent.parent / "app.py"), default_timeout=60)
    for key, value in {"base": base, "tuned": tuned, "alpha": "0.2"}.items():
        at.query_params[key] = value
    at = at.run()
    at.session_state["alpha"] = 0.2  # the test runner opens a page without the router that would set it
    at = at.switch_page("pages/audit.py").run()
    assert not at.exception
    assert any("Parallel text" in s.label for s in at.selectbox)


def test_panels_are_kept_by_content(pair):
    base, tuned, corpus = pair
    audit = Audit(base, tuned, alpha=0.2, corpus=corpus, prompt=PROMPT)
    assert audit.panel("gating") is None and audit.run() is None
    audit.folder().mkdir(parents=True)
    (audit.folder() / "gating.json").write_text('{"runs": []}')
    assert audit.panel("gating") == {"runs": []}
    (audit.folder() / "gating.json").write_text('{"runs": [')
    assert audit.panel("gating") is None, "a file that is half written is no panel"
    assert replace(audit, alpha=0.1).folder() != audit.folder()
    weights = load_file(Path(tuned) / "model.safetensors")
    weights["model.embed_tokens.weight"][20] += 1
    save_file(weights, Path(tuned) / "model.safetensors", metadata={"format": "pt"})
    assert Audit(base, tuned, alpha=0.2, corpus=corpus, prompt=PROMPT).folder() != audit.folder()
    assert Audit.from_dict(json.loads(json.dumps(audit.as_dict()))) == audit


def test_what_it_cannot_know_it_does_not_say(pair):
    base, tuned, corpus = pair
    audit = Audit(base, tuned, alpha=0.2, corpus=corpus, prompt=PROMPT)
    scan = audit.study.scan()
    assert ranking(audit, scan) is None and stability(audit, scan) is None and structural_row(audit) == ()
    said, missing = verdict.findings(None, {}, None, None)
    assert said == [] and missing == list(verdict.NEEDS)
    with pytest.raises(TicketError, match="ticket is empty"):
        Audit(base, base).positions(Study(base, base).scan())


def gain(kind, stopping, of_ticket, name=""):
    """A gain from draws: (first line, raw) and (this arm, ticket), each the sample itself and its resamples."""
    first, raw = (np.array(x, float) for x in stopping)
    own, ticket = (np.array(x, float) for x in of_ticket)
    return Gain(name or kind, kind, {"bleu": share(first, raw)}, {"chrf": share(own, ticket)}, 0.9, 50.0)


def test_sentences_follow_the_figures():
    clear = ([1, 0.8, 1.2], [10, 9, 11])
    whole = ([8, 7, 9], [8, 7, 9])
    said, missing = verdict.findings(
        [gain("partial", clear, whole), gain("rows", clear, ([4, 3, 5], [8, 7, 9])), gain("matched", clear, ([2, 1, 3], [8, 7, 9])),
         gain("matched", clear, ([6, 5, 7], [8, 7, 9]))],
        {}, None, None,
    )  # fmt: skip
    by_panel = {f.panel: f.sentence for f in said}
    assert "of the gain in raw BLEU 10% [" in by_panel["termination"]
    texts = " ".join(f.sentence for f in said)
    assert "one structural row alone gives 50% [" in texts and "25% and 75% (one seed each)" in texts
    assert "controls" not in missing and "gating" in missing
    # A gain that may be nothing is not divided by.
    nothing = ([0.1, -1, 1], [0.2, -1, 1])
    said, _ = verdict.findings([gain("partial", nothing, nothing), gain("rows", nothing, nothing)], {}, None, None)
    assert "clear of chance" in said[0].sentence and "%" not in said[1].sentence
    assert isinstance(said[0], Finding)


def test_the_command_offers_the_budgets():
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    option = next(a for a in parser._actions if "--budget" in a.option_strings)
    assert list(option.choices or ()) == list(BUDGETS)
