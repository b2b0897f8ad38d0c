"""The device at hand: what each measurement must say of it, and how time passes on it."""

from __future__ import annotations

import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llmamdahl.errors import InputError, one_of, positive_int

CPU_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True)
class Host:
    """Where measurements are made, and what each row says of it."""

    kind: str
    name: str
    threads: int
    driver: str
    cache: int
    bandwidth: float

    @property
    def file(self) -> str:
        """Name of its file in `data/measured/`."""
        words = self.name
        if self.kind == "cpu":
            words += f" {self.threads} thread" + "s" * (self.threads > 1)
        return "-".join("".join(c if c.isalnum() else " " for c in words.lower()).split()) + ".csv"

    @classmethod
    def find(cls, kind: str, threads: int = 1) -> Host:
        """The GPU (`cuda`) or CPU (`cpu`) at hand; on a CPU PyTorch uses this many threads.

        Raises
        ------
        InputError
            An unknown kind, a GPU that is not there, a last-level cache whose size the system does not tell.
        """
        one_of("device", kind, ("cuda", "cpu"))
        if kind == "cuda":
            if not torch.cuda.is_available():
                raise InputError("device: 'cuda' is asked for, and PyTorch finds no CUDA device here; try DEVICE=cpu")
            properties = torch.cuda.get_device_properties(0)
            driver = _nvidia_smi("driver_version") or "unknown"
            return cls(kind, properties.name, 0, driver, properties.L2_cache_size, _bandwidth(kind))
        torch.set_num_threads(positive_int("threads", threads))
        name = _proc("cpuinfo", "model name") or platform.processor() or platform.machine()
        sizes = [int(path.read_text().strip().removesuffix("K")) * 1024 for path in CPU_CACHES.glob("index*/size")]
        if not sizes:
            raise InputError(f"device: {CPU_CACHES} does not tell the size of the last-level cache; Linux does")
        cache = max(sizes)
        isa = torch.backends.cpu.get_cpu_capability()
        return cls(kind, f"{name} {isa}", torch.get_num_threads(), platform.release(), cache, _bandwidth(kind))

    @property
    def clock(self) -> float:
        """MHz at this moment, NaN where it cannot be read."""
        text = _nvidia_smi("clocks.sm") if self.kind == "cuda" else _proc("cpuinfo", "cpu MHz")
        try:
            return float(round(float(text)))
        except ValueError:
            return math.nan

    @property
    def free(self) -> int:
        """Bytes of memory that can be had."""
        if self.kind == "cuda":
            torch.cuda.empty_cache()  # what PyTorch keeps for itself can be had too
            return int(torch.cuda.mem_get_info()[0])
        available = _proc("meminfo", "MemAvailable").removesuffix(" kB")
        return int(available) * 1024 if available else os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _nvidia_smi(query: str) -> str:
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits", "--id=0"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _proc(name: str, key: str) -> str:
    """The first value of `key` in /proc/NAME, or an empty string."""
    path = Path("/proc") / name
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def _bandwidth(kind: str) -> float:
    """GB/s: the faster of reading 1 GiB (a sum) and copying it (read and written bytes counted), medians of 11."""
    data = torch.ones(2**28, device=kind)
    target = torch.empty_like(data)

    def median(run: Callable[[], Any]) -> float:
        run()
        return statistics.median(seconds(kind, run) for _ in range(11))

    rates = (data.nbytes / median(data.sum), 2 * data.nbytes / median(lambda: target.copy_(data)))
    return float(round(max(rates) / 1e9, 1))


def seconds(kind: str, run: Callable[[], Any]) -> float:
    """Seconds that one call takes, on the device."""
    if kind == "cpu":
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3
