"""What the audit says of a ticket on the card of one that is published: sentences, and what it reached on held-out text.

It reads what was run, and starts nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ks_core.audit import verdict
from ks_core.audit.evidence import Evidence
from ks_core.audit.inquiry import Audit
from ks_core.checkpoints import demo, hub
from ks_core.errors import SettingsError, TicketError
from ks_core.likelihood.judgement import judge
from ks_core.likelihood.nats import Likelihood
from ks_core.tickets.card_metadata import Measured, Publication
from ks_core.tickets.ticket import Ticket
from ks_core.translation import languages
from ks_core.translation.evaluation import part_of
from ks_core.translation.extraction import EXTRACTION_RULES
from ks_core.translation.metrics import TITLES
from ks_core.translation.parallel_text import CORPUS_READERS
from ks_core.values import is_repository, without_choice

#: The arm that is what whoever loads the ticket gets: its rows, copied into the base.
COPIED = "transfer"
#: Under these rules scores of answers stand on the card: as written, and cut at the first line.
RULES = ("raw", "first_line")
METRICS = {name: TITLES[name] for name in ("bleu", "chrf", "spbleu", "rouge", "exact")}
#: Under which name of the hub's a metric of its own stands.
HUB_NAMES = {"spbleu": "bleu", "exact": "exact_match"}


def publication(
    audit: Audit, evidence: Evidence, repository: str, base_model: str = "", license: str = ""
) -> Publication:
    """What is known of an audit's ticket for its card; ``evidence`` as ``gather`` gives it.

    ``base_model`` and ``license`` are the owner's words; the demo's are known. Raises ``SettingsError`` where the hub would
    not take one of these, and ``CorpusError`` where the text that was audited is not to be had.
    """
    notes, is_demo = [], demo.is_name(audit.base)
    if is_demo:
        notes.append(
            "Its rows were tuned over a copy of the base in 4 bits, made float32 again, with the output untied; over the base "
            "as the hub has it the numbers are near these, and not the same."
        )
    asked: dict[str, Any] = {}
    if evidence.findings:
        if evidence.shipped:
            notes.append(evidence.shipped)
        asked = {
            "short": evidence.doubts, "said": [f.sentence for f in evidence.findings],
            "missing": [verdict.needs()[name] for name in evidence.missing], "signature": without_folders(audit, str(audit.signature)),
        }  # fmt: skip
        if evidence.run or evidence.account:
            asked |= _text(audit)
        if evidence.run:
            asked |= {
                "measured": measured(evidence.run.result["arms"]),
                "part": part_of(evidence.run.result["signature"]),
            }
    for key in ("short", "said", "missing"):
        asked[key] = [without_folders(audit, one) for one in asked.get(key, ())]
    return Publication(
        repository, base_on_hub(audit.base, base_model), license or (demo.LICENSE if is_demo else ""), notes=notes, **asked,
    )  # fmt: skip


def of_hub(ticket: Ticket, audit: Audit, more: Publication) -> Ticket:
    """A ticket as others get it: its base by the id on the hub, no path of this machine in it, and a word where that base shares
    its embedding with its output layer, and the rows were tuned on the input side alone."""
    about = {**ticket.about, "tied": True} if _tuned_untied(audit) else ticket.about
    return replace(ticket, base=more.base_model, signature=without_folders(audit, ticket.signature), about=about)


def _tuned_untied(audit: Audit) -> bool:
    if demo.is_name(audit.base):
        return True
    try:  # a ticket of this program's says how it was trained; of other checkpoints nobody knows more than they do
        return audit.study.tuned.base is not None and bool(Ticket.load(audit.study.tuned.path).about.get("tied"))
    except TicketError:
        return False


def base_on_hub(base: str, given: str = "") -> str:
    """The base's id on the hub: the one that is ``given``, or the source itself where it is one. Raises ``SettingsError``."""
    if not given and demo.is_name(base):
        return demo.HUB_ID
    name = given or without_choice(base)[0]
    if not (is_repository(name) if given else hub.is_id(name)):
        raise SettingsError(
            f"The base is {name[:200]!r}, which is no id on the hub, and whoever loads the ticket needs one. "
            "Name it with --base-model, as in --base-model HuggingFaceTB/SmolLM2-135M."
        )
    return name.partition("@")[0]


def _text(audit: Audit) -> dict[str, Any]:
    """Languages and name of the text, and its id where it is the hub's."""
    corpus = audit.corpus.load()
    known = [languages.find(name) for name in (corpus.source_language, corpus.target_language)]
    kind, _, rest = corpus.name.partition(":")
    return {
        "languages": [one.code for one in known if one],
        "corpus": without_folders(audit, corpus.name),
        "datasets": [rest.partition("#")[0]] if kind == "hub" else [],
    }


def without_folders(audit: Audit, text: str) -> str:
    """A text in which checkpoints and parallel text are called by the last part of their paths: where they lie on their
    owner's machine is nobody else's business."""
    kind, _, rest = audit.corpus.name.partition(":")
    path = CORPUS_READERS.find(kind).path
    named = [without_choice(source)[0] for source in (audit.base, audit.tuned, audit.study.tuned.instead_of)]
    named += [path(rest)] if path else []
    for one in sorted((one for one in named if "/" in one and not hub.is_id(one)), key=len, reverse=True):
        text = text.replace(one, Path(one).name)
    return text


def measured(arms: list[Mapping[str, Any]]) -> list[Measured]:
    """What the copied ticket reached in a run's arms, each with what the base reaches in its name; empty where it was not run."""
    by_kind = {arm["kind"]: arm for arm in reversed(arms) if not arm["error"]}
    own, base = by_kind.get(COPIED), by_kind.get("base")
    if own is None or base is None:
        return []
    found = []
    if own.get("evaluation") and base.get("evaluation"):
        for rule in RULES:
            for kind, name in METRICS.items():
                if (score := own["evaluation"]["scores"].get(rule, {}).get(kind)) and (
                    was := base["evaluation"]["scores"].get(rule, {}).get(kind)
                ):
                    title = f"{name}, {EXTRACTION_RULES[rule].title.lower()}"
                    said = f"{title}{_within(score['low'], score['high'])} (base: {was['value']:.2f})"
                    found.append(Measured(HUB_NAMES.get(kind, kind), said, score["value"]))
    if own.get("likelihood") and base.get("likelihood"):
        both = {name: Likelihood.from_dict(arm["likelihood"]) for name, arm in (("own", own), ("base", base))}
        nats = judge(both)["arms"]["own"]["all"]
        bounds = (None if nats[end] is None else math.exp(nats[end]) for end in ("low", "high"))
        said = f"perplexity of the references{_within(*bounds)} (base: {both['base'].perplexity:.2f})"
        found.append(Measured("perplexity", said, both["own"].perplexity))
    return found


def _within(low: float | None, high: float | None) -> str:
    """A 95% interval behind the name of what it is of, as the hub's form has no place for it; empty where none is known."""
    if low is None or high is None or not math.isfinite(low + high):
        return ""
    return f" [{low:.2f}, {high:.2f}]"
