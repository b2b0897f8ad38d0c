"""Reports compared cell by cell with SCALE-Sim's own, of topologies it ships and of random layers simulated here.

`python -m tests.test_reports 500` simulates 500 random layers (a minute for a thousand) and prints how many cells
differ. `make test` compares 40 that are recorded and simulates 8 others; `python -m tests.test_reports record` records.
"""

import random
import sys
from collections import Counter
from dataclasses import replace
from itertools import product
from math import fsum, isclose
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from llmamdahl.dram import buffer_words
from llmamdahl.errors import CountOverflowError, InputError
from llmamdahl.hardware import CLOUD_TPU, Dataflow, SystolicArray
from llmamdahl.scalesim import reports, trace, windows
from llmamdahl.scalesim.reports import COLUMNS, report_rows, write_reports
from llmamdahl.scalesim.simulator import Run
from llmamdahl.scalesim.topology import CONV_COLUMNS, ConvLayer, GemmLayer, read_topology

DATA = Path(__file__).parent / "data" / "scalesim"
RUNS = sorted(path.relative_to(DATA / "reports") for path in (DATA / "reports").glob("*/*"))
GEMMS = {"NCF", "test_mnk_input", "transformer_partial", "vit_s"}


def kind_of(topology):
    return "gemm" if topology in GEMMS else "conv"


def differences(ours, theirs):
    """The number of cells in the three files of a folder, and the cells whose text differs between two folders."""
    cells, found = 0, []
    for name, columns in COLUMNS.items():
        lines = [(folder / f"{name}.csv").read_text(encoding="utf-8").split("\n") for folder in (ours, theirs)]
        assert len(lines[0]) == len(lines[1])
        for mine, expected in zip(*lines, strict=True):
            pairs = list(zip(mine.split(","), expected.split(","), strict=True))
            cells += len(pairs) - 1
            found += [(columns[i], expected.split(",")[0], *pair) for i, pair in enumerate(pairs) if len({*pair}) > 1]
    return cells, found


@pytest.mark.parametrize("run", RUNS, ids=str)
def test_topologies_shipped_with_scale_sim(run, tmp_path):
    topology, name = run.parts
    layers = read_topology(DATA / "topologies" / f"{topology}.csv", kind_of(topology))
    array = SystolicArray.from_scalesim_cfg(DATA / "configs" / f"{name}.cfg")
    folder = write_reports(layers, array, tmp_path)
    assert folder == tmp_path / name_in(DATA / "configs" / f"{name}.cfg")
    cells, found = differences(folder, DATA / "reports" / run)
    assert cells == (len(layers) + 1) * sum(map(len, COLUMNS.values()))
    if sys.version_info >= (3, 12):
        assert only_last_digits(found)
        return
    assert not found
    for report in COLUMNS:
        assert (folder / f"{report}.csv").read_bytes() == (DATA / "reports" / run / f"{report}.csv").read_bytes()


def only_last_digits(found):
    """Whether only averages over folds differ, and only in digits that depend on the version of Python's `sum`."""
    averages = {"Mapping Efficiency %", "Compute Util %"}
    return all(column in averages and isclose(float(a), float(b), rel_tol=1e-13) for column, _, a, b in found)


def test_another_summation_changes_only_the_last_digits_of_averages(tmp_path, monkeypatch):
    monkeypatch.setattr(reports, "sum", fsum, raising=False)  # Python 3.12's sum is about as exact
    differ = 0
    for run in RUNS:
        layers = read_topology(DATA / "topologies" / f"{run.parts[0]}.csv", kind_of(run.parts[0]))
        if len(layers) < 10:
            folder = write_reports(layers, array_of(run), tmp_path / run.parts[0])
            _, found = differences(folder, DATA / "reports" / run)
            assert only_last_digits(found)
            differ += len(found)
    assert differ > 5


def name_in(cfg):
    return SystolicArray.from_scalesim_cfg(cfg).name


