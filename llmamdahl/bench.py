"""`make bench`: the speeds that the README claims, as ratios taken in one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from llmamdahl.hardware import CLOUD_TPU, EDGE_TPU, Dataflow
from llmamdahl.models import CONTEXT_LENGTHS, model_names
from llmamdahl.simulator import Run, simulate
from llmamdahl.sweep import sweep
from llmamdahl.systolic import gemm_cost


def best(function: Callable[[], object], repetitions: int = 7) -> float:
    """Seconds of the fastest of some repetitions, the first not counted."""
    function()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def paper_sweep() -> float:
    """Seconds for F of 13 models x 6 context lengths x 2 arrays x 3 dataflows."""
    arrays = [replace(array, dataflow=dataflow) for array in (CLOUD_TPU, EDGE_TPU) for dataflow in Dataflow]
    return best(lambda: sweep(model_names(), CONTEXT_LENGTHS, arrays))


def million_over_bare() -> float:
    """Time of `gemm_cost` on a million MatMuls over that of the bare NumPy formula for the same four counts."""
    m, n, k = np.random.default_rng(0).integers(1, 5000, (3, 1_000_000))
    r, c = EDGE_TPU.rows, EDGE_TPU.cols

    def bare() -> tuple[np.ndarray, ...]:
        folds = -(-m // r) * -(-n // c)
        return folds * (k + r + c - 2) - 1, -(-n // c) * m * k, -(-m // r) * k * n, m * n + folds * (r + c)

    return best(lambda: gemm_cost(m, n, k, EDGE_TPU)) / best(bare)


def simulator_over_closed_form() -> float:
    """Time of SCALE-Sim over that of `gemm_cost` on the same 1 x 2048 x 2048 MatMul, edge array."""
    start = time.perf_counter()
    simulate(Run(1, 2048, 2048, EDGE_TPU))
    return (time.perf_counter() - start) / best(lambda: gemm_cost(1, 2048, 2048, EDGE_TPU), 1000)


if __name__ == "__main__":
    print(f"the paper's sweep, 13 x 6 x 2 x 3:              {paper_sweep() * 1e3:.1f} ms")
    print(f"gemm_cost over bare NumPy, 10^6 MatMuls:        {million_over_bare():.2f}x")
    print(f"SCALE-Sim over gemm_cost, 1 x 2048 x 2048:      {simulator_over_closed_form():,.0f}x")
