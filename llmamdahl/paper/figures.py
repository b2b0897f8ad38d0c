"""Figures that belong to this paper, to the measurements that test it and to the speedups that others published."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullLocator

from llmamdahl.plots import (
    FRACTIONS,
    PANELS,
    PARTIAL,
    TOTAL,
    colours,
    curves_whole,
    doubling,
    finish,
    fraction_label,
    grid,
    handles_of,
    label_decades,
    maps,
    markers,
    model_label,
    ramp,
    whole,
)

LATENCY = {"matmul": "(a) Latency, attention as two MatMuls", "fused": "(b) Latency, attention fused"}
STATEMENT_COLOURS = {True: "#cfe3f1", False: "#f6b183"}
"""Of cells in which a statement holds, and in which it does not; they differ in lightness too."""
FORMATS = {
    "fp8": "FP8",
    "fp8_block": "FP8 in blocks",
    "int8_wo": "INT8 weights only",
    "sq": "SmoothQuant W8A8",
    "nvfp4": "NVFP4",
    "int4_wo": "INT4 weights only",
}
FORMS = {"matmul": "attention as two MatMuls", "fused": "attention fused"}


def dataflow_dots(frame: pd.DataFrame, title: str) -> Figure:
    """Total cycles of each dataflow: one panel an array and ifmap operand, corrected counts as rings (Figure 8).

    The number below a model is the runner-up's cycles divided by those of OS.
    `frame` holds rows of `dataflow_cycles` at one context length.
    """
    panels = list(frame.groupby(["array", "ifmap"], sort=False))
    figure, axes = grid(len(panels), (6.5, 4), len(panels) // 2, sharey="row")
    for axis, ((array, ifmap), rows) in zip(axes.flat, panels, strict=True):
        _dataflows(axis, rows, "is" if ifmap == "activations" else "ws")
        axis.set(title=f"{array}, ifmap holds the {ifmap}", yscale="log", ylabel="total cycles")
        axis.grid(alpha=0.3, axis="y")
        sns.despine(ax=axis)
    ring = Line2D([], [], linestyle="", marker="o", markersize=9, markerfacecolor="none", color="black")
    ring.set_label("corrected counts")
    return finish(figure, title, [*handles_of(axes), ring], loc="outside lower center", ncols=4)


def _dataflows(axis: Axes, rows: pd.DataFrame, runner_up: str) -> None:
    """One panel's dots, and how close the runner-up comes to OS, below each model and below the panel."""
    reported, corrected = (rows[rows.counting == counting] for counting in ("reported", "corrected"))
    for offset, (dataflow, colour) in zip((-0.27, 0, 0.27), colours(("os", "ws", "is")).items(), strict=True):
        places = [place + offset for place in range(len(reported))]
        axis.plot(places, reported[dataflow], "o", color=colour, markersize=6, label=dataflow.upper())
        axis.plot(places, corrected[dataflow], "o", markerfacecolor="none", color="black", markersize=9)
    ratios, exact = ((counted[runner_up] / counted["os"]).tolist() for counted in (reported, corrected))
    names = [f"{model_label(model)}\n{ratio:.3f}" for model, ratio in zip(reported.model, ratios, strict=True)]
    axis.set_xticks(range(len(reported)), names)
    exactly = "1 exactly" if set(exact) == {1.0} else f"{min(exact):.3f} to {max(exact):.3f}"
    axis.set_xlabel(f"below each model: {runner_up.upper()} / OS as reported; corrected: {exactly}")


def shift_maps(frame: pd.DataFrame, title: str) -> Figure:
    """How far the corrected counts move F, laid out as `heat_maps`; `frame` comes from `correction_shift`."""
    widest = frame["shift"].abs().max()
    bar = f"corrected F - reported F,\n{fraction_label(frame)}"
    style = {"vmin": -widest, "vmax": widest, "cmap": "coolwarm"}
    return maps(frame, title, PANELS, "{:+.3f}".format, value="shift", bar=bar, **style)


