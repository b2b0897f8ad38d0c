"""A Hugging Face `config.json` -> Decoder, for the formats listed in `FORMATS`; any other is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Number
from pathlib import Path
from typing import Any

from llmamdahl.errors import InputError, positive_int, shown, whole_number
from llmamdahl.models.decoder import Decoder, Experts, Latent, Windows

HARMLESS = frozenset(
    # housekeeping, tokens, generation
    """architectures auto_map transformers_version torch_dtype dtype use_cache return_dict output_hidden_states
    output_attentions bos_token_id eos_token_id pad_token_id unk_token_id sep_token_id bos_token eos_token id2label
    label2id num_labels problem_type task_specific_params prefix max_length min_length max_new_tokens temperature
    top_p top_k typical_p do_sample num_beams num_beam_groups num_return_sequences diversity_penalty
    repetition_penalty length_penalty forced_bos_token_id forced_eos_token_id model_max_length max_sequence_length
    transformers.js_config predict_special_tokens output_past attn_implementation experts_implementation
    unsloth_version unsloth_fixed cache_implementation is_decoder quantization_config tokenizer_class finetuning_task
    gradient_checkpointing
    """
    # training
    """initializer_range initializer_factor init_std dropout attention_dropout hidden_dropout hidden_dropout_prob
    attention_probs_dropout_prob resid_pdrop embd_pdrop
    attn_pdrop residual_dropout embedding_dropout classifier_dropout layerdrop activation_dropout pretraining_tp
    router_aux_loss_coef aux_loss_alpha seq_aux router_jitter_noise output_router_logits ep_size
    offset_alibi masked_softmax_fusion bias_dropout_fusion attention_softmax_in_fp32
    scale_attention_softmax_in_fp32 slow_but_exact skip_bias_add skip_bias_add_qkv
    """
    # element by element: activations, norms, biases, positions, scales
    """hidden_act hidden_activation activation_function activation rms_norm_eps layer_norm_eps layer_norm_epsilon
    norm_epsilon norm_type attention_bias mlp_bias use_bias use_qkv_bias bias enable_bias qk_layernorm
    layer_norm_elementwise_affine do_layer_norm_before _remove_final_layer_norm num_ln_in_parallel_attn
    parallel_attn use_parallel_residual apply_residual_connection_post_layernorm
    rope_theta rope_scaling rope_parameters rope_local_base_freq rope_interleave rotary_pct rotary_emb_base
    partial_rotary_factor original_max_position_embeddings alibi initial_context_length n_ctx
    scale_attn_weights scale_attn_by_inverse_layer_idx reorder_and_upcast_attn query_pre_attn_scalar
    final_logit_softcapping attn_logit_softcapping embedding_multiplier logits_scaling residual_multiplier
    attention_multiplier swiglu_limit swiglu_alpha norm_topk_prob routed_scaling_factor scoring_func topk_method
    n_group topk_group summary_type summary_use_proj summary_activation summary_proj_to_labels
    summary_first_dropout""".split()
)
"""Keys that change no MatMul's shape or number. A `_` key, or one that is off (null, false, 0, empty), changes none."""

JSON = (Number, str, list, tuple, Mapping, type(None))
"""What the values of a config can be: those of `json`, and numbers of NumPy."""

MAX_LAYERS = 10_000
"""Of a config: what is listed layer by layer stays short."""

Fields = dict[str, Any]


