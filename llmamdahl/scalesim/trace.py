"""When the array asks its memories for what, and when DRAM moves: SCALE-Sim 2.0.2's traces without writing them.

*Folds.* A product is cut into folds that fill the array, `down` of them along its rows and `across` along its columns;
they run one after another, those along the rows innermost, and each takes the same number of cycles. Within a fold an
operand either streams past the array, one cycle later in each further lane (a row or a column), or is loaded into it,
one row a cycle. Which it is, and from which cycle of the fold, is the table of `demands`.

*Reads.* A read buffer holds 50 sets of floor(SRAM bytes / 100) words. A word that is not in it is fetched, and when it
is full it is forgotten whole (a *fill*). So fills follow from the order of the accesses alone, and three numbers settle
the rest: words fetched, number of fills, cycle of the last one. SCALE-Sim dates the first fetch before the first
request, at 10 words a cycle, and the words of each later one into the cycles up to the fill before it:

* no fill: the sets in use, each counted as full, arrive at 10 words a cycle up to cycle -1;
* fills: 50 sets arrive at 10 words a cycle up to the first request, and DRAM stops one cycle after the last fill.

An operand of which each pass meets every word once has its last fill in closed form (`last_fill`). So have all filters,
and an ifmap whose windows share no word. Where windows share words, an access is a fetch if the word's last access is
older than the last fill; `replay` takes the order of one pass and goes from fill to fill.

*Writes.* `dram.py` says when results are drained. The first drain is at the result that is one more than half the SRAM,
or else after the last cycle; from there on the lines that are left take one cycle each.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import isqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmamdahl.errors import InputError
from llmamdahl.hardware import Dataflow, SystolicArray
from llmamdahl.scalesim.topology import ConvLayer, Layer

Ints = NDArray[np.int64]
Index = NDArray[np.int32]

MOST_ACCESSES = 2**29
"""Of a pass over an ifmap that is replayed: 2 GB of memory, about a minute."""

MOST_LANES = 2**22
"""Rows or columns of an array that are looked at one by one."""

CHUNK = 2**17
"""Accesses of it at once, so that they stay in a processor's cache."""


@dataclass(frozen=True, slots=True)
class Folds:
    """How a product lies on the array."""

    down: int
    across: int
    rows: int
    """Rows of the array in use, in all folds but the last of each `down`."""
    cols: int
    last_rows: int
    last_cols: int
    cycles: int
    """Of one fold."""

    def used_rows(self, row: int) -> int:
        """Rows of the array that fold `row` of `down` uses."""
        return self.last_rows if row == self.down - 1 else self.rows

    def used_cols(self, col: int) -> int:
        """Columns of the array that fold `col` of `across` uses."""
        return self.last_cols if col == self.across - 1 else self.cols

    def start(self, row: int, col: int) -> int:
        """First cycle of a fold."""
        return (col * self.down + row) * self.cycles

    @property
    def last_cycle(self) -> int:
        """Index of the last cycle, which SCALE-Sim reports as the total."""
        return self.down * self.across * self.cycles - 1


class Demand(NamedTuple):
    """What one fold asks of one memory: `steps` x `lanes` words."""

    first: int
    """Cycle of the fold in which the first word is asked for."""
    steps: int
    lanes: int
    skewed: bool = True
    """Whether each lane is a cycle later than the one before it."""

    @property
    def words(self) -> int:
        """All of them."""
        return self.steps * self.lanes

    def cycle(self, word: int) -> int:
        """Cycle of the fold in which word number `word`, from 0, is asked for.

        With a skew, words of one cycle lie on a diagonal of steps x lanes. Diagonals grow by a word a cycle up to the
        shorter side, stay, and shrink again.

        >>> [Demand(10, steps=3, lanes=2).cycle(word) for word in range(6)]
        [10, 11, 11, 12, 12, 13]
        """
        if not self.skewed:
            return self.first + word // self.lanes
        shorter = min(self.steps, self.lanes)
        corner = shorter * (shorter - 1) // 2
        if word < corner:
            return self.first + _diagonal(word)
        if word >= self.words - corner:
            return self.first + self.steps + self.lanes - 2 - _diagonal(self.words - 1 - word)
        return self.first + shorter - 1 + (word - corner) // shorter


