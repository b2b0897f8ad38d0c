"""Readers of `config.json` for models with a recurrent state or an indexer (`huggingface.READERS`).

Defaults and names are in `data/models/formats.csv`; how transformers 5.23.0 uses each key, in its modeling files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from llmamdahl.errors import InputError
from llmamdahl.models.decoder import Experts, Indexer, Mixer, Recurrent, RecurrentKind

if TYPE_CHECKING:
    from llmamdahl.models.huggingface.reader import Config

Fields: TypeAlias = dict[str, Any]

MIXERS: dict[str, Mixer] = {
    "full_attention": "attention", "attention": "attention", "linear_attention": "state", "mamba": "state",
    "conv": "state", "moe": "none", "mlp": "none",
}  # fmt: skip
"""A layer of `layer_types`, and what mixes its tokens."""

PATTERN = {"M": "linear_attention", "E": "moe", "*": "full_attention", "-": "mlp"}
"""The letters of Nemotron-H's `hybrid_override_pattern`."""


def _mixed(attends: Callable[[Config, range], list[bool]]) -> Callable[[Config, Fields], Fields]:
    """Mixers as `layer_types` lists them; without that list attention is in the layers that `attends` says."""

    def read(config: Config, made: Fields) -> Fields:
        names = ("linear_attention", "full_attention")
        default = [names[each] for each in attends(config, range(made["num_layers"]))]
        choices = tuple(name for name, mixer in MIXERS.items() if mixer != "none")
        types = config.layer_list("layer_types", choices, default)
        return _without_unused({"mixers": tuple(MIXERS[kind] for kind in types)})

    return read


def _without_unused(found: Fields) -> Fields:
    """Without the sizes of attention, if no layer has any."""
    if "attention" in found["mixers"]:
        return found
    return {**found, "num_heads": 0, "kv_heads": None, "head_width": None}


def _if_any(read: Callable[[Config, Fields], Recurrent]) -> Callable[[Config, Fields], Fields]:
    """The state, if a layer has one."""

    def checked(config: Config, made: Fields) -> Fields:
        found = read(config, made)
        return {"recurrent": None if {"state", "both"}.isdisjoint(made["mixers"]) else found}

    return checked


def _interval(config: Config, layers: range) -> list[bool]:
    """Qwen3-Next: attention in the last of each `full_attention_interval` layers."""
    every = config.size("full_attention_interval")
    return [(layer + 1) % every == 0 for layer in layers]


def _period(config: Config, layers: range) -> list[bool]:
    """Jamba: attention in one of each `attn_layer_period` layers, at an offset."""
    every, offset = config.size("attn_layer_period"), config.count("attn_layer_offset")
    return [layer % every == offset for layer in layers]


def _listed(config: Config, layers: range) -> list[bool]:
    """Bamba: attention in the layers of a list; without it in none."""
    found = config.get("full_attn_idxs")
    found = [] if found is None else found
    if not isinstance(found, list) or not all(type(layer) is int and layer in layers for layer in found):
        key = config.form.spellings.get("full_attn_idxs", ("full_attn_idxs",))[0]
        raise config.error(key, f"is not a list of layers; layers are 0 to {len(layers) - 1}")
    return [layer in found for layer in layers]


def _listed_or_all(config: Config, layers: range) -> list[bool]:
    """LFM2: attention in the layers of a list; without it in all."""
    return _listed(config, layers) if config.get("full_attn_idxs") is not None else [True for _ in layers]


def _required(config: Config, layers: range) -> list[bool]:
    """LFM2-MoE."""
    if config.get("layer_types") is None:
        raise config.error("layer_types", f"is missing; it lists {len(layers)} layers, each conv or full_attention")
    return [False for _ in layers]


def _kimi(config: Config, layers: range) -> list[bool]:
    """Kimi Linear: the layers, from 1, of `linear_attn_config`, or every fourth from 4 on (from 0)."""
    nested = _linear_attn_config(config)
    if not {"full_attn_layers", "kda_layers"} <= nested.keys():
        return [layer > 0 and layer % 4 == 0 for layer in layers]
    full, linear = nested["full_attn_layers"], nested["kda_layers"]
    try:
        complete = sorted([*full, *linear]) == [layer + 1 for layer in layers]
    except TypeError:
        complete = False
    if not complete:
        raise config.error("linear_attn_config", f"does not list each layer once; layers are 1 to {len(layers)}")
    return [layer + 1 in full for layer in layers]


def _linear_attn_config(config: Config) -> Mapping[str, Any]:
    nested = config.get("linear_attn_config", {})
    known = {"full_attn_layers", "kda_layers", "head_dim", "num_heads", "short_conv_kernel_size"}
    if not isinstance(nested, Mapping) or not nested.keys() <= known:
        raise config.error("linear_attn_config", f"is not an object of {', '.join(sorted(known))}")
    return nested