@dataclass(slots=True)
class Config:
    """The keys of one `config.json`, and which of them have been read.

    `name` is that of the file, and of the model.
    """

    name: str
    values: Mapping[str, Any]
    read: set[str] = field(default_factory=set)

    def get(self, keys: str, default: Any = None) -> Any:
        """The value of a key, which may have other spellings after it; spellings that differ in value are refused."""
        names = keys.split()
        self.read.update(names)
        given = [name for name in names if self.values.get(name) is not None]  # null is a default, where it is allowed
        for name in given[1:]:
            if self.values[name] != self.values[given[0]]:
                raise self.error(name, f"but {given[0]} is {shown(self.values[given[0]])}; they are one setting")
        return self.values[given[0]] if given else default

    def error(self, key: str, problem: str) -> InputError:
        return InputError(f"{self.name}: {key}: {shown(self.values.get(key))} {problem}")

    def size(self, keys: str, default: int | None = None) -> int:
        """A whole number >= 1, never null; without a default the key must be there."""
        name, *_ = names = keys.split()
        null = any(other in self.values and self.values[other] is None for other in names)
        value = self.get(keys, None if null else default)
        if value is None:
            raise InputError(f"{self.name}: {name}: is missing or null; a positive whole number is needed")
        return positive_int(f"{self.name}: {name}", value)

    def optional_size(self, key: str, default: int | None = None) -> int | None:
        """A whole number >= 1, or None where the key is null or, without a default, absent."""
        self.read.add(key)
        value = self.values.get(key, default)
        return None if value is None else positive_int(f"{self.name}: {key}", value)

    def count(self, key: str, default: int) -> int:
        """A whole number >= 0."""
        self.read.add(key)
        return whole_number(f"{self.name}: {key}", self.values.get(key, default))

    def flag(self, key: str, default: bool) -> bool:
        self.read.add(key)
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "is not true or false")
        return value

    def layers(self, key: str, size: int) -> list[int]:
        """Layer indices; none if the key is absent."""
        value = self.get(key, [])
        layers = range(size)
        if not isinstance(value, list) or not all(type(layer) is int and layer in layers for layer in value):
            raise self.error(key, f"is not a list of layers, which are 0 to {size - 1}")
        return value

    def require(self, key: str, value: Any) -> None:
        """Refuse any value of a key but this one, which is also its default."""
        if self.get(key, value) != value:
            raise self.error(key, f"is not supported; only {value!r} is")

    def refuse_the_rest(self) -> None:
        """Refuse a key that nobody has read and that may change what is computed."""
        for key, value in self.values.items():
            if key not in self.read and not _is_harmless(key) and value:
                kind = self.values["model_type"]
                raise InputError(
                    f"{self.name}: {key}: {shown(value)} is not understood for model_type {kind!r} and may change "
                    "what is computed; remove the key if you know that it does not"
                )


def from_hf_config(config: str | os.PathLike[str] | Mapping[str, Any]) -> Decoder:
    """A model by its Hugging Face `config.json`. Nothing is downloaded, and transformers is not needed.

    Keys that are absent have the defaults of the format, read in transformers 5.23.0 (`FORMATS`); hidden size and the
    numbers of layers and heads must be there. A key that may change what is computed and is not understood is
    refused. MatMuls are those of the format: GPT-2, Falcon, GPT-NeoX, BLOOM and Phi-3 have one fused product for Q, K
    and V, Phi-3 and gpt-oss one for gate and up, so that `get_model("gpt2-xl")`, which is as Table 1 has it, differs
    in `fused_qkv`. What a `quantization_config` says of number formats changes no shape. DeepSeek-V3's multi-token
    prediction is no part of a decode step.

    Parameters
    ----------
    config
        Path to a `config.json`, or to a folder that holds one, or what is in it as a dict. The model is named after
        the folder (`config.json`), the file (any other name), or `_name_or_path` or else `model_type` (a dict).

    Raises
    ------
    InputError
        No such file, not JSON, not an object; a `model_type` that is not supported; a key that is missing, has an
        unusable value, or is not understood. It names the file, the key, its value and what would be right.

    >>> model = from_hf_config({"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32,
    ...                         "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336})
    >>> model.name, model.num_kv_heads, model.head_dim, model.vocab_size
    ('llama', 8, 128, 32000)
    """
    found = _loaded(config)
    kind = found.get("model_type")
    for key in ("vision_config", "text_config", "audio_config"):
        if found.values.get(key):
            raise InputError(
                f"{found.name}: {key}: model_type {shown(kind)} is a multimodal model, and only decoders of text are "
                f"supported; if its text_config has one of these model_types, give that: {', '.join(FORMATS)}"
            )
    if not isinstance(kind, str) or kind not in FORMATS:
        problem = "is missing" if kind is None else f"{shown(kind)} is not supported"
        raise InputError(f"{found.name}: model_type: {problem}; supported: {', '.join(FORMATS)}")
    if found.get("is_encoder_decoder", False):
        raise found.error("is_encoder_decoder", "is not supported; only decoder-only models are")
    architectures = found.get("architectures", [])
    if not isinstance(architectures, list):
        raise found.error("architectures", "is not a list of class names")
    ends = ("ForCausalLM", "LMHeadModel", "Model")
    if architectures and not any(isinstance(name, str) and name.endswith(ends) for name in architectures):
        raise found.error("architectures", "has no LM head; a ForCausalLM is needed")
    try:
        fields = FORMATS[kind](found)
    except InputError as error:  # of Experts and Latent, which do not know whose they are
        raise error if str(error).startswith(f"{found.name}: ") else InputError(f"{found.name}: {error}") from None
    found.refuse_the_rest()
    return Decoder(found.name, **fields)


