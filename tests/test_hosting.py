"""The image, as far as it can be checked without building one: its files are there, and its command runs with its environment."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from helpers.places import ROOT
from helpers.serving import Visitor, serving

NOBODY = 65534


def instructions():
    """The Dockerfile as pairs of a word and what follows it, lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.M).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def said(word):
    return [rest for name, rest in instructions() if name == word]


def copied():
    """What the image copies: source in the repository -> place in the folder of the app."""
    for rest in said("COPY"):
        *sources, target = rest.split()
        for source in sources:
            yield source, os.path.normpath(target if len(sources) == 1 and target != "./" else f"{target}/{source}")


def environment():
    return dict(pair.split("=", 1) for rest in said("ENV") for pair in shlex.split(rest))


def test_what_it_copies_is_there_and_not_left_out():
    left_out = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    found = dict(copied())
    for source in found:
        assert (ROOT / source).exists() and source not in left_out, source
    assert {"app.py", "pages", "ks_core", "assets", ".streamlit", "requirements.txt"} <= set(found)
    assert said("USER") == ["visitor"] and said("WORKDIR") == ["/app"]


def test_the_space_is_told_the_port_of_the_image():
    front = (ROOT / "docs" / "space" / "README.md").read_text(encoding="utf-8").split("---")[1]
    told = dict(line.split(": ", 1) for line in front.strip().splitlines())
    assert told["sdk"] == "docker" and told["app_port"] in said("EXPOSE")


@pytest.fixture
def container(tmp_path, demo_models):
    """The folder of the app as the image has it, in it a folder for the workspace which alone its user may write to."""
    app, workspace = tmp_path / "app", tmp_path / "workspace"
    app.mkdir()
    for source, target in copied():
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, app / target)
    (workspace / "models").mkdir(parents=True)
    for file in [p for p in Path(demo_models).rglob("*") if p.is_file()]:
        place = workspace / "models" / file.relative_to(demo_models)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    if os.geteuid() == 0:
        for place in (workspace, *workspace.rglob("*")):
            os.chown(place, NOBODY, NOBODY)
    for folder in (tmp_path, *list(tmp_path.parents)[:3]):  # pytest's own, for its user alone
        folder.chmod(folder.stat().st_mode | 0o055)
    return app, workspace


def another_user():
    """Whether this process can be a user without rights, and that one reaches the libraries."""
    try:
        subprocess.run(
            [sys.executable, "-c", "import torch"],
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@pytest.mark.whole
def test_its_command_starts_with_its_environment_and_writes_to_the_workspace_alone(container, tmp_path):
    """As a user without rights, where that can be tried."""
    app, workspace = container
    change = "os.setgroups([]); os.setgid(65534); os.setuid(65534);" if another_user() else ""
    (command,) = said("CMD")
    words = re.findall(r'"([^"]*)"', command)
    assert words[:2] == ["sh", "-c"]
    given = {k: v.replace("/workspace", str(workspace)) for k, v in environment().items()}
    given |= {"SPACE_HOST": "somebody-lottery.hf.space", "STREAMLIT_SERVER_ADDRESS": "127.0.0.1", "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1",
              "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}  # fmt: skip
    start = ["-c", f"import os, sys; os.chdir(sys.argv[1]); {change}"
             "os.execvp('sh', ['sh', '-c', sys.argv[2].replace('8501', sys.argv[3])])", str(app), words[2]]  # fmt: skip
    before = set(app.rglob("*"))
    with serving(tmp_path / "log", start, **given) as address:
        with Visitor(address) as visitor:
            for page in ("", "ks_test", "fine_tune"):
                visitor.open(page)
                assert not visitor.errors(), page
        answer = subprocess.run(
            [*re.findall(r'"([^"]*)"', re.search(r"CMD (\[.*?\])", said("HEALTHCHECK")[0])[1].replace("8501", address.rpartition(":")[2]))],
            env=given | {"PATH": given["PATH"]}, capture_output=True, text=True,
        )  # fmt: skip
        assert answer.returncode == 0, answer.stderr
        asked = urllib.request.Request(address, headers={"Host": "somebody-lottery.hf.space"})
        with urllib.request.urlopen(asked) as page:
            assert page.status == 200 and "X-Frame-Options" not in page.headers
            assert "frame-ancestors https://huggingface.co;" in page.headers["Content-Security-Policy"] + ";"
    assert set(app.rglob("*")) == before
    assert (workspace / "cache").is_dir(), "the demo was made ready"
