"""What is built on `share`, and figures: shapes, bits, silicon, joules, memory give a result, or an error by name."""

import contextlib
import math
import warnings

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import EXAMPLES, NONSENSE, REJECTED, SETTINGS, SIZES, SMALL, TALLY, answer, dataflows, one_in

from llmamdahl import plots
from llmamdahl.amdahl import bottleneck_shift, combined_speedup, next_part
from llmamdahl.analysis import curves, sweep
from llmamdahl.design.area import accumulator_bits, best_split, equal_area, narrow_weights
from llmamdahl.design.bits import change_crossover, gains
from llmamdahl.design.kinds import described, kind
from llmamdahl.design.shapes import array_shapes, fraction_by_array_size
from llmamdahl.hardware import SystolicArray, find_array, find_hardware, get_array
from llmamdahl.roofline import Precision, footprint, matmul_traffic, saving
from llmamdahl.scalesim.reports import report_rows
from llmamdahl.scalesim.topology import ConvLayer, GemmLayer
from llmamdahl.silicon.elements import pe_area
from llmamdahl.silicon.energy import energy_sweep, joules
from llmamdahl.workload import elementwise, num_weights, weights_by_part

models = st.sampled_from("opt-350m llama-3.1-8b qwen3-30b-a3b deepseek-v3 qwen3-next-80b-a3b deepseek-v3.2".split())
named_arrays = st.sampled_from(["edge", "16x32"])
clocked = st.builds(
    lambda side, flow, dram: SystolicArray(side, 32, flow, clock_mhz=700, dram_gb_s=dram),
    st.integers(2, 40),
    dataflows,
    st.one_of(st.none(), st.floats(0.01, 5000)),
)
hardware = st.one_of(named_arrays, clocked, st.sampled_from(["H200", "RTX 4090"]))
bits = st.dictionaries(
    st.sampled_from("weights activations cache unquantized results".split()), st.sampled_from([1, 2, 4, 8, 16])
).map(lambda widths: Precision(**widths))
words = st.sampled_from
switch = st.booleans()
numbers = st.one_of(st.floats(1e-3, 1e6), st.integers(1, 1000))
few_sizes = st.lists(st.integers(1, 300), min_size=1, max_size=2)
READINGS = {
    "heads": words(["per_head", "grouped"]),
    "counting": words(["reported", "corrected"]),
    "unquantized": switch,
    "batch": st.integers(1, 9),
}
narrow = words(["int8", "int4", "ternary", "binary"])
QUICK = {
    accumulator_bits: {"weights": narrow, "longest": SMALL},
    kind: {"model": models},
    pe_area: {
        "weights": words(["int8", "int4", "ternary", "binary", "fp16"]), "dataflow": words(["os", "ws"]),
        "accumulator_bits": words([20, 24, 32]), "unit": words(["transistors", "um2"]),
    },
    footprint: {"model": models, "precision": bits, "context_length": SMALL, "batch": st.integers(1, 99)},
    saving: {
        "model": models, "precision": bits, "context_length": SMALL, "batch": st.integers(1, 99), "baseline": bits,
        "unquantized": switch, "other_bytes": numbers,
    },
    matmul_traffic: {
        "model": models, "context_length": SMALL, "device": words(["H200", "RTX 4090", None]),
        "batch": st.integers(1, 99), "phase": words(["decode", "prefill"]), "precision": bits,
    },
    elementwise: {"model": models, "batch": st.integers(1, 99)},
    num_weights: {"model": models},
    weights_by_part: {"model": models},
    find_hardware: {"hardware": hardware},
    find_array: {"array": named_arrays},
    get_array: {"name": words(["edge", "cloud"]), "dataflow": dataflows},
    combined_speedup: {
        "fractions": words([[0.5, 0.5], [0.2, 0.3, 0.5], [[0.5, 0.5], [0.1, 0.9]]]),
        "speedups": words([[1, 2], [2.5, 1, 1], [3, math.inf]]),
    },
    next_part: {"fractions": words([[0.5, 0.5], [0.2, 0.8]]), "speedups": words([[1, 2], [2.5, 1]])},
    bottleneck_shift: {"fraction": st.one_of(st.floats(0, 1), words([[0.5, 0.6], 1, 0]))},
    GemmLayer: {"name": st.text(max_size=3), **dict.fromkeys(("m", "n", "k"), SIZES)},
    ConvLayer: {
        "name": st.text(max_size=3), "ifmap_h": st.integers(5, 99), "ifmap_w": st.integers(5, 99),
        "filter_h": st.integers(1, 5), "filter_w": st.integers(1, 5),
        **dict.fromkeys(("channels", "num_filters", "stride_h", "stride_w"), st.integers(1, 9)),
    },
}  # fmt: skip
"""The public functions of which a call takes less than a millisecond or two, and good values of their arguments."""

