"""Topology files: compared with SCALE-Sim's own reader; errors name the file, the line and the column."""

import random
from dataclasses import astuple, replace

import pytest

from llmamdahl.errors import InputError, TableError
from llmamdahl.models import get_model
from llmamdahl.scalesim.simulator import to_scalesim_topology
from llmamdahl.scalesim.topology import ConvLayer, GemmLayer, read_topology
from llmamdahl.workload import decode_step


def topology(tmp_path, *lines, header="Layer, ...,", encoding="utf-8"):
    path = tmp_path / "net.csv"
    path.write_text("\n".join([header, *lines]), encoding=encoding)
    return path


def as_scale_sim_reads(path, kind):
    """Sizes, output pixels, filters and window size of each layer, from SCALE-Sim's reader."""
    from scalesim.topology_utils import topologies

    topology = topologies()
    topology.load_arrays(str(path), mnk_inputs=kind == "gemm")
    topology.topo_calc_hyperparams()
    found = []
    for i in range(topology.get_num_layers()):
        pixels = topology.get_layer_num_ofmap_px(i) // topology.get_layer_num_filters(i)
        dims = pixels, topology.get_layer_num_filters(i), topology.get_layer_window_size(i)
        found.append((topology.get_layer_params(i)[:9], *dims))
    return found


def as_we_read(path, kind):
    found = []
    for layer in read_topology(path, kind):
        sizes = [*astuple(layer)] if kind == "conv" else [layer.name, layer.m, layer.k, 1, layer.k, 1, layer.n, 1, 1]
        found.append((sizes, layer.m, layer.n, layer.k))
    return found


@pytest.mark.parametrize(
    "line",
    [
        "conv, 8, 9, 3, 2, 4, 5, 2,",  # one stride for both
        "conv, 8, 9, 3, 2, 4, 5, 2, 3,",
        "conv, 8, 9, 3, 2, 4, 5, 2, 3",  # text after the last comma is not read, so the stride is 2 for both
        "conv, 8, 9, 3, 2, 4, 5, 2, 3, 7, 0, -1,",  # cells after the strides are not used
        "  conv 1 ,+8,1_0,\t3,2 ,4,5,2 , 3,  ",
        "DP_conv, 8, 9, 3, 2, 4, 5, 2,",  # depth-wise: four layers
        ", 8, 8, 8, 8, 1, 1, 9, 9,",
        "half a stride, 8, 8, 1, 1, 1, 1, 5, 3,",
    ],
)
def test_a_convolution_is_read_as_scale_sim_reads_it(tmp_path, line):
    path = topology(tmp_path, "", line, "   ", "last, 5, 5, 2, 2, 1, 1, 1,", "", header="1,1,1,1,1,1,1,1,")
    assert as_we_read(path, "conv") == as_scale_sim_reads(path, "conv")
    assert len(as_we_read(path, "conv")) == (5 if "DP" in line else 2)


@pytest.mark.parametrize("line", ["a, 1, 20, 300,", "a,1,20,300,4:8,text,", " a ,1 , 2_0,+300,,"])
def test_a_gemm_is_read_as_scale_sim_reads_it(tmp_path, line):
    path = topology(tmp_path, line, "DP, 3, 2, 1,")
    assert as_we_read(path, "gemm") == as_scale_sim_reads(path, "gemm")


def test_only_newlines_end_a_line(tmp_path):
    path = tmp_path / "net.csv"
    path.write_bytes("\ufeffLayer,M,N,K,\r\na\u2028b,1,2,3,\r\n\x0c\r\nc,4,5,6,".encode())
    assert as_we_read(path, "gemm") == as_scale_sim_reads(path, "gemm")
    assert [layer.name for layer in read_topology(path, "gemm")] == ["a\u2028b", "c"]


def test_random_convolutions_have_the_same_output_size_as_in_scale_sim(tmp_path):
    rng = random.Random(0)
    lines = []
    for i in range(300):
        h, w = rng.randint(1, 9), rng.randint(1, 9)
        sizes = h + rng.randint(0, 30), w + rng.randint(0, 30), h, w, *rng.choices(range(1, 12), k=4)
        lines.append(", ".join(map(str, (f"L{i}", *sizes))) + ",")
    path = topology(tmp_path, *lines)
    assert as_we_read(path, "conv") == as_scale_sim_reads(path, "conv")


def test_a_topology_that_we_write_is_read_back(tmp_path):
    lines = to_scalesim_topology(decode_step(get_model("gpt2"), 128), tmp_path / "gpt2.csv")
    layers = read_topology(tmp_path / "gpt2.csv", "gemm")
    assert layers == tuple(GemmLayer(line.name, line.m, line.n, line.k) for line in lines)
    with pytest.raises(TableError, match="kind='gemm'"):
        read_topology(tmp_path / "gpt2.csv")


