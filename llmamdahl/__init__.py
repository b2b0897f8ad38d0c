"""Amdahl's Law for 1-bit LLMs: the share of the projections in a model, and what faster ones gain.

>>> import llmamdahl as la
>>> found = la.share("llama-3.1-8b", 2048, "cloud")  # a model on the cloud TPU of the paper
>>> round(found.fraction, 3), round(found.ceiling, 2)
(0.793, 4.83)
>>> la.share("llama-3.1-8b", 2048, "H200", precision=la.Precision(weights=2, activations=8)).bound["projection"]
'memory'

Models: `get_model`, `from_hf_config`, `model_names`, `zoo_names`, `Decoder`. Hardware: `SystolicArray`, `CLOUD_TPU`,
`EDGE_TPU`, `Device`, `get_device`, `devices`. Workload: `decode_step`, `prefill`, `Part`. Costs: `gemm_cost`,
`Precision`. Questions: `share` (a `Share`), `sweep`, `curves`, `crossover_context_length`, `crossover_batch`,
`generation_cost`. The law: `total_speedup`, `ceiling`, `required_partial_speedup`, and more in the module `amdahl`.
Figures: the module `plots`. Errors: `InputError`. Memory (`footprint`, `saving`) is in `llmamdahl.roofline`, tables of
crossovers in `llmamdahl.analysis`.

Readings, the choices that the paper does not state (`heads`, `folds`, `counting`, a memory, bits), are keywords of
every question; `help(la.share)` explains them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmamdahl import amdahl, plots
    from llmamdahl.amdahl import ceiling, required_partial_speedup, total_speedup
    from llmamdahl.analysis import crossover_batch, crossover_context_length, curves, generation_cost, share, sweep
    from llmamdahl.errors import InputError
    from llmamdahl.hardware import CLOUD_TPU, EDGE_TPU, Device, SystolicArray, devices, get_device
    from llmamdahl.models import Decoder, from_hf_config, get_model, model_names, zoo_names
    from llmamdahl.question import Share
    from llmamdahl.roofline import Precision
    from llmamdahl.systolic import gemm_cost
    from llmamdahl.workload import Part, decode_step, prefill

_HOMES = {
    "amdahl": "ceiling required_partial_speedup total_speedup",
    "analysis": "crossover_batch crossover_context_length curves generation_cost share sweep",
    "errors": "InputError",
    "hardware": "CLOUD_TPU EDGE_TPU Device SystolicArray devices get_device",
    "models": "Decoder from_hf_config get_model model_names zoo_names",
    "question": "Share",
    "roofline": "Precision",
    "systolic": "gemm_cost",
    "workload": "Part decode_step prefill",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}
_MODULES = ("amdahl", "plots")

__all__ = [
    "CLOUD_TPU",
    "EDGE_TPU",
    "Decoder",
    "Device",
    "InputError",
    "Part",
    "Precision",
    "Share",
    "SystolicArray",
    "amdahl",
    "ceiling",
    "crossover_batch",
    "crossover_context_length",
    "curves",
    "decode_step",
    "devices",
    "from_hf_config",
    "gemm_cost",
    "generation_cost",
    "get_device",
    "get_model",
    "model_names",
    "plots",
    "prefill",
    "required_partial_speedup",
    "share",
    "sweep",
    "total_speedup",
    "zoo_names",
]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used, so that `import llmamdahl` itself imports nothing."""
    if name in _MODULES:
        return import_module(f"llmamdahl.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'llmamdahl' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = globals()[name] = getattr(import_module(f"llmamdahl.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
