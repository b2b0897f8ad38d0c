"""The store: its rows follow from its runs, and damaged files are rejected."""

import csv
import os
import random
import shutil
from dataclasses import replace
from importlib.metadata import PackageNotFoundError

import pytest

from llmamdahl.errors import CutOffError, InputError, TableError
from llmamdahl.hardware import CLOUD_TPU, EDGE_TPU, SystolicArray
from llmamdahl.models import CONTEXT_LENGTHS, get_model, model_names
from llmamdahl.scalesim import against_store
from llmamdahl.scalesim import store as store_module
from llmamdahl.scalesim.campaign import fill_store
from llmamdahl.scalesim.simulator import DRAM_COUNTS, UTILISATIONS, Run, folds, simulate, utilisations
from llmamdahl.scalesim.store import (
    KEY,
    MATMUL_COLUMNS,
    RUN_COLUMNS,
    STORE,
    matmul_row,
    needed_runs,
    paper_matmuls,
    read_matmuls,
    read_runs,
    rebuild_store,
    recheck,
    whole_and_by_folds,
)
from llmamdahl.tables import format_row, write_rows
from tests.drawn_runs import recorded


@pytest.fixture
def copy(tmp_path):
    shutil.copy(STORE / "runs.csv", tmp_path)
    shutil.copy(STORE / "matmuls.csv", tmp_path)
    return tmp_path


def test_the_store_is_complete():
    runs, matmuls = read_runs(), paper_matmuls()
    assert len(runs) == len(needed_runs(matmuls))
    assert len(read_matmuls()) == len(matmuls)
    lengths = {run.n for run in matmuls if run.m == 1 and run.k == 64}
    assert set(CONTEXT_LENGTHS) <= lengths
    shapes = {(run.m, run.n, run.k) for run in matmuls}
    for name in model_names():
        model = get_model(name)
        assert (1, model.intermediate_size, model.hidden_size) in shapes
        assert (model.hidden_size, 1, model.intermediate_size) in shapes
    assert (1, 1600, 1600) in shapes  # GPT 1.5B's FFN as printed
    designs = [replace(array, dataflow=dataflow) for array in (CLOUD_TPU, EDGE_TPU) for dataflow in ("os", "ws", "is")]
    assert {run.array for run in matmuls} == set(designs)


def test_each_matmul_is_the_sum_of_its_runs():
    runs = read_runs()
    made = [format_row(matmul_row(matmul, runs), MATMUL_COLUMNS) for matmul in paper_matmuls()]
    with (STORE / "matmuls.csv").open(newline="", encoding="utf-8") as handle:
        assert list(csv.reader(handle)) == [list(MATMUL_COLUMNS), *made]


def test_only_whole_runs_have_dram_counts():
    store = read_matmuls()
    for name in DRAM_COUNTS:
        assert (store[name].notna() == (store.obtained == "whole")).all()


def test_whole_and_by_folds_agree():
    both = whole_and_by_folds()
    assert both.equal.all()
    assert len(both) >= 60
    spread = both.groupby(["array", "dataflow"]).agg(
        n=("equal", "size"), most=("num_folds", "max"), least=("num_folds", "min")
    )
    assert len(spread) == 6
    assert (spread.n >= 10).all() and (spread.most >= 16).all() and (spread.least == 2).all()
    counts = ["cycles", "stall_cycles", "ifmap_sram_reads", "filter_sram_reads", "ofmap_sram_writes"]
    for name in counts:
        assert (both[f"{name}_whole"] == both[f"{name}_folds"]).all()


def test_folds_cover_the_matmul():
    for dataflow in ("os", "ws", "is"):
        run = Run(45, 70, 100, SystolicArray(32, 16, dataflow))
        parts = folds(run)
        macs = sum(fold.m * fold.n * fold.k * number for fold, number in parts)
        assert macs == 45 * 70 * 100
        assert all(fold.array == run.array for fold, _ in parts)


