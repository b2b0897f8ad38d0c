"""Attention within chunks (Llama 4): what a query sees, counted one token at a time, and what is built on it."""

from dataclasses import replace

import pytest

from llmamdahl import CLOUD_TPU, EDGE_TPU, generation_cost, share, sweep
from llmamdahl.analysis import crossover_context_length
from llmamdahl.errors import InputError
from llmamdahl.models import Decoder
from llmamdahl.workload import Part, decode_layer, decode_step, num_weights, prefill

CHUNK = 64
MODEL = Decoder("mine", 128, 4, 8, 256, True, 1000, 4096, 128, kv_heads=2, chunks=(CHUNK, CHUNK, CHUNK, None))
FULL = replace(MODEL, chunks=())


def seen(length, chunk):
    """Tokens that the last of `length` tokens sees: those of its own chunk, up to itself."""
    return sum(token // chunk == (length - 1) // chunk for token in range(length))


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 100, 127, 128, 129, 1000])
def test_a_query_sees_its_own_chunk(length):
    for layer in range(4):
        keys = {mm.n for mm in decode_layer(MODEL, layer, length) if mm.name == "Q·Kᵀ"}
        assert keys == {seen(length, CHUNK) if layer < 3 else length}
    if length <= CHUNK:
        chunked = sum(mm.m * mm.n * mm.k * mm.count for mm in decode_step(MODEL, length))
        assert chunked == sum(mm.m * mm.n * mm.k * mm.count for mm in decode_step(FULL, length))


@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 128, 200])
def test_each_chunk_of_a_prompt_is_a_prompt_of_its_own(tokens):
    def attention(model, tokens, heads):
        step = prefill(model, tokens, 3, heads=heads)
        return sum(mm.m * mm.n * mm.k * mm.count for mm in step if mm.part is Part.ATTENTION)

    only = replace(MODEL, chunks=(CHUNK,) * 4)
    parts = [len(range(tokens)[start : start + CHUNK]) for start in range(0, tokens, CHUNK)]
    for heads in ("per_head", "grouped"):
        assert attention(only, tokens, heads) == sum(attention(FULL, part, heads) for part in parts)
        assert 4 * attention(MODEL, tokens, heads) == 3 * attention(only, tokens, heads) + attention(
            FULL, tokens, heads
        )


def test_k_and_v_of_each_chunk_are_read_once_for_all_heads_of_a_group():
    only = replace(MODEL, chunks=(CHUNK,) * 4)
    for name in ("Q·Kᵀ", "scores·V"):
        read = sum(mm.n * mm.k * mm.distinct for mm in prefill(only, 200, 3) if mm.name == name)
        assert read == 4 * 3 * 2 * sum(part * only.head_dim for part in (64, 64, 64, 8))


def test_weights_do_not_depend_on_chunks():
    assert num_weights(MODEL) == num_weights(FULL)


@pytest.mark.parametrize("metric", ["cycles", "memory_accesses", "bytes"])
def test_a_generation_adds_up_its_steps(metric):
    found = generation_cost(MODEL, 50, EDGE_TPU, new_tokens=150, metric=metric)
    steps = [share(MODEL, length, EDGE_TPU, metric=metric).attention for length in range(51, 201)]
    prompt = share(MODEL, 50, EDGE_TPU, metric=metric, phase="prefill").attention
    assert found.attention == pytest.approx(prompt + sum(steps), rel=1e-12)


def test_a_sweep_has_the_shares_of_single_steps():
    table = sweep([MODEL], [60, 64, 65, 500], [CLOUD_TPU])
    for row in table.itertuples():
        assert row.fraction == share(MODEL, row.context_length, CLOUD_TPU, metric=row.metric).fraction


@pytest.mark.parametrize("width", [32, 64, 128, 256, 512, 1000])
@pytest.mark.parametrize("chunk", [5, 64, 100])
def test_the_crossover_is_the_first_of_all_lengths(width, chunk):
    """F rises again where a chunk begins, so it can be above 1/2 once more after the crossover."""
    model = replace(MODEL, intermediate_size=width, chunks=(chunk, chunk, chunk, None))
    fractions = [share(model, length, CLOUD_TPU).fraction for length in range(1, 700)]
    first = next((length for length, found in enumerate(fractions, start=1) if found <= 0.5), None)
    found = crossover_context_length(model, CLOUD_TPU)
    assert found == first if first else found is None or found >= 700


def test_without_a_full_layer_attention_may_never_overtake():
    model = replace(MODEL, intermediate_size=2000, chunks=(CHUNK,) * 4)
    assert share(model, 2**30, CLOUD_TPU).fraction > 0.5
    assert crossover_context_length(model, CLOUD_TPU) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"chunks": (64,)}, "mine: chunks: 1 are given for 4 layers"),
        ({"chunks": (0, 64, 64, 64)}, "mine: chunks: 0 is not a positive whole number"),
        ({"windows": (9,) * 4}, "mine: chunks: 64 in layer 0, which has a window"),
        ({"chunks": (64, 65, 64, None)}, r"mine: chunks: \[64, 65\] differ"),
    ],
)
def test_bad_chunks_are_rejected(fields, message):
    with pytest.raises(InputError, match=f"^{message}"):
        replace(MODEL, **fields)


def test_chunks_in_no_layer_are_none():
    assert replace(MODEL, chunks=(None,) * 4) == FULL
    assert not MODEL.is_plain
