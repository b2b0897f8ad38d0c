"""The site: what its sources say is what `data/` holds, its pages are whole, and two builds are the same bytes."""

import base64
import csv
import filecmp
import inspect
import json
import os
import pkgutil
import re
import sys
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest
from bs4 import BeautifulSoup

import llmamdahl
from compendium import docs
from llmamdahl import cli
from llmamdahl.paper.published import errata, paper_items, recorded
from llmamdahl.tables import DATA, ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs") / "sources"
    docs.stage(folder)
    return folder


def lines(path):
    return path.read_text(encoding="utf-8").splitlines()


def cells(line):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def table(path, heading):
    """The rows of the table below a heading."""
    text = path.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [cells(line) for line in text.splitlines() if line.startswith("|")][2:]


def test_every_item_of_the_paper_has_claim_command_time_and_file(sources):
    with (DATA / "results" / "bench.csv").open(encoding="utf-8", newline="") as handle:
        timed = {
            row["what"].split(": ")[1]: row["value"] for row in csv.DictReader(handle) if "make rep" in row["what"]
        }
    rows = table(sources / "artifact.md", "The paper's tables and figures")
    for item, row in zip(paper_items().itertuples(), rows, strict=True):
        name, claim, command, took, where, known = row
        assert name == item.item and claim.startswith(item.about)
        for word, agreeing, checked in (
            ("printed numbers", item.cells_agreeing, item.cells),
            ("sentences", item.statements_agreeing, item.statements),
        ):
            assert (f"{agreeing} of {checked} {word}" in claim) == (checked > 0)
        assert command.startswith("`make reproduce`") and f"(notebooks/{item.notebook})" in command
        assert took == timed[item.notebook.removesuffix(".ipynb")]
        for path in filter(None, (item.agreement, item.csv)):
            assert f"({path})" in where and (sources / path).read_bytes() == (ROOT / path).read_bytes()
        assert re.findall(r"\(#erratum-([^)]*)\)", known) == [one for one in item.known_differences.split(", ") if one]


def test_every_sentence_and_every_number_that_differs_is_there(sources):
    checked = recorded()
    sentences = table(sources / "artifact.md", "The paper's sentences")
    differing = table(sources / "artifact.md", "Printed numbers that do not come out")
    found = [row[-1].split(": ")[-1] for row in sentences]
    assert found == checked.cell[checked.kind == "statement"].tolist()
    assert {row[4] for row in sentences} == {"yes"} == {*checked.agrees[checked.kind == "statement"].map({True: "yes"})}
    assert len(differing) == ((checked.kind == "cell") & ~checked.agrees).sum() > 0


def test_claims_past_the_paper_are_counted_in_their_files(sources):
    rows = table(sources / "artifact.md", "Past the paper")
    with (DATA / "results" / "speedups.csv").open(encoding="utf-8", newline="") as handle:
        above = [row["above_ceiling"] for row in csv.DictReader(handle) if row["quantity"] != "memory"]
    assert rows[0][0] == f"{above.count('True')} of {len(above)} published speedups are above their ceiling"
    targets = {row["name"] for row in docs._targets()}
    (simulated,) = [took for _, command, took, _ in rows if command.startswith("`make simulate`")]
    with (DATA / "results" / "bench.csv").open(encoding="utf-8", newline="") as handle:
        value = {row["what"].split(" ")[1]: row["value"] for row in csv.DictReader(handle) if row["what"][0] == "…"}
    whole, saved = float(value["hours"].removesuffix(" h")), float(value["all"].removesuffix("x"))
    assert simulated == f"{60 * whole / saved:.1f} min"
    for claim, command, _, where in rows:
        assert re.search(r"\d+", claim) and re.match(r"`make (\w+)( \w+=\S+)?`", command).group(1) in targets
        assert (sources / re.search(r"\((.*?)\)", where).group(1)).is_file()


