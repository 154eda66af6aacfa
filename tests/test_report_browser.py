"""The report in a browser: nothing fails, nothing is fetched, everything is drawn and within reach of the keyboard."""

from __future__ import annotations

from pathlib import Path

import pytest

import sim
from sim.report.page import page
from sim.report.sections import charts_of
from sim.report.whole import report_of
from tests import report_folders

DRAWN = "html[data-drawn=yes]"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """name -> (file of the page, its report)."""
    place = tmp_path_factory.mktemp("pages")
    compared = report_folders.compared(place / "compared")
    report_folders.hostile(compared / "lru", place / "hostile")
    sets = {
        "run": [compared / "lru"],
        "compared": [compared],
        "serving": [report_folders.served(place / "served")],
        "allocation": [report_folders.allocated(place / "allocated")],
        "sweep": [report_folders.swept(compared / "lru", place / "swept")],
        "hostile": [compared, place / "hostile"],
    }
    made = {}
    for name, folders in sets.items():
        report = report_of(sim.load_results(*folders))
        (place / f"{name}.html").write_text(page(report, "1"), encoding="utf-8")
        made[name] = (place / f"{name}.html", report)
    return made


@pytest.fixture
def opened(browser, pages):
    """Opens a page, and in the end finds that nothing was wrong with it."""
    contexts, wrong = [], []

    def open_page(name: str, **options):
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options}))
        shown = contexts[-1].new_page()
        shown.on("console", lambda message: wrong.append(message.text))
        shown.on("pageerror", lambda error: wrong.append(str(error)))
        shown.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        shown.on(
            "request", lambda request: request.url.startswith(("file:", "data:", "blob:")) or wrong.append(request.url)
        )
        shown.goto(pages[name][0].as_uri())
        shown.wait_for_selector(DRAWN, state="attached")
        return shown

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.mark.parametrize("name", ["run", "compared", "serving", "allocation", "sweep", "hostile"])
def test_all_figures_are_drawn_and_nothing_is_wrong(opened, pages, name):
    shown = opened(name)
    expected = [len(chart.one_each()) for chart in charts_of(pages[name][1].sections)]
    assert shown.locator(".chart svg.marks").count() == sum(expected)
    empty = shown.evaluate(
        """() => [...document.querySelectorAll(".chart svg.marks")].filter((drawing) => {
          const marks = [...drawing.querySelectorAll(".mark-rect, .mark-line, .mark-area, .mark-symbol")];
          return !marks.some((mark) => !mark.closest(".role-legend") && mark.querySelector('path[d]:not([d=""])'));
        }).map((drawing) => drawing.closest("figure").id)"""
    )
    assert empty == []
    assert shown.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_text_of_results_is_shown_as_text(opened):
    shown = opened("hostile")
    assert shown.locator("img").count() == 0
    assert report_folders.HOSTILE in shown.locator("main").inner_text()
    details = shown.locator("details.data").first
    details.locator("summary").click()
    assert details.locator("tbody tr").count() > 0


def test_the_pointer_shows_values_and_ctrl_wheel_zooms(opened):
    shown = opened("compared")
    bars = shown.locator("#side_by_side .chart").first
    bars.scroll_into_view_if_needed()
    bars.locator(".mark-rect path").first.hover()
    tooltip = shown.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    assert "fifo" in tooltip.inner_text()
    curve = shown.locator("#figure-latency_cdf .chart")
    curve.scroll_into_view_if_needed()
    before = curve.locator("svg.marks").inner_html()
    box = curve.bounding_box()
    scrolled = shown.evaluate("window.scrollY")
    shown.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 3)
    shown.keyboard.down("Control")
    shown.mouse.wheel(0, -240)
    shown.keyboard.up("Control")
    shown.wait_for_timeout(200)
    assert curve.locator("svg.marks").inner_html() != before and shown.evaluate("window.scrollY") == scrolled


def test_colours_follow_the_system_and_the_button(opened):
    shown = opened("run", color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = shown.evaluate(background)
    label = shown.locator(".chart svg text").first
    colour = label.get_attribute("fill")
    shown.locator("#theme").click()
    shown.wait_for_selector(DRAWN, state="attached")
    assert shown.evaluate(background) != dark
    assert shown.locator(".chart svg text").first.get_attribute("fill") != colour
    light = opened("run", color_scheme="light")
    assert light.evaluate(background) == shown.evaluate(background)
    for page_ in (shown, light):
        assert _contrast(page_) >= 4.5


def _contrast(shown) -> float:
    """The lowest contrast of texts outside charts to the page's ground, as WCAG 2.2 defines it."""
    return shown.evaluate(
        """() => {
        const parts = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
        const luminance = (text) => parts(text).map((one) => one / 255)
          .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
          .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
        const ground = luminance(getComputedStyle(document.body).backgroundColor);
        const ratios = [...document.querySelectorAll("p, h1, h2, h3, td, th, nav a, summary, caption")].map((one) => {
          const text = luminance(getComputedStyle(one).color);
          return (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
        });
        return Math.min(...ratios);
    }"""
    )


_FOCUSED = """(() => {
  const one = document.activeElement;
  if (one.id) return one.id;
  if (one.dataset.sort !== undefined) return "sort";
  if (one.closest(".vega-embed")) return "save";
  return one.tagName === "SUMMARY" ? "details" : one.tagName;
})()"""


def test_the_keyboard_reaches_everything(opened):
    shown = opened("sweep")
    shown.keyboard.press("Tab")
    assert shown.evaluate("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(600):
        shown.keyboard.press("Tab")
        reached.add(shown.evaluate(_FOCUSED))
        if {"theme", "sort", "details", "save", "A"} <= reached:
            break
    assert {"theme", "sort", "details", "save", "A"} <= reached
    shown.keyboard.press("Enter")


def test_tables_are_sorted_and_data_saved(opened):
    shown = opened("sweep")
    table = shown.locator("#sweep table").last
    button = table.locator("thead button").nth(5)
    cells = table.locator("tbody tr td:nth-child(6)")
    for direction in ("ascending", "descending"):
        button.focus()
        shown.keyboard.press("Enter")
        values = [float(text) for text in cells.all_inner_texts()]
        assert values == sorted(values, reverse=direction == "descending")
        assert table.locator(f"th[aria-sort={direction}]").count() == 1
    figure = shown.locator("#sweep figure").first
    figure.locator("details.data > summary").click()
    with shown.expect_download() as saved:
        figure.locator("button[data-csv]").click()
    lines = Path(saved.value.path()).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("tiers.hbm.capacity,") and len(lines) == 7


def test_a_phone_shows_it_without_scrolling_sideways(opened):
    for name in ("serving", "sweep"):
        shown = opened(name, viewport={"width": 390, "height": 844})
        assert shown.evaluate("document.documentElement.scrollWidth") <= 390
