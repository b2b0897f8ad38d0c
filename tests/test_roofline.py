"""The roofline reading: bytes and operations by hand, time on made-up devices, and the datasheets."""

import math
from dataclasses import replace

import pytest

from llmamdahl import roofline
from llmamdahl.device import recorded
from llmamdahl.errors import InputError, TableError
from llmamdahl.models import Decoder, Experts, get_model, model_names
from llmamdahl.roofline import FP16, Device, Precision, footprint, get_device, matmul_traffic, saving, speedup

SMALL = Decoder("small", 96, 2, 6, 200, True, 1000, 2048, 96, num_kv_heads=2)
W2 = Precision(weights=2, activations=8)


def bytes_of(model, length, precision=FP16, batch=1, phase="decode"):
    return matmul_traffic(model, length, precision, batch, phase=phase).groupby("part").bytes.sum().to_dict()


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


def test_bytes_of_what_is_measured():
    """The recorded `kilobytes` are counted from PyTorch's own tensors, in `block.py`: of weights, K and V."""
    rows = recorded.read()
    rows = rows[(rows.dtype == "bfloat16") & (rows.weights == "bfloat16") & rows.part.isin(["projection", "attention"])]
    for row in rows.drop_duplicates(["model", "context_length", "part"]).itertuples():
        model = get_model(row.model)
        step = matmul_traffic(model, row.context_length, Precision(activations=1e-9))
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


def test_a_window_and_experts():
    windowed = replace(SMALL, windows=(16, None))
    kv = 2 * 2 * 32  # K and V, in bytes a token and layer
    assert footprint(windowed, context_length=50)["attention"] == kv * (16 + 50)
    sparse = replace(SMALL, experts=Experts(8, 2, 40))
    one_expert = 3 * 96 * 40
    others = 2 * (2 * 96 * 96 + 2 * 96 * 32)
    assert footprint(sparse)["projection"] == 2 * (others + 2 * 8 * one_expert)  # all that must be held
    step = matmul_traffic(sparse, 1, Precision(activations=1e-9))
    at_work = step[step.name.str.startswith("expert")].bytes.sum()
    assert at_work == pytest.approx(2 * 2 * (2 * one_expert + 2 * (2 * 40 + 96)))  # two of them, and what they write


def test_an_untied_embedding_is_held_and_not_read():
    tied = replace(SMALL, tied_embeddings=True)
    assert footprint(SMALL)["unquantized"] - footprint(tied)["unquantized"] == 2 * 1000 * 96
    assert bytes_of(SMALL, 9) == bytes_of(tied, 9)


def test_time_is_the_larger_of_two():
    slow_memory, slow_compute = Device("a", 1e-3, 1e9, 1e9), Device("b", 1e9, 1e-6, 4e-6)
    frames = {device.name: matmul_traffic(SMALL, 50, W2, 2, device) for device in (slow_memory, slow_compute)}
    assert frames["a"].seconds.tolist() == pytest.approx((frames["a"].bytes / 1e6).tolist())
    b = frames["b"]
    peak = b.part.map({"projection": 4e6, "attention": 1e6, "unquantized": 1e6})  # 8-bit activations: the INT8 peak
    assert b.seconds.tolist() == pytest.approx((b.operations / peak).tolist())


@pytest.mark.parametrize("name", [row["name"] for row in roofline.devices() if row["fp16_tflops"] and row["int8_tops"]])
def test_for_one_sequence_the_device_cancels(name):
    for model in map(get_model, model_names()):
        of_bytes, of_time = (speedup(model, 2048, W2, device=device) for device in (None, get_device(name)))
        for value in ("fraction", "partial_speedup", "ceiling", "total_speedup"):
            assert getattr(of_bytes, value) == pytest.approx(getattr(of_time, value), rel=1e-12)


def test_a_prefill_gains_what_the_peaks_differ_by():
    gain = speedup(get_model("opt-13b"), 512, Precision(8, 8), batch=4, device=get_device("A100 80GB"), phase="prefill")
    assert gain.partial_speedup == pytest.approx(2, rel=1e-6)
    assert gain.fraction > 0.97


