"""The roofline reading: bytes and operations by hand, time on made-up devices, and the datasheets."""

import math
from dataclasses import replace

import numpy as np
import pytest

from llmamdahl import hardware
from llmamdahl.analysis import crossover_batch, crossover_context_length, generation_cost, share
from llmamdahl.device import recorded
from llmamdahl.errors import CountOverflowError, InputError, TableError
from llmamdahl.hardware import EDGE_TPU, Device, devices, get_device
from llmamdahl.models import Decoder, Experts, get_model, model_names
from llmamdahl.roofline import (
    FP16,
    Precision,
    array_seconds,
    bytes_moved,
    device_seconds,
    fits,
    footprint,
    matmul_traffic,
    saving,
)
from llmamdahl.workload import MatMul, Part

SMALL = Decoder("small", 96, 2, 6, 200, True, 1000, 2048, 96, kv_heads=2)
W2 = Precision(weights=2, activations=8)


def speedup(model, context_length, after, before=FP16, device=None, **asked):
    """`share` with the LM head in the whole."""
    return share(model, context_length, device, precision=after, baseline=before, unquantized=True, **asked)


def bytes_of(model, length, precision=FP16, batch=1, phase="decode"):
    return (
        matmul_traffic(model, length, precision=precision, batch=batch, phase=phase)
        .groupby("part")
        .bytes.sum()
        .to_dict()
    )


def test_what_has_no_clock_or_is_too_large_for_a_float_is_rejected():
    with pytest.raises(InputError, match=r"^hardware: edge has no clock, so cycles have no seconds; give it a"):
        array_seconds(MatMul("W_Q", Part.PROJECTION, 1, 8, 8, count=1), FP16, EDGE_TPU)
    large = MatMul("W_Q", Part.PROJECTION, 10**103, 10**103, 10**103, count=1)
    assert bytes_moved(large, FP16) == pytest.approx(6e206)
    with pytest.raises(CountOverflowError, match=r"^W_Q: "):  # of operations
        device_seconds(large, FP16, "decode", get_device("H200"))
    with pytest.raises(CountOverflowError, match=r"^W_Q: "):
        bytes_moved(replace(large, n=10**206), FP16)


def test_bytes_of_a_decode_step_by_hand():
    d, kv, ff, layers, length, batch = 96, 32, 200, 2, 50, 3
    weights = layers * (2 * d * d + 2 * d * kv + 3 * d * ff)
    read = layers * (4 * d + 2 * d + ff)  # Q, K, V and X; gate and FFN in; FFN out
    written = layers * (2 * d + 2 * kv + 2 * ff + d)
    cache, queries = layers * 2 * kv * length, layers * 2 * d  # each K and V once, however many heads share it
    got = bytes_of(SMALL, length, Precision(2, 8, 4, 16), batch)
    assert got["projection"] == weights * 2 / 8 + batch * (read + 2 * written)
    assert got["attention"] == batch * (cache * 4 / 8 + 2 * queries)
    assert got["unquantized"] == 2 * (1000 * d + batch * (d + 1000))


def test_bytes_equal_the_recorded_kilobytes():
    """`block.py` counts the recorded `kilobytes` of weights, K and V from PyTorch's own tensors."""
    rows = recorded.read()
    rows = rows[(rows.dtype == "bfloat16") & (rows.weights == "bfloat16") & rows.part.isin(["projection", "attention"])]
    for row in rows.drop_duplicates(["model", "context_length", "part"]).itertuples():
        model = get_model(row.model)
        step = matmul_traffic(model, row.context_length, precision=Precision(activations=1e-9))
        part = step[step.part == row.part]
        q = model.num_heads * model.head_dim
        activations = {"attention": 2 * 2 * q, "projection": 0}[row.part]
        if row.part == "projection":
            widths = [4 * q, (1 + model.gated_ffn) * model.intermediate_size, model.hidden_size]
            activations = 2 * sum(widths)
        assert part.bytes.sum() / model.num_layers - activations == pytest.approx(row.kilobytes * 1e3, rel=1e-6)


