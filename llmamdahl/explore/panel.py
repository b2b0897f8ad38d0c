"""A panel for JupyterLab: set the model, array and workload; read F, the speedup, the ceilings and Amdahl's curves."""

from __future__ import annotations

import io
import shlex
from dataclasses import dataclass, field
from html import escape
from typing import Any, get_args

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from llmamdahl import amdahl
from llmamdahl.analysis import share
from llmamdahl.errors import InputError
from llmamdahl.hardware import CLOUD_TPU, Dataflow, SystolicArray
from llmamdahl.models import Decoder, find_model, model_names, zoo_names
from llmamdahl.systolic import Counting, Folds
from llmamdahl.workload import Heads

SPEEDUPS = np.geomspace(1, 100, 60)
OF_ARRAY = ("rows", "cols", "dataflow", "clock_mhz", "dram_gb_s")
READINGS = ("heads", "folds", "counting")


@dataclass(frozen=True)
class Answer:
    """What the panel shows: the cost of the parts, F = projection / (projection + attention), and the gains.

    A model with a recurrent state has it in the whole too: F = projection / (projection + attention + state).
    """

    metric: str
    """`cycles`, or `seconds` if the array has a clock."""
    projection: float
    attention: float
    fraction: float
    total_speedup: float
    ceiling: float
    attention_ceiling: float
    state: float = field(repr=False)
    fractions: tuple[float, float, float] = field(repr=False)
    """Of projections (F), attention and state."""


def answer(
    model: Decoder,
    array: SystolicArray,
    context_length: int,
    batch: int,
    projection: float,
    attention: float,
    *,
    heads: Heads = "per_head",
    folds: Folds = "serial",
    counting: Counting = "reported",
) -> Answer:
    """The panel's numbers, if the parts run `projection` and `attention` times as fast; readings as in `share`."""
    found = share(model, context_length, array, batch=batch, heads=heads, folds=folds, counting=counting)
    state = found.state * found.fraction / found.projection
    fractions = (found.fraction, 1 - found.fraction - state, state)
    total = amdahl.combined_speedup(fractions, [projection, attention, 1])
    return Answer(
        found.metric,
        found.projection,
        found.attention,
        found.fraction,
        float(total),
        found.ceiling,
        float(amdahl.ceiling(fractions[1])),
        found.state,
        fractions,
    )


