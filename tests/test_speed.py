"""How long the library's questions take: benchmarks that `make bench` reads, and ratios within a run.

In `make test` each benchmark is run once, without its time. Seconds depend on the machine, so ratios are tested.
"""

import subprocess
import sys
import time
from dataclasses import replace

import pytest

import llmamdahl as la
from llmamdahl.hardware import Dataflow
from llmamdahl.tables import ROOT

pytestmark = pytest.mark.timing

LOW = la.Precision(weights=2, activations=8)
DESIGNS = [replace(array, dataflow=flow) for array in (la.CLOUD_TPU, la.EDGE_TPU) for flow in Dataflow]
CALLS = {
    "`share` of opt-6.7b on cloud": lambda: la.share("opt-6.7b", 2048, "cloud"),
    "… of llama-3.1-8b on H200, W2A8, batch 8": lambda: la.share("llama-3.1-8b", 2048, "H200", batch=8, precision=LOW),
    "… of deepseek-v3 on cloud, heads grouped": lambda: la.share("deepseek-v3", 2048, "cloud", heads="grouped"),
    "`crossover_context_length` of llama-3.1-8b on cloud": lambda: la.crossover_context_length("llama-3.1-8b", "cloud"),
    "`gemm_cost` of one MatMul": lambda: la.gemm_cost(1, 4096, 4096, la.CLOUD_TPU),
    "`sweep` of one model, one length, one array": lambda: la.sweep(["opt-6.7b"], [2048], ["cloud"]),
}
"""What is timed once it is warm: the tables are read, and names are known."""


@pytest.mark.parametrize("what", CALLS)
def test_calls(benchmark, what):
    call = CALLS[what]
    call()
    benchmark.extra_info["what"] = what
    assert benchmark(call) is not None


def test_import(benchmark):
    """What `import llmamdahl` adds to a start of Python, by Python's own count."""
    benchmark.extra_info["what"] = "`python -c 'import llmamdahl'`, with the start of Python"
    command = [sys.executable, "-c", "import llmamdahl"]
    benchmark.pedantic(lambda: subprocess.run(command, cwd=ROOT, check=True), rounds=5)


def least(call, rounds=15, calls=20):
    """The least CPU time of a call, over rounds of several calls."""
    call()
    times = []
    for _ in range(rounds):
        start = time.process_time_ns()
        for _ in range(calls):
            call()
        times.append((time.process_time_ns() - start) / calls)
    return min(times)


def test_a_share_takes_as_long_as_a_few_times_its_matmuls():
    """Below 1 ms where a `gemm_cost` takes less than 5 microseconds; it takes 4, and a `share` 40 to 80 times that."""
    one = least(CALLS["`gemm_cost` of one MatMul"], calls=200)
    for what in list(CALLS)[:3]:
        assert least(CALLS[what]) < 200 * one, what


def test_thousands_of_context_lengths_take_a_time_in_proportion():
    """Each was compared with each of the others: 16 times as long for 4 times as many."""
    few, many = (least(lambda n=n: la.sweep(["opt-6.7b"], range(1, n + 1), ["cloud"]), 5, 1) for n in (4096, 16384))
    assert many < 7 * few


@pytest.mark.parametrize(
    ("more", "factor"), [("models", 8), ("context_lengths", 64), ("arrays", 8)], ids=["models", "lengths", "arrays"]
)
def test_a_sweep_grows_at_most_in_proportion(more, factor):
    """Many at once take less time than one by one."""
    sizes = {"models": la.zoo_names()[:1], "context_lengths": [128], "arrays": ["64x64"]}
    one = least(lambda: la.sweep(**sizes), calls=1)
    many = {
        "models": la.zoo_names()[:factor],
        "context_lengths": range(128, 128 + factor),
        "arrays": [f"{side}x{side}" for side in range(64, 64 + factor)],
    }
    grown = {**sizes, more: many[more]}
    assert least(lambda: la.sweep(**grown), calls=1) < factor * one
