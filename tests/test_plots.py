"""Figures: the file and the numbers behind it, cells labelled as printed, panels for any number of context lengths."""

import html
import re
from dataclasses import replace
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text

from llmamdahl import analysis, plots
from llmamdahl.analysis import crossovers, curves, sweep
from llmamdahl.design import bits
from llmamdahl.design.figures import (
    age_scatter,
    crossover_dots,
    fraction_by_size_lines,
    gain_maps,
    overtaken_lines,
    year_scatter,
    zoo_dots,
)
from llmamdahl.design.kinds import KINDS, described, kind
from llmamdahl.design.shapes import fraction_by_array_size
from llmamdahl.device import kernels, recorded
from llmamdahl.errors import InputError
from llmamdahl.hardware import CLOUD_TPU, EDGE_TPU
from llmamdahl.models import CONTEXT_LENGTHS, get_model, model_names
from llmamdahl.paper import accelerators, checks, figures, speedups
from llmamdahl.paper.checks import agreement
from llmamdahl.paper.miscounts import correction_shift, dataflow_cycles
from llmamdahl.paper.published import as_printed
from llmamdahl.roofline import Precision
from llmamdahl.tables import ROOT

OPT = model_names("opt")


FRACTION = "F = projection /\n(projection + attention)"


def texts(axis):
    return [text.get_text() for text in axis.texts]


PARTS = {"projection": [3.0, 4.0], "attention": [1.0, 1.0]}
BOTH, ALL = "projection + attention", "projection + attention + unquantized"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (PARTS, BOTH),
        (PARTS | {"unquantized": [0.0, 2.0]}, ALL),
        (PARTS | {"other": [0.5, 2.0]}, "projection + attention + other"),
        ({f"{part}_us": times for part, times in PARTS.items()}, BOTH),
        (PARTS | {"whole": ["the decoder block"] * 2}, "the decoder block"),
    ],
)
def test_the_whole_is_read_from_the_frame(columns, expected):
    assert plots.whole(pd.DataFrame(columns)) == expected


def test_measured_and_simulated_rows_may_have_one_whole():
    simulated = pd.DataFrame(PARTS)
    assert plots.whole(pd.concat([simulated, simulated.add_suffix("_us")])) == BOTH


@pytest.mark.parametrize(
    "columns",
    [{}, {"fraction": [0.5]}, {"projection": [3]}, {"attention": [3], "unquantized": [1]}, {"whole": ["", ""]},
     {"whole": [BOTH, None]}, PARTS | {"attention": [1.0, None]}],
)  # fmt: skip
def test_a_frame_that_names_no_whole_is_rejected(columns):
    with pytest.raises(InputError, match="frame: it does not name the whole that F is a share of; add a column"):
        plots.whole(pd.DataFrame(columns))


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"whole": [BOTH, ALL]}),
        pd.concat([pd.DataFrame(PARTS), pd.DataFrame(PARTS | {"unquantized": [1, 2]})]),
    ],
)
def test_a_frame_of_several_wholes_is_rejected(frame):
    with pytest.raises(InputError, match=r"2 wholes \(projection \+ attention; .* unquantized\); select one"):
        plots.whole(frame)


def test_every_axis_of_f_names_the_whole():
    frame = sweep(["gpt2", "opt-350m"], [128, 256], [EDGE_TPU])
    cycles = frame[frame.metric == "cycles"]
    assert plots.heat_maps(frame, "").axes[-1].get_ylabel() == FRACTION
    assert plots.fraction_lines(cycles.assign(source="edge"), "").axes[0].get_ylabel() == FRACTION
    read = cycles.assign(reading="the paper's")
    zoo = described(sweep(["opt-125m", "gemma-2b"], [128], [EDGE_TPU]).query("metric == 'cycles'"))
    assert [axis.get_xlabel() for axis in zoo_dots(zoo.assign(reading="the paper's"), "").axes] == [FRACTION] * 2
    assert plots.fraction_by_reading(read, "").get_supylabel() == FRACTION.replace("\n", " ")
    by_size = fraction_by_array_size("gpt2", 128, [8, 16])
    assert fraction_by_size_lines(by_size, "").axes[0].get_ylabel() == FRACTION
    shift = correction_shift(["gpt2"], [128, 256], [EDGE_TPU])
    assert figures.shift_maps(shift, "").axes[-1].get_ylabel() == f"corrected F - reported F,\n{FRACTION}"
    timed = recorded.fractions(recorded.read()).query("dtype == 'bfloat16' and launch == 'eager' and batch == 1")
    assert figures.latency_maps(timed, "").axes[-1].get_ylabel() == FRACTION
    head = sweep(["gpt2", "opt-350m"], [128, 256], [EDGE_TPU], unquantized=True)
    with_head = plots.heat_maps(head, "").axes[-1].get_ylabel()
    assert with_head == "F = projection /\n(projection + attention + unquantized)"


def test_fractions_without_a_whole_are_not_drawn():
    frame = sweep(["gpt2"], [128, 256], [EDGE_TPU]).query("metric == 'cycles'").drop(columns="attention")
    frame = frame.assign(reading="the paper's", kind="multi-head", max_position=1024)
    for draw in (plots.heat_maps, zoo_dots, plots.fraction_by_reading):
        with pytest.raises(InputError, match="frame: it does not name the whole"):
            draw(frame, "")


