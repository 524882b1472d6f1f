"""The verdict of made-up runs, read in full: a clear gain, none, a loss, a share above 100%, and one seed only.

Their answers are made of the references: so many of a reference's eight words are right, and the model ends or writes on.
"""

import pytest

from helpers.made_run import MadeRun
from ks_core.audit import verdict
from ks_core.audit.control_sentences import decoded
from ks_core.audit.gains import gains
from ks_core.tuning.arms import Arm

BALANCE = "4 pairs: the ticket's rows occur 90 times in the text, the others 88 times; within a pair the more frequent one 1.05 times as often in the median, 1.2 at worst"


@pytest.fixture
def read(tmp_path):
    """A function that makes a run of (arm, right words, whether it ends, what else is known), and gives its verdict."""

    def said(*arms):
        run = MadeRun(tmp_path, arms)
        found = gains(run)
        asked = verdict.Asked(found, "short", decoded(1, 48))
        findings, _ = verdict.findings(asked, {}, None, None)
        return verdict.headline(found, None), [f.sentence for f in findings]

    return said


def rows(count, inside, **more):
    return {"rows": list(range(count)), "in_ticket": inside, "ticket_size": 6, **more}


def test_a_clear_gain(read):
    headline, sentences = read(
        (Arm("base"), 3, False, {}), (Arm("transfer"), 6, True, rows(6, 6)), (Arm("partial"), 7, True, rows(6, 6)),
        (Arm("rows", tokens=(1,), label="Row ⏎"), 5, True, rows(1, 1)),
        (Arm("paired"), 6, True, rows(4, 4, balance={"sentence": BALANCE})),
        (Arm("paired", seed=1), 5, True, rows(4, 4, balance={"sentence": BALANCE})),
        (Arm("partners"), 4, True, rows(4, 0, balance={"sentence": BALANCE})),
        (Arm("partners", seed=1), 5, False, rows(4, 0, balance={"sentence": BALANCE})),
        (Arm("frequent"), 6, True, rows(6, 4)), (Arm("frequent-only", copied=True), 4, True, rows(2, 0)),
    )  # fmt: skip
    assert headline == (
        "The trained ticket (Partial Tuning) gains +38.9 [34.4, 43.4] chrF at the first line; of its raw gain remain there 83% [78%, 87%] in chrF and 79% [71%, 86%] in BLEU (the base's BLEU rests on 6 sentences, its own on 20); one row alone gives 66% [59%, 75%] of that; as many of the most frequent rows give 68% [63%, 71%] of that (4 of those 6 rows are ticket rows)."
    )
    assert sentences == [
        "Partial Tuning, under the prompt Short (the demo's), greedy, 48 tokens at most: in chrF, of the raw gain (+47.0 [44.2, 49.8]) 83% [78%, 87%] remains at the first line: the other 17% [13%, 22%] is stopping; in BLEU, of the raw gain (+64.1 [62.8, 65.5]) 79% [71%, 86%] remains at the first line: the other 21% [14%, 29%] is stopping. It ends 100% of its answers.",
        "The base's BLEU rests on 6 and the ticket's on 20 of 20 sentences, those whose answer has four words in a row as the reference has them (first line); chrF is the figure to read.",
        "Training one structural row alone gives 66% [59%, 75%] of the gain in chrF (first line) of the trained ticket (Partial Tuning, +38.9 [34.4, 43.4]); 1 of those 1 rows is a ticket row.",
        "The ticket's rows that have a partner, trained, give 100% [89%, 113%] and 35% [26%, 42%] of the gain in chrF (first line) of the trained ticket (Partial Tuning, +38.9 [34.4, 43.4]); 2 seeds, in their order; 4 of those 4 rows are ticket rows.",
        f"Their partners, random rows trained about as often, give 33% [30%, 38%] and 195% [150%, 276%] of the gain in chrF (first line) of those ticket rows (the arm with partners, +38.9 [34.5, 43.2] and +13.5 [8.9, 18.1]); 2 seeds, in their order; 0 of those 4 rows are ticket rows; {BALANCE}.",
        "The most frequent rows give 68% [63%, 71%] of the gain in chrF (first line) of the trained ticket (Partial Tuning, +38.9 [34.4, 43.4]); 4 of those 6 rows are ticket rows.",
        "Copied, the most frequent rows that are not the ticket's give 33% [30%, 38%] of the gain in chrF (first line) of the copied ticket (Partial Transfer, +38.9 [34.5, 43.2]); 0 of those 2 rows are ticket rows.",
        "Every interval is over sentences alone; training seeds can vary by more than it says. Over the seeds here: Ticket rows with a partner +13.5 to +38.9 chrF, ending 100% to 100% of answers; Their partners +13.0 to +26.3 chrF, ending 0% to 100% of answers.",
    ]  # fmt: skip