def statement_matrix(frame: pd.DataFrame, title: str) -> Figure:
    """Which statements hold under which reading: statements down, readings across, our value in each cell.

    `frame` comes from `readings.under_readings`. Statements of kind stand above those of magnitude.
    """
    frame = frame.sort_values("asserts", kind="stable")  # kind, then magnitude
    rows = frame.drop_duplicates("id")
    where = rows["item"].str.replace("Figure", "Fig.").str.replace("Section", "Sec.") + ", " + rows["array"]
    labels = [f"{text}  ({place})" for text, place in zip(rows.short, where, strict=True)]
    holding = frame.groupby("reading", sort=False).holds.sum()
    names = [f"{reading}: {number} of {len(rows)}" for reading, number in holding.items()]
    figure, axis = plt.subplots(figsize=(4.6 + 0.62 * len(names), 2.3 + 0.27 * len(rows)), layout="constrained")
    _cells(axis, frame, "id", "reading", labels, names)
    axis.set_xticks(axis.get_xticks(), names, rotation=55, ha="left", fontsize=8)
    kinds = int((rows.asserts == "kind").sum())
    axis.axhline(kinds, color="black", linewidth=1.2)
    for place, text in ((kinds / 2, "which part matters"), ((kinds + len(rows)) / 2, "a printed number")):
        axis.text(len(names) + 0.15, place, text, rotation=270, ha="left", va="center", fontsize=9)
    return finish(figure, title, _holds_or_not(), loc="outside lower center", ncols=2)


def conclusion_matrix(frame: pd.DataFrame, title: str) -> Figure:
    """The paper's conclusions: readings down, conclusions and arrays across, our value in each cell.

    `frame` comes from `readings.conclusions_under`.
    """
    frame = frame.assign(column=frame.conclusion + "\n" + frame.checked + "\n" + frame["array"])
    readings, columns = (list(dict.fromkeys(frame[name])) for name in ("reading", "column"))
    figure, axis = plt.subplots(figsize=(2.2 + 1.15 * len(columns), 1.7 + 0.27 * len(readings)), layout="constrained")
    _cells(axis, frame, "reading", "column", readings, columns)
    return finish(figure, title, _holds_or_not(), loc="outside lower center", ncols=2)


def _cells(axis: Axes, frame: pd.DataFrame, down: str, across: str, labels: list[str], names: list[str]) -> None:
    """Draw `value` in a cell for each value of the columns `down` and `across`, coloured by `holds`."""
    rows, columns = (list(dict.fromkeys(frame[name])) for name in (down, across))
    for cell in frame.to_dict("records"):
        place = columns.index(cell[across]), rows.index(cell[down])
        colour = STATEMENT_COLOURS[cell["holds"]]
        axis.add_patch(Rectangle(place, 1, 1, facecolor=colour, edgecolor="white", linewidth=1.5))
        text = f"{cell['value']:.4g}" if abs(cell["value"]) >= 0.1 else f"{cell['value']:.2g}"
        axis.text(place[0] + 0.5, place[1] + 0.5, text, ha="center", va="center", fontsize=7)
    axis.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
    axis.xaxis.tick_top()
    axis.set_xticks([place + 0.5 for place in range(len(columns))], names, fontsize=8)
    axis.set_yticks([place + 0.5 for place in range(len(rows))], labels, fontsize=8)
    axis.tick_params(length=0)
    sns.despine(ax=axis, left=True, bottom=True)


def _holds_or_not() -> list[Rectangle]:
    names = {True: "holds", False: "does not hold"}
    return [Rectangle((0, 0), 1, 1, facecolor=STATEMENT_COLOURS[holds], label=names[holds]) for holds in names]


