"""`make report`: the executed notebooks and the paper's items, figures and errata as one HTML file."""

from __future__ import annotations

import base64
import io
import json
import re
import sys
from html import escape
from pathlib import Path
from typing import Any

from jinja2 import Environment
from latex2mathml.converter import convert
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from PIL import Image
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from compendium.command import BUILD, writing
from llmamdahl.paper.published import errata
from llmamdahl.tables import DATA, ROOT, Row, read_rows

TEMPLATE = Path(__file__).with_name("report.html")
THUMBNAIL = 480
"""Width in pixels of a figure on the first page; its notebook has it in full size."""


class Renderer(IPythonRenderer):
    """Renders Markdown as nbconvert does, except formulas, as MathML, and headings, one level down."""

    def __init__(self) -> None:
        super().__init__(escape=False, exclude_anchor_links=True)

    def heading(self, text: str, level: int, **attrs: Any) -> str:
        return f"<h{level + 1}>{text}</h{level + 1}>\n"

    def block_math(self, body: str) -> str:
        return f'<div class="wide">{convert(_words(body), display="block")}</div>'

    def inline_math(self, body: str) -> str:
        return str(convert(_words(body)))


def _words(formula: str) -> str:
    """Mark subscripts of several letters as words; LaTeX takes them for products."""
    return re.sub(r"_\{([A-Za-z]{2,})\}", r"_{\\text{\1}}", formula)


def page() -> str:
    """The report of `notebooks/`, `figures/` and `data/` as HTML; a browser shows it without a network."""
    items = _items()
    notebooks = [_notebook(path, items) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        items=items,
        errata=errata().to_dict("records"),
        figures=_figures(notebooks),
        notebooks=notebooks,
        highlighting=HtmlFormatter(style="default").get_style_defs(".highlight"),
    )


def _figures(notebooks: list[Row]) -> list[Row]:
    """A thumbnail of each figure, and the notebook cell that shows it; the paper's figures, with a number, first."""
    shown = {figure: (book, cell) for book in notebooks for cell in book["cells"] for figure in cell["figures"]}
    figures = []
    for path in sorted((ROOT / "figures").glob("*.png"), key=lambda path: (not path.stem[7:9].isdigit(), path.stem)):
        if path.stem in shown:
            book, cell = shown[path.stem]
            target, about = f"cell-{cell['id']}", cell["about"]
        else:  # a screenshot, named after its notebook
            book = next(book for book in notebooks if book["name"].endswith(path.stem))
            target, about = book["name"], f"{path.stem}: the panel"
        figures.append({"target": target, "about": about, "book": book, "picture": _thumbnail(path)})
    return figures


def _items() -> list[Row]:
    """The rows of `data/results/paper-items.csv`, with the stems of notebook and figure."""
    columns = "item about notebook png cells cells_agreeing statements statements_agreeing known_differences".split()
    rows = read_rows(DATA / "results" / "paper-items.csv", dict.fromkeys(columns, str), key=["item"])
    for row in rows:
        row["notebook"] = row["notebook"].removesuffix(".ipynb")
        row["figure"] = Path(row["png"]).stem if row["png"] else ""
    return rows


def _notebook(path: Path, items: list[Row]) -> Row:
    """A notebook's name and cells, each cell with what the template shows of it."""
    captions = {row["figure"]: f"{row['item']}: {row['about']}" for row in items if row["figure"]}
    cells, heading = [], ""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "markdown":
            source = "".join(cell["source"])
            # the caption of a figure without a paper item is the heading above it
            heading = re.sub(r"[${}]", "", [heading, *re.findall(r"^#+ (.*)", source, re.MULTILINE)][-1])
            html = MarkdownWithMath(renderer=Renderer()).render(source)
            cells.append({"id": cell["id"], "figures": [], "html": html})
        else:
            cells.append(_code_cell(cell, captions, heading))
    return {"name": path.stem, "cells": cells}


def _code_cell(cell: Row, captions: dict[str, str], heading: str) -> Row:
    source, outputs = "".join(cell["source"]), cell["outputs"]
    drawn = any("image/png" in output.get("data", {}) for output in outputs)
    figures = re.findall(r'"(figure-[\w-]+)"', source) if drawn else []
    about = "; ".join(captions.get(name, f"{name}: {heading}") for name in figures)
    return {
        "id": cell["id"],
        "figures": figures,
        "about": about,
        "count": cell["execution_count"],
        "code": str(highlight(source, PythonLexer(), HtmlFormatter())),
        "outputs": [_output(output, about) for output in outputs],
    }


def _output(output: Row, about: str) -> str:
    """One output as HTML: its picture, otherwise its table, otherwise its text."""
    data = output.get("data", {})
    if "image/png" in data:
        return f'<img alt="{escape(about)}" src="data:image/png;base64,{_joined(data["image/png"]).strip()}">'
    if "text/html" in data:
        return re.sub(r"<style.*?</style>", "", _joined(data["text/html"]), flags=re.DOTALL)
    return f"<pre>{escape(_joined(data.get('text/plain', output.get('text', ''))))}</pre>"


def _joined(text: str | list[str]) -> str:
    """A text of a notebook file, which may be stored as a list of lines."""
    return "".join(text)


def _thumbnail(path: Path) -> str:
    """A smaller copy of a figure, as a data URL."""
    small = io.BytesIO()
    with Image.open(path) as picture:
        picture.thumbnail((THUMBNAIL, THUMBNAIL))
        picture.convert("RGB").save(small, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(small.getvalue()).decode()}"


def main() -> None:
    """`python -m compendium.report [FILE]`: write the report to FILE, by default `build/report.html`."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else BUILD / "report.html"
    with writing():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}")
        draft.write_text(page(), encoding="utf-8")
        draft.replace(path)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
