"""The paper's figures: DataFrame in, Figure out; `save` puts the PNG and the CSV behind it side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullLocator

from llmamdahl.errors import InputError
from llmamdahl.models import FAMILY, PRINTED, get_model, table2_true
from llmamdahl.paper.published import as_printed
from llmamdahl.tables import FIGURES

PANELS = {
    "cycles": "(a) Compute Cycles",
    "memory_accesses": "(b) Memory Access",
    "matmul": "(a) Latency, attention as two MatMuls",
    "fused": "(b) Latency, attention fused",
}
FRACTIONS = {"vmin": 0, "vmax": 1, "cmap": "BrBG"}
PARTIAL = "$S_{partial}$"
TOTAL = "$S_{total}$"


def save(figure: Figure, frame: pd.DataFrame, name: str) -> Figure:
    """Write `figures/NAME.png` and `figures/NAME.csv`, the numbers drawn; return the figure."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURES / f"{name}.png", dpi=150, metadata={"Software": None})
    frame.to_csv(FIGURES / f"{name}.csv", index=False, lineterminator="\n")
    return figure


def heat_maps(frame: pd.DataFrame, title: str) -> Figure:
    """F of cycles and of memory accesses, models across, context length down (Figures 4, 6, 9 and 10).

    `frame` is a sweep of one array and dataflow. Cells are labelled as Figure 6 prints them.
    """
    _one_design(frame)
    return _two_maps(frame, title, "fraction", as_printed, FRACTIONS, "F, projections")


def shift_maps(frame: pd.DataFrame, title: str) -> Figure:
    """How far the corrected counts move F, laid out as `heat_maps`; `frame` comes from `sweep.correction_shift`."""
    _one_design(frame)
    widest = frame["shift"].abs().max()
    style = dict(vmin=-widest, vmax=widest, cmap="coolwarm")
    return _two_maps(frame, title, "shift", "{:+.3f}".format, style, "corrected F - reported F")


def latency_maps(frame: pd.DataFrame, title: str) -> Figure:
    """F of latency on one device, for both forms of attention, laid out as `heat_maps` (Figure 13).

    `frame` holds rows of `recorded.fractions` of one device, dtype, launch and batch.
    """
    return _two_maps(frame, title, "fraction", "{:.3f}".format, FRACTIONS, "F of latency, projections", "attention")


def fraction_lines(frame: pd.DataFrame, title: str, across: str = "context_length") -> Figure:
    """F against column `across` (`context_length` or `batch`), one panel a model, one line for each `source`.

    A source is what F is of: a simulated array, a device, a kind of model.
    """
    models, sources = list(dict.fromkeys(frame.model)), list(dict.fromkeys(frame.source))
    cols = len(models) if len(models) <= 4 else 3
    rows = -(-len(models) // cols)
    size = (4 * cols + 2.5, 3.6 * rows)
    figure, axes = plt.subplots(rows, cols, figsize=size, sharey=True, squeeze=False, layout="constrained")
    for unused in axes.flat[len(models) :]:
        unused.set_visible(False)
    for axis, model in zip(axes.flat, models, strict=False):
        for place, source in enumerate(sources):
            line = frame[(frame.model == model) & (frame.source == source)].sort_values(across)
            style = {"color": sns.color_palette("colorblind")[place], "marker": "osD^vX*"[place]}
            axis.plot(line[across], line.fraction, label=source, **style)
        places = sorted(frame[across].unique())
        axis.set_xscale("log", base=2)
        axis.set_xticks(places, [str(place) for place in places], size=8)
        axis.set(title=_described(model)[1], xlabel=across.replace("_", " "), ylim=(0, 1))
        axis.grid(alpha=0.3)
    for axis in axes[:, 0]:
        axis.set_ylabel("F, projections")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    figure.suptitle(title)
    return _done(figure)


def fraction_by_size_lines(frame: pd.DataFrame, title: str) -> Figure:
    """F against the size of a square array, a panel a metric, a line a model.

    `frame` holds rows of `questions.fraction_by_array_size` of one context length and dataflow.
    """
    panels = {metric: panel for metric, panel in PANELS.items() if metric in set(frame.metric)}
    sizes, models = sorted(frame["size"].unique()), list(dict.fromkeys(frame.model))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.5 * len(panels) + 2, 4.2), squeeze=False, sharey=True, layout="constrained"
    )
    for axis, (metric, panel) in zip(axes.flat, panels.items(), strict=True):
        for model, colour in zip(models, sns.color_palette("viridis", len(models)), strict=True):
            line = frame[(frame.metric == metric) & (frame.model == model)].sort_values("size")
            axis.plot(line["size"], line.fraction, color=colour, marker="o", markersize=4, label=_described(model)[1])
        axis.axhline(0.5, color="black", linestyle=":", linewidth=1)
        axis.set_xscale("log", base=2)
        axis.set_xticks(sizes, [f"{size}" for size in sizes])
        axis.minorticks_off()
        axis.set(title=panel, xlabel="rows = columns of the array", ylim=(0, 1))
        axis.grid(alpha=0.3)
    axes.flat[0].set_ylabel("F, projections")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    figure.suptitle(title)
    return _done(figure)


