"""Configs that `from_hf_config` rejects: each message names the file or model, the key, its value and what is right."""

import json
import re
from dataclasses import replace

import pytest

from llmamdahl.errors import InputError
from llmamdahl.models import from_hf_config, get_model
from llmamdahl.models.huggingface import formats
from llmamdahl.tables import ROOT
from llmamdahl.workload import decode_step
from tests.hybrids import config_of

LLAMA = {
    "model_type": "llama", "hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 6,
    "num_key_value_heads": 2, "intermediate_size": 200, "vocab_size": 1000, "max_position_embeddings": 2048,
}  # fmt: skip
MIXTRAL = {**LLAMA, "model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}
GEMMA = {**LLAMA, "model_type": "gemma2", "sliding_window": 16}
GPT2 = {"model_type": "gpt2", "n_embd": 96, "n_layer": 4, "n_head": 6}
FALCON = {"model_type": "falcon", "hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 6}
DEEPSEEK = {**LLAMA, "model_type": "deepseek_v2", "num_key_value_heads": 6, "num_experts_per_tok": 2}
NESTED = {"model_type": "gemma3", "text_config": {**LLAMA, "model_type": "gemma3_text"}, "vision_config": {"depth": 2}}
LLAMA4 = {**LLAMA, "model_type": "llama4_text"}
SMOLLM = {**LLAMA, "model_type": "smollm3"}
ERNIE = {**LLAMA, "model_type": "ernie4_5_moe"}
MPT = {"model_type": "mpt", "d_model": 96, "n_layers": 4, "n_heads": 6}
NEO = {"model_type": "gpt_neo", "hidden_size": 96, "num_layers": 4, "num_heads": 6, "attention_types": [[["local"], 4]]}
BIGCODE = {**GPT2, "model_type": "gpt_bigcode"}
HUNYUAN = {**LLAMA, "model_type": "hunyuan_v1_moe", "head_dim": 16, "num_experts": 8}
GLM = {**LLAMA, "model_type": "glm4_moe_lite", "num_key_value_heads": 6}
QWEN = {**LLAMA, "model_type": "qwen3"}
QWEN_MOE = {**LLAMA, "model_type": "qwen3_moe"}
CONFIGS = ROOT / "tests" / "data" / "hf_configs"


def without(values, key):
    return {name: value for name, value in values.items() if name != key}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; a config.json is one JSON object"),
        ("  \n", "is empty"),
        ("{", "is not JSON"),
        ("hidden_size: 4096", "is not JSON"),
        ("[" * 100000, "is not JSON"),
        ("[]", "holds a list; a config.json is one JSON object"),
        ("4096", "holds a int; a config.json is one JSON object"),
        ("null", "holds a NoneType; a config.json is one JSON object"),
    ],
)
def test_a_file_that_is_not_a_config_is_rejected(tmp_path, text, message):
    path = tmp_path / "config.json"
    path.write_text(text)
    for given in (path, str(path), tmp_path):
        with pytest.raises(InputError, match=rf"^config: '{path}': {message}"):
            from_hf_config(given)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"model_type": "llama", "hidden_size": 96, "hidden_size": 64}', "hidden_size"),
        ('{"model_type": "llama", "model_type": "llama"}', "model_type"),
        (
            '{"model_type": "gemma3", "text_config": {"hidden_size": 96, "vocab_size": 7, "hidden_size": 9}}',
            "hidden_size",
        ),
        ('{"id2label": {"0": "a", "0": "b"}}', "0"),
    ],
)
def test_a_key_that_is_there_twice_is_rejected(tmp_path, text, key):
    """Python keeps the last of them, other readers the first."""
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(
        InputError, match=f"config: '{path}': has the key '{key}' twice; a config.json is one JSON object"
    ):
        from_hf_config(path)