def test_no_gain(read):
    headline, sentences = read(
        (Arm("base"), 4, True, {}), (Arm("partial"), (4, 5, 3), True, rows(6, 6)), (Arm("random"), 5, True, rows(6, 0)),
    )  # fmt: skip
    assert headline == (
        "At the first line the trained ticket (Partial Tuning) has no gain in chrF that is clear of chance (+1.2 [-7.9, 10.2])."
    )
    assert sentences == [
        "Partial Tuning, under the prompt Short (the demo's), greedy, 48 tokens at most: in chrF, no raw gain that is clear of chance (+1.2 [-7.9, 10.2]); in BLEU, no raw gain that is clear of chance (+1.8 [-11.1, 14.0]). It ends 100% of its answers.",
        "The base's BLEU rests on 13 and the ticket's on 7 of 20 sentences, those whose answer has four words in a row as the reference has them (first line); chrF is the figure to read.",
        "Random rows give +0.5 [-4.0, 5.0] chrF (first line). The trained ticket (Partial Tuning) has no gain in chrF that is clear of chance (+1.2 [-7.9, 10.2]), so this is no share of a gain; one seed, and others can differ; 0 of those 6 rows are ticket rows.",
        "Every interval is over sentences alone; training seeds can vary by more than it says.",
    ]  # fmt: skip


def test_a_loss(read):
    headline, sentences = read(
        (Arm("base"), 6, True, {}), (Arm("partial"), 2, True, rows(6, 6)), (Arm("random"), 4, True, rows(6, 0)),
    )  # fmt: skip
    assert headline == ("At the first line the trained ticket (Partial Tuning) loses chrF (-50.6 [-55.2, -45.9]).")
    assert sentences == [
        "Partial Tuning, under the prompt Short (the demo's), greedy, 48 tokens at most: in chrF, a loss (-50.6 [-55.2, -45.9] raw), so there is no gain to ask of; in BLEU, a loss (-61.5 [-67.2, -56.3] raw), so there is no gain to ask of. It ends 100% of its answers.",
        "The base's BLEU rests on 20 and the ticket's on 0 of 20 sentences, those whose answer has four words in a row as the reference has them (first line); chrF is the figure to read.",
        "Random rows give -37.6 [-42.1, -33.1] chrF (first line). The trained ticket (Partial Tuning) loses chrF (-50.6 [-55.2, -45.9]), so this is no share of a gain; one seed, and others can differ; 0 of those 6 rows are ticket rows.",
        "Every interval is over sentences alone; training seeds can vary by more than it says.",
    ]  # fmt: skip


