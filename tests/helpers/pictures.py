"""The README's pictures: taken by a run of the browser tests, with a note of what was in the navigation then."""

import ast
import hashlib
import json

from helpers.places import ROOT

FOLDER = ROOT / "assets" / "screenshots"
#: Of each picture the hash of its file, and the navigation that is seen in it.
NOTES = FOLDER / "taken.json"


def navigation():
    """What ``app.py`` lists: the sections and the titles of their pages, in order."""
    tree = ast.parse((ROOT / "app.py").read_text(encoding="utf-8"))
    pages = next(n.value for n in ast.walk(tree) if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "PAGES")
    found = []
    for section, entries in zip(pages.keys, pages.values, strict=True):
        titles = [k.value.value for entry in entries.elts for k in entry.keywords if k.arg == "title"]
        found += [*filter(None, [section.value]), *titles]
    return found


def seen(page):
    """The same as it stands in the sidebar of an open page."""
    return page.evaluate(
        "() => [...document.querySelectorAll('[data-testid=stSidebar] [data-testid=stPageLink], [data-testid=stSidebar] [data-testid=stCaptionContainer]')]"
        ".map(e => (e.querySelector('[data-testid=stMarkdownContainer]') || e).innerText.trim())"
    )


def take(page, name):
    """Take a picture, and note it."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.png"
    page.screenshot(path=path)
    listed, known = set(navigation()), notes()
    known[path.name] = {"sha256": digest(path), "navigation": [title for title in seen(page) if title in listed]}
    NOTES.write_text(json.dumps(dict(sorted(known.items())), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def notes():
    """What was noted, of pictures that are still there."""
    known = json.loads(NOTES.read_text(encoding="utf-8")) if NOTES.is_file() else {}
    return {name: about for name, about in known.items() if (FOLDER / name).is_file()}


def digest(path):
    """The hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
