"""Values of every element type: torch tensors, and numpy arrays where torch has no such type."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, Any]
Value = torch.Tensor | Array

_SAME_BITS = {
    torch.uint16: torch.int16,
    torch.uint32: torch.int32,
    torch.uint64: torch.int64,
    torch.float8_e4m3fn: torch.int8,
    torch.float8_e4m3fnuz: torch.int8,
    torch.float8_e5m2: torch.int8,
    torch.float8_e5m2fnuz: torch.int8,
    torch.float8_e8m0fnu: torch.int8,
}


def compute(function: Callable[..., Any], *values: Any) -> torch.Tensor:
    """What a numpy function computes, for the integers that torch has no kernels for."""
    arrays = [value.numpy() if isinstance(value, torch.Tensor) else value for value in values]
    with np.errstate(all="ignore"):
        return torch.from_numpy(np.array(function(*arrays)))


def has_kernels(value: Value) -> bool:
    """Whether torch computes with elements of this type."""
    return isinstance(value, torch.Tensor) and value.dtype not in _SAME_BITS


def movable(*values: Any) -> tuple[list[torch.Tensor], Callable[[torch.Tensor], Any]]:
    """Tensors whose elements torch can move in place of those of `values`, and the way back.

    Types without kernels travel as integers of the same bits, strings as numbers of a common list.
    """
    first = values[0]
    if isinstance(first, torch.Tensor):
        dtype, bits = first.dtype, _SAME_BITS.get(first.dtype)
        if bits is None:
            return list(values), _unchanged
        return [value.view(bits) for value in values], lambda moved: moved.view(dtype)
    if first.dtype != object:
        kind = first.dtype
        tensors = [torch.from_numpy(np.array(value, order="C").view(np.int8)) for value in values]
        return tensors, lambda moved: moved.contiguous().numpy().view(kind)
    pool = np.concatenate([value.reshape(-1) for value in values])
    codes, first_code = [], 0
    for value in values:
        code = torch.arange(first_code, first_code + value.size).reshape(value.shape)
        codes.append(code)
        first_code += value.size
    return codes, lambda moved: _picked(pool, moved)


def _picked(pool: Array, codes: torch.Tensor) -> Array:
    picked = np.empty(tuple(codes.shape), dtype=object)
    picked[...] = pool[codes.numpy()]
    return picked


def _unchanged(moved: torch.Tensor) -> torch.Tensor:
    return moved


def numbers(value: Any) -> list[Any]:
    """The elements of a tensor, or of a plain sequence, as a flat list."""
    return value.reshape(-1).tolist() if isinstance(value, torch.Tensor) else list(value)


def number(value: Any) -> Any:
    """The one element of a tensor, or a plain number itself."""
    return value.item() if isinstance(value, torch.Tensor) else value
