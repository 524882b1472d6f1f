"""How the drift map feels with many points: pictures a second while it is dragged, and seconds from a selection to its table.

``python tests/soak/map_frames.py``. On the demo (49,152 tokens) and on a pair of 128,256 rows that is made up for it, every token
drawn, in Chromium. Where there is no GPU its WebGL is computed by the processor, which is said: on a screen of one's own it is faster.
What a busy machine changes little is the processor time that browser and server take for each drawing of a drag.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))
import numpy as np
import psutil
from playwright.sync_api import Page, sync_playwright
from safetensors.numpy import save_file

from helpers.browsing import ARGUMENTS, CHROMIUM, settle
from helpers.serving import serving
from ks_core.checkpoints import demo
from ks_core.study.scan import Study

ROWS, CHANGED, WIDTH = 128_256, 4000, 64
#: Counts the frames of the browser, and how often Plotly has drawn the map anew, from now on.
COUNT = """() => {
  window.counted = {frames: [], drawn: []};
  const tick = at => { window.counted.frames.push(at); if (!window.counted.over) requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
  const plot = document.querySelector('.js-plotly-plot');
  plot.on('plotly_relayouting', () => window.counted.drawn.push(performance.now()));
}"""
RENDERER = """() => {
  const gl = document.createElement('canvas').getContext('webgl');
  const about = gl && gl.getExtension('WEBGL_debug_renderer_info');
  return about ? gl.getParameter(about.UNMASKED_RENDERER_WEBGL) : 'unknown';
}"""


def made_up(folder: Path) -> dict[str, str]:
    """A base of ``ROWS`` rows, and the same with ``CHANGED`` of them moved."""
    draw = np.random.default_rng(0)
    rows = draw.standard_normal((ROWS, WIDTH)).astype(np.float32)
    save_file({"model.embed_tokens.weight": rows}, folder / "base.safetensors")
    moved = draw.choice(ROWS, CHANGED, replace=False)
    rows[moved] += 2 * draw.standard_normal((CHANGED, WIDTH)).astype(np.float32)
    save_file({"model.embed_tokens.weight": rows}, folder / "tuned.safetensors")
    return {"base": str(folder / "base.safetensors"), "tuned": str(folder / "tuned.safetensors")}


def spent() -> float:
    """Seconds of processor time of the browser's processes and the server's, so far."""
    found = 0.0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            found += sum(process.cpu_times()[:2])
    return found


def drag(page: Page, seconds: float) -> tuple[float, float, float]:
    """Drag the map to and fro; frames of the browser and drawings of the map a second, and seconds of processor time a drawing."""
    area = page.locator(".js-plotly-plot .nsewdrag").first.bounding_box()
    assert area
    x, y = area["x"] + area["width"] / 2, area["y"] + area["height"] / 2
    page.evaluate(COUNT)
    page.mouse.move(x, y)
    page.mouse.down()
    began, step, before = time.monotonic(), 0, spent()
    while time.monotonic() - began < seconds:
        step += 1
        page.mouse.move(x + 60 * np.sin(step / 6), y + 40 * np.cos(step / 9))
    took = spent() - before
    page.mouse.up()
    found = page.evaluate("() => { window.counted.over = true; return window.counted; }")
    frames, drawn = (
        len(times) / ((times[-1] - times[0]) / 1000) if len(times) > 1 else 0.0
        for times in (found["frames"], found["drawn"])
    )
    return frames, drawn, took / max(1, len(found["drawn"]))


def select(page: Page, part: float) -> float:
    """Draw a box around the middle of the map, of such a part of its sides; seconds until the table stands there."""
    area = page.locator(".js-plotly-plot .nsewdrag").first.bounding_box()
    assert area
    x, y = area["x"] + area["width"] * (0.5 - part / 2), area["y"] + area["height"] * (0.5 - part / 2)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + area["width"] * part / 2, y + area["height"] * part / 2)
    page.mouse.move(x + area["width"] * part, y + area["height"] * part)
    before = page.get_by_text("tokens picked").all_inner_texts()
    page.mouse.up()
    began = time.monotonic()
    page.wait_for_function(
        "before => { const found = [...document.querySelectorAll('h3')].map(e => e.innerText).filter(t => t.includes('tokens picked'));"
        " return found.length && found[0] != before; }",
        arg=before[0] if before else "", timeout=60_000, polling=20,
    )  # fmt: skip
    return time.monotonic() - began


def measure(page: Page, address: str, pair: dict[str, str], seconds: float) -> None:
    """One pair: its map with every token, dragged, and tokens picked."""
    page.goto(f"{address}/drift_map?{urlencode({**pair, 'map': 'PCA'})}")
    page.wait_for_selector(".js-plotly-plot .nsewdrag", timeout=300_000)
    settle(page)
    settings = page.locator("[data-testid=stExpander] summary", has_text="Settings").first
    settings.click()
    field = page.get_by_role("spinbutton", name="Unchanged tokens drawn")
    most = field.get_attribute("max")
    assert most
    field.fill(most)
    page.keyboard.press("Enter")
    page.wait_for_timeout(1000)
    settle(page)
    settings.click()
    page.wait_for_timeout(1000)
    drawn = page.evaluate(
        "() => document.querySelector('.js-plotly-plot')._fullData.reduce((n, t) => n + (t.type == 'scattergl' && t.mode != 'lines' ? t._length || 0 : 0), 0)"
    )
    frames, moved, took = drag(page, seconds)
    page.locator(".js-plotly-plot .nsewdrag").first.dblclick()  # all of it is seen again, and its middle has points
    page.wait_for_timeout(1000)
    page.locator(".js-plotly-plot").first.hover()
    page.locator('.js-plotly-plot [data-title="Box Select"]').first.click()
    picked = [select(page, part) for part in (0.1, 0.2, 0.3)]
    print(f"{int(most):,} tokens, {drawn:,} points and a picture: {frames:.0f} frames a second while dragged, the map drawn anew {moved:.0f} times a second, each for "
          f"{1000 * took:.0f} ms of processor time; "
          f"a selection to its table in {statistics.median(picked):.2f} s (median of {len(picked)}, {min(picked):.2f} to {max(picked):.2f})")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="how long the map is dragged")
    seconds = parser.parse_args().seconds
    demo.prepare_base()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        pairs = [{"base": demo.BASE, "tuned": demo.TUNED}, made_up(Path(folder))]
        for pair in pairs:
            Study(pair["base"], pair["tuned"]).scan()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        with serving(Path(folder) / "server.log") as address:
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            print(f"WebGL by {page.evaluate(RENDERER)}")
            for pair in pairs:
                measure(page, address, pair, seconds)
        browser.close()


if __name__ == "__main__":
    main()
