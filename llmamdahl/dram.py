"""SCALE-Sim's double buffers in its stall-free mode, in closed form: the words that cross between SRAM and DRAM.

The rules are those of SCALE-Sim 2.0.2: `memory/read_buffer_estimate_bw.py`, `memory/write_buffer.py` and, for the order
in which the array requests operands, `compute/systolic_compute_*.py`. `tests/test_dram.py` checks them against runs of
it.

*Reads.* An operand's buffer has 50 active sets of floor(SRAM bytes / 100) words each. A word that is not in them is
fetched. When they are full, all of them are emptied at once. The array requests an operand in blocks, and passes over
each block one or several times before the next:

========  =======================================  =============================================
dataflow  ifmap                                    filter
========  =======================================  =============================================
os        m x k in ceil(n / cols) passes           k x cols at a time, in ceil(m / rows) passes
ws        m x k in ceil(n / cols) passes           k x n in one pass
is        m x k in one pass                        k x n in ceil(m / cols) passes
========  =======================================  =============================================

A pass requests each word of its block once, so the order within a pass does not matter. Hence:

- An operand with one pass is fetched once.
- A block that fills the buffer is fetched in every pass.
- A smaller block is fetched once. But if the buffer, which still holds earlier blocks, becomes full during its first
  pass, the words requested up to that point are lost and fetched again in its second pass. After that the buffer holds
  this block alone. So with h = ceil(buffer / block) - 1 blocks held, every h-th block is interrupted, after
  buffer - h x block of its words.

*Writes.* Results are put into lines of `cols` words. When one word more than half the SRAM is waiting, the current line
is closed and filled up with null addresses, and as many lines as make up half the SRAM are drained. A drain counts its
last line without nulls and every other line in full. If `cols` divides half the SRAM, the one word more becomes a line
of its own, with which the second drain begins: its cols - 1 nulls are counted as writes. That happens once, because
later drains come at full lines. If `cols` does not divide it, or equals it, every closed line ends a drain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmamdahl.errors import INT64_MAX, CountOverflowError, InputError
from llmamdahl.hardware import Dataflow, SystolicArray

Words: TypeAlias = NDArray[np.int64]
"""Numbers of words, in arrays that broadcast."""

DramCounts: TypeAlias = tuple[int | Words, int | Words, int | Words]
"""Words of ifmap read, of filter read, of ofmap written."""


class Demand(NamedTuple):
    """What the array requests of one operand: blocks of words, each in a number of passes."""

    in_a_cycle: Words  # the most words requested in one cycle
    block: Words
    num_blocks: Words | int = 1
    last: Words | int = 0  # words of a smaller block after the others, if any
    passes: Words | int = 1


def dram_counts(dims: Sequence[int | Words], array: SystolicArray, *, null_addresses: bool) -> DramCounts:
    """Words that cross between SRAM and DRAM for a MatMul.

    Parameters
    ----------
    dims
        m, n and k: ints, or int64 arrays that broadcast.
    null_addresses
        Whether null addresses count as writes, as SCALE-Sim reports them. Re-fetches are the simulator's model of a
        buffer, not a miscount, and count either way.

    Raises
    ------
    InputError
        The array can request more words in one cycle than the buffer of an operand holds. If a buffer is filled twice
        in a cycle, SCALE-Sim divides by zero and has no counts.
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
    writes = _drained(results, array) if null_addresses else results
    shape = np.broadcast_shapes(m.shape, n.shape, k.shape)
    ifmap_reads, filter_reads, ofmap_writes = (
        np.broadcast_to(count, shape) if shape else int(count) for count in (*reads, writes)
    )
    return ifmap_reads, filter_reads, ofmap_writes


def _fetched(demand: Demand, sram: str, array: SystolicArray) -> Words:
    """Words fetched of an operand whose buffer is `sram`, a field of the array."""
    in_a_cycle, block, num_blocks, last, passes = demand
    buffer = _read_buffer(sram, array, in_a_cycle)
    # The blocks of full size. `held` of them do not fill the buffer, and the next one is interrupted.
    fits = block < buffer
    held = np.maximum(-(-buffer // block) - 1, 1)
    interruptions, blocks_since = np.divmod(num_blocks - 1, held)
    fetched_again = interruptions * (buffer - held * block)
    fetched = np.where(fits, num_blocks * block + fetched_again, passes * num_blocks * block)
    # The last, smaller block, which finds `inside` words in the buffer and may be interrupted too.
    inside = np.where(fits, (blocks_since + 1) * block, fetched % buffer)
    last_again = np.where(inside + last < buffer, 0, buffer - inside)
    fetched = fetched + np.where(last < buffer, last + last_again, passes * last)
    # In a single pass no word is requested twice.
    return np.where(passes == 1, num_blocks * block + last, fetched)


def _read_buffer(sram: str, array: SystolicArray, in_a_cycle: Words) -> int:
    """Words that the read buffer of `sram` holds; rejected if the array can request more in a cycle."""
    sram_kb: int = getattr(array, sram)
    buffer = min(50 * (1024 * sram_kb // 100), INT64_MAX)
    if np.any(in_a_cycle > buffer):
        most = int(np.max(in_a_cycle))
        raise InputError(
            f"{sram}: {sram_kb} holds {buffer} words, fewer than the {most} that the array requests in one cycle; "
            f"SCALE-Sim can then fail, so DRAM counts need at least {-(-100 * -(-most // 50) // 1024)}"
        )
    return buffer


def _drained(results: Words, array: SystolicArray) -> Words:
    """Words written, null addresses that are counted as such included."""
    half = 512 * array.ofmap_sram_kb
    if half % array.cols or half == array.cols:
        return results
    if np.any(results > INT64_MAX - (array.cols - 1)):
        raise CountOverflowError("ofmap_dram_writes: above 2**63 - 1; use smaller dimensions")
    return np.where(results > half + 1, results + (array.cols - 1), results)


def _least(first: Words, *others: Words | int) -> Words:
    for other in others:
        first = np.minimum(first, other)
    return first