def crossover_bars(frame: pd.DataFrame, title: str) -> Figure:
    """The context length at which attention overtakes, a panel a metric, a bar for each array of a model.

    A dash is the longest context the model was trained for; an asterisk stands where attention never overtakes.
    `frame` comes from `questions.crossovers`.
    """
    panels = {metric: panel for metric, panel in PANELS.items() if metric in set(frame.metric)}
    designs = list(dict.fromkeys(zip(frame.array, frame.dataflow, strict=True)))
    models = list(dict.fromkeys(frame.model))
    longest = frame.drop_duplicates("model").max_position
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(max(7, 1.5 + 0.85 * len(models)), 3.6 * len(panels)), squeeze=False, sharey=True,
        layout="constrained",
    )  # fmt: skip
    width = 0.8 / len(designs)
    for axis, (metric, panel) in zip(axes.flat, panels.items(), strict=True):
        for place, (array, dataflow) in enumerate(designs):
            bars = frame[(frame.metric == metric) & (frame.array == array) & (frame.dataflow == dataflow)]
            lengths = bars.set_index("model").context_length.reindex(models)
            offsets = [at + (place - (len(designs) - 1) / 2) * width for at in range(len(models))]
            colour = sns.color_palette("colorblind")[place]
            axis.bar(offsets, lengths.fillna(0).astype(int), width, color=colour, label=f"{array}, {dataflow.upper()}")
            for offset, missing in zip(offsets, lengths.isna(), strict=True):
                if missing:
                    axis.text(offset, longest.min() / 2, "*", color=colour, ha="center", size=14)
        for at, length in enumerate(longest):
            axis.hlines(length, at - 0.45, at + 0.45, "black")
        axis.set_yscale("log", base=2)
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_xticks(range(len(models)), [_broken(model) for model in models])
        axis.set(title=panel, ylabel="context length")
        axis.set_ylim(longest.min() / 4, 1.5 * frame[["context_length", "max_position"]].max().max())
        axis.grid(alpha=0.3, axis="y")
        sns.despine(ax=axis)
    handles, _ = axes.flat[0].get_legend_handles_labels()
    handles.append(Line2D([], [], color="black", label="longest context trained for"))
    if frame.context_length.isna().any():
        handles.append(Line2D([], [], color="black", linestyle="", marker="$*$", label="never overtakes"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.suptitle(title)
    return _done(figure)


def zoo_dots(frame: pd.DataFrame, title: str) -> Figure:
    """F of many models, a line of dots each, sorted by the last context length; a panel an array.

    `frame` is a sweep of one metric and dataflow.
    """
    arrays, lengths = list(dict.fromkeys(frame.array)), sorted(frame.context_length.unique())
    last = frame[(frame.array == arrays[0]) & (frame.context_length == lengths[-1])]
    models = last.sort_values("fraction").model.tolist()
    size = (5 * len(arrays) + 2, 1.2 + 0.2 * len(models))
    figure, axes = plt.subplots(1, len(arrays), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axis, array in zip(axes.flat, arrays, strict=True):
        for place, length in enumerate(lengths):
            dots = frame[(frame.array == array) & (frame.context_length == length)].set_index("model")
            style = {"color": sns.color_palette("colorblind")[place], "marker": "osD^vX"[place]}
            axis.scatter(dots.fraction.loc[models], range(len(models)), s=18, label=f"l = {length}", **style)
        axis.set_yticks(range(len(models)), [_described(model)[1] for model in models], size=8)
        axis.set(title=array, xlabel="F, projections", xlim=(0, 1), ylim=(-1, len(models)))
        axis.grid(alpha=0.3)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(lengths), frameon=False)
    figure.suptitle(title)
    return _done(figure)


def prediction_scatter(frame: pd.DataFrame, title: str) -> Figure:
    """S_total by Equation (5) and as measured, a panel each form of attention; `frame`: `recorded.predictions`."""
    names = {"matmul": "attention as two MatMuls", "fused": "attention fused"}
    kinds = list(dict.fromkeys(frame.weights))
    figure, axes = plt.subplots(1, 2, figsize=(11, 5), sharex=True, sharey=True, layout="constrained")
    low, high = (getattr(frame[["predicted", "measured"]], end)().agg(end) for end in ("min", "max"))
    for axis, (form, name) in zip(axes, names.items(), strict=True):
        axis.plot([low, high], [low, high], color="black", linewidth=1, label="the law holds")
        for place, kind in enumerate(kinds):
            rows = frame[(frame.weights == kind) & (frame.attention == form)]
            style = {"color": sns.color_palette("colorblind")[place], "marker": "osD"[place], "alpha": 0.7}
            axis.scatter(rows.predicted, rows.measured, s=22, label=f"{kind} projections", **style)
        axis.set(title=name, xscale="log", yscale="log", xlabel=f"{TOTAL} predicted", ylabel=f"{TOTAL} measured")
        for scale in (axis.xaxis, axis.yaxis):
            scale.set_major_formatter(lambda value, _: f"{value:g}")
            scale.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "2358" else "")
        axis.set_aspect("equal")
        axis.grid(alpha=0.3, which="both")
        axis.legend(frameon=False, loc="upper left")
    figure.suptitle(title)
    return _done(figure)


def roofline_points(frame: pd.DataFrame, title: str) -> Figure:
    """Latency against the bytes that must move, next to the limit of the bus; `frame`: `recorded.against_bandwidth`."""
    shown = frame[frame.part.isin(["projection", "attention"])].copy()
    shown["what"] = (shown.weights + " projections").where(shown.part == "projection", shown.attention + " attention")
    figure, axis = plt.subplots(figsize=(8.5, 5.5), layout="constrained")
    bus = frame.sort_values("kilobytes")
    axis.plot(bus.kilobytes / 1e3, bus.limit_us, color="black", linewidth=1, label="limit of the bus")
    for place, (what, rows) in enumerate(shown.groupby("what", sort=False)):
        style = {"color": sns.color_palette("colorblind")[place], "marker": "osD^vX*"[place], "alpha": 0.7}
        axis.scatter(rows.kilobytes / 1e3, rows.median_us, s=18, label=what, **style)
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="MB that must be read, of one block",
        ylabel="median latency, µs",
        title=title,
    )
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return _done(figure)


