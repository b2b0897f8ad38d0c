"""The MatMuls of the current models for SCALE-Sim, and a sample of them (`make simulate MODELS=zoo`)."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from typing import get_args

from llmamdahl.errors import InputError, positive_int
from llmamdahl.hardware import CLOUD_TPU, EDGE_TPU, Dataflow
from llmamdahl.models import CONTEXT_LENGTHS, get_model
from llmamdahl.models.named import hybrids, zoo
from llmamdahl.scalesim.executors import MEMORY
from llmamdahl.scalesim.simulator import Run
from llmamdahl.scalesim.store import needed_runs
from llmamdahl.tables import DATA
from llmamdahl.workload import Heads, Part, decode_step

SAMPLE = DATA / "scalesim-zoo"
"""The store of `zoo_sample`."""

SAMPLE_SIZE = 240
SAMPLE_SEED = 17
SAMPLE_WEIGHT = 8_000_000
"""The largest `Run.weight` of a run behind a MatMul of the sample: 40 seconds."""


def zoo_matmuls(largest_memory: int | None = MEMORY) -> list[Run]:
    """Every distinct MatMul of the zoo and the hybrids, on both arrays of Table 3, in each dataflow.

    The MatMuls are those of decode steps at the paper's context lengths, with attention heads one by one and grouped,
    and those of recurrent states; activations are the ifmap. As in F, those of unquantized weights are left out.

    Parameters
    ----------
    largest_memory
        Bytes. MatMuls are left out if a run behind them needs more; None keeps all.
    """
    names = [row["name"] for row in (*zoo(), *hybrids())]
    shapes = {
        (matmul.m, matmul.n, matmul.k)
        for name in names
        for length in CONTEXT_LENGTHS
        for heads in get_args(Heads)
        for matmul in decode_step(get_model(name), length, heads=heads)
        if matmul.part is not Part.UNQUANTIZED
    }
    arrays = [replace(array, dataflow=dataflow) for array in (CLOUD_TPU, EDGE_TPU) for dataflow in Dataflow]
    found = [Run(*shape, array) for array in arrays for shape in sorted(shapes)]
    return [
        matmul
        for matmul in found
        if largest_memory is None or max(run.memory for run in needed_runs([matmul])) <= largest_memory
    ]


def zoo_sample(number: int = SAMPLE_SIZE, seed: int = SAMPLE_SEED) -> list[Run]:
    """Random MatMuls of `zoo_matmuls` of every size, as many for each array and dataflow.

    Those of a design are sorted by the time that their runs take and cut into equal groups, and each group gives one.
    MatMuls with a run of more than `SAMPLE_WEIGHT` are left out before.

    Parameters
    ----------
    number
        A multiple of 6, the number of designs.
    seed
        Of the random numbers.

    Raises
    ------
    InputError
        A number that is not a positive multiple of 6, or too many.
    """
    drawn, draw = [], random.Random(seed)
    each, rest = divmod(positive_int("number", number), 6)
    if rest:
        raise InputError(f"number: {number} is not a multiple of 6, the number of designs")
    by_design: dict[object, list[tuple[int, Run]]] = {}
    for matmul in zoo_matmuls():
        weights = [run.weight for run in needed_runs([matmul])]
        if max(weights) <= SAMPLE_WEIGHT:
            by_design.setdefault(matmul.array, []).append((sum(weights), matmul))
    for weighed in by_design.values():
        ranked = [matmul for _, matmul in sorted(weighed, key=lambda pair: pair[0])]
        if each > len(ranked):
            raise InputError(f"number: {number} is too many; {ranked[0].array} has {len(ranked)} such MatMuls")
        edges = [len(ranked) * place // each for place in range(each + 1)]
        drawn += [ranked[draw.randrange(*pair)] for pair in pairwise(edges)]
    return drawn
