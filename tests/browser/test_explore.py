"""The panel as a reader uses it, in Chromium: notebook 09 in JupyterLab, and the page that `make app` serves."""

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from hashlib import sha256

import pytest

from compendium.kernel import environment
from llmamdahl.explore import Asked, Panel
from llmamdahl.explore.asked import FASTEST
from llmamdahl.explore.panel import CHOICES, COLUMNS
from llmamdahl.tables import FIGURES, ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if not os.environ.get("REQUIRE_EXTRAS"):
    pytest.importorskip("playwright", reason="the extra `browser` is not installed: make extras")
    pytest.importorskip("voila", reason="the extra `app` is not installed: make extras")
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine", allow_module_level=True)
elif not CHROMIUM:
    pytest.fail("no Chromium on this machine: apt-get install chromium", pytrace=False)

from playwright.sync_api import sync_playwright  # noqa: E402 (after the skips)

QUIET = "--disable-background-networking --disable-component-update --disable-sync --no-first-run --disable-gpu".split()

LABELS = {"model": "model", "hardware": "hardware"}
LABELS |= {name: label for groups in COLUMNS for group in groups.values() for name, label in group.items()}

CUT = """() => {
    const panel = document.querySelector('.llmamdahl'), paper = document.createElement('canvas').getContext('2d');
    const cut = element => {
        const box = element.getBoundingClientRect();
        if (element.tagName == 'SELECT') {
            paper.font = getComputedStyle(element).font;
            const text = paper.measureText(element.selectedOptions[0].text).width;
            return text + 30 > element.clientWidth;  // its padding and arrow
        }
        return element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).display != 'inline'
            || box.right > innerWidth || box.left < 0;
    };
    return [...panel.querySelectorAll('label, input, select, table, p, td, code, b, img, .widget-html')]
        .filter(element => element.offsetParent && cut(element)).map(element => element.outerHTML.slice(0, 200));
}"""
"""Elements of the panel whose text does not fit, or that reach beyond the window."""

SHOWN = """html => {
    const expected = document.createElement('div');
    expected.innerHTML = html;
    return [...document.querySelectorAll('.llmamdahl .widget-html-content')]
        .some(shown => shown.textContent == expected.textContent);
}"""

PICTURE = """async image => {
    const bytes = await (await fetch(image.src)).arrayBuffer();
    return [...new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))];
}"""


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def serving(port, folder, *command):
    """A server of this port, from when it listens."""
    variables, log = environment(os.environ, folder), folder / "server.log"
    for name in ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR"):  # not the user's settings, nor the tabs they left open
        variables[f"JUPYTER_{name}"] = str(folder / "jupyter" / name)
    for name in ("SETTINGS_DIR", "WORKSPACES_DIR"):
        variables[f"JUPYTERLAB_{name}"] = str(folder / "jupyter" / name)
    with log.open("w") as out:
        command = [sys.executable, "-m", *command]
        server = subprocess.Popen(command, stdout=out, stderr=out, cwd=folder, env=variables)
    try:
        for _ in range(240):
            assert server.poll() is None, log.read_text()
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.25)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def lab(tmp_path):
    """JupyterLab on a free port, with a copy of the notebook, which it may overwrite."""
    shutil.copy(ROOT / "notebooks" / "09-explore.ipynb", tmp_path)
    port = free_port()
    options = ["--no-browser", "--allow-root", f"--port={port}", "--ServerApp.ip=127.0.0.1"]
    options += ["--IdentityProvider.token=", f"--ServerApp.root_dir={tmp_path}"]
    options += ["--LabApp.news_url=", "--LabApp.extension_manager=readonly"]
    with serving(port, tmp_path, "jupyterlab", *options) as address:
        yield address


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """The page that `make app` serves."""
    port = free_port()
    options = ["--no-browser", "--port", str(port)]
    with serving(port, tmp_path_factory.mktemp("app"), "llmamdahl.explore", *options) as address:
        yield address


