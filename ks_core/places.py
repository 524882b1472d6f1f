"""Where the program itself lies: the folder that holds the package, and what it brings beside its code."""

from pathlib import Path

#: The package's own folder, and the one that holds it: processes are started there, so that they find the package.
PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
#: The app (``app.py``, ``pages``, ``.streamlit``): beside the package in the repository, inside it where it was installed.
APP = PACKAGE / "_app" if (PACKAGE / "_app").is_dir() else ROOT
#: The demo's tuned rows, the published tickets, pictures.
ASSETS = APP / "assets"
