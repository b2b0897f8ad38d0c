"""Figures of many models, of crossovers, shapes and bits: DataFrame in, Figure out; `plots.save` writes them."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from llmamdahl.design.kinds import KINDS
from llmamdahl.hardware import Dataflow
from llmamdahl.plots import (
    HALF,
    PANELS,
    PARTIAL,
    TEXT,
    TOTAL,
    colours,
    doubling,
    finish,
    fraction_label,
    grid,
    handles_of,
    label_decades,
    lowest,
    markers,
    model_label,
    ramp,
)

NEVER = r"$\downarrow$"
"""The marker of models whose attention never overtakes."""

REGIMES = {"memory": "s", "array": "o", "overhead": "^"}
"""The marker of each regime of `area.narrow_weights`."""


def crossover_dots(frame: pd.DataFrame, title: str) -> Figure:
    """The context length at which attention overtakes: one panel an array, one column of dots a model, a dot a reading.

    A dash marks the longest context the model was trained for, a dot above the line a model whose attention never
    overtakes. `frame` holds rows of `crossovers` of one dataflow, and the reading of each.
    """
    arrays, models = (list(dict.fromkeys(frame[name])) for name in ("array", "model"))
    palette, marker = colours(frame.reading), markers(frame.reading)
    longest = frame.drop_duplicates("model").max_position
    shift = dict(zip(palette, np.linspace(-0.3, 0.3, len(palette)), strict=True))
    highest = float(frame[["context_length", "max_position"]].max().max())
    figure, axes = grid(len(arrays), 2.3, sharex=True, sharey=True)
    for axis, array in zip(axes.flat, arrays, strict=True):
        for reading, colour in palette.items():
            dots = frame[(frame.array == array) & (frame.reading == reading)]
            at = [models.index(model) + shift[reading] for model in dots.model]
            lengths = dots.context_length.astype(float).fillna(4 * highest)
            axis.plot(at, lengths, color=colour, marker=marker[reading], markersize=4, linestyle="", label=reading)
        axis.hlines(longest, np.arange(len(models)) - 0.45, np.arange(len(models)) + 0.45, "black", linewidth=1)
        if frame.context_length.isna().any():
            axis.axhline(2 * highest, color="black", linewidth=0.8)
            axis.text(-0.45, 2.2 * highest, "never", size=6.5)
        axis.set_yscale("log", base=2)
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axis.set_xticks(range(len(models)), [model_label(model) for model in models])
        axis.set(title=f"{array} array", ylabel="context length\nwhere F = 1/2, tokens")
        axis.grid(alpha=0.3, axis="y")
        sns.despine(ax=axis)
    handles = [*handles_of(axes), Line2D([], [], color="black", linewidth=1, label="longest context trained for")]
    return finish(figure, title, handles)


def zoo_dots(frame: pd.DataFrame, title: str) -> Figure:
    """F of many models, a row each, in two columns a journal's column wide; a panel for each context length.

    A line goes from the lowest to the highest F of the readings, the dot is that of the first; both are pale where the
    context length is beyond the longest that the model was trained for. `frame` holds rows of `sweep` of one array and
    dataflow with a column reading, in the order and with the columns of `kinds.described`.
    """
    lengths = sorted(frame.context_length.unique())
    figure, panels = _zoo_grid(frame, len(lengths))
    first = frame.reading.iloc[0]
    for (name, length), rows in frame.groupby(["model", "context_length"], sort=False):
        axis, height, colour = panels[str(name)][lengths.index(length)]
        pale = 0.35 if (rows.context_length > rows.max_position).any() else 1.0
        axis.hlines(height, rows.fraction.min(), rows.fraction.max(), colour, linewidth=1.2, alpha=pale)
        dot = rows.fraction[rows.reading == first]
        axis.plot(dot, [height], "o", color=colour, markersize=2.8, alpha=pale, markeredgewidth=0)
    for at, axis in enumerate(figure.axes):
        axis.axvline(0.5, color="black", linestyle=":", linewidth=0.8, zorder=0)
        axis.set_xticks([0, 0.5, 1], ["0", "½", "1"])
        axis.set_xlim(-0.03, 1.03)
        axis.set_title(f"l = {lengths[at % len(lengths)]}")
    for axis in figure.axes[len(lengths) // 2 :: len(lengths)]:
        axis.set_xlabel(fraction_label(frame))
    handles = [
        Line2D([], [], color="black", marker="o", markersize=3, linewidth=0, label=first),
        Line2D([], [], color="black", linewidth=1.2, label=f"lowest to highest of {frame.reading.nunique()} readings"),
        Line2D([], [], color="black", linewidth=1.2, alpha=0.35, label="pale: longer than trained for"),
        HALF,
    ]
    return finish(figure, title, handles)


def overtaken_lines(frame: pd.DataFrame, title: str) -> Figure:
    """Where attention overtakes in many models, a row each, laid out as in `zoo_dots`; a panel for each array.

    A line goes from the shortest to the longest of the context lengths of the readings, the dot is that of the first.
    An arrow at the left end says that a length is at most 128 tokens, one at the right end that attention never
    overtakes in some reading; where that is the first reading, there is no dot. The tick is the longest context that
    the model was trained for. `frame` holds rows of `crossovers` of one dataflow with a column reading, in the order
    and with the columns of `kinds.described`.
    """
    arrays, first = list(dict.fromkeys(frame.array)), frame.reading.iloc[0]
    figure, panels = _zoo_grid(frame, len(arrays))
    lengths = frame.context_length.astype(float)
    shortest, end = max(128.0, lengths.min() / 1.5), 4 * float(max(lengths.max(), frame.max_position.max()))
    frame = frame.assign(length=lengths.fillna(end).clip(lower=shortest))
    for (model, array), rows in frame.groupby(["model", "array"], sort=False):
        axis, height, colour = panels[str(model)][arrays.index(array)]
        axis.hlines(height, rows.length.min(), rows.length.max(), colour, linewidth=1.2)
        dots = rows.length[(rows.reading == first) & rows.length.between(shortest, end, inclusive="neither")]
        axis.plot(dots, [height] * len(dots), "o", color=colour, markersize=2.8, markeredgewidth=0)
        axis.plot(rows.max_position.iloc[0], height, "|", color="black", markersize=5, markeredgewidth=1)
        for at, arrow in ((shortest, "<"), (end, ">")):
            if (rows.length == at).any():
                axis.plot(at, height, arrow, color=colour, markersize=3, markeredgewidth=0, clip_on=False)
    for at, axis in enumerate(figure.axes):
        axis.set(xscale="log", xlim=(shortest, end))
        axis.set_xticks([16**power for power in range(3, 8) if 16**power <= end])
        axis.xaxis.set_major_formatter(lambda at, _: f"{at / 2**20:g}M" if at >= 2**20 else f"{at / 1024:g}k")
        axis.minorticks_off()
        axis.set_title(f"{arrays[at % len(arrays)]} array")
        axis.set_xlabel("tokens (k = 1024)")
    handles = [
        Line2D([], [], color="black", marker="o", markersize=3, linewidth=0, label=first),
        Line2D(
            [], [], color="black", linewidth=1.2, label=f"shortest to longest of {frame.reading.nunique()} readings"
        ),
        Line2D([], [], color="black", marker="|", markersize=6, linewidth=0, label="longest context trained for"),
        Line2D([], [], color="black", marker=">", markersize=3, linewidth=0, label="never"),
    ]
    if (lengths <= shortest).any():
        handles.append(Line2D([], [], color="black", marker="<", markersize=3, linewidth=0, label="at most 128 tokens"))
    return finish(figure, title, handles)


def age_scatter(frame: pd.DataFrame, title: str) -> Figure:
    """How far beyond F = 1/2 models are trained, by the month of their release: a panel a reading, a colour a kind.

    Up is the longest context that a model was trained for, over the one at which its attention overtakes; arrows at the
    bottom are models whose attention never does. `frame` holds rows of `crossovers` of one array and dataflow with a
    column reading, and the columns of `kinds.described`. The highest and the lowest of each panel are named.
    """
    readings, palette = list(dict.fromkeys(frame.reading)), colours(KINDS)
    frame = frame.assign(year=_years(frame.released), beyond=frame.max_position / frame.context_length.astype(float))
    floor = frame.beyond.min() / 8
    figure, axes = grid(len(readings), 2.6, len(readings), sharex=True, sharey=True)
    for axis, reading in zip(axes.flat, readings, strict=True):
        panel = frame[frame.reading == reading]
        axis.axhline(1, color="black", linewidth=0.8, zorder=0)
        _dots_by_kind(axis, panel, "beyond")
        never = panel[panel.beyond.isna()]
        axis.scatter(never.year, [floor] * len(never), color=never.kind.map(palette), marker=NEVER, s=40, linewidth=0)
        named = panel.dropna(subset="beyond").sort_values("beyond")
        for row, up in ((named.iloc[0], -1), (named.iloc[-1], 1)):
            side = "right" if row.year > frame.year.median() else "left"
            text = {"textcoords": "offset points", "ha": side, "va": "center", "size": 6.5}
            axis.annotate(model_label(row.model), (row.year, row.beyond), (0, 7 * up), **text)
        axis.set(yscale="log", ylim=(floor / 1.6, frame.beyond.max() * 5))
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_title(reading)
    axes.flat[0].set_ylabel("longest context trained for /\ncontext where F = 1/2")
    handles = [*handles_of(axes), Line2D([], [], color="black", linewidth=0.8, label="F = 1/2 at the longest context")]
    if frame.beyond.isna().any():
        handles.append(Line2D([], [], color="black", marker=NEVER, linestyle="", label="F = 1/2 never"))
    return finish(figure, title, handles)


def year_scatter(frame: pd.DataFrame, title: str) -> Figure:
    """The ceiling at one context length (above) and the context where F = 1/2 (below), by the month of release.

    A column of panels a reading, a colour a kind, a black line for the median of a year. `frame` has the columns
    reading, model, context_length, fraction and half (the context where F = 1/2), and those of `kinds.described`.
    """
    readings = list(dict.fromkeys(frame.reading))
    frame = frame.assign(year=_years(frame.released), ceiling=1 / (1 - frame.fraction))
    frame["half"] = frame.half.astype(float).fillna(np.inf)  # never: longer than any, also for the median
    length = frame.context_length.iloc[0]
    labels = {"ceiling": f"ceiling 1 / (1 - F)\nat l = {length}", "half": "context where\nF = 1/2, tokens"}
    figure, axes = grid(2 * len(readings), 2.1, len(readings), sharex=True, sharey="row")
    for row, (column, label) in zip(axes, labels.items(), strict=True):
        for axis, reading in zip(row, readings, strict=True):
            panel = frame[frame.reading == reading]
            _dots_by_kind(axis, panel, column)
            for year, median in panel.groupby(panel.released.str[:4])[column].median().items():
                axis.plot([int(str(year)), int(str(year)) + 0.95], [median, median], color="black", linewidth=1.5)
            axis.set(yscale="log")
            axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            axis.set_title(reading if column == "ceiling" else "")
        row[0].set_ylabel(label)
    for axis in axes[0]:
        axis.axhline(2, color="black", linestyle=":", linewidth=1)
    handles = [*handles_of(axes), Line2D([], [], color="black", linewidth=1.5, label="median of a year"), HALF]
    return finish(figure, title, handles)


def _years(released: pd.Series) -> pd.Series:
    """Months such as 2024-07 as numbers of a year, the middle of the month."""
    months = pd.to_datetime(released)
    return months.dt.year + (months.dt.month - 0.5) / 12


def _dots_by_kind(axis: Axes, panel: pd.DataFrame, column: str) -> None:
    palette, marker = colours(KINDS), markers(KINDS)
    for name, dots in panel.groupby("kind", sort=False):
        style: dict[str, Any] = {"color": palette[name], "marker": marker[str(name)], "s": 12, "linewidth": 0}
        axis.scatter(dots.year, dots[column], label=KINDS[str(name)], **style)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)


def _zoo_grid(
    frame: pd.DataFrame, panels: int
) -> tuple[Figure, dict[str, list[tuple[Axes, int, tuple[float, float, float]]]]]:
    """Two columns of `panels` panels with a row for each model, below the name of its kind; for a model its places.

    A place is an axis, a height in it, and the colour of the kind.
    """
    palette, rows = colours(KINDS), list[tuple[str, str]]()  # kind and model, "" for the line with the kind's name
    for name, models in frame.drop_duplicates("model").groupby("kind", sort=False).model:
        rows += [(str(name), ""), *((str(name), model) for model in models)]
    half = -(-len(rows) // 2)
    if not rows[half - 1][1]:  # a kind's name at the end of a column goes to the next
        half -= 1
    elif rows[half][1]:  # the second column begins within a kind
        rows.insert(half, (rows[half][0], ""))
    longest = max(half, len(rows) - half)
    figure, axes = grid(2 * panels, 0.7 + 0.096 * longest, 2 * panels)
    places: dict[str, list[tuple[Axes, int, tuple[float, float, float]]]] = {}
    for block, part in enumerate((rows[:half], rows[half:])):
        own = axes[0, block * panels : (block + 1) * panels]
        for axis in own:
            axis.set(ylim=(-longest, 1), yticks=[])
            for i in (i for i, (_, model) in enumerate(part) if model):
                axis.axhline(-i, color="0.9", linewidth=0.4, zorder=0)
            axis.spines[["left", "right", "top"]].set_visible(False)
        for i, (name, model) in enumerate(part):
            text, style = (model_label(model), {}) if model else (KINDS[name], {"weight": "bold"})
            colour = "black" if model else palette[name]
            own[0].annotate(text, (0, -i), (-3, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                            ha="right", va="center", size=5.5, color=colour, **style)  # fmt: skip
            if model:
                places[model] = [(axis, -i, palette[name]) for axis in own]
    return figure, places


def fraction_by_size_lines(frame: pd.DataFrame, title: str, by: str = "metric") -> Figure:
    """F against the size of a square array: one panel a value of column `by`, one line a model.

    `frame` holds rows of `fraction_by_array_size` of one context length and dataflow.
    """
    named = by == "metric"
    panels = {str(value): PANELS[value] if named else str(value) for value in dict.fromkeys(frame[by])}
    palette, marker = ramp(frame.model), markers(frame.model)
    figure, axes = grid(len(panels), 1.9, min(3, len(panels)), sharey=True)
    for axis, (value, panel) in zip(axes.flat, panels.items(), strict=False):
        for model, colour in palette.items():
            line = frame[(frame[by] == value) & (frame.model == model)].sort_values("size")
            style: dict[str, Any] = {"color": colour, "marker": marker[model], "markersize": 3.5, "linewidth": 1}
            axis.plot(line["size"], line.fraction, label=model_label(model), **style)
        axis.axhline(0.5, color="black", linestyle=":", linewidth=0.8)
        doubling(axis, frame["size"])
        axis.set(title=panel, ylim=(0, 1.02))
    for axis in lowest(axes):
        axis.set_xlabel("rows = columns of the array")
    for axis in axes[:, 0]:
        axis.set_ylabel(fraction_label(frame))
    return finish(figure, title, [*handles_of(axes), HALF])


def shape_lines(frame: pd.DataFrame, title: str) -> Figure:
    """How many times faster each shape of an array is: a row of panels a reading, a column a batch, a line a dataflow.

    `frame` holds rows of `array_shapes` of one number of PEs, with columns batch, reading and speedup (the cost of one
    shape over that of each). A star marks the best shape of a panel, named above; points below 1/16 are cut off.
    Ticks name rows x columns, and the words that can enter the array in a cycle.
    """
    batches, readings = sorted(set(frame.batch)), list(dict.fromkeys(frame.reading))
    palette = colours(flow for flow in Dataflow if flow in set(frame.dataflow))
    shapes = frame.drop_duplicates("rows").sort_values("rows")
    ticks = shapes[:: max(1, len(shapes) // 4)]
    figure, axes = grid(len(batches) * len(readings), 1.5, len(batches), sharex=True, sharey=True)
    for across, batch in enumerate(batches):
        for down, reading in enumerate(readings):
            axis, panel = axes[down, across], frame[(frame.batch == batch) & (frame.reading == reading)]
            for dataflow, colour in palette.items():
                line = panel[panel.dataflow == dataflow].sort_values("rows")
                style: dict[str, Any] = {"color": colour, "marker": ".", "markersize": 3, "linewidth": 1}
                if dataflow == Dataflow.OS:  # WS can be the same line
                    style |= {"linestyle": "--", "zorder": 3}
                axis.plot(line.rows, line.speedup, label=dataflow.upper(), **style)
            best = panel.sort_values(["cost", "words_a_cycle"], kind="stable").iloc[0]
            axis.plot(best.rows, best.speedup, "*", color=palette[best.dataflow], markersize=8)
            ties = " (tie)" if (panel.cost <= best.cost).sum() > 1 else ""
            note = f"{best.rows} x {best.cols} {best.dataflow.upper()}: {best.speedup:.2f}{ties}"
            axis.annotate(note, (0.97, 0.95), xycoords="axes fraction", ha="right", va="top", size=6.5)
            axis.axhline(1, color="black", linestyle=":", linewidth=0.8)
            axis.set_xscale("log", base=2)
            axis.set_yscale("log", base=2)
            axis.set_ylim(1 / 16, 4 * max(1, frame.speedup.max()))  # what is slower still is of no use
            axis.yaxis.set_major_locator(LogLocator(base=2))
            axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.minorticks_off()
            axis.grid(alpha=0.3)
            names = [f"{row.rows}\nx {row.cols}\n{row.words_a_cycle}" for row in ticks.itertuples()]
            axis.set_xticks(ticks.rows, names)
            axis.set_title(f"{reading}\nbatch {batch}")
    for axis in axes[:, 0]:
        axis.set_ylabel("times faster")
    for axis in axes[-1]:
        axis.set_xlabel("rows x columns, words a cycle")
    star = Line2D([], [], color="black", marker="*", markersize=7, linestyle="", label="the best, named above")
    square = Line2D([], [], color="black", linestyle=":", linewidth=0.8, label="as fast as the square OS array")
    finish(figure, title, [*handles_of(axes), star, square])
    for axis in axes.flat:
        axis.title.set_fontsize(TEXT["tick"])
    return figure


def gain_maps(frame: pd.DataFrame, title: str, changes: tuple[str, str]) -> Figure:
    """Where the second change gains more than the first: a row of panels a model, a column a setup.

    `frame` holds rows of `gains` with a column setup (the array or device, and the reading). Colours show S_total of
    the second change over that of the first, the black line where they are equal (between the values drawn), and grey
    cells where neither gains 1%. A setup where that is so everywhere is named below the panels.
    """
    models, highest = list(dict.fromkeys(frame.model)), frame.groupby("setup", sort=False).total_speedup.max()
    setups, none = (list(highest[found].index) for found in (highest >= 1.01, highest < 1.01))
    if not setups:  # a grey map is better than none
        setups, none = none, []
    figure, axes = grid(len(models) * len(setups), 1.45, len(setups), sharex=True, sharey=True)
    for place, (model, setup) in enumerate(product(models, setups)):
        axis, panel = axes.flat[place], frame[(frame.model == model) & (frame.setup == setup)]
        first, second = (
            panel[panel.change == change].pivot(index="batch", columns="context_length", values="total_speedup")
            for change in changes
        )
        ratio = np.ma.masked_where(np.maximum(first, second) < 1.01, np.log2(second / first))
        axis.set_facecolor("0.75")
        cells = axis.pcolormesh(ratio, cmap="PuOr", vmin=-2, vmax=2)
        if ratio.count() and ratio.min() < 0 < ratio.max():
            centres = [np.arange(size) + 0.5 for size in ratio.shape]
            axis.contour(centres[1], centres[0], ratio, levels=[0], colors="black")
        for ticks, labels, rotation in ((axis.set_xticks, first.columns, 90), (axis.set_yticks, first.index, 0)):
            ticks(np.arange(len(labels)) + 0.5, list(labels), rotation=rotation)
    for axis, setup in zip(axes[0], setups, strict=True):
        axis.set_title(setup)
    for axis, model in zip(axes[:, 0], models, strict=True):
        axis.set_ylabel(f"{model_label(model)}\nbatch")
    label = f"{TOTAL}({changes[1]}) / {TOTAL}({changes[0]}); black line: both gain the same"
    bar = figure.colorbar(cells, ax=axes, label=label, shrink=0.6)
    bar.ax.axhline(0, color="black")
    bar.set_ticks([-2, -1, 0, 1, 2], labels=["1/4", "1/2", "1", "2", "4"])
    words = [f"{setup}: neither gains 1% anywhere".replace("\n", ", ") for setup in none]
    figure.supxlabel("\n".join(["context length", *words]), size=TEXT["label"])
    return finish(figure, title)


def narrow_lines(frame: pd.DataFrame, title: str) -> Figure:
    """S_partial and S_total of narrower weights against bandwidth: a row of panels each, a column an array and PEs.

    `frame` holds rows of `area.narrow_weights` with a column source (the array). A line is a kind of weights; its
    marker says what most of the projections' seconds wait for.
    """
    sources = list(dict.fromkeys(zip(frame.source, frame.pes, strict=True)))
    palette = colours(frame.weights)
    figure, axes = grid(2 * len(sources), 1.8, len(sources), sharex="col", sharey="row")
    values = {"partial_speedup": PARTIAL, "total_speedup": TOTAL}
    for row, (value, label) in zip(axes, values.items(), strict=True):
        for axis, (source, pes) in zip(row, sources, strict=True):
            panel = frame[(frame.source == source) & (frame.pes == pes)]
            for kind, colour in palette.items():
                line = panel[panel.weights == kind].sort_values("bandwidth")
                axis.plot(line.bandwidth, line[value], color=colour, linewidth=1, label=kind)
                for regime, marker in REGIMES.items():
                    dots = line[line.regime == regime]
                    axis.plot(dots.bandwidth, dots[value], marker, color=colour, markersize=3)
            axis.set_xscale("log")
            label_decades(axis.xaxis, "125")
            axis.set_yscale("log", base=2)
            axis.yaxis.set_major_formatter("{x:g}")
            axis.grid(alpha=0.3)
            if value == "partial_speedup":
                axis.set_title(f"{source}\n{'INT8 PEs' if pes == 'same' else 'PEs of equal area'}")
        row[0].set_ylabel(label)
    for axis in axes[-1]:
        axis.set_xlabel("DRAM, GB/s")
    found = {name: mark for name, mark in REGIMES.items() if (frame.regime == name).any()}
    style: dict[str, Any] = {"color": "black", "linestyle": "", "markersize": 4}
    marks = [Line2D([], [], marker=mark, label=f"waits for: {name}", **style) for name, mark in found.items()]
    return finish(figure, title, [*handles_of(axes), *marks])


def split_lines(frame: pd.DataFrame, title: str) -> Figure:
    """The best split of the silicon by batch: a column of panels a mode, x above and S_total below, a line a model.

    `frame` holds rows of `area.best_split`; dotted is the rule that takes speed in proportion to area.
    """
    modes, palette, marker = list(dict.fromkeys(frame["mode"])), colours(frame.model), markers(frame.model)
    figure, axes = grid(2 * len(modes), 1.9, len(modes), sharex=True, sharey="row")
    values = {"x": "share of the area\nfor projections", "total_speedup": f"{TOTAL} over\none INT8 array"}
    for row, (value, label) in zip(axes, values.items(), strict=True):
        for axis, mode in zip(row, modes, strict=True):
            for model, colour in palette.items():
                line = frame[(frame["mode"] == mode) & (frame.model == model)].sort_values("batch")
                style: dict[str, Any] = {"color": colour, "marker": marker[model], "markersize": 3.5, "linewidth": 1}
                axis.plot(line.batch, line[value], label=model_label(model), **style)
                rule = line["rule_x" if value == "x" else "rule_speedup"]
                axis.plot(line.batch, rule, color=colour, linestyle=":", linewidth=1)
            doubling(axis, frame.batch)
            axis.set_title(mode if value == "x" else "")
            if value == "x":
                axis.set_ylim(0, 1)
            else:
                axis.axhline(1, color="black", linewidth=0.8)
        row[0].set_ylabel(label)
    for axis in axes[-1]:
        axis.set_xlabel("batch")
    rule = Line2D([], [], color="black", linestyle=":", label="rule: speed in proportion to area")
    return finish(figure, title, [*handles_of(axes), rule])