def _parallel(config: Config, made: Fields) -> Fields:
    """Falcon-H1: attention and a state side by side in each layer."""
    return {"mixers": ("both",) * made["num_layers"]}


def _state_alone(config: Config, made: Fields) -> Fields:
    """Mamba: a state in each layer, and neither attention nor an FFN."""
    layers = made["num_layers"]
    config.read |= {"intermediate_size", "d_inner", "d_model", "n_layer", "ssm_cfg", "fused_add_norm"}
    return {"mixers": ("state",) * layers, "layers_without_ffn": tuple(range(layers)), "intermediate_size": 0}


def _nemotron(config: Config, made: Fields) -> Fields:
    """Nemotron-H: each layer is attention, a state or an FFN, dense or of experts, and nothing else."""
    pattern, layers = config.get("hybrid_override_pattern"), made["num_layers"]
    if isinstance(pattern, str) and {*pattern} <= PATTERN.keys():
        default = [PATTERN[letter] for letter in pattern]
    elif pattern is None:
        default = ["linear_attention", "moe", "full_attention", "mlp"]
    else:
        raise config.error("hybrid_override_pattern", f"is not made of {' '.join(PATTERN)}")
    if config.get("layers_block_type") is None and len(default) != layers:
        raise config.error("hybrid_override_pattern", f"does not list {layers} layers, as num_hidden_layers says")
    types = config.layer_list("layers_block_type", tuple(MIXERS), default if len(default) == layers else [""] * layers)
    mixers = tuple(MIXERS[kind] for kind in types)
    found: Fields = {
        "mixers": mixers,
        "layers_without_ffn": tuple(layer for layer, mixer in enumerate(mixers) if mixer != "none"),
    }
    number, top_k, width = (config.size(key) for key in ("num_experts", "num_experts_per_tok", "moe_intermediate_size"))
    shared = config.size("moe_shared_expert_intermediate_size")
    if "moe" in types:
        latent = config.optional_size("moe_latent_size") or 0
        found["experts"] = Experts(number, top_k, width, shared, latent_size=latent)
        found["dense_layers"] = tuple(layer for layer, kind in enumerate(types) if kind == "mlp")
    if "none" not in mixers:
        found["intermediate_size"] = 0
    return _without_unused(found)


def _jamba_experts(config: Config, made: Fields) -> Fields:
    """Jamba: experts in one of each `expert_layer_period` layers, at an offset; a single one is a dense FFN."""
    number, top_k = config.size("num_experts"), config.size("num_experts_per_tok")
    every, offset = config.size("expert_layer_period"), config.count("expert_layer_offset")
    dense = tuple(layer for layer in range(made["num_layers"]) if layer % every != offset)
    if number == 1 or len(dense) == made["num_layers"]:
        return {}
    return {"experts": Experts(number, top_k, made["intermediate_size"]), "dense_layers": dense}


def _granite_experts(config: Config, made: Fields) -> Fields:
    """Granite 4: experts beside a shared FFN, or the shared FFN alone if there are no experts."""
    number, top_k, shared = config.count("num_experts"), config.count("num_experts_per_tok"), "shared_intermediate_size"
    if not number:
        return {"intermediate_size": config.size(shared)}
    return {"experts": Experts(number, top_k, made["intermediate_size"], config.size(shared))}


def _gated_delta(kind: RecurrentKind) -> Callable[[Config, Fields], Recurrent]:
    """Qwen3-Next and Qwen3.5."""

    def read(config: Config, made: Fields) -> Recurrent:
        names = ("num_value_heads", "num_key_heads", "value_head_dim", "key_head_dim", "conv_kernel_dim")
        heads, key_heads, value_dim, key_dim, width = (config.size(f"linear_{name}") for name in names)
        return Recurrent(kind, heads, key_heads, value_dim, key_dim, width)

    return read


def _kimi_delta(config: Config, made: Fields) -> Recurrent:
    """Kimi Linear: sizes of `linear_attn_config`, or by keys of their own."""
    nested = _linear_attn_config(config)
    heads, width, conv = (
        nested.get(inner, config.size(outer))
        for inner, outer in (
            ("num_heads", "linear_num_heads"),
            ("head_dim", "linear_head_dim"),
            ("short_conv_kernel_size", "linear_conv_kernel_dim"),
        )
    )
    return Recurrent("kimi_delta", heads, heads, width, width, conv)