def test_latents_are_read_once():
    model = get_model("deepseek-v3")
    latent, length = model.latent, 4096
    cache = 2 * model.num_layers * length * (latent.kv_rank + latent.rope_head_dim)
    assert footprint(model, context_length=length)["attention"] == cache
    got = bytes_of(model, length)["attention"]
    queries_and_results = 2 * model.num_layers * model.num_heads * (2 * latent.kv_rank + latent.rope_head_dim)
    assert got == cache + queries_and_results


def test_a_window_and_experts_by_hand():
    windowed = replace(SMALL, windows=(16, None))
    kv = 2 * 2 * 32  # K and V, in bytes a token and layer
    assert footprint(windowed, context_length=50)["attention"] == kv * (16 + 50)
    sparse = replace(SMALL, experts=Experts(8, 2, 40))
    one_expert = 3 * 96 * 40
    others = 2 * (2 * 96 * 96 + 2 * 96 * 32)
    assert footprint(sparse)["projection"] == 2 * (others + 2 * 8 * one_expert)  # all that must be held
    step = matmul_traffic(sparse, 1, precision=Precision(activations=1e-9))
    active = step[step.name.str.startswith("expert")].bytes.sum()
    assert active == pytest.approx(2 * 2 * (2 * one_expert + 2 * (2 * 40 + 96)))  # two experts, and their results


def test_an_untied_embedding_is_held_and_not_read():
    tied = replace(SMALL, tied_embeddings=True)
    assert footprint(SMALL)["unquantized"] - footprint(tied)["unquantized"] == 2 * 1000 * 96
    assert bytes_of(SMALL, 9) == bytes_of(tied, 9)


def test_time_is_the_larger_of_memory_and_arithmetic():
    slow_memory, slow_compute = Device("a", 1e-3, 1e9, 1e9), Device("b", 1e9, 1e-6, 4e-6)
    frames = {
        device.name: matmul_traffic(SMALL, 50, device, batch=2, precision=W2) for device in (slow_memory, slow_compute)
    }
    assert frames["a"].seconds.tolist() == pytest.approx((frames["a"].bytes / 1e6).tolist())
    b = frames["b"]
    peak = b.part.map({"projection": 4e6, "attention": 1e6, "unquantized": 1e6})  # 8-bit activations: the INT8 peak
    assert b.seconds.tolist() == pytest.approx((b.operations / peak).tolist())


@pytest.mark.parametrize(
    ("weights", "activations", "peak"),
    [
        (16, 16, 1),
        (2, 16, 1),  # weights are widened to 16 bits
        (16, 8, 1),  # activations too
        (9, 9, 1),
        (8, 8, 3),  # the faster of INT8 (2) and FP8 (3)
        (8.5, 8.25, 3),  # with scales
        (1.58, 8, 3),
        (8, 4, 3),
        (4.5, 4.5, 5),  # the faster of INT4 (4) and FP4 (5)
        (2, 4, 5),
    ],
)
def test_the_wider_operand_decides_at_which_peak_projections_run(weights, activations, peak):
    device = Device("formats", 1e9, fp16_tflops=1e-6, int8_tops=2e-6, fp8_tflops=3e-6, int4_tops=4e-6, fp4_tflops=5e-6)
    frame = matmul_traffic(SMALL, 50, device, batch=2, precision=Precision(weights=weights, activations=activations))
    peaks = frame.part.map({"projection": peak * 1e6, "attention": 1e6, "unquantized": 1e6})
    assert frame.seconds.tolist() == pytest.approx((frame.operations / peaks).tolist())


def test_four_bits_run_at_the_8_bit_peak_where_there_is_no_4_bit_one():
    a16, a8, a4 = (share("llama-2-7b", 512, "H100 SXM", batch=512, precision=Precision(4, bits)) for bits in (16, 8, 4))
    assert a4.partial_speedup == pytest.approx(a8.partial_speedup)
    assert a8.partial_speedup == pytest.approx(1979 / 989, rel=1e-3) and a16.partial_speedup == pytest.approx(1)
    for device, peak in (("B200", 9000 / 2250), ("RTX A6000", 619.2 / 154.8), ("MI355X", 10066.3 / 2516.6)):
        gain = share("llama-2-7b", 512, device, batch=8, phase="prefill", precision=Precision(4, 4))
        assert gain.partial_speedup == pytest.approx(peak, rel=1e-3)
    with pytest.raises(InputError, match=r"Apple M4 has no int8_tops or fp8_tflops or int4_tops or fp4_tflops, which"):
        matmul_traffic("llama-2-7b", 512, "Apple M4", batch=8, precision=Precision(4, 4))


