"""Products of matrices of types that torch does not multiply."""

from typing import Any

import numpy as np
import torch

from . import common


def matmul(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The matrix product of unsigned integers."""
    return common.compute(np.matmul, x, y)


def einsum(equation: str, *operands: torch.Tensor) -> torch.Tensor:
    """A sum of products of unsigned integers in Einstein's notation."""
    return common.compute(lambda *arrays: np.einsum(equation, *arrays), *operands)


def det(x: torch.Tensor) -> torch.Tensor:
    """The determinants of matrices of half precision."""
    return torch.linalg.det(x.to(torch.float32)).to(x.dtype)


def gemm(
    a: torch.Tensor,
    b: torch.Tensor,
    c: Any = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    trans_a: bool = False,
    trans_b: bool = False,
) -> torch.Tensor:
    """alpha * a @ b + beta * c of integers, modulo their range."""
    dtype = a.dtype
    a, b = (a.t() if trans_a else a).to(torch.int64), (b.t() if trans_b else b).to(torch.int64)
    result = _times(alpha, torch.mm(a, b))
    if c is not None:
        result = result + _times(beta, c.to(torch.int64))
    return result.to(dtype)


def _times(factor: float, x: torch.Tensor) -> torch.Tensor:
    return x * int(factor) if factor == int(factor) else (x * factor).to(torch.int64)
