"""Readings: each is one keyword everywhere, does what it says, and is rejected where it has no meaning."""

import itertools
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmamdahl.analysis import crossover_batch, crossover_context_length, generation_cost, share, sweep
from llmamdahl.errors import InputError
from llmamdahl.hardware import CLOUD_TPU, EDGE_TPU, SystolicArray
from llmamdahl.models import get_model, model_names
from llmamdahl.models.decoder import Experts
from llmamdahl.roofline import BYTE, FP16, Precision, array_seconds, bytes_fetched_again, bytes_moved
from llmamdahl.systolic import gemm_cost
from llmamdahl.workload import MatMul, Part, decode_step, prefill

TPU_V1 = SystolicArray(256, 256, clock_mhz=700, dram_gb_s=34)
SMALL = SystolicArray(16, 8, "ws", 4, 4, 4, clock_mhz=100, dram_gb_s=0.5)


def test_the_table_of_what_heads_change():
    """F, where F = 1/2, and the batch, per head and grouped; 256 x 256, output stationary, l = 2048."""
    expected = {
        "llama-3.1-8b": ((0.793, 0.939), (8193, 33_281), (4, 16)),
        "deepseek-v3": ((0.611, 0.995), (3280, 444_673), (5, None)),
        "qwen3-30b-a3b": ((0.544, 0.905), None, None),
    }
    for model, (fractions, lengths, batches) in expected.items():
        for place, heads in enumerate(("per_head", "grouped")):
            assert round(share(model, 2048, "cloud", heads=heads).fraction, 3) == fractions[place]
            if lengths:
                assert crossover_context_length(model, "cloud", heads=heads) == lengths[place]
                found = crossover_batch(model, 2048, "cloud", heads=heads)
                assert found == batches[place] or (batches[place] is None and found > 2000)


@pytest.mark.parametrize("model", ["opt-350m", "gpt2-xl", "llama-2-7b"])
def test_heads_that_share_nothing_are_the_same_under_both(model):
    for phase in (decode_step, prefill):
        assert phase(model, 300, 3, heads="grouped") == phase(model, 300, 3)


def test_opt_350m_under_each_reading():
    """Figure 4 has 0.371. Pipelined and TPU v1's memory are computed by hand from the shapes of one layer."""
    qk, sv, d = (8, 64), (1, 2048), 1024  # folds and vectors a fold, of one head
    projections = [(4, d)] * 4 + [(16, d), (4, 4 * d)]

    def pipelined(folds, stream):
        return folds * stream + 510 - 1

    per_layer = sum(itertools.starmap(pipelined, projections)), 16 * (pipelined(*qk) + pipelined(*sv))
    found = share("opt-350m", 2048, "cloud", folds="pipelined")
    assert (found.projection, found.attention) == tuple(24 * part for part in per_layer)
    assert round(found.fraction, 3) == 0.477
    assert round(share("opt-350m", 2048, TPU_V1).fraction, 2) == 0.69
    assert share("opt-350m", 2048, "cloud", folds="pipelined", heads="grouped") == replace(found, heads="grouped")


def test_bytes_that_are_fetched_again_by_hand():
    """As in tests/test_dram.py: the ifmap twice, the 1250 weights three times less 500 words, the results once."""
    matmul = MatMul("W_Q", Part.PROJECTION, m=9, n=5, k=250, count=7)
    bits = Precision(weights=3, activations=5, cache=7, unquantized=11, results=13)
    array = SystolicArray(4, 3, "os", 1, 1, 1)
    assert bytes_fetched_again(matmul, bits, array) == 7 * (9 * 250 * 5 + (3 * 750 + 3 * 500 - 1250) * 3) / 8


