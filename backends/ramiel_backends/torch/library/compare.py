"""Comparisons and choices of values that torch has no kernels for."""

from typing import Any

import numpy as np
import torch

from . import common


def equal(x: Any, y: Any) -> torch.Tensor:
    """Where two values are equal, strings included."""
    if isinstance(x, torch.Tensor):
        return x == y
    return common.compute(lambda a, b: np.asarray(a == b, dtype=bool), x, y)


def less(x: Any, y: Any) -> torch.Tensor:
    """Where unsigned integers are less."""
    return common.compute(np.less, x, y)


def less_or_equal(x: Any, y: Any) -> torch.Tensor:
    """Where unsigned integers are less or equal."""
    return common.compute(np.less_equal, x, y)


def greater(x: Any, y: Any) -> torch.Tensor:
    """Where unsigned integers are greater."""
    return common.compute(np.greater, x, y)


def greater_or_equal(x: Any, y: Any) -> torch.Tensor:
    """Where unsigned integers are greater or equal."""
    return common.compute(np.greater_equal, x, y)


def is_nan(x: Any) -> torch.Tensor:
    """Where a float of few bits is not a number; those that torch lacks have no such value."""
    if isinstance(x, torch.Tensor):
        return torch.isnan(x.to(torch.float32))
    return torch.zeros(x.shape, dtype=torch.bool)


def where(condition: torch.Tensor, x: Any, y: Any) -> Any:
    """Elements of `x` where the condition holds, of `y` elsewhere, of types torch lacks."""
    (a, b), restore = common.movable(x, y)
    return restore(torch.where(condition, a, b))
