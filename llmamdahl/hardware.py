"""The systolic arrays that the MatMuls run on (Table 3)."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum

from llmamdahl.errors import InputError, one_of, positive_int
from llmamdahl.tables import DATA, read_rows


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

    @property
    def label(self) -> str:
        """`name`, or else the size, as in `32x32`."""
        return self.name or f"{self.rows}x{self.cols}"


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