def _mamba2(config: Config, made: Fields) -> Recurrent:
    """Mamba-2: as wide as its heads are together, which must agree with the other keys that say it."""
    heads, width, d = config.size("mamba_n_heads"), config.value("mamba_d_head"), made["hidden_size"]
    # transformers reads neither time_step_rank (Mamba-2's Delta has no projections) nor Nemotron-H's expand.
    config.read |= {"time_step_rank", "expand", "mamba_expand"}
    inner = config.optional_size("mamba_d_ssm")
    if inner is None and config.has("mamba_expand"):
        inner = config.size("mamba_expand") * d
    if width == "auto" and inner is not None and inner % heads == 0:
        width = inner // heads
    sizes = [config.size(f"mamba_{key}") for key in ("n_groups", "d_state", "d_conv")]
    groups, state, conv = sizes
    found = Recurrent("mamba2", heads, groups, width, state, conv)  # type: ignore[arg-type]  # Recurrent checks it
    if inner is not None and heads * found.value_dim != inner:
        key = config.form.spellings.get("mamba_d_head", ("mamba_d_head",))[0]
        raise InputError(
            f"{config.name}: {key}: {heads} heads of {found.value_dim} are not {inner} wide, as other keys say"
        )
    return found


def _mamba(config: Config, made: Fields) -> Recurrent:
    """Mamba: one head, `mamba_expand` times as wide as the model."""
    rank, d = config.get("mamba_dt_rank"), made["hidden_size"]
    rank = -(-d // 16) if rank == "auto" else config.size("mamba_dt_rank")
    inner, state = config.size("mamba_expand") * d, config.size("mamba_d_state")
    return Recurrent("mamba", 1, 1, inner, state, config.size("mamba_d_conv"), rank)


def _lightning(config: Config, made: Fields) -> Recurrent:
    """MiniMax-Text-01: heads as in its attention."""
    heads = config.size("num_attention_heads")
    width = config.optional_size("head_dim") or made["hidden_size"] // heads
    return Recurrent("lightning", heads, heads, width, width)


def _short_convolution(config: Config, made: Fields) -> Recurrent:
    """LFM2 and LFM2-MoE."""
    return Recurrent("convolution", 1, 1, made["hidden_size"], conv_width=config.size("conv_L_cache"))


def _adjusted_ffn(config: Config, made: Fields) -> Fields:
    """LFM2, whose FFN is narrower than its key says unless `block_auto_adjust_ff_dim` is false."""
    d, width = made["hidden_size"], made["intermediate_size"]
    for key, value in (("block_dim", d), ("conv_dim", d), ("conv_dim_out", d)):
        config.require(key, value)
    config.require("num_heads", config.size("num_attention_heads"))
    factor, multiple = config.value("block_ffn_dim_multiplier"), config.size("block_multiple_of")
    if config.flag("block_auto_adjust_ff_dim", True):
        width = int(2 * width / 3)
        if factor is not None:
            if not isinstance(factor, int | float) or not 0 < factor < 1e6:
                raise config.error("block_ffn_dim_multiplier", "is not a number above 0")
            width = multiple * -(-int(factor * width) // multiple)
    return {"intermediate_size": width}


def _indexer(config: Config, made: Fields) -> Fields:
    """DeepSeek-V3.2: an indexer in each layer. GLM-5: or only in those that `indexer_types`, or a period, says."""
    layers = made["num_layers"]
    config.layer_list("layer_types", ("indexed_attention",), ["indexed_attention"] * layers)
    shared: tuple[int, ...] = ()
    if config.has("index_topk_freq"):
        every, offset = config.size("index_topk_freq"), config.count("index_skip_topk_offset")
        types = ["shared" if max(layer - offset + 1, 0) % every else "full" for layer in range(layers)]
        types = config.layer_list("indexer_types", ("full", "shared"), types)
        shared = tuple(layer for layer, kind in enumerate(types) if kind == "shared")
    if made["latent"].q_rank is None:
        raise InputError(f"{config.name}: q_lora_rank: is null; the indexer needs it")
    heads, width, top_k = (config.size(f"index_{key}") for key in ("n_heads", "head_dim", "topk"))
    return {"indexer": Indexer(heads, width, top_k, shared)}


READERS: dict[str, Callable[[Config, Fields], Fields]] = {
    "attention_interval": _mixed(_interval),
    "attention_period": _mixed(_period),
    "attention_listed": _mixed(_listed),
    "attention_listed_or_all": _mixed(_listed_or_all),
    "attention_even": _mixed(lambda config, layers: [layer % 2 == 0 for layer in layers]),
    "attention_if_listed": _mixed(lambda config, layers: [False for _ in layers]),
    "attention_required": _mixed(_required),
    "kimi_layers": _mixed(_kimi),
    "nemotron_layers": _nemotron,
    "parallel": _parallel,
    "state_alone": _state_alone,
    "jamba_experts": _jamba_experts,
    "granite_experts": _granite_experts,
    "gated_delta": _if_any(_gated_delta("gated_delta")),
    "gated_delta_split": _if_any(_gated_delta("gated_delta_split")),
    "kimi_delta": _if_any(_kimi_delta),
    "mamba2": _if_any(_mamba2),
    "mamba": _if_any(_mamba),
    "lightning": _if_any(_lightning),
    "short_convolution": _if_any(_short_convolution),
    "adjusted_ffn": _adjusted_ffn,
    "indexer": _indexer,
}
