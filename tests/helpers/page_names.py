"""The app's pages, as their files are called: what is tried on each page is tried on a new one too."""

from helpers.places import ROOT

PAGES = [
    "overview",
    *sorted(p.stem for p in (ROOT / "pages").glob("*.py") if p.stem not in ("overview", "__init__")),
]
STEPS = ["CDFs", "Width", "p-values", "Ties", "Alpha", "Ticket", "Methods", "Stopping", "Questions"]
#: Pages that are read: the others show a figure at once.
WITHOUT_FIGURES = {"checkpoints", "glossary", "paper"}