def test_the_stored_reports_cover_every_dataflow_refetches_and_edges():
    dataflows = Counter(array_of(run).dataflow for run in RUNS)
    assert set(dataflows) == set(Dataflow)
    assert len({run.parts[0] for run in RUNS}) >= 10
    refetched = at_edge = 0
    for run in RUNS:
        layers = read_topology(DATA / "topologies" / f"{run.parts[0]}.csv", kind_of(run.parts[0]))
        lines = (DATA / "reports" / run / "DETAILED_ACCESS_REPORT.csv").read_text(encoding="utf-8").splitlines()[1:]
        reads = [int(line.split(",")[COLUMNS["DETAILED_ACCESS_REPORT"].index("DRAM IFMAP Reads")]) for line in lines]
        convs = [pair for pair in zip(layers, reads, strict=True) if isinstance(pair[0], ConvLayer)]
        refetched += sum(words > windows.distinct_words(layer) for layer, words in convs)
        at_edge += sum(windows.past_edge(layer) for layer, _ in convs)
    assert refetched > 30 and at_edge > 10


def array_of(run):
    return SystolicArray.from_scalesim_cfg(DATA / "configs" / f"{run.parts[1]}.cfg")


def drawn_array(rng):
    """A random array whose SRAMs are so small that operands are fetched more than once."""
    cols = rng.choice([rng.randint(1, 24), rng.choice([1, 2, 4, 8, 16, 32, 64])])
    if rng.random() < 0.05:
        cols = rng.choice([512, 600])  # half an SRAM of 1 kB, and more than half
    srams = rng.choices([1, 2, 3], [6, 1, 1], k=3)
    return SystolicArray(rng.randint(1, 24), cols, rng.choice(list(Dataflow)), *srams, name="drawn")


def drawn_layer(rng, array, kind):
    """Of 40 random layers of at most a tenth of a second in SCALE-Sim, the nearest to a boundary of a buffer."""
    buffers = {"ifmap": buffer_words(array.ifmap_sram_kb), "ofmap": 512 * array.ofmap_sram_kb}
    boundary = rng.choice(["ifmap", "ofmap", None])

    def distance(layer):
        if boundary is None:
            return 0
        words = layer.m * layer.n
        if boundary == "ifmap":
            words = windows.distinct_words(layer) if kind == "conv" else layer.m * layer.k
        over = words % buffers[boundary]
        return min(over, buffers[boundary] - over) + (1000 if words < buffers[boundary] - 2 else 0)

    layers = []
    while len(layers) < 40:
        if kind == "gemm":
            layer = GemmLayer("x", *(int(2 ** rng.uniform(0, 7.5)) for _ in range(3)))
        else:
            (h, w), (s, t) = rng.choices(range(1, 6), k=2), rng.choices(range(1, 5), k=2)
            sizes = h + rng.randint(0, 16), w + rng.randint(0, 16), h, w, rng.choice([1, 2, 3, 8]), rng.randint(1, 40)
            layer = ConvLayer("x", *sizes, s, t)
        if layer.m * layer.n * layer.k * (1 / array.rows + 1 / array.cols) + layer.k * layer.m < 15_000:
            layers.append(layer)
    return min(layers, key=distance)


def topology_text(layers):
    """The text of a topology file; a layer with equal strides has a single stride column."""
    lines = ["Layer, ..."]
    for layer in layers:
        sizes = [getattr(layer, name) for name in CONV_COLUMNS] if isinstance(layer, ConvLayer) else None
        if sizes and sizes[6] == sizes[7]:
            sizes.pop()
        lines.append(", ".join(map(str, [layer.name, *(sizes or (layer.m, layer.n, layer.k))])) + ",")
    return "\n".join(lines) + "\n"


def drawn(number, seed=0, batch=10):
    """Yield an array and, for it, as many random layers as `batch` says."""
    rng = random.Random(seed)
    for start in range(0, number, batch):
        array, kind = drawn_array(rng), "gemm" if start % (4 * batch) == 3 * batch else "conv"
        yield array, [drawn_layer(rng, array, kind) for _ in range(min(batch, number - start))]


def compared(cases):
    """For each array and its layers: both, the number of cells compared, and the differences."""
    for array, layers in cases:
        with TemporaryDirectory() as name:
            ours = write_reports(layers, array, Path(name) / "ours")
            yield array, layers, *differences(ours, simulated(layers, array, Path(name)))


