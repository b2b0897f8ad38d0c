"""The machine that measurements run on: its description, recorded with each timing, and its clock."""

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

import torch

from llmamdahl.errors import InputError, one_of, positive_int

CPU_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True)
class Host:
    """A GPU or CPU that measurements run on.

    Attributes
    ----------
    kind
        `cuda` or `cpu`, as PyTorch calls it.
    name
        Of the GPU, or of the CPU and the instruction set that PyTorch uses.
    threads
        CPU threads; 0 on a GPU.
    driver
        Version of NVIDIA's driver; on a CPU the release of the kernel.
    cache
        Bytes of the last-level cache.
    bandwidth
        Measured bandwidth of its memory, GB/s.
    """

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
            words += f" {self.threads} thread" + ("s" if self.threads > 1 else "")
        return "-".join("".join(c if c.isalnum() else " " for c in words.lower()).split()) + ".csv"

    @classmethod
    def find(cls, kind: str, threads: int = 1) -> Host:
        """The first GPU (`cuda`) or the CPU (`cpu`) of this machine; takes seconds, as it measures the bandwidth.

        Parameters
        ----------
        threads
            Number of threads that PyTorch uses on a CPU.

        Raises
        ------
        InputError
            An unknown kind, no GPU, or a system that does not report the size of the last-level cache.
        """
        return _gpu() if one_of("device", kind, ("cuda", "cpu")) == "cuda" else _cpu(threads)

    @property
    def clock(self) -> float:
        """Current clock frequency in MHz (of the SMs on a GPU); NaN where it cannot be read."""
        text = _nvidia_smi("clocks.sm") if self.kind == "cuda" else _proc("cpuinfo", "cpu MHz")
        try:
            return float(round(float(text)))
        except ValueError:
            return math.nan

    @property
    def free(self) -> int:
        """Bytes of memory that can be allocated."""
        if self.kind == "cuda":
            torch.cuda.empty_cache()  # PyTorch keeps freed memory, which would not count as free
            return int(torch.cuda.mem_get_info()[0])
        available = _proc("meminfo", "MemAvailable").removesuffix(" kB")
        return int(available) * 1024 if available else os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _gpu() -> Host:
    if not torch.cuda.is_available():
        raise InputError(
            "device: 'cuda' is asked for, and PyTorch finds no CUDA device here; "
            "try --device cpu (make measure DEVICE=cpu)"
        )
    properties = torch.cuda.get_device_properties(0)
    return Host(
        kind="cuda",
        name=properties.name,
        threads=0,
        driver=_nvidia_smi("driver_version") or "unknown",
        cache=properties.L2_cache_size,
        bandwidth=_bandwidth("cuda"),
    )


def _cpu(threads: int) -> Host:
    torch.set_num_threads(positive_int("threads", threads))
    sizes = [int(path.read_text().strip().removesuffix("K")) * 1024 for path in CPU_CACHES.glob("index*/size")]
    if not sizes:
        raise InputError(f"device: {CPU_CACHES} does not list the size of the last-level cache; Linux does")
    name = _proc("cpuinfo", "model name") or platform.processor() or platform.machine()
    return Host(
        kind="cpu",
        name=f"{name} {torch.backends.cpu.get_cpu_capability()}",
        threads=torch.get_num_threads(),
        driver=platform.release(),
        cache=max(sizes),
        bandwidth=_bandwidth("cpu"),
    )


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
    """GB/s of memory: the faster of a sum over 1 GiB and a copy of it, each the median of 11 runs."""
    data = torch.ones(2**28, device=kind)
    target = torch.empty_like(data)

    def median(run: Callable[[], object]) -> float:
        run()
        return statistics.median(seconds(kind, run) for _ in range(11))

    read = data.nbytes / median(data.sum)
    copied = 2 * data.nbytes / median(lambda: target.copy_(data))  # a copy reads and writes each byte
    return float(round(max(read, copied) / 1e9, 1))


def seconds(kind: str, run: Callable[[], object]) -> float:
    """Seconds that one call takes on a device of this kind."""
    if kind == "cpu":
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    # launches return before the GPU has finished, so its own events take the time
    begin = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)
    begin.record()
    run()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3
