"""Shapes that are known only at run time, and values that are no torch tensors."""

from typing import Any

import torch

from . import common


def reshape(x: Any, wanted: Any, allow_zero: bool = False) -> Any:
    """`x` in another shape: 0 keeps a dimension (unless `allow_zero`), -1 is what remains."""
    dims = common.numbers(wanted)
    if not allow_zero:
        dims = [dim if dim else x.shape[axis] for axis, dim in enumerate(dims)]
    if -1 in dims and 0 in dims:
        dims[dims.index(-1)] = 0
    return x.reshape(dims)


def flatten(x: Any, axis: int) -> Any:
    """`x` as a matrix: the dimensions before `axis`, and the rest."""
    shape = list(x.shape)
    if axis < 0:
        axis += len(shape)
    return x.reshape(_product(shape[:axis]), _product(shape[axis:]))


def squeeze(x: Any, axes: Any = None) -> Any:
    """`x` without these dimensions of 1, or without all of them."""
    if axes is None:
        return x.squeeze()
    return x.squeeze(tuple(axis % x.ndim for axis in common.numbers(axes)))


def unsqueeze(x: Any, axes: Any) -> Any:
    """`x` with new dimensions of 1 at these places of the result."""
    places = common.numbers(axes)
    rank = x.ndim + len(places)
    fresh = {place % rank for place in places}
    old = iter(x.shape)
    return x.reshape([1 if place in fresh else next(old) for place in range(rank)])


def transpose(x: Any, order: Any = None) -> Any:
    """`x` with its dimensions in another order, reversed where none is given."""
    order = tuple(reversed(range(x.ndim))) if order is None else order
    return x.permute(order) if isinstance(x, torch.Tensor) else x.transpose(order)


def expand(x: Any, wanted: Any) -> Any:
    """`x` broadcast with a shape."""
    (moved,), restore = common.movable(x)
    shape = torch.broadcast_shapes(tuple(x.shape), tuple(common.numbers(wanted)))
    return restore(moved.expand(shape))


def _product(dims: list[int]) -> int:
    result = 1
    for dim in dims:
        result *= dim
    return result
