"""`from_hf_config` checked against transformers: every weight of every layer, and the MACs that PyTorch counts.

Needs the extra `oracle` (PyTorch and transformers). `test_hf_rejected.py`, on rejected configs, does not need it.
`python -m tests.test_hf` prints the table: type, configs, layers, projections compared, differences. With `--defaults`
it writes transformers' defaults to `tests/data/hf_defaults.csv`, which `test_hf_table.py` compares with ours.
"""

import dataclasses
import json
import os
import sys
from collections import Counter
from dataclasses import replace
from inspect import signature
from itertools import product
from pathlib import Path

import pytest

from llmamdahl.models import from_hf_config
from llmamdahl.models.huggingface import REQUIRED, formats, mixers
from llmamdahl.tables import DATA, read_rows, write_rows
from llmamdahl.workload import Part, decode_layer, decode_step, prefill
from tests.hf_cases import CASES, SMALL
from tests.hf_sizes import smallest

if os.environ.get("REQUIRE_EXTRAS"):
    import torch
    import transformers
else:
    torch = pytest.importorskip("torch", reason="the extra `oracle` is not installed: make extras")
    transformers = pytest.importorskip("transformers", reason="the extra `oracle` is not installed: make extras")
from torch.utils.flop_counter import FlopCounterMode
from transformers.conversion_mapping import get_checkpoint_conversion_mapping
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

pytestmark = pytest.mark.usefixtures("one_thread")

NOT_BUILT = {"kimi_k2": "deepseek_v3", "qwen3_vl_text": "qwen3_vl", "qwen3_vl_moe_text": "qwen3_vl_moe"}
"""Formats without a class in transformers that has an LM head; those that stand for them here."""
HYBRIDS = {name for name, form in formats().items() if {*form.readers} & {*mixers.READERS.values()}}
HYBRIDS |= {name for name, form in formats().items() if HYBRIDS & {*form.text_types}}
"""Formats with a recurrent state or an indexer, which `test_hybrids.py` compares with transformers."""
DEFAULTS = Path(__file__).parent / "data" / "hf_defaults.csv"

# transformers' name of a weight, up to `.weight`, and ours
ATTENTION = {
    "q_proj": "W_Q", "k_proj": "W_K", "v_proj": "W_V", "o_proj": "W_X", "out_proj": "W_X", "dense": "W_X",
    "c_attn": "W_QKV", "qkv_proj": "W_QKV", "query_key_value": "W_QKV", "c_proj": "W_X", "q_a_proj": "W_DQ",
    "q_b_proj": "W_UQ", "kv_a_proj_with_mqa": "W_DKV", "kv_b_proj": "W_UKV", "Wqkv": "W_QKV", "Wq": "W_Q", "Wk": "W_K",
    "Wv": "W_V",
}  # fmt: skip
FFN = {
    "gate_proj": "W_G", "up_proj": "W_I", "down_proj": "W_O", "gate_up_proj": "W_GI", "fc1": "W_I", "fc2": "W_O",
    "c_fc": "W_I", "c_proj": "W_O", "dense_h_to_4h": "W_I", "dense_4h_to_h": "W_O", "gate": "router",
    "router": "router", "wg": "router", "shared_expert_gate": "shared gate", "fc_in": "W_I", "fc_out": "W_O",
    "0": "W_I", "2": "W_O", "input_linear": "W_GI", "output_linear": "W_O",
}  # fmt: skip
DBRX = {"w1": "W_G", "v1": "W_I", "w2": "W_O"}
"""Of all experts, one below the other."""
OUTSIDE = {
    "lm_head": "LM head", "project_in": "embedding in", "project_out": "embedding out", "embed_out": "LM head",
    "output_projection": "LM head",
}  # fmt: skip
TABLES = (
    "embed_tokens", "embed_in", "wte", "wpe", "word_embeddings", "embed_positions", "w", "tokens_embed",
    "positions_embed",
)  # fmt: skip
"""Looked up, not multiplied."""


def configured(case):
    values = {key: value for key, value in CASES[case].items() if key != "model_type"}
    return CONFIG_MAPPING[CASES[case]["model_type"]](**values)


