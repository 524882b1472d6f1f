"""What the verdict says of the run of the controls: stopping, what other rows give, and what the intervals leave out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ks_core.audit import sentences
from ks_core.audit.controls import protocol_of
from ks_core.audit.gains import FEW, Gain, ticket_of
from ks_core.audit.sentences import METRICS, in_words, is_clear, listed, percent, unclear, whole
from ks_core.translation.prompts import TEMPLATES, template, template_title
from ks_core.translation.shares import Share
from ks_core.tuning.comparison import OVER_SENTENCES

#: The arms of whose gain another arm's is a share, by kind; ``{}`` is that gain.
WHOSE = {
    "partial": "the trained ticket (Partial Tuning{})", "transfer": "the copied ticket (Partial Transfer{})",
    "paired": "those ticket rows (the arm with partners{})",
}  # fmt: skip
#: What is said of each kind of control. Of ``partners`` alone it is said that they are trained as often.
CONTROLS = {
    "rows": "Training one structural row alone gives",
    "paired": "The ticket's rows that have a partner, trained, give",
    "partners": "Their partners, random rows trained about as often, give",
    "matched": "Random rows that occur about as often in the text give",
    "random": "Random rows give",
    "frequent": "The most frequent rows give",
    "prompt": "The prompt's own rows give",
    "noise": "The ticket's rows moved as far in random directions give",
    "both": "Copied, the ticket's rows that are among the most frequent give",
    "ticket-only": "Copied, the ticket's rows that are not among the most frequent give",
    "frequent-only": "Copied, the most frequent rows that are not the ticket's give",
    "beyond-prompt": "Copied, the ticket's rows without the prompt's words give",
}
_SEEDED = ("paired", "partners", "matched", "random", "noise")


def termination(arm_gains: Sequence[Gain], prompt: str, decoding: str) -> list[str]:
    """How much of the gain stays where answers are cut, for the ticket and the tuned model, in both metrics."""
    told = [ticket_of(arm_gains), *(g for g in arm_gains if g.kind in ("tuned", "embed"))]
    under = f"under {prompt_words(prompt)}, {decoding}"
    return [*(stopping(g, under) for g in told), *filter(None, [few_matches(told[0])])]


def beside(arm_gains: Sequence[Gain], prompt: str, decoding: str) -> str:
    """The same of the ticket under another protocol's prompt, with what else that protocol does otherwise."""
    protocol = protocol_of(prompt)
    its = f"; the protocol itself has {protocol.beams} beams and {protocol.max_new_tokens} tokens" if protocol else ""
    return stopping(ticket_of(arm_gains), f"under {prompt_words(prompt)}, {decoding}{its}")


def stopping(gain: Gain, under: str) -> str:
    """What of an arm's raw gain remains under the rule that cuts its answers; chrF first where BLEU rests on few sentences."""
    metrics = [m for m in (("chrf", "bleu") if rests_on_few(gain) else ("bleu", "chrf")) if m in gain.stopping]
    where = "at the first line" if gain.rule == "first_line" else f"under the rule {gain.rule}"
    parts = [f"in {METRICS[m]}, {_remains(gain.stopping[m], where)}" for m in metrics]
    return f"{gain.name}, {under}: {'; '.join(parts)}. It ends {percent(gain.stop_rate)} of its answers."


def _remains(found: Share, where: str) -> str:
    if found.whole_high is not None and found.whole_high < 0:
        return f"a loss ({whole(found)} raw), so there is no gain to ask of"
    if not is_clear(found) or found.value is None or found.low is None or found.high is None:
        return f"no raw gain that is clear of chance ({whole(found)})"
    of = f"of the raw gain ({whole(found)})"
    if found.value <= 0:
        return f"{of} nothing remains {where} ({sentences.gain(found)} there)"
    stays = f"{of} {percent(found.value)} [{percent(found.low)}, {percent(found.high)}] remains {where}"
    if found.value >= 1:
        most = f" (at most {percent(1 - found.low)})" if found.low < 1 else ""
        return f"{stays}: none of the gain is stopping{most}"
    if found.high >= 1:
        return f"{stays}: whether any of it is stopping is not clear"
    return f"{stays}: the other {percent(1 - found.value)} [{percent(1 - found.high)}, {percent(1 - found.low)}] is stopping"


def rests_on_few(gain: Gain) -> bool:
    """Whether BLEU of the base or of this arm rests on few sentences."""
    return any(n is not None and n < FEW for n in (gain.matches, gain.base_matches))


def few_matches(gain: Gain) -> str:
    """A warning where few answers have a 4-gram of their reference; empty elsewhere."""
    if not rests_on_few(gain):
        return ""
    return (
        f"The base's BLEU rests on {gain.base_matches} and the ticket's on {gain.matches} of {gain.sentences} sentences, those whose answer "
        "has four words in a row as the reference has them (first line); chrF is the figure to read."
    )


