"""How a tensor lies in memory, and how every other value is written down as bytes.

A value that is no single tensor (None, a list, strings) is encoded as a tag and what belongs to it,
all numbers being little-endian 8-byte words:

    None      0
    list      1, count, then each value
    tensor    2, dtype, rank, dimensions, strides, then its bytes at the next multiple of 64
    strings   3, rank, dimensions, then for each element 2 * length + is_bytes and its UTF-8 bytes,
              filled up to a multiple of 8
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from .backend import Backend, Memory
from .layout import Layout, aligned

_NONE, _LIST, _TENSOR, _STRINGS = range(4)


class Encoded:
    """A value about to be written: `nbytes` is known before any memory is taken."""

    def __init__(self, value: Any, backend: Backend) -> None:
        self._backend = backend
        self._pieces: list[tuple[int, bytes | None, Layout | None, Any]] = []
        self.nbytes = 0
        self._add(value)

    def write(self, memory: Memory, offset: int) -> None:
        """Write the value into `memory`; `offset` is a multiple of 64."""
        for position, words, layout, value in self._pieces:
            start = offset + position
            if layout is not None:
                self._backend.copier(self._backend.view(memory, start, layout))(value)
            elif words is not None:
                memory[start : start + len(words)] = words

    def _words(self, *numbers: int) -> None:
        self._bytes(struct.pack(f"<{len(numbers)}q", *numbers))

    def _bytes(self, data: bytes) -> None:
        self._pieces.append((self.nbytes, data, None, None))
        self.nbytes += len(data)

    def _add(self, value: Any) -> None:
        if value is None:
            self._words(_NONE)
        elif isinstance(value, (list, tuple)):
            self._words(_LIST, len(value))
            for item in value:
                self._add(item)
        elif isinstance(value, np.ndarray) and value.dtype.kind in "OUST":
            self._words(_STRINGS, value.ndim, *value.shape)
            self._bytes(_strings(value))
        else:
            layout = self._backend.layout(value)
            self._words(_TENSOR, layout.dtype, len(layout.shape), *layout.shape, *layout.strides)
            self.nbytes = aligned(self.nbytes)
            self._pieces.append((self.nbytes, None, layout, value))
            self.nbytes = aligned(self.nbytes + layout.nbytes, 8)


def _strings(array: Any) -> bytes:
    parts = []
    for element in array.reshape(-1):
        data = element if isinstance(element, bytes) else str(element).encode("utf-8")
        parts.append(struct.pack("<q", 2 * len(data) + isinstance(element, bytes)))
        parts.append(data)
    joined = b"".join(parts)
    return joined.ljust(aligned(len(joined), 8), b"\0")


def decode(memory: Memory, offset: int, backend: Backend) -> Any:
    """Read back what `Encoded.write` wrote at `offset`; tensors are views into `memory`."""
    return _decode(memory, offset, backend, offset)[0]


def _decode(memory: Memory, at: int, backend: Backend, origin: int) -> tuple[Any, int]:
    tag, at = _read(memory, at, 1)[0], at + 8
    if tag == _NONE:
        return None, at
    if tag == _LIST:
        count, at = _read(memory, at, 1)[0], at + 8
        items = []
        for _ in range(count):
            item, at = _decode(memory, at, backend, origin)
            items.append(item)
        return items, at
    if tag == _STRINGS:
        rank, at = _read(memory, at, 1)[0], at + 8
        shape, at = _read(memory, at, rank), at + 8 * rank
        array, read = read_strings(memory, at, shape)
        return array, at + aligned(read, 8)
    dtype, rank = _read(memory, at, 2)
    numbers = _read(memory, at + 16, 2 * rank)
    layout = Layout(dtype, numbers[:rank], numbers[rank:])
    start = origin + aligned(at + 16 + 16 * rank - origin)
    view = backend.view(memory, start, layout)
    return view, origin + aligned(start + layout.nbytes - origin, 8)


def _read(memory: Memory, at: int, count: int) -> tuple[int, ...]:
    return struct.unpack_from(f"<{count}q", memory, at)


def read_strings(memory: Any, at: int, shape: Sequence[int]) -> tuple[Any, int]:
    """An object array of the strings at `at`, and how many bytes they took."""
    array = np.empty(prod(shape), dtype=object)
    start = at
    for index in range(array.size):
        (head,) = struct.unpack_from("<q", memory, at)
        at += 8 + (head >> 1)
        data = bytes(memory[at - (head >> 1) : at])
        array[index] = data if head & 1 else data.decode("utf-8")
    return array.reshape(tuple(shape)), at - start