def context_strips(frame: pd.DataFrame, title: str) -> Figure:
    """Context lengths at which F falls to 1/2: a strip a reading, a dot a model, a bar at the median.

    `frame` comes from `readings.contexts_under`; models whose F never falls to 1/2 are counted on the right.
    """
    readings = list(dict.fromkeys(frame.reading))
    figure, axis = plt.subplots(figsize=(8.5, 1.6 + 0.42 * len(readings)), layout="constrained")
    for place, reading in enumerate(readings):
        lengths = frame[frame.reading == reading].context_length
        found = lengths.dropna().astype(float)
        # models side by side in the strip, in the order of the frame, so that equal lengths stay visible
        spread = np.linspace(-0.28, 0.28, len(found))
        axis.scatter(found, place + spread, s=14, color="C0", alpha=0.7, linewidths=0)
        # a model that never overtakes has a longer context than any
        median = lengths.astype(float).fillna(np.inf).median()
        axis.plot([median, median], [place - 0.38, place + 0.38], color="black", linewidth=2)
        never = int(lengths.isna().sum())
        if never:
            axis.text(1.01, place, f"{never} never", transform=axis.get_yaxis_transform(), va="center", fontsize=8)
    axis.set_yticks(range(len(readings)), readings)
    axis.set(
        xscale="log",
        xlabel="context length at which F = 1/2 (of seconds where GB/s are given, else of cycles)",
        ylim=(len(readings) - 0.5, -0.5),
    )
    axis.grid(alpha=0.3, axis="x")
    sns.despine(ax=axis)
    median_line = Line2D([], [], color="black", linewidth=2, label="median of all models")
    return finish(figure, title, [median_line], loc="outside lower center")


def latency_maps(frame: pd.DataFrame, title: str) -> Figure:
    """F of latency on one device, for both forms of attention, laid out as `heat_maps` (Figure 13).

    `frame` holds rows of `recorded.fractions` of one device, dtype, launch and batch.
    """
    return maps(frame, title, LATENCY, "{:.3f}".format, by="attention", bar=fraction_label(frame), **FRACTIONS)


def prediction_scatter(frame: pd.DataFrame, title: str) -> Figure:
    """S_total by Equation (5) and as measured: one panel a form of attention; `frame`: `recorded.predictions`."""
    palette, marker = colours(frame.weights), markers(frame.weights)
    figure, axes = grid(2, (5.5, 5), 2, sharex=True, sharey=True)
    low, high = (getattr(frame[["predicted", "measured"]], end)().agg(end) for end in ("min", "max"))
    for axis, (form, name) in zip(axes.flat, FORMS.items(), strict=True):
        axis.plot([low, high], [low, high], color="black", linewidth=1, label="the law holds")
        for kind, colour in palette.items():
            rows = frame[(frame.weights == kind) & (frame.attention == form)]
            style = {"s": 22, "color": colour, "marker": marker[kind], "alpha": 0.7}
            axis.scatter(rows.predicted, rows.measured, label=f"{kind} projections", **style)
        axis.set(title=name, xscale="log", yscale="log", xlabel=f"{TOTAL} predicted", ylabel=f"{TOTAL} measured")
        for scale in (axis.xaxis, axis.yaxis):
            label_decades(scale, "2358")
        axis.set_aspect("equal")
        axis.grid(alpha=0.3, which="both")
        axis.legend(frameon=False, loc="upper left")
    return finish(figure, title)


def roofline_points(frame: pd.DataFrame, title: str) -> Figure:
    """Latency against the bytes that must move, and the limit of the bus; `frame`: `recorded.against_bandwidth`."""
    shown = frame[frame.part.isin(["projection", "attention"])].copy()
    shown["what"] = (shown.weights + " projections").where(shown.part == "projection", shown.attention + " attention")
    figure, axes = grid(1, (8.5, 5.5))
    axis, bus = axes.flat[0], frame.sort_values("kilobytes")
    axis.plot(bus.kilobytes / 1e3, bus.limit_us, color="black", linewidth=1, label="limit of the bus")
    marker = markers(shown.what)
    for what, colour in colours(shown.what).items():
        rows = shown[shown.what == what]
        style = {"s": 18, "color": colour, "marker": marker[what], "alpha": 0.7}
        axis.scatter(rows.kilobytes / 1e3, rows.median_us, label=what, **style)
    axis.set(xscale="log", yscale="log")
    axis.set(xlabel="MB that must be read, of one block", ylabel="median latency, µs")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return finish(figure, title)


