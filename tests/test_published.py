"""Our values equal the printed ones, with no tolerance."""

from dataclasses import replace
from decimal import Decimal
from itertools import product

import pandas as pd
import pytest

from llmamdahl.analysis import sweep
from llmamdahl.errors import InputError
from llmamdahl.hardware import CLOUD_TPU, EDGE_TPU, SystolicArray
from llmamdahl.models import CONTEXT_LENGTHS, get_model, model_names
from llmamdahl.paper import checks
from llmamdahl.paper.checks import (
    CELLS,
    accounted_for,
    agreement,
    figure6_assumptions,
    opt_66b_heads,
    unaccounted,
)
from llmamdahl.paper.miscounts import correction_shift
from llmamdahl.paper.published import (
    as_printed,
    errata,
    figure6,
    paper_items,
    printed_rows,
    record,
    record_items,
    recorded,
    statements,
)
from llmamdahl.scalesim.against_store import trace
from llmamdahl.systolic import gemm_cost
from llmamdahl.tables import DATA, ROOT
from llmamdahl.workload import Part, decode_step

MAP = [row["item"] for row in printed_rows("items", "item notebook figure about", ["item"])]
ITEMS = [item for item in MAP if item in CELLS or item in set(statements().item)]


def test_every_item_checked_is_on_the_map():
    assert {*CELLS, *statements().item} <= set(MAP)


def test_all_84_cells_of_figure_6_agree():
    cells = agreement("Figure 6").query("kind == 'cell'")
    assert len(cells) == 84
    assert cells.printed.tolist() == cells.ours.tolist()
    assert sorted(cells.printed) == sorted(figure6().printed)


def test_every_statement_holds():
    checked = [row for item in ITEMS for row in agreement(item).query("kind == 'statement'").to_dict("records")]
    assert sorted(row["cell"] for row in checked) == sorted(statements().id)
    assert [row["cell"] for row in checked if not row["agrees"]] == []


def test_a_threshold_of_this_project_is_not_called_printed():
    checked = pd.concat(agreement(item) for item in ITEMS).set_index("cell")
    for row in statements().to_dict("records"):
        printed, criterion = checked.loc[row["id"], ["printed", "criterion"]]
        assert criterion == f"{row['relation']} {row['printed']}"
        assert printed == (row["printed"] if row["asserts"] == "magnitude" else "")
    assert (checked.query("kind == 'cell'").criterion == "").all()


@pytest.mark.parametrize("item", ITEMS)
def test_every_disagreement_is_an_erratum(item):
    table = agreement(item)
    assert accounted_for(table)
    listed = [cell for row in errata().query("item == @item").to_dict("records") for cell in row["cells"].split(";")]
    assert sorted(table.cell[~table.agrees]) == sorted(cell for cell in listed if cell)


def test_a_disagreement_that_no_erratum_lists_fails():
    table = agreement("Figure 6")
    table.loc[3, "agrees"] = False
    assert not accounted_for(table)
    assert unaccounted(table).cell.tolist() == [table.cell[3]]
    table = agreement("Table 2")
    table["agrees"] = True  # an erratum that no longer disagrees fails too
    assert not accounted_for(table)


def test_cells_that_agree_under_each_assumption():
    worth = figure6_assumptions().set_index("assumption")[["cycles", "memory_accesses"]]
    assert worth.iloc[0].tolist() == [42, 42]
    assert worth.loc["the same in decimal, half up"].tolist() == [40, 42]
    assert worth.loc["the same in decimal, half to even"].tolist() == [41, 40]
    assert worth.loc["rounded once, to three decimals"].tolist() == [41, 39]
    assert worth.loc["last cycle counted"].tolist() == [41, 42]
    assert worth.loc["last cycle counted, rounded once"].tolist() == [42, 39]
    assert worth.loc["corrected counts: last cycle, drain, ofmap writes"].tolist() == [0, 21]
    assert worth.loc["weights as ifmap"].tolist() == [42, 42]
    assert worth.loc["WS instead of OS", "cycles"] == worth.loc["IS instead of OS", "cycles"] == 0


