"""A panel for JupyterLab, or a page of its own: what would a faster part, or fewer bits, gain on this hardware?"""

from __future__ import annotations

import io
import shlex
from dataclasses import fields
from html import escape
from typing import Any, get_args

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from llmamdahl import amdahl
from llmamdahl.errors import InputError, real_number
from llmamdahl.explore.asked import BITS, OF_ARRAY, Answer, Asked, number
from llmamdahl.hardware import CLOUD_TPU, EDGE_TPU, Dataflow, SystolicArray, devices
from llmamdahl.models import benchmarked, hybrids, table2_true, zoo
from llmamdahl.plots import PARTIAL, TOTAL
from llmamdahl.question import Metric
from llmamdahl.systolic import Counting, Folds
from llmamdahl.workload import Heads, Phase

SPEEDUPS = np.geomspace(1, 100, 60)
"""S_partial along a curve, unless a larger one is set, and the range of the sliders."""

STEP = 0.02
"""Of the sliders, in powers of ten."""

CHOICES: dict[str, list[Any]] = {
    "phase": [*get_args(Phase)],
    "dataflow": [str(flow) for flow in Dataflow],
    "metric": [("default", ""), *((metric.replace("_", " "), metric) for metric in get_args(Metric))],
    "heads": [*get_args(Heads)],
    "folds": [*get_args(Folds)],
    "counting": [*get_args(Counting)],
    "unquantized": [("not in the whole", False), ("in the whole", True)],
}
"""What a control offers, where it does not take a number."""

COLUMNS: tuple[dict[str, dict[str, str]], ...] = (
    {
        "Workload": {"context_length": "context length", "batch": "batch", "phase": "phase"},
        "Array only": {
            "dataflow": "dataflow",
            "clock_mhz": "clock, MHz",
            "dram_gb_s": "DRAM, GB/s",
            "folds": "folds",
            "counting": "counting",
        },
    },
    {
        "Bits after a change": {"weights": "weights", "activations": "activations", "cache": "KV cache"},
        "Readings": {"metric": "metric", "heads": "heads", "unquantized": "LM head"},
    },
    {"How many times faster": {"projection": "S projection", "attention": "S attention"}},
)
"""The controls besides model and hardware: columns of groups, with the label of each."""

STYLE = """<style>
.llmamdahl .widget-html-content { line-height: 1.5 }
.llmamdahl table { border-spacing: 0; font-size: 13px; margin: 0 }
.llmamdahl td { padding: 0 0 0 1em; text-align: right; white-space: nowrap }
.llmamdahl td:first-child { padding: 0; text-align: left }
.llmamdahl tr:first-child td { border-bottom: 1px solid #bbb }
.llmamdahl p { margin: 0.4em 0 }
.llmamdahl code { user-select: all; white-space: normal; overflow-wrap: anywhere }
.llmamdahl code span { display: inline-block; max-width: 100% }
</style>"""

EMPTY = {"clock_mhz": "none", "dram_gb_s": "none", **dict.fromkeys(BITS, "as before")}
"""What an empty number means."""

LABELS = {"style": {"description_width": "7.5em"}}