def model_class(model_type):
    """The class of a format that has an LM head; a nested one's is that of the whole model."""
    nested = formats()[model_type].text_types and model_type != "llama4"  # which has one of its decoder alone
    return transformers.AutoModelForImageTextToText if nested else transformers.AutoModelForCausalLM


def built(case):
    """The model that transformers builds from a config, without memory for its weights, and its decoder's config."""
    config = configured(case)
    with torch.device("meta"):
        return model_class(CASES[case]["model_type"]).from_config(config), config.get_text_config()


def separate_in_the_files(model_type):
    """Whether a checkpoint stores each expert's gate and up separately, although transformers stacks them."""
    converters = get_checkpoint_conversion_mapping(model_type) or []
    stacked = [each for each in converters if any("gate_up_proj" in target for target in each.target_patterns)]
    return any(len(each.source_patterns) == 2 for each in stacked)


def weights_of(case):
    """Layer -> Counter of (our name, k, n) of the parameters in transformers' model; -1 is outside the layers."""
    model, config = built(case)
    nested = formats()[CASES[case]["model_type"]].text_types
    modules = dict(model.named_modules())
    found = {layer: Counter() for layer in range(-1, config.num_hidden_layers)}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        *path, last = name.removesuffix(".weight").split(".")
        if nested and ("visual" in path or "vision_tower" in path or "multi_modal_projector" in path):
            continue
        if (
            parameter.ndim < 2 or last in TABLES or last.endswith(("_bias", "_norm"))
        ):  # with a row for each expert or head
            continue
        layer = int(next((part for part in path if part.isdigit()), -1))
        if layer < 0:
            found[layer][(OUTSIDE[last], parameter.shape[1], parameter.shape[0])] += 1
            continue
        owner = ([*path, last])[path.index(str(layer)) + 1]
        if last in DBRX:
            count, d = config.ffn_config.moe_num_experts, parameter.shape[1]
            width = parameter.shape[0] // count
            found[layer][(f"expert {DBRX[last]}", *((width, d) if last == "w2" else (d, width)))] += count
            continue
        if last == "layer":  # of a router
            last = path[-1]
        ours = (ATTENTION if "attn" in owner or "attention" in owner else FFN)[last]
        if parameter.ndim == 3:
            transposed = config.model_type in ("gpt_oss", "llama4_text", "aria_text")
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
        shared = {"shared_experts", "shared_expert", "shared_mlp"} & {*path}
        found[layer][(f"shared {ours}" if shared else ours, k, n)] += 1
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
    """With a value of each key that is not its default."""
    assert {values["model_type"] for values in CASES.values()} == set(formats()) - set(NOT_BUILT) - HYBRIDS
    assert formats()["kimi_k2"] == formats()["deepseek_v3"]


def macs(matmuls, attention):
    return sum(mm.m * mm.n * mm.k * mm.count for mm in matmuls if (mm.part is Part.ATTENTION) == attention)


ATTENTION_MODULES = {"self_attn", "attn", "self_attention", "attention", "multi_head_attention"}


def counted(model, **inputs):
    """MACs of a forward pass, between activations in attention and with weights. PyTorch counts 2 flops a MAC."""
    only_last = {} if "logits_to_keep" not in signature(model.forward).parameters else {"logits_to_keep": 1}
    with FlopCounterMode(display=False) as counter:  # with gradients, which its hooks need where DBRX clips in place
        output = model(**inputs, **only_last)
    batched = weights = 0
    for module, operations in counter.get_flop_counts().items():
        *outer, name = module.split(".")
        for operation, flops in operations.items():
            if "bmm" in str(operation):  # rotary angles are products too, but outside attention
                batched += flops if name in ATTENTION_MODULES and not ATTENTION_MODULES & {*outer} else 0
            elif module == "Global":
                weights += flops
    if not only_last:  # then it computes the logits of every position
        batch, length, vocabulary = output.logits.shape
        width = model.get_output_embeddings().weight.shape[1]
        weights -= 2 * batch * (length - 1) * vocabulary * width
    return batched // 2, weights // 2


