"""Tickets: which rows a rule chooses, and a folder that peft alone loads."""

import copy
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.stats import false_discovery_control

from ks_core.checkpoints import demo
from ks_core.errors import SettingsError, TicketError
from ks_core.ks.statistic import pvalue_table
from ks_core.likelihood.rows import lay_over
from ks_core.signature import Signature
from ks_core.study.scan import Scan, Study
from ks_core.tickets.appendix import published
from ks_core.tickets.selection import SELECTION_RULES, select, sizes
from ks_core.tickets.ticket import Ticket


def scan_of(counts, dim=64):
    counts = np.asarray(counts, np.int32)
    n = len(counts)
    return Scan(np.arange(n), np.arange(n), counts, pvalue_table(dim)[counts], counts * 0.1, np.ones(n), dim,
                Signature({"base": "a", "tuned": "b"}), "cpu", 0.0)  # fmt: skip


def test_the_papers_rule_and_its_order():
    scan = scan_of([0, 20, 3, 40, 16, 15])
    assert select(scan, rule="alpha", alpha=0.05).tolist() == [3, 1, 4]
    assert select(scan, rule="alpha", alpha=1e-9).tolist() == [3]
    assert scan.winners(0.05).tolist() == [False, True, False, True, True, False]


def test_count_takes_changed_rows_only():
    scan = scan_of([0, 20, 3, 0])
    assert select(scan, rule="count", k=18).tolist() == [1, 2]
    assert select(scan, rule="count", k=1).tolist() == [1]


@given(st.lists(st.integers(0, 64), min_size=1, max_size=60), st.sampled_from([0.001, 0.05, 0.3, 0.9]))
@settings(derandomize=True, max_examples=150)
def test_corrections_are_scipys_and_nested(counts, alpha):
    scan = scan_of(counts)
    chosen = {
        rule: set(select(scan, rule=rule, alpha=alpha).tolist())
        for rule in ("alpha", "bonferroni", "benjamini-hochberg")
    }
    adjusted = false_discovery_control(scan.pvalue, method="bh")
    clear = {i for i in range(len(counts)) if abs(adjusted[i] - alpha) > 1e-12}
    assert chosen["benjamini-hochberg"] & clear == {i for i in clear if adjusted[i] <= alpha}
    assert chosen["bonferroni"] == {i for i in range(len(counts)) if scan.pvalue[i] < alpha / len(counts)}
    assert chosen["bonferroni"] <= chosen["alpha"]
    assert sizes(scan, [alpha])[0] == len(chosen["alpha"])


@given(st.lists(st.integers(0, 64), min_size=1, max_size=60), st.sampled_from([0.001, 0.05, 0.3, 0.9]))
@settings(derandomize=True, max_examples=150)
def test_the_changed_rows_can_be_the_family(counts, alpha):
    """Rows that could not move are tests in name only; without them a correction is as it would be on the others alone."""
    scan, moved = scan_of(counts), [n for n, count in enumerate(counts) if count]
    for rule in ("bonferroni", "benjamini-hochberg"):
        chosen = select(scan, rule=f"{rule}-changed", alpha=alpha).tolist()
        alone = select(scan_of([counts[n] for n in moved]), rule=rule, alpha=alpha).tolist() if moved else []
        assert chosen == [moved[n] for n in alone]
        assert set(chosen) >= set(select(scan, rule=rule, alpha=alpha).tolist()), "the smaller family is the milder"


def test_every_rule_says_which_rows_are_its_family():
    for name, rule in SELECTION_RULES.items():
        if name.startswith(("bonferroni", "benjamini")):
            assert ("the rows that changed" in rule.about) == name.endswith("-changed")
            assert ("all rows tested, changed or not" in rule.about) != name.endswith("-changed")
    assert len({rule.about for rule in SELECTION_RULES.values()}) == len(SELECTION_RULES)


