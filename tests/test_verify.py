"""`make verify` finds every change and names it: numbers of the store and of results, outputs of notebooks."""

import copy
import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from compendium import verify
from llmamdahl.errors import InputError
from llmamdahl.paper import published
from llmamdahl.paper.checks import agreement
from llmamdahl.scalesim import store
from llmamdahl.scalesim.store import KEY, STORE, rebuild_store
from llmamdahl.systolic import gemm_cost
from llmamdahl.tables import ROOT

FIGURE_6 = Path("data/results/agreement/figure-06.csv")
NOTEBOOK = Path("notebooks/02-cloud-sweep.ipynb")


def stored(folder=STORE):
    return {Path(name): (folder / name).read_bytes() for name in ("runs.csv", "matmuls.csv")}


def table(content):
    return list(csv.reader(content.decode().splitlines()))


def text(rows):
    handle = io.StringIO()
    csv.writer(handle, lineterminator="\n").writerows(rows)
    return handle.getvalue().encode()


@pytest.fixture
def damaged(tmp_path, monkeypatch):
    """A function that edits a copy of the store and returns the differences that `verify` finds in it."""
    monkeypatch.setattr(verify, "SHOWN", 10_000)

    def edit(name, change):
        shutil.copytree(STORE, tmp_path / "store", dirs_exist_ok=True)
        rows = table((STORE / name).read_bytes())
        change(rows)
        (tmp_path / "store" / name).write_bytes(text(rows))
        rebuild_store(tmp_path / "made", tmp_path / "store")
        return verify.moved(stored(tmp_path / "store"), stored(tmp_path / "made"))

    return edit


def test_the_store_follows_from_its_runs(damaged):
    assert damaged("runs.csv", lambda rows: None) == []


def changed(cell):
    """Another number: a whole one plus 1, a float in its tenth digit."""
    return str(int(cell) + 1) if cell.isdecimal() else f"{float(cell) * (1 + 1e-9):.10g}" if cell else "1"


NUMBERS = [name for name in table((STORE / "runs.csv").read_bytes())[0] if name not in (*KEY, "simulator_version")]


@pytest.mark.parametrize("column", NUMBERS)
def test_no_number_of_a_run_can_change_unnoticed(damaged, column):
    """The numbers of all runs change at once. `verify` names the run, or the line of `matmuls.csv` that is one run."""

    def change(rows):
        at = rows[0].index(column)
        for row in rows[1:]:
            row[at] = changed(row[at])

    found = damaged("runs.csv", change)
    assert len(found) == 678 and all(line.startswith("runs.csv") for line in found)
    places = [dict(zip(KEY, row, strict=False)) for row in table((STORE / "runs.csv").read_bytes())[1:]]
    for place in places:
        row = ", ".join(f"{name}={place[name]}" for name in KEY[:6])
        assert [line for line in found if f"{row})" in line and f", {column}: " in line], row


@pytest.mark.parametrize("column", [*NUMBERS, "runs", "obtained", "array"])
def test_no_cell_of_a_matmul_can_change_unnoticed(damaged, column):
    def change(rows):
        at = rows[0].index(column)
        for row in rows[1:]:
            row[at] = changed(row[at]) if column in NUMBERS else f"{row[at]} x"

    found = damaged("matmuls.csv", change)
    assert len(found) == 828
    assert all(line.startswith("matmuls.csv, line ") and f"), {column}: " in line for line in found)


def test_one_number_of_the_store_is_named(damaged):
    def change(rows):
        rows[41][9] = "1" + rows[41][9]

    (line, *others) = damaged("runs.csv", change)[::-1]
    rows = table((STORE / "runs.csv").read_bytes())
    where = ", ".join(f"{name}={cell}" for name, cell in zip(KEY[:6], rows[41], strict=False))
    assert line == f"runs.csv, line 42 ({where}), cycles: '1{rows[41][9]}' -> '{rows[41][9]}'"
    assert all("matmuls.csv" in other for other in others)


@pytest.mark.parametrize("line", [2, 8, 300, 679])
@pytest.mark.parametrize("key", KEY)
def test_a_key_that_changed_is_named(damaged, key, line):
    def change(rows):
        cell = rows[line - 1][KEY.index(key)]
        rows[line - 1][KEY.index(key)] = {"os": "ws", "ws": "is", "is": "os"}.get(cell, "77")

    try:
        found = damaged("runs.csv", change)
    except InputError as error:  # it was a fold that other MatMuls need
        assert re.search(r"the store has no run of Run\(m=|runs\.csv, line \d+: duplicate of line", str(error))
    else:
        assert [
            message for message in found if message.startswith(f"runs.csv, line {line} (") and f", {key}: " in message
        ]