def tiny(case):
    options = {"attn_implementation": "eager", "experts_implementation": "eager"}
    torch.manual_seed(0)
    return model_class(CASES[case]["model_type"]).from_config(configured(case), **options).eval()


@pytest.mark.parametrize("case", list(SMALL))
def test_macs_are_what_pytorch_counts(case):
    ours, theirs = from_hf_config(CASES[case]), tiny(case)
    llama4 = CASES[case]["model_type"].startswith("llama4")
    batch = 2
    prompt = torch.arange(batch * 6).view(batch, 6)

    def expected(step):
        # transformers sends every token to every expert of Llama 4, as a batched product, and scales the others by 0
        return macs(step, True), macs([mm for mm in step if not (llama4 and mm.name.startswith("expert"))], False)

    attention, weights = counted(theirs, input_ids=prompt)
    assert attention == expected(prefill(ours, 6, batch))[0]
    if ours.embedding_size == ours.hidden_size:  # else transformers projects every position out of the decoder
        assert weights == expected(prefill(ours, 6, batch))[1]
    if ours.latent or not hasattr(theirs(prompt), "past_key_values"):
        return  # transformers does not absorb, so its decode step differs; openai-gpt has no cache
    masked = llama4 or CASES[case]["model_type"] == "gpt_neo"  # its caches keep tokens that a query does not see
    for length in (7, 8) if masked else (7, 8, 13):  # below, just below and beyond the window of 9
        past = theirs(torch.arange(batch * (length - 1)).view(batch, -1) % 100, use_cache=True).past_key_values
        token = torch.ones(batch, 1, dtype=torch.long)
        assert counted(theirs, input_ids=token, past_key_values=past) == expected(decode_step(ours, length, batch))


@pytest.mark.parametrize("case", list(SMALL))
def test_a_query_sees_the_tokens_that_transformers_does_not_mask(case):
    """Layer by layer, for the last query of a prompt: below, at and beyond one and two windows or chunks of 9."""
    ours, theirs = from_hf_config(CASES[case]), tiny(case)
    for length in (8, 9, 10, 13, 18, 19):
        with torch.no_grad():
            found = theirs(input_ids=torch.arange(length)[None], output_attentions=True).attentions
        assert len(found) == ours.num_layers
        for layer, weights in enumerate(found):
            step = decode_layer(ours, layer, length)
            (keys,) = {mm.n for mm in step if mm.name == "Q·Kᵀ"}
            heads = sum(mm.count for mm in step if mm.name == "Q·Kᵀ")
            assert weights.shape[1] == heads
            assert {int(row.count_nonzero()) for row in weights[0, :, -1]} == {keys}, (length, layer)


@pytest.mark.parametrize("case", list(CASES))
def test_what_transformers_saves_is_read_as_the_same_model(case, tmp_path):
    folder = tmp_path / "saved"
    configured(case).save_pretrained(folder)
    saved = from_hf_config(folder)
    assert saved.name == "saved"
    assert from_hf_config(str(folder / "config.json")) == saved
    if case.startswith("Mistral-Small"):  # transformers writes its default for a key that the file leaves out
        saved = replace(saved, tied_embeddings=False)
    assert saved == replace(from_hf_config(CASES[case]), name="saved")


@pytest.mark.parametrize("model_type", sorted(formats().keys() - NOT_BUILT.keys() - HYBRIDS))
def test_defaults_are_transformers_own(model_type):
    """Given the mandatory sizes only, or an empty `text_config`: the rest is what transformers fills in."""
    case = f"defaults of {model_type}"
    CASES[case] = {"model_type": model_type, **smallest(model_type)}
    try:
        assert differences(case)[2] == Counter()
        outer, config = configured(case), built(case)[1]
        model = from_hf_config(CASES[case])
        if model_type == "mistral3":  # not tied where the checkpoint has an LM head of its own
            assert outer.tie_word_embeddings and not model.tied_embeddings
        else:
            assert model.tied_embeddings == outer.tie_word_embeddings
        if model_type != "bloom":
            assert model.max_position == getattr(config, "max_position_embeddings", None) or config.max_seq_len
        windows = [getattr(config, "sliding_window", None)] * model.num_layers
        if getattr(config, "layer_types", None):
            windows = [config.sliding_window if "sliding" in kind else None for kind in config.layer_types]
        if model_type == "gpt_neo":
            windows = [256 if kind == "local" else None for kind in config.attention_layers]
        assert (model.windows or (None,) * model.num_layers) == tuple(windows)
        chunks = (
            [config.attention_chunk_size if "chunked" in kind else None for kind in config.layer_types or []]
            if "llama4" in model_type
            else []
        )
        assert model.chunks == tuple(chunks)
    finally:
        del CASES[case]


