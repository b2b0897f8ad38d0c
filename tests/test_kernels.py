"""Kernel times of GPUs: what the reader rejects, and steps added up by hand."""

import pandas as pd
import pytest

from llmamdahl.device import kernels, prefills
from llmamdahl.errors import InputError, TableError


@pytest.fixture(scope="module")
def steps():
    return kernels.steps()


def test_whole_models_on_seven_devices(steps):
    assert steps.device.nunique() == 7
    assert set(steps.model) == set(kernels.MODELS)
    assert {"TRTLLM", "VLLM"} == set(steps.framework)
    assert steps.context_length.max() == 32768
    assert not steps.duplicated([*kernels.SETUP, "model", "batch", "context_length", "weights", "cache"]).any()


def test_a_step_is_the_sum_of_its_kernels(steps):
    """OPT 350M on an H100, from the rows of the two files."""
    gemm, attention = kernels.read_gemm(), kernels.read_attention()
    here = "device == 'H100 SXM' and framework == 'TRTLLM'"
    one = gemm.query(here + " and weights == 'fp8' and m == 8").set_index(["n", "k"]).latency_ms
    layer = 4 * one[1024, 1024] + one[4096, 1024] + one[1024, 4096]
    core = attention.query(here + " and heads == 16 and kv_heads == 16 and head_width == 64 and cache == 'fp8'")
    core = core.set_index(["batch", "context_length"]).latency_ms[8, 2048]
    asked = " and model == 'opt-350m' and batch == 8 and context_length == 2048 and weights == 'fp8' and cache == 'fp8'"
    (row,) = steps.query(here + asked).itertuples()
    assert row.projection_us == pytest.approx(24e3 * layer, rel=1e-12)
    assert row.attention_us == pytest.approx(24e3 * core, rel=1e-12)
    assert row.fraction == pytest.approx(layer / (layer + core), rel=1e-12)


def test_fused_queries_keys_and_values_are_one_kernel():
    """OPT 6.7B on an A100: 12288 x 4096 once in place of 4096 x 4096 three times."""
    here = "device == 'A100 80GB' and framework == 'TRTLLM' and weights == 'int4_wo'"
    one = kernels.read_gemm().query(here + " and m == 1").set_index(["n", "k"]).latency_ms
    fused = kernels.steps([kernels.fused("opt-6.7b")])
    assert set(fused.qkv) == {"fused"}
    (row,) = fused.query(here + " and batch == 1 and context_length == 2048").itertuples()
    layer = one[12288, 4096] + one[4096, 4096] + one[16384, 4096] + one[4096, 16384]
    assert row.projection_us == pytest.approx(32e3 * layer, rel=1e-12)
    assert len(kernels.steps(map(kernels.fused, kernels.FUSED)).model.unique()) == len(kernels.FUSED)


def test_a_prefill_is_the_sum_of_its_kernels():
    """OPT 13B: the 20480 of its FFN is one twelfth of the way from 16384 to 65536; its 40 heads are on the grid."""
    found = prefills.prefill_times().query("qkv == 'apart'").set_index(["model", "context_length", "weights"])
    gemm, attention = prefills.read_prefills()
    one = gemm.query("m == 1024 and weights == 'sq'").set_index(["n", "k"]).latency_ms
    wide = one[16384, 5120] + (one[65536, 5120] - one[16384, 5120]) / 12
    deep = one[5120, 16384] + (one[5120, 65536] - one[5120, 16384]) / 12
    row = found.loc["opt-13b", 256, "sq"]
    assert row.projection_us == pytest.approx(40e3 * (4 * one[5120, 5120] + wide + deep), rel=1e-12)
    core = attention.query("context_length == 256").set_index("heads").latency_ms
    assert row.attention_us == pytest.approx(40e3 * core[40], rel=1e-12)
    assert row.interpolated == pytest.approx(40e3 * (wide + deep) / (row.projection_us + row.attention_us), rel=1e-12)
    # 56 heads are between 48 and 64
    larger = found.loc["opt-30b", 256, "sq"]
    assert larger.attention_us == pytest.approx(48e3 * (core[48] + core[64]) / 2, rel=1e-12)


def test_lines_pass_near_the_points_that_are_left_out():
    checked = prefills.left_out().query("size >= 12288 or along == 'heads'")
    assert set(checked.along) == {"n", "k", "heads"} and len(checked) == 38
    assert checked.error.abs().max() < 0.08 and checked.error.abs().median() < 0.03


