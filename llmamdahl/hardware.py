"""Hardware that MatMuls run on: systolic arrays (Table 3), read from and written to SCALE-Sim's .cfg, and devices."""

from __future__ import annotations

import configparser
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TypeAlias, TypeVar

import pandas as pd

from llmamdahl.errors import MAX_BITS, InputError, instance, one_of, positive_int, real_number, shown, unknown
from llmamdahl.tables import DATA, Columns, Row, optional_float, positive_float, read_rows

T = TypeVar("T")

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
"""All keys that SCALE-Sim 2.0.2 reads. The offsets are its defaults and the bandwidth is that of its example; neither
enters a count in CALC, its stall-free mode. SCALE-Sim fails on a section `network_presets`.
"""

CFG_KEYS = {
    "rows": "ArrayHeight",
    "cols": "ArrayWidth",
    "ifmap_sram_kb": "IfmapSramSzkB",
    "filter_sram_kb": "FilterSramSzkB",
    "ofmap_sram_kb": "OfmapSramSzkB",
}
"""Sizes of a `SystolicArray` and their keys in a .cfg."""


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
    kB of 1024 bytes; SCALE-Sim's word is one byte. No count depends on the clock or the DRAM: they turn cycles and
    bytes into seconds (`roofline.array_seconds`).

    Attributes
    ----------
    clock_mhz
        10^6 cycles a second. None, as in the paper: cycles are not turned into seconds.
    dram_gb_s
        Bandwidth of the DRAM, 10^9 bytes a second; needs a clock. None, as in the paper: never waited for.
    name
        A label; takes no part in comparisons.

    >>> SystolicArray(rows=64, cols=128, dataflow="ws").label
    '64x128'
    """

    rows: int
    cols: int
    dataflow: Dataflow | str = Dataflow.OS
    ifmap_sram_kb: int = 2048
    filter_sram_kb: int = 4096
    ofmap_sram_kb: int = 2048
    name: str = field(default="", compare=False)
    clock_mhz: float | None = None
    dram_gb_s: float | None = None

    def __post_init__(self) -> None:
        for name in CFG_KEYS:
            object.__setattr__(self, name, positive_int(name, getattr(self, name)))
        for name in ("clock_mhz", "dram_gb_s"):
            object.__setattr__(self, name, _rate(name, getattr(self, name)))
        object.__setattr__(self, "dataflow", Dataflow(one_of("dataflow", self.dataflow, tuple(Dataflow))))
        instance("name", self.name, str)
        if self.dram_gb_s is not None and self.clock_mhz is None:
            raise InputError(f"clock_mhz: missing; a dram_gb_s of {self.dram_gb_s:g} needs one, as cycles take time")

    @property
    def label(self) -> str:
        """`name`, or else the size, as in `32x32`."""
        return self.name or f"{self.rows}x{self.cols}"

    @classmethod
    def from_scalesim_cfg(cls, path: str | Path) -> SystolicArray:
        """Read the array that a SCALE-Sim `.cfg` describes; its run name becomes `name`.

        Address offsets and the bandwidth are not kept, because no count of the stall-free mode depends on them; a
        `.cfg` has no clock.

        Raises
        ------
        InputError
            The file does not exist or is not a `.cfg`; a section or key is missing or occurs twice; a size is not a
            positive whole number; the dataflow is unknown; the mode is not the stall-free `InterfaceBandwidth: CALC`;
            an address offset is below 0, although -1 is SCALE-Sim's null address. The message names the
            file, the key and the line.
        """
        text = _cfg_text(path)
        config = _parsed_cfg(path, text)

        def value(section: str, key: str, check: Callable[[str, str], T]) -> T:
            place = key
            try:
                return check(key, _interpolated(key, config.get(section, key)))
            except (configparser.NoSectionError, configparser.NoOptionError):
                problem, place = f"{key} is missing in [{section}]; SCALE-Sim needs it", ""
            except InputError as error:
                problem = str(error)
            raise InputError(f"{path}: {problem}{_at_line(text, section, place)}")

        value("run_presets", "InterfaceBandwidth", _stall_free)
        dataflow = value("architecture_presets", "Dataflow", lambda key, text: one_of(key, text, tuple(Dataflow)))
        for key in ("IfmapOffset", "FilterOffset", "OfmapOffset"):
            if config.has_option("architecture_presets", key):
                value("architecture_presets", key, _offset)
        sizes = {name: value("architecture_presets", key, _size) for name, key in CFG_KEYS.items()}
        return cls(**sizes, dataflow=dataflow, name=value("general", "run_name", lambda _, text: text))

    @property
    def run_name(self) -> str:
        """`label`, as the name of SCALE-Sim's run and of its folder of reports.

        Raises
        ------
        InputError
            The label cannot name a folder.
        """
        odd = not self.label.isprintable() or self.label != self.label.strip() or self.label in (".", "..")
        if odd or {"/", "\\"} & {*self.label}:
            raise InputError(f"name: {self.label!r} cannot name SCALE-Sim's folder of reports; use letters and digits")
        return self.label

    def to_scalesim_cfg(self, path: str | Path) -> None:
        """Write a `.cfg` with which SCALE-Sim 2.0.2 simulates this array without stalls; `label` is the run name.

        Raises
        ------
        InputError
            The label cannot name a folder; SCALE-Sim names its folder of reports after it.
        """
        sizes = {name: getattr(self, name) for name in CFG_KEYS}
        run_name = self.run_name.replace("%", "%%")  # configparser's escape
        text = CFG.format(run_name=run_name, dataflow=self.dataflow, **sizes)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text, encoding="utf-8")


def _cfg_text(path: str | Path) -> str:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{path}: not a SCALE-Sim .cfg: a byte that is not UTF-8 (line {line})") from None
    for odd, name in (("\ufeff", "a byte order mark"), ("\0", "a NUL character")):
        if odd in text:
            line = text[: text.index(odd)].count("\n") + 1
            raise InputError(f"{path}: not a SCALE-Sim .cfg: {name} (line {line}); save it as UTF-8 without it")
    return text


def _parsed_cfg(path: str | Path, text: str) -> configparser.ConfigParser:
    config = configparser.ConfigParser(interpolation=None)
    try:
        config.read_string(text)
    except configparser.DuplicateSectionError as error:
        problem, line = f"[{error.section}] occurs twice", error.lineno
    except configparser.DuplicateOptionError as error:
        problem, line = f"{error.option} occurs twice in [{error.section}]", error.lineno
    except configparser.MissingSectionHeaderError as error:
        problem, line = f"{error.line.strip()!r} comes before the first [section]", error.lineno
    except configparser.ParsingError as error:
        problem, line = "neither a [section] nor a key with its value", error.errors[0][0]
    else:
        if config.sections():
            return config
        what = "it has no [section]" if text.strip() else "the file is empty"
        needed = "[general], [architecture_presets] and [run_presets]"
        raise InputError(f"{path}: not a SCALE-Sim .cfg: {what}; SCALE-Sim needs {needed}")
    raise InputError(f"{path}: not a SCALE-Sim .cfg: {problem} (line {line})")


def _interpolated(key: str, text: str) -> str:
    """A value with `%%` as `%`, as SCALE-Sim reads it; other keys are not put in, as a few can make gigabytes."""
    if "%" in text.replace("%%", ""):
        raise InputError(f"{key}: {shown(text)} has a single %; write %% for it, and values instead of %(key)s")
    return text.replace("%%", "%")


def _at_line(text: str, section: str, key: str) -> str:
    """The end of a message: the line of a key, or of the header of its section if `key` is empty or not found."""
    current, found = "", 0
    for number, line in enumerate(text.split("\n"), start=1):
        if header := re.match(r"\s*\[(.*?)\]", line):
            current = header[1]
            found = found or number * (current == section)
        elif key and current == section and re.match(rf"\s*{key}\s*[=:]", line, re.IGNORECASE):
            return f" (line {number})"
    return f" (line {found})" if found else ""


def _stall_free(key: str, text: str) -> None:
    if text != "CALC":
        raise InputError(f"{key}: {text!r} lets the array stall; only the stall-free mode CALC is supported")


def _offset(key: str, text: str) -> None:
    if not (text.isascii() and text.isdecimal()):
        raise InputError(f"{key}: {shown(text)} is not a whole number >= 0; -1 is SCALE-Sim's null address")


def _size(key: str, text: str) -> int:
    digits = text.isascii() and text.isdecimal()  # SCALE-Sim's int() takes those of other scripts, and 1_000
    if digits and len(text) > MAX_BITS:
        raise InputError(f"{key}: a number of {len(text)} digits is too large")
    return positive_int(key, int(text) if digits else text)


@dataclass(frozen=True, slots=True)
class Device:
    """A device by its datasheet (`data/hardware/devices.csv`), or by your own numbers.

    Attributes
    ----------
    bandwidth_gb_s
        Memory bandwidth, 10^9 bytes a second.
    fp16_tflops, int8_tops, fp8_tflops, int4_tops, fp4_tflops
        Peak rates without sparsity, 10^12 operations a second; a multiply-accumulate is two. None if not published.
        `fp16_tflops` is that of BF16 where the device computes in it faster.
    memory_gb
        Size of the memory, of 2^30 bytes as vendors print it. None if not published, or if there are several sizes.

    A missing number is None here and NaN in the table `devices()`. A NaN that is given becomes None, so that a row of
    the table makes a device.

    >>> Device("mine", bandwidth_gb_s=100, fp16_tflops=4).label
    'mine'
    """

    name: str
    bandwidth_gb_s: float
    fp16_tflops: float | None = None
    int8_tops: float | None = None
    fp8_tflops: float | None = None
    int4_tops: float | None = None
    fp4_tflops: float | None = None
    memory_gb: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InputError(f"name: {shown(self.name)} does not name a device; write a word or two")
        for item in fields(self)[1:]:
            given = getattr(self, item.name)
            if item.name == "bandwidth_gb_s" and given is None:
                raise InputError(f"{self.name}: bandwidth_gb_s: None is not a number above 0")
            if item.name != "bandwidth_gb_s" and isinstance(given, float) and math.isnan(given):
                given = None
            object.__setattr__(self, item.name, _rate(f"{self.name}: {item.name}", given))

    @property
    def label(self) -> str:
        """`name`, as `SystolicArray.label`."""
        return self.name


Hardware: TypeAlias = SystolicArray | Device

RATES = 1e-12, 1e15
"""The least and the greatest clock, bandwidth or peak: within them the seconds of any model fit into a float."""


def _rate(name: str, given: object) -> float | None:
    """A clock, bandwidth, peak or size: a number above 0, or None if there is none."""
    value = None if given is None else real_number(given)
    if given is not None and (value is None or value <= 0):
        raise InputError(f"{name}: {shown(given)} is not a number above 0")
    if value is not None and not RATES[0] <= value <= RATES[1]:
        raise InputError(f"{name}: {shown(given)} is not between {RATES[0]:g} and {RATES[1]:g}; check its unit")
    return value


PEAKS = tuple(item.name for item in fields(Device)[2:-1])
"""The peak rates of a `Device`, by number format."""


@cache
def _array_rows() -> tuple[Row, ...]:
    """Table 3 (`data/published/table3.csv`)."""
    columns = {"array": str, **dict.fromkeys(CFG_KEYS, int)}
    return tuple(read_rows(DATA / "published" / "table3.csv", columns, key=["array"]))


@cache
def _device_rows() -> tuple[Row, ...]:
    columns: Columns = {
        **dict.fromkeys(("name", "kind", "source"), str),
        "bandwidth_gb_s": positive_float,
        **dict.fromkeys(("memory_gb", *PEAKS), optional_float),
    }
    return tuple(read_rows(DATA / "hardware" / "devices.csv", columns, key=["name"]))


SIZED = "; a size is ROWSxCOLS, such as 128x64"
"""Advice for a name that is neither known nor near one."""


def get_array(name: str, dataflow: Dataflow | str = Dataflow.OS) -> SystolicArray:
    """The `cloud` or `edge` TPU of Table 3 (`data/published/table3.csv`).

    Raises
    ------
    InputError
        An unknown name or dataflow.

    >>> get_array("edge").rows, get_array("edge").filter_sram_kb
    (32, 4096)
    """
    row = _named("array", name, {row["array"]: row for row in _array_rows()}, SIZED)
    return SystolicArray(**{size: row[size] for size in CFG_KEYS}, dataflow=dataflow, name=row["array"])


def get_device(name: str) -> Device:
    """A device of `devices()` by its name, without regard to case.

    Raises
    ------
    InputError
        An unknown name; the message suggests known ones. A part of a name is never completed.

    >>> device = get_device("a100 80gb")
    >>> device.name, device.bandwidth_gb_s, device.fp16_tflops, device.int8_tops
    ('A100 80GB', 2039.0, 312.0, 624.0)
    """
    row = _named("device", name, {row["name"]: row for row in _device_rows()})
    return Device(**{item.name: row[item.name] for item in fields(Device)})


def devices() -> pd.DataFrame:
    """The devices that can be named (`data/hardware/devices.csv`).

    Returns
    -------
    DataFrame
        name, kind, bandwidth_gb_s, memory_gb; fp16_tflops, int8_tops, fp8_tflops, int4_tops, fp4_tflops; source. NaN
        where `Device` has None: what is not published.

    Raises
    ------
    TableError
        A device without a bandwidth, or with a peak that is not a number above 0; it names the line.

    >>> devices().set_index("name").bandwidth_gb_s["H200"]
    np.float64(4800.0)
    """
    return pd.DataFrame(_device_rows())


def find_hardware(hardware: str | Hardware) -> Hardware:
    """The array or device itself, or the one that a name means, without regard to case.

    A name is `cloud` or `edge` (Table 3), a size such as `128x64` (rows x columns, output stationary, with the SRAM
    sizes that `SystolicArray` has by default), or a device of `devices()`.

    Raises
    ------
    InputError
        An unknown name, or something that is neither an array, a device nor a name.

    >>> find_hardware("128x64").cols, find_hardware("H200").bandwidth_gb_s
    (64, 4800.0)
    """
    if isinstance(hardware, SystolicArray | Device):
        return hardware
    if not isinstance(hardware, str):
        raise InputError(f"hardware: {shown(hardware)} is not a SystolicArray, a Device, or the name of one")
    if array := _sized(hardware):
        return array
    arrays, known = ([row[key] for row in rows] for key, rows in (("array", _array_rows()), ("name", _device_rows())))
    name = _named("hardware", hardware, {name: name for name in (*arrays, *known)}, SIZED)
    return get_array(name) if name in arrays else get_device(name)


def find_array(array: str | Hardware) -> SystolicArray:
    """The systolic array itself, or the one that a name means (`find_hardware`).

    Raises
    ------
    InputError
        An unknown name, or something that is not a systolic array.

    >>> find_array("edge").rows
    32
    """
    if isinstance(array, SystolicArray):
        return array
    if isinstance(array, str):
        return _sized(array) or get_array(array)
    raise InputError(f"array: {shown(array)} is not a SystolicArray, or the name of one")


def _sized(name: str) -> SystolicArray | None:
    """The array that a size such as `128x64` means; None for another name."""
    size = re.fullmatch(r"\s*(\d{1,18})\s*[xX]\s*(\d{1,18})\s*", name)
    return SystolicArray(int(size[1]), int(size[2])) if size else None


def _named(field: str, name: object, choices: dict[str, T], hint: str = "") -> T:
    """The choice of this name, without regard to case."""
    folded = {choice.casefold(): value for choice, value in choices.items()}
    if not isinstance(name, str) or name.strip().casefold() not in folded:
        error = str(unknown(field, name, choices, "`llmamdahl devices` lists the names, and so does devices()"))
        raise InputError(error if error.endswith("?") else error + hint)
    return folded[name.strip().casefold()]


CLOUD_TPU = get_array("cloud")
"""The 256 x 256 array of Table 3."""

EDGE_TPU = get_array("edge")
"""The 32 x 32 array of Table 3."""