def test_heat_map_cells_are_figure_6_as_printed():
    figure = plots.heat_maps(sweep(OPT, CONTEXT_LENGTHS, [EDGE_TPU]), "Figure 6", as_printed)
    printed = agreement("Figure 6").query("kind == 'cell'").printed.tolist()
    assert texts(figure.axes[0]) + texts(figure.axes[1]) == printed
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert (labels[0], labels[-1]) == ("1024\nOPT\n350M", "9216\nOPT\n66B")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(map(str, CONTEXT_LENGTHS))


def test_shift_map_shows_the_shift_and_says_what_is_too_small_to_draw():
    shift = correction_shift(["opt-350m"], [2048], [CLOUD_TPU])
    figure = figures.shift_maps(shift, "shift")
    assert texts(figure.axes[0]) == [f"{shift['shift'][0]:+.3f}"] == ["-0.035"]
    assert len(figure.axes) == 2  # the map and its colour bar
    assert figure.get_supxlabel() == "(b) Memory Access: +0.003 to +0.003 everywhere"
    visible = shift.assign(shift=shift["shift"].where(shift.metric == "cycles", 0.02))
    figure = figures.shift_maps(visible, "shift")
    assert (texts(figure.axes[1]), figure.get_supxlabel()) == (["+0.020"], "")


@pytest.mark.parametrize("lengths", [[128], [128, 256], [128, 256, 512, 1024, 2048]])
def test_amdahl_curves_dashed_projections_solid_attention(lengths):
    curves = analysis.curves(sweep(OPT, lengths, [EDGE_TPU]).query("metric == 'cycles'"), range(1, 101))
    figure = plots.amdahl_curves(curves, "Amdahl")
    panels = [axis for axis in figure.axes if axis.get_visible()]
    assert len(panels) == len(lengths)
    for panel, length in zip(panels, lengths, strict=True):
        lines = panel.get_lines()
        assert [line.get_linestyle() for line in lines] == ["--", "-"] * len(OPT)
        drawn = curves.set_index(["context_length", "model", "part"]).loc[(length, "opt-350m", "attention")]
        assert lines[1].get_ydata().tolist() == drawn.total_speedup.tolist()


def test_gains_are_drawn_of_one_metric_and_device_only():
    change, asked = Precision(weights=2), (["opt-350m", "opt-66b"], [128, 32768])
    gains = sweep(*asked, ["H200"], metric="seconds", precision=change)
    assert named(plots.gain_lines(gains, "")) == {"OPT 350M", "OPT 66B", plots.TOTAL, "ceiling, 1 / (1 - F)"}
    all_parts = sweep(*asked, ["H200"], metric="seconds", precision=Precision(weights=2, cache=2))
    assert "ceiling of projections alone, 1 / (1 - F)" in named(plots.gain_lines(all_parts, ""))
    with pytest.raises(InputError, match=r"^frame: a line .* of H200, seconds; H200, bytes; give .* metric='seconds'$"):
        plots.gain_lines(sweep(*asked, ["H200"], precision=change), "")
    with pytest.raises(InputError, match=r"^frame: a line .* of H200, seconds; RTX 4090, seconds; give those of one"):
        plots.gain_lines(sweep(*asked, ["H200", "RTX 4090"], metric="seconds", precision=change), "")
    with pytest.raises(InputError, match=r"^frame: column total_speedup is missing"):
        plots.gain_lines(sweep(*asked, ["H200"], metric="seconds"), "")


def test_gains_name_their_metric_and_whole_and_show_every_value():
    asked = (["opt-350m", "llama-3.1-8b"], [512, 32768], ["H200"])
    for metric, phase, weights in (("seconds", "prefill", 32), ("bytes", "decode", 2), ("seconds", "decode", 32)):
        gains = sweep(*asked, metric=metric, phase=phase, precision=Precision(weights=weights))
        figure = plots.gain_lines(gains, "")
        axis = figure.axes[0]
        assert axis.get_ylabel() == f"speedup, as a ratio of {metric}"
        low, high = axis.get_ylim()
        ceilings = 1 / (1 - gains.fraction)
        assert low < min(1, gains.total_speedup.min()) and ceilings.max() < high < 1.3 * ceilings.max()
        assert figure.legends[0].get_title().get_text() == f"whole: {BOTH}"
    assert gains.total_speedup.min() < 0.6 and ceilings.max() > 100
    gains = sweep(*asked, metric="seconds", precision=Precision(weights=2), unquantized=True)
    assert plots.gain_lines(gains, "").legends[0].get_title().get_text() == f"whole: {BOTH}\n+ unquantized"
    plots.gain_lines(gains.assign(fraction=1.0), "").draw_without_rendering()  # without attention there is no ceiling
    with pytest.raises(InputError, match="frame: it does not name the whole that F is a share of"):
        plots.gain_lines(gains.drop(columns="projection"), "")


