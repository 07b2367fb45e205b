"""Arithmetic that one torch call cannot say: unsigned integers, truncating division, shifts."""

from typing import Any

import numpy as np
import torch

from . import common


def add(x: Any, y: Any) -> torch.Tensor:
    """The sum of unsigned integers, modulo their range."""
    return common.compute(np.add, x, y)


def subtract(x: Any, y: Any) -> torch.Tensor:
    """The difference of unsigned integers, modulo their range."""
    return common.compute(np.subtract, x, y)


def divide(x: Any, y: Any) -> torch.Tensor:
    """The quotient; that of integers is rounded towards zero."""
    if not all(common.has_kernels(value) for value in (x, y) if isinstance(value, torch.Tensor)):
        return common.compute(np.floor_divide, x, y)
    quotient = torch.true_divide(x, y) if _is_inexact(x) or _is_inexact(y) else None
    return torch.div(x, y, rounding_mode="trunc") if quotient is None else quotient


def remainder(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The remainder with the sign of the divisor."""
    return torch.remainder(x, y) if common.has_kernels(x) else common.compute(np.mod, x, y)


def fmod(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The remainder with the sign of the dividend."""
    return torch.fmod(x, y) if common.has_kernels(x) else common.compute(np.fmod, x, y)


def power(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """`x` to the power of `y` in the type of `x`, computed by numpy."""
    return common.compute(np.power, x, y).to(x.dtype)


def maximum(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The greater of two unsigned integers."""
    return common.compute(np.maximum, x, y)


def minimum(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The smaller of two unsigned integers."""
    return common.compute(np.minimum, x, y)


def clip(x: torch.Tensor, low: Any, high: Any) -> torch.Tensor:
    """Unsigned integers within limits, either of which may be None."""
    if low is not None:
        x = common.compute(np.maximum, x, low)
    return x if high is None else common.compute(np.minimum, x, high)


def absolute(x: torch.Tensor) -> torch.Tensor:
    """The magnitude of unsigned integers, which is themselves."""
    return x


def sign(x: torch.Tensor) -> torch.Tensor:
    """-1, 0 or 1, and nan where a float is nan."""
    if not common.has_kernels(x):
        return (x != 0).to(x.dtype)
    return torch.where(torch.isnan(x), x, torch.sign(x))


def invert(x: torch.Tensor) -> torch.Tensor:
    """The integers with all bits flipped."""
    return common.compute(np.invert, x)


def shift_left(x: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """Integers shifted up; a shift by all bits or more, or by a negative number, gives 0."""
    return _shift(np.left_shift, x, bits)


def shift_right(x: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """Integers shifted down; by all bits or more, or a negative number, leaves the sign."""
    return _shift(np.right_shift, x, bits)


def _shift(function: Any, x: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    width = 8 * x.element_size()
    a, b = x.numpy(), bits.numpy()
    outside = (b < 0) | (b >= width)
    inside = function(a, np.where(outside, 0, b).astype(a.dtype))
    beyond = np.where(a < 0, -1, 0) if function is np.right_shift else np.zeros_like(a)
    return torch.from_numpy(np.asarray(np.where(outside, beyond, inside), dtype=a.dtype))


def _is_inexact(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.is_floating_point() or value.is_complex()
    return isinstance(value, float)
