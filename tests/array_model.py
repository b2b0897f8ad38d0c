"""Systolic arrays register by register, which multiply integers and count cycles: what `gemm_cost` is held to.

Every PE reads what its neighbours held at the end of the last cycle, and all registers are written at once at the end
of this one. A word that comes to a register which still holds another one is a clash, so an interval that is too short
for the hardware shows.

- Output stationary: activations move right and weights down, one PE a cycle; each PE accumulates one result. With its
  last product a result enters a chain that runs down the column beside the accumulators, two registers a PE. At this
  speed the results of a column leave it one a cycle, the lowest row first, although the upper rows end first.
- Weight stationary: weights come in from the top, row by row, through a second ("shadow") weight register of each PE,
  and stay there until the first activations of their fold come from the left; then they are put to use, and the shadow
  register is free for the next fold. Partial sums move down and leave at the bottom.
- Input stationary: the same array with the operands exchanged, and so the product transposed.

Folds that do not fill the array are charged as SCALE-Sim charges them: the fill and the drain cross all of it, and
columns not in use multiply zeros. Rows not in use have no result to drain and get no weight.
"""

from dataclasses import replace

import numpy as np

WORD = np.dtype([("full", bool), ("value", np.int64), ("mark", np.int64)])
"""What a register or a wire holds. `mark` is the control that travels with the value, as each dataflow says."""


class ClashError(Exception):
    """Two words come together in one register, or a weight is needed before it is there."""


def multiply(a, b, array, interval=None, *, drain=True):
    """The product of `a` (m x k) and `b` (k x n), and the cycles until the last of its results has left the array.

    Folds start every `interval` cycles; None: each one starts when the results of the last one have left. Partial sums
    of folds along k are added outside the array. Without `drain`, results of output stationary leave from their PE,
    each in the cycle of its last product, and rows not in use multiply zeros too.
    """
    if array.dataflow == "is":
        product, cycles = multiply(b.T, a.T, replace(array, dataflow="ws"), interval)
        return product.T, cycles
    across_rows = a.shape[0] if array.dataflow == "os" else a.shape[1]
    folds = [(rows, cols) for rows in _slices(across_rows, array.rows) for cols in _slices(b.shape[1], array.cols)]
    product, cycles = np.zeros((a.shape[0], b.shape[1]), np.int64), 0
    for batch in [folds] if interval else [[fold] for fold in folds]:
        if array.dataflow == "os":
            places = batch
            tiles = [
                (_padded(a[rows], 0 if drain else array.rows), _padded(b[:, cols].T, array.cols).T)
                for rows, cols in batch
            ]
            results, taken = _output_stationary(tiles, array.rows, interval or 0, drain)
        else:
            places = [(slice(None), cols) for _, cols in batch]
            tiles = [(a[:, rows], _padded(b[rows, cols].T, array.cols).T) for rows, cols in batch]
            results, taken = _weight_stationary(tiles, array.rows, interval or 0)
        cycles += taken
        for place, result in zip(places, results, strict=True):
            part = product[place]
            part += result[: part.shape[0], : part.shape[1]]
    return product, cycles


def _output_stationary(tiles, rows, interval, drain):
    k, cols = tiles[0][1].shape
    cycles = (len(tiles) - 1) * interval + k + 2 * rows + cols
    left, top = np.zeros((cycles, rows), WORD), np.zeros((cycles, cols), WORD)
    for fold, (a, b) in enumerate(tiles):
        # Row i and column j come i and j cycles late; the last word of a row is marked with the fold it ends, from 1.
        for i, row in enumerate(a):
            _feed(left, fold * interval + i, i, row, [0] * (k - 1) + [fold + 1])
        for j, column in enumerate(b.T):
            _feed(top, fold * interval + j, j, column)

    results = [np.zeros((len(a), cols), np.int64) for a, _ in tiles]
    inside = sum(result.size for result in results)
    across, down, upper, lower = (np.zeros((rows, cols), WORD) for _ in range(4))
    sums = np.zeros((rows, cols), np.int64)
    nothing = np.zeros(cols, WORD)
    row_of = np.arange(rows)[:, None]
    for cycle in range(cycles):
        across, down = _right(left[cycle], across), _down(top[cycle], down)
        sums = sums + across["value"] * down["value"]
        # A result takes its fold and its row along, and the accumulator starts anew.
        done = across["mark"] > 0
        ended = _words(done, sums, (across["mark"] - 1) * rows + row_of)
        sums[done] = 0
        if drain:
            upper, lower = _merge(_down(nothing, lower), ended), upper
            leaving = lower[-1]
        else:
            leaving = ended
        for place in zip(*np.nonzero(leaving["full"]), strict=True):
            fold, i = divmod(int(leaving["mark"][place]), rows)
            results[fold][i, place[-1]] = leaving["value"][place]
            inside -= 1
        if not inside:
            return results, cycle + 1
    raise AssertionError(f"{inside} results have not left")


