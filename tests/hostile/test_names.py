"""Names that are no paths: the demo's, the hub's ids and revisions, the hub's corpora. None of them leads to a folder here."""

import json
import os
import sys

import numpy as np
import pytest

from helpers import samples
from ks_core.checkpoints import demo, hub
from ks_core.checkpoints.adapters import base_of, write_trainable_tokens
from ks_core.checkpoints.opening import open_checkpoint
from ks_core.errors import CheckpointError, CorpusError
from ks_core.store import access
from ks_core.translation import corpora
from ks_core.tuning import memory, trainings


@pytest.fixture
def roots(tmp_path, monkeypatch):
    """A server that looks into one empty folder."""
    (tmp_path / "open").mkdir()
    monkeypatch.setenv(access.ROOTS, str(tmp_path / "open"))


@pytest.fixture
def rows(tmp_path):
    """A whole adapter outside the roots, such as a name of the demo's could lead to."""
    write_trainable_tokens(tmp_path / "rows", [3], np.ones((1, 16), np.float32), base="demo:base")
    (tmp_path / "rows" / "recipe.json").write_text(json.dumps({"training_counts": {"1": 1}}))
    return tmp_path / "rows"


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("name", ["{rows}", "{rows}/", "{dots}", "{rows}/nothing", "{dots}-nothing", ".", "..", "en-fr/", "./en-fr", "en-fr/../en-de",
                                  "", " ", "en-fr-adam", "base/.."])  # fmt: skip
def test_names_of_the_demo_are_those_on_its_list(rows, monkeypatch, name, bounded):
    """Whether there is such a folder or not: the same words, and the list."""
    if bounded:
        monkeypatch.setenv(access.READ_ONLY, "1")
    name = name.format(rows=rows, dots=os.path.relpath(rows, demo.ASSETS))
    with pytest.raises(CheckpointError, match=r"The demo has no run .* There are: demo:base, demo:en-de, demo:en-fr"):
        open_checkpoint(f"demo:{name}")
    assert trainings.of(f"demo:{name}") is None or name in demo.kept_tests()
    if name not in demo.kept_tests():
        with pytest.raises(CheckpointError, match="no recipe"):
            demo.recipe(name)


def test_names_of_the_demo_need_no_roots(roots, demo_home):
    assert demo.resolve("demo") == demo.resolve(demo.TUNED)
    assert open_checkpoint("demo").path == open_checkpoint(demo.TUNED).path
    assert memory.shape_of(demo.BASE) is not None


@pytest.mark.parametrize(
    "name", ["org/name@../x", "org/name@a/../../x", "org/name@/etc", "org/name@a//b", "org/name@..", "org/name@a/./b"]
)
def test_a_revision_that_is_a_path_is_refused_by_its_form(name, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    said = set()
    for there in (False, True):
        if there:  # as a path it leads somewhere, and as a revision to a file in the cache
            (tmp_path / "org" / "name@a").mkdir(parents=True)
            samples.write(tmp_path / "x", samples.folder())
            refs = tmp_path / "hub" / "models--org--name" / "refs" / "a"
            refs.mkdir(parents=True)
            (refs.parent.parent / "x").write_text("0" * 40)
        with pytest.raises(CheckpointError, match="names a revision that cannot be") as caught:
            open_checkpoint(name)
        said.add(str(caught.value))
    assert len(said) == 1


def test_the_cache_of_the_hub_does_not_lead_out(tmp_path, monkeypatch):
    """What a revision stands for is written in a file of the cache: a path there leads to no other folder."""
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    (cache / "models--org--name" / "refs").mkdir(parents=True)
    (cache / "models--org--name" / "snapshots").mkdir()
    samples.write(tmp_path / "secret", samples.folder())
    (cache / "models--org--name" / "refs" / "main").write_text("../../../secret")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    with pytest.raises(CheckpointError, match="leads out of it"):
        open_checkpoint("org/name")


def test_ids_and_paths_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("org/name", "org/na.me", "o-r_g/n@refs/pr/1", "a/b@v1.0"):
        assert hub.is_id(name) and not hub.leads_astray(name)
    for name in (
        "./name",
        "../name",
        ".org/name",
        "org/.name",
        "org/..",
        "org",
        "a/b/c",
        "/a/b",
        "~/a",
        "a/b@",
        "a/b c",
    ):
        assert not hub.is_id(name)
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert not hub.is_id("org/name"), "without roots a folder of that name is meant"
    (tmp_path / "open").mkdir()
    monkeypatch.setenv(access.ROOTS, str(tmp_path / "open"))
    assert hub.is_id("org/name"), "and with roots one outside has no part in it"
    write_trainable_tokens(tmp_path / "open" / "rows", [3], np.ones((1, 16), np.float32), base="org/name")
    settings = json.loads((tmp_path / "open" / "rows" / "adapter_config.json").read_text()) | {"revision": "v1"}
    (tmp_path / "open" / "rows" / "adapter_config.json").write_text(json.dumps(settings))
    assert base_of(tmp_path / "open" / "rows") == "org/name@v1"
    monkeypatch.setenv(access.ROOTS, str(tmp_path))
    assert base_of(tmp_path / "open" / "rows") == "org/name" and not hub.is_id("org/name")


#: A stand-in for the package, which is not needed to run the program: like it, it takes what is here before it asks the hub.
DATASETS = """
import os
class config: pass
def load_dataset(path, split):
    if os.path.exists(path):
        return [{"a": f"the secret number {n}", "b": f"le secret {n}"} for n in range(100)]
    raise ConnectionError(path)
"""


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "datasets.py").write_text(DATASETS)
    monkeypatch.syspath_prepend(str(tmp_path / "package"))
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("datasets", None)


@pytest.mark.parametrize("bounded", [True, False])
def test_a_corpus_of_the_hub_is_nothing_on_this_machine(datasets, tmp_path, monkeypatch, bounded):
    if bounded:
        (tmp_path / "open").mkdir()
        monkeypatch.setenv(access.ROOTS, str(tmp_path / "open"))
    places = {
        name: []
        for name in (
            str(tmp_path / "org" / "name"),
            "./org/name",
            "../x",
            "org",
            "org/name/",
            "json",
            "/etc",
            "org/name",
        )
    }
    for there in (False, True):
        if there:
            (tmp_path / "org" / "name").mkdir(parents=True)
        for name, said in places.items():
            with pytest.raises(CorpusError) as caught:
                corpora.load(f"hub:{name}#a,b", source_language="A", target_language="B")
            said.append(str(caught.value))
    for name, (before, after) in places.items():
        assert before == after or (name == "org/name" and not bounded and "is on this machine too" in after)
        assert ("no id of a dataset" in before) == (name != "org/name")
