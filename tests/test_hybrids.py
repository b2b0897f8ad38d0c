"""Models with a recurrent state or an indexer: what a decode step counts, against transformers 5.23.0 and PyTorch.

What FlopCounterMode sees (MatMuls, convolutions) is compared as it is; transformers computes parts of a state element
by element, and these products are counted where they are dispatched. Needs the extra `oracle`.
"""

import json
import os
from collections import Counter
from dataclasses import fields, replace
from itertools import product

import pytest

from llmamdahl import Precision
from llmamdahl.models import Decoder, Recurrent, from_hf_config
from llmamdahl.models.huggingface import formats
from llmamdahl.models.huggingface.mixers import READERS
from llmamdahl.roofline import FP16, bytes_moved, footprint
from llmamdahl.workload import Part, decode_layer, decode_step, elementwise, num_weights
from tests.hybrids import BATCH, DK, DV, GATED, HEADS, KEYS, SMALL, config_of

if os.environ.get("REQUIRE_EXTRAS"):
    import torch
    import transformers
else:
    torch = pytest.importorskip("torch", reason="the extra `oracle` is not installed: make extras")
    transformers = pytest.importorskip("transformers", reason="the extra `oracle` is not installed: make extras")
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.kimi_linear.modeling_kimi_linear import recurrent_kimi_delta_attention
from transformers.models.mamba.modeling_mamba import mamba_selective_state_update
from transformers.models.mamba2.modeling_mamba2 import mamba2_selective_state_update
from transformers.models.qwen3_next.modeling_qwen3_next import torch_recurrent_gated_delta_rule

pytestmark = pytest.mark.usefixtures("one_thread")

NESTED = {"qwen3_5", "qwen3_5_moe"}
"""Formats whose `text_config` is one of these."""
RECURRENT = [case for case in SMALL if not {"deepseek_v32", "glm_moe_dsa"} & {case.partition(",")[0]}]
LENGTH = 13


def test_every_format_has_a_case():
    mixed = {*READERS.values()}
    kinds = {name for name, form in formats().items() if mixed & {*form.readers}}
    assert {case.partition(",")[0] for case in SMALL} == kinds
    assert {name for name, form in formats().items() if kinds & {*form.text_types}} == NESTED


def test_each_spelling_of_a_key_is_one_of_transformers():
    """Given alone, it sets the field of the configuration class; but for the one that formats.csv says is another's."""
    compared = 0
    for kind in {case.partition(",")[0] for case in SMALL}:
        known = {each.name for each in fields(CONFIG_MAPPING[kind])}
        for key, names in formats()[kind].spellings.items():
            if key in ("layer_types", "layers_block_type"):  # lists, which have to fit
                continue
            value = False if key == "tie_word_embeddings" else 24
            for field, name in product({*names} & known, {*names} - known - {"attention_head_dim"}):
                assert getattr(CONFIG_MAPPING[kind](**{name: value}), field) == value, (kind, name)
                compared += 1
    assert compared > 15


@pytest.fixture(scope="module")
def built():
    """Our model and theirs, and theirs after 12 tokens; made once."""
    known = {}

    def make(case):
        if case not in known:
            kind, values = case.partition(",")[0], SMALL[case]
            config = CONFIG_MAPPING[kind](**values)
            options = {"attn_implementation": "eager", "experts_implementation": "eager"}
            torch.manual_seed(0)
            known[case] = transformers.AutoModelForCausalLM.from_config(config, **options).eval()
        return from_hf_config(config_of(case)), known[case]

    return make


def step_of(theirs, *modes):
    """A decode step after 12 tokens of each sequence, under these modes; returns the cache."""
    prompt = torch.arange(BATCH * (LENGTH - 1)).view(BATCH, -1)
    with torch.no_grad():
        before = theirs(prompt, use_cache=True)
        name = "cache_params" if hasattr(before, "cache_params") else "past_key_values"
        past = getattr(before, name)
        with modes[0]:
            theirs(torch.ones(BATCH, 1, dtype=torch.long), use_cache=True, **{name: past})
    return past


