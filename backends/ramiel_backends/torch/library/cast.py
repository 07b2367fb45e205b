"""Conversions to and from types that torch lacks, or rounds in another way than ONNX."""

from typing import Any

import numpy as np
import torch

_LARGEST = {
    torch.float8_e4m3fn: 448.0,
    torch.float8_e4m3fnuz: 240.0,
    torch.float8_e5m2: 57344.0,
    torch.float8_e5m2fnuz: 57344.0,
}

_WORDS = {"nan": "NaN", "inf": "INF", "-inf": "-INF"}
"""How ONNX writes what numpy writes in another way."""


def to_float8(x: Any, dtype: torch.dtype, saturate: bool = True) -> torch.Tensor:
    """Numbers as floats of 8 bits; what is too large becomes the largest, or nan or inf."""
    wide = from_array(x, torch.float32)
    largest = _LARGEST[dtype]
    result = torch.clamp(wide, -largest, largest).to(dtype)
    if saturate:
        return result
    rounds_to = largest + (16.0 if dtype is torch.float8_e4m3fn else largest / 14)
    if dtype is torch.float8_e4m3fnuz:
        rounds_to = largest + 8.0
    limit = torch.abs(wide)
    beyond = limit > rounds_to if dtype is torch.float8_e4m3fn else limit >= rounds_to
    infinite = torch.copysign(torch.full_like(wide, torch.inf), wide)
    overflow = infinite if dtype is torch.float8_e5m2 else torch.full_like(wide, torch.nan)
    bits = torch.where(beyond, overflow.to(dtype).view(torch.int8), result.view(torch.int8))
    return bits.view(dtype)


def to_exponents(x: Any, saturate: bool = True, round_mode: str = "up") -> torch.Tensor:
    """Positive numbers as powers of two, rounded `up`, `down`, or to the `nearest`."""
    bits = from_array(x, torch.float32).contiguous().view(torch.int32)
    exponent = (bits >> 23) & 0xFF
    fraction = bits & 0x7FFFFF
    finite = exponent != 0xFF
    if round_mode == "up":
        upwards = fraction > 0
    elif round_mode == "nearest":
        upwards = (fraction > 0x400000) | ((fraction == 0x400000) & (exponent > 0))
    else:
        upwards = torch.zeros_like(finite)
    if saturate:
        upwards = upwards & (exponent < 0xFE)
    rounded = exponent + (upwards & finite).to(torch.int32)
    return rounded.to(torch.uint8).view(torch.float8_e8m0fnu)


def to_array(x: Any, name: str) -> Any:
    """Numbers in a type of less than 8 bits; integers keep their low bits, floats saturate."""
    import ml_dtypes

    dtype = np.dtype(getattr(ml_dtypes, name))
    array = _widened(x)
    if "int" in name:
        with np.errstate(invalid="ignore"):
            array = np.trunc(array).astype(np.int64).astype(np.int8)
    return array.astype(dtype)


def from_array(x: Any, dtype: torch.dtype) -> torch.Tensor:
    """Numbers of any type in one that torch has."""
    return x.to(dtype) if isinstance(x, torch.Tensor) else torch.from_numpy(_widened(x)).to(dtype)


def to_strings(x: Any) -> Any:
    """Numbers written out: the shortest decimal that restores them, or NaN, INF, -INF."""
    if isinstance(x, np.ndarray) and x.dtype == object:
        return x
    if isinstance(x, torch.Tensor) and x.dtype in (torch.float16, torch.float32, torch.float64):
        array = x.numpy()
    else:
        array = _widened(x)
    result = np.empty(array.shape, dtype=object)
    result[...] = array.astype(np.str_)
    for word, spelling in _WORDS.items():
        result[result == word] = spelling
    return result


def from_strings(x: Any, dtype: Any) -> Any:
    """Strings read as numbers."""
    if isinstance(dtype, torch.dtype) and not dtype.is_floating_point and not dtype.is_complex:
        values = [int(text) if _is_integer(text) else int(float(text)) for text in x.reshape(-1)]
        exact = torch.from_numpy(
            np.array(values, dtype=np.uint64 if _any_large(values) else np.int64)
        )
        return exact.reshape(x.shape).to(dtype)
    floats = torch.tensor([float(text) for text in x.reshape(-1)], dtype=torch.float64)
    if isinstance(dtype, str):
        return to_array(floats.reshape(x.shape), dtype)
    if dtype in _LARGEST:
        return to_float8(floats.reshape(x.shape), dtype)
    return floats.reshape(x.shape).to(dtype)


def reinterpret(x: Any, dtype: Any) -> Any:
    """The same bits as another type of the same width, where torch lacks one of them."""
    import ml_dtypes

    array = x.contiguous().view(torch.uint8).numpy() if isinstance(x, torch.Tensor) else x
    if isinstance(dtype, str):
        return array.view(np.dtype(getattr(ml_dtypes, dtype)))
    return torch.from_numpy(np.array(array.view(np.uint8))).view(dtype)


def _widened(x: Any) -> Any:
    """A numpy array of a type that numpy itself has, with the same values."""
    if isinstance(x, torch.Tensor):
        if x.is_floating_point() and x.dtype is not torch.float64:
            return x.to(torch.float32).numpy()
        return x.numpy()
    return x.astype(np.float32 if "float" in x.dtype.name else np.int32)


def _is_integer(text: str) -> bool:
    return text.strip().lstrip("+-").isdecimal()


def _any_large(values: list[int]) -> bool:
    return any(value >= 2**63 for value in values)