def test_an_array_of_several_sizes_in_the_store_is_not_that_of_table_3(monkeypatch):
    runs = checks.read_matmuls()
    runs.loc[runs.index[runs.array == "edge"][-1], "rows"] = 64
    monkeypatch.setattr(checks, "read_matmuls", lambda: runs)
    found = checks.agreement("Table 3").set_index("cell")
    assert not found.agrees["edge rows"] and found.ours["edge rows"] == "32/64"
    assert found.ours["edge cols"] == "32"


def test_os_does_not_tie_with_is_if_folds_are_pipelined():
    leads: dict[int, list[float]] = {length: [] for length in CONTEXT_LENGTHS}
    for model, length in product(model_names("opt"), CONTEXT_LENGTHS):
        steps = [step for step in decode_step(get_model(model), length) if step.part is not Part.UNQUANTIZED]
        totals = []
        for dataflow in ("os", "is"):
            array = replace(CLOUD_TPU, dataflow=dataflow)
            counted = {"counting": "corrected", "folds": "pipelined"}
            totals.append(sum(step.count * gemm_cost(1, step.n, step.k, array, **counted).cycles for step in steps))
        leads[length].append(totals[1] / totals[0] - 1)
    assert leads[128] == leads[256] == [0] * 7
    from_512 = [lead for length in CONTEXT_LENGTHS[2:] for lead in leads[length]]
    assert min(from_512) > 0 and round(max(from_512), 2) == 0.29


def test_only_72_heads_give_opt_66b():
    heads = opt_66b_heads().set_index("num_heads").cells_agreeing
    assert heads[72] == 12
    assert heads.drop(72).max() < 12


def test_as_printed_rounds_as_the_paper_does():
    # the paper prints F = 0.80554 as 0.805 and F = 0.99146 as 0.992
    assert (as_printed(0.80554), as_printed(0.99146)) == ("0.805", "0.992")
    assert (f"{0.80554:.3f}", f"{0.99146:.3f}") == ("0.806", "0.991")


def test_seven_cells_of_figure_6_depend_on_the_binary_float():
    ours = sweep(model_names("opt"), CONTEXT_LENGTHS, [EDGE_TPU]).set_index(["metric", "context_length", "model"])
    printed = figure6().set_index(["metric", "context_length", "model"]).printed
    four = ours.fraction.map("{:.4f}".format)
    ties = printed[four.str.endswith("5")]
    assert len(ties) == 7
    down = ties[ties == four[ties.index].str[:5]].index.tolist()
    assert down == [("cycles", 1024, "opt-350m"), ("cycles", 4096, "opt-350m")]
    assert all((Decimal(float(four[cell])) < Decimal(four[cell])) == (cell in down) for cell in ties.index)


def test_corrected_counts_lower_f_of_cycles_and_raise_f_of_accesses():
    shift = correction_shift(model_names("opt"), CONTEXT_LENGTHS, [CLOUD_TPU, EDGE_TPU])
    by = {key: rows for key, rows in shift.groupby(["array", "metric"])["shift"]}
    assert {len(rows) for rows in by.values()} == {42}
    extremes = {key: (round(rows.min(), 4), round(rows.max(), 4)) for key, rows in by.items()}
    assert extremes == {
        ("cloud", "cycles"): (-0.0517, -0.0078),
        ("edge", "cycles"): (-0.0337, -0.0006),
        ("cloud", "memory_accesses"): (0.0001, 0.0035),
        ("edge", "memory_accesses"): (0.0000, 0.0033),
    }
    assert (by["edge", "memory_accesses"] > 0).all()