def _is_harmless(key: str) -> bool:
    return key in HARMLESS or key.startswith("_")


def _loaded(config: str | os.PathLike[str] | Mapping[str, Any]) -> Config:
    if isinstance(config, Mapping):
        for key, value in config.items():
            if not isinstance(key, str):
                raise InputError(f"config: {shown(key)} is not a key of a config.json, which are strings")
            if not _is_harmless(key) and not isinstance(value, JSON):
                raise InputError(f"config: {key}: {shown(value)} is nothing that a config.json can hold")
        names = [config.get(key) for key in ("_name_or_path", "model_type")]
        name = next((name.rstrip("/").split("/")[-1] for name in names if isinstance(name, str)), "")
        return Config(name or "config", config)
    if not isinstance(config, str | os.PathLike):
        raise InputError(f"config: {shown(config)} is not a path or a dict")
    path = Path(os.fsdecode(config))
    try:
        path = path / "config.json" if path.is_dir() else path
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({why})"
        raise InputError(f"config: {shown(str(path))}: {reason}; give a config.json, its folder, or a dict") from None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "is empty" if not text.strip() else f"is not JSON ({error})"
        raise InputError(f"config: {str(path)!r}: {reason}; a config.json is one JSON object") from None
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise InputError(f"config: {str(path)!r}: holds a {kind}; a config.json is one JSON object, {{...}}")
    return Config(path.resolve().parent.name if path.name == "config.json" else path.stem, values)


# What follows reads the formats. Defaults are those of the configuration classes of transformers 5.23.0,
# transformers/models/*/configuration_*.py; how each key is used, of modeling_*.py beside them.


def _core(config: Config, hidden: str, layers: str, heads: str) -> Fields:
    """The three sizes that no config.json is without."""
    d, number = config.size(hidden), config.size(layers)
    if number > MAX_LAYERS:
        raise InputError(
            f"{config.name}: {layers.split()[0]}: {number} is more than any model has; at most {MAX_LAYERS}"
        )
    return {
        "hidden_size": d,
        "num_layers": number,
        "num_heads": config.size(heads),
        "embedding_size": d,
    }


@dataclass(frozen=True, slots=True)
class Defaults:
    """What absent keys of a format with LLaMA's keys mean; None follows from other sizes."""

    ffn: int
    kv_heads: int | None
    vocab: int
    positions: int
    head_dim: int | None = None
    tied: bool = False
    gated: bool = True  # no key: the format's own


def _standard(config: Config, defaults: Defaults) -> Fields:
    """The keys that LLaMA's format introduced."""
    fields = _core(config, "hidden_size", "num_hidden_layers", "num_attention_heads")
    if width := config.optional_size("head_dim") or defaults.head_dim:
        fields["head_width"] = width
    return fields | {  # null is as many K and V heads as query heads in every format
        "kv_heads": config.optional_size("num_key_value_heads", defaults.kv_heads),
        "intermediate_size": config.size("intermediate_size", defaults.ffn),
        "gated_ffn": defaults.gated,
        "vocab_size": config.size("vocab_size", defaults.vocab),
        "max_position": config.size("max_position_embeddings", defaults.positions),
        "tied_embeddings": config.flag("tie_word_embeddings", defaults.tied),
    }


