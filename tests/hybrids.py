"""A small config.json of each format with a recurrent state or an indexer."""

from llmamdahl.models import Recurrent

# Irregular on purpose, so that no count agrees by chance.
SIZES = {"vocab_size": 101, "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 6}
TOKENS = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
GQA = {**SIZES, "num_key_value_heads": 2, "intermediate_size": 80, "max_position_embeddings": 64}
WIDE = {**GQA, "head_dim": 14}
GDN = {
    **WIDE, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 5, "linear_value_head_dim": 7,
    "linear_num_key_heads": 2, "linear_num_value_heads": 6,
}  # fmt: skip
MAMBA2 = {
    "mamba_n_heads": 6, "mamba_d_head": 16, "mamba_n_groups": 2, "mamba_d_state": 5, "mamba_d_conv": 4,
    "mamba_expand": 2,
}  # fmt: skip
MOE = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 26}
LOCAL = {"num_local_experts": 5, "num_experts_per_tok": 2}
SHARED = {"shared_expert_intermediate_size": 30}
MLA = {
    **SIZES, "num_key_value_heads": 6, "intermediate_size": 80, "kv_lora_rank": 22, "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 4, "v_head_dim": 10, "max_position_embeddings": 64,
}  # fmt: skip
DSA = {
    **MLA, "q_lora_rank": 20, "n_routed_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 26,
    "n_group": 2, "topk_group": 2, "index_n_heads": 5, "index_head_dim": 8, "index_topk": 9,
    "first_k_dense_replace": 1,
}  # fmt: skip
NEMOTRON = {
    **WIDE, "num_hidden_layers": 5, "mamba_num_heads": 6, "mamba_head_dim": 11, "ssm_state_size": 5, "n_groups": 2,
    "n_routed_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 26,
    "moe_shared_expert_intermediate_size": 34,
}  # fmt: skip
ALONE = {"vocab_size": 101, "hidden_size": 48, "num_hidden_layers": 3, "state_size": 5}
SMALL = {
    "qwen3_next": {**GDN, **MOE, **SHARED},
    "qwen3_next, dense layers": {**GDN, **MOE, **SHARED, "mlp_only_layers": [2], "full_attention_interval": 2},
    "qwen3_5_text": GDN,
    "qwen3_5_moe_text": {**{key: value for key, value in GDN.items() if key != "intermediate_size"}, **MOE, **SHARED},
    "kimi_linear": {
        **MLA, **MOE, **TOKENS, "linear_head_dim": 7, "linear_num_heads": 3,
        "layer_types": ["linear_attention", "full_attention", "linear_attention", "linear_attention"],
    },
    "granitemoehybrid": {
        **GQA, **MAMBA2, **LOCAL, "shared_intermediate_size": 34,
        "layer_types": ["mamba", "attention", "mamba", "mamba"],
    },
    "granitemoehybrid, dense": {
        **GQA, **MAMBA2, "num_local_experts": 0, "num_experts_per_tok": 0, "shared_intermediate_size": 34,
        "layer_types": ["mamba", "attention", "mamba", "mamba"],
    },
    "bamba": {**GQA, **MAMBA2, "attn_layer_indices": [1]},
    "falcon_h1": {**WIDE, **MAMBA2, "mamba_d_ssm": 96},
    "nemotron_h": {**NEMOTRON, "hybrid_override_pattern": "M-*EM"},
    "nemotron_h, dense": {**NEMOTRON, "layers_block_type": ["mamba", "mlp", "mamba", "attention", "mlp"]},
    "nemotron_h, latent": {**NEMOTRON, "hybrid_override_pattern": "ME*EM", "moe_latent_size": 18},
    "mamba2": {**ALONE, "num_heads": 6, "head_dim": 16, "n_groups": 2},
    "mamba": {**ALONE, "time_step_rank": 9},
    "falcon_mamba": ALONE,
    "jamba": {
        **GQA, "num_experts": 5, "num_experts_per_tok": 2, "mamba_d_state": 5, "mamba_dt_rank": 9,
        "attn_layer_period": 4, "attn_layer_offset": 1,
    },
    "minimax": {**WIDE, **LOCAL},
    "lfm2": {
        **GQA, "layer_types": ["conv", "full_attention", "conv", "conv"], "block_multiple_of": 10, "conv_L_cache": 4,
    },
    "lfm2_moe": {
        **GQA, **MOE, "layer_types": ["conv", "full_attention", "conv", "conv"], "num_dense_layers": 1,
    },
    "deepseek_v32": DSA,
    "glm_moe_dsa": DSA,
    "glm_moe_dsa, shared": {**DSA, "index_topk_freq": 2},
}  # fmt: skip
BATCH = 2


def config_of(case):
    return {"model_type": case.partition(",")[0], **SMALL[case]}


HEADS, KEYS, DK, DV = 6, 2, 5, 7
GATED = Recurrent("gated_delta", HEADS, KEYS, DV, DK, conv_width=4)
