"""Normalizations in the forms torch has no function for."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def batch_norm(
    x: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    mean: torch.Tensor,
    var: torch.Tensor,
    *,
    eps: float = 1e-5,
) -> torch.Tensor:
    """Batch normalization of any rank, with mixed types or parameters per element."""
    kind = torch.promote_types(x.dtype, mean.dtype)
    shape = (-1, *(1,) * (x.ndim - 2)) if scale.numel() == x.shape[1 if x.ndim > 1 else 0] else None
    if x.ndim == 1:
        shape = (-1,) if scale.numel() == x.shape[0] else (1,)
    parts = [part.to(kind).reshape(shape or x.shape[1:]) for part in (scale, bias, mean, var)]
    factor = parts[0] * torch.rsqrt(parts[3] + eps)
    return ((x.to(kind) - parts[2]) * factor + parts[1]).to(x.dtype)


def batch_norm_training(
    x: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    mean: torch.Tensor,
    var: torch.Tensor,
    *,
    eps: float = 1e-5,
    momentum: float = 0.9,
) -> tuple[torch.Tensor, ...]:
    """Normalization by the batch itself; running and saved statistics follow the result."""
    axes = (0, *range(2, x.ndim))
    wide = x.to(torch.promote_types(torch.float32, x.dtype))
    found_var, found_mean = torch.var_mean(wide, axes, correction=0)
    y = batch_norm(x, scale, bias, found_mean, found_var, eps=eps)
    new_mean = (mean * momentum + found_mean * (1 - momentum)).to(mean.dtype)
    new_var = (var * momentum + found_var * (1 - momentum)).to(var.dtype)
    return y, new_mean, new_var, found_mean.to(mean.dtype), found_var.to(var.dtype)


def instance_norm(
    x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, *, eps: float = 1e-5
) -> torch.Tensor:
    """Each channel of each sample normalized on its own."""
    return group_norm(x, x.shape[1], scale, bias, eps=eps)


def group_norm(
    x: torch.Tensor, groups: int, scale: torch.Tensor, bias: torch.Tensor, *, eps: float = 1e-5
) -> torch.Tensor:
    """Groups of channels normalized together; scale and bias per channel."""
    grouped = _standardized(x.reshape(x.shape[0], groups, -1), (2,), eps)[0]
    shape = (-1, *(1,) * (x.ndim - 2))
    return (grouped.reshape(x.shape) * scale.reshape(shape) + bias.reshape(shape)).to(x.dtype)


def group_norm_18(
    x: torch.Tensor, groups: int, scale: torch.Tensor, bias: torch.Tensor, *, eps: float = 1e-5
) -> torch.Tensor:
    """Groups of channels normalized together; scale and bias per group."""
    repeats = x.shape[1] // groups
    return group_norm(
        x, groups, scale.repeat_interleave(repeats), bias.repeat_interleave(repeats), eps=eps
    )


def layer_norm(
    x: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    axis: int = -1,
    eps: float = 1e-5,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Normalization over the axes from `axis` on; the result, the mean, the inverse deviation."""
    normalized, mean, inverse = _standardized(x, tuple(range(axis % x.ndim, x.ndim)), eps)
    y = normalized * scale
    return y if bias is None else y + bias, mean, inverse


def rms_norm(
    x: torch.Tensor, scale: torch.Tensor, *, axis: int = -1, eps: float = 1e-5
) -> torch.Tensor:
    """Division by the root mean square over the axes from `axis` on, then `scale`."""
    wide = x.to(torch.promote_types(torch.float32, x.dtype))
    squares = (wide * wide).mean(tuple(range(axis % x.ndim, x.ndim)), keepdim=True)
    return (wide * torch.rsqrt(squares + eps)).to(x.dtype) * scale


def lp_norm(x: torch.Tensor, *, dim: int = 1, p: int = 2) -> torch.Tensor:
    """Division by the p-norm along one axis; zero where that is zero."""
    norm = torch.linalg.vector_norm(x, p, dim, keepdim=True)
    return torch.where(norm == 0, 0, x / norm)


def mean_variance_norm(x: torch.Tensor, *, axes: Sequence[int]) -> torch.Tensor:
    """Zero mean and unit variance over `axes`."""
    var, mean = torch.var_mean(x, tuple(axes), correction=0, keepdim=True)
    return (x - mean) / (torch.sqrt(var) + 1e-9)


def _standardized(
    x: torch.Tensor, axes: tuple[int, ...], eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`x` with zero mean and unit variance over `axes`, computed in float32 at least."""
    wide = x.to(torch.promote_types(torch.float32, x.dtype))
    var, mean = torch.var_mean(wide, axes, correction=0, keepdim=True)
    inverse = torch.rsqrt(var + eps)
    return ((wide - mean) * inverse).to(x.dtype), mean, inverse