def test_a_single_panel_has_the_models_at_the_ends_of_their_curves():
    curves = analysis.curves(sweep(OPT, [2048], [CLOUD_TPU]).query("metric == 'cycles'"), range(1, 101))
    figure = plots.amdahl_curves(curves, "")
    ends = curves[curves.partial_speedup == 100].sort_values("total_speedup")
    labels = sorted(figure.axes[0].texts, key=lambda label: label.xyann[1])
    assert [label.get_text() for label in labels] == [plots.model_label(model) for model in ends.model]
    assert [label.xy[1] for label in labels] == ends.total_speedup.tolist()
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(label) for label in labels]  # without its line
    assert all(above.y0 > below.y0 + 0.8 * below.height for below, above in pairwise(boxes))
    assert max(box.x1 for box in boxes) <= figure.bbox.x1
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["projections improved", "attention improved"]
    one = plots.amdahl_curves(curves[curves.model == "opt-350m"], "")
    assert not one.axes[0].texts and one.legends[0].get_texts()[0].get_text() == "OPT 350M"


@given(st.lists(st.floats(0, 1), max_size=9), st.floats(0, 0.3))
def test_labels_are_moved_apart_and_no_further_than_needed(wanted, gap):
    places = plots.apart(wanted, gap)
    assert all(above - below >= gap - 1e-9 for below, above in pairwise(sorted(places)))
    assert sorted(range(len(wanted)), key=places.__getitem__) == sorted(range(len(wanted)), key=wanted.__getitem__)
    if all(above - below >= gap for below, above in pairwise(sorted(wanted))):
        assert places == pytest.approx(wanted)
    assert sum(places) == pytest.approx(sum(wanted))


def test_amdahl_curves_with_a_panel_for_each_array():
    curves = analysis.curves(sweep(OPT, [2048], [EDGE_TPU, CLOUD_TPU]).query("metric == 'cycles'"), range(1, 101))
    panels = [axis for axis in plots.amdahl_curves(curves, "", panels="array").axes if axis.get_visible()]
    assert [panel.get_title() for panel in panels] == ["edge", "cloud"]
    last = [curve.total_speedup.iloc[-1] for _, curve in curves.groupby(["array", "model", "part"], sort=False)]
    assert [line.get_ydata()[-1] for panel in panels for line in panel.get_lines()] == last


def test_no_model_or_device_is_left_without_a_colour_and_a_marker():
    names = [f"a-{size}" for size in range(30)]
    assert list(plots.markers(names)) == list(plots.ramp(names)) == names
    two = plots.ramp(["llama-1", "opt-1", "opt-2", "opt-1"])
    assert list(two) == ["llama-1", "opt-1", "opt-2"]
    assert len({tuple(colour) for colour in two.values()}) == 3


def test_the_largest_family_has_the_colours_of_a_single_one_and_the_others_markers():
    names = ["llama-7b", "llama-13b", *OPT]
    alone, beside = plots.ramp(OPT), plots.ramp(names)
    assert all(tuple(alone[name]) == tuple(beside[name]) for name in OPT)
    curves = analysis.curves(sweep(names, [2048], [EDGE_TPU]).query("metric == 'cycles'"), range(1, 101))
    marks = [line.get_marker() for line in plots.amdahl_curves(curves, "").axes[0].get_lines()]
    assert marks == ["o"] * 4 + [""] * 2 * len(OPT)


def test_kernel_gains_show_every_case_and_what_bits_promise():
    gains = kernels.gains(kernels.steps(["qwen3-0.6b", "qwen3-8b"])).query("batch == 1 and context_length == 2048")
    gains = gains.assign(setup=gains.device + " " + gains.framework)
    figure = figures.kernel_gains(gains, "gains")
    above, below = (figure.axes[row : row + 3] + figure.axes[row + 6 : row + 9] for row in (0, 3))
    assert [axis.get_title().split(": ")[1] for axis in above] == ["2 by bits"] * 4 + ["3.56 by bits", "4 by bits"]
    for axes in (above, below):
        assert len({axis.get_ylim() for axis in axes}) == 1
    drawn = sorted(y for axis in above for line in axis.get_lines()[2:] for y in line.get_ydata())
    assert drawn == sorted(gains.partial_speedup)
    drawn = sorted(y for axis in below for line in axis.get_lines()[1:] for y in line.get_ydata())
    assert drawn == sorted([*gains.total_speedup, *gains.ceiling])


@pytest.mark.parametrize(("unquantized", "shown"), [(False, BOTH), (True, ALL.replace(" + u", "\n+ u"))])
def test_amdahl_curves_name_the_whole(unquantized, shown):
    """With the LM head in the whole, F is not the paper's F; the legend must show the difference."""
    cycles = sweep(OPT, [128], [EDGE_TPU], metric="cycles", unquantized=unquantized)
    curves = analysis.curves(cycles, [1, 10])
    assert plots.amdahl_curves(curves, "").legends[0].get_title().get_text() == f"whole: {shown}"
    mixed = pd.concat([curves, curves.assign(whole="another")])
    with pytest.raises(InputError, match="frame: F is a share of 2 wholes"):
        plots.amdahl_curves(mixed, "")


