"""The certificate: hand-computed conditions, and predictions that are the models' own."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from helpers.markup import text_of
from helpers.places import APP
from helpers.tiny_text import PROMPT
from ks_core.audit import figures, sentences
from ks_core.audit.agreement import certificate
from ks_core.audit.agreement.certificate import Predictions, by_margin, outcome
from ks_core.audit.agreement.predictions import baselines, own_answers, predict
from ks_core.audit.agreement.rates import clopper_pearson
from ks_core.audit.inquiry import Audit
from ks_core.audit.panels import make_panels
from ks_core.drawing import alt
from ks_core.ks.statistic import exact_pvalue
from ks_core.likelihood.examples import IGNORED, encode
from ks_core.likelihood.rows import lay_over
from ks_core.translation.corpora import Corpus, SentencePair
from ks_core.translation.evaluation import held_out
from ks_core.translation.generation import generate
from ks_core.tuning.models import put_rows

BY_HAND = Predictions(
    sentence=[0, 0, 1, 1], place=[3, 4, 3, 4], reference=[9, 2, 9, 2], tuned=[9, 2, 5, 2], ticket=[9, 3, 5, 4],
    p_first=[0.9, 0.8, 0.5, 0.6], p_second=[0.1, 0.1, 0.4, 0.1], context=[0.1, 0.3, 0.0, 0.3], left_out=0.3, sentences=2,
)  # fmt: skip
BEFORE = Path(__file__).parents[1] / "store" / "workspace_before" / "workspace" / "audits"


def made(ticket, others=None, own=None, length=10, **more):
    """Predictions of sentences of ten certified tokens, all of them 1 by the embed-tuned model; who says 1 is given by token."""
    count = len(ticket)
    return Predictions(
        sentence=[n // length for n in range(count)] if own is None else [n // length % (count // length // 2) for n in range(count)],
        place=[3] * count, reference=[1] * count, tuned=[1] * count, ticket=[int(t) for t in ticket], p_first=[0.9] * count,
        p_second=[0.1] * count, context=[0.0] * count, left_out=0.3,
        sentences=count // length // (1 if own is None else 2), others=others or {}, own=own or [], **more,
    )  # fmt: skip


def test_the_condition_by_hand():
    found = outcome(BY_HAND, "vocabulary")  # margins .4, .35, .05, .25 against .3
    assert (found.tokens, found.certified, found.agreeing_certified, found.agreeing) == (4, 2, 1, 2)
    assert found.violations == (1,) and found.coverage == 0.5 and "1 certified case disagrees" in found.sentence
    found = outcome(BY_HAND, "context")  # against .1, .3, .0, .3
    assert (found.certified, found.agreeing_certified, found.violations) == (3, 2, (1,))
    nothing = outcome(replace(BY_HAND, left_out=0.6), "vocabulary")
    assert nothing.certified == 0 and nothing.interval() == (0, 1) and "none of the 4" in nothing.sentence


def test_clopper_pearson_by_hand():
    low, high = clopper_pearson(10, 10)
    assert high == 1 and low == pytest.approx(0.025 ** (1 / 10))
    assert clopper_pearson(0, 0) == (0, 1)


def test_the_interval_is_by_sentence():
    # Ten sentences, in five of which all ten tokens agree: a hundred tokens say no more than ten.
    whole = outcome(made(([1] * 10 + [0] * 10) * 5), "vocabulary").models[0].certified
    spread = outcome(made([1, 0] * 50), "vocabulary").models[0].certified
    assert whole.share == spread.share == 0.5 and (spread.low, spread.high) == (0.5, 0.5)
    low, high = clopper_pearson(50, 100)
    assert whole.low <= 0.25 < low and high < 0.75 <= whole.high
    # Of binomial draws: those of ten sentences, half of which agree, have these percentiles.
    assert (whole.low, whole.high) == (0.2, 0.8)


def test_where_no_draw_could_differ_the_interval_has_a_width():
    every = outcome(made([1] * 100), "vocabulary").models[0].certified
    assert every.high == 1 and every.low == pytest.approx(0.025 ** (1 / 10)), "ten sentences, not a hundred tokens"
    assert outcome(BY_HAND, "vocabulary").interval() == (0, 1), "two sentences give none"
    few = outcome(made([1, 0] * 20, {"base": [0, 0] * 20}), "vocabulary").models[1]
    assert (
        "bootstrap over the 2 sentences; where all tokens agree, or none, Clopper-Pearson"
        in outcome(BY_HAND, "context").sentence
    )
    assert few.behind == (0.5, -1, 1), "nor four a difference"


def test_every_share_in_the_sentence_has_its_interval():
    rng = np.random.default_rng(0)
    found = made(rng.random(400) < 0.7, {"base": (rng.random(400) < 0.5).astype(int).tolist()}, own=[0] * 200 + [1] * 200,
                 below=0.3)  # fmt: skip
    said = outcome(found, "vocabulary").sentence
    shares = [part for part in said.split() if part.rstrip(".,:;").endswith("%") or part.rstrip(".,:;").endswith("%]")]
    assert len([s for s in shares if s.startswith("[")]) == said.count("% [") and said.count("% [") == 7
    assert said.count("%") == 3 * said.count("% [") + said.count("95%") + 2 * said.count("0% to 100%")


def test_the_rule_decides_what_is_left_out_and_that_is_said():
    said = outcome(replace(BY_HAND, below=0.3), "vocabulary").sentence
    assert "no row left out can have a D above 0.3000, the lattice point just below the critical value" in said
    assert "how sure the embed-tuned model is of its next token, not how good the ticket is" in said
    assert "lattice" not in outcome(BY_HAND, "vocabulary").sentence, "another rule"


def test_other_rows_are_compared_at_the_same_tokens():
    ticket = [1] * 150 + [0] * 50
    same, worse, better = list(ticket), [0] * 200, [1] * 200
    order = np.random.default_rng(0).permutation(200)
    mixed = {name: np.array(v)[order].tolist() for name, v in
             {"frequent": same, "random": worse, "structural": better}.items()}  # fmt: skip
    titles = {"frequent": "the 3 most frequent rows", "random": "3 random rows", "structural": "the row ⏎"}
    rows = {"ticket": [3, 4, 5], "frequent": [4, 5, 6], "random": [7, 8, 9], "structural": [13]}
    found = made(np.array(ticket)[order], mixed, titles=titles, rows=rows, notes={"matched": "No match."})
    found = replace(found, p_first=[0.9] * 190 + [0.1] * 10)  # the last ten are not certified
    said = outcome(found, "vocabulary")
    certified = np.array(ticket)[order][:190].mean()
    assert [m.name for m in said.models] == ["ticket", "frequent", "random", "structural"]
    assert said.models[0].certified.share == said.models[1].certified.share == certified
    assert said.models[2].certified.share == 0 and said.models[3].all.share == 1
    assert (said.models[1].rows, said.models[1].inside, said.models[3].inside) == (3, 2, 0)
    assert said.models[1].behind == (0, 0, 0) and said.models[2].behind[0] == pytest.approx(certified)
    assert f"the 3 most frequent rows (2 of them the ticket's) {said.models[1].certified};" in said.sentence
    assert "higher than with 3 random rows." in said.sentence and "lower than with the row ⏎." in said.sentence
    assert "not told apart from that with the 3 most frequent rows." in said.sentence
    rows, caption = certificate.table(found.as_dict())
    assert [r["Rows copied"] for r in rows] == ["the ticket's rows", *titles.values()] and caption.endswith("No match.")
    assert "3 random rows 0.0%" in alt(figures.agreement_points(found.as_dict()))


def test_own_answers_do_not_mix_with_the_references():
    found = made([1] * 80 + [0] * 80, own=[0] * 80 + [1] * 80)
    said = outcome(found, "vocabulary")
    assert (said.tokens, said.agreeing, said.violations) == (80, 80, ())
    assert (said.own.tokens, said.own.agreeing, said.own.violations[0]) == (80, 0, 80)
    assert said.sentence.startswith("Given the reference so far, ")
    assert "Given the embed-tuned model's own greedy answer so far, the condition holds" in said.sentence
    assert sum(n for *_, n, _ in by_margin(found)) == 80


def test_a_panel_from_before_is_still_told_and_drawn():
    (kept,) = BEFORE.glob("*/certificate.json")
    panel = json.loads(kept.read_text())
    said = sentences.certificate(panel)
    assert said.startswith("Given the reference so far, ") and "28 predicted tokens" in said
    assert not any(words in said for words in ("other rows", "own greedy", "lattice"))
    rows, _ = certificate.table(panel)
    assert [r["Rows copied"] for r in rows] == ["the ticket's rows"] and "Rows" not in rows[0]
    assert alt(figures.agreement_curve(panel)) and alt(figures.agreement_points(panel))


def test_margins_fall_into_bins():
    bins = by_margin(BY_HAND, bins=5)
    assert [n for *_, n, _ in bins] == [1, 0, 1, 1, 1] and sum(k for *_, k in bins) == 2


def test_baselines_are_rows_that_changed():
    counts = {n: 1000 - n for n in range(40)}
    changed = set(range(0, 40, 2))
    rows, titles, notes = baselines(counts, changed, [2, 10, 20], 64, [5], "⏎")
    assert rows["frequent"] == [0, 2, 4] and titles["frequent"] == "the 3 most frequent rows, of those that changed"
    assert len(rows["random"]) == 3 and set(rows["random"]) <= changed - {2, 10, 20}
    assert set(rows["matched"]) <= changed - {2, 10, 20} and "3 pairs" in notes["matched"]
    assert rows["base"] == [] and "structural" not in rows and "row ⏎ did not change" in notes["structural"]
    assert baselines(counts, set(counts), [2, 10, 20], 64, [5], "⏎")[0]["structural"] == [5]


def test_what_does_not_match_is_no_matched_control():
    counts = {0: 30_000, 1: 100, 2: 100, 3: 90, 4: 95, 5: 2}
    rows, titles, notes = baselines(counts, set(counts), [0, 1], 64)
    assert "matched" not in rows and "no rows outside the ticket match it" in notes["matched"]
    assert rows["paired"] == [1] and rows["partners"][0] in (2, 3, 4) and "1 pairs" in notes["partners"]
    assert list(rows) == ["frequent", "paired", "partners", "random", "base"] and set(titles) == set(rows)
    few = baselines({0: 5, 1: 4}, {0, 1}, [0, 1], 64)
    assert set(few[0]) == {"frequent", "base"} and set(few[2]) == {"matched", "partners", "random"}


@pytest.fixture
def tiny(tiny_model, tiny_tokenizer):
    """Examples, the tiny model with rows laid over it, and those rows: ids, values, D."""
    pairs = tuple(
        SentencePair(" ".join(f"w{i + n}" for n in range(1 + i % 3)), f"w{i + 20} w{i + 21}") for i in range(5, 16)
    )
    examples = encode(Corpus("t", "A", "B", pairs, pairs[:1]), tiny_tokenizer, "w3 {source} w4", 128)
    model, ids = copy.deepcopy(tiny_model), [3, 4, 6, 9, 27]
    values = np.random.default_rng(0).normal(0, 1, (5, 16)).astype(np.float32)
    put_rows(lay_over(model, ids), values)
    return pairs, examples, model, ids, values, {3: 0.9, 4: 0.25, 6: 0.8, 9: 0.5, 27: 0.75}


def test_predictions_are_the_models_own(tiny, tiny_model, tiny_tokenizer):
    pairs, examples, model, ids, values, statistic = tiny
    ticket, other = [3, 6], [4, 27]
    asked = held_out(Corpus("t", "A", "B", pairs, pairs), "w3 {source} w4", part="", max_new_tokens=4, batch_size=4)
    own = own_answers(model, tiny_tokenizer, asked)
    texts = generate(model, tiny_tokenizer, asked.prompts, max_new_tokens=4, batch_size=4)
    for answer, written in zip(own, texts, strict=True):
        ends = [i for i, label in zip(answer["input_ids"], answer["labels"], strict=True) if label != IGNORED]
        assert len(ends) == written.tokens + written.stopped
        assert tiny_tokenizer.decode(ends, skip_special_tokens=True) == written.text
    told = []
    found = predict(
        model, examples, pad=2, ticket=ticket, statistic=statistic, batch_size=4, own=own, others={"other": other, "base": []},
        report=lambda done, total, message: told.append((done, total)),
    )  # fmt: skip
    assert found.left_out == 0.75 and found.sentences == len(examples) and told[-1] == (22, 22)
    assert found.own.count(0) == sum(label != IGNORED for e in examples for label in e["labels"])
    assert found.own.count(1) == sum(label != IGNORED for e in own for label in e["labels"]) == sum(found.own)
    assert found.rows == {"ticket": ticket, "other": other, "base": []}
    along = found.positions("own")
    assert [found.tuned[n] for n in along] == [found.reference[n] for n in along], "it is its own greedy answer"
    # One at a time, with nothing shared: the tuned model, and the base with the rows copied.
    for chosen, guesses in (
        (ids, found.tuned), (ticket, found.ticket), (other, found.others["other"]), ([], found.others["base"]),
    ):  # fmt: skip
        alone = copy.deepcopy(tiny_model)
        if chosen:
            put_rows(lay_over(alone, chosen), values[[ids.index(i) for i in chosen]])
        for n, (sentence, place) in enumerate(zip(found.sentence, found.place, strict=True)):
            text = (own if found.own[n] else examples)[sentence]["input_ids"]
            with torch.no_grad():
                probabilities = alone(torch.tensor([text[:place]])).logits[0, -1].softmax(-1)
            assert int(probabilities.argmax()) == guesses[n] and found.reference[n] == text[place]
            if chosen is ids:
                assert probabilities.topk(2).values.tolist() == pytest.approx(
                    [found.p_first[n], found.p_second[n]], abs=1e-5
                )
                read = [statistic[i] for i in text[:place] if i in statistic and i not in ticket]
                assert found.context[n] == max(read, default=0)


class Telling:
    def progress(self, *words, **more):
        pass

    def event(self, **fields):
        pass


def test_the_panel_is_made_and_shown(tiny_pair, monkeypatch):
    from pages.parts import audited

    base, tuned, corpus = tiny_pair
    audit = Audit(
        base,
        tuned,
        alpha=0.2,
        budget="small",
        corpus=corpus,
        prompt=PROMPT,
        max_new_tokens=5,
        device="cpu",
        generate=True,
    )
    scan = audit.study.scan()
    make_panels(audit, scan, ["certificate"], Telling())
    panel = audit.panel("certificate")
    found = Predictions.of(panel)
    silent = replace(audit, generate=False)
    silent.__dict__["study"] = audit.study
    assert silent.panel("certificate") == panel, "what was made with answers holds all that is asked without them"
    (silent.folder()).mkdir(parents=True)
    make_panels(silent, scan, ["certificate"], Telling())
    assert (
        list(Predictions.of(silent.panel("certificate")).prefixes) == ["reference"]
        and audit.panel("certificate") == panel
    )
    assert (
        exact_pvalue(np.array([found.below]), scan.dim)[0]
        >= 0.2
        > exact_pvalue(np.array([found.below + 1 / scan.dim]), scan.dim)[0]
    )
    assert found.left_out <= found.below and {"frequent", "base"} <= set(found.others)
    assert set(found.titles) == set(found.others) and set(found.rows) == {"ticket", *found.others}
    assert list(found.prefixes) == ["reference", "own"] and max(found.sentence) < found.sentences
    said = sentences.certificate(panel)
    monkeypatch.setattr(audited, "choose", lambda study: (audit, None))
    at = AppTest.from_file(APP, default_timeout=60)
    at.query_params.update({"base": base, "tuned": tuned})
    at = at.run().switch_page("pages/certificate.py").run()
    shown = [text_of(m.value) for m in [*at.markdown, *at.caption]]
    assert not at.exception and said in shown and any("by construction the lattice point" in text for text in shown)
    assert [m.label for m in at.metric] == ["Tokens predicted", "Certified", "Agreement, certified", "Agreement, all"]
    at.session_state["certificate_prefix"] = "own"
    at = at.run()
    assert not at.exception and at.metric[0].value == f"{sum(found.own):,}"
    old = {n: v for n, v in panel.items() if n not in ("own", "others", "rows", "titles", "notes", "below")}
    count = found.own.count(0)
    old |= {n: v[:count] for n, v in old.items() if isinstance(v, list)}
    (audit.folder() / "certificate.json").write_text(json.dumps(old))
    at = at.run()
    assert not at.exception and at.metric[0].value == f"{count:,}"
    assert sentences.certificate(old) in [text_of(m.value) for m in at.markdown]
    assert [h.value for h in at.header] == ["Certified, and yet they disagree"]