def third_part_lines(frame: pd.DataFrame, title: str) -> Figure:
    """Ceilings without the third part (dashed) and with it (solid): one panel a setup, context lengths across.

    `frame` holds rows of `breakdowns.ceilings`, with a column setup.
    """
    setups = list(dict.fromkeys(frame.setup))
    figure, axes = grid(len(setups), (4, 3.4), min(4, len(setups)), sharey=True)
    styles = {"ceiling": ("--", "projection + attention"), "ceiling_of_three": ("-", "projection + attention + other")}
    for axis, setup in zip(axes.flat, setups, strict=False):
        rows = frame[frame.setup == setup].sort_values("context_length")
        for (name, (dashes, label)), colour in zip(styles.items(), colours(styles).values(), strict=True):
            axis.plot(rows.context_length, rows[name], dashes, color=colour, marker="o", markersize=4, label=label)
        lengths = rows.context_length.tolist()
        doubling(axis, [length for length in lengths if length & (length - 1) == 0] or lengths, size=7)
        axis.set(title=setup, yscale="log", xlabel="context length")
        axis.title.set_size(9)
        label_decades(axis.yaxis, "235")
        axis.grid(alpha=0.3, which="both", axis="y")
    for axis in axes[:, 0]:
        axis.set_ylabel("ceiling, 1 / (1 - F)")
    return finish(figure, title, handles_of(axes), loc="outside lower center", ncols=2)


def kernel_gains(frame: pd.DataFrame, title: str) -> Figure:
    """S_partial of kernels (above) and S_total with its ceiling (below): one column a format, models across.

    Parameters
    ----------
    frame
        Rows of `kernels.gains` of one batch, context length and `qkv`, with a column setup (device and framework).
    """
    formats = [weights for weights in FORMATS if (frame.weights == weights).any()]
    models, setups = list(dict.fromkeys(frame.model)), sorted(frame.setup.unique())
    palette, marker = colours(setups), markers(setups)
    beside = dict(zip(palette, np.linspace(-0.3, 0.3, len(palette)), strict=True))
    figure, axes = grid(2 * len(formats), (2.6, 3), len(formats), sharex=True, sharey="row")
    for (above, below), weights in zip(axes.T, formats, strict=True):
        of_format = frame[frame.weights == weights]
        promised = of_format.bits_speedup.iloc[0]
        above.axhline(promised, color="black", linestyle="--", linewidth=1, label=f"{PARTIAL} by bits")
        for axis, value in ((above, "partial_speedup"), (below, "total_speedup")):
            axis.axhline(1, color="black", linewidth=0.8)
            for setup, rows in of_format.groupby("setup", sort=False):
                places = rows.model.map(models.index) + beside[setup]
                style = {"color": palette[setup], "marker": marker[setup], "linestyle": "", "markersize": 5}
                axis.plot(places, rows[value], label=setup, **style)
                if axis is below:
                    axis.plot(places, rows.ceiling, "_", color=palette[setup], markersize=7, markeredgewidth=2)
            axis.set(yscale="log", xlim=(-0.6, len(models) - 0.4))
            label_decades(axis.yaxis, "235")
            axis.grid(alpha=0.3, axis="y", which="both")
        above.set_title(f"{FORMATS[weights]}\n{promised:.3g} by bits", size=10)
        below.set_xticks(range(len(models)), map(model_label, models), rotation=90, size=8)
    axes[0, 0].set_ylabel(f"{PARTIAL} of the projections")
    axes[1, 0].set_ylabel(f"{TOTAL}; bars: ceiling")
    handles = [Line2D([], [], color=palette[name], marker=marker[name], linestyle="", label=name) for name in palette]
    handles.append(Line2D([], [], color="black", linestyle="--", label=f"{PARTIAL} by the bits of a weight"))
    return finish(figure, title, handles, loc="outside lower center", ncols=5)