def test_amdahl_curves_needs_the_columns_of_curves():
    curves = analysis.curves(sweep(["gpt2"], [128], [EDGE_TPU]).query("metric == 'cycles'"), [1, 10])
    for frame in (curves.drop(columns="whole"), curves.drop(columns="whole").assign(projection=1, attention=1)):
        with pytest.raises(InputError, match="frame: it has no column `whole`; make the curves with `curves`"):
            plots.amdahl_curves(frame, "")
    with pytest.raises(InputError, match="frame: part: 'unquantized' is unknown; known: projection, attention"):
        plots.amdahl_curves(curves.assign(part="unquantized"), "")


def test_curves_of_something_else_are_rejected():
    curves = analysis.curves(sweep(["gpt2"], [128], [EDGE_TPU], metric="cycles"), [1, 10])
    for other in (3, "gpt2", None, [1]):
        with pytest.raises(InputError, match=r"frame: .* is not a table; make the curves with `curves`"):
            plots.amdahl_curves(other, "")
    with pytest.raises(InputError, match="panels: 'device' is not a column of the frame; it has model, context_length"):
        plots.amdahl_curves(curves, "", panels="device")
    with pytest.raises(InputError, match="frame: 3 is not a DataFrame"):
        plots.whole(3)


SVG_TEXT = re.compile(r"font(?:-size)?: (?:[a-z]+ )*([\d.]+)px")


@pytest.mark.parametrize("path", sorted((ROOT / "figures").glob("*.svg")), ids=lambda path: path.stem)
def test_a_figure_fits_a_journal_and_can_be_read_there(path):
    """At most two columns wide and a page high, and no text, subscripts included, below 4.9 points."""
    svg = path.read_text(encoding="utf-8")
    width, height = (float(size) / 72 for size in re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups())
    assert width == pytest.approx(plots.WIDTH) or width == pytest.approx(plots.COLUMN)
    assert height < 10.2
    assert min(map(float, SVG_TEXT.findall(svg))) >= 4.9


def test_a_long_title_is_broken_and_the_panels_keep_their_height():
    curves = analysis.curves(sweep(["gpt2"], [128], [EDGE_TPU], metric="cycles"), [1, 10])
    short, long = (plots.amdahl_curves(curves, "word " * words) for words in (1, 40))
    assert short.get_suptitle().count("\n") == 0 and long.get_suptitle().count("\n") >= 3
    kept = plots.amdahl_curves(curves, "batch 1 and " * 20).get_suptitle()
    assert "batch\n1" not in kept and "batch 1 and" in kept and kept.endswith("l = 128")
    assert plots.amdahl_curves(curves, "one line\nand one").get_suptitle() == "one line\nand one, l = 128"
    lower, higher = (figure.get_figheight() for figure in (short, long))
    assert higher - lower == pytest.approx(0.17 * long.get_suptitle().count("\n"))


def test_ticks_are_slanted_only_where_they_would_touch():
    ticks = []
    for columns in (1, 3):
        _, axes = plots.grid(columns, 2, columns)
        plots.doubling(axes[0, 0], [2**power for power in range(7, 16)])
        ticks.append({label.get_rotation() for label in axes[0, 0].get_xticklabels()})
    assert ticks == [{0}, {45}]


def named(figure):
    """What the legends of a figure explain."""
    return {text.get_text() for legend in figure.legends for text in legend.get_texts()}


def test_a_long_table_has_the_rows_that_matter_first():
    table = agreement("Table 2")
    shown = checks.folded(table)
    html = shown._repr_html_()
    above, below = html.split("<details>")
    assert "34 of 39 agree; these do not:" in above and above.count("<tr") == 1 + 5
    assert below.startswith("<summary>all 39 rows</summary>") and below.count("<tr") == 1 + 39
    assert repr(shown).splitlines()[0] == "34 of 39 agree; these do not:" and "39 rows" in repr(shown)
    agreed = checks.folded(table[table.agrees])
    assert agreed._repr_html_().count("<table") == 1 and "34 of 34 agree</p>" in agreed._repr_html_()
    assert "a &lt; b" in plots.Folded(table, table, "a < b")._repr_html_()


def test_dataflow_dots_say_where_the_tie_is():
    frame = pd.concat(
        dataflow_cycles(OPT, [2048], array, counting=counting, ifmap=ifmap)
        for array in (CLOUD_TPU, EDGE_TPU)
        for ifmap in ("activations", "weights")
        for counting in ("reported", "corrected")
    )
    figure = figures.dataflow_dots(frame, "Figure 8")
    assert [axis.get_xlabel().split(": ")[1] for axis in figure.axes] == [
        f"{dataflow} / OS as reported; corrected" for dataflow in ("IS", "WS", "IS", "WS")
    ]
    assert all(axis.get_xlabel().endswith("1 exactly") for axis in figure.axes)


def test_an_svg_keeps_its_text_and_is_the_same_again(tmp_path):
    frame = sweep(OPT, [128, 2048], [EDGE_TPU])
    curves = analysis.curves(frame.query("metric == 'cycles'"), range(1, 11))
    for folder in (tmp_path / "one", tmp_path / "two"):
        plots.save(plots.amdahl_curves(curves, "a title of its own"), frame, "f", folder)
    first, second = ((tmp_path / folder / "f.svg").read_bytes() for folder in ("one", "two"))
    assert first == second and b">a title of its own</text>" in first and b"<dc:date>" not in first


