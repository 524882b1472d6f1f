"""A run's table, its figures, and what is marked in a translation."""

import doctest
import json

import numpy as np
import pytest
from hypothesis import given, strategies as st

from ks_core import drawing
from ks_core.commands.tune import table_lines
from ks_core.likelihood.nats import Likelihood
from ks_core.translation.extraction import EXTRACTION_RULES
from ks_core.translation.generation import Generation
from ks_core.translation.scores import compare, evaluate
from ks_core.tuning import comparison, figures as tuning_figures, notes

REFERENCES = ["le chat noir est sur la table", "bonjour tout le monde ici", "ouvrir un nouveau fichier"]
ENDLESS = [Generation("English: x\nFrench:", f" {r}\nEnglish: more\nFrench: encore", False, 20) for r in REFERENCES]
ENDED = [Generation("English: x\nFrench:", f" {r}", True, 8) for r in REFERENCES]


def arm(name, kind, answers, trainable):
    return {
        "name": name, "kind": kind, "folder": kind, "error": "", "rows": [1] * trainable, "trainable": trainable,
        "evaluation": evaluate(answers, REFERENCES, "French", resamples=50).as_dict(), "translating_seconds": 2.0,
    }  # fmt: skip


@pytest.fixture(scope="module")
def summary():
    answers = {"Base": ENDLESS, "Ticket": ENDED}
    return {
        "arms": [arm("Base", "base", ENDLESS, 0), arm("Ticket", "partial", ENDED, 576),
                 {"name": "Broken", "kind": "full", "error": "no memory"}],
        "significance": {"Base": compare(answers, REFERENCES, "French", "Base", resamples=50)},
        "sweep": [], "notes": [], "signature": "s",
    }  # fmt: skip


def test_the_table_shows_that_the_gain_was_stopping(summary):
    frame = comparison.table(summary).set_index("arm")
    assert list(frame.index) == ["Base", "Ticket"], "an arm that failed has no scores"
    assert frame.bleu_raw["Ticket"] > frame.bleu_raw["Base"] + 20
    assert frame.bleu_first_line["Ticket"] == frame.bleu_first_line["Base"] == pytest.approx(100)
    assert frame.bleu_prompt_restart["Base"] == pytest.approx(100)
    assert (frame.stop_rate["Base"], frame.stop_rate["Ticket"]) == (0, 1)
    assert frame["p against Base"].isna()["Base"] and frame["p against Base"]["Ticket"] > 0.5


def test_p_values_stand_beside_what_is_left_of_them_after_correction(summary):
    frame = comparison.table(summary).set_index("arm")
    leaves = [m for rule in summary["significance"]["Base"].values() for m in rule["Ticket"].values()]
    assert len(leaves) == 2 * len(EXTRACTION_RULES) and all(leaf["holm"] >= leaf["pvalue"] for leaf in leaves)
    assert frame["Holm p against Base"]["Ticket"] >= frame["p against Base"]["Ticket"]


def test_a_result_of_before_a_rule_was_there_has_a_table(summary):
    older = json.loads(json.dumps(summary))
    for arm in older["arms"][:2]:
        del arm["evaluation"]["scores"]["response"]
    for rule in older["significance"]["Base"].values():
        for leaf in rule["Ticket"].values():
            del leaf["holm"]
    frame = comparison.table(older)
    assert comparison.rules_of(frame) == ["raw", "first_line", "prompt_restart"]
    assert comparison.rules_of(comparison.table(summary)) == list(EXTRACTION_RULES)
    assert frame["p against Base"][1] > 0.5 and frame["Holm p against Base"].isna().all()


def trained(name, kind, steps, seed=0, **more):
    return {
        **arm(name, kind, ENDED, 2),
        "arm": {"kind": kind, "seed": seed, "recipe": {"steps": steps} if steps else None},
        **more,
    }


