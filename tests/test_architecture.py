"""The house: rooms import down only, each has a face, and what is costly to load is loaded late."""

import ast
import importlib
import logging
import subprocess
import sys
import tomllib

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

from helpers.places import ROOT

CORE = ROOT / "ks_core"
ROOMS = sorted(p.parent.name for p in CORE.glob("*/__init__.py"))


@pytest.fixture(autouse=True)
def loggers():
    """The linter switches off every logger that is there; tests that come after want them as they were."""
    was = {
        name: one.disabled for name, one in logging.root.manager.loggerDict.items() if isinstance(one, logging.Logger)
    }
    root = logging.root.level, list(logging.root.handlers)
    yield
    for name, disabled in was.items():
        logging.getLogger(name).disabled = disabled
    logging.root.setLevel(root[0])
    logging.root.handlers[:] = root[1]


CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def test_the_contracts_are_kept_and_none_of_them_looks_away(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert lint_imports(cache_dir=None) == EXIT_STATUS_SUCCESS, capsys.readouterr().out
    report = capsys.readouterr().out
    assert f"{len(CONTRACTS)} kept, 0 broken" in report
    assert not [c["name"] for c in CONTRACTS if c.get("ignore_imports") or c.get("exhaustive_ignores")]


def test_a_contract_that_is_broken_is_told(tmp_path, monkeypatch, capsys):
    """The contracts see what they are for: the same layers over a house in which a low room imports a high one."""
    for room in ("audit", "store"):
        (tmp_path / "house" / room).mkdir(parents=True)
        (tmp_path / "house" / room / "__init__.py").write_text("")
    (tmp_path / "house" / "__init__.py").write_text("")
    (tmp_path / "house" / "audit" / "verdict.py").write_text("")
    (tmp_path / "house" / "store" / "cache.py").write_text("def f():\n    from house.audit import verdict\n")
    layers = next(c for c in CONTRACTS if c["type"] == "layers")["layers"]
    kept = [name for name in layers if name in ("audit", "store")]
    (tmp_path / ".importlinter").write_text(
        "[importlinter]\nroot_package = house\n[importlinter:contract:1]\nname = Rooms\ntype = layers\n"
        "containers = house\nlayers =\n" + "".join(f"    {name}\n" for name in kept)
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert lint_imports(config_filename=".importlinter", cache_dir=None) != EXIT_STATUS_SUCCESS
    assert "house.store is not allowed to import house.audit" in capsys.readouterr().out


def test_rooms_are_of_a_size_that_can_be_overlooked():
    assert len([p for p in CORE.glob("*.py") if not p.name.startswith("__")]) <= 8
    for room in ROOMS:
        files = [p for p in (CORE / room).glob("*.py") if not p.name.startswith("__")]
        assert len(files) <= 22, f"{room} has {len(files)} files"
        repeating = [p.name for p in files if room in p.stem.split("_")]
        assert not repeating, f"{room}: {repeating} repeat the room's name"


@pytest.mark.parametrize("room", ["", *ROOMS])
def test_every_room_has_a_face_whose_names_are_there(room):
    face = CORE / room / "__init__.pyi"
    module = importlib.import_module(f"ks_core.{room}" if room else "ks_core")
    named = [
        a.asname or a.name for n in ast.parse(face.read_text()).body if isinstance(n, ast.ImportFrom) for a in n.names
    ]
    assert len(named) == len(set(named)) and sorted(named) == sorted(set(module.__all__))
    for name in named:
        assert getattr(module, name) is not None
    if room:  # a file of a room must not hide a name of its face
        files = {p.stem for p in (CORE / room).glob("*.py")}
        modules = {a.name for n in ast.parse(face.read_text()).body if n.module is None for a in n.names}
        assert not (files & set(named)) - modules
        assert "Comes in" in module.__doc__ and "Goes out" in module.__doc__


def test_pages_know_rooms_by_their_faces_alone():
    for path in [ROOT / "app.py", *(ROOT / "pages").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ks_core.")):
                continue
            room, _, inside = node.module.removeprefix("ks_core.").partition(".")
            assert not inside, f"{path.name} line {node.lineno} reaches past the face of {room}: {node.module}"
            if room in ROOMS:
                face = importlib.import_module(f"ks_core.{room}").__all__
                missing = [a.name for a in node.names if a.name not in face]
                assert not missing, f"{path.name} line {node.lineno}: the face of {room} does not offer {missing}"


HEAVY = ("torch", "transformers", "peft", "numba", "umap", "plotly", "pandas", "sacrebleu")


@pytest.mark.parametrize(
    ("modules", "allowed"),
    [
        ("ks_core.commands.program", ()),
        (", ".join(f"ks_core.{room}" for room in ROOMS), ()),
        ("ks_core.tuning.plans, ks_core.tuning.arms, ks_core.tuning.recipes", ()),
        ("ks_core.audit.inquiry, ks_core.audit.evidence, ks_core.audit.panels", ()),
        ("ks_core.study.scan, ks_core.tickets.ticket, ks_core.tickets.selection, ks_core.checkpoints.opening", ()),
    ],
)
def test_what_is_chosen_and_shown_loads_nothing_heavy(modules, allowed):
    code = f"import sys; import {modules}; print([m for m in {HEAVY} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert found.returncode == 0, found.stderr
    heavy = set(ast.literal_eval(found.stdout)) - set(allowed)
    assert not heavy, f"importing {modules} loads {sorted(heavy)}"
