"""Figures of F and of Amdahl's law: DataFrame in, Figure out. `save` writes the PNG, the SVG and the CSV.

A figure that shows an F labels it with the whole that its frame names (`whole`). `llmamdahl.paper.figures` shares the
helpers at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, cycle
from pathlib import Path
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

from llmamdahl.errors import InputError, one_of
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
        width, height = (round(100 * inches) for inches in self.inches)  # the PNG has half as many pixels again
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
    figure.savefig(folder / f"{name}.png", dpi=150, metadata={"Software": None})
    figure.set_layout_engine("none")
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
    frame.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    return Saved(folder / f"{name}.png", tuple(figure.get_size_inches()))


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
    """Axis label of F with its whole, broken in two where it would be longer than a panel is high."""
    label = f"F = projection / ({whole(frame)})"
    return label if len(label) <= 45 else label.replace(" / ", " /\n")


def heat_maps(frame: pd.DataFrame, title: str, text: Callable[[float], str] = "{:.3f}".format) -> Figure:
    """F of each metric: models across, context length down (Figures 4, 6, 9 and 10).

    Parameters
    ----------
    frame
        A `sweep` of one array and dataflow, or of one device.
    text
        The text of a cell, from its F.
    """
    return maps(frame, title, PANELS, text, bar=fraction_label(frame), **FRACTIONS)


def fraction_lines(frame: pd.DataFrame, title: str) -> Figure:
    """F against the context length: one panel a model, one line a source.

    Parameters
    ----------
    frame
        Columns source (the array or device), model, context_length, fraction, and the whole as `whole` reads it.
    """
    models, palette = list(dict.fromkeys(frame.model)), colours(frame.source)
    figure, axes = grid(
        len(models), (4, 3.6), len(models) if len(models) < 4 else 2 + (len(models) > 4), 2.5, sharey=True
    )
    for axis, model in zip(axes.flat, models, strict=False):
        _lines(axis, frame[frame.model == model], "source", palette, "context_length")
        axis.set(title=model_label(model), xlabel="context length")
    for axis in axes[:, 0]:
        axis.set_ylabel(fraction_label(frame))
    return finish(figure, title, handles_of(axes))


def fraction_by_reading(frame: pd.DataFrame, title: str, across: str = "context_length") -> Figure:
    """F against `across`: one column of panels a reading, one row an array, one line a model; dotted where F = 1/2.

    Parameters
    ----------
    frame
        Columns reading, array, model, `across`, fraction, and the whole as `whole` reads it.
    across
        `"context_length"` or `"batch"`.
    """
    readings, arrays = (list(dict.fromkeys(frame[name])) for name in ("reading", "array"))
    palette = colours(frame.model)
    figure, axes = grid(len(readings) * len(arrays), (2.5, 3), len(readings), margin=1, sharex=True, sharey=True)
    for row, array in zip(axes, arrays, strict=True):
        for axis, reading in zip(row, readings, strict=True):
            panel = frame[(frame.reading == reading) & (frame.array == array)]
            axis.axhline(0.5, color="black", linestyle=":", linewidth=1)
            _lines(axis, panel, "model", palette, across)
            axis.tick_params(axis="x", rotation=90)
            axis.set_title(reading if array == arrays[0] else "", size=10)
        row[0].set_ylabel(f"{array} array")
    for axis in axes[-1]:
        axis.set_xlabel(across.replace("_", " "))
    figure.supylabel(fraction_label(frame), size=10)
    return finish(figure, title, handles_of(axes), loc="outside lower center", ncols=len(palette))


def _lines(axis: Axes, panel: pd.DataFrame, by: str, palette: Mapping[Any, Any], across: str) -> None:
    """F of one panel: a line for each value of column `by`."""
    marker = markers(palette)
    for name, colour in palette.items():
        line = panel[panel[by] == name].sort_values(across)
        label = model_label(name) if by == "model" else name
        axis.plot(line[across], line.fraction, label=label, color=colour, marker=marker[name], markersize=5)
    doubling(axis, panel[across], size=8)
    axis.set_ylim(0, 1)


def amdahl_curves(frame: pd.DataFrame, title: str, panels: str = "context_length") -> Figure:
    """S_total against S_partial: projections dashed, attention solid, one panel for each value of column `panels`.

    Figures 5, 7, 11, 12, 14 and 15. `frame` comes from `curves`.

    Raises
    ------
    InputError
        The frame has no column `whole`, or a part other than projection and attention: `curves` did not make it.
    """
    note = curves_whole("frame", frame)
    palette = ramp(frame.model)
    if panels == "context_length":
        names = {length: f"l = {length}" for length in sorted(frame.context_length.unique())}
    else:
        names = {value: str(value) for value in frame[panels].unique()}
    several = len(names) > 1
    size, margin = ((4.2, 3.6), 1.5) if several else ((7.5, 5), 0)
    figure, axes = grid(len(names), size, min(3, len(names)), margin, sharex=True, sharey=True)
    for axis, (value, panel) in zip(axes.flat, names.items(), strict=False):
        for (model, part), curve in frame[frame[panels] == value].groupby(["model", "part"], sort=False):
            dashes, _ = CURVES[one_of("frame: part", part, tuple(CURVES))]
            axis.plot(curve.partial_speedup, curve.total_speedup, dashes, color=palette[model], linewidth=1.8)
        axis.set(title=panel if several else "", xscale="log", yscale="log")
        axis.set_xlim(1, frame.partial_speedup.max())
        label_decades(axis.xaxis, "25")
        label_decades(axis.yaxis, "23468")
        axis.grid(alpha=0.3, which="both")
    for axis in lowest(axes):
        axis.set_xlabel(f"{PARTIAL}, speedup of the improved part")
    for axis in axes[:, 0]:
        axis.set_ylabel(f"{TOTAL}, speedup of the model")
    handles = [Line2D([], [], color=colour, label=model_label(model)) for model, colour in palette.items()]
    handles += [Line2D([], [], color="black", linestyle=dashes, label=label) for dashes, label in CURVES.values()]
    return finish(figure, title if several else f"{title}, {panel}", handles, note=note)


def curves_whole(argument: str, frame: pd.DataFrame) -> str:
    """The whole of a frame of `curves`, for the legend.

    The parts' columns are not enough: only `curves` guarantees that a curve of attention has the share of attention,
    and not 1 - F.
    """
    if "whole" not in frame:
        raise InputError(f"{argument}: it has no column `whole`; make the curves with `curves`")
    return f"whole: {whole(frame)}".replace(" + unquantized", "\n+ unquantized")


def grid(
    panels: int, size: tuple[float, float], columns: int = 1, margin: float = 0, **options: Any
) -> tuple[Figure, np.ndarray]:
    """A figure and its axes in rows of `columns`: `size` inches a panel, `margin` more across; spare ones hidden."""
    rows = -(-panels // columns)
    inches = (size[0] * columns + margin, size[1] * rows)
    figure, axes = plt.subplots(rows, columns, figsize=inches, squeeze=False, layout="constrained", **options)
    for unused in axes.flat[panels:]:
        unused.set_visible(False)
    for axis in lowest(axes):
        axis.tick_params(axis="x", which="both", labelbottom=True)
    return figure, axes


def lowest(axes: np.ndarray) -> list[Axes]:
    """The lowest panel in use of each column."""
    return [[axis for axis in column if axis.get_visible()][-1] for column in axes.T]


def finish(
    figure: Figure, title: str = "", handles: Sequence[Artist] = (), note: str | None = None, **legend: Any
) -> Figure:
    """Add the title, and a legend with `note` above it on the right or where `legend` says; return the figure."""
    if handles:
        figure.legend(handles=handles, title=note, frameon=False, **{"loc": "outside right center", **legend})
    if title:
        figure.suptitle(title)
    plt.close(figure)  # pyplot would show it once more below a notebook's cell
    return figure


def maps(
    frame: pd.DataFrame, title: str, panels: Mapping[str, str], text: Callable[[float], str], bar: str,
    by: str = "metric", value: str = "fraction", **style: Any,
) -> Figure:  # fmt: skip
    """A map of column `value` for each value of column `by`; `bar` labels the colour bar."""
    setups = frame.filter(["array", "dataflow", "device", "dtype", "launch", "batch"]).drop_duplicates()
    if len(setups) > 1:
        names = ", ".join(setups.columns)
        raise InputError(f"frame: it has {len(setups)} combinations of {names}; a map shows one, so select it first")
    panels = {name: panel for name, panel in panels.items() if name in set(frame[by])}
    models = list(dict.fromkeys(frame.model))
    wide = len(models) >= 9  # one map above the other, each with its own colour bar
    figure, axes = grid(len(panels), (12, 4) if wide else (6.5, 4.2), 1 if wide else len(panels))
    for axis, (name, panel) in zip(axes.flat, panels.items(), strict=True):
        cells = frame[frame[by] == name].pivot(index="context_length", columns="model", values=value)[models]
        sns.heatmap(
            cells, ax=axis, annot=cells.map(text), fmt="", linewidths=0.5, annot_kws={"size": 9},
            cbar=wide or name == [*panels][-1], cbar_kws={"label": bar}, **style,
        )  # fmt: skip
        for cell, face in zip(axis.texts, axis.collections[0].get_facecolors(), strict=True):
            cell.set_color("black" if _luminance(face) > 0.179 else "white")
        axis.set_xticklabels([model_label(model, hidden_size=True) for model in models], rotation=0, size=9)
        axis.tick_params(axis="y", rotation=0)
        axis.set(title=panel, xlabel="Embedding Dimension", ylabel="Sequence Length")
    return finish(figure, title)


def _luminance(colour: np.ndarray) -> float:
    """Relative luminance (WCAG 2.2); above 0.179 black has more contrast than white."""
    red, green, blue = np.where(colour[:3] <= 0.04045, colour[:3] / 12.92, ((colour[:3] + 0.055) / 1.055) ** 2.4)
    return float(0.2126 * red + 0.7152 * green + 0.0722 * blue)


def colours(values: Iterable[Any], palette: str | None = None) -> dict[Any, tuple[float, float, float]]:
    """A colour for each distinct value, in order of appearance."""
    distinct = list(dict.fromkeys(values))
    palette = palette or ("colorblind" if len(distinct) <= 5 else "tab10" if len(distinct) <= 10 else "tab20")
    return dict(zip(distinct, sns.color_palette(palette, len(distinct)), strict=True))


def ramp(models: Iterable[str]) -> dict[str, Any]:
    """A colour for each model, from one end of a scale to the other; with two to four families, each has its own hue.

    A family is the name up to its first hyphen.
    """
    names = list(dict.fromkeys(models))
    families = {name: name.split("-")[0] for name in names}
    distinct = list(dict.fromkeys(families.values()))
    if not 1 < len(distinct) <= len(HUES):
        return dict(zip(names, plt.get_cmap("viridis")(np.linspace(0, 0.9, len(names))), strict=True))
    palette: dict[str, Any] = {}
    for family, hue in zip(distinct, HUES, strict=False):
        own = [name for name in names if families[name] == family]
        palette |= dict(zip(own, plt.get_cmap(hue)(np.linspace(0.4, 1, len(own))), strict=True))
    return {name: palette[name] for name in names}


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


def doubling(axis: Axes, values: Iterable[int], size: float | None = None) -> None:
    """A scale of powers of 2 with a tick at each value, and a grid."""
    ticks = sorted(set(values))
    axis.set_xscale("log", base=2)
    axis.set_xticks(ticks, [str(tick) for tick in ticks], size=size, rotation=45 if len(ticks) > 7 else 0)
    axis.minorticks_off()
    axis.grid(alpha=0.3)