def macs(matmuls):
    return sum(mm.m * mm.n * mm.k * mm.count for mm in matmuls)


def counted(theirs):
    """MACs that PyTorch counts in the decode step: by operation, for each module."""
    counter = FlopCounterMode(display=False)
    step_of(theirs, counter)
    return {
        module: {str(operation).split(".")[1]: flops // 2 for operation, flops in operations.items()}
        for module, operations in counter.get_flop_counts().items()
    }


@pytest.mark.parametrize("case", list(SMALL))
def test_every_key_of_a_config_is_understood(case):
    kind, values = case.partition(",")[0], SMALL[case]
    written = json.loads(CONFIG_MAPPING[kind](**values).to_json_string(use_diff=False))
    written["num_hidden_layers"] = values["num_hidden_layers"]  # Nemotron-H's is a property
    assert replace(from_hf_config(written), name=kind) == replace(from_hf_config(config_of(case)), name=kind)


@pytest.mark.parametrize("case", list(SMALL))
def test_every_weight_counts(case, built):
    """All parameters of transformers' model but vectors (norms, biases, D, A of one number a head)."""
    ours, theirs = built(case)
    matrices = [
        each
        for name, each in theirs.named_parameters()
        if each.ndim > 1 and (each.squeeze().ndim > 1 or not name.endswith("A_log"))
    ]
    assert num_weights(ours) == sum(each.numel() for each in matrices)


SEEN = {"mamba2": ["Q·S"], "mamba": ["Q·S"], "lightning": ["Kᵀ·V", "Q·S"]}
"""MatMuls of a state that transformers computes as MatMuls; all others it computes element by element."""


@pytest.mark.parametrize("case", list(SMALL))
def test_macs_are_what_pytorch_counts(case, built):
    """transformers keeps `conv_width` inputs, one too many, so its convolution has two results and drops the first."""
    ours, theirs = built(case)
    step, found = decode_step(ours, LENGTH, BATCH), counted(theirs)["Global"]
    batched = [mm for mm in step if mm.part is Part.ATTENTION]
    weights = [mm for mm in step if mm.part in (Part.PROJECTION, Part.UNQUANTIZED)]
    layers = sum(mixer in ("attention", "both") for mixer in ours.mixers) if ours.mixers else ours.num_layers
    more = 0
    if latent := ours.latent:  # transformers does not absorb: K and V of all heads and tokens, each time
        up = layers * BATCH * LENGTH * latent.kv_rank * ours.num_heads * (latent.nope_head_dim + latent.v_head_dim)
        weights = [mm for mm in weights if mm.name not in ("W_UK", "W_UV")]
        batched = [mm for mm in batched if mm.name.startswith("index")]
        more = layers * BATCH * LENGTH * ours.num_heads * (latent.head_dim + latent.v_head_dim)
    assert found["mm"] == macs(weights) + (up if latent else 0)
    state = (
        [mm for mm in step if mm.part is Part.STATE and mm.name in SEEN.get(ours.recurrent.kind, [])]
        if (ours.recurrent)
        else []
    )
    assert found.get("bmm", 0) == macs(batched) + macs(state) + more
    assert found.get("convolution", 0) == 2 * sum(
        each.macs for each in elementwise(ours, BATCH) if each.name == "convolution"
    )


class Products(TorchDispatchMode):
    """How often each number of elements was computed as a product, element by element."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten.mul.Tensor, torch.ops.aten.mul_.Tensor):
            self.found[result.numel()] += 1
        return result


SPREAD = {"mamba2": 2, "mamba": 1}
"""Products of the size of the state that transformers computes in addition: Δ·B, and in Mamba-2 Δ·A, which have the
same factor in each row of a head; one for each row, or head, would do.
"""


@pytest.mark.parametrize("case", [case for case in RECURRENT if "lfm2" not in case])
def test_what_pytorch_computes_element_by_element(case, built):
    ours, theirs = built(case)
    state, products = ours.recurrent, Products()
    step_of(theirs, products)
    size = BATCH * state.heads * state.key_dim * state.value_dim
    layers = sum(mixer in ("state", "both") for mixer in ours.mixers)
    step = [mm for mm in decode_step(ours, LENGTH, BATCH) if mm.part is Part.STATE]
    expected = sum(each.macs for each in elementwise(ours, BATCH) if each.name in ("decay", "Δ·A"))
    expected += macs(mm for mm in step if mm.name not in SEEN.get(state.kind, []))
    assert size * products.found[size] == expected + layers * size * SPREAD.get(state.kind, 0)


@pytest.mark.parametrize("case", RECURRENT)
def test_the_state_is_what_transformers_keeps(case, built):
    """But for the oldest input of the convolution, which transformers keeps and the next step does not use."""
    ours, theirs = built(case)
    past, state = step_of(theirs, torch.no_grad()), ours.recurrent
    kept = 0
    for layer in getattr(past, "layers", []):
        for name in ("conv_states", "recurrent_states"):
            found = getattr(layer, name, None)
            kept += sum(
                each.numel() for each in (found.values() if isinstance(found, dict) else [found]) if each is not None
            )
        if getattr(layer, "linear_cache", None) is not None:
            kept += layer.linear_cache.numel()
    if hasattr(past, "linear_cache"):
        kept += sum(each.numel() for each in past.linear_cache if isinstance(each, torch.Tensor))
    layers = sum(mixer in ("state", "both") for mixer in ours.mixers)
    oldest = layers * BATCH * state.conv_channels if state.conv_width else 0
    assert kept - oldest == footprint(ours, FP16, LENGTH, batch=BATCH)[Part.STATE] / 2


def recurrence(state, q, k, v, decay, beta=None):
    """A step of a state (heads x key_dim x value_dim) by MatMuls and its decay, as `Recurrent` describes it."""
    state = state * decay
    if beta is not None:
        v = beta * (v - (k[:, None] @ state)[:, 0])
    state = state + k[:, :, None] @ v[:, None, :]
    return (q[:, None] @ state)[:, 0], state


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def close(found, expected):
    torch.testing.assert_close(found, expected.to(found.dtype), rtol=1e-4, atol=1e-5)


def alone(recurrent):
    """A model of three layers with this state and nothing else."""
    return Decoder("alone", 48, 3, 0, 0, False, 101, 64, 48, mixers=("state",) * 3, recurrent=recurrent,
                   layers_without_ffn=(0, 1, 2))  # fmt: skip


def check(recurrent, inputs, expected):
    """The recurrence gives what transformers computes, and PyTorch counts its MatMuls as ours; also side by side."""
    state, q, k, v, decay, beta = inputs
    ratio = recurrent.heads // recurrent.key_heads
    spread = [each.repeat_interleave(ratio, 0) for each in (q, k)]
    with FlopCounterMode(display=False) as counter:
        found = recurrence(state, *spread, v, decay, beta)
    close(found[0], expected[0])
    close(found[1], expected[1])
    step = [mm for mm in decode_step(alone(recurrent), 9) if mm.part is Part.STATE]
    assert counter.get_total_flops() == 2 * macs(step) / 3
    # The states of the heads that share q and k, side by side: the same products in fewer MatMuls.
    groups, dk, dv = recurrent.key_heads, recurrent.key_dim, recurrent.value_dim

    def beside(each):
        return each.expand(-1, dk, dv).reshape(groups, ratio, dk, dv).transpose(1, 2).reshape(groups, dk, -1)

    wide = None if beta is None else beta.expand(-1, dv).reshape(groups, ratio * dv)
    out, _ = recurrence(beside(state), q, k, v.reshape(groups, ratio * dv), beside(decay), wide)
    close(out.reshape(recurrent.heads, dv), expected[0])
    grouped = [mm for mm in decode_step(alone(recurrent), 9, heads="grouped") if mm.part is Part.STATE]
    assert macs(grouped) == macs(step)
    assert {mm.n for mm in grouped} == {ratio * dv}
    assert {mm.count for mm in grouped} == {3 * groups}
    for bits in (FP16, Precision(results=8, state=32)):
        assert sum(bytes_moved(mm, bits) for mm in grouped) == sum(bytes_moved(mm, bits) for mm in step)


def test_gated_delta_rule():
    q, k, v = normal(KEYS, DK), normal(KEYS, DK), normal(HEADS, DV)
    state, g, beta = normal(HEADS, DK, DV), -normal(HEADS).abs(), torch.rand(HEADS, dtype=torch.float64)
    out, after = torch_recurrent_gated_delta_rule(
        q[None, None], k[None, None], v[None, None], g[None, None], beta[None, None], state[None], True
    )
    check(GATED, (state, q / DK**0.5, k, v, g.exp()[:, None, None], beta[:, None]), (out[0, 0], after[0]))


def test_kimi_delta_attention():
    q, k, v = (normal(3, 7) for _ in range(3))
    state, g, beta = normal(3, 7, 7), -normal(3, 7).abs(), torch.rand(3, dtype=torch.float64)
    out, after = recurrent_kimi_delta_attention(
        q[None, None], k[None, None], v[None, None], g[None, None], beta[None, None], state[None], True
    )
    kimi = Recurrent("kimi_delta", 3, 3, 7, 7, conv_width=4)
    check(kimi, (state, q / 7**0.5, k, v, g.exp()[:, :, None], beta[:, None]), (out[0, 0], after[0]))


def test_mamba2():
    """Δ scales x: A has one number a head."""
    b, c, x, dt, a = normal(KEYS, DK), normal(KEYS, DK), normal(HEADS, DV), normal(HEADS).abs(), -normal(HEADS).abs()
    state = normal(HEADS, DV, DK)
    after = state.clone()[None]
    spread = a[:, None, None].expand(-1, DV, DK)
    out = mamba2_selective_state_update(after, x[None], dt[:, None].expand(-1, DV)[None], spread, b[None], c[None])
    inputs = (state.transpose(1, 2), c, b, dt[:, None] * x, (dt * a).exp()[:, None, None], None)
    check(Recurrent("mamba2", HEADS, KEYS, DV, DK, conv_width=4), inputs, (out[0], after[0].transpose(1, 2)))


def test_mamba():
    """One head; A has a number for each element of the state."""
    b, c, x, dt, a = normal(1, DK), normal(1, DK), normal(1, DV), normal(DV).abs(), -normal(DV, DK).abs()
    state = normal(1, DV, DK)
    after = state.clone()
    out = mamba_selective_state_update(after, x, dt[None], a, b, c)
    inputs = (state.transpose(1, 2), c, b, dt * x, (dt[:, None] * a).exp().T[None], None)
    check(Recurrent("mamba", 1, 1, DV, DK, conv_width=4, rank=3), inputs, (out, after.transpose(1, 2)))


@pytest.mark.parametrize("case", ["deepseek_v32", "glm_moe_dsa", "glm_moe_dsa, shared"])
def test_the_indexer_is_what_pytorch_counts(case, built):
    """Per layer: its products with weights and between activations, and how many tokens it selects."""
    ours, theirs = built(case)
    selected = {}
    hooks = [
        module.register_forward_hook(lambda _, inputs, output, name=name: selected.update({name: output.shape[-1]}))
        for name, module in theirs.named_modules()
        if name.endswith(".indexer")
    ]
    found = counted(theirs)
    for hook in hooks:
        hook.remove()
    assert len(hooks) == ours.num_layers - len(ours.indexer.shared_layers)
    for layer in range(ours.num_layers):
        step = decode_layer(ours, layer, LENGTH, batch=BATCH)
        name = f"model.layers.{layer}.self_attn.indexer"
        index = {mm.name: mm for mm in step if mm.name.startswith("index ")}
        assert (layer in ours.indexer.shared_layers) is not bool(index)
        (attention,) = [mm for mm in step if mm.name == "Q·Kᵀ"]
        assert attention.n == min(LENGTH, ours.indexer.top_k) == 9
        if index:
            assert selected[name] == attention.n
            both = found[next(module for module in found if module.endswith(name))]
            assert both["mm"] == macs(index[weight] for weight in ("index W_Q", "index W_K", "index W_w"))
            assert both["bmm"] == macs(index[scores] for scores in ("index Q·Kᵀ", "index w·scores"))
