"""The smallest `config.json` of each format: what test_hf.py and test_hf_table.py leave absent keys out of."""

from llmamdahl.models.huggingface import REQUIRED, formats

NEEDED = {
    "cohere_compass_text": {
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 10000.0} for kind in ("full_attention", "sliding_attention")
        },
    },
    "dbrx": {"attn_config": {"rope_theta": 10000.0}},
    "deepseek_v2": {"num_experts_per_tok": 6},
    "dots1": {"n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 3},
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "ministral": {"head_dim": 8},
    "nemotron": {"num_key_value_heads": 2},
    "nemotron_h": {"hybrid_override_pattern": "M-M*E-"},
}
"""What has to be given besides the sizes, because transformers has no default that works."""


def smallest(model_type):
    """The sizes that have no default, in the format's spelling, and as the defaults of the other keys need them."""
    form = formats()[model_type]
    if form.text_types:
        return {"text_config": {"model_type": form.text_types[0]}}
    heads = 2 * (form.defaults.get("num_key_value_heads") or 2)
    heads = form.defaults.get("num_attention_heads", 128) if "latent" in str(form.readers) else heads
    layers, width = 24 if model_type == "gpt_neo" else 6, 128 if model_type == "helium" else 16
    sizes = dict(zip(REQUIRED, (width * heads, layers, heads), strict=True))
    spelled = {name: value for key, value in sizes.items() for name in form.spellings.get(key, (key,))[:1]}
    return spelled | NEEDED.get(model_type, {})
