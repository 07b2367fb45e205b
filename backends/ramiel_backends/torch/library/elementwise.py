"""Activations that one torch call cannot say."""

import torch
import torch.nn.functional as F


def prelu(x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """`x`, times `slope` where it is negative."""
    return torch.where(x < 0, x * slope, x)


def shrink(x: torch.Tensor, lambd: float, bias: float) -> torch.Tensor:
    """`x` pulled towards zero by `bias`, and zero itself within `lambd` of zero."""
    wide = x if x.is_floating_point() else x.to(torch.float64)
    above = torch.where(wide > lambd, wide - bias, 0)
    return torch.where(wide < -lambd, wide + bias, above).to(x.dtype)


def hardmax(x: torch.Tensor, axis: int) -> torch.Tensor:
    """1 at the first maximum along an axis, 0 elsewhere."""
    if not x.numel():
        return x
    place = torch.argmax(x, axis)
    return torch.movedim(F.one_hot(place, x.shape[axis]), -1, axis).to(x.dtype)
