"""A Hugging Face `config.json` -> Decoder, for the formats listed in `FORMATS`; any other is rejected."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Number
from pathlib import Path
from typing import Any

from llmamdahl.errors import InputError, positive_int, shown, whole_number
from llmamdahl.models.decoder import Decoder, Experts, Latent

HARMLESS = frozenset(
    # housekeeping, tokens, generation
    """architectures auto_map transformers_version torch_dtype dtype use_cache return_dict output_hidden_states
    output_attentions bos_token_id eos_token_id pad_token_id unk_token_id sep_token_id bos_token eos_token id2label
    label2id num_labels problem_type task_specific_params prefix max_length min_length max_new_tokens temperature top_p
    top_k typical_p do_sample num_beams num_beam_groups num_return_sequences diversity_penalty repetition_penalty
    length_penalty forced_bos_token_id forced_eos_token_id model_max_length max_sequence_length transformers.js_config
    predict_special_tokens output_past attn_implementation experts_implementation unsloth_version unsloth_fixed
    cache_implementation is_decoder quantization_config tokenizer_class finetuning_task gradient_checkpointing """
    # training
    """initializer_range initializer_factor init_std dropout attention_dropout hidden_dropout hidden_dropout_prob
    attention_probs_dropout_prob resid_pdrop embd_pdrop attn_pdrop residual_dropout embedding_dropout classifier_dropout
    layerdrop activation_dropout pretraining_tp router_aux_loss_coef aux_loss_alpha seq_aux router_jitter_noise
    output_router_logits ep_size offset_alibi masked_softmax_fusion bias_dropout_fusion attention_softmax_in_fp32
    scale_attention_softmax_in_fp32 slow_but_exact skip_bias_add skip_bias_add_qkv """
    # element by element: activations, norms, biases, positions, scales
    """hidden_act hidden_activation activation_function activation rms_norm_eps layer_norm_eps layer_norm_epsilon
    norm_epsilon norm_type attention_bias mlp_bias use_bias use_qkv_bias bias enable_bias qk_layernorm
    layer_norm_elementwise_affine do_layer_norm_before _remove_final_layer_norm num_ln_in_parallel_attn parallel_attn
    use_parallel_residual apply_residual_connection_post_layernorm rope_theta rope_scaling rope_parameters
    rope_local_base_freq rope_interleave rotary_pct rotary_emb_base partial_rotary_factor
    original_max_position_embeddings alibi initial_context_length n_ctx scale_attn_weights
    scale_attn_by_inverse_layer_idx reorder_and_upcast_attn query_pre_attn_scalar final_logit_softcapping
    attn_logit_softcapping embedding_multiplier logits_scaling residual_multiplier attention_multiplier swiglu_limit
    swiglu_alpha norm_topk_prob routed_scaling_factor scoring_func topk_method n_group topk_group summary_type
    summary_use_proj summary_activation summary_proj_to_labels summary_first_dropout""".split()
)
"""Keys that do not change any MatMul. Nor do keys that begin with `_` or have a null, false, 0 or empty value."""

JSON = (Number, str, list, tuple, Mapping, type(None))
"""Types of the values of a config: those of `json`, and the numbers of NumPy."""

MAX_LAYERS = 10_000
"""Limit of a config's layers, because some properties are listed layer by layer."""

Fields = dict[str, Any]
"""Keyword arguments of a Decoder."""


