"""The command ``ask``: one prompt, answered by the base, by the base with the ticket's rows, and by the tuned model."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ks_core.checkpoints import demo
from ks_core.commands.audit import save
from ks_core.commands.ticket import RULE_HELP
from ks_core.errors import SettingsError, visible

if TYPE_CHECKING:
    from ks_core.asking.answers import Asked
    from ks_core.asking.question import Question
    from ks_core.study.scan import Scan, Study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``ask``."""
    parser.add_argument("text", help="a sentence, or with --whole the whole prompt")
    parser.add_argument("base", nargs="?", default=demo.BASE, help="checkpoint before tuning (default demo:base)")
    parser.add_argument("tuned", nargs="?", default=demo.TUNED, help="checkpoint after tuning (default demo:en-fr)")
    parser.add_argument(
        "--whole", action="store_true", help="the text is the whole prompt, and no template is put round it"
    )
    parser.add_argument(
        "--prompt",
        default="",
        help="a template's name or its text with {source} (default the one of the training, if known)",
    )
    parser.add_argument("--languages", default="", help="names of the two languages, such as English,French")
    parser.add_argument("--rule", default="alpha", help=RULE_HELP)
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--k", type=int, default=18, help="how many rows, with a rule that takes so many (default 18)")
    parser.add_argument("--off", default="", metavar="IDS", help="rows of the ticket that do not act, ids by comma")
    parser.add_argument(
        "--strength", type=float, default=1.0, help="of the ticket's rows: 0 is the base, 1 the tuned rows (default 1)"
    )
    parser.add_argument("--max-new-tokens", type=int, default=48, help="most tokens of an answer (default 48)")
    parser.add_argument(
        "--output", metavar="FILE", help="write answers and probabilities, token by token, to a .json file"
    )


def run(options: argparse.Namespace) -> int:
    """Load the models, ask, and print the answers with the way in which each ended."""
    from ks_core.asking.bounds import bounds_of
    from ks_core.study.scan import Study

    if options.output and Path(options.output).suffix != ".json":
        raise SettingsError(f"{options.output} does not end in .json. Name a .json file.")
    study = Study(options.base, options.tuned)
    scan = study.scan()
    question = question_of(options, study, scan)
    bounds = bounds_of(study, scan)

    from ks_core.asking.models import load
    from ks_core.asking.writing import ask

    print("loading the models", file=sys.stderr)
    asked = ask(load(study.base_source, study.tuned_source, bounds), question)
    print("\n".join(lines(asked, study)))
    if options.output:
        from dataclasses import asdict

        found = asdict(asked)
        kept = {name: found[name] for name in ("question", "read", "answers", "lacking", "along")}
        kept["signature"] = str(study.signature.with_fields(question=question.key))
        save(Path(options.output), json.dumps(kept, ensure_ascii=False, indent=1))
        print(f"wrote {options.output}")
    return 0


def question_of(options: argparse.Namespace, study: Study, scan: Scan) -> Question:
    """The question that the options describe."""
    from ks_core.asking.protocol import usual
    from ks_core.asking.question import Question
    from ks_core.tickets.selection import select

    try:
        off = tuple(int(i) for i in options.off.split(",") if i.strip())
    except ValueError:
        raise SettingsError(
            f"--off is {options.off!r}. Expected token ids with commas between, such as 28,198."
        ) from None
    spoken = [name.strip() for name in options.languages.split(",")]
    if options.languages and len(spoken) != 2:
        raise SettingsError(f"--languages is {options.languages!r}. Expected two names with a comma between.")
    known = usual(study.base_source, study.tuned_source, sentences=0)
    languages = spoken if options.languages else [known.source_language, known.target_language]
    positions = select(scan, rule=options.rule, alpha=options.alpha, k=options.k, study=study)
    return Question(
        study.base_source, study.tuned_source, options.text,
        "" if options.whole else options.prompt.replace("\\n", "\n") or known.prompt, languages[0], languages[1],
        tuple(scan.token_ids[positions].tolist()), off, options.strength, options.max_new_tokens,
    )  # fmt: skip


def lines(asked: Asked, study: Study) -> list[str]:
    """What is printed: the prompt's ticket rows, the answers, and where probabilities part along what the ticket's rows write."""
    from ks_core.asking.answers import parting, touched
    from ks_core.asking.question import VOICES

    rows = touched(asked.read, asked.question.ticket)
    said = [
        f"prompt   {len(asked.read)} tokens, {sum(rows.values())} of them rows of the ticket ({len(rows)} of {len(asked.question.ticket):,})"
    ]
    if rows:
        said.append("         " + ", ".join(f"{visible(study.token_string(i))} ({i}) {n}x" for i, n in rows.items()))
    for voice, title in VOICES.items():
        answer = asked.answers.get(voice)
        if answer:
            said += [f"{title:<8} {visible(answer.text.strip()) or '(nothing)'}", f"         [{answer.ending}]"]
        else:
            said.append(f"{title:<8} does not answer: {visible(asked.lacking.get(voice, ''))}")
    along = next((v for v in ("ticket", "tuned", "base") if v in asked.along), "base")
    places = asked.along.get(along, [])
    for voice in (v for v in VOICES if v != "base" and all(v in p.nats for p in places)):
        _, words = parting(places, "base", voice, study.token_string, asked.answers[along].stopped)
        said.append(f"along what {VOICES[along]} wrote: {visible(words)}")
    return said
