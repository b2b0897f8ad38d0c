"""get_model against the CSV files; from_hf_config against what the keys of six real configs mean."""

import contextlib
import csv
import json
import os
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from tempfile import gettempdir

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from inputs import EDGES, NONSENSE, REJECTED, answer, as_size, fuzz, one_in

from llmamdahl.errors import InputError
from llmamdahl.models import Decoder, Experts, Latent, find_model, from_hf_config, get_model, model_names, zoo_names
from llmamdahl.models.huggingface import REQUIRED, formats
from llmamdahl.tables import DATA, ROOT
from llmamdahl.workload import decode_step, num_weights, prefill

TABLES = {
    name: {row["name"]: row for row in csv.DictReader((DATA / "models" / f"{name}.csv").open(encoding="utf-8"))}
    for name in ("true", "printed", "zoo")
}
NAMES = [*model_names(), *zoo_names()]


@fuzz
@given(
    one_in(
        8,
        st.builds(
            lambda name, end, kind: kind(name + end),
            st.sampled_from(NAMES),
            st.sampled_from(["", "", "", "-printed", "-printed-printed", " ", "x"]),
            st.sampled_from([str, str, str, str, np.str_, Path, np.array, str.upper, str.encode, lambda name: [name]]),
        ),
    )
)
def test_get_model(name):
    model = answer(lambda: get_model(name), "model num_heads")
    text = name.strip().lower() if isinstance(name, str) else ""
    base = text.removesuffix("-printed")
    printed = text != base and base in TABLES["true"]
    if (not printed and text not in {**TABLES["true"], **TABLES["zoo"]}) or text == "opt-66b-printed":
        assert model is REJECTED
        return
    row = TABLES["true" if base in TABLES["true"] else "zoo"][base]
    assert model.name == text
    sizes = {"hidden_size": "d", "num_heads": "h", "intermediate_size": "d_ff"}
    for column in ("num_layers", "vocab_size", "max_position", "embedding_size", *sizes):
        if printed and column in sizes:
            assert getattr(model, column) == int(TABLES["printed"][base][sizes[column]])
        else:
            assert getattr(model, column) == int(row[column])
    assert model.gated_ffn == (row["gated_ffn"] == "true" and not printed)


@fuzz
@given(one_in(4, st.sampled_from([*NAMES, *map(get_model, NAMES)])))
def test_find_model(model):
    """A name or a model is found; anything else raises an error that names the argument."""
    found = answer(lambda: find_model(model), "model:")
    if isinstance(model, Decoder):
        assert found is model
    elif isinstance(model, str) and model.strip().lower() in NAMES:
        assert found == get_model(model)
    else:
        assert found is REJECTED


CONFIGS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "tests" / "data" / "hf_configs").glob("*.json"))
}
HARMLESS = [
    "torch_dtype",
    "rope_theta",
    "rms_norm_eps",
    "hidden_act",
    "attention_bias",
    "transformers_version",
    "dtype",
]
LLAMA = {
    "hidden_size": "hidden_size", "num_hidden_layers": "num_layers", "num_attention_heads": "num_heads",
    "num_key_value_heads": "kv_heads", "intermediate_size": "intermediate_size", "vocab_size": "vocab_size",
    "max_position_embeddings": "max_position",
}  # fmt: skip
SETS = {
    "llama": LLAMA,
    "bitnet": LLAMA,
    "qwen3_moe": {**LLAMA, "head_dim": "head_width"},
    "gpt2": {"n_embd": "hidden_size", "n_layer": "num_layers", "n_head": "num_heads", "vocab_size": "vocab_size",
             "n_positions": "max_position", "n_inner": "intermediate_size"},
    "opt": {**{key: name for key, name in LLAMA.items() if "key_value" not in key and key != "intermediate_size"},
            "ffn_dim": "intermediate_size", "word_embed_proj_dim": "embedding_size"},
    "deepseek_v3": {key: name for key, name in LLAMA.items() if "key_value" not in key},
}  # fmt: skip
EXPERTS = {
    "qwen3_moe": {"num_experts": "num_experts", "num_experts_per_tok": "experts_per_token",
                  "moe_intermediate_size": "intermediate_size"},
    "deepseek_v3": {"n_routed_experts": "num_experts", "num_experts_per_tok": "experts_per_token",
                    "moe_intermediate_size": "intermediate_size"},
}  # fmt: skip
LATENT = {"kv_lora_rank": "kv_rank", "q_lora_rank": "q_rank", "qk_nope_head_dim": "nope_head_dim",
          "qk_rope_head_dim": "rope_head_dim", "v_head_dim": "v_head_dim"}  # fmt: skip
MAY_BE_NULL = {"num_key_value_heads", "head_dim", "word_embed_proj_dim", "q_lora_rank", "n_inner"}


class NoModelError(Exception):
    """The config cannot be used."""