SLOW = {
    equal_area: {"array": named_arrays, "weights": narrow, "longest": SMALL, "area": numbers},
    narrow_weights: {
        "model": models, "context_length": SMALL, "array": clocked,
        "bandwidths": st.lists(numbers, min_size=1, max_size=1),
        "weights": st.lists(narrow, min_size=1, max_size=1), "area": st.floats(0.5, 1.5),
    },
    best_split: {
        "models": st.lists(models, min_size=1, max_size=1), "context_length": SMALL,
        "array": st.one_of(named_arrays, clocked), "batches": st.lists(st.integers(1, 9), min_size=1, max_size=1),
        "weights": narrow, "x": st.one_of(st.none(), st.floats(0.01, 0.99)),
    },
    gains: {
        "models": st.lists(models, min_size=1, max_size=1), "context_lengths": few_sizes,
        "hardware": st.lists(hardware, min_size=1, max_size=1),
        "batches": few_sizes, "changes": st.dictionaries(st.text(max_size=3), bits, min_size=1, max_size=2),
    },
    change_crossover: {
        "model": models, "hardware": words(["H200", "RTX 4090", None]), "first": bits, "second": bits,
        "longest": st.integers(1, 2000),
    },
    described: {
        "frame": st.builds(lambda name: pd.DataFrame({"model": [name], "max_position": [1]}), one_in(4, models)),
    },
    array_shapes: {
        "model": models, "context_length": SMALL, "array": st.one_of(named_arrays, clocked),
        "dataflows": st.lists(dataflows, min_size=1, max_size=2, unique=True),
    },
    fraction_by_array_size: {
        "model": models, "context_length": SMALL, "sizes": few_sizes, "dataflow": dataflows,
        "clock_mhz": st.one_of(st.none(), numbers), "dram_gb_s": st.one_of(st.none(), st.floats(0.01, 5000)),
    },
    joules: {
        "model": models, "context_length": SMALL, "array": st.one_of(st.none(), named_arrays, clocked),
        "node": words([45, 7]), "memory": words([None, "DRAM", "HBM2"]), "precision": bits,
    },
    energy_sweep: {
        "models": st.lists(models, min_size=1, max_size=1), "context_lengths": few_sizes,
        "arrays": st.lists(named_arrays, min_size=1, max_size=1), "node": words([45, 7]),
    },
    report_rows: {
        "layers": st.lists(st.builds(GemmLayer, st.just("a"), *[st.integers(1, 99)] * 3), min_size=1, max_size=2),
        "array": st.builds(SystolicArray, st.integers(1, 40), st.integers(1, 40), dataflows),
    },
    }  # fmt: skip
"""Those of which it takes longer."""

READ = {narrow_weights, best_split, gains, change_crossover, array_shapes, fraction_by_array_size, joules, energy_sweep}
"""Those that take the readings of `share` as well."""
NAMED = f"""{" ".join({name for known in (*QUICK.values(), *SLOW.values()) for name in known})} {" ".join(READINGS)}
metric phase precision baseline rows cols cycles memory_accesses num_heads measured shares dataflows rate scales
ifmap_sram_kb filter_sram_kb layer layers ifmap_dram_reads sweep num_layers tokens (a)"""
"""What an error can name: an argument, or what follows from it."""


def arguments(function, odds):
    """Arguments of a function, one in `odds` of them wrong."""
    known = {**(QUICK | SLOW)[function]}
    made = {name: one_in(odds, strategy) for name, strategy in known.items()}
    more = {name: one_in(odds, strategy) for name, strategy in READINGS.items()} if function in READ else {}
    if "batches" in known:
        del more["batch"]
    return st.fixed_dictionaries(made, optional=more)


def check(function, asked):
    """A result, or an error by name; a result of none of them is empty or NaN throughout."""
    with contextlib.suppress(TypeError):  # arguments that are iterators are read once
        found = answer(lambda: function(**asked), NAMED)
        assert found is REJECTED or not isinstance(found, float) or not math.isnan(found)


def few_examples(one_in_each):
    return settings(SETTINGS, max_examples=max(1, EXAMPLES // one_in_each))


@pytest.mark.parametrize("function", [*QUICK, *SLOW], ids=lambda function: function.__name__)
def test_it_gives_a_result_or_an_error_by_name(function):
    @few_examples(1 if function in QUICK else 20)
    @given(arguments(function, 10))
    def tried(asked):
        check(function, asked)

    TALLY.clear()
    tried()
    assert TALLY["answered"] or EXAMPLES < 200


SHARES = sweep(["opt-350m", "llama-7b"], [128, 2048], ["cloud"])
FRAMES = {
    plots.whole: SHARES,
    plots.fraction_label: SHARES,
    plots.heat_maps: SHARES,
    plots.fraction_lines: SHARES.assign(source="cloud"),
    plots.fraction_by_reading: SHARES.assign(reading="the paper's"),
    plots.amdahl_curves: curves(SHARES, [1, 2, 10]),
}
"""A frame for each figure of `plots`, and for what they read from it."""


@st.composite
def damaged(draw, frame):
    """The frame without a column or its rows, or with a column of nonsense; or nonsense in its place."""
    change = draw(st.sampled_from(["column", "rows", "cells", "nonsense"]))
    if change == "nonsense":
        return draw(NONSENSE)
    column = draw(st.sampled_from([*frame.columns]))
    if change == "rows":
        return frame[frame[column] == draw(st.sampled_from([*frame[column], None]))]
    if change == "column":
        return frame.drop(columns=column)
    return frame.assign(**{column: [draw(st.one_of(st.none(), st.floats(0.5, 9), st.text(max_size=3)))] * len(frame)})


@pytest.mark.parametrize("function", FRAMES, ids=lambda function: function.__name__)
def test_figures_of_damaged_frames(function):
    """An error that names the frame, or a figure."""

    @few_examples(20)
    @given(damaged(FRAMES[function]))
    def tried(frame):
        title = ("title",) if function not in (plots.whole, plots.fraction_label) else ()

        def drawn():
            warnings.simplefilter("ignore")  # of Matplotlib, about axes without room or extent
            function(frame, *title)

        answer(drawn, "frame part")

    tried()
