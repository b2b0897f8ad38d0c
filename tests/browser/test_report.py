"""The report opened from disk in Chromium, in the window of a desktop and of a phone."""

import os
import shutil

import pytest

from compendium.report import page as report
from llmamdahl.tables import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if not os.environ.get("REQUIRE_EXTRAS"):
    pytest.importorskip("playwright", reason="the extra `browser` is not installed: make extras")
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine", allow_module_level=True)

from playwright.sync_api import sync_playwright  # noqa: E402 (after the skips)

OVERFLOWING = """() => [...document.querySelectorAll('body *')].filter(element => {
    const box = element.getBoundingClientRect();
    const inner = element.closest('.wide, .code, .cards thead');
    return !inner && box.width && (box.right > innerWidth + 1 || box.left < -1);
}).map(element => element.outerHTML.slice(0, 80))"""
"""Elements that reach beyond the window, unless they are in a box that scrolls."""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report(), encoding="utf-8")
    return path.as_uri()


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_report_fits_the_window_and_loads_nothing(address, width, height):
    requests, messages = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": height}, reduced_motion="reduce")
        page.on("request", lambda request: request.url.startswith((address, "data:")) or requests.append(request.url))
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.goto(address)
        page.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
        page.wait_for_function("[...document.images].every(image => image.complete)")
        assert page.evaluate("[...document.images].filter(image => !image.naturalWidth).length") == 0
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate(OVERFLOWING) == []
        lost = "[...document.querySelectorAll('a')].filter(a => !document.getElementById(a.hash.slice(1))).length"
        assert page.evaluate(lost) == 0
        for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
            page.locator(f"nav a[href='#{notebook.stem}']").click()
            page.wait_for_function(
                "name => Math.abs(document.getElementById(name).getBoundingClientRect().top) < innerHeight",
                arg=notebook.stem,
            )
            assert page.locator(f"[id='{notebook.stem}'] h2").count() == 1
        boxes = page.evaluate("[...document.querySelectorAll('math')].map(math => math.getBoundingClientRect().height)")
        assert min(boxes) > 8
        small = "[...document.querySelectorAll('p, td, pre')].map(e => parseFloat(getComputedStyle(e).fontSize))"
        assert min(page.evaluate(small)) >= 12
        browser.close()
    assert (requests, messages) == ([], [])
