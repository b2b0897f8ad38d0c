"""Our numbers compared with the printed ones: every cell, and every sentence that can be checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from functools import partial
from typing import Literal

import pandas as pd

from llmamdahl.analysis import sweep
from llmamdahl.errors import one_of
from llmamdahl.hardware import Dataflow, get_array
from llmamdahl.models import CONTEXT_LENGTHS, FAMILY, get_model, model_names, table2_printed, table2_true
from llmamdahl.paper.published import COLUMNS, as_printed, errata, figure6, statements, table1, table3
from llmamdahl.paper.readings import checked
from llmamdahl.plots import Folded
from llmamdahl.scalesim.store import read_matmuls
from llmamdahl.systolic import Counting
from llmamdahl.tables import Row
from llmamdahl.workload import Part, decode_step


def agreement(item: str) -> pd.DataFrame:
    """The paper's printed values of `item` ("Table 2", "Figure 6", ...) next to ours.

    Returns
    -------
    DataFrame
        item, kind (`cell` of a table or figure, or `statement` of the text), cell, words (of the statement), printed
        (empty if the statement has no number), criterion (of the statement, such as `less than 0.5`; empty for a cell,
        which must be the printed text), ours, difference (empty if the values are not numbers), agrees, erratum (id of
        the row of `errata()` that explains a disagreement, otherwise empty). No row is left out.

    Raises
    ------
    InputError
        An item without anything to check.
    """
    one_of("item", item, tuple(dict.fromkeys([*CELLS, *statements().item])))
    rows = [{"kind": "cell", **row} for row in CELLS.get(item, list)()]
    rows += [{"kind": "statement", **_check(row)} for row in _rows_of(statements(), item)]
    known = {cell: row["id"] for row in _rows_of(errata(), item) for cell in row["cells"].split(";") if cell}
    for row in rows:
        row |= {"item": item, "erratum": known.get(row["cell"], "")}
    return pd.DataFrame(rows, columns=COLUMNS)


def accounted_for(table: pd.DataFrame) -> bool:
    """Whether every row agrees, except the known errata, and every erratum still disagrees."""
    return unaccounted(table).empty


def unaccounted(table: pd.DataFrame) -> pd.DataFrame:
    """Rows that disagree and are not known as errata, or that are known as errata and agree."""
    return table[table.agrees != (table.erratum == "")]


def folded(table: pd.DataFrame) -> Folded:
    """An agreement table for a notebook: how many rows agree, those that do not, and all rows folded."""
    words = f"{table.agrees.sum()} of {len(table)} agree"
    return Folded(table, table[~table.agrees], words if table.agrees.all() else f"{words}; these do not:")


def figure6_assumptions() -> pd.DataFrame:
    """How many of Figure 6's 84 cells agree under each assumption on counting, rounding and dataflow."""
    cells = figure6()
    edge = get_array("edge")
    reported = {dataflow: _edge_fractions(dataflow=dataflow) for dataflow in Dataflow}
    plain: Callable[[float], str] = "{:.3f}".format
    # SCALE-Sim reports the index of the last cycle, one less than the number of cycles of each MatMul
    counted = sweep(model_names("opt"), CONTEXT_LENGTHS, [edge]).query("metric == 'cycles'")
    projection = counted.projection + counted.model.map(lambda model: _number_of_matmuls(model, Part.PROJECTION))
    attention = counted.attention + counted.model.map(lambda model: _number_of_matmuls(model, Part.ATTENTION))
    last_cycle = reported[Dataflow.OS] | dict(zip(_cells(counted), projection / (projection + attention), strict=True))
    trials: list[tuple[str, dict[tuple[str, int, str], float], Callable[[float], str]]] = [
        ("as reported by SCALE-Sim, OS, four decimals then three", reported[Dataflow.OS], as_printed),
        ("the same in decimal, half up", reported[Dataflow.OS], partial(_in_decimal, rounding=ROUND_HALF_UP)),
        ("the same in decimal, half to even", reported[Dataflow.OS], partial(_in_decimal, rounding=ROUND_HALF_EVEN)),
        ("rounded once, to three decimals", reported[Dataflow.OS], plain),
        ("last cycle counted", last_cycle, as_printed),
        ("last cycle counted, rounded once", last_cycle, plain),
        ("corrected counts: last cycle, drain, ofmap writes", _edge_fractions(counting="corrected"), as_printed),
        ("weights as ifmap", _edge_fractions(ifmap="weights"), as_printed),
        ("WS instead of OS", reported[Dataflow.WS], as_printed),
        ("IS instead of OS", reported[Dataflow.IS], as_printed),
    ]
    rows = []
    for name, fractions, text in trials:
        agrees = [
            text(fractions[metric, length, model]) == printed
            for metric, length, model, printed in cells.itertuples(index=False)
        ]
        by_metric = cells.assign(agrees=agrees).groupby("metric").agrees.sum()
        rows.append(
            {"assumption": name, "cycles": by_metric["cycles"], "memory_accesses": by_metric["memory_accesses"]}
        )
    table = pd.DataFrame(rows)
    return table.assign(of=len(cells) // 2)


def opt_66b_heads(candidates: tuple[int, ...] = (48, 64, 72, 96, 128)) -> pd.DataFrame:
    """How many of OPT 66B's twelve cells in Figure 6 agree with each number of heads that divides 9216."""
    cells = figure6().query("model == 'opt-66b'")
    rows = []
    for heads in candidates:
        model = replace(get_model("opt-66b"), num_heads=heads)
        fractions = _fractions(sweep([model], CONTEXT_LENGTHS, [get_array("edge")]))
        agrees = [as_printed(fractions[cell[:3]]) == cell[3] for cell in cells.itertuples(index=False, name=None)]
        rows.append({"num_heads": heads, "cells_agreeing": sum(agrees), "of": len(agrees)})
    return pd.DataFrame(rows)


def _in_decimal(fraction: float, rounding: str) -> str:
    """`as_printed` in decimal arithmetic, in which a fourth decimal of 5 is a tie."""
    return str(Decimal(fraction).quantize(Decimal("0.0001"), rounding).quantize(Decimal("0.001"), rounding))


def _rows_of(table: pd.DataFrame, item: str) -> list[Row]:
    return [{str(name): cell for name, cell in row.items()} for row in table[table["item"] == item].to_dict("records")]


def _number_of_matmuls(model: str, part: Part) -> float:
    """MatMuls of a part in a decode step; their number does not depend on the context length."""
    return sum(matmul.count for matmul in decode_step(get_model(model), CONTEXT_LENGTHS[0]) if matmul.part is part)


def _cells(frame: pd.DataFrame) -> list[tuple[str, int, str]]:
    return list(zip(frame.metric, frame.context_length, frame.model, strict=True))


def _fractions(frame: pd.DataFrame) -> dict[tuple[str, int, str], float]:
    return dict(zip(_cells(frame), frame.fraction, strict=True))


def _edge_fractions(
    dataflow: Dataflow = Dataflow.OS,
    counting: Counting = "reported",
    ifmap: Literal["activations", "weights"] = "activations",
) -> dict[tuple[str, int, str], float]:
    array = get_array("edge", dataflow)
    return _fractions(sweep(model_names("opt"), CONTEXT_LENGTHS, [array], ifmap=ifmap, counting=counting))


def _compared(cell: str, printed: object, ours: object) -> Row:
    """A printed value and ours, compared as text: no tolerance."""
    texts = {"printed": str(printed), "ours": str(ours)}
    try:
        difference = f"{float(texts['ours']) - float(texts['printed']):g}"
    except ValueError:  # texts such as "(1x64)*(64x1)" have no difference
        difference = ""
    agrees = texts["printed"] == texts["ours"]
    return {"cell": cell, "words": "", "criterion": "", **texts, "difference": difference, "agrees": agrees}


def _table1_cells() -> list[Row]:
    """Each printed product, and the number of MatMuls in a block, for the smallest true model of each family."""
    length, rows = 2048, []
    for family, written in FAMILY.items():
        model = get_model(model_names(family)[0])
        symbols = {"d": model.hidden_size, "d/h": model.head_dim, "l": length, "d_FF": model.intermediate_size, "1": 1}
        block = [mm for mm in decode_step(model, length) if mm.part is not Part.UNQUANTIZED]
        shapes = {mm.name: f"({mm.n}x{mm.k})*({mm.k}x{mm.m})" for mm in block}
        for row in table1().itertuples():
            n, k, m = (symbols[str(symbol)] for symbol in (row.rows, row.inner, row.columns))
            rows.append(_compared(f"{written} {row.name}", f"({n}x{k})*({k}x{m})", shapes[str(row.name)]))
        number = sum(mm.count for mm in block) // model.num_layers
        rows.append(_compared(f"{written} MatMuls per block", 2 * model.num_heads + 6, number))
    return rows


def _table2_cells() -> list[Row]:
    rows = []
    for printed, true in zip(table2_printed(), table2_true(), strict=True):
        name = f"{FAMILY[true['family']]} {true['label']}"
        for symbol, field in (("d", "hidden_size"), ("h", "num_heads"), ("d_FF", "intermediate_size")):
            rows.append(_compared(f"{name} {symbol}", printed[symbol.lower()], true[field]))
    return rows


def _table3_cells() -> list[Row]:
    """Table 3 and the arrays of the simulator's runs in the store."""
    store = read_matmuls()
    rows = []
    for printed in table3().to_dict("records"):
        runs = store[store.array == printed["array"]]
        for column in ("rows", "cols", "ifmap_sram_kb", "ofmap_sram_kb", "filter_sram_kb"):
            ours = "/".join(str(size) for size in sorted(runs[column].unique()))
            rows.append(_compared(f"{printed['array']} {column}", printed[column], ours))
    return rows


def _figure6_cells() -> list[Row]:
    ours = _edge_fractions()
    return [
        _compared(f"{metric} l={length} {model}", printed, as_printed(ours[metric, length, model]))
        for metric, length, model, printed in figure6().itertuples(index=False)
    ]


def _check(statement: Row) -> Row:
    """A statement of the paper, our value in the paper's reading, and whether the statement holds."""
    found, printed = checked(statement), statement["printed"]
    return {
        "cell": statement["id"],
        "words": statement["words"],
        "printed": printed if statement["asserts"] == "magnitude" else "",
        "criterion": f"{statement['relation']} {printed}",
        "ours": found["ours"],
        "difference": f"{found['value'] - float(printed):.4g}",
        "agrees": found["holds"],
    }


CELLS: dict[str, Callable[[], list[Row]]] = {
    "Table 1": _table1_cells,
    "Table 2": _table2_cells,
    "Table 3": _table3_cells,
    "Figure 6": _figure6_cells,
}
"""The cells of each item, printed and ours."""
