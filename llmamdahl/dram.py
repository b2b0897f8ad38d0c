"""DRAM accesses in closed form: SCALE-Sim's double buffers in its stall-free mode.

The rules are those of SCALE-Sim 2.0.2: `memory/read_buffer_estimate_bw.py`, `memory/write_buffer.py` and, for the order
in which the array requests operands, `compute/systolic_compute_*.py`. `tests/test_dram.py` checks them against the
simulator.

*Reads.* The buffer of an operand has 50 active sets of floor(SRAM bytes / 100) words each. A requested word that is in
none of them is fetched. When all sets are full, all are emptied at once. The array requests an operand block by block,
and makes one or more passes over a block before it starts the next (`array_requests`):

========  =======================================  =============================================
dataflow  ifmap                                    filter
========  =======================================  =============================================
os        m x k in ceil(n / cols) passes           k x cols at a time, in ceil(m / rows) passes
ws        m x k in ceil(n / cols) passes           k x n in one pass
is        m x k in one pass                        k x n in ceil(m / cols) passes
========  =======================================  =============================================

A pass requests each word of its block once, so the order within a pass does not matter. Hence:

- An operand with a single pass is fetched once.
- A block as large as the buffer, or larger, is fetched in every pass.
- A smaller block is fetched once, unless the buffer, which still holds earlier blocks, becomes full during the first
  pass over it. Then the words requested so far are lost, and the second pass fetches them again. After that the buffer
  holds this block alone. The buffer holds h = ceil(buffer / block) - 1 blocks, so every h-th block is interrupted,
  after buffer - h x block of its words.

*Writes.* The ofmap buffer collects results in lines of `cols` words. When it holds one word more than half the SRAM, it
closes the current line, pads it with null addresses, and drains as many lines as make up half the SRAM. A drain counts
the nulls of every line but its last. If `cols` divides half the SRAM, the extra word becomes a line of its own and the
first line of the second drain, which counts its cols - 1 nulls as writes. This happens once, because later drains start
at full lines. If `cols` does not divide half the SRAM, or equals it, a padded line is always the last of its drain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmamdahl.errors import INT64_MAX, CountOverflowError, InputError
from llmamdahl.hardware import Dataflow, SystolicArray

Words: TypeAlias = int | NDArray[np.int64]
"""A number of words, or an int64 array of them that broadcasts against others."""

DramCounts: TypeAlias = tuple[Words, Words, Words]
"""Ifmap words read from DRAM, filter words read, ofmap words written."""

ACTIVE_SETS = 50
"""Sets of a read buffer that hold words for the array; SCALE-Sim divides each buffer into 100."""


class BlockRequests(NamedTuple):
    """The words of one operand that the array requests: `num_blocks` equal blocks and a smaller last one."""

    in_a_cycle: Words  # the most words requested in one cycle
    block: Words  # distinct words of a block
    num_blocks: Words = 1
    last: Words = 0  # distinct words of the smaller block, 0 if there is none
    passes: Words = 1  # over each block, before the next block starts


def dram_counts(dims: Sequence[Words], array: SystolicArray, *, null_addresses: bool) -> DramCounts:
    """Words that a MatMul moves between SRAM and DRAM.

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
    m, n, k = (np.asarray(dim, dtype=np.int64) for dim in dims)
    ifmap, filter_, results = array_requests(m, n, k, array)
    reads = _fetched(ifmap, "ifmap_sram_kb", array), _fetched(filter_, "filter_sram_kb", array)
    writes = _drained(results, array) if null_addresses else results
    shape = np.broadcast_shapes(m.shape, n.shape, k.shape)
    ifmap_reads, filter_reads, ofmap_writes = (
        np.broadcast_to(count, shape) if shape else int(count) for count in (*reads, writes)
    )
    return ifmap_reads, filter_reads, ofmap_writes


def array_requests(m: Words, n: Words, k: Words, array: SystolicArray) -> tuple[BlockRequests, BlockRequests, Words]:
    """Requests for the ifmap and for the filter, and the number of results written to the ofmap SRAM."""
    r, c = array.rows, array.cols
    if array.dataflow == Dataflow.OS:
        width = np.minimum(n, c)
        filter_ = BlockRequests(_least(n, c, k), k * width, n // width, k * (n % width), passes=-(-m // r))
        return BlockRequests(_least(m, r, k), m * k, passes=-(-n // c)), filter_, m * n
    results = -(-k // r) * (m * n)
    if array.dataflow == Dataflow.WS:
        ifmap = BlockRequests(_least(k, r, m), m * k, passes=-(-n // c))
        return ifmap, BlockRequests(_least(n, c), k * n), results
    filter_ = BlockRequests(_least(k, r, n), k * n, passes=-(-m // c))
    return BlockRequests(_least(m, c), m * k), filter_, results


def buffer_words(sram_kb: int) -> int:
    """Words that a read buffer of `sram_kb` kB holds."""
    return ACTIVE_SETS * (1024 * sram_kb // 100)


def _fetched(requests: BlockRequests, sram: str, array: SystolicArray) -> Words:
    """Words of an operand fetched from DRAM; `sram` is the field of the array that sizes its buffer."""
    in_a_cycle, block, num_blocks, last, passes = requests
    buffer = _read_buffer(sram, array, in_a_cycle)
    # Full blocks. A block as large as the buffer is fetched in every pass. Otherwise the buffer holds `held` blocks and
    # becomes full during the next one, whose words requested up to then are fetched again.
    fits = block < buffer
    held = np.maximum(-(-buffer // block) - 1, 1)
    interruptions, blocks_since = np.divmod(num_blocks - 1, held)
    fetched_again = interruptions * (buffer - held * block)
    fetched = np.where(fits, num_blocks * block + fetched_again, passes * num_blocks * block)
    # The last, smaller block. The buffer holds `inside` words when it starts, and may become full during it too.
    inside = np.where(fits, (blocks_since + 1) * block, fetched % buffer)
    last_again = np.where(inside + last < buffer, 0, buffer - inside)
    fetched = fetched + np.where(last < buffer, last + last_again, passes * last)
    # A single pass requests no word twice.
    return np.where(passes == 1, num_blocks * block + last, fetched)


def _read_buffer(sram: str, array: SystolicArray, in_a_cycle: Words) -> int:
    """Words that the read buffer of `sram` holds; an error if the array can request more in one cycle."""
    sram_kb: int = getattr(array, sram)
    buffer = min(buffer_words(sram_kb), INT64_MAX)
    if np.any(in_a_cycle > buffer):
        most = int(np.max(in_a_cycle))
        raise InputError(
            f"{sram}: {sram_kb} holds {buffer} words, fewer than the {most} that the array requests in one cycle; "
            f"SCALE-Sim can then fail, so DRAM counts need at least {-(-100 * -(-most // ACTIVE_SETS) // 1024)}"
        )
    return buffer


def _drained(results: Words, array: SystolicArray) -> Words:
    """Words written to DRAM, including the null addresses that SCALE-Sim counts."""
    half = 512 * array.ofmap_sram_kb
    # Null addresses are counted only where two or more whole lines make up half the SRAM, and then in one drain.
    if half % array.cols or half == array.cols:
        return results
    if np.any(results > INT64_MAX - (array.cols - 1)):
        raise CountOverflowError("ofmap_dram_writes: above 2**63 - 1; use smaller dimensions")
    return np.where(results > half + 1, results + (array.cols - 1), results)


def _least(first: Words, *others: Words) -> Words:
    """Elementwise minimum."""
    for other in others:
        first = np.minimum(first, other)
    return first
