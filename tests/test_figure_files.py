"""A figure as a file: caption and signature are in it, whatever it is opened with."""

import struct

import numpy as np
import pytest
from plotly.subplots import make_subplots

from ks_core import drawing, figure_files
from ks_core.errors import SettingsError
from ks_core.figure_files import figure_bytes
from ks_core.study import figures

SIGNATURE = "base:a@123|tuned:b<i>@456|alpha:0.05"
needs_browser = pytest.mark.skipif(figure_files.browser() is None, reason="Chrome or Chromium is not installed")


@pytest.fixture
def figure():
    rows = np.random.default_rng(0).normal(size=(2, 64))
    return figures.cdfs(rows[0], rows[1], "<b>$x$")


def test_html_needs_nothing_else(figure):
    text = figure_bytes(figure, ".html", SIGNATURE).decode()
    assert "b&lt;i&gt;@456" in text and "Two empirical CDFs of the token &lt;b&gt;" in text
    assert "src=" not in text.split("</script>")[-1] and "Plotly.newPlot" in text
    assert figure.layout.paper_bgcolor == "rgba(0,0,0,0)", "the figure on the page is as it was"


@needs_browser
def test_svg_and_png_carry_caption_and_signature(figure):
    text = figure_bytes(figure, ".svg", SIGNATURE, "What it shows.").decode()
    assert text.startswith("<svg") and "What it shows." in text and "alpha:0.05" in text
    data = figure_bytes(figure, ".png", SIGNATURE)
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">I", data[16:20])[0] == 2 * figure_files.WIDTH


def test_what_cannot_be_drawn(figure, monkeypatch):
    with pytest.raises(SettingsError, match=r"\.gif is no format"):
        figure_bytes(figure, ".gif", SIGNATURE)
    monkeypatch.setattr(figure_files, "browser", lambda: None)
    with pytest.raises(SettingsError, match="needs Chrome or Chromium"):
        figure_bytes(figure, ".svg", SIGNATURE)


def test_names_of_axes_are_broken_where_a_narrow_figure_has_no_room():
    """Plotly draws a name in one line, and cuts off what is beyond the figure's edge."""
    long = "Nats a target token (less is better)"
    low = drawing.fitted(drawing.sheet(long, long, height=260))
    assert (
        low.layout.yaxis.title.text == "Nats a target token<br>(less is better)" and low.layout.xaxis.title.text == long
    )
    tall = drawing.fitted(drawing.sheet(long, long, height=600))
    assert tall.layout.yaxis.title.text == long
    beside = make_subplots(1, 2)
    beside.update_xaxes(title=long)
    assert drawing.fitted(beside).layout.xaxis2.title.text == "Nats a target token<br>(less is better)"
    drawing.fitted(beside)
    assert beside.layout.xaxis2.title.text.count("<br>") == 1, "what is broken stays as it is"
    rows = drawing.sheet("", long)
    rows.add_bar(x=[1], y=["a row"], orientation="h")
    assert drawing.fitted(rows).layout.xaxis.title.text == "Nats a target token<br>(less is better)"
