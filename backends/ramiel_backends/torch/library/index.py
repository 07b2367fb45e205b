"""Elements taken and put by index, order, or condition; indices below 0 count from the end."""

import math
from typing import Any

import numpy as np
import torch

from . import common

_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def gather(x: Any, indices: torch.Tensor, axis: int) -> Any:
    """The slices of `x` at these indices of one axis."""
    (moved,), restore = common.movable(x)
    place = (slice(None),) * (axis % moved.ndim)
    return restore(moved[(*place, indices.to(torch.int64))])


def gather_elements(x: Any, indices: torch.Tensor, axis: int) -> Any:
    """For each index the element of `x` at the same place but for one axis."""
    (moved,), restore = common.movable(x)
    return restore(torch.gather(moved, axis, _from_front(indices, moved.shape[axis])))


def gather_nd(x: Any, indices: torch.Tensor, batch_dims: int = 0) -> Any:
    """The slices of `x` at these tuples of indices, behind common leading axes."""
    (moved,), restore = common.movable(x)
    return restore(moved[_tuples(indices, batch_dims)])


def scatter_elements(
    x: Any, indices: torch.Tensor, updates: Any, axis: int = 0, reduction: str = "none"
) -> Any:
    """`x` with elements put where `gather_elements` would take them."""
    if reduction != "none" and not common.has_kernels(x):
        wide = (value.to(torch.int64) for value in (x, updates))
        data, new = wide
        return scatter_elements(data, indices, new, axis, reduction).to(x.dtype)
    (moved, fresh), restore = common.movable(x, updates)
    places = _from_front(indices, moved.shape[axis])
    if reduction == "none":
        return restore(moved.scatter(axis, places, fresh))
    return moved.scatter_reduce(axis, places, fresh, _REDUCTIONS[reduction])


def scatter_nd(x: Any, indices: torch.Tensor, updates: Any, reduction: str = "none") -> Any:
    """`x` with slices put where `gather_nd` would take them."""
    if reduction != "none" and not common.has_kernels(x):
        data, new = x.to(torch.int64), updates.to(torch.int64)
        return scatter_nd(data, indices, new, reduction).to(x.dtype)
    (moved, fresh), restore = common.movable(x, updates)
    if reduction == "none":
        return restore(moved.index_put(_tuples(indices, 0), fresh))
    depth = indices.shape[-1]
    rows = math.prod(moved.shape[:depth])
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64)
    for place, part in enumerate(indices.unbind(-1)):
        flat = flat * moved.shape[place] + _from_front(part, moved.shape[place])
    table = moved.reshape(rows, -1)
    where = flat.reshape(-1, 1).expand(-1, table.shape[1])
    source = fresh.reshape(where.shape)
    return table.scatter_reduce(0, where, source, _REDUCTIONS[reduction]).reshape(moved.shape)


def write_cache(
    cache: Any, update: Any, starts: Any = None, axis: int = -2, circular: bool = False
) -> Any:
    """`cache` with `update` written from each sample's start on, around the axis if `circular`."""
    (moved, fresh), restore = common.movable(cache, update)
    extent, count = moved.shape[axis], fresh.shape[axis]
    first = torch.zeros(moved.shape[0], dtype=torch.int64) if starts is None else starts
    places = first[:, None] + torch.arange(count)
    if circular:
        places = places.remainder(extent)
    shape = [1] * moved.ndim
    shape[0], shape[axis] = places.shape
    return restore(moved.scatter(axis, places.reshape(shape).expand(fresh.shape), fresh))


def top_k(
    x: torch.Tensor, count: int, axis: int = -1, largest: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """The greatest or least elements along an axis and their places; equals keep their order."""
    values, places = torch.sort(x, stable=True, dim=axis, descending=largest)
    return values.narrow(axis, 0, count), places.narrow(axis, 0, count)


def non_zero(x: Any) -> torch.Tensor:
    """The places of the elements that are not zero, one row for each axis."""
    held = x != 0 if isinstance(x, torch.Tensor) else torch.from_numpy(_truth(x))
    return torch.nonzero(held).t()


def compress(x: Any, condition: torch.Tensor, axis: int | None = None) -> Any:
    """The slices along an axis, or else the elements, whose condition holds."""
    (moved,), restore = common.movable(x)
    if axis is None:
        moved, axis = moved.reshape(-1), 0
    return restore(moved.index_select(axis, torch.nonzero(condition)[:, 0]))


def unique(
    x: Any, axis: int | None = None, in_order: bool = True
) -> tuple[Any, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The different elements or slices, where each is first, which one each is, how often it is."""
    half = isinstance(x, torch.Tensor) and x.dtype is torch.bfloat16
    array = x.float().numpy() if half else x.numpy() if isinstance(x, torch.Tensor) else x
    if array.dtype == object:  # numpy cannot tell slices of objects apart
        array = np.unique(array, return_inverse=True)[1].reshape(array.shape)
    _, first, inverse, counts = np.unique(
        array, return_index=True, return_inverse=True, return_counts=True, axis=axis
    )
    inverse = inverse.reshape(-1)
    if not in_order:
        order = np.argsort(first, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        first, inverse, counts = first[order], rank[inverse], counts[order]
    places = torch.from_numpy(first.astype(np.int64))
    (moved,), restore = common.movable(x)
    found = moved.reshape(-1)[places] if axis is None else moved.index_select(axis, places)
    others = (torch.from_numpy(part.astype(np.int64)) for part in (inverse, counts))
    return (restore(found), places, *others)


def one_hot(indices: torch.Tensor, depth: float, values: Any, axis: int = -1) -> Any:
    """The second of two values where the index points to, the first elsewhere."""
    count = int(depth)
    places = indices.to(torch.int64)
    held = torch.where(places < 0, places + count, places).unsqueeze(axis)
    shape = [1] * held.ndim
    shape[axis] = count
    chosen = held == torch.arange(count).reshape(shape)
    (moved,), restore = common.movable(values)
    return restore(torch.where(chosen, moved[1], moved[0]))


def _from_front(indices: torch.Tensor, extent: int) -> torch.Tensor:
    places = indices.to(torch.int64)
    return torch.where(places < 0, places + extent, places)


def _tuples(indices: torch.Tensor, batch_dims: int) -> tuple[torch.Tensor, ...]:
    """One index tensor for each axis; those of common leading axes count along them."""
    parts = indices.to(torch.int64).unbind(-1)
    batches = []
    for dim in range(batch_dims):
        shape = [1] * (indices.ndim - 1)
        shape[dim] = indices.shape[dim]
        batches.append(torch.arange(indices.shape[dim]).reshape(shape))
    return (*batches, *parts)


def _truth(x: Any) -> Any:
    return np.asarray(x != ("" if x.dtype == object else 0), dtype=bool)
