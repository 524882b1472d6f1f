"""A run's table, its figures, and what is marked in a translation."""

import doctest
import json

import pytest
from hypothesis import given, strategies as st

from ks_core import drawing
from ks_core.commands.tune import table_lines
from ks_core.translation.extraction import EXTRACTION_RULES
from ks_core.translation.generation import Generation
from ks_core.translation.scores import compare, evaluate
from ks_core.tuning import comparison, figures as tuning_figures

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
    assert comparison.notes(summary) == [comparison.OVER_SENTENCES]
    balanced = {"balance": {"sentence": "2 pairs: equal"}, "in_ticket": 0}
    arms = [
        summary["arms"][0], trained("Embed Tuning", "embed", 300), trained("Random rows", "random", 80),
        {**trained("Random rows, seed 1", "random", 80, 1), "evaluation": summary["arms"][0]["evaluation"]},
        trained("Their partners", "partners", 80, **balanced), trained("Copied", "both", None),
    ]  # fmt: skip
    made = {**summary, "arms": arms}
    spread, lengths, balance = comparison.notes(made)
    assert "Over the seeds here: Random rows 100.0 to 100.0 chrF (first line), ending 0% to 100% of answers." in spread
    assert lengths == (
        "Not trained for as long: 300 steps (Embed Tuning) against 80 steps (Random rows, Random rows, seed 1, Their partners)."
    )
    assert balance == "Their partners: 2 pairs: equal."
    frame = comparison.table(made).set_index("arm")
    assert frame.steps["Embed Tuning"] == 300 and frame.in_ticket["Their partners"] == 0
    lines = table_lines(made)
    assert [f"note: {note}" for note in comparison.notes(made)] == [line for line in lines if line.startswith("note")]
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
