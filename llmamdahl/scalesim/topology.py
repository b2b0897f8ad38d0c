"""SCALE-Sim's topology files, read as SCALE-Sim 2.0.2 reads them.

SCALE-Sim skips the first line and empty lines, splits a line at its commas, and ignores the text after the last comma.
So each line must end with a comma. Columns have fixed places, whatever the header says:

* `conv`: name, ifmap height and width, filter height and width, channels, number of filters, stride height and stride
  width. A single stride is used for both. Further cells must be whole numbers and are ignored. A layer with `DP` in its
  name is depth-wise: it stands for one layer per channel, each with a single channel and all the filters of the line.
* `gemm`: name, M, N, K. Further cells are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

from llmamdahl.errors import InputError, TableError, instance, one_of, positive_int

CONV_COLUMNS = {
    "ifmap_h": "IFMAP height",
    "ifmap_w": "IFMAP width",
    "filter_h": "Filter height",
    "filter_w": "Filter width",
    "channels": "Channels",
    "num_filters": "Num filter",
    "stride_h": "Stride height",
    "stride_w": "Stride width",
}
"""Fields of a `ConvLayer` and SCALE-Sim's names of their columns, in its order."""

GEMM_COLUMNS = {"m": "M", "n": "N", "k": "K"}


@dataclass(frozen=True, slots=True)
class GemmLayer:
    """A product of an ifmap, `m x k`, and a filter, `k x n`; all sizes are whole numbers >= 1."""

    name: str
    m: int
    n: int
    k: int

    def __post_init__(self) -> None:
        _check_sizes(self)


