"""The audit on a tiny pair: from the command line in one go, then on its page; and what the verdict may say."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from streamlit.testing.v1 import AppTest

from helpers.places import APP
from helpers.tiny_text import PROMPT
from ks_core.audit import inquiry, verdict
from ks_core.audit.gains import Gain
from ks_core.audit.inquiry import BUDGETS, VERSION, Audit, ranking, stability, structural_row
from ks_core.audit.panels import PANELS
from ks_core.audit.verdict import Asked, Finding
from ks_core.checkpoints import demo
from ks_core.commands.audit import add_arguments
from ks_core.commands.program import main
from ks_core.errors import SettingsError, TicketError
from ks_core.jobs import queue
from ks_core.jobs.resources import Resources
from ks_core.ks.statistic import exact_pvalue
from ks_core.study.scan import Study
from ks_core.translation.shares import share
from ks_core.tuning.plans import Plan


def test_the_whole_audit_from_the_command_line_and_on_its_page(tiny_pair, tmp_path, capsys):
    base, tuned, corpus = tiny_pair
    output = tmp_path / "audit.json"
    words = ["audit", base, tuned, "--alpha", "0.2", "--budget", "small", "--corpus", corpus.name, "--languages", "A,B",
             "--prompt", PROMPT, "--max-new-tokens", "6", "--output", str(output)]  # fmt: skip
    assert main(words) == 0
    printed = capsys.readouterr().out
    found = json.loads(output.read_text(encoding="utf-8"))
    assert set(found["panels"]) == set(PANELS) and all(found["panels"].values())
    gates = {r["name"]: r for r in found["panels"]["gating"]["runs"]}
    arms = {a["kind"]: a for a in found["controls"]["arms"]}
    assert not any(a["error"] for a in arms.values() if a["kind"] in ("base", "tuned", "transfer", "partial"))

    def nats(reading):
        return np.array([reading["likelihood"][part] for part in ("content", "end")])

    # One exam throughout: all gates open is Partial Transfer, none is the base, whoever read them.
    np.testing.assert_allclose(nats(gates["all"]), nats(arms["transfer"]), rtol=1e-4)
    np.testing.assert_allclose(nats(gates["none"]), nats(arms["base"]), rtol=1e-4)
    # What strength is claimed of is read on the same test references; it was looked for on others.
    strength = found["panels"]["strength"]
    claimed = {p["strength"]: p for p in strength["claimed"]}
    assert (
        nats(claimed[1.0]).tolist() == nats(gates["all"]).tolist()
        and nats(claimed[0.0]).tolist() == nats(gates["none"]).tolist()
    )
    assert strength["settings"]["part"] == "development" and strength["claim_settings"]["part"] == "test"
    assert strength["chosen"] in claimed
    # Nothing was written, and nothing that rests on answers is said.
    assert not any("written" in panel for panel in found["panels"].values()) and not any(
        a["evaluation"] for a in arms.values()
    )
    assert (
        "chrF" not in " ".join(f["sentence"] for f in found["verdict"])
        and found["panels"]["certificate"]["own"].count(1) == 0
    )
    # The ledger is asked of the same references, and comes first in the verdict.
    assert found["ledger"]["sentences"] == len(gates["all"]["likelihood"]["content"]) > 1
    assert found["verdict"][0]["panel"] == "ledger" and found["waterfall"]["rows"] == len(arms["transfer"]["rows"])
    for finding in found["verdict"]:
        assert finding["sentence"] in printed
    assert "not known   how often each token was trained" in printed
    assert {job.request["parameters"]["prompt"] for job in queue.all_jobs("tune")} == {PROMPT}
    runs = len(queue.all_jobs())
    assert main(words) == 0 and len(queue.all_jobs()) == runs, "a second audit finds everything"

    at = AppTest.from_file(APP, default_timeout=60)
    for key, value in {"base": base, "tuned": tuned, "alpha": "0.2"}.items():
        at.query_params[key] = value
    at = at.run()
    at.session_state["alpha"] = 0.2  # the test runner opens a page without the router that would set it
    at = at.switch_page("pages/audit.py").run()
    assert not at.exception
    assert any("Parallel text" in s.label for s in at.selectbox)


def test_panels_are_kept_by_content(tiny_pair):
    base, tuned, corpus = tiny_pair
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


def test_an_audit_of_an_earlier_version_is_found_again(monkeypatch):
    """Names of folders and the JSON of jobs as they have been: what a workspace holds is looked up by them. A version's panels
    lie elsewhere than another's, and what they are named after is otherwise as it was."""
    sharing = Resources(2, True, "bfloat16")
    other = Audit("b", "t", "count", 0.2, 5, prompt="{source}", budget="small", max_new_tokens=6, resources=sharing)
    assert VERSION == 3
    for audit, sentences, names in (
        (Audit("b", "t"), 64, ("799e91b6fd14aa195d1b7b9a", "53d59defccbdfc9a3a10b7d1")),
        (other, 24, ("cbc0cfdebb581ef1f4896be2", "f4bb4b955b2d16ba3f6e4d7a")),
    ):
        audit.__dict__["study"] = SimpleNamespace(key={"base": "1", "tuned": "2", "version": 1})
        for version, name in enumerate(names, 1):
            with monkeypatch.context() as before:
                before.setattr(inquiry, "VERSION", version)
                before.setattr(Audit, "sentences", sentences)
                assert audit.folder().name == name
        written = replace(audit, generate=True)
        written.__dict__["study"] = audit.study
        assert written.folder() != audit.folder()
    shared = ["base", "tuned", "rule", "alpha", "k", "corpus", "prompt"]
    assert list(other.as_dict()) == [*shared, "budget", "max_new_tokens", "device", "resources", "generate"]
    assert list(Plan().as_dict()) == [
        *shared, "arms", "sentences", "max_new_tokens", "beams", "sweep", "device", "resources",
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", [
    {"base": 3}, {"device": None}, {"alpha": 2}, {"rule": "luck"}, {"k": 0}, {"max_new_tokens": 0}, {"prompt": "hello"},
])  # fmt: skip
def test_what_a_run_and_an_audit_share_is_checked_alike(wrong):
    said = []
    for kind in (Plan, Audit):
        with pytest.raises(SettingsError) as error:
            kind(**wrong)
        said.append(str(error.value))
    assert said[0] == said[1]