def hard_cases(layer, array):
    """The harder rules that apply to a layer."""
    row = report_rows([layer], array)["DETAILED_ACCESS_REPORT"][0]
    conv = isinstance(layer, ConvLayer)
    words = windows.distinct_words(layer) if conv else layer.m * layer.k
    last_cycle = trace.fold_grid(Run(layer.m, layer.n, layer.k, array)).last_cycle
    return Counter(
        {
            "ifmap refetched": row["DRAM IFMAP Reads"] > words,
            "windows overlap": conv and not windows.requested_once(layer) and not windows.past_edge(layer),
            "windows past the edge": conv and windows.past_edge(layer),
            "filter refetched": row["DRAM Filter Reads"] > layer.k * layer.n,
            "ofmap drained": row["DRAM OFMAP Start Cycle"] < last_cycle,
        }
    )


def test_40_random_layers(tmp_path):
    covered = Counter()
    for (array, layers), theirs in zip(drawn(40), sorted((DATA / "drawn").iterdir()), strict=True):
        cells, found = differences(write_reports(layers, array, tmp_path / theirs.name), theirs)
        assert only_last_digits(found) if sys.version_info >= (3, 12) else not found, (array, layers)
        assert cells == (len(layers) + 1) * sum(map(len, COLUMNS.values()))
        for layer in layers:
            covered += hard_cases(layer, array)
    assert len(covered) == 5 and min(covered.values()) >= 3, covered


def test_8_random_layers_simulated_now():
    for array, layers, _, found in compared(drawn(8, seed=1, batch=2)):
        assert not found, (array, layers)


def replayed(accesses, passes, buffer):
    """Fetches by a buffer that is emptied when it is full, access by access, and the access of the last fill."""
    inside, fetches, filled = set(), 0, None
    for number, word in enumerate(accesses * passes):
        if word not in inside:
            inside.add(word)
            fetches += 1
            if len(inside) == buffer:
                inside, filled = set(), number
    return fetches, filled


@pytest.mark.parametrize("seed", range(20))
def test_many_passes_are_replayed_as_one_by_one(seed):
    """Fills repeat after some passes; what is skipped has to be counted."""
    rng = random.Random(seed)
    words = rng.randint(2, 9)
    accesses = [*range(words), *rng.choices(range(words), k=rng.randint(0, 9))]
    rng.shuffle(accesses)
    before = windows.previous_accesses([np.array(accesses)], size=words)
    for buffer in range(1, words + 1):
        for passes in (1, 7, 60):
            assert windows.replay(before, passes, buffer) == replayed(accesses, passes, buffer)


def detail(layer, array):
    """For each operand: start cycle, stop cycle and words of its SRAM, then of the DRAM."""
    row = list(report_rows([layer], array)["DETAILED_ACCESS_REPORT"][0].values())[1:]
    return {name: [*row[3 * i : 3 * i + 3], *row[9 + 3 * i : 12 + 3 * i]] for i, name in enumerate(OPERANDS)}


OPERANDS = ("ifmap", "filter", "ofmap")