@dataclass(frozen=True, slots=True)
class ConvLayer:
    """A convolution without padding; all sizes are whole numbers >= 1.

    By im2col it is a product. Its ifmap operand has a row for each output pixel and a column for each word of a window.
    The output has the size that SCALE-Sim computes: if the stride does not divide `ifmap - filter`, it has one row (or
    column) more than fits, and the last windows extend past the edge of the ifmap.

    >>> layer = ConvLayer("Conv1", 224, 224, 7, 7, 3, 64, 2, 2)
    >>> layer.ofmap_h, layer.ofmap_w  # other frameworks round down, to 109
    (110, 110)
    >>> layer.m, layer.n, layer.k
    (12100, 64, 147)
    """

    name: str
    ifmap_h: int
    ifmap_w: int
    filter_h: int
    filter_w: int
    channels: int
    num_filters: int
    stride_h: int
    stride_w: int

    def __post_init__(self) -> None:
        _check_sizes(self)
        for filter_, ifmap in (("filter_h", "ifmap_h"), ("filter_w", "ifmap_w")):
            if getattr(self, filter_) > getattr(self, ifmap):
                size = f"{filter_}: {getattr(self, filter_)} is larger than {ifmap}, {getattr(self, ifmap)}"
                raise InputError(f"{size}; SCALE-Sim adds no padding, so include it in the size of the ifmap")

    @property
    def ofmap_h(self) -> int:
        """Output rows: ceil((ifmap_h - filter_h) / stride_h) + 1."""
        return -((self.filter_h - self.ifmap_h) // self.stride_h) + 1

    @property
    def ofmap_w(self) -> int:
        """Output columns: ceil((ifmap_w - filter_w) / stride_w) + 1."""
        return -((self.filter_w - self.ifmap_w) // self.stride_w) + 1

    @property
    def m(self) -> int:
        """Number of output pixels."""
        return self.ofmap_h * self.ofmap_w

    @property
    def n(self) -> int:
        """Number of filters."""
        return self.num_filters

    @property
    def k(self) -> int:
        """Number of words in a window."""
        return self.filter_h * self.filter_w * self.channels


Layer = ConvLayer | GemmLayer


def read_topology(path: str | Path, kind: str = "conv") -> tuple[Layer, ...]:
    """Read the layers of a SCALE-Sim topology.

    Parameters
    ----------
    path
        The `.csv` file.
    kind
        `"conv"`, or `"gemm"` for a file that SCALE-Sim reads with `-i gemm`.

    Returns
    -------
    tuple of ConvLayer or of GemmLayer
        Element i has `LayerID` i in SCALE-Sim's reports.

    Raises
    ------
    InputError
        The file cannot be read, is not UTF-8 or has no layer; a cell is missing or is not a positive whole number; a
        filter is larger than its ifmap. The message names the file, the line and the column.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "two.csv"
    ...     _ = path.write_text("Layer, M, N, K,\\nQ, 1, 768, 768,\\nlogits, 1, 50257, 768,\\n", encoding="utf-8")
    ...     read_topology(path, "gemm")
    (GemmLayer(name='Q', m=1, n=768, k=768), GemmLayer(name='logits', m=1, n=50257, k=768))
    """
    one_of("kind", kind, ("conv", "gemm"))
    path = Path(path)
    layers: list[Layer] = []
    for line, row in enumerate(_text(path).split("\n"), start=1):
        if line > 1 and row.strip():
            try:
                layers += _conv_layers(row.strip()) if kind == "conv" else [_gemm_layer(row.strip())]
            except InputError as error:
                raise TableError(path, line, str(error)) from None
    if not layers:
        raise InputError(f"{path}: no layer after line 1, which SCALE-Sim skips as the header; put layers below it")
    return tuple(layers)


def more_than_gemm(path: str | Path) -> str:
    """Where a `gemm` topology has cells that SCALE-Sim does not read, as a convolution's; empty if it has none.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "conv.csv"
    ...     _ = path.write_text("Layer, ...,\\nConv1, 224, 224, 7, 7, 3, 64, 2,\\n", encoding="utf-8")
    ...     more_than_gemm(path)
    'line 2 has 8 cells before its last comma; a GEMM has 4, its name, M, N and K, and a convolution 8 or 9'
    """
    for line, row in enumerate(_text(Path(path)).split("\n"), start=1):
        cells = row.rpartition(",")[0].rstrip(" ,").count(",") + 1  # without empty ones at the end
        if line > 1 and cells > 4:
            what = "a GEMM has 4, its name, M, N and K, and a convolution 8 or 9"
            return f"line {line} has {cells} cells before its last comma; {what}"
    return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise TableError(path, line, "a byte that is not UTF-8; save the file as UTF-8") from None


def _conv_layers(row: str) -> Iterator[ConvLayer]:
    """The layer of a line, or one layer per channel if it is depth-wise."""
    cells = _cells(row, CONV_COLUMNS, 8, "convolution has 8 or 9; read a GEMM topology with kind='gemm' (--gemm)")
    if len(cells) == 8:
        cells.append(cells[7])
    for place, cell in enumerate(cells[9:], start=10):
        _integer(f"column {place}", cell)  # SCALE-Sim also rejects text here
    layer = ConvLayer(cells[0], *_sizes(CONV_COLUMNS, cells))
    if "DP" not in layer.name:
        yield layer
        return
    for channel in range(layer.channels):
        yield replace(layer, name=f"{layer.name}Channel_{channel}", channels=1)


def _gemm_layer(row: str) -> GemmLayer:
    cells = _cells(row, GEMM_COLUMNS, 4, "GEMM has 4")
    return GemmLayer(cells[0], *_sizes(GEMM_COLUMNS, cells))


def _cells(row: str, columns: dict[str, str], least: int, right: str) -> list[str]:
    """The cells before the last comma, stripped of spaces; `right` ends the message if there are too few."""
    *cells, after = (cell.strip() for cell in row.split(","))
    if len(cells) < least:
        missing = ["the name", *columns.values()][len(cells)]
        lost = f" ({after!r} after it is not read: end the line with a comma)" if after else ""
        raise InputError(f"{missing} is missing: the line has {len(cells)} before its last comma{lost}, and a {right}")
    return cells


def _sizes(columns: dict[str, str], cells: list[str]) -> list[int]:
    named = zip(columns.values(), cells[1 : len(columns) + 1], strict=True)
    return [positive_int(column, _integer(column, cell)) for column, cell in named]


def _integer(column: str, cell: str) -> int:
    """The value of a cell, converted by `int` as in SCALE-Sim."""
    try:
        return int(cell)
    except ValueError:
        raise InputError(f"{column}: {cell!r} is not a whole number") from None


def _check_sizes(layer: Layer) -> None:
    instance("name", layer.name, str)
    for field in fields(layer)[1:]:
        object.__setattr__(layer, field.name, positive_int(field.name, getattr(layer, field.name)))
