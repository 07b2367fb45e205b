"""How a worker waits: for a message, and for its next request."""

from __future__ import annotations

import os
import resource
from time import perf_counter

from .semaphore import Semaphore

SPIN_SECONDS = 75e-6
"""How long a worker spins for a message before it blocks: as long as waking somebody takes."""
IDLE_SECONDS = 200e-6
"""How long a worker spins for its next request. A caller in a loop is back sooner; and cores that
slept are slow at first, for much longer than it takes to wake them."""
TAKEN_SECONDS = 400e-6
"""Whoever keeps a core for so long, longer than a worker spins, is no caller who comes back at once
with another request."""


class Waiter:
    """How a worker waits for messages: it spins for a while, then blocks.

    Spinning pays only on a core of one's own. A worker that spun in vain and meanwhile was taken
    off its core by the scheduler blocks at once for the next `REST` waits: on a busy machine that
    makes a hand-over several times faster, since whoever sleeps is preferred when woken.
    """

    REST = 64

    def __init__(self, spins: int) -> None:
        self._spins = spins
        self._rest = 0
        self._evictions = 0

    def wait(self, posted: Semaphore) -> None:
        """Take a token from `posted`; when the request is aborted, there is one too.

        The wait has no time limit: arming a timer and stopping it again costs a virtual machine
        more than the wait.
        """
        if self._rest:
            self._rest -= 1
        elif self._spins:
            if posted.spin(self._spins):
                return
            evictions = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
            if evictions != self._evictions:
                self._evictions, self._rest = evictions, self.REST
        posted.wait()


class Idle:
    """How a worker waits for its next request: it spins for a while, then blocks.

    There may be no core left for the caller, who takes the results and brings the next request: so
    the worker offers its own one at every turn. That is sooner than the scheduler would take it
    away. But where others compute they take what is offered, and keep it for a time slice: then the
    worker blocks, for the next `REST` requests at once, since whoever sleeps is preferred when
    woken.
    """

    REST = 256

    def __init__(self, spins: bool) -> None:
        self._spins = spins
        self._rest = 0

    def wait(self, start: Semaphore) -> None:
        """Take a token from `start`."""
        if self._rest:
            self._rest -= 1
        elif self._spins:
            attempt, offer = start.try_acquire, os.sched_yield
            now = perf_counter()
            end = now + IDLE_SECONDS
            while now < end:
                if not attempt():
                    return
                offer()
                before, now = now, perf_counter()
                if now - before > TAKEN_SECONDS:
                    self._rest = self.REST
        start.wait()