def speedup_scatter(frame: pd.DataFrame, title: str) -> Figure:
    """Published speedups against what bytes and datasheets predict, and against their ceilings; colour: the system.

    `frame` comes from `speedups.predictions`.
    """
    systems, devices = list(dict.fromkeys(frame.system)), list(dict.fromkeys(frame.device))
    colours = dict(zip(systems, sns.color_palette("tab10", len(systems)), strict=True))
    markers = dict(zip(devices, "osD^vX*P", strict=False))
    figure, axes = plt.subplots(1, 2, figsize=(13, 5.6), sharey=True, layout="constrained")
    panels = {"predicted": f"predicted {TOTAL}", "ceiling": "ceiling, 1 / (1 - F), F of time"}
    low, high = 0.85 * frame.measured.min(), 1.2 * frame[["measured", "predicted"]].max().max()
    for axis, (across, label) in zip(axes, panels.items(), strict=True):
        for (system, device), rows in frame.groupby(["system", "device"], sort=False):
            style = {"color": colours[system], "marker": markers[device], "alpha": 0.75, "linewidth": 0}
            axis.scatter(rows[across], rows.measured, s=34, **style)
        end = max(high, 1.2 * frame[across].max())
        axis.plot([low, end], [low, end], color="black", linewidth=1)
        axis.set(xscale="log", yscale="log", xlim=(low, end), ylim=(low, high), xlabel=label)
        _mark_1_2_5(axis.xaxis, axis.yaxis)
        axis.grid(alpha=0.3)
    axes[0].fill_between([low, high], [low / 1.2, high / 1.2], [low / 0.8, high / 0.8], color="black", alpha=0.07)
    axes[0].set(ylabel=f"measured {TOTAL}", title="(a) black line: as predicted; grey: within 20%")
    axes[1].set_title("(b) by the law, nothing lies above the black line")
    handles = [Line2D([], [], color=colours[system], marker="o", linestyle="", label=system) for system in systems]
    handles += [
        Line2D([], [], color="grey", marker=markers[device], linestyle="", label=device or "no device (memory)")
        for device in devices
    ]
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    figure.suptitle(title)
    return _done(figure)