def test_equation_5_for_what_changes_and_what_stays():
    gain = speedup(SMALL, 50, W2)
    before, after = bytes_of(SMALL, 50), bytes_of(SMALL, 50, W2)
    assert gain.fraction == before["projection"] / sum(before.values())
    assert gain.total_speedup == pytest.approx(sum(before.values()) / sum(after.values()))
    assert gain.total_speedup < gain.ceiling
    everything = speedup(SMALL, 50, Precision(8, 8, 8, 8), Precision(16, 16, 16, 16))
    assert everything.total_speedup > speedup(SMALL, 50, Precision(8, 8)).total_speedup


def test_amdahl_s_law_of_capacity():
    model = get_model("llama-7b")
    projections, rest = 6_476_005_376, 2 * 32000 * 4096
    gain = saving(model, Precision(weights=1), other_bytes=10**9)
    whole = 2 * (projections + rest) + 10**9
    assert gain.fraction == pytest.approx(2 * projections / whole)
    assert gain.total_speedup == pytest.approx(whole / (projections / 8 + 2 * rest + 10**9))
    assert gain.partial_speedup == 16


@pytest.mark.parametrize("bits", [0, -1, math.nan, math.inf, 65, True, "8", None])
def test_bad_bits(bits):
    with pytest.raises(InputError, match=r"weights: .* is not a number of bits; it must be above 0 and at most 64"):
        Precision(weights=bits)


@pytest.mark.parametrize("bandwidth", [None, 0, -1, math.nan, math.inf, "fast"])
def test_a_device_without_bandwidth(bandwidth):
    with pytest.raises(InputError, match=r"mine: bandwidth_gb_s: .* is not a number above 0"):
        Device("mine", bandwidth)


def test_bad_questions():
    with pytest.raises(InputError, match=r"device: 'A200' is unknown; known: Tesla V100 SXM2, A100 40GB"):
        get_device("A200")
    with pytest.raises(InputError, match="phase: 'train' is unknown; known: decode, prefill"):
        matmul_traffic(SMALL, 5, phase="train")
    with pytest.raises(InputError, match="device: Core i7-13700H has no fp16_tflops, which a batch or a prefill needs"):
        matmul_traffic(SMALL, 5, device=get_device("Core i7-13700H"), phase="prefill")
    with pytest.raises(InputError, match="device: Tesla V100 SXM2 has no int8_tops, which a batch or a prefill needs"):
        speedup(SMALL, 5, W2, batch=64, device=get_device("Tesla V100 SXM2"))
    one = speedup(SMALL, 5, W2, device=get_device("Tesla V100 SXM2"))
    assert one.total_speedup == pytest.approx(speedup(SMALL, 5, W2).total_speedup)
    for wrong, field in (((2,), "after"), ((W2, 4), "before")):
        with pytest.raises(InputError, match=f"{field}: . is not a Precision"):
            speedup(SMALL, 5, *wrong)
        with pytest.raises(InputError, match=f"{field}: . is not a Precision"):
            saving(SMALL, *wrong)
    for batch, problem in (
        (0, "is not a positive"),
        (-3.5, "is not a positive"),
        (8, "without a cache is the same as 1"),
    ):
        with pytest.raises(InputError, match=f"batch: {batch} {problem}"):
            saving(SMALL, W2, batch=batch)
    with pytest.raises(InputError, match="other_bytes: True"):
        saving(SMALL, W2, other_bytes=True)
    with pytest.raises(InputError, match=r"device: 'H200' is a name; get_device\('H200'\) looks it up"):
        speedup(SMALL, 5, W2, device="H200")
    with pytest.raises(InputError, match="name: 3 does not name a device"):
        Device(3, 100)
    with pytest.raises(InputError, match="precision: 2 is not a Precision"):
        matmul_traffic(SMALL, 5, 2)
    with pytest.raises(InputError, match="other_bytes: -5 is not a number of bytes"):
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
    lines = (roofline.DATA / "hardware" / "devices.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    (tmp_path / "hardware").mkdir()
    (tmp_path / "hardware" / "devices.csv").write_text("".join(lines), encoding="utf-8")
    monkeypatch.setattr(roofline, "DATA", tmp_path)
    with pytest.raises(TableError, match=rf"devices\.csv, line {line}: {problem}"):
        roofline.devices.__wrapped__()


def test_every_datasheet_has_its_source():
    assert all(row["source"] for row in roofline.devices())
