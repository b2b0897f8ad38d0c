"""A Hugging Face `config.json` -> Decoder, for the formats of `data/models/formats.csv`; any other is rejected."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from numbers import Number
from pathlib import Path
from typing import Any

from llmamdahl.errors import InputError, positive_int, shown, whole_number
from llmamdahl.models.decoder import Decoder, Experts, Latent
from llmamdahl.tables import DATA, Columns, read_rows

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

    Absent keys have the defaults of the format, as in transformers 5.23.0 (`formats`); the hidden size and the numbers
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
    found.form = _format(found)
    try:
        made = _core(found)
        for read in found.form.readers:
            made |= read(found, made)
    except InputError as error:  # Experts and Latent do not know the name of their model
        raise error if str(error).startswith(f"{found.name}: ") else InputError(f"{found.name}: {error}") from None
    found.reject_unread()
    return Decoder(found.name, **made)


@dataclass(frozen=True, slots=True)
class Format:
    """A row of `data/models/formats.csv`: what one `model_type` fixes, and what its keys mean.

    Attributes
    ----------
    fields
        What every model of the format has, as arguments of `Decoder`.
    readers
        What reads the keys that not every format has.
    defaults
        Key -> what it means if it is absent; None where that follows from other sizes (4 d, h, d/h). A format without
        a key lacks it here.
    spellings
        Key -> its names in this format, if it is not just itself. No name at all: the default always holds.
    only
        Key -> the one value that is supported, which is also the default.
    """

    fields: Fields = field(default_factory=dict)
    readers: tuple[Reader, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    spellings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    only: Mapping[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class Config:
    """The keys of one `config.json`, which of them have been read, its format, and the name of the file and the model.

    A `default` that is given to a method holds where the format has none.
    """

    name: str
    values: Mapping[str, object]
    read: set[str] = field(default_factory=set)
    form: Format = field(default_factory=Format)

    def has(self, key: str) -> bool:
        """Whether the format has this key."""
        return key in self.form.defaults

    def value(self, key: str, default: object = None) -> object:
        """The value of a key by any of its spellings, which must agree; None only if one is null or nothing holds."""
        names = self.form.spellings.get(key, (key,))
        self.read.update(names)
        given = [name for name in names if self.values.get(name) is not None]
        for name in given[1:]:
            if self.values[name] != self.values[given[0]]:
                raise self.error(name, f"but {given[0]} is {shown(self.values[given[0]])}; they are one setting")
        if not given and any(name in self.values for name in names):
            return None
        return self.values[given[0]] if given else self.form.defaults.get(key, default)

    def get(self, key: str, default: object = None) -> object:
        """As `value`, but null counts as absent."""
        value = self.value(key, default)
        return default if value is None else value

    def error(self, key: str, problem: str) -> InputError:
        return InputError(f"{self.name}: {key}: {shown(self.values.get(key))} {problem}")

    def _field(self, key: str) -> str:
        return f"{self.name}: {next(iter(self.form.spellings.get(key, ())), key)}"

    def size(self, key: str) -> int:
        """A whole number >= 1, never null; without a default the key must be there."""
        value = self.value(key)
        if value is None:
            raise InputError(f"{self._field(key)}: is missing or null; a positive whole number is needed")
        return positive_int(self._field(key), value)

    def optional_size(self, key: str) -> int | None:
        """A whole number >= 1, or None where the key is null or, without a default, absent."""
        value = self.value(key)
        return None if value is None else positive_int(self._field(key), value)

    def count(self, key: str) -> int:
        """A whole number >= 0."""
        return whole_number(self._field(key), self.value(key))

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.value(key, default)
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
                f"supported; if its text_config has one of these model_types, give that: {', '.join(formats())}"
            )
    if not isinstance(kind, str) or kind not in formats():
        problem = "is missing" if kind is None else f"{shown(kind)} is not supported"
        raise InputError(f"{config.name}: model_type: {problem}; supported: {', '.join(formats())}")
    if config.get("is_encoder_decoder", False):
        raise config.error("is_encoder_decoder", "is not supported; only decoder-only models are")
    architectures = config.get("architectures", [])
    if not isinstance(architectures, list):
        raise config.error("architectures", "is not a list of class names")
    ends = ("ForCausalLM", "LMHeadModel", "Model")
    if architectures and not any(isinstance(name, str) and name.endswith(ends) for name in architectures):
        raise config.error("architectures", "has no LM head; a ForCausalLM is needed")
    return formats()[kind]


# The formats. Defaults are those of the configuration classes of transformers 5.23.0, in
# transformers/models/*/configuration_*.py; modeling_*.py of the same folder shows how each key is used.

Reader = Callable[[Config, Fields], Fields]
"""Reads more keys of a config, given the fields read so far, and returns the fields that follow."""


def _core(config: Config) -> Fields:
    """What every format has, by the spelling and the defaults of this one."""
    form, d, layers = config.form, config.size("hidden_size"), config.size("num_hidden_layers")
    if layers > MAX_LAYERS:
        key = form.spellings.get("num_hidden_layers", ("num_hidden_layers",))[0]
        raise InputError(f"{config.name}: {key}: {layers} is more than any model has; at most {MAX_LAYERS}")
    heads = config.size("num_attention_heads")
    for key, value in form.only.items():
        config.require(key, value)
    ffn = "intermediate_size"
    made = form.fields | {
        "hidden_size": d,
        "num_layers": layers,
        "num_heads": heads,
        "intermediate_size": config.optional_size(ffn) or 4 * d if form.defaults[ffn] is None else config.size(ffn),
        "vocab_size": config.size("vocab_size"),
        "max_position": config.size("max_position_embeddings"),
        "embedding_size": d,
        "tied_embeddings": config.flag("tie_word_embeddings"),
    }
    if config.has("head_dim"):
        made["head_width"] = config.optional_size("head_dim") or form.defaults["head_dim"]
    if config.has("num_key_value_heads"):
        made["kv_heads"] = config.optional_size("num_key_value_heads")  # null is h in every format
    return made


def _embedding(config: Config, made: Fields) -> Fields:
    """OPT: the token embedding may be narrower than the decoder."""
    return {"embedding_size": config.optional_size("word_embed_proj_dim") or made["hidden_size"]}


def _falcon_heads(config: Config, made: Fields) -> Fields:
    """`num_kv_heads` counts only in the new architecture (40B, 180B); the old one has one K and V head, or all."""
    given, multi_query = config.optional_size("num_kv_heads"), config.flag("multi_query", True)
    if config.flag("new_decoder_architecture"):
        return {"kv_heads": given}
    if multi_query:
        return {"kv_heads": 1}
    config.require("num_kv_heads", made["num_heads"])
    return {}


def _window(config: Config, made: Fields) -> Fields:
    """One window for all layers, or none."""
    return {"windows": (config.optional_size("sliding_window"),) * made["num_layers"]}


def _alternating(config: Config, made: Fields) -> Fields:
    """Every `sliding_window_pattern`-th layer sees all tokens and the others a window."""
    window, every = config.optional_size("sliding_window"), config.size("sliding_window_pattern")
    config.require("sliding_window_size", window)  # configs of Gemma 2 say it twice
    return _by_layer_type(config, window, [bool((layer + 1) % every) for layer in range(made["num_layers"])])


def _qwen_windows(config: Config, made: Fields) -> Fields:
    """Qwen2 and Qwen3: a window only where `use_sliding_window` asks for it, from layer `max_window_layers` on."""
    window = config.optional_size("sliding_window")
    window = window if config.flag("use_sliding_window") else None
    first = config.count("max_window_layers")
    return _by_layer_type(config, window, [window is not None and i >= first for i in range(made["num_layers"])])


def _qwen_moe_windows(config: Config, made: Fields) -> Fields:
    """Qwen3-MoE has the same keys, but `use_sliding_window` asks for a window in all layers."""
    windows = _window(config, made)
    if config.flag("use_sliding_window"):
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


def _experts(config: Config, made: Fields) -> Fields:
    """Experts as wide as a dense FFN, or by a key of their own."""
    number, top_k = config.size("num_experts"), config.size("num_experts_per_tok")
    width = config.size("moe_intermediate_size") if config.has("moe_intermediate_size") else made["intermediate_size"]
    shared = config.count("n_shared_experts") if config.has("n_shared_experts") else 0
    return {"experts": Experts(number, top_k, width, shared * width)}


def _sparse_step(config: Config, made: Fields) -> Fields:
    """Experts in every `decoder_sparse_step`-th layer; all other layers, and those listed, are dense."""
    layers = range(made["num_layers"])
    step, dense = config.size("decoder_sparse_step"), config.get("mlp_only_layers", [])
    if not isinstance(dense, list) or not all(type(layer) is int and layer in layers for layer in dense):
        raise config.error("mlp_only_layers", f"is not a list of layers; layers are 0 to {len(layers) - 1}")
    return {"dense_layers": tuple(layer for layer in layers if layer in dense or (layer + 1) % step)}


def _dense_first(config: Config, made: Fields) -> Fields:
    """The first `first_k_dense_replace` layers are dense."""
    return {"dense_layers": tuple(range(min(config.count("first_k_dense_replace"), made["num_layers"])))}


def _latent(config: Config, made: Fields) -> Fields:
    """DeepSeek-V2 and V3: all heads share one latent; the keys below give the sizes."""
    config.require("num_key_value_heads", made["num_heads"])
    # The first two follow from the keys below; multi-token prediction is not part of a decode step.
    config.read |= {"head_dim", "qk_head_dim", "num_nextn_predict_layers", "num_mtp_layers"}
    return {
        "latent": Latent(
            kv_rank=config.size("kv_lora_rank"),
            q_rank=config.optional_size("q_lora_rank"),
            nope_head_dim=config.size("qk_nope_head_dim"),
            rope_head_dim=config.size("qk_rope_head_dim"),
            v_head_dim=config.size("v_head_dim"),
        )
    }


READERS: dict[str, Reader] = {
    "embedding": _embedding,
    "falcon_heads": _falcon_heads,
    "window": _window,
    "alternating": _alternating,
    "qwen_windows": _qwen_windows,
    "qwen_moe_windows": _qwen_moe_windows,
    "sparse_step": _sparse_step,
    "dense_first": _dense_first,
    "experts": _experts,
    "latent": _latent,
}
"""What the column `structure` of `data/models/formats.csv` names, apart from fields of `Decoder` that are true."""


@cache
def formats() -> dict[str, Format]:
    """Every supported `model_type`, by `data/models/formats.csv`.

    >>> formats()["mistral"].defaults["sliding_window"], formats()["gpt2"].spellings["hidden_size"]
    (4096, ('n_embd', 'hidden_size'))
    """
    keys = (
        "vocab_size max_position_embeddings intermediate_size num_key_value_heads head_dim tie_word_embeddings".split()
    )
    columns: Columns = {
        **dict.fromkeys(("model_type", "source"), str),
        **dict.fromkeys(keys, _default),
        **dict.fromkeys(("other_defaults", "only"), _settings),
        "structure": str.split,
        "spellings": lambda cell: {key: tuple(filter(None, str(names).split("|"))) for key, names in _pairs(cell)},
    }
    found = {}
    for row in read_rows(DATA / "models" / "formats.csv", columns, key=["model_type"]):
        words = row["structure"]
        found[row["model_type"]] = Format(
            fields={"gated_ffn": False} | {word: True for word in words if word not in READERS},
            readers=tuple(READERS[word] for word in words if word in READERS),
            defaults={key: row[key] for key in keys if row[key] != ""} | row["other_defaults"],
            spellings=row["spellings"],
            only=row["only"],
        )
    return found


def _default(cell: str) -> object:
    """A cell of a default: empty for no such key, None for one that follows from h or d, or JSON."""
    return None if cell in ("h", "d/h", "4d") else json.loads(cell) if cell else ""


def _pairs(cell: str) -> list[tuple[str, str]]:
    return [(key, value) for key, _, value in (word.partition("=") for word in cell.split())]


def _settings(cell: str) -> dict[str, object]:
    """`key=value` with a space between two; a value is JSON."""
    return {key: json.loads(value) for key, value in _pairs(cell)}
