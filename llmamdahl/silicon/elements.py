"""Sizes of processing elements (PEs) by the kind of their weights, as synthesised from `data/rtl/`.

They are estimates before layout, and for no particular clock: use their ratios. `make synthesize` makes the table.
"""

from __future__ import annotations

from functools import cache

import pandas as pd

from llmamdahl.errors import InputError, one_of, positive_int
from llmamdahl.tables import DATA, Columns, Row, positive_float, read_rows

PES = DATA / "hardware" / "pes.csv"

WEIGHT_BITS = {"fp16": 16, "int8": 8, "int4": 4, "ternary": 2, "binary": 1}
"""Bits of a weight in the PE: ternary is {-1, 0, 1}, binary {-1, 1}."""

TYPES: Columns = {
    **dict.fromkeys(("dataflow", "weights"), str),
    **dict.fromkeys(("weight_bits", "activation_bits", "accumulator_bits"), int),
    **dict.fromkeys(("multiplier", "adder"), str),
    **dict.fromkeys(("cells", "flip_flops", "transistors"), int),
    "area_um2": positive_float,
    **dict.fromkeys(("tool", "source"), str),
}
KEY = ("dataflow", "weights", "accumulator_bits")
"""Columns that identify a PE."""

UNITS = {"transistors": "transistors", "um2": "area_um2"}
"""Units of a size, and the columns of the table."""


@cache
def _rows() -> tuple[Row, ...]:
    return tuple(read_rows(PES, TYPES, key=KEY))


def pes() -> pd.DataFrame:
    """The PEs that were synthesised (`data/hardware/pes.csv`); `data/README.md` describes how.

    Returns
    -------
    DataFrame
        dataflow (`os`, `ws`), weights, weight_bits, activation_bits, accumulator_bits, multiplier, adder (of the four
        choices those with the fewest transistors), cells, flip_flops, transistors (static CMOS, 16 a flip-flop),
        area_um2 (130 nm, cells only), tool, source.

    Raises
    ------
    TableError
        A damaged table; it names the line.

    >>> frame = pes().query("dataflow == 'ws' and accumulator_bits == 32").set_index("weights")
    >>> frame.transistors["ternary"] < frame.transistors["int4"] < frame.transistors["int8"]
    np.True_
    """
    return pd.DataFrame(_rows())


def pe_area(
    weights: str = "ternary", dataflow: str = "os", accumulator_bits: int = 32, unit: str = "transistors"
) -> float:
    """Size of a PE with its registers: an estimate before layout.

    Parameters
    ----------
    weights
        `int8`, `int4`, `ternary` or `binary`, with 8-bit activations, or `fp16` with FP16 activations and FP32 sums.
    dataflow
        `os` or `ws`. A PE of an input-stationary array is that of `ws` only if both operands have 8 bits, so there is
        none here.
    accumulator_bits
        32, 24 or 20 (`fp16`: 32). Sums of integers wrap around. Whatever the activations, they are exact up to
        k = 2^accumulator_bits / d - 1, where d is 256 for ternary and binary weights, 2048 for INT4, 32768 for INT8.
    unit
        `transistors`, or `um2` of SKY130 cells (130 nm).

    Raises
    ------
    InputError
        A value that is not in the table.

    >>> round(pe_area("int8") / pe_area("ternary"), 2)
    1.86
    """
    one_of("weights", weights, tuple(WEIGHT_BITS))
    one_of("dataflow", dataflow, ("os", "ws"))
    one_of("unit", unit, tuple(UNITS))
    bits = positive_int("accumulator_bits", accumulator_bits)
    rows = [row for row in _rows() if (row["weights"], row["dataflow"]) == (weights, dataflow)]
    found = {row["accumulator_bits"]: row for row in rows}
    if bits not in found:
        known = ", ".join(map(str, found))
        raise InputError(f"accumulator_bits: {bits} was not synthesised with {weights} weights; known: {known}")
    return float(found[bits][UNITS[unit]])
