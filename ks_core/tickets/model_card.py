"""The model card of a saved ticket: what it is, how it was made, how to load it, what it does not say.

Names, tokens and texts come from outside, and a card is shown on the hub. So each of them is code: in Markdown, in the
metadata above it, which is YAML, and in the example, which is Python.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ks_core.tickets.card_metadata import Publication, metadata, quoted
from ks_core.translation.metrics import TITLES, leading
from ks_core.values import code_span, escaped, table_cell


class Described(Protocol):
    """What a card says of a ticket (``ticket.Ticket``)."""

    @property
    def token_ids(self) -> Sequence[int]: ...
    @property
    def tokens(self) -> Sequence[str]: ...
    @property
    def statistic(self) -> Sequence[float]: ...
    @property
    def pvalue(self) -> Sequence[float]: ...
    @property
    def rule(self) -> str: ...
    @property
    def alpha(self) -> float | None: ...
    @property
    def base(self) -> str: ...
    @property
    def signature(self) -> str: ...
    @property
    def about(self) -> Mapping[str, Any]: ...
    def __len__(self) -> int: ...


TIED = """
The base ties its output layer to its input embedding. This ticket was trained on the input side alone, so untie
first, or peft would change the output layer too:

```python
base = AutoModelForCausalLM.from_pretrained(BASE, tie_word_embeddings=False)
base.lm_head.weight.data = base.get_input_embeddings().weight.data.clone()
```
"""

CAVEAT = """
## Before you believe it

Most of the gain that such tickets show may be the model learning to end its answer. Look at the scores under the rule
`first_line` beside `raw`, at the share of answers that the model ends itself, and at what a single row or random rows
reach under the same budget.
"""


def model_card(ticket: Described, more: Publication | None = None) -> str:
    """Markdown with the hub's metadata block, for ``README.md`` in a ticket's folder. ``more``: for one that is published."""
    about = ticket.about
    lines = [
        *metadata(ticket.base, more),
        "",
        f"# KS-Lottery ticket: {len(ticket):,} embedding rows",
        *(_audited(more) if more else ()),
        "",
        *(("## What it is", "") if more else ()),
        f"A peft TrainableTokens adapter: {len(ticket):,} rows of the input embedding of {code_span(ticket.base)}, everything else "
        "as it was. Made by KS-Lottery Explorer. `ticket.json` holds all of the below for programs.",
        "",
        "```python",
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM",
        "",
        f"base = AutoModelForCausalLM.from_pretrained({_base(ticket)})",
        f"model = PeftModel.from_pretrained(base, {quoted(more.repository if more else 'this folder')})",
        "```",
    ]
    if about.get("tied"):
        lines.append(TIED.replace("BASE", _base(ticket)))
    lines += ["", "## How it was made", ""]
    if ticket.statistic:
        threshold = f" at alpha {ticket.alpha:g}" if ticket.alpha is not None else ""
        lines.append(
            f"- rows chosen by the rule {code_span(ticket.rule)}{threshold} in a KS test of tuned against base rows"
        )
    elif ticket.rule:
        lines.append(f"- rows chosen by: {code_span(ticket.rule)}")
    for key, value in about.items():
        if key not in ("tied", "scores") and value is not None:
            lines.append(f"- {_key(key)}: {code_span(_text(value))}")
    lines += [f"- signature: {code_span(ticket.signature)}", ""]
    if about.get("scores"):
        lines += _scores(about["scores"])
    lines += ["## Its rows", "", "| token | id | D | p |", "|---|---:|---:|---:|"]
    for n, (token_id, token) in enumerate(zip(ticket.token_ids, ticket.tokens, strict=False)):
        if n == 200:
            lines.append(f"| and {len(ticket) - n:,} more | | | |")
            break
        tested = (f"{ticket.statistic[n]:.4f}", f"{ticket.pvalue[n]:.3g}") if ticket.statistic else ("", "")
        lines.append(f"| {table_cell(code_span(token))} | {token_id} | {tested[0]} | {tested[1]} |")
    return "\n".join([*lines, "" if more and more.said else CAVEAT])


def _audited(more: Publication) -> list[str]:
    """What the audit says, what counts against the ticket first."""
    lines = ["", "## Is it real?", ""]
    if not more.said:
        lines.append("Nobody has asked: nothing of this ticket was audited before it was published.")
    if more.short:
        lines += [
            "In short, with what counts against it first:",
            "",
            *(f"- **{escaped(one)}**" for one in more.short),
            "",
        ]
    lines += [f"- {escaped(one)}" for one in more.said]
    if more.missing:
        lines += ["", "Not known, because it was not run:", "", *(f"- {escaped(one)}" for one in more.missing)]
    lines += [f"\n{escaped(one)}" for one in more.notes]
    return [*lines, *(("", f"Signature of the audit: {code_span(more.signature)}") if more.signature else ()), ""]


def _base(ticket: Described) -> str:
    """The base as a string of Python; a demo name means nothing to transformers."""
    return quoted(ticket.base if ":" not in ticket.base else "folder or hub id of the base")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _key(key: str) -> str:
    """What a line says of: a word of this program's, or code."""
    return key.replace("_", " ") if re.fullmatch(r"[A-Za-z0-9_]+", key) else code_span(key)


def _scores(scores: dict[str, Any]) -> list[str]:
    metric = leading(next(iter(scores["scores"].values())))
    lines = ["## Scores", "", f"| rule | {TITLES[metric]} | chrF |", "|---|---:|---:|"]
    for rule, found in scores["scores"].items():
        lines.append(f"| {table_cell(code_span(rule))} | {found[metric]['value']:.2f} | {found['chrf']['value']:.1f} |")
    return [*lines, "", f"{scores['stop_rate']:.0%} of {scores['sentences']:,} answers were ended by the model.", ""]
