"""First come, first served."""

from __future__ import annotations

import heapq
import itertools
import threading
import time

from .errors import WorkerTimeout


class Turns:
    """An ordered lock: a ticket drawn earlier comes before one drawn later, always.

    A drawn ticket is waited for: it has to be used, or dropped.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._count = itertools.count()
        self._waiting: list[int] = []
        self._taken = False

    def draw(self) -> int:
        """A ticket that comes after all others."""
        with self._lock:
            ticket = next(self._count)
            heapq.heappush(self._waiting, ticket)
            return ticket

    def drop(self, ticket: int) -> None:
        """Give a ticket up, if it still waits."""
        with self._lock:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                heapq.heapify(self._waiting)
                self._changed.notify_all()

    def take(self, ticket: int, deadline: float | None) -> None:
        """Take the lock; WorkerTimeout if the ticket's turn does not come before the deadline."""
        with self._lock:
            if ticket not in self._waiting:  # it was used before, and comes again
                heapq.heappush(self._waiting, ticket)
            try:
                while self._taken or self._waiting[0] != ticket:
                    if not self._changed.wait(remaining(deadline)):
                        raise WorkerTimeout("the deadline passed while earlier requests ran")
            except BaseException:
                self._waiting.remove(ticket)
                heapq.heapify(self._waiting)
                self._changed.notify_all()
                raise
            heapq.heappop(self._waiting)
            self._taken = True

    def give(self) -> None:
        """Give the lock back."""
        with self._lock:
            self._taken = False
            if self._waiting:
                self._changed.notify_all()


def remaining(deadline: float | None) -> float | None:
    """Seconds until a deadline on the monotonic clock, at least 0."""
    return None if deadline is None else max(deadline - time.monotonic(), 0.0)