def test_odd_keys_and_names_are_cut_and_escaped(tmp_path):
    """A message has no terminal sequences, and is short, whatever a file holds."""
    long, escape = "k" * 10_000_000, "\x1b[2J\x1b]0;title\x07"
    odd = [{**LLAMA, key: 1} for key in (long, escape, escape + long)]
    odd += [{**LLAMA, "alien": value} for value in (long, escape, [long], {escape: escape})]
    odd += [{**LLAMA, "_name_or_path": name, "hidden_size": 0} for name in (long, escape)]
    odd += [{**LLAMA, "model_type": kind} for kind in (long, escape)]
    odd += [{"model_type": "gemma3", "text_config": {**LLAMA, "model_type": escape + long}}]
    odd += [{"model_type": "gemma3", "text_config": {**LLAMA, "model_type": "gemma3_text", escape: 1}}]
    odd += [{"model_type": "mpt", "d_model": 96, "n_layers": 4, "n_heads": 6, "attn_config": {escape + long: 1}}]
    odd += [{**LLAMA, "architectures": [long]}, {**LLAMA, "layer_types": escape}]
    for number, config in enumerate(odd):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(config))
        for given in (config, path):
            with pytest.raises(InputError) as raised:
                from_hf_config(given)
            assert len(str(raised.value)) < 3000, number
            assert str(raised.value).isprintable(), number
    twice = tmp_path / "twice.json"
    twice.write_text(f'{{"{long}": 1, "{long}": 2}}')
    with pytest.raises(InputError, match=r"has the key 'kkk.*k\.\.\. twice") as raised:
        from_hf_config(twice)
    assert len(str(raised.value)) < 3000


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for given in (tmp_path / "nothing.json", tmp_path):
        with pytest.raises(InputError, match=r"no such file; give a config\.json, its folder, or a dict"):
            from_hf_config(given)
    (tmp_path / "config.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(InputError, match="cannot be read"):
        from_hf_config(tmp_path)
    with pytest.raises(InputError, match=r"config: 'a\\x00b': cannot be read \(embedded null byte\)"):
        from_hf_config("a\0b")
    for bad in (None, 7, ["config.json"]):
        with pytest.raises(InputError, match="is not a path or a dict"):
            from_hf_config(bad)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "config: model_type: is missing; supported: gpt2, opt, llama, .* and 103 more of "),
        (without(LLAMA, "model_type"), "model_type: is missing; supported: gpt2"),
        ({**LLAMA, "model_type": "bert"}, r"bert: model_type: 'bert' is not supported \(an encoder"),
        ({**LLAMA, "model_type": "lama"}, "model_type: 'lama' is not supported; did you mean llama,"),
        ({**LLAMA, "model_type": "t5"}, "model_type: 't5' is not supported; supported: gpt2"),
        ({**LLAMA, "model_type": "vit"}, "model_type: 'vit' is not supported; supported: gpt2"),
        ({**LLAMA, "model_type": "zamba2"}, r"'zamba2' is not supported \(has state space layers\); supported:"),
        ({**LLAMA, "model_type": ["llama"]}, r"model_type: \['llama'\] is not supported"),
        (
            {"model_type": "llava", "text_config": LLAMA, "vision_config": {"hidden_size": 96}},
            "llava: vision_config: .*'llava' is a multimodal model.*if its text_config has a supported model_type",
        ),
        (
            {"text_config": LLAMA},
            "config: text_config: model_type None is a multimodal model",
        ),
        ({**LLAMA, "is_encoder_decoder": True}, "llama: is_encoder_decoder: True is not supported; only decoder-only"),
        ({**LLAMA, "architectures": ["LlamaForSequenceClassification"]}, "architectures: .* has no LM head"),
        ({**LLAMA, "architectures": 5}, "llama: architectures: 5 is not a list of class names"),
        ({**GPT2, "add_cross_attention": True}, "gpt2: add_cross_attention: True is not understood"),
    ],
)
def test_another_kind_of_model_is_rejected(values, message):
    with pytest.raises(InputError, match=message):
        from_hf_config(values)


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "num_attention_heads"])
@pytest.mark.parametrize("null", [True, False])
def test_a_missing_size_is_named(key, null):
    values = {**LLAMA, key: None} if null else without(LLAMA, key)
    with pytest.raises(InputError, match=rf"^llama: {key}: is missing or null; a positive whole number is needed"):
        from_hf_config(values)


