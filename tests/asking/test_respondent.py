"""The process that answers a server's visitors: in turn, within bounds, and whatever they send."""

import os
import random

import psutil
import pytest

from helpers import answering
from helpers.places import ROOT
from helpers.waiting import until
from ks_core.asking import process
from ks_core.asking.answerer import MOST_WAITING, Respondent
from ks_core.asking.bounds import Bounds, bounds_of
from ks_core.asking.question import Question
from ks_core.errors import JobError, KSLotteryError
from ks_core.study.scan import Study


@pytest.fixture
def pair(tiny_pair):
    study = Study(*tiny_pair[:2])
    return study, bounds_of(study, study.scan())


def question(study, **changes):
    given = {"base": study.base_source, "tuned": study.tuned_source, "text": "w5 w7", "prompt": "w3 {source} w4", "ticket": (3, 5, 7),
             "max_new_tokens": 5}  # fmt: skip
    return Question(**{**given, **changes})


@pytest.fixture
def made():
    """Makes respondents, and ends their processes."""
    found = []

    def make(**settings):
        found.append(Respondent(**settings))
        return found[-1]

    yield make
    for one in found:
        one.close()


def test_questions_are_answered_in_turn_by_one_process(made, pair):
    study, bounds = pair
    one = made()
    first = one.ask(question(study), bounds, "a")
    second = one.ask(question(study, off=(3,)), bounds, "b")
    until(lambda: second.over, 120)
    assert first.state == second.state == "done", (first.error, second.error)
    assert set(first.answers) == {"base", "ticket", "tuned"} == set(first.along) and first.first_token <= first.seconds
    assert one.ask(question(study), bounds, "a") is first, "the same question is not answered twice"
    assert one.find(first.question.key) is first and one.find("unknown") is None
    pid = one.process
    third = one.ask(question(study, strength=0.5), bounds, "a")
    until(lambda: third.over, 120)
    assert one.process == pid, "the models are loaded once"
    psutil.Process(pid).kill()  # such as by a system that lacks memory
    fourth = one.ask(question(study, strength=0.25), bounds, "a")
    until(lambda: fourth.over, 120)
    assert fourth.state == "done" and one.process != pid
    one.close()
    assert one.process is None and not psutil.pid_exists(pid)


@pytest.mark.whole
def test_a_process_that_nobody_asks_is_ended(made, pair):
    study, bounds = pair
    one = made(kept=0.2)
    asked = one.ask(question(study), bounds, "a")
    until(lambda: asked.over, 120)
    pid = one.process
    until(lambda: one.process is None, 30)
    assert pid is None or not psutil.pid_exists(pid)
    again = one.ask(question(study, off=(3,)), bounds, "a")
    until(lambda: again.over, 120)
    assert again.state == "done"


