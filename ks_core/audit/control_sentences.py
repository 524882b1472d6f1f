"""What the verdict says of the run of the controls: stopping, what other rows give, and what the intervals leave out.

By the likelihood of the references first, and then, where the arms have written answers, by BLEU and chrF.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ks_core.audit import sentences
from ks_core.audit.controls import protocol_of
from ks_core.audit.gains import FEW, Gain, ticket_of
from ks_core.audit.sentences import METRICS, NATS, in_words, is_clear, listed, nats, percent, unclear, whole, with_parts
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
    "stop": "The base with a forced stop at the first line break, nothing trained, gives",
    "examples": "The base with three examples in its prompt, nothing trained, gives",
    "chat": "The base under its own chat template, nothing trained, gives",
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
#: The same of rows that are otherwise trained, where they were copied.
COPIED_CONTROLS = {
    "rows": "Copied, one structural row alone gives",
    "paired": "Copied, the ticket's rows that have a partner give",
    "partners": "Copied, their partners, random rows trained about as often, give",
    "matched": "Copied, random rows that occur about as often in the text give",
    "random": "Copied, random rows give",
    "frequent": "Copied, the most frequent rows give",
    "prompt": "Copied, the prompt's own rows give",
}
_SEEDED = ("paired", "partners", "matched", "random", "noise", "examples")


def termination(arm_gains: Sequence[Gain], prompt: str, decoding: str) -> list[str]:
    """How much of the gain is stopping, for the ticket and the tuned model: the end token's share of the gain in likelihood,
    and what stays of the gain in both metrics where answers are cut."""
    told = [ticket_of(arm_gains), *(g for g in arm_gains if g.kind in ("tuned", "embed"))]
    under = f"under {prompt_words(prompt)}"
    said = [end_share(gain, under) for gain in told if gain.nats]
    said += filter(None, [like_a_stop_sequence(told[0])])
    said += [stopping(g, f"{under}, {decoding}") for g in told if g.stopping]
    return [*said, *filter(None, [few_matches(told[0])])]


def beside(arm_gains: Sequence[Gain], prompt: str, decoding: str) -> list[str]:
    """The same of the ticket under another protocol's prompt, with what else that protocol does otherwise."""
    protocol, ticket = protocol_of(prompt), ticket_of(arm_gains)
    its = f"; the protocol itself has {protocol.beams} beams and {protocol.max_new_tokens} tokens" if protocol else ""
    under = f"under {prompt_words(prompt)}"
    said = [end_share(ticket, under)] if ticket.nats else []
    return said + ([stopping(ticket, f"{under}, {decoding}{its}")] if ticket.stopping else [])


def end_share(gain: Gain, under: str) -> str:
    """How much of an arm's gain in likelihood is the end token's, which is learning to stop."""
    own, begun = gain.own["all"], f"{gain.name}, {under}, by the likelihood of {gain.sentences} references"
    if not is_clear(own):
        said = f"{nats(own)} {NATS}"
        if own.gain_high is not None and own.gain_high < 0:
            return f"{begun}: a loss ({said}), so there is no gain to ask of."
        return f"{begun}: no gain that is clear of chance ({said})."
    if "end" not in gain.own:
        return f"{begun}: {nats(own)} {NATS}. The tokenizer has no end token, so what of it is stopping cannot be told."
    end, content = gain.own["end"], gain.own["content"]
    said = (
        f"{begun}: of its gain ({nats(own)} {NATS}) {_share_of_own(end)} is the end token's, which is learning to stop, and "
        f"{_share_of_own(content)} the content's"
    )
    if content.gain_low is None or content.gain_low <= 0:
        return f"{said}. The content gains nothing that is clear of chance ({nats(content)})."
    return f"{said}."


def _share_of_own(found: Share) -> str:
    return f"{percent(found.value)} [{percent(found.low)}, {percent(found.high)}]"


