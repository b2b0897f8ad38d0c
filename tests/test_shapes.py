"""Array shapes and bits of K and V: the functions are `share` at every point, and hand calculations at some."""

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest

from llmamdahl.analysis import crossover_context_length, share
from llmamdahl.design import figures
from llmamdahl.design.bits import change_crossover, gains
from llmamdahl.design.shapes import MOST_PES, array_shapes, fraction_by_array_size
from llmamdahl.errors import InputError
from llmamdahl.hardware import CLOUD_TPU, EDGE_TPU, Dataflow, Device, SystolicArray
from llmamdahl.roofline import FP16, Precision

CHANGES = {"W4": Precision(weights=4), "KV4": Precision(cache=4)}
TPU_V1 = replace(CLOUD_TPU, clock_mhz=700, dram_gb_s=34)
SLOW_EDGE = replace(EDGE_TPU, clock_mhz=700, dram_gb_s=12.8)


@pytest.mark.parametrize("pes", [1, 7, 36, 64])
@pytest.mark.parametrize(
    "asked",
    [
        {"folds": "pipelined", "counting": "corrected", "heads": "grouped"},
        {"metric": "memory_accesses", "batch": 5},
        {"unquantized": True},
    ],
)
def test_every_shape_is_share_and_the_first_is_the_cheapest(pes, asked):
    array = SystolicArray(pes, 1, "ws", 64, 32, 16)
    frame = array_shapes("gemma-3-1b", 700, array, **asked)
    sides = [(rows, cols) for rows, cols in product(range(1, pes + 1), repeat=2) if rows * cols == pes]
    assert {*zip(frame.rows, frame.cols, frame.dataflow, strict=True)} == {
        (*side, str(dataflow)) for side in sides for dataflow in Dataflow
    }
    assert len(frame) == 3 * len(sides)
    for row in frame.itertuples():
        found = share("gemma-3-1b", 700, replace(array, rows=row.rows, cols=row.cols, dataflow=row.dataflow), **asked)
        assert (row.projection, row.attention, row.whole) == (found.projection, found.attention, found.whole)
        assert row.cost == found.projection + found.attention + (found.unquantized if "unquantized" in asked else 0)
        assert row.fraction == pytest.approx(found.fraction, rel=1e-12)
        assert row.words_a_cycle == row.rows + row.cols
    assert frame.cost.is_monotonic_increasing


def test_a_clock_and_sram_sizes_are_kept():
    asked = {"refetches": True, "batch": 20, "dataflows": ["ws", "os"]}
    array = SystolicArray(4, 6, "is", 1, 1, 1, name="mine", clock_mhz=100, dram_gb_s=0.5)
    frame = array_shapes("opt-350m", 300, array, **asked)
    assert set(frame.metric) == {"seconds"} and set(frame.dataflow) == {"ws", "os"} and len(frame) == 16
    best = frame.iloc[0]
    asked.pop("dataflows")
    found = share("opt-350m", 300, replace(array, rows=best.rows, cols=best.cols, dataflow=best.dataflow), **asked)
    assert best.cost == pytest.approx(found.projection + found.attention, rel=1e-12)
    assert set(frame.array) == {f"{rows}x{24 // rows}" for rows in (1, 2, 3, 4, 6, 8, 12, 24)}