def energy_fractions(energies: pd.DataFrame, sweeps: pd.DataFrame, title: str) -> Figure:
    """F of energy against the context length, as a band, beside F of other metrics; one panel an array.

    Parameters
    ----------
    energies
        From `silicon.energy.energy_sweep`, at one node.
    sweeps
        From `analysis.sweep`, of the same models, context lengths and arrays: a line style for each metric.
    """
    arrays, palette = list(dict.fromkeys(energies["array"])), colours(energies.model)
    styles = dict(zip(sweeps.metric.unique(), cycle(("--", ":", "-.")), strict=False))
    figure, axes = grid(len(arrays), (5.5, 4.5), len(arrays), sharey=True)
    for axis, array in zip(axes.flat, arrays, strict=True):
        for model, colour in palette.items():
            rows = energies[(energies["array"] == array) & (energies.model == model)]
            ends = rows.fraction_low, rows.fraction_high
            axis.fill_between(rows.context_length, *ends, color=colour, alpha=0.35, linewidth=2)
            of_model = sweeps[(sweeps["array"] == array) & (sweeps.model == model)]
            for metric, style in styles.items():
                of_metric = of_model[of_model.metric == metric]
                axis.plot(of_metric.context_length, of_metric.fraction, style, color=colour)
        axis.set(title=array, xscale="log", ylim=(0, 1), xlabel="context length, tokens")
        axis.grid(alpha=0.3)
    axes.flat[0].set_ylabel(f"F, projection / ({energies.whole.iloc[0]})")
    handles: list[Any] = [Line2D([], [], color=colour, label=model_label(model)) for model, colour in palette.items()]
    node, memory = energies.node.iloc[0], energies.memory.iloc[0]
    handles.append(Rectangle((0, 0), 1, 1, color="grey", alpha=0.35, label=f"of energy, {node} nm, {memory}"))
    for metric, style in styles.items():
        handles.append(Line2D([], [], color="grey", linestyle=style, label=f"of {metric.replace('_', ' ')}"))
    return finish(figure, title, handles)


def speedup_scatter(frame: pd.DataFrame, title: str) -> Figure:
    """Published speedups against what bytes and datasheets predict, and against their ceilings; colour: the system.

    `frame` comes from `speedups.predict`.
    """
    palette, marker = colours(frame.system), markers(frame.device)
    figure, axes = grid(2, (6.5, 5.6), 2, sharey=True)
    ceiling = f"ceiling: {TOTAL} of time with infinite {PARTIAL},\nF = projection / ({whole(frame)})"
    panels = {"predicted": f"predicted {TOTAL}", "ceiling": ceiling}
    low, high = 0.85 * frame.measured.min(), 1.2 * frame[["measured", "predicted"]].max().max()
    for axis, (across, label) in zip(axes.flat, panels.items(), strict=True):
        for (system, device), rows in frame.groupby(["system", "device"], sort=False):
            style = {"color": palette[system], "marker": marker[device], "alpha": 0.75, "linewidth": 0}
            axis.scatter(rows[across], rows.measured, s=34, **style)
        end = max(high, 1.2 * frame[across].max())
        axis.plot([low, end], [low, end], color="black", linewidth=1)
        axis.set(xscale="log", yscale="log", xlim=(low, end), ylim=(low, high), xlabel=label)
        _mark_1_2_5(axis.xaxis, axis.yaxis)
        axis.grid(alpha=0.3)
    left, right = axes.flat
    left.fill_between([low, high], [low / 1.2, high / 1.2], [low / 0.8, high / 0.8], color="black", alpha=0.07)
    left.set(ylabel=f"measured {TOTAL}", title="(a) black line: as predicted; grey: within 20%")
    right.set_title("(b) by the law, nothing lies above the black line")
    handles = [Line2D([], [], color="none", label="System")]
    handles += [Line2D([], [], color=palette[name], marker="o", linestyle="", label=name) for name in palette]
    handles.append(Line2D([], [], color="none", label="\nDevice"))
    for device, shape in marker.items():
        name = device or "no device (memory)"
        handles.append(Line2D([], [], color="black", marker=shape, markerfacecolor="none", linestyle="", label=name))
    return finish(figure, title, handles)