def like_a_stop_sequence(gain: Gain) -> str:
    """What the ticket gains over the base with a forced stop; empty where that was not run.

    Such a base differs from the base in the end alone, so a ticket that is not clearly better has taught what a stop sequence
    does for nothing.
    """
    found = gain.over_stop.get("all")
    if found is None:
        return ""
    begun = f"Over the base with a forced stop at the first line break {gain.name} gains {nats(found)} {NATS}"
    if found.gain_low is None or found.gain_low <= 0:
        return f"{begun}: not clearly more, so by this it does what a stop sequence does."
    content = gain.over_stop.get("content")
    return f"{begun} ({nats(content)} of it in the content)." if content else f"{begun}."


def stopping(gain: Gain, under: str) -> str:
    """What of an arm's raw gain remains under the rule that cuts its answers; chrF first where BLEU rests on few sentences."""
    metrics = _ordered(gain)
    where = "at the first line" if gain.rule == "first_line" else f"under the rule {gain.rule}"
    parts = [f"in {METRICS[m]}, {_remains(gain.stopping[m], where)}" for m in metrics]
    return f"{gain.name}, {under}: {'; '.join(parts)}. It ends {percent(gain.stop_rate)} of its answers."


def _ordered(gain: Gain) -> list[str]:
    """The metrics in which stopping is told, the one to read first."""
    return list(reversed(gain.stopping)) if rests_on_few(gain) else list(gain.stopping)


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
    """What each control gives, as a share of the gain that it is compared with, with its overlap with the ticket, in likelihood
    and, of answers, in chrF; then what the intervals leave out, and ``lengths``, where arms were not trained for as long."""
    by_kind: dict[tuple[str, bool], list[Gain]] = {}
    for gain in arm_gains:
        by_kind.setdefault((gain.kind, gain.copied and gain.kind in COPIED_CONTROLS), []).append(gain)
    said = []
    told = [(kind, copied) for kind in CONTROLS for copied in (False, True) if (kind, copied) in by_kind]
    for kind, copied in told:
        found, words = by_kind[kind, copied], (COPIED_CONTROLS if copied else CONTROLS)[kind]
        read = [g for g in found if g.nats]
        if read:
            said.append(_control(words, read, by_likelihood=True))
        if written := [g for g in found if g.shares]:
            said.append(_control(words, written, by_likelihood=False))
    return [*said, *([f"{OVER_SENTENCES}{_seeds(by_kind)}"] if said else []), *([lengths] if lengths else [])]


def _control(words: str, found: Sequence[Gain], *, by_likelihood: bool) -> str:
    shares = [g.nats["all"] if by_likelihood else g.shares["chrf"] for g in found]
    metric, unit = ("nats", f"{NATS}") if by_likelihood else ("chrf", "chrF (first line)")
    of = "likelihood" if by_likelihood else unit
    said_gain: Callable[[Share], str] = nats if by_likelihood else sentences.gain
    places = sentences.PLACES.get(metric, 1)
    if all(is_clear(share) for share in shares):
        wholes = listed(list(dict.fromkeys(whole(share, places) for share in shares)))
        negative = any(share.value is not None and share.value < 0 for share in shares)
        each = [
            with_parts(g.nats) if by_likelihood else in_words(share) for g, share in zip(found, shares, strict=True)
        ]
        said = (
            f"{words} {listed(each)} {'against' if negative else 'of'} the gain in {of} of "
            f"{WHOSE[found[0].of].format(f', {wholes}')}"
        )  # fmt: skip
    else:
        no_gain = next(share for share in shares if not is_clear(share))
        said = (
            f"{words} {listed([said_gain(share) for share in shares])} {unit}. "
            f"{unclear(WHOSE[found[0].of].format(''), no_gain, metric)}, so this is no share of a gain"
        )
    about = [g.overlap for g in found] + [
        g.balance for g in found if g.kind != "paired"
    ]  # the partners' sentence follows
    if found[0].kind in _SEEDED:
        about.insert(0, "one seed, and others can differ" if len(found) == 1 else f"{len(found)} seeds, in their order")
    return "; ".join([said, *dict.fromkeys(filter(None, about))]) + "."