@pytest.mark.parametrize(
    "key",
    ["hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size",
     "vocab_size", "max_position_embeddings", "head_dim"],
)  # fmt: skip
@pytest.mark.parametrize("bad", [0, -1, 96.0, float("nan"), "96", True, [96]])
def test_a_bad_size_is_named(key, bad):
    with pytest.raises(InputError, match=rf"^llama: {key}: {re.escape(repr(bad))} is not a positive whole number"):
        from_hf_config({**LLAMA, key: bad})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**LLAMA, "num_key_value_heads": 4}, "llama: num_kv_heads: 4 does not divide num_heads 6"),
        ({**LLAMA, "num_attention_heads": 5, "num_key_value_heads": 5}, "num_heads: 5 does not divide hidden_size 96"),
        ({**MIXTRAL, "num_experts_per_tok": 9}, "mixtral: experts: experts_per_token: 9 is above num_experts 8"),
        ({**MIXTRAL, "num_local_experts": 0}, "num_local_experts: 0 is not a positive whole number"),
        ({**MIXTRAL, "num_experts": 4}, "num_experts: 4 but num_local_experts is 8; they are one setting"),
        ({**MIXTRAL, "sliding_window": -4096}, "mixtral: sliding_window: -4096 is not a positive whole number"),
        ({**GEMMA, "sliding_window": -1}, "gemma2: sliding_window: -1 is not a positive whole number"),
        ({**GEMMA, "sliding_window": None}, "sliding_window: None is null or not in use, but some layers"),
        (
            {**GEMMA, "layer_types": ["full_attention"]},
            "layer_types: .* is not a list of 4 layers, each full_attention or",
        ),
        ({**GEMMA, "layer_types": ["chunked_attention"] * 4}, "layer_types: .* is not a list of 4 layers"),
        ({**GEMMA, "layer_types": "sliding_attention"}, "layer_types: .* is not a list of 4 layers"),
        ({**GEMMA, "use_bidirectional_attention": True}, "use_bidirectional_attention: True is not supported"),
        ({**QWEN, "layer_types": ["sliding_attention"] * 4}, "layer_types: .* is not a list of 4 full_attention"),
        ({**QWEN, "max_window_layers": -1}, "max_window_layers: -1 is not a whole number >= 0"),
        ({**QWEN, "use_sliding_window": 1}, "use_sliding_window: 1 is not true or false"),
        ({**QWEN_MOE, "mlp_only_layers": [4]}, r"mlp_only_layers: \[4\] is not a list of layers; layers are 0 to 3"),
        ({**QWEN_MOE, "mlp_only_layers": 0.5}, "mlp_only_layers: 0.5 is not a list of layers"),
        ({**QWEN_MOE, "decoder_sparse_step": 0}, "decoder_sparse_step: 0 is not a positive whole number"),
        ({**QWEN_MOE, "use_sliding_window": True, "max_window_layers": 2}, "max_window_layers: 2 is not understood"),
        ({**LLAMA, "tie_word_embeddings": "no"}, "tie_word_embeddings: 'no' is not true or false"),
        ({**LLAMA, "vocab_size": None}, "llama: vocab_size: is missing or null"),
        ({**LLAMA, "tie_word_embeddings": None}, "tie_word_embeddings: None is not true or false"),
        ({**LLAMA, "num_experts": 8}, "num_experts: 8 is not understood for model_type 'llama'"),
        ({**LLAMA, "sliding_window": 4096}, "sliding_window: 4096 is not understood for model_type 'llama'"),
        ({**LLAMA, "attention_chunk_size": 8192}, "attention_chunk_size: 8192 is not understood"),
        ({**LLAMA, "per_layer_config": {"0": {}}}, "per_layer_config: .* is not understood"),
        ({**LLAMA, "anything_else": 1}, "anything_else: 1 is not understood .* remove the key if you know"),
        ({**GPT2, "hidden_size": 128}, "hidden_size: 128 but n_embd is 96; they are one setting"),
        ({**FALCON, "multi_query": False, "num_kv_heads": 2}, "num_kv_heads: 2 is not supported; only 6 is"),
        ({**FALCON, "new_decoder_architecture": True, "num_kv_heads": 4}, "num_kv_heads: 4 does not divide"),
        (without(DEEPSEEK, "num_experts_per_tok"), "num_experts_per_tok: is missing or null"),
        ({**DEEPSEEK, "num_key_value_heads": 2}, "num_key_value_heads: 2 is not supported; only 6 is"),
        ({**DEEPSEEK, "moe_layer_freq": 2}, "moe_layer_freq: 2 is not supported; only 1 is"),
        ({**DEEPSEEK, "moe_layer_freq": []}, r"moe_layer_freq: \[\] is not supported; only 1 is"),
        ({**DEEPSEEK, "first_k_dense_replace": -1}, "first_k_dense_replace: -1 is not a whole number >= 0"),
        ({**DEEPSEEK, "q_lora_rank": 0}, "q_lora_rank: 0 is not a positive whole number"),
        ({**LLAMA, "model_type": "starcoder2", "mlp_type": "gated"}, "mlp_type: 'gated' is not supported"),
        ({**LLAMA, "model_type": "qwen3", "head_dim": None}, "head_dim: is missing or null"),
        ({**LLAMA, "model_type": "hunyuan_v1_dense"}, "head_dim: is missing or null"),
        (
            without({**LLAMA, "model_type": "nemotron"}, "num_key_value_heads"),
            "num_key_value_heads: is missing or null",
        ),
        ({**LLAMA, "model_type": "helium", "head_dim": 32}, r"head_dim: 32 is not hidden_size / num_attention_heads"),
        ({**LLAMA, "model_type": "helium"}, r"head_dim: None is not hidden_size / .* \(128 is the default\)"),
        ({**LLAMA, "model_type": "stablelm", "head_dim": 16}, "head_dim: 16 is not understood"),
        ({**LLAMA, "model_type": "olmoe", "sliding_window": 9}, "sliding_window: 9 is not understood"),
        ({**LLAMA4, "attention_chunk_size": None}, "attention_chunk_size: None is null, but some layers are chunked"),
        ({**LLAMA4, "attention_chunk_size": 0}, "attention_chunk_size: 0 is not a positive whole number"),
        (
            {**LLAMA4, "layer_types": ["sliding_attention"] * 4},
            "layer_types: .* each full_attention or chunked_attention",
        ),
        ({**LLAMA4, "no_rope_layers": [1, 1]}, r"no_rope_layers: \[1, 1\] is not a list of 4 layers, each 0 or 1"),
        ({**LLAMA4, "no_rope_layers": [True] * 4}, "no_rope_layers: .* is not a list of 4 layers"),
        ({**LLAMA4, "moe_layers": [4]}, r"moe_layers: \[4\] is not a list of layers; layers are 0 to 3"),
        ({**LLAMA4, "interleave_moe_layer_step": 0}, "interleave_moe_layer_step: 0 is not a positive whole number"),
        ({**LLAMA4, "num_experts_per_tok": 17}, "experts: experts_per_token: 17 is above num_experts 16"),
        (
            {**SMOLLM, "use_sliding_window": True, "layer_types": ["sliding_attention"] * 4},
            "sliding_window: None is null",
        ),
        (
            {**SMOLLM, "sliding_window": 9, "layer_types": ["sliding_attention"] * 4},
            "layer_types: .* is not a list of 4 full_attention",
        ),
        (
            {**SMOLLM, "sliding_window": 9, "use_sliding_window": True, "no_rope_layers": [2] * 4},
            "no_rope_layers: .* each 0 or 1",
        ),
        (
            {**LLAMA, "model_type": "exaone4", "sliding_window_pattern": "LLLG"},
            "sliding_window_pattern: 'LLLG' is not a",
        ),
        ({**LLAMA, "model_type": "exaone4", "sliding_window": None}, "sliding_window: None is null or not in use"),
        ({**ERNIE, "moe_layer_end_index": -2}, "moe_layer_end_index: -2 is not a whole number >= 0"),
        ({**ERNIE, "moe_intermediate_size": [1536, 512]}, r"moe_intermediate_size: \[1536, 512\] is not a positive"),
        ({**ERNIE, "moe_k": 65}, "experts: experts_per_token: 65 is above num_experts 64"),
        (
            {**GLM, "mlp_layer_types": ["dense"] * 3},
            "mlp_layer_types: .* is not a list of 4 layers, each dense or sparse",
        ),
        ({**GLM, "first_k_dense_replace": 2}, "first_k_dense_replace: 2 is not supported; only 1 is"),
        ({**GLM, "moe_layer_freq": 2}, "moe_layer_freq: 2 is not supported; only 1 is"),
        ({**GLM, "head_dim": 32, "qk_rope_head_dim": 64}, "head_dim: 32 but qk_rope_head_dim is 64; they are one"),
        ({**LLAMA, "model_type": "minimax_m2", "attn_type_list": [1, 0, 1, 1]}, "attn_type_list: .* only 1 is"),
        ({**LLAMA, "model_type": "cohere2", "layer_switch": 3}, "layer_switch: 3 is not supported; only 4 is"),
        ({**HUNYUAN, "moe_topk": [2, 2, 3, 2]}, r"moe_topk: \[2, 2, 3, 2\] is not a positive whole number"),
        (
            {**HUNYUAN, "moe_topk": [0, 0, 0, 0]},
            "hunyuan_v1_moe: num_experts_per_tok: 0 is not a positive whole number",
        ),
        ({**HUNYUAN, "moe_topk": [2, 2]}, r"moe_topk: \[2, 2\] is not a positive whole number"),
        ({**HUNYUAN, "moe_intermediate_size": [200, 200, 64, 200]}, "moe_intermediate_size: .* only 200 is"),
        ({**HUNYUAN, "num_shared_expert": 2}, "num_shared_expert: 2 is not supported; only 1 is"),
        ({**HUNYUAN, "use_cla": True}, "use_cla: True is not understood"),
        ({**MPT, "expansion_ratio": 3}, "expansion_ratio: 3 is not supported; only 4 is"),
        (
            {**MPT, "attn_config": {"attn_type": "multiquery_attention"}},
            "mpt: attn_config: attn_type: 'multiquery_att.* only",
        ),
        (
            {**MPT, "attn_config": {"prefix_lm": True}},
            "mpt: attn_config: prefix_lm: True is not supported; only False is",
        ),
        ({**MPT, "attn_config": {"kv_n_heads": 2}}, "mpt: attn_config: kv_n_heads: 2 is not understood"),
        ({**MPT, "attn_config": "multihead"}, "mpt: attn_config: 'multihead' is not an object"),
        ({**MPT, "model_type": "dbrx", "tie_word_embeddings": True}, "tie_word_embeddings: True is not supported"),
        (
            {**MPT, "model_type": "dbrx", "attn_config": {"kv_n_heads": 2}, "num_key_value_heads": 3},
            "num_key_value_heads: 3 is not supported; only 2 is",
        ),
        (
            {**MPT, "model_type": "dbrx", "ffn_config": {"moe_top_k": 9}},
            "experts: experts_per_token: 9 is above num_experts 4",
        ),
        (
            {**MPT, "model_type": "dbrx", "ffn_config": {"ffn_hidden_size": 0}},
            "dbrx: ffn_config: ffn_hidden_size: 0 is not",
        ),
        (
            {**NEO, "attention_types": [[["local"], 3]]},
            "attention_types: .* does not list 4 layers, each global or local",
        ),
        (
            {**NEO, "attention_types": [[["nearby"], 4]]},
            "attention_types: .* does not list 4 layers, each global or local",
        ),
        ({**NEO, "attention_types": 5}, "attention_types: 5 does not list 4 layers"),
        ({**NEO, "attention_types": [[["local"], 10**12]]}, "attention_types: .* does not list 4 layers"),
        ({**NEO, "attention_layers": ["global"] * 4}, "attention_layers: .* is not what attention_types lists"),
        ({**BIGCODE, "num_key_value_heads": 6}, "num_key_value_heads: 6 is not supported; only 1 is"),
        ({**NESTED, "text_config": None}, "gemma3: text_config: None is not an object; it describes the decoder"),
        (
            {**NESTED, "text_config": {**LLAMA, "model_type": "llama"}},
            "text_config: model_type: 'llama' is not one of gemma3_text",
        ),
        (
            {**NESTED, "text_config": {**NESTED["text_config"], "alien": 1}},
            "gemma3: alien: 1 is not understood for model_type 'gemma3_text'",
        ),
        ({**NESTED, "alien": 1}, "gemma3: alien: 1 is not understood for model_type 'gemma3'"),
        ({**NESTED, "hidden_size": 96}, "gemma3: hidden_size: 96 is not understood for model_type 'gemma3'"),
        ({**NESTED, "audio_config": {"depth": 1}}, "gemma3: audio_config: .* is not understood"),
        ({**NESTED, "tie_word_embeddings": "yes"}, "gemma3: tie_word_embeddings: 'yes' is not true or false"),
        (
            {**NESTED, "architectures": ["Gemma3Encoder"]},
            "architectures: .* has no LM head; a ForConditionalGeneration is needed",
        ),
        (
            {**LLAMA, "architectures": ["LlamaForConditionalGeneration"]},
            "architectures: .* has no LM head; a ForCausalLM is needed",
        ),
        ({**LLAMA, "text_config": {"hidden_size": 96}}, "llama: text_config: .* is not understood"),
        ({**LLAMA, "vision_config": {"hidden_size": 96}}, "llama: vision_config: .* is not understood"),
    ],
)
def test_contradictions_and_unknown_keys_are_rejected(values, message):
    name = values.get("model_type", "config")
    with pytest.raises(InputError, match=f"^{name}: " + message.removeprefix(f"{name}: ")):
        from_hf_config(values)


