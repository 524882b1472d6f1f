"""Prompt transfer: one trained change under prompts that it was not trained with.

A ticket is found, and its rows trained, under one prompt. Whether it carries the language or only the wording shows when the
same change is used under another named template, with the base under that same template beside it: the tuned reading alone
would mix up what the change brings with what the template brings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ks_core.audit.delta import acting
from ks_core.audit.material import Material
from ks_core.audit.reading import Gains, kept, read_each, settings
from ks_core.errors import CorpusError
from ks_core.likelihood.nats import Likelihood
from ks_core.likelihood.references import references_of
from ks_core.likelihood.scorer import Report, silent
from ks_core.translation.bootstrap import RESAMPLES
from ks_core.translation.corpora import Corpus
from ks_core.translation.encoder_decoder import is_encoder_decoder
from ks_core.translation.prompts import template as template_text, texts


def read_prompts(
    model: Any,
    tokenizer: Any,
    corpus: Corpus,
    prompt: str,
    *,
    sentences: int = 0,
    templates: Mapping[str, str] | None = None,
    ids: Sequence[int] | None = None,
    known: tuple[Likelihood, Likelihood] | None = None,
    resamples: int = RESAMPLES,
    report: Report = silent,
) -> dict[str, Any]:
    """Read the first ``sentences`` test references (0: all) under each template, with the change and without, as plain values.

    ``prompt`` is that of the training, which comes first; the others follow in their order (``None``: the named ones for such a
    model). ``runs`` has for each its ``name``, ``template``, whether it is the ``trained`` one, ``base`` and ``tuned`` as
    ``reading.kept`` (shares are of the gain under the trained prompt); ``left`` says why a template was not read. ``ids`` are
    the rows that act (``None``: every changed row); ``known`` are base and ticket under the trained prompt, where they were read
    before. Raises ``ModelError`` without laid-over rows, and what making references
    under the trained prompt raises.
    """
    own = template_text(prompt)
    named = {
        name: template_text(text)
        for name, text in (templates or texts(is_encoder_decoder(model), corpus.task.name)).items()
    }
    first = next((name for name, text in named.items() if text == own), "trained")
    named = {first: own} | {name: text for name, text in named.items() if text != own}
    references, left = {}, {}
    for name, text in named.items():
        try:
            references[name] = references_of(model, tokenizer, corpus, text, sentences=sentences)
        except CorpusError as error:  # a longer template, or one that the target is tokenized into
            if name == first:
                raise
            left[name] = str(error)
    keys = {
        f"{'the tuned rows' if tuned else 'the base'} under the prompt {name}": (name, tuned)
        for name in references
        for tuned in (False, True)
    }
    there = {key: known[tuned] for key, (name, tuned) in keys.items() if known and name == first}
    read = read_each(
        model, {key: references[name] for key, (name, _) in keys.items()}, lambda key, batch: acting(model, ids, float(keys[key][1])),
        known=there, report=lambda done, total, key: report(done, total, f"reading with {key}"),
    )  # fmt: skip
    found = {keys[key]: likelihood for key, likelihood in read.items()}
    gains, whole = Gains(len(references[first]), resamples), (found[first, False], found[first, True])
    runs = []
    for name in references:
        base, tuned = found[name, False], found[name, True]
        runs.append({
            "name": name, "template": named[name], "trained": name == first, "base": kept(base, gains.of(base, base, whole)),
            "tuned": kept(tuned, gains.of(base, tuned, whole)),
        })  # fmt: skip
    with acting(model, ids) as rows:
        count = int((rows.slots >= 0).sum())
    return {"runs": runs, "left": left, "rows": count, "settings": settings(references[first], resamples)}


def panel(material: Material, report: Report) -> dict[str, Any]:
    """The panel ``transfer``: the ticket under every named prompt."""
    return read_prompts(
        material.model, material.tokenizer, material.corpus, material.audit.prompt, sentences=material.audit.sentences,
        ids=material.ticket, known=material.ends, report=report,
    )  # fmt: skip