def test_a_run_that_is_not_needed_is_named(damaged):
    found = damaged("runs.csv", lambda rows: rows.append(["7", *rows[-1][1:]]))
    assert [line for line in found if line.startswith("runs.csv, line 680: '7,")]


def test_a_changed_closed_form_is_named(damaged, monkeypatch):
    def one_more(*given):
        cost = gemm_cost(*given)
        object.__setattr__(cost, "filter_sram_reads", cost.filter_sram_reads + 1)
        return cost

    monkeypatch.setattr(store, "gemm_cost", one_more)
    found = damaged("runs.csv", lambda rows: None)
    assert len([line for line in found if "runs.csv" in line]) == 678
    assert len([line for line in found if "matmuls.csv" in line]) == 828
    assert all(", filter_sram_reads: " in line for line in found)


def test_a_changed_printed_value_is_named(tmp_path, monkeypatch):
    shutil.copytree(published.PUBLISHED, tmp_path / "published")
    path = tmp_path / "published" / "figure6.csv"
    rows = table(path.read_bytes())
    rows[10][3], printed = "0.123", rows[10][3]
    path.write_bytes(text(rows))
    monkeypatch.setattr(published, "PUBLISHED", tmp_path / "published")
    now = agreement("Figure 6").to_csv(index=False, lineterminator="\n").encode()
    found = verify.moved({FIGURE_6: (ROOT / FIGURE_6).read_bytes()}, {FIGURE_6: now})
    assert [line for line in found if f", printed: '{printed}' -> '0.123'" in line]
    assert [line for line in found if ", agrees: 'True' -> 'False'" in line]


def test_the_first_differences_of_a_file_and_the_number_of_the_rest():
    before = {Path("a.csv"): text([["name", "kind", "value"], *[[f"n{i % 2}", f"k{i}", f"{i}"] for i in range(20)]])}
    after = {Path("a.csv"): before[Path("a.csv")].replace(b",1", b",2")}
    found = verify.moved(before, after)
    assert found[0] == "a.csv, line 3 (name=n1, kind=k1), value: '1' -> '2'"
    assert len(found) == verify.SHOWN + 1
    assert found[-1] == "a.csv: and 6 more"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("a,b\n1,2\n", "a,c\n1,2\n", "x.csv, line 1: 'a,b' -> 'a,c'"),
        ("a,b\n1,2\n", "a,b\n1,2\n3,4\n", "x.csv, line 3: nothing -> '3,4'"),
        ("a,b\n1,2\n3,4\n", "a,b\n3,4\n", "x.csv, line 2: '1,2' -> nothing"),
        ("a,b\n1,2\n", "", "x.csv, line 1: 'a,b' -> nothing"),
        ("a,b\n1,2\n", "a,b\n1,2", "x.csv, differs in bytes that are in no cell and no line"),
        ("a,b\n1,2\n", "a,b\r\n1,2\r\n", "x.csv, differs in bytes that are in no cell and no line"),
        ("a,b\n1,2\n", 'a,b\n1,"2"\n', "x.csv, line 2: '1,2' -> '1,\"2\"'"),
        ("a\n1 2\n", "a\n1  2\n", "x.csv, line 2 (a=1 2), a: '1 2' -> '1  2'"),
        ("a,b\n" + "1" * 99 + ",2\n", "a,b\n" + "1" * 99 + ",3\n", ", b: '2' -> '3'"),
        ("a\n" + "1" * 99 + "2\n", "a\n" + "1" * 99 + "3\n", ": '111111111111111111112' -> '111111111111111111113'"),
    ],
)
def test_differences_of_a_table(old, new, line):
    assert verify.moved({Path("x.csv"): old.encode()}, {Path("x.csv"): new.encode()})[0].endswith(line)


def test_missing_and_new_files_are_named():
    old, new = {Path("a"): b"", Path("b"): b"1"}, {Path("b"): b"1", Path("c"): b""}
    assert verify.moved(old, new) == ["a: is missing", "c: is new"]
    assert verify.moved({Path("x"): b"\xff"}, {Path("x"): b"\xfe"}) != []


def edited(change):
    notebook = json.loads((ROOT / NOTEBOOK).read_text(encoding="utf-8"))
    change(notebook["cells"])
    after = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    return verify.moved({NOTEBOOK: (ROOT / NOTEBOOK).read_bytes()}, {NOTEBOOK: after.encode()})


