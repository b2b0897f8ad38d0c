"""Figures of F and of Amdahl's law: DataFrame in, Figure out. `save` writes the PNG, the SVG and the CSV.

A figure that shows an F labels it with the whole that its frame names (`whole`). `llmamdahl.paper.figures` shares the
helpers at the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import compress, cycle
from pathlib import Path
from statistics import fmean
from textwrap import fill, wrap
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas.api.types import is_numeric_dtype

from llmamdahl.errors import InputError, instance, one_of, shown
from llmamdahl.models import FAMILY, PRINTED, get_model, table2_true
from llmamdahl.tables import FIGURES
from llmamdahl.workload import Part

PANELS = {
    "cycles": "(a) Compute Cycles",
    "memory_accesses": "(b) Memory Access",
    "seconds": "Seconds",
    "bytes": "Bytes",
}
"""Titles of the panels by metric; those of an array are the paper's."""

WIDTH, COLUMN = 7.2, 3.5
"""Inches: a figure across two columns of a journal, and one in a single column. Texts have their printed size."""
TEXT = {"title": 8.5, "label": 7.5, "legend": 7.0, "tick": 6.5}
"""Points. Subscripts have 0.7 of their text's size, and nothing has less than 4.9."""

HUES = ("Blues", "Oranges", "Greens", "Purples")
FRACTIONS: dict[str, Any] = {"vmin": 0, "vmax": 1, "cmap": "BrBG"}
PARTIAL = "$S_{partial}$"
TOTAL = "$S_{total}$"
CURVES: dict[str, tuple[Any, str]] = {
    "projection": ("--", "projections improved"),
    "attention": ("-", "attention improved"),
}
"""The line of each part in `amdahl_curves`, and its label."""


@dataclass(frozen=True)
class Saved:
    """A saved figure. A notebook shows the PNG itself, so that nothing is drawn again."""

    png: Path
    inches: tuple[float, float]

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        width, height = (round(125 * inches) for inches in self.inches)  # for sharp screens the PNG has more pixels
        return self.png.read_bytes(), {"width": width, "height": height}

    def __repr__(self) -> str:
        return f"<{self.png.name}>"


def save(figure: Figure, frame: pd.DataFrame, name: str, folder: Path | None = None) -> Saved:
    """Write NAME.png, NAME.svg and NAME.csv, the numbers in the figure, into `figures/` or a folder.

    The SVG keeps text as text, and the same figure gives the same bytes. The figure is laid out once: it keeps its
    layout, and can be changed no more.
    """
    folder = folder or FIGURES
    folder.mkdir(parents=True, exist_ok=True)
    no_layout: dict[Any, Any] = {"figure.autolayout": False, "figure.constrained_layout.use": False}
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, **no_layout}):
        if engine := figure.get_layout_engine():
            engine.execute(figure)
            figure.set_layout_engine(None)  # an engine, even "none", has Matplotlib draw each file twice
            for axis in figure.axes:  # without the last digits, which differ between machines, as would ids in the SVG
                axis.set_position(np.round(axis.get_position(original=True).bounds, 12).tolist(), "original")
        figure.savefig(folder / f"{name}.png", metadata={"Software": None})
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
    frame.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    return Saved(folder / f"{name}.png", tuple(figure.get_size_inches()))


class Folded:
    """A long table in a notebook: the rows that matter, and all of them below a line that opens them.

    Parameters
    ----------
    table
        All rows.
    above
        The rows that matter, or a table that sums all of them up; not shown if it is empty.
    said
        A line above both, such as a count.
    """

    def __init__(self, table: pd.DataFrame, above: pd.DataFrame, said: str):
        self.table, self.above, self.said = table, above, said

    def __repr__(self) -> str:
        shown = [] if self.above.empty else [repr(self.above)]
        return "\n".join([self.said, *shown, f"all {len(self.table)} rows: unfold the table"])

    def _repr_html_(self) -> str:
        above, table = ("" if frame.empty else frame.to_html(notebook=True) for frame in (self.above, self.table))
        summary = f"<summary>all {len(self.table)} rows</summary>"
        return f"<p>{escape(self.said)}</p>\n{above}\n<details>{summary}\n{table}\n</details>"