def defaults():
    """What transformers' configuration classes say: type, key, default; of the keys that `from_hf_config` knows."""
    rows = []
    for model_type in sorted(formats().keys() - {"kimi_k2"}):
        form = formats()[model_type]
        fields = {each.name: each for each in dataclasses.fields(CONFIG_MAPPING[model_type])}
        for key in sorted(form.defaults.keys() | set(REQUIRED)):
            for name in form.spellings.get(key, (key,)):
                if name in fields:
                    rows.append({"model_type": model_type, "key": name, "default": json.dumps(fields[name].default)})
        if model_type in HYBRIDS or form.text_types:
            continue
        config = CONFIG_MAPPING[model_type](**smallest(model_type))
        for key in ("layer_types", "mlp_layer_types"):  # what mixes tokens in 6 layers, and which have experts
            if isinstance(listed := getattr(config, key, None), list):
                rows.append({"model_type": model_type, "key": key, "default": json.dumps(listed)})
    return rows


def test_the_committed_defaults_are_transformers_own():
    assert defaults() == read_rows(DEFAULTS, dict.fromkeys(("model_type", "key", "default"), str))


def test_each_spelling_of_a_key_is_one_of_transformers():
    """Given alone, it sets the field of the configuration class, so that the spellings are one setting there too."""
    compared, size = 0, 24  # which divides the sizes of all formats; GPT-Neo lists 24 layers
    for model_type in sorted(formats().keys() - {"kimi_k2"} - HYBRIDS):
        fields = {each.name for each in dataclasses.fields(CONFIG_MAPPING[model_type])}
        for names in formats()[model_type].spellings.values():
            for field, name in product({*names} & fields, {*names} - fields):
                config = CONFIG_MAPPING[model_type](**{name: size})
                assert getattr(config, field) == size, (model_type, name)
                compared += 1
    assert compared > 50


def test_every_causal_model_of_transformers_is_read_or_says_why_not():
    listed = {row["model_type"] for row in read_rows(DATA / "models" / "model_types.csv", {"model_type": str})}
    nested = {"mistral3", "qwen3_vl", "qwen3_vl_moe", "qwen3_vl_text", "qwen3_vl_moe_text"}
    assert listed == {*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *nested, "kimi_k2"}


def print_table():
    """Types, the configs tried of each, the projections compared in their layers, and how many of them differ."""
    transformers.logging.set_verbosity_error()
    print(f"transformers {transformers.__version__}, torch {torch.__version__}")
    print(f"{'model_type':<20}{'configs':>9}{'layers':>8}{'projections':>13}{'differences':>13}")
    total = Counter()
    for model_type in dict.fromkeys(values["model_type"] for values in CASES.values()):
        row = Counter()
        for case in [name for name, values in CASES.items() if values["model_type"] == model_type]:
            layers, compared, differ = differences(case)
            row += Counter(configs=1, layers=layers, compared=compared, differ=differ.total())
        print(f"{model_type:<20}{row['configs']:>9}{row['layers']:>8}{row['compared']:>13}{row['differ']:>13}")
        total += row
    print(f"{'all':<20}{total['configs']:>9}{total['layers']:>8}{total['compared']:>13}{total['differ']:>13}")


if __name__ == "__main__":
    if "--defaults" in sys.argv:
        write_rows(DEFAULTS, ("model_type", "key", "default"), defaults())
    else:
        print_table()