def code(cells, kind):
    """Place (from 1), and output, of the first cell that shows something of this kind."""
    return next(
        (number, cell, output["data"])
        for number, cell in enumerate(cells, start=1)
        for output in cell.get("outputs", [])
        if kind in output.get("data", {})
    )


def test_a_changed_output_is_named():
    def change(cells):
        seen["number"], cell, data = code(cells, "text/html")
        seen["count"] = cell["execution_count"]
        at = next(at for at, line in enumerate(data["text/plain"]) if "0." in line)
        data["text/plain"][at] = data["text/plain"][at].replace("0.", "0.9", 1)
        data["text/html"] = [line.replace("0.", "0.9", 1) for line in data["text/html"]]
        seen["line"] = at + 1

    seen = {}
    found = edited(change)
    assert len(found) == 1
    assert found[0].startswith(
        f"{NOTEBOOK}, cell {seen['number']} [{seen['count']}], text/plain, line {seen['line']}: "
    )


def test_a_changed_picture_source_or_tag_is_named():
    def picture(cells):
        data = code(cells, "image/png")[2]
        data["image/png"] = data["image/png"].replace("A", "B", 1)

    def source(cells):
        cells[0]["source"][0] = "# Another title"

    def tag(cells):
        cells[2]["metadata"]["tags"] = []

    assert edited(picture)[0].endswith("output: another picture")
    assert edited(source)[0].startswith(f"{NOTEBOOK}, cell 1, source, line 1: '# How much")
    assert edited(source)[0].endswith("-> '# Another title'")
    assert edited(tag)[0].startswith(f"{NOTEBOOK}, cell 3 [2], the rest of the cell, line ")


def test_a_removed_new_or_moved_cell_is_named():
    assert edited(lambda cells: cells.pop(3)) == [f"{NOTEBOOK}, cell 4: is missing"]
    new = {"cell_type": "markdown", "id": "new", "metadata": {}, "source": []}
    assert edited(lambda cells: cells.insert(3, new)) == [f"{NOTEBOOK}, cell 4: is new"]
    assert edited(lambda cells: cells.reverse()) != []
    assert edited(lambda cells: cells.append(copy.deepcopy(cells[0]))) != []


def test_a_change_outside_the_cells_of_a_notebook_is_found():
    content = (ROOT / NOTEBOOK).read_bytes()
    for other in (content + b" ", content.replace(b'"nbformat_minor": 5', b'"nbformat_minor": 4'), b"", b"[]", b"{}"):
        assert verify.moved({NOTEBOOK: content}, {NOTEBOOK: other}) != []


def git(folder, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", folder, *who, *arguments], check=True, capture_output=True)


def test_committed_is_the_last_commit_or_without_one_the_files_on_disk(tmp_path):
    for name in verify.FOLDERS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.csv").write_text("a\n1\n")
    (tmp_path / "figures" / "a.png").write_bytes(b"no data")
    at_first = verify.on_disk(tmp_path)
    assert {str(path) for path in at_first} == {f"{name}/a.csv" for name in verify.FOLDERS}
    assert verify.committed(tmp_path) == ("the files before this run (git has no commit here)", at_first)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "a")
    (tmp_path / "data" / "a.csv").write_text("a\n2\n")
    assert verify.committed(tmp_path) == ("the last commit", at_first)
    found = verify.moved(at_first, verify.on_disk(tmp_path))
    assert found == ["data/a.csv, line 2 (a=1), a: '1' -> '2'"]


def test_files_that_a_run_did_not_write_are_reported_missing(tmp_path, monkeypatch):
    files = verify.on_disk(ROOT)
    copies = [ROOT / path for path in files if path.suffix == ".ipynb"]
    found = verify.faults(files, copies, [], tmp_path)
    due = [path for path in files if path.parts[0] == "figures" or path.parts[:3] == ("data", "results", "agreement")]
    assert found == [f"reproduced: {path}: is missing" for path in sorted(due)]
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "stray.csv").write_text("a\n")
    assert "reproduced: figures/stray.csv: is new" in verify.faults(files, copies, [], tmp_path)
    monkeypatch.setattr(store, "read_runs", lambda store: {})
    assert any(line.startswith("reproduced: the store: ") for line in verify.faults(files, copies, [], tmp_path))
    why = "notebooks/02-cloud-sweep.ipynb, cell [1]: KeyError: 'a'"
    found = verify.faults(files, copies[1:], [why], tmp_path)
    assert f"reproduced: {why}" in found
    assert not [line for line in found if line.endswith(": is missing")]  # the notebook is named instead