def test_a_share_above_all_of_it(read):
    """The base ends its answers, the ticket translates better and writes on: it gains more at the first line than raw."""
    headline, sentences = read(
        (Arm("base"), 4, True, {}), (Arm("partial"), 8, (True, True, True, False), rows(6, 6)),
        (Arm("frequent"), 3, True, rows(6, 4)), (Arm("prompt"), 8, True, rows(2, 1)),
    )  # fmt: skip
    assert headline == (
        "The trained ticket (Partial Tuning) gains +46.3 [43.6, 48.9] chrF at the first line; of its raw gain remain there 359% [131%, 1636%] in BLEU and 130% [110%, 160%] in chrF, so none of it is stopping; as many of the most frequent rows give a loss of 25.6 [21.1, 30.2] (4 of those 6 rows are ticket rows)."
    )
    assert sentences == [
        "Partial Tuning, under the prompt Short (the demo's), greedy, 48 tokens at most: in BLEU, of the raw gain (+16.9 [3.0, 40.7]) 359% [131%, 1636%] remains at the first line: none of the gain is stopping; in chrF, of the raw gain (+35.7 [28.6, 43.0]) 130% [110%, 160%] remains at the first line: none of the gain is stopping. It ends 75% of its answers.",
        "The most frequent rows give a loss of 25.6 [21.1, 30.2] against the gain in chrF (first line) of the trained ticket (Partial Tuning, +46.3 [43.6, 48.9]); 4 of those 6 rows are ticket rows.",
        "The prompt's own rows give 100% [100%, 100%] of the gain in chrF (first line) of the trained ticket (Partial Tuning, +46.3 [43.6, 48.9]); 1 of those 2 rows is a ticket row.",
        "Every interval is over sentences alone; training seeds can vary by more than it says.",
    ]  # fmt: skip


def test_one_seed_only(read):
    headline, sentences = read(
        (Arm("base"), 4, False, {}), (Arm("transfer"), 6, True, rows(6, 6)), (Arm("random"), 5, True, rows(6, 0)),
    )  # fmt: skip
    assert headline == (
        "The copied ticket (Partial Transfer) gains +25.9 [21.5, 30.3] chrF at the first line; of its raw gain remain there 57% [49%, 65%] in BLEU and 66% [60%, 72%] in chrF."
    )
    assert sentences == [
        "Partial Transfer, under the prompt Short (the demo's), greedy, 48 tokens at most: in BLEU, of the raw gain (+60.5 [55.2, 65.9]) 57% [49%, 65%] remains at the first line: the other 43% [35%, 51%] is stopping; in chrF, of the raw gain (+39.1 [35.5, 43.0]) 66% [60%, 72%] remains at the first line: the other 34% [28%, 40%] is stopping. It ends 100% of its answers.",
        "Random rows give 2% [-18%, 18%] of the gain in chrF (first line) of the copied ticket (Partial Transfer, +25.9 [21.5, 30.3]); one seed, and others can differ; 0 of those 6 rows are ticket rows.",
        "Every interval is over sentences alone; training seeds can vary by more than it says.",
    ]  # fmt: skip


def by_likelihood(tmp_path, *arms):
    """The verdict of a run that has no answers: (arm, nats of content, nats of the end, what else is known)."""
    made = [(arm, 3, True, facts) for arm, _, _, facts in arms]
    found = gains(MadeRun(tmp_path, made, nats=[(content, end) for _, content, end, _ in arms]))
    findings, _ = verdict.findings(verdict.Asked(found, "short", decoded(1, 48)), {}, None, None)
    return found, verdict.headline(found, None), [f.sentence for f in findings]