class Panel(widgets.VBox):  # type: ignore[misc]
    """The panel. Its first values are those of `Asked`; `panel.controls["batch"].value = "8"` sets one from code."""

    def __init__(self, **values: Any):
        self.given = Asked(**values)
        names = [row["name"] for row in (*table2_true(), *zoo(), *hybrids(), *benchmarked())]
        places = [CLOUD_TPU.label, EDGE_TPU.label, *devices().name]
        self.controls: dict[str, Any] = {
            "model": self._combobox("model", "model", names, "a name, or the path of a config.json"),
            "hardware": self._combobox("hardware", "hardware", places, "a name, or a size such as 128x64"),
        }
        self.sliders: dict[str, Any] = {}
        columns = [self._column(groups, grow=groups is COLUMNS[-1]) for groups in COLUMNS]
        self.text = widgets.HTML(layout=widgets.Layout(flex="1 1 min-content", min_width="0", overflow="auto"))
        layout = widgets.Layout(flex="1 1 26em", min_width="0", max_width="504px", object_fit="contain")
        self.image = widgets.Image(format="png", layout=layout)
        for control in self.controls.values():
            control.observe(lambda change: self.redraw(), names="value")
        self._draw_axes()
        self.redraw()
        # Two columns of controls beside the numbers; in a narrow window three of them above the numbers.
        first = _wrapped([self.controls["model"], self.controls["hardware"]], flex="0 0 100%")
        left = _wrapped([first, *columns], flex="1 1 41em")
        right = _wrapped([self.text, self.image], flex="1000 1 37em")
        super().__init__([widgets.HTML(STYLE), _wrapped([left, right])])
        self.add_class("llmamdahl")

    def __repr__(self) -> str:
        """The text that a saved notebook shows in place of the panel."""
        now = self.answer
        if now is None:
            return f"rejected: {self.error}"
        return f"F = {now.share.fraction:.4f}, S_total = {now.total_speedup:.4f}, ceiling = {now.share.ceiling:.4f}"

    def asked(self) -> Asked:
        """The controls' values; an empty number is one that is not given, where there need not be one."""
        values = {name: control.value for name, control in self.controls.items()}
        for field in fields(Asked):
            given = values[field.name]
            if given == "" and field.default is None:
                values[field.name] = None
            elif isinstance(given, str) and field.name not in (*CHOICES, "model", "hardware"):
                values[field.name] = number(given)
        return Asked(**values)

    def redraw(self) -> None:
        """Compute and draw again; an error takes the place of the numbers and the picture."""
        asked, self.answer, self.error = self.asked(), None, ""
        try:
            is_array = isinstance(asked.place(), SystolicArray)
            for name in OF_ARRAY:
                self.controls[name].disabled = not is_array
            self.answer = now = asked.answer()
            first, *notes = map(_escaped, asked.notes(now))
            self.text.value = (
                f"<b>{first}</b>{_html(asked.table(now))}{''.join(f'<p>{note}</p>' for note in notes)}"
                f"<p>The same on the command line:<br><code>{_words(asked.command())}</code></p>"
            )
            self._draw(asked, now)
        except InputError as error:
            self.error = str(error)
            self.text.value = f"<p style='color: #a00'>{_escaped(self.error)}</p>"
        self.image.layout.display = None if self.answer else "none"

    def _combobox(self, name: str, label: str, options: list[str], hint: str) -> Any:
        layout = widgets.Layout(width="31em")
        return widgets.Combobox(
            value=getattr(self.given, name), options=options, description=label, placeholder=hint,
            continuous_update=False, layout=layout, **LABELS,
        )  # fmt: skip

    def _column(self, groups: dict[str, dict[str, str]], grow: bool) -> Any:
        rows = []
        for title, labels in groups.items():
            rows.append(widgets.HTML(f"<b>{title}</b>", layout=widgets.Layout(width="100%", padding="0 0 0 7.9em")))
            rows += [self._control(name, label) for name, label in labels.items()]
        return _wrapped(rows, flex=f"{grow:d} 1 20em")

    def _control(self, name: str, label: str) -> Any:
        value = "" if (given := getattr(self.given, name)) is None else given
        shared = {"description": label, "layout": widgets.Layout(width="19.5em"), **LABELS}
        if name in CHOICES:
            self.controls[name] = widgets.Dropdown(options=CHOICES[name], value=value, **shared)
            return self.controls[name]
        hint = EMPTY.get(name, "")
        self.controls[name] = widgets.Text(str(value), placeholder=hint, continuous_update=False, **shared)
        if name not in ("projection", "attention"):
            return self.controls[name]
        layout = widgets.Layout(width="11em", margin="0 0 0 8em")
        self.sliders[name] = widgets.FloatLogSlider(min=0, max=2, step=STEP, readout=False, layout=layout)
        _follow(self.sliders[name], self.controls[name])
        return widgets.VBox([self.controls[name], self.sliders[name]], layout=widgets.Layout(width="20em"))

    def _draw_axes(self) -> None:
        self.figure = Figure(figsize=(5.6, 3))
        # set once, as a layout engine takes 50 ms a picture
        self.figure.subplots_adjust(left=0.125, right=0.97, bottom=0.16, top=0.81)
        axis = self.figure.add_subplot(xscale="log", yscale="log", xlabel=f"{PARTIAL}, speedup of the part")
        axis.set_ylabel(f"{TOTAL}, speedup of the model")
        styles = {"projection": "--", "attention": "-"}
        self.lines = {part: axis.plot([], [], style, label=f"{part} faster")[0] for part, style in styles.items()}
        self.points = axis.plot([], [], "o", color="black", clip_on=False, label="as set, one at a time")[0]
        self.both = axis.axhline(1, linestyle=":", color="black", label="as set, both")
        self.by_bits = axis.plot([], [], "*", markersize=11, color="C3", clip_on=False, label="by bits")[0]
        for scale in (axis.xaxis, axis.yaxis):
            scale.set_major_formatter(lambda x, position: f"{x:g}" if x < 10**4 else f"$10^{{{np.log10(x):.0f}}}$")
            scale.set_minor_locator(NullLocator())
        axis.grid(alpha=0.3)
        self.axis = axis

    def _draw(self, asked: Asked, now: Answer) -> None:
        set_to = asked.set_to
        by_bits = (now.share.partial_speedup, now.share.total_speedup) if now.by_bits else (1, 1)
        right = np.max([100, *set_to.values(), by_bits[0]])
        along = np.geomspace(1, right, len(SPEEDUPS))
        for part, line in self.lines.items():
            line.set_data(along, amdahl.total_speedup(now.fractions[part], along))
        fractions = [now.fractions[part] for part in set_to]
        self.points.set_data([*set_to.values()], amdahl.total_speedup(fractions, [*set_to.values()]))
        self.both.set_ydata([now.total_speedup] * 2)
        self.by_bits.set_data([by_bits[0]], [by_bits[1]])
        self.by_bits.set_visible(bool(now.by_bits))
        top = np.max([now.total_speedup, by_bits[1], *(np.max(line.get_ydata()) for line in self.lines.values())])
        self.axis.xaxis.set_major_locator(_marks(right))
        self.axis.yaxis.set_major_locator(_marks(top, low=(1, 1.5, 2, 3, 5, 7)))
        self.axis.set(xlim=(min(1, by_bits[0]), right), ylim=(min(1, by_bits[1]), top + 0.05 * (top - 1)))
        shown = [*self.lines.values(), self.points, self.both, *([self.by_bits] if now.by_bits else [])]
        self.axis.legend(handles=shown, frameon=False, loc="lower center", bbox_to_anchor=(0.45, 1), ncols=3)
        picture = io.BytesIO()
        self.figure.savefig(picture, format="png", dpi=90)
        self.image.value = picture.getvalue()