class Panel(widgets.HBox):  # type: ignore[misc]
    """The panel; its values can be set from code too, as `panel.controls["batch"].value = 8`."""

    def __init__(self, model: str = "opt-6.7b", array: SystolicArray = CLOUD_TPU, context_length: int = 2048):
        wide = {"layout": widgets.Layout(width="27em"), "style": {"description_width": "9em"}}
        names = [*model_names(), *zoo_names()]
        self.controls: dict[str, Any] = {
            "model": widgets.Combobox(value=model, options=names, description="model or config", **wide),
            "rows": widgets.BoundedIntText(array.rows, min=1, max=65536, description="array rows", **wide),
            "cols": widgets.BoundedIntText(array.cols, min=1, max=65536, description="array columns", **wide),
            "dataflow": widgets.Dropdown(
                options=[str(flow) for flow in Dataflow], value=str(array.dataflow), description="dataflow", **wide
            ),
            "context_length": widgets.BoundedIntText(
                context_length, min=1, max=2**30, step=128, description="context length", **wide
            ),
            "batch": widgets.BoundedIntText(1, min=1, max=2**20, description="batch", **wide),
            "heads": widgets.Dropdown(options=get_args(Heads), value="per_head", description="heads", **wide),
            "folds": widgets.Dropdown(options=get_args(Folds), value="serial", description="folds", **wide),
            "counting": widgets.Dropdown(options=get_args(Counting), value="reported", description="counting", **wide),
            "clock_mhz": widgets.BoundedFloatText(
                array.clock_mhz or 0, min=0, max=1e5, step=100, description="clock, MHz", **wide
            ),
            "dram_gb_s": widgets.BoundedFloatText(
                array.dram_gb_s or 0, min=0, max=1e6, step=1, description="DRAM, GB/s", **wide
            ),
            "projection": widgets.FloatLogSlider(10, min=0, max=2, step=0.02, description="S projections", **wide),
            "attention": widgets.FloatLogSlider(1, min=0, max=2, step=0.02, description="S attention", **wide),
        }
        self.text, self.image = widgets.HTML(), widgets.Image(format="png", layout=widgets.Layout(width="560px"))
        for control in self.controls.values():
            if hasattr(control, "continuous_update"):
                control.continuous_update = not isinstance(control, widgets.Combobox)
            control.observe(lambda change: self.redraw(), names="value")
        self._draw_axes()
        self.redraw()
        left = widgets.VBox([*self.controls.values()], layout=widgets.Layout(flex="0 0 auto"))
        super().__init__([left, widgets.VBox([self.text, self.image])])

    def __repr__(self) -> str:
        """The text that a saved notebook shows in place of the panel."""
        now = self.answer
        return f"F = {now.fraction:.4f}, S_total = {now.total_speedup:.4f}, ceiling = {now.ceiling:.4f}"

    def _draw_axes(self) -> None:
        self.figure = Figure(figsize=(6.2, 3.6))
        self.figure.subplots_adjust(
            left=0.1, right=0.97, bottom=0.14, top=0.97
        )  # a layout engine takes 50 ms a picture
        axis = self.figure.add_subplot(xscale="log", yscale="log", xlim=(1, 100), xlabel="speedup of the part")
        axis.set_ylabel("speedup of the model")
        styles = {"projections": "--", "attention": "-"}
        self.lines = {part: axis.plot([], [], style, label=f"{part} faster")[0] for part, style in styles.items()}
        self.points = axis.plot([], [], "o", color="black")[0]
        for scale in (axis.xaxis, axis.yaxis):
            scale.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
            scale.set_major_formatter("{x:g}")
            scale.set_minor_locator(NullLocator())
        axis.legend(frameon=False, loc="upper left")
        axis.grid(alpha=0.3)
        self.axis = axis

    def redraw(self) -> None:
        """Compute and draw again; an error is shown in place of the numbers."""
        values = {name: control.value for name, control in self.controls.items()}
        try:
            model = find_model(values["model"])
            values |= {name: values[name] or None for name in ("clock_mhz", "dram_gb_s")}
            array = SystolicArray(**{name: values[name] for name in OF_ARRAY})
            speedups = (values["projection"], values["attention"])
            readings = {name: values[name] for name in READINGS}
            now = answer(model, array, values["context_length"], values["batch"], *speedups, **readings)
            beyond = values["context_length"] > model.max_position
            self.note = f"beyond the {model.max_position} tokens it was trained for" if beyond else ""
        except InputError as error:
            self.text.value = f"<p style='color:#a00'>{escape(str(error), quote=False)}</p>"
            return
        self.answer = now
        self._write(now, values)
        self._draw(now, speedups)

    def _write(self, now: Answer, values: dict[str, Any]) -> None:
        number = "{:,}" if now.metric == "cycles" else "{:.6g}"
        rows = {
            "S of projections": f"{values['projection']:.6g}",
            "S of attention": f"{values['attention']:.6g}",
            f"F of {now.metric}, LM head left out": f"{now.fraction:.4f}",
            "S_total, model": f"{now.total_speedup:.4f}",
            "ceiling, projections alone": f"{now.ceiling:.4f}",
            "ceiling, attention alone": f"{now.attention_ceiling:.4f}",
            f"{now.metric}, projections": number.format(now.projection),
            f"{now.metric}, attention": number.format(now.attention),
        }
        if now.fractions[2]:
            rows[f"{now.metric}, recurrent state"] = number.format(now.state)
        cells = "".join(f"<tr><td>{name}&emsp;</td><td><b>{value}</b></td></tr>" for name, value in rows.items())
        order = ("model", *OF_ARRAY, "context_length", "batch", *READINGS)
        line = escape(" ".join(f"-p {name} {shlex.quote(str(values[name]))}" for name in order), quote=False)
        below = f"{self.note}<br>For notebook 08: <code>{line}</code>"
        self.text.value = f"<div style='line-height: 1.4'><table>{cells}</table>{below}</div>"

    def _draw(self, now: Answer, speedups: tuple[float, float]) -> None:
        projection, attention = speedups
        alike = np.ones_like(SPEEDUPS)
        pairs = {"projections": (SPEEDUPS, alike * attention), "attention": (alike * projection, SPEEDUPS)}
        curves = {
            part: amdahl.combined_speedup(now.fractions, np.stack((*pair, alike), axis=-1))
            for part, pair in pairs.items()
        }
        for part, curve in curves.items():
            self.lines[part].set_data(SPEEDUPS, curve)
        self.points.set_data([projection, attention], [now.total_speedup] * 2)
        self.axis.set_ylim(0.9, 1.1 * max(np.max(curve) for curve in curves.values()))
        picture = io.BytesIO()
        self.figure.savefig(picture, format="png", dpi=90)
        self.image.value = picture.getvalue()