def test_keys_without_influence_are_ignored():
    harmless = {
        "torch_dtype": "bfloat16", "rope_scaling": {"rope_type": "llama3"}, "_attn_implementation": "sdpa",
        "quantization_config": {"quant_method": "fp8"}, "pretraining_tp": 1, "is_llama_config": True,
        "unknown": None, "unknown_too": False,
    }  # fmt: skip
    assert from_hf_config({**LLAMA, **harmless}) == from_hf_config(LLAMA)
    extra = {"predict_special_tokens": True, "output_past": True, "n_special": 0, "task_specific_params": {"a": {}}}
    assert from_hf_config({**GPT2, **extra}) == from_hf_config(GPT2)
    assert from_hf_config({**GEMMA, "sliding_window_size": 16}) == from_hf_config(GEMMA)
    phi4 = {**LLAMA, "model_type": "phi3", "full_attn_mod": 1, "interpolate_factor": 1, "lm_head_bias": False}
    assert from_hf_config(phi4) == from_hf_config({**LLAMA, "model_type": "phi3"})
    assert from_hf_config({**LLAMA, "head_dim": 16}) == from_hf_config(LLAMA)
    assert from_hf_config({**LLAMA, "num_key_value_heads": None}).num_kv_heads == 6


def test_a_context_longer_than_the_trained_one_is_computed():
    step = decode_step(from_hf_config(LLAMA), 100_000)
    assert {mm.n for mm in step if mm.name == "Q·Kᵀ"} == {100_000}


