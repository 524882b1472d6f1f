"""What a page looks like on the screens that people have: nothing is cut off, and what matters is seen without scrolling.

By where things stand, not by pictures: a narrow window, a projector, a small laptop.
"""

from playwright.sync_api import TimeoutError

from helpers.browsing import settle
from ks_core.checkpoints import demo
from ks_core.study.scan import Study

SCREENS = {"narrow": (900, 900), "projector": (1280, 720), "laptop": (1400, 900)}
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


def ticket_in_a_line(alpha):
    """What stands of the demo's ticket in the sidebar."""
    scan = Study(demo.BASE, demo.TUNED).scan()
    return f"Ticket: {scan.winners(alpha).sum():,} of {scan.changed.sum():,} changed rows"


def wrong_on(page, wide, tall, ticket):
    """What a page shows badly in a window of this size; ``ticket`` stands in a line in the sidebar, seen without scrolling."""
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
    line = page.locator("[data-testid=stSidebar]").get_by_text("Ticket: ")
    if line.count():  # a page that opens no pair does not know it, where nobody came from another
        place = box(line)
        if line.inner_text() != ticket or place["y"] <= 0 or place["y"] + place["height"] >= tall:
            yield f"the sidebar has {line.inner_text()!r} at {place['y']:.0f}"
    yield from (f"cut off: {c}" for c in page.evaluate(CUT))
    yield from (f"one over the other: {o}" for o in page.evaluate(OVER))
    yield from (f"a column of {w} pixels" for w in page.evaluate(NARROW))
    yield from (f"wider than it: {w}" for w in page.evaluate(WIDER))