def from_hf_config(config: str | os.PathLike[str] | Mapping[str, object]) -> Decoder:
    """A model by its Hugging Face `config.json`. Nothing is downloaded, and transformers is not needed.

    Absent keys have the defaults of the format, as in transformers 5.23.0 (`FORMATS`); the hidden size and the numbers
    of layers and heads must be there. A key that is not understood and may change what is computed is rejected. The
    MatMuls are those of the format: GPT-2, Falcon, GPT-NeoX, BLOOM and Phi-3 fuse Q, K and V into one product, Phi-3
    and gpt-oss also gate and up; `get_model("gpt2-xl")` follows Table 1 and does not. A `quantization_config` does
    not change shapes, and the multi-token prediction of DeepSeek-V3 is not part of a decode step: both are ignored.

    Parameters
    ----------
    config
        Path of a `config.json` or of a folder that holds one, or its content as a dict. The model is named after the
        folder (`config.json`), the file (any other name), or `_name_or_path` or else `model_type` (a dict).

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
    form = _format(found)
    try:
        made = _core(found, form)
        for read in form.more:
            made |= read(found, made)
    except InputError as error:  # Experts and Latent do not know the name of their model
        raise error if str(error).startswith(f"{found.name}: ") else InputError(f"{found.name}: {error}") from None
    found.reject_unread()
    return Decoder(found.name, **made)


@dataclass(slots=True)
class Config:
    """The keys of one `config.json`, which of them have been read, and the name of the file and the model."""

    name: str
    values: Mapping[str, object]
    read: set[str] = field(default_factory=set)

    def get(self, keys: str, default: object = None) -> object:
        """The value of a key or of its other spellings, which must agree; null counts as absent."""
        names = keys.split()
        self.read.update(names)
        given = [name for name in names if self.values.get(name) is not None]
        for name in given[1:]:
            if self.values[name] != self.values[given[0]]:
                raise self.error(name, f"but {given[0]} is {shown(self.values[given[0]])}; they are one setting")
        return self.values[given[0]] if given else default

    def error(self, key: str, problem: str) -> InputError:
        return InputError(f"{self.name}: {key}: {shown(self.values.get(key))} {problem}")

    def size(self, keys: str, default: int | None = None) -> int:
        """A whole number >= 1, never null; without a default the key must be there."""
        names = keys.split()
        null = any(name in self.values and self.values[name] is None for name in names)
        value = self.get(keys, None if null else default)
        if value is None:
            raise InputError(f"{self.name}: {names[0]}: is missing or null; a positive whole number is needed")
        return positive_int(f"{self.name}: {names[0]}", value)

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

    def require(self, key: str, value: object) -> None:
        """Reject any value of a key but this one, which is also its default."""
        if self.get(key, value) != value:
            raise self.error(key, f"is not supported; only {value!r} is")

    def reject_unread(self) -> None:
        """Reject a key that nothing has read and that may change what is computed."""
        for key, value in self.values.items():
            if key not in self.read and not _is_harmless(key) and value:
                kind = self.values["model_type"]
                raise InputError(
                    f"{self.name}: {key}: {shown(value)} is not understood for model_type {kind!r} and may change "
                    "what is computed; remove the key if you know that it does not"
                )


def _is_harmless(key: str) -> bool:
    return key in HARMLESS or key.startswith("_")


def _loaded(config: str | os.PathLike[str] | Mapping[str, object]) -> Config:
    if isinstance(config, Mapping):
        for key, value in config.items():
            if not isinstance(key, str):
                raise InputError(f"config: {shown(key)} is not a key of a config.json; keys are strings")
            if not _is_harmless(key) and not isinstance(value, JSON):
                raise InputError(f"config: {key}: {shown(value)} is not a value that a config.json can hold")
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


def _format(config: Config) -> Format:
    """The format of a config; one that is not a decoder of text with an LM head is rejected."""
    kind = config.get("model_type")
    for key in ("vision_config", "text_config", "audio_config"):
        if config.values.get(key):
            raise InputError(
                f"{config.name}: {key}: model_type {shown(kind)} is a multimodal model, and only decoders of text are "
                f"supported; if its text_config has one of these model_types, give that: {', '.join(FORMATS)}"
            )
    if not isinstance(kind, str) or kind not in FORMATS:
        problem = "is missing" if kind is None else f"{shown(kind)} is not supported"
        raise InputError(f"{config.name}: model_type: {problem}; supported: {', '.join(FORMATS)}")
    if config.get("is_encoder_decoder", False):
        raise config.error("is_encoder_decoder", "is not supported; only decoder-only models are")
    architectures = config.get("architectures", [])
    if not isinstance(architectures, list):
        raise config.error("architectures", "is not a list of class names")
    ends = ("ForCausalLM", "LMHeadModel", "Model")
    if architectures and not any(isinstance(name, str) and name.endswith(ends) for name in architectures):
        raise config.error("architectures", "has no LM head; a ForCausalLM is needed")
    return FORMATS[kind]


# The formats. Defaults are those of the configuration classes of transformers 5.23.0, in
# transformers/models/*/configuration_*.py; modeling_*.py of the same folder shows how each key is used.

Reader = Callable[[Config, Fields], Fields]
"""Reads more keys of a config, given the fields read so far, and returns the fields that follow."""


@dataclass(frozen=True, slots=True)
class Format:
    """The keys of one `model_type`: what absent ones mean, how they are spelled, and what the format fixes.

    `ffn`, `kv_heads` and `head_dim` are None where the default follows from other sizes: 4 d, h and d/h. `grouped` is
    False for formats without keys for the last two. A `*_key` lists the spellings of a key, "" if there is none. `only`
    lists keys with the one value that is supported; `more` reads what is left.
    """

    vocab: int
    positions: int
    ffn: int | None
    kv_heads: int | None = None
    head_dim: int | None = None
    tied: bool = False
    gated: bool = True
    grouped: bool = True
    fused_qkv: bool = False
    fused_gate_up: bool = False
    hidden_key: str = "hidden_size"
    layers_key: str = "num_hidden_layers"
    heads_key: str = "num_attention_heads"
    ffn_key: str = "intermediate_size"
    positions_key: str = "max_position_embeddings"
    embedding_key: str = ""
    only: tuple[tuple[str, object], ...] = ()
    more: tuple[Reader, ...] = ()


def _core(config: Config, form: Format) -> Fields:
    """What every format has, by the spelling and the defaults of this one."""

    def optional(key: str) -> int | None:
        return config.optional_size(key) if key else None

    d, layers = config.size(form.hidden_key), config.size(form.layers_key)
    if layers > MAX_LAYERS:
        key = form.layers_key.split()[0]
        raise InputError(f"{config.name}: {key}: {layers} is more than any model has; at most {MAX_LAYERS}")
    heads = config.size(form.heads_key)
    for key, value in form.only:
        config.require(key, value)
    ffn = optional(form.ffn_key) or 4 * d if form.ffn is None else config.size(form.ffn_key, form.ffn)
    made: Fields = {
        "hidden_size": d,
        "num_layers": layers,
        "num_heads": heads,
        "intermediate_size": ffn,
        "gated_ffn": form.gated,
        "vocab_size": config.size("vocab_size", form.vocab),
        "max_position": config.size(form.positions_key, form.positions),
        "embedding_size": optional(form.embedding_key) or d,
        "fused_qkv": form.fused_qkv,
        "fused_gate_up": form.fused_gate_up,
        "tied_embeddings": config.flag("tie_word_embeddings", form.tied),
    }
    if form.grouped:
        made["head_width"] = config.optional_size("head_dim") or form.head_dim
        made["kv_heads"] = config.optional_size("num_key_value_heads", form.kv_heads)  # null is h in every format
    return made


def _falcon_heads(config: Config, made: Fields) -> Fields:
    """`num_kv_heads` counts only in the new architecture (40B, 180B); the old one has one K and V head, or all."""
    given, multi_query = config.optional_size("num_kv_heads"), config.flag("multi_query", True)
    if config.flag("new_decoder_architecture", False):
        return {"kv_heads": given}
    if multi_query:
        return {"kv_heads": 1}
    config.require("num_kv_heads", made["num_heads"])
    return {}


def _one_window(default: int | None) -> Reader:
    """One window for all layers, or none."""
    return lambda config, made: {"windows": (config.optional_size("sliding_window", default),) * made["num_layers"]}


def _alternating(default: int, period: int, period_key: str = "", again: str = "") -> Reader:
    """Every `period`-th layer sees all tokens and the others a window, which the key `again` may repeat."""

    def read(config: Config, made: Fields) -> Fields:
        window = config.optional_size("sliding_window", default)
        if again:
            config.require(again, window)
        every = config.size(period_key, period) if period_key else period
        return _by_layer_type(config, window, [bool((layer + 1) % every) for layer in range(made["num_layers"])])

    return read


def _qwen_windows(config: Config, made: Fields) -> Fields:
    """Qwen2 and Qwen3: a window only where `use_sliding_window` asks for it, from layer `max_window_layers` on."""
    window = config.optional_size("sliding_window", 4096)
    window = window if config.flag("use_sliding_window", False) else None
    first = config.count("max_window_layers", 28)
    return _by_layer_type(config, window, [window is not None and i >= first for i in range(made["num_layers"])])


def _qwen_moe_windows(config: Config, made: Fields) -> Fields:
    """Qwen3-MoE has the same keys, but `use_sliding_window` asks for a window in all layers."""
    windows = _one_window(4096)(config, made)
    if config.flag("use_sliding_window", False):
        return windows
    config.get("max_window_layers")  # ignored in this case
    return {}


def _by_layer_type(config: Config, window: int | None, default: list[bool]) -> Fields:
    """Windows where `layer_types` has `sliding_attention`, or where the format puts them by `default`."""
    names = ("full_attention", "sliding_attention")
    types = config.get("layer_types", [names[slides] for slides in default])
    known = isinstance(types, list) and all(isinstance(kind, str) and kind in names for kind in types)
    if not isinstance(types, list) or not known or len(types) != len(default):
        raise config.error("layer_types", f"is not a list of {len(default)} layers, each {' or '.join(names)}")
    if names[True] in types and window is None:
        raise config.error("sliding_window", "is null or not in use, but some layers are sliding_attention")
    return {"windows": tuple(window if kind == names[True] else None for kind in types)}


def _experts(
    keys: str, number: int, top_k: int | None, top_k_keys: str = "num_experts_per_tok", ffn: int = 0, shared: int = 0
) -> Reader:
    """Experts as wide as a dense FFN, or by a key with the default `ffn`; `shared` is the default of another key."""

    def read(config: Config, made: Fields) -> Fields:
        width = config.size("moe_intermediate_size", ffn) if ffn else made["intermediate_size"]
        common = config.count("n_shared_experts", shared) if shared else 0
        return {"experts": Experts(config.size(keys, number), config.size(top_k_keys, top_k), width, common * width)}

    return read


def _qwen_dense_layers(config: Config, made: Fields) -> Fields:
    """Experts in every `decoder_sparse_step`-th layer; all other layers, and those listed, are dense."""
    layers = range(made["num_layers"])
    step, dense = config.size("decoder_sparse_step", 1), config.get("mlp_only_layers", [])
    if not isinstance(dense, list) or not all(type(layer) is int and layer in layers for layer in dense):
        raise config.error("mlp_only_layers", f"is not a list of layers; layers are 0 to {len(layers) - 1}")
    return {"dense_layers": tuple(layer for layer in layers if layer in dense or (layer + 1) % step)}


def _dense_first(default: int) -> Reader:
    """DeepSeek-V2 and V3: the first layers are dense."""
    return lambda config, made: {
        "dense_layers": tuple(range(min(config.count("first_k_dense_replace", default), made["num_layers"])))
    }


def _latent(config: Config, made: Fields) -> Fields:
    """DeepSeek-V2 and V3: all heads share one latent; the keys below give the sizes."""
    config.require("num_key_value_heads", made["num_heads"])
    # The first two follow from the keys below; multi-token prediction is not part of a decode step.
    config.read |= {"head_dim", "qk_head_dim", "num_nextn_predict_layers", "num_mtp_layers"}
    return {
        "latent": Latent(
            kv_rank=config.size("kv_lora_rank", 512),
            q_rank=config.optional_size("q_lora_rank", 1536),
            nope_head_dim=config.size("qk_nope_head_dim", 128),
            rope_head_dim=config.size("qk_rope_head_dim", 64),
            v_head_dim=config.size("v_head_dim", 128),
        )
    }


N_LAYER, N_HEAD = "n_layer num_hidden_layers", "n_head num_attention_heads"
ONE_WINDOW = (_one_window(None),)
GEMMA = (("use_bidirectional_attention", False),)
DEEPSEEK = (("moe_layer_freq", 1),)
ROUTED = "n_routed_experts num_local_experts num_experts"

FORMATS = {
    "gpt2": Format(50257, 1024, None, tied=True, gated=False, grouped=False, fused_qkv=True, ffn_key="n_inner",
                   hidden_key="n_embd hidden_size", layers_key=N_LAYER, heads_key=N_HEAD,
                   positions_key="n_positions max_position_embeddings"),
    "opt": Format(50272, 2048, 3072, tied=True, gated=False, grouped=False, ffn_key="ffn_dim",
                  embedding_key="word_embed_proj_dim"),
    "llama": Format(32000, 2048, 11008),
    "mistral": Format(32000, 131072, 14336, kv_heads=8, more=(_one_window(4096),)),
    "mixtral": Format(32000, 131072, 14336, kv_heads=8, more=(
        *ONE_WINDOW, _experts("num_local_experts num_experts", 8, 2))),
    "qwen2": Format(151936, 32768, 22016, kv_heads=32, more=(_qwen_windows,)),
    "qwen3": Format(151936, 32768, 22016, kv_heads=32, head_dim=128, more=(_qwen_windows,)),
    "qwen3_moe": Format(151936, 32768, 6144, kv_heads=4, more=(
        _qwen_moe_windows, _qwen_dense_layers, _experts("num_experts num_local_experts", 128, 8, ffn=768))),
    "gemma2": Format(256000, 8192, 9216, kv_heads=4, head_dim=256, tied=True, only=GEMMA, more=(
        _alternating(4096, 2, again="sliding_window_size"),)),
    "gemma3_text": Format(262208, 131072, 9216, kv_heads=4, head_dim=256, tied=True, only=GEMMA, more=(
        _alternating(4096, 6, "sliding_window_pattern", again="sliding_window_size"),)),
    # Phi-4-mini has the two keys, as 1, and transformers ignores them.
    "phi3": Format(32064, 4096, 8192, fused_qkv=True, fused_gate_up=True, more=ONE_WINDOW,
                   only=(("full_attn_mod", 1), ("interpolate_factor", 1))),
    "phi": Format(51200, 2048, 8192, gated=False),
    "falcon": Format(65024, 2048, None, tied=True, gated=False, grouped=False, fused_qkv=True,
                     hidden_key="hidden_size n_embed", ffn_key="ffn_hidden_size", more=(_falcon_heads,)),
    "olmo2": Format(50304, 2048, 11008),
    "gpt_neox": Format(50432, 2048, 24576, gated=False, grouped=False, fused_qkv=True),
    # ALiBi has no limit of positions; `seq_length` is what the model was trained on.
    "bloom": Format(250880, 2048, None, tied=True, gated=False, grouped=False, fused_qkv=True, ffn_key="",
                    hidden_key="hidden_size n_embed", layers_key=N_LAYER, heads_key=N_HEAD, positions_key="seq_length"),
    "starcoder2": Format(49152, 4096, 12288, kv_heads=2, tied=True, gated=False, more=ONE_WINDOW,
                         only=(("mlp_type", "default"),)),
    "granite": Format(32000, 2048, 11008),
    "gpt_oss": Format(201088, 131072, 2880, kv_heads=8, head_dim=64, fused_gate_up=True, more=(
        _alternating(128, 2),
        _experts("num_local_experts num_experts", 128, 4, "num_experts_per_tok experts_per_token"))),
    "deepseek_v2": Format(102400, 2048, 11008, grouped=False, only=DEEPSEEK, more=(
        _latent, _dense_first(0), _experts(ROUTED, 64, None, ffn=1407, shared=2))),
    "deepseek_v3": Format(129280, 4096, 18432, grouped=False, only=DEEPSEEK, more=(
        _latent, _dense_first(3), _experts(ROUTED, 256, 8, ffn=2048, shared=1))),
    "bitnet": Format(128256, 2048, 6912, kv_heads=5),
}  # fmt: skip
"""Every supported `model_type`."""
