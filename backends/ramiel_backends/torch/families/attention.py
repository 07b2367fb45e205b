"""Attention and the layers that go with it."""

from __future__ import annotations

from ramiel_backends.torch.families._calls import call, every, results
from ramiel_backends.torch.families._types import FLOATS, torch_type
from ramiel_backends.torch.table import Site, emits
from ramiel_ir.ir import DType


def _plain(site: Site) -> bool:
    """Whether torch's own attention takes the operands as they are: the mask covers all keys."""
    if len(site.op.results) > 1 or any(site.has(index) for index in (4, 5, 6)):
        return False
    q, k, mask = site.type(0), site.type(1), site.type(3)
    if q is None or k is None or q.shape is None or k.shape is None or len(q.shape) != 4:
        return False
    if q.element not in FLOATS or q.shape[1] is None or q.shape[1] != k.shape[1]:
        return False
    if not site.has(3):
        return True
    if mask is None or mask.shape is None or len(mask.shape) < 2 or site.attribute("is_causal", 0):
        return False
    keys = mask.shape[-1]
    return mask.element in (DType.BOOL, q.element) and keys is not None and keys == k.shape[2]


@emits("Attention", since=23)
def attention(site: Site) -> str:
    scale = (site.attribute("scale"), None)
    causal = (bool(site.attribute("is_causal", 0)), False)
    softcap = site.attribute("softcap", 0.0)
    window = (site.attribute("left_window_size", -1), site.attribute("right_window_size", -1))
    precision = site.attribute("softmax_precision")
    if _plain(site) and not softcap and window == (-1, -1) and precision is None:
        operands = [site[0], site[1], site[2], *([f"attn_mask={site[3]}"] if site.has(3) else [])]
        return call("F.scaled_dot_product_attention", *operands, is_causal=causal, scale=scale)
    operands = list(every(site))
    while operands[-1] == "None":
        operands.pop()
    if precision:
        operands.append(f"precision={torch_type(DType.from_onnx(precision))}")
    mode = site.attribute("qk_matmul_output_mode", 0) if site.wants(3) else None
    expression = call(
        "attention.attention",
        *operands,
        q_heads=(site.attribute("q_num_heads"), None),
        kv_heads=(site.attribute("kv_num_heads"), None),
        scale=scale,
        causal=causal,
        window=(window, (-1, -1)),
        softcap=(softcap, 0.0),
        scores=(mode, None),
    )
    return results(site, expression, 4)


@emits("RotaryEmbedding", since=23)
def rotary_embedding(site: Site) -> str:
    return call(
        "attention.rotary_embedding",
        *every(site),
        heads=(site.attribute("num_heads") or None, None),
        dim=(site.attribute("rotary_embedding_dim", 0), 0),
        interleaved=(bool(site.attribute("interleaved", 0)), False),
    )


@emits("LinearAttention", since=27)
def linear_attention(site: Site) -> str:
    expression = call(
        "attention.linear_attention",
        *every(site),
        q_heads=(site.attribute("q_num_heads"), None),
        kv_heads=(site.attribute("kv_num_heads"), None),
        scale=(site.attribute("scale", 0.0), 0.0),
    )
    return results(site, expression, 2)


@emits("CausalConvWithState", since=27)
def causal_conv(site: Site) -> str:
    silu = site.attribute("activation", "none") in ("silu", "swish")
    return results(site, call("attention.causal_conv", *every(site), silu=(silu, False)), 2)
