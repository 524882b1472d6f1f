"""Rules beyond p and D: each takes the rows that its order says, keeps what it computed, and says why where it cannot."""

import numpy as np
import pytest
from scipy import stats

from ks_core.commands.program import main
from ks_core.errors import Cancelled, SettingsError, TicketError
from ks_core.jobs import queue
from ks_core.jobs.running import Running
from ks_core.ledger.rules import RULES
from ks_core.signature import Signature
from ks_core.store import workspace
from ks_core.study import statistics
from ks_core.study.scan import Scan, Study
from ks_core.tickets.changed import NEEDS, Changed
from ks_core.tickets.null import Null
from ks_core.tickets.orders import ORDERS, SCORED, SIDES
from ks_core.tickets.selection import SELECTION_RULES, is_quick, run_selection, select
from ks_core.tickets.ticket import Ticket

OF_THE_PAIR = [name for name, rule in SELECTION_RULES.items() if rule.needs == ""]
OF_THE_TRAINING = [
    "noise",
    "d-adjusted",
    "d-noise",
    "steps",
    "frequency",
    "prompt",
    "recorded-gradient",
    "recorded-first",
    "matched",
]
SCIPY = {
    "wasserstein": stats.wasserstein_distance,
    "energy": stats.energy_distance,
    "cramer-von-mises": lambda a, b: stats.cramervonmises_2samp(a, b, method="asymptotic").statistic,
    "sign": lambda a, b: -stats.binomtest(int((b > a).sum()), int((b != a).sum())).pvalue,
    "wilcoxon": lambda a, b: abs(stats.wilcoxon(b - a, method="asymptotic", correction=False).zstatistic),
    "l2": lambda a, b: np.linalg.norm(b - a),
    "cosine": lambda a, b: -(a @ b) / np.linalg.norm(a) / np.linalg.norm(b),
    "mean-shift": lambda a, b: abs((b - a).mean()),
    "relative-l2": lambda a, b: np.linalg.norm(b - a) / np.linalg.norm(a),
    "bottom": lambda a, b: -stats.ks_2samp(a, b).statistic,
}


@pytest.fixture
def study(tiny_pair):
    base, tuned, _ = tiny_pair
    return Study(base, tuned)


def values(study, scan):
    """Before and after of each changed row, float64, by token id."""
    return {
        int(i): [m.block(int(i), int(i) + 1)[0].astype(float) for m in (study.pair.before, study.pair.after)]
        for i in scan.token_ids[scan.changed]
    }


@pytest.mark.parametrize("rule", SCIPY)
def test_the_k_first_are_those_of_scipys_statistic(study, rule):
    scan = study.scan()
    rows = values(study, scan)
    # Equal ones by the longer shift, then by id, as everywhere.
    ranked = sorted(rows, key=lambda i: (-round(float(SCIPY[rule](*rows[i])), 6), -scan.l2[scan.token_ids == i][0], i))
    chosen = select(scan, rule=rule, k=4, study=study)
    assert set(scan.token_ids[chosen]) == set(ranked[:4])
    assert chosen.tolist() == [n for n in scan.order() if n in chosen], (
        "a ticket stands in the order of D, whoever chose it"
    )


@pytest.mark.parametrize("rule", OF_THE_PAIR)
def test_what_the_pair_decides_is_kept(study, rule, monkeypatch):
    scan = study.scan()
    first = select(scan, rule=rule, k=3, study=study)
    assert len(first) == 3 and scan.changed[first].all()

    def computed(*_):
        raise AssertionError("this was computed before")

    monkeypatch.setattr(statistics, "in_blocks", computed)
    again = Study(study.base_source, study.tuned_source)
    assert select(again.scan(), rule=rule, k=3, study=again).tolist() == first.tolist()
    assert select(again.scan(), rule=rule, k=100, study=again).size == scan.changed.sum(), "no more than changed"


def test_orders_and_tickets_and_the_ledger_are_one_list():
    """Every order is offered for tickets, those of the model as it was last asked, and the ledger compares all of them."""
    orders = {**ORDERS, **SCORED}
    offered = {"count" if name == "d" else name for name in orders}
    assert offered <= set(SELECTION_RULES) and set(orders) == set(RULES)
    assert set(SCORED) == {n for n, r in RULES.items() if r.needs in ("slopes", "attribution", "left out")}
    for name in set(orders) - {"d", "structural"}:
        ours, order = SELECTION_RULES[name], orders[name]
        assert ours.by_count and (ours.title, ours.side, ours.needs, ours.source) == (
            order.title,
            order.side,
            order.needs,
            order.source,
        )
        assert order.about in ours.about
    assert {rule.side for rule in SELECTION_RULES.values()} <= set(SIDES)
    assert {rule.needs for rule in SELECTION_RULES.values() if rule.needs} <= set(NEEDS)
    of_the_training = {n for n, r in SELECTION_RULES.items() if r.needs and r.needs not in ("structural", "scored")}
    assert set(OF_THE_TRAINING) == of_the_training
    assert all(rule.source for rule in SELECTION_RULES.values())
    assert "this program" in SELECTION_RULES["noise"].source and "paper" in SELECTION_RULES["noise"].source


@pytest.mark.parametrize("rule", OF_THE_TRAINING)
def test_where_the_training_is_not_known_the_reason_is_said(study, rule):
    with pytest.raises(
        TicketError, match=rf"rule {rule} cannot choose rows here: .*(not written down|were recorded).*the pair alone"
    ):
        select(study.scan(), rule=rule, study=study)


