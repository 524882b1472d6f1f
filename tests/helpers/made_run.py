"""A finished run of Fine-tune that nobody ran: its answers are made of the references, so that its verdict is known."""

import json
from dataclasses import asdict

import numpy as np

from ks_core.likelihood.nats import Likelihood
from ks_core.translation.evaluation import held_out
from ks_core.translation.generation import Generation
from ks_core.translation.scores import evaluate
from ks_core.tuning.plans import CorpusChoice, Plan

#: Words of the references, and words that are in none.
WORDS = [a + b for a in ("ba", "ko", "mi", "ru", "se", "ta", "vo", "le") for b in ("na", "di", "lo", "ge", "pu")]
WRONG = ["xi", "zo", "qua", "wef", "yul", "jup", "hik", "fon"]


class MadeRun:
    """What ``gains`` reads of a job. ``arms``: (arm, right words, whether it ends, facts); what is a tuple goes round over the
    sentences, and of the right words there are one more or less in turn. ``nats`` (content, end) of each arm: the run is
    judged by the likelihood of references of eight tokens, and has no answers."""

    def __init__(self, folder, arms, *, sentences=20, prompt="short", nats=None):
        self.id, self.folder, self.state, self.shipped = "made", folder / "run", "done", None
        lines = [
            f"source {n} of many\t" + " ".join(WORDS[(7 * n + step * (n % 11 + 1)) % len(WORDS)] for step in range(8))
            for n in range(600)
        ]
        (folder / "made.tsv").write_text("\n".join(lines), encoding="utf-8")
        choice = CorpusChoice(f"file:{folder / 'made.tsv'}", source_language="English", target_language="French")
        plan = Plan(
            base="b",
            tuned="t",
            corpus=choice,
            prompt=prompt,
            arms=tuple(a for a, *_ in arms),
            sentences=sentences,
            generate=not nats,
        )
        asked = held_out(choice.load(), prompt, sentences)
        found = []
        for n, (arm, right, ends, facts) in enumerate(arms):
            answers = [
                self.answer(asked, i, _turn(right, i) + ((n + 1) * i) % 3 - 1, _turn(ends, i))
                for i in range(len(asked))
            ]
            facts = dict(facts)
            if nats:
                content, end = (
                    np.full(len(asked), mean) + 0.3 * ((n + np.arange(len(asked))) % 3 - 1) for mean in nats[n]
                )
                facts["likelihood"] = Likelihood(
                    content, end, np.full(len(asked), 8), np.full(len(asked), 40)
                ).as_dict()
            place = self.folder / "arms" / f"{n:02d}-{arm.kind}"
            place.mkdir(parents=True)
            if not nats:
                (place / "answers.json").write_text(json.dumps([asdict(a) for a in answers]))
            found.append({
                "arm": arm.as_dict(), "name": arm.name, "kind": arm.kind, "folder": place.name, "error": "", "trainable": 0, **facts,
                "evaluation": None if nats else evaluate(answers, asked.references, "French", resamples=0).as_dict(), "translating_seconds": 1.0,
            })  # fmt: skip
        self.result = {
            "arms": found, "significance": {}, "sweep": [], "notes": [], "signature": f"base:b|part:test|sentences:{len(asked)}",
        }  # fmt: skip
        (self.folder / "result.json").write_text(json.dumps(self.result))
        self.request = {"parameters": plan.as_dict()}

    def answer(self, asked, i, right, ends):
        """The first ``right`` words of a reference, and others after them."""
        words = asked.references[i].split()
        right = max(0, min(len(words), right))
        text = " " + " ".join(words[:right] + WRONG[: len(words) - right])
        more = "" if ends else "\nEnglish: another sentence\nFrench: " + " ".join(WRONG * 2)
        return Generation(asked.prompts[i], text + more, ends, 12, asked.frame)


def _turn(value, i):
    return value[i % len(value)] if isinstance(value, tuple) else value
