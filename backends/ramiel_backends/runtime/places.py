"""Keeps the workers of one model on cores of their own, and leaves the choice to the system.

A scheduler may wake a worker on the core of whoever woke it, and leave it there while another core
idles; virtual machines do so on purpose to save power. Two workers on one core are slower than one.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import MutableSequence, Sequence

from .wiring import Wiring

_MOVABLE = hasattr(os, "sched_setaffinity")
# PyDLL keeps the GIL: the call takes less time than giving it up.
_core = ctypes.PyDLL(None).sched_getcpu if _MOVABLE else None


def may_move(wiring: Wiring) -> bool:
    """Whether workers shall look where they run: only where each can have a core of its own.

    A worker with intra-op threads would hand its restriction on to threads it starts later.
    """
    return _MOVABLE and wiring.fits and wiring.workers > 1 and set(wiring.threads) == {1}


def wake_order(cells: Sequence[int]) -> list[int]:
    """The workers, those last seen on the calling thread's core at the end.

    Whoever wakes on this core may take it at once, and the others would not be woken until it gives
    the core back: a third of a millisecond later, say, when it waits for one of them.
    """
    here = _core() + 1 if _core is not None else 0
    return sorted(range(len(cells)), key=lambda worker: cells[worker] == here)


class Place:
    """Where one worker runs; `cells` holds, per worker, the core it was last seen on, plus one."""

    def __init__(self, cells: MutableSequence[int], worker: int) -> None:
        self._cells, self._worker = cells, worker
        self._allowed = os.sched_getaffinity(0)

    def settle(self) -> None:
        """Note the calling thread's core; move off it if an earlier worker was seen there.

        Only the later one moves, so that two do not swap. It may then run on any core on which it
        was allowed to run at first and where it saw no earlier worker.
        """
        assert _core is not None
        cells, worker = self._cells, self._worker
        here = _core() + 1
        others = cells[:worker]
        if here in others:
            free = self._allowed.difference(core - 1 for core in others)
            if free:
                os.sched_setaffinity(0, free)
                here = _core() + 1
        cells[worker] = here
