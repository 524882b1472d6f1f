"""What the ledger's answer says of a ticket: every sentence, when it counts against the ticket, and that this stands first."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from helpers.tiny_text import PROMPT
from ks_core.audit import account, verdict, waterfall
from ks_core.audit.account import Account
from ks_core.audit.inquiry import Audit
from ks_core.drawing import alt
from ks_core.ledger.inquiry import Inquiry
from ks_core.likelihood.nats import Likelihood
from ks_core.translation.shares import share

DRAWS = np.linspace(-0.1, 0.1, 101)


def shared(part, whole):
    """A share of a gain, whose interval is a tenth of it to either side."""
    return asdict(share(part * np.array([1, *(1 + DRAWS)]), whole * np.array([1, *(1 + DRAWS)])))


def row(rule, k, kept, end=0.6):
    """The k first rows of a rule keep so much of a gain of 2 nats."""
    return {
        "rule": rule, "k": k, "share": shared(2 * kept, 2.0), "end_share": shared(2 * kept * end, 2 * kept),
        "content_share": shared(2 * kept * (1 - end), 2 * kept),
    }  # fmt: skip


def difference(second, k, value, holm):
    return {
        "first": "d",
        "second": second,
        "k": k,
        "value": value,
        "low": value - 0.1,
        "high": value + 0.1,
        "holm": holm,
    }


NULL = {
    "draws": 19, "rows": 3000, "winners": 100, "noise_winners": [104, 116.0, 126], "shared": [70, 75.2, 80], "beyond": 160,
    "beyond_of_winners": 16, "expected_of_ticket": 7.0, "expected_beyond": 150.0,
}  # fmt: skip


def answer(**more):
    """An answer in which nothing speaks against the ticket; ``more`` is put in its place."""
    return {
        "changed": 3000, "sentences": 77, "sizes": [5, 100], "base": {"nats_all": 3.5}, "tuned": {"nats_all": 1.5},
        "whole": {"all": shared(2, 2), "end": shared(0.8, 2), "content": shared(1.2, 2)},
        "rules": [row("d", 5, 0.3, 0.4), row("d", 100, 0.8, 0.4), row("steps", 5, 0.2), row("steps", 100, 0.6),
                  row("attribution", 5, 0.4), row("attribution", 100, 0.7), row("random", 100, 0.9)],
        "differences": [difference("steps", 5, 0.1, 0.2), difference("steps", 100, 0.2, 0.01), difference("random", 100, -0.1, 0.01)],
        "sentence": "KS does better.", "left": {}, "signature": "s", "notes": [],
        "null": {**NULL, "noise_winners": [2, 5.0, 9], "beyond_of_winners": 90, "shared": [1, 2.0, 3]}, **more,
    }  # fmt: skip


def told(**more):
    return Account(answer(**more), "j", 100, "d")


def test_a_ticket_that_holds_is_told_of_in_the_order_of_the_questions():
    assert told().sentences == [
        "Copied into the base, all 3,000 changed rows gain +2.00 [1.81, 2.19] nats a target token on 77 references: 40% [40%, 40%] of it is "
        "the end token's, which is learning to stop, and 60% [60%, 60%] the content's.",
        "The ticket's 100 rows, copied, keep 80% [80%, 80%] of what all changed rows gain; 40% [40%, 40%] of what they keep is the end token's.",
        "By attribution, which finds on development references the rows that carry the gain, no fewer rows of the sizes compared keep as "
        "much as the ticket's 100 (kept: 5 rows 40% [40%, 40%] and 100 rows 70% [70%, 70%]).",
        "The same rows trained on noise at the same steps: 5 have p < 0.05 (2 to 9 in 19 draws), where the training has 100, and 2 are the "
        "same. At their own exposure 90 of these 100 go beyond 95% of noise; of as many rows of largest D of a training on noise 7 would.",
        "KS does better. With 100 rows, as many as the ticket has, Steps keeps most of the rules without a test, the best of them on these "
        "very sentences: 60% [60%, 60%], D 80% [80%, 80%], a clear difference.",
    ]  # fmt: skip
    assert not any(one.against for one in told().said)
    assert told().headline == [
        "the ticket's 100 rows keep 80% [80%, 80%] of the tuned model's gain in likelihood, and 40% [40%, 40%] of what they keep is the "
        "end token's"
    ]  # fmt: skip


UNFLATTERING = {
    "the gain is stopping": (
        {"whole": {"all": shared(2, 2), "end": shared(1.8, 2), "content": shared(0.2, 2)}},
        "90% [90%, 90%] of it is the end token's, which is learning to stop, and 10% [10%, 10%] the content's.", "",
    ),
    "the ticket teaches to stop": (
        {"rules": [*answer()["rules"][:1], row("d", 100, 0.8, 0.7), *answer()["rules"][2:]]},
        "70% [70%, 70%] of what they keep is the end token's, which is learning to stop.", "70% [70%, 70%] of what they keep",
    ),
    "fewer rows do": (
        {"rules": [*answer()["rules"][:4], row("attribution", 5, 0.8), row("attribution", 100, 0.9)]},
        "5 rows keep no less than the ticket's 100 (kept: 5 rows 80% [80%, 80%] and 100 rows 90% [90%, 90%]).",
        "5 rows of largest attribution keep no less",
    ),
    "noise does": ({"null": NULL}, "116 have p < 0.05 (104 to 126 in 19 draws), where the training has 100", "trained on noise 116 rows"),
    "noise leaves few": (
        {"null": {**answer()["null"], "beyond_of_winners": 49}}, "49 of these 100 go beyond 95% of noise", "trained on noise 5 rows",
    ),
    "a simple rule does better": (
        {"differences": [difference("steps", 5, -0.1, 0.01)], "sentence": "KS is not the reason."}, "KS is not the reason.",
        "KS is not the reason: 5 rows by Steps keep 20% [20%, 20%] of the gain, by D 30% [30%, 30%]",
    ),
    "it is worse than all rows": (
        {"as_good": [{"own": "5 rows", "answer": "no", "sentence": "Do five?"}, {"own": "the ticket (100 rows)", "answer": "no", "sentence": "Does it? No."}, {"own": "the ticket (100 rows)", "answer": "not decided", "sentence": "Open."}]}, "Does it? No.", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNFLATTERING)
def test_what_counts_against_the_ticket_stands_first(case):
    more, sentence, short = UNFLATTERING[case]
    found = told(**more)
    assert [one.against for one in found.said] == [True, *[False] * (len(found.said) - 1)], case
    assert sentence in found.sentences[0] and (not short or short in found.headline[0])
    assert verdict.headline(None, None, found).lower().startswith(found.headline[0].lower())
    said, missing = verdict.findings(None, {}, None, None, account=found)
    assert (said[0].panel, said[0].sentence) == ("ledger", found.sentences[0]) and "ledger" not in missing


def test_a_clear_difference_of_chance_or_an_unclear_one_is_no_reason_against():
    """Only a rule without a test that is clearly better is, and attribution looks at the model."""
    for differences in (
        [difference("steps", 5, -0.3, 0.2)],
        [difference("random", 5, -0.3, 0.01)],
        [difference("attribution", 5, -0.3, 0.01)],
    ):
        assert not any(one.against for one in told(differences=differences).said)


def test_what_was_not_measured_is_not_said():
    found = told(null=None, left={"d-noise": "how this checkpoint was trained is not written down"})
    assert (
        "What a training on noise gives is not known: how this checkpoint was trained is not written down."
        in found.sentences
    )
    other = replace(
        told(as_good=[{"own": "the ticket (100 rows)", "answer": "no", "sentence": "The ticket's?"}]), order=""
    )
    assert not any("The ticket's" in s or "By attribution" in s for s in other.sentences) and other.ticket is None
    nothing = told(whole={"all": asdict(share(np.array([0.1, *DRAWS]), np.array([0.1, *DRAWS])))})
    assert nothing.sentences[0].startswith("Copying all 3,000 changed rows into the base has no gain in likelihood")
    _, missing = verdict.findings(None, {}, None, None)
    assert missing[0] == "ledger" and "the ledger" in verdict.as_text("", [], missing, "", "")


@pytest.fixture
def audit(tiny_pair):
    base, tuned, corpus = tiny_pair
    return Audit(base, tuned, alpha=0.2, corpus=corpus, prompt=PROMPT, budget="small", device="cpu")


class Finished:
    """A job of the ledger that nobody ran."""

    state, shipped = "done", None

    def __init__(self, name, inquiry, result):
        self.id, self.result, self.request = name, result, {"parameters": inquiry.as_dict()}


def test_the_newest_answer_about_the_pair_is_found_and_one_with_the_tickets_own_size_goes_first(audit, monkeypatch):
    scan = audit.study.scan()
    inquiry, size = account.asked(audit, scan), len(audit.positions(scan))
    assert {5, size} <= set(inquiry.sizes) and inquiry.sentences == audit.sentences and "d-noise" in inquiry.rules
    assert (inquiry.training, inquiry.singles) == (0, 0), (
        "no gradient of the training text, no row by itself: these take long"
    )
    signature = str(audit.study.signature)

    def job(name, asked=inquiry, k=size, **more):
        rules = [row("d", k, 0.8)]
        return Finished(name, asked, {**answer(rules=rules, sizes=[k]), "signature": signature, **more})

    jobs = [
        job("another prompt", replace(inquiry, prompt="short")), job("another pair", signature="base:x@1|tuned:y@2"), job("older", whole=None),
        job("another size", k=size + 1), job("own size"), job("own size, before"),
    ]  # fmt: skip
    monkeypatch.setattr("ks_core.jobs.queue.all_jobs", lambda kind: jobs)
    found = account.find(audit, scan)
    assert (found.job, found.rows, found.order, found.alpha) == ("own size", size, "d", 0.2)
    jobs[4:] = []
    assert account.find(audit, scan).job == "another size" and account.find(audit, scan).ticket is None
    jobs[3:] = []
    assert account.find(audit, scan) is None
    by_length = replace(audit, rule="l2", k=3)
    by_length.__dict__["study"] = audit.study
    assert "l2" in account.asked(by_length, scan).rules and Inquiry.from_dict(inquiry.as_dict()) == inquiry


def likelihood(content, end):
    n = 8
    return Likelihood(np.full(n, content), np.full(n, end), np.full(n, 3), np.full(n, 9)).as_dict()


def test_the_waterfall_goes_from_base_to_tuned():
    """Four tokens a reference: of 12 nats the ticket takes 4 from the content and 2 from the end, the rest 2 and 0.4."""
    arms = [
        {"kind": "base", "error": "", "likelihood": likelihood(8.0, 4.0)},
        {"kind": "transfer", "error": "", "likelihood": likelihood(4.0, 2.0), "rows": [1, 2]},
        {"kind": "tuned", "error": "", "likelihood": likelihood(2.0, 1.6)},
    ]
    found = waterfall.of_arms(arms, "run r", "s")
    assert [(s.whose, s.part) for s in found.steps] == [
        ("ticket", "end"), ("ticket", "content"), ("rest", "end"), ("rest", "content"),
    ]  # fmt: skip
    assert [s.gain for s in found.steps] == pytest.approx([0.5, 1.0, 0.1, 0.5]) and (found.base, found.tuned) == (
        3,
        pytest.approx(0.9),
    )
    assert found.sentence == (
        "From 3.00 nats a target token of the base to 0.90 of the tuned model, on 8 references (run r): the ticket's 2 rows, the end token "
        "-0.50 [-0.50, -0.50]; the ticket's 2 rows, the content -1.00 [-1.00, -1.00]; all other rows, the end token -0.10 [-0.10, -0.10]; all "
        "other rows, the content -0.50 [-0.50, -0.50]."
    )
    figure = waterfall.figure(found)
    brief = waterfall.figure(found, brief=True)  # it lies, and is the same
    for bars, length in ((figure.data, "y"), (brief.data, "x")):
        hanging = [(bar.base[0], bar.base[0] + bar[length][0]) for bar in bars]
        assert hanging == [pytest.approx(p) for p in ((0, 3), (3, 2.5), (2.5, 1.5), (1.5, 1.4), (1.4, 0.9), (0, 0.9))]
    assert alt(figure) == found.sentence and figure.data[-1].y[0] == pytest.approx(0.9)
    assert waterfall.of_arms(arms[:2], "", "") is None
    assert waterfall.of_arms([{**a, "likelihood": None} for a in arms], "", "") is None, "an older run has none"


def test_the_waterfall_of_the_ledgers_answer_is_the_same_but_for_intervals_of_the_rest():
    found = waterfall.of_account(told())
    assert [s.gain for s in found.steps] == pytest.approx([0.64, 0.96, 0.16, 0.24]) and found.tuned == pytest.approx(
        1.5
    )
    assert [s.low is None for s in found.steps] == [False, False, True, True] and found.signature == "s"
    assert waterfall.of_account(replace(told(), order="")) is None
