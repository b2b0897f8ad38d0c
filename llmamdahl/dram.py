"""SCALE-Sim's double buffers in its stall-free mode, in closed form: the words that cross between SRAM and DRAM.

The rules are those of SCALE-Sim 2.0.2: of `memory/read_buffer_estimate_bw.py`, `memory/write_buffer.py` and, for what
the array asks for, `compute/systolic_compute_*.py`. `tests/test_dram.py` holds them to runs of it.

*Reads.* An operand's buffer has 50 active sets of floor(SRAM bytes / 100) words each. A word that is not in them is
fetched, and when they are full they are forgotten, all at once. The array asks for an operand in blocks, and passes
over each block one or several times before the next:

========  =======================================  =============================================
dataflow  ifmap                                    filter
========  =======================================  =============================================
os        m x k in ceil(n / cols) passes           k x cols at a time, in ceil(m / rows) passes
ws        m x k in ceil(n / cols) passes           k x n in one pass
is        m x k in one pass                        k x n in ceil(m / cols) passes
========  =======================================  =============================================

A pass meets each word of its block once, so the order within it does not matter. A block that fills the buffer is
fetched in every pass. A smaller one is fetched once; but where the buffer, already holding earlier blocks, becomes full
on the way, the words up to there are fetched again in the next pass.

*Writes.* Results are laid into lines of `cols` words. When one word more than half the SRAM is waiting, the line in
hand is closed, null addresses filling it up, and as many lines as make up half the SRAM are drained. A drain counts its
last line without nulls, every other line in full. If `cols` divides half the SRAM, the one word more becomes a line of
its own, with which the second drain begins: its cols - 1 nulls are counted as writes. That happens once, for the drains
after it come at full lines. If `cols` does not divide it, or equals it, every closed line ends a drain.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from llmamdahl.errors import INT64_MAX, CountOverflowError, InputError
from llmamdahl.hardware import Dataflow, SystolicArray


class Demand(NamedTuple):
    """What the array asks of one operand: blocks of words, each in a number of passes."""

    in_a_cycle: Any  # the most words
    block: Any
    num_blocks: Any = 1
    last: Any = 0  # words of a smaller block after the others, if any
    passes: Any = 1


def dram_counts(dims: Sequence[Any], array: SystolicArray, counting: str) -> tuple[Any, Any, Any]:
    """Words of ifmap read, of filter read, of ofmap written; `dims` are m, n, k: ints, or int64 arrays that broadcast.

    Corrected counts leave out the null addresses. What is forgotten and fetched again is the simulator's model of a
    buffer, no miscount, and stays.

    Raises
    ------
    InputError
        The array can ask for more words in one cycle than the buffer of an operand holds. The simulator fails where a
        buffer is filled twice in a cycle (it divides by the cycles between), and has no counts then.
    CountOverflowError
        More than 2**63 - 1 words written.
    """
    (m, n, k), r, c = (np.asarray(dim, dtype=np.int64) for dim in dims), array.rows, array.cols
    if array.dataflow == Dataflow.OS:
        width = np.minimum(n, c)
        ifmap = Demand(_least(m, r, k), m * k, passes=-(-n // c))
        filter_ = Demand(_least(n, c, k), k * width, n // width, k * (n % width), passes=-(-m // r))
        results = m * n
    elif array.dataflow == Dataflow.WS:
        ifmap, filter_ = Demand(_least(k, r, m), m * k, passes=-(-n // c)), Demand(_least(n, c), k * n)
        results = -(-k // r) * (m * n)
    else:
        ifmap, filter_ = Demand(_least(m, c), m * k), Demand(_least(k, r, n), k * n, passes=-(-m // c))
        results = -(-k // r) * (m * n)
    reads = _fetched(ifmap, "ifmap_sram_kb", array), _fetched(filter_, "filter_sram_kb", array)
    writes = results if counting == "corrected" else _drained(results, array)
    shape = np.broadcast_shapes(m.shape, n.shape, k.shape)
    ifmap_reads, filter_reads, ofmap_writes = (
        np.broadcast_to(count, shape) if shape else int(count) for count in (*reads, writes)
    )
    return ifmap_reads, filter_reads, ofmap_writes


def _fetched(demand: Demand, sram: str, array: SystolicArray) -> Any:
    """Words fetched of an operand whose buffer is `sram`, a field of the array."""
    in_a_cycle, block, num_blocks, last, passes = demand
    sram_kb = getattr(array, sram)
    buffer = min(50 * (1024 * sram_kb // 100), INT64_MAX)
    if np.any(in_a_cycle > buffer):
        most = int(np.max(in_a_cycle))
        raise InputError(
            f"{sram}: {sram_kb} holds {buffer} words, fewer than the {most} that the array asks for in one cycle; "
            f"SCALE-Sim can then fail, so DRAM counts need at least {-(-100 * -(-most // 50) // 1024)}"
        )
    # Blocks that fit in together without filling the buffer; the one after them fills it on its way.
    held = np.maximum(-(-buffer // block) - 1, 1)
    times_full, since = np.divmod(num_blocks - 1, held)
    small = block < buffer
    words = np.where(small, num_blocks * block + times_full * (buffer - held * block), passes * num_blocks * block)
    inside = np.where(small, (since + 1) * block, words % buffer)
    again = np.where(inside + last < buffer, 0, buffer - inside)
    words = words + np.where(last < buffer, last + again, passes * last)
    return np.where(passes == 1, num_blocks * block + last, words)


def _drained(results: Any, array: SystolicArray) -> Any:
    """Words written, null addresses that are counted as such included."""
    half = 512 * array.ofmap_sram_kb
    if half % array.cols or half == array.cols:
        return results
    if np.any(results > INT64_MAX - (array.cols - 1)):
        raise CountOverflowError("ofmap_dram_writes: above 2**63 - 1; use smaller dimensions")
    return np.where(results > half + 1, results + (array.cols - 1), results)


def _least(*values: Any) -> Any:
    return reduce(np.minimum, values)
