"""What the models predict, for the certificate: the embed-tuned one, the ticket's, and those with other rows copied.

Comes in: a loaded model with every changed row over it, held-out text. Goes out: ``certificate.Predictions``, token by token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ks_core.audit.agreement.certificate import Predictions
from ks_core.audit.inquiry import structural_row
from ks_core.audit.material import Material
from ks_core.errors import TicketError
from ks_core.jobs import sharding, world
from ks_core.ks.statistic import critical_value
from ks_core.likelihood.scorer import Report, silent
from ks_core.study.scan import readable
from ks_core.tuning import row_choice
from ks_core.tuning.arms import Arm

if TYPE_CHECKING:
    from ks_core.translation.evaluation import HeldOut


def predict(
    model: Any,
    examples: Sequence[Mapping[str, list[int]]],
    *,
    pad: int,
    ticket: Sequence[int],
    statistic: Mapping[int, float],
    own: Sequence[Mapping[str, list[int]]] = (),
    others: Mapping[str, Sequence[int]] | None = None,
    batch_size: int = 8,
    report: Report = silent,
) -> Predictions:
    """What both models, and the base with each of ``others``' rows copied, predict along the references.

    ``model`` has every changed row laid over it (``ks_core.likelihood.rows``); ``examples`` are ``examples.encode``'s; ``statistic``
    maps token id to D (ids that are not in it have D = 0). ``own`` are ``own_answers``' examples of the same sentences,
    which are gone through in the same way; ``others`` maps names to ids of changed rows. A batch is run once for each model
    that is another one for it.
    ``report(done, total, message)`` may raise to cancel.
    """
    from ks_core.audit.delta import acting
    from ks_core.likelihood.batches import Collator, PairCollator, target_logits
    from ks_core.likelihood.examples import IGNORED, fed
    from ks_core.likelihood.rows import rows_of
    from ks_core.translation.encoder_decoder import is_encoder_decoder

    inside = set(map(int, ticket))
    left_out = {token: d for token, d in statistic.items() if token not in inside}
    sets: dict[str, list[int] | None] = {"tuned": None, "ticket": sorted(inside)}
    compared = {name: sorted(map(int, ids)) for name, ids in (others or {}).items()}
    halves = is_encoder_decoder(model)
    collate, texts, message = (
        PairCollator(pad) if halves else Collator(pad),
        (examples, own),
        "comparing the models' predictions",
    )
    batches = [
        (which, range(start, min(start + batch_size, len(texts[which]))))
        for which in (0, 1)
        for start in range(0, len(texts[which]), batch_size)
    ]
    pieces: list[tuple[tuple[int, int], dict[str, list[Any]]]] = []  # by the prefix and the first example of each
    total = len(examples) + len(own)
    model.eval()
    report(0, total, message)
    for (which, chosen), counts, taken in world.deal(batches, sharding.is_spread(model)):
        part = [dict(texts[which][i]) for i in chosen]
        batch = {name: values.to(model.device) for name, values in collate(part).items()}
        labels = batch["labels"][:, 1:]  # what each column is to predict, of a decoder the last ones
        rows, columns = (labels != IGNORED).nonzero(as_tuple=True)
        guesses: dict[str, list[int]] = {}
        read = {i for example in part for i in fed(example)}
        said: dict[frozenset[int], list[int]] = {}
        with sharding.inference(model):
            for name, ids in (sets | compared).items():
                # Two sets that share what this batch reads are one model here (random rows and none, often).
                here = read & set(rows_of(model).ids.tolist() if ids is None else ids)
                if (key := frozenset(here)) in said:
                    guesses[name] = said[key]
                    continue
                with acting(model, ids):
                    logits = target_logits(model, batch)[rows, columns].float()
                guesses[name] = said[key] = logits.argmax(-1).tolist()
                if name == "tuned":
                    top = logits.softmax(-1).topk(2).values.tolist()
        found: dict[str, list[Any]] = {name: [] for name in ("sentence", "place", "reference", "context", "own")}
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            # A decoder's example and batch end together; an encoder-decoder's begin together.
            place = column if halves else len(part[row]["labels"]) - labels.shape[1] + column
            before = fed(part[row])[: len(part[row]["input_ids"]) + column + 1 if halves else place]
            found["sentence"].append(chosen[row])
            found["place"].append(place)
            found["reference"].append(part[row]["labels"][place])
            found["context"].append(max((left_out.get(i, 0.0) for i in before), default=0.0))
            found["own"].append(which)
        found |= {"p_first": [p for p, _ in top], "p_second": [p for _, p in top]} | guesses
        if counts:
            pieces.append(((which, chosen[0]), found))
        report(sum(len(batch) for _, batch in batches[:taken]), total, message)
    in_order = [piece for _, piece in sorted(world.gather(pieces), key=lambda piece: piece[0])]
    lists: dict[str, Any] = {
        name: [value for piece in in_order for value in piece[name]]
        for name in (
            "sentence",
            "place",
            "reference",
            "tuned",
            "ticket",
            "p_first",
            "p_second",
            "context",
            "own",
            *compared,
        )
    }
    return Predictions(
        others={name: lists.pop(name) for name in compared}, **lists,
        rows={"ticket": sorted(inside), **compared} if compared else {},
        left_out=max(left_out.values(), default=0.0), sentences=len(examples),
    )  # fmt: skip


def own_answers(model: Any, tokenizer: Any, asked: HeldOut, report: Report = silent) -> list[dict[str, list[int]]]:
    """What the model writes greedily for each prompt, as ``examples.encode`` gives references: ids, and labels on the answer.

    The ids are the model's own, with the end token where it ended; an answer tokenized anew could be another sequence.
    The model is taken as it is: with every changed row acting, it is the embed-tuned one.
    """
    from ks_core.likelihood.examples import answered
    from ks_core.translation.generation import batches_of, write_ids

    batches = batches_of(asked.prompts, asked.batch_size)
    message = "writing the embed-tuned model's own answers"
    found: dict[int, dict[str, list[int]]] = {}
    for batch, counts, taken in world.deal(batches, sharding.is_spread(model)):
        report(sum(map(len, batches[: max(taken - world.size(), 0)])), len(asked), message)
        written = write_ids(model, tokenizer, [asked.prompts[i] for i in batch], max_new_tokens=asked.max_new_tokens)
        if counts:
            found |= {i: answered(model, tokenizer, *ids) for i, ids in zip(batch, written, strict=True)}
    found = dict(world.gather(list(found.items())))
    return [found[i] for i in range(len(asked))]


def baselines(
    counts: Mapping[int, int], changed: set[int], ticket: Sequence[int], size: int, structural: Sequence[int] = (), token: str = ""
) -> tuple[dict[str, list[int]], dict[str, str], dict[str, str]]:  # fmt: skip
    """Which other rows are copied for comparison: ids by name, the names in words, and notes (why one is missing, or how well
    it is matched).

    ``counts`` token id -> how often the model reads it in the training text (``examples.count_tokens``); rows that did not
    change are no candidates, as copying them copies nothing. ``structural`` is one row, ``token`` its text. Matched rows are
    there only where they match (``ks_core.tuning.matching``); otherwise the ticket's rows that have a partner, and the partners.
    """
    among = {i: n for i, n in counts.items() if i in changed}
    limit = "" if len(among) == len(counts) else ", of those that changed"
    material = row_choice.Material(among, ticket=list(ticket), size=size)
    rows: dict[str, list[int]] = {}
    titles: dict[str, str] = {}
    notes: dict[str, str] = {}

    def add(kind: str, words: str) -> bool:
        arm = Arm(kind)
        choose = {"frequent": row_choice.frequent, "random": row_choice.at_random, "matched": row_choice.matched,
                  "paired": row_choice.paired, "partners": row_choice.partners}[kind]  # fmt: skip
        try:
            rows[kind] = sorted(choose(arm, material))
        except TicketError as error:
            notes[kind] = str(error)
            return False
        titles[kind] = words.format(n=f"{len(rows[kind]):,}")
        if reached := row_choice.balance_of(kind, arm, material):
            notes[kind] = reached.sentence
        return True

    add("frequent", "the {n} most frequent rows" + limit)
    if structural and structural[0] in changed:
        rows["structural"], titles["structural"] = [int(structural[0])], f"the row {token}"
    elif structural:
        notes["structural"] = f"The row {token} did not change, so there is nothing to copy."
    if not add("matched", "{n} rows outside the ticket that occur as often") and add(
        "partners", "the partners of those"
    ):
        # The order of a sentence: the ticket's rows first, then their partners.
        partners, words = rows.pop("partners"), titles.pop("partners")
        add("paired", "those {n} rows of the ticket that have a partner within 25%")
        rows["partners"], titles["partners"] = partners, words
    add("random", "{n} random rows outside the ticket" + limit)
    rows["base"], titles["base"] = [], "no row (the base)"
    return rows, titles, notes


def panel(material: Material, report: Report) -> dict[str, Any]:
    """The panel ``certificate``: the models along the references of the sentences that are asked, and along own answers where
    the audit has answers written.

    For either prefix one run over the sentences for the embed-tuned model, the ticket and each baseline, less the batches for
    which two of them are the same.
    """
    from ks_core.likelihood.examples import count_tokens, examples_for
    from ks_core.likelihood.rows import reading

    model, tokenizer, scan, audit = material.model, material.tokenizer, material.scan, material.audit
    pairs = replace(material.corpus, train=material.corpus.part(material.asked.part)[: audit.sentences])
    examples = examples_for(model, tokenizer, pairs, audit.prompt)
    statistic = dict(zip(scan.token_ids[scan.changed].tolist(), scan.statistic[scan.changed].tolist(), strict=True))
    structural = structural_row(audit)
    rows, titles, notes = baselines(
        count_tokens(examples_for(model, tokenizer, material.corpus, audit.prompt, 1 << 62)), set(statistic), material.ticket,
        reading(model).weight.shape[0], structural,
        readable(audit.study.token_strings(), structural[0]) if structural else "",
    )  # fmt: skip
    found = predict(
        model, examples, pad=tokenizer.pad_token_id, ticket=material.ticket, statistic=statistic,
        own=own_answers(model, tokenizer, material.asked, report) if audit.generate else (), others=rows, report=report,
    )  # fmt: skip
    tests = {"alpha": 1, "bonferroni": len(scan.pvalue), "bonferroni-changed": max(int(scan.changed.sum()), 1)}
    below = None
    if audit.rule in tests:
        below = critical_value(scan.dim, audit.alpha / tests[audit.rule]) - 1 / scan.dim
    return replace(found, titles=titles, notes=notes, below=below).as_dict()
