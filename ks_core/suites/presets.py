"""Suites that have a name (``PRESETS``): the paper's experiments with its settings, and a small one of the demo.

What is known of the paper's settings is second hand: rates and epochs of Embed Tuning and Partial Tuning, 10,000 pairs, Flores-101's devtest, spBLEU.
Batch, schedule and warm-up are those of the code of a sibling paper by the same group; that this one used them is likely, and stated
nowhere. So are LoRA's rate and full tuning's. Which optimizer either used is not known either: dense Adam is taken, without weight decay.
Of prefix tuning no setting is known, and this program's rate is taken.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ks_core import values
from ks_core.checkpoints import demo
from ks_core.errors import SettingsError
from ks_core.registry import Entry, Registry
from ks_core.suites.suite import Suite, Text
from ks_core.translation.languages import find, language_name
from ks_core.tuning.arms import ARMS, Arm, parse_arm
from ks_core.tuning.plans import CorpusChoice
from ks_core.tuning.recipes import Recipe

#: The model of the paper and of the replication, and how it is mostly asked for on the hub.
PAPER_MODEL = "huggyllama/llama-7b"
#: Training pairs of the paper, and sentences of Flores-101's devtest.
PAIRS, SENTENCES = 10_000, 1012
#: What stands for a text that has still to be named, with how it is.
UNNAMED = "not-named:{pair}"
#: What a name of a text may hold, and what it becomes: en-ca, en, ca, and Flores' three letters.
PLACES = ("pair", "source", "target", "code")

_SIBLING = Recipe(batch_size=128, accumulate=16, optimizer="adam", schedule="cosine", warmup_share=0.03)
#: How the paper's arms are trained, by kind. Epochs of what the paper does not say: those of what it stands beside.
RECIPES = {
    "embed": replace(_SIBLING, learning_rate=2e-5, epochs=3.0),
    **{kind: replace(_SIBLING, learning_rate=1e-2, epochs=5.0) for kind in ("partial", "frequent", "rows", "matched", "random", "prompt", "prefix")},
    "lora": replace(_SIBLING, learning_rate=1e-4, epochs=3.0),
    "full": replace(_SIBLING, learning_rate=2e-5, epochs=3.0),
}  # fmt: skip
#: What the paper compares, but for full tuning, which takes twenty bytes a weight; and how many rows its tickets have.
ARMS_OF_PAPER = ("base", "embed", "partial", "transfer", "frequent", "prefix", "lora")
ROWS = {"en-ca": 18, "en-es": 18, "en-ro": 15, "en-de": 15, "en-da": 12, "en-pt": 17}
#: Levels of alpha of the suite that goes over them.
ALPHAS = (0.5, 0.1, 0.05, 0.01, 1e-3, 1e-5)
#: Steps of each of the demo's trainings, of eight pairs; its test sentences that are scored.
DEMO_STEPS, DEMO_SENTENCES = 24, 24


def of_demo(kind: str) -> Recipe | None:
    """How an arm of the demo's suite is trained: as the program trains its kind, but shorter."""
    recipe = ARMS.find(kind).recipe
    return replace(recipe, steps=DEMO_STEPS) if recipe else None


@dataclass(frozen=True)
class Preset(Entry):
    """A suite with a name: its ``pairs``, its ``arms`` in the command line's words, how a kind of arm is trained where the words do not say
    (``recipe``), and what of a ``Suite`` differs from its defaults.

    ``texts`` are the names of text and test, with places for the pair (``{pair}``, ``{source}``, ``{target}``, ``{code}``); empty where nothing of the kind can
    come with the program. ``base`` is the model that is taken where none is named.
    """

    pairs: tuple[str, ...] = ("en-ca",)
    arms: tuple[str, ...] = ARMS_OF_PAPER
    recipe: Callable[[str], Recipe | None] = RECIPES.get
    base: str = PAPER_MODEL
    protocol: str = "sibling"
    seeds: tuple[int, ...] = (42,)
    texts: tuple[str, str] = ("", "")
    settings: Mapping[str, Any] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=lambda: ROWS)
    corpus: Mapping[str, Any] = field(default_factory=lambda: {"shortest": 1, "longest": 256, "most": PAIRS})


