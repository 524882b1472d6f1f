"""Text from outside stays text: in a table, a card, a figure, a report and on a terminal."""

import ast
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from markdown_it import MarkdownIt

from helpers.made_run import MadeRun
from helpers.markup import LINE, PIECES, values
from helpers.places import ROOT
from helpers.samples import NAME, ROWS, folder, safetensors, write
from ks_core import drawing
from ks_core.audit import figures as audit_figures, report
from ks_core.audit.gains import gains
from ks_core.commands.program import main
from ks_core.commands.tune import table_lines
from ks_core.errors import visible
from ks_core.figure_files import figure_bytes
from ks_core.store import workspace
from ks_core.study import figures, layers, read_csv, table_bytes
from ks_core.study.scan import Study
from ks_core.tickets import line_up, several_figures
from ks_core.tickets.card_metadata import Measured, Publication
from ks_core.tickets.model_card import model_card
from ks_core.tickets.ticket import Ticket
from ks_core.tuning import figures as tuning_figures
from ks_core.tuning.arms import Arm

SOURCES = [ROOT / "app.py", *sorted((ROOT / "pages").rglob("*.py"))]
SIGNS = ["=1+1", "+1", "-", "@a", "\tx", "\rx", "\nx", "＝1", "'", "''=", "-1"]


def test_a_table_as_csv_holds_no_formula():
    texts = [*SIGNS, "the", "NA", "null", "", "a'b", "x=1", '"=1+1', "a\r=1", ",=1", "12"]
    made = pd.DataFrame({
        "token": texts, "@arm": texts[::-1], "D": -0.5, "n": np.arange(len(texts)) - 3, "wins": True, "mixed": [-1.5, *texts[1:]],
    })  # fmt: skip
    written = table_bytes(made, ".csv", "=signature")
    cells = pd.read_csv(io.BytesIO(written), header=None, dtype=str, keep_default_na=False)
    for column in (0, 1, 6):
        assert not [c for c in cells[column] if c[:1] in tuple("=+-@\t\r\n＝")]
    assert cells[2][1:].tolist() == ["-0.5"] * len(texts) and cells[3][1] == "-3" and cells[5][1] == "-1.5"
    lines = written.decode().split("\r\n")
    assert len(lines) == len(texts) + 2 and not [line for line in lines if re.match(r"[=+\-@\t\r\n]", line)]
    again = read_csv(io.BytesIO(written))
    assert again.columns.tolist() == [*made.columns, "signature"] and again.signature[0] == "=signature"
    for name in ("token", "@arm", "D", "n", "wins"):
        assert again[name].tolist() == made[name].tolist(), name
    kept = pd.read_parquet(io.BytesIO(table_bytes(made.drop(columns="mixed"), ".parquet", "s")))
    assert kept.token.tolist() == texts


