"""Tensors cut, joined, repeated, padded and made, of any type and by operands known at run time."""

import math
from typing import Any

import numpy as np
import torch

from . import common


def align(y: torch.Tensor, x: torch.Tensor, axis: int) -> torch.Tensor:
    """`y` with new dimensions at its end, so that its first one meets `axis` of `x`."""
    behind = x.ndim - y.ndim - (axis % x.ndim if x.ndim else 0)
    return y.reshape(tuple(y.shape) + (1,) * behind)


def concat(parts: Any, axis: int) -> Any:
    """Tensors, or arrays of the types torch lacks, joined along an axis."""
    moved, restore = common.movable(*parts)
    return restore(torch.cat(moved, axis))


def split(x: Any, extents: Any, axis: int) -> tuple[Any, ...]:
    """`x` cut into parts of these extents along an axis."""
    (moved,), restore = common.movable(x)
    return tuple(restore(part) for part in torch.split(moved, common.numbers(extents), axis))


def split_evenly(x: Any, count: int, axis: int) -> tuple[Any, ...]:
    """`x` cut into `count` parts of one extent; the last ones may be smaller."""
    extent = x.shape[axis]
    part = -(-extent // count)
    extents = [max(0, min(part, extent - start * part)) for start in range(count)]
    return split(x, extents, axis)


def cut(x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    """A slice of `x`; numbers below 0 count from the end, and steps may go backwards."""
    (moved,), restore = common.movable(x)
    first, last = common.numbers(starts), common.numbers(ends)
    along = range(len(first)) if axes is None else common.numbers(axes)
    strides = [1] * len(first) if steps is None else common.numbers(steps)
    for start, end, axis, step in zip(first, last, along, strides, strict=True):
        extent = moved.shape[axis]
        if step > 0:
            place = (slice(None),) * (axis % moved.ndim)
            moved = moved[(*place, slice(start, end, step))]
        else:
            start = min(max(start + extent if start < 0 else start, 0), extent - 1)
            end = min(max(end + extent if end < 0 else end, -1), extent - 1)
            taken = torch.tensor(range(start, end, step), dtype=torch.int64)
            moved = moved.index_select(axis, taken)
    return restore(moved)


def pad(x: Any, pads: Any, value: Any = None, axes: Any = None, mode: str = "constant") -> Any:
    """`x` with more elements, or fewer, before and behind each of the axes."""
    amounts = common.numbers(pads)
    along = [axis % x.ndim for axis in (range(x.ndim) if axes is None else common.numbers(axes))]
    befores, behinds = amounts[: len(along)], amounts[len(along) :]
    (moved, fill), restore = common.movable(x, _fill(x, value))
    for axis, before, behind in zip(along, befores, behinds, strict=True):
        extent = moved.shape[axis]
        places = torch.arange(-before, extent + behind)
        inside = (places >= 0) & (places < extent)
        if mode == "reflect":
            around = 2 * max(extent - 1, 1)
            places = places.remainder(around)
            places = torch.minimum(places, around - places)
        elif mode == "wrap":
            places = places.remainder(max(extent, 1))
        if extent == 0 and mode == "constant":
            shape = list(moved.shape)
            shape[axis] = len(places)
            moved = fill.expand(shape)
            continue
        moved = moved.index_select(axis, places.clamp(0, max(extent - 1, 0)))
        if mode == "constant" and not bool(inside.all()):
            shape = [1] * moved.ndim
            shape[axis] = -1
            moved = torch.where(inside.reshape(shape), moved, fill)
    return restore(moved)


def _fill(x: Any, value: Any) -> Any:
    if isinstance(x, torch.Tensor):
        if isinstance(value, torch.Tensor):
            return value.reshape(())
        return torch.tensor(0 if value is None else value).to(x.dtype)
    if value is not None:
        return value.reshape(())
    fill = np.empty((), dtype=x.dtype)
    fill[()] = "" if x.dtype == object else 0
    return fill


def center_crop_pad(x: Any, wanted: Any, axes: Any = None) -> Any:
    """`x` cropped or zero-padded on both sides of the axes, so that they get these extents."""
    extents = common.numbers(wanted)
    along = list(range(x.ndim)) if axes is None else list(axes)
    befores, behinds = [], []
    for axis, extent in zip(along, extents, strict=True):
        missing = extent - x.shape[axis]
        before = missing // 2 if missing >= 0 else -((-missing) // 2)
        befores.append(before)
        behinds.append(missing - before)
    return pad(x, [*befores, *behinds], None, along)


def tile(x: Any, repeats: Any, axis: Any = None) -> Any:
    """`x` repeated along each axis, or along one."""
    (moved,), restore = common.movable(x)
    counts = common.numbers(repeats)
    if axis is not None:
        along = int(common.number(axis))
        counts = [int(counts[0]) if place == along else 1 for place in range(x.ndim)]
    return restore(torch.tile(moved, counts))


def depth_to_space(x: Any, block: int, mode: str = "DCR") -> Any:
    """Channels moved into blocks of the image."""
    n, c, h, w = x.shape
    (moved,), restore = common.movable(x)
    depth = c // block**2
    if mode == "CRD":
        parts = moved.reshape(n, depth, block, block, h, w).permute(0, 1, 4, 2, 5, 3)
    else:
        parts = moved.reshape(n, block, block, depth, h, w).permute(0, 3, 4, 1, 5, 2)
    return restore(parts.reshape(n, depth, h * block, w * block))


def space_to_depth(x: Any, block: int, mode: str = "DCR") -> Any:
    """Blocks of the image moved into channels."""
    n, c, h, w = x.shape
    (moved,), restore = common.movable(x)
    parts = moved.reshape(n, c, h // block, block, w // block, block)
    order = (0, 1, 3, 5, 2, 4) if mode == "CRD" else (0, 3, 5, 1, 2, 4)
    return restore(parts.permute(order).reshape(n, c * block**2, h // block, w // block))


def col2im(
    x: torch.Tensor,
    image: Any,
    block: Any,
    dilations: Any = None,
    pads: Any = None,
    strides: Any = None,
) -> torch.Tensor:
    """Overlapping blocks, one to a column, added up to an image of any number of dimensions."""
    extents, kernel = common.numbers(image), common.numbers(block)
    rank = len(extents)
    dilations, strides = dilations or (1,) * rank, strides or (1,) * rank
    pads = pads or (0,) * (2 * rank)
    padded = [size + pads[i] + pads[i + rank] for i, size in enumerate(extents)]
    channels = x.shape[1] // math.prod(kernel)
    offsets = torch.zeros((1, 1), dtype=torch.int64)
    for i in range(rank):
        reach = dilations[i] * (kernel[i] - 1)
        starts = torch.arange(0, padded[i] - reach, strides[i])
        places = torch.arange(kernel[i])[:, None] * dilations[i] + starts
        nested = offsets[:, None, :, None] * padded[i] + places[None, :, None, :]
        offsets = nested.reshape(offsets.shape[0] * kernel[i], -1)
    columns = x.reshape(x.shape[0], channels, -1)
    flat = torch.zeros((x.shape[0], channels, math.prod(padded)), dtype=x.dtype)
    flat = flat.index_add(2, offsets.reshape(-1), columns)
    result = flat.reshape(x.shape[0], channels, *padded)
    inner = tuple(slice(pads[i], pads[i] + extents[i]) for i in range(rank))
    return result[(slice(None), slice(None), *inner)]


def reverse_sequence(x: Any, lengths: torch.Tensor, time: int, batch: int) -> Any:
    """The first `lengths[b]` elements of each sequence in reverse order."""
    (moved,), restore = common.movable(x)
    order = torch.arange(moved.shape[time])[None, :]
    ends = lengths.to(torch.int64)[:, None]
    places = torch.where(order < ends, ends - 1 - order, order)
    shape = [1] * moved.ndim
    shape[batch], shape[time] = places.shape
    places = places.t() if batch > time else places
    return restore(torch.gather(moved, time, places.reshape(shape).expand(moved.shape)))


def triu(x: torch.Tensor, offset: int = 0) -> torch.Tensor:
    """The upper triangle of matrices of integers that torch has no kernels for."""
    (moved,), restore = common.movable(x)
    return restore(torch.triu(moved, offset))


def tril(x: torch.Tensor, offset: int = 0) -> torch.Tensor:
    """The lower triangle of matrices of integers that torch has no kernels for."""
    (moved,), restore = common.movable(x)
    return restore(torch.tril(moved, offset))


def full(wanted: Any, value: Any, name: str) -> Any:
    """An array of a type that torch lacks, with one value everywhere."""
    if name == "object":
        result = np.empty(common.numbers(wanted), dtype=object)
        result[...] = value
        return result
    import ml_dtypes

    return np.full(common.numbers(wanted), value).astype(getattr(ml_dtypes, name))


def eye(shape: Any, dtype: torch.dtype, k: int = 0) -> torch.Tensor:
    """A matrix of zeros with ones on its k-th diagonal."""
    rows, columns = shape
    diagonal = torch.arange(columns)[None, :] - torch.arange(rows)[:, None] == k
    return diagonal.to(dtype)


def arange(start: torch.Tensor, limit: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
    """The numbers from `start` in steps of `delta` before `limit`, none where it lies behind."""
    first, end, step = start.item(), limit.item(), delta.item()
    count = max(math.ceil((end - first) / step), 0)
    if start.is_floating_point():
        wide = torch.float64 if start.dtype is torch.float64 else torch.float32
        return (torch.arange(count, dtype=wide) * step + first).to(start.dtype)
    return (torch.arange(count) * step + first).to(start.dtype)