PRESETS = Registry("suite", [
    *(
        Preset(f"en-{code}", f"The paper's arms, English to {name}", "Base, Embed Tuning, its ticket trained and copied, the most frequent rows, a prefix and a LoRA.",
               "KS-Lottery, arXiv 2402.02801", pairs=(f"en-{code}",))
        for code, name in (("ca", "Catalan"), ("ro", "Romanian"), ("es", "Spanish"), ("de", "German"))
    ),
    Preset("four", "The paper's averages", "The same for Romanian, Spanish, German and Catalan, and their mean.", "KS-Lottery, arXiv 2402.02801",
           pairs=("en-ro", "en-es", "en-de", "en-ca")),
    Preset("alpha", "Trained against copied, over alpha", "Tickets of six levels of alpha, trained and copied.", "KS-Lottery, arXiv 2402.02801",
           arms=("base", "embed", *(f"{kind}:alpha={a}" for kind in ("partial", "transfer") for a in ALPHAS)), settings={"rule": "alpha"}),
    Preset("controls", "What doubts the ticket", "Random directions, matched rows, the prompt's rows, the base with a forced stop.",
           "an unreviewed replication of KS-Lottery (September 2026)", arms=("base", "stop", "embed", "partial", "transfer", "noise", "matched", "frequent", "prompt"), protocol="replication"),
    Preset("demo", "The demo, small", "The paper's arms on the demo's model and its two language pairs, three seeds; minutes on two cores.",
           pairs=("en-fr", "en-de"), recipe=of_demo, base=demo.BASE, protocol="demo", seeds=(0, 1, 2), texts=("pack:{target}-{TARGET}", ""),
           settings={"sentences": DEMO_SENTENCES, "written": 1}, rows={}, corpus={}),
])  # fmt: skip


def suite_of(
    preset: Preset,
    *,
    base: str = "",
    pairs: Sequence[str] = (),
    corpus: str = "",
    test: str = "",
    k: int = 0,
    arms: Sequence[str] = (),
    rows: Sequence[int] = (),
    steps: int = 0,
    **changes: Any,
) -> Suite:
    """A preset's suite, with what of it is chosen otherwise; ``changes`` are fields of ``Suite``.

    ``corpus`` and ``test`` name texts, with places for the pair: ``file:lego/{pair}.tsv``, ``flores:flores101/devtest#eng,{code}``. A text that is not
    named gets a name that no reader knows, so that loading it says so. ``arms`` are in the command line's words, ``rows`` the ids of the kind ``rows``;
    ``steps`` of every training, in the place of its epochs or steps. Raises ``SettingsError`` for what cannot be.
    """
    chosen = tuple(pairs) or preset.pairs
    settings = {
        "name": preset.name, "base": base or preset.base, "protocols": (preset.protocol,), "seeds": preset.seeds, "arms": tuple(_arm(text, preset, rows, steps) for text in arms or preset.arms),
        **preset.settings, **changes,
    }  # fmt: skip
    texts = tuple(
        _text(pair, corpus or preset.texts[0], test or preset.texts[1], preset.corpus, k or preset.rows.get(pair, 18))
        for pair in chosen
    )
    return Suite(texts=texts, **settings)


def _arm(text: str, preset: Preset, rows: Sequence[int], steps: int) -> Arm:
    """An arm in words, trained as the preset has it where the words do not say otherwise."""
    recipe = preset.recipe(text.strip().partition(":")[0])
    known = {name: value for name, value in asdict(recipe).items() if name != "seed"} if recipe else {}
    if steps or ":steps=" in text:
        known |= {"epochs": 0.0, **({"steps": steps} if steps else {})}
    return parse_arm(text, rows, **known)


def _text(pair: str, corpus: str, test: str, choice: Mapping[str, Any], k: int) -> Text:
    source, dash, target = values.text("A language pair", pair).strip().partition("-")
    if not (source and dash and target):
        raise SettingsError(
            f"{pair[:80]!r} is no language pair. Expected two codes with a dash between, such as en-ca."
        )
    named = CorpusChoice(
        filled(corpus or UNNAMED, pair), source_language=language_name(source), target_language=language_name(target),
        test=filled(test, pair), **choice,
    )  # fmt: skip
    return Text(pair.strip(), named, k)


def filled(name: str, pair: str) -> str:
    """The name of a text for a pair. Raises ``SettingsError`` for a place that is none of ``PLACES``.

    >>> filled("flores:devtest#eng,{code}", "en-ca"), filled("pairs/{pair}.tsv", "en-ro")
    ('flores:devtest#eng,cat', 'pairs/en-ro.tsv')
    """
    source, _, target = pair.partition("-")
    places = {"pair": pair, "source": source, "target": target, "TARGET": target.upper(), "code": three_letters(target)}
    try:
        wanted = {part[1] for part in string.Formatter().parse(name) if part[1] is not None}
    except ValueError:
        wanted = {""}
    if wanted - set(places):
        raise SettingsError(
            f"The name {name[:200]!r} has places that are not known. Expected some of: {', '.join(f'{{{p}}}' for p in PLACES)}."
        )
    return name.format(**places)


def three_letters(code: str) -> str:
    """A language's code of three letters, as Flores has it; the code as it is where none is known.

    >>> three_letters("ca"), three_letters("ro")
    ('cat', 'ron')
    """
    import langcodes

    known = find(code)
    try:
        return langcodes.Language.get(known.code).to_alpha3() if known else code
    except LookupError:
        return code