def decoder_of(config, name):
    """The model of one of the six real configs, key by key; `NoModelError` where a value is of the wrong kind."""
    kind = config["model_type"]

    def sizes(keys):
        found = {}
        for key, field in keys.items():
            value = config.get(key)
            if key not in config or (value is None and key in MAY_BE_NULL):
                found[field] = None
            elif as_size(value) is None or isinstance(value, np.ndarray):
                raise NoModelError(key)
            else:
                found[field] = as_size(value)
        return found

    made = sizes(SETS[kind])
    if made["num_layers"] > 10_000:
        raise NoModelError("num_layers")
    layers = made["num_layers"]
    made["name"], made["tied_embeddings"] = name, config.get("tie_word_embeddings", kind in ("gpt2", "opt"))
    if type(made["tied_embeddings"]) is not bool:
        raise NoModelError("tie_word_embeddings")
    made["gated_ffn"] = kind not in ("gpt2", "opt")
    made["fused_qkv"] = kind == "gpt2"
    made["embedding_size"] = made.get("embedding_size") or made["hidden_size"]
    made["intermediate_size"] = made["intermediate_size"] or 4 * made["hidden_size"]
    if kind == "qwen3_moe":
        made["experts"] = Experts(**sizes(EXPERTS[kind]))
        step, only = sizes({"decoder_sparse_step": "step"})["step"], config["mlp_only_layers"]
        only = [] if only is None else only
        if type(only) is not list or any(type(layer) is not int or not 0 <= layer < layers for layer in only):
            raise NoModelError("mlp_only_layers")
        made["dense_layers"] = tuple(layer for layer in range(layers) if layer in only or (layer + 1) % step)
        sizes({"sliding_window": "window"}) if config["sliding_window"] not in (None, 0) else None  # False is 0
    if kind == "deepseek_v3":
        first, shared = config["first_k_dense_replace"], config["n_shared_experts"]
        for value in (first, shared):
            if as_size(value) is None and not (type(value) is int and value == 0):
                raise NoModelError("first_k_dense_replace or n_shared_experts")
        frequency = 1 if config["moe_layer_freq"] is None else config["moe_layer_freq"]
        frequencies = frequency if type(frequency) is list else [frequency]
        if config["num_key_value_heads"] not in (None, made["num_heads"]) or not frequencies:
            raise NoModelError("num_key_value_heads or moe_layer_freq")
        if any(each != 1 for each in frequencies):
            raise NoModelError("moe_layer_freq")
        experts = sizes(EXPERTS[kind])
        made["experts"] = Experts(**experts, shared_intermediate_size=int(shared) * experts["intermediate_size"])
        made["dense_layers"] = tuple(range(min(int(first), layers)))
        made["latent"] = Latent(**sizes(LATENT))
    return Decoder(**made)


def json_can_hold(value):
    number = isinstance(value, int | float | complex | np.number | Decimal | Fraction)
    return (
        value is None
        or isinstance(value, str | list | tuple | dict)
        or (number and not isinstance(value, np.timedelta64))
    )


UNKNOWN = ["alien", "attn_layers", "num_bananas"]
mutations = st.one_of(
    st.tuples(st.just("size"), st.integers(0, 30), one_in(3, st.one_of(st.integers(1, 512), EDGES))),
    st.tuples(st.just("other"), st.sampled_from(["first_k_dense_replace", "n_shared_experts", "mlp_only_layers",
              "decoder_sparse_step", "moe_layer_freq", "tie_word_embeddings", "num_key_value_heads", "sliding_window"]),
              st.one_of(NONSENSE, st.integers(0, 9), st.booleans(), st.lists(st.integers(0, 70), max_size=4))),
    st.tuples(st.just("harmless"), st.sampled_from(HARMLESS), NONSENSE),
    st.tuples(st.just("unknown"), st.sampled_from(UNKNOWN), NONSENSE),
    st.tuples(st.just("private"), st.sampled_from(["_commit_hash", "_x"]), NONSENSE),
)  # fmt: skip


@fuzz
@given(st.sampled_from(sorted(CONFIGS)), st.lists(mutations, max_size=3))
def test_from_hf_config(file, changes):
    config = dict(CONFIGS[file])
    kind = config["model_type"]
    known = [*SETS[kind], *EXPERTS.get(kind, {}), *(LATENT if kind == "deepseek_v3" else {})]
    for what, key, value in changes:
        if what != "other" or key in config:
            config[known[key % len(known)] if what == "size" else key] = value
    matter = {key: value for key, value in config.items() if key not in HARMLESS and not key.startswith("_")}
    kept = {key: value for key, value in matter.items() if key not in UNKNOWN}
    rejected = not all(map(json_can_hold, matter.values())) or any(matter.get(key) for key in UNKNOWN)
    try:
        expected = REJECTED if rejected else decoder_of(kept, kind)
    except (NoModelError, InputError):
        expected = REJECTED
    names = f"{kind} config"
    assert answer(lambda: from_hf_config(config), names) == expected
    with contextlib.suppress(TypeError, ValueError, RecursionError):  # what JSON cannot hold
        text = json.dumps(config)
        path = Path(gettempdir()) / f"fuzz-{os.getpid()}.json"
        path.write_text(text, encoding="utf-8")
        again = answer(lambda: from_hf_config(path if len(text) % 2 else str(path)), f"{path.stem} config")
        path.unlink()
        if json.loads(text) == config and expected is not REJECTED:
            assert again == replace(expected, name=path.stem)


