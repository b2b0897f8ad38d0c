"""A Hugging Face `config.json` -> Decoder, for the formats of `data/models/formats.csv`; any other is rejected."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from numbers import Number
from pathlib import Path
from typing import Any

from llmamdahl.errors import MAX_SHOWN, InputError, positive_int, shown, whole_number
from llmamdahl.models.decoder import Decoder, Experts, Latent
from llmamdahl.models.huggingface import mixers
from llmamdahl.tables import DATA, Columns, boolean, read_rows

JSON = (Number, str, list, tuple, Mapping, type(None))
"""Types of the values of a config: those of `json`, and the numbers of NumPy."""

REQUIRED = ("hidden_size", "num_hidden_layers", "num_attention_heads")
"""Keys without a default, except in a `text_config`: transformers leaves out of it what equals its defaults."""

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
    not change shapes, and multi-token prediction is not part of a decode step: both are ignored.

    Of Gemma 3, Mistral 3, Qwen3-VL and Llama 4, which nest a decoder of text as `text_config`, only that decoder is
    counted: no vision tower, no projector. An image is so many tokens of context more.

    Parameters
    ----------
    config
        Path of a `config.json` or of a folder that holds one, or its content as a dict. The model is named after the
        folder (`config.json`; in huggingface_hub's cache the repository), the file (any other name), or `_name_or_path`
        or else `model_type` (a dict).

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
    if found.form.text_types:
        found = _text_part(found)
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
        Key -> the one value that is supported, alone or in a list of them, which is also the default.
    ignored
        Keys that code of the format ignores, although they look as if they mattered.
    text_types
        The `model_type`s that its `text_config` can have, the default first; empty if the config is not nested.
    """

    fields: Fields = field(default_factory=dict)
    readers: tuple[Reader, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    spellings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    only: Mapping[str, object] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    text_types: tuple[str, ...] = ()


@dataclass(slots=True)
class Config:
    """The keys of one `config.json`, which of them have been read, its format, and the name of the file and the model.

    A `default` that is given to a method holds where the format has none.
    """

    name: str
    values: Mapping[str, object]
    read: set[str] = field(default_factory=set)
    form: Format = field(default_factory=Format)
    nested: bool = False

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
        if given or (key in REQUIRED and not self.nested):
            return self.values[given[0]] if given else None
        return self.form.defaults.get(key, default)

    def get(self, key: str, default: object = None) -> object:
        """As `value`, but null counts as absent."""
        given = self.value(key)
        return next((value for value in (given, self.form.defaults.get(key)) if value is not None), default)

    def error(self, key: str, problem: str) -> InputError:
        named = key if len(key) <= MAX_SHOWN and key.isprintable() else shown(key)
        return InputError(f"{self.name}: {named}: {shown(self.values.get(key))} {problem}")

    def _field(self, key: str) -> str:
        return f"{self.name}: {next(iter(self.form.spellings.get(key, ())), key)}"

    def size(self, key: str, follows: int | None = None) -> int:
        """A whole number >= 1, never null; without a default the key must be there.

        Where the format's default is None, null and an absent key mean what `follows` from other sizes.
        """
        value = self.value(key)
        if value is None and self.has(key) and self.form.defaults[key] is None:
            value = follows
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

    def ignore(self, *keys: str) -> None:
        """Count keys that the format has as understood, though their values do not matter here."""
        for key in keys:
            if self.has(key):
                self.value(key)

    def require(self, key: str, value: object) -> None:
        """Reject any value of a key but this one, which is also its default, or a list of it."""
        self.read.add(key)
        given = value if self.values.get(key) is None else self.values[key]
        if not (given and all(each == value for each in given) if isinstance(given, list) else given == value):
            raise self.error(key, f"is not supported; only {value!r} is")

    def reject_unread(self) -> None:
        """Reject a key that nothing has read and that may change what is computed."""
        for key, value in self.values.items():
            if not _is_harmless(key) and key not in self.read and key not in self.form.ignored and value:
                kind = self.values["model_type"]
                raise self.error(
                    key,
                    f"is not understood for model_type {kind!r} and may change what is computed; remove the key if "
                    "you know that it does not",
                )

    def layer_list(self, key: str, choices: tuple[object, ...], default: list[Any]) -> list[Any]:
        """A list with one of the `choices` for each layer."""
        values = self.get(key, default)
        known = isinstance(values, list) and all(type(each) is type(choices[0]) and each in choices for each in values)
        if not isinstance(values, list) or not known or len(values) != len(default):
            listed = " or ".join(map(str, choices))
            raise self.error(key, f"is not a list of {len(default)} layers, each {listed}")
        return values


def _is_harmless(key: str) -> bool:
    return key in _harmless_keys() or key.startswith("_") or key.endswith(("_token_id", "_token_ids", "_token_index"))


@cache
def _harmless_keys() -> frozenset[str]:
    """Keys that do not change any MatMul (`data/models/harmless_keys.csv`).

    Nor do keys that begin with `_` or name a token, or have a null, false, 0 or empty value.
    """
    rows = read_rows(DATA / "models" / "harmless_keys.csv", {"key": str, "why": str}, key=["key"])
    return frozenset(row["key"] for row in rows)


def _loaded(config: str | os.PathLike[str] | Mapping[str, object]) -> Config:
    if isinstance(config, Mapping):
        for key, value in config.items():
            if not isinstance(key, str):
                raise InputError(f"config: {shown(key)} is not a key of a config.json; keys are strings")
            if not _is_harmless(key) and not isinstance(value, JSON):
                raise InputError(f"config: {key}: {shown(value)} is not a value that a config.json can hold")
        names = [config.get(key) for key in ("_name_or_path", "model_type")]
        short = [name for name in names if isinstance(name, str) and len(name) <= MAX_SHOWN and name.isprintable()]
        return Config(next((name.rstrip("/").split("/")[-1] for name in short), "") or "config", config)
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
        values = json.loads(text, object_pairs_hook=_no_key_twice)
    except (ValueError, RecursionError) as error:
        reason = "is empty" if not text.strip() else f"is not JSON ({error})"
        reason = str(error) if isinstance(error, InputError) else reason
        raise InputError(f"config: {str(path)!r}: {reason}; a config.json is one JSON object") from None
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise InputError(f"config: {str(path)!r}: holds a {kind}; a config.json is one JSON object, {{...}}")
    return Config(_folder(path) if path.name == "config.json" else path.stem, values)


def _folder(path: Path) -> str:
    """The name of the folder of a file; in the cache of huggingface_hub, where it is a hash, that of the repository."""
    folder = Path(os.path.abspath(path)).parent  # not resolved: the cache links to a folder `blobs`
    cached = re.fullmatch(r"models--(?:.*--)?(.+)", folder.parents[1].name) if len(folder.parents) > 1 else None
    return cached[1] if cached and folder.parent.name == "snapshots" else folder.name


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a JSON file; Python would keep the last of two equal keys, others the first."""
    if len(values := dict(pairs)) < len(pairs):
        twice = next(key for place, (key, _) in enumerate(pairs) if key in dict(pairs[:place]))
        raise InputError(f"has the key {shown(twice)} twice")
    return values


def _format(config: Config) -> Format:
    """The format of a config; one that is not a decoder of text with an LM head is rejected."""
    kind = config.get("model_type")
    near = get_close_matches(kind[:MAX_SHOWN], formats()) if isinstance(kind, str) and kind not in _rejected() else []
    listed = f"{', '.join([*formats()][:12])} and {len(formats()) - 12} more of {DATA / 'models' / 'formats.csv'}"
    supported = f"did you mean {', '.join(near)}?" if near else f"supported: {listed}"
    if not isinstance(kind, str) or kind not in formats():
        for key in ("vision_config", "text_config", "audio_config"):
            if config.values.get(key):
                raise InputError(
                    f"{config.name}: {key}: model_type {shown(kind)} is a multimodal model that is not supported; if "
                    f"its text_config has a supported model_type, give that; {supported}"
                )
        why = f" ({_rejected()[kind]})" if isinstance(kind, str) and kind in _rejected() else ""
        problem = "is missing" if kind is None else f"{shown(kind)} is not supported{why}"
        raise InputError(f"{config.name}: model_type: {problem}; {supported}")
    if config.get("is_encoder_decoder", False):
        raise config.error("is_encoder_decoder", "is not supported; only decoder-only models are")
    architectures = config.get("architectures", [])
    if not isinstance(architectures, list):
        raise config.error("architectures", "is not a list of class names")
    ends: tuple[str, ...] = ("ForCausalLM", "Model")
    if formats()[kind].text_types:
        ends = (*ends, "ForConditionalGeneration")
    if architectures and not any(isinstance(name, str) and name.endswith(ends) for name in architectures):
        raise config.error("architectures", f"has no LM head; a {ends[-1] if len(ends) > 2 else ends[0]} is needed")
    return formats()[kind]


def _text_part(outer: Config) -> Config:
    """The `text_config` of a multimodal model, whose other keys describe what is not counted.

    The LM head is tied as the outer config says. Where it does not, the inner one decides, and then the default of
    formats.csv. transformers 5.23.0 goes by the outer key alone, but does not tie what differs in the checkpoint.
    """
    values, kinds = outer.get("text_config"), outer.form.text_types
    if not isinstance(values, Mapping):
        raise outer.error("text_config", "is not an object; it describes the decoder")
    kind = values.get("model_type") or kinds[0]
    if kind not in kinds:
        raise InputError(f"{outer.name}: text_config: model_type: {shown(kind)} is not one of {', '.join(kinds)}")
    tied = outer.flag("tie_word_embeddings")
    if "tie_word_embeddings" in outer.values or values.get("tie_word_embeddings") is None:
        values = {**values, "tie_word_embeddings": tied}
    outer.read.add("vision_config")
    outer.reject_unread()
    inner = _loaded({**values, "model_type": kind})
    return replace(inner, name=outer.name, form=formats()[kind], nested=True, read={"model_type"})


# The formats. Defaults are those of the configuration classes of transformers 5.23.0, in
# transformers/models/*/configuration_*.py; modeling_*.py of the same folder shows how each key is used.

Reader = Callable[[Config, Fields], Fields]
"""Reads more keys of a config, given the fields read so far, and returns the fields that follow."""


def _num_layers(config: Config) -> int:
    """The number of layers; Nemotron-H may leave it to its list of layers, as transformers 5.23.0 saves it."""
    listed = config.values.get("layers_block_type") or config.values.get("hybrid_override_pattern")
    absent = config.values.get("num_hidden_layers") is None and isinstance(listed, list | str)
    if absent and mixers.READERS["nemotron_layers"] in config.form.readers:
        return len(listed)  # type: ignore[arg-type]  # a list or a string, by the line above
    return config.size("num_hidden_layers")


def _core(config: Config) -> Fields:
    """What every format has, by the spelling and the defaults of this one."""
    form, d, layers = config.form, config.size("hidden_size"), _num_layers(config)
    if layers > MAX_LAYERS:
        key = form.spellings.get("num_hidden_layers", ("num_hidden_layers",))[0]
        raise InputError(f"{config.name}: {key}: {layers} is more than any model has; at most {MAX_LAYERS}")
    key = "num_attention_heads"
    heads = config.size(key) if form.spellings.get(key) != () else 0  # () in models without attention
    for key, value in form.only.items():
        config.require(key, value)
    made = form.fields | {
        "hidden_size": d,
        "num_layers": layers,
        "num_heads": heads,
        "intermediate_size": config.size("intermediate_size", 4 * d),
        "vocab_size": config.size("vocab_size"),
        "max_position": config.size("max_position_embeddings"),
        "embedding_size": d,
        "tied_embeddings": config.flag("tie_word_embeddings"),
    }
    if config.has("head_dim"):
        follows = form.defaults["head_dim"] is None
        made["head_width"] = config.optional_size("head_dim") if follows else config.size("head_dim")
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


def _given(key: str, name: str) -> Reader:
    """A size that transformers does not compute from others where it is absent."""
    return lambda config, made: {name: config.size(key)}


def _square_heads(config: Config, made: Fields) -> Fields:
    """Helium: W_X is d x d, so the heads must be d wide together."""
    if made["head_width"] * made["num_heads"] != made["hidden_size"]:
        raise config.error(
            "head_dim", f"is not hidden_size / num_attention_heads ({made['head_width']} is the default)"
        )
    return {}


def _expansion(config: Config, made: Fields) -> Fields:
    """The FFN is so many times as wide as d."""
    return {"intermediate_size": config.size("expansion_ratio") * made["hidden_size"]}


def _multi_query(config: Config, made: Fields) -> Fields:
    """GPT-BigCode: one K and V head, or all."""
    heads = 1 if config.flag("multi_query", True) else made["num_heads"]
    config.require("num_key_value_heads", heads)
    return {"kv_heads": heads}


def _window(config: Config, made: Fields) -> Fields:
    """One window for all layers, or none."""
    return {"windows": (config.optional_size("sliding_window"),) * made["num_layers"]}


PATTERNS = (
    "sliding_window_pattern",
    "prefix_dense_sliding_window_pattern",
    "max_window_layers",
    "no_rope_layers",
    "no_rope_layer_interval",
)
"""Keys that say which layers have a window, unless `layer_types` does."""


def _by_layer_type(slides: Callable[[Config, range], list[bool]]) -> Reader:
    """Windows where `layer_types` has `sliding_attention`; without that list, in the layers that `slides` says."""

    def read(config: Config, made: Fields) -> Fields:
        window, layers = config.optional_size("sliding_window"), range(made["num_layers"])
        config.require("sliding_window_size", window)  # configs of Gemma 2 say it twice
        names = ("full_attention", "sliding_attention")
        listed = config.get("layer_types") is not None
        sliding = [False] * len(layers) if listed else slides(config, layers)
        types = config.layer_list("layer_types", names, [names[each] for each in sliding])
        if names[True] in types and window is None:
            raise config.error("sliding_window", "is null or not in use, but some layers are sliding_attention")
        config.ignore(*PATTERNS)
        return {"windows": tuple(window if kind == names[True] else None for kind in types)}

    return read


def _no_layer(config: Config, layers: range) -> list[bool]:
    return [False for _ in layers]


def _every_layer(config: Config, layers: range) -> list[bool]:
    """All, if there is a window."""
    return [config.value("sliding_window") is not None for _ in layers]


def _all_but_last(config: Config, layers: range) -> list[bool]:
    """The last of each `sliding_window_pattern` layers sees all tokens."""
    every = config.size("sliding_window_pattern")
    return [(layer + 1) % every != 0 for layer in layers]


def _all_but_first(config: Config, layers: range) -> list[bool]:
    """The first of each `sliding_window_pattern` layers sees all tokens."""
    every = config.size("sliding_window_pattern")
    return [layer % every != 0 for layer in layers]


def _flint(config: Config, layers: range) -> list[bool]:
    """Two layers see all tokens, then one in four, and the last."""
    return [layer >= 2 and layer % 4 != 1 and layer != layers[-1] for layer in layers]


def _cohere2_moe(config: Config, layers: range) -> list[bool]:
    """The dense layers at the beginning have a pattern of their own."""
    first = min(config.count("first_k_dense_replace"), len(layers))
    dense, sparse = config.size("prefix_dense_sliding_window_pattern"), config.size("sliding_window_pattern")
    return [(i + 1) % dense != 0 if i < first else (i - first + 1) % sparse != 0 for i in layers]


def _late(config: Config, layers: range) -> list[bool]:
    """The layers from `max_window_layers` on."""
    first, window = config.count("max_window_layers"), config.value("sliding_window")
    return [window is not None and layer >= first for layer in layers]


def _qwen2_moe(config: Config, layers: range) -> list[bool]:
    """Every second layer before `max_window_layers`."""
    last = config.count("max_window_layers")
    return [layer % 2 == 0 and layer < last for layer in layers]


def _smollm3(config: Config, layers: range) -> list[bool]:
    """The layers without a rotary position."""
    window = config.value("sliding_window")
    return [window is not None and not rotary for rotary in _rotary(config, layers)]


def _rotary(config: Config, layers: range) -> list[int]:
    """For each layer whether it has a rotary position; the last of each `no_rope_layer_interval` layers has none."""
    every = config.size("no_rope_layer_interval")
    default = [int((layer + 1) % every != 0) for layer in layers]
    return config.layer_list("no_rope_layers", (0, 1), default) if config.value("no_rope_layers") else default


def _if_used(read: Reader) -> Reader:
    """Windows only where `use_sliding_window` asks for them; if not, some keys are checked but have no effect."""

    def checked(config: Config, made: Fields) -> Fields:
        if config.flag("use_sliding_window"):
            return read(config, made)
        if config.value("sliding_window") not in (None, 0):  # transformers saves 0
            config.optional_size("sliding_window")
        if config.has("max_window_layers"):
            config.count("max_window_layers")
        config.ignore(*PATTERNS)
        config.read.add("max_window_layers")
        if config.get("layer_types", full := ["full_attention"] * made["num_layers"]) != full:
            raise config.error("layer_types", f"is not a list of {len(full)} full_attention; set use_sliding_window")
        return {}

    return checked


def _chunks(config: Config, made: Fields) -> Fields:
    """Llama 4: chunks where there is a rotary position, or as `layer_types` lists."""
    names = ("full_attention", "chunked_attention")
    default = [names[rotary] for rotary in _rotary(config, range(made["num_layers"]))]
    types = config.layer_list("layer_types", names, default)
    chunk = config.optional_size("attention_chunk_size")
    if names[True] in types and chunk is None:
        raise config.error("attention_chunk_size", "is null, but some layers are chunked_attention")
    return {"chunks": tuple(chunk if kind == names[True] else None for kind in types)}


def _attention_types(config: Config, made: Fields) -> Fields:
    """GPT-Neo: pairs of kinds of layers, and how often they repeat."""
    layers: list[object] = []
    try:
        for kinds, times in config.get("attention_types"):  # type: ignore[attr-defined]
            layers += [*kinds] * min(times, MAX_LAYERS + 1)
    except (TypeError, ValueError):
        layers = []
    if len(layers) != made["num_layers"] or not all(kind in ("global", "local") for kind in layers):
        raise config.error("attention_types", f"does not list {made['num_layers']} layers, each global or local")
    if config.get("attention_layers", layers) != layers:
        raise config.error("attention_layers", "is not what attention_types lists")
    window = config.size("window_size")
    return {"windows": tuple(window if kind == "local" else None for kind in layers)}


def _nested(*keys: str) -> Reader:
    """MPT and DBRX: objects with more keys, all of which must be understood too."""

    def read(config: Config, made: Fields) -> Fields:
        for key in keys:
            values = config.get(key, {})
            if not isinstance(values, Mapping):
                raise config.error(key, "is not an object")
            part = _loaded({**values, "model_type": config.values["model_type"]})
            part = replace(part, name=f"{config.name}: {key}", form=config.form, read={"model_type", "hidden_size"})
            for name, value in config.form.only.items():
                part.require(name, value)
            if key == "attn_config" and config.has("kv_n_heads"):
                made["kv_heads"] = part.size("kv_n_heads")
                config.require("num_key_value_heads", made["kv_heads"])
            if key == "ffn_config":
                number, top_k, width = (part.size(name) for name in ("moe_num_experts", "moe_top_k", "ffn_hidden_size"))
                made |= {"experts": Experts(number, top_k, width), "intermediate_size": width}
            part.reject_unread()
        return made

    return read


def _experts(config: Config, made: Fields) -> Fields:
    """Experts as wide as a dense FFN, or by a key of their own; shared ones by their number or by their width."""
    number, top_k = config.size("num_experts"), _each_layer(config, "num_experts_per_tok", made["num_layers"])
    config.require("experts_per_token", top_k)  # configs of gpt-oss say it twice
    width = config.size("moe_intermediate_size") if config.has("moe_intermediate_size") else made["intermediate_size"]
    shared = width * config.count("n_shared_experts") if config.has("n_shared_experts") else 0
    if config.has("shared_expert_intermediate_size"):
        shared = config.count("shared_expert_intermediate_size")
    gate, fused = made.pop("shared_gate", False), made.pop("fused_experts", False)
    return {"experts": Experts(number, top_k, width, shared, gate, fused)}


def _each_layer(config: Config, key: str, layers: int) -> int:
    """A size that HunYuan lists for each layer; they must be equal."""
    value = config.value(key)
    if isinstance(value, list) and len(value) == layers and value.count(value[0]) == layers:
        return positive_int(f"{config.name}: {key}", value[0])
    return config.size(key)


def _equal_experts(config: Config, made: Fields) -> Fields:
    """HunYuan: experts as wide as a dense FFN, which another key repeats."""
    config.require("moe_intermediate_size", made["intermediate_size"])
    return {}


def _sparse_step(config: Config, made: Fields) -> Fields:
    """Experts in every `decoder_sparse_step`-th layer; all other layers, and those listed, are dense."""
    layers = range(made["num_layers"])
    step, dense = config.size("decoder_sparse_step"), _layers(config, "mlp_only_layers", layers, [])
    return {"dense_layers": tuple(layer for layer in layers if layer in dense or (layer + 1) % step)}


def _layers(config: Config, key: str, layers: range, default: list[int]) -> list[int]:
    """A list of layers."""
    found = config.get(key, default)
    if not isinstance(found, list) or not all(type(layer) is int and layer in layers for layer in found):
        raise config.error(key, f"is not a list of layers; layers are 0 to {len(layers) - 1}")
    return found


def _dense_first(config: Config, made: Fields) -> Fields:
    """The first `first_k_dense_replace` layers are dense."""
    return {"dense_layers": tuple(range(min(config.count("first_k_dense_replace"), made["num_layers"])))}


def _mlp_layer_types(config: Config, made: Fields) -> Fields:
    """Layers are dense or sparse as listed; the first ones are dense if no list is given."""
    first = _dense_first(config, made)["dense_layers"]
    default = ["dense" if layer in first else "sparse" for layer in range(made["num_layers"])]
    types = config.layer_list("mlp_layer_types", ("dense", "sparse"), default)
    return {"dense_layers": tuple(layer for layer, kind in enumerate(types) if kind == "dense")}


def _prefix_width(config: Config, made: Fields) -> Fields:
    """Cohere's mixture of experts: the dense layers can have a width of their own."""
    return {"intermediate_size": config.size("prefix_dense_intermediate_size", made["intermediate_size"])}


def _ernie_dense(config: Config, made: Fields) -> Fields:
    """ERNIE 4.5: experts in every so-manieth layer from one to another; -1 is the last."""
    layers, first = range(made["num_layers"]), config.count("moe_layer_start_index")
    every, last = config.size("moe_layer_interval"), config.value("moe_layer_end_index")
    last = layers[-1] if last == -1 else config.count("moe_layer_end_index")
    return {"dense_layers": tuple(i for i in layers if (i + 1) % every or not first <= i <= last)}


def _llama4_experts(config: Config, made: Fields) -> Fields:
    """Llama 4: one shared expert beside the routed ones, all equally wide; layers without experts are wider."""
    width, layers = made["intermediate_size"], range(made["num_layers"])
    every = config.size("interleave_moe_layer_step")
    sparse = _layers(config, "moe_layers", layers, list(layers[every - 1 :: every]))
    number, top_k = config.size("num_experts"), config.size("num_experts_per_tok")
    return {
        "experts": Experts(number, top_k, width, width, fused_gate_up=True),
        "dense_layers": tuple(layer for layer in layers if layer not in sparse),
        "intermediate_size": config.size("intermediate_size_mlp"),
    }


def _latent(config: Config, made: Fields) -> Fields:
    """DeepSeek-V2 and V3: all heads share one latent, if a layer has attention; the keys below give the sizes."""
    heads = config.size("num_attention_heads")
    config.require("num_key_value_heads", heads)
    # These follow from the keys below.
    config.read |= {"head_dim", "qk_head_dim"}
    latent = Latent(
        kv_rank=config.size("kv_lora_rank"),
        q_rank=config.optional_size("q_lora_rank"),
        nope_head_dim=config.size("qk_nope_head_dim"),
        rope_head_dim=config.size("qk_rope_head_dim"),
        v_head_dim=config.size("v_head_dim", made["hidden_size"] // heads),
    )
    return {"latent": latent} if made["num_heads"] else {}


READERS: dict[str, Reader] = {
    "embedding": _embedding,
    "falcon_heads": _falcon_heads,
    "multi_query": _multi_query,
    "head_dim": _given("head_dim", "head_width"),
    "kv_heads": _given("num_key_value_heads", "kv_heads"),
    "square_heads": _square_heads,
    "expansion": _expansion,
    "attn_config": _nested("attn_config"),
    "attn_and_ffn_config": _nested("attn_config", "ffn_config"),
    "window": _window,
    "windows": _by_layer_type(_every_layer),
    "windows_if_listed": _by_layer_type(_no_layer),
    "windows_but_last": _by_layer_type(_all_but_last),
    "windows_but_first": _by_layer_type(_all_but_first),
    "flint_windows": _by_layer_type(_flint),
    "cohere2_moe_windows": _by_layer_type(_cohere2_moe),
    "late_windows": _by_layer_type(_late),
    "qwen_windows": _if_used(_by_layer_type(_late)),
    "qwen2_moe_windows": _if_used(_by_layer_type(_qwen2_moe)),
    "smollm3_windows": _if_used(_by_layer_type(_smollm3)),
    "qwen3_moe_windows": _if_used(_window),
    "attention_types": _attention_types,
    "chunks": _chunks,
    "sparse_step": _sparse_step,
    "dense_first": _dense_first,
    "mlp_layer_types": _mlp_layer_types,
    "prefix_width": _prefix_width,
    "ernie_dense": _ernie_dense,
    "experts": _experts,
    "equal_experts": _equal_experts,
    "llama4_experts": _llama4_experts,
    "latent": _latent,
    **mixers.READERS,
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
        **dict.fromkeys(("structure", "ignored", "text_types"), str.split),
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
            ignored=tuple(row["ignored"]),
            text_types=tuple(row["text_types"]),
        )
    return found


@cache
def _rejected() -> dict[str, str]:
    """Why a `model_type` of transformers is not supported (`data/models/model_types.csv`)."""
    rows = read_rows(DATA / "models" / "model_types.csv", {"model_type": str, "read": boolean, "why": str})
    return {row["model_type"]: row["why"] for row in rows if not row["read"]}


def _default(cell: str) -> object:
    """A cell of a default: empty for no such key, None for one that follows from h or d, or JSON."""
    return None if cell in ("h", "d/h", "4d") else json.loads(cell) if cell else ""


def _pairs(cell: str) -> list[tuple[str, str]]:
    return [(key, value) for key, _, value in (word.partition("=") for word in cell.split())]


def _settings(cell: str) -> dict[str, object]:
    """`key=value` with a space between two; a value is JSON."""
    return {key: json.loads(value) for key, value in _pairs(cell)}
