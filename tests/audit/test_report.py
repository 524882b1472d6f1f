"""The report: one file that needs nothing else, says no more than was run, and shows what strangers wrote as text."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from ks_core.audit import report
from ks_core.audit.evidence import gather
from ks_core.audit.inquiry import Audit
from ks_core.commands.program import main
from ks_core.study.scan import Study


class Outline(HTMLParser):
    """What a page links to, what it names, what it loads, and its text."""

    def __init__(self, page):
        super().__init__()
        self.links, self.ids, self.loads, self.tags = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append(tag)
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "a":
            self.links.append(given["href"])
        if given.get("src") or tag == "link":
            self.loads.append(given)


@pytest.fixture
def tuned(tmp_path, tiny_folder):
    import shutil

    from safetensors.numpy import load_file, save_file

    folder = tmp_path / "tuned"
    shutil.copytree(tiny_folder, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][3:13] += np.random.default_rng(0).normal(0, 3, (10, 16)).astype(np.float32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_pair_without_an_audit_is_reported_with_what_is_missing(tiny_folder, tuned, tmp_path, capsys):
    file = tmp_path / "report.html"
    assert main(["report", str(tiny_folder), str(tuned), "--alpha", "0.2", "--output", str(file)]) == 0
    page = file.read_text(encoding="utf-8")
    outline = Outline(page)
    assert outline.loads == [], "nothing is loaded from elsewhere"
    assert {"pair", "test"} <= set(outline.ids)
    assert all(link[1:] in outline.ids for link in outline.links if link.startswith("#"))
    assert "Not known, because it was not run" in page and "position gating" in page
    assert "not in it: position gating" in capsys.readouterr().out
    assert re.search(r"Signature: <code>base:tiny@[0-9a-f]{12}\|tuned:tuned@", page)
    scan = Study(str(tiny_folder), str(tuned)).scan()
    assert f"{int(scan.winners(0.2).sum())} of 64 tokens have p &lt; 0.2" in page


def test_an_empty_ticket_and_a_wrong_name(tiny_folder, tmp_path, capsys):
    file = tmp_path / "same.html"
    assert main(["report", str(tiny_folder), str(tiny_folder), "--output", str(file)]) == 0
    assert "0 of 64 tokens have p" in file.read_text(encoding="utf-8")
    assert main(["report", str(tiny_folder), str(tiny_folder), "--output", str(tmp_path / "report.pdf")]) == 2
    assert "does not end in .html" in capsys.readouterr().err


def test_what_a_tokenizer_brings_is_text(tiny_folder, tuned, monkeypatch):
    study = Study(str(tiny_folder), str(tuned))
    scan = study.scan()
    monkeypatch.setattr(type(study), "token_strings", lambda self: ["<script>alert(1)</script>"] * 64)
    page = report.build(study, scan, 0.2, link="http://127.0.0.1/?a=<b>")
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page and "?a=&lt;b&gt;" in page


def test_the_demo_as_far_as_it_is_known_at_once(demo_home):
    """Stability and ranking need no run; each sentence of the card leads to a section that is there."""
    audit = Audit()
    found = gather(audit, audit.study.scan())
    assert {f.panel for f in found.findings} == {"stability", "ranking"} and "gating" in found.missing
    assert found.headline.startswith("Of the 18 rows of largest D, 7 are the same")
    outline = Outline(report.build(audit.study, found.scan, 0.05, found))
    inside = [link[1:] for link in outline.links if link.startswith("#")]
    assert {"test", "stability", "ranking"} == set(inside) <= set(outline.ids)
    assert outline.tags.count("figure") == 5


def test_figures_of_the_report_as_files(tiny_folder, tuned, tmp_path, capsys):
    folder = tmp_path / "figures"
    words = ["report", str(tiny_folder), str(tuned), "--alpha", "0.2", "--output", str(tmp_path / "report.html")]
    assert main([*words, "--figures", str(folder)]) == 0
    assert [p.name for p in folder.iterdir()] == ["test-1.html"]
    assert "Signature: base:tiny@" in (folder / "test-1.html").read_text(encoding="utf-8")
    (tmp_path / "file").write_text("in the way")
    assert main([*words, "--figures", str(tmp_path / "file" / "x")]) == 2
    assert "cannot be written" in capsys.readouterr().err
