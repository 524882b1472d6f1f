"""What is said of gating, prompts and strength, by likelihood and by answers: shares where there is a gain, and else that there is none."""

import doctest
from dataclasses import asdict

import numpy as np
import pytest

from ks_core.audit import control_sentences, figures, sentences
from ks_core.audit.writing import figures as written_figures, sentences as written
from ks_core.drawing import alt
from ks_core.translation.shares import share

DRAWS = np.linspace(-1, 1, 101)


def draws(value, spread):
    return np.array([value, *(value + spread * DRAWS)])


def shared(part, whole):
    return {"first_line": {"chrf": asdict(share(part, whole))}}


def gates(whole, source):
    runs = [
        ("none", np.zeros(102)),
        ("instruction_head", whole / 2),
        ("source", source),
        ("target", whole * 0),
        ("all", whole),
    ]
    return {"runs": [{"name": n, "acting": float(n != "target"), "recovery": shared(part, whole)} for n, part in runs]}


def test_a_gain_of_the_copied_ticket_has_shares_with_intervals():
    said = written.gating(gates(draws(10, 2), draws(-3, 2)))
    assert said == (
        "Acting in one part of the sequence alone the copied ticket (Partial Transfer) recovers, of its gain in chrF (+10.0 [8.1, 11.9]): "
        "the instruction's head 50% [50%, 50%], the source a loss of 3.0 [1.1, 4.9], the answer none (its tokens do not occur there)."
    )
    figure = written_figures.recovery_bars(gates(draws(10, 2), draws(-3, 1)))
    assert "instruction head 50% [50%, 50%]" in alt(figure) and figure.data[0].y[0] == 0.5


@pytest.mark.parametrize(("whole", "says"), [
    (draws(0.3, 2), "has no gain in chrF that is clear of chance (+0.3 [-1.6, 2.2])"),
    (draws(-6, 2), "loses chrF (-6.0 [-7.9, -4.1])"),
])  # fmt: skip
def test_what_is_no_gain_has_no_shares(whole, says):
    panel = gates(whole, draws(1.2, 0.1))
    said = written.gating(panel)
    assert f"The copied ticket (Partial Transfer) {says}" in said and "%" not in said
    figure = written_figures.recovery_bars(panel)
    assert "%" not in alt(figure) and figure.data[0].y[0] == pytest.approx(whole[0] / 2)
    runs = [
        {"name": n, "trained": n == "short", "kept": shared(part, whole)}
        for n, part in (("short", whole), ("alpaca", whole * 2))
    ]
    said = written.transfer({"runs": runs})
    assert says in said and "%" not in said and "Alpaca frame" in said


def test_other_prompts_keep_shares_with_intervals():
    runs = [
        {"name": n, "trained": n == "short", "kept": shared(part, draws(10, 2))}
        for n, part in (("short", draws(10, 2)), ("paper", draws(5, 1)), ("alpaca", draws(-0.5, 1)))
    ]
    assert written.transfer({"runs": runs}) == (
        "Under other prompts the copied ticket (Partial Transfer) keeps, of its gain in chrF (+10.0 [8.1, 11.9]): "
        "The replication's wording 50% [50%, 50%], Alpaca frame none that is clear of chance [-18%, 4%]."
    )


def strength(chosen, part="development"):
    def point(a, value):
        score = {"value": value, "low": value - 2, "high": value + 2}
        return {"rows": "ticket", "strength": a, "evaluation": {"scores": {"first_line": {"chrf": score}}}}

    return {
        "points": [point(a, 20 + a) for a in (0.0, 0.5, 1.0, 1.5)], "settings": {"part": part, "sentences": 64}, "chosen": chosen,
        "claimed": [point(a, 19 + a) for a in dict.fromkeys((0.0, 1.0, chosen))], "claim_settings": {"part": "test", "sentences": 60},
        "over_one": shared(draws(0.5, 2), draws(5, 1)),
    }  # fmt: skip


def test_the_best_strength_is_chosen_on_development_sentences_and_claimed_on_the_tests():
    assert written.strength(strength(1.5)) == (
        "The copied ticket (Partial Transfer), at 4 strengths from 0 to 1.5 times its change, answers best at 1.5 on 64 development "
        "sentences; on 60 test sentences that scores chrF 20.5 [18.5, 22.5], against 20.0 [18.0, 22.0] at 1 (a difference of +0.5 [-1.4, 2.4])."
    )
    assert written.strength(strength(1.0)).endswith(
        "scores chrF 20.0 [18.0, 22.0], against 19.0 [17.0, 21.0] of the base."
    )
    assert "a maximum over 4 on the same 64 sentences" in written.strength(strength(1.5, part="test"))


def nats(part, whole, end=0.6):
    """A reading that gains so much, of which a part is the end token's."""
    return {
        "nats": {name: asdict(share(part * of, whole)) for name, of in (("all", 1), ("end", end), ("content", 1 - end))},
        "read": {"nats_all": 3 - part[0], "nats_end": 8 - part[0], "nats_content": 2 - part[0]},
    }  # fmt: skip


def read_gates(whole, source):
    runs = [
        ("none", whole * 0),
        ("instruction_head", whole / 2),
        ("source", source),
        ("target", whole * 0),
        ("all", whole),
    ]
    return {"runs": [{"name": n, "acting": float(n != "target"), **nats(part, whole)} for n, part in runs]}