@pytest.mark.parametrize("name", devices().name)
def test_at_batch_1_the_device_cancels(name):
    for model in map(get_model, model_names()):
        of_bytes, of_time = (speedup(model, 2048, W2, device=device) for device in (None, get_device(name)))
        for value in ("fraction", "partial_speedup", "ceiling", "total_speedup"):
            assert getattr(of_bytes, value) == pytest.approx(getattr(of_time, value), rel=1e-12)


def test_a_prefill_gains_the_ratio_of_the_peaks():
    gain = speedup(get_model("opt-13b"), 512, Precision(8, 8), batch=4, device=get_device("A100 80GB"), phase="prefill")
    assert gain.partial_speedup == pytest.approx(2, rel=1e-6)
    assert gain.fraction > 0.97


def test_the_gain_of_fewer_bits_follows_equation_5():
    gain = speedup(SMALL, 50, W2)
    before, after = bytes_of(SMALL, 50), bytes_of(SMALL, 50, W2)
    assert gain.fraction == before["projection"] / sum(before.values())
    assert gain.total_speedup == pytest.approx(sum(before.values()) / sum(after.values()))
    assert gain.total_speedup < gain.ceiling
    without = share(SMALL, 50, None, precision=W2)
    parts = [bytes_of(SMALL, 50, bits) for bits in (FP16, W2)]
    assert without.fraction == parts[0]["projection"] / (parts[0]["projection"] + parts[0]["attention"])
    before, after = (part["projection"] + part["attention"] for part in parts)
    assert without.total_speedup == pytest.approx(before / after)
    everything = speedup(SMALL, 50, Precision(8, 8, 8, 8), Precision(16, 16, 16, 16))
    assert everything.total_speedup > speedup(SMALL, 50, Precision(8, 8)).total_speedup


def test_amdahl_s_law_of_capacity():
    model = get_model("llama-7b")
    projections, rest = 6_476_005_376, 2 * 32000 * 4096
    gain = saving(model, Precision(weights=1), other_bytes=10**9, unquantized=True)
    whole = 2 * (projections + rest) + 10**9
    assert gain.fraction == pytest.approx(2 * projections / whole)
    assert gain.total_speedup == pytest.approx(whole / (projections / 8 + 2 * rest + 10**9))
    assert gain.partial_speedup == 16
    assert saving(model, Precision(weights=1)).fraction == 1  # without a cache the projections are all there is
    less = saving(model, Precision(weights=1), unquantized=True).total_speedup
    assert less > saving(model, Precision(weights=1), unquantized=True, other_bytes=0.5).total_speedup


def test_experts_of_one_token_each_need_no_peak():
    """In a decode step a MatMul of one row is as fast as its bytes; experts can have a number of rows each."""
    matmul = MatMul("expert W_I", Part.PROJECTION, np.array([1, 1]), 64, 32, 3)
    for phase, rows in (("prefill", matmul.m), ("decode", np.array([1, 2]))):
        with pytest.raises(InputError, match="mine has no fp16_tflops"):
            device_seconds(replace(matmul, m=rows), FP16, phase, Device("mine", 1))
    arithmetic, memory = device_seconds(matmul, FP16, "decode", Device("mine", 1))
    assert (arithmetic <= memory).all()


