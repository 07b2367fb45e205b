"""Unnamed POSIX semaphores in shared memory.

A semaphore is 64 bytes of a shared mapping. `post` before `acquire` also orders memory: what was
written before the post is seen after the acquire, on every architecture.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from functools import partial

SIZE = 64
SLICE = 0.2
"""Seconds after which a blocked wait looks around (at the abort flag, at its deadline)."""

# PyDLL keeps the GIL: right for calls that never block. CDLL gives it up: right for those that do.
_quick = ctypes.PyDLL(None)
_slow = ctypes.CDLL(None)


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Semaphore:
    """A semaphore at an address that stays mapped as long as this object is used.

    `post()` adds a token; `try_acquire()` takes one and returns 0, or returns -1 if there is none.
    """

    __slots__ = ("_pointer", "post", "try_acquire")

    def __init__(self, address: int, *, create: bool) -> None:
        pointer = ctypes.c_void_p(address)
        if create and _quick.sem_init(pointer, 1, 0) != 0:
            raise OSError("this system has no semaphores in shared memory")
        self._pointer = pointer
        self.post: Callable[[], int] = partial(_quick.sem_post, pointer)
        self.try_acquire: Callable[[], int] = partial(_quick.sem_trywait, pointer)

    def spin(self, attempts: int) -> bool:
        """Take a token if there is one within so many attempts; keeps the core and the GIL."""
        attempt = self.try_acquire
        return any(not attempt() for _ in range(attempts))

    def wait(self) -> None:
        """Take a token, however long that takes. A signal may end the wait and starts it again."""
        while _slow.sem_wait(self._pointer) != 0:
            pass

    def acquire(self, seconds: float) -> bool:
        """Take a token, waiting up to so many seconds; false if there was none (or a signal)."""
        if not self.try_acquire():
            return True
        end = time.time_ns() + int(seconds * 1e9)
        until = _Time(*divmod(end, 1_000_000_000))
        return bool(_slow.sem_timedwait(self._pointer, ctypes.byref(until)) == 0)

    def drain(self) -> None:
        """Take every token there is. Unlike starting over, it is safe while somebody waits."""
        while not self.try_acquire():
            pass


def spins_for(seconds: float, semaphore: Semaphore) -> int:
    """How many failing attempts of `spin` take so long on this machine."""
    rounds = 200
    semaphore.drain()
    start = time.perf_counter()
    semaphore.spin(rounds)
    return int(rounds * seconds / (time.perf_counter() - start))