def _llama(defaults: Defaults) -> Callable[[Config], Fields]:
    """A format that has LLaMA's keys and no others that matter."""
    return lambda config: _standard(config, defaults)


def _one_window(window: int | None, defaults: Defaults) -> Callable[[Config], Fields]:
    """The same, with one window for all layers."""

    def read(config: Config) -> Fields:
        fields = _standard(config, defaults)
        return fields | _every_layer(config.optional_size("sliding_window", window), fields["num_layers"])

    return read


def _every_layer(window: int | None, layers: int) -> Fields:
    return {"windows": (window,) * layers if window else ()}


def _by_layer_type(config: Config, layers: int, window: int | None, default: list[bool]) -> Fields:
    """Windows where `layer_types` has `sliding_attention`, or where the format puts them by `default`."""
    types = config.get("layer_types")
    names = {"full_attention": False, "sliding_attention": True}
    sliding = default
    if types is not None:
        known = isinstance(types, list) and all(isinstance(kind, str) and kind in names for kind in types)
        if not known or len(types) != layers:
            raise config.error("layer_types", f"is not a list of {layers} layers, each {' or '.join(names)}")
        sliding = [names[kind] for kind in types]
    if any(sliding) and window is None:
        raise config.error("sliding_window", "is null or not in use, but some layers are sliding_attention")
    windows: Windows = tuple(window if slides else None for slides in sliding)
    return {"windows": windows if any(sliding) else ()}


def _gpt2(config: Config) -> Fields:
    fields = _core(config, "n_embd hidden_size", "n_layer num_hidden_layers", "n_head num_attention_heads")
    return fields | {
        "intermediate_size": config.optional_size("n_inner") or 4 * fields["hidden_size"],
        "gated_ffn": False,
        "vocab_size": config.size("vocab_size", 50257),
        "max_position": config.size("n_positions max_position_embeddings", 1024),
        "fused_qkv": True,
        "tied_embeddings": config.flag("tie_word_embeddings", True),
    }


def _opt(config: Config) -> Fields:
    fields = _core(config, "hidden_size", "num_hidden_layers", "num_attention_heads")
    return fields | {
        "intermediate_size": config.size("ffn_dim", 3072),
        "gated_ffn": False,
        "vocab_size": config.size("vocab_size", 50272),
        "max_position": config.size("max_position_embeddings", 2048),
        "embedding_size": config.optional_size("word_embed_proj_dim") or fields["hidden_size"],
        "tied_embeddings": config.flag("tie_word_embeddings", True),
    }


def _bloom(config: Config) -> Fields:
    fields = _core(config, "hidden_size n_embed", "n_layer num_hidden_layers", "n_head num_attention_heads")
    return fields | {
        "intermediate_size": 4 * fields["hidden_size"],
        "gated_ffn": False,
        "vocab_size": config.size("vocab_size", 250880),
        "max_position": config.size("seq_length", 2048),  # ALiBi has no limit; the models' files say what they saw
        "fused_qkv": True,
        "tied_embeddings": config.flag("tie_word_embeddings", True),
    }


def _gpt_neox(config: Config) -> Fields:
    fields = _core(config, "hidden_size", "num_hidden_layers", "num_attention_heads")
    return fields | {
        "intermediate_size": config.size("intermediate_size", 24576),
        "gated_ffn": False,
        "vocab_size": config.size("vocab_size", 50432),
        "max_position": config.size("max_position_embeddings", 2048),
        "fused_qkv": True,
        "tied_embeddings": config.flag("tie_word_embeddings", False),
    }


