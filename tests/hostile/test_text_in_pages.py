"""What the pages say is text: every message goes through one function, and so does every value that is put into Markdown."""

import ast
import re

import pytest

from helpers.markup import text_of, values
from helpers.places import ROOT
from pages.parts.say import plain

SOURCES = [ROOT / "app.py", *sorted((ROOT / "pages").rglob("*.py"))]
BOXES = {"error", "warning", "info", "success", "exception"}
#: What shows its first argument, or one of these arguments, as Markdown.
SHOWN = {
    "markdown", "write", "caption", "title", "header", "subheader", "metric", "button", "download_button", "checkbox", "toggle", "radio", "selectbox",
    "multiselect", "slider", "select_slider", "number_input", "text_input", "text_area", "segmented_control", "pills", "expander", "popover", "tabs",
    "spinner", "toast", "badge", "status", "link_button", "table", "small",
}  # fmt: skip
#: What shows these arguments alone.
LABELLED = {
    "progress", "page_link", "Column", "NumberColumn", "TextColumn", "SelectboxColumn", "CheckboxColumn", "ProgressColumn",
}  # fmt: skip
#: What shows its options as Markdown too, where they are not words of the program: by ``format_func``.
OPTIONS = {"radio", "segmented_control", "pills", "select_slider"}
NAMED = {"help", "label", "text", "captions", "title"}
#: Words of the program itself, by file: what a function hands on that is checked where it is called, and entries of its own lists.
OWN = {
    "app": {"section"}, "audit": {"titles"}, "audit_panels": {"title"}, "checkpoints": {"tied"}, "charts": {"suffix[1:].upper()"},
    "downloads": {"suffix[1:].upper()"}, "glossary": {"term.name", "term.meaning"}, "job": {"label", "button"}, "ks_test": {"at"},
    "lessons_on_tickets": {"question.text"}, "small": {"line.strip()"}, "tuning_form": {"kind.title", "kind.about"},
    "tuning_text": {"what", "kind.title", "kind.about"}, "tuning_results": {"rows"},
}  # fmt: skip
#: Functions that give such words, or a value as text.
SAFE = {"plain", "code", "cite", "_critical", "len", "int"}


def is_safe(node, own):
    """Whether an expression holds no value from outside but as text: constants (by their capitals too), numbers in a format."""
    match node:
        case ast.Constant():
            return True
        case ast.JoinedStr(values=parts):
            return all(is_safe(part, own) for part in parts)
        case ast.FormattedValue(value=value, format_spec=how):
            return is_safe(value, own) or (
                how is not None and re.fullmatch(r"[+,.\d]*[defgx%]?", ast.unparse(how)[2:-1]) is not None
            )
        case ast.IfExp(body=one, orelse=other) | ast.BinOp(left=one, right=other):
            return is_safe(one, own) and is_safe(other, own)
        case ast.BoolOp(values=parts) | ast.List(elts=parts):
            return all(is_safe(part, own) for part in parts)
        case ast.Dict(keys=keys, values=parts):
            return all(is_safe(part, own) for part in [*keys, *parts])
        case ast.GeneratorExp(elt=part) | ast.ListComp(elt=part):
            return is_safe(part, own)
        case ast.Call(func=ast.Attribute(value=ast.Constant(), attr="join"), args=[part]):
            return is_safe(part, own)
        case ast.Call(func=ast.Name(id=name)) if name in SAFE:
            return True
        case ast.Subscript(value=value):
            return is_safe(value, own) or ast.unparse(node) in own
        case ast.Name(id=name) | ast.Attribute(attr=name) if name.isupper():
            return True
        case ast.Attribute(value=value, attr="__getitem__"):
            return is_safe(value, own)
    return ast.unparse(node) in own


def called(tree):
    """Every call by a name or of an attribute: the node, what it is asked of, and the name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            of = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
            yield node, of, node.func.attr if of else getattr(node.func, "id", "")


def unsafe(text, own=frozenset()):
    """What of a page's source puts a value into Markdown as it is."""
    tree = ast.parse(text)
    asked = {node.func for node, *_ in called(tree)}
    for node in ast.walk(tree):  # handed on instead of called: what it is given is not seen
        if (
            isinstance(node, ast.Attribute)
            and ast.unparse(node.value) == "st"
            and node.attr in SHOWN | BOXES
            and node not in asked
        ):
            yield f"line {node.lineno}: st.{node.attr} is not called where it is named"
    for node, of, name in called(tree):
        if name in BOXES and of not in ("say", "log"):
            yield f"line {node.lineno}: {of}.{name} is called beside say.{name}"
        if name in OPTIONS:
            how = [k.value for k in node.keywords if k.arg == "format_func"]
            how = [h.body if isinstance(h, ast.Lambda) else h for h in how if ast.unparse(h) != "plain"]
            yield from (
                f"line {node.lineno}: {name}, options {ast.unparse(h)[:90]}" for h in how if not is_safe(h, own)
            )
        if name in SHOWN | LABELLED and not (name == "table" and of != "st"):
            given = [*node.args[: name in SHOWN], *(k.value for k in node.keywords if k.arg in NAMED)]
            yield from (f"line {node.lineno}: {name}({ast.unparse(g)[:90]})" for g in given if not is_safe(g, own))


@pytest.mark.parametrize("path", [p for p in SOURCES if p.name != "say.py"], ids=lambda p: p.stem)
def test_a_page_says_values_as_text(path):
    assert not list(unsafe(path.read_text(encoding="utf-8"), OWN.get(path.stem, frozenset())))


@pytest.mark.parametrize("line", [
    "st.error(str(error))", "st.warning('a')", "st.write(f'{name}')", "st.caption(sentence)", "left.metric('a', 1, help=found.bounds)",
    "st.button(f'Open {n}')", "st.markdown('a' + value)", "st.radio(f'{label:s}', [])", "st.table({'Source': f'`{source}`'})",
    "st.progress(0.5, text=doing)", "right.markdown(', '.join(names))", "st.tabs(titles)", "(st.success if hit else st.warning)(words)", "place.warning('a')", "st.radio('a', names, format_func=str)", "st.pills('a', n, format_func=lambda i: names[i])", "st.page_link('a.py', label=name)",
])  # fmt: skip
def test_what_a_page_may_not_say_is_found(line):
    assert list(unsafe(line))


def test_escapes_come_off_again():
    for value in values(300):
        assert text_of(plain(value)) == " ".join(value.split())
    assert plain("a\u202eb\x1b\ud800") == "a⟨U+202E⟩b⟨U+001B⟩⟨U+D800⟩"
    assert (
        plain("می\u200cخواهم, what is (not) special: 3 - 2 = 1.") == "می\u200cخواهم, what is (not) special: 3 - 2 = 1."
    )