def test_a_size_beyond_the_grid_is_not_extrapolated(monkeypatch):
    gemm, attention = prefills.read_prefills()
    monkeypatch.setattr(prefills, "read_prefills", lambda: (gemm[gemm.n != 65536], attention))
    with pytest.raises(InputError, match=r"^n: 20480 is not within the sizes timed: .*16384"):
        prefills.prefill_times()


def test_gains_are_the_law(steps):
    gains = kernels.gains(steps)
    here = gains.query("device == 'A100 80GB' and model == 'opt-6.7b' and weights == 'int4_wo'")
    row = here.query("batch == 1 and context_length == 2048").iloc[0]
    assert row.bits_speedup == 4 and row.partial_speedup == pytest.approx(1.82, abs=0.01)
    assert row.total_speedup == pytest.approx(1 / (1 - row.fraction + row.fraction / row.partial_speedup))
    assert row.total_speedup < row.ceiling


def test_weights_faster_than_the_memory_are_marked(steps):
    """Six megabytes in three microseconds cannot come from a memory of 864 GB/s."""
    cached = steps[(steps.batch == 1) & (steps.weights == "bfloat16")].groupby("device").cached.mean()
    assert cached["L40S"] == 1
    assert (cached[["A100 80GB", "H100 SXM", "H200", "B200", "Arc Pro B60"]] == 0).all()


def test_attention_faster_than_the_memory_is_found(steps):
    """K and V of GPT 125M at 32,768 tokens: 12 layers x 2 x 12 heads x 64 x 2 bytes a token, at 1792 GB/s."""
    one = steps.query("batch == 1 and weights == 'bfloat16' and cache == 'bfloat16' and qkv == 'apart' and not cached")
    found = kernels.cached_attention(one[one.model != "opt-350m"])
    assert len(found) == 7 and set(found.device) == {"RTX PRO 6000"}
    row = found.query("model == 'gpt2' and context_length == 32768").iloc[0]
    memory_us = 32768 * 12 * 2 * 12 * 64 * 2 / 1792e3
    assert row.attention_us < memory_us
    assert row.at_memory == pytest.approx(row.projection_us / (row.projection_us + memory_us))
    assert 0.27 < row.at_memory < 0.28 and (found.at_memory < found.fraction).all()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (("bfloat16", "bf17"), "weights: 'bf17' is not a known type"),
        (("A100 80GB", "A100 90GB"), "device: 'A100 90GB'"),
        ((",768,768,", ",768,,"), "k"),
        ((",768,768,", ",768,0,"), "k: 0 is not above 0"),
    ],
)
def test_a_damaged_file_is_rejected_with_its_line(tmp_path, change, error):
    header, first = (kernels.KERNELS / "gemm.csv").read_text().split("\n")[:2]
    if ",768,768," not in first:
        first = first.replace(",".join(first.split(",")[6:9]), "1,768,768")
    path = tmp_path / "gemm.csv"
    path.write_text(f"{header}\n{first.replace(*change)}\n")
    with pytest.raises(TableError, match=r"line 2") as caught:
        kernels.read_gemm(path)
    assert error in str(caught.value)


def test_two_times_for_one_kernel_are_rejected(tmp_path):
    header, first = (kernels.KERNELS / "attention.csv").read_text().split("\n")[:2]
    path = tmp_path / "attention.csv"
    path.write_text(f"{header}\n{first}\n{first}\n")
    with pytest.raises(TableError, match=r"line 3"):
        kernels.read_attention(path)


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("opt-2.7b", r"opt-2.7b's attention \(32 heads, 32 of K and V, 80 wide\) was timed on no device"),
        ("llama-7b", r"llama-7b's projection of 4096 inputs and 11008 outputs .* the nearest has 4096 and 12288"),
    ],
)
def test_a_model_off_the_grid_names_its_shape(model, error):
    with pytest.raises(InputError, match=error):
        kernels.steps([model])


def test_every_row_has_its_source():
    for table in (kernels.read_gemm(), kernels.read_attention(), *prefills.read_prefills()):
        assert isinstance(table, pd.DataFrame)
        assert table[["source", "commit", "version"]].ne("").all().all()
    assert "Apache License" in (kernels.KERNELS / "LICENSE").read_text()
