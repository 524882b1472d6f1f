"""The account: what the ledger's answer for a pair, text and prompt says of a ticket, in sentences.

The answer is that of the job ``rules``, as it was kept. What counts against the ticket is said first: a gain that is mostly the
end token's, fewer rows that keep as much, a training on noise that gives as large a ticket, a simple rule that keeps more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core.audit import controls
from ks_core.audit.inquiry import Audit
from ks_core.audit.sentences import NATS, in_words, is_clear, listed, nats, share_of, unclear
from ks_core.errors import KSLotteryError
from ks_core.jobs.resources import Resources
from ks_core.ledger.bakeoff import ASKED, CLEAR, SIMPLE
from ks_core.ledger.inquiry import Inquiry
from ks_core.ledger.noninferiority import NO
from ks_core.ledger.rules import RULES
from ks_core.store.shipped import Provenance
from ks_core.study.scan import Scan
from ks_core.translation.shares import Share

if TYPE_CHECKING:
    from ks_core.jobs.handle import Job

#: What an audit asks of the ledger: D, two rules without a test, the null of noise, attribution, and chance.
ASKED_RULES = (ASKED, "l2", "steps", "d-noise", "attribution", "random")
#: At these sizes beside the ticket's own.
ASKED_SIZES = (5, 18)
#: Development references for attribution, and points of its line, by the audit's budget.
DEVELOPMENT = {"small": (16, 4), "standard": (24, 4), "large": (100, 8)}


@dataclass(frozen=True)
class Said:
    """A sentence, a shorter one for the headline (empty: none), and whether it counts against the ticket."""

    sentence: str
    short: str = ""
    against: bool = False


@dataclass(frozen=True)
class Account:
    """The newest finished answer for a pair, text and prompt (``result``, of the job ``job``), and the ticket that it is asked
    about: ``rows`` of them, which are the first of the ledger's rule ``order`` (empty: of none that was compared). ``alpha`` is
    whose winners the answer counts."""

    result: Mapping[str, Any]
    job: str
    rows: int
    order: str
    alpha: float = 0.05
    #: Where the answer comes from, if it was not found here but came with the program.
    shipped: Provenance | None = None

    def row(self, rule: str, k: int) -> Mapping[str, Any] | None:
        """What the k first rows of a rule keep; ``None`` where that was not measured."""
        return next((row for row in self.result["rules"] if (row["rule"], row["k"]) == (rule, k)), None)

    def share(self, rule: str, k: int) -> Share | None:
        """The same as a share of the whole gain."""
        found = self.row(rule, k)
        return share_of(found["share"]) if found else None

    @property
    def ticket(self) -> Mapping[str, Any] | None:
        """What the ticket's own rows keep; ``None`` where they were not compared."""
        return self.row(self.order, self.rows) if self.order else None

    @property
    def whole(self) -> dict[str, Share]:
        """What all changed rows gain, by part, as shares of that gain."""
        return {part: share_of(found) for part, found in self.result["whole"].items()}

    @property
    def said(self) -> list[Said]:
        """The sentences, what counts against the ticket first."""
        found = [self._whole(), self._ticket(), self._carried(), self._noise(), self._simple(), *self._as_good()]
        return sorted((one for one in found if one), key=lambda one: not one.against)

    @property
    def worth(self) -> str:
        """What the ticket buys, in a sentence; of all changed rows, where the ticket's own were not compared or are not clear of chance."""
        return (self._ticket() or self._whole()).sentence

    @property
    def doubts(self) -> list[str]:
        """In short what counts against the ticket beside how little it buys."""
        own = self._ticket()
        return [one.short for one in self.said if one.against and one.short and not (own and one.short == own.short)]

    @property
    def sentences(self) -> list[str]:
        return [one.sentence for one in self.said]

    @property
    def headline(self) -> list[str]:
        """The short ones."""
        return [one.short for one in self.said if one.short]

    def _whole(self) -> Said:
        whole, count = self.whole, f"{self.result['changed']:,}"
        if not is_clear(whole["all"]):
            said = unclear(f"copying all {count} changed rows into the base", whole["all"], "nats")
            return Said(f"{said}, so there is no gain to ask about.", said[:1].lower() + said[1:], True)
        said = (
            f"Copied into the base, all {count} changed rows gain {nats(whole['all'])} {NATS} on {self.result['sentences']:,} references"
        )  # fmt: skip
        if "end" not in whole:
            return Said(f"{said}. The tokenizer has no end token, so what of it is stopping cannot be told.")
        return Said(
            f"{said}: {in_words(whole['end'], 2)} of it is the end token's, which is learning to stop, and "
            f"{in_words(whole['content'], 2)} the content's.",
            against=_is_above(whole["end"], 0.5),
        )

    def _ticket(self) -> Said | None:
        row = self.ticket
        if row is None or not is_clear(share := share_of(row["share"])):
            return None
        kept = in_words(share, 2)
        said = f"The ticket's {self.rows:,} rows, copied, keep {kept} of what all changed rows gain"
        short = f"the ticket's {self.rows:,} rows keep {kept} of the tuned model's gain in likelihood"
        if "end_share" not in row:
            return Said(f"{said}.", short)
        end = share_of(row["end_share"])
        if not is_clear(end):
            return Said(f"{said}. That is no gain of its own that is clear of chance.", short, True)
        stops = f"{in_words(end, 2)} of what they keep is the end token's"
        more = ", which is learning to stop" if _is_above(end, 0.5) else ""
        return Said(f"{said}; {stops}{more}.", f"{short}, and {stops}", _is_above(end, 0.5))

    def _carried(self) -> Said | None:
        """How many rows of largest attribution keep what the ticket keeps."""
        own = share_of(self.ticket["share"]) if self.ticket else None
        found = {k: share for k in self.result["sizes"] if (share := self.share("attribution", k))}
        if own is None or own.value is None or not found or not is_clear(own):
            return None
        fewer = [k for k, share in found.items() if k < self.rows and (share.value or 0) >= own.value]
        shown = listed(
            [f"{k:,} rows {in_words(share, 2)}" for k, share in found.items() if k <= max(self.rows, min(found))]
        )
        by = "By attribution, which finds on development references the rows that carry the gain,"
        if fewer:
            return Said(
                f"{by} {min(fewer):,} rows keep no less than the ticket's {self.rows:,} (kept: {shown}).",
                f"{min(fewer):,} rows of largest attribution keep no less", True,
            )  # fmt: skip
        return Said(
            f"{by} no fewer rows of the sizes compared keep as much as the ticket's {self.rows:,} (kept: {shown})."
        )

    def _noise(self) -> Said:
        null = self.result.get("null")
        if not null:
            reason = self.result["left"].get("d-noise", "no training on noise was asked for")
            return Said(f"What a training on noise gives is not known: {reason}.")
        least, mean, most = null["noise_winners"]
        winners, beyond, alpha = null["winners"], null["beyond_of_winners"], self.alpha
        expected = null.get("expected_of_ticket", null["expected_beyond"] / null["rows"] * winners)
        said = (
            f"The same rows trained on noise at the same steps: {mean:.0f} have p < {alpha:g} ({least:,} to {most:,} in {null['draws']} draws), "
            f"where the training has {winners:,}, and {null['shared'][1]:.0f} are the same. At their own exposure {beyond:,} of these "
            f"{winners:,} go beyond 95% of noise; of as many rows of largest D of a training on noise {expected:.0f} would."
        )
        as_many, few = mean >= winners, beyond * 2 < winners
        short = ""
        if as_many or few:
            short = f"trained on noise {mean:.0f} rows have p < {alpha:g}, where the training has {winners:,}"
        return Said(said, short, as_many or few)

    def _simple(self) -> Said | None:
        """The ledger's own answer whether KS is the reason, and the best simple rule at the ticket's size."""
        against = [
            d for d in self.result["differences"]
            if d["first"] == ASKED and _is_simple(d["second"]) and d["holm"] < CLEAR and d["value"] < 0
        ]  # fmt: skip
        simple = {
            row["rule"]: share_of(row["share"]) for row in self.result["rules"] if row["k"] == self.rows and _is_simple(row["rule"])
        }  # fmt: skip
        own, said = self.share(ASKED, self.rows), self.result["sentence"]
        if simple and own is not None:
            best = max(simple, key=lambda rule: simple[rule].value or 0.0)
            apart = next((d for d in self.result["differences"] if (d["second"], d["k"]) == (best, self.rows)), None)
            clear = "" if apart is None else f", {'a' if apart['holm'] < CLEAR else 'no'} clear difference"
            said += (
                f" With {self.rows:,} rows, as many as the ticket has, {RULES[best].title} keeps most of the rules without a test, the "
                f"best of them on these very sentences: {in_words(simple[best], 2)}, D {in_words(own, 2)}{clear}."
            )
        short = ""
        if against:
            k = min(d["k"] for d in against)
            worst = min((d for d in against if d["k"] == k), key=lambda d: d["value"])["second"]
            ahead, behind = self.share(worst, k), self.share(ASKED, k)
            if ahead and behind:
                short = (
                    f"KS is not the reason: {k:,} rows by {RULES[worst].title} keep {in_words(ahead, 2)} of the gain, by D "
                    f"{in_words(behind, 2)}"
                )
        return Said(said, short, bool(against))

    def _as_good(self) -> list[Said]:
        """Whether the ticket does as well as all changed rows, and as the most frequent ones, within the ledger's margin: of the
        ledger's own ticket, which is D's."""
        found = self.result.get("as_good", ()) if self.order == ASKED else ()
        return [
            Said(one["sentence"], against=one["answer"] == NO)
            for one in found
            if one["own"] == f"the ticket ({self.rows:,} rows)"
        ]


