"""Where the program lies that is tested: its folder, and the app as Streamlit's test runner opens it."""

from ks_core.places import ROOT

__all__ = ["APP", "ROOT"]
APP = str(ROOT / "app.py")
