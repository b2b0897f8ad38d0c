"""The replication report: its tables are those of the recorded results, its numbers those of notebooks 00-05."""

import json
import re
import runpy
from decimal import Decimal

import pytest

from llmamdahl.tables import ROOT

REPORT = (ROOT / "docs" / "replication.md").read_text(encoding="utf-8")
COMMAND = runpy.run_path(str(ROOT / "docs" / "replication.py"))
PROSE = [line for line in REPORT.splitlines() if not line.startswith(("|", "#", "<!--"))]
NUMBER = r"(?<![\w.,-])\d[\d,]*(?:\.\d+)?(?![\w,]*\d)"


def stated() -> str:
    """What README and notebooks 00-05 and 11 say: their text and the text of their outputs."""
    found = [(ROOT / "README.md").read_text(encoding="utf-8")]
    for path in [each for names in ("0[0-5]", "11") for each in sorted((ROOT / "notebooks").glob(f"{names}-*.ipynb"))]:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            found += cell["source"] if cell["cell_type"] == "markdown" else []
            for output in cell.get("outputs", ()):
                found += output.get("text") or output.get("data", {}).get("text/plain", [])
                found.append("\n")
    return "".join(found)


def test_its_tables_are_the_recorded_results():
    assert COMMAND["filled"](REPORT) == REPORT, "python docs/replication.py writes the tables again"


def test_it_has_every_table_once():
    assert sorted(re.findall(r"<!-- table: (.+) -->", REPORT)) == sorted(COMMAND["TABLES"])
    assert REPORT.count("<!-- end -->") == len(COMMAND["TABLES"])


@pytest.mark.parametrize("name", COMMAND["TABLES"])
def test_a_changed_table_is_written_again(name):
    wrong = re.sub(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", r"\1| a | b |\n\2", REPORT, flags=re.DOTALL)
    assert wrong != REPORT
    assert COMMAND["filled"](wrong) == REPORT


def test_it_shows_a_value_that_is_not_as_printed():
    row = {"printed": "0.805", "ours": "0.806", "agrees": "False"}
    assert COMMAND["printed_and_ours"](row) == "0.805 (ours 0.806)"


def test_its_tables_have_every_item_cell_and_disagreement():
    rows = {name: make().splitlines()[2:] for name, make in COMMAND["TABLES"].items()}
    assert {name: len(found) for name, found in rows.items()} == {
        "items": 17,  # 3 tables, 12 figures, Section 5, the sum
        "figure-6": 12,
        "sentences": 9,
        "disagreeing": 6,
    }
    assert len(re.findall(r"0\.\d{3} ", " ".join(rows["figure-6"]))) == 84


def test_its_sum_is_what_it_says():
    *_, total = COMMAND["items"]().splitlines()
    cells, sentences = re.findall(r"\d+ of \d+", total)
    assert f"{cells} printed cells agree, and {sentences} checks of sentences hold" in REPORT


def test_it_states_only_numbers_that_readme_and_notebooks_state():
    known = {Decimal(number.replace(",", "")) for number in re.findall(NUMBER, stated())}
    found = {Decimal(number.replace(",", "")) for number in re.findall(NUMBER, "\n".join(PROSE))}
    assert len(found) > 50
    assert not {number for number in found - known if number % 1 or number > 6}  # up to six, things are counted


def test_it_has_the_parts_of_a_replication_report():
    parts = re.findall(r"^## (?:\d\. )?(.+)$", REPORT, re.MULTILINE)
    assert REPORT.startswith("# [Re] Amdahl's Law for LLMs: A Throughput-Centric Analysis")
    assert parts == [
        "Abstract",
        "Introduction",
        "Methods",
        "Results",
        "What could not be reproduced",
        "Discussion: what the agreement rests on",
        "Conclusion",
        "References",
    ]


def test_it_fits_on_four_pages():
    assert len(re.findall(r"\S*\w\S*", "\n".join(PROSE))) <= 1_600  # with the tables, four A4 pages of 10 pt
    assert max(map(len, PROSE)) <= 120


def test_the_files_that_it_names_exist():
    assert all((ROOT / path).exists() for path in re.findall(r"`(?:python )?((?:data|docs)/[\w./-]+)`", REPORT))