def test_beside_a_table_stands_what_its_intervals_leave_out(summary):
    assert notes.notes(summary) == [comparison.OVER_SENTENCES, comparison.NARROW]
    balanced = {"balance": {"sentence": "2 pairs: equal"}, "in_ticket": 0}
    arms = [
        summary["arms"][0], trained("Embed Tuning", "embed", 300), trained("Random rows", "random", 80),
        {**trained("Random rows, seed 1", "random", 80, 1), "evaluation": summary["arms"][0]["evaluation"]},
        trained("Their partners", "partners", 80, **balanced), trained("Copied", "both", None),
    ]  # fmt: skip
    made = {**summary, "arms": arms}
    spread, narrow, lengths, balance = notes.notes(made)
    assert narrow == comparison.NARROW
    assert "Over the seeds here: Random rows 100.0 to 100.0 chrF (first line), ending 0% to 100% of answers." in spread
    assert lengths == (
        "Not trained for as long: 300 steps (Embed Tuning) against 80 steps (Random rows, Random rows, seed 1, Their partners)."
    )
    assert balance == "Their partners: 2 pairs: equal."
    frame = comparison.table(made).set_index("arm")
    assert frame.steps["Embed Tuning"] == 300 and frame.in_ticket["Their partners"] == 0
    lines = table_lines(made)
    assert [f"note: {note}" for note in notes.notes(made)] == [line for line in lines if line.startswith("note")]
    assert "| Their partners | 2 | 0 | 80 |" in "\n".join(lines)
    assert any(line.endswith("alone)") and "by Holm" in line for line in lines)


def test_a_given_embed_tuning_that_is_known_to_be_longer_is_told(summary):
    made = {
        **summary,
        "arms": [trained("Embed Tuning (given)", "tuned", None), trained("Partial Tuning", "partial", 80)],
    }
    assert comparison.lengths(made, "demo:en-fr") == (
        "Not trained for as long: 300 steps (Embed Tuning (given)) against 80 steps (Partial Tuning)."
    )
    assert comparison.lengths(made, "somewhere") == ""


def test_losses_of_a_resumed_run_count_once():
    events = [{"arm": 1, "step": s, "loss": loss} for s, loss in ((1, 5.0), (2, 4.0), (1, 6.0))]
    found = comparison.losses(["a", "b"], [*events, {"arm": 1, "finished": True}, {"arm": 9, "step": 1, "loss": 1.0}])
    assert found.to_dict("list") == {"arm": ["b", "b"], "step": [1, 2], "loss": [6.0, 4.0]}


@given(st.text(st.sampled_from("ab ,é"), max_size=40), st.text(st.sampled_from("ab ,é"), max_size=40))
def test_marking_keeps_every_word_in_order(answer, reference):
    stretches = comparison.marked(answer, reference)
    assert " ".join(words for words, _ in stretches).split() == answer.split()
    if answer.split() == reference.split():
        assert all(same for _, same in stretches)


def test_doctests():
    assert doctest.testmod(comparison).failed == 0


def test_figures_say_what_they_show(summary):
    frame = comparison.table(summary)
    for rule in EXTRACTION_RULES:
        for metric in ("bleu", "chrf"):
            figure = tuning_figures.score_chart(frame, metric, rule)
            assert [t.name for t in figure.data] == ["Base", "Ticket"]
            assert figure.data[1].y[0] == frame[f"{metric}_{rule}"][1]
            assert figure.data[0].x[0] < figure.data[1].x[0] and "2 arms" in drawing.alt(figure)
    points = [{"alpha": a, "rows": n, "evaluation": summary["arms"][1]["evaluation"]} for a, n in ((0.01, 3), (0.1, 9))]
    figure = tuning_figures.sweep_chart(points, "chrf", "raw")
    assert list(figure.data[1].y) == [3, 9]
    losses = comparison.losses(["Ticket"], [{"arm": 0, "step": s, "loss": 9.0 - s} for s in range(1, 6)])
    figure = tuning_figures.loss_curves(losses, {"Ticket": "partial"})
    assert figure.data[1].line.color == drawing.WINNING and "loss 4.00" in drawing.alt(figure)
    assert "No step yet" in drawing.alt(tuning_figures.loss_curves(losses[:0], {}))


