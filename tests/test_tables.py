"""The reader of every CSV file: what is damaged, or written in a way that could be misread, is named by its line."""

import os
import re

import pytest

from llmamdahl.device.recorded import read_rows_of
from llmamdahl.errors import CutOffError, InputError, TableError
from llmamdahl.paper.accelerators import read_facts, read_points
from llmamdahl.paper.breakdowns import read_breakdowns
from llmamdahl.paper.energies import published_energy
from llmamdahl.paper.speedups import read_speedups
from llmamdahl.scalesim.campaign import fill_store
from llmamdahl.scalesim.store import STORE, read_runs
from llmamdahl.tables import boolean, optional_int, positive_float, read_rows

COLUMNS = {"name": str, "size": int, "rate": float, "batch": optional_int, "tied": boolean, "power": positive_float}
HEADER = "name,size,rate,batch,tied,power"
GOOD = "a,1,0.5,,true,1e-07"


def read(tmp_path, content, **options):
    path = tmp_path / "table.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_rows(path, COLUMNS, **options)


def test_a_table_is_read(tmp_path):
    row = {"name": "a", "size": 1, "rate": 0.5, "batch": None, "tied": True, "power": 1e-07}
    assert read(tmp_path, f"{HEADER}\n{GOOD}\n") == [row]
    assert read(tmp_path, f"{HEADER}\r\n{GOOD}\r\n") == [row]
    assert read(tmp_path, f"{HEADER},more\n{GOOD},\n") == [row]
    assert read(tmp_path, f"{HEADER}\n") == []
    for text in ("a\u2028b", "a\x0bb", "a\x85b", "a\nb", 'a"b', "a, b", "١"):
        quoted = text.replace('"', '""')
        assert read(tmp_path, f'{HEADER}\n"{quoted}",-1,nan,2,false,10\n')[0]["name"] == text


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        ("", 1, "column name, size, rate, batch, tied, power is missing; found nothing"),
        (HEADER, 1, "the header is cut off (no newline at its end)"),
        (HEADER[:-3], 1, "the header is cut off (no newline at its end)"),
        (f"{HEADER},size\n{GOOD},2\n", 1, "column size occurs twice; name each column once"),
        (f"\ufeff{HEADER}\n{GOOD}\n", 1, "a byte order mark before the header; save the file as UTF-8 without it"),
        (f"{HEADER}\n{GOOD}\na,1,0.5,,true,1\0\n", 3, "a NUL character; a CSV file has none"),
        (f"{HEADER}\n{GOOD}\n\n", 3, "0 cells where the header has 6"),
        (f"{HEADER}\n{GOOD}\n{GOOD}\r{GOOD}\n", 3, "not a line of CSV: new-line character seen in unquoted field"),
        (f'{HEADER}\n{GOOD}\n"a"b,1,0.5,,true,1\n', 3, "not a line of CSV: ',' expected after '\"'"),
        (f"{HEADER}\n{GOOD}\n{'a' * 131_073},1,0.5,,true,1\n", 3, "not a line of CSV: field larger than field limit"),
        (f"{HEADER}\n{GOOD}\n".encode() + b"\xff\n", 3, "a byte that is not UTF-8"),
    ],
)
def test_damage_is_named(tmp_path, content, line, problem):
    with pytest.raises(TableError, match=rf"table\.csv, line {line}: {re.escape(problem)}") as caught:
        read(tmp_path, content)
    assert caught.value.line == line and not isinstance(caught.value, CutOffError)


@pytest.mark.parametrize("last", [GOOD, GOOD[:3], '"a', '"a,1,0.5'])
def test_a_last_line_that_was_cut_off_is_told_from_other_damage(tmp_path, last):
    with pytest.raises(CutOffError, match=r"table\.csv, line 3: the last line is cut off") as caught:
        read(tmp_path, f"{HEADER}\n{GOOD}\n{last}")
    assert len(caught.value.rows) == 1


