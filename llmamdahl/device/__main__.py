"""`python -m llmamdahl.device`, `make measure`: time decoder blocks on the machine at hand; needs PyTorch."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from llmamdahl.device.host import Host
from llmamdahl.device.recorded import MEASURED, read_rows_of
from llmamdahl.device.timing import MODELS, measure
from llmamdahl.errors import InputError
from llmamdahl.models import CONTEXT_LENGTHS


def main() -> None:
    """`python -m llmamdahl.device [--device cuda|cpu] ...`, `make measure`: complete the device's file."""
    parser = argparse.ArgumentParser(description="Time decoder blocks on a device, and complete its file in FOLDER.")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    parser.add_argument("--threads", type=int, default=1, help="of a CPU")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--context-lengths", nargs="+", type=int, default=CONTEXT_LENGTHS)
    parser.add_argument("--batches", nargs="+", type=int, help="by default 1, on a GPU also 16")
    parser.add_argument("--dtypes", nargs="+", help="by default float16 on a GPU, bfloat16 and float32 on a CPU")
    parser.add_argument("--folder", type=Path, default=MEASURED)
    parser.add_argument("--seconds", type=float, help="for the timings of a case; by default 0.5 on a GPU, 3 on a CPU")
    options = parser.parse_args()
    gpu = options.device == "cuda"
    skipped: list[str] = []
    try:
        host = Host.find(options.device, options.threads)
        path = options.folder / host.file
        for dtype in options.dtypes or (["float16"] if gpu else ["bfloat16", "float32"]):
            _, more = measure(
                host,
                options.models,
                options.context_lengths,
                options.batches or ([1, 16] if gpu else [1]),
                dtype,
                options.folder,
                options.seconds or (0.5 if gpu else 3.0),
            )
            skipped += more
    except KeyboardInterrupt:
        sys.exit(f"\nstopped; {path} keeps every finished case, and the next start goes on from there")
    except InputError as error:
        sys.exit(str(error))
    print("".join(f"\nskipped: {line}" for line in dict.fromkeys(skipped)), file=sys.stderr)
    rows = len(read_rows_of(path)) if path.exists() else 0
    print(f"{path}: {rows} timings of {host.name}, {host.bandwidth} GB/s")


if __name__ == "__main__":
    main()
