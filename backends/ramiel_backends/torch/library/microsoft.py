"""Ops that ONNX Runtime adds to ONNX, as its optimizer and its exporters leave them in models."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from . import quant
from .attention import merge_heads, rotary_embedding, split_heads


def skip_layer_norm(
    x: torch.Tensor,
    skip: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    *,
    eps: float = 1e-12,
) -> tuple[torch.Tensor, ...]:
    """Layer normalization of a sum: the result, the mean, the inverse deviation, the sum."""
    total = x + skip if bias is None else x + skip + bias
    wide = total.to(torch.float32)
    var, mean = torch.var_mean(wide, -1, correction=0, keepdim=True)
    inverse = torch.rsqrt(var + eps)
    y = F.layer_norm(total, gamma.shape, gamma, beta, eps)
    return y, mean, inverse, total


def skip_rms_norm(
    x: torch.Tensor,
    skip: torch.Tensor,
    gamma: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    eps: float = 1e-12,
) -> tuple[torch.Tensor, ...]:
    """Normalization of a sum by its root mean square: the result, nothing, the inverse, the sum."""
    total = x + skip if bias is None else x + skip + bias
    y, inverse = rms_norm(total, gamma, eps=eps)
    return y, torch.zeros_like(inverse), inverse, total


def rms_norm(
    x: torch.Tensor, scale: torch.Tensor, *, axis: int = -1, eps: float = 1e-5
) -> tuple[torch.Tensor, torch.Tensor]:
    """Division by the root mean square over the axes from `axis` on, and the inverse of that."""
    wide = x.to(torch.promote_types(torch.float32, x.dtype))
    squares = (wide * wide).mean(tuple(range(axis % x.ndim, x.ndim)), keepdim=True)
    inverse = torch.rsqrt(squares + eps)
    return (wide * inverse).to(x.dtype) * scale, inverse


def embed_layer_norm(
    ids: torch.Tensor,
    segment_ids: torch.Tensor | None,
    words: torch.Tensor,
    places: torch.Tensor,
    segments: torch.Tensor | None,
    gamma: torch.Tensor,
    beta: torch.Tensor,
    mask: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    *,
    eps: float = 1e-12,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The normalized sum of embeddings, how many words each text has, and the sum."""
    total = F.embedding(ids, words)
    total = total + (places[: ids.shape[1]] if position_ids is None else places[position_ids])
    if segments is not None and segment_ids is not None:
        total = total + F.embedding(segment_ids, segments)
    if mask is None:
        counts = torch.zeros(ids.shape[0], dtype=torch.int32)
    else:
        counts = mask.sum(1).to(torch.int32)
    return F.layer_norm(total, gamma.shape, gamma, beta, eps), counts, total