def likely(content, end=2.0, n=40):
    """A likelihood of so many nats a sentence, which differ a little from one to the next."""
    turn = np.arange(n) % 3 / 10
    return Likelihood(
        np.full(n, content) + turn, None if end is None else np.full(n, end) + turn, np.full(n, 4), np.full(n, 20)
    ).as_dict()  # fmt: skip


def judged(*arms):
    """A summary of arms (name, kind, likelihood, difference in BLEU against the base and the forced stop, its p)."""
    found = [
        {**arm(name, kind, ENDED, 0), **({"likelihood": own} if own else {"no_likelihood": "It is too long."})}
        for name, kind, own, *_ in arms
    ]
    leaves = {name: {"bleu": {"difference": d, "pvalue": p, "holm": p}} for name, _, _, d, p in arms if d is not None}
    rules = dict.fromkeys(EXTRACTION_RULES, leaves)
    against = {name: rules for name, kind, *_ in arms if kind in ("base", "stop")}
    return {
        "arms": found,
        "significance": against,
        "sweep": [],
        "notes": [],
        "signature": "s",
        "likelihood": comparison.judged(found),
    }


def test_where_likelihood_and_bleu_disagree_is_said():
    base = ("Base", "base", likely(12.0, 8.0), None, None)
    agree = judged(base, ("A", "lora", likely(8.0), 3.0, 0.001), ("B", "rows", likely(12.0, 8.0), 0.1, 0.8))
    assert not [n for n in notes.notes(agree) if "disagree" in n]
    made = judged(base, ("A", "lora", likely(8.0), 0.4, 0.6), ("B", "rows", likely(12.0, 8.0), 5.0, 0.001),
                  ("C", "full", likely(14.0, 8.0), 4.0, 0.001))  # fmt: skip
    made["arms"][2]["evaluation"]["scores"]["first_line"]["bleu"]["value"] = 101.0
    gain, order = (n for n in notes.notes(made) if "disagree" in n)
    assert gain == (
        "The scores disagree about a gain: by likelihood a gain over the base is clear that is not by BLEU (first line) for A; by BLEU "
        "(first line) a gain over the base is clear that is not by likelihood for B."
    )
    assert order == (
        "The scores disagree about an order: the best by likelihood is A, by BLEU (first line) B; against Base, C is clearly better by "
        "BLEU and clearly worse by likelihood."
    )


def test_a_ticket_that_does_what_a_stop_sequence_does_is_told_so():
    base, stop = ("Base", "base", likely(12.0, 8.0), None, None), ("Stop", "stop", likely(12.0), 6.0, 0.001)
    same = ("Ticket", "partial", likely(12.0), 0.1, 0.9)
    (said,) = (n for n in notes.notes(judged(base, stop, same)) if "stop sequence" in n)
    assert said == (
        "Ticket does what a stop sequence does: by likelihood and BLEU (raw) it is not clearly better than the base that is stopped at a "
        "line break (+0.00 [+0.00, +0.00] nats a target token and +0.1 BLEU, p = 0.9)."
    )
    more = ("Ticket", "partial", likely(6.0), 0.1, 0.9)
    (said,) = (n for n in notes.notes(judged(base, stop, more)) if "stop sequence" in n)
    assert "by BLEU (raw) it is not clearly better" in said and said.endswith(
        "; by likelihood it is (+1.20 [+1.20, +1.20] nats a target token)."
    )
    assert not [
        n for n in notes.notes(judged(base, stop, ("Ticket", "partial", likely(6.0), 5.0, 0.001))) if "stop" in n
    ]
    assert not [n for n in notes.notes(judged(base, stop, ("Random", "random", likely(12.0), 0.1, 0.9))) if "stop" in n]