def of_any_shape():
    """60 random MatMuls, most of them of several folds. The arrays of the paper are all square."""
    rng, runs = random.Random(5), []
    for dataflow in ("os", "ws", "is") * 20:
        array = SystolicArray(rng.randint(1, 16), rng.randint(1, 16), dataflow, 8, 8, 8)
        runs.append(Run(rng.randint(1, 50), rng.randint(1, 50), rng.randint(2, 50), array))
    return runs


def test_utilisations_equal_the_simulator_s_on_arrays_of_any_shape():
    for run, row in zip(runs := of_any_shape(), recorded(runs), strict=True):
        assert utilisations(run, row["cycles"]) == {name: row[name] for name in UTILISATIONS}, run


def test_the_rebuilt_store_is_the_stored_one(tmp_path):
    rebuild_store(tmp_path)
    for name in ("runs.csv", "matmuls.csv"):
        assert (tmp_path / name).read_bytes() == (STORE / name).read_bytes()


def test_utilisations_of_every_stored_run():
    for (m, n, k, *array), row in read_runs().items():
        expected = utilisations(Run(m, n, k, SystolicArray(*array)), row["cycles"])
        assert expected == {name: row[name] for name in UTILISATIONS}


def test_the_closed_form_equals_each_row_of_the_store():
    frame = read_matmuls()
    found = against_store.closed_form_against_store()
    assert found.differ.sum() == 0 and found.rows.sum() == len(frame)
    for row in found.itertuples():
        those = frame[(frame.array == row.array) & (frame.dataflow == row.dataflow)]
        assert (row.rows, row.whole) == (len(those), (those.obtained == "whole").sum())


@pytest.mark.parametrize("name", against_store.COMPARED)
def test_the_closed_form_is_compared_in_every_count(monkeypatch, name):
    frame = read_matmuls()
    whole = frame.index[frame.obtained == "whole"]
    frame.loc[whole[5], name] += 1
    monkeypatch.setattr(against_store, "read_matmuls", lambda folder: frame)
    assert against_store.closed_form_against_store().differ.tolist() == [1, 0, 0, 0, 0, 0]


def test_recheck_against_live_scale_sim(capsys):
    assert recheck(rows=3)
    assert capsys.readouterr().out.count("True") == 3