@pytest.mark.parametrize("ifmap_kb", [1, 64])
def test_seconds_are_the_larger_of_cycles_and_bytes(ifmap_kb):
    array = replace(SMALL, ifmap_sram_kb=ifmap_kb)
    matmul = MatMul("W_O", Part.PROJECTION, m=30, n=100, k=500, count=7)
    bits = Precision(weights=2, activations=8, results=16)
    found = array_seconds(matmul, bits, array, folds="pipelined", counting="corrected")
    cost = gemm_cost(30, 100, 500, array, folds="pipelined", counting="corrected")
    assert found.arithmetic == pytest.approx(7 * cost.cycles / 100e6)
    once = 7 * (100 * 500 * 2 + 30 * 500 * 8 + 30 * 100 * 16) / 8
    assert bytes_moved(matmul, bits) == once
    assert found.memory == pytest.approx(once / 0.5e9)
    # with re-fetches: every word of the three DRAM counts, at its own width
    again = 7 * (cost.filter_dram_reads * 2 + cost.ifmap_dram_reads * 8 + cost.ofmap_dram_writes * 16) / 8
    assert again > once  # 32 partial sums of each result at the least
    assert bytes_fetched_again(matmul, bits, array) == again - once
    assert array_seconds(matmul, bits, array, refetches=True).memory == pytest.approx(again / 0.5e9)
    assert array_seconds(matmul, bits, replace(array, dram_gb_s=None)).memory == 0


def test_a_decode_step_of_one_sequence_fetches_nothing_again():
    for model in ("opt-6.7b", "llama-3.1-8b"):
        for array in (CLOUD_TPU, EDGE_TPU):
            for matmul in decode_step(model, 4096):
                assert bytes_fetched_again(matmul, BYTE, array) == 0
    assert bytes_fetched_again(prefill("opt-6.7b", 4096)[4], BYTE, CLOUD_TPU) > 0


def test_a_memory_that_is_fast_enough_changes_nothing():
    for model in model_names("opt"):
        unlimited = share(model, 2048, "cloud")
        limited = share(model, 2048, replace(CLOUD_TPU, clock_mhz=700, dram_gb_s=10_000))
        assert limited.fraction == pytest.approx(unlimited.fraction, rel=1e-12)
        assert limited.bound == {"projection": "arithmetic", "attention": "arithmetic"}
        slow = share(model, 2048, replace(CLOUD_TPU, clock_mhz=700, dram_gb_s=0.01))
        assert slow.fraction == pytest.approx(share(model, 2048, "cloud", metric="bytes").fraction, rel=1e-12)
        assert slow.bound == {"projection": "memory", "attention": "memory"}


def test_widths_that_are_not_given_stay_as_they_are():
    assert Precision(weights=2).over(FP16) == Precision(2, 16, 16, 16, 16)
    on_array = share("opt-350m", 2048, TPU_V1, precision=Precision(weights=2))
    assert (on_array.baseline, on_array.precision) == (BYTE, Precision(2, 8, 8, 8, 8))
    on_device = share("opt-350m", 2048, "A100 80GB", precision=Precision(weights=2))
    assert (on_device.baseline, on_device.precision) == (FP16, Precision(2, 16, 16, 16, 16))
    wide = share("opt-350m", 2048, TPU_V1, baseline=Precision(weights=16))
    assert wide.baseline == Precision(16, 8, 8, 8, 8)


@pytest.mark.parametrize(
    "asked",
    [
        {"folds": "pipelined", "counting": "corrected"},
        {"heads": "grouped", "batch": 5, "unquantized": True},
        {"experts": "expected", "batch": 40},
        {"phase": "prefill", "heads": "grouped"},
        {"precision": Precision(weights=2), "batch": 3},
        {"metric": "bytes", "precision": Precision(cache=4), "experts": "expected", "batch": 2},
        {"refetches": True, "batch": 300, "metric": "seconds"},
    ],
)
def test_a_sweep_has_the_numbers_of_share(asked):
    arrays = [TPU_V1, SMALL, replace(SMALL, dataflow="is", dram_gb_s=None), replace(SMALL, rows=3, dataflow="os")]
    frame = sweep(["gemma-3-1b", "deepseek-v2-lite", "qwen3-30b-a3b"], [1, 700, 5000], arrays, **asked)
    assert len(frame) == 3 * 3 * 4 * (1 if "metric" in asked else 3)
    by_label = {(array.label, str(array.dataflow)): array for array in arrays}
    for row in frame.to_dict("records"):
        place = by_label[row["array"], row["dataflow"]]
        found = share(row["model"], row["context_length"], place, **{**asked, "metric": row["metric"]}).row()
        assert found.keys() == row.keys()
        for name, value in found.items():
            assert row[name] == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value), name


