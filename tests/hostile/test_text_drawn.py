"""Text from outside in a real browser: what is drawn is the text itself, and nothing is asked of another server."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from playwright.sync_api import expect

from helpers.browsing import MARKS, settle
from helpers.made_run import MadeRun
from helpers.markup import DRAWN, LINE, PIECES, values
from helpers.places import ROOT
from helpers.samples import folder, safetensors, write
from ks_core.jobs import processes
from ks_core.store import workspace
from ks_core.study.scan import Study
from ks_core.tuning.arms import Arm

pytestmark = MARKS
VALUES = values(150)
#: How a page puts a value into Markdown, and what of it the browser draws before and after the value.
PLACES = {
    "alone": ("st.markdown(plain(v))", "", ""),
    "in a line": ("st.markdown('first line\\n' + plain(v) + ': end')", "first line ", ": end"),
    "in a list": ("st.markdown('- **' + plain(v) + '** :gray[' + plain(v) + ']')", None, None),
    "in a cell": ("st.markdown('| a |\\n|---|\\n| ' + plain(v) + ' |')", "a", ""),
    "a label": ("st.checkbox(plain(v), key=str(n))", "", ""),
    "a box": ("say.error(v)", "", ""),
    "code": ("st.markdown(code(v))", None, None),
}
SCRIPT = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
import streamlit as st
from helpers.markup import values
from pages.parts import say
from pages.parts.say import code, plain
st.title("Values")
with st.container(key="place"):
    for n, v in enumerate(values({count})):
        {how}
"""
#: What the text of each value is drawn with, beside what the place itself needs.
ALLOWED = {
    "in a list": {"ul", "li", "strong", "span"}, "in a cell": {"table", "thead", "tbody", "tr", "th", "td", "span", "p"}, "code": {"p", "code", "span"},
}  # fmt: skip


@pytest.fixture
def watched(browser):
    """A page, and the addresses on other machines that it asked for."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    asked = []
    page.on(
        "request",
        lambda r: asked.append(r.url) if "127.0.0.1" not in (urlsplit(r.url).hostname or "127.0.0.1") else None,
    )
    page.on("dialog", lambda dialog: asked.append(dialog.message))
    return page, asked


@pytest.fixture
def scratch(tmp_path):
    """A function that serves a script of one's own with Streamlit alone, and gives its address."""
    started = []

    def serve(script):
        path = tmp_path / f"script{len(started)}.py"
        path.write_text(script, encoding="utf-8")
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        command = [sys.executable, "-m", "streamlit", "run", str(path), "--server.port", str(port)]
        started.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1)
                break
            except OSError:
                time.sleep(0.2)
        return f"http://127.0.0.1:{port}"

    yield serve
    for process in started:
        process.terminate()
        process.wait(20)


@pytest.mark.whole
def test_each_value_is_drawn_as_it_is(scratch, watched):
    """One function in every kind of place, against what Markdown, Streamlit and what it loads make of text."""
    page, asked = watched
    how = "\n        ".join(
        f"{'if' if not n else 'elif'} kind == {kind!r}: {code}" for n, (kind, (code, *_)) in enumerate(PLACES.items())
    )
    script = SCRIPT.format(root=str(ROOT), tests=str(ROOT / "tests"), count=len(VALUES) - len(PIECES), how=how)
    address = scratch(script.replace('st.title("Values")', 'st.title("Values")\nkind = st.query_params["kind"]'))
    wrong = []
    for kind, (_, before, after) in PLACES.items():
        page.goto(f"{address}/?kind={quote(kind)}")
        settle(page)
        drawn = page.eval_on_selector_all(
            ".st-key-place [data-testid=stMarkdownContainer]",
            "all => all.map(e => [e.textContent, [...e.querySelectorAll('*')].map(x => x.tagName.toLowerCase()),"
            " [...e.querySelectorAll('*')].filter(x => x.textContent.trim() == 'MARK').length])",
        )
        assert len(drawn) == len(VALUES), kind
        for value, (text, tags, marked) in zip(VALUES, drawn, strict=True):
            line = " ".join(value.split())
            want = {"in a list": f"{line} {line}", "code": value.replace("\n", "⏎")}.get(kind, f"{before}{line}{after}")
            exact = kind == "code" and ":material/" not in value
            same = text == want if exact else " ".join(text.split()) == " ".join(want.split())
            if not same or set(tags) - ALLOWED.get(kind, {"p", "span"}) or marked:
                wrong.append(f"{kind}: {value!r} is drawn as {text!r}, with {sorted(set(tags))}")
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:20])
    assert not asked


