"""The page Learn: its experiments against what is known, its drawings, and each step as a person goes through it."""

import itertools
import re

import numpy as np
import pytest
from scipy.stats import ks_2samp
from streamlit.testing.v1 import AppTest

from helpers.markup import text_of
from helpers.page_names import STEPS
from helpers.places import APP, ROOT
from ks_core.checkpoints import demo
from ks_core.drawing import alt
from ks_core.jobs import queue
from ks_core.ks.statistic import critical_value, pvalue_table
from ks_core.study.scan import Study
from ks_core.teaching import figures as lesson_figures, lessons
from ks_core.teaching.glossary import GLOSSARY
from ks_core.teaching.quiz import QUESTIONS
from ks_core.teaching.sources import SOURCES, cite

PAGES = ROOT / "pages"


def test_power_is_alpha_without_a_shift_and_grows_with_width_and_shift():
    nothing = lessons.power(0.0, 0.05, widths=(64, 576), draws=2000)
    # The test is discrete: its true level at 64 and 576 values is the largest p below alpha.
    for dim, share in zip((64, 576), nothing, strict=True):
        table = pvalue_table(dim)
        level = table[table < 0.05].max()
        assert abs(share - level) < 4 * np.sqrt(level * (1 - level) / 2000)
    some = lessons.power(0.2, 0.05)
    assert some[0] < 0.2 and some[-1] == 1 and all(b >= a - 0.05 for a, b in itertools.pairwise(some))
    assert lessons.power(0.4, 0.05)[3] > some[3]


def test_critical_values_that_a_question_quotes_are_the_exact_tests():
    quoted = [found for q in QUESTIONS for found in re.findall(r"(0\.\d+) at d = ([\d,]+)", q.why)]
    quoted += [found for q in QUESTIONS for found in re.findall(r"for (0\.\d+) at d = ([\d,]+)", q.why)]
    assert quoted
    for value, dim in quoted:
        exact = critical_value(int(dim.replace(",", "")), 0.05)
        assert f"{exact:.{len(value) - 2}f}" == value, f"at d = {dim} the exact test asks for {exact}"


def test_what_one_replication_found_is_never_said_of_the_method():
    """94% is of one unreviewed run on one model under one prompt; what speaks against it stands beside it."""
    texts = [term.meaning for term in GLOSSARY] + [question.why for question in QUESTIONS]
    said = [text for text in texts if "94%" in text]
    assert said
    for text in said:
        assert all(words in text for words in ("not reviewed", "LLaMA-7B", "English to Catalan", "one prompt")), text
    together = " ".join(texts)
    assert "0.40 to 0.59" in together and "Qwen2.5-7B" in together


@pytest.mark.parametrize("dim", [16, 64, 576])
def test_both_p_values_are_scipys(dim):
    found = lessons.asymptotic_pvalues(dim)
    generator = np.random.default_rng(dim)
    for _ in range(5):
        before, after = generator.standard_normal(dim), generator.standard_normal(dim) + 0.3
        reference = ks_2samp(before, after, method="asymp")
        k = round(reference.statistic * dim)
        # SciPy takes the exact law of one sample of d/2 values there; the limit is near it.
        assert found[k] == pytest.approx(reference.pvalue, rel=0.35, abs=0.02)
        assert pvalue_table(dim)[k] == pytest.approx(ks_2samp(before, after, method="exact").pvalue, rel=1e-9)
    assert 0 <= lessons.misjudged(dim, 0.05) <= 3


def test_ties_make_the_test_cautious():
    """Over many pairs of rounded rows p by relabelling is smaller than the one that assumes no ties."""
    differences = [
        found.exact - found.permutation for found in (lessons.ties(128, 1.0, 0.3, 300, seed) for seed in range(20))
    ]
    assert np.mean(differences) > 0.02
    plain = [lessons.ties(128, 0.0, 0.3, 300, seed) for seed in range(20)]
    assert abs(np.mean([found.exact - found.permutation for found in plain])) < 0.02
    assert plain[0].distinct == 256 and lessons.ties(128, 2.0, 0.0).distinct < 8


def test_a_moved_row_is_no_new_row():
    shares = lessons.dependence(576, 0.05, (0.05, 2.0), draws=400)
    assert shares["the same row, moved"][0] == 0 and 0.01 < shares["another row"][0] < 0.1
    assert shares["the same row, moved"][1] > 0.95
    assert lessons.dependence(64, 0.05, (0.5,)) == lessons.dependence(64, 0.05, (0.5,))