def test_a_clear_gain_by_likelihood(tmp_path):
    """Nine tokens a reference. The ticket gains 18 nats of them, 9 in the end; frequent rows as much; a stop sequence 6 for nothing."""
    found, headline, sentences = by_likelihood(
        tmp_path, (Arm("base"), 24.0, 12.0, {}), (Arm("transfer"), 15.0, 3.0, rows(6, 6)), (Arm("partial"), 19.5, 7.5, rows(6, 6)),
        (Arm("paired", copied=True), 19.5, 7.5, rows(4, 4, balance={"sentence": BALANCE})),
        (Arm("partners", copied=True), 24.0, 9.0, rows(4, 0, balance={"sentence": BALANCE})),
        (Arm("random", copied=True), 24.6, 12.0, rows(6, 0)), (Arm("frequent"), 15.0, 3.0, rows(6, 4)), (Arm("stop"), 24.0, 6.0, {}),
    )  # fmt: skip
    assert headline == (
        "The trained ticket (Partial Tuning) gains +1.00 [0.96, 1.04] nats a target token; of that 50% [50%, 50%] is the end token's, which is learning to stop; as many of the most frequent rows give 201% [193%, 209%] of that gain (4 of those 6 rows are ticket rows)."
    )
    assert sentences == [
        "Partial Tuning, under the prompt Short (the demo's), by the likelihood of 20 references: of its gain (+1.00 [0.96, 1.04] nats a target token) 50% [50%, 50%] is the end token's, which is learning to stop, and 50% [50%, 50%] the content's.",
        "Over the base with a forced stop at the first line break Partial Tuning gains +0.34 [0.30, 0.38] nats a target token (+0.50 [0.48, 0.52] of it in the content).",
        "The base with a forced stop at the first line break, nothing trained, gives 66% [63%, 70%] (end token 67%, content 0%) of the gain in likelihood of the trained ticket (Partial Tuning, +1.00 [0.96, 1.04]).",
        "Copied, the ticket's rows that have a partner give 50% [49%, 51%] (end token 25%, content 25%) of the gain in likelihood of the copied ticket (Partial Transfer, +1.99 [1.95, 2.03]); one seed, and others can differ; 4 of those 4 rows are ticket rows.",
        f"Copied, their partners, random rows trained about as often, give 33% [29%, 37%] (end token 33%, content 0%) of the gain in likelihood of those ticket rows (the arm with partners, +1.00 [1.00, 1.00]); one seed, and others can differ; 0 of those 4 rows are ticket rows; {BALANCE}.",
        "Copied, random rows give a loss of 0.07 [0.03, 0.11] (end token 0%, content -3%) against the gain in likelihood of the copied ticket (Partial Transfer, +1.99 [1.95, 2.03]); one seed, and others can differ; 0 of those 6 rows are ticket rows.",
        "The most frequent rows give 201% [193%, 209%] (end token 100%, content 100%) of the gain in likelihood of the trained ticket (Partial Tuning, +1.00 [0.96, 1.04]); 4 of those 6 rows are ticket rows.",
        "Every interval is over sentences alone; training seeds can vary by more than it says.",
    ]  # fmt: skip
    partners = next(g for g in found if g.kind == "partners")
    assert partners.nats["all"].value == pytest.approx(1 / 3, abs=0.01) and partners.of == "paired"


def test_a_ticket_that_only_teaches_to_stop_is_found_out(tmp_path):
    """The end alone: of its gain nothing is the content's, and a stop sequence does as much."""
    found, headline, sentences = by_likelihood(
        tmp_path, (Arm("base"), 24.0, 12.0, {}), (Arm("partial"), 24.0, 3.0, rows(6, 6)), (Arm("stop"), 24.0, 2.9, {}),
    )  # fmt: skip
    (ticket,) = (g for g in found if g.kind == "partial")
    assert ticket.own["content"].value == pytest.approx(0, abs=0.05) and ticket.own["end"].value == pytest.approx(
        1, abs=0.05
    )
    assert "The content gains nothing that is clear of chance" in sentences[0]
    assert sentences[1].endswith("not clearly more, so by this it does what a stop sequence does.")
    assert headline.startswith("The ticket does no more than a stop sequence does; ")


def test_a_loss_and_no_gain_by_likelihood(tmp_path):
    _, headline, sentences = by_likelihood(
        tmp_path, (Arm("base"), 15.0, 3.0, {}), (Arm("partial"), 24.0, 12.0, rows(6, 6)), (Arm("random"), 15.0, 3.0, rows(6, 0)),
    )  # fmt: skip
    assert (
        headline == "The trained ticket (Partial Tuning) loses likelihood (-2.01 [-2.05, -1.97] nats a target token)."
    )
    assert sentences[0].endswith("a loss (-2.01 [-2.05, -1.97] nats a target token), so there is no gain to ask of.")
    assert "so this is no share of a gain" in sentences[1] and "%" not in sentences[1]
