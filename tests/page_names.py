"""The app's pages, as their files are called: what is tried on each page is tried on a new one too."""

from pathlib import Path

PAGES = [
    "overview",
    *sorted(
        p.stem for p in (Path(__file__).parent.parent / "pages").glob("*.py") if p.stem not in ("overview", "__init__")
    ),
]
STEPS = ["CDFs", "Width", "p-values", "Ties", "Alpha", "Ticket", "Methods", "Stopping", "Questions"]