def systems_on_curves(curves: pd.DataFrame, ranges: pd.DataFrame, title: str) -> Figure:
    """The paper's Amdahl curves, a panel an array, and below them the S_partial that systems have reached.

    `curves` comes from `amdahl.curves`, of one context length (the projections' are drawn); `ranges` from
    `speedups.realised`: a bar from the lowest to the highest, a dot at the median; thin and hollow for a kernel alone.
    """
    arrays, models = list(dict.fromkeys(curves.array)), list(dict.fromkeys(curves.model))
    colours = dict(zip(models, sns.color_palette("viridis", len(models)), strict=True))
    devices = dict(zip(dict.fromkeys(ranges.device), sns.color_palette("colorblind"), strict=False))
    size = (6 * len(arrays) + 1.5, 5 + 0.24 * len(ranges))
    figure, axes = plt.subplots(
        2, len(arrays), figsize=size, sharex=True, sharey="row", squeeze=False, layout="constrained",
        height_ratios=(4, 0.24 * len(ranges)),
    )  # fmt: skip
    for (axis, strip), array in zip(axes.T, arrays, strict=True):
        for model, curve in curves[(curves.array == array) & (curves.part == "projection")].groupby(
            "model", sort=False
        ):
            axis.plot(curve.partial_speedup, curve.total_speedup, color=colours[model], label=_described(model)[1])
        axis.set(xscale="log", yscale="log", title=f"{array}, l = {curves.context_length.iloc[0]}")
        _mark_1_2_5(axis.yaxis)
        axis.grid(alpha=0.3)
        for place, row in enumerate(ranges.itertuples()):
            colour = devices[row.device]
            width = 4 if row.kind == "step" else 1
            strip.plot(
                [row.low, row.high], [place, place], "|-", color=colour, linewidth=width, alpha=0.5, markersize=7
            )
            face = colour if row.kind == "step" else "white"
            strip.plot(row.median, place, "o", color=colour, markerfacecolor=face, markersize=5)
        kinds = ranges.kind.map({"step": ", ", "kernel": " kernel, "})
        names = ranges.system.str.removesuffix(" kernel") + " " + ranges.format + kinds + ranges.device
        strip.set_yticks(range(len(ranges)), names.tolist(), size=8)
        strip.set(xlabel=f"{PARTIAL}, speedup of the projections", xlim=(1, curves.partial_speedup.max()))
        _mark_1_2_5(strip.xaxis)
        strip.invert_yaxis()
        strip.grid(alpha=0.3)
    axes[0, 0].set_ylabel(f"{TOTAL}, speedup of the model")
    handles, _ = axes[0, 0].get_legend_handles_labels()
    for face, label in (("black", "of a whole decode step"), ("white", "of a kernel alone")):
        handles.append(Line2D([], [], color="black", marker="o", markerfacecolor=face, linestyle="", label=label))
    figure.legend(handles=handles, loc="outside right upper", frameon=False)
    figure.suptitle(title)
    return _done(figure)