def test_what_corrections_leave_of_the_demo(demo_home):
    """And the demo's recipe says it."""
    scan = Study(demo.BASE, demo.TUNED).scan()
    left = {rule: len(select(scan, rule=rule)) for rule, found in SELECTION_RULES.items() if found.needs is None}
    assert left == {
        "alpha": 112, "bonferroni": 0, "bonferroni-changed": 1, "benjamini-hochberg": 0, "benjamini-hochberg-changed": 2, "count": 18,
    }  # fmt: skip
    fixed = len(scan.pvalue) - int(scan.changed.sum())
    said = demo.recipe()["considered"]["against"]
    assert f"nothing over all {len(scan.pvalue):,} rows, {fixed:,} of which could not move" in said
    assert f"over the {int(scan.changed.sum()):,} rows that changed they leave 1 and 2" in said
    everywhere = [json.loads((demo.ASSETS / "considered.json").read_text())]
    everywhere += [demo.recipe(run)["considered"] for run in ("en-fr-seed1", "en-fr-paper", "en-de", "en-fr-adam")]
    assert all(one["against"] == said for one in everywhere)


@pytest.mark.parametrize(
    "bad", [{"rule": "luck"}, {"alpha": 0}, {"alpha": 1}, {"alpha": float("nan")}, {"rule": "count", "k": 0}]
)
def test_settings_that_cannot_be(bad):
    with pytest.raises(SettingsError):
        select(scan_of([1, 2]), **bad)


def a_ticket(rows=None):
    rows = np.arange(32, dtype=np.float32).reshape(2, 16) if rows is None else rows
    return Ticket([9, 5], ["w9", "w5"], [0.5, 0.4], [1e-3, 1e-2], "alpha", 0.05, "base", "sig", {"corpus": "x"}, rows)


def test_what_is_saved_is_loaded(tmp_path):
    ticket = a_ticket()
    found = Ticket.load(ticket.save(tmp_path / "t"))
    assert found == ticket and len(found) == 2
    np.testing.assert_array_equal(found.rows, ticket.rows)


def test_peft_alone_loads_it_and_computes_the_same(tmp_path, tiny_folder, tiny_model):
    """The base untied on disk, as the app keeps it; peft knows nothing of this program."""
    from peft import PeftModel
    from transformers import LlamaForCausalLM

    rows = np.random.default_rng(0).standard_normal((2, 16)).astype(np.float32)
    folder = a_ticket(rows).save(tmp_path / "ticket")
    ours = copy.deepcopy(tiny_model)
    laid = lay_over(ours, [5, 9])
    with torch.no_grad():
        laid.rows.copy_(torch.from_numpy(rows[::-1].copy()))
    untied = LlamaForCausalLM.from_pretrained(tiny_folder, tie_word_embeddings=False)
    untied.lm_head.weight = torch.nn.Parameter(untied.get_input_embeddings().weight.detach().clone())
    theirs = PeftModel.from_pretrained(untied, str(folder)).eval()
    ids = torch.tensor([[1, 5, 9, 7, 5, 3]])
    with torch.no_grad():
        difference = (ours(input_ids=ids).logits - theirs(input_ids=ids).logits).abs().max()
    assert difference < 1e-5


def test_folders_that_are_no_tickets(tmp_path):
    with pytest.raises(TicketError, match=r"no ticket\.json"):
        Ticket.load(tmp_path)
    folder = a_ticket().save(tmp_path / "t")
    (folder / "ticket.json").write_text("{")
    with pytest.raises(TicketError, match="as JSON"):
        Ticket.load(folder)
    (folder / "ticket.json").write_text(json.dumps({"token_ids": [1, 2]}))
    with pytest.raises(TicketError, match="different rows"):
        Ticket.load(folder)


def test_nothing_is_saved_of_an_empty_ticket(tmp_path):
    with pytest.raises(TicketError, match="empty"):
        Ticket([]).save(tmp_path / "t")
    with pytest.raises(TicketError, match="rows are not known"):
        Ticket([1]).save(tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_the_published_tickets():
    tickets = published()
    assert len(tickets["en-ca"]) == 18
    assert len(set.intersection(*map(set, tickets.values()))) == 10