def test_save_puts_png_and_csv_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "FIGURES", tmp_path / "figures")
    frame = sweep(OPT, [128], [EDGE_TPU])
    figure = plots.heat_maps(frame, "F")
    saved = plots.save(figure, frame, "f")
    assert saved.png == tmp_path / "figures" / "f.png" and saved.png.read_bytes().startswith(b"\x89PNG")
    shown, size = saved._repr_png_()
    assert shown == saved.png.read_bytes() and repr(saved) == "<f.png>"
    assert [size["width"], size["height"]] == pytest.approx(125 * figure.get_size_inches(), abs=0.5)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "figures" / "f.csv"), frame, check_dtype=False)


def test_a_model_of_your_own_is_drawn_by_its_name():
    mine = replace(get_model("opt-350m"), name="mine")
    frame = sweep([mine], [128, 256], [EDGE_TPU])
    figure = plots.heat_maps(frame, "F")
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["mine"]
    plots.amdahl_curves(analysis.curves(frame.query("metric == 'cycles'"), [1, 2]), "mine")


def test_a_model_has_the_name_of_table_2_and_any_other_its_own():
    names = ["opt-6.7b", "gpt2-medium", "llama-7b", "gpt2-medium-printed", "bert"]
    labels = ["OPT 6.7B", "GPT 355M", "LLaMA 7B", "GPT 355M*", "bert"]
    assert [plots.model_label(name) for name in names] == labels
    assert plots.model_label("llama-7b", hidden_size=True) == "4096\nLLaMA 7B"


def test_heat_map_cells_have_three_decimals_by_default():
    frame = sweep(["opt-350m"], [128, 256], [EDGE_TPU])
    cells = [f"{fraction:.3f}" for fraction in frame[frame.metric == "cycles"].fraction]
    assert texts(plots.heat_maps(frame, "F").axes[0]) == cells


def test_a_heat_map_shows_one_array_and_a_latency_map_one_device():
    with pytest.raises(InputError, match="frame: it has 2 combinations of array, dataflow; a map shows one"):
        plots.heat_maps(sweep(OPT, [128], [EDGE_TPU, CLOUD_TPU]), "F")
    with pytest.raises(InputError, match="combinations of device, dtype, launch, batch; a map shows one"):
        figures.latency_maps(recorded.fractions(recorded.read()), "F")


def test_a_line_for_each_model_against_the_size_of_the_array():
    frame = pd.concat(fraction_by_array_size(model, 2048, [128, 8, 32]) for model in OPT)
    figure = fraction_by_size_lines(frame, "OPT")
    assert [axis.get_title() for axis in figure.axes] == ["(a) Compute Cycles", "(b) Memory Access"]
    for axis, metric in zip(figure.axes, ["cycles", "memory_accesses"], strict=True):
        line = axis.get_lines()[OPT.index("opt-13b")]
        drawn = frame[(frame.model == "opt-13b") & (frame.metric == metric)].sort_values("size")
        assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([8, 32, 128], drawn.fraction.tolist())
    assert len(fraction_by_size_lines(frame[frame.metric == "cycles"], "OPT").axes) == 1


READINGS = {"serial": {"metric": "cycles"}, "pipelined": {"metric": "cycles", "folds": "pipelined"}}
ARRAYS = [CLOUD_TPU, EDGE_TPU]


def under_readings(ask):
    return pd.concat(ask(settings).assign(reading=name) for name, settings in READINGS.items())


def heights(axis, label):
    (line,) = [line for line in axis.get_lines() if line.get_label() == label]
    return line.get_ydata().tolist()


def test_a_dot_for_each_crossover_and_a_line_above_for_none():
    frame = under_readings(lambda settings: crossovers(["gpt2", "opt-66b"], ARRAYS, **settings))
    figure = crossover_dots(frame, "F = 1/2")
    assert [axis.get_title() for axis in figure.axes] == ["cloud array", "edge array"]
    for axis, array in zip(figure.axes, ["cloud", "edge"], strict=True):
        for reading in READINGS:
            rows = frame[(frame.array == array) & (frame.reading == reading)]
            assert heights(axis, reading) == rows.context_length.tolist()
        assert axis.get_ylim()[1] > frame.context_length.max()
        assert not texts(axis)
    never = frame.context_length.where(~((frame.array == "edge") & (frame.model == "gpt2")))
    figure = crossover_dots(frame.assign(context_length=never), "F = 1/2")
    assert [texts(axis) for axis in figure.axes] == [["never"], ["never"]]
    assert heights(figure.axes[1], "serial")[0] > 2 * never.max()


def test_a_panel_for_each_reading_and_array():
    models = ["gpt2", "opt-66b"]
    frame = under_readings(lambda settings: sweep(models, [128, 1024, 256], ARRAYS, **settings))
    figure = plots.fraction_by_reading(frame, "F")
    assert [axis.get_title() for axis in figure.axes] == [
        f"{array}: {reading}" for array in ("cloud", "edge") for reading in READINGS
    ]
    assert named(figure) == {"GPT 125M", "OPT 66B", "F = 1/2"}
    places = [(array, reading) for array in ("cloud", "edge") for reading in READINGS]
    for axis, (array, reading) in zip(figure.axes, places, strict=True):
        for model, label in zip(models, ["GPT 125M", "OPT 66B"], strict=True):
            rows = frame[(frame.array == array) & (frame.reading == reading) & (frame.model == model)]
            assert heights(axis, label) == rows.sort_values("context_length").fraction.tolist()