def test_pipelined_folds_raise_f_of_cycles_where_attention_has_several():
    shifts = {}
    for array in (CLOUD_TPU, EDGE_TPU):
        for model, length in product(model_names("opt"), CONTEXT_LENGTHS):
            steps = [step for step in decode_step(get_model(model), length) if step.part is not Part.UNQUANTIZED]
            fractions = []
            for reading in ("serial", "pipelined"):
                cycles = [step.count * gemm_cost(1, step.n, step.k, array, folds=reading).cycles for step in steps]
                projection = sum(of for of, step in zip(cycles, steps, strict=True) if step.part is Part.PROJECTION)
                fractions.append(projection / sum(cycles))
            several = any(step.n > array.cols for step in steps if step.part is Part.ATTENTION)
            shifts.setdefault((array.name, several), []).append(fractions[1] - fractions[0])
    extremes = {key: (len(found), round(min(found), 3), round(max(found), 3)) for key, found in shifts.items()}
    assert extremes == {
        ("cloud", False): (14, -0.050, -0.001),  # l = 128 and 256
        ("cloud", True): (28, 0.003, 0.163),
        ("edge", True): (42, 0.001, 0.086),
    }


def test_trace_adds_up_to_the_fraction():
    steps = trace("opt-350m", 2048, CLOUD_TPU)
    cycles = (steps["count"] * steps.cycles).groupby(steps.part).sum()
    fraction = sweep(["opt-350m"], [2048], [CLOUD_TPU]).query("metric == 'cycles'").fraction.item()
    assert cycles["projection"] / cycles.sum() == fraction
    assert set(steps.simulator_version) == {"2.0.2"}


def test_trace_rejects_what_is_not_in_the_store():
    with pytest.raises(InputError, match=r"^context_length: 100 is not in the store"):
        trace("opt-350m", 100, CLOUD_TPU)
    with pytest.raises(InputError, match=r"^array: SystolicArray\(rows=8, .* is not in the store"):
        trace("opt-350m", 128, SystolicArray(8, 8, name="cloud"))


def test_the_files_on_the_map_exist():
    for item in paper_items().itertuples():
        assert (ROOT / "notebooks" / item.notebook).exists()
        assert all((ROOT / path).exists() for path in (item.png, item.csv, item.agreement) if path)
        assert bool(item.agreement) == bool(item.cells or item.statements)


def test_recorded_agreement_is_up_to_date():
    now = pd.concat(agreement(item) for item in ITEMS).reset_index(drop=True)
    pd.testing.assert_frame_equal(recorded(), now, check_dtype=False)


def test_each_item_is_recorded_in_a_file_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("llmamdahl.paper.published.RESULTS", tmp_path)
    table = pd.concat(agreement(item) for item in ("Table 3", "Figure 6"))
    assert record(table) is table
    for item in ("table-03", "figure-06"):
        recorded_now = (tmp_path / "agreement" / f"{item}.csv").read_bytes()
        assert recorded_now == (ROOT / "data" / "results" / "agreement" / f"{item}.csv").read_bytes()


def test_the_map_is_written_into_any_folder(tmp_path, monkeypatch):
    for folder in (tmp_path / "new" / "one", tmp_path):
        monkeypatch.setattr("llmamdahl.paper.published.RESULTS", folder)
        record_items()
        assert (folder / "paper-items.csv").read_bytes() == (DATA / "results" / "paper-items.csv").read_bytes()


def test_readme_has_the_map():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for item in paper_items().itertuples():
        cells, statements = (
            f"{agreeing} of {checked}" if checked else "-"
            for agreeing, checked in ((item.cells_agreeing, item.cells), (item.statements_agreeing, item.statements))
        )
        name = f"[{item.item}]({item.png})" if item.png else item.item
        assert (
            f"| {name} | {item.about} | [{item.notebook[:2]}](notebooks/{item.notebook}) | {cells} | {statements} |"
            in readme
        )


@pytest.mark.parametrize("item", ["Figure 99", "figure 6", "Figure 9"])
def test_an_item_without_anything_to_check_is_rejected(item):
    with pytest.raises(InputError, match=f"^item: '{item}' is unknown; known: Table 1, "):
        agreement(item)