KEYS = """hidden_size num_hidden_layers num_attention_heads layer_types sliding_window architectures vision_config
is_encoder_decoder use_sliding_window max_window_layers n_embed _name_or_path""".split()
some_keys = st.dictionaries(st.sampled_from(KEYS), one_in(4, st.integers(1, 64)), max_size=2)
SIZED = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
few = st.sampled_from(["llama", "gemma2", "qwen2", "phi3", "falcon"])
sized = st.builds(lambda kind, rest: {**SIZED, **rest, "model_type": kind}, few, some_keys)
odd_keys = st.dictionaries(st.sampled_from(["model_type", "hidden_size", 7, None, (1,), b"model_type"]), NONSENSE)


@fuzz
@given(one_in(8, sized, st.one_of(NONSENSE, odd_keys)))
def test_from_hf_config_of_nonsense(config):
    model = answer(lambda: from_hf_config(config), f"config num_heads num_kv_heads model_type {' '.join(KEYS)}")
    if model is not REJECTED:  # then every key that it needs is there, under its own name or an alias
        width = config["n_embed"] if config["hidden_size"] is None else config["hidden_size"]
        assert model.hidden_size == as_size(width)
        assert model.num_layers == as_size(config["num_hidden_layers"])
        assert model.num_heads == as_size(config["num_attention_heads"])
        assert len(model.windows) in (0, model.num_layers)


LISTS = [["full_attention", "sliding_attention"], ["full_attention", "chunked_attention"], ["dense", "sparse"], [0, 1]]
NEEDED = {
    "head_dim": 8,
    "num_key_value_heads": 2,
    "num_experts_per_tok": 2,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
}
"""What some formats need besides sizes; those with a default take it as well."""


@st.composite
def any_format(draw):
    """A config of any format, with a few of its keys at random, most of them valid; and the part that has the sizes."""
    kind = draw(st.sampled_from(sorted(formats())))
    inner = draw(st.sampled_from(formats()[kind].text_types or (kind,)))
    form, layers = formats()[inner], draw(st.integers(1, 6))
    sizes = dict(zip(REQUIRED, (8 * (heads := draw(st.sampled_from([2, 4, 6]))), layers, heads), strict=True))
    config = {name: value for key, value in sizes.items() for name in form.spellings.get(key, (key,))[:1]}
    names = {name for key in form.defaults for name in form.spellings.get(key, (key,))}
    config |= {
        key: value for key, value in NEEDED.items() if draw(st.booleans()) and (key in names or key == "head_dim")
    }
    keys = st.sampled_from(sorted(names | form.only.keys() | {"layer_types", "mlp_layer_types", "moe_layers", "alien"}))
    lists = st.sampled_from(LISTS).flatmap(
        lambda each: st.lists(st.sampled_from(each), min_size=layers, max_size=layers)
    )
    value = st.one_of(st.sampled_from([1, 2, 4, 8, 16]), st.integers(0, 70), lists, st.none(), st.booleans())
    config |= draw(st.dictionaries(keys, one_in(12, value), max_size=3))
    if inner == kind:
        return {**config, "model_type": kind}, config
    return {"model_type": kind, "text_config": {**config, "model_type": inner}}, config


@fuzz
@given(any_format())
def test_from_hf_config_of_any_format(drawn):
    config, sizes = drawn
    model = answer(lambda: from_hf_config(config), f"config {config['model_type']}")
    if model is REJECTED:
        return
    assert "alien" not in sizes or not sizes["alien"]
    form = formats()[config.get("text_config", config)["model_type"]]
    for key, value in zip(REQUIRED, (model.hidden_size, model.num_layers, model.num_heads), strict=True):
        given_as = [sizes[name] for name in form.spellings.get(key, (key,)) if sizes.get(name) is not None]
        attends = not model.mixers or not {"attention", "both"}.isdisjoint(model.mixers)
        assert not given_as or value == (as_size(given_as[0]) if attends or key != "num_attention_heads" else 0)
    for windows in (model.windows, model.chunks):
        assert len(windows) in (0, model.num_layers)
    step = decode_step(model, 100)
    step += () if model.recurrent or model.indexer else prefill(model, 100)
    assert all(mm.m >= 1 and mm.n >= 1 and mm.k >= 1 and mm.count >= 1 for mm in step)
    assert num_weights(model) > 0
    with contextlib.suppress(TypeError, ValueError):  # what JSON cannot hold
        text = json.dumps(config)
        assert from_hf_config(json.loads(text)) == model