def test_every_figure_has_its_sentence_and_the_drawing_its_scenes():
    shares = lessons.dependence(64, 0.05, (0.1, 1.0), draws=20)
    drawn = [
        lesson_figures.power_curve((16, 64), [0.1, 0.95], 0.2, 0.05, 576),
        lesson_figures.power_curve((16, 64), [0.1, 0.2], 0.2, 0.05, None),
        lesson_figures.exact_and_asymptotic(16, 0.05),
        lesson_figures.permutation_histogram(lessons.ties(32, 0.5, 0.2, 50)),
        lesson_figures.dependence_curve((0.1, 1.0), shares, 0.05),
        lesson_figures.methods(),
    ]
    assert all(len(alt(figure)) > 60 and figure.layout.title.text for figure in drawn)
    frames = drawn[-1].frames
    assert len(frames) == len(lesson_figures.SCENES) == len(drawn[-1].layout.sliders[0].steps)
    base, result = frames[-1].data[0].marker.color, frames[-1].data[2].marker.color
    changed = {i for i, (a, b) in enumerate(zip(base, result, strict=True)) if a != b}
    assert changed == set(lesson_figures.WINNERS), "Partial Tuning changes the ticket's rows alone"


def test_every_claim_has_a_source_and_every_term_a_page():
    for term in GLOSSARY:
        assert term.sources and set(term.sources) <= set(SOURCES) and term.meaning.endswith(".")
        assert not term.page or (PAGES / f"{term.page}.py").is_file()
    for question in QUESTIONS:
        assert 0 <= question.right < len(question.options) and set(question.sources) <= set(SOURCES)
    assert cite("here") == "Source: computed here, on this page."


def learn(step):
    at = AppTest.from_file(APP, default_timeout=60).run()
    at = at.switch_page("pages/learn.py")
    at.session_state["step"] = step
    return at.run()


def words(at):
    return "\n".join(
        text_of(str(e.value)) for kind in ("markdown", "caption", "info", "header") for e in getattr(at, kind)
    )


@pytest.mark.parametrize("step", STEPS)
def test_every_step(demo_home, step):
    Study(demo.BASE, demo.TUNED).scan()
    at = learn(step)
    assert not at.exception and not at.error
    assert f"Step {STEPS.index(step) + 1} of 9" in words(at)
    if step not in ("Questions",):
        assert "Source" in words(at) or "has not been asked yet" in words(at)


def test_it_needs_no_model_for_the_test_itself(workspace_folder, tmp_path):
    """The first lessons stand on an empty workspace, and with a pair that cannot be opened."""
    at = AppTest.from_file(APP, default_timeout=60)
    at.query_params["base"] = at.query_params["tuned"] = str(tmp_path / "nothing")
    at = at.run().switch_page("pages/learn.py")
    for step in STEPS[:5]:
        at.session_state["step"] = step
        at.run()
        assert not at.exception and not at.error, step
    assert not queue.all_jobs()


def test_moving_a_slider_moves_d(demo_home):
    at = learn("CDFs")
    before = at.metric[0].value
    at.slider(key="learn_shift").set_value(1.5).run()
    assert float(at.metric[0].value) > float(before) and at.metric[3].value == "yes"
    next(b for b in at.button if b.label == "Next").click().run()
    assert "A wide row sees more" in at.header[0].value


def test_questions_are_answered(demo_home):
    at = learn("Questions")
    for number, question in enumerate(QUESTIONS):
        at.radio(key=f"learn_question_{number}").set_value(question.options[question.right]).run()
    assert at.metric[0].value == f"{len(QUESTIONS)} of {len(QUESTIONS)}"
    wrong = (QUESTIONS[0].right + 1) % len(QUESTIONS[0].options)
    at.radio(key="learn_question_0").set_value(QUESTIONS[0].options[wrong]).run()
    assert at.metric[0].value == f"{len(QUESTIONS) - 1} of {len(QUESTIONS)}" and "Rather" in at.warning[0].value


@pytest.mark.whole
def test_the_demo_model_is_asked_and_its_answers_shown(demo_home):
    """The real model, its real answers: the longest test here."""
    Study(demo.BASE, demo.TUNED).scan()
    at = learn("Stopping")
    next(b for b in at.button if b.label == "Ask the demo model").click().run()
    job = queue.all_jobs("tune")[0]
    assert job.wait(400) == "done", job.log_tail()
    at.run()
    assert not at.exception and "Of the gain in BLEU" in words(at) and len(at.code) == 2
    raw = at.code[0].value
    at.session_state["learn_rule"] = "first_line"
    at.run()
    assert raw.startswith(at.code[0].value) and "\n" not in at.code[0].value
    assert f"signature {job.result['signature']}" in words(at)


def test_the_glossary_is_searched(demo_home):
    at = AppTest.from_file(APP, default_timeout=60).run().switch_page("pages/glossary.py").run()
    assert f"{len(GLOSSARY)} of {len(GLOSSARY)} terms" in words(at)
    at.text_input(key="term").set_value("Partial Transfer").run()
    assert "Partial Transfer" in words(at) and "Bonferroni" not in words(at)
    at.text_input(key="term").set_value("xyzzy").run()
    assert "No term has these words" in words(at)