def test_no_other_way_writes_a_csv():
    found = []
    for path in [*SOURCES, *sorted((ROOT / "ks_core").rglob("*.py"))]:
        calls = [n.func for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
        for call in calls:
            name = getattr(call, "attr", getattr(call, "id", ""))
            if name in ("to_csv", "writer", "DictWriter", "savetxt", "to_excel"):
                found.append(f"{path.name}: {name}")
    assert found == ["export.py: to_csv"]


def test_a_terminal_is_told_nothing_to_act_upon(tmp_path, capsys, workspace_folder):
    """Names of folders, tensors, arms and jobs that hold a line break and a terminal's own commands."""
    act = "\x1b]0;MARK\x07\x1b[2J\n\x9b2J MARK"
    for side, moved in (("base", 0.0), ("tuned", 2.0)):
        weights = safetensors({NAME: ROWS + moved, f"model.layers.0.{act}.weight": ROWS + moved})
        write(tmp_path / f"{side} {act}", folder(model__safetensors=weights))
    pair = [str(tmp_path / f"{side} {act}") for side in ("base", "tuned")]
    made = MadeRun(
        tmp_path, [(Arm("base"), 2, False, {}), (Arm("rows", tokens=(5,), label=f"{act} | x \\| y"), 5, True, {})]
    )
    job = workspace_folder / "jobs" / "20260101-000000-tune-aaaaaa"
    workspace.write_json(job / "request.json", {"kind": "tune", "label": act, "parameters": {}, "created": 1.0})
    workspace.write_json(job / "status.json", {"state": "failed", "error": act})
    for words in (["scan", *pair], ["scan", *pair, "--layers"], ["jobs"], ["ticket", *pair, str(tmp_path / "ticket")]):
        assert main(words) == 0
        out, err = capsys.readouterr()
        assert ("MARK" in out or words[0] == "ticket") and not [
            line for line in (out + err).split("\n") if not line.isprintable()
        ], words
    lines = table_lines(made.result)
    assert all(map(str.isprintable, lines))
    rows = MarkdownIt("commonmark").enable("table").render("\n".join(lines[:4]))
    assert rows.count("<tr>") == 3 and "| x" in rows and rows.count("<td") == 2 * lines[0].count(" | ") + 2


#: Names of a base, each of which would end what it stands in: YAML, Python, code in Markdown.
BASES = [
    '"\n---\n# MARK',
    "a: b\n- c",
    "`MARK``` **MARK**",
    "\\",
    '\\"',
    "it's # no comment",
    "{x}\u2028\x85",
    "📦\ud800",
    LINE,
]


@pytest.mark.parametrize("base", BASES)
def test_a_model_card_is_what_it_says(base):
    tokens = [*values(60), "\\|", "a\\\\|b", "two\nlines"]
    about = {
        "arm": "**MARK** ![MARK](http://evil.test/i.png)",
        "prompt": f"{LINE}\n# MARK",
        "tied": True,
        "**MARK**": "`MARK`",
        "corpus": {"name": LINE},
    }
    ticket = Ticket(list(range(len(tokens))), tokens, [0.5] * len(tokens), [0.01] * len(tokens), rule=f"MARK` {LINE}", alpha=0.05, base=base,
                    signature=f"base:{base}", about=about)  # fmt: skip
    card = model_card(ticket)
    assert card.encode()
    _, front, body = re.split(r"^---$", card, maxsplit=2, flags=re.M)
    assert yaml.safe_load(front.encode()) == {
        "base_model": base,
        "library_name": "peft",
        "tags": ["ks-lottery", "trainable-tokens"],
    }
    parsed = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(body)
    assert [t.content for t in parsed if t.type == "html_block"] == []
    headings = [parsed[n + 1].content for n, t in enumerate(parsed) if t.type == "heading_open"]
    assert headings == [
        f"KS-Lottery ticket: {len(tokens)} embedding rows",
        "How it was made",
        "Its rows",
        "Before you believe it",
    ]
    inline = [child for t in parsed if t.type == "inline" for child in t.children]
    assert {t.type for t in inline} <= {"text", "code_inline", "softbreak"}
    assert not [t.content for t in inline if t.type == "text" and "MARK" in t.content]
    rows = [t for t in parsed if t.type == "inline" and t.level == 4 and t.children[0].type == "code_inline"]
    assert [r.children[0].content for r in rows[:60]] == [
        re.sub(r"\s", lambda s: "⏎" if s[0] == "\n" else s[0], t) for t in tokens[:60]
    ]
    code = next(t.content for t in parsed if t.type == "fence")
    argument = ast.parse(code).body[2].value.args[0].value
    assert argument == (base if ":" not in base else "folder or hub id of the base")


def test_a_published_card_is_what_it_says():
    """The sentences of the audit quote tokens, and the text's name is anybody's."""
    sentences = [
        f"{lead}{one}"
        for lead in ("", "The row ")
        for one in (*values(60), *BASES, "# MARK", "- MARK", "1. MARK", "1) MARK", "=== MARK")
    ]
    sentences = [one for one in sentences if one.strip()]
    more = Publication("me/my-ticket", "org/base", "mit", ["en", "fr"], LINE, ["org/data"], "test", [Measured("bleu", LINE, 1.5)],
                       sentences, sentences, sentences, sentences, LINE)  # fmt: skip
    card = model_card(Ticket([5], ["MARK"], [0.5], [0.01], base="org/base", signature="s"), more)
    _, front, body = re.split(r"^---$", card, maxsplit=2, flags=re.M)
    found = yaml.safe_load(front.encode())
    assert found.keys() == {
        "base_model", "library_name", "license", "language", "datasets", "pipeline_tag", "tags", "metrics", "model-index",
    }  # fmt: skip
    assert (
        found["model-index"][0]["results"][0]["dataset"]["name"]
        == found["model-index"][0]["results"][0]["metrics"][0]["name"]
        == LINE
    )
    parsed = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(body)
    headings = [parsed[n + 1].content for n, t in enumerate(parsed) if t.type == "heading_open"]
    assert headings == [
        "KS-Lottery ticket: 1 embedding rows",
        "Is it real?",
        "What it is",
        "How it was made",
        "Its rows",
    ]
    assert not [t for t in parsed if t.type in ("html_block", "blockquote_open", "hr", "ordered_list_open")]
    assert [t.type for t in parsed].count("fence") == 1
    inline = [child for t in parsed if t.type == "inline" for child in t.children]
    assert {t.type for t in inline} <= {
        "text",
        "text_special",
        "code_inline",
        "softbreak",
        "strong_open",
        "strong_close",
    }
    items = [parsed[n + 2] for n, t in enumerate(parsed) if t.type == "list_item_open"]
    shown = ["".join(c.content for c in t.children) for t in items[: len(sentences)]]
    assert shown == [visible(" ".join(one.split())) for one in sentences], "and each is read as it was"


@pytest.fixture
def pair(tmp_path):
    """A pair whose tokens and tensors are markup."""
    tokens = ["<unk>", "<s>", "</s>", *PIECES]
    rows = np.random.default_rng(0).standard_normal((len(tokens), 32)).astype(np.float32)
    vocabulary = json.dumps(
        {"version": "1.0", "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(tokens)}}}
    ).encode()
    for side, moved in (("base", 0.0), ("<b>MARK</b> %{x} $MARK$", 2.0)):
        weights = {
            "model.embed_tokens.weight": rows + moved,
            "model.layers.0.<a href='http://evil.test'>MARK<b>.weight": rows[:9] + moved,
        }
        write(tmp_path / side, folder(model__safetensors=safetensors(weights), tokenizer__json=vocabulary))
    return str(tmp_path / "base"), str(tmp_path / "<b>MARK</b> %{x} $MARK$")


def strings(value):
    """Every string in a figure but the sentence for those who cannot see it, which no part of Plotly reads, and raw data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (s for key, part in value.items() if key not in ("meta", "customdata") for s in strings(part))
    elif isinstance(value, list | tuple):
        yield from (s for part in value for s in strings(part))


def test_figures_and_report_draw_names_as_text(pair, tmp_path):
    study = Study(*pair)
    scan = study.scan()
    tokens = study.token_strings()
    names = [f"{LINE} {n}" for n in range(2)]
    several = line_up(dict.fromkeys(names, study), tuple(names), rule="alpha", alpha=0.5, k=3)
    losses = pd.DataFrame({"arm": [names[0]] * 3, "step": [1, 2, 3], "loss": [3.0, 2.0, 1.0]})
    scores = {f"{m}{p}_raw": 1.0 for m in ("bleu", "chrf") for p in ("", "_low", "_high")}
    frame = pd.DataFrame([{"arm": name, "kind": "rows", "trainable": 9, **scores} for name in names])
    arms = [
        (Arm("base"), 2, False, {}),
        (Arm("partial"), 6, True, {}),
        (Arm("rows", tokens=(5,), label=LINE), 5, True, {}),
    ]
    run = MadeRun(tmp_path, arms)
    drawn = [
        figures.cdfs(np.arange(9.0), np.arange(9.0) + 1, LINE), figures.shift_scatter(scan.l2, scan.statistic, scan.winners(0.5), list(tokens)),
        figures.layer_map(layers.table(layers.scan_layers(*pair), 0.5), "changed"), several_figures.pvalue_outlines(several, 0.5),
        several_figures.upset(several.intersections(), several.names), several_figures.rank_changes(several, list(tokens) * 2),
        tuning_figures.loss_curves(losses, {}), tuning_figures.score_chart(frame, "bleu", "raw"), audit_figures.gain_points(gains(run)),
    ]  # fmt: skip
    for figure in drawn:
        found = [s for s in strings(json.loads(figure.to_json())) if "MARK" in s or "evil" in s]
        assert found, drawing.alt(figure)
        for text in found:
            rest = re.sub(
                r"<br>|</?b>(?=%|$| )|<extra></extra>|%\{(?:x|y|text|hovertext|customdata)(?:\[\d\])?(?::[^}]*)?\}",
                "",
                text,
            )
            assert not re.search(r"<[a-zA-Z/]|\$|%\{", rest), text
    page = re.sub(r"<script.*?</script>", "", figure_bytes(drawn[0], ".html", LINE).decode(), flags=re.S)
    assert "MARK" in page and not re.search(r"<img|<b>|<a |&amp;lt;", page)
    whole = report.build(study, scan, 0.5, link="javascript:alert(1)")
    text = re.sub(r"<script.*?</script>", "", whole, flags=re.S)
    assert "MARK" in text and not re.search(r"<img|<b>|<a href=.(?!#)|javascript:", text)