def test_recheck_where_the_number_of_cores_is_not_known(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert recheck(rows=1)


def test_recheck_notices_a_changed_count(copy):
    rows = [{**row, "cycles": row["cycles"] + 1} for row in read_runs(copy).values()]
    write_rows(copy / "runs.csv", list(RUN_COLUMNS), rows)
    runs = read_runs(copy)
    made = [matmul_row(matmul, runs) for matmul in paper_matmuls()]
    write_rows(copy / "matmuls.csv", list(MATMUL_COLUMNS), made)
    assert not recheck(rows=3, store=copy)


def test_recheck_notices_a_change_in_a_run_too_long_to_be_drawn(copy):
    rows = list(read_runs(copy).values())
    longest = max(rows, key=lambda row: row["m"] * row["n"] * row["k"])
    longest["cycles"] += 100
    write_rows(copy / "runs.csv", list(RUN_COLUMNS), rows)
    with pytest.raises(TableError, match=r"matmuls.csv, line \d+: not the sum of its runs") as caught:
        recheck(rows=1, store=copy)
    assert len(caught.value.rows) == caught.value.line - 2
    named = (copy / "matmuls.csv").read_text(encoding="utf-8").splitlines()[caught.value.line - 1]
    assert named.endswith(f' x ({longest["m"]}, {longest["n"]}, {longest["k"]})"')


def test_a_table_of_other_models_is_named_by_its_first_line_too_many_or_too_few(copy):
    path = copy / "matmuls.csv"
    damage(path, lambda lines: lines.pop())
    number = len(paper_matmuls())
    with pytest.raises(TableError, match=rf"line {number}: {number - 1} MatMuls; the paper's models have {number}"):
        recheck(rows=1, store=copy)


def damage(path, edit):
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    edit(lines)
    path.write_text("".join(lines), encoding="utf-8")
    return path.read_bytes()


def rename_cycles(lines):
    lines[0] = lines[0].replace("cycles", "cycle", 1)


def repeat_line_5(lines):
    lines.insert(8, lines[4])


def other_version(lines):
    lines[6] = lines[6].replace("2.0.2", "3.0.0")


def no_number(lines):
    lines[3] = "one" + lines[3][lines[3].index(",") :]


def lost_cells(lines):
    lines[3] = lines[3].split(",", 2)[2]


@pytest.mark.parametrize(
    ("edit", "line", "problem", "good"),
    [
        (rename_cycles, 1, "column cycles is missing", 0),
        (repeat_line_5, 9, r"duplicate of line 5 \(m=", 7),
        (other_version, 7, "simulator_version: 3.0.0 is not 2.0.2", 5),
        (no_number, 4, "m: 'one' is not a valid int", 2),
        (lost_cells, 4, "19 cells where the header has 21", 2),
        (lambda lines: lines.append(lines[9][:20]), 680, "the last line is cut off", 678),
    ],
)
def test_damage_is_named_by_file_and_line(copy, edit, line, problem, good):
    path = copy / "runs.csv"
    damaged = damage(path, edit)
    with pytest.raises(TableError, match=rf"runs\.csv, line {line}: {problem}") as caught:
        read_runs(copy)
    assert (caught.value.path, caught.value.line, len(caught.value.rows)) == (path, line, good)
    if caught.type is not CutOffError:
        with pytest.raises(TableError, match=rf"runs\.csv, line {line}: {problem}"):
            fill_store(copy)
    assert path.read_bytes() == damaged  # neither reading nor the rejected campaign changes the file


@pytest.mark.parametrize(
    ("read", "file"),
    [
        (read_runs, "runs"),
        (read_matmuls, "matmuls"),
        (whole_and_by_folds, "runs"),
        (lambda store: recheck(1, store), "runs"),
        (lambda store: rebuild_store(store, store), "runs"),
    ],
)
def test_a_missing_store_is_reported_with_advice(tmp_path, read, file):
    """An installed package comes without `data/scalesim`."""
    advice = "no such file; SCALE-Sim's results are read from a checkout of the repository: clone it and run `pip inst"
    with pytest.raises(TableError, match=rf"^{tmp_path}/{file}\.csv, line 1: {advice}"):
        read(tmp_path)


def test_a_matmul_without_its_run_is_rejected():
    with pytest.raises(InputError, match=r"^the store has no run of Run\(m=1, n=9, k=20, .*; run `make simulate`"):
        matmul_row(Run(1, 9, 20, EDGE_TPU), {})
    with pytest.raises(
        InputError, match=r"^the store has no whole run of Run\(m=1, n=9, k=20, .*; run `make simulate`"
    ):
        matmul_row(Run(1, 9, 20, EDGE_TPU), {}, "whole")


def test_another_simulator_version_is_rejected(monkeypatch):
    monkeypatch.setattr("llmamdahl.scalesim.simulator.version", lambda package: "3.0.0")
    with pytest.raises(InputError, match=r"^scalesim: version 3\.0\.0 is installed; the store is made with 2\.0\.2"):
        simulate(Run(1, 9, 20, EDGE_TPU))


def test_a_missing_simulator_is_reported(monkeypatch):
    def not_found(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr("llmamdahl.scalesim.simulator.version", not_found)
    with pytest.raises(InputError, match=r"^scalesim: not installed; pip install scalesim==2\.0\.2"):
        simulate(Run(1, 9, 20, EDGE_TPU))


@pytest.mark.parametrize("bad", [0, 1.5, float("nan")])
def test_a_bad_run_is_named(bad):
    with pytest.raises(InputError, match=f"^k: {bad} is not a positive whole number"):
        Run(1, 2, bad, EDGE_TPU)


def test_a_run_that_its_folds_contradict_is_found(monkeypatch):
    runs = read_runs()
    found = whole_and_by_folds().iloc[-1]
    key = tuple(found[name] for name in KEY)
    wrong = {**runs, key: {**runs[key], "ifmap_sram_reads": runs[key]["ifmap_sram_reads"] + 1}}
    monkeypatch.setattr(store_module, "read_runs", lambda folder: wrong)
    equal = whole_and_by_folds().equal
    assert not equal.iloc[-1] and equal.iloc[:-1].all()
