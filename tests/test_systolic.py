"""The closed form checked against SCALE-Sim: the whole store, live runs, and the limits of its input."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from compendium.bench import million_over_bare
from llmamdahl.errors import CountOverflowError, InputError
from llmamdahl.hardware import CLOUD_TPU, EDGE_TPU, Dataflow, SystolicArray
from llmamdahl.models import get_model
from llmamdahl.scalesim.against_store import closed_form_against_store
from llmamdahl.scalesim.simulator import COUNTS, Run, add_up, folds, simulate
from llmamdahl.systolic import SRAM_COUNTS, GemmCost, gemm_cost
from llmamdahl.workload import Part, decode_step

sizes = st.integers(1, 24)
srams = st.sampled_from([1, 2, 64])
arrays = st.builds(SystolicArray, sizes, sizes, st.sampled_from(list(Dataflow)), srams, srams, srams)
dims = st.one_of(st.just(1), st.integers(1, 70))


def test_the_closed_form_equals_the_whole_store():
    compared = closed_form_against_store()
    assert compared.rows.sum() == 828
    assert not compared.differ.any()


@settings(max_examples=120, deadline=None)
@given(m=dims, n=dims, k=dims, array=arrays)
def test_the_closed_form_equals_live_scale_sim(m, n, k, array):
    assume((array.rows, array.cols, array.dataflow, k) != (1, 1, "os", 1))  # folds of one cycle: see the next test
    run = Run(m, n, k, array)
    assume(run.weight <= 20_000)  # a tenth of a second; few are more, but one on an array of one PE takes 20 times that
    reported = simulate(run)
    cost = gemm_cost(m, n, k, array)
    assert {count: getattr(cost, count) for count in SRAM_COUNTS} == {count: reported[count] for count in SRAM_COUNTS}
    assert reported["stall_cycles"] == 0
    folded = add_up(run, [(simulate(fold), number) for fold, number in folds(run)])
    assert {name: folded[name] for name in COUNTS} == {name: reported[name] for name in COUNTS}


def test_scale_sim_fails_at_a_single_cycle():
    with pytest.raises(InputError, match="takes one cycle"):
        simulate(Run(1, 1, 1, SystolicArray(1, 1)))


@settings(max_examples=20, deadline=None)
@given(array=arrays, seed=st.integers(0, 2**32 - 1))
def test_arrays_are_the_ints_elementwise(array, seed):
    m, n, k = np.random.default_rng(seed).integers(1, 5000, (3, 8))
    for counting in ("reported", "corrected"):
        whole = gemm_cost(m, n[:, None], k, array, counting=counting)
        for i, j in np.ndindex(8, 8):
            one = gemm_cost(int(m[j]), int(n[i]), int(k[j]), array, counting=counting)
            for count in SRAM_COUNTS:
                assert getattr(whole, count).shape == (8, 8)
                assert getattr(whole, count)[i, j] == getattr(one, count)


@settings(max_examples=20, deadline=None)
@given(designs=st.lists(arrays, min_size=1, max_size=7), seed=st.integers(0, 2**32 - 1))
def test_a_list_of_arrays_is_each_array_alone(designs, seed):
    m, n, k = np.random.default_rng(seed).integers(1, 200, (3, 4, 1))
    for counting, reading in (("reported", "serial"), ("corrected", "pipelined")):
        together = gemm_cost(m, n, k, designs, counting=counting, folds=reading)
        for place, array in enumerate(designs):
            alone = gemm_cost(m[:, 0], n[:, 0], k[:, 0], array, counting=counting, folds=reading)
            for count in SRAM_COUNTS:
                assert (getattr(together, count)[:, place] == getattr(alone, count)).all()


def test_a_list_of_arrays_pairs_with_the_last_axis():
    designs = [EDGE_TPU, CLOUD_TPU, replace(EDGE_TPU, dataflow="is", filter_sram_kb=64)]
    k = np.array([100, 70_000, 3000])
    paired = gemm_cost(40, 50, k, designs)
    for count in (*SRAM_COUNTS, "ifmap_dram_reads", "filter_dram_reads", "ofmap_dram_writes"):
        each = [getattr(gemm_cost(40, 50, int(one), array), count) for one, array in zip(k, designs, strict=True)]
        assert getattr(paired, count).tolist() == each
    table = gemm_cost(40, 50, np.stack([k + 1, k]), designs)
    assert table.cycles[1].tolist() == paired.cycles.tolist() != table.cycles[0].tolist()
    with pytest.raises(InputError, match=r"array: shapes .*\(2,\), \(3,\) do not broadcast"):
        gemm_cost(1, 1, k[:2], designs)
    with pytest.raises(InputError, match="array: nothing is listed"):
        gemm_cost(1, 1, 1, [])
    for bad in (7, CLOUD_TPU.rows, [7]):
        with pytest.raises(InputError, match=r"^array: \d+ is not a SystolicArray, or the name of one$"):
            gemm_cost(1, 1, 1, bad)


def test_a_list_of_arrays_never_wraps():
    big = 2**61
    assert gemm_cost(1, 1, big, ["edge", "cloud"]).cycles.tolist() == [big + 61, big + 509]
    with pytest.raises(CountOverflowError):
        gemm_cost(1, 4, big, ["cloud", "1x1"])
    with pytest.raises(CountOverflowError, match=r"^ofmap_sram_writes"):  # the only count that does not fit
        gemm_cost(2**32, 2**32, 1, [SystolicArray(2**20, 2**20)])


@pytest.mark.parametrize("dataflow", list(Dataflow))
def test_corrected_counts_by_hand(dataflow):
    # 1 x 100 times 100 x 70 on 32 x 16. OS: 5 folds of 2*32 + 16 + 100 - 2 cycles; WS: 4 x 5 folds of
    # 2*32 + 16 + 1 - 2; IS: 4 folds of 2*32 + 16 + 70 - 2. The product has 70 elements.
    cost = gemm_cost(1, 70, 100, SystolicArray(32, 16, dataflow), counting="corrected")
    assert cost.cycles == {"os": 5 * 178, "ws": 20 * 79, "is": 4 * 148}[dataflow]
    assert cost.ofmap_sram_writes == {"os": 70, "ws": 4 * 70, "is": 4 * 70}[dataflow]


def test_corrections_are_the_four_of_the_docstring():
    m, n, k = np.random.default_rng(1).integers(1, 300, (3, 50))
    for dataflow in Dataflow:
        array = SystolicArray(9, 7, dataflow)
        reported, corrected = (gemm_cost(m, n, k, array, counting=counting) for counting in ("reported", "corrected"))
        os_folds = -(-m // 9) * -(-n // 7) * (dataflow is Dataflow.OS)
        assert (corrected.cycles - reported.cycles == 1 + 9 * os_folds).all()
        assert (reported.ofmap_sram_writes - corrected.ofmap_sram_writes == (9 + 7) * os_folds).all()
        assert (reported.ifmap_sram_reads == corrected.ifmap_sram_reads).all()
        assert (reported.filter_sram_reads == corrected.filter_sram_reads).all()
        # 1 x 2000 in lines of 256 words, drained by 512: a padded line becomes part of the second drain (`dram.py`)
        array = SystolicArray(9, 256, dataflow, ofmap_sram_kb=1)
        writes = [gemm_cost(1, 2000, 1, array, counting=each).ofmap_dram_writes for each in ("reported", "corrected")]
        assert writes == [2000 + 255, 2000]


@pytest.mark.parametrize(
    "model, array, shares, projection",
    [
        ("opt-350m", CLOUD_TPU, [14, 21, 64], 73),
        ("opt-6.7b", CLOUD_TPU, [27, 13, 60], 91),
        ("opt-350m", EDGE_TPU, [67, 0, 33], 96),
        ("opt-6.7b", EDGE_TPU, [80, 0, 20], 99),
    ],
)
def test_what_cycles_of_attention_are_spent_on(model, array, shares, projection):
    """At l = 2048, per head, serial, reported: percent for products in full columns, for empty columns, for fill.

    One token works in one row of the array, so `cols` products a cycle are the most. The rest of a MatMul's cycles go
    to columns beyond n in its last fold, and to filling and skewing each fold.
    """
    spent = {}
    for matmul in decode_step(get_model(model), 2048):
        cycles = gemm_cost(1, matmul.n, matmul.k, array).cycles + 1  # the last one included
        products = matmul.n * matmul.k / array.cols
        empty = -matmul.n % array.cols * matmul.k / array.cols
        spent.setdefault(matmul.part, []).append(np.array([products, empty, cycles - products - empty]) * matmul.count)
    attention, projections = (sum(spent[part]) for part in (Part.ATTENTION, Part.PROJECTION))
    assert (100 * attention / attention.sum()).round().tolist() == shares
    assert round(100 * projections[0] / projections.sum()) == projection
    if (model, array) == ("opt-6.7b", CLOUD_TPU):
        _, empty, fill = attention
        of_scores = spent[Part.ATTENTION][0][2]  # Q·Kᵀ: eight folds of the nine of a head
        assert [round(100 * part / (empty + fill)) for part in (empty, fill, of_scores)] == [18, 82, 73]


@pytest.mark.parametrize("bad", [0, -1, 2.0, 1.5, float("nan"), "3", None, True, np.float64(4)])
@pytest.mark.parametrize("field", ["m", "n", "k"])
def test_bad_dimension_is_named(field, bad):
    with pytest.raises(InputError, match=rf"^{field}: .*whole number"):
        gemm_cost(**({"m": 1, "n": 2, "k": 3} | {field: bad}), array=EDGE_TPU)


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (np.array([1, 0]), r"0 \(element 1\) is not a positive whole number"),
        (np.array([[3, 4], [-2, -7]]), r"-2 \(element 2\) is not a positive whole number"),
        (np.array([1.0, 2.0]), "an array of float64 is not an array of whole numbers; use an integer dtype"),
        (np.array([np.nan], np.float32), "an array of float32 is not an array of whole numbers; use an integer dtype"),
    ],
)
def test_bad_array_is_named(bad, problem):
    with pytest.raises(InputError, match=f"^n: {problem}$"):
        gemm_cost(1, bad, 3, EDGE_TPU)


def test_an_unknown_counting_is_named():
    with pytest.raises(InputError, match=r"^counting: 'true' is unknown; known: reported, corrected"):
        gemm_cost(1, 1, 1, EDGE_TPU, counting="true")


@pytest.mark.parametrize("dataflow", list(Dataflow))
@pytest.mark.parametrize("wrap", [int, np.array, lambda size: np.array([1, size])])
def test_overflow_is_rejected_and_never_wraps(dataflow, wrap):
    array = replace(EDGE_TPU, dataflow=dataflow)
    with pytest.raises(CountOverflowError, match=r"2\*\*63"):
        gemm_cost(wrap(2**32), wrap(2**32), wrap(2**32), array)


def test_large_counts_that_fit_are_exact():
    # The largest of each dimension would overflow together, but they never meet.
    m, n, k = np.array([2**40, 1, 1]), np.array([1, 2**40, 1]), np.array([1, 1, 2**40])
    cost = gemm_cost(m, n, k, CLOUD_TPU)
    assert isinstance(cost, GemmCost)
    for i in range(3):
        assert cost.cycles[i] == gemm_cost(int(m[i]), int(n[i]), int(k[i]), CLOUD_TPU).cycles
    with pytest.raises(CountOverflowError, match=rf"^m: {2**63} does not fit into a signed 64-bit integer"):
        gemm_cost(np.array([2**63], dtype=np.uint64), 1, 1, CLOUD_TPU)


def test_a_number_of_numpy_gives_the_int_that_python_s_gives():
    for number in (np.int64(7), np.array(7)):
        assert type(gemm_cost(number, 8, 9, CLOUD_TPU).cycles) is int
        assert gemm_cost(number, 8, 9, CLOUD_TPU) == gemm_cost(7, 8, 9, CLOUD_TPU)


@pytest.mark.timing
def test_a_million_matmuls_take_at_most_twice_the_bare_formula():
    assert any(million_over_bare()[0][1] < 2 for _ in range(3))


@pytest.mark.parametrize("dataflow", list(Dataflow))
@pytest.mark.parametrize("counting", ["reported", "corrected"])
@pytest.mark.parametrize("field", ["m", "n", "k"])
def test_one_array_among_ints_broadcasts(dataflow, counting, field):
    array, dims = SystolicArray(32, 32, dataflow), {"m": 64, "n": 64, "k": 64}
    sizes = [64, 128]
    together = gemm_cost(**{**dims, field: np.array(sizes)}, array=array, counting=counting)
    for at, size in enumerate(sizes):
        alone = gemm_cost(**{**dims, field: size}, array=array, counting=counting)
        for count in SRAM_COUNTS:
            assert getattr(together, count)[at] == getattr(alone, count)


@pytest.mark.parametrize("size", [2**62, np.array([2**62])])
def test_the_sum_of_accesses_must_fit_too(size):
    with pytest.raises(CountOverflowError, match=r"^memory_accesses"):
        gemm_cost(size, 1, 1, SystolicArray(1, 1, "ws"))


def test_shapes_must_broadcast():
    with pytest.raises(InputError, match=r"\(2,\).*\(3,\)"):
        gemm_cost(np.array([1, 2]), np.array([1, 2, 3]), 1, EDGE_TPU)
    with pytest.raises(InputError, match="array: 'H200' is unknown; known: cloud, edge; a size is ROWSxCOLS, such as"):
        gemm_cost(1, 1, 1, "H200")
    with pytest.raises(InputError, match=r"^array: nothing is listed; give at least one"):
        gemm_cost(1, 1, 1, [])
    assert gemm_cost(1, 5, 7, "cloud") == gemm_cost(1, 5, 7, CLOUD_TPU)


@pytest.mark.parametrize("dataflow", ["ws", "is"])
def test_the_largest_count_there_can_be(dataflow):
    array = SystolicArray(2**62, 1, dataflow)
    cost = gemm_cost(1, 1, np.array([1]), array)
    assert cost.cycles.tolist() == [2**63 - 1] == [gemm_cost(1, 1, 1, array).cycles]
