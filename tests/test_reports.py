"""SCALE-Sim's reports: those of the topologies it ships, and of random layers simulated on the spot, cell by cell.

`python tests/test_reports.py 500` simulates that many layers (about a minute a thousand) and prints how many differ;
`make test` takes 60.
"""

import random
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from llmamdahl.hardware import Dataflow, SystolicArray
from llmamdahl.scalesim import trace
from llmamdahl.scalesim.reports import COLUMNS, report_rows, write_reports
from llmamdahl.scalesim.topology import CONV_COLUMNS, ConvLayer, GemmLayer, read_topology

DATA = Path(__file__).parent / "data" / "scalesim"
RUNS = sorted(path.relative_to(DATA / "reports") for path in (DATA / "reports").glob("*/*"))
GEMMS = {"NCF", "test_mnk_input", "transformer_partial", "vit_s"}


def kind_of(topology):
    return "gemm" if topology in GEMMS else "conv"


def differences(ours, theirs):
    """Number of cells of the three files in two folders, and those that are not the same text."""
    cells, found = 0, []
    for name, columns in COLUMNS.items():
        lines = [(folder / f"{name}.csv").read_text(encoding="utf-8").split("\n") for folder in (ours, theirs)]
        assert len(lines[0]) == len(lines[1])
        for mine, said in zip(*lines, strict=True):
            pairs = list(zip(mine.split(","), said.split(","), strict=True))
            cells += len(pairs) - 1
            found += [(columns[i], said.split(",")[0], *pair) for i, pair in enumerate(pairs) if len({*pair}) > 1]
    return cells, found


@pytest.mark.parametrize("run", RUNS, ids=str)
def test_topologies_that_scale_sim_ships(run, tmp_path):
    topology, name = run.parts
    layers = read_topology(DATA / "topologies" / f"{topology}.csv", kind_of(topology))
    array = SystolicArray.from_scalesim_cfg(DATA / "configs" / f"{name}.cfg")
    folder = write_reports(layers, array, tmp_path)
    assert folder == tmp_path / name_in(DATA / "configs" / f"{name}.cfg")
    cells, found = differences(folder, DATA / "reports" / run)
    assert not found
    assert cells == (len(layers) + 1) * sum(map(len, COLUMNS.values()))
    for report in COLUMNS:
        assert (folder / f"{report}.csv").read_bytes() == (DATA / "reports" / run / f"{report}.csv").read_bytes()


def name_in(cfg):
    return SystolicArray.from_scalesim_cfg(cfg).name


def test_what_was_simulated_is_worth_comparing():
    dataflows = Counter(array_of(run).dataflow for run in RUNS)
    assert set(dataflows) == set(Dataflow)
    assert len({run.parts[0] for run in RUNS}) >= 10
    again = sticking = 0
    for run in RUNS:
        layers = read_topology(DATA / "topologies" / f"{run.parts[0]}.csv", kind_of(run.parts[0]))
        rows = report_rows(layers, array_of(run))["DETAILED_ACCESS_REPORT"]
        convs = [(layer, row) for layer, row in zip(layers, rows, strict=True) if isinstance(layer, ConvLayer)]
        again += sum(row["DRAM IFMAP Reads"] > trace.distinct_words(layer) for layer, row in convs)
        sticking += sum(trace.sticks_out(layer) for layer, _ in convs)
    assert again > 30 and sticking > 10


def array_of(run):
    return SystolicArray.from_scalesim_cfg(DATA / "configs" / f"{run.parts[1]}.cfg")


def drawn_array(rng):
    """An array with SRAMs so small that operands are fetched again."""
    cols = rng.choice([rng.randint(1, 24), rng.choice([1, 2, 4, 8, 16, 32, 64])])
    if rng.random() < 0.05:
        cols = rng.choice([512, 600])  # half an SRAM of a kB, and more
    srams = rng.choices([1, 2, 3], [6, 1, 1], k=3)
    return SystolicArray(rng.randint(1, 24), cols, rng.choice(list(Dataflow)), *srams, name="drawn")