def test_every_erratum_figure_and_notebook_has_its_place(sources):
    text = (sources / "errata.md").read_text(encoding="utf-8")
    assert re.findall(r"^\(erratum-(.*)\)=$", text, re.MULTILINE) == errata().id.tolist()
    gallery = (sources / "figures.md").read_text(encoding="utf-8")
    shown = set(re.findall(r":img-top: figures/(.*)\.png", gallery))
    assert shown == {path.stem for path in (ROOT / "figures").glob("*.png")}
    cards = re.findall(r":img-alt: (.*)\n(.*)\n```\{card-footer\}\nnotebook (.*)\n```", gallery)
    assert len(cards) == len(shown) and len({words for _, words, _ in cards}) == len(cards)
    assert {notebook for _, _, notebook in cards} <= {path.stem for path in NOTEBOOKS}
    listed = re.findall(r"^\| \[.*?\]\(notebooks/(.*?)\)", (sources / "notebooks.md").read_text(), re.MULTILINE)
    assert listed == [path.name for path in NOTEBOOKS]


def test_the_words_of_a_figure_are_its_title():
    figures = sorted((ROOT / "figures").glob("figure-*.svg"))
    titles = {path.stem: docs._title(path) for path in figures}
    for number in range(4, 13):
        assert titles[f"figure-{number:02}"].startswith(f"Figure {number}: ")
    for path in figures:
        title = titles[path.stem]
        assert len(title) > 15 and title[:25] in unescape(path.read_text(encoding="utf-8"))  # it may have several lines


def test_notebooks_are_as_committed_but_for_captions_and_classes(sources):
    for path in NOTEBOOKS:
        staged = json.loads((sources / "notebooks" / path.name).read_text(encoding="utf-8"))
        committed = json.loads(path.read_text(encoding="utf-8"))
        for cell, before in zip(staged["cells"], committed["cells"], strict=True):
            options = cell["metadata"].pop("mystnb", {})
            assert bool(options) == any("image/png" in output.get("data", {}) for output in before.get("outputs", []))
            assert not options or len(options["image"]["alt"]) > 3
            if name := options.get("figure", {}).get("name"):
                (shown,) = (output["data"] for output in cell["outputs"] if "image/png" in output.get("data", {}))
                assert f'"{name}"' in "".join(before["source"])
                assert base64.b64decode(shown["image/png"]) == (ROOT / "figures" / f"{name}.png").read_bytes()
            for output, old in zip(cell.get("outputs", []), before.get("outputs", []), strict=True):
                if html := output.get("data", {}).pop("text/html", ""):
                    written = "".join(old["data"].pop("text/html"))
                    assert BeautifulSoup(html, "html.parser").text == BeautifulSoup(written, "html.parser").text
        assert staged == committed


def test_text_of_the_data_is_shown_literally():
    assert docs._literally("a | b *c* $d$ [e](f) \n <g>") == r"a \| b \*c\* \$d\$ \[e\](f) \<g\>"


