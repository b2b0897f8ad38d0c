"""Small and published config.json files of every format but those with a recurrent state, which `hybrids.py` has.

`python tests/hf_cases.py` writes how all of them are read to `tests/data/hf_models.csv`. What it writes is right if
`test_hf.py` and `test_hybrids.py` pass, which compare every weight, mask and MAC of these models with transformers.
"""

import json
import sys
from dataclasses import MISSING, fields
from pathlib import Path

FOLDER = Path(__file__).parent / "data" / "hf_configs"
"""Six config.json files, cut to their architectural keys and named after their Hugging Face repositories."""

PUBLISHED = json.loads((FOLDER.parent / "hf_published.json").read_text(encoding="utf-8"))

# Irregular on purpose: no two sizes of a config are equal, so that a shape identifies a weight.
SIZES = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6, "vocab_size": 101}
OLD = {"n_embd": 48, "n_layer": 2, "n_head": 6, "vocab_size": 101, "n_positions": 64}
MOSAIC = {"d_model": 48, "n_layers": 3, "n_heads": 6, "vocab_size": 101, "max_seq_len": 64}
LLAMA = {**SIZES, "intermediate_size": 80, "max_position_embeddings": 64}
GQA = {**LLAMA, "num_key_value_heads": 2}
WIDE = {**GQA, "head_dim": 14}
MLA = {"kv_lora_rank": 22, "qk_nope_head_dim": 12, "qk_rope_head_dim": 4, "v_head_dim": 10}
DEEPSEEK = {
    **LLAMA, **MLA, "n_routed_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 26, "n_group": 2,
    "topk_group": 2,
}  # fmt: skip
MOE = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 26}
ROUTED = {"n_routed_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 26}
GROUPED = {"n_routed_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 26, "n_group": 2, "topk_group": 1}
LOCAL = {"num_local_experts": 5, "num_experts_per_tok": 2}
WINDOW = {"sliding_window": 9}
FULL, SLIDING = "full_attention", "sliding_attention"
SLIDES = {**WINDOW, "layer_types": [FULL, SLIDING, FULL]}
ROPES = {each: {"rope_type": "default", "rope_theta": 10000.0} for each in (FULL, SLIDING)}
VISION = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
QWEN_VISION = {
    "depth": 1, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 48,
    "deepstack_visual_indexes": [0], "num_position_embeddings": 16,
}  # fmt: skip
PIXTRAL = {**VISION, "model_type": "pixtral", "head_dim": 8}
LLAMA4 = {**WIDE, **LOCAL, "intermediate_size_mlp": 94, "num_hidden_layers": 5, "attention_chunk_size": 9}
SMALL = {
    "gpt2": OLD,
    "gpt2, n_inner": {**OLD, "n_inner": 90},
    "gpt-sw3": OLD,
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
    "qwen3, windows": {**WIDE, **SLIDES, "use_sliding_window": True},
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
    "gemma": {**LLAMA, "num_key_value_heads": 2, "head_dim": 14},
    "gemma3, sparse": {"text_config": {"hidden_size": 48, "num_hidden_layers": 7}, "vision_config": VISION},
    "gemma3": {
        "text_config": {**WIDE, **WINDOW, "model_type": "gemma3_text"}, "vision_config": VISION,
        "tie_word_embeddings": False,
    },
    "qwen2_moe": {**GQA, **MOE, "shared_expert_intermediate_size": 38},
    "qwen2_moe, dense layers": {
        **GQA, **MOE, "head_dim": 14, "num_hidden_layers": 5, "decoder_sparse_step": 2, "mlp_only_layers": [3],
    },
    "qwen2_moe, windows": {**GQA, **MOE, **WINDOW, "num_hidden_layers": 6, "use_sliding_window": True,
                           "max_window_layers": 4},
    "qwen3_vl": {"text_config": WIDE, "vision_config": QWEN_VISION},
    "qwen3_vl, tied": {
        "text_config": {**GQA, "model_type": "qwen3_vl_text"}, "vision_config": QWEN_VISION,
        "tie_word_embeddings": True,
    },
    "qwen3_vl_moe": {"text_config": {**WIDE, **MOE}, "vision_config": QWEN_VISION, "tie_word_embeddings": False},
    "qwen3_vl_moe, dense layers": {
        "text_config": {**GQA, **MOE, "num_hidden_layers": 5, "decoder_sparse_step": 2, "mlp_only_layers": [3]},
        "vision_config": QWEN_VISION, "tie_word_embeddings": False,
    },
    "llama4_text": LLAMA4,
    "llama4_text, interleaved": {**LLAMA4, "interleave_moe_layer_step": 2, "no_rope_layer_interval": 3},
    "llama4_text, listed": {
        **LLAMA4, "moe_layers": [0, 3], "no_rope_layers": [1, 0, 0, 1, 1], "num_experts_per_tok": 1,
        "layer_types": [FULL, "chunked_attention", "chunked_attention", FULL, FULL],
    },
    "llama4": {"text_config": LLAMA4, "tie_word_embeddings": False},
    "mistral3": {
        "text_config": {**WIDE, **WINDOW, "model_type": "mistral"}, "vision_config": PIXTRAL,
        "tie_word_embeddings": False,
    },
    "mistral3, ministral3": {
        "text_config": {**GQA, "model_type": "ministral3"}, "vision_config": PIXTRAL, "tie_word_embeddings": True,
    },
    "mistral3, sparse": {
        "text_config": {"hidden_size": 64, "vocab_size": 101}, "vision_config": PIXTRAL, "tie_word_embeddings": True,
    },
    "ministral": {**WIDE, **WINDOW},
    "ministral, listed": {**WIDE, **SLIDES},
    "ministral3": {**WIDE, **WINDOW},
    "ministral3, no window": GQA,
    "glm": {**GQA, "head_dim": 16, "pad_token_id": 0},
    "glm4": {**GQA, "head_dim": 16, "tie_word_embeddings": True, "pad_token_id": 0},
    "glm4_moe": {**GQA, **GROUPED},
    "glm4_moe, dense layers": {**WIDE, **GROUPED, "first_k_dense_replace": 2, "n_shared_experts": 3},
    "glm4_moe_lite": {**DEEPSEEK, "num_key_value_heads": 6, "q_lora_rank": 34},
    "glm4_moe_lite, listed": {
        **DEEPSEEK, "num_key_value_heads": 6, "q_lora_rank": None, "mlp_layer_types": ["sparse", "dense", "sparse"],
    },
    "minimax_m2": {**WIDE, **LOCAL},
    "smollm3": {**WIDE, "pad_token_id": 0},
    "smollm3, windows": {**GQA, **WINDOW, "pad_token_id": 0, "use_sliding_window": True, "no_rope_layer_interval": 2},
    "smollm3, listed": {
        **GQA, **WINDOW, "use_sliding_window": True, "no_rope_layers": [0, 1, 0], "pad_token_id": 0,
    },
    "olmo": {**GQA, "clip_qkv": 8.0},
    "olmo3": {**GQA, **WINDOW, "num_hidden_layers": 5},
    "olmo3, listed": {**GQA, **SLIDES},
    "olmoe": {**GQA, "num_experts": 5, "num_experts_per_tok": 2},
    "flex_olmo": {**GQA, "pad_token_id": 0, "num_experts": 5, "num_experts_per_tok": 2},
    "cohere": {**GQA, "use_qk_norm": True, "logit_scale": 0.1},
    "cohere, wide heads": {**WIDE, "tie_word_embeddings": False},
    "cohere2": {**GQA, **WINDOW, "num_hidden_layers": 5},
    "cohere2, pattern": {**GQA, **WINDOW, "sliding_window_pattern": 2},
    "cohere2, listed": {**GQA, **SLIDES},
    "cohere2_moe": {**WIDE, **WINDOW, "num_experts": 5, "num_hidden_layers": 6},
    "cohere2_moe, dense layers": {
        **WIDE, **WINDOW, "num_experts": 5, "num_hidden_layers": 8, "first_k_dense_replace": 3, "num_shared_experts": 2,
        "prefix_dense_intermediate_size": 94, "prefix_dense_sliding_window_pattern": 2, "sliding_window_pattern": 3,
    },
    "cohere2_moe, listed": {
        **WIDE, **SLIDES, "num_experts": 5, "num_experts_per_tok": 3, "mlp_layer_types": ["sparse", "dense", "sparse"],
    },
    "cohere_compass_text": {**GQA, "rope_parameters": ROPES},
    "cohere_compass_text, listed": {**WIDE, **SLIDES, "rope_parameters": ROPES},
    "exaone4": {**GQA, **WINDOW, "num_hidden_layers": 5},
    "exaone4, pattern": {**WIDE, **WINDOW, "sliding_window_pattern": 3},
    "exaone4, no window": {**GQA, "sliding_window": None, "layer_types": [FULL] * 3},
    "exaone_moe": {**GQA, **WINDOW, **MOE, "num_hidden_layers": 5, "num_shared_experts": 2},
    "exaone_moe, listed": {**GQA, **SLIDES, **MOE, "mlp_layer_types": ["sparse", "dense", "sparse"]},
    "phimoe": {**GQA, **LOCAL},
    "phimoe, window": {**WIDE, **LOCAL, **WINDOW},
    "ernie4_5": WIDE,
    "ernie4_5_moe": {**GQA, "moe_num_experts": 5, "moe_k": 2, "moe_intermediate_size": 26},
    "ernie4_5_moe, some layers": {
        **GQA, "num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 26, "num_hidden_layers": 8,
        "moe_num_shared_experts": 3, "moe_layer_start_index": 2, "moe_layer_end_index": 6, "moe_layer_interval": 2,
    },
    "hunyuan_v1_dense": WIDE,
    "hunyuan_v1_moe": {**WIDE, "num_experts": 5, "moe_topk": 2},
    "seed_oss": WIDE,
    "granitemoe": {**GQA, **LOCAL},
    "granitemoeshared": {**GQA, **LOCAL},
    "granitemoeshared, shared": {**GQA, **LOCAL, "shared_intermediate_size": 38},
    "granite_swa": {**GQA, **WINDOW, "num_hidden_layers": 6},
    "granite_swa, listed": {**GQA, **SLIDES},
    "granitemoe_swa": {**GQA, **LOCAL, **WINDOW, "num_hidden_layers": 6},
    "granitemoe_swa, shared": {**GQA, **LOCAL, **WINDOW, "shared_intermediate_size": 38},
    "stablelm": {**GQA, "partial_rotary_factor": 0.5},
    "gptj": {**OLD, "rotary_dim": 4},
    "gptj, n_inner": {**OLD, "rotary_dim": 4, "n_inner": 90, "tie_word_embeddings": False},
    "codegen": {**OLD, "n_head": 4, "rotary_dim": 4},
    "codegen, n_inner": {**OLD, "n_head": 4, "rotary_dim": 4, "n_inner": 90},
    "mpt": MOSAIC,
    "mpt, more keys": {
        **MOSAIC, "expansion_ratio": 4, "tie_word_embeddings": False,
        "attn_config": {"clip_qkv": 8.0, "alibi": True, "attn_type": "multihead_attention", "prefix_lm": False},
    },
    "dbrx": {
        **MOSAIC, "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 26, "moe_num_experts": 5, "moe_top_k": 2},
    },
    "nemotron": {**GQA, "head_dim": 8},
    "nemotron, wide heads": WIDE,
    "helium": {**GQA, "head_dim": 8, "pad_token_id": 0},
    "arcee": WIDE,
    "apertus": GQA,
    "dots1": {**GQA, **GROUPED, "n_shared_experts": 2, "first_k_dense_replace": 1},
    "dots1, windows": {**WIDE, **GROUPED, **WINDOW, "n_shared_experts": 1, "max_window_layers": 1},
    "xglm": {"d_model": 48, "num_layers": 3, "attention_heads": 6, "ffn_dim": 80, "vocab_size": 101},
    "biogpt": LLAMA,
    "gpt_bigcode": OLD,
    "gpt_bigcode, all heads": {**OLD, "multi_query": False, "n_inner": 90},
    "gpt_neo": {
        "hidden_size": 48, "num_layers": 4, "num_heads": 6, "vocab_size": 101, "window_size": 9,
        "attention_types": [[["global", "local"], 2]], "max_position_embeddings": 64,
    },
    "gpt_neo, mostly local": {
        "hidden_size": 48, "num_layers": 5, "num_heads": 6, "vocab_size": 101, "window_size": 9,
        "attention_types": [[["local"], 3], [["global"], 2]], "intermediate_size": 80,
    },
    "gpt_neox_japanese": SIZES,
    "gpt_neox_japanese, narrow": {**SIZES, "intermediate_multiple_size": 3},
    "openai-gpt": OLD,
    "ctrl": {**OLD, "dff": 80},
    "persimmon": LLAMA,
    "hyperclovax": {**GQA, "attention_multiplier": 0.1},
    "internlm3": WIDE,
    "iquestcoder": WIDE,
    "jais2": GQA,
    "nanochat": GQA,
    "cwm": {**WIDE, **WINDOW, "num_hidden_layers": 6},
    "cwm, listed": {**WIDE, **SLIDES},
    "vaultgemma": {**WIDE, **WINDOW},
    "mellum": {**WIDE, **MOE},
    "mellum, listed": {**WIDE, **SLIDES, **MOE, "mlp_layer_types": ["sparse", "dense", "sparse"]},
    "kolibri1": {**GQA, "head_dim": 14, **MOE, **WINDOW, "num_hidden_layers": 6,
                 "shared_expert_intermediate_size": 38},
    "flint": {**WIDE, **MOE, **WINDOW, "num_hidden_layers": 7, "shared_expert_intermediate_size": 38},
    "flint, dense layers": {**WIDE, **MOE, **SLIDES, "decoder_sparse_step": 2, "mlp_only_layers": []},
    "hy_v3": {**WIDE, **MOE, "num_shared_experts": 2},
    "hy_v3, listed": {**WIDE, **MOE, "mlp_layer_types": ["sparse", "dense", "sparse"]},
    "solar_open": {**WIDE, **ROUTED, "n_shared_experts": 2, "n_group": 1, "topk_group": 1},
    "axk1": {**DEEPSEEK, "q_lora_rank": 34, "num_key_value_heads": 6},
    "axk1, dense layers": {**DEEPSEEK, "q_lora_rank": 34, "num_key_value_heads": 6, "first_k_dense_replace": 2},
    "minicpm3": {**LLAMA, **MLA, "q_lora_rank": 34, "num_key_value_heads": 6},
    "minicpm3, width of V": {**LLAMA, **MLA, "q_lora_rank": 34, "v_head_dim": None, "num_key_value_heads": 6},
    "youtu": {**LLAMA, **MLA, "q_lora_rank": 34, "num_key_value_heads": 6},
    "youtu, no latent of queries": {**LLAMA, **MLA, "q_lora_rank": None, "num_key_value_heads": 6},
    "aria_text": {**GQA, "moe_num_experts": 5, "moe_topk": 2, "moe_num_shared_experts": 3, "pad_token_id": 0},
}  # fmt: skip
CASES = {
    **{name: {"model_type": name.split(",")[0], **values} for name, values in SMALL.items()},
    **{path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))},
    **{name: each["config"] for name, each in PUBLISHED.items() if each["config"]["model_type"] != "kimi_k2"},
}
assert not SMALL.keys() & PUBLISHED.keys()
MODELS = FOLDER.parent / "hf_models.csv"


def described(model):
    """What a model is, without the fields that have their default."""
    values = {field.name: getattr(model, field.name) for field in fields(model)}
    usual = {field.name: field.default for field in fields(model) if field.default is not MISSING}
    return ", ".join(f"{name}={value!r}" for name, value in values.items() if name not in usual or value != usual[name])


def rows():
    """How each config is read."""
    from llmamdahl.models import from_hf_config
    from tests import hybrids

    configs = CASES | {case: hybrids.config_of(case) for case in hybrids.SMALL}
    return [{"case": case, "model": described(from_hf_config(config))} for case, config in configs.items()]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from llmamdahl.tables import write_rows

    write_rows(MODELS, ("case", "model"), rows())