def test_a_model_is_named_after_its_folder_file_or_repository(tmp_path):
    assert from_hf_config({**LLAMA, "_name_or_path": "meta-llama/Llama-3.1-8B"}).name == "Llama-3.1-8B"
    assert from_hf_config(CONFIGS / "gpt2-xl.json").name == "gpt2-xl"
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    assert from_hf_config(folder).name == from_hf_config(str(folder / "config.json")).name == "my-model"
    assert set(formats()) >= {"gpt2", "llama", "deepseek_v3"}


def test_dense_layers_at_the_beginning_have_a_pattern_of_their_own():
    """Every third of the first four attends to all tokens, and then every second."""
    config = {
        **LLAMA, "model_type": "cohere2_moe", "head_dim": 16, "sliding_window": 9, "num_hidden_layers": 7,
        "num_experts": 4, "first_k_dense_replace": 4, "prefix_dense_sliding_window_pattern": 3,
        "sliding_window_pattern": 2,
    }  # fmt: skip
    assert from_hf_config(config).windows == (9, 9, None, 9, 9, None, 9)


def test_a_model_in_the_cache_of_huggingface_hub_is_named_after_its_repository(tmp_path, monkeypatch):
    cache = tmp_path / "models--meta-llama--Llama-3.1-8B"
    snapshot = cache / "snapshots" / "0e9e39f249a16976918f6564b8830bc894c89659"
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    (cache / "blobs" / "0bb6fd75").write_text(json.dumps(LLAMA))
    (snapshot / "config.json").symlink_to("../../blobs/0bb6fd75")
    assert from_hf_config(snapshot).name == from_hf_config(snapshot / "config.json").name == "Llama-3.1-8B"
    elsewhere = cache / "another" / "my-model"
    elsewhere.mkdir(parents=True)
    (elsewhere / "config.json").write_text(json.dumps(LLAMA))
    assert from_hf_config(elsewhere).name == "my-model"
    monkeypatch.chdir(snapshot)
    assert from_hf_config("config.json").name == from_hf_config(".").name == "Llama-3.1-8B"


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("Meta-Llama-3.1-8B", "llama-3.1-8b"),
        ("Qwen3-30B-A3B", "qwen3-30b-a3b"),
        ("DeepSeek-V3", "deepseek-v3"),
        ("bitnet-b1.58-2B-4T", "bitnet-b1.58-2b-4t"),
        ("opt-350m", "opt-350m"),
        ("gpt2-xl", "gpt2-xl"),
    ],
)
def test_the_same_model_from_its_file_and_by_name(file, name):
    by_name = get_model(name)
    fused = file == "gpt2-xl"  # one product in the format, three in Table 1
    assert replace(from_hf_config(CONFIGS / f"{file}.json"), name=name) == replace(by_name, fused_qkv=fused)


