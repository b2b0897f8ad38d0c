"""`from_hf_config` checked against transformers: every weight of every layer, and the MACs that PyTorch counts.

Needs the extra `oracle` (PyTorch and transformers). `test_hf_rejected.py`, on rejected configs, does not need it.
`python tests/test_hf.py` prints the table: config, layers, projections compared, differences.
"""

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from llmamdahl.models import from_hf_config
from llmamdahl.models.huggingface import formats
from llmamdahl.workload import Part, decode_layer, decode_step, prefill

if os.environ.get("REQUIRE_EXTRAS"):
    import torch
    import transformers
else:
    torch = pytest.importorskip("torch", reason="the extra `oracle` is not installed: make extras")
    transformers = pytest.importorskip("transformers", reason="the extra `oracle` is not installed: make extras")
from torch.utils.flop_counter import FlopCounterMode
from transformers.conversion_mapping import get_checkpoint_conversion_mapping
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

FOLDER = Path(__file__).parent / "data" / "hf_configs"
"""Six config.json files, cut to their architectural keys and named after their Hugging Face repositories."""

# Irregular on purpose: no two sizes of a config are equal, so that a shape identifies a weight.
SIZES = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6, "vocab_size": 101}
LLAMA = {**SIZES, "intermediate_size": 80, "max_position_embeddings": 64}
GQA = {**LLAMA, "num_key_value_heads": 2}
WIDE = {**GQA, "head_dim": 14}
MLA = {"kv_lora_rank": 22, "qk_nope_head_dim": 12, "qk_rope_head_dim": 4, "v_head_dim": 10}
DEEPSEEK = {
    **LLAMA, **MLA, "n_routed_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 26, "n_group": 2,
    "topk_group": 2,
}  # fmt: skip
MOE = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 26}
LOCAL = {"num_local_experts": 5, "num_experts_per_tok": 2}
WINDOW = {"sliding_window": 9}
SMALL = {
    "gpt2": {"n_embd": 48, "n_layer": 2, "n_head": 6, "vocab_size": 101, "n_positions": 64},
    "gpt2, n_inner": {"n_embd": 48, "n_layer": 2, "n_head": 6, "vocab_size": 101, "n_positions": 64, "n_inner": 90},
    "opt": {**SIZES, "ffn_dim": 80, "max_position_embeddings": 64},
    "opt, projected": {**SIZES, "ffn_dim": 80, "max_position_embeddings": 64, "word_embed_proj_dim": 20},
    "llama": LLAMA,
    "llama, GQA": {**GQA, "head_dim": 8},
    "llama, wide heads": WIDE,
    "mistral": {**GQA, **WINDOW},
    "mistral, no window": {**WIDE, "sliding_window": None},
    "mixtral": {**GQA, **LOCAL},
    "mixtral, window": {**WIDE, **LOCAL, **WINDOW},
    "qwen2": GQA,
    "qwen2, windows": {**GQA, **WINDOW, "use_sliding_window": True, "max_window_layers": 1},
    "qwen3": WIDE,
    "qwen3, windows": {
        **WIDE, **WINDOW, "use_sliding_window": True,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
    },
    "qwen3_moe": {**GQA, **MOE},
    "qwen3_moe, dense layers": {
        **WIDE, **MOE, "num_hidden_layers": 5, "decoder_sparse_step": 2, "mlp_only_layers": [3],
    },
    "qwen3_moe, window": {**WIDE, **MOE, **WINDOW, "use_sliding_window": True},
    "gemma2": {**WIDE, **WINDOW},
    "gemma3_text": {**WIDE, **WINDOW, "num_hidden_layers": 7},
    "gemma3_text, pattern": {**WIDE, **WINDOW, "sliding_window_pattern": 2},
    "phi3": {**GQA, "pad_token_id": 0},
    "phi3, window": {**LLAMA, **WINDOW, "pad_token_id": 0},
    "phi": GQA,
    "falcon": SIZES,
    "falcon, all heads": {**SIZES, "multi_query": False, "alibi": True},
    "falcon, new": {**SIZES, "new_decoder_architecture": True, "num_kv_heads": 2, "ffn_hidden_size": 80},
    "olmo2": GQA,
    "gpt_neox": LLAMA,
    "bloom": {"hidden_size": 48, "n_layer": 3, "n_head": 6, "vocab_size": 101},
    "starcoder2": GQA,
    "starcoder2, window": {**GQA, **WINDOW},
    "granite": GQA,
    "gpt_oss": {**WIDE, **LOCAL, **WINDOW},
    "deepseek_v2": {**DEEPSEEK, "first_k_dense_replace": 1, "q_lora_rank": None, "pad_token_id": 0},
    "deepseek_v2, queries' latent": {**DEEPSEEK, "q_lora_rank": 34, "n_shared_experts": 3},
    "deepseek_v3": {**DEEPSEEK, "first_k_dense_replace": 2, "q_lora_rank": 34, "num_key_value_heads": 6},
    "bitnet": GQA,
}  # fmt: skip
CASES = {
    **{name: {"model_type": name.split(",")[0], **values} for name, values in SMALL.items()},
    **{path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))},
}

