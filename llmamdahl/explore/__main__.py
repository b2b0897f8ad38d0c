"""The panel as a web page of its own, served by Voila on this machine: `make app`, or `python -m llmamdahl.explore`."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import webbrowser
from pathlib import Path
from typing import Any

import click

from llmamdahl.needed import require

ONLY_HERE = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob: ws://{}"
"""The page's Content-Security-Policy."""

TEMPLATE = """\
{% extends "voila/templates/lab/index.html.j2" %}
{% block notebook_css %}
{% for line in super().splitlines() if "https://cdn" not in line %}
{{ line }}
{% endfor %}
{% endblock %}
"""
"""Voila's own template without the icons that it asks a CDN for; the panel has none."""

CELL = """\
import os
from llmamdahl.explore import Panel

os.chdir({folder!r})
Panel()"""


@click.command()
@click.option("--port", type=int, default=8866, show_default=True)
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the page in your browser.")
def main(port: int, browser: bool) -> None:
    """Serve the panel at http://127.0.0.1:PORT/ until Ctrl-C; nothing outside this machine can reach it."""
    try:
        with socket.create_server(("127.0.0.1", port)):
            pass
    except (OSError, OverflowError) as error:
        problem = os.strerror(error.errno or 0) if isinstance(error, OSError) else "not between 1 and 65535"
        raise click.ClickException(f"port {port}: {problem}; choose another: make app PORT=8867") from None
    require("ipywidgets", "voila")
    from traitlets.config import Config
    from voila.app import Voila

    host = f"127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "panel.ipynb"
        page.write_text(json.dumps(notebook(CELL.format(folder=os.getcwd()))), encoding="utf-8")
        template = Path(folder) / "voila" / "templates" / "panel"
        template.mkdir(parents=True)
        (template / "index.html.j2").write_text(TEMPLATE, encoding="utf-8")
        (template / "conf.json").write_text('{"base_template": "lab"}', encoding="utf-8")
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("JUPYTER_PATH")]))
        note = "" if not browser or _has_browser() else "; no browser was found here, so open it in yours"
        click.echo(f"the panel is at http://{host}/ until Ctrl-C{note}")
        config = Config(
            Voila={
                "port": port,
                "port_retries": 0,
                "ip": "127.0.0.1",
                "open_browser": browser,
                "log_level": "ERROR",
                "tornado_settings": {"headers": {"Content-Security-Policy": ONLY_HERE.format(host)}},
            },
            VoilaConfiguration={"template": "panel"},
        )
        Voila.launch_instance([str(page)], config=config)


def notebook(code: str) -> dict[str, Any]:
    """A notebook of one cell, as Voila reads it."""
    cell: dict[str, Any] = {"cell_type": "code", "source": code, "metadata": {}, "outputs": []}
    about = {"title": "llmamdahl", "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return {"cells": [cell | {"execution_count": None}], "metadata": about, "nbformat": 4, "nbformat_minor": 4}


def _has_browser() -> bool:
    try:
        return bool(webbrowser.get())
    except webbrowser.Error:
        return False


if __name__ == "__main__":
    main()