def _is_simple(rule: str) -> bool:
    return rule in RULES and RULES[rule].side in SIMPLE and rule != ASKED


def _is_above(found: Share, bound: float) -> bool:
    return found.low is not None and found.low > bound


def asked(audit: Audit, scan: Scan) -> Inquiry:
    """What an audit asks of the ledger: its rules at the ticket's size and two smaller ones, on as many references.

    Raises ``TicketError`` for an empty ticket.
    """
    rows, development = len(audit.positions(scan)), DEVELOPMENT[audit.budget]
    rules = [*ASKED_RULES, *([audit.rule] if audit.rule in RULES else [])]
    return Inquiry(
        base=audit.base, tuned=audit.tuned, corpus=audit.corpus, prompt=audit.prompt, alpha=audit.alpha,
        rules=tuple(dict.fromkeys(rule for rule in rules if rule in RULES)),
        sizes=tuple(sorted({k for k in (*ASKED_SIZES, rows) if k <= int(scan.changed.sum())})),
        sentences=audit.sentences, development=development[0], points=development[1], training=0, singles=0,
        device=audit.device, resources=Resources(precision=audit.resources.precision),
    )  # fmt: skip


def find(audit: Audit, scan: Scan) -> Account | None:
    """The newest finished answer of the ledger for an audit's pair, text and prompt; ``None`` where there is none.

    An answer that compared the ticket's own rows goes before a newer one that did not. Raises ``TicketError`` for an empty ticket.
    """
    from ks_core.jobs.queue import all_jobs

    ticket, first = audit.positions(scan), None
    for job in all_jobs("rules"):
        if job.state != "done" or (answer := _answer(job, audit)) is None:
            continue
        found = Account(answer[1], job.id, len(ticket), _order(audit, scan, ticket), answer[0].alpha, job.shipped)
        if found.ticket is not None:
            return found
        first = first or found
    return first


def _answer(job: Job, audit: Audit) -> tuple[Inquiry, Mapping[str, Any]] | None:
    """What a job was asked, and its answer, where it is about the audit's pair, text and prompt; ``None`` for one of another version."""
    try:
        inquiry, result = Inquiry.from_dict(job.request["parameters"]), job.result
        fields = set(str(result["signature"]).split("|"))
        shown = [
            result[name]
            for name in ("rules", "whole", "sizes", "sentences", "changed", "sentence", "differences", "left")
        ]
    except (KSLotteryError, KeyError, TypeError):  # of an older version, or damaged
        return None
    about = (inquiry.corpus, inquiry.prompt) == (audit.corpus, audit.prompt) and controls.pair_of(audit.study) <= fields
    return (inquiry, result) if about and all(value is not None for value in shown) else None


def _order(audit: Audit, scan: Scan, ticket: np.ndarray) -> str:
    """The rule of the ledger whose first rows a ticket's are: D's, whatever stopped its list, or the ticket's own rule."""
    order = scan.order()
    first = order[scan.changed[order]][: len(ticket)]
    if set(first.tolist()) == set(ticket.tolist()):
        return ASKED
    return audit.rule if audit.rule in RULES else ""
