"""The cache: what goes in comes out, damage is noticed, the bound holds."""

import os
import time

import numpy as np
import pytest

from ks_core.store.cache import Cache

KEY = {"base": "ab", "tuned": "cd"}


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def test_what_goes_in_comes_out(cache):
    arrays = {"counts": np.arange(5, dtype=np.int32), "p": np.array([1e-84, 1.0])}
    assert cache.store("scan", KEY, arrays, {"seconds": 0.5, "word": "é"})
    found = cache.load("scan", KEY)
    assert found.note == {"seconds": 0.5, "word": "é"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.arrays[name].dtype == array.dtype


def test_the_order_of_a_key_does_not_matter_and_its_values_do(cache):
    cache.store("scan", KEY, {}, {"n": 1})
    assert cache.load("scan", dict(reversed(KEY.items()))).note == {"n": 1}
    assert cache.load("scan", {**KEY, "tuned": "ce"}) is None
    assert cache.load("drift", KEY) is None


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "header"])
def test_a_damaged_entry_is_removed_and_absent(cache, damage):
    cache.store("scan", KEY, {"p": np.ones(100)}, {})
    path = cache.path("scan", KEY)
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[:-10]
    elif damage == "flip":
        data[-3] ^= 1
    elif damage == "empty":
        data = bytearray()
    else:
        data[:8] = b"\xff" * 8
    path.write_bytes(data)
    assert cache.load("scan", KEY) is None
    assert not path.exists()
    cache.store("scan", KEY, {"p": np.ones(100)}, {})
    assert cache.load("scan", KEY) is not None


def test_an_entry_under_another_key_is_not_believed(cache):
    cache.store("scan", KEY, {}, {"n": 1})
    other = {**KEY, "tuned": "ee"}
    os.replace(cache.path("scan", KEY), cache.path("scan", other))
    assert cache.load("scan", other) is None


def test_the_oldest_leaves_first(tmp_path):
    cache = Cache(tmp_path / "cache", limit=20_000)
    for n in range(4):
        cache.store("scan", {"n": n}, {"a": np.zeros(1000)}, {})
        stamp = time.time() - 100 + n
        os.utime(cache.path("scan", {"n": n}), (stamp, stamp))
        if n == 1:
            assert cache.load("scan", {"n": 0}) is not None  # read just now: 1 is the older one
    assert cache.load("scan", {"n": 3}) is not None
    assert cache.load("scan", {"n": 1}) is None
    assert sum(e.bytes for e in cache.entries()) <= 20_000


def test_clear_by_kind(cache):
    cache.store("scan", KEY, {}, {})
    cache.store("drift", KEY, {}, {})
    assert cache.clear("scan") == 1
    assert [e.kind for e in cache.entries()] == ["drift"]
    assert cache.clear() == 1
    assert cache.entries() == []


def test_a_folder_that_takes_nothing_is_no_error(tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    cache = Cache(blocked / "cache")
    assert cache.store("scan", KEY, {}, {}) is False
    assert "could not be kept" in caplog.text
    assert cache.load("scan", KEY) is None
