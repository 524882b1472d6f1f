"""The options that ``tune``, ``evaluate`` and ``audit`` share: what is translated, under which prompt."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ks_core.commands import resource_options
from ks_core.errors import SettingsError
from ks_core.translation.parallel_text import CORPUS_READERS
from ks_core.translation.prompts import TEMPLATES, usual_prompt
from ks_core.translation.tasks import TASKS, TEXT, TRANSLATION

if TYPE_CHECKING:
    from ks_core.tuning.plans import CorpusChoice


#: Names the base's own chat template where a prompt is named.
CHAT = "chat"


def add_arguments(
    parser: argparse._ActionsContainer, *, scoring: bool = True, writing: bool = True, computing: bool = True
) -> None:
    """What is translated, under which prompt; with ``scoring`` how many sentences and how they are searched, with ``writing``
    how long an answer may be, with ``computing`` on how much of which machine (``parser`` is then a parser and no group)."""
    parser.add_argument("--corpus", default="pack:fr-FR", help=f"{', '.join(r.example for r in CORPUS_READERS.values())} "
                        "(default pack:fr-FR)")  # fmt: skip
    parser.add_argument(
        "--task",
        default=TRANSLATION,
        help="; ".join(
            f"{name}: {known.about[0].lower()}{known.about[1:].rstrip('.')}" for name, known in TASKS.items()
        )
        + f" (default {TRANSLATION})",
    )
    parser.add_argument("--fields", help="names of the two fields of a JSONL corpus (default "
                        + "; ".join(f"{','.join(known.fields)} of {name}" for name, known in TASKS.items()) + ")")  # fmt: skip
    parser.add_argument("--languages", default="", help="names of the two languages where the corpus does not say, "
                        "such as English,French")  # fmt: skip
    bounds = {
        side: "; ".join(f"{getattr(known, side)} of {name}" for name, known in TASKS.items())
        for side in ("shortest", "longest")
    }
    parser.add_argument(
        "--shortest", type=int, help=f"fewest words of a source sentence or a prompt (default {bounds['shortest']})"
    )
    parser.add_argument("--longest", type=int, help=f"most words of one (default {bounds['longest']})")
    parser.add_argument("--prompt", default="", help=f"a template's name ({', '.join(TEMPLATES)}) or its text with "
                        f"{{source}} (default short; for an encoder-decoder, and for text to text, source); {CHAT}, for text to text: "
                        "the base's own chat template")  # fmt: skip
    if scoring:
        parser.add_argument(
            "--sentences", type=int, default=64, help="held-out sentences to score, 0 for all (default 64)"
        )
    if writing:
        parser.add_argument("--max-new-tokens", type=int, default=48, help="most tokens of an answer (default 48)")
    if scoring:
        parser.add_argument("--beams", type=int, default=1, help="beams of the search; 1 is greedy (default)")
    if computing:
        parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu (default auto)")
        resource_options.add_arguments(parser)


def add_budget_arguments(parser: argparse._ActionsContainer) -> None:
    """How much an audit asks."""
    parser.add_argument("--budget", default="standard", choices=("small", "standard", "large"),
                        help="how many sentences, training steps and seeds (default standard)")  # fmt: skip
    parser.add_argument(
        "--generate", action="store_true",
        help="have answers written too, for BLEU and chrF beside the likelihood of the references; takes several times as long",
    )  # fmt: skip


def prompt_of(options: argparse.Namespace, base: str) -> str:
    """The prompt that the options name, or the usual one of what ``base`` is."""
    from ks_core.tuning import runnable

    if options.prompt == CHAT and TASKS.find(options.task).name == TEXT:
        from ks_core.tuning.models import chat_prompt

        return chat_prompt(base)
    return options.prompt.replace("\\n", "\n") or usual_prompt(runnable.reads_with_encoder(base), options.task)


def corpus_of(options: argparse.Namespace) -> CorpusChoice:
    """The ``CorpusChoice`` that the options describe."""
    from ks_core.tuning.plans import CorpusChoice

    task = TASKS.find(options.task)
    pairs = {}
    for name in ("fields", "languages"):
        given = getattr(options, name) or (",".join(task.fields) if name == "fields" else "")
        found = [part.strip() for part in given.split(",")]
        if given and len(found) != 2:
            raise SettingsError(f"--{name} is {given!r}. Expected two names with a comma between.")
        pairs[name] = found if len(found) == 2 else ["", ""]
    shortest, longest = (
        getattr(task, name) if (own := getattr(options, name)) is None else own for name in ("shortest", "longest")
    )
    (source, target), languages = pairs["fields"], pairs["languages"]
    return CorpusChoice(options.corpus, shortest, longest, source, target, languages[0], languages[1], task=task.name)