def _falcon(config: Config) -> Fields:
    """`num_kv_heads` counts only in the new architecture (40B, 180B); the old one has one K and V head, or all."""
    fields = _core(config, "hidden_size n_embed", "num_hidden_layers", "num_attention_heads")
    heads = fields["num_heads"]
    given = config.optional_size("num_kv_heads") or heads
    multi_query = config.flag("multi_query", True)
    if config.flag("new_decoder_architecture", False):
        kv_heads = given
    elif multi_query:
        kv_heads = 1
    else:
        config.require("num_kv_heads", heads)
        kv_heads = heads
    return fields | {
        "kv_heads": kv_heads,
        "intermediate_size": config.optional_size("ffn_hidden_size") or 4 * fields["hidden_size"],
        "gated_ffn": False,
        "vocab_size": config.size("vocab_size", 65024),
        "max_position": config.size("max_position_embeddings", 2048),
        "fused_qkv": True,
        "tied_embeddings": config.flag("tie_word_embeddings", True),
    }


def _phi3(config: Config) -> Fields:
    for key in ("full_attn_mod", "interpolate_factor"):  # Phi-4-mini has them, as 1, and transformers ignores them
        config.require(key, 1)
    fields = _one_window(None, Defaults(8192, None, 32064, 4096))(config)
    return fields | {"fused_qkv": True, "fused_gate_up": True}


def _starcoder2(config: Config) -> Fields:
    config.require("mlp_type", "default")
    return _one_window(None, Defaults(12288, 2, 49152, 4096, tied=True, gated=False))(config)


def _qwen(head_dim: int | None) -> Callable[[Config], Fields]:
    """Qwen2 and Qwen3: a window only where `use_sliding_window` asks for it, from layer `max_window_layers` on."""

    def read(config: Config) -> Fields:
        fields = _standard(config, Defaults(22016, 32, 151936, 32768, head_dim))
        layers, window = fields["num_layers"], config.optional_size("sliding_window", 4096)
        if not config.flag("use_sliding_window", False):
            window = None
        first = config.count("max_window_layers", 28)
        default = [window is not None and layer >= first for layer in range(layers)]
        return fields | _by_layer_type(config, layers, window, default)

    return read


def _qwen3_moe(config: Config) -> Fields:
    fields = _standard(config, Defaults(6144, 4, 151936, 32768))
    layers, window = fields["num_layers"], config.optional_size("sliding_window", 4096)
    windows: Fields = {"windows": ()}
    if config.flag("use_sliding_window", False):
        windows = _every_layer(window, layers)
    else:
        config.get("max_window_layers")
    step, dense = config.size("decoder_sparse_step", 1), config.layers("mlp_only_layers", layers)
    experts = Experts(
        num_experts=config.size("num_experts num_local_experts", 128),
        experts_per_token=config.size("num_experts_per_tok", 8),
        intermediate_size=config.size("moe_intermediate_size", 768),
    )
    listed = tuple(layer for layer in range(layers) if layer in dense or (layer + 1) % step)
    return fields | windows | {"experts": experts, "dense_layers": listed}


def _gemma(vocab: int, positions: int, period_key: str = "") -> Callable[[Config], Fields]:
    """Gemma 2 and 3: every second, or sixth, layer sees all tokens and the others a window."""

    def read(config: Config) -> Fields:
        config.require("use_bidirectional_attention", False)
        fields = _standard(config, Defaults(9216, 4, vocab, positions, head_dim=256, tied=True))
        layers, window = fields["num_layers"], config.optional_size("sliding_window", 4096)
        config.require("sliding_window_size", window)  # some of Gemma 2's files write it twice
        period = config.size(period_key, 6) if period_key else 2
        default = [bool((layer + 1) % period) for layer in range(layers)]
        return fields | _by_layer_type(config, layers, window, default)

    return read


def _mixtral(config: Config) -> Fields:
    fields = _one_window(None, Defaults(14336, 8, 32000, 131072))(config)
    experts = Experts(
        num_experts=config.size("num_local_experts num_experts", 8),
        experts_per_token=config.size("num_experts_per_tok", 2),
        intermediate_size=fields["intermediate_size"],
    )
    return fields | {"experts": experts}


