"""Gating, prompts and strength by likelihood: what acts where, against vectors put in place by hand; and what each gains."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from helpers.deltas import changed
from helpers.tiny_text import PROMPT, corpus as tiny_corpus
from ks_core.audit.delta import acting
from ks_core.audit.gating import GATES, read_gates
from ks_core.audit.prompt_transfer import read_prompts
from ks_core.audit.reading import Gains, read_each
from ks_core.audit.sentences import nats_of
from ks_core.audit.strength import read_strengths
from ks_core.errors import Cancelled, ModelError, SettingsError, TicketError
from ks_core.likelihood.nats import Likelihood
from ks_core.likelihood.references import references_of
from ks_core.likelihood.rows import lift_off, rows_of
from ks_core.likelihood.scorer import likelihood_of
from ks_core.likelihood.spans import SPANS

#: Rows of every span: the template's, some of the sources' and of the targets'.
IDS = [3, 4, 5, 6, 8, 9, 12, 20, 21, 25, 30, 33, 40, 44, 50]


@pytest.fixture
def model(tiny_model):
    return changed(tiny_model, IDS, seed=3)


@pytest.fixture
def text(tmp_path):
    return tiny_corpus(tmp_path, 150, two_words=True).load()


@pytest.fixture
def references(model, tiny_tokenizer, text):
    return references_of(model, tiny_tokenizer, text, PROMPT, sentences=6)


def by_hand(model, example, codes, on):
    """Nats of content and end of one reference, without padding: vectors are put in place by hand."""
    rows = rows_of(model)
    tuned, base = rows.full_matrix(), rows.base.weight.detach()
    ids, labels = example["input_ids"], example["labels"]
    vectors = torch.stack([(tuned if SPANS[c] in on else base)[i] for i, c in zip(ids, codes, strict=True)])
    with torch.inference_mode():
        logits = model(inputs_embeds=vectors[None]).logits[0]
    said = [n for n, label in enumerate(labels) if label >= 0]
    nats = [float(F.cross_entropy(logits[n - 1], torch.tensor(labels[n]))) for n in said]
    return sum(nats[:-1]), nats[-1]


@pytest.mark.parametrize("gate", GATES)
def test_each_gate_is_what_putting_vectors_by_hand_gives(model, references, gate):
    found = {run["name"]: run for run in read_gates(model, references, resamples=20)["runs"]}[gate]
    for n, example in enumerate(references.examples):
        content, end = by_hand(model, example, references.spans[n], GATES[gate])
        assert found["likelihood"]["content"][n] == pytest.approx(content, rel=1e-4)
        assert found["likelihood"]["end"][n] == pytest.approx(end, rel=1e-4)
    counted = [
        [sum(i in IDS and SPANS[c] == s for i, c in zip(e["input_ids"][:-1], codes[:-1], strict=True)) for s in SPANS]
        for e, codes in zip(references.examples, references.spans, strict=True)
    ]
    assert list(found["occurrences"].values()) == pytest.approx(np.mean(counted, axis=0).tolist())
    acted = [sum(count for s, count in zip(SPANS, own, strict=True) if s in GATES[gate]) for own in counted]
    assert found["acting"] == pytest.approx(np.mean(acted)) and found["touched"] == np.mean([a > 0 for a in acted])


def test_the_gates_are_base_and_tuned_at_their_ends_and_shares_are_of_all(model, references):
    said = []
    found = read_gates(model, references, ids=IDS[:6], resamples=50, report=lambda *step: said.append(step))
    runs = {run["name"]: run for run in found["runs"]}
    with acting(model, IDS[:6]):
        ticket = likelihood_of(model, references)
    with acting(model, strength=0):
        base = likelihood_of(model, references)
    for name, own in (("none", base), ("all", ticket)):
        np.testing.assert_allclose(runs[name]["likelihood"]["content"], own.content, rtol=1e-5)
    assert len({round(run["read"]["nats_all"], 5) for run in runs.values()}) >= 5 and found["rows"] == 6
    assert said[0][1] == said[-1][0] == said[-1][1] < len(GATES) * len(references), "what is the same is read once"
    everything = Gains(len(references), 50).of(base, ticket)
    for name, run in runs.items():
        own = nats_of(run)
        assert own["end"].value + own["content"].value == pytest.approx(own["all"].value, abs=1e-9), name
        assert own["all"].whole == pytest.approx(everything["all"].gain, rel=1e-4)
    assert nats_of(runs["all"])["all"].value == 1 and nats_of(runs["none"])["all"].gain == 0
    # A gate whose spans have no row is the base's, and had no opportunity.
    few = {run["name"]: run for run in read_gates(model, references, ids=[4], resamples=0)["runs"]}
    assert few["source"]["acting"] == 0 and few["source"]["likelihood"] == few["none"]["likelihood"]
    assert (
        few["instruction_head"]["acting"] == 1
        and few["instruction_head"]["likelihood"] == few["all"]["likelihood"] != few["none"]["likelihood"]
    )


def test_gates_that_were_read_before_are_not_read_again(model, references):
    whole = {
        run["name"]: Likelihood.from_dict(run["likelihood"])
        for run in read_gates(model, references, resamples=0)["runs"]
    }
    moved = Likelihood(whole["all"].content + 1, whole["all"].end, whole["all"].tokens, whole["all"].characters)
    said = []
    found = read_gates(
        model,
        references,
        resamples=0,
        known={"none": whole["none"], "all": moved},
        report=lambda *step: said.append(step),
    )
    runs = {run["name"]: run for run in found["runs"]}
    assert runs["all"]["likelihood"]["content"] == moved.content.tolist()
    assert runs["source"]["likelihood"] == whole["source"].as_dict() and said[-1][1] <= 6 * len(references)


def test_other_prompts_are_read_with_the_rows_and_without(model, tiny_tokenizer, text, references):
    templates = {"own": PROMPT, "other": "w50 {source}\nw51", "same": PROMPT}
    found = read_prompts(
        model, tiny_tokenizer, text, PROMPT, sentences=6, templates=templates, ids=IDS[:6], resamples=50
    )
    assert [(run["name"], run["trained"]) for run in found["runs"]] == [("own", True), ("other", False)] and found[
        "rows"
    ] == 6
    other = references_of(model, tiny_tokenizer, text, templates["other"], sentences=6)
    for run, asked in zip(found["runs"], (references, other), strict=True):
        for name, strength in (("base", 0.0), ("tuned", 1.0)):
            with acting(model, IDS[:6], strength):
                np.testing.assert_allclose(
                    run[name]["likelihood"]["content"], likelihood_of(model, asked).content, rtol=1e-5
                )
    own, kept = (nats_of(run["tuned"])["all"] for run in found["runs"])
    assert own.value == 1 and kept.whole == own.gain and kept.value == pytest.approx(kept.gain / own.gain)


def test_a_prompt_that_no_reference_fits_under_is_left_out_with_the_reason(model, tiny_tokenizer, text, monkeypatch):
    longest = " ".join(["w9"] * 200)
    monkeypatch.setattr(model.config, "max_position_embeddings", 60)
    found = read_prompts(
        model, tiny_tokenizer, text, PROMPT, sentences=3, templates={"long": f"{longest} {{source}}\nw6"}, resamples=0
    )
    assert [run["name"] for run in found["runs"]] == ["trained"] and "the model reads 60" in found["left"]["long"]


def test_the_best_strength_is_chosen_on_some_references_and_claimed_of_others(model, tiny_tokenizer, text, references):
    looked = references_of(model, tiny_tokenizer, text, PROMPT, part="development", sentences=6)
    said = []
    found = read_strengths(
        model, looked, references, rows={"ticket": IDS[:6], "all": None}, strengths=(0, 0.5, 1, 1.5), resamples=50,
        report=lambda *step: said.append(step),
    )  # fmt: skip
    points = {(p["rows"], p["strength"]): p for p in found["points"]}
    assert list(points) == [(rows, a) for rows in ("ticket", "all") for a in (0, 0.5, 1, 1.5)]
    for (rows, a), point in points.items():
        with acting(model, IDS[:6] if rows == "ticket" else None, a):
            np.testing.assert_allclose(point["likelihood"]["content"], likelihood_of(model, looked).content, rtol=1e-5)
    best = min((0, 0.5, 1, 1.5), key=lambda a: points["ticket", a]["read"]["nats_all"])
    assert found["chosen"] == best and {p["strength"] for p in found["claimed"]} == {0, 1, best}
    for point in found["claimed"]:
        with acting(model, IDS[:6], point["strength"]):
            np.testing.assert_allclose(
                point["likelihood"]["content"], likelihood_of(model, references).content, rtol=1e-5
            )
    claimed = {p["strength"]: p["read"]["nats_all"] for p in found["claimed"]}
    assert found["over_one"]["all"]["gain"] == pytest.approx(claimed[1.0] - claimed[best])
    assert (found["settings"]["part"], found["claim_settings"]["part"]) == ("development", "test")
    assert said[0][0] == 0 and said[-1][0] == said[-1][1], "strength 0 is read once, whatever the rows"


@pytest.mark.parametrize(("settings", "error", "says"), [
    ({"strengths": ()}, SettingsError, "at least one"),
    ({"strengths": (1, 1)}, SettingsError, "none twice"),
    ({"strengths": (float("nan"),)}, SettingsError, "strength is nan"),
    ({"rows": {}}, SettingsError, "0 sets"),
    ({"rows": {"ticket": []}}, TicketError, "'ticket' is empty"),
    ({"rows": {"ticket": [3, 7]}}, TicketError, "1 of 2 chosen rows .* token 7"),
])  # fmt: skip
def test_strengths_that_cannot_be(model, references, settings, error, says):
    with pytest.raises(error, match=says):
        read_strengths(model, references, references, **{"rows": {"ticket": [3]}, **settings})


def test_what_cannot_be_gated_and_a_reading_that_is_stopped(model, references):
    with pytest.raises(SettingsError, match="Unknown spans: middle"):
        read_gates(model, references, gates={"a": ("middle",)})
    rows = rows_of(model)
    slots = rows.slots.clone()

    def report(done, total, message):
        if done:
            raise Cancelled

    with pytest.raises(Cancelled):
        read_gates(model, references, ids=[3, 4], report=report)
    assert torch.equal(rows.slots, slots) and rows.gate is None and not rows._forward_pre_hooks
    lift_off(model)
    with pytest.raises(ModelError, match="no changed rows laid over"):
        read_gates(model, references)


def test_a_run_is_entered_for_its_own_batches_alone(model, references):
    entered = []

    def under(run, batch):
        entered.append((run, tuple(sorted(batch))))
        return acting(model, strength=float(run == "tuned"))

    found = read_each(model, {"base": references, "tuned": references}, under)
    assert sorted(entered) == [("base", tuple(range(6))), ("tuned", tuple(range(6)))]
    assert not np.allclose(found["base"].content, found["tuned"].content)
