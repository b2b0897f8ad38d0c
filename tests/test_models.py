"""Table 2, printed and true, and what a decode step is made of."""

from dataclasses import replace

import pytest

from llmamdahl.errors import InputError
from llmamdahl.hardware import CLOUD_TPU, EDGE_TPU, SystolicArray, get_array
from llmamdahl.models import PRINTED, get_model, model_names, table2_printed, table2_true
from llmamdahl.workload import MatMul, Part, decode_step

# Sizes as released: GPT-2's repository gives 124, 355, 774 and 1558 M; LLaMA's paper (Table 2) 6.7 and 13.0 B; OPT's
# names are its sizes, but for OPT-350M, whose checkpoint has 331 M parameters.
SIZES = {
    "gpt2": "0.124", "gpt2-medium": "0.355", "gpt2-large": "0.774", "gpt2-xl": "1.558",
    "opt-350m": "0.331", "opt-1.3b": "1.3", "opt-2.7b": "2.7", "opt-6.7b": "6.7", "opt-13b": "13", "opt-30b": "30",
    "opt-66b": "66", "llama-7b": "6.7", "llama-13b": "13.0",
}  # fmt: skip


def parameters(name: str) -> int:
    """Every weight MatMul at m = 1, embeddings, biases (GPT, OPT) and norms."""
    model = get_model(name)
    d, d_ff = model.hidden_size, model.intermediate_size
    matmuls = [matmul for matmul in decode_step(model, 1) if matmul.part is not Part.ATTENTION]
    total = sum(matmul.n * matmul.k * matmul.count for matmul in matmuls)
    if name.startswith("llama"):  # untied embedding, no biases, norms of one vector
        return total + model.vocab_size * d + (2 * model.num_layers + 1) * d
    return total + model.max_position * d + model.num_layers * (4 * d + d_ff + d + 4 * d) + 2 * d


@pytest.mark.parametrize("name", model_names())
def test_parameter_count_is_rebuilt(name):
    decimals = len(SIZES[name].partition(".")[2])
    assert f"{parameters(name) / 1e9:.{decimals}f}" == SIZES[name]


def test_table2_has_13_models_in_both_readings():
    names = [row["name"] for row in table2_true()]
    assert names == model_names() == [row["name"] for row in table2_printed()]
    assert len(names) == 13
    assert all(row["source"] for row in table2_true())


def test_printed_reading():
    printed = get_model("gpt2-xl" + PRINTED)
    assert (printed.intermediate_size, get_model("gpt2-xl").intermediate_size) == (1600, 6400)
    assert not get_model("llama-7b-printed").gated_ffn
    assert get_model("opt-13b-printed") == replace(get_model("opt-13b"), name="opt-13b-printed")


def test_opt_66b_as_printed_is_refused():
    with pytest.raises(InputError, match="num_heads: 76 does not divide hidden_size 9216"):
        get_model("opt-66b-printed")


@pytest.mark.parametrize("name", ["opt-7b", "", "OPT-6.7B", "gpt2-printed-printed", None])
def test_unknown_model(name):
    with pytest.raises(InputError, match=r"model: .* is unknown; known: gpt2, .*llama-13b"):
        get_model(name)


@pytest.mark.parametrize("field", ["hidden_size", "num_layers", "num_heads", "intermediate_size", "vocab_size"])
@pytest.mark.parametrize("bad", [0, -1, 2.5, float("nan"), "12"])
def test_bad_hyperparameter(field, bad):
    with pytest.raises(InputError, match=f"opt-350m: {field}: .* is not a positive whole number"):
        replace(get_model("opt-350m"), **{field: bad})


def test_heads_that_do_not_divide():
    with pytest.raises(InputError, match="num_heads: 15 does not divide hidden_size 1024"):
        replace(get_model("opt-350m"), num_heads=15)


def test_decode_step_by_hand():
    # OPT-350M: 24 layers, 16 heads of 64; embeddings 512 wide, projected to 1024 and back.
    assert decode_step(get_model("opt-350m"), 100, batch=3) == (
        *(MatMul(name, Part.PROJECTION, 3, 1024, 1024, 24) for name in ("W_Q", "W_K", "W_V", "W_X")),
        MatMul("W_I", Part.PROJECTION, 3, 4096, 1024, 24),
        MatMul("W_O", Part.PROJECTION, 3, 1024, 4096, 24),
        MatMul("Q·Kᵀ", Part.ATTENTION, 1, 100, 64, 24 * 16 * 3),
        MatMul("scores·V", Part.ATTENTION, 1, 64, 100, 24 * 16 * 3),
        MatMul("embedding in", Part.UNQUANTIZED, 3, 1024, 512, 1),
        MatMul("embedding out", Part.UNQUANTIZED, 3, 512, 1024, 1),
        MatMul("LM head", Part.UNQUANTIZED, 3, 50272, 512, 1),
    )


@pytest.mark.parametrize("name", model_names())
def test_a_block_has_2h_plus_6_matmuls_or_7_with_a_gate(name):
    model = get_model(name)
    block = [matmul for matmul in decode_step(model, 64) if matmul.part is not Part.UNQUANTIZED]
    assert sum(matmul.count for matmul in block) == model.num_layers * (2 * model.num_heads + 6 + model.gated_ffn)


@pytest.mark.parametrize("bad", [0, -5, 1.5, float("nan"), None])
def test_bad_context_length_or_batch(bad):
    with pytest.raises(InputError, match="context_length: "):
        decode_step(get_model("gpt2"), bad)
    with pytest.raises(InputError, match="batch: "):
        decode_step(get_model("gpt2"), 128, batch=bad)


def test_arrays_of_table3():
    assert CLOUD_TPU == SystolicArray(256, 256, "os", 4096, 8192, 4096)
    assert EDGE_TPU == SystolicArray(32, 32, "os", 2048, 4096, 2048)
    assert (CLOUD_TPU.label, SystolicArray(8, 4).label) == ("cloud", "8x4")


def test_unknown_array_or_dataflow():
    with pytest.raises(InputError, match="array: 'tpu' is unknown; known: cloud, edge"):
        get_array("tpu")
    with pytest.raises(InputError, match="dataflow: 'rs' is unknown; known: os, ws, is"):
        SystolicArray(32, 32, "rs")


@pytest.mark.parametrize("field", ["rows", "cols", "ifmap_sram_kb", "filter_sram_kb", "ofmap_sram_kb"])
@pytest.mark.parametrize("bad", [0, -32, 32.0, float("nan")])
def test_bad_array_size(field, bad):
    with pytest.raises(InputError, match=f"{field}: .* is not a positive whole number"):
        replace(EDGE_TPU, **{field: bad})
