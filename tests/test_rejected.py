"""Inputs that `make fuzz` found: each gave a traceback, a hang or a wrong answer, and is now rejected by name."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from llmamdahl import amdahl, plots
from llmamdahl.analysis import curves, share, sweep
from llmamdahl.design.area import accumulator_bits
from llmamdahl.design.kinds import described
from llmamdahl.errors import InputError
from llmamdahl.hardware import EDGE_TPU, Device, SystolicArray
from llmamdahl.models import Decoder, Experts, from_hf_config, get_model
from llmamdahl.scalesim.reports import report_rows
from llmamdahl.systolic import gemm_cost
from llmamdahl.workload import Part, decode_step

UNPRINTABLE = 10**5000  # Python does not print an int of more than 4300 digits
PAIR = np.array([1, 2])
MASKED = np.ma.array([1, 2], mask=[0, 1])
LLAMA = {"model_type": "llama", "hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 6}
MOE = {**LLAMA, "model_type": "qwen3_moe"}


def decoder(**changes):
    sizes = ("hidden_size", "num_layers", "num_heads", "intermediate_size", "vocab_size", "max_position")
    return Decoder(**{"name": "m", **dict.fromkeys(sizes, 2), "embedding_size": 2, "gated_ffn": False, **changes})


ONES = decoder(hidden_size=1, num_heads=1, intermediate_size=1)  # every MatMul is 1 x 1 x 1: F was NaN


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SystolicArray(4, 4, np.array(["os", "ws"])), "dataflow: array"),
        (lambda: SystolicArray(4, 4, pd.Series(["os", "ws"])), "dataflow: 0 "),
        (lambda: SystolicArray(4, 4, name=7), "^name: 7 is not a str"),
        (lambda: SystolicArray(-UNPRINTABLE, 4), "rows: int that is too long to print is not a positive whole number"),
        (lambda: SystolicArray(np.ma.array(5, mask=True), 4), "rows: masked_array"),
        (lambda: gemm_cost(UNPRINTABLE, 1, 1, EDGE_TPU), "m: a number of 16610 bits is too large; at most 1000"),
        (lambda: gemm_cost([[1, 2], [3]], 1, 1, EDGE_TPU), r"m: \[\[1, 2\], \[3\]\] is not a rectangular array"),
        (lambda: gemm_cost(1, MASKED, 1, EDGE_TPU), "(?s)n: masked_array.* has masked elements"),
        (lambda: gemm_cost(1, 1, 1, EDGE_TPU, counting=PAIR), r"counting: array\(\[1, 2\]\) is unknown"),
        (lambda: get_model(Path("gpt2-xl")), r"model: \w*Path\('gpt2-xl'\) is unknown"),  # it gave Table 2's misprint
        (lambda: get_model(np.array("gpt2-xl")), "model: array"),
        (lambda: get_model(UNPRINTABLE), "model: int that is too long to print is unknown"),
        (lambda: amdahl.ceiling("0.5"), "fraction: '0.5' is not a number"),
        (lambda: amdahl.ceiling(b"0.5"), "fraction: b'0.5' is not a number"),
        (lambda: amdahl.ceiling(True), "fraction: True is not a number"),
        (lambda: amdahl.ceiling(np.array([0.5 + 1j])), "fraction: array"),
        (lambda: amdahl.ceiling(MASKED / 4), "fraction: masked_array"),
        (lambda: amdahl.total_speedup(0.5, np.array(["2020"], dtype="M8[Y]")), "partial_speedup: array"),
        (lambda: amdahl.total_speedup(0.5, np.timedelta64(5, "s")), "partial_speedup: np.timedelta64"),
        (lambda: amdahl.total_speedup(0.5, 10**400), "partial_speedup: 10+.* is too large for a float"),
        (lambda: sweep(["gpt2"], np.ones((2, 2), int), [EDGE_TPU]), "context_lengths: .* is not a single value"),
        (lambda: sweep(["gpt2"], [np.array([1.5]), UNPRINTABLE], [EDGE_TPU]), "context_lengths: .* not a single value"),
        (lambda: sweep(["gpt2"], np.array(5), [EDGE_TPU]), r"context_lengths: array\(5\) is not a list"),
        (lambda: sweep(["gpt2"], b"ab", [EDGE_TPU]), "context_lengths: b'ab' is not a list"),  # it gave l = 97 and 98
        (lambda: sweep(["gpt2"], [1], [EDGE_TPU], ifmap=PAIR), "ifmap: array"),
        (
            lambda: sweep([ONES], [1], [EDGE_TPU, SystolicArray(1, 1), SystolicArray(1, 1, name="another")]),
            "arrays: SCALE-Sim reports 0 cycles on '1x1' with dataflow os",
        ),
        (lambda: share(ONES, 1, SystolicArray(1, 1)), "hardware: SCALE-Sim reports 0 cycles"),
        (lambda: decoder(name=PAIR), "name: array"),
        (lambda: decoder(windows=np.array(5)), r"windows: array\(5\) is not a list"),
        (lambda: decoder(windows=b"ab"), "windows: b'ab' is not a list"),
        (lambda: decoder(experts=Experts(2, 1, 8), dense_layers=np.ones((2, 2), int)), "dense_layers: array"),
        (lambda: Experts(2, 1, 8, 0j), "shared_intermediate_size: 0j is not a whole number >= 0"),
        (lambda: Experts(2, 1, 8, np.float32(0)), "shared_intermediate_size: np.float32"),
        (lambda: Experts(2, 1, 8, np.False_), "shared_intermediate_size: np.False_"),
        (lambda: Experts(2, 1, 8, PAIR), "shared_intermediate_size: array"),
        (lambda: decode_step(get_model("gpt2"), -UNPRINTABLE), "context_length: int that is too long to print"),
        (lambda: from_hf_config("a" * 5000), r"config: 'a+\.\.\.: cannot be read \(File name too long\)"),
        (lambda: from_hf_config({**LLAMA, "unknown": PAIR}), r"config: unknown: array\(\[1, 2\]\) is not a value that"),
        (lambda: from_hf_config({**LLAMA, "hidden_size": PAIR}), "config: hidden_size: array"),
        (lambda: from_hf_config({**LLAMA, 7: 1}), "config: 7 is not a key of a config.json"),
        (lambda: from_hf_config({**LLAMA, "hidden_size": -UNPRINTABLE}), "llama: hidden_size: int that is too long"),
        (lambda: from_hf_config({**LLAMA, "architectures": [UNPRINTABLE]}), "architectures: .* has no LM head"),
        (lambda: report_rows([UNPRINTABLE], EDGE_TPU), "layers: int that is too long to print is not a ConvLayer or a"),
        (
            lambda: sweep(["gpt2"], [1], [SystolicArray(2, 2, clock_mhz=1), EDGE_TPU], metric="seconds"),
            "metric: edge has no 'seconds'; .*; give it a clock_mhz",  # its row was NaN
        ),
        (lambda: from_hf_config({**MOE, "num_hidden_layers": 10**12}), "num_hidden_layers: 10+ is more than any model"),
        (lambda: from_hf_config({**MOE, "mlp_only_layers": ["a"]}), "mlp_only_layers: .* is not a list of layers"),
        (lambda: from_hf_config({**MOE, "mlp_only_layers": [PAIR]}), "mlp_only_layers: .* is not a list of layers"),
        (
            lambda: from_hf_config({**LLAMA, "model_type": "gemma2", "layer_types": [Path("full_attention")] * 4}),
            "layer_types: .* is not a list of 4 layers",
        ),
    ],
)
def test_the_input_is_rejected_by_name(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert len(str(caught.value)) < 1500


def test_names_are_kept_to_the_last_character():
    names = ["a\0", "a"]  # NumPy takes the first's end for padding
    assert sweep([decoder(name=name) for name in names], [1], [EDGE_TPU]).model[:2].tolist() == names


def test_a_target_of_1_needs_no_improvement():
    assert amdahl.required_partial_speedup([1e-17, 0.3, 0, 1], 1).tolist() == [1, 1, 1, 1]  # the first gave inf


def test_a_part_that_is_the_whole_needs_the_target_itself():
    targets = [5e-324, 0.3, 49.0, 1.7976931348623153e308, np.inf]  # the first gave 0, the fourth inf
    assert amdahl.required_partial_speedup(1, targets).tolist() == targets


def test_a_part_that_takes_forever_is_the_bottleneck():
    assert amdahl.combined_speedup([0.5, 0.5], [5e-324, 1]) == 0
    assert amdahl.next_part([0.5, 0.5], [1, 5e-324]) == 1


def test_any_number_of_layers_takes_no_longer():
    few, many = (decode_step(decoder(num_layers=number), 8) for number in (2, 10**30))
    assert [(mm.name, mm.m, mm.n, mm.k) for mm in few] == [(mm.name, mm.m, mm.n, mm.k) for mm in many]
    layers = {mm.count for mm in many if mm.part is Part.PROJECTION}
    assert layers == {10**30}
    mixed = decode_step(decoder(num_layers=10**12, experts=Experts(2, 1, 8), dense_layers=(0, 7)), 8)
    assert {mm.name: mm.count for mm in mixed if mm.name.endswith("W_O")} == {"W_O": 2, "expert W_O": 10**12 - 2}


def test_harmless_keys_may_hold_anything():
    assert from_hf_config({**LLAMA, "torch_dtype": np.dtype("float16"), "_private": PAIR}) == from_hf_config(LLAMA)
    assert from_hf_config({**LLAMA, "_name_or_path": PAIR}).name == "llama"
    assert from_hf_config({**LLAMA, "_name_or_path": "/"}).name == "config"


def test_what_the_fuzz_tests_of_questions_found():
    """Each gave a traceback, a hang, or an error that named something else."""
    device = Device("mine", Fraction(20, 3))
    assert type(device.bandwidth_gb_s) is float  # Fractions cannot be printed as floats
    with pytest.raises(
        InputError, match=r"^mine: bandwidth_gb_s: 1e-300 is not between 1e-12 and 1e\+15; check its unit"
    ):
        Device("mine", 1e-300)
    with pytest.raises(InputError, match=r"^mine: bandwidth_gb_s: .*timedelta64.* is not a number above 0"):
        Device("mine", np.timedelta64(5, "s"))
    with pytest.raises(InputError, match=r"^name: \[?list.* does not name a device"):
        Device([10**5000], 1)
    with pytest.raises(InputError, match=r"^device: mine has no fp16_tflops"):  # experts differ in their tokens
        share("deepseek-v3.2", 40, Device("mine", 1), batch=40, experts="expected")
    with pytest.raises(
        InputError, match=rf"^experts: 'expected' is for at most {2**24} tokens, not {2**53}; use 'even'"
    ):
        share("kimi-linear-48b-a3b", 40, "edge", batch=2**53, experts="expected")
    with pytest.raises(InputError, match=r"^shares: unquantized is in the whole of only some of them"):
        curves([share("gpt2", 9, "edge"), share("gpt2", 9, "edge", unquantized=True)], [2])
    for none in ([0.5 + 1j], ["2"], [True], np.ma.array([2.0, 3.0], mask=[0, 1])):  # NumPy drops what it cannot hold
        with pytest.raises(InputError, match=r"(?s)^partial_speedups: .* is not a number, or an array of them"):
            curves(sweep(["gpt2"], [1], ["edge"]), none)
    with pytest.raises(InputError, match=r"^partial_speedups: .* is too large for a float"):
        curves(share("gpt2", 9, "edge"), -(10**400))
    with pytest.raises(InputError, match=r"^longest: 1.5 is not a positive whole number"):
        accumulator_bits("ternary", 1.5)
    with pytest.raises(InputError, match=r"^model: 'opt-350' is unknown; did you mean opt-"):
        described(pd.DataFrame({"model": ["opt-350"]}))
    with pytest.raises(InputError, match=r"^frame: column model is missing; it has "):
        plots.heat_maps(sweep(["gpt2"], [9], ["edge"]).drop(columns="model"), "F")
    with pytest.raises(InputError, match=r"^measured: .* F is 0 in a float"):
        share("gpt2", 9, None, measured={"projection": 1e308, "attention": 1e308, "other": 1e308})
