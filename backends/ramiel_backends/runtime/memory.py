"""Shared memory: one board for everybody, and one arena per process for what it writes.

Everything is an anonymous memfd, inherited by file descriptor: it has no name, never appears in
/dev/shm, and is gone when the last process that holds it is. Pages are taken with
`posix_fallocate`, which fails where there is no room; after `ftruncate` a write may die instead.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
from typing import NamedTuple

from .layout import aligned
from .manifest import Manifest
from .semaphore import SIZE, Semaphore
from .wiring import Wiring

HEADER = 24
"""Words in the header of a channel, see channel.py."""
ABORT, FLAGS = 0, 8
"""Word 0 of the board says whether workers shall abort; 8 words are kept for such flags."""


def create(name: str, nbytes: int) -> int:
    """A new memfd of so many bytes, all of them there; returns its file descriptor."""
    fd = os.memfd_create(name)
    try:
        os.posix_fallocate(fd, 0, max(nbytes, mmap.PAGESIZE))
    except OSError:
        os.close(fd)
        raise
    return fd


class Arena:
    """The memory that one process writes its values into and all others read.

    Only the owner allocates. A region once allocated stays where it is: growing maps the file anew
    and leaves earlier mappings, and the views into them, as they are.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._end = 0
        self._memory = self._map()

    def _map(self) -> mmap.mmap:
        return mmap.mmap(self._fd, os.fstat(self._fd).st_size)

    def allocate(self, nbytes: int) -> int:
        """The offset of a new region, a multiple of 64; OSError where there is no room."""
        start, end = self._end, self._end + aligned(max(nbytes, 1))
        if end > len(self._memory):
            size = aligned(max(end, len(self._memory) * 5 // 4), 1 << 16)
            os.posix_fallocate(self._fd, 0, size)
            self._memory = self._map()
        self._end = end
        return start

    def memory(self, end: int) -> mmap.mmap:
        """A mapping that reaches at least to offset `end`; the owner may have grown the file."""
        if end > len(self._memory):
            self._memory = self._map()
        return self._memory

    def close(self) -> None:
        """Unmap; where a view still lives the mapping goes when that does."""
        with contextlib.suppress(BufferError):
            self._memory.close()


class Channels(NamedTuple):
    """Numbers the channels: in each slot all messages, then inputs by sample, then outputs."""

    messages: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    samples: int

    @property
    def per_slot(self) -> int:
        """Channels per slot."""
        return self.messages + self.samples * (len(self.inputs) + len(self.outputs))

    def message(self, slot: int, number: int) -> int:
        """The channel of a message."""
        return slot * self.per_slot + number

    def input_numbers(self, slot: int, sample: int) -> dict[str, int]:
        """The channels of a sample's inputs."""
        first = slot * self.per_slot + self.messages + sample * len(self.inputs)
        return {name: first + index for index, name in enumerate(self.inputs)}

    def output_numbers(self, slot: int, sample: int) -> dict[str, int]:
        """The channels of a sample's outputs."""
        first = slot * self.per_slot + self.messages + self.samples * len(self.inputs)
        first += sample * len(self.outputs)
        return {name: first + index for index, name in enumerate(self.outputs)}

    @classmethod
    def of(cls, manifest: Manifest) -> Channels:
        """The channels of an artifact."""
        inputs = tuple(spec.name for spec in manifest.inputs)
        outputs = tuple(spec.name for spec in manifest.computed)
        wiring = manifest.wiring
        return cls(len(wiring.messages), inputs, outputs, wiring.samples)


class Board:
    """Semaphores, flags, places and channel headers of one set of workers; its size never changes.

    Of everything that belongs to a request there is one per slot, slot = request mod K.
    """

    def __init__(self, fd: int, wiring: Wiring, channels: int, *, create: bool) -> None:
        self._memory = mmap.mmap(fd, os.fstat(fd).st_size)
        self._anchor = ctypes.c_char.from_buffer(self._memory)
        self._address = ctypes.addressof(self._anchor)
        self._all = memoryview(self._memory).cast("B").cast("q")
        self._next = (FLAGS + wiring.workers + 7) // 8 * 64
        slots, workers = range(wiring.in_flight), range(wiring.workers)

        def semaphore() -> Semaphore:
            address, self._next = self._address + self._next, self._next + SIZE
            return Semaphore(address, create=create)

        self.flags = self._all[:FLAGS]
        self.places = self._all[FLAGS : FLAGS + wiring.workers]
        self.start = [semaphore() for _ in workers]
        self.resume = [semaphore() for _ in workers]
        self.done = [semaphore() for _ in slots]
        # One token less than there are workers: the last one to be done finds none.
        self.tickets = [semaphore() for _ in slots]
        self.posted = [[semaphore() for _ in wiring.messages] for _ in slots]
        self._first = self._next // 8
        self._views = [self.flags, self.places, self._all]

    @staticmethod
    def size(wiring: Wiring, channels: int) -> int:
        """The bytes a board takes; `channels` is how many channels there are per slot."""
        slots = wiring.in_flight
        semaphores = 2 * wiring.workers + slots * (2 + len(wiring.messages))
        words = (FLAGS + wiring.workers + 7) // 8 * 8
        return words * 8 + semaphores * SIZE + slots * channels * HEADER * 8

    def header(self, index: int) -> memoryview:
        """The header of a channel, as words."""
        view = self._all[self._first + index * HEADER :][:HEADER]
        self._views.append(view)
        return view

    def close(self) -> None:
        """Unmap the board. Nobody may wait on its semaphores any more."""
        for view in self._views:
            view.release()
        del self._anchor
        with contextlib.suppress(BufferError):
            self._memory.close()
