"""`make kernels`: NVIDIA AIConfigurator's kernel times, cut to the shapes of eight models (`data/measured/kernels/`).

The wheel of `aiconfigurator-core` on PyPI (Apache-2.0) holds the database as Parquet files; it is read as an
archive, and nothing of it is installed or run.
"""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd

from llmamdahl.device.kernels import ATTENTION, BATCHES, GEMM, KERNELS, MODELS
from llmamdahl.models import get_model
from llmamdahl.tables import ROOT, write_rows
from llmamdahl.workload import Part, decode_step

VERSION = "0.12.0"
COMMIT = "095f58a51"
"""A commit of github.com/ai-dynamo/aiconfigurator whose files have the same times as the wheel."""

WHEELS = ROOT / "build" / "kernels"
FOLDER = "aiconfigurator_core/systems/data/{system}/{kind}/{framework}/{version}/{table}.parquet"
DEVICES = {
    "a100_sxm": "A100 80GB",
    "h100_sxm": "H100 SXM",
    "h200_sxm": "H200",
    "b200_sxm": "B200",
    "l40s": "L40S",
    "rtx_pro_6000_server": "RTX PRO 6000",
    "b60": "Arc Pro B60",
}
"""AIConfigurator's systems, and their names in `data/hardware/devices.csv`."""

COLLECTED = [
    ("a100_sxm", "trtllm", "1.0.0"),
    ("a100_sxm", "vllm", "0.14.0"),
    ("h100_sxm", "trtllm", "1.3.0rc20"),
    ("h100_sxm", "vllm", "0.24.0"),
    ("h200_sxm", "trtllm", "1.3.0rc20"),
    ("b200_sxm", "trtllm", "1.3.0rc20"),
    ("l40s", "trtllm", "1.3.0rc20"),
    ("rtx_pro_6000_server", "trtllm", "1.3.0rc20"),
    ("b60", "vllm", "0.20.0"),
]
"""System, framework and version of the collections that are taken over."""

LENGTHS = [2**power for power in range(7, 16)]


def main() -> None:
    names = [f"aiconfigurator-core=={VERSION}", f"aiconfigurator=={VERSION}"]  # the licence is in the second
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(WHEELS)]
    subprocess.run([*pip, *names], check=True)
    core, around = (
        zipfile.ZipFile(next(WHEELS.glob(f"{name}-{VERSION}-*.whl")))
        for name in ("aiconfigurator_core", "aiconfigurator")
    )
    KERNELS.mkdir(parents=True, exist_ok=True)
    licence = around.read(f"aiconfigurator-{VERSION}.dist-info/licenses/LICENSE").decode()
    (KERNELS / "LICENSE").write_text(licence, encoding="utf-8")
    decoders = [get_model(model) for model in MODELS]
    sizes = {(each.n, each.k) for model in decoders for each in decode_step(model, 1) if each.part is Part.PROJECTION}
    heads = {(model.num_heads, model.num_kv_heads, model.head_dim) for model in decoders}

    gemm = _tables(core, "gemm", "gemm_perf").rename(columns={"gemm_dtype": "weights"})
    gemm = gemm[gemm.m.isin(BATCHES) & pd.Series(zip(gemm.n, gemm.k, strict=True), gemm.index).isin(sizes)]
    _write(KERNELS / "gemm.csv", gemm, list(GEMM))

    attention = _tables(core, "attention", "generation_attention_perf").rename(
        columns={
            "kv_cache_dtype": "cache",
            "batch_size": "batch",
            "num_heads": "heads",
            "num_key_value_heads": "kv_heads",
            "head_dim": "head_width",
        }
    )
    attention["context_length"] = attention.step + 1  # the step's own token is attended to as well
    kept = attention.batch.isin(BATCHES) & attention.context_length.isin(LENGTHS)
    if "window_size" in attention:
        kept &= attention.window_size.fillna(0) == 0
    of = pd.Series(zip(attention.heads, attention.kv_heads, attention.head_width, strict=True), attention.index)
    _write(KERNELS / "attention.csv", attention[kept & of.isin(heads)], list(ATTENTION))


def _tables(wheel: zipfile.ZipFile, kind: str, table: str) -> pd.DataFrame:
    frames = []
    for system, framework, version in COLLECTED:
        path = FOLDER.format(system=system, kind=kind, framework=framework, version=version, table=table)
        frame = pd.read_parquet(io.BytesIO(wheel.read(path)))
        frames.append(frame.assign(system=system, device=DEVICES[system]))
    source = f"aiconfigurator-core {VERSION} (PyPI)"
    whole = pd.concat(frames, ignore_index=True).assign(source=source, commit=COMMIT)
    return whole.rename(columns={"kernel_source": "kernel", "latency": "latency_ms"})


def _write(path: Path, frame: pd.DataFrame, columns: list[str]) -> None:
    rows = frame[columns].sort_values(columns[:-3], kind="stable")
    write_rows(path, columns, ({str(name): value for name, value in row.items()} for row in rows.to_dict("records")))
    print(f"{path.relative_to(ROOT)}: {len(rows)} kernels")


if __name__ == "__main__":
    main()