def controls(arm_gains: Sequence[Gain], lengths: str = "") -> list[str]:
    """What each control gives, as a share of the gain that it is compared with, with its overlap with the ticket; then
    what the intervals leave out, and ``lengths``, where arms were not trained for as long."""
    by_kind: dict[str, list[Gain]] = {}
    for gain in arm_gains:
        by_kind.setdefault(gain.kind, []).append(gain)
    said = [_control(words, by_kind[kind]) for kind, words in CONTROLS.items() if kind in by_kind]
    return [*said, *([f"{OVER_SENTENCES}{_seeds(by_kind)}"] if said else []), *([lengths] if lengths else [])]


def _control(words: str, found: Sequence[Gain]) -> str:
    shares = [g.shares["chrf"] for g in found]
    if all(is_clear(share) for share in shares):
        wholes = listed(list(dict.fromkeys(whole(share) for share in shares)))
        negative = any(share.value is not None and share.value < 0 for share in shares)
        said = (
            f"{words} {listed([in_words(share) for share in shares])} {'against' if negative else 'of'} the gain in chrF (first line) of "
            f"{WHOSE[found[0].of].format(f', {wholes}')}"
        )
    else:
        no_gain = next(share for share in shares if not is_clear(share))
        said = (
            f"{words} {listed([sentences.gain(share) for share in shares])} chrF (first line). "
            f"{unclear(WHOSE[found[0].of].format(''), no_gain)}, so this is no share of a gain"
        )
    about = [g.overlap for g in found] + [
        g.balance for g in found if g.kind != "paired"
    ]  # the partners' sentence follows
    if found[0].kind in _SEEDED:
        about.insert(0, "one seed, and others can differ" if len(found) == 1 else f"{len(found)} seeds, in their order")
    return "; ".join([said, *dict.fromkeys(filter(None, about))]) + "."


def _seeds(by_kind: Mapping[str, Sequence[Gain]]) -> str:
    """The spread over seeds, where a kind has several."""
    spread = []
    for found in by_kind.values():
        if len(found) > 1:
            own = sorted(g.shares["chrf"].gain for g in found)
            stops = sorted(g.stop_rate for g in found)
            name = min((g.name for g in found), key=len)
            spread.append(
                f"{name} {own[0]:+.1f} to {own[-1]:+.1f} chrF, ending {stops[0]:.0%} to {stops[-1]:.0%} of answers"
            )
    return f" Over the seeds here: {'; '.join(spread)}." if spread else ""


def headline(arm_gains: Sequence[Gain]) -> list[str]:
    """What the ticket gains, how much of it remains where answers are cut, and what one row and frequent rows give."""
    ticket = ticket_of(arm_gains)
    own, who = ticket.shares["chrf"], WHOSE[ticket.kind].format("")
    if not is_clear(own):  # it is the whole of its own share
        said = unclear(who, own)
        return [f"at the first line {said[:1].lower()}{said[1:]}"]
    parts = [f"{who} gains {sentences.gain(own)} chrF at the first line", *_stays(ticket)]
    by_kind = {g.kind: g for g in reversed(arm_gains)}
    for kind, words in (("rows", "one row alone gives"), ("frequent", "as many of the most frequent rows give")):
        if (found := by_kind.get(kind)) and is_clear(share := found.shares["chrf"]):
            about = f" ({found.overlap})" if kind == "frequent" and found.overlap else ""
            parts.append(f"{words} {in_words(share)}{' of that' if share.gain >= 0 else ''}{about}")
    return parts


def _stays(ticket: Gain) -> list[str]:
    """How much of the ticket's raw gain remains where answers are cut, by metrics that have one; chrF first where BLEU rests
    on few sentences, which is said."""
    few = rests_on_few(ticket)
    told = []
    for metric in ("chrf", "bleu") if few else ("bleu", "chrf"):
        found = ticket.stopping[metric]
        if is_clear(found):
            rests = (
                f" (the base's BLEU rests on {ticket.base_matches} sentences, its own on {ticket.matches})"
                if few and metric == "bleu"
                else ""
            )
            told.append((found, f"{in_words(found)} in {METRICS[metric]}{rests}"))
    if not told:
        return []
    where = "there" if ticket.rule == "first_line" else f"under the rule {ticket.rule}"
    none = ", so none of it is stopping" if all((found.low or 0) >= 1 for found, _ in told) else ""
    return [f"of its raw gain remain {where} {listed([words for _, words in told])}{none}"]


def prompt_words(prompt: str) -> str:
    """A prompt in a sentence.

    >>> prompt_words("short"), prompt_words("a {source}")
    ("the prompt Short (the demo's)", 'the prompt that was given')
    """
    known = next((t.name for t in TEMPLATES.values() if t.text == template(prompt)), "")
    return f"the prompt {template_title(known)}" if known else "the prompt that was given"


def decoded(beams: int, tokens: int) -> str:
    """How answers were decoded."""
    return f"{'greedy' if beams == 1 else f'{beams} beams'}, {tokens} tokens at most"
