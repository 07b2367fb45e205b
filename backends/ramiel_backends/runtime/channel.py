"""A channel carries one value per request through shared memory: a message, an input, an output.

Its header lies on the board, 24 words:

    generation  kind  arena  offset  nbytes  dtype  rank  stamp  dimensions (8)  strides (8)

The writer writes the header, the reader trusts it. `generation` grows whenever anything else in the
header changes, so that on most requests the writer copies into the view it has and the reader
returns the view it has. Tensors of static and of dynamic shape go the same way: another shape is
another generation, in a larger region where the old one is too small.

Header and region need no lock: the writer of a slot waits until all workers have finished the
request that used the slot before, and a semaphore is posted between writing and reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .backend import Backend
from .encoding import Encoded, decode
from .layout import Layout
from .memory import Arena

_GENERATION, _KIND, _ARENA, _OFFSET, _NBYTES, _DTYPE, _RANK, STAMP = range(8)
_SHAPE, _STRIDES, _MOST = 8, 16, 8
_TENSOR, _ENCODED = 1, 2


class Writer:
    """The writing end of a channel."""

    def __init__(
        self, header: memoryview, arena: Arena, number: int, backend: Backend, nbytes: int = 0
    ) -> None:
        self.header = header
        self._arena, self._number = arena, number
        self._backend = backend
        self._key_of = backend.key
        self._key: Any = None
        self._layout: Layout | None = None
        self._copy: Any = None
        self._resident: Any = None
        self._offset, self._capacity = 0, 0
        if nbytes:
            self._reserve(nbytes)

    def close(self) -> None:
        """Let go of the memory."""
        self._copy = self._key = self._layout = self._resident = None

    def write(self, value: Any) -> None:
        """Have `value` in shared memory: it lies there by itself, or is copied."""
        if value is self._resident and value is not None:
            return
        key = self._key_of(value)
        if key == self._key and key is not None:
            self._copy(value)
        else:
            self._write_anew(value, key)

    def _write_anew(self, value: Any, key: Any) -> None:
        """Write a value that lies in memory as the one before it did not."""
        self._key = self._resident = None
        layout = None if key is None else self._backend.layout(value)
        if layout is None or len(layout.shape) > _MOST:
            self._encode(value)
            return
        place = self._backend.place(value)
        if place is not None:
            self._describe(layout, place)
            self._layout, self._resident = None, value
            return
        if layout != self._layout:
            self._layout = None
            self._reserve(layout.nbytes)
            memory = self._arena.memory(self._offset + layout.nbytes)
            self._copy = self._backend.copier(self._backend.view(memory, self._offset, layout))
            self._describe(layout, self._offset)
            self._layout = layout
        self._copy(value)
        self._key = key

    def _encode(self, value: Any) -> None:
        encoded = Encoded(value, self._backend)
        self._layout = None
        self._reserve(encoded.nbytes)
        encoded.write(self._arena.memory(self._offset + encoded.nbytes), self._offset)
        self._announce(_ENCODED, self._offset, encoded.nbytes)

    def _reserve(self, nbytes: int) -> None:
        """Have a region of at least so many bytes; twice the old one where that is too small."""
        if nbytes > self._capacity or not self._capacity:
            capacity = max(nbytes, 2 * self._capacity, 1)
            self._offset = self._arena.allocate(capacity)
            self._capacity = capacity

    def _describe(self, layout: Layout, offset: int) -> None:
        """Tell the reader of a tensor."""
        self.header[_DTYPE], self.header[_RANK] = layout.dtype, len(layout.shape)
        _put(self.header, _SHAPE, layout.shape)
        _put(self.header, _STRIDES, layout.strides)
        self._announce(_TENSOR, offset, layout.nbytes)

    def _announce(self, kind: int, offset: int, nbytes: int) -> None:
        header = self.header
        header[_KIND], header[_ARENA] = kind, self._number
        header[_OFFSET], header[_NBYTES] = offset, nbytes
        header[_GENERATION] += 1


class Reader:
    """The reading end of a channel. What `read` returns lies in shared memory."""

    def __init__(self, header: memoryview, arenas: Sequence[Arena], backend: Backend) -> None:
        self.header = header
        self._arenas = arenas
        self._backend = backend
        self._generation = 0
        self._view: Any = None

    def close(self) -> None:
        """Let go of the memory."""
        self._view, self._generation = None, 0

    def read(self) -> Any:
        """The value that was written last."""
        if self.header[0] != self._generation:
            self._view = None
            self._view = self._read_anew()
            self._generation = self.header[0]
        return self._view

    def _read_anew(self) -> Any:
        header = self.header
        offset, nbytes = header[_OFFSET], header[_NBYTES]
        memory = self._arenas[header[_ARENA]].memory(offset + nbytes)
        if header[_KIND] == _ENCODED:
            return decode(memory, offset, self._backend)
        rank = header[_RANK]
        shape = tuple(header[_SHAPE : _SHAPE + rank])
        strides = tuple(header[_STRIDES : _STRIDES + rank])
        return self._backend.view(memory, offset, Layout(header[_DTYPE], shape, strides))


def _put(header: memoryview, start: int, numbers: Sequence[int]) -> None:
    for index, number in enumerate(numbers, start):
        header[index] = number