def _diagonal(word: int) -> int:
    """The diagonal that a word lies on, counted from a corner: diagonal d holds d + 1 words."""
    return (isqrt(8 * word + 1) - 1) // 2


Shape = Callable[[int, int], Demand]
"""The demand of a fold that uses so many rows and columns."""


def spatial(layer: Layer, dataflow: Dataflow | str) -> tuple[int, int, int]:
    """Extents along the array's rows, along its columns, and in time (Samajdar et al., ISPASS 2020, Table III)."""
    m, n, k = layer.m, layer.n, layer.k
    return {Dataflow.OS: (m, n, k), Dataflow.WS: (k, n, m), Dataflow.IS: (k, m, n)}[Dataflow(dataflow)]


def folds(layer: Layer, array: SystolicArray) -> Folds:
    """How a layer lies on an array."""
    (along_rows, along_cols, time), r, c = spatial(layer, array.dataflow), array.rows, array.cols
    down, across = -(-along_rows // r), -(-along_cols // c)
    cycles = time + c + (r if array.dataflow == Dataflow.OS else 2 * r) - 2
    return Folds(down, across, r, c, along_rows - (down - 1) * r, along_cols - (across - 1) * c, cycles)


def demands(layer: Layer, array: SystolicArray) -> tuple[Shape, Shape, Shape]:
    """What a fold asks of ifmap, filter and ofmap memory: three lines a dataflow.

    A block that does not fill the rows is loaded last row first, so that its first `r - rows` cycles are empty.
    """
    (m, n, k), r = (layer.m, layer.n, layer.k), array.rows
    if array.dataflow == Dataflow.OS:
        return (
            lambda rows, cols: Demand(0, k, rows),
            lambda rows, cols: Demand(0, k, cols),
            lambda rows, cols: Demand(k - 1 + r - rows, rows, cols),
        )
    if array.dataflow == Dataflow.WS:
        return (
            lambda rows, cols: Demand(r, m, rows),
            lambda rows, cols: Demand(r - rows, rows, cols, skewed=False),
            lambda rows, cols: Demand(2 * r - 1, m, cols),
        )
    return (
        lambda rows, cols: Demand(r - rows, rows, cols, skewed=False),
        lambda rows, cols: Demand(r, n, rows),
        lambda rows, cols: Demand(2 * r - 1, n, cols),
    )


def cycle_of(access: int, shape: Shape, grid: Folds) -> int:
    """The cycle of access number `access`, from 0, of all that the folds ask of one memory."""
    # Folds of a column come one after another, and all columns but the last ask for as many words.
    rest = grid.down - 1
    column = rest * shape(grid.rows, grid.cols).words + shape(grid.last_rows, grid.cols).words
    col = min(access // column, grid.across - 1)
    access -= col * column
    cols = grid.used_cols(col)
    full = shape(grid.rows, cols)
    row = min(access // full.words, rest)
    return grid.start(row, col) + shape(grid.used_rows(row), cols).cycle(access - row * full.words)


class Reading(NamedTuple):
    """An operand as its buffer sees it: blocks of distinct words, each passed over several times before the next."""

    block: int
    passes: int = 1
    num_blocks: int = 1
    last: int = 0
    """Words of a smaller block after the others, if any."""


def readings(layer: Layer, array: SystolicArray, grid: Folds) -> tuple[Reading, Reading]:
    """Ifmap (if its windows share no word) and filter."""
    m, n, k = layer.m, layer.n, layer.k
    if array.dataflow == Dataflow.OS:
        width = min(n, grid.cols)
        return Reading(m * k, grid.across), Reading(k * width, grid.down, n // width, k * (n % width))
    if array.dataflow == Dataflow.WS:
        return Reading(m * k, grid.across), Reading(k * n)
    return Reading(m * k), Reading(k * n, grid.across)


def last_fill(reading: Reading, buffer: int) -> int:
    """Number of the access, from 0, at which a buffer of `buffer` words is full for the last time; it is at least once.

    >>> last_fill(Reading(block=600, passes=2), 500)  # each of the 1200 accesses is a fetch: the 1000th
    999
    >>> last_fill(Reading(block=200, passes=2, num_blocks=3), 500)  # in the first pass over the third: 800 + 100
    899
    """
    block, passes, num_blocks, last = reading
    before = num_blocks * passes * block
    if passes == 1 or block >= buffer:
        # Every access is a fetch.
        fills, inside = divmod(before, buffer)
        found = fills * buffer - 1
    else:
        # A fill within a block has it fetched again in the next pass, so that it is the first block inside, as the
        # very first was: fills are `held` blocks apart, always in a first pass.
        held = -(-buffer // block) - 1
        fills, since = divmod(num_blocks - 1, held)
        inside = (since + 1) * block
        found = fills * held * passes * block + buffer - held * block - 1
    fetched = passes * last if passes == 1 or last >= buffer else last
    more = (inside + fetched) // buffer
    return before + more * buffer - inside - 1 if more else found


def asked_once(layer: Layer) -> bool:
    """Whether each pass over the ifmap meets each of m x k words once: no shared word, no window that sticks out."""
    if not isinstance(layer, ConvLayer):
        return True
    shared = (layer.ofmap_h > 1 and layer.filter_h > layer.stride_h) or (
        layer.ofmap_w > 1 and layer.filter_w > layer.stride_w
    )
    return not shared and not sticks_out(layer)


def sticks_out(layer: ConvLayer) -> bool:
    """Whether the last windows, along the height or the width, stick out of the ifmap (SCALE-Sim's address -1)."""
    return _last_inside(layer) != (layer.filter_h, layer.filter_w)


def _last_inside(layer: ConvLayer) -> tuple[int, int]:
    """Rows of the last window that lie in the ifmap, and columns; all others lie in it whole."""
    down = layer.ifmap_h - layer.stride_h * (layer.ofmap_h - 1)
    right = layer.ifmap_w - layer.stride_w * (layer.ofmap_w - 1)
    return min(max(down, 0), layer.filter_h), min(max(right, 0), layer.filter_w)


def distinct_words(layer: ConvLayer) -> int:
    """Words of the ifmap that are in a window: each window adds what the one before it has not, the last its inside."""
    rows, cols = _last_inside(layer)
    down = (layer.ofmap_h - 1) * min(layer.filter_h, layer.stride_h) + rows
    across = (layer.ofmap_w - 1) * min(layer.filter_w, layer.stride_w) + cols
    return down * across * layer.channels


def last_ifmap_cycle(layer: ConvLayer, array: SystolicArray, grid: Folds) -> int:
    """Cycle of the last access to an ifmap that some windows stick out of."""
    if max(array.rows, array.cols) > MOST_ACCESSES:
        raise InputError(
            f"rows, cols: {array.rows} x {array.cols} is too large for windows that stick out of the ifmap"
        )
    (height, width), r = _last_inside(layer), array.rows
    # The last pixel with a word inside: that of the last window, or of the one before it, along each side.
    pixel = (layer.ofmap_h - 1 - (height == 0)) * layer.ofmap_w + layer.ofmap_w - 1 - (width == 0)
    if array.dataflow == Dataflow.OS:
        # Pixels lie along the rows, and the last word of each that is inside comes last.
        pixels, last_words = _last_words(layer, pixel // r * r, r)
        return grid.start(pixel // r, grid.across - 1) + int((pixels % r + last_words).max())
    if array.dataflow == Dataflow.WS:
        # Words lie along the rows, and pixels follow one another: of each word the last that it is inside for.
        words = np.arange((grid.down - 1) * r, layer.k)
        down, right = words // (layer.filter_w * layer.channels), words // layer.channels % layer.filter_w
        last_pixels = (layer.ofmap_h - 1 - (down >= height)) * layer.ofmap_w + layer.ofmap_w - 1 - (right >= width)
        return grid.start(grid.down - 1, grid.across - 1) + r + int((last_pixels + words % r).max())
    # Pixels lie along the columns and words along the rows, which are loaded from the last on: of the last fold that
    # a word is inside in the first such word.
    col = pixel // array.cols
    pixels, last_words = _last_words(layer, col * array.cols, array.cols)
    row = int(last_words.max()) // r
    words = np.arange(row * r, min((row + 1) * r, layer.k))
    down, right = words // (layer.filter_w * layer.channels), words // layer.channels % layer.filter_w
    used = np.zeros(len(words), dtype=bool)
    for tall, wide in {*zip(*(side.tolist() for side in _inside(layer, pixels)), strict=True)}:
        used |= (down < tall) & (right < wide)
    return grid.start(row, col) + r - 1 - int(np.argmax(used))


def _inside(layer: ConvLayer, pixels: Ints) -> tuple[Ints, Ints]:
    """Rows and columns of these windows that lie in the ifmap."""
    row, col = np.divmod(pixels, layer.ofmap_w)
    down, right = layer.ifmap_h - layer.stride_h * row, layer.ifmap_w - layer.stride_w * col
    return np.clip(down, 0, layer.filter_h), np.clip(right, 0, layer.filter_w)


def _last_words(layer: ConvLayer, first: int, number: int) -> tuple[Ints, Ints]:
    """Of so many pixels from `first` on, those with a word inside the ifmap, and of each the last such word."""
    pixels = np.arange(first, min(first + number, layer.m))
    tall, wide = _inside(layer, pixels)
    any_inside = (tall > 0) & (wide > 0)
    last_words = ((tall - 1) * layer.filter_w + wide) * layer.channels - 1
    return pixels[any_inside], last_words[any_inside]


class Windows(NamedTuple):
    """Where the windows of a layer lie in its ifmap: by pixel of the output, and by word of a window."""

    top: Ints
    left: Ints
    corner: Ints
    """Address of the first word of a window: rows, columns, then channels of the ifmap."""
    down: Ints
    right: Ints
    within: Ints
    """Address of a word, less that of the first."""


def _windows(layer: ConvLayer) -> Windows:
    row, col = np.divmod(np.arange(layer.m), layer.ofmap_w)
    top, left = row * layer.stride_h, col * layer.stride_w
    down, rest = np.divmod(np.arange(layer.k), layer.filter_w * layer.channels)
    corner = (top * layer.ifmap_w + left) * layer.channels
    return Windows(top, left, corner, down, rest // layer.channels, down * layer.ifmap_w * layer.channels + rest)


class Chunk(NamedTuple):
    """Some accesses of a pass that come one after another.

    A pass is made of units: a fold after another, where pixels or words lie along the rows and the ifmap streams past
    the array; where it is loaded into it (IS), a column of folds after another.
    """

    units: Ints
    """Their numbers; several that are whole, or one."""
    demand: Demand
    """Of a unit."""
    begin: int
    """Cycles with an access, within a unit."""
    end: int


def _chunks(layer: ConvLayer, array: SystolicArray, grid: Folds) -> Iterator[Chunk]:
    """The first pass over an ifmap in chunks of about `CHUNK` accesses."""
    number, lanes, last = grid.down, grid.rows, grid.last_rows
    steps, skewed = layer.m if array.dataflow == Dataflow.WS else layer.k, array.dataflow != Dataflow.IS
    if not skewed:
        number, lanes, last = grid.across, grid.cols, grid.last_cols
    for first, stop, used in ((0, number - 1, lanes), (number - 1, number, last)):
        demand = Demand(0, steps, used, skewed)
        cycles = steps + (used - 1) * skewed
        together, at_once = max(CHUNK // demand.words, 1), max(CHUNK // used, 1)
        for unit in range(first, stop, together):
            for begin in range(0, cycles, at_once):
                units = np.arange(unit, min(unit + together, stop))
                yield Chunk(units, demand, begin, min(begin + at_once, cycles))


def _accesses(chunk: Chunk, layer: ConvLayer, windows: Windows, array: SystolicArray, grid: Folds) -> tuple[Ints, Ints]:
    """Address and cycle of each access of a chunk, in their order; null addresses are left out."""
    demand, units = chunk.demand, chunk.units[:, None]
    # In the order of one unit: by cycle, and within a cycle by lane.
    cycle, lane = np.divmod(np.arange(chunk.begin * demand.lanes, chunk.end * demand.lanes), np.int64(demand.lanes))
    step = cycle - lane * demand.skewed
    active = (step >= 0) & (step < demand.steps)
    cycle, step, lane = cycle[active], step[active], lane[active]
    if array.dataflow == Dataflow.OS:
        pixels, words, cycles = units * array.rows + lane, step, units * grid.cycles + cycle
    elif array.dataflow == Dataflow.WS:
        pixels, words, cycles = step, units * array.rows + lane, units * grid.cycles + array.rows + cycle
    else:
        # Each fold of the column is loaded from its last word on, and done when `rows` cycles are over.
        fold, before = np.divmod(step, np.int64(array.rows))
        used = np.minimum(layer.k - fold * array.rows, array.rows)
        pixels, words = units * array.cols + lane, fold * array.rows + used - 1 - before
        cycles = (units * grid.down + fold) * grid.cycles + array.rows - used + before
    addresses = windows.corner[pixels] + windows.within[words]
    if not sticks_out(layer):
        return addresses.ravel(), cycles.ravel()
    below = windows.top[pixels] + windows.down[words] < layer.ifmap_h
    inside = below & (windows.left[pixels] + windows.right[words] < layer.ifmap_w)
    return addresses[inside], cycles[inside]


def previous_accesses(chunks: Iterable[Ints], size: int) -> Index:
    """Of each access the number of the one before it to the same address; below 0 in the pass before.

    Parameters
    ----------
    chunks
        Addresses below `size`, in the order of a pass.

    >>> previous_accesses([np.array([0, 1, 1]), np.array([2, 0, 3])], size=4).tolist()
    [-2, -4, 1, -3, 0, -1]
    """
    first, last = np.full((2, size), -1, dtype=np.int32)
    found, start = [], 0
    for addresses in chunks:
        # Sorted by address and then by access, so that neighbours are what is looked for.
        bits = len(addresses).bit_length()
        keys = np.sort((addresses << bits) | np.arange(len(addresses)))
        access, address = keys & ((1 << bits) - 1), keys >> bits
        opens = np.diff(address, prepend=-1) > 0
        before = np.empty(len(keys), dtype=np.int32)
        before[access[1:]] = access[:-1] + start
        before[access[opens]] = last[address[opens]]
        new = opens & (last[address] < 0)
        first[address[new]] = access[new] + start
        closes = np.diff(address, append=-1) != 0
        last[address[closes]] = access[closes] + start
        found.append(before)
        start += len(keys)
    joined = np.concatenate(found)
    joined[first[first >= 0]] = last[first >= 0] - start
    return joined


def replay(before: Index, passes: int, buffer: int) -> tuple[int, int]:
    """Words fetched in so many passes, and the number of the access of the last fill, from 0.

    `before` is of `previous_accesses`. The buffer holds `buffer` words, no more than there are distinct addresses, so
    that it is full at least once. What follows a fill depends only on where in a pass it comes, so fills repeat once
    one comes where another came before.

    >>> before = previous_accesses([np.array([0, 1, 1, 2, 0, 3])], size=4)
    >>> replay(before, passes=2, buffer=3)  # full at accesses 3, 7 and 10
    (10, 10)
    """
    total = passes * len(before)
    start = fills = 0
    seen: dict[int, tuple[int, int]] = {}
    while (end := start + _until_full(before, start % len(before), buffer)) <= total:
        start, fills = end, fills + 1
        place = start % len(before)
        if place in seen:
            # Skip as many rounds of the fills in between as fit.
            then, fills_then = seen[place]
            rounds = (total - start) // (start - then)
            start, fills = start + rounds * (start - then), fills + rounds * (fills - fills_then)
        seen[place] = start, fills
    return fills * buffer + _fetched(before, start % len(before), total - start), start - 1


def _until_full(before: Index, start: int, buffer: int) -> int:
    """Number of accesses from `start` on, after which `buffer` distinct words have been asked for."""
    missing, place = buffer, start
    while True:
        offset, at = place - place % len(before), place % len(before)
        part = before[at : at + max(2 * missing, 4096)]
        new = part < start - offset
        count = int(np.count_nonzero(new))
        if count >= missing:
            return place + int(np.flatnonzero(new)[missing - 1]) + 1 - start
        missing, place = missing - count, place + len(part)


def _fetched(before: Index, start: int, number: int) -> int:
    """Distinct words among so many accesses from `start` on, less than a pass."""
    now = np.count_nonzero(before[start : start + number] < start)
    over = max(start + number - len(before), 0)
    return int(now + np.count_nonzero(before[:over] < start - len(before)))


def buffer_words(sram_kb: int) -> int:
    """What a read buffer holds: 50 of its 100 sets."""
    return 50 * (1024 * sram_kb // 100)


def last_fill_cycle(reads: int, reading: Reading, shape: Shape, sram_kb: int, grid: Folds) -> int | None:
    """Cycle at which the buffer of an operand is full for the last time; None if it never is."""
    buffer = buffer_words(sram_kb)
    return cycle_of(last_fill(reading, buffer), shape, grid) if reads >= buffer else None


def conv_fetches(layer: ConvLayer, array: SystolicArray, grid: Folds) -> tuple[int, int | None]:
    """Words of an ifmap fetched from DRAM, whatever its windows share, and the cycle of the last fill (or None)."""
    buffer, words = buffer_words(array.ifmap_sram_kb), distinct_words(layer)
    if words < buffer:
        return words, None
    size = layer.ifmap_h * layer.ifmap_w * layer.channels
    if max(layer.m * layer.k, size) > MOST_ACCESSES:
        problem = f"windows of {layer.m * layer.k} words in all share words of an ifmap of {size}"
        most = f"more than {MOST_ACCESSES} are too many to replay"
        enough = -(-100 * (words // 50 + 1) // 1024)
        raise InputError(f"{problem}; {most}; with ifmap_sram_kb >= {enough} the ifmap stays in its buffer")
    chunks, windows, starts = list(_chunks(layer, array, grid)), _windows(layer), [0]

    def addresses() -> Iterator[Ints]:
        for chunk in chunks:
            found, _ = _accesses(chunk, layer, windows, array, grid)
            starts.append(starts[-1] + len(found))
            yield found

    before = previous_accesses(addresses(), size)
    # A pass over the columns of the array takes the same accesses again; IS has a single one.
    reads, access = replay(before, 1 if array.dataflow == Dataflow.IS else grid.across, buffer)
    # The last fill is so far into the pass that it came in: look up its chunk, and there its cycle.
    passed, place = divmod(access, len(before))
    number = bisect_right(starts, place) - 1
    _, cycles = _accesses(chunks[number], layer, windows, array, grid)
    return reads, grid.start(0, passed) + int(cycles[place - starts[number]])


def read_span(reads: int, filled: int | None, request: int, sram_kb: int) -> tuple[int, int]:
    """First and last cycle in which words of an operand arrive, first asked for in cycle `request`."""
    if filled is not None:
        return request - buffer_words(sram_kb) // 10, filled + 1
    in_a_set = 1024 * sram_kb // 100
    words_of_sets = -(-reads // in_a_set) * in_a_set
    return -words_of_sets // 10, -1


def write_span(layer: Layer, array: SystolicArray, grid: Folds) -> tuple[int, int]:
    """First and last cycle in which results are written to DRAM."""
    shape, half = demands(layer, array)[2], 512 * array.ofmap_sram_kb
    results = layer.m * layer.n * (1 if array.dataflow == Dataflow.OS else grid.down)
    left = _lines_left(results, array)
    start = cycle_of(half, shape, grid) if results > half else grid.last_cycle
    if left:
        return start, grid.last_cycle + left - 1
    return start, cycle_of(results - 1, shape, grid) - (-half // array.cols) - 1


def _lines_left(results: int, array: SystolicArray) -> int:
    """Lines that are still in the ofmap buffer when the last result is."""
    half, cols = 512 * array.ofmap_sram_kb, array.cols
    if results <= half or half % cols:
        # A drain takes all that is there, one result more than half the SRAM.
        return -(-(results % (half + 1)) // cols)
    if cols == half:
        # Lines of `half` results and lines of one take turns, and each drain leaves the one before.
        since = (results - half - 1) % (half + 1)
        return 1 if since == half else 1 + (since > 0)
    # A drain leaves one line.
    return 1 - (-((results - 1) % half) // cols)