# transformers' name of a weight, up to `.weight`, and ours
ATTENTION = {
    "q_proj": "W_Q", "k_proj": "W_K", "v_proj": "W_V", "o_proj": "W_X", "out_proj": "W_X", "dense": "W_X",
    "c_attn": "W_QKV", "qkv_proj": "W_QKV", "query_key_value": "W_QKV", "c_proj": "W_X", "q_a_proj": "W_DQ",
    "q_b_proj": "W_UQ", "kv_a_proj_with_mqa": "W_DKV", "kv_b_proj": "W_UKV",
}  # fmt: skip
FFN = {
    "gate_proj": "W_G", "up_proj": "W_I", "down_proj": "W_O", "gate_up_proj": "W_GI", "fc1": "W_I", "fc2": "W_O",
    "c_fc": "W_I", "c_proj": "W_O", "dense_h_to_4h": "W_I", "dense_4h_to_h": "W_O", "gate": "router",
    "router": "router",
}  # fmt: skip
OUTSIDE = {"lm_head": "LM head", "project_in": "embedding in", "project_out": "embedding out"}
TABLES = ("embed_tokens", "embed_in", "wte", "wpe", "word_embeddings", "embed_positions")
"""Looked up, not multiplied."""


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Use one thread: the sizes are tiny, and threads would cost more time than they save."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def built(case):
    """The model that transformers builds from a config, without memory for its weights, and its configuration."""
    values = {key: value for key, value in CASES[case].items() if key != "model_type"}
    config = CONFIG_MAPPING[CASES[case]["model_type"]](**values)
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(config), config


def separate_in_the_files(model_type):
    """Whether a checkpoint stores each expert's gate and up separately, although transformers stacks them."""
    converters = get_checkpoint_conversion_mapping(model_type) or []
    stacked = [each for each in converters if any("gate_up_proj" in target for target in each.target_patterns)]
    return any(len(each.source_patterns) == 2 for each in stacked)