@pytest.fixture
def planted(monkeypatch):
    """The process does something else than to answer."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    monkeypatch.setattr(process, "prepare", answering.prepare)

    def plant(function):
        monkeypatch.setattr(process, "answer", function)

    return plant


@pytest.mark.whole
@pytest.mark.parametrize(("function", "bounds", "says"), [
    (answering.asleep, (100, 1), "more than 1 seconds, which this server gives to no question"),
    (answering.computing, (1, 100), "more than 1 seconds of computing"),
])  # fmt: skip
def test_what_takes_too_long_is_ended_and_the_next_one_answered(
    made, pair, planted, monkeypatch, function, bounds, says
):
    study, _ = pair
    one = made(answering=bounds)
    planted(function)
    asked = one.ask(question(study), Bounds(1 << 30), "a")
    until(lambda: asked.read == (1,) or asked.over, 60)
    pid = one.process
    until(lambda: asked.over, 60)
    assert asked.state == "failed" and says in asked.error and not psutil.pid_exists(pid)
    monkeypatch.undo()
    one.answering = (300, 120)
    again = one.ask(question(study, off=(3,)), pair[1], "a")
    until(lambda: again.over, 120)
    assert again.state == "done", again.error


def test_too_many_questions_are_refused_and_a_visitor_has_one(made, pair, planted):
    study, _ = pair
    one = made(answering=(600, 60))
    planted(answering.asleep)
    running = one.ask(question(study), Bounds(1 << 30), "first")
    until(lambda: running.read == (1,), 60)
    waiting = [one.ask(question(study, text=f"w{n}"), Bounds(1 << 30), f"visitor {n}") for n in range(MOST_WAITING)]
    with pytest.raises(JobError, match="wait already"):
        one.ask(question(study, text="w60"), Bounds(1 << 30), "another")
    assert one.before(waiting[2].question.key) == 3
    newer = one.ask(question(study, text="w61"), Bounds(1 << 30), "visitor 0")
    assert waiting[0].state == "stopped" and newer.state == "waits", "a visitor's earlier question is given up"
    assert one.stop(waiting[1].question.key, "visitor 1")
    assert waiting[1].state == "stopped"
    psutil.Process(one.process).kill()
    until(lambda: running.over, 60)
    assert "was ended" in running.error
    for number, place in enumerate(waiting):
        one.stop(place.question.key, f"visitor {number}")
    one.stop(newer.question.key, "visitor 0")


def test_a_question_that_somebody_else_waits_for_goes_on(made, pair, planted):
    """Neither a visitor's Stop nor another question of theirs takes it from the others; the last one's does."""
    study, _ = pair
    here = {"a", "b", "c", "by a link"}
    one = made(answering=(600, 60), present=here.__contains__)
    planted(answering.asleep)
    running = one.ask(question(study), Bounds(1 << 30), "first")
    here.add("first")
    until(lambda: running.read == (1,), 60)
    shared = one.ask(question(study, text="w6"), Bounds(1 << 30), "a")
    key = shared.question.key
    assert one.ask(question(study, text="w6"), Bounds(1 << 30), "b") is shared
    assert one.find(key, "by a link") is shared
    assert not one.stop(key, "a") and shared.state == "waits"
    other = one.ask(question(study, text="w7"), Bounds(1 << 30), "b")
    assert shared.state == "waits" and other.state == "waits"
    assert one.find(key) is shared, "a look of nobody in particular makes nobody wait"
    assert one.stop(key, "by a link") and shared.state == "stopped"
    # Who closed the page, or reloaded it, is waited for no more.
    again = one.ask(question(study, text="w6"), Bounds(1 << 30), "a")
    one.ask(question(study, text="w6"), Bounds(1 << 30), "c")
    assert not one.stop(again.question.key, "a")
    one.ask(question(study, text="w6"), Bounds(1 << 30), "a")
    here.remove("c")
    assert one.stop(again.question.key, "a") and again.state == "stopped"
    assert one.stop(running.question.key, "first") and one.stop(other.question.key, "b")
    psutil.Process(one.process).kill()


def hostile(number):
    """Questions that mean harm, always the same: text of any kind, templates that break, ids that are none."""
    draw = random.Random(number)
    texts = ["w5 " * draw.choice((1, 100, 5000)), "".join(chr(draw.randrange(0x110000)) for _ in range(draw.randrange(1, 300))),
             "\x00\x1b[2J\u202e" * draw.randrange(1, 50), "![a](http://b.c) <script>alert(1)</script> $x$ `", "x" * draw.choice((10, 99_000, 2_000_000)),
             " ", "{source}{0}{a.b}", "w5\nw6\r\n" * draw.randrange(1, 40)]  # fmt: skip
    prompts = [
        "",
        "short",
        "{source}",
        "{source:>99999999}",
        "{",
        "{source.__class__}",
        "nothing",
        "w3 {source} w4",
        "{source}" * 3000,
    ]
    ids = [(3, 5), (), (63,), (10**6,), (1 << 62,), (-4,), ("a",), (1 << 80,)]
    return {"text": draw.choice(texts), "prompt": draw.choice(prompts), "ticket": draw.choice(ids), "off": draw.choice([(), (3,), (99,)]),
            "strength": draw.choice((1.0, 0.0, 4.0, -1.0, float("inf"), 1e300)), "max_new_tokens": draw.choice((1, 8, 256, 0, 10**9)),
            "source_language": draw.choice(("English", "\ud800", "x" * 200_000, "{source}"))}  # fmt: skip


@pytest.mark.whole
def test_hostile_questions_leave_it_well(made, pair):
    """Each is answered or refused in a sentence, and then a sound one is answered by the same process."""
    study, bounds = pair
    one, refused = made(), 0
    sound = one.ask(question(study), bounds, "a")
    until(lambda: sound.over, 120)
    pid = one.process
    for number in range(int(os.environ.get("TEST_QUESTIONS", "25"))):
        try:
            asked = one.ask(question(study, **hostile(number)), bounds, "a")
        except KSLotteryError as error:
            refused += bool(str(error))
            continue
        until(lambda asked=asked: asked.over, 120)
        assert asked.state == "done" or (asked.state == "failed" and asked.error), (number, asked.state)
        assert "server's log" not in asked.error, (number, asked.error)
    last = one.ask(question(study, strength=0.75), bounds, "a")
    until(lambda: last.over, 120)
    assert last.state == "done" and refused > 5
    assert one.process == pid, "none of them has cost the process"