def test_64_x_1024_needs_a_third_of_the_cycles_of_256_x_256():
    """Llama 3.1 8B by hand: 32 layers of 32 heads, d = 4096, 8 KV heads of 128, d_FF = 14336; one row is used."""
    frame = array_shapes("llama-3.1-8b", 2048, "cloud", dataflows=["os"]).set_index("array")

    def by_hand(rows, cols):
        products = [(4096, 4096, 2), (1024, 4096, 2), (14336, 4096, 2), (4096, 14336, 1)]  # n, k, number
        products += [(2048, 128, 32), (128, 2048, 32)]
        return 32 * sum(number * (-(-n // cols) * (k + rows + cols - 2) - 1) for n, k, number in products)

    assert frame.cost["64x1024"] == by_hand(64, 1024) == 13_968_544
    assert frame.cost["256x256"] == by_hand(256, 256) == 37_848_352


def test_a_square_array_needs_the_fewest_words_a_cycle():
    frame = array_shapes("opt-350m", 128, "cloud")
    assert frame.words_a_cycle.min() == 512
    assert set(frame[frame.words_a_cycle == 512].array) == {"256x256"}


def test_shapes_of_equal_cost_are_in_the_order_of_their_words():
    frame = array_shapes("opt-6.7b", 2048, replace(TPU_V1, dram_gb_s=0.01))  # memory bounds nearly every shape
    equal = frame[frame.cost == frame.cost[0]]
    assert len(equal) > 10 and equal.words_a_cycle.is_monotonic_increasing
    assert frame.array[0] == "256x256"


def test_f_by_size_on_an_array_with_a_memory_is_share():
    frame = fraction_by_array_size("opt-350m", 500, [8, 100], clock_mhz=700, dram_gb_s=34, metric="seconds")
    for row in frame.itertuples():
        array = SystolicArray(row.size, row.size, clock_mhz=700, dram_gb_s=34)
        assert row.fraction == pytest.approx(share("opt-350m", 500, array).fraction, rel=1e-12)


@pytest.mark.parametrize(
    ("places", "asked"),
    [
        (["A100 80GB", "RTX A6000"], {}),
        ([SLOW_EDGE, TPU_V1], {"baseline": FP16, "folds": "pipelined", "heads": "grouped"}),
        ([SLOW_EDGE], {"refetches": True}),
        (["cloud", "H200"], {"metric": "bytes", "unquantized": True}),
    ],
)
def test_gains_are_those_of_share(places, asked):
    models, lengths, batches = ["gemma-3-1b", "deepseek-v2-lite"], [90, 5000], [1, 40]
    frame = gains(models, lengths, places, changes=CHANGES, batches=batches, **asked)
    assert len(frame) == 2 * 2 * 2 * len(places) * len(CHANGES)
    by_label = {place if isinstance(place, str) else place.label: place for place in places}
    for row in frame.itertuples():
        found = share(
            row.model, row.context_length, by_label[row.array], precision=CHANGES[row.change], batch=row.batch, **asked
        )
        assert row.fraction == pytest.approx(found.fraction, rel=1e-12)
        assert (row.whole, row.metric, row.dataflow) == (found.whole, found.metric, found.dataflow)
        assert row.projection_speedup == pytest.approx(found.partial_speedup, rel=1e-12)
        assert row.total_speedup == pytest.approx(found.total_speedup, rel=1e-12)
        if row.change == "KV4":
            assert row.projection_speedup == 1
        elif row.whole == "projection + attention":
            law = 1 / (1 - row.fraction + row.fraction / row.projection_speedup)
            assert (row.attention_speedup, row.total_speedup) == (1, pytest.approx(law, rel=1e-12))


def test_bits_gain_exactly_nothing_where_cycles_take_longer():
    fast = replace(CLOUD_TPU, clock_mhz=700, dram_gb_s=819)
    for heads, folds in product(("per_head", "grouped"), ("serial", "pipelined")):
        asked = {"heads": heads, "folds": folds, "baseline": FP16}
        frame = gains(["llama-3.1-8b"], [512, 131_072], [fast], changes=CHANGES, batches=[1, 256], **asked)
        assert (frame[["projection_speedup", "attention_speedup", "total_speedup"]] == 1).all(axis=None)
        assert change_crossover("llama-3.1-8b", fast, first=CHANGES["W4"], second=CHANGES["KV4"], **asked) is None


@pytest.mark.parametrize("bits", [1, 4, 6])
@pytest.mark.parametrize("batch", [1, 3, 16])
def test_where_k_and_v_pay_more_by_hand(bits, batch):
    """A block of OPT has 12 d^2 weights and 2 d elements of K and V a token, read once: equal at l * batch = 6 d."""
    change = {"first": Precision(weights=bits), "second": Precision(cache=bits)}
    d = 4096
    for hardware, asked in ((Device("memory only", 100, fp16_tflops=1e6), {}), (TPU_V1, {"metric": "bytes"})):
        assert change_crossover("opt-6.7b", hardware, batch=batch, **change, **asked) == 6 * d // batch + 1
    # with 16 bits to 8 for weights and 16 to 4 for K and V the savings differ: 1/2 of 12 d^2, 3/4 of 2 d l
    uneven = change_crossover("opt-6.7b", "H200", first=Precision(weights=8), second=Precision(cache=4))
    assert uneven == 4 * d + 1


def test_the_crossover_is_where_bytes_fall_to_one_half():
    """But for the bytes of activations, which no change here makes fewer."""
    for model in ("opt-6.7b", "llama-3.1-8b", "qwen3-30b-a3b"):
        found = change_crossover(model, "H200", first=CHANGES["W4"], second=CHANGES["KV4"])
        assert found == pytest.approx(crossover_context_length(model, None), rel=0.01)


def test_the_crossover_is_the_last_change_of_the_larger_gain():
    asked = {"baseline": FP16, "heads": "grouped", "folds": "pipelined", "batch": 16}
    found = change_crossover("opt-6.7b", SLOW_EDGE, first=CHANGES["W4"], second=CHANGES["KV4"], **asked)
    lengths = [found - 1, found, 2 * found, 131_072]
    asked.pop("batch")
    frame = gains(["opt-6.7b"], lengths, [SLOW_EDGE], changes=CHANGES, batches=[16], **asked)
    wide = frame.pivot(index="context_length", columns="change", values="total_speedup")
    assert (wide.KV4 > wide.W4).tolist() == [False, True, True, True]
    longest = {"longest": found - 1}
    asked |= {"first": CHANGES["W4"], "second": CHANGES["KV4"], "batch": 16}
    assert change_crossover("opt-6.7b", SLOW_EDGE, **asked, **longest) is None


def test_shape_lines_name_the_best_shape_of_each_panel():
    frame = pd.concat(
        array_shapes("opt-350m", 500, "edge", batch=batch).assign(batch=batch, reading="paper") for batch in (1, 40)
    )
    frame["speedup"] = 1e6 / frame.cost
    figure = figures.shape_lines(frame, "shapes")
    assert [axis.get_title() for axis in figure.axes] == ["paper\nbatch 1", "paper\nbatch 40"]
    for axis, batch in zip(figure.axes, (1, 40), strict=True):
        best = frame[frame.batch == batch].iloc[0]
        note = f"{best.rows} x {best.cols} {best.dataflow.upper()}: {best.speedup:.2f}"
        assert [text.get_text() for text in axis.texts] == [note]
        lines = {line.get_label(): list(line.get_ydata()) for line in axis.get_lines()}
        drawn = frame[(frame.batch == batch) & (frame.dataflow == "ws")].sort_values("rows")
        assert lines["WS"] == drawn.speedup.tolist()


def test_gain_maps_are_grey_where_neither_gains():
    asked = {"changes": CHANGES, "batches": [1, 4], "baseline": FP16}
    fast = replace(CLOUD_TPU, clock_mhz=700, dram_gb_s=819)
    frame = gains(["opt-350m"], [500, 50_000], [fast, SLOW_EDGE], **asked)
    frame = frame.assign(setup=frame.array)
    edge = figures.gain_maps(frame, "bits", ("W4", "KV4")).axes[0].collections[0].get_array()
    alone = figures.gain_maps(frame[frame.array != "edge"], "bits", ("W4", "KV4")).axes[0]
    assert alone.collections[0].get_array().mask.all()
    assert not np.ma.getmaskarray(edge).any()
    mixed = frame.assign(total_speedup=frame.total_speedup.where(frame.context_length == 500, 1.0))
    half = figures.gain_maps(mixed[mixed.array == "edge"], "bits", ("W4", "KV4")).axes[0].collections[0].get_array()
    assert half.mask.tolist() == [[False, True]] * 2
    by = frame[frame.array == "edge"].set_index(["change", "batch", "context_length"]).total_speedup
    assert edge.ravel().tolist() == pytest.approx(np.log2(by["KV4"] / by["W4"]).sort_index().tolist())


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: array_shapes("opt-350m", 128, "H200"), "'H200'"),
        (lambda: array_shapes("opt-350m", 128, SystolicArray(2**20, 2**21)), f"{2**41} PEs, .* at most {MOST_PES}"),
        (lambda: array_shapes("opt-350m", 128, "edge", dataflows=["rs"]), "dataflows: 'rs' is unknown; known: os, ws"),
        (lambda: array_shapes("opt-350m", 128, "edge", dataflows=[]), "dataflows: nothing is listed"),
        (lambda: array_shapes("opt-350m", 0, "edge"), "context_length: 0 is not a positive whole number"),
        (lambda: array_shapes("opt-350m", 128, "edge", metric="seconds"), "metric: 1x1024 has no 'seconds'"),
        (lambda: gains(["opt-350m"], [128], ["H200"], changes={}), r"changes: \{\} is not a dict of names"),
        (lambda: gains(["opt-350m"], [128], ["H200"], changes={"W4": 4}), "changes: W4: 4 is not a Precision"),
        (
            lambda: gains(["opt-350m"], [128], ["cloud"], changes=CHANGES),
            "metric: cycles of cloud do not depend on bits; give bytes, or seconds and a clock_mhz",
        ),
        (lambda: gains(["opt-350m"], [128], ["H200"], changes=CHANGES, batch=2), "batch: 2 is given"),
        (lambda: gains(["opt-350m"], [128], ["H200"], changes=CHANGES, batches=[0]), "batches: 0 is not a positive"),
        (lambda: gains(["opt-350m"], [128], ["H200"], changes=CHANGES, phase="prefill"), "phase: 'prefill' is given"),
        (
            lambda: gains(["opt-350m"], [128], ["H200"], changes=CHANGES, precision=FP16),
            "precision: it is given apart from the changes",
        ),
        (lambda: change_crossover("opt-350m", "H200", first=4, second=FP16), "first: 4 is not a Precision"),
        (lambda: change_crossover("opt-350m", "H200", first=FP16, second=FP16, longest=0), "longest: 0 is not"),
    ],
)
def test_bad_input_is_named(ask, message):
    with pytest.raises(InputError, match=message) as error:
        ask()
    assert re.match(r"\w", str(error.value))
