"""Every page on the demo, and on input that cannot work, through Streamlit's own test runner."""

import numpy as np
import pytest
from safetensors.numpy import save_file
from streamlit.testing.v1 import AppTest

from helpers.page_names import PAGES
from helpers.places import APP
from ks_core.checkpoints import demo
from ks_core.jobs import queue
from ks_core.study.scan import Study


@pytest.fixture
def scanned(demo_home):
    """The demo's scan, in the cache as `make app` leaves it."""
    return Study(demo.BASE, demo.TUNED).scan()


def app(**query):
    at = AppTest.from_file(APP, default_timeout=60)
    for key, value in query.items():
        at.query_params[key] = str(value)
    return at.run()


def words(at):
    """All that a page says, in one string."""
    found = [
        e.value
        for kind in ("markdown", "caption", "info", "error", "warning", "title", "header")
        for e in getattr(at, kind)
    ]
    return "\n".join(map(str, found))


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_on_the_demo(scanned, page):
    at = app().switch_page(f"pages/{page}.py").run()
    assert not at.exception and not at.error
    assert at.title[0].value


def test_the_page_and_the_scan_have_the_same_winners(scanned):
    at = app()
    assert at.metric[0].value == f"{int(scanned.winners(0.05).sum()):,}"
    at = at.switch_page("pages/winning_tokens.py").run()
    shown = at.dataframe[0].value
    assert set(shown.token_id) == set(scanned.token_ids[scanned.winners(0.05)])


def test_alpha_and_pair_come_from_the_link_and_go_to_all_pages(scanned):
    at = app(alpha="0.001", base="demo:base", tuned="demo:en-fr")
    expected = int(scanned.winners(0.001).sum())
    assert at.metric[0].value == f"{expected:,}"
    at = at.switch_page("pages/ks_test.py").run()
    assert f"**{expected:,}** of 49,152" in words(at)
    # The test runner opens a page of pages/ without the router, so the sidebar is not there to be clicked.
    at.session_state["alpha"] = 0.2
    at.run()
    assert f"**{int(scanned.winners(0.2).sum()):,}** of 49,152" in words(at)


def test_a_token_by_its_id(scanned):
    at = app(token="198").switch_page("pages/ks_test.py").run()
    place = int(np.nonzero(scanned.token_ids == 198)[0][0])
    assert at.metric[0].value == f"{scanned.statistic[place]:.4f}"


def test_search_and_rules(scanned):
    at = app().switch_page("pages/winning_tokens.py").run()
    at.text_input(key="search").set_value(" french").run()
    assert all("french" in t.lower() for t in at.dataframe[0].value.token)
    at.text_input(key="search").set_value("no such token anywhere").run()
    assert "No token fits" in words(at) and not at.exception
    at.text_input(key="search").set_value("").run()
    at.selectbox(key="rule").set_value("count").run()
    at.number_input(key="k").set_value(5).run()
    assert "**5** of" in words(at)
    at.selectbox(key="rule").set_value("bonferroni").run()
    assert "not in the paper" in words(at) and not at.exception


def test_an_identical_pair_is_said_plainly(demo_home):
    Study(demo.BASE, demo.BASE).scan()
    at = app(tuned="demo:base")
    assert "identical" in words(at) and not at.exception and not at.error
    for page in PAGES[1:]:
        at = at.switch_page(f"pages/{page}.py").run()
        assert not at.exception and not at.error, page


def test_what_cannot_be_opened_is_explained_and_the_demo_offered(scanned, tmp_path):
    at = app(tuned=str(tmp_path / "missing"))
    assert "does not exist" in at.error[0].value and not at.exception
    next(b for b in at.button if b.label == "Open the demo").click().run()
    assert not at.error and at.metric[0].value


def test_a_row_with_nan_is_explained_by_the_job(demo_home, tmp_path):
    rows = np.ones((8, 4), np.float32)
    save_file({"model.embed_tokens.weight": rows}, tmp_path / "a.safetensors")
    rows[3, 1] = np.nan
    save_file({"model.embed_tokens.weight": rows}, tmp_path / "b.safetensors")
    at = app(base=str(tmp_path / "a.safetensors"), tuned=str(tmp_path / "b.safetensors"))
    assert not at.exception
    assert queue.all_jobs("scan")[0].wait(60) == "failed"
    at.run()
    assert "Row 3 after tuning holds NaN" in at.error[0].value and not at.exception
    assert len(queue.all_jobs("scan")) == 1, "a failed scan is not started again by itself"
    assert not list((demo_home / "cache").rglob("*.safetensors"))


def test_small_pairs_without_tokenizers(demo_home, tmp_path):
    generator = np.random.default_rng(0)
    base = generator.standard_normal((30, 64)).astype(np.float32)
    tuned = np.concatenate([base[:20] + 3, base[20:25]])
    for name, rows in (("a", base), ("b", tuned)):
        save_file({"model.embed_tokens.weight": rows}, tmp_path / f"{name}.safetensors")
    sources = [str(tmp_path / f"{name}.safetensors") for name in "ab"]
    Study(*sources).scan()
    at = app(base=sources[0], tuned=sources[1])
    assert at.metric[0].value == "20" and not at.exception
    at = at.switch_page("pages/checkpoints.py").run()
    assert "5 rows of a.safetensors have no partner" in words(at) and "No tokenizer was found" in words(at)


def test_what_bounds_the_numbers_is_said_where_they_stand(demo_home, tmp_path):
    """Rows that were not tested, and rounding: on the pages that show the result, and not on Checkpoints alone."""
    base = np.random.default_rng(0).standard_normal((30, 64)).astype(np.float32)
    for name, rows in (("a", base), ("b", base[:25].astype(np.float16))):
        save_file({"model.embed_tokens.weight": rows}, tmp_path / f"{name}.safetensors")
    sources = [str(tmp_path / f"{name}.safetensors") for name in "ab"]
    Study(*sources).scan()
    at = app(base=sources[0], tuned=sources[1])
    shown = {metric.label: metric.value for metric in at.metric}
    assert (shown["Rows tested"], shown["Not tested"], shown["Rows changed"]) == ("25", "5", "0")
    assert "All rows that were tested are identical but for rounding" in words(at)
    for page in ("overview", "ks_test"):
        at = at.switch_page(f"pages/{page}.py").run()
        assert not at.exception
        assert "5 rows of a.safetensors have no partner and are not tested" in words(at)
        assert "F32 to F16" in words(at) and "rounded" in at.code[-1].value, page
    at = app(base=sources[0], tuned=sources[0])
    assert "Not tested" not in [metric.label for metric in at.metric]


def test_a_tokenizer_that_cannot_be_read_is_explained(tmp_path):
    rows = np.random.default_rng(0).standard_normal((30, 64)).astype(np.float32)
    for name in "ab":
        (tmp_path / name).mkdir()
        save_file({"model.embed_tokens.weight": rows}, tmp_path / name / "model.safetensors")
        (tmp_path / name / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": {"a": "' + "x" * 2000)
    at = app(base=str(tmp_path / "a"), tuned=str(tmp_path / "b"))
    for page in ("overview", "checkpoints", "winning_tokens"):
        at = at.switch_page(f"pages/{page}.py").run()
        assert not at.exception and "tokenizer.json" in at.error[0].value, page


def test_without_a_base_the_demo_is_prepared_by_a_job(workspace_folder, demo_models):
    at = app()
    assert not at.exception
    job = queue.all_jobs("demo")[0]
    (workspace_folder / "models").mkdir(exist_ok=True)
    job.cancel()
    assert job.wait(60) == "cancelled"
    at.run()
    assert "cancelled" in words(at) and not at.exception
