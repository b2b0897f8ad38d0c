"""The ifmap of a convolution whose windows overlap or extend past its edge: words fetched, and cycles of accesses.

A *window* is the part of the ifmap under the filter for one output pixel. By im2col, row `pixel` of the `m x k` operand
holds the `k` words of a window, so a word that several windows share is requested several times in a pass. Whether a
request is a fetch then depends on the order of the accesses: a word is fetched if its previous access came before the
last *fill* (`trace.py`). `replay` takes the order of one pass and steps from fill to fill.

SCALE-Sim rounds the size of the output up, so the last windows can extend past the ifmap. It gives the words outside
the null address -1: they count as SRAM reads, but have no cycle and are not fetched.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmamdahl.dram import ACTIVE_SETS, buffer_words
from llmamdahl.errors import InputError
from llmamdahl.hardware import Dataflow
from llmamdahl.scalesim.topology import ConvLayer
from llmamdahl.scalesim.trace import FoldAccesses, FoldGrid

Ints = NDArray[np.int64]
Index = NDArray[np.int32]

MAX_ACCESSES = 2**29
"""Accesses of the longest pass that is replayed, which takes 2 GB of memory and about a minute."""

CHUNK = 2**17
"""Accesses computed at a time, few enough to stay in a processor's cache."""


def requested_once(layer: ConvLayer) -> bool:
    """Whether a pass over the ifmap requests `m x k` distinct words: no window overlaps another or the edge."""
    overlap = (layer.ofmap_h > 1 and layer.filter_h > layer.stride_h) or (
        layer.ofmap_w > 1 and layer.filter_w > layer.stride_w
    )
    return not overlap and not past_edge(layer)


def past_edge(layer: ConvLayer) -> bool:
    """Whether the last windows, along the height or the width, extend past the edge of the ifmap."""
    return _last_inside(layer) != (layer.filter_h, layer.filter_w)


def _last_inside(layer: ConvLayer) -> tuple[int, int]:
    """Rows and columns of the last window that lie in the ifmap. All windows but the last lie in it entirely."""
    down = layer.ifmap_h - layer.stride_h * (layer.ofmap_h - 1)
    right = layer.ifmap_w - layer.stride_w * (layer.ofmap_w - 1)
    return min(max(down, 0), layer.filter_h), min(max(right, 0), layer.filter_w)


def distinct_words(layer: ConvLayer) -> int:
    """Words of the ifmap that lie in at least one window."""
    # Along each side, every window but the last adds as much as it does not share with the next one.
    rows, cols = _last_inside(layer)
    down = (layer.ofmap_h - 1) * min(layer.filter_h, layer.stride_h) + rows
    across = (layer.ofmap_w - 1) * min(layer.filter_w, layer.stride_w) + cols
    return down * across * layer.channels


