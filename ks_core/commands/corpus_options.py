"""The options that ``tune``, ``evaluate`` and ``audit`` share: what is translated, under which prompt."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ks_core.commands import resource_options
from ks_core.errors import SettingsError
from ks_core.translation.parallel_text import CORPUS_READERS
from ks_core.translation.prompts import TEMPLATES, usual_prompt

if TYPE_CHECKING:
    from ks_core.tuning.plans import CorpusChoice


def add_arguments(parser: argparse.ArgumentParser, *, scoring: bool = True, writing: bool = True) -> None:
    """What is translated, under which prompt; with ``scoring`` how many sentences and how they are searched, with ``writing``
    how long an answer may be."""
    parser.add_argument("--corpus", default="pack:fr-FR", help=f"{', '.join(r.example for r in CORPUS_READERS.values())} "
                        "(default pack:fr-FR)")  # fmt: skip
    parser.add_argument("--fields", default="source,target", help="names of the two fields of a JSONL corpus")
    parser.add_argument("--languages", default="", help="names of the two languages where the corpus does not say, "
                        "such as English,French")  # fmt: skip
    parser.add_argument("--shortest", type=int, default=3, help="fewest words of a source sentence (default 3)")
    parser.add_argument("--longest", type=int, default=16, help="most words of a source sentence (default 16)")
    parser.add_argument("--prompt", default="", help=f"a template's name ({', '.join(TEMPLATES)}) or its text with "
                        "{source} (default short; for an encoder-decoder source)")  # fmt: skip
    if scoring:
        parser.add_argument(
            "--sentences", type=int, default=64, help="held-out sentences to score, 0 for all (default 64)"
        )
    if writing:
        parser.add_argument("--max-new-tokens", type=int, default=48, help="most tokens of an answer (default 48)")
    if scoring:
        parser.add_argument("--beams", type=int, default=1, help="beams of the search; 1 is greedy (default)")
    parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu (default auto)")
    resource_options.add_arguments(parser)


def prompt_of(options: argparse.Namespace, base: str) -> str:
    """The prompt that the options name, or the usual one of what ``base`` is."""
    from ks_core.tuning import runnable

    return options.prompt.replace("\\n", "\n") or usual_prompt(runnable.reads_with_encoder(base))


def corpus_of(options: argparse.Namespace) -> CorpusChoice:
    """The ``CorpusChoice`` that the options describe."""
    from ks_core.tuning.plans import CorpusChoice

    pairs = {}
    for name in ("fields", "languages"):
        found = [part.strip() for part in getattr(options, name).split(",")]
        if getattr(options, name) and len(found) != 2:
            raise SettingsError(f"--{name} is {getattr(options, name)!r}. Expected two names with a comma between.")
        pairs[name] = found if len(found) == 2 else ["", ""]
    return CorpusChoice(
        options.corpus, options.shortest, options.longest, *pairs["fields"], *pairs["languages"]
    )  # fmt: skip