def limit_scatter(frame: pd.DataFrame, title: str) -> Figure:
    """Published tokens a second of accelerators and boards against the limit of what is stated about them.

    `frame` comes from `accelerators.predict`; rows without a prediction are not drawn.
    """
    drawn = frame.dropna(subset="predicted")
    figure, axes = grid(1, (9, 6.5))
    axis = axes.flat[0]
    low, high = 0.7 * drawn.published.min(), 1.4 * drawn.predicted.max()
    palette, marker = colours(drawn.system), markers(drawn.system)
    for system, rows in drawn.groupby("system", sort=False):
        name = str(system).removesuffix(" (as cited by TeLLMe v2)")
        style = {"s": 34, "color": palette[system], "marker": marker[system], "alpha": 0.8, "linewidth": 0}
        axis.scatter(rows.predicted, rows.published, label=name, **style)
    for part, line in ((1, "-"), (0.5, "--"), (0.1, ":")):
        label = "the limit" if part == 1 else f"{part:g} of it"
        axis.plot([low, high], [part * low, part * high], color="black", linewidth=1, linestyle=line, label=label)
    axis.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), title=title)
    axis.set(xlabel="limit of the stated bytes, bandwidth and peak, tokens/s", ylabel="published, tokens/s")
    _mark_1_2_5(axis.xaxis, axis.yaxis)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return finish(figure)


def systems_on_curves(curves: pd.DataFrame, ranges: pd.DataFrame, title: str) -> Figure:
    """The paper's Amdahl curves, one panel an array, and below them the S_partial that systems have reached.

    Parameters
    ----------
    curves
        From `curves`, of one context length; those of the projections are drawn.
    ranges
        From `speedups.realised`: a bar from the lowest to the highest S_partial, a dot at the median; thin and hollow
        for a single kernel.
    """
    note = curves_whole("curves", curves)
    arrays, palette = list(dict.fromkeys(curves.array)), ramp(curves.model)
    heights = [3.2] * len(arrays) + [0.22 * len(ranges)]
    figure, axes = grid(len(heights), (7.5, sum(heights) / len(heights)), margin=2, sharex=True, height_ratios=heights)
    *above, strip = axes.flat
    drawn = curves[curves.part == "projection"]
    for axis, array in zip(above, arrays, strict=True):
        for model, curve in drawn[drawn.array == array].groupby("model", sort=False):
            axis.plot(curve.partial_speedup, curve.total_speedup, color=palette[model], label=model_label(model))
        axis.set(xscale="log", yscale="log", ylabel=f"{TOTAL}, speedup of the model")
        axis.set_title(f"{array}, l = {curves.context_length.iloc[0]}", size=10)
        _mark_1_2_5(axis.yaxis)
        axis.grid(alpha=0.3)
    _ranges(strip, ranges)
    strip.set(xlabel=f"{PARTIAL}, speedup of the projections", xlim=(1, curves.partial_speedup.max()))
    handles = handles_of(axes)
    for face, label in (("black", "median, whole decode step"), ("white", "median, kernel alone")):
        handles.append(Line2D([], [], color="black", marker="o", markerfacecolor=face, linestyle="", label=label))
    handles.append(Line2D([], [], color="black", marker="|", linewidth=2, alpha=0.5, label="lowest to highest"))
    return finish(figure, title, handles, note=note, loc="outside right center")


def _ranges(axis: Axes, ranges: pd.DataFrame) -> None:
    """One row of `axis` for each range: bar and dot, in the colour of the device."""
    devices = colours(ranges.device)
    for place, row in enumerate(ranges.to_dict("records")):
        colour, step = devices[row["device"]], row["kind"] == "step"
        bar: dict[str, Any] = {"color": colour, "linewidth": 4 if step else 1, "alpha": 0.5, "markersize": 7}
        axis.plot([row["low"], row["high"]], [place, place], "|-", **bar)
        axis.plot(row["median"], place, "o", color=colour, markerfacecolor=colour if step else "white", markersize=5)
    kinds = ranges.kind.map({"step": ", ", "kernel": " kernel, "})
    names = ranges.system.str.removesuffix(" kernel") + " " + ranges.format + kinds + ranges.device
    axis.set_yticks(range(len(ranges)), names.tolist(), size=8)
    _mark_1_2_5(axis.xaxis)
    axis.invert_yaxis()
    axis.grid(alpha=0.3)


def _mark_1_2_5(*scales: Axis) -> None:
    """Ticks of logarithmic scales at 1, 2 and 5 of each decade."""
    for scale in scales:
        scale.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        scale.set_major_formatter("{x:g}")
        scale.set_minor_locator(NullLocator())
