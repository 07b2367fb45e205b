"""Sequences as lists; none is changed in place."""

from typing import Any

import numpy as np
import torch

from . import common


def insert(items: list[Any], item: Any, place: torch.Tensor) -> list[Any]:
    """The items with one more before `place`."""
    at = int(place)
    at += len(items) if at < 0 else 0
    return [*items[:at], item, *items[at:]]


def erase(items: list[Any], place: torch.Tensor) -> list[Any]:
    """The items without the one at `place`."""
    at = int(place) % len(items)
    return items[:at] + items[at + 1 :]


def split(x: Any, extents: Any, axis: int) -> list[Any]:
    """`x` in parts of these extents along an axis, or of one extent where it is a scalar."""
    (moved,), restore = common.movable(x)
    one = isinstance(extents, torch.Tensor) and not extents.ndim
    sizes = int(extents) if one else common.numbers(extents)
    return [restore(part) for part in torch.split(moved, sizes, axis)]


def split_ones(x: Any, axis: int, keepdims: bool = True) -> list[Any]:
    """`x` in parts of extent one along an axis, which goes unless `keepdims`."""
    (moved,), restore = common.movable(x)
    parts = torch.split(moved, 1, axis) if keepdims else torch.unbind(moved, axis)
    return [restore(part) for part in parts]


def join_strings(items: list[Any], axis: int, new_axis: bool = False) -> Any:
    """Arrays of strings joined along an axis that they have, or along a new one."""
    return np.stack(items, axis) if new_axis else np.concatenate(items, axis)
