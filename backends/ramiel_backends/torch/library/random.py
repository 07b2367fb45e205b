"""Random numbers; with a seed the same ones at every call."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch


def _state(seed: float | None) -> np.random.RandomState:
    if seed is None or not math.isfinite(seed):
        return np.random.RandomState()
    return np.random.RandomState(int(seed) % 2**32)


def normal(
    shape: Sequence[int],
    *,
    dtype: torch.dtype = torch.float32,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
) -> torch.Tensor:
    """Numbers of a normal distribution."""
    drawn = _state(seed).standard_normal(tuple(shape))
    return torch.from_numpy(np.asarray(drawn * scale + mean)).to(dtype)


def uniform(
    shape: Sequence[int],
    *,
    dtype: torch.dtype = torch.float32,
    low: float = 0.0,
    high: float = 1.0,
    seed: float | None = None,
) -> torch.Tensor:
    """Numbers evenly spread over a range."""
    drawn = _state(seed).uniform(size=tuple(shape))
    return torch.from_numpy(np.asarray(drawn * (high - low) + low)).to(dtype)


def bernoulli(x: torch.Tensor, dtype: torch.dtype, *, seed: float | None = None) -> torch.Tensor:
    """Ones with the chances `x`, else zeros."""
    chances = x.to(torch.float64).numpy()
    return torch.from_numpy(np.asarray(_state(seed).binomial(1, chances))).to(dtype)


def multinomial(
    x: torch.Tensor,
    count: int,
    *,
    dtype: torch.dtype = torch.int32,
    seed: float | None = None,
) -> torch.Tensor:
    """`count` classes per row, drawn by the logarithms of their chances."""
    limits = torch.softmax(x.to(torch.float64), -1).cumsum(-1)
    drawn = torch.from_numpy(_state(seed).uniform(size=(x.shape[0], count)))
    found = torch.searchsorted(limits, drawn, right=True)
    return found.clamp(max=x.shape[-1] - 1).to(dtype)