def weights_of(case):
    """Layer -> Counter of (our name, k, n) of the parameters in transformers' model; -1 is outside the layers."""
    model, config = built(case)
    modules = dict(model.named_modules())
    found = {layer: Counter() for layer in range(-1, config.num_hidden_layers)}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        *path, last = name.removesuffix(".weight").split(".")
        if parameter.ndim < 2 or last in TABLES or last.endswith("_bias"):  # a bias has a row for each expert
            continue
        layer = int(next((part for part in path if part.isdigit()), -1))
        if layer < 0:
            found[layer][(OUTSIDE[last], parameter.shape[1], parameter.shape[0])] += 1
            continue
        owner = ([*path, last])[path.index(str(layer)) + 1]
        ours = (ATTENTION if "attn" in owner or "attention" in owner else FFN)[last]
        if parameter.ndim == 3:
            transposed = config.model_type == "gpt_oss"
            count, first, second = parameter.shape
            k, n = (first, second) if transposed else (second, first)
            if ours == "W_GI" and separate_in_the_files(config.model_type):
                for each in ("W_G", "W_I"):
                    found[layer][(f"expert {each}", k, n // 2)] += count
            else:
                found[layer][(f"expert {ours}", k, n)] += count
            continue
        conv1d = type(modules[name.removesuffix(".weight")]).__name__ == "Conv1D"
        k, n = parameter.shape if conv1d else reversed(parameter.shape)
        found[layer][(f"shared {ours}" if "shared_experts" in path else ours, k, n)] += 1
    return found


def listed(matmuls):
    """Counter of (name, k, n) of a step's weights; W_UK and W_UV count as the one weight that holds both."""
    found = Counter()
    parts = {}
    for matmul in matmuls:
        if matmul.part is Part.ATTENTION:
            continue
        if matmul.name in ("W_UK", "W_UV"):
            parts[matmul.name] = matmul
        else:
            found[(matmul.name, matmul.k, matmul.n)] += matmul.count
    if parts:
        up_k, up_v = parts["W_UK"], parts["W_UV"]
        rank = up_v.k
        assert rank == (up_k.n if up_k.count > 1 else up_k.k)
        width = up_k.k * up_k.count if up_k.count > 1 else up_k.n  # absorbed, a head at a time; or all heads at once
        found[("W_UKV", rank, width + up_v.n * up_v.count)] += 1
    return found


def differences(case):
    """Numbers of layers and projections compared, and what differs. With one sequence per expert, all are used."""
    found, model = weights_of(case), from_hf_config(CASES[case])
    batch = model.experts.num_experts if model.experts else 1
    differ, compared = Counter(), 0
    for layer in range(model.num_layers):
        ours = listed(decode_layer(model, layer, 7, batch=batch))
        compared += ours.total()
        differ += (ours - found[layer]) + (found[layer] - ours)
    whole = sum((found[layer] for layer in found), Counter())
    step = decode_step(model, 7, batch)
    around = listed(matmul for matmul in step if matmul.name in OUTSIDE.values())
    differ += (around - found[-1]) + (found[-1] - around)
    assert len(found) == model.num_layers + 1
    if not model.latent:
        assert listed(step) == whole == listed(prefill(model, batch))
    return model.num_layers, compared + around.total(), differ


@pytest.mark.parametrize("case", list(CASES))
def test_every_weight_of_every_layer_is_listed(case):
    layers, compared, differ = differences(case)
    assert layers and compared > 4 * layers
    assert differ == Counter()


def test_every_format_has_a_case():
    assert {values["model_type"] for values in CASES.values()} == set(formats())


def macs(matmuls, attention):
    return sum(mm.m * mm.n * mm.k * mm.count for mm in matmuls if (mm.part is Part.ATTENTION) == attention)


def counted(model, **inputs):
    """MACs of a forward pass, between activations in attention and with weights. PyTorch counts 2 flops a MAC."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(**inputs, logits_to_keep=1)
    batched = weights = 0
    for module, operations in counter.get_flop_counts().items():
        for operation, flops in operations.items():
            if "bmm" in str(operation):  # rotary angles are products too, but outside attention
                batched += flops if module.split(".")[-1] in ("self_attn", "attn", "self_attention", "attention") else 0
            elif module == "Global":
                weights += flops
    return batched // 2, weights // 2


def tiny(case):
    values = {key: value for key, value in CASES[case].items() if key != "model_type"}
    config = CONFIG_MAPPING[CASES[case]["model_type"]](**values)
    options = {"attn_implementation": "eager", "experts_implementation": "eager"}
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config, **options).eval()


@pytest.mark.parametrize("case", list(SMALL))
def test_macs_are_what_pytorch_counts(case):
    ours, theirs = from_hf_config(CASES[case]), tiny(case)
    batch = 2
    prompt = torch.arange(batch * 6).view(batch, 6)
    step = prefill(ours, 6, batch)
    attention, weights = counted(theirs, input_ids=prompt)
    assert attention == macs(step, attention=True)
    if ours.embedding_size == ours.hidden_size:  # else transformers projects every position out of the decoder
        assert weights == macs(step, attention=False)
    if ours.latent:
        return  # transformers does not absorb, so its decode step differs
    for length in (7, 8, 13):  # below, just below and beyond the window of 9
        past = theirs(torch.arange(batch * (length - 1)).view(batch, -1) % 100, use_cache=True).past_key_values
        token = torch.ones(batch, 1, dtype=torch.long)
        step = decode_step(ours, length, batch)
        assert counted(theirs, input_ids=token, past_key_values=past) == (macs(step, True), macs(step, False))


@pytest.mark.parametrize("case", list(CASES))
def test_what_transformers_saves_is_read_as_the_same_model(case, tmp_path):
    _, config = built(case)
    folder = tmp_path / "saved"
    config.save_pretrained(folder)
    saved = from_hf_config(folder)
    assert saved.name == "saved"
    assert saved == replace(from_hf_config(CASES[case]), name="saved")
    assert from_hf_config(str(folder / "config.json")) == saved


@pytest.mark.parametrize("model_type", list(formats()))
def test_defaults_are_transformers_own(model_type):
    """Given the three mandatory sizes only, `from_hf_config` fills in the defaults that transformers has."""
    names = {"gpt2": ("n_embd", "n_layer", "n_head"), "bloom": ("hidden_size", "n_layer", "n_head")}
    core = names.get(model_type, ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    heads = {"deepseek_v3": 128, "bitnet": 40}.get(
        model_type, 32
    )  # what their default number of K and V heads asks for
    values = dict(zip(core, (2 * heads, 3, heads), strict=True))
    if model_type == "deepseek_v2":
        values["num_experts_per_tok"] = 6  # its default is None
    case = f"defaults of {model_type}"
    CASES[case] = {"model_type": model_type, **values}
    try:
        assert differences(case)[2] == Counter()
        _, config = built(case)
        model = from_hf_config(CASES[case])
        assert model.tied_embeddings == config.tie_word_embeddings
        if model_type != "bloom":
            assert model.max_position == config.max_position_embeddings
        windows = [getattr(config, "sliding_window", None)] * 3
        if hasattr(config, "layer_types"):
            windows = [config.sliding_window if "sliding" in kind else None for kind in config.layer_types]
        assert (model.windows or (None,) * 3) == tuple(windows)
    finally:
        del CASES[case]


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    print(f"transformers {transformers.__version__}, torch {torch.__version__}")
    print(f"{'config':<32}{'model_type':<14}{'layers':>7}{'projections':>13}{'differences':>13}")
    for case in CASES:
        layers, compared, differ = differences(case)
        print(f"{case:<32}{CASES[case]['model_type']:<14}{layers:>7}{compared:>13}{differ.total():>13}")
