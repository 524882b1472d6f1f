"""Protocols: how somebody asks a model to translate and scores what it writes, as one choice.

What a ticket gains depends on the prompt, on where an answer is cut, and on how it is decoded; figures of different protocols
do not stand beside each other without saying so.
"""

from __future__ import annotations

from dataclasses import dataclass

from ks_core.registry import Entry, Registry
from ks_core.translation.prompts import REPLICATION, SIBLING


@dataclass(frozen=True)
class Protocol(Entry):
    """``prompt`` names a template; ``rules`` are the extraction rules that its authors score by; answers are decoded with
    ``beams`` (1: greedy) and have at most ``max_new_tokens`` tokens."""

    prompt: str = "short"
    rules: tuple[str, ...] = ("first_line",)
    beams: int = 1
    max_new_tokens: int = 48


PROTOCOLS = Registry("protocol", [
    Protocol("demo", "The demo's", "A short prompt, the first line, greedy, 48 tokens: what the demo was trained with.",
             prompt="short", rules=("first_line",), beams=1, max_new_tokens=48),
    Protocol("replication", "The replication's", "A full sentence as instruction; three rules side by side; greedy. That 256 tokens "
             "are its limit is not known: its base wrote 833 characters on average.", REPLICATION,
             prompt="paper", rules=("raw", "first_line", "prompt_restart"), beams=1, max_new_tokens=256),
    Protocol("sibling", "The sibling paper's", "An Alpaca frame, the answer up to the next heading, 4 beams, 256 tokens. That "
             "KS-Lottery used it is likely and stated nowhere.", SIBLING,
             prompt="alpaca", rules=("response",), beams=4, max_new_tokens=256),
])  # fmt: skip
