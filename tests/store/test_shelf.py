"""What is kept for all visitors: made once for the same content, another for other content, in bounds, and everybody's own."""

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pandas as pd
import pytest

from ks_core.store import shelf
from ks_core.study import figures

made = []


@dataclass(frozen=True)
class About:
    """Something with content, as pages hand it on."""

    values: np.ndarray
    words: list[str]
    frame: pd.DataFrame

    @cached_property
    def largest(self):
        return float(self.values.max())


def total(about, times=1):
    made.append(times)
    return {"total": float(about.values.sum()) * times, "words": list(about.words)}


def fails(value):
    made.append(value)
    raise ZeroDivisionError(value)


def large(size):
    made.append(size)
    return bytes(size)


def about(last=2.0):
    """Made anew each time, so that nothing can be told by which object it is."""
    words = ["a" * n for n in (1, 2, 2)]
    return About(np.array([1.0, last]), words, pd.DataFrame({"x": [1, 2], "y": ["p", "q"]}))


@pytest.fixture(autouse=True)
def empty(monkeypatch):
    """A shelf of its own for each test, and nothing made."""
    monkeypatch.setattr(shelf, "_shelf", shelf.Shelf())
    made.clear()


def test_the_same_content_is_made_once_and_other_content_anew():
    assert shelf.kept(total, about()) == shelf.kept(total, about()) == {"total": 3.0, "words": ["a", "aa", "aa"]}
    assert made == [1]
    assert shelf.kept(total, about(3.0))["total"] == 4.0
    assert shelf.kept(total, about(), times=2)["total"] == 6.0
    assert made == [1, 1, 2]


def test_equal_values_have_one_name_and_others_another():
    name = shelf.name_of(about())
    asked = about()
    assert asked.largest == 2.0 and shelf.name_of(asked) == name, "what it worked out besides is no content"
    word = "long" * 5
    assert name == shelf.name_of(about()) and len(name) == 16
    assert shelf.name_of([word, word]) == shelf.name_of([word, "".join(["long"] * 5)])
    others = [
        (about(3.0),),
        (np.array([1.0]),),
        (np.array([1.0], np.float32),),
        (np.array([[1.0]]),),
        ("1",),
        (1,),
        (1.5,),
        (None,),
    ]
    assert len({name, *(shelf.name_of(other) for other in others)}) == len(others) + 1
    assert shelf.name_of(partial(figures.cdfs, [1], [2])) != shelf.name_of(partial(figures.cdfs, [1], [3]))
    assert shelf.name_of((figures.cdfs, 1)) != shelf.name_of((figures.layer_map, 1))


def test_everybody_has_an_object_of_their_own():
    shelf.kept(total, about())["words"].append("spoiled")
    assert shelf.kept(total, about())["words"] == ["a", "aa", "aa"]
    first, second = (shelf.made_bytes("sum", about(), lambda: total(about())) for _ in range(2))
    assert first is second, "the bytes are one object for all"


def test_what_fails_is_not_kept():
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            shelf.kept(fails, 1)
    assert made == [1, 1]


def test_what_is_made_from_more_goes_by_what_decides_it():
    found = [shelf.made("sum", {"rows": key}, lambda: large(10)) for key in ("ab", "ab", "cd")]
    assert made == [10, 10] and found == [bytes(10)] * 3
    shelf.made("other", {"rows": "ab"}, lambda: large(11))
    assert made == [10, 10, 11]


def test_a_function_without_a_name_is_refused():
    with pytest.raises(Exception, match="lambda"):
        shelf.kept(lambda: 1)


def test_what_nobody_asked_for_longest_makes_room(monkeypatch):
    monkeypatch.setattr(shelf, "_shelf", shelf.Shelf(2500))
    for size in (1000, 1001):
        shelf.kept(large, size)
    shelf.kept(large, 1000)  # asked for again: the other one leaves
    shelf.kept(large, 1002)
    assert made == [1000, 1001, 1002] and shelf._shelf.held < 2500
    shelf.kept(large, 1000)
    assert made == [1000, 1001, 1002]
    shelf.kept(large, 1001)
    assert made == [1000, 1001, 1002, 1001]
    shelf.clear()
    assert shelf._shelf.held == 0


def test_what_is_too_large_is_made_each_time(monkeypatch):
    monkeypatch.setattr(shelf, "LARGEST", 500)
    for _ in range(2):
        assert len(shelf.kept(large, 1000)) == 1000
    assert made == [1000, 1000] and shelf._shelf.held == 0