@pytest.fixture
def strange(tmp_path, demo_home):
    """A pair whose folders, tokens, tensors, text, run and jobs have names that are markup. Returns its parts by name."""
    name = "`MARK``\n**MARK** ![MARK](i) :red[MARK] $MARK$ www.evil.test <b>MARK"
    tokens = ["<unk>", "<s>", "</s>", *PIECES, *(f"<a href='http://evil.test/{i}'>MARK</a>" for i in range(10))]
    vocabulary = json.dumps(
        {"version": "1.0", "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(tokens)}}}
    ).encode()
    rows = np.random.default_rng(0).standard_normal((len(tokens), 32)).astype(np.float32)
    config = json.dumps({"model_type": "llama", "vocab_size": len(tokens), "tie_word_embeddings": True}).encode()
    layer = "model.layers.0.<b>MARK</b>.weight"
    for side, moved in (("base", 0.0), ("tuned", 2.0)):
        weights = safetensors(
            {"model.embed_tokens.weight": rows + moved, layer: rows[:16] + moved, "**MARK**.weight": rows[:4] + moved}
        )
        write(
            tmp_path / f"{side} {name}",
            folder(model__safetensors=weights, tokenizer__json=vocabulary, config__json=config),
        )
    found = {side: str(tmp_path / f"{side} {name}") for side in ("base", "tuned")}
    Study(found["base"], found["tuned"]).scan()
    text = "\n".join(f"The word {n} of {PIECES[n % len(PIECES)]}\tLe mot {n} de {PIECES[n % 30]}" for n in range(900))
    (tmp_path / "pairs.tsv").write_text(text, encoding="utf-8")
    return {**found, "text": str(tmp_path / "pairs.tsv"), "home": demo_home}


def runs(strange, tmp_path):
    """A finished run with such arms, one that failed, one that goes on."""
    arms = [
        (Arm("base"), 2, False, {}),
        (Arm("tuned"), 6, True, {}),
        (Arm("rows", tokens=(5,), label=LINE), 5, True, {"trainable": 32}),
    ]
    made = MadeRun(tmp_path, arms)
    parameters = {**made.request["parameters"], "base": strange["base"], "tuned": strange["tuned"]}
    states = {
        "20260103-000000-tune-aaaaaa": {"state": "done"}, "20260102-000000-tune-bbbbbb": {"state": "failed", "error": f"It failed: {LINE}"},
        "20260101-000000-tune-cccccc": {"state": "running", "message": f"training {LINE}", "done": 1, "total": 9, "unit": LINE, "stage": "x",
                                        "updated": time.time(), "stage_started": time.time() - 9, "stage_done": 0},
    }  # fmt: skip
    for n, (run, status) in enumerate(states.items()):
        place = strange["home"] / "jobs" / run
        shutil.copytree(made.folder, place)
        (place / "result.json").unlink()
        workspace.write_json(
            place / "request.json",
            {"kind": "tune", "parameters": parameters, "label": f"Run {LINE}", "created": 9.0 - n},
        )
        workspace.write_json(place / "status.json", status)
        workspace.write_json(place / "process.json", {"pid": os.getpid(), "identity": processes.identity(os.getpid())})
    result = {**made.result, "notes": [LINE]}
    broken = {**made.result["arms"][0], "name": LINE, "error": f"It broke: {LINE}"}
    workspace.write_json(
        strange["home"] / "jobs" / next(iter(states)) / "result.json", {**result, "arms": [*result["arms"], broken]}
    )
    return list(states)


@pytest.mark.whole
def test_no_page_draws_a_value_as_markup(strange, tmp_path, server, watched):
    page, asked = watched
    done, failed, going = runs(strange, tmp_path)
    pair = f"base={quote(strange['base'])}&tuned={quote(strange['tuned'])}"
    line, text = (
        quote(LINE),
        f"tune_corpus=A%20TSV%20or%20JSONL%20file&tune_where={quote(strange['text'])}&tune_from={quote(LINE)}&tune_to={quote(LINE)}",
    )
    #: A link, and a text that has to be seen on it, so that nothing is looked at before it is there.
    views = {
        f"?base={line}": LINE[:100], f"ks_test?tuned={line}": LINE[:100], f"ks_test?alpha={line}&p_axis={line}&token={line}": "cannot be used here",
        f"?{pair}": "Largest shifts", f"checkpoints?{pair}": "How they match", f"ks_test?{pair}&token=5": "One token, before and after",
        f"winning_tokens?{pair}&search={line}": "No token fits", f"winning_tokens?{pair}&show=all": "tokens are in the ticket",
        f"layers?{pair}": "The whole model is read once", f"drift_map?{pair}": "One fit on base and tuned rows",
        f"learn?{pair}&step=Ticket": "The largest shifts", f"compare?{pair}&compared={quote(strange['tuned'])}&compared={line}": "MARK",
        f"compare?{pair}&compared={quote(strange['tuned'])}&compared={quote(strange['base'])}": "Follow the top of",
        f"fine_tune?{pair}&view=New%20run&tune_corpus=A%20TSV%20or%20JSONL%20file&tune_where={line}": "MARK](http:/evil.test/)", f"fine_tune?{pair}&view=New%20run&{text}&tune_rows={line}": "is no token of the base",
        f"fine_tune?{pair}&view=Results&run={line}": "is not in this workspace", f"fine_tune?{pair}&view=Results&run={done}": "It broke",
        f"fine_tune?{pair}&view=Results&run={failed}": "It failed", f"fine_tune?{pair}&view=Results&run={going}": "in a process of its own",
        f"audit?{pair}&tune_corpus=A%20TSV%20or%20JSONL%20file&tune_where={line}&audit_panel={line}": "MARK](http:/evil.test/)", f"audit?{pair}&{text}": "Verdict",
        f"certificate?{pair}&{text}": "Theorem 2", f"glossary?term={line}": "No term has these words",
    }  # fmt: skip
    wrong = []
    for view, seen in views.items():
        page.goto(f"{server}/{view}")
        settle(page) if going not in view else page.wait_for_selector("[data-testid=stProgress]", timeout=60_000)
        expect(page.get_by_text(seen).first).to_be_attached()
        wrong += [f"{view[:80]}: {element}" for element in page.evaluate(DRAWN)]
        assert page.locator("[data-testid=stException]").count() == 0, view
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:20])
    assert not asked
