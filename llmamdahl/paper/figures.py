"""Figures that belong to this paper, to the measurements that test it and to the speedups that others published."""

from __future__ import annotations

import re
from itertools import cycle
from typing import Any

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
    TEXT,
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
    figure, axes = grid(len(panels), 2.3, max(1, len(panels) // 2), sharey="row")
    for axis, ((array, ifmap), rows) in zip(axes.flat, panels, strict=True):
        _dataflows(axis, rows, "is" if ifmap == "activations" else "ws")
        axis.set(title=f"{array}, ifmap holds the {ifmap}", yscale="log")
        axis.yaxis.set_major_formatter(lambda value, _: f"{value / 1e6:,g}")
        axis.grid(alpha=0.3, axis="y")
        sns.despine(ax=axis)
    for axis in axes[:, 0]:
        axis.set_ylabel("total cycles, millions")
    ring = Line2D([], [], linestyle="", marker="o", markersize=6, markerfacecolor="none", color="black")
    ring.set_label("corrected counts")
    return finish(figure, title, [*handles_of(axes), ring])


def _dataflows(axis: Axes, rows: pd.DataFrame, runner_up: str) -> None:
    """One panel's dots, and how close the runner-up comes to OS, below each model and below the panel."""
    reported, corrected = (rows[rows.counting == counting] for counting in ("reported", "corrected"))
    for offset, (dataflow, colour) in zip((-0.27, 0, 0.27), colours(("os", "ws", "is")).items(), strict=True):
        places = [place + offset for place in range(len(reported))]
        axis.plot(places, reported[dataflow], "o", color=colour, markersize=3.5, label=dataflow.upper())
        axis.plot(
            places, corrected[dataflow], "o", markerfacecolor="none", color="black", markersize=6, markeredgewidth=0.8
        )
    ratios, exact = ((counted[runner_up] / counted["os"]).tolist() for counted in (reported, corrected))
    names = [
        f"{model_label(model)}\n{ratio:.3f}".replace(" ", "\n")
        for model, ratio in zip(reported.model, ratios, strict=True)
    ]
    axis.set_xticks(range(len(reported)), names)
    exactly = "1 exactly" if set(exact) == {1.0} else f"{min(exact):.3f} to {max(exact):.3f}"
    axis.set_xlabel(f"below each model: {runner_up.upper()} / OS as reported; corrected: {exactly}")


def shift_maps(frame: pd.DataFrame, title: str) -> Figure:
    """How far the corrected counts move F, laid out as `heat_maps`; `frame` comes from `correction_shift`.

    A metric that moves by less than a tenth of the other is put in words below the map.
    """
    ends = frame.groupby("metric", sort=False)["shift"].agg(["min", "max"])
    widest = ends.abs().to_numpy().max()
    drawn = ends[ends.abs().max(axis=1) >= 0.1 * widest].index
    bar = f"corrected F - reported F,\n{fraction_label(frame)}"
    style = {"vmin": -widest, "vmax": widest, "cmap": "coolwarm"}
    figure = maps(frame[frame.metric.isin(drawn)], title, PANELS, "{:+.3f}".format, value="shift", bar=bar, **style)
    for name, low, high in ends.drop(drawn).itertuples():  # one of the two at most
        figure.supxlabel(f"{PANELS[name]}: {low:+.3f} to {high:+.3f} everywhere", size=TEXT["label"])
    return figure


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
    figure, axes = grid(1, 1.5 + 0.165 * len(rows))
    axis = axes[0, 0]
    _cells(axis, frame, "id", "reading", labels, names, size=5)
    axis.set_xticks(axis.get_xticks(), names, rotation=90)
    kinds = int((rows.asserts == "kind").sum())
    axis.axhline(kinds, color="black", linewidth=1.2)
    for place, text in ((kinds / 2, "which part matters"), ((kinds + len(rows)) / 2, "a printed number")):
        axis.text(len(names) + 0.15, place, text, rotation=270, ha="left", va="center", size=6)
    finish(figure, title, _holds_or_not())
    axis.tick_params(labelsize=5.5)
    return figure


def conclusion_matrix(frame: pd.DataFrame, title: str) -> Figure:
    """The paper's conclusions: readings down, conclusions and arrays across, our value in each cell.

    `frame` comes from `readings.conclusions_under`.
    """
    models = frame.models.str.upper().str.replace("OPT-", "").str.replace(" ", ",\n")
    lengths = frame.context_lengths.str.replace(" .* ", " to ", regex=True).str.replace(" ", "\n", n=1)
    about = [frame.conclusion.str.replace(", ", ",\n"), "OPT " + models, "l = " + lengths, frame.checked, frame.array]
    frame = frame.assign(column=["\n".join(lines) for lines in zip(*about, strict=True)])
    readings, columns = (list(dict.fromkeys(frame[name])) for name in ("reading", "column"))
    figure, axes = grid(1, 1.0 + 0.19 * len(readings))
    _cells(axes[0, 0], frame, "reading", "column", readings, columns, size=6.5)
    return finish(figure, title, _holds_or_not())


def _cells(
    axis: Axes, frame: pd.DataFrame, down: str, across: str, labels: list[str], names: list[str], size: float
) -> None:
    """Draw `value` in a cell for each value of the columns `down` and `across`, coloured by `holds`."""
    rows, columns = (list(dict.fromkeys(frame[name])) for name in (down, across))
    for cell in frame.to_dict("records"):
        place = columns.index(cell[across]), rows.index(cell[down])
        colour = STATEMENT_COLOURS[cell["holds"]]
        axis.add_patch(Rectangle(place, 1, 1, facecolor=colour, edgecolor="white", linewidth=1.5))
        digits = 4 if abs(cell["value"]) >= 0.1 else 2 if abs(cell["value"]) >= 0.001 else 1
        text = re.sub(r"^(-?)0\.", r"\1.", f"{cell['value']:.{digits}g}")  # .0057: a cell holds five characters
        axis.text(place[0] + 0.5, place[1] + 0.5, text, ha="center", va="center", size=size)
    axis.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
    axis.xaxis.tick_top()
    axis.set_xticks([place + 0.5 for place in range(len(columns))], names)
    axis.set_yticks([place + 0.5 for place in range(len(rows))], labels)
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
    figure, axes = grid(1, 0.6 + 0.32 * len(readings))
    axis = axes[0, 0]
    for place, reading in enumerate(readings):
        lengths = frame[frame.reading == reading].context_length
        found = lengths.dropna().astype(float)
        # models side by side in the strip, in the order of the frame, so that equal lengths stay visible
        spread = np.linspace(-0.28, 0.28, len(found))
        axis.scatter(found, place + spread, s=6, color="C0", alpha=0.7, linewidths=0)
        # a model that never overtakes has a longer context than any
        median = lengths.astype(float).fillna(np.inf).median()
        axis.plot([median, median], [place - 0.38, place + 0.38], color="black", linewidth=2)
        never = int(lengths.isna().sum())
        if never:
            axis.text(1.01, place, f"{never} never", transform=axis.get_yaxis_transform(), va="center", size=6.5)
    axis.set_yticks(range(len(readings)), readings)
    axis.set(
        xscale="log",
        xlabel="context length at which F = 1/2 (of seconds where GB/s are given, else of cycles), tokens",
        ylim=(len(readings) - 0.5, -0.5),
    )
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.grid(alpha=0.3, axis="x")
    sns.despine(ax=axis)
    dot = Line2D([], [], color="C0", marker="o", markersize=3, linestyle="", label="a model")
    median_line = Line2D([], [], color="black", linewidth=2, label="median of all models")
    return finish(figure, title, [dot, median_line])


def latency_maps(frame: pd.DataFrame, title: str) -> Figure:
    """F of latency on one device, for both forms of attention, laid out as `heat_maps` (Figure 13).

    `frame` holds rows of `recorded.fractions` of one device, dtype, launch and batch.
    """
    return maps(frame, title, LATENCY, "{:.3f}".format, by="attention", bar=fraction_label(frame), **FRACTIONS)


def prediction_scatter(frame: pd.DataFrame, title: str) -> Figure:
    """S_total by Equation (5) and as measured: one panel a form of attention; `frame`: `recorded.predictions`."""
    palette, marker = colours(frame.weights), markers(frame.weights)
    figure, axes = grid(2, 3.2, 2, sharex=True, sharey=True)
    low, high = (getattr(frame[["predicted", "measured"]], end)().agg(end) for end in ("min", "max"))
    for axis, (form, name) in zip(axes.flat, FORMS.items(), strict=True):
        axis.plot([low, high], [low, high], color="black", linewidth=1, label="the law holds")
        for kind, colour in palette.items():
            rows = frame[(frame.weights == kind) & (frame.attention == form)]
            style = {"s": 7, "linewidth": 0, "color": colour, "marker": marker[kind], "alpha": 0.7}
            axis.scatter(rows.predicted, rows.measured, label=f"{kind} projections", **style)
        axis.set(title=name, xscale="log", yscale="log", xlabel=f"{TOTAL} predicted by Equation (5)")
        for scale in (axis.xaxis, axis.yaxis):
            label_decades(scale, "2358")
        axis.set_aspect("equal")
        axis.grid(alpha=0.3, which="both")
    axes[0, 0].set_ylabel(f"{TOTAL} measured")
    return finish(figure, title, handles_of(axes))


def roofline_points(frame: pd.DataFrame, title: str) -> Figure:
    """Latency against the bytes that must move, and the limit of the bus; `frame`: `recorded.against_bandwidth`."""
    shown = frame[frame.part.isin(["projection", "attention"])].copy()
    shown["what"] = (shown.weights + " projections").where(shown.part == "projection", shown.attention.map(FORMS))
    figure, axes = grid(1, 3.6)
    axis, bus = axes.flat[0], frame.sort_values("kilobytes")
    gb_s = bus.kilobytes.iloc[-1] / bus.limit_us.iloc[-1]
    axis.plot(bus.kilobytes / 1e3, bus.limit_us, color="black", linewidth=1, label=f"limit of the bus, {gb_s:.3g} GB/s")
    marker = markers(shown.what)
    for what, colour in colours(shown.what).items():
        rows = shown[shown.what == what]
        style = {"s": 8, "linewidth": 0, "color": colour, "marker": marker[what], "alpha": 0.7}
        axis.scatter(rows.kilobytes / 1e3, rows.median_us, label=what, **style)
    axis.set(xscale="log", yscale="log")
    axis.set(xlabel="what a part of one block must read, MB", ylabel="median latency, µs")
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_formatter(lambda value, _: f"{value:,g}")
    axis.grid(alpha=0.3)
    return finish(figure, title, handles_of(axes))


def third_part_lines(frame: pd.DataFrame, title: str) -> Figure:
    """Ceilings without the third part (dashed) and with it (solid): one panel a setup, context lengths across.

    `frame` holds rows of `breakdowns.ceilings`, with a column setup.
    """
    setups = list(dict.fromkeys(frame.setup))
    figure, axes = grid(len(setups), 1.9, min(3, len(setups)), sharey=True)
    styles = {"ceiling": ("--", "projection + attention"), "ceiling_of_three": ("-", "projection + attention + other")}
    for axis, setup in zip(axes.flat, setups, strict=False):
        rows = frame[frame.setup == setup].sort_values("context_length")
        for (name, (dashes, label)), colour in zip(styles.items(), colours(styles).values(), strict=True):
            axis.plot(
                rows.context_length,
                rows[name],
                dashes,
                color=colour,
                marker="o",
                markersize=2.5,
                linewidth=1,
                label=label,
            )
        lengths = rows.context_length.tolist()
        doubling(axis, [length for length in lengths if length & (length - 1) == 0] or lengths)
        axis.set(title=setup, yscale="log", xlabel="context length")
        label_decades(axis.yaxis, "235")
        axis.grid(alpha=0.3, which="both", axis="y")
    for axis in axes[:, 0]:
        axis.set_ylabel("ceiling, 1 / (1 - F)")
    return finish(figure, title, handles_of(axes), note="F = projection / whole, with the whole:")


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
    columns = min(3, len(formats))
    shape = -(-len(formats) // columns)
    figure, axes = grid(2 * columns * shape, 1.15, columns, sharex=True)
    pairs = [(axes[row, column], axes[row + 1, column]) for row in range(0, 2 * shape, 2) for column in range(columns)]
    for place, pair in enumerate(pairs[1:], 1):
        for axis, first in zip(pair, pairs[0], strict=True):
            axis.sharey(first)
            axis.set_visible(place < len(formats))
            axis.tick_params(which="both", labelleft=place % columns == 0)
    for (above, below), weights in zip(pairs, formats, strict=False):
        of_format = frame[frame.weights == weights]
        promised = of_format.bits_speedup.iloc[0]
        above.axhline(promised, color="black", linestyle="--", linewidth=0.8)
        for axis, value in ((above, "partial_speedup"), (below, "total_speedup")):
            axis.axhline(1, color="black", linewidth=0.8)
            for setup, rows in of_format.groupby("setup", sort=False):
                places = rows.model.map(models.index) + beside[setup]
                style = {"color": palette[setup], "marker": marker[setup], "linestyle": "", "markersize": 3}
                axis.plot(places, rows[value], label=setup, **style)
                if axis is below:
                    axis.plot(places, rows.ceiling, "_", color=palette[setup], markersize=4, markeredgewidth=1.2)
            axis.set(yscale="log", xlim=(-0.6, len(models) - 0.4))
            label_decades(axis.yaxis, "25")
            axis.grid(alpha=0.3, axis="y", which="both")
        above.set_title(f"{FORMATS[weights]}: {promised:.3g} by bits")
        below.set_xticks(range(len(models)), map(model_label, models), rotation=90)
    for above, below in pairs[::columns]:
        above.set_ylabel(PARTIAL)
        below.set_ylabel(TOTAL)
    handles = [Line2D([], [], color=palette[name], marker=marker[name], linestyle="", label=name) for name in palette]
    handles.append(Line2D([], [], color="black", linestyle="--", label="speedup by the bits of a weight"))
    handles.append(Line2D([], [], color="black", marker="_", linestyle="", label="ceiling of the model's speedup"))
    return finish(figure, title, handles)


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
    figure, axes = grid(len(arrays), 2.6, len(arrays), sharey=True)
    for axis, array in zip(axes.flat, arrays, strict=True):
        for model, colour in palette.items():
            rows = energies[(energies["array"] == array) & (energies.model == model)]
            ends = rows.fraction_low, rows.fraction_high
            axis.fill_between(rows.context_length, *ends, color=colour, alpha=0.35, linewidth=1.5)
            of_model = sweeps[(sweeps["array"] == array) & (sweeps.model == model)]
            for metric, style in styles.items():
                of_metric = of_model[of_model.metric == metric]
                axis.plot(of_metric.context_length, of_metric.fraction, style, color=colour, linewidth=1)
        doubling(axis, energies.context_length)
        axis.set(title=f"{array} array", ylim=(0, 1), xlabel="context length")
    axes.flat[0].set_ylabel(fraction_label(energies))
    handles: list[Any] = [Line2D([], [], color=colour, label=model_label(model)) for model, colour in palette.items()]
    node, memory = energies.node.iloc[0], energies.memory.iloc[0]
    handles.append(
        Rectangle((0, 0), 1, 1, color="grey", alpha=0.35, label=f"F of energy, {node} nm, {memory}: lowest to highest")
    )
    for metric, style in styles.items():
        handles.append(Line2D([], [], color="grey", linestyle=style, label=f"F of {metric.replace('_', ' ')}"))
    return finish(figure, title, handles)


def speedup_scatter(frame: pd.DataFrame, title: str) -> Figure:
    """Published speedups against what bytes and datasheets predict, and against their ceilings; colour: the system.

    `frame` comes from `speedups.predict`.
    """
    palette, marker = colours(frame.system), markers(frame.device)
    figure, axes = grid(2, 3.2, 2, sharey=True)
    ceiling = f"ceiling: {TOTAL} of time with infinite {PARTIAL},\nF = projection / ({whole(frame)})"
    panels = {"predicted": f"predicted {TOTAL}", "ceiling": ceiling}
    low, high = 0.85 * frame.measured.min(), 1.2 * frame[["measured", "predicted"]].max().max()
    for axis, (across, label) in zip(axes.flat, panels.items(), strict=True):
        for (system, device), rows in frame.groupby(["system", "device"], sort=False):
            style = {"color": palette[system], "marker": marker[device], "alpha": 0.75, "linewidth": 0}
            axis.scatter(rows[across], rows.measured, s=13, **style)
        end = max(high, 1.2 * frame[across].max())
        axis.plot([low, end], [low, end], color="black", linewidth=1)
        axis.set(xscale="log", yscale="log", xlim=(low, end), ylim=(low, high), xlabel=label)
        _mark_1_2_5(axis.xaxis, axis.yaxis)
        axis.grid(alpha=0.3)
    left, right = axes.flat
    left.fill_between([low, high], [low / 1.2, high / 1.2], [low / 0.8, high / 0.8], color="black", alpha=0.07)
    left.set(ylabel=f"measured {TOTAL}", title="(a) black line: as predicted; grey: within 20%")
    right.set_title("(b) by the law, nothing lies above the black line")
    systems = [Line2D([], [], color=palette[name], marker="o", linestyle="", label=name) for name in palette]
    hollow: dict[str, Any] = {"color": "black", "markerfacecolor": "none", "linestyle": ""}
    devices = [Line2D([], [], marker=marker[name], label=name or "no device (memory)", **hollow) for name in marker]
    beside: dict[str, Any] = {"alignment": "left", "markerscale": 0.8}
    finish(figure, title, systems, note="System (colour)", loc="outside lower left", ncols=4, **beside)
    return finish(figure, "", devices, note="Device (marker)", loc="outside lower right", ncols=3, **beside)


def limit_scatter(frame: pd.DataFrame, title: str) -> Figure:
    """Published tokens a second of accelerators and boards against the limit of what is stated about them.

    `frame` comes from `accelerators.predict`; rows without a prediction are not drawn.
    """
    drawn = frame.dropna(subset="predicted")
    figure, axes = grid(1, 4.2)
    axis = axes.flat[0]
    low, high = 0.7 * drawn.published.min(), 1.4 * drawn.predicted.max()
    palette, marker = colours(drawn.system), markers(drawn.system)
    filled = [*palette][:10]  # then the colours begin again
    for system, rows in drawn.groupby("system", sort=False):
        name = str(system).removesuffix(" (as cited by TeLLMe v2)")
        style = {"s": 16, "color": palette[system], "marker": marker[system], "alpha": 0.8, "linewidth": 0.9}
        style |= {} if system in filled else {"facecolors": "none"}
        axis.scatter(rows.predicted, rows.published, label=name, **style)
    for part, line in ((1, "-"), (0.5, "--"), (0.1, ":")):
        label = "the limit" if part == 1 else f"{part:g} of the limit"
        axis.plot([low, high], [part * low, part * high], color="black", linewidth=1, linestyle=line, label=label)
    axis.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    axis.set(xlabel="limit of the stated bytes, bandwidth and peak, tokens/s", ylabel="published, tokens/s")
    _mark_1_2_5(axis.xaxis, axis.yaxis)
    axis.grid(alpha=0.3)
    return finish(figure, title, handles_of(axes), loc="outside right center", ncols=1)


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
    of_curves = curves_whole("curves", curves)
    arrays, palette = list(dict.fromkeys(curves.array)), ramp(curves.model)
    heights = [1.7] * len(arrays) + [0.3 + 0.13 * len(ranges)]
    figure, axes = grid(len(heights), sum(heights) / len(heights), sharex=True, height_ratios=heights)
    *above, strip = axes.flat
    drawn = curves[curves.part == "projection"]
    for axis, array in zip(above, arrays, strict=True):
        for model, curve in drawn[drawn.array == array].groupby("model", sort=False):
            axis.plot(
                curve.partial_speedup,
                curve.total_speedup,
                color=palette[model],
                linewidth=1.2,
                label=model_label(model),
            )
        axis.set(xscale="log", yscale="log", ylabel=f"{TOTAL}, speedup of\nthe model")
        axis.set_title(f"{array}, l = {curves.context_length.iloc[0]}, {of_curves}")
        _mark_1_2_5(axis.yaxis)
        axis.grid(alpha=0.3)
    _ranges(strip, ranges)
    strip.set(xlabel=f"{PARTIAL}, speedup of the projections", xlim=(1, curves.partial_speedup.max()))
    strip.set_title(f"{PARTIAL} reached; of decode steps, whole: projection + attention + unquantized")
    handles = handles_of(axes)
    for face, label in (("black", "median, whole decode step"), ("white", "median, kernel alone")):
        handles.append(Line2D([], [], color="black", marker="o", markerfacecolor=face, linestyle="", label=label))
    handles.append(Line2D([], [], color="black", marker="|", linewidth=2, alpha=0.5, label="lowest to highest"))
    return finish(figure, title, handles)


def _ranges(axis: Axes, ranges: pd.DataFrame) -> None:
    """One row of `axis` for each range: bar and dot, in the colour of the device."""
    devices = colours(ranges.device)
    for place, row in enumerate(ranges.to_dict("records")):
        colour, step = devices[row["device"]], row["kind"] == "step"
        bar: dict[str, Any] = {"color": colour, "linewidth": 3 if step else 1, "alpha": 0.5, "markersize": 4}
        axis.plot([row["low"], row["high"]], [place, place], "|-", **bar)
        axis.plot(row["median"], place, "o", color=colour, markerfacecolor=colour if step else "white", markersize=3)
    kinds = ranges.kind.map({"step": ", ", "kernel": " kernel, "})
    names = ranges.system.str.removesuffix(" kernel") + " " + ranges.format + kinds + ranges.device
    axis.set_yticks(range(len(ranges)), names.tolist())
    _mark_1_2_5(axis.xaxis)
    axis.invert_yaxis()
    axis.grid(alpha=0.3)


def _mark_1_2_5(*scales: Axis) -> None:
    """Ticks of logarithmic scales at 1, 2 and 5 of each decade."""
    for scale in scales:
        scale.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        scale.set_major_formatter("{x:g}")
        scale.set_minor_locator(NullLocator())