@pytest.mark.parametrize(
    ("column", "cell", "right"),
    [
        ("size", "1_000", "; write 1000"),
        ("size", " 7", "; write 7"),
        ("size", "7 ", "; write 7"),
        ("size", "007", "; write 7"),
        ("size", "+7", "; write 7"),
        ("size", "٣٢", "; write 32"),
        ("size", "9" * 5000, ""),
        ("size", "7.0", ""),
        ("rate", "1_0.5", "; write 10.5"),
        ("rate", "\u00a00.5", "; write 0.5"),
        ("rate", "Infinity", "; write inf"),
        ("rate", ".5", "; write 0.5"),
        ("batch", "1_6", "; write 16"),
        ("power", "１", "; write 1.0"),
        ("tied", "True", ""),
    ],
)
def test_a_number_in_another_form_is_rejected(tmp_path, column, cell, right):
    cells = dict(zip(COLUMNS, GOOD.split(","), strict=True)) | {column: cell}
    with pytest.raises(TableError) as caught:
        read(tmp_path, f"{HEADER}\n{','.join(cells.values())}\n")
    shown = repr(cell) if len(cell) < 300 else f"{repr(cell)[:300]}..."
    kind = COLUMNS[column].__name__
    assert str(caught.value).endswith(f"table.csv, line 2: {column}: {shown} is not a valid {kind}{right}")


def test_a_row_that_its_check_rejects_is_named_with_the_rows_before_it(tmp_path):
    def check(row):
        if row["size"] > 2:
            raise InputError(f"size: {row['size']} is above 2")
        row["twice"] = 2 * row["size"]

    lines = [GOOD.replace("a,1", f"{name},{size}") for name, size in (('"a\nb"', 1), ("c", 2), ("d", 3), ("e", 1))]
    with pytest.raises(TableError, match=r"table\.csv, line 5: size: 3 is above 2$") as caught:
        read(tmp_path, "\n".join([HEADER, *lines, ""]), check=check)
    assert [(row["name"], row["twice"]) for row in caught.value.rows] == [("a\nb", 2), ("c", 4)]


def test_a_path_that_is_no_file_is_named(tmp_path):
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    with pytest.raises(TableError, match=r"loop\.csv, line 1: cannot be read \(Too many levels of symbolic links\)"):
        read_rows(tmp_path / "loop.csv", COLUMNS)
    with pytest.raises(
        TableError, match=rf"{tmp_path}, line 1: cannot be read \(Is a directory\); a CSV file is needed"
    ):
        read_rows(tmp_path, COLUMNS)
    with pytest.raises(TableError, match=r"none\.csv, line 1: no such file"):
        read_rows(tmp_path / "none.csv", COLUMNS)


@pytest.mark.parametrize("target", ["runs.csv", "lost.csv"])
def test_a_link_that_leads_nowhere_is_not_an_empty_store(tmp_path, target):
    (tmp_path / "runs.csv").symlink_to(target)
    problem = "cannot be read" if target == "runs.csv" else "no such file"
    for use in (read_runs, fill_store):
        with pytest.raises(TableError, match=rf"runs\.csv, line 1: {problem}"):
            use(tmp_path)
    assert os.readlink(tmp_path / "runs.csv") == target


@pytest.mark.parametrize("reader", [read_speedups, read_facts, read_points, published_energy, read_breakdowns])
def test_a_table_without_rows_is_named(tmp_path, reader):
    source = reader.__defaults__[0]
    header = source.read_text(encoding="utf-8").split("\n")[0]
    (tmp_path / "table.csv").write_text(f"{header}\n", encoding="utf-8")
    with pytest.raises(TableError, match=r"table\.csv, line 2: no row below the header"):
        reader(tmp_path / "table.csv")


def test_a_campaign_does_not_take_a_header_that_was_cut_off_for_an_empty_store(tmp_path):
    (tmp_path / "runs.csv").write_bytes((STORE / "runs.csv").read_bytes()[:40])
    with pytest.raises(TableError, match=r"runs\.csv, line 1: the header is cut off"):
        fill_store(tmp_path)
    with pytest.raises(TableError, match=r"runs\.csv, line 1: the header is cut off"):
        read_rows_of(tmp_path / "runs.csv")