def test_without_the_rows_and_without_the_line_break(study):
    scan = study.scan()
    with pytest.raises(TicketError, match="wasserstein needs the rows themselves"):
        select(scan, rule="wasserstein")
    assert select(scan, rule="l2", k=2).tolist() == select(scan, rule="l2", k=2, study=study).tolist(), (
        "the scan knows it"
    )
    with pytest.raises(TicketError, match="neither the row of the line break nor that of the colon"):
        select(scan, rule="structural", study=study)
    for rule in ("energy", "random", "l2"):
        with pytest.raises(SettingsError, match="k is 0"):
            select(scan, rule=rule, k=0, study=study)
    unchanged = Study(study.base_source, study.base_source)
    assert all(len(select(unchanged.scan(), rule=rule, study=unchanged)) == 0 for rule in SELECTION_RULES)


def known(**more):
    """Six changed rows of a scan by hand, of which everything is known."""
    ids, counts = np.array([2, 3, 5, 7, 8, 9]), np.array([30, 20, 10, 25, 5, 6])
    null = Null(ids, np.array([[24, 25, 3, 25, 1, 6]] * 30 + [[20, 10, 12, 10, 4, 7]] * 9), 64)
    zero = np.zeros((6, 0))
    return Changed(
        ids, tuple(map(str, ids)), counts / 64, 1 - counts / 64, counts * 1.0, np.ones(6), zero, zero, null=null, **more
    ).with_training({2: 9, 3: 8, 5: 100, 7: 10, 8: 8, 9: 1}, {}, [])


def test_beyond_noise_by_hand():
    chosen = SELECTION_RULES["noise"].function(known(), 0.05, 0)
    # Row 2 was never reached. Row 5 was by 9 draws of 39, the others by all or most; row 8 by none too.
    np.testing.assert_allclose(
        known().null.pvalues(known().statistic), [1 / 40, 31 / 40, 10 / 40, 31 / 40, 1 / 40, 1.0]
    )
    assert known().token_ids[chosen].tolist() == [2, 8]
    with pytest.raises(SettingsError, match=r"39 trainings on noise give no p-value below 0\.025"):
        SELECTION_RULES["noise"].function(known(), 0.025, 0)


def test_matched_rows_are_others_that_were_trained_about_as_often():
    for seed in range(5):
        chosen = SELECTION_RULES["matched"].function(known(seed=seed), 0.05, 2)
        assert known().token_ids[chosen].tolist() == [3, 8], "8 and 8 steps for rows of 9 and 10"
    with pytest.raises(TicketError, match=r"4 rows are wanted that match .* and 2 other rows were trained"):
        SELECTION_RULES["matched"].function(known(), 0.05, 4)


def test_a_statistic_can_be_stopped_and_is_then_not_kept(study, monkeypatch):
    monkeypatch.setattr(statistics, "BLOCK_BYTES", 2 * 8 * 16)
    seen = []

    def stopped(done, total, message):
        seen.append((done, total, message))
        if done >= 4:
            raise Cancelled

    with pytest.raises(Cancelled):
        select(study.scan(), rule="energy", study=study, report=stopped)
    assert seen == [(0, 10, "energy"), (2, 10, "energy"), (4, 10, "energy")]
    assert not statistics.is_kept(study, statistics.energy)


def test_the_job_leaves_what_a_page_needs(study, monkeypatch, tmp_path):
    monkeypatch.setattr("ks_core.tickets.selection.QUICK", 0)
    scan = study.scan()
    assert not is_quick(study, scan, "energy") and is_quick(study, scan, "alpha") and is_quick(study, scan, "l2")
    assert is_quick(study, scan, "noise"), "there is nothing to make: the training is not known"
    asked = {"base": study.base_source, "tuned": study.tuned_source, "rule": "energy"}
    workspace.write_json(tmp_path / "job" / "request.json", {"kind": "selection", "parameters": asked})
    assert run_selection(asked, Running(tmp_path / "job"))["rows"] == 10
    assert is_quick(study, scan, "energy")
    job = queue.submit("selection", {**asked, "rule": "steps"})
    assert job.wait(120) == "failed" and "not written down" in job.error


def test_the_command_takes_every_rule(study, tmp_path, capsys):
    words = ["ticket", study.base_source, study.tuned_source]
    assert main([*words, str(tmp_path / "w"), "--rule", "wasserstein", "--k", "4"]) == 0
    ticket = Ticket.load(tmp_path / "w")
    assert len(ticket) == 4 and ticket.rule == "wasserstein" and "rule:wasserstein" in ticket.signature
    capsys.readouterr()
    assert main([*words, str(tmp_path / "s"), "--rule", "steps"]) == 2
    assert "not written down" in capsys.readouterr().err and not (tmp_path / "s").exists()


def test_a_scan_alone_is_enough_for_controls():
    scan = Scan(
        np.arange(6),
        np.arange(6),
        np.array([0, 9, 3, 5, 7, 1]),
        np.ones(6),
        np.arange(6.0),
        np.ones(6),
        16,
        Signature({}),
        "cpu",
        0.0,
    )
    assert select(scan, rule="bottom", k=2).tolist() == [2, 5]
    drawn = select(scan, rule="random", k=3)
    assert len(drawn) == 3 and 0 not in drawn and drawn.tolist() == select(scan, rule="random", k=3).tolist()