def test_of_what_there_is_no_likelihood_is_said_and_why():
    made = judged(
        ("Base", "base", likely(12.0, None), None, None),
        ("A", "rows", None, None, None),
        ("B", "rows", None, None, None),
    )
    said = notes.notes(made)
    assert "No likelihood of A and B: It is too long." in said
    assert any(n.startswith("The likelihood of Base cannot be parted") for n in said)
    frame = comparison.table(made).set_index("arm")
    assert frame.nats["Base"] > 0 and frame.nats.isna()["A"] and frame.end_nats.isna().all() and frame.gain.isna().all()


def test_a_sweep_is_told_to_be_no_ground_for_a_claim():
    made = judged(("Base", "base", likely(12.0), None, None))
    assert notes.CHOSEN not in notes.notes(made) and notes.CHOSEN in notes.notes({**made, "sweep": [{"alpha": 0.1}]})


def test_without_the_base_there_is_no_gain_over_it():
    made = judged(("Given", "tuned", likely(8.0), None, None), ("T", "partial", likely(4.0), None, None))
    assert list(made["likelihood"]["gains"]) == ["Given"] and comparison.base_of(made) == ""
    assert comparison.table(made).gain.isna().all(), "a gain over Embed Tuning would stand under the base's name"
    assert not [n for n in notes.notes(made) if "gain over the base" in n]


def test_the_table_has_likelihoods_with_their_intervals():
    made = judged(
        ("Base", "base", likely(12.0, 8.0), None, None),
        ("Given", "tuned", likely(4.0), 1.0, 0.5),
        ("T", "partial", likely(8.0), 1.0, 0.5),
    )
    frame = comparison.table(made).set_index("arm")
    assert frame.nats["T"] == pytest.approx(10.195 / 5) and frame.nats_low["T"] < frame.nats["T"] < frame.nats_high["T"]
    assert frame.gain["T"] == pytest.approx(2) and frame.of_whole["T"] == pytest.approx(10 / 14)
    assert frame.end_share["T"] == pytest.approx(0.6) and frame.gain_end["T"] + frame.gain_content[
        "T"
    ] == pytest.approx(2)
    assert frame.nats_from_end["T"] + frame.nats_from_content["T"] == pytest.approx(frame.nats["T"])
    assert frame["nats Holm p against Base"]["T"] < 0.01 and frame.gain.isna()["Base"]
    assert (frame.stop_rate == 1).all() and (frame.stop_low < 0.5).all() and (frame.stop_high == 1).all(), (
        "of three answers"
    )
    figure = tuning_figures.nats_chart(comparison.table(made))
    assert [t.name for t in figure.data][:2] == ["content", "end token"] and list(figure.data[0].y) == [
        "Base",
        "Given",
        "T",
    ]
    assert figure.data[0].x[2] + figure.data[1].x[2] == pytest.approx(frame.nats["T"]) and "T 2.04" in drawing.alt(
        figure
    )
    points = [{"alpha": a, "rows": n, "likelihood": likely(c)} for a, n, c in ((0.01, 3, 9.0), (0.1, 9, 6.0))]
    figure = tuning_figures.sweep_chart(points, "nats", "")
    assert list(figure.data[0].y) == pytest.approx([11.195 / 5, 8.195 / 5])
    lines = table_lines(made)
    assert lines[0].startswith("| arm | nats a target token |") and "of Given's gain" in lines[0]
    assert any(line.startswith("alpha 0.1: 9 rows transferred, 1.639 [1.6") for line in table_lines({**made, "sweep": [
        {**point, "evaluation": None} for point in points]}))  # fmt: skip
    assert any(line.startswith("| T | 2.039 [") and "60% [60, 60]" in line for line in lines)
