"""The command `python -m llmamdahl.device` (`make measure`): time decoder blocks on this machine.

It runs from a bare checkout, with PyTorch, NumPy and pandas installed; ternary weights also need Triton on a GPU, ONNX
and ONNX Runtime on a CPU. So nothing but the standard library is imported before these packages have been looked for.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from llmamdahl.needed import require

NEEDED = ("torch", "numpy", "pandas")


def main() -> None:
    """Read the options, check that PyTorch is there, and complete the file of this device."""
    parser = argparse.ArgumentParser(
        prog="python -m llmamdahl.device",
        description="Time one decode step of a decoder block on this machine, and add the cases that the CSV file of "
        "this device lacks.",
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda if there is a GPU, else cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads, default: 1")
    parser.add_argument("--models", nargs="+", metavar="MODEL", help="default: the models of Table 2")
    parser.add_argument("--context-lengths", nargs="+", type=int, metavar="L", help="default: the six of Table 2")
    parser.add_argument("--batches", nargs="+", type=int, metavar="B", help="default: 1, on a GPU also 16")
    parser.add_argument("--dtypes", nargs="+", metavar="DTYPE", help="default: float16, on a CPU bfloat16 and float32")
    parser.add_argument("--folder", type=Path, help="where the CSV file is, default: data/measured")
    parser.add_argument("--seconds", type=float, help="time for each case, default: 0.5 on a GPU, 3 on a CPU")
    options = parser.parse_args()
    require(*NEEDED)
    time_blocks(options)


def time_blocks(options: argparse.Namespace) -> None:
    """Measure every missing case of these options, one type of numbers after the other, and print a summary."""
    import torch

    from llmamdahl.device.host import Host
    from llmamdahl.device.recorded import MEASURED, read_rows_of
    from llmamdahl.device.timing import MODELS, measure
    from llmamdahl.errors import InputError
    from llmamdahl.models import CONTEXT_LENGTHS

    kind = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    gpu = kind == "cuda"
    budget = options.seconds if options.seconds is not None else (0.5 if gpu else 3.0)
    folder = options.folder or MEASURED
    skipped: list[str] = []
    try:
        host = Host.find(kind, options.threads)
        for dtype in options.dtypes or (["float16"] if gpu else ["bfloat16", "float32"]):
            _, reasons = measure(
                host,
                models=options.models or MODELS,
                context_lengths=options.context_lengths or CONTEXT_LENGTHS,
                batches=options.batches or ([1, 16] if gpu else [1]),
                dtype=dtype,
                folder=folder,
                budget=budget,
            )
            skipped += reasons
    except KeyboardInterrupt:
        sys.exit(f"\nstopped; {folder} keeps every finished case, and the same command continues from there")
    except InputError as error:
        sys.exit(str(error))
    for line in dict.fromkeys(skipped):
        print(f"\nskipped: {line}", end="", file=sys.stderr)
    print(file=sys.stderr)
    path = folder / host.file
    rows = len(read_rows_of(path)) if path.exists() else 0
    print(f"{path}: {rows} timings of {host.name}, {host.bandwidth} GB/s")


if __name__ == "__main__":
    main()
