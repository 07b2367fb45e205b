"""What this machine is, as far as plans depend on it."""

from __future__ import annotations

import itertools
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path


def usable_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def rounds_of(least: int, seconds: float = 0.2) -> Iterator[int]:
    """Counts rounds of a measurement: at least so many, and more until so much time has passed.

    What takes less than a millisecond varies more, and speeds up for a while.
    """
    end = time.perf_counter() + seconds
    for number in itertools.count():
        if number >= least and time.perf_counter() >= end:
            return
        yield number


def describe_machine() -> str:
    """The processor, the cores this process may use, and the Python that runs it."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = lines[0].partition(":")[2].strip() if lines else name
    return f"{name}, {usable_cores()} cores, Python {platform.python_version()}"
