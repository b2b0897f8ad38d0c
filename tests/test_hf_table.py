"""The tables behind `from_hf_config`, without transformers: its defaults as `test_hf.py --defaults` recorded them."""

import json
from dataclasses import fields, replace

import pytest

from llmamdahl.errors import InputError
from llmamdahl.models import Decoder, Experts, from_hf_config, get_model
from llmamdahl.models.huggingface import READERS, REQUIRED, formats
from llmamdahl.tables import DATA, ROOT, boolean, read_rows
from llmamdahl.workload import num_weights
from tests.hf_cases import MODELS, rows
from tests.hf_sizes import smallest

DEFAULTS = read_rows(
    ROOT / "tests" / "data" / "hf_defaults.csv", {"model_type": str, "key": str, "default": json.loads}
)
TYPES = read_rows(
    DATA / "models" / "model_types.csv", {"model_type": str, "read": boolean, "why": str}, key=["model_type"]
)
LISTED = ("layer_types", "mlp_layer_types")
"""Keys that list six layers in the recorded defaults."""


@pytest.mark.parametrize("model_type", [name for name, form in formats().items() if not form.text_types])
def test_an_absent_key_means_what_transformers_says(model_type):
    """A key with the default of transformers' configuration class changes nothing; nor do all of them together."""
    config = {"model_type": model_type, **smallest(model_type)}
    model = from_hf_config(config)
    recorded = "deepseek_v3" if model_type == "kimi_k2" else model_type
    found = {row["key"]: row["default"] for row in DEFAULTS if row["model_type"] == recorded}
    # those of other sizes, and null where it stands for a key that has to be given
    given = {key: value for key, value in found.items() if key not in config and value is not None}
    given = {key: value for key, value in given.items() if key not in LISTED or formats()[model_type].defaults.get(key)}
    if "latent" in map_readers(model_type):
        given.pop("num_key_value_heads", None)  # it must be the number of heads
    for key, value in given.items():
        assert from_hf_config({**config, key: value}) == model, key
    assert from_hf_config({**config, **given}) == model
    for name in [name for key in REQUIRED for name in formats()[model_type].spellings.get(key, (key,))[:1]]:
        less = {other: value for other, value in config.items() if other != name}
        if (model_type, name) == ("nemotron_h", "num_hidden_layers"):  # the length of its list, if it has one
            assert from_hf_config(less) == model
            less.pop("hybrid_override_pattern")
        with pytest.raises(InputError, match=f"{name}: is missing or null"):
            from_hf_config(less)


@pytest.mark.parametrize("row", [row for row in DEFAULTS if row["key"] in LISTED and row["default"]], ids=str)
def test_layers_have_windows_chunks_and_experts_where_transformers_says(row):
    """Without a list in the config; what does not follow from a key is in no other row."""
    model, listed = from_hf_config({"model_type": row["model_type"], **smallest(row["model_type"])}), row["default"]
    layers = range(model.num_layers)
    assert len(listed) == len(layers)
    if row["key"] == "mlp_layer_types":
        assert model.dense_layers == tuple(layer for layer in layers if listed[layer] == "dense")
        return
    for kind, found in (("sliding_attention", model.windows), ("chunked_attention", model.chunks)):
        assert [each is not None for each in found or [None] * len(layers)] == [each == kind for each in listed]


def map_readers(model_type):
    return [name for name, read in READERS.items() if read in formats()[model_type].readers]


def test_each_recorded_default_is_that_of_the_table():
    """Also where it has no effect in the config above; null there is empty, or what follows from other sizes, here."""
    compared = 0
    for row in DEFAULTS:
        form = formats()[row["model_type"]]
        key = next((key for key, names in form.spellings.items() if row["key"] in names), row["key"])
        if key not in form.defaults or key in REQUIRED:
            continue
        ours, theirs = form.defaults[key], row["default"]
        if row["model_type"] == "mistral3":
            assert (ours, theirs) == (False, True)  # formats.csv says why
        elif (row["model_type"], key) == ("flint", "mlp_only_layers"):
            assert (ours, theirs) == ([0, 1], None)  # filled in after the configuration class is made
        elif (row["model_type"], key) == ("gpt_neo", "attention_types"):
            assert (ours, theirs) == ([[["global", "local"], 12]], None)
        else:
            assert ours == theirs, row
        compared += 1
    assert compared > 500


