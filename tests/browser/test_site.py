"""The site in Chromium, from a local server, in the windows of a desktop and of a phone, light and dark."""

import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from llmamdahl.tables import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if not os.environ.get("REQUIRE_EXTRAS"):
    pytest.importorskip("playwright", reason="the extra `browser` is not installed: make extras")
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine", allow_module_level=True)
elif not CHROMIUM:
    pytest.fail("no Chromium on this machine: apt-get install chromium", pytrace=False)

from playwright.sync_api import sync_playwright  # noqa: E402 (after the skips)

NOTEBOOKS = [f"notebooks/{path.stem}" for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
REFERENCE = ["api", "api/llmamdahl.share", "api/llmamdahl.Decoder", "api/llmamdahl.analysis", "cli"]
PAGES = ["index", "notebooks", "figures", "artifact", "replication", "errata", "data", *REFERENCE, *NOTEBOOKS]

OVERFLOWING = """() => [...document.querySelectorAll('article *')].filter(element => {
    const box = element.getBoundingClientRect();
    if (element.closest('mjx-assistive-mml')) return false;  // for screen readers, clipped to nothing
    if (!box.width || box.width <= 1 || (box.right <= innerWidth + 1 && box.left >= -1)) return false;
    for (let outer = element.parentElement; outer && !outer.matches('article'); outer = outer.parentElement) {
        const hidden = ['auto', 'scroll'].includes(getComputedStyle(outer).overflowX);
        if (hidden && outer.getBoundingClientRect().right <= innerWidth + 1) return false;
    }
    return true;
}).map(element => element.outerHTML.slice(0, 100))"""
"""Elements of the text that reach beyond the window, unless they are in a box of the text that fits and scrolls."""


SMALLEST = """() => Math.min(...[...document.querySelectorAll('main p, main td, main pre')].map(
    element => parseFloat(getComputedStyle(element).fontSize)))"""
"""The smallest size of letters, in pixels."""

CUT_TABLES = """() => [...document.querySelectorAll('table.dataframe')].filter(
    table => !table.closest('details') && table.offsetWidth > table.closest('div.cell_output').clientWidth
).map(table => table.outerHTML.slice(0, 200))"""
"""DataFrames that are wider than their column, and not folded."""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def address(site):
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(params=[(1280, 800, "light"), (390, 844, "dark")], ids=["desktop", "phone"])
def page(request, browser, address):
    """A page whose errors and requests to elsewhere fail the test."""
    width, height, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page, faults = context.new_page(), []
    page.on("request", lambda sent: sent.url.startswith((address, "data:")) or faults.append(("request", sent.url)))
    page.on("console", lambda said: said.type == "error" and faults.append((said.text, said.location["url"])))
    page.on("pageerror", lambda error: faults.append(("exception", str(error))))
    yield page
    context.close()
    # Chromium asks for an icon beside a bare picture, which names none
    assert [fault for fault in faults if not fault[1].endswith("/favicon.ico")] == []


def test_every_page_fits_the_window_with_its_pictures_and_formulas(page, address):
    width, formulas, wide = page.viewport_size["width"], 0, 0
    for name in PAGES:
        page.goto(f"{address}/{name}.html")
        page.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
        page.wait_for_function("[...document.images].every(image => image.complete)")
        page.evaluate("window.MathJax && MathJax.startup.promise")
        assert page.evaluate("[...document.images].filter(image => !image.naturalWidth).length") == 0, name
        assert page.evaluate("document.documentElement.scrollWidth") == width, name
        assert page.evaluate(OVERFLOWING) == [], name
        heights = page.evaluate("[...document.querySelectorAll('main .math')].map(math => math.offsetHeight)")
        drawn = page.locator("main .math mjx-container").count()
        assert drawn == len(heights) and all(heights), name
        assert page.locator("main mjx-merror").count() == 0, name
        assert page.evaluate(SMALLEST) >= 12, name
        formulas += drawn
        wide += page.evaluate(
            "[...document.querySelectorAll('main table')].filter(t => t.scrollWidth > innerWidth).length"
        )
    assert formulas > 50
    assert wide > 5 or width > 1000  # on a phone there are tables to scroll


def test_tables_show_their_answer_without_scrolling(browser, address):
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    for name in ("00-start-here", "06-modern-models", "14-accelerators"):
        page.goto(f"{address}/notebooks/{name}.html")
        assert page.evaluate(CUT_TABLES) == [], name
    page.close()


def test_the_library_s_descriptions_are_in_sight_and_examples_of_commands_are_code(page, address):
    page.goto(f"{address}/api.html")
    tables = page.locator("table.autosummary")
    assert tables.count() > 5
    assert (
        max(tables.evaluate_all("all => all.map(table => table.getBoundingClientRect().right)"))
        <= page.viewport_size["width"]
    )
    page.goto(f"{address}/cli.html")
    assert page.locator("#llmamdahl > div.highlight-shell pre").first.inner_text().startswith("llmamdahl share ")


def test_light_and_dark_are_those_of_the_reader_and_can_be_switched(page, address):
    page.goto(f"{address}/index.html")
    light = "parseInt(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]) > 127"
    assert page.evaluate(light) == page.evaluate("matchMedia('(prefers-color-scheme: light)').matches")
    for mode, expected in (("dark", False), ("light", True)):
        page.evaluate(f"localStorage.setItem('mode', '{mode}'), localStorage.setItem('theme', '{mode}')")
        page.reload()
        assert page.evaluate(light) == expected


def test_the_search_finds_a_function_and_a_word_of_a_notebook(page, address):
    for words, expected in (
        ("crossover_context_length", "api/llmamdahl.crossover_context_length"),
        ("PIM-LLM", "notebooks/14"),
    ):
        page.goto(f"{address}/index.html")
        page.locator("button.search-button, button.search-button-field").locator("visible=true").first.click()
        page.locator("dialog input[type=search], .search-button__search-container input").locator(
            "visible=true"
        ).first.fill(words)
        page.keyboard.press("Enter")
        page.wait_for_url("**/search.html*")
        page.locator("#search-results ul.search li").first.wait_for(timeout=20_000)
        found = page.eval_on_selector_all("#search-results li a", "links => links.map(link => link.href)")
        assert any(expected in link for link in found), found


def test_a_figure_loads_small_and_opens_in_full_size(page, address):
    page.goto(f"{address}/notebooks/03-edge-sweep.html#figure-06")
    picture = page.locator("#figure-06 img")
    picture.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('#figure-06 img').currentSrc.includes('/_images/')")
    assert "/_images/small/" in picture.evaluate("image => image.currentSrc")
    picture.click()
    page.wait_for_url("**/_images/*.png")
    with Image.open(ROOT / "figures" / "figure-06.png") as whole:
        assert page.evaluate("document.images[0].naturalWidth") == whole.width > 960


def test_a_wide_screen_gets_the_full_size(browser, address):
    context = browser.new_context(viewport={"width": 1920, "height": 1080}, device_scale_factor=2)
    page = context.new_page()
    page.goto(f"{address}/notebooks/03-edge-sweep.html#figure-06")
    page.locator("#figure-06 img").scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('#figure-06 img').currentSrc.endsWith('.png')")
    context.close()


def test_contents_are_at_hand(page, address):
    page.goto(f"{address}/notebooks/01-dataflow-comparison.html")
    if page.viewport_size["width"] < 1000:
        page.locator("button.secondary-toggle").click()
    link = page.locator(".page-toc a, nav.page-toc a").locator("visible=true").last
    target = link.get_attribute("href").removeprefix("#")
    link.click()
    page.wait_for_function(
        "id => Math.abs(document.getElementById(id).getBoundingClientRect().top) < innerHeight", arg=target
    )
