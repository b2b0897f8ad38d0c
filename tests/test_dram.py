"""DRAM counts checked against SCALE-Sim: random MatMuls, many of which just fill a buffer, and the whole store.

`python -m tests.test_dram 2000` simulates 2000 (a few minutes) and prints how many differ. `make test` compares 200
that are recorded, and simulates 20 of them again (`drawn_runs.py`).
"""

import pickle
import random
import sys
from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest

from llmamdahl.dram import dram_counts
from llmamdahl.errors import CountOverflowError, InputError
from llmamdahl.hardware import CLOUD_TPU, EDGE_TPU, Dataflow, SystolicArray
from llmamdahl.scalesim.simulator import DRAM_COUNTS, Run, simulate
from llmamdahl.scalesim.store import read_matmuls, read_runs
from llmamdahl.systolic import SRAM_COUNTS, GemmCost, gemm_cost
from tests.drawn_runs import recorded, simulated

LONGEST = 12_000
"""The largest `Run.weight` of a drawn run: about a tenth of a second."""


def words(sram_kb):
    """The words that a read buffer holds: 50 of its 100 sets."""
    return 50 * (1024 * sram_kb // 100)


def drawn(number, seed=0):
    """Random runs; the first runs of a seed do not depend on `number`.

    In three of every four runs one operand (the ifmap, the filter or some of its blocks, or the results) is within two
    words of filling its buffer once, twice or three times.
    """
    rng = random.Random(seed)
    runs = []
    while len(runs) < number:
        kind = len(runs) % 4
        most = 24 if kind in (0, 3) else 8  # on a small array an operand is read several times
        rows, cols = rng.randint(1, most), rng.choice([1, 2, 4, 8, 16, 32, 64, *rng.choices(range(1, most + 1), k=7)])
        srams = ifmap_kb, filter_kb, ofmap_kb = rng.choices([1, 2, 3, 5, 64], [6, 1, 1, 1, 1], k=3)
        array = SystolicArray(rows, cols, rng.choice(list(Dataflow)), *srams)
        m, n, k = (int(2 ** rng.uniform(0, 7.5)) for _ in range(3))
        times, off = rng.choice([1, 1, 1, 2, 3]), rng.randint(-2, 2)
        if kind == 1:
            (m, k), n = product_of(times * words(ifmap_kb) + off, rng), rng.randint(1, 4 * cols)
        elif kind == 2 and array.dataflow == Dataflow.OS:
            m, k = rng.randint(1, 4 * rows), max(1, words(filter_kb) // (cols * times) + off)
        elif kind == 2:
            (n, k), m = product_of(times * words(filter_kb) + off, rng), rng.randint(1, 4 * cols)
        elif kind == 3:
            m, n = product_of(times * 512 * ofmap_kb + off, rng)
        run = Run(m, n, k, array)
        if run.weight <= LONGEST and (rows, cols, m * n * k) != (1, 1, 1):
            runs.append(run)
    return runs


def product_of(number, rng):
    """Two whole numbers whose product is `number`, in either order."""
    divisor = rng.choice([i for i in range(1, number + 1) if number % i == 0])
    return divisor, number // divisor


def plain(run):
    """The counts if every word were transferred once; results once for each fold along k."""
    k_folds = 1 if run.array.dataflow == Dataflow.OS else -(-run.k // run.array.rows)
    return run.m * run.k, run.k * run.n, k_folds * run.m * run.n


def dram(run, counting="reported"):
    cost = gemm_cost(run.m, run.n, run.k, run.array, counting=counting)
    return tuple(getattr(cost, name) for name in DRAM_COUNTS)


def reported(row):
    return tuple(row[name] for name in DRAM_COUNTS)


def test_200_random_matmuls_equal_scale_sim():
    refetched, runs = Counter(), drawn(200)
    for run, row in zip(runs, recorded(runs), strict=True):
        theirs = reported(row)
        assert dram(run) == theirs, run
        refetched.update(
            name for name, count, once in zip(DRAM_COUNTS, theirs, plain(run), strict=True) if count != once
        )
        refetched["in part"] += plain(run)[1] < theirs[1] < gemm_cost(run.m, run.n, run.k, run.array).filter_sram_reads
        corrected = dram(run, "corrected")
        assert corrected[:2] == theirs[:2] and corrected[2] == plain(run)[2]
    assert all(refetched[name] >= 10 for name in DRAM_COUNTS), refetched  # words fetched again are tested
    assert refetched["in part"] >= 3, refetched


def test_every_stored_run_equals_the_closed_form():
    runs = read_runs()
    assert len(runs) == 678
    for (m, n, k, *sizes), row in runs.items():
        rows, cols, dataflow, *srams = sizes
        assert dram(Run(m, n, k, SystolicArray(rows, cols, dataflow, *srams))) == tuple(row[c] for c in DRAM_COUNTS)


def test_every_matmul_simulated_whole_equals_the_closed_form():
    frame = read_matmuls()
    whole = frame[frame.obtained == "whole"]
    assert len(whole) == frame.ifmap_dram_reads.notna().sum() > 100
    for name, dataflow in whole[["array", "dataflow"]].drop_duplicates().itertuples(index=False):
        rows = whole[(whole.array == name) & (whole.dataflow == dataflow)]
        array = replace({"cloud": CLOUD_TPU, "edge": EDGE_TPU}[name], dataflow=dataflow)
        cost = gemm_cost(rows.m.to_numpy(), rows.n.to_numpy(), rows.k.to_numpy(), array)
        for count in DRAM_COUNTS:
            assert (getattr(cost, count) == rows[count]).all()


def replayed(run):
    """The rules of `dram.py` applied word by word, for sizes that would take SCALE-Sim minutes."""
    m, n, k, array = run.m, run.n, run.k, run.array
    ifmap, filter_ = np.arange(m * k).reshape(m, k), np.arange(k * n).reshape(k, n)
    reads = []
    for operand, sram_kb in ((ifmap, array.ifmap_sram_kb), (filter_, array.filter_sram_kb)):
        fetched, inside = 0, set()
        for part in slices_read(run, operand is ifmap):
            for word in operand[part].ravel().tolist():
                if word not in inside:
                    fetched += 1
                    inside.add(word)
                    if len(inside) == words(sram_kb):
                        inside = set()
        reads.append(fetched)
    half = 512 * array.ofmap_sram_kb
    lines, in_hand, free, written = [], 0, 2 * half, 0

    def drain():
        nonlocal lines, free, written
        out, lines = lines[: -(-half // array.cols)], lines[-(-half // array.cols) :]
        count = (len(out) - 1) * array.cols + out[-1]
        free, written = free + count, written + count

    for _ in range(plain(run)[2]):
        in_hand, free = in_hand + 1, free - 1
        if in_hand == array.cols or free < half:
            lines, in_hand = [*lines, in_hand], 0
        if free < half:
            drain()
    lines += [in_hand] if in_hand else []
    while lines:
        drain()
    return (*reads, written)


def slices_read(run, ifmap):
    """The slices of an operand, in the order in which the folds read them."""
    array = run.array
    along_rows, along_cols, _ = run.spatial
    everything = slice(None)
    for col in range(0, along_cols, array.cols):
        for row in range(0, along_rows, array.rows):
            down, across = slice(row, row + array.rows), slice(col, col + array.cols)
            yield {
                Dataflow.OS: ((down, everything), (everything, across)),
                Dataflow.WS: ((everything, down), (down, across)),
                Dataflow.IS: ((across, down), (down, everything)),
            }[array.dataflow][0 if ifmap else 1]


def test_larger_matmuls_equal_a_replay():
    rng = random.Random(1)
    refetched = 0
    for _ in range(60):
        sizes = rng.randint(8, 64), rng.choice([16, 32, 48, 64, 100])
        srams = (rng.randint(1, 16) for _ in range(3))
        array = SystolicArray(*sizes, rng.choice(list(Dataflow)), *srams)
        run = Run(rng.randint(1, 200), rng.randint(1, 300), rng.randint(1, 300), array)
        assert dram(run) == replayed(run), run
        refetched += dram(run) != plain(run)
    assert refetched > 30


@pytest.mark.parametrize(
    "dataflow, m, n, k, counts",
    [
        # 1 kB buffers hold 500 words to be read, and 512 to be written, on an array of 4 x 4.
        ("os", 4, 9, 124, (4 * 124, 124 * 9, 36)),  # ifmap of 496 words stays for all 3 passes
        ("os", 4, 9, 125, (3 * 4 * 125, 125 * 9, 36)),  # of 500: discarded after each pass
        ("os", 8, 4, 125, (8 * 125, 2 * 125 * 4, 32)),  # filter of 500, for 2 passes
        # three blocks of 4 x 60 = 240 words: the third finds 480 words inside, and its 20th word fills the buffer
        ("os", 8, 12, 60, (8 * 60, 60 * 12 + 20, 96)),
        # a block of 400 words, and a last one of 100 whose last word fills the buffer: the second pass finds it empty
        ("os", 8, 5, 100, (2 * 8 * 100, 400 + 2 * 100, 40)),
        ("ws", 125, 9, 4, (3 * 125 * 4, 4 * 9, 125 * 9 + 3)),  # 1125 results: 3 null addresses in a line of 4
        ("ws", 57, 9, 4, (57 * 4, 4 * 9, 513)),  # 513 results: no drain before the last
        ("is", 9, 125, 4, (9 * 4, 3 * 125 * 4, 9 * 125 + 3)),
        ("is", 8, 32, 8, (8 * 8, 8 * 32, 2 * 8 * 32)),  # 512 results, in two folds along k
    ],
)
def test_counts_by_hand(dataflow, m, n, k, counts):
    run = Run(m, n, k, SystolicArray(4, 4, dataflow, 1, 1, 1))
    assert dram(run) == counts
    reported = simulate(run)
    assert tuple(reported[name] for name in DRAM_COUNTS) == counts


def test_the_simulator_prints_nothing(capsys):
    simulate(Run(2, 3, 4, SystolicArray(4, 4, "os", 1, 1, 1)))
    assert capsys.readouterr() == ("", "")


def test_a_last_block_as_large_as_the_buffer_is_fetched_in_every_pass():
    """Three passes over a block of 750 words and one of 500, which find 250 words of the first inside."""
    run = Run(9, 5, 250, SystolicArray(4, 3, "os", 1, 1, 1))
    assert dram(run) == (2 * 9 * 250, 3 * 750 + 3 * 500, 45)
    reported = simulate(run)
    assert tuple(reported[name] for name in DRAM_COUNTS) == dram(run)


@pytest.mark.parametrize("cols, nulls", [(1, 0), (7, 0), (8, 7), (256, 255), (512, 0), (1024, 0)])
def test_corrected_leaves_out_the_null_addresses(cols, nulls):
    # 2000 results of 1 x 2000, drained by 512 words: nulls where a line divides 512, two lines or more
    array = SystolicArray(1, cols, "ws", 64, 64, 1)
    run = Run(1, 2000, 1, array)
    assert dram(run)[2] == simulate(run)["ofmap_dram_writes"] == 2000 + nulls
    assert dram(run, "corrected") == (*dram(run)[:2], 2000)


@pytest.mark.parametrize("counting", ["reported", "corrected"])
def test_arrays_are_the_ints_elementwise(counting):
    rng = np.random.default_rng(3)
    for dataflow in Dataflow:
        for _ in range(8):
            array = SystolicArray(*rng.integers(1, 40, 2).tolist(), dataflow, *rng.integers(1, 9, 3).tolist())
            m, n, k = rng.integers(1, 200, (3, 6))
            cost = gemm_cost(m, n[:, None], k, array, counting=counting)
            for name in DRAM_COUNTS:
                assert getattr(cost, name).shape == (6, 6)
            for i, j in np.ndindex(6, 6):
                one = dram(Run(m[j], n[i], k[j], array), counting)
                assert tuple(getattr(cost, name)[i, j] for name in DRAM_COUNTS) == one
                assert all(type(count) is int for count in one)


def test_a_list_of_arrays_is_the_last_axis():
    srams = (1, 1, 1), (2, 1, 3), (1, 5, 2)
    arrays = [SystolicArray(4, 4, flow, *sizes) for flow, sizes in zip(Dataflow, srams, strict=True)]
    m, n = np.array([[3], [80]]), np.array([[[9]], [[200]], [[31]], [[70]]])
    cost = gemm_cost(m, n, 60, arrays)
    for name in DRAM_COUNTS:
        found = getattr(cost, name)
        assert found.shape == (4, 2, 3)
        for i, j, k in np.ndindex(found.shape):
            assert found[i, j, k] == getattr(gemm_cost(m[j, 0], n[i, 0, 0], 60, arrays[k]), name)


def test_dram_counts_do_not_change_with_the_caller_s_arrays():
    m = np.array([3, 5])
    cost = gemm_cost(m, 7, 11, EDGE_TPU)
    m += 1000
    assert cost.ifmap_dram_reads.tolist() == [33, 55]
    assert cost.filter_dram_reads.tolist() == [77, 77]
    again = pickle.loads(pickle.dumps(gemm_cost(3, 7, 11, EDGE_TPU)))
    assert again == gemm_cost(3, 7, 11, EDGE_TPU)
    assert again.ofmap_dram_writes == 21
    assert [field.name for field in fields(GemmCost) if field.repr] == [*SRAM_COUNTS]
    assert "dram" not in repr(again)


def test_a_buffer_filled_twice_in_a_cycle_is_rejected():
    run = Run(3, 1000, 4, SystolicArray(2, 1000, "ws", 1, 1, 1))
    with pytest.raises(InputError, match="a buffer is filled twice in one cycle"):
        simulate(run)
    cost = gemm_cost(run.m, run.n, run.k, run.array)
    for name in DRAM_COUNTS:
        with pytest.raises(InputError, match=r"^filter_sram_kb: 1 holds 500 words, fewer than the 1000 .* at least 2$"):
            getattr(cost, name)
    assert dram(replace(run, array=replace(run.array, filter_sram_kb=2))) == (12, 4000, 6000)
    with pytest.raises(InputError, match="ifmap_sram_kb: 1 holds 500 words, fewer than the 501"):
        _ = gemm_cost(np.array([1, 501]), 1, 600, SystolicArray(501, 1, "os", 1, 1, 1)).filter_dram_reads


def test_overflow_is_rejected():
    array = SystolicArray(2**32, 2**34, "is", ofmap_sram_kb=2**26, ifmap_sram_kb=2**26, filter_sram_kb=2**26)
    side = 3_037_000_498  # its square is less than 2**34 below 2**63
    assert dram(Run(side, side, 1, array), "corrected")[2] == side**2
    with pytest.raises(CountOverflowError, match=r"^ofmap_dram_writes"):
        dram(Run(side, side, 1, array))


def test_the_most_words_written_there_can_be():
    array = SystolicArray(8, 8)  # a drain counts the 7 nulls of a line
    assert dram_counts((2**63 - 8, 1, 1), array, null_addresses=True)[2] == 2**63 - 1
    with pytest.raises(CountOverflowError, match=r"^ofmap_dram_writes: above 2\*\*63 - 1"):
        dram_counts((2**63 - 7, 1, 1), array, null_addresses=True)


@pytest.mark.parametrize("dataflow", list(Dataflow))
def test_a_prefill_takes_less_than_a_second(dataflow):
    from compendium.bench import best  # here, because the script needs no compendium

    array = replace(CLOUD_TPU, dataflow=dataflow)
    assert best(lambda: gemm_cost(2048, 4096, 4096, array).filter_dram_reads, 1) < 1


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    table = {dataflow: Counter() for dataflow in Dataflow}
    runs = drawn(number)
    for run, counts in zip(runs, simulated(runs), strict=True):
        theirs, ours, row = reported(counts), dram(run), table[run.array.dataflow]
        row.update(name for name, count, once in zip(DRAM_COUNTS, theirs, plain(run), strict=True) if count != once)
        row["MatMuls"] += 1
        row["differ"] += theirs != ours
        if theirs != ours:
            print(f"{run}: SCALE-Sim {theirs}, closed form {ours}")
    columns = ("MatMuls", "differ", *DRAM_COUNTS)
    print(f"{'':<10}{'':>18}     SCALE-Sim's counts with words transferred again:")
    print(f"{'dataflow':<10}{columns[0]:>9}{columns[1]:>9}" + "".join(f"{name:>20}" for name in columns[2:]))
    for dataflow, row in table.items():
        print(f"{dataflow:<10}{row['MatMuls']:>9}{row['differ']:>9}" + "".join(f"{row[c]:>20}" for c in DRAM_COUNTS))
    sys.exit(any(row["differ"] for row in table.values()))
