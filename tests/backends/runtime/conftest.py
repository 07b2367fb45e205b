"""What the runtime's tests share: artifacts in temporary folders, and a look at what is left."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Fail where a test leaves a process or a file descriptor behind."""
    before = _held()
    yield
    eventually(lambda: _held() == before, lambda: f"{_held()} is not {before}")


def _held() -> tuple[list[int], int]:
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    return children(os.getpid()), descriptors


def children(pid: int) -> list[int]:
    """The living children of a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found += [int(child) for child in (task / "children").read_text().split()]
    return sorted(found)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def eventually(
    condition: Callable[[], bool], explain: Callable[[], str] = lambda: "", seconds: float = 10.0
) -> None:
    """Wait for something that will be true, however slow the machine is."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, explain()
        time.sleep(0.005)
