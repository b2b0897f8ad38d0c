"""The panel as a reader uses it: JupyterLab in Chromium, notebook 09 run from the top, a slider moved."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from compendium.kernel import environment
from llmamdahl.explore import answer
from llmamdahl.hardware import CLOUD_TPU
from llmamdahl.models import get_model
from llmamdahl.tables import FIGURES, ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if not os.environ.get("REQUIRE_EXTRAS"):
    pytest.importorskip("playwright", reason="the extra `browser` is not installed: make extras")
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine", allow_module_level=True)

from playwright.sync_api import sync_playwright  # noqa: E402 (after the skips)

QUIET = "--disable-background-networking --disable-component-update --disable-sync --no-first-run --disable-gpu".split()


@pytest.fixture
def lab(tmp_path):
    """JupyterLab on a free port, with a copy of the notebook, which it may overwrite."""
    shutil.copy(ROOT / "notebooks" / "09-explore.ipynb", tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        "--no-browser",
        "--allow-root",
        f"--port={port}",
        "--ServerApp.ip=127.0.0.1",
        "--IdentityProvider.token=",
    ]
    options += [f"--ServerApp.root_dir={tmp_path}", "--LabApp.news_url=", "--LabApp.extension_manager=readonly"]
    variables = environment(os.environ, tmp_path)
    for name in ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR"):  # not the user's settings, nor the tabs they left open
        variables[f"JUPYTER_{name}"] = str(tmp_path / "jupyter" / name)
    for name in ("SETTINGS_DIR", "WORKSPACES_DIR"):
        variables[f"JUPYTERLAB_{name}"] = str(tmp_path / "jupyter" / name)
    command = [sys.executable, "-m", "jupyterlab", *options]
    with (tmp_path / "lab.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path, env=variables)
    address = f"http://127.0.0.1:{port}"
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{address}/api", timeout=1)
            break
        except OSError:
            time.sleep(0.5)
    yield address
    server.terminate()
    server.wait(20)


def shown(page):
    """The panel's table, as a dict of its texts."""
    rows = page.locator(".widget-html table tr").all()
    return dict(tuple(cell.strip() for cell in row.locator("td").all_inner_texts()) for row in rows)


def test_the_panel_in_jupyterlab(lab):
    outside, errors = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *QUIET])
        page = browser.new_page(viewport={"width": 1440, "height": 800})
        local = (lab, lab.replace("http", "ws"), "data:", "blob:")
        page.on("request", lambda request: request.url.startswith(local) or outside.append(request.url))
        page.on("console", lambda message: message.type == "error" and errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{lab}/lab/tree/09-explore.ipynb")
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=60_000)
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
        page.locator(".lm-MenuBar-itemLabel", has_text="Run").click()
        page.get_by_text("Run All Cells", exact=True).click()
        page.locator(".widget-html table").wait_for(timeout=60_000)
        before = shown(page)
        handle = page.locator(".noUi-handle").first
        handle.scroll_into_view_if_needed()
        handle.focus()
        for _ in range(10):
            handle.press("ArrowRight")
        page.wait_for_function(
            "before => !document.querySelector('.widget-html table').innerText.includes(before)",
            arg=before["S_total, model"],
        )
        page.wait_for_timeout(500)
        after = shown(page)
        picture = page.locator(".widget-image").first.bounding_box()
        page.keyboard.press("Escape")
        page.keyboard.press("Control+b")  # the file browser out of the picture
        if (news := page.get_by_role("button", name="No", exact=True)).count():
            news.click()
        page.evaluate("document.querySelector('.widget-html table').scrollIntoView({block: 'start'})")
        page.wait_for_timeout(700)
        FIGURES.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=FIGURES / "explore.png")
        browser.close()
    model = get_model("opt-6.7b")
    for table in (before, after):
        speedups = float(table["S of projections"]), float(table["S of attention"])
        expected = answer(model, CLOUD_TPU, 2048, 1, *speedups)
        assert table["S_total, model"] == f"{expected.total_speedup:.4f}"
        assert table["F of cycles, LM head left out"] == f"{expected.fraction:.4f}"
        assert int(re.sub(",", "", table["cycles, projections"])) == expected.projection
    assert float(before["S of projections"]) == 10
    assert float(after["S of projections"]) > 15
    assert picture["width"] > 400
    assert (outside, errors) == ([], [])