def last_ifmap_cycle(layer: ConvLayer, grid: FoldGrid) -> int:
    """Cycle of the last access to the ifmap that has an address, where windows extend past its edge."""
    array, r = grid.array, grid.array.rows
    if max(array.rows, array.cols) > MAX_ACCESSES:
        raise InputError(
            f"rows, cols: {array.rows} x {array.cols} is too large for a layer whose windows extend past the ifmap; "
            f"use at most {MAX_ACCESSES} of each"
        )
    height, width = _last_inside(layer)
    # The last pixel with a word inside: the last window along each side, or the one before it if the last lies outside.
    pixel = (layer.ofmap_h - 1 - (height == 0)) * layer.ofmap_w + layer.ofmap_w - 1 - (width == 0)
    if array.dataflow == Dataflow.OS:
        # Each row of the array takes a pixel, and a window streams word by word. In the fold of that last pixel, find
        # the row that ends last; its cycle is the row (the skew) plus the word.
        pixels, last_words = _last_words(layer, pixel // r * r, r)
        return grid.start(pixel // r, grid.across - 1) + int((pixels % r + last_words).max())
    if array.dataflow == Dataflow.WS:
        # Each row of the array takes a word of the window, and pixels stream after `r` cycles of loading. In the last
        # fold, find the last pixel for which each word is inside, and the row that ends last.
        words = np.arange((grid.down - 1) * r, layer.k)
        down, right = _place(layer, words)
        last_pixels = (layer.ofmap_h - 1 - (down >= height)) * layer.ofmap_w + layer.ofmap_w - 1 - (right >= width)
        return grid.start(grid.down - 1, grid.across - 1) + r + int((last_pixels + words % r).max())
    # Each column of the array takes a pixel and each row a word, and rows are loaded from the last to the first. In the
    # column of folds of that last pixel, find the last fold with a word inside.
    col = pixel // array.cols
    pixels, last_words = _last_words(layer, col * array.cols, array.cols)
    row = int(last_words.max()) // r
    words = np.arange(row * r, min((row + 1) * r, layer.k))
    # Find the first word of this fold that is inside for any pixel: it is loaded last. Few windows differ in size.
    down, right = _place(layer, words)
    used = np.zeros(len(words), dtype=bool)
    for tall, wide in {*zip(*(side.tolist() for side in _inside(layer, pixels)), strict=True)}:
        used |= (down < tall) & (right < wide)
    return grid.start(row, col) + r - 1 - int(np.argmax(used))


def _place(layer: ConvLayer, words: Ints) -> tuple[Ints, Ints]:
    """Row and column within the window, for words numbered by row, column, then channel."""
    return words // (layer.filter_w * layer.channels), words // layer.channels % layer.filter_w


def _inside(layer: ConvLayer, pixels: Ints) -> tuple[Ints, Ints]:
    """Rows and columns of the windows of these output pixels that lie in the ifmap."""
    row, col = np.divmod(pixels, layer.ofmap_w)
    down, right = layer.ifmap_h - layer.stride_h * row, layer.ifmap_w - layer.stride_w * col
    return np.clip(down, 0, layer.filter_h), np.clip(right, 0, layer.filter_w)


def _last_words(layer: ConvLayer, first: int, number: int) -> tuple[Ints, Ints]:
    """Pixels with a word inside the ifmap, among `number` pixels from `first` on, and the last such word of each."""
    pixels = np.arange(first, min(first + number, layer.m))
    tall, wide = _inside(layer, pixels)
    any_inside = (tall > 0) & (wide > 0)
    last_words = ((tall - 1) * layer.filter_w + wide) * layer.channels - 1
    return pixels[any_inside], last_words[any_inside]


class Windows(NamedTuple):
    """Place of the windows in the ifmap, whose addresses run over rows, columns, then channels."""

    top: Ints
    """Ifmap row of the first word of a window, for each output pixel."""
    left: Ints
    """Ifmap column of this word."""
    corner: Ints
    """Address of this word."""
    down: Ints
    """Row within the window, for each of its words."""
    right: Ints
    """Column within the window."""
    within: Ints
    """Address relative to the first word of the window."""


def _windows(layer: ConvLayer) -> Windows:
    row, col = np.divmod(np.arange(layer.m), layer.ofmap_w)
    top, left = row * layer.stride_h, col * layer.stride_w
    corner = (top * layer.ifmap_w + left) * layer.channels
    words = np.arange(layer.k)
    down, right = _place(layer, words)
    within = (down * layer.ifmap_w + right) * layer.channels + words % layer.channels
    return Windows(top, left, corner, down, right, within)


class Chunk(NamedTuple):
    """Consecutive accesses of a pass: whole units, or part of one.

    A unit is one fold where the ifmap streams past the array (OS, WS), and one column of folds where it is loaded into
    the array (IS).
    """

    units: Ints
    """Numbers of the units."""
    accesses: FoldAccesses
    """Accesses of a unit, in cycles that leave out those without an access."""
    begin: int
    """First cycle of a unit that belongs to the chunk."""
    end: int
    """Cycle after the last one."""


def _chunks(layer: ConvLayer, grid: FoldGrid) -> Iterator[Chunk]:
    """The first pass over an ifmap, in chunks of about `CHUNK` accesses."""
    dataflow = grid.array.dataflow
    number, lanes, last = grid.down, grid.array.rows, grid.last_rows
    steps, skewed = layer.m if dataflow == Dataflow.WS else layer.k, dataflow != Dataflow.IS
    if dataflow == Dataflow.IS:
        number, lanes, last = grid.across, grid.array.cols, grid.last_cols
    # All units but the last use as many lanes as there are, so several of them can share a chunk.
    for first, stop, used in ((0, number - 1, lanes), (number - 1, number, last)):
        accesses = FoldAccesses(0, steps, used, skewed)
        cycles = steps + (used - 1) * skewed
        units_at_once, cycles_at_once = max(CHUNK // accesses.words, 1), max(CHUNK // used, 1)
        for unit in range(first, stop, units_at_once):
            for begin in range(0, cycles, cycles_at_once):
                units = np.arange(unit, min(unit + units_at_once, stop))
                yield Chunk(units, accesses, begin, min(begin + cycles_at_once, cycles))


def _accesses(chunk: Chunk, layer: ConvLayer, windows: Windows, grid: FoldGrid) -> tuple[Ints, Ints]:
    """Address and cycle of each access of a chunk, in order, without null addresses."""
    array, units = grid.array, chunk.units[:, None]
    _, steps, lanes, skewed = chunk.accesses
    # The order within a unit: by cycle, and by lane within a cycle. The skew leaves lanes idle at both ends.
    cycle, lane = np.divmod(np.arange(chunk.begin * lanes, chunk.end * lanes), np.int64(lanes))
    step = cycle - lane * skewed
    active = (step >= 0) & (step < steps)
    cycle, step, lane = cycle[active], step[active], lane[active]
    # The output pixel and the word of its window, and the cycle counted from the start of the layer.
    if array.dataflow == Dataflow.OS:
        pixels, words, cycles = units * array.rows + lane, step, units * grid.cycles + cycle
    elif array.dataflow == Dataflow.WS:
        pixels, words, cycles = step, units * array.rows + lane, units * grid.cycles + array.rows + cycle
    else:
        # A fold of the column is loaded from its last word to its first, in the last cycles of the first `rows`.
        fold, before = np.divmod(step, np.int64(array.rows))
        used = np.minimum(layer.k - fold * array.rows, array.rows)
        pixels, words = units * array.cols + lane, fold * array.rows + used - 1 - before
        cycles = (units * grid.down + fold) * grid.cycles + array.rows - used + before
    addresses = windows.corner[pixels] + windows.within[words]
    if not past_edge(layer):
        return addresses.ravel(), cycles.ravel()
    above_bottom = windows.top[pixels] + windows.down[words] < layer.ifmap_h
    inside = above_bottom & (windows.left[pixels] + windows.right[words] < layer.ifmap_w)
    return addresses[inside], cycles[inside]


def previous_accesses(chunks: Iterable[Ints], size: int) -> Index:
    """For each access of a pass, the number of the previous access to the same address.

    Parameters
    ----------
    chunks
        Addresses below `size`, in the order of the pass.

    Returns
    -------
    array of int32
        Numbers from 0 in this pass, or below 0 in an equal pass before it, where -1 is its last access.

    >>> previous_accesses([np.array([0, 1, 1]), np.array([2, 0, 3])], size=4).tolist()
    [-2, -4, 1, -3, 0, -1]
    """
    first, last = np.full((2, size), -1, dtype=np.int32)  # accesses to each address so far
    found, start = [], 0
    for addresses in chunks:
        # Sort by address, then by access, so that accesses to one address are neighbours. One integer holds both keys.
        bits = len(addresses).bit_length()
        keys = np.sort((addresses << bits) | np.arange(len(addresses)))
        access, address = keys & ((1 << bits) - 1), keys >> bits
        # The previous access is the left neighbour, or that of an earlier chunk for the first of an address.
        opens = np.diff(address, prepend=-1) > 0
        before = np.empty(len(keys), dtype=np.int32)
        before[access[1:]] = access[:-1] + start
        before[access[opens]] = last[address[opens]]
        # Record the first access to each address in the pass, and the last one so far.
        new = opens & (last[address] < 0)
        first[address[new]] = access[new] + start
        closes = np.diff(address, append=-1) != 0
        last[address[closes]] = access[closes] + start
        found.append(before)
        start += len(keys)
    # The first access to an address in a pass follows the last one in the pass before.
    joined = np.concatenate(found)
    joined[first[first >= 0]] = last[first >= 0] - start
    return joined


def replay(before: Index, passes: int, buffer: int) -> tuple[int, int]:
    """Fetches of an operand whose passes are all equal.

    Parameters
    ----------
    before
        The `previous_accesses` of one pass.
    passes
        Number of passes.
    buffer
        Words that the buffer holds; at most as many as there are distinct addresses, so there is at least one fill.

    Returns
    -------
    int, int
        Words fetched, and the number of the access of the last fill, from 0.

    >>> before = previous_accesses([np.array([0, 1, 1, 2, 0, 3])], size=4)
    >>> replay(before, passes=2, buffer=3)  # full at accesses 3, 7 and 10
    (10, 10)
    """
    total = passes * len(before)
    start = fills = 0
    seen: dict[int, tuple[int, int]] = {}
    # Step from fill to fill: the buffer is empty at access `start`.
    while (end := start + _until_full(before, start % len(before), buffer)) <= total:
        start, fills = end, fills + 1
        # The next fills depend only on the place of this one in its pass. If an earlier fill was at the same place, the
        # fills since then form a cycle: skip as many whole cycles as fit into the passes.
        place = start % len(before)
        if place in seen:
            then, fills_then = seen[place]
            rounds = (total - start) // (start - then)
            start, fills = start + rounds * (start - then), fills + rounds * (fills - fills_then)
        seen[place] = start, fills
    # What follows the last fill is less than a pass, since a pass would fill the buffer again. Of it, an access is a
    # fetch if the previous one to its word came before the buffer was empty.
    place = start % len(before)
    return fills * buffer + int(np.count_nonzero(before[place : place + total - start] < place)), start - 1


def _until_full(before: Index, start: int, buffer: int) -> int:
    """Number of accesses after which an empty buffer is full, if the first is access `start` of a pass."""
    missing, place = buffer, start
    while True:
        # Look at enough accesses to fill the buffer if every second one is a fetch, up to the end of the pass.
        offset, at = place - place % len(before), place % len(before)
        part = before[at : at + max(2 * missing, 4096)]
        # An access is a fetch if the previous one to its word came before the buffer was empty.
        new = part < start - offset
        count = int(np.count_nonzero(new))
        if count >= missing:
            return place + int(np.flatnonzero(new)[missing - 1]) + 1 - start
        missing, place = missing - count, place + len(part)


def conv_fetches(layer: ConvLayer, grid: FoldGrid) -> tuple[int, int | None]:
    """Words of an ifmap fetched from DRAM, whatever its windows share, and the cycle of the last fill.

    Returns
    -------
    int, int or None
        None if the buffer never becomes full.

    Raises
    ------
    InputError
        The buffer becomes full, and a pass has more than `MAX_ACCESSES` accesses.
    """
    array = grid.array
    buffer, words = buffer_words(array.ifmap_sram_kb), distinct_words(layer)
    if words < buffer:
        return words, None
    size = layer.ifmap_h * layer.ifmap_w * layer.channels
    if max(layer.m * layer.k, size) > MAX_ACCESSES:
        enough = -(-100 * (words // ACTIVE_SETS + 1) // 1024)
        raise InputError(
            f"overlapping windows of {layer.m * layer.k} words in total, in an ifmap of {size}: more than "
            f"{MAX_ACCESSES} are too many to replay; with ifmap_sram_kb >= {enough} the ifmap stays in its buffer"
        )
    chunks, windows, starts = list(_chunks(layer, grid)), _windows(layer), [0]

    def addresses() -> Iterator[Ints]:
        for chunk in chunks:
            found, _ = _accesses(chunk, layer, windows, grid)
            starts.append(starts[-1] + len(found))
            yield found

    before = previous_accesses(addresses(), size)
    # IS makes a single pass. The others make an equal pass for each column of folds.
    reads, access = replay(before, 1 if array.dataflow == Dataflow.IS else grid.across, buffer)
    # Find the cycle of the last fill: its pass, the chunk in this pass, and the access in this chunk.
    passed, place = divmod(access, len(before))
    number = bisect_right(starts, place) - 1
    _, cycles = _accesses(chunks[number], layer, windows, grid)
    return reads, grid.start(0, passed) + int(cycles[place - starts[number]])