def test_a_generation_adds_up_its_steps_under_readings():
    asked = {"heads": "grouped", "folds": "pipelined", "refetches": True}
    whole = generation_cost("llama-3.1-8b", 90, TPU_V1, new_tokens=10, **asked)
    steps = [share("llama-3.1-8b", 90, TPU_V1, phase="prefill", **asked)]
    steps += [share("llama-3.1-8b", 90 + step, TPU_V1, **asked) for step in range(1, 11)]
    for part in ("projection", "attention"):
        assert getattr(whole, part) == pytest.approx(sum(getattr(step, part) for step in steps), rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(num=st.integers(1, 5), top=st.integers(1, 5), tokens=st.integers(1, 4))
def test_expected_experts_are_the_mean_over_all_choices(num, top, tokens):
    top = min(top, num)
    model = replace(get_model("mixtral-8x7b-v0.1"), num_layers=1, experts=Experts(num, top, 64), dense_layers=())
    step = decode_step(model, 10, tokens, experts="expected")
    ours = {mm.m: mm.count for mm in step if mm.name == "expert W_I"}
    choices = list(itertools.combinations(range(num), top))
    exact: dict[int, Fraction] = {}
    for choice in itertools.product(choices, repeat=tokens):
        loads = np.bincount(np.array(choice).ravel(), minlength=num)
        for load in loads[loads > 0].tolist():
            exact[load] = exact.get(load, Fraction()) + Fraction(1, len(choices) ** tokens)
    assert ours == pytest.approx({load: float(count) for load, count in exact.items()}, rel=1e-9)


def test_expected_experts_add_up_to_all_pairs():
    for batch in (1, 7, 5000):
        step = decode_step("deepseek-v3", 100, batch, experts="expected")
        pairs = sum(mm.m * mm.count for mm in step if mm.name == "expert W_I")
        assert pairs == pytest.approx(58 * 8 * batch, rel=1e-9)
    assert share("deepseek-v3", 2048, "cloud", experts="expected").fraction == pytest.approx(
        share("deepseek-v3", 2048, "cloud").fraction, rel=1e-12
    )


@pytest.mark.parametrize(
    ("asked", "hardware", "message"),
    [
        ({"heads": "stacked"}, "cloud", "heads: 'stacked' is unknown; known: per_head, grouped"),
        ({"folds": "overlapped"}, "cloud", "folds: 'overlapped' is unknown; known: serial, pipelined"),
        ({"experts": "random"}, "cloud", "experts: 'random' is unknown; known: even, expected"),
        ({"refetches": 1}, "cloud", "refetches: 1 is not a bool"),
        ({"folds": "pipelined"}, "H200", "folds: 'pipelined' is given, but H200 is not an array; leave it out"),
        ({"refetches": True}, "H200", "refetches: True is given, but H200 is not an array; leave it out"),
        ({"refetches": True}, "cloud", "refetches: True is given, but cycles do not depend on it; ask for the metric"),
        ({"metric": "seconds"}, "cloud", "metric: cloud has no 'seconds'; it has .*; give it a clock_mhz"),
    ],
)
def test_a_reading_that_means_nothing_is_named(asked, hardware, message):
    with pytest.raises(InputError, match=f"^{message}"):
        share("opt-350m", 128, hardware, **asked)
    with pytest.raises(InputError, match=f"^{message}"):
        sweep(["opt-350m"], [128], [hardware], **asked)


def test_the_readings_of_a_share_are_named():
    assert share("opt-350m", 128, "cloud").readings == ""
    found = share("opt-350m", 128, TPU_V1, heads="grouped", folds="pipelined", refetches=True)
    assert found.readings == "heads grouped, folds pipelined, DRAM 34 GB/s at 700 MHz, re-fetches"