def test_by_likelihood_a_part_of_the_sequence_has_a_share_with_its_end_token():
    panel = read_gates(draws(1, 0.2), draws(-0.3, 0.2))
    assert sentences.gating(panel) == (
        "Acting in one part of the sequence alone the copied ticket (Partial Transfer) recovers, of its gain in likelihood (+1.00 [0.81, "
        "1.19] nats a target token, of which end token +0.60 [0.49, 0.71] and content +0.40 [0.32, 0.48]): the instruction's head 50% "
        "[50%, 50%] (end token 30%, content 20%), the source a loss of 0.30 [0.11, 0.49] (end token -18%, content -12%), the answer none "
        "(its tokens do not occur there)."
    )
    figure = figures.gate_bars(panel)
    assert "instruction head 50% [50%, 50%] (end token 30%, content 20%)" in alt(figure)
    bars = {bar.name: bar.y[0] for bar in figure.data if bar.type == "bar"}
    assert bars == {"the content": pytest.approx(0.2), "the end token": pytest.approx(0.3)}


@pytest.mark.parametrize(("whole", "says"), [
    (draws(0.03, 0.2), "has no gain in likelihood that is clear of chance (+0.03 [-0.16, 0.22] nats a target token)"),
    (draws(-0.6, 0.2), "loses likelihood (-0.60 [-0.79, -0.41] nats a target token)"),
])  # fmt: skip
def test_by_likelihood_what_is_no_gain_has_no_shares(whole, says):
    panel = read_gates(whole, draws(0.12, 0.01))
    said = sentences.gating(panel)
    assert f"The copied ticket (Partial Transfer) {says}" in said and "%" not in said
    assert "%" not in alt(figures.gate_bars(panel))
    runs = [
        {"name": n, "trained": n == "short", "tuned": nats(part, whole), "base": nats(part * 0, whole)}
        for n, part in (("short", whole), ("alpaca", whole * 2))
    ]
    said = sentences.transfer({"runs": runs, "left": {}})
    assert says in said and "%" not in said and "Alpaca frame" in said


def test_by_likelihood_other_prompts_keep_shares_and_one_that_was_left_out_is_named():
    runs = [
        {"name": n, "trained": n == "short", "tuned": nats(part, draws(1, 0.2)), "base": nats(part * 0, part)}
        for n, part in (("short", draws(1, 0.2)), ("paper", draws(0.5, 0.1)), ("alpaca", draws(-0.05, 0.1)))
    ]
    panel = {"runs": runs, "left": {"labels": "It is too long."}}
    assert sentences.transfer(panel) == (
        "Under other prompts the copied ticket (Partial Transfer) keeps, of its gain in likelihood (+1.00 [0.81, 1.19] nats a target token, "
        "of which end token +0.60 [0.49, 0.71] and content +0.40 [0.32, 0.48]): The replication's wording 50% [50%, 50%] (end token 30%, "
        "content 20%), Alpaca frame none that is clear of chance [-18%, 4%] (end token -3%, content -2%). labels was left out: It is too long."
    )
    assert "(base 3.00)" in alt(figures.prompt_bars(panel))


def test_by_likelihood_a_strength_is_chosen_on_development_references_and_claimed_of_the_tests():
    def panel(chosen, part="development"):
        return {
            "points": [{"rows": "ticket", "strength": a, "count": 3, **nats(draws(a, 0.1), draws(1, 0.1))} for a in (0.0, 0.5, 1.0, 1.5)],
            "settings": {"part": part, "sentences": 64}, "claim_settings": {"part": "test", "sentences": 60}, "chosen": chosen,
            "claimed": [
                {"rows": "ticket", "strength": a, **nats(draws(a, 0.1), draws(1, 0.1))} for a in dict.fromkeys((0.0, 1.0, chosen))
            ],
            "over_one": nats(draws(0.05, 0.2), draws(1, 0.1))["nats"],
        }  # fmt: skip

    assert sentences.strength(panel(1.5)) == (
        "The copied ticket (Partial Transfer), at 4 strengths from 0 to 1.5 times its change, makes 64 development references most likely at "
        "1.5; on 60 test references that gains +1.50 [1.40, 1.60] nats a target token, of which end token +0.90 [0.84, 0.96] and content "
        "+0.60 [0.56, 0.64], over the base, against +1.00 [0.91, 1.10] at 1 (a difference of +0.05 [-0.14, 0.24])."
    )
    assert sentences.strength(panel(1.0)).endswith("and content +0.40 [0.36, 0.44], over the base.")
    assert "a maximum over 4 on the same 64 references" in sentences.strength(panel(1.5, part="test"))
    assert "ticket 1.50 at its best, 1.5" in alt(figures.nats_curves(panel(1.5)))


def test_a_loss_is_no_whole_and_a_share_has_bounds_only_of_a_clear_gain():
    loss = share(draws(-3, 1), draws(-6, 1))
    assert (loss.low, loss.high) == (None, None) and loss.whole_high < 0
    assert share(draws(5, 1), draws(10, 1)).low is not None and share(draws(5, 1), draws(0.5, 1)).low is None


def test_doctests():
    assert doctest.testmod(sentences).failed == doctest.testmod(control_sentences).failed == 0
