"""The program as a package: its wheel in an environment of its own, where nothing of the repository is found."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest
from packaging.utils import canonicalize_name

from helpers import lock
from helpers.places import ROOT
from helpers.serving import Visitor, serving
from ks_core import __version__


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True,
                   capture_output=True)  # fmt: skip
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The ``bin`` of an environment with the wheel, which finds the libraries of this one."""
    place = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(place, with_pip=False)
    own = next(place.glob("lib/python*/site-packages"))
    (own / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    pip = [sys.executable, "-m", "pip", "--python", place / "bin" / "python", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--quiet", wheel], check=True)
    return place / "bin"


def run(installed, folder, *words):
    """``ks-lottery`` with these words, as a person types it in a folder of theirs."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([installed / "ks-lottery", *words], cwd=folder, env=environment, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_holds_the_app_and_nothing_of_the_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name.startswith(f"ks_lottery_explorer-{__version__}-py3-none-any")
    app = {n.removeprefix("ks_core/_app/") for n in names if n.startswith("ks_core/_app/")}
    there = {
        p.relative_to(ROOT).as_posix()
        for place in ("app.py", "pages", "assets/demo", ".streamlit")
        for p in [ROOT / place, *(ROOT / place).rglob("*")]
        if p.is_file() and "__pycache__" not in p.parts
    }
    assert there <= app and "assets/logo.png" in app
    tops = {n.partition("/")[0] for n in names}
    assert tops == {"ks_core", f"ks_lottery_explorer-{__version__}.dist-info"}, "it takes no name but its own"
    assert "ks_core/py.typed" in names and any(n.endswith("licenses/LICENSE") for n in names)
    assert not any("__pycache__" in n or n.endswith(".pyc") for n in names)


@pytest.mark.whole
def test_its_commands_run(installed, tmp_path, demo_home):
    assert run(installed, tmp_path, "--version").strip().endswith(__version__)
    where = subprocess.run(
        [installed / "python", "-c", "import ks_core; print(ks_core.__file__)"], cwd=tmp_path, capture_output=True, text=True
    ).stdout  # fmt: skip
    assert str(ROOT) not in where
    run(installed, tmp_path, "scan", "demo:base", "demo:en-fr", "--output", "tokens.csv")
    assert (tmp_path / "tokens.csv").read_text().count("\n") > 49152
    assert "4 tuned runs" in run(installed, tmp_path, "doctor")


@pytest.mark.whole
def test_its_app_is_served(installed, tmp_path, demo_home, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    command = ["-c", f"import os, sys; os.chdir({str(tmp_path)!r}); os.execv({str(installed / 'ks-lottery')!r}, "
               "['ks-lottery', 'serve', '--port', sys.argv[1]])"]  # fmt: skip
    with serving(tmp_path / "log", command) as address, Visitor(address) as visitor:
        visitor.open("", {})
        assert not visitor.errors()
        assert "112" in [m.body for m in visitor.widgets("metric")]


def test_the_versions_of_the_tests_are_within_the_ranges():
    pinned = {canonicalize_name(n): v for n, v in lock.pinned().items()}
    for requirement in lock.asked():
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement
    for name, file in (("cluster", "requirements-cluster.txt"), ("dev", "requirements-dev.txt")):
        wanted = {canonicalize_name(n): v for n, v in lock.pinned(ROOT / file).items()}
        asked = {canonicalize_name(r.name): r for r in lock.extras(name)}
        assert set(asked) == set(wanted), f"{file} and the extra {name}"
        assert all(asked[n].specifier.contains(v) for n, v in wanted.items())


def test_the_lock_is_what_make_lock_writes():
    """Of what is installed here; another system may need more, never less."""
    versions = {canonicalize_name(n): v for n, v in lock.pinned().items()}
    for name, version in lock.needed(lock.asked()).items():
        assert versions[canonicalize_name(name)] == version, f"{name} {version}: run make lock"


def test_the_citation_names_this_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {__version__}" in text and "2402.02801" in text
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    told = json.loads((ROOT / "assets" / "published_tickets.json").read_text(encoding="utf-8"))
    assert told, "what THIRD_PARTY.md names is there"
