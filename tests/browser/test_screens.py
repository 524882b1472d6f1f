"""What a page looks like on the screens that people have: nothing is cut off, and what matters is seen without scrolling.

By where things stand, not by pictures: a narrow window, a projector, a small laptop.
"""

from playwright.sync_api import TimeoutError, expect

from helpers.browsing import MARKS, settle
from helpers.page_names import PAGES
from ks_core.checkpoints import demo
from ks_core.study.scan import Study

pytestmark = MARKS
SCREENS = {"narrow": (900, 900), "projector": (1280, 720), "laptop": (1400, 900)}
VIEWS = ["", *PAGES[1:], "drift_map?view=Side+by+side", "drift_map?view=Morph", "learn?step=Methods", "learn?step=Ties"]
#: What of a figure may be cut off at its edge: title, legend, names of axes, words on it.
CUT = """() => [...document.querySelectorAll('.js-plotly-plot')].filter(e => e.checkVisibility()).flatMap(plot => {
  const whole = plot.getBoundingClientRect();
  return [...plot.querySelectorAll('.infolayer [class^="g-"] text, .legend .traces, .infolayer .annotation-text, .cbtitle')]
    .map(e => [e, e.getBoundingClientRect()])
    .filter(([e, box]) => box.width && getComputedStyle(e).visibility != 'hidden'
      && (box.left < whole.left - 1 || box.right > whole.right + 1 || box.top < whole.top - 1 || box.bottom > whole.bottom + 1))
    .map(([e, box]) => `${e.getAttribute('class')} "${e.textContent.slice(0, 60)}" ${Math.round(box.left - whole.left)}..`
      + `${Math.round(box.right - whole.left)} of ${Math.round(whole.width)}, ${Math.round(box.top - whole.top)}..`
      + `${Math.round(box.bottom - whole.top)} of ${Math.round(whole.height)}`);
})"""
#: Words of a legend over the name of an axis, and over each other.
OVER = """() => [...document.querySelectorAll('.js-plotly-plot')].filter(e => e.checkVisibility()).flatMap(plot => {
  const all = [...plot.querySelectorAll('.legend .legendtext, .infolayer [class^="g-"] text')]
    .map(e => [e.textContent, e.getBoundingClientRect()]).filter(([, box]) => box.width);
  return all.flatMap(([one, a], n) => all.slice(n + 1).filter(([, b]) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3)
    .map(([other]) => `"${one.slice(0, 40)}" over "${other.slice(0, 40)}"`));
})"""
#: Columns too narrow for a figure or a table, where one of them holds one.
NARROW = """() => [...document.querySelectorAll('[data-testid=stMain] [data-testid=stColumn]')].filter(e => e.checkVisibility()
  && e.parentElement.querySelector('[data-testid=stColumn] .js-plotly-plot, [data-testid=stColumn] [data-testid=stDataFrame]'))
  .map(e => Math.round(e.getBoundingClientRect().width)).filter(width => width < 280)"""
#: Plotly draws a figure anew some time after its place has another size.
DRAWN = """() => [...document.querySelectorAll('.js-plotly-plot')].filter(e => e.checkVisibility()).every(e =>
  Math.abs(e.querySelector('.main-svg').getBoundingClientRect().width - e.parentElement.getBoundingClientRect().width) < 3)"""
WIDTHS = """() => [...document.querySelectorAll('.js-plotly-plot')].filter(e => e.checkVisibility()).map(e =>
  [e.querySelector('.main-svg').getBoundingClientRect().width, e.parentElement.getBoundingClientRect().width].join(' of '))"""
WIDER = """() => ['stMain', 'stSidebarContent'].map(id => document.querySelector(`[data-testid=${id}]`))
  .filter(e => e && e.scrollWidth > e.clientWidth + 1).map(e => `${e.dataset.testid}: ${e.scrollWidth} of ${e.clientWidth}`)"""


def box(locator):
    found = locator.bounding_box()
    assert found, "it is not on the page"
    return found


def wrong_on(page, wide, tall):
    """What a page shows badly in a window of this size."""
    page.set_viewport_size({"width": wide, "height": tall})
    settle(page)
    try:
        page.wait_for_function(DRAWN, timeout=30_000)
    except TimeoutError:
        yield f"figures and the places for them: {page.evaluate(WIDTHS)}"
    heading = box(page.locator("h1").first)
    if heading["y"] > 100 or heading["y"] + heading["height"] > tall:
        yield f"the title begins at {heading['y']:.0f}"
    for label in ("Base checkpoint", "Tuned checkpoint", "alpha"):
        place = box(page.locator("[data-testid=stSidebar]").get_by_label(label, exact=True).first)
        if place["y"] + place["height"] > tall or place["y"] < 0:
            yield f"{label} is at {place['y']:.0f}"
    yield from (f"cut off: {c}" for c in page.evaluate(CUT))
    yield from (f"one over the other: {o}" for o in page.evaluate(OVER))
    yield from (f"a column of {w} pixels" for w in page.evaluate(NARROW))
    yield from (f"wider than it: {w}" for w in page.evaluate(WIDER))


def test_every_page_on_every_screen(evidence, server, browser):
    found = []
    for name in VIEWS:
        page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
        missing, said = [], []
        page.on("response", lambda r, to=missing: to.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        page.on("console", lambda m, to=said: to.append(m.text) if m.type == "error" else None)
        page.goto(f"{server}/{name}")
        settle(page)
        for screen, (wide, tall) in SCREENS.items():
            found += [f"{name or 'overview'}, {screen}: {w}" for w in wrong_on(page, wide, tall)]
        found += [f"{name or 'overview'}: not found: {m}" for m in missing] + [
            f"{name or 'overview'}: {s[:120]}" for s in said
        ]
        page.close()
    assert not found, "\n".join(found)


def test_the_ticket_in_a_line_is_seen_on_every_page(server, browser):
    """Beside the pair, in the sidebar, on the smallest screen of them; it goes along with alpha."""
    scan = Study(demo.BASE, demo.TUNED).scan()

    def words(alpha):
        return f"Ticket: {scan.winners(alpha).sum():,} of {scan.changed.sum():,} changed rows"

    wide, tall = SCREENS["projector"]
    page = browser.new_context(viewport={"width": wide, "height": tall}).new_page()
    page.goto(server)
    settle(page)
    line = page.locator("[data-testid=stSidebar]").get_by_text("Ticket: ")
    for title in ("KS test", "Drift map", "Audit", "Glossary"):
        page.locator("[data-testid=stSidebar]").get_by_role("link", name=title, exact=True).click()
        page.wait_for_selector(f"h1:has-text('{title}')", timeout=30_000)
        settle(page)
        expect(line).to_have_text(words(0.05))
        place = box(line)
        assert place["y"] > 0 and place["y"] + place["height"] < tall, title
    page.locator("[data-testid=stSidebar]").get_by_role("link", name="KS test", exact=True).click()
    page.wait_for_selector("h1:has-text('KS test')", timeout=30_000)
    page.get_by_label("alpha", exact=True).fill("0.5")
    page.keyboard.press("Enter")
    expect(line).to_have_text(words(0.5))