class Page(HTMLParser):
    """Ids, links, what is loaded, headings, pictures and text of a page."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loads, self.levels, self.pictures = set(), [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag in ("script", "img", "iframe", "object", "embed", "source") and (
            found.get("src") or found.get("data")
        ):
            self.loads.append(found.get("src") or found["data"])
            self.loads += [part.split()[0] for part in found.get("srcset", "").split(", ") if part]
        elif tag == "link" and found.get("rel") not in ("index", "search", "next", "prev", "author"):
            self.loads.append(found["href"])
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if tag == "img":
            self.pictures.append(found)


@pytest.fixture(scope="session")
def pages(site):
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts}


def test_pages_load_only_files_of_the_site(site, pages):
    loaded = set()
    for path, page in pages.items():
        for address in page.loads:
            parts = urlsplit(address)
            assert not parts.scheme and not parts.netloc, (path, address)
            loaded.add(target := (path.parent / unquote(parts.path)).resolve())
            assert target.is_file(), (path, address)
    assert sum("_images/small" in str(path) for path in loaded) > 30
    assert site / "_static" / "mathjax" / "tex-chtml.js" in loaded
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_every_link_inside_the_site_leads_somewhere(pages):
    count = 0
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), (path, link)
            if parts.fragment and target.suffix == ".html":
                assert unquote(parts.fragment) in pages[target].ids, (path, link)
            count += 1
    assert count > 5000


def test_every_public_name_module_and_command_is_described(site, pages):
    for name in llmamdahl.__all__:
        if inspect.isroutine(it := getattr(llmamdahl, name)) or inspect.isclass(it):
            assert f"llmamdahl.{name}" in pages[site / "api" / f"llmamdahl.{name}.html"].ids
    modules = [info.name for info in pkgutil.walk_packages(llmamdahl.__path__, "llmamdahl.")]
    for name in modules:
        if not name.endswith("__main__") and not name.startswith("llmamdahl.cli"):  # its page is the help of click
            assert f"module-{name}" in pages[site / "api" / f"{name}.html"].ids
    assert {f"llmamdahl-{name}" for name in cli.main.commands} <= pages[site / "cli.html"].ids


def test_pictures_have_words_and_sizes_and_headings_go_down_one_at_a_time(site, pages):
    for path, page in pages.items():
        assert all(picture.get("alt") and picture.get("width") for picture in page.pictures), path
        if "_modules" not in path.parts and path.name not in ("search.html", "genindex.html"):
            assert page.levels[0] == 1 and page.levels.count(1) == 1, path
            assert all(deeper <= level + 1 for level, deeper in pairwise(page.levels)), path
    cells = [cell for path in NOTEBOOKS for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    drawn = sum("image/png" in output.get("data", {}) for cell in cells for output in cell.get("outputs", []))
    assert sum(len(page.pictures) for path, page in pages.items() if path.parent.name == "notebooks") == drawn


def test_two_builds_are_the_same_bytes_and_name_no_folder_of_this_machine(sites):
    one, another = ({path.relative_to(site) for path in site.rglob("*") if path.is_file()} for site in sites)
    assert one == another and len(one) > 300
    assert filecmp.cmpfiles(*sites, map(str, one), shallow=False)[1:] == ([], [])
    for path in one:
        if path.suffix in (".html", ".js", ".json", ".txt", ".md", ".rst", ".css"):
            text = (sites[0] / path).read_text(encoding="utf-8")
            assert str(ROOT) not in text and str(sites[0].parent.parent) not in text, path


@pytest.mark.parametrize(
    ("page", "message"),
    [("# A page\n\n[lost](nowhere.md)\n", r"Sphinx warned; 1 lines above"), (None, r"\w+Error: .*")],
)
def test_a_build_that_fails_says_so_in_one_line(tmp_path, capsys, page, message):
    if not os.environ.get("REQUIRE_EXTRAS"):
        pytest.importorskip("myst_nb", reason="the extra `docs` is not installed: make docs")
    (tmp_path / "sources").mkdir()
    if page:
        (tmp_path / "sources" / "index.md").write_text(page, encoding="utf-8")
    assert re.fullmatch(message, docs.build(tmp_path))
    assert ("nowhere.md" in capsys.readouterr().err) == bool(page)


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sphinx.application", None)
    assert docs.build(tmp_path).endswith("pip install -r requirements-docs.lock")


def test_a_column_of_text_is_told_from_one_of_numbers(sources):
    frame = pd.DataFrame(
        {
            "of": ["17 of 17", "-"], "seconds": [1.5, pd.NA], "large": ["1,600,000", "-2.5e-05"],
            "context_length": ["opt-6.7b", "8"], "how": ["words that may take two lines", "words " * 20],
        },
        index=["a", "b"],
    )  # fmt: skip
    with pd.option_context("display.max_colwidth", None):
        marked = docs._marked(frame.to_html(notebook=True))
    assert re.findall(r'<td class="([^"]*)">', marked) == ["text", "text phrase", "text", "text long"]
    assert marked.count('<th class="text">') == 5  # the labels, what is above them, and two headers
    assert "context_<wbr/>length" in marked and "<td>-</td>" in marked
    staged = json.loads((sources / "notebooks" / "14-accelerators.ipynb").read_text(encoding="utf-8"))
    tables = [output["data"] for cell in staged["cells"] for output in cell.get("outputs", [])]
    assert sum('class="text' in data.get("text/html", "") for data in tables) > 5