def drawn_layer(rng, array, kind):
    """A layer that SCALE-Sim takes about a tenth of a second for: of 40, the one nearest to a boundary of a buffer."""
    buffers = {"ifmap": trace.buffer_words(array.ifmap_sram_kb), "ofmap": 512 * array.ofmap_sram_kb}
    boundary = rng.choice(["ifmap", "ofmap", None])

    def distance(layer):
        if boundary is None:
            return 0
        words = layer.m * layer.n
        if boundary == "ifmap":
            words = trace.distinct_words(layer) if kind == "conv" else layer.m * layer.k
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
        if layer.m * layer.n * layer.k * (1 / array.rows + 1 / array.cols) + layer.k * layer.m < 50_000:
            layers.append(layer)
    return min(layers, key=distance)


def topology_text(layers):
    """A topology; a single stride column where that says the same."""
    lines = ["Layer, ..."]
    for layer in layers:
        sizes = [getattr(layer, name) for name in CONV_COLUMNS] if isinstance(layer, ConvLayer) else None
        if sizes and sizes[6] == sizes[7]:
            sizes.pop()
        lines.append(", ".join(map(str, [layer.name, *(sizes or (layer.m, layer.n, layer.k))])) + ",")
    return "\n".join(lines) + "\n"


def compared(number, seed=0, batch=10):
    """Random layers, ten on one array, given to SCALE-Sim as files: array, layers, cells compared, differences."""
    from scalesim.scale_sim import scalesim

    rng = random.Random(seed)
    for start in range(0, number, batch):
        array, kind = drawn_array(rng), "gemm" if start % (4 * batch) == 3 * batch else "conv"
        layers = [drawn_layer(rng, array, kind) for _ in range(min(batch, number - start))]
        with TemporaryDirectory() as name:
            folder = Path(name)
            array.to_scalesim_cfg(folder / "drawn.cfg")
            (folder / "drawn.csv").write_text(topology_text(layers), encoding="utf-8")
            assert read_topology(folder / "drawn.csv", kind) == tuple(layers)
            files = {"config": str(folder / "drawn.cfg"), "topology": str(folder / "drawn.csv")}
            theirs = scalesim(save_disk_space=True, verbose=False, input_type_gemm=kind == "gemm", **files)
            theirs.run_scale(top_path=str(folder / "theirs"))
            ours = write_reports(layers, array, folder / "ours")
            yield array, layers, *differences(ours, folder / "theirs" / "drawn")


def beyond(layer, array):
    """Which of the harder rules a layer meets."""
    row = report_rows([layer], array)["DETAILED_ACCESS_REPORT"][0]
    conv = isinstance(layer, ConvLayer)
    words = trace.distinct_words(layer) if conv else layer.m * layer.k
    return Counter(
        {
            "ifmap again": row["DRAM IFMAP Reads"] > words,
            "windows share words": conv and not trace.asked_once(layer) and not trace.sticks_out(layer),
            "windows stick out": conv and trace.sticks_out(layer),
            "filter again": row["DRAM Filter Reads"] > layer.k * layer.n,
            "ofmap drained": row["DRAM OFMAP Start Cycle"] < trace.folds(layer, array).last_cycle,
        }
    )


def test_60_random_layers():
    met = Counter()
    for array, layers, cells, found in compared(60):
        assert not found, (array, layers)
        assert cells == (len(layers) + 1) * sum(map(len, COLUMNS.values()))
        for layer in layers:
            met += beyond(layer, array)
    assert len(met) == 5 and min(met.values()) >= 5, met  # or the sample would show nothing


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    table = {dataflow: Counter() for dataflow in Dataflow}
    for array, layers, cells, found in compared(number, seed):
        row = table[Dataflow(array.dataflow)]
        row.update({"layers": len(layers), "cells": cells, "differ": len(found)})
        for layer in layers:
            row.update(beyond(layer, array))
        if found:
            print(f"{array}: {[(layers[int(i)], *rest) for i, *rest in found if i.isdigit()]}")
    columns = ["layers", "cells", "differ", *(name for name in max(table.values(), key=len) if " " in name)]
    print(" " * 10 + "".join(f"{name:>{len(name) + 3}}" for name in columns))
    for dataflow, row in table.items():
        print(f"{dataflow:<10}" + "".join(f"{row[name]:>{len(name) + 3}}" for name in columns))
    sys.exit(any(row["differ"] for row in table.values()))