def amdahl_curves(frame: pd.DataFrame, title: str) -> Figure:
    """S_total against S_partial, projections dashed, attention solid; a panel a context length (Figures 5, 7, 11, 12).

    `frame` comes from `amdahl.curves`.
    """
    lengths = sorted(frame.context_length.unique())
    models = list(dict.fromkeys(frame.model))
    colours = dict(zip(models, sns.color_palette("colorblind", len(models)), strict=True))
    cols = min(3, len(lengths))
    rows = -(-len(lengths) // cols)
    size = (7.5, 5) if len(lengths) == 1 else (4.2 * cols + 1.5, 3.6 * rows)
    figure, axes = plt.subplots(rows, cols, figsize=size, squeeze=False, sharex=True, sharey=True, layout="constrained")
    for unused in axes.flat[len(lengths) :]:
        unused.set_visible(False)
    for axis, length in zip(axes.flat, lengths, strict=False):
        for (model, part), curve in frame[frame.context_length == length].groupby(["model", "part"], sort=False):
            dashes = "--" if part == "projection" else "-"
            axis.plot(curve.partial_speedup, curve.total_speedup, dashes, color=colours[model], linewidth=1.8)
        panel = f"l = {length}" if len(lengths) > 1 else f"{title}, l = {length}"
        axis.set(title=panel, yscale="log", xlim=(1, frame.partial_speedup.max()))
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "23468" else "")
        axis.grid(alpha=0.3, which="both")
    for axis in axes[-1]:
        axis.set_xlabel(f"{PARTIAL}, speedup of the improved part")
    for axis in axes[:, 0]:
        axis.set_ylabel(f"{TOTAL}, speedup of the model")
    handles = [Line2D([], [], color=colours[model], label=_described(model)[1]) for model in models]
    handles += [
        Line2D([], [], color="black", linestyle="--", label="projections improved"),
        Line2D([], [], color="black", linestyle="-", label="attention improved"),
    ]
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    if len(lengths) > 1:
        figure.suptitle(title)
    return _done(figure)


