"""The README's pictures are those of the present app: taken by ``make screenshots``, with the navigation that the app has now."""

import re

import pytest

from helpers import pictures
from helpers.places import ROOT

SHOWN = sorted(re.findall(r"\(assets/screenshots/([\w-]+\.png)\)", (ROOT / "README.md").read_text(encoding="utf-8")))


def test_every_picture_is_shown_and_noted():
    assert SHOWN == sorted(p.name for p in pictures.FOLDER.glob("*.png")) == sorted(pictures.notes())


@pytest.mark.parametrize("name", SHOWN)
def test_a_picture_has_the_apps_navigation(name):
    about = pictures.notes()[name]
    again = "It is older than the app, or was changed by hand: make screenshots, and look at what changed."
    assert about["navigation"] == pictures.navigation(), again
    assert about["sha256"] == pictures.digest(pictures.FOLDER / name), again
