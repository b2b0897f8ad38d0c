"""`make docs`: the site, from `docs/`, the notebooks as committed, `figures/`, `data/` and the docstrings."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from html import escape
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
from bs4 import BeautifulSoup
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from compendium.command import BUILD, writing
from llmamdahl.paper.published import errata, paper_items, recorded, statements
from llmamdahl.scalesim.against_store import closed_form_against_store
from llmamdahl.scalesim.zoo_runs import SAMPLE, zoo_matmuls
from llmamdahl.tables import DATA, ROOT, Row

DOCS = ROOT / "docs"
STORES = ("data/scalesim/matmuls.csv", "data/scalesim-zoo/matmuls.csv")
STAGED = ("figures", "data/published", "data/results", *STORES, "data/README.md", "README.md")
"""What pages include or link to, beside `docs/` and the notebooks."""

NUMBER = re.compile(r"[-+]?[\d.,]*(e[-+]?\d+)?[x%]?|nan|<na>|none|[-+]?inf|-|\d+ of \d+", re.IGNORECASE)
"""What a cell of a column of numbers holds."""


def main() -> None:
    """`python -m compendium.docs`: build the site in `build/site/`; a build that fails leaves the last one as it was.

    `build/docs/` keeps what Sphinx read and remembered.
    """
    start = time.perf_counter()
    site, work = BUILD / "site", BUILD / "docs"
    with writing():
        print(f"building {site}: about a minute", flush=True)
        shutil.rmtree(work, ignore_errors=True)
        stage(work / "sources")
        if problem := build(work):
            sys.exit(f"make docs: {problem}")
        shutil.rmtree(site, ignore_errors=True)
        (work / "html").rename(site)
    files = [path for path in site.rglob("*") if path.is_file()]
    pages, size = sum(path.suffix == ".html" for path in files), sum(path.stat().st_size for path in files) / 1e6
    print(f"{site / 'index.html'}: {pages} pages, {size:.0f} MB, in {time.perf_counter() - start:.0f} s")


def build(work: Path) -> str:
    """Run Sphinx on `work/sources` into `work/html`; return what went wrong, in one line, or nothing."""
    try:
        from sphinx.application import Sphinx
        from sphinx.util.docutils import docutils_namespace, patch_docutils
    except ImportError as error:
        return f"{error}; pip install -r requirements-docs.lock"
    os.environ["SOURCE_DATE_EPOCH"] = _git("log", "-1", "--format=%ct") or "0"
    status = sys.stdout if sys.stdout.isatty() else None  # shows how many of the pages are read and written
    warnings = io.StringIO()
    try:
        with patch_docutils(DOCS), docutils_namespace():
            folders = (work / "sources", DOCS, work / "html", work / "doctrees")
            Sphinx(*folders, "html", status=status, warning=warnings).build()
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    colours = re.compile(r"\x1b\[[\d;]*m")
    lines = [line for line in colours.sub("", warnings.getvalue()).splitlines() if line.strip()]
    for line in lines:
        print(line, file=sys.stderr)
    return f"Sphinx warned; {len(lines)} lines above" if lines else ""


def stage(sources: Path) -> None:
    """Lay out in one folder all that Sphinx reads, so that nothing generated is in the checkout."""
    shutil.copytree(DOCS, sources, ignore=shutil.ignore_patterns("_*", "*.py", "*.jinja"))
    for name in STAGED:
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile)(ROOT / name, sources / name)
    notebooks, figures, minutes = [], [], _minutes()
    (sources / "notebooks").mkdir()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        figures += _captioned(notebook, path.stem)
        for cell in notebook["cells"]:
            for data in (output["data"] for output in cell.get("outputs", []) if "data" in output):
                if "text/html" in data:
                    data["text/html"] = _marked("".join(data["text/html"]))
        (sources / "notebooks" / path.name).write_text(json.dumps(notebook), encoding="utf-8")
        notebooks.append({"name": path.stem, "minutes": minutes.get(path.stem), **_summary(notebook)})
    figures.sort(key=lambda row: (not row["name"][7:9].isdigit(), row["name"]))  # the paper's, with a number, first
    pages = Environment(loader=FileSystemLoader(DOCS), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.filters["literally"] = _literally
    values = {"notebooks": notebooks, "figures": figures, "errata": errata().to_dict("records"), **_claims(minutes)}
    for page in sorted(DOCS.glob("*.jinja")):
        text = pages.get_template(page.name).render(values)
        (sources / page.stem).write_text(text, encoding="utf-8")


def commit() -> str:
    """The commit and its day, as in `commit 0123abcd of 2026-01-31`; `, changed` if files differ from it."""
    name = _git("log", "-1", "--abbrev=8", "--format=commit %h of %cs")
    return name + (", changed" if name and _git("status", "--porcelain") else "")


def _git(*arguments: str) -> str:
    """What git prints; nothing where there is no git, or no commit."""
    if not shutil.which("git"):
        return ""
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def _literally(text: object) -> str:
    """Text that MyST shows as it is, in a cell of a table too.

    >>> _literally("h = 76 | W_Q*x")
    'h = 76 \\\\| W\\\\_Q\\\\*x'
    """
    return re.sub(r"([\\`*_$|<>\[\]{}~#])", r"\\\1", " ".join(str(text).split()))


def _marked(html: str) -> str:
    """An output whose DataFrames have the class `text` where a column has any, and `phrase` or `long` where a cell may
    take several lines; a name in a header may break after each underscore.

    >>> _marked('<table class="dataframe"><tbody><tr><th>0</th><td>1.5</td><td>opt-6.7b</td></tr></tbody></table>')
    '<table class="dataframe"><tbody><tr><th>0</th><td>1.5</td><td class="text">opt-6.7b</td></tr></tbody></table>'
    """
    page = BeautifulSoup(html, "html.parser")
    for table in page.select("table.dataframe"):
        columns = list(zip(*(row.select("td") for row in table.select("tbody tr")), strict=True))
        of_text = [any(not NUMBER.fullmatch(cell.get_text().strip()) for cell in column) for column in columns]
        labels = [cell for cell in table.select("tbody th") if not NUMBER.fullmatch(cell.get_text().strip())]
        texts = [cell for column, text in zip(columns, of_text, strict=True) if text for cell in column] + labels
        for row in table.select("thead tr"):
            at = len(columns)
            for cell in reversed(row.select("th")):
                width = int(str(cell.get("colspan", "1")))
                at -= width
                if any(of_text[at : at + width]) if at >= 0 else labels:
                    cell["class"] = "text"
                if name := cell.string:
                    broken = BeautifulSoup(escape(name, quote=False).replace("_", "_<wbr/>"), "html.parser")
                    cell.clear()
                    cell.extend(list(broken.contents))
        for cell in texts:
            words = cell.get_text()
            long = " long" if len(words) > 60 else " phrase" if len(words) > 16 else ""
            cell["class"] = f"text{long}"
    return str(page)


def _summary(notebook: Row) -> dict[str, str]:
    """Title and first words of a notebook, from its first cell."""
    title, _, text = "".join(notebook["cells"][0]["source"]).removeprefix("# ").partition("\n")
    return {"title": title, "learn": next(iter(re.findall(r"\*\*You will learn\*\* (.*?\.)\s", text + "\n")), "")}


def _captioned(notebook: Row, name: str) -> list[Row]:
    """Give each figure of a notebook its words and an anchor; return them for the gallery.

    The words are the figure's own title or, where nothing is kept in `figures/`, the heading above.
    """
    heading, figures = "", []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            heading = [heading, *re.findall(r"^#+ (.*)", source, re.MULTILINE)][-1]
        elif any("image/png" in output.get("data", {}) for output in cell["outputs"]):
            named = re.findall(r'"(figure-[\w-]+)"', source)  # one, or none where nothing is kept in figures/
            about = _title(ROOT / "figures" / f"{named[0]}.svg") if named else heading
            cell["metadata"]["mystnb"] = {"image": {"alt": re.sub(r"[${}]", "", about)}}
            for figure in named:
                caption = f"{_literally(about)}. Data: [{figure}.csv](../figures/{figure}.csv)"
                cell["metadata"]["mystnb"]["figure"] = {"name": figure, "caption": caption}
                figures.append({"name": figure, "about": about, "notebook": name})
    return figures


def _title(svg: Path) -> str:
    """The title of a figure: what is written highest outside its panels or, without that, in its panels."""
    names = {"svg": "http://www.w3.org/2000/svg"}
    figure = ElementTree.parse(svg).getroot().find("svg:g[@id='figure_1']", names)
    assert figure is not None, svg
    outside = [group for group in figure.findall("svg:g", names) if group.get("id", "").startswith("text_")]
    found = []
    for group in outside or [figure]:
        lines = group.findall(".//svg:text", names)
        by_line = [(float(line.get("y", "inf")), "".join(line.itertext()).strip()) for line in lines]
        found.append((by_line[0][0], " ".join(text for _, text in by_line)) if outside else min(by_line))
    return min(found)[1]


def _bench() -> pd.DataFrame:
    return pd.read_csv(DATA / "results" / "bench.csv", keep_default_na=False, dtype=str)


def _minutes() -> dict[str, float]:
    """Minutes of each notebook in `make reproduce`, where `make bench` timed it."""
    timed = _bench()
    timed = timed[timed.what.str.startswith("`make reproduce`: ")]
    names = timed.what.str.removeprefix("`make reproduce`: ")
    return dict(zip(names, timed.value.str.removesuffix(" s").str.replace(",", "").astype(float) / 60, strict=True))


def _minutes_of_the_store() -> float:
    """Minutes of `make simulate` on one core: hours of all MatMuls as a whole over what their folds save."""
    values = _bench().set_index("what").value
    hours = float(values["… hours of the 828 whole, on one core"].removesuffix(" h"))
    return 60 * hours / float(values["… all 828 whole MatMuls / the 678 runs of the store"].removesuffix("x"))


def _claims(minutes: dict[str, float]) -> Row:
    """What the artifact page shows: items, sentences, cells that differ, results past the paper, and speeds."""
    items, checked, bench = paper_items().to_dict("records"), recorded(), _bench()
    for item in items:
        item["notebook"] = item["notebook"].removesuffix(".ipynb")
        item["minutes"] = minutes.get(item["notebook"])
        item["known_differences"] = [name for name in item["known_differences"].split(", ") if name]
    homes = {item["item"]: item for item in items}
    checked["file"] = checked.item.map(lambda item: homes[item]["agreement"])
    checked["notebook"] = checked.item.map(lambda item: homes[item]["notebook"])
    sections = statements().set_index("id").section
    sentences = checked[checked.kind == "statement"].assign(section=lambda rows: rows.cell.map(sections))
    return {
        "items": items,
        "sentences": sentences.to_dict("records"),
        "differing": checked[(checked.kind == "cell") & ~checked.agrees].to_dict("records"),
        "speeds": bench[~bench.what.str.startswith("`make reproduce`")].to_dict("records"),
        "machine": bench.machine[0],
        "whole": sum(minutes.values()),
        "timed": len(minutes),
        "cells": [int(checked.agrees[checked.kind == "cell"].sum()), int((checked.kind == "cell").sum())],
        "beyond": _beyond(minutes),
        "targets": _targets(),
    }


def _beyond(minutes: dict[str, float]) -> list[Row]:
    """Claims that are not the paper's, with numbers counted in the files that hold them."""
    results, store = DATA / "results", DATA / "scalesim"
    speedups = pd.read_csv(results / "speedups.csv").query("quantity != 'memory'")
    points = pd.read_csv(results / "accelerators.csv").dropna(subset="predicted")
    waits = pd.read_csv(results / "user-mode.csv").charged.isin(["agrees", "no wait"])
    runs, matmuls = (len(pd.read_csv(store / f"{name}.csv")) for name in ("runs", "matmuls"))
    sample, differ = pd.read_csv(SAMPLE / "matmuls.csv"), closed_form_against_store(SAMPLE).differ.sum()
    campaigns = pd.read_csv(results / "zoo-campaign.csv").query("how == 'extrapolated' and workers == 1")
    hours = campaigns.hours.iloc[-1]  # of all runs, also those that need most memory
    claims = [
        (
            f"{speedups.above_ceiling.sum()} of {len(speedups)} published speedups are above their ceiling",
            *("make reproduce", "10-law-versus-measurement", "data/results/speedups.csv"),
        ),
        (
            f"{points.above.sum()} of {len(points)} published decode speeds, of {points.system.nunique()} accelerators "
            "and boards, are above what memory and arithmetic allow",
            *("make reproduce", "14-accelerators", "data/results/accelerators.csv"),
        ),
        (
            "SCALE-Sim's own finite bandwidth is within 5% of max(cycles, words / bandwidth) on "
            f"{waits.sum()} of {len(waits)} random MatMuls",
            *("make bandwidth", "11-what-it-rests-on", "data/results/user-mode.csv"),
        ),
        (
            f"The {matmuls} distinct MatMuls of the models come from {runs} runs of SCALE-Sim",
            *("make simulate", "01-dataflow-comparison", "data/scalesim/matmuls.csv"),
        ),
        (
            f"{len(sample) - differ} of {len(sample)} MatMuls, drawn by size from the {len(zoo_matmuls(None))} of the "
            "current models, are equal in SCALE-Sim and the closed form; all of them would take SCALE-Sim "
            f"{hours:g} hours on one core",
            *("make simulate MODELS=zoo-sample", "06-modern-models", "data/scalesim-zoo/matmuls.csv"),
        ),
    ]
    rows: list[Row] = [dict(zip(("claim", "command", "notebook", "file"), claim, strict=True)) for claim in claims]
    others = {"make simulate": _minutes_of_the_store()}
    for row in rows:
        own = others.get(row["command"])
        row["minutes"] = minutes.get(row["notebook"]) if row["command"] == "make reproduce" else own
    return rows


def _targets() -> list[Row]:
    """The targets of the Makefile, with their help."""
    lines = re.findall(r"^([a-z]+):[^#\n]*## *(.*)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    return [{"name": name, "about": about} for name, about in lines]


if __name__ == "__main__":
    main()