def test_what_fits_into_a_memory_is_the_footprint():
    exact = Device("exact", 1, memory_gb=sum(footprint(SMALL, context_length=7, batch=3).values()) / 2**30)
    assert fits(SMALL, exact, 7, batch=3) is True
    assert fits(SMALL, exact, 8, batch=3) is False and fits(SMALL, exact, 7, batch=4) is False
    assert fits(SMALL, exact, 8, Precision(weights=8), batch=3) is True
    one = replace(exact, memory_gb=sum(footprint(SMALL, context_length=7).values()) / 2**30)
    assert fits(SMALL, one, 7) is True
    assert fits(SMALL, "Apple M4", 7) is None
    for wrong, problem in ((("exact", 7), "device: 'exact' is unknown"), ((hardware.CLOUD_TPU, 7), "is not a Device")):
        with pytest.raises(InputError, match=problem):
            fits(SMALL, *wrong)
    with pytest.raises(InputError, match=r"^precision: 8 is not a Precision"):
        fits(SMALL, exact, 7, 8)


@pytest.mark.parametrize("bits", [0, -1, math.nan, math.inf, 65, True, "8"])
def test_bad_bits_are_rejected(bits):
    with pytest.raises(
        InputError, match=f"weights: {bits!r} is not a number of bits; it must be above 0 and at most 64"
    ):
        Precision(weights=bits)
    assert Precision(weights=64, cache=1e-9).weights == 64


@pytest.mark.parametrize("bandwidth", [None, 0, -1, math.nan, math.inf, "fast"])
def test_a_device_without_bandwidth_is_rejected(bandwidth):
    with pytest.raises(InputError, match=rf"^mine: bandwidth_gb_s: {bandwidth!r} is not a number above 0"):
        Device("mine", bandwidth)


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match=r"^device: 'A200' is unknown; did you mean H200, B200, GB200\?"):
        get_device("A200")
    with pytest.raises(InputError, match=r"^phase: 'train' is unknown; known: decode, prefill"):
        matmul_traffic(SMALL, 5, phase="train")
    with pytest.raises(
        InputError, match=r"^device: Core i7-13700H has no fp16_tflops, which a batch or a prefill needs"
    ):
        matmul_traffic(SMALL, 5, device=get_device("Core i7-13700H"), phase="prefill")
    with pytest.raises(InputError, match=r"^device: Tesla V100 SXM2 has no int8_tops or fp8_tflops, which a batch or"):
        speedup(SMALL, 5, W2, batch=64, device=get_device("Tesla V100 SXM2"))
    one = speedup(SMALL, 5, W2, device=get_device("Tesla V100 SXM2"))
    assert one.total_speedup == pytest.approx(speedup(SMALL, 5, W2).total_speedup)
    for wrong in ({"precision": 2}, {"precision": W2, "baseline": 4}):
        with pytest.raises(InputError, match=rf"^{[*wrong][-1]}: . is not a Precision"):
            share(SMALL, 5, None, **wrong)
        with pytest.raises(InputError, match=rf"^{[*wrong][-1]}: . is not a Precision"):
            saving(SMALL, **wrong)
    for batch, problem in (
        (0, "is not a positive"),
        (-3.5, "is not a positive"),
        (2, "without a cache is the same as 1"),
    ):
        with pytest.raises(InputError, match=rf"^batch: {batch} {problem}"):
            saving(SMALL, W2, batch=batch)
    with pytest.raises(InputError, match=r"^other_bytes: True"):
        saving(SMALL, W2, other_bytes=True)
    with pytest.raises(InputError, match=r"^device: 7 is not a Device"):
        matmul_traffic(SMALL, 5, 7)
    with pytest.raises(InputError, match=r"^name: 3 does not name a device"):
        Device(3, 100)
    with pytest.raises(InputError, match=r"^precision: 2 is not a Precision"):
        matmul_traffic(SMALL, 5, precision=2)
    with pytest.raises(InputError, match=r"^precision: 2 is not a Precision"):
        footprint(SMALL, precision=2)
    with pytest.raises(InputError, match=r"^other_bytes: -5 is not a number of bytes"):
        saving(SMALL, W2, other_bytes=-5)


