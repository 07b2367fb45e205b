"""Attention with its caches and masks, and the layers that go with it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None = None,
    past_key: torch.Tensor | None = None,
    past_value: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
    *,
    q_heads: int | None = None,
    kv_heads: int | None = None,
    scale: float | None = None,
    causal: bool = False,
    window: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    precision: torch.dtype | None = None,
    scores: int | None = None,
) -> tuple[torch.Tensor, ...]:
    """Scaled dot-product attention: the result, both caches, and the scores of stage `scores`.

    Operands are (batch, heads, length, size), or (batch, length, heads * size) with `q_heads`.
    """
    packed = q.ndim == 3
    if packed:
        q, k, v = split_heads(q, q_heads), split_heads(k, kv_heads), split_heads(v, kv_heads)
    offset: int | torch.Tensor = 0
    if past_key is not None and past_value is not None:
        offset = past_key.shape[2]
        k, v = torch.cat((past_key, k), 2), torch.cat((past_value, v), 2)
    elif lengths is not None:
        offset = lengths.reshape(-1, 1, 1, 1) - q.shape[2]
    allowed = _allowed(q.shape[2], k.shape[2], offset, causal, window)
    if lengths is not None:
        inside = torch.arange(k.shape[2]) < lengths.reshape(-1, 1, 1, 1)
        allowed = inside if allowed is None else allowed & inside
    bias = _bias(mask, allowed, k.shape[2])
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    if softcap or precision is not None or scores is not None:
        y, shown = _step_by_step(q, k, v, bias, factor, softcap, precision, scores or 0)
    else:
        grouped = q.shape[1] != k.shape[1]
        shown = q
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=_additive(bias, q.dtype), scale=factor, enable_gqa=grouped
        )
    return (merge_heads(y) if packed else y), k, v, shown


def split_heads(x: torch.Tensor, heads: int | None) -> torch.Tensor:
    """(batch, length, heads * size) as (batch, heads, length, size)."""
    assert heads is not None
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: torch.Tensor) -> torch.Tensor:
    """(batch, heads, length, size) as (batch, length, heads * size)."""
    return x.transpose(1, 2).flatten(2)


def _allowed(
    queries: int, keys: int, offset: int | torch.Tensor, causal: bool, window: tuple[int, int]
) -> torch.Tensor | None:
    """Which key each query may see by position; None for all."""
    before, after = window[0], 0 if causal else window[1]
    if before < 0 and after < 0:
        return None
    ahead = torch.arange(keys) - torch.arange(queries)[:, None] - offset
    allowed = torch.ones_like(ahead, dtype=torch.bool)
    if before >= 0:
        allowed = allowed & (ahead >= -before)
    if after >= 0:
        allowed = allowed & (ahead <= after)
    return allowed


def _bias(
    mask: torch.Tensor | None, allowed: torch.Tensor | None, keys: int
) -> torch.Tensor | None:
    """What both masks say: a bool tensor, or numbers to add; a short mask hides the keys beyond."""
    if mask is None:
        return allowed
    missing = keys - mask.shape[-1]
    if mask.dtype == torch.bool:
        mask = F.pad(mask, (0, missing), value=False) if missing else mask
        return mask if allowed is None else mask & allowed
    mask = F.pad(mask, (0, missing), value=-math.inf) if missing else mask
    return mask if allowed is None else torch.where(allowed, mask, -math.inf)


def _additive(bias: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """The mask as torch takes it: bool or of the type of the query, of rank 2 at least."""
    if bias is None:
        return None
    bias = bias if bias.dtype == torch.bool else bias.to(dtype)
    return bias[None] if bias.ndim == 1 else bias


def _step_by_step(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
    softcap: float,
    precision: torch.dtype | None,
    stage: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention that shows its scores: raw, capped, with the bias, or after the softmax."""
    repeats = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
    root = math.sqrt(scale)
    raw = torch.matmul(q * root, (k * root).transpose(-1, -2))
    capped = torch.tanh(raw / softcap) * softcap if softcap else raw
    if bias is None:
        biased = capped
    elif bias.dtype == torch.bool:
        biased = torch.where(bias, capped, -math.inf)
    else:
        biased = capped + bias
    shares = torch.softmax(biased if precision is None else biased.to(precision), -1)
    hidden = (biased == -math.inf).all(-1, keepdim=True)
    shares = torch.where(hidden, 0, shares).to(q.dtype)
    return torch.matmul(shares, v), (raw, capped, biased, shares)[stage]