def attention(
    x: torch.Tensor,
    weights: torch.Tensor,
    bias: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    past: torch.Tensor | None = None,
    attention_bias: torch.Tensor | None = None,
    *,
    heads: int,
    sizes: Sequence[int] | None = None,
    causal: bool = False,
    scale: float | None = None,
    filter_value: float = -10000.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Self-attention with its projections; the result and the keys and values so far."""
    projected = torch.matmul(x, weights)
    if bias is not None:
        projected = projected + bias
    return _self_attention(
        projected, mask, past, attention_bias, heads, sizes, causal, scale, filter_value
    )


def quantized_attention(
    x: torch.Tensor,
    weights: torch.Tensor,
    bias: torch.Tensor,
    x_scale: torch.Tensor,
    weight_scale: torch.Tensor,
    mask: torch.Tensor | None = None,
    x_zero_point: torch.Tensor | None = None,
    weight_zero_point: torch.Tensor | None = None,
    past: torch.Tensor | None = None,
    *,
    heads: int,
    causal: bool = False,
    scale: float | None = None,
    filter_value: float = -10000.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Self-attention whose projections are quantized."""
    total = torch.matmul(quant.centred(x, x_zero_point), quant.centred(weights, weight_zero_point))
    projected = total.to(bias.dtype) * (x_scale * weight_scale) + bias
    return _self_attention(projected, mask, past, None, heads, None, causal, scale, filter_value)


def _self_attention(
    projected: torch.Tensor,
    mask: torch.Tensor | None,
    past: torch.Tensor | None,
    attention_bias: torch.Tensor | None,
    heads: int,
    sizes: Sequence[int] | None,
    causal: bool,
    scale: float | None,
    filter_value: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    parts = projected.split(list(sizes) if sizes else projected.shape[-1] // 3, -1)
    q, k, v = (split_heads(part, heads) for part in parts)
    if past is not None:
        k, v = torch.cat((past[0], k), 2), torch.cat((past[1], v), 2)
    y = _attend(q, k, v, mask, attention_bias, causal, scale, filter_value)
    present = torch.stack((k, v)) if k.shape == v.shape else projected
    return merge_heads(y), present


def multi_head_attention(
    query: torch.Tensor,
    key: torch.Tensor | None = None,
    value: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    attention_bias: torch.Tensor | None = None,
    past_key: torch.Tensor | None = None,
    past_value: torch.Tensor | None = None,
    *,
    heads: int,
    causal: bool = False,
    scale: float | None = None,
    filter_value: float = -10000.0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Attention after the projections; the result, the keys and the values so far."""
    if key is None:  # (batch, length, heads, 3, size)
        query, key, value = (part.flatten(2) for part in query.unbind(3))
    elif value is None:  # (batch, length, heads, 2, size)
        key, value = (part.flatten(2) for part in key.unbind(3))
    if bias is not None:
        q_size, k_size = query.shape[-1], query.shape[-1]
        q_bias, k_bias, v_bias = bias.split([q_size, k_size, bias.shape[0] - q_size - k_size])
        query = query + q_bias
        if key.ndim == 3:
            key, value = key + k_bias, value + v_bias
    q = split_heads(query, heads)
    k = split_heads(key, heads) if key.ndim == 3 else key
    v = split_heads(value, heads) if value.ndim == 3 else value
    if past_key is not None and past_value is not None:
        k, v = torch.cat((past_key, k), 2), torch.cat((past_value, v), 2)
    y = _attend(q, k, v, mask, attention_bias, causal, scale, filter_value)
    return merge_heads(y), k, v


def _attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    attention_bias: torch.Tensor | None,
    causal: bool,
    scale: float | None,
    filter_value: float,
) -> torch.Tensor:
    """Attention under a mask of one of the forms ONNX Runtime knows: hidden keys lose by a lot."""
    batch, keys = q.shape[0], k.shape[2]
    bias = attention_bias
    if mask is not None:
        order = torch.arange(keys)
        if mask.ndim == 1 and mask.numel() == 2 * batch:  # where texts end, then where they begin
            ends, starts = mask.reshape(2, batch, 1)
            seen = (order < ends) & (order >= starts)
        elif mask.ndim == 1:  # how long texts are
            seen = order < mask[:batch, None]
        else:
            seen = mask != 0
        seen = seen[:, None] if seen.ndim == 3 else seen.reshape(batch, 1, -1, keys)
        hidden = torch.where(seen, 0.0, filter_value).to(q.dtype)
        bias = hidden if bias is None else bias + hidden
    if causal:
        ahead = torch.arange(keys) - torch.arange(q.shape[2])[:, None] > keys - q.shape[2]
        future = torch.where(ahead, torch.finfo(q.dtype).min, 0.0).to(q.dtype)
        bias = future if bias is None else torch.where(ahead, future, bias)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)


def group_query_attention(
    query: torch.Tensor,
    key: torch.Tensor | None,
    value: torch.Tensor | None,
    past_key: torch.Tensor | None,
    past_value: torch.Tensor | None,
    last: torch.Tensor,
    total: torch.Tensor,
    cos: torch.Tensor | None = None,
    sin: torch.Tensor | None = None,
    positions: torch.Tensor | None = None,
    attention_bias: torch.Tensor | None = None,
    *,
    heads: int,
    kv_heads: int,
    scale: float | None = None,
    rotary: bool = False,
    interleaved: bool = False,
    window: int = -1,
    softcap: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Groups of heads over shared keys, with a cache; `last` is each text's length less one."""
    if key is None or value is None:
        size = query.shape[-1] // (heads + 2 * kv_heads)
        query, key, value = query.split([heads * size, kv_heads * size, kv_heads * size], -1)
    batch, length = query.shape[:2]
    prompt = length == int(total)
    before = torch.zeros_like(last.reshape(-1)) if prompt else last.reshape(-1) + 1 - length
    if rotary and cos is not None and sin is not None:
        places = before.to(torch.int64)[:, None] + torch.arange(length)
        places = places if positions is None else positions
        query = rotary_embedding(query, cos, sin, places, heads=heads, interleaved=interleaved)
        key = rotary_embedding(key, cos, sin, places, heads=kv_heads, interleaved=interleaved)
    q, k, v = split_heads(query, heads), split_heads(key, kv_heads), split_heads(value, kv_heads)
    capacity = max(int(total), 0 if past_key is None else past_key.shape[2])
    present = [k.new_zeros(batch, kv_heads, capacity, k.shape[-1]) for _ in range(2)]
    found = []
    for text, had in enumerate(before.tolist()):
        for cache, past, new in ((present[0], past_key, k), (present[1], past_value, v)):
            if past is not None:
                cache[text, :, :had] = past[text, :, :had]
            cache[text, :, had : had + length] = new[text]
        keys, values = (cache[text, :, : had + length] for cache in present)
        keys, values = (part.repeat_interleave(heads // kv_heads, 0) for part in (keys, values))
        scores = torch.matmul(q[text], keys.transpose(-1, -2))
        scores = scores * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
        if softcap:
            scores = torch.tanh(scores / softcap) * softcap
        if attention_bias is not None:
            scores = scores + attention_bias[text % len(attention_bias), :, :, : had + length]
        ahead = torch.arange(had + length) - torch.arange(had, had + length)[:, None]
        hidden = (ahead > 0) | (ahead <= -window) if window > 0 else ahead > 0
        shares = torch.softmax(scores.masked_fill(hidden, -math.inf), -1)
        found.append(torch.matmul(shares, values))
    return merge_heads(torch.stack(found)), present[0], present[1]


def dynamic_quantize_matmul(
    a: torch.Tensor,
    b: torch.Tensor,
    b_scale: torch.Tensor,
    b_zero_point: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """A product with a quantized matrix; the other is quantized on the way."""
    small, scale, zero_point = quant.dynamic_quantize_linear(a)
    return matmul_integer_to_float(small, b, scale, b_scale, zero_point, b_zero_point, bias)


def matmul_integer_to_float(
    a: torch.Tensor,
    b: torch.Tensor,
    a_scale: torch.Tensor,
    b_scale: torch.Tensor,
    a_zero_point: torch.Tensor | None = None,
    b_zero_point: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """A product of quantized matrices as floating-point numbers."""
    total = torch.matmul(quant.centred(a, a_zero_point), quant.centred(b, b_zero_point))
    y = total.to(a_scale.dtype) * (a_scale * b_scale)
    return y if bias is None else y + bias


def quantized_gemm(
    a: torch.Tensor,
    a_scale: torch.Tensor,
    a_zero_point: torch.Tensor,
    b: torch.Tensor,
    b_scale: torch.Tensor,
    b_zero_point: torch.Tensor,
    c: torch.Tensor | None = None,
    y_scale: torch.Tensor | None = None,
    y_zero_point: torch.Tensor | None = None,
    *,
    alpha: float = 1.0,
    transpose_a: bool = False,
    transpose_b: bool = False,
) -> torch.Tensor:
    """A product of quantized matrices and a sum, quantized where a scale for it is given."""
    left = quant.centred(a, a_zero_point)
    right = quant.centred(b, b_zero_point, axis=0 if transpose_b else None)
    total = torch.matmul(left.t() if transpose_a else left, right.t() if transpose_b else right)
    if c is not None:
        total = total + c
    y = total.to(torch.float32) * (a_scale * b_scale * alpha)
    return y if y_scale is None else quant.quantize_linear(y, y_scale, y_zero_point)


def blockwise_weight(
    b: torch.Tensor,
    scales: torch.Tensor,
    zero_points: torch.Tensor | None = None,
    groups: torch.Tensor | None = None,
    *,
    columns: int,
    bits: int,
) -> torch.Tensor:
    """The matrix (rows, columns) that `b` packs in blocks of a scale and a zero point each."""
    rows, blocks = b.shape[:2]
    packed = _unpacked(b, bits)
    scale = scales.reshape(rows, blocks)
    if zero_points is None:
        zero = torch.full_like(scale, 2 ** (bits - 1))
    elif zero_points.dtype == torch.uint8:
        zero = _unpacked(zero_points.reshape(rows, -1), bits)[:, :blocks].to(scale.dtype)
    else:
        zero = zero_points.reshape(rows, blocks).to(scale.dtype)
    if groups is None:
        weight = (packed.to(scale.dtype) - zero[..., None]) * scale[..., None]
        return weight.reshape(rows, -1)[:, :columns]
    group = groups.to(torch.int64)[:columns]
    flat = packed.reshape(rows, -1)[:, :columns].to(scale.dtype)
    return (flat - zero[:, group]) * scale[:, group]


def _unpacked(packed: torch.Tensor, bits: int) -> torch.Tensor:
    """The numbers in the bytes of the last axis, low bits first."""
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8)
    return ((packed[..., None] >> shifts) & (2**bits - 1)).flatten(-2)
