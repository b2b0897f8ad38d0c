"""Start and stop cycles of SRAM and DRAM accesses, as in the traces of SCALE-Sim 2.0.2, without writing a trace.

An *access* is one word read from the ifmap or filter SRAM, or one result written to the ofmap SRAM. Accesses of one
memory are numbered from 0, in the order in which SCALE-Sim makes them.

*Folds.* A MatMul is cut into folds that fill the array: `down` folds along its rows, `across` along its columns. They
run one after another, all folds along the rows before the next one along the columns, and all take the same number of
cycles. Within a fold an operand either streams past the array, where each lane (a row or a column) starts one cycle
after the lane before it, or is loaded into the array, one row a cycle. `access_patterns` says which, and when.

*DRAM reads.* `dram.py` describes a read buffer and counts the words fetched. This module finds the cycle of the last
*fill*: a fill is an access at which the buffer is full and is emptied. SCALE-Sim prefetches. Words fetched before the
first fill arrive before the first request, at 10 words a cycle; words fetched after a fill arrive in the cycles up to
that fill. So:

* without a fill, all sets in use, each counted as full, arrive at 10 words a cycle, the last in cycle -1;
* with fills, 50 sets arrive at 10 words a cycle up to the first request, and the last words arrive one cycle after the
  last fill.

If each pass requests every word of its block once, `last_fill` gives the last fill in closed form. This holds for all
filters and for an ifmap whose windows share no word; `windows.py` treats the others.

*DRAM writes.* `dram.py` describes a drain. The first drain starts when the ofmap buffer holds one result more than half
the SRAM, or else after the last cycle. After the last cycle, each line left in the buffer takes one cycle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt
from typing import NamedTuple

from llmamdahl.dram import ACTIVE_SETS, BlockRequests, array_requests, buffer_words
from llmamdahl.hardware import Dataflow, SystolicArray
from llmamdahl.scalesim.simulator import Run


@dataclass(frozen=True, slots=True)
class FoldGrid:
    """The folds of a MatMul. All use `array.rows` rows and `array.cols` columns, except the last along each side."""

    array: SystolicArray
    down: int
    """Number of folds along the rows of the array."""
    across: int
    """Number of folds along its columns."""
    last_rows: int
    """Rows that the last fold along the rows uses."""
    last_cols: int
    """Columns that the last fold along the columns uses."""
    cycles: int
    """Cycles of one fold."""

    def used_rows(self, row: int) -> int:
        """Rows of the array that fold `row` of `down` uses."""
        return self.last_rows if row == self.down - 1 else self.array.rows

    def used_cols(self, col: int) -> int:
        """Columns of the array that fold `col` of `across` uses."""
        return self.last_cols if col == self.across - 1 else self.array.cols

    def start(self, row: int, col: int) -> int:
        """First cycle of a fold."""
        return (col * self.down + row) * self.cycles

    @property
    def last_cycle(self) -> int:
        """Index of the last cycle, which SCALE-Sim reports as the number of cycles."""
        return self.down * self.across * self.cycles - 1


class FoldAccesses(NamedTuple):
    """Accesses of one fold to one memory: each of `lanes` rows or columns accesses `steps` words, one a cycle."""

    first: int
    """Cycle of the first access, counted from the start of the fold, as all cycles here."""
    steps: int
    lanes: int
    skewed: bool = True
    """Whether each lane starts one cycle after the lane before it."""

    @property
    def words(self) -> int:
        """Number of accesses."""
        return self.steps * self.lanes

    def cycle(self, access: int) -> int:
        """Cycle of one access.

        With a skew, the accesses of one cycle form a diagonal of the `steps` x `lanes` rectangle. Diagonals grow by one
        word a cycle up to the shorter side, keep that length, and shrink by one word a cycle.

        >>> [FoldAccesses(10, steps=3, lanes=2).cycle(access) for access in range(6)]
        [10, 11, 11, 12, 12, 13]
        """
        if not self.skewed:
            return self.first + access // self.lanes
        shorter = min(self.steps, self.lanes)
        corner = shorter * (shorter - 1) // 2  # words on the growing diagonals, and on the shrinking ones
        if access < corner:
            return self.first + _diagonal(access)
        if access >= self.words - corner:
            return self.first + self.steps + self.lanes - 2 - _diagonal(self.words - 1 - access)
        return self.first + shorter - 1 + (access - corner) // shorter


def _diagonal(word: int) -> int:
    """Index of the diagonal that holds a word, both counted from a corner: diagonal d holds d + 1 words."""
    return (isqrt(8 * word + 1) - 1) // 2


Pattern = Callable[[int, int], FoldAccesses]
"""Accesses of a fold to one memory, from the rows and columns of the array that the fold uses."""


def fold_grid(run: Run) -> FoldGrid:
    """The folds of a MatMul on an array."""
    (along_rows, along_cols, time), r, c = run.spatial, run.array.rows, run.array.cols
    down, across = -(-along_rows // r), -(-along_cols // c)
    cycles = time + c + (r if run.array.dataflow == Dataflow.OS else 2 * r) - 2
    return FoldGrid(run.array, down, across, along_rows - (down - 1) * r, along_cols - (across - 1) * c, cycles)


def access_patterns(run: Run) -> tuple[Pattern, Pattern, Pattern]:
    """Accesses of a fold to the ifmap, filter and ofmap SRAM: three lines for each dataflow.

    An operand is loaded last row first, so a fold that uses fewer than `r` rows makes no access in its first `r - rows`
    cycles.
    """
    m, n, k, r = run.m, run.n, run.k, run.array.rows
    if run.array.dataflow == Dataflow.OS:
        return (
            lambda rows, cols: FoldAccesses(0, k, rows),
            lambda rows, cols: FoldAccesses(0, k, cols),
            lambda rows, cols: FoldAccesses(k - 1 + r - rows, rows, cols),
        )
    if run.array.dataflow == Dataflow.WS:
        return (
            lambda rows, cols: FoldAccesses(r, m, rows),
            lambda rows, cols: FoldAccesses(r - rows, rows, cols, skewed=False),
            lambda rows, cols: FoldAccesses(2 * r - 1, m, cols),
        )
    return (
        lambda rows, cols: FoldAccesses(r - rows, rows, cols, skewed=False),
        lambda rows, cols: FoldAccesses(r, n, rows),
        lambda rows, cols: FoldAccesses(2 * r - 1, n, cols),
    )


def cycle_of(access: int, pattern: Pattern, grid: FoldGrid) -> int:
    """Cycle of access number `access` to one memory, over all folds."""
    r, c, before_last = grid.array.rows, grid.array.cols, grid.down - 1
    # Find the column of folds. All columns but the last, which makes no more, make the same number of accesses.
    column = before_last * pattern(r, c).words + pattern(grid.last_rows, c).words
    col, access = divmod(access, column)
    # Find the fold in this column, in the same way.
    cols = grid.used_cols(col)
    row, access = divmod(access, pattern(r, cols).words)
    # Find the cycle in this fold.
    return grid.start(row, col) + pattern(grid.used_rows(row), cols).cycle(access)


def last_fill(requests: BlockRequests, buffer: int) -> int:
    """Number of the access, from 0, at which a buffer of `buffer` words becomes full for the last time.

    The buffer must become full at least once.

    >>> last_fill(BlockRequests(1, block=600, passes=2), 500)  # each of the 1200 accesses is a fetch: the 1000th
    999
    >>> last_fill(BlockRequests(1, block=200, passes=2, num_blocks=3), 500)  # first pass over the third: 800 + 100
    899
    """
    _, block, num_blocks, last, passes = map(int, requests)
    before_last = num_blocks * passes * block
    # The last fill in the full blocks (`found`, below 0 if none), and the words in the buffer after them (`inside`).
    if passes == 1 or block >= buffer:
        # Every access is a fetch, so there is a fill at every `buffer`-th one.
        fills, inside = divmod(before_last, buffer)
        found = fills * buffer - 1
    else:
        # Only first passes fetch. The buffer holds `held` blocks, and a fill interrupts the first pass over the next.
        # The second pass over that block fetches again what the fill discarded, so the buffer then holds this block
        # alone, as it did after the very first block: fills are `held` blocks apart.
        held = -(-buffer // block) - 1
        fills, since = divmod(num_blocks - 1, held)
        inside = (since + 1) * block
        found = fills * held * passes * block + buffer - held * block - 1
    # The smaller last block may add fills: in every pass if it is as large as the buffer, else in the first pass alone.
    fetched = passes * last if passes == 1 or last >= buffer else last
    more = (inside + fetched) // buffer
    return before_last + more * buffer - inside - 1 if more else found


def last_fill_cycle(reads: int, requests: BlockRequests, pattern: Pattern, sram_kb: int, grid: FoldGrid) -> int | None:
    """Cycle in which the buffer of an operand becomes full for the last time.

    Parameters
    ----------
    reads
        Words fetched from DRAM. With fewer than the buffer holds, it never becomes full, and the result is None.
    """
    buffer = buffer_words(sram_kb)
    return cycle_of(last_fill(requests, buffer), pattern, grid) if reads >= buffer else None


def read_span(reads: int, filled: int | None, request: int, sram_kb: int) -> tuple[int, int]:
    """First and last cycle in which DRAM sends words of an operand.

    Parameters
    ----------
    reads
        Words fetched from DRAM.
    filled
        Cycle of the last fill, None if there is none.
    request
        Cycle of the first request to SRAM.
    """
    buffer = buffer_words(sram_kb)
    if filled is not None:
        return request - buffer // 10, filled + 1
    in_a_set = buffer // ACTIVE_SETS
    words_of_sets = -(-reads // in_a_set) * in_a_set
    return -words_of_sets // 10, -1


def write_span(run: Run, pattern: Pattern, grid: FoldGrid) -> tuple[int, int]:
    """First and last cycle in which results are written to DRAM; `pattern` is that of the ofmap."""
    results = int(array_requests(run.m, run.n, run.k, run.array)[2])
    half = 512 * run.array.ofmap_sram_kb
    start = cycle_of(half, pattern, grid) if results > half else grid.last_cycle
    # Lines left in the buffer are drained after the last cycle, one a cycle.
    if left := _lines_left(results, half, run.array.cols):
        return start, grid.last_cycle + left - 1
    # Otherwise the last result starts a drain of half the SRAM, and its last line leaves the buffer last.
    return start, cycle_of(results - 1, pattern, grid) - (-half // run.array.cols) - 1


def _lines_left(results: int, half: int, cols: int) -> int:
    """Lines in the ofmap buffer after the last result; `half` is the words in half the SRAM."""
    if results <= half or half % cols:
        # A drain takes all lines in the buffer, which hold half the SRAM and one result more.
        return -(-(results % (half + 1)) // cols)
    if cols == half:
        # Lines of `half` results and lines of one result alternate, and each drain leaves the newest line.
        since = (results - half - 1) % (half + 1)
        return 1 if since == half else 1 + (since > 0)
    # A drain leaves one line.
    return 1 - (-((results - 1) % half) // cols)