def require(frame: pd.DataFrame, texts: str, numbers: str, other: str = "") -> None:
    """Reject what is not a frame with rows, these columns (names between spaces) of text and of numbers, and `other`.

    Raises
    ------
    InputError
        The message names the column.
    """
    instance("frame", frame, pd.DataFrame)
    names = [*texts.split(), *numbers.split()]
    if missing := [name for name in (*names, *other.split()) if name not in frame]:
        raise InputError(f"frame: column {', '.join(missing)} is missing; it has {', '.join(map(str, frame))}")
    if frame.empty:
        raise InputError("frame: it has no rows")
    for name in names:
        if name in texts.split():
            good = all(isinstance(cell, str) for cell in frame[name])
        else:
            good = is_numeric_dtype(frame[name]) and bool(np.isfinite(frame[name].astype(float)).all())
        if not good:
            raise InputError(
                f"frame: column {name} has cells that are not {'text' if name in texts.split() else 'numbers'}"
            )


def whole(frame: pd.DataFrame) -> str:
    """The whole that the frame's F is a share of, as text.

    Parameters
    ----------
    frame
        Rows with a column `whole`, or with one column for each part of the whole: `projection`, `attention` and, only
        where they are in the whole, `state`, `unquantized` and `other`; times end in `_us` (`projection_us`).

    Raises
    ------
    InputError
        The frame has neither, or its rows have different wholes.

    >>> whole(pd.DataFrame({"projection": [3], "attention": [1], "fraction": [0.75]}))
    'projection + attention'
    """
    instance("frame", frame, pd.DataFrame)
    if "whole" in frame:
        wholes = list(frame["whole"].unique())
    else:
        columns = {str(part): [str(part), f"{part}_us"] for part in (*Part, "other")}
        # row by row: in tables put one below the other, a part that only one of them has is NaN in the rest
        known = pd.DataFrame({part: frame.reindex(columns=two).notna().any(axis=1) for part, two in columns.items()})
        parts = [tuple(compress(columns, row)) for row in known.drop_duplicates().to_numpy()]
        wholes = [" + ".join(names) if {"projection", "attention"} <= {*names} else "" for names in parts]
    if not wholes or not all(isinstance(text, str) and text for text in wholes):
        raise InputError(
            "frame: it does not name the whole that F is a share of; add a column `whole`, or keep the columns "
            "projection and attention (and unquantized, where the LM head is in the whole)"
        )
    if len(wholes) > 1:
        raise InputError(f"frame: F is a share of {len(wholes)} wholes ({'; '.join(wholes)}); select one first")
    return str(wholes[0])


def fraction_label(frame: pd.DataFrame) -> str:
    """Axis label of F with its whole, broken in two before the whole."""
    return f"F = projection /\n({whole(frame)})"


def heat_maps(frame: pd.DataFrame, title: str, text: Callable[[float], str] = "{:.3f}".format) -> Figure:
    """F of each metric: models across, context length down (Figures 4, 6, 9 and 10).

    Parameters
    ----------
    frame
        A `sweep` of one array and dataflow, or of one device.
    text
        The text of a cell, from its F.
    """
    require(frame, "model metric", "context_length fraction")
    return maps(frame, title, PANELS, text, bar=fraction_label(frame), **FRACTIONS)


def fraction_lines(frame: pd.DataFrame, title: str) -> Figure:
    """F against the context length: one panel a model, one line a source.

    Parameters
    ----------
    frame
        Columns source (the array or device), model, context_length, fraction, and the whole as `whole` reads it.
    """
    require(frame, "source model", "context_length fraction")
    models, palette = list(dict.fromkeys(frame.model)), colours(frame.source)
    figure, axes = grid(len(models), 1.9, 2 if len(models) in (2, 4) else min(3, len(models)), sharey=True)
    for axis, model in zip(axes.flat, models, strict=False):
        _lines(axis, frame[frame.model == model], "source", palette, "context_length")
        axis.set(title=model_label(model), xlabel="context length")
    for axis in axes[:, 0]:
        axis.set_ylabel(fraction_label(frame))
    return finish(figure, title, handles_of(axes))