def test_what_it_cannot_know_it_does_not_say(tiny_pair):
    base, tuned, corpus = tiny_pair
    audit = Audit(base, tuned, alpha=0.2, corpus=corpus, prompt=PROMPT)
    scan = audit.study.scan()
    assert ranking(audit, scan) is None and stability(audit, scan) is None and structural_row(audit) == ()
    said, missing = verdict.findings(None, {}, None, None)
    assert said == [] and missing == list(verdict.needs())
    with pytest.raises(TicketError, match="ticket is empty"):
        Audit(base, base).positions(Study(base, base).scan())


def gain(kind, stopping, compared, **facts):
    """A gain from draws: (first line, raw) and (this arm, the whole), each the sample itself and its resamples."""
    first, raw = (np.array(x, float) for x in stopping)
    own, whole = (np.array(x, float) for x in compared)
    return Gain(
        kind, kind, dict.fromkeys(("bleu", "chrf"), share(first, raw)), {"chrf": share(own, whole)}, 0.9, 50.0, **facts
    )


def test_sentences_follow_the_figures():
    clear = ([1, 0.8, 1.2], [10, 9, 11])
    whole = ([8, 7, 9], [8, 7, 9])
    said, missing = verdict.findings(
        Asked([gain("partial", clear, whole), gain("rows", clear, ([4, 3, 5], [8, 7, 9])), gain("random", clear, ([2, 1, 3], [8, 7, 9])),
               gain("random", clear, ([6, 5, 7], [8, 7, 9]), seed=1)], "short", "greedy"),
        {}, None, None,
    )  # fmt: skip
    by_panel = {f.panel: f.sentence for f in said}
    assert "in BLEU, of the raw gain (+10.0 [9.1, 10.9]) 10% [" in by_panel["termination"]
    texts = " ".join(f.sentence for f in said)
    assert "one structural row alone gives 50% [" in texts
    assert (
        "Random rows give 25% [15%, 33%] and 75% [72%, 78%] of the gain" in texts and "2 seeds, in their order" in texts
    )
    assert "controls" not in missing and "gating" in missing
    # A gain that may be nothing is not divided by.
    nothing = ([0.1, -1, 1], [0.2, -1, 1])
    unclear = Asked([gain("partial", nothing, nothing), gain("rows", nothing, nothing)], "short", "greedy")
    said, _ = verdict.findings(unclear, {}, None, None)
    assert "clear of chance" in said[0].sentence and "%" not in said[1].sentence
    assert isinstance(said[0], Finding)


def test_the_command_offers_the_budgets():
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    option = next(a for a in parser._actions if "--budget" in a.option_strings)
    assert list(option.choices or ()) == list(BUDGETS)


def test_a_run_of_which_only_the_test_is_kept_follows_the_rule(demo_home):
    audit = Audit()
    scan = audit.study.scan()
    tickets = {}
    for rule in ("alpha", "bonferroni", "count"):
        found = stability(replace(audit, rule=rule, k=7), scan)
        tickets[rule] = found.sizes[found.names.index("en-fr-adam")]
    kept = demo.kept_tests()["en-fr-adam"]
    pvalue = exact_pvalue(kept.statistic, kept.dim)
    assert tickets == {"alpha": (pvalue < 0.05).sum(), "bonferroni": (pvalue < 0.05 / 49_152).sum(), "count": 7}
    assert tickets["bonferroni"] < tickets["alpha"]