@pytest.mark.parametrize(
    ("layer", "array", "ifmap"),
    [
        # 599 windows of 2 words, in 2 cycles each, over an ifmap of 600 words. The second word of window 498 is the
        # 500th distinct word and fills the buffer. Window 499 starts with a word fetched before, so the reads are
        # 500 + 101. The first 50 sets of 10 words arrive at 10 words a cycle, up to cycle 0.
        (ConvLayer("x", 1, 600, 1, 2, 1, 1, 1, 1), (1, 1, "os"), [1, 1198, 1198, -50, 2 * 498 + 1 + 1, 601]),
        # A second filter makes a second pass. It starts with 101 words in the buffer; words 0 to 398 fill it, in the
        # second cycle of window 599 + 397. Words 398 to 599 are fetched after that: 500 + 500 + 202.
        (ConvLayer("x", 1, 600, 1, 2, 1, 2, 1, 1), (1, 1, "os"), [1, 2396, 2396, -50, 2 * (599 + 397) + 2, 1202]),
        # An ifmap of 500 words fills the buffer with its last word, in the second cycle of window 498.
        (ConvLayer("x", 1, 500, 1, 2, 1, 1, 1, 1), (1, 1, "os"), [1, 998, 998, -50, 2 * 498 + 1 + 1, 500]),
        # Rows 0, 2 and 4 of an ifmap of 4 rows: SCALE-Sim computes ceil((4 - 1 + 2) / 2) = 3 output rows. Row 4 counts
        # as an SRAM read but has no address. The other two words need one set of 10 words, one cycle of DRAM.
        (ConvLayer("x", 4, 1, 1, 1, 1, 1, 2, 1), (1, 1, "os"), [1, 2, 3, -1, -1, 2]),
        # The same layer on 4 x 2, weight stationary: the filter loads in 4 cycles, and the ifmap streams from cycle 4.
        (ConvLayer("x", 4, 1, 1, 1, 1, 1, 2, 1), (4, 2, "ws"), [5, 6, 3, -1, -1, 2]),
        # Input stationary: two output pixels fill 2 columns, and the third has a fold of its own without any address.
        (ConvLayer("x", 4, 1, 1, 1, 1, 1, 2, 1), (4, 2, "is"), [4, 4, 3, -1, -1, 2]),
        # Windows of 2 x 2 x 2 words on 3 x 5, 3 rows and 2 columns apart. The last one in the ifmap has one of two
        # columns inside: of its second fold, words 3 to 5, word 3 is past the edge, and 4, loaded after 5, is last.
        (ConvLayer("x", 3, 5, 2, 2, 2, 1, 3, 2), (3, 2, "is"), [1, 30, 48, -2, -1, 20]),
    ],
)
def test_ifmap_by_hand(layer, array, ifmap, tmp_path):
    array = SystolicArray(*array, 1, 1, 1, name="hand")
    assert detail(layer, array)["ifmap"] == ifmap
    assert not differences(write_reports([layer], array, tmp_path / "ours"), simulated([layer], array, tmp_path))[1]


@pytest.mark.parametrize(
    ("cols", "results", "start", "stop"),
    [
        # One result a cycle from cycle 1 on, because k = 1 and n = 1. Half the SRAM is 512 words.
        (1, 512, 512, 512 + 511),  # no drain: 512 lines are left after the last cycle
        (1, 513, 513, 513),  # result 513 starts a drain, which leaves one line
        (1, 1025, 513, 1025),
        (1, 1026, 513, 1026 + 1),  # result 1025 starts a second drain, which leaves one line; result 1026 adds another
    ],
)
def test_results_by_hand(cols, results, start, stop, tmp_path):
    array = SystolicArray(1, cols, "ws", 9, 9, 1, name="hand")
    layer = GemmLayer("x", results, 1, 1)
    assert detail(layer, array)["ofmap"] == [1, results, results, start, stop, results]
    assert not differences(write_reports([layer], array, tmp_path / "ours"), simulated([layer], array, tmp_path))[1]


