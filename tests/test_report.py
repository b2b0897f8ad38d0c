"""The report holds every notebook, item, figure and erratum, loads nothing from a network, and is valid HTML."""

import json
import re
from collections import Counter
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from compendium.report import main, page
from llmamdahl.paper.published import errata, paper_items
from llmamdahl.tables import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
VOID = {"meta", "link", "img", "br", "hr"}


class Page(HTMLParser):
    """Tags with their attributes, in order, and whether each is closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.crossed = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.crossed.append((tag, self.getpos()))


@pytest.fixture(scope="module")
def text():
    return page()


@pytest.fixture(scope="module")
def tags(text):
    parsed = Page(text)
    assert (parsed.open, parsed.crossed) == ([], [])
    return parsed.tags


def test_nothing_is_loaded_from_a_network(text, tags):
    assert not [tag for tag, _ in tags if tag in ("script", "iframe", "object", "embed")]
    assert [attributes["href"] for tag, attributes in tags if tag == "link"] == ["data:,"]
    assert all(attributes["src"].startswith("data:image/png;base64,") for _, attributes in tags if "src" in attributes)
    assert "url(" not in text and "@import" not in text
    assert len(text) < 15e6


def test_every_link_leads_somewhere(tags):
    ids = Counter(attributes["id"] for _, attributes in tags if "id" in attributes)
    assert max(ids.values()) == 1
    links = [attributes["href"] for tag, attributes in tags if tag == "a"]
    assert len(links) > 60
    assert {link for link in links if not link.startswith("#")} == set()
    assert {link[1:] for link in links} <= set(ids)
    assert {attributes["aria-labelledby"] for _, attributes in tags if "aria-labelledby" in attributes} <= set(ids)


def test_every_notebook_with_every_cell_and_output(text, tags):
    ids = {attributes.get("id") for _, attributes in tags}
    pictures = 0
    for path in NOTEBOOKS:
        assert path.stem in ids
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            assert f"cell-{cell['id']}" in ids
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                pictures += "image/png" in data
                if "image/png" in data:
                    assert "".join(data["image/png"]).strip() in text
                elif "text/html" in data:
                    rows = re.findall(r"<tr.*?</tr>", "".join(data["text/html"]), re.DOTALL)
                    assert rows and all(row in text for row in rows)
    described = [attributes["alt"] for tag, attributes in tags if tag == "img" and attributes["alt"]]
    assert len(described) == pictures > 20
    assert all(re.match(r"(Figure \d+|figure-[\w-]+): \w", words) for words in described)


def test_every_item_erratum_and_figure(text):
    first_page = unescape(re.sub(r"<[^>]+>", " ", text.split('id="00-start-here"')[0]))
    words = " ".join(first_page.split())
    for item in paper_items().itertuples():
        assert f"{item.item} {item.about} {item.notebook.removesuffix('.ipynb')}" in words
        for agreeing, checked in ((item.cells_agreeing, item.cells), (item.statements_agreeing, item.statements)):
            assert not checked or f"{agreeing} of {checked}" in words
    for row in errata().itertuples():
        assert f"{row.id} {row.item} {' '.join(row.printed.split())}" in words
    assert text.count('<li><a href="#') >= len(list((ROOT / "figures").glob("*.png"))) + len(NOTEBOOKS)


def test_headings_go_down_one_at_a_time(tags):
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(deeper <= level + 1 for level, deeper in pairwise(levels))


def test_formulas_are_mathml_and_code_keeps_its_dollars(text):
    assert text.count("<math") > 20
    assert not re.search(r"\$[SWd\\][^<]*\$", text)
    assert "<mtext>partial</mtext>" in text
    assert "$PWD/config.json" in text


def test_the_report_is_the_same_each_time_and_goes_to_the_named_file(text, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["report", str(tmp_path / "new" / "report.html")])
    main()
    assert (tmp_path / "new" / "report.html").read_text(encoding="utf-8") == text
    assert re.search(r"report\.html: \d+\.\d MB", capsys.readouterr().out)
