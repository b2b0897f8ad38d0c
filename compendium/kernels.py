"""`make kernels`: NVIDIA AIConfigurator's kernel times, cut to the shapes of ten models (`data/measured/kernels/`).

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

from llmamdahl.device.kernels import ATTENTION, BATCHES, GEMM, KERNELS, MODELS, fused
from llmamdahl.device.prefills import MODELS as PREFILLED
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

Collected = list[tuple[str, str, str]]
"""System, framework and version of collections."""

COLLECTED: Collected = [
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
"""The collections whose decode steps are taken over."""

LENGTHS = [2**power for power in range(7, 16)]

PREFILLS = [("a100_sxm", "trtllm", "1.0.0")]
PROMPTS = (256, 512)
SEQUENCES = 4
"""The prefills of `data/published/speedups.csv` that SmoothQuant timed on an A100."""


def main() -> None:
    """Write the four tables of `data/measured/kernels/`, and print a line for each."""
    names = [f"aiconfigurator-core=={VERSION}", f"aiconfigurator=={VERSION}"]  # the licence is in the second
    print(f"downloading {names[0]} (82 MB) into {WHEELS.relative_to(ROOT)}", flush=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*pip, "--dest", str(WHEELS), *names], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{names[0]} cannot be downloaded: {done.stderr.strip().splitlines()[-1]}")
    core, around = (
        zipfile.ZipFile(next(WHEELS.glob(f"{name}-{VERSION}-*.whl")))
        for name in ("aiconfigurator_core", "aiconfigurator")
    )
    KERNELS.mkdir(parents=True, exist_ok=True)
    licence = around.read(f"aiconfigurator-{VERSION}.dist-info/licenses/LICENSE").decode()
    (KERNELS / "LICENSE").write_text(licence, encoding="utf-8")
    decoders = [get_model(model) for model in MODELS]
    steps = [decode_step(form, 1) for model in decoders for form in (model, fused(model))]
    sizes = {(each.n, each.k) for step in steps for each in step if each.part is Part.PROJECTION}
    heads = {(model.num_heads, model.num_kv_heads, model.head_dim) for model in decoders}

    gemm = _gemm(core, COLLECTED)
    gemm = gemm[gemm.m.isin(BATCHES) & pd.Series(zip(gemm.n, gemm.k, strict=True), gemm.index).isin(sizes)]
    _write(KERNELS / "gemm.csv", gemm, list(GEMM))

    attention = _attention(core, COLLECTED, "generation_attention_perf")
    attention["context_length"] = attention.step + 1  # the step's own token is attended to as well
    kept = attention.batch.isin(BATCHES) & attention.context_length.isin(LENGTHS)
    of = pd.Series(zip(attention.heads, attention.kv_heads, attention.head_width, strict=True), attention.index)
    _write(KERNELS / "attention.csv", attention[kept & of.isin(heads)], list(ATTENTION))

    # No shape of 4 d is on the grid: the neighbours of those shapes, and some more to check the line between them.
    widths = [get_model(model).hidden_size for model in PREFILLED]
    gemm = _gemm(core, PREFILLS)
    kept = gemm.m.isin([SEQUENCES * tokens for tokens in PROMPTS]) & gemm.weights.isin(["bfloat16", "sq"])
    beside = (gemm.n.isin(widths) & (gemm.k >= 8192)) | (gemm.k.isin(widths) & (gemm.n >= 8192))
    square = gemm.n.isin(widths) & (gemm.n == gemm.k)
    _write(KERNELS / "prefill_gemm.csv", gemm[kept & (beside | square)], list(GEMM))

    attention = _attention(core, PREFILLS, "context_attention_perf").rename(columns={"isl": "context_length"})
    kept = (attention.batch == SEQUENCES) & attention.context_length.isin(PROMPTS) & (attention.heads >= 32)
    kept &= (attention.kv_heads == attention.heads) & (attention.step == 0)
    _write(KERNELS / "prefill_attention.csv", attention[kept], list(ATTENTION))


def _gemm(wheel: zipfile.ZipFile, collected: Collected) -> pd.DataFrame:
    return _tables(wheel, collected, "gemm", "gemm_perf").rename(columns={"gemm_dtype": "weights"})


def _attention(wheel: zipfile.ZipFile, collected: Collected, table: str) -> pd.DataFrame:
    names = {
        "kv_cache_dtype": "cache",
        "batch_size": "batch",
        "num_heads": "heads",
        "num_key_value_heads": "kv_heads",
        "head_dim": "head_width",
    }
    attention = _tables(wheel, collected, "attention", table).rename(columns=names)
    return attention[attention.window_size.fillna(0) == 0] if "window_size" in attention else attention


def _tables(wheel: zipfile.ZipFile, collected: Collected, kind: str, table: str) -> pd.DataFrame:
    frames = []
    for system, framework, version in collected:
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