@pytest.mark.parametrize("cols", [2, 7, 256, 512, 513, 600])
def test_results_near_every_drain(cols, tmp_path):
    array = SystolicArray(2, cols, "ws", 99, 99, 1, name="edges")
    layers = []
    for results in (512, 513, 514, 1024, 1025, 1026, 1027, 1538, 1539):
        n = max(i for i in range(1, cols + 1) if results % i == 0)
        layers.append(GemmLayer("x", results // n, n, 1))
    assert not differences(write_reports(layers, array, tmp_path / "ours"), simulated(layers, array, tmp_path))[1]


def simulated(layers, array, folder):
    """The folder of the reports that SCALE-Sim writes for these layers."""
    from scalesim.scale_sim import scalesim

    kind = "conv" if isinstance(layers[0], ConvLayer) else "gemm"
    array.to_scalesim_cfg(folder / "array.cfg")
    (folder / "net.csv").write_text(topology_text(layers), encoding="utf-8")
    assert read_topology(folder / "net.csv", kind) == tuple(layers)
    files = {"config": str(folder / "array.cfg"), "topology": str(folder / "net.csv")}
    whole = scalesim(save_disk_space=True, verbose=False, input_type_gemm=kind == "gemm", **files)
    whole.run_scale(top_path=str(folder / "theirs"))
    return folder / "theirs" / array.run_name


def test_a_layer_without_a_report_is_rejected(tmp_path):
    one = SystolicArray(1, 1, "os", 1, 1, 1)
    with pytest.raises(InputError, match=r"^layer 1 \(y\): takes a single cycle; SCALE-Sim reports it as 0"):
        report_rows([GemmLayer("x", 1, 1, 2), GemmLayer("y", 1, 1, 1)], one)
    wide, layer = SystolicArray(2, 1000, "ws", 1, 1, 1), GemmLayer("x", 3, 1000, 4)
    with pytest.raises(InputError, match=r"^layer 0 \(x\): filter_sram_kb: 1 holds 500 words, fewer than the 1000"):
        report_rows([layer], wide)
    with pytest.raises(ZeroDivisionError):
        simulated([layer], wide, tmp_path)
    with pytest.raises(CountOverflowError, match=r"^layer 0 \(x\): cycles"):
        report_rows([GemmLayer("x", 2**40, 2**40, 1)], one)


def test_an_array_too_large_for_windows_past_the_edge_is_rejected():
    past = ConvLayer("x", 4, 1, 1, 1, 1, 1, 2, 1)
    with pytest.raises(InputError, match=r"^layer 0 \(x\): rows, cols: 1 x 536870913 is .* at most 536870912 of each"):
        report_rows([past], SystolicArray(1, 2**29 + 1, "ws"))


def test_an_ifmap_too_large_to_replay_is_rejected():
    layer = ConvLayer("Conv1b", 2046, 2046, 3, 3, 64, 64, 1, 1)  # from UNet_2d
    array = SystolicArray(128, 128, "ws", 1024, 1024, 1024)
    with pytest.raises(
        InputError, match=r"^layer 0 \(Conv1b\): overlapping windows of .*; with ifmap_sram_kb >= (\d+) the"
    ) as raised:
        report_rows([layer], array)
    enough = int(raised.value.args[0].split(">= ")[1].split()[0])
    assert detail(layer, replace(array, ifmap_sram_kb=enough))["ifmap"][-1] == 2046 * 2046 * 64
    with pytest.raises(InputError, match=f">= {enough}"):
        report_rows([layer], replace(array, ifmap_sram_kb=enough - 1))


def test_bad_arguments(tmp_path):
    layer = GemmLayer("x", 1, 2, 3)
    with pytest.raises(InputError, match=r"^layers: nothing is listed"):
        report_rows([], CLOUD_TPU)
    with pytest.raises(InputError, match=r"^layers: .* is not a ConvLayer or a GemmLayer"):
        report_rows([(1, 2, 3)], CLOUD_TPU)
    with pytest.raises(InputError, match=r"^array: .* is not a SystolicArray"):
        report_rows([layer], "cloud")
    with pytest.raises(InputError, match=r"^name: 'a/b' cannot name SCALE-Sim's folder"):
        write_reports([layer], replace(CLOUD_TPU, name="a/b"), tmp_path)
    assert not [*tmp_path.iterdir()]
    assert write_reports([layer], SystolicArray(3, 4), tmp_path / "new").name == "3x4"


def test_windows_overlap_along_either_side():
    """Two windows of 3 x 3, one word apart, below or beside each other; and at a distance."""
    for height, width in ((4, 3), (3, 4)):
        assert not windows.requested_once(ConvLayer("x", height, width, 3, 3, 1, 1, 1, 1))
    assert windows.requested_once(ConvLayer("x", 6, 6, 3, 3, 1, 1, 3, 3))
    assert windows.requested_once(ConvLayer("x", 3, 3, 3, 3, 1, 1, 1, 1))


def test_the_last_word_of_a_window_inside_the_ifmap():
    """By looking at each word; windows can begin past the ifmap where a stride is larger than the filter."""
    rng, outside = random.Random(3), 0
    for _ in range(200):
        sizes = [rng.randint(4, 7), rng.randint(4, 7), *(rng.randint(1, 3) for _ in range(4))]
        layer = ConvLayer("x", *sizes, rng.randint(1, 5), rng.randint(1, 5))
        expected = {}
        for pixel in range(layer.m):
            row, col = pixel // layer.ofmap_w * layer.stride_h, pixel % layer.ofmap_w * layer.stride_w
            words = [
                (down * layer.filter_w + right) * layer.channels + channel
                for down, right, channel in product(*map(range, (layer.filter_h, layer.filter_w, layer.channels)))
                if row + down < layer.ifmap_h and col + right < layer.ifmap_w
            ]
            outside += not words
            expected |= {pixel: max(words)} if words else {}
        pixels, last_words = windows._last_words(layer, 0, layer.m)
        assert dict(zip(pixels.tolist(), last_words.tolist(), strict=True)) == expected
    assert outside > 20


def test_more_folds_than_can_be_added_up_are_rejected():
    with pytest.raises(InputError, match=r"^layer 0 \(x\): 67108865 folds; .*, for at most 67108864$"):
        report_rows([GemmLayer("x", 5, 13421773, 2)], SystolicArray(1, 1))


def test_as_many_folds_as_the_limit_are_added_up(monkeypatch):
    monkeypatch.setattr(reports, "MAX_FOLDS", 6)
    assert report_rows([GemmLayer("x", 2, 3, 4)], SystolicArray(1, 1))
    with pytest.raises(InputError, match="7 folds"):
        report_rows([GemmLayer("x", 1, 7, 4)], SystolicArray(1, 1))


def test_a_layer_may_come_twice():
    layer, other = GemmLayer("x", 4, 5, 6), GemmLayer("y", 7, 8, 9)
    first, _, again = report_rows([layer, other, replace(layer, name="z")], CLOUD_TPU)["COMPUTE_REPORT"]
    assert report_rows([layer, layer], CLOUD_TPU)["COMPUTE_REPORT"][1]["Total Cycles"] == first["Total Cycles"]
    assert {**first, "LayerID": 2} == again


def test_reports_do_not_depend_on_the_size_of_chunks(monkeypatch):
    rng = random.Random(5)
    arrays = [drawn_array(rng) for _ in range(60)]
    layers = [drawn_layer(rng, array, "conv") for array in arrays]
    whole = [report_rows([layer], array) for layer, array in zip(layers, arrays, strict=True)]
    monkeypatch.setattr(windows, "CHUNK", 50)
    assert [report_rows([layer], array) for layer, array in zip(layers, arrays, strict=True)] == whole


@pytest.mark.timing
def test_a_resnet_takes_less_than_ten_seconds():
    from compendium.bench import best  # here, because the script needs no compendium

    layers = read_topology(DATA / "topologies" / "Resnet18.csv")
    assert best(lambda: report_rows(layers, SystolicArray(32, 32, "os", 36, 36, 36)), 1) < 10


if __name__ == "__main__":
    if sys.argv[1:] == ["record"]:
        for index, (array, layers) in enumerate(drawn(40)):
            with TemporaryDirectory() as name:
                theirs = simulated(layers, array, Path(name))
                for report in COLUMNS:
                    place = DATA / "drawn" / str(index) / f"{report}.csv"
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes((theirs / place.name).read_bytes())
        sys.exit()
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    table = {dataflow: Counter() for dataflow in Dataflow}
    for array, layers, cells, found in compared(drawn(number, seed)):
        row = table[Dataflow(array.dataflow)]
        row.update({"layers": len(layers), "cells": cells, "differ": len(found)})
        for layer in layers:
            row.update(hard_cases(layer, array))
        if found:
            print(f"{array}: {[(layers[int(i)], *rest) for i, *rest in found if i.isdigit()]}")
    columns = ["layers", "cells", "differ", *(name for name in max(table.values(), key=len) if " " in name)]
    print(" " * 10 + "".join(f"{name:>{len(name) + 3}}" for name in columns))
    for dataflow, row in table.items():
        print(f"{dataflow:<10}" + "".join(f"{row[name]:>{len(name) + 3}}" for name in columns))
    sys.exit(any(row["differ"] for row in table.values()))