def _marks(highest: float, low: tuple[float, ...] = (1, 2, 5)) -> LogLocator:
    """Where an axis is marked: at `low` up to 10, and only at powers of ten beyond 1000."""
    return LogLocator(base=10, subs=low if highest < 10 else (1, 2, 5) if highest <= 1000 else (1,))


def _follow(slider: Any, text: Any) -> None:
    """Let the slider set the text, and the text the slider; what rounds to the same step is left as it is.

    The browser rounds the slider's value to a step and sends it back, and the reader may have moved it on meanwhile.
    """

    def wanted() -> float | None:
        """What the text wants the slider to be, if it is not there yet."""
        given = real_number(number(text.value))
        value = slider.value if given is None else float(np.clip(given, SPEEDUPS[0], SPEEDUPS[-1]))
        return value if abs(np.log10(slider.value / value)) > 0.75 * STEP else None

    def to_slider(change: Any) -> None:
        if (value := wanted()) is not None:
            slider.value = value

    def to_text(change: Any) -> None:
        if wanted() is not None or real_number(number(text.value)) is None:
            text.value = f"{slider.value:.4g}"

    to_slider(None)
    text.observe(to_slider, names="value")
    slider.observe(to_text, names="value")


def _wrapped(boxes: list[Any], **layout: str) -> Any:
    """Boxes in rows as wide as the window."""
    flow = {"display": "flex", "flex_flow": "row wrap", "align_content": "flex-start", "min_width": "0"}
    return widgets.Box(boxes, layout=widgets.Layout(**flow, **layout))


def _escaped(text: str) -> str:
    return escape(text, quote=False)


def _words(command: str) -> str:
    """The line as HTML that breaks between its words, not at their hyphens."""
    return " ".join(f"<span>{_escaped(shlex.quote(word))}</span>" for word in shlex.split(command))


def _html(table: list[list[str]]) -> str:
    rows = ("".join(f"<td>{_escaped(cell)}</td>" for cell in row) for row in table)
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"