@pytest.mark.parametrize(
    ("line", "old", "new", "problem"),
    [
        (3, ",1555,", ",,", "bandwidth_gb_s: '' is not a valid positive_float"),
        (4, ",2039,", ",-1,", "bandwidth_gb_s: '-1' is not a valid positive_float"),
        (5, ",154.8,", ",fast,", "fp16_tflops: 'fast' is not a valid optional_float"),
    ],
)
def test_a_damaged_datasheet_is_named_by_its_line(tmp_path, monkeypatch, line, old, new, problem):
    lines = (hardware.DATA / "hardware" / "devices.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    (tmp_path / "hardware").mkdir()
    (tmp_path / "hardware" / "devices.csv").write_text("".join(lines), encoding="utf-8")
    monkeypatch.setattr(hardware, "DATA", tmp_path)
    with pytest.raises(TableError, match=rf"devices\.csv, line {line}: {problem}"):
        hardware._device_rows.__wrapped__()


def test_every_datasheet_has_its_source():
    assert (devices().source != "").all()


def test_each_part_is_bound_by_memory_or_arithmetic():
    small_batch, large_batch = (share("llama-2-7b", 512, "A100 80GB", batch=batch) for batch in (1, 512))
    assert small_batch.bound == {"projection": "memory", "attention": "memory"}
    assert large_batch.bound == {"projection": "arithmetic", "attention": "memory"}
    traffic = matmul_traffic("llama-2-7b", 512, "a100 80gb", batch=512).groupby("part").seconds.sum()
    assert large_batch.projection == pytest.approx(traffic["projection"])
    assert share("llama-2-7b", 512, "cloud").bound == {}


@pytest.mark.parametrize("metric", ["seconds", "bytes"])
def test_crossovers_on_a_device_are_the_first_where_f_is_at_most_half(metric):
    device = Device("slow", 1, 1e-3, 1e-3)
    length = crossover_context_length(SMALL, device, metric=metric, unquantized=True)
    lengths = range(1, length + 20)
    found = [share(SMALL, at, device, metric=metric, unquantized=True).fraction <= 0.5 for at in lengths]
    assert found.index(True) == length - 1 and all(found[length - 1 :])
    batch = crossover_batch(SMALL, 300, device, metric=metric)
    found = [share(SMALL, 300, device, metric=metric, batch=b).fraction <= 0.5 for b in range(1, (batch or 200) + 1)]
    assert (found.index(True) + 1 if any(found) else None) == batch


@pytest.mark.parametrize("model", ["llama-3.1-8b", "opt-66b", "gpt2", "qwen3-30b-a3b"])
def test_a_crossover_of_a_bandwidth_alone_is_that_of_bytes(model):
    """Also where both parts move the same bytes: with most of these rates one more rounding lies between them."""
    of_bytes = crossover_context_length(model, None, metric="bytes")
    batch = crossover_batch(model, 8192, None, metric="bytes")
    for rate in (1, 3.3, 17.1, 34, 68.3, 273, 1008, 3350, 4800, 8000 / 3):
        assert crossover_context_length(model, Device("memory", rate)) == of_bytes
        assert crossover_batch(model, 8192, Device("memory", rate, 1e9)) == batch
    exact = share(model, of_bytes, None, metric="bytes"), share(model, of_bytes - 1, None, metric="bytes")
    assert exact[0].fraction <= 0.5 < exact[1].fraction


def test_generation_on_a_device_is_the_sum_over_its_steps():
    asked = {"batch": 3, "precision": W2, "unquantized": True}
    for device in ("A100 80GB", Device("slow", 1, 1e-3, 1e-3)):
        whole = generation_cost(SMALL, 20, device, new_tokens=30, **asked)
        steps = [share(SMALL, 20, device, phase="prefill", **asked)]
        steps += [share(SMALL, length, device, **asked) for length in range(21, 51)]
        for part in ("projection", "attention", "unquantized"):
            assert getattr(whole, part) == pytest.approx(sum(getattr(step, part) for step in steps))
        after = sum((step.projection + step.attention + step.unquantized) / step.total_speedup for step in steps)
        assert whole.total_speedup == pytest.approx((whole.projection + whole.attention + whole.unquantized) / after)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"precision": 8}, "precision: 8 is not a Precision"),
        ({"device": 3}, "device: 3 is not a Device"),
    ],
)
def test_traffic_of_something_else_is_rejected(given, message):
    with pytest.raises(InputError, match=f"^{message}"):
        matmul_traffic("opt-350m", 128, **given)