def fraction_by_reading(frame: pd.DataFrame, title: str, across: str = "context_length") -> Figure:
    """F against `across`: a panel for each array and reading, one line a model; dotted where F = 1/2.

    Parameters
    ----------
    frame
        Columns reading, array, model, `across`, fraction, and the whole as `whole` reads it. With a column
        `max_position`, the markers of context lengths beyond it are hollow.
    across
        `"context_length"` or `"batch"`.
    """
    require(frame, "reading array model", f"{across} fraction")
    readings, arrays = (list(dict.fromkeys(frame[name])) for name in ("reading", "array"))
    palette, columns = colours(frame.model), min(3, len(readings))
    rows = -(-len(readings) // columns)  # of an array
    figure, axes = grid(rows * columns * len(arrays), 1.6, columns, sharex=True, sharey=True)
    for array, block in zip(arrays, axes.reshape(len(arrays), -1), strict=True):
        for axis in block[len(readings) :]:
            axis.set_visible(False)
        for axis, reading in zip(block, readings, strict=False):
            panel = frame[(frame.reading == reading) & (frame.array == array)]
            _half(axis)
            _lines(axis, panel, "model", palette, across)
            axis.set_title(f"{array}: {reading}")
    for axis in lowest(axes):
        axis.set_xlabel(across.replace("_", " "))
    figure.supylabel(fraction_label(frame).replace("\n", " "), size=TEXT["label"])
    handles = [*handles_of(axes), HALF]
    if "max_position" in frame:
        hollow: dict[str, Any] = {"marker": "o", "markersize": 4, "markerfacecolor": "white", "color": "black"}
        handles.append(Line2D([], [], linestyle="", label="hollow: longer than trained for", **hollow))
    return finish(figure, title, handles)


def _lines(axis: Axes, panel: pd.DataFrame, by: str, palette: Mapping[Any, Any], across: str) -> None:
    """F of one panel: a line for each value of column `by`; hollow markers beyond the column `max_position`."""
    marker = markers(palette)
    for name, colour in palette.items():
        line = panel[panel[by] == name].sort_values(across)
        style: dict[str, Any] = {"color": colour, "marker": marker[name], "markersize": 3.5, "linewidth": 1}
        axis.plot(line[across], line.fraction, label=model_label(name) if by == "model" else name, **style)
        if "max_position" in panel:
            beyond = line[line.context_length > line.max_position]
            axis.plot(beyond[across], beyond.fraction, **style | {"linestyle": "", "markerfacecolor": "white"})
    doubling(axis, panel[across])
    axis.set_ylim(0, 1.02)


def _half(axis: Axes) -> None:
    """The dotted line at F = 1/2, which `HALF` explains."""
    axis.axhline(0.5, color="black", linestyle=":", linewidth=0.8, zorder=0)


HALF = Line2D([], [], color="black", linestyle=":", linewidth=0.8, label="F = 1/2")


def amdahl_curves(frame: pd.DataFrame, title: str, panels: str = "context_length") -> Figure:
    """S_total against S_partial: projections dashed, attention solid, one panel for each value of column `panels`.

    Figures 5, 7, 11, 12, 14 and 15. `frame` comes from `curves`. Of two to four families of models all but the largest
    have a marker. With a single panel, several models stand at the ends of their curves, otherwise in the legend.

    Raises
    ------
    InputError
        Not a table, or one that `curves` did not make: it has no column `whole` or `panels`, or a part other than
        projection and attention.
    """
    note = curves_whole("frame", frame)
    if panels not in frame and panels != "context_length":
        raise InputError(f"panels: {shown(panels)} is not a column of the frame; it has {', '.join(map(str, frame))}")
    require(frame, "model part", "partial_speedup total_speedup", panels)
    palette = ramp(frame.model)
    families = zip(_families(palette), ("", *"osD"), strict=False)
    marker = {model: mark for family, mark in families for model in family}
    if panels == "context_length":
        names = {length: f"l = {length}" for length in sorted(frame.context_length.unique())}
    else:
        names = {value: str(value) for value in frame[panels].unique()}
    several = len(names) > 1
    digits = "23468" if frame.total_speedup.max() < 10 else "25"
    width, height = (WIDTH, 1.9) if several else (COLUMN, 3.4)
    figure, axes = grid(len(names), height, min(3, len(names)), width, sharex=True, sharey=True)
    for axis, (value, panel) in zip(axes.flat, names.items(), strict=False):
        for (model, part), curve in frame[frame[panels] == value].groupby(["model", "part"], sort=False):
            dashes, _ = CURVES[one_of("frame: part", part, tuple(CURVES))]
            mark = marker.get(str(model), "")
            style: dict[str, Any] = {"color": palette[model], "marker": mark, "markersize": 2.5, "markevery": 10}
            # thinner with a marker, so that a line below one that has none is seen
            axis.plot(curve.partial_speedup, curve.total_speedup, dashes, linewidth=0.8 if mark else 1.2, **style)
        axis.set(title=panel if several else "", xscale="log", yscale="log")
        axis.set_xlim(1, frame.partial_speedup.max())
        label_decades(axis.xaxis, "25")
        label_decades(axis.yaxis, digits)
        axis.grid(alpha=0.3, which="both")
    for axis in lowest(axes):
        axis.set_xlabel(f"{PARTIAL}, speedup of the part")
    for axis in axes[:, 0]:
        axis.set_ylabel(f"{TOTAL}, speedup of the model")
    handles = [
        Line2D([], [], color=colour, marker=marker.get(model, ""), markersize=2.5, label=model_label(model))
        for model, colour in palette.items()
    ]
    if len(palette) > 1 and not several:
        handles = []
        ends = frame.groupby(["model", "part"], sort=False).last().reset_index()
        _label_ends(figure, axes[0, 0], ends, palette)
    handles += [Line2D([], [], color="black", linestyle=dashes, label=label) for dashes, label in CURVES.values()]
    return finish(figure, title if several else f"{title}, {panel}", handles, note=note)


def gain_lines(frame: pd.DataFrame, title: str) -> Figure:
    """S_total of a change of precision (solid) and its ceiling (dashed) against the context length, a line a model.

    The ceiling is that of faster projections. If the change makes other parts faster too, S_total can be above it. The
    legend names the whole of F. A sweep does not name its phase and batch; say them in the title.

    Parameters
    ----------
    frame
        Rows of a `sweep` with a precision, of one metric and one array or device.

    Raises
    ------
    InputError
        The sweep had no precision, or several metrics, arrays, devices or wholes.
    """
    require(frame, "model", "context_length total_speedup fraction", "array dataflow metric")
    if len(setups := frame[["array", "dataflow", "metric"]].drop_duplicates()) > 1:
        found = "; ".join(", ".join(filter(None, row)) for row in setups.itertuples(index=False))
        raise InputError(f"frame: a line would go through rows of {found}; give those of one, as with metric='seconds'")
    note = _whole_note(frame)
    figure, axes = grid(1, 2.6, width=COLUMN)
    axis = axes.flat[0]
    for model, colour in colours(frame.model).items():
        rows = frame[frame.model == model].sort_values("context_length")
        axis.plot(rows.context_length, rows.total_speedup, color=colour, label=model_label(model))
        axis.plot(rows.context_length, 1 / (1 - rows.fraction), "--", color=colour, linewidth=1)
    doubling(axis, frame.context_length)
    drawn = pd.concat([frame.total_speedup, 1 / (1 - frame.fraction[frame.fraction < 1])])
    metric = setups.metric.iloc[0].replace("_", " ")
    axis.set(yscale="log", xlabel="context length", ylabel=f"speedup, as a ratio of {metric}")
    axis.set_ylim(0.95 * min(1, drawn.min()), 1.2 * max(3, drawn.max()))
    label_decades(axis.yaxis, "25" if drawn.max() > 10 else "23468")
    axis.grid(alpha=0.3, which="both")
    handles = handles_of(axes)
    handles.append(Line2D([], [], color="black", linestyle="-", label=TOTAL))
    alone = " of projections alone" if (frame.total_speedup * (1 - frame.fraction) > 1 + 1e-9).any() else ""
    handles.append(Line2D([], [], color="black", linestyle="--", label=f"ceiling{alone}, 1 / (1 - F)"))
    return finish(figure, title, handles, note=note)


def _label_ends(figure: Figure, axis: Axes, ends: pd.DataFrame, palette: Mapping[str, Any]) -> None:
    """Write each model to the right of the end of its curve, as near as the labels leave room."""
    points = ends[["partial_speedup", "total_speedup"]].to_numpy()
    heights = (axis.transScale + axis.transLimits).transform(points)[:, 1].tolist()
    size = TEXT["tick"]
    gap = 1.2 * size / 72 * figure.dpi / axis.get_window_extent().height
    line = {"arrowstyle": "-", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0.5)}
    place: dict[str, Any] = {"textcoords": "axes fraction", "va": "center", "annotation_clip": False, "size": size}
    for point, height, model in zip(points, apart(heights, gap), ends.model, strict=True):
        style = {"color": palette[model], **line}
        axis.annotate(model_label(model), tuple(point), (1.07, height), arrowprops=style, **place)


def apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Places in the order of those that are wanted, at least `gap` apart, with the least sum of squared moves.

    >>> apart([5, 0, 0.5], 1)
    [5.0, -0.25, 0.75]
    """
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    # without the gaps below it, each place only must not be lower than the one before: so neighbours share a mean
    blocks: list[list[float]] = []
    for rank, number in enumerate(order):
        blocks.append([wanted[number] - rank * gap])
        while len(blocks) > 1 and fmean(blocks[-2]) > fmean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    means = [fmean(block) for block in blocks for _ in block]
    places = (mean + rank * gap for rank, mean in enumerate(means))
    return [place for _, place in sorted(zip(order, places, strict=True))]


def curves_whole(argument: str, frame: pd.DataFrame) -> str:
    """The whole of a frame of `curves`, for the legend.

    The parts' columns are not enough: only `curves` guarantees that a curve of attention has the share of attention,
    and not 1 - F.
    """
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"{argument}: {shown(frame)} is not a table; make the curves with `curves`")
    if "whole" not in frame:
        raise InputError(f"{argument}: it has no column `whole`; make the curves with `curves`")
    return _whole_note(frame)


def _whole_note(frame: pd.DataFrame) -> str:
    """The whole of a frame's F as the title of a legend."""
    return f"whole: {whole(frame)}".replace(" + unquantized", "\n+ unquantized")