def _seeds(by_kind: Mapping[Any, Sequence[Gain]]) -> str:
    """The spread over seeds, where a kind has several."""
    spread = []
    for found in by_kind.values():
        if len(found) < 2:
            continue
        name, told = min((g.name for g in found), key=len), []
        if all(g.nats for g in found):
            own = sorted(g.nats["all"].gain for g in found)
            told.append(f"{own[0]:+.2f} to {own[-1]:+.2f} {NATS}")
        if all(g.shares for g in found):
            own = sorted(g.shares["chrf"].gain for g in found)
            stops = sorted(g.stop_rate or 0.0 for g in found)
            told.append(f"{own[0]:+.1f} to {own[-1]:+.1f} chrF, ending {stops[0]:.0%} to {stops[-1]:.0%} of answers")
        if told:
            spread.append(f"{name} {'; '.join(told)}")
    return f" Over the seeds here: {'; '.join(spread)}." if spread else ""


def headline(arm_gains: Sequence[Gain]) -> list[str]:
    """What the ticket gains, how much of it is stopping, and what one row and frequent rows give: by likelihood where that is
    known, and else of the answers, at the first line."""
    ticket = ticket_of(arm_gains)
    if not ticket.nats:
        return _written_headline(ticket, arm_gains)
    own, who = ticket.nats["all"], WHOSE[ticket.kind].format("")
    if not is_clear(own):  # it is the whole of its own share
        said = unclear(who, own, "nats")
        return [f"{said[:1].lower()}{said[1:]}"]
    parts = [f"{who} gains {nats(own)} {NATS}"]
    if "end" in ticket.own:
        parts.append(f"of that {_share_of_own(ticket.own['end'])} is the end token's, which is learning to stop")
    if (over := ticket.over_stop.get("all")) and (over.gain_low or 0) <= 0:
        parts.insert(0, "the ticket does no more than a stop sequence does")
    by_kind = {g.kind: g for g in reversed(arm_gains)}
    for kind, words in (("rows", "one row alone gives"), ("frequent", "as many of the most frequent rows give")):
        if (found := by_kind.get(kind)) and found.nats and is_clear(share := found.nats["all"]):
            about = f" ({found.overlap})" if kind == "frequent" and found.overlap else ""
            given = in_words(share, sentences.PLACES["nats"])
            parts.append(f"{words} {given}{' of that gain' if share.gain >= 0 else ''}{about}")
    return parts


def _written_headline(ticket: Gain, arm_gains: Sequence[Gain]) -> list[str]:
    own, who = ticket.shares["chrf"], WHOSE[ticket.kind].format("")
    if not is_clear(own):  # it is the whole of its own share
        said = unclear(who, own)
        return [f"at the first line {said[:1].lower()}{said[1:]}"]
    parts = [f"{who} gains {sentences.gain(own)} chrF at the first line", *_stays(ticket)]
    by_kind = {g.kind: g for g in reversed(arm_gains)}
    for kind, words in (("rows", "one row alone gives"), ("frequent", "as many of the most frequent rows give")):
        if (found := by_kind.get(kind)) and found.shares and is_clear(share := found.shares["chrf"]):
            about = f" ({found.overlap})" if kind == "frequent" and found.overlap else ""
            parts.append(f"{words} {in_words(share)}{' of that' if share.gain >= 0 else ''}{about}")
    return parts


def _stays(ticket: Gain) -> list[str]:
    """How much of the ticket's raw gain remains where answers are cut, by metrics that have one; chrF first where BLEU rests
    on few sentences, which is said."""
    few = rests_on_few(ticket)
    told = []
    for metric in _ordered(ticket):
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
