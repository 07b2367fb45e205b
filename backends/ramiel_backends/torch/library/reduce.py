"""Reductions of any extent and element type; `axes` None or empty means all, unless `noop`."""

from typing import Any

import numpy as np
import torch

from . import common


def total(x: Any, axes: Any = None, keepdims: bool = True, noop: bool = False) -> torch.Tensor:
    """The sum."""
    dims = _dims(x, axes, noop)
    if not common.has_kernels(x):
        return common.compute(lambda a: a.sum(axis=dims, keepdims=keepdims, dtype=a.dtype), x)
    return torch.sum(x, dims, keepdim=keepdims, dtype=x.dtype) if dims else x


def mean(x: Any, axes: Any = None, keepdims: bool = True, noop: bool = False) -> torch.Tensor:
    """The mean; that of integers is rounded towards zero."""
    if x.is_floating_point():
        dims = _dims(x, axes, noop)
        return torch.mean(x, dims, keepdim=keepdims) if dims else x
    exact = x.to(torch.int64)
    summed = total(exact, axes, keepdims, noop)
    count = x.numel() // max(summed.numel(), 1)
    return torch.div(summed, max(count, 1), rounding_mode="trunc").to(x.dtype)


def product(x: Any, axes: Any = None, keepdims: bool = True, noop: bool = False) -> torch.Tensor:
    """The product."""
    dims = _dims(x, axes, noop)
    if not common.has_kernels(x):
        return common.compute(lambda a: a.prod(axis=dims, keepdims=keepdims, dtype=a.dtype), x)
    for dim in sorted(dims, reverse=True):
        x = torch.prod(x, dim, keepdim=keepdims, dtype=x.dtype)
    return x


def maximum(x: Any, axes: Any = None, keepdims: bool = True, noop: bool = False) -> torch.Tensor:
    """The greatest element, the least value of the type where there is none."""
    return _extreme(torch.amax, np.max, x, _dims(x, axes, noop), keepdims)


def minimum(x: Any, axes: Any = None, keepdims: bool = True, noop: bool = False) -> torch.Tensor:
    """The least element, the greatest value of the type where there is none."""
    return _extreme(torch.amin, np.min, x, _dims(x, axes, noop), keepdims)


def l1(x: Any, axes: Any = None, keepdims: bool = True, noop: bool = False) -> torch.Tensor:
    """The sum of the magnitudes."""
    return total(torch.abs(x) if common.has_kernels(x) else x, axes, keepdims, noop)


def l2(x: Any, axes: Any = None, keepdims: bool = True, noop: bool = False) -> torch.Tensor:
    """The root of the sum of the squares."""
    wide = x if x.is_floating_point() else x.to(torch.float64)
    return torch.sqrt(sum_square(wide, axes, keepdims, noop)).to(x.dtype)


def sum_square(x: Any, axes: Any = None, keepdims: bool = True, noop: bool = False) -> torch.Tensor:
    """The sum of the squares."""
    return total(x * x, axes, keepdims, noop)


def log_sum(x: Any, axes: Any = None, keepdims: bool = True, noop: bool = False) -> torch.Tensor:
    """The logarithm of the sum."""
    wide = x if x.is_floating_point() else x.to(torch.float64)
    return torch.log(total(wide, axes, keepdims, noop)).to(x.dtype)


def log_sum_exp(
    x: Any, axes: Any = None, keepdims: bool = True, noop: bool = False
) -> torch.Tensor:
    """The logarithm of the sum of the exponentials."""
    wide = x if x.is_floating_point() else x.to(torch.float64)
    dims = _dims(x, axes, noop)
    result = torch.logsumexp(wide, dims, keepdim=keepdims) if dims else wide
    return result.to(x.dtype)


def argmax(x: Any, axis: int, keepdims: bool = True, last: bool = False) -> torch.Tensor:
    """Where the greatest element along an axis is, the first or the last of equals."""
    return _arg(np.argmax, x, axis, keepdims, last)


def argmin(x: Any, axis: int, keepdims: bool = True, last: bool = False) -> torch.Tensor:
    """Where the least element along an axis is, the first or the last of equals."""
    return _arg(np.argmin, x, axis, keepdims, last)


def cumsum(x: Any, axis: int, exclusive: bool = False, reverse: bool = False) -> torch.Tensor:
    """Running sums along an axis, without the element itself where `exclusive`."""
    return _cumulative(torch.cumsum, 0, x, axis, exclusive, reverse)


def cumprod(x: Any, axis: int, exclusive: bool = False, reverse: bool = False) -> torch.Tensor:
    """Running products along an axis, without the element itself where `exclusive`."""
    return _cumulative(torch.cumprod, 1, x, axis, exclusive, reverse)


def _dims(x: Any, axes: Any, noop: bool) -> tuple[int, ...]:
    """The axes to reduce, counted from the front."""
    given = () if axes is None else common.numbers(axes)
    if given:
        return tuple(axis % x.ndim for axis in given)
    return () if noop else tuple(range(x.ndim))


def _extreme(
    function: Any, numpy_function: Any, x: Any, dims: tuple[int, ...], keepdims: bool
) -> torch.Tensor:
    if not dims:
        return x
    if x.numel() and common.has_kernels(x):
        return function(x, dims, keepdim=keepdims)
    if x.numel():
        return common.compute(lambda a: numpy_function(a, axis=dims, keepdims=keepdims), x)
    sizes = [1 if dim in dims else size for dim, size in enumerate(x.shape)]
    shape = sizes if keepdims else [x.shape[dim] for dim in range(x.ndim) if dim not in dims]
    return torch.full(shape, _bound(x.dtype, function is torch.amax), dtype=x.dtype)


def _bound(dtype: torch.dtype, lowest: bool) -> Any:
    if dtype is torch.bool:
        return not lowest
    if dtype.is_floating_point:
        return float("-inf") if lowest else float("inf")
    return torch.iinfo(dtype).min if lowest else torch.iinfo(dtype).max


def _arg(function: Any, x: torch.Tensor, axis: int, keepdims: bool, last: bool) -> torch.Tensor:
    narrow = x.is_floating_point() and x.element_size() < 4  # numpy does not have all of these
    array = (x.float() if narrow else x).numpy()
    found = function(np.flip(array, axis) if last else array, axis=axis, keepdims=keepdims)
    place = torch.from_numpy(np.asarray(found, dtype=np.int64))
    return x.shape[axis] - 1 - place if last else place


def _cumulative(
    function: Any, neutral: int, x: Any, axis: int, exclusive: bool, reverse: bool
) -> torch.Tensor:
    dtype = x.dtype
    if not common.has_kernels(x):
        x = x.to(torch.int64)
    if reverse:
        x = torch.flip(x, (axis,))
    if exclusive and x.shape[axis]:
        first = torch.full_like(x.narrow(axis, 0, 1), neutral)
        x = torch.cat((first, x.narrow(axis, 0, x.shape[axis] - 1)), axis)
    result = function(x, axis, dtype=x.dtype)
    return (torch.flip(result, (axis,)) if reverse else result).to(dtype)
