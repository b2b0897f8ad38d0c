"""The systolic arrays that the MatMuls run on (Table 3), and SCALE-Sim's .cfg of one."""

from __future__ import annotations

import configparser
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path

from llmamdahl.errors import InputError, instance, one_of, positive_int
from llmamdahl.tables import DATA, read_rows

CFG = """\
[general]
run_name = {run_name}

[architecture_presets]
ArrayHeight = {rows}
ArrayWidth = {cols}
IfmapSramSzkB = {ifmap_sram_kb}
FilterSramSzkB = {filter_sram_kb}
OfmapSramSzkB = {ofmap_sram_kb}
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Dataflow = {dataflow}
Bandwidth = 10

[run_presets]
InterfaceBandwidth = CALC
"""
"""Every key that SCALE-Sim 2.0.2 reads, under its own names. Offsets are its defaults, and Bandwidth is the one of the
example it ships; neither enters a count in CALC, its stall-free mode. A section `network_presets` would make it fail.
"""

CFG_KEYS = {
    "rows": "ArrayHeight",
    "cols": "ArrayWidth",
    "ifmap_sram_kb": "IfmapSramSzkB",
    "filter_sram_kb": "FilterSramSzkB",
    "ofmap_sram_kb": "OfmapSramSzkB",
}


class Dataflow(StrEnum):
    """Which operand stays in the array while the others stream past it (Section 3.2)."""

    OS = "os"
    """Output stationary: the array holds m x n, and k streams."""
    WS = "ws"
    """Weight stationary: the array holds k x n, and m streams."""
    IS = "is"
    """Input stationary: the array holds k x m, and n streams."""


@dataclass(frozen=True, slots=True)
class SystolicArray:
    """A systolic array of `rows` x `cols` processing elements with its three SRAMs.

    `ifmap`, `filter` and `ofmap` are SCALE-Sim's names for the paper's input, weight and output memory. Sizes are in
    kB of 1024 bytes; SCALE-Sim's word is one byte. `name` is a label and takes no part in comparisons.
    """

    rows: int
    cols: int
    dataflow: Dataflow | str = Dataflow.OS
    ifmap_sram_kb: int = 2048
    filter_sram_kb: int = 4096
    ofmap_sram_kb: int = 2048
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for item in fields(self):
            if item.type == "int":
                object.__setattr__(self, item.name, positive_int(item.name, getattr(self, item.name)))
        object.__setattr__(self, "dataflow", Dataflow(one_of("dataflow", self.dataflow, tuple(Dataflow))))
        instance("name", self.name, str)

    @property
    def label(self) -> str:
        """`name`, or else the size, as in `32x32`."""
        return self.name or f"{self.rows}x{self.cols}"

    @classmethod
    def from_scalesim_cfg(cls, path: str | Path) -> SystolicArray:
        """The array that a SCALE-Sim `.cfg` describes; its run name becomes `name`.

        Address offsets and the bandwidth are not kept: they enter no count of the stall-free mode.

        Raises
        ------
        InputError
            No such file, or not a `.cfg`; a section or key that is missing or given twice; a size that is not a
            positive whole number; an unknown dataflow; another mode than the stall-free `InterfaceBandwidth: CALC`.
        """
        config = configparser.ConfigParser()
        try:
            config.read_string(Path(path).read_text(encoding="utf-8"), source=str(path))
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        except (configparser.Error, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not a SCALE-Sim .cfg: {error}") from None

        def value(section: str, key: str) -> str:
            try:
                return config.get(section, key)
            except (configparser.NoSectionError, configparser.NoOptionError):
                raise InputError(f"{path}: {key} is missing in [{section}]; SCALE-Sim needs it") from None
            except configparser.InterpolationError:
                raw = config.get(section, key, raw=True)
                raise InputError(f"{path}: {key}: {raw!r} has a lone %; write %%") from None

        def size(key: str) -> int:
            text = value("architecture_presets", key)
            return positive_int(f"{path}: {key}", int(text) if text.isdecimal() else text)

        mode = value("run_presets", "InterfaceBandwidth")
        if mode != "CALC":
            raise InputError(f"{path}: InterfaceBandwidth: {mode!r} lets the array stall; counts here are of CALC")
        dataflow = one_of(f"{path}: Dataflow", value("architecture_presets", "Dataflow"), tuple(Dataflow))
        sizes = {name: size(key) for name, key in CFG_KEYS.items()}
        return cls(**sizes, dataflow=dataflow, name=value("general", "run_name"))

    def to_scalesim_cfg(self, path: str | Path) -> None:
        """Write the `.cfg` that makes SCALE-Sim 2.0.2 simulate this array without stalls; `label` is the run name.

        Raises
        ------
        InputError
            A label that cannot be the name of a folder, which is what SCALE-Sim makes of it.
        """
        if not self.label.isprintable() or self.label != self.label.strip() or {"/", "\\"} & {*self.label}:
            raise InputError(f"name: {self.label!r} cannot name SCALE-Sim's folder of reports; use letters and digits")
        sizes = {name: getattr(self, name) for name in CFG_KEYS}
        run_name = self.label.replace("%", "%%")  # configparser's escape
        text = CFG.format(run_name=run_name, dataflow=self.dataflow, **sizes)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text, encoding="utf-8")


def get_array(name: str, dataflow: Dataflow | str = Dataflow.OS) -> SystolicArray:
    """The `cloud` or `edge` TPU of Table 3 (`data/published/table3.csv`).

    >>> get_array("edge").rows, get_array("edge").filter_sram_kb
    (32, 4096)
    """
    sizes = ("rows", "cols", "ifmap_sram_kb", "filter_sram_kb", "ofmap_sram_kb")
    columns = {"array": str, **dict.fromkeys(sizes, int)}
    designs = {row["array"]: row for row in read_rows(DATA / "published" / "table3.csv", columns, key=["array"])}
    if name not in designs:
        raise InputError(f"array: {name!r} is unknown; known: {', '.join(designs)}")
    return SystolicArray(**{size: designs[name][size] for size in sizes}, dataflow=dataflow, name=name)


CLOUD_TPU = get_array("cloud")
EDGE_TPU = get_array("edge")