@contextmanager
def opened(address, width, height):
    """A page in Chromium; at the end, what it asked of other machines and its errors are none."""
    local, outside, errors = (address, address.replace("http", "ws"), "data:", "blob:"), [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *QUIET])
        page = browser.new_page(viewport={"width": width, "height": height})
        page.on("request", lambda request: request.url.startswith(local) or outside.append(request.url))
        page.on("console", lambda message: message.type == "error" and errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
        browser.close()
    assert outside == errors == []


def control(page, name):
    """The input or select of a control."""
    label = page.locator(".llmamdahl label", has_text=LABELS[name]).filter(visible=True)
    exact = [one for one in label.all() if one.inner_text() == LABELS[name]]
    return exact[0].locator("xpath=..").locator("input, select")


def enter(page, name, value):
    place = control(page, name)
    if name in CHOICES:
        place.select_option(label=value)
    else:
        place.fill(value)
        place.press("Enter")


def follow(page, panel, name, value):
    """Set a control here and in the browser, and wait until the page shows the same."""
    enter(page, name, value)
    options = {option[0]: option[1] for option in CHOICES.get(name, []) if isinstance(option, tuple)}
    panel.controls[name].value = options.get(value, value)
    same(page, panel)


def eventually(page, value, expected):
    """The value, as soon as it is the expected one; after 5 seconds, whatever it is."""
    for _ in range(100):
        if value() == expected:
            break
        page.wait_for_timeout(50)
    return value()


def same(page, panel):
    """Wait until the page has the panel's text, and its picture or none."""
    page.wait_for_function(SHOWN, arg=panel.text.value, timeout=20_000)
    picture = page.locator(".llmamdahl img")
    picture.wait_for(state="hidden" if panel.answer is None else "visible")
    if panel.answer is not None:
        expected = [*sha256(panel.image.value).digest()]
        assert eventually(page, lambda: picture.evaluate(PICTURE), expected) == expected


def test_the_panel_in_jupyterlab(lab):
    with opened(lab, 1280, 720) as page:
        page.goto(f"{lab}/lab/tree/09-explore.ipynb")
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=60_000)
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
        page.locator(".lm-MenuBar-itemLabel", has_text="Run").click()
        page.get_by_text("Run All Cells", exact=True).click()
        page.locator(".llmamdahl table").wait_for(timeout=60_000)
        panel = Panel()
        same(page, panel)
        for width in (900, 1280):  # beside the file browser
            page.set_viewport_size({"width": width, "height": 720})
            page.wait_for_timeout(500)
            assert eventually(page, lambda: page.evaluate(CUT), []) == []
        handle = page.locator(".noUi-handle").first
        handle.scroll_into_view_if_needed()
        handle.focus()
        for _ in range(10):
            handle.press("ArrowRight")
        page.wait_for_function("input => input.value == '15.85'", arg=control(page, "projection").element_handle())
        panel.controls["projection"].value = "15.85"
        same(page, panel)
        page.keyboard.press("Escape")
        page.keyboard.press("Control+b")  # the file browser out of the picture
        if (news := page.get_by_role("button", name="No", exact=True)).count():
            news.click()
        for name, value in EXAMPLE.items():
            follow(page, panel, name, value)
        assert page.evaluate(CUT) == []
        notebook = page.locator(".jp-WindowedPanel-outer").first.bounding_box()
        assert page.locator(".llmamdahl").bounding_box()["height"] < notebook["height"]
        page.evaluate("document.querySelector('.llmamdahl').scrollIntoView({block: 'start'})")
        page.wait_for_timeout(700)
        FIGURES.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=FIGURES / "explore.png")


EXAMPLE = {
    "model": "llama-3.1-8b", "hardware": "A100 80GB", "context_length": "32768", "batch": "8",
    "weights": "2", "activations": "8",
}  # fmt: skip
"""The question of README's example."""

EXTREMES = {
    "model": ["", "no-such-model", "granite-3.0-1b-a400m", "deepseek-v3"],
    "hardware": ["", "0x0", "65536x65536", "1x1", "Raspberry Pi 5", "H200"],
    "context_length": ["0", "1.5", "1", str(2**40)],
    "batch": ["0", "many", "1", str(2**20)],
    "weights": ["0", "65", "0.01", "64"],
    "activations": ["-1", "64"],
    "cache": ["nan", "0.01"],
    "projection": ["0.99", str(FASTEST + 1), "1", str(FASTEST), "3"],
    "attention": ["", "1", str(FASTEST)],
}
"""What is typed into each control, rejected values first; the array's own two are added where there is an array."""


def test_the_page_of_its_own_fits_and_follows_a_change(app):
    with opened(app, 1280, 720) as page:
        page.goto(app)
        page.locator(".llmamdahl table").wait_for(timeout=60_000)
        assert page.title() == "llmamdahl"
        panel = Panel()
        same(page, panel)
        for name, value in {**EXAMPLE, "unquantized": "in the whole", "context_length": "1000000"}.items():
            follow(page, panel, name, value)
            for width in (900, 1280):
                page.set_viewport_size({"width": width, "height": 720})
                assert eventually(page, lambda: page.evaluate(CUT), []) == []
                assert page.evaluate("document.documentElement.scrollWidth") == width
                assert page.locator(".llmamdahl").bounding_box()["height"] < 720
        wrapped = {"model": "qwen3.5-397b-a17b", "projection": "100000"}  # a state: one column more
        for name, value in wrapped.items():
            follow(page, panel, name, value)
        page.set_viewport_size({"width": 900, "height": 720})
        assert eventually(page, lambda: page.evaluate(CUT), []) == []
        page.locator(".llmamdahl code").click()  # selects the line, to copy it
        assert page.evaluate("getSelection().toString()").strip() == panel.asked().command()


def test_every_control_at_its_extremes(app):
    with opened(app, 1280, 720) as page:
        page.goto(app)
        page.locator(".llmamdahl table").wait_for(timeout=60_000)
        panel = Panel()
        step = partial(follow, page, panel)
        for name, values in {"clock_mhz": ["0", "1e-3"], "dram_gb_s": ["fast", "1e9"], **EXTREMES}.items():
            for value in values:
                step(name, value)
            page.wait_for_timeout(200)  # in which nothing else may change it
            assert control(page, name).input_value() == values[-1]
            same(page, panel)
            step(name, str(getattr(Asked(), name) or ""))
        for name, options in CHOICES.items():
            for option in [*options[1:], options[0]]:
                step(name, option[0] if isinstance(option, tuple) else option)
        for slider, name in zip(page.locator(".noUi-handle").all(), ("projection", "attention"), strict=True):
            for key, value in {"End": "100", "Home": "1"}.items():
                slider.focus()
                slider.press(key)
                panel.controls[name].value = value
                same(page, panel)
                assert control(page, name).input_value() == value