def grid(
    panels: int, height: float, columns: int = 1, width: float = WIDTH, **options: Any
) -> tuple[Figure, np.ndarray]:
    """A figure of `width` inches and its axes in rows of `columns`, each `height` inches high; spare ones hidden."""
    rows = -(-panels // columns)
    options = {"squeeze": False, "layout": "constrained", "dpi": 200, **options}
    figure, axes = plt.subplots(rows, columns, figsize=(width, height * rows), **options)
    for unused in axes.flat[panels:]:
        unused.set_visible(False)
    for axis in lowest(axes):
        axis.tick_params(axis="x", which="both", labelbottom=True)
    return figure, axes


def lowest(axes: np.ndarray) -> list[Axes]:
    """The lowest panel in use of each column."""
    return [[axis for axis in column if axis.get_visible()][-1] for column in axes.T]


def finish(
    figure: Figure, title: str = "", handles: Sequence[Any] = (), note: str | None = None, **legend: Any
) -> Figure:
    """Add the title, and a legend with `note` above it below the panels or where `legend` says; return the figure.

    Titles, labels and ticks get the sizes of `TEXT`. The figure grows by the height of the legend and of the title.
    """
    width, height = figure.get_size_inches()
    for axis in figure.axes:
        axis.tick_params(which="both", labelsize=TEXT["tick"])
        for text in (axis.title, axis.xaxis.label, axis.yaxis.label):
            text.set_fontsize(TEXT["label"])
    if handles:
        names = [str(handle.get_label()) for handle in handles]
        most = max(1, int(72 * width / (0.55 * TEXT["legend"] * max(map(len, names)) + 32)))
        rows = -(-len(names) // most)
        style = {"loc": "outside lower center", "fontsize": TEXT["legend"], "ncols": -(-len(names) // rows)}
        style |= {"columnspacing": 1.2, "title_fontsize": TEXT["legend"], "handlelength": 2.4}
        figure.legend(handles=handles, title=note, frameon=False, **{**style, **legend})
        height += 0.16 * (rows + (note or "").count("\n") + bool(note)) + 0.1
    if title:
        title = _broken(title, int(72 * width / (0.57 * TEXT["title"])))
        figure.suptitle(title, size=TEXT["title"])
        height += 0.17 * (title.count("\n") + 1)
    figure.set_size_inches(width, height)
    plt.close(figure)  # pyplot would show it once more below a notebook's cell
    return figure


def _broken(title: str, most: int) -> str:
    """A title in lines of at most `most` characters and equal length; a line of its own stays one."""
    lines = []
    for line in title.splitlines():
        line = re.sub(r" (?=[\d=])|(?<==) ", "\xa0", line)  # not broken before a number, nor at an equals sign
        number = len(wrap(line, most))
        lines.append(next(fill(line, width) for width in range(1, most + 1) if len(wrap(line, width)) == number))
    return "\n".join(lines).replace("\xa0", " ")


def maps(
    frame: pd.DataFrame, title: str, panels: Mapping[str, str], text: Callable[[float], str], bar: str,
    by: str = "metric", value: str = "fraction", **style: Any,
) -> Figure:  # fmt: skip
    """A map of column `value` for each value of column `by`; `bar` labels the colour bar."""
    setups = frame.filter(["array", "dataflow", "device", "dtype", "launch", "batch"]).drop_duplicates()
    if len(setups) > 1:
        names = ", ".join(setups.columns)
        raise InputError(f"frame: it has {len(setups)} combinations of {names}; a map shows one, so select it first")
    if frame.duplicated(["model", "context_length", by]).any():
        raise InputError(f"frame: it has several rows of the same model, context_length and {by}; a cell shows one")
    panels = {name: panel for name, panel in panels.items() if name in set(frame[by])}
    models = list(dict.fromkeys(frame.model))
    wide = len(models) >= 9  # one map above the other, each with its own colour bar
    lengths = frame.context_length.nunique()
    figure, axes = grid(len(panels), 0.9 + 0.22 * lengths, 1 if wide else len(panels), sharey=True)
    for axis, (name, panel) in zip(axes.flat, panels.items(), strict=True):
        cells = frame[frame[by] == name].pivot(index="context_length", columns="model", values=value)[models]
        sns.heatmap(
            cells, ax=axis, annot=cells.map(text), fmt="", linewidths=0.5, annot_kws={"size": 6},
            cbar=wide or name == [*panels][-1], cbar_kws={"label": bar}, **style,
        )  # fmt: skip
        for cell, face in zip(axis.texts, axis.collections[0].get_facecolors(), strict=True):
            cell.set_color("black" if _luminance(face) > 0.179 else "white")
        labels = [model_label(model, hidden_size=True).replace(" ", "\n") for model in models]
        axis.set_xticks(np.arange(len(models)) + 0.5, labels, rotation=0)
        axis.tick_params(axis="y", rotation=0, left=wide or axis is axes[0, 0])
        axis.set(
            title=panel, xlabel="Embedding Dimension", ylabel="Sequence Length" if wide or axis is axes[0, 0] else ""
        )
    return finish(figure, title)


def _luminance(colour: np.ndarray) -> float:
    """Relative luminance (WCAG 2.2); above 0.179 black has more contrast than white."""
    red, green, blue = np.where(colour[:3] <= 0.04045, colour[:3] / 12.92, ((colour[:3] + 0.055) / 1.055) ** 2.4)
    return float(0.2126 * red + 0.7152 * green + 0.0722 * blue)


def colours(values: Iterable[Any], palette: str | None = None) -> dict[Any, tuple[float, float, float]]:
    """A colour for each distinct value, in order of appearance; after ten they begin again: use `markers` too."""
    distinct = list(dict.fromkeys(values))
    palette = palette or ("colorblind" if len(distinct) <= 5 else "tab10")
    return dict(zip(distinct, sns.color_palette(palette, len(distinct)), strict=True))


def ramp(models: Iterable[str]) -> dict[str, Any]:
    """A colour for each model, from one end of a scale to the other; with two to four families, each has its own.

    The scale of the largest family is that of a single one.
    """
    names, palette = list(dict.fromkeys(models)), dict[str, Any]()
    families = _families(names)
    if len(families) > len(HUES):
        families = [names]
    for hue, family in zip(HUES, families, strict=False):
        if len(family) == 1 < len(families):
            shades = plt.get_cmap(hue)([0.7])
        elif family is families[0]:
            shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(family)))
        else:
            shades = plt.get_cmap(hue)(np.linspace(0.55, 0.95, len(family)))
        palette |= zip(family, shades, strict=True)
    return {name: palette[name] for name in names}


def _families(names: Iterable[str]) -> list[list[str]]:
    """The models of each family, the largest family first; a family is the name up to its first hyphen."""
    families: dict[str, list[str]] = {}
    for name in names:
        families.setdefault(name.split("-")[0], []).append(name)
    return sorted(families.values(), key=len, reverse=True)


def markers(values: Iterable[Any]) -> dict[Any, str]:
    """A marker for each distinct value, in order of appearance; after twelve they begin again."""
    return dict(zip(dict.fromkeys(values), cycle("osD^vX*P<>hp"), strict=False))


def handles_of(axes: np.ndarray) -> list[Artist]:
    """Legend handles of the first panel."""
    handles: list[Artist] = axes.flat[0].get_legend_handles_labels()[0]
    return handles


def label_decades(scale: Axis, digits: str) -> None:
    """Plain numbers on a logarithmic scale: at each decade, and at minor ticks that begin with one of `digits`."""
    scale.set_major_formatter(lambda value, _: f"{value:g}")
    scale.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in digits else "")


def model_label(model: str, hidden_size: bool = False) -> str:
    """The model's name in Table 2, with an asterisk if it is read as printed; any other model's own name.

    With `hidden_size`, d of a model of Table 2 is on a line above its name.
    """
    for row in table2_true():
        if row["name"] == model.removesuffix(PRINTED):
            label = f"{FAMILY[row['family']]} {row['label']}" + ("*" if model.endswith(PRINTED) else "")
            return f"{get_model(model).hidden_size}\n{label}" if hidden_size else label
    return model


def doubling(axis: Axes, values: Iterable[int]) -> None:
    """A scale of powers of 2 with a tick at each value, slanted where they would touch, and a grid."""
    ticks = sorted(set(values))
    points = 72 * axis.get_window_extent().width / axis.figure.dpi
    slanted = len(ticks) * (len(str(ticks[-1])) + 1) * 0.6 * TEXT["tick"] > points
    axis.set_xscale("log", base=2)
    axis.set_xticks(ticks, [str(tick) for tick in ticks], rotation=45 if slanted else 0)
    axis.minorticks_off()
    axis.grid(alpha=0.3)
