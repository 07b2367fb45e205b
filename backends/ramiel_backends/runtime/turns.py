"""First come, first served."""

from __future__ import annotations

import heapq
import itertools
import threading
import time

from .errors import WorkerTimeout


class Turns:
    """An ordered lock: among those who wait, a ticket drawn earlier comes before one drawn later.

    A ticket that was lined up, or that somebody tried to take, is waited for until it is dropped
    or taken and given back. Ctrl-C may come at any point: `drop` is right after every one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._count = itertools.count()
        self._waiting: list[int] = []
        self._holder: int | None = None

    def draw(self) -> int:
        """A ticket that comes after all others; nobody waits for it yet."""
        return next(self._count)

    def line_up(self, ticket: int) -> None:
        """Let later tickets wait for this one from now on."""
        with self._lock:
            heapq.heappush(self._waiting, ticket)

    def drop(self, ticket: int) -> None:
        """Give a ticket up, whether it waits or holds the lock, if it does either."""
        with self._lock:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                heapq.heapify(self._waiting)
            if self._holder == ticket:
                self._holder = None
            self._changed.notify_all()

    def take(self, ticket: int, deadline: float | None) -> None:
        """Take the lock; WorkerTimeout if the ticket's turn does not come before the deadline.

        A ticket that could not be taken has to be dropped.
        """
        with self._lock:
            if ticket not in self._waiting:
                heapq.heappush(self._waiting, ticket)
            while self._holder is not None or self._waiting[0] != ticket:
                if not self._changed.wait(remaining(deadline)):
                    raise WorkerTimeout("the deadline passed while earlier requests ran")
            self._holder = ticket
            heapq.heappop(self._waiting)

    def give(self) -> None:
        """Give the lock back."""
        with self._lock:
            self._holder = None
            if self._waiting:
                self._changed.notify_all()


def remaining(deadline: float | None) -> float | None:
    """Seconds until a deadline on the monotonic clock, at least 0."""
    return None if deadline is None else max(deadline - time.monotonic(), 0.0)