def _gpt_oss(config: Config) -> Fields:
    fields = _standard(config, Defaults(2880, 8, 201088, 131072, head_dim=64))
    layers, window = fields["num_layers"], config.optional_size("sliding_window", 128)
    experts = Experts(
        num_experts=config.size("num_local_experts num_experts", 128),
        experts_per_token=config.size("num_experts_per_tok experts_per_token", 4),
        intermediate_size=fields["intermediate_size"],
    )
    default = [bool((layer + 1) % 2) for layer in range(layers)]
    return fields | _by_layer_type(config, layers, window, default) | {"experts": experts, "fused_gate_up": True}


def _deepseek(
    ffn: int, vocab: int, positions: int, experts: int, top_k: int | None, shared: int, expert_ffn: int, dense: int
) -> Callable[[Config], Fields]:
    """DeepSeek-V2 and V3: latent attention; dense layers first, then experts of which some are shared."""

    def read(config: Config) -> Fields:
        fields = _core(config, "hidden_size", "num_hidden_layers", "num_attention_heads")
        config.require("num_key_value_heads", fields["num_heads"])  # one latent serves all heads
        config.require("moe_layer_freq", 1)
        for key in ("head_dim", "qk_head_dim", "num_nextn_predict_layers", "num_mtp_layers"):
            config.get(key)  # derived from the keys below; multi-token prediction is no part of a decode step
        first = config.count("first_k_dense_replace", dense)
        width = config.size("moe_intermediate_size", expert_ffn)
        return fields | {
            "intermediate_size": config.size("intermediate_size", ffn),
            "gated_ffn": True,
            "vocab_size": config.size("vocab_size", vocab),
            "max_position": config.size("max_position_embeddings", positions),
            "experts": Experts(
                num_experts=config.size("n_routed_experts num_local_experts num_experts", experts),
                experts_per_token=config.size("num_experts_per_tok", top_k),
                intermediate_size=width,
                shared_intermediate_size=config.count("n_shared_experts", shared) * width,
            ),
            "dense_layers": tuple(range(min(first, fields["num_layers"]))),
            "latent": Latent(
                kv_rank=config.size("kv_lora_rank", 512),
                q_rank=config.optional_size("q_lora_rank", 1536),
                nope_head_dim=config.size("qk_nope_head_dim", 128),
                rope_head_dim=config.size("qk_rope_head_dim", 64),
                v_head_dim=config.size("v_head_dim", 128),
            ),
            "tied_embeddings": config.flag("tie_word_embeddings", False),
        }

    return read


FORMATS: dict[str, Callable[[Config], Fields]] = {
    "gpt2": _gpt2,
    "opt": _opt,
    "llama": _llama(Defaults(11008, None, 32000, 2048)),
    "mistral": _one_window(4096, Defaults(14336, 8, 32000, 131072)),
    "mixtral": _mixtral,
    "qwen2": _qwen(head_dim=None),
    "qwen3": _qwen(head_dim=128),
    "qwen3_moe": _qwen3_moe,
    "gemma2": _gemma(256000, 8192),
    "gemma3_text": _gemma(262208, 131072, "sliding_window_pattern"),
    "phi3": _phi3,
    "phi": _llama(Defaults(8192, None, 51200, 2048, gated=False)),
    "falcon": _falcon,
    "olmo2": _llama(Defaults(11008, None, 50304, 2048)),
    "gpt_neox": _gpt_neox,
    "bloom": _bloom,
    "starcoder2": _starcoder2,
    "granite": _llama(Defaults(11008, None, 32000, 2048)),
    "gpt_oss": _gpt_oss,
    "deepseek_v2": _deepseek(11008, 102400, 2048, experts=64, top_k=None, shared=2, expert_ffn=1407, dense=0),
    "deepseek_v3": _deepseek(18432, 129280, 4096, experts=256, top_k=8, shared=1, expert_ffn=2048, dense=3),
    "bitnet": _llama(Defaults(6912, 5, 128256, 2048)),
}
"""Every supported `model_type`, and what reads its keys."""