def test_five_readings_leave_a_panel_empty_for_each_array():
    frame = sweep(["gpt2"], [128, 1024], ARRAYS, metric="cycles")
    frame = pd.concat(frame.assign(reading=name) for name in "abcde")
    axes = plots.fraction_by_reading(frame, "F").axes
    shown = [f"{array}: {name}" for array in ("cloud", "edge") for name in "abcde"]
    assert [axis.get_title() for axis in axes if axis.get_visible()] == shown
    assert [axis.get_visible() for axis in axes] == [*[True] * 5, False] * 2


def test_markers_are_hollow_where_a_context_is_longer_than_trained_for():
    models = {"gpt2": 1024, "opt-66b": 2048}
    frame = under_readings(lambda settings: sweep([*models], [512, 2048, 4096], ARRAYS, **settings))
    figure = plots.fraction_by_reading(frame.assign(max_position=frame.model.map(models)), "F")
    assert "hollow: longer than trained for" in named(figure)
    for axis in figure.axes:
        hollow = [line for line in axis.get_lines() if line.get_markerfacecolor() == "white"]
        assert [line.get_xdata().tolist() for line in hollow] == [[2048, 4096], [4096]]


MODELS = ["deepseek-v3", "opt-175b", "gemma-3-1b", "opt-125m", "phi-3-mini-4k"]
ORDERED = ["opt-125m", "opt-175b", "gemma-3-1b", "phi-3-mini-4k", "deepseek-v3"]


def spans(axis):
    """Ends of the coloured horizontal lines of a panel, from top to bottom, and whether they are pale."""
    lines = [lines for lines in axis.collections if len(lines.get_segments()) == 1 and lines.get_zorder()]
    ends = [(*lines.get_segments()[0].T.tolist(), lines.get_alpha()) for lines in lines]
    return [(across, alpha) for across, down, alpha in sorted(ends, key=lambda end: -end[1][0])]


def names(figure):
    """Models and kinds beside the panels."""
    return [text for axis in figure.axes for text in texts(axis)]


def test_models_are_described_in_the_order_of_their_kinds_and_sizes():
    frame = described(pd.DataFrame({"model": MODELS, "max_position": 1}))
    assert frame.model.tolist() == ORDERED
    assert frame.kind.tolist() == ["multi-head", "multi-head", "windows", "windows", "latent"]
    assert frame.released.tolist() == ["2022-05", "2022-05", "2025-03", "2024-04", "2024-12"]
    assert frame.max_position.tolist() == [2048, 2048, 32768, 4096, 163840]
    assert frame.billions.round(1).tolist() == [0.1, 174.6, 1.0, 3.8, 671.0]
    assert kind("phi-3-mini-128k") == "multi-head"  # its window is longer than its context


def test_the_zoo_has_a_row_for_each_model_and_a_panel_for_each_length():
    frame = described(under_readings(lambda settings: sweep(MODELS, [2048, 8192], [CLOUD_TPU], **settings)))
    figure = zoo_dots(frame, "zoo")
    assert [axis.get_title() for axis in figure.axes] == ["l = 2048", "l = 8192"] * 2
    kinds = [KINDS[name] for name in ("multi-head", "windows", "latent")]
    assert names(figure) == [kinds[0], *ORDERED[:2], kinds[1], *ORDERED[2:4], kinds[2], ORDERED[4]]
    drawn = [*spans(figure.axes[1]), *spans(figure.axes[3])]
    for model, (ends, alpha) in zip(ORDERED, drawn, strict=True):
        rows = frame[(frame.model == model) & (frame.context_length == 8192)]
        assert ends == [rows.fraction.min(), rows.fraction.max()]
        assert alpha == (0.35 if model in ("opt-125m", "opt-175b", "phi-3-mini-4k") else 1)
    dots = [line.get_xdata()[0] for axis in figure.axes[1::2] for line in axis.get_lines() if line.get_marker() == "o"]
    serial = frame[(frame.reading == "serial") & (frame.context_length == 8192)].set_index("model").fraction
    assert sorted(dots) == sorted(serial)


def test_where_attention_overtakes_in_many_models():
    frame = described(under_readings(lambda settings: crossovers(MODELS, ARRAYS, **settings)))
    figure = overtaken_lines(frame, "overtaken")
    assert [axis.get_title() for axis in figure.axes] == ["cloud array", "edge array"] * 2
    edge = frame[frame.array == "edge"].assign(length=frame.context_length.astype(float))
    ends = edge.groupby("model", sort=False).length.agg(["min", "max"])
    drawn = [ends for ends, _ in (*spans(figure.axes[1]), *spans(figure.axes[3]))]
    never = 4 * 163840  # the longest of all that are drawn
    assert drawn == [[never] * 2 if model == "phi-3-mini-4k" else [*ends.loc[model]] for model in ORDERED]
    lines = [line for axis in figure.axes[1::2] for line in axis.get_lines()]
    marks = [(line.get_marker(), at) for line in lines for at in line.get_xdata()]
    dots = sorted(at for mark, at in marks if mark == "o")  # without phi-3-mini-4k, whose attention never overtakes
    assert dots == sorted(edge.length[edge.reading == edge.reading.iloc[0]].dropna()) and len(dots) == len(ORDERED) - 1
    assert sorted(at for mark, at in marks if mark == "|") == [2048, 2048, 4096, 32768, 163840]
    assert [at for mark, at in marks if mark == ">"] == [never]
    assert not [at for mark, at in marks if mark == "<"]