def _weight_stationary(tiles, rows, interval):
    m, cols = len(tiles[0][0]), tiles[0][1].shape[1]
    cycles = (len(tiles) - 1) * interval + m + 2 * rows + cols
    left, top = np.zeros((cycles, rows), WORD), np.zeros((cycles, cols), WORD)
    for fold, (a, b) in enumerate(tiles):
        # The weight of the lowest row comes first; it is marked with the rows that it still has to go down.
        first = fold * interval + rows - len(b)
        for j, column in enumerate(b.T):
            _feed(top, first + j, j, column[::-1], np.arange(len(b))[::-1])
        # Activations come when the first of these columns is loaded; the first of a row puts the weights to use.
        for i, column in enumerate(a.T):
            _feed(left, fold * interval + rows + i, i, column, [1] + [0] * (m - 1))

    out = [[] for _ in range(cols)]
    inside = len(tiles) * m * cols
    across, shadow, sums = (np.zeros((rows, cols), WORD) for _ in range(3))
    weights = np.zeros((rows, cols), np.int64)
    nothing = np.zeros(cols, WORD)
    for cycle in range(cycles):
        across = _right(left[cycle], across)
        use = across["full"] & (across["mark"] == 1)
        moving = shadow["full"] & (shadow["mark"] > 0)
        if (use & (moving | ~shadow["full"])).any():
            raise ClashError("activations come before their weights")
        weights = np.where(use, shadow["value"], weights)
        # Weights on their way go down one row; those in place stay until they are put to use.
        passing = _words(moving, shadow["value"], shadow["mark"] - 1)
        staying = _words(shadow["full"] & ~moving & ~use, shadow["value"], 0)
        shadow = _merge(_down(top[cycle], passing), staying)
        # Row 0 is always in use, so the partial sums that start there are those that count.
        above = _down(nothing, sums)
        begun = above["full"]
        begun[0] = across["full"][0]
        sums = _words(begun, above["value"] + across["value"] * weights, 0)
        for j in np.flatnonzero(sums["full"][-1]):
            out[j].append(sums["value"][-1, j])
            inside -= 1
        if not inside:
            return np.array(out).T.reshape(len(tiles), m, cols), cycle + 1
    raise AssertionError(f"{inside} partial sums have not left")


def _slices(length, size):
    return [slice(start, start + size) for start in range(0, length, size)]


def _padded(words, rows):
    return np.pad(words, ((0, max(0, rows - len(words))), (0, 0)))


def _feed(edge, start, lane, values, marks=0):
    """Put words on one lane of an edge (cycles x lanes), one a cycle from `start`."""
    wire = edge[start : start + len(values), lane]
    if wire["full"].any():
        raise ClashError("two folds need the same wire")
    wire["full"], wire["value"], wire["mark"] = True, values, marks


def _right(edge, registers):
    return np.concatenate([edge[:, None], registers[:, :-1]], axis=1)


def _down(edge, registers):
    return np.concatenate([edge[None], registers[:-1]])


def _words(full, value, mark):
    words = np.zeros(full.shape, WORD)
    words["full"], words["value"], words["mark"] = full, np.where(full, value, 0), np.where(full, mark, 0)
    return words


def _merge(first, second):
    """The words of two sources of the same registers."""
    if (first["full"] & second["full"]).any():
        raise ClashError("two words in one register")
    return np.where(first["full"], first, second)