def dataflow_bars(frame: pd.DataFrame, title: str) -> Figure:
    """Total cycles of each dataflow, one panel an array and ifmap operand; corrected counts outlined (Figure 8).

    The number below a model is what the runner-up takes relative to OS.
    `frame` holds rows of `sweep.dataflow_cycles` at one context length.
    """
    panels = list(frame.groupby(["array", "ifmap"], sort=False))
    dataflows = ["os", "ws", "is"]
    colours = dict(zip(dataflows, sns.color_palette("colorblind", 3), strict=True))
    figure, axes = plt.subplots(2, len(panels) // 2, figsize=(13, 8), sharey="row", layout="constrained")
    for axis, ((array, ifmap), rows) in zip(axes.flat, panels, strict=True):
        reported, corrected = (rows[rows.counting == counting] for counting in ("reported", "corrected"))
        for offset, dataflow in zip((-0.27, 0, 0.27), dataflows, strict=True):
            places = [place + offset for place in range(len(reported))]
            axis.bar(places, reported[dataflow], width=0.25, color=colours[dataflow], label=dataflow.upper())
            axis.bar(places, corrected[dataflow], width=0.25, fill=False, edgecolor="black", linewidth=0.9)
        runner_up = "is" if ifmap == "activations" else "ws"
        ratios = [(rows[runner_up] / rows["os"]).tolist() for rows in (reported, corrected)]
        names = [f"{_described(model)[1]}\n{ratio:.3f}" for model, ratio in zip(reported.model, ratios[0], strict=True)]
        axis.set(title=f"{array}, ifmap holds the {ifmap}", yscale="log", ylabel="total cycles")
        axis.set_xticks(range(len(reported)), names)
        exactly = "1 exactly" if set(ratios[1]) == {1.0} else f"{min(ratios[1]):.3f} to {max(ratios[1]):.3f}"
        axis.set_xlabel(f"below each model: {runner_up.upper()} / OS as reported; corrected: {exactly}")
        axis.grid(alpha=0.3, axis="y")
        sns.despine(ax=axis)
    handles, _ = axes.flat[0].get_legend_handles_labels()
    outline = Rectangle((0, 0), 1, 1, fill=False, edgecolor="black", label="corrected counts")
    figure.legend(handles=[*handles, outline], loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(title)
    return _done(figure)


def _mark_1_2_5(*scales: Axis) -> None:
    """Ticks of logarithmic scales at 1, 2 and 5 of each decade."""
    for scale in scales:
        scale.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        scale.set_major_formatter("{x:g}")
        scale.set_minor_locator(NullLocator())


def _one_design(frame: pd.DataFrame) -> None:
    if len(designs := frame[["array", "dataflow"]].drop_duplicates()) > 1:
        raise InputError(f"frame: it has {len(designs)} arrays or dataflows; a heat map shows one, so select it first")


def _two_maps(
    frame: pd.DataFrame,
    title: str,
    value: str,
    text: Callable[[float], str],
    style: dict[str, Any],
    bar: str,
    by: str = "metric",
) -> Figure:
    """One map for each value of column `by`."""
    panels = {name: panel for name, panel in PANELS.items() if name in set(frame[by])}
    models = list(dict.fromkeys(frame.model))
    grid, size = ((1, 2), (13, 4.2)) if len(models) < 9 else ((2, 1), (12, 8))
    figure, axes = plt.subplots(*grid, figsize=size, layout="constrained")
    for axis, (metric, panel) in zip(axes, panels.items(), strict=True):
        cells = frame[frame[by] == metric].pivot(index="context_length", columns="model", values=value)[models]
        sns.heatmap(
            cells, ax=axis, annot=cells.map(text), fmt="", square=False, linewidths=0.5,
            annot_kws={"size": 9}, cbar=grid == (2, 1) or metric == [*panels][-1], cbar_kws={"label": bar}, **style,
        )  # fmt: skip
        axis.set_xticklabels(
            [f"{hidden_size}\n{label}".strip() for hidden_size, label in map(_described, models)], rotation=0, size=9
        )
        axis.tick_params(axis="y", rotation=0)
        axis.set(title=panel, xlabel="Embedding Dimension", ylabel="Sequence Length")
    figure.suptitle(title)
    return _done(figure)


def _broken(model: str) -> str:
    """The model's name on two lines."""
    return _described(model)[1].replace(" ", "\n", 1).replace("-", "-\n", 1)


def _described(model: str) -> tuple[int | str, str]:
    """d, and the name in Table 2, with an asterisk if read as printed; a model of your own has its name alone."""
    for row in table2_true():
        if row["name"] == model.removesuffix(PRINTED):
            label = f"{FAMILY[row['family']]} {row['label']}" + ("*" if model.endswith(PRINTED) else "")
            return get_model(model).hidden_size, label
    return "", model


def _done(figure: Figure) -> Figure:
    """Take the figure from pyplot's list, so that a notebook shows it once: as the value of its cell."""
    plt.close(figure)
    return figure