GOOD = "conv, 8, 9, 3, 2, 4, 5, 2, 3,"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("conv, 8, 9, 3, 2, 4, 5,", "Stride height is missing: the line has 7 before its last comma, and a conv"),
        ("conv, 8, 9, 3, 2, 4, 5, 2", r"Stride height is missing.* \('2' after it is not read: end the line with a"),
        ("conv", r"the name is missing: the line has 0 before its last comma \('conv' after it"),
        ("q, 1, 768, 768,", "Filter width is missing: .* read a GEMM topology with kind='gemm'"),
        (",,,,,,,,", "IFMAP height: '' is not a whole number"),
        ("conv, 8, nine, 3, 2, 4, 5, 2,", "IFMAP width: 'nine' is not a whole number"),
        ("conv, 8, 9, 3.0, 2, 4, 5, 2,", "Filter height: '3.0' is not a whole number"),
        ("conv, 8, 9, 3, 0, 4, 5, 2,", "Filter width: 0 is not a positive whole number"),
        ("conv, 8, 9, 3, 2, 4, -5, 2,", "Num filter: -5 is not a positive whole number"),
        ("conv, 8, 9, 3, 2, 4, 5, 0,", "Stride height: 0 is not a positive whole number"),
        ("conv, 8, 9, 3, 2, 4, 5, 2, 0,", "Stride width: 0 is not a positive whole number"),
        ("conv, 8, 9, 3, 2, 4, 5, 2, 3, 1:2,", "column 10: '1:2' is not a whole number"),
        ("conv, 8, 9, 3, 2, 4, 5, " + "2" * 400 + ",", "Stride height: a number of 1327 bits is too large"),
        ("conv, 8, 9, 3, 2, 4, 5, " + "2" * 5000 + ",", "Stride height: '2222"),
        ("conv, 8, 9, 9, 2, 4, 5, 2,", "filter_h: 9 is larger than ifmap_h, 8; SCALE-Sim adds no padding"),
        ("DP, 8, 9, 3, 10, 4, 5, 2,", "filter_w: 10 is larger than ifmap_w, 9"),
    ],
)
def test_an_error_names_the_line_and_column_of_a_convolution(tmp_path, line, problem):
    path = topology(tmp_path, GOOD, "", line, GOOD)
    with pytest.raises(TableError, match=rf"net\.csv, line 4: {problem}") as raised:
        read_topology(path)
    assert (raised.value.path, raised.value.line) == (path, 4)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("q, 1, 2,", "K is missing: the line has 3 before its last comma, and a GEMM has 4"),
        ("q, 1, 2, 3", r"K is missing: .* \('3' after it is not read"),
        ("q, 1, 2, k,", "K: 'k' is not a whole number"),
        ("q, 0, 2, 3,", "M: 0 is not a positive whole number"),
        ("q, 1, x, 3,", "N: 'x' is not a whole number"),
    ],
)
def test_an_error_names_the_line_and_column_of_a_gemm(tmp_path, line, problem):
    with pytest.raises(TableError, match=rf"net\.csv, line 3: {problem}"):
        read_topology(topology(tmp_path, "q, 1, 2, 3,", line), "gemm")


def test_a_file_that_is_not_a_topology_is_rejected(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv: cannot be read \(No such file"):
        read_topology(tmp_path / "none.csv")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory"):
        read_topology(tmp_path)
    with pytest.raises(InputError, match=r"net\.csv: no layer after line 1"):
        read_topology(topology(tmp_path, "", "  ", header=GOOD))
    with pytest.raises(TableError, match=r"net\.csv, line 3: a byte that is not UTF-8"):
        read_topology(topology(tmp_path, GOOD, "\xe9" + GOOD, encoding="latin-1"))
    with pytest.raises(InputError, match="kind: 'mnk' is unknown; known: conv, gemm"):
        read_topology(topology(tmp_path, GOOD), "mnk")


def test_layers_reject_bad_sizes():
    layer = ConvLayer("conv", 8, 9, 3, 2, 4, 5, 2, 3)
    with pytest.raises(InputError, match=r"^channels: 2\.5 is not a positive whole number"):
        replace(layer, channels=2.5)
    with pytest.raises(InputError, match=r"^filter_h: 3 is larger than ifmap_h, 2"):
        replace(layer, ifmap_h=2)
    with pytest.raises(InputError, match=r"^m: True is not a positive whole number"):
        GemmLayer("q", True, 2, 3)
    with pytest.raises(InputError, match=r"^name: 7 is not a str"):
        GemmLayer(7, 1, 2, 3)