def test_a_context_length_that_is_too_short_to_draw_has_an_arrow():
    settings = {"metric": "cycles", "folds": "pipelined"}  # the state alone is as large as the projections
    frame = crossovers(["granite-4.0-h-350m", "opt-125m"], [CLOUD_TPU], **settings).assign(reading="pipelined")
    assert frame.context_length.min() == 1
    figure = overtaken_lines(described(frame), "overtaken")
    marks = [(line.get_marker(), at) for axis in figure.axes for line in axis.get_lines() for at in line.get_xdata()]
    assert [at for mark, at in marks if mark == "<"] == [128] and 128 not in [at for mark, at in marks if mark == "o"]
    assert "at most 128 tokens" in named(figure)


def test_ages_of_models_and_how_far_beyond_the_crossover_they_are_trained():
    frame = described(under_readings(lambda settings: crossovers(MODELS, [CLOUD_TPU], **settings)))
    figure = age_scatter(frame, "ages")
    assert "F = 1/2 never" in named(figure)
    assert "F = 1/2 never" not in named(age_scatter(frame[frame.model != "phi-3-mini-4k"], "ages"))
    assert [axis.get_title() for axis in figure.axes] == [*READINGS]
    for axis, reading in zip(figure.axes, READINGS, strict=True):
        rows = frame[frame.reading == reading].set_index("model")
        beyond = (rows.max_position / rows.context_length.astype(float)).loc[["opt-125m", "opt-175b"]]
        dots = axis.collections[0].get_offsets()
        assert dots[:, 1].tolist() == beyond.tolist() and dots[:, 0].tolist() == [2022 + 4.5 / 12] * 2
        assert texts(axis) == ["opt-175b", "deepseek-v3"]
        assert axis.collections[-1].get_offsets()[:, 0].tolist() == [2024 + 3.5 / 12]  # phi-3-mini-4k, at the bottom


def test_the_scatter_shows_every_published_speedup():
    predicted = speedups.predict(speedups.read_speedups())
    figure = figures.speedup_scatter(predicted, "title")
    left, right = figure.axes
    drawn = [point for group in left.collections[:-1] for point in group.get_offsets().tolist()]
    assert sorted(map(tuple, drawn)) == sorted(zip(predicted.predicted, predicted.measured, strict=True))
    systems, devices = ({text.get_text() for text in legend.get_texts()} for legend in figure.legends)
    assert systems == {*predicted.system}
    assert devices == {name or "no device (memory)" for name in predicted.device}
    assert right.get_xlim()[1] > predicted.ceiling.max()
    assert right.get_xlabel().endswith("\nF = projection / (projection + attention + unquantized)")
    assert left.get_ylim()[0] < predicted.measured.min() and left.get_ylim()[1] > predicted.measured.max()


def test_a_cell_drops_the_zero_before_the_point_and_no_other():
    values = {10.5: "10.5", 0.5933: ".5933", -0.00057: "-.0006", 100.0: "100", 0.0: "0", 1.306: "1.306"}
    rows = [
        {"conclusion": "(i)", "checked": "F", "array": "cloud", "reading": str(at), "value": at, "holds": True}
        | {"models": "opt-30b opt-66b", "context_lengths": "128 256 512"}
        for at in values
    ]
    axis = figures.conclusion_matrix(pd.DataFrame(rows), "title").axes[0]
    assert texts(axis) == [*values.values()]
    assert axis.get_xticklabels()[0].get_text() == "(i)\nOPT 30B,\n66B\nl = 128\nto 512\nF\ncloud"


def test_no_two_systems_look_alike():
    figure = figures.limit_scatter(accelerators.predict(), "title")
    groups = figure.axes[0].collections
    looks = {
        (*group.get_edgecolor()[0], len(group.get_facecolor()), group.get_paths()[0].vertices.tobytes())
        for group in groups
    }
    assert len(looks) == len(groups) > 10
    assert len({(*group.get_edgecolor()[0], len(group.get_facecolor())) for group in groups}) == len(groups)


def test_a_setup_that_gains_nothing_is_named_and_not_drawn():
    change = {"W4": Precision(weights=4), "KV4": Precision(cache=4)}
    frame = bits.gains(["opt-6.7b"], [512, 8192], ["H100 SXM"], changes=change, batches=[1, 16]).assign(
        setup="H100 SXM"
    )
    frame = pd.concat([frame, frame.assign(setup="fast\nmemory", total_speedup=1.0)])
    figure = gain_maps(frame, "bits", ("W4", "KV4"))
    assert [axis.get_title() for axis in figure.axes if axis.get_label() != "<colorbar>"] == ["H100 SXM"]
    assert figure.get_supxlabel() == "context length\nfast, memory: neither gains 1% anywhere"