def test_kimi_linear_without_a_list_has_attention_in_every_fourth_layer_from_the_fourth():
    """Layers count from 0, as transformers 5.23.0 fills the missing list."""
    config = config_of("kimi_linear")
    del config["layer_types"]
    mixers = from_hf_config({**config, "num_hidden_layers": 9}).mixers
    assert [layer for layer, mixer in enumerate(mixers) if mixer == "attention"] == [4, 8]


def test_llama_4_needs_the_size_of_a_chunk_only_where_there_are_chunks():
    whole = {"layer_types": ["full_attention"] * LLAMA["num_hidden_layers"], "attention_chunk_size": None}
    assert (
        from_hf_config({**LLAMA4, **whole}).chunks
        == from_hf_config({**LLAMA4, **whole, "attention_chunk_size": 9}).chunks
    )


def test_nemotron_h_may_leave_the_number_of_layers_to_their_list():
    """As transformers 5.23.0 saves it; of no other format, and only if there is a list."""
    sizes = {"model_type": "nemotron_h", "hidden_size": 48, "num_attention_heads": 8, "intermediate_size": 64}
    listed = {"layers_block_type": ["mamba", "mlp", "attention", "mamba", "mlp"]}
    whole = from_hf_config({**sizes, **listed, "num_hidden_layers": 5})
    assert from_hf_config({**sizes, **listed}) == whole
    assert from_hf_config({**sizes, "hybrid_override_pattern": "M-*M-"}) == whole
    assert from_hf_config({**sizes, "hybrid_override_pattern": "M*"}).intermediate_size == 0  # no layer has an FFN
    for values in (sizes, {**LLAMA, **listed, "num_hidden_layers": None}):
        with pytest.raises(InputError, match="num_hidden_layers: is missing or null"):
            from_hf_config(values)
