"""The layout of a tensor in memory: its type, dimensions and strides."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from .dtypes import SIZES

ALIGNMENT = 64


class Layout(NamedTuple):
    """A dense tensor in memory: element type code, dimensions, and strides in elements."""

    dtype: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """The bytes it takes; a dense tensor has neither gaps nor repeated elements."""
        return prod(self.shape) * SIZES[self.dtype]


def dense_layout(dtype: int, shape: Sequence[int], strides: Sequence[int]) -> Layout:
    """The layout a copy should have: these strides where they are dense, contiguous otherwise."""
    expected = 1
    pairs = zip(strides, shape, strict=True)
    for stride, size in sorted(pair for pair in pairs if pair[1] != 1):
        if stride != expected or size == 0:
            return Layout(dtype, tuple(shape), contiguous_strides(shape))
        expected *= size
    return Layout(dtype, tuple(shape), tuple(strides))


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides, in elements, of a tensor in row-major order."""
    strides = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def aligned(position: int, to: int = ALIGNMENT) -> int:
    """The next multiple of `to`."""
    return -(-position // to) * to