def test_systems_are_drawn_on_the_curves():
    fractions = sweep(OPT, [2048], [CLOUD_TPU, EDGE_TPU]).query("metric == 'cycles'")
    curves, ranges = analysis.curves(fractions, [1, 10, 100]), speedups.realised(speedups.read_speedups())
    figure = figures.systems_on_curves(curves, ranges, "title")
    cloud, edge, strip = figure.axes
    with pytest.raises(InputError, match="curves: it has no column `whole`"):
        figures.systems_on_curves(curves.drop(columns="whole"), ranges, "title")
    assert [axis.get_title() for axis in (cloud, edge)] == [
        f"{name}, l = 2048, whole: {BOTH}" for name in ("cloud", "edge")
    ]
    assert strip.get_title().endswith(f"whole: {BOTH} + unquantized")
    assert len(cloud.lines) == len(OPT)
    assert strip.get_yticklabels()[0].get_text() == "BitNet GPU W2A8 kernel, A100 40GB"
    dots = [line.get_xdata()[0] for line in strip.lines if line.get_marker() == "o"]
    assert dots == pytest.approx(ranges["median"].tolist(), nan_ok=True)
    bars = [[*line.get_xdata()] for line in strip.lines if line.get_marker() == "|"]
    assert bars == [[row.low, row.high] for row in ranges.itertuples()]


def test_devices_are_drawn_as_arrays_are():
    frame = sweep(["gpt2", "opt-350m"], [128, 2048], ["H200"], unquantized=True)
    figure = plots.heat_maps(frame, "H200")
    assert [axis.get_title() for axis in figure.axes[:2]] == ["Seconds", "Bytes"]
    assert "unquantized" in figure.axes[2].get_ylabel()
    assert len(plots.heat_maps(frame[frame.metric == "bytes"], "H200").axes) == 2  # the map and its colour bar


@pytest.mark.parametrize("path", sorted((ROOT / "figures").glob("*.csv")), ids=lambda path: path.stem)
def test_every_committed_table_of_a_figure_says_what_f_is_a_share_of(path):
    frame = pd.read_csv(path)
    if "fraction" in frame:
        assert "projection + attention" in plots.whole(frame)


def test_years_have_the_median_of_all_their_models():
    """A model whose attention never overtakes has a longer context than any, also where the median is taken."""
    months = ["2022-05", "2024-02", "2024-08", "2024-11"]
    frame = pd.DataFrame({"model": ["a", "b", "c", "d"], "kind": "grouped", "released": months, "reading": "one"})
    frame = frame.assign(fraction=[0.5, 0.5, 0.75, 0.9], context_length=8192, half=[100, 200, 400, None])
    above, below = year_scatter(frame, "title").axes
    medians = [line.get_ydata()[0] for line in above.get_lines() if line.get_linestyle() == "-"]
    assert medians == pytest.approx([2, 4])
    assert [line.get_ydata()[0] for line in below.get_lines()] == [100, 400]
    assert above.collections[0].get_offsets()[1].tolist() == pytest.approx([2024 + 1.5 / 12, 2])


def kernel_gains(frame, title):
    return figures.kernel_gains(frame.assign(setup=frame.device + " " + frame.framework), title)


def systems_on_curves(frame, title):
    fractions = sweep(OPT, [2048], ["cloud", "edge"], metric="cycles")
    return figures.systems_on_curves(curves(fractions, np.geomspace(1, 100, 61).round(4)), frame, title)


def energy_fractions(frame, title):
    models, lengths = list(dict.fromkeys(frame.model)), sorted(frame.context_length.unique().tolist())
    places = list(dict.fromkeys(frame.array))
    others = pd.concat([sweep(models, lengths, places, metric=metric) for metric in ("bytes", "cycles")])
    return figures.energy_fractions(frame, others, title)


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (figures.dataflow_dots, "figure-08"),
        (figures.shift_maps, "figure-04-corrected"),
        (figures.statement_matrix, "figure-readings"),
        (figures.conclusion_matrix, "figure-conclusions"),
        (figures.context_strips, "figure-contexts"),
        (figures.latency_maps, "figure-13"),
        (figures.prediction_scatter, "figure-law"),
        (figures.roofline_points, "figure-roofline"),
        (figures.third_part_lines, "figure-third-part"),
        (kernel_gains, "figure-kernel-gains"),
        (energy_fractions, "figure-energy"),
        (figures.speedup_scatter, "figure-published"),
        (figures.limit_scatter, "figure-accelerators"),
        (systems_on_curves, "figure-systems"),
    ],
)
def test_the_recorded_numbers_give_the_recorded_figure(draw, name, tmp_path):
    """Every line, mark and word, from the CSV beside it and the figure's own title."""
    frame, recorded = pd.read_csv(ROOT / "figures" / f"{name}.csv"), ROOT / "figures" / f"{name}.svg"
    lines = re.findall(rf"<text [^>]*font-size: {plots.TEXT['title']}px.*>(.*)</text>", recorded.read_text("utf-8"))
    figure = draw(frame, html.unescape("\n".join(lines)))
    plots.save(figure, frame, name, tmp_path)
    plt.close(figure)
    assert (tmp_path / recorded.name).read_text("utf-8") == recorded.read_text("utf-8")