def rotary_embedding(
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    positions: torch.Tensor | None = None,
    *,
    heads: int | None = None,
    dim: int = 0,
    interleaved: bool = False,
) -> torch.Tensor:
    """Rotate pairs of the first `dim` features of each head by angles that grow with position."""
    packed = x.ndim == 3
    if packed:
        # without a number of heads, each head is as wide as the angles say
        split = x.unflatten(-1, (heads, -1) if heads else (-1, dim or 2 * cos.shape[-1]))
    else:
        split = x.transpose(1, 2)
    if positions is not None:
        if positions.numel() == 1:  # the first position
            positions = positions.reshape(1, 1) + torch.arange(split.shape[1])
        cos, sin = cos[positions], sin[positions]
    cos, sin = cos[:, :, None], sin[:, :, None]
    rotated, rest = split[..., : dim or None], split[..., dim or split.shape[-1] :]
    if interleaved:
        first, second = rotated[..., 0::2], rotated[..., 1::2]
    else:
        first, second = rotated.chunk(2, -1)
    parts = (cos * first - sin * second, sin * first + cos * second)
    turned = torch.stack(parts, -1).flatten(-2) if interleaved else torch.cat(parts, -1)
    y = torch.cat((turned, rest), -1)
    return y.flatten(2) if packed else y.transpose(1, 2)


def linear_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    state: torch.Tensor | None = None,
    decay: torch.Tensor | None = None,
    beta: torch.Tensor | None = None,
    *,
    q_heads: int,
    kv_heads: int,
    scale: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention through a state of fixed size, token by token; the result and the last state."""
    dtype, kind = q.dtype, torch.float32
    q, k, v = (
        split_heads(part.to(kind), heads)
        for part, heads in ((q, q_heads), (k, kv_heads), (v, kv_heads))
    )
    gates = None if decay is None else torch.exp(split_heads(decay.to(kind), kv_heads))
    rates = None if beta is None else beta.to(kind).transpose(1, 2)[..., None]
    last = dtype if state is None else state.dtype
    zeros = k.new_zeros(k.shape[0], kv_heads, k.shape[-1], v.shape[-1])
    current = zeros if state is None else state.to(kind)
    factor = scale or 1 / math.sqrt(q.shape[-1])
    found = []
    for time in range(q.shape[2]):
        key, value = k[:, :, time, :, None], v[:, :, time, None, :]
        if gates is not None:
            current = current * gates[:, :, time, :, None]
        if rates is not None:
            seen = (current * key).sum(2, keepdim=True)
            value = rates[:, :, time, :, None] * (value - seen)
        current = current + key * value
        shared = current.repeat_interleave(q_heads // kv_heads, 1)
        found.append(torch.matmul(q[:, :, time, None], shared) * factor)
    empty = q.new_zeros(q.shape[0], q_heads, 0, v.shape[-1])
    y = torch.cat((empty, *found), 2)
    return merge_heads(y).to(dtype), current.to(last)


def causal_conv(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    state: torch.Tensor | None = None,
    *,
    silu: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A depthwise convolution over the past; the result and what the next step needs of it."""
    reach = weight.shape[-1] - 1
    whole = F.pad(x, (reach, 0)) if state is None else torch.cat((state.to(x.dtype), x), 2)
    y = F.conv1d(whole, weight, bias, groups=x.shape[1])
    return (F.silu(y) if silu else y), whole[..., whole.shape[-1] - reach :]
