"""Fourier transforms and spectrograms; complex numbers are pairs in the last axis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch


def dft(
    x: torch.Tensor,
    length: Any = None,
    *,
    axis: int = -2,
    inverse: bool = False,
    onesided: bool = False,
) -> torch.Tensor:
    """The discrete Fourier transform along one axis of real or complex numbers."""
    place = axis % x.ndim
    signal = _complex(x)
    size = None if length is None else int(length)
    if inverse and onesided:
        y = torch.fft.irfft(signal, size, place)[..., None]
    else:
        function = torch.fft.ifft if inverse else torch.fft.fft
        y = torch.view_as_real(function(signal, size, place))
        if onesided:
            y = y.narrow(place, 0, y.shape[place] // 2 + 1)
    return y.to(x.dtype)


def stft(
    x: torch.Tensor,
    step: Any,
    window: torch.Tensor | None = None,
    length: Any = None,
    *,
    onesided: bool = True,
) -> torch.Tensor:
    """The transforms of the frames of `length` elements that begin every `step` elements."""
    size = x.shape[1] if window is None else window.shape[0]
    frames = _complex(x).unfold(1, size if length is None else int(length), int(step))
    if window is not None:
        frames = frames * window.to(frames.real.dtype)
    if onesided and not frames.is_complex():
        return torch.view_as_real(torch.fft.rfft(frames)).to(x.dtype)
    y = torch.view_as_real(torch.fft.fft(frames)).to(x.dtype)
    return y[..., : y.shape[2] // 2 + 1, :] if onesided else y


def _complex(x: torch.Tensor) -> torch.Tensor:
    """The numbers themselves: real ones stay real, float32 at least."""
    wide = x.to(torch.promote_types(torch.float32, x.dtype))
    return wide[..., 0] if x.shape[-1] == 1 else torch.view_as_complex(wide.contiguous())


def mel_weight_matrix(
    bins: Any, length: Any, rate: Any, low: Any, high: Any, *, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Triangles over the frequencies of a transform, evenly spaced on the mel scale."""
    count, size = int(bins), int(length)
    low_mel, high_mel = (2595 * math.log10(1 + float(edge) / 700) for edge in (low, high))
    mels = low_mel + np.arange(count + 2) * ((high_mel - low_mel) / (count + 2))
    hertz = 700 * (10 ** (mels / 2595) - 1)
    edges = np.floor((size + 1) * hertz / int(rate)).astype(np.int64)
    y = np.zeros((size // 2 + 1, count))
    for index in range(count):
        left, peak, right = edges[index : index + 3]
        rising = np.arange(left, peak + 1)
        y[rising, index] = (rising - left) / (peak - left) if peak > left else 1.0
        falling = np.arange(peak, right)
        if right > peak:
            y[falling, index] = (right - falling) / (right - peak)
    return torch.from_numpy(y).to(dtype)