def test_a_nested_decoder_has_defaults_for_all_its_sizes():
    recorded = {(row["model_type"], row["key"]): row["default"] for row in DEFAULTS}
    for model_type, form in formats().items():
        for text_type in form.text_types:
            config = {"model_type": model_type, "text_config": {"model_type": text_type}}
            model = from_hf_config(config)
            sizes = [model.hidden_size, model.num_layers, model.num_heads]
            assert sizes == [recorded[text_type, key] for key in REQUIRED]
            with pytest.raises(InputError, match="hidden_size: is missing or null"):
                from_hf_config(config["text_config"])


def test_the_structure_names_readers_and_fields():
    known = {each.name for kind in (Decoder, Experts) for each in fields(kind) if each.type == "bool"} | {
        "fused_experts"
    }
    used = set()
    for model_type, form in formats().items():
        assert {name for name, value in form.fields.items() if value} <= known, model_type
        used |= {*map_readers(model_type)}
        assert set(form.spellings) <= set(form.defaults) | set(REQUIRED), model_type
    assert used == set(READERS)


def test_each_model_type_is_read_or_says_why_not():
    assert {row["model_type"] for row in TYPES if row["read"]} == set(formats())
    assert len(TYPES) >= 189
    for row in TYPES:
        assert row["read"] == (not row["why"]), row
        if not row["read"]:
            with pytest.raises(InputError) as raised:
                from_hf_config({"model_type": row["model_type"], "hidden_size": 64})
            assert f"model_type: '{row['model_type']}' is not supported ({row['why']}); supported: " in str(
                raised.value
            )


PUBLISHED = json.loads((ROOT / "tests" / "data" / "hf_published.json").read_text(encoding="utf-8"))
"""config.json files as they are published (README beside them), and the published numbers of parameters, in 10^9."""


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_published_configs_have_the_published_number_of_parameters(name):
    """To 1.2%: the numbers are rounded, without norms and biases here, and some count a vision tower."""
    model = from_hf_config(PUBLISHED[name]["config"])
    assert num_weights(model) / 1e9 == pytest.approx(PUBLISHED[name]["parameters"], rel=0.012)


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_a_published_config_with_a_key_that_nobody_knows_is_rejected(name):
    for key, value in (("num_bananas", 7), ("attention_pattern", "dilated"), ("sparse_topk", [64])):
        config = json.loads(json.dumps(PUBLISHED[name]["config"]))
        for part in (config, config.get("text_config"), config.get("attn_config"), config.get("ffn_config")):
            if part is not None:
                part[key] = value
                with pytest.raises(
                    InputError, match=rf"{key}: .* is not understood for model_type '\w+' and may change"
                ):
                    from_hf_config(config)
                del part[key]


def test_falcon_7b_is_tied_as_its_file_says():
    """tiiuae/falcon-7b leaves the key out, which means tied: transformers builds 6,921,720,704 parameters.

    7,217,189,760, which is printed too, counts the matrix twice, as its checkpoint has it (vLLM's pull request 3590).
    """
    config = {
        "model_type": "falcon", "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71,
        "vocab_size": 65024, "multi_query": True, "parallel_attn": True, "new_decoder_architecture": False,
        "bias": False, "alibi": False, "architectures": ["FalconForCausalLM"],
    }  # fmt: skip
    model = replace(from_hf_config(config), name="falcon-7b")
    assert model == get_model("falcon-7b")
    norms = 2 * 4544 * (32 + 1)
    assert num_weights(model) + norms == 6_921_720_704
    assert num_weights(replace(model, tied_embeddings=False)) + norms == 7_217_189_760


def test_configs_are_read_as_they_were_when_transformers_agreed():
    """`python tests/hf_cases.py` writes the table again; then `test_hf.py` and `test_hybrids.py` have to pass."""
    recorded = read_rows(MODELS, {"case": str, "model": str}, key=["case"])
    assert rows() == recorded
