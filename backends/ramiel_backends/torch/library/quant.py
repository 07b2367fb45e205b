"""Quantization: numbers as small integers or floats with a scale and a zero point."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

Value = Any
"""A tensor, or a numpy array of a type torch lacks."""

# beyond these, rounding to float8 gives no finite number
_LARGEST = {
    torch.float8_e4m3fn: 448.0,
    torch.float8_e4m3fnuz: 240.0,
    torch.float8_e5m2: 57344.0,
    torch.float8_e5m2fnuz: 57344.0,
}
_NARROW_RANGES = {"uint4": (0, 15), "int4": (-8, 7), "uint2": (0, 3), "int2": (-2, 1)}


def quantize_linear(
    x: torch.Tensor,
    scale: torch.Tensor,
    zero_point: Value = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    dtype: torch.dtype | str | None = None,
    precision: torch.dtype | None = None,
    saturate: bool = True,
) -> Value:
    """`x / scale + zero_point` in the type of the zero point; a `str` names a type torch lacks."""
    kind = precision or scale.dtype
    quotient = x.to(kind) / _spread(scale.to(kind), x.shape, axis, block_size)
    wide = quotient.to(torch.promote_types(torch.float32, kind))
    target = dtype or (torch.uint8 if zero_point is None else _type(zero_point))
    if target in _LARGEST:
        return _to_float8(wide, target, saturate)
    shift = 0 if zero_point is None else _spread(_wide(zero_point), x.shape, axis, block_size)
    if isinstance(target, str) and target.startswith("float"):
        return _narrow((wide + shift).numpy(), target)
    return _to_integer(torch.round(wide) + shift, target)


def dequantize_linear(
    x: Value,
    scale: torch.Tensor,
    zero_point: Value = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """`(x - zero_point) * scale` in the type of the scale, or in `dtype`."""
    y = _wide(x)
    if zero_point is not None:
        y = y - _spread(_wide(zero_point), y.shape, axis, block_size)
    kind = torch.promote_types(torch.float32, scale.dtype)
    y = y.to(kind) * _spread(scale.to(kind), y.shape, axis, block_size)
    return y.to(dtype or scale.dtype)


def dynamic_quantize_linear(
    x: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`x` in 8 bits with the scale and the zero point that cover its range and zero."""
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = torch.where(high == low, 1.0, high - low) / 255
    zero_point = torch.round((-low / scale).clamp(0, 255))
    y = (torch.round(x / scale) + zero_point).clamp(0, 255)
    return y.to(torch.uint8), scale.to(x.dtype), zero_point.to(torch.uint8)


def centred(
    x: torch.Tensor,
    zero_point: torch.Tensor | None = None,
    *,
    axis: int | None = None,
    dtype: torch.dtype = torch.float64,
) -> torch.Tensor:
    """`x - zero_point` in a floating type that holds sums of products of it exactly."""
    y = x.to(dtype)
    if zero_point is None:
        return y
    shift = zero_point.to(dtype)
    if axis is not None and shift.ndim == 1 and shift.numel() > 1:
        shift = shift.reshape(-1, *(1,) * (x.ndim - 1 - axis % x.ndim))
    return y - (shift.reshape(()) if shift.numel() == 1 else shift)


def requantize(
    total: torch.Tensor,
    x_scale: torch.Tensor,
    w_scale: torch.Tensor,
    y_scale: torch.Tensor,
    y_zero_point: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """The sums of a quantized convolution in the scale of its result; `w_scale` per channel."""
    channel = (-1, *(1,) * (total.ndim - 2))
    if bias is not None:
        total = total + bias.reshape(channel)
    scale = (x_scale * w_scale / y_scale).reshape(channel)
    rounded = torch.round(total.to(torch.float32) * scale)
    return _to_integer(rounded + _wide(y_zero_point), y_zero_point.dtype)


def qlinear_matmul(
    a: torch.Tensor,
    a_scale: torch.Tensor,
    a_zero_point: torch.Tensor,
    b: torch.Tensor,
    b_scale: torch.Tensor,
    b_zero_point: torch.Tensor,
    y_scale: torch.Tensor,
    y_zero_point: torch.Tensor,
) -> torch.Tensor:
    """A matrix product of quantized matrices: `a` per row, `b` per column."""
    total = torch.matmul(centred(a, a_zero_point, axis=-2), centred(b, b_zero_point))
    scale = _per_row(a_scale) * b_scale.to(torch.float32) / _per_row(y_scale)
    rounded = torch.round(total.to(torch.float32) * scale)
    return _to_integer(rounded + _per_row(y_zero_point), y_zero_point.dtype).reshape(total.shape)


def _per_row(value: torch.Tensor) -> torch.Tensor:
    """One number per row of a matrix, as a column."""
    wide = _wide(value)
    return wide[:, None] if wide.ndim == 1 and wide.numel() > 1 else wide


def _type(value: Value) -> torch.dtype | str:
    return value.dtype if isinstance(value, torch.Tensor) else str(value.dtype.name)


def _wide(value: Value) -> torch.Tensor:
    """The numbers as float32."""
    if isinstance(value, torch.Tensor):
        return value.to(torch.float32)
    return torch.from_numpy(np.asarray(value.astype(np.float32)))


def _spread(value: torch.Tensor, shape: torch.Size, axis: int, block_size: int) -> torch.Tensor:
    """A scale or zero point (one, or per element of an axis, or per block) made to broadcast."""
    if value.numel() == 1:
        return value.reshape(())
    if block_size:
        return value.repeat_interleave(block_size, axis).narrow(axis, 0, shape[axis])
    return value.reshape(-1, *(1,) * (len(shape) - 1 - axis % len(shape)))


def _to_integer(y: torch.Tensor, target: torch.dtype | str) -> Value:
    """Whole numbers clamped into an integer type."""
    if isinstance(target, str):
        return _narrow(y.clamp(*_NARROW_RANGES[target]).numpy(), target)
    limits = torch.iinfo(target)
    return y.clamp(limits.min, limits.max).to(torch.int32).to(target)


def _to_float8(y: torch.Tensor, target: torch.dtype, saturate: bool) -> torch.Tensor:
    if saturate:
        return y.clamp(-_LARGEST[target], _LARGEST[target]).to(target)
    if target == torch.float8_e4m3fn:  # torch saturates this one by itself
        y = torch.where(y.abs() > 464, torch.nan, y)
    return y.to(target)


def _narrow(y: Any, target: str) -> Any:
    """A numpy array of a type of less than 8 bits."""
    import ml_dtypes

    kinds = (
        *(ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2, ml_dtypes.uint2),
        *(ml_dtypes.float4_e2m1fn, ml_dtypes.float6_e2m3fn, ml_dtypes.float6_e3m2fn),
    )
    kind = next(kind for kind in kinds if np.dtype(kind).name == target)
    whole = y.astype(np.int8) if target in _NARROW_RANGES else y
    return whole.astype(kind)
