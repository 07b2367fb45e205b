"""Ops that ONNX Runtime adds to ONNX, as its optimizer and its exporters leave them in models."""

from __future__ import annotations

from ramiel_backends.torch.families._calls import Option, call, every, results, sizes
from ramiel_backends.torch.families.nn import convolution, pooled_average, window_attributes
from ramiel_backends.torch.families.quant import (
    dequantize_linear,
    qlinear_conv,
    quantize_linear,
)
from ramiel_backends.torch.table import TABLE, Row, Site, emits, literal, row
from ramiel_ir.pipeline import No

MICROSOFT = "com.microsoft"

row("Gelu", "F.gelu({0})", domain=MICROSOFT)
row("BiasGelu", "F.gelu({0} + {1})", domain=MICROSOFT)
row("Inverse", "torch.linalg.inv({0})", domain=MICROSOFT)
row("BiasAdd", "{0} + {1} + {2}", domain=MICROSOFT)


@emits("QuickGelu", domain=MICROSOFT)
def quick_gelu(site: Site) -> str:
    alpha = site.attribute("alpha", 1.702)
    if alpha == 1.0:
        return call("F.silu", site[0], inplace=(site.reusable(0), False))
    return f"{site[0]} * torch.sigmoid({site[0]} * {literal(alpha)})"


@emits("FastGelu", domain=MICROSOFT)
def fast_gelu(site: Site) -> str:
    x = f"{site[0]} + {site[1]}" if site.has(1) else site[0]
    return f'F.gelu({x}, approximate="tanh")'


@emits("BiasSplitGelu", domain=MICROSOFT)
def bias_split_gelu(site: Site) -> str:
    halves = [f"({site[0]} + {site[1]}).chunk(2, -1)[{index}]" for index in (0, 1)]
    return f"{halves[0]} * F.gelu({halves[1]})"


@emits("BiasSoftmax", domain=MICROSOFT)
def bias_softmax(site: Site) -> str | No:
    rank = site.rank(0)
    axis = site.attribute("axis", 1)
    last = axis == -1 or (rank is not None and axis == rank - 1)
    if not last or (site.attribute("is_inner_broadcast", 0) and site.rank(1) != rank):
        return No("only the last axis, and a bias that broadcasts by itself, can be written")
    return f"torch.softmax({site[0]} + {site[1]}, -1)"


def activated(site: Site, value: str, parameters: tuple[float, ...]) -> str | No:
    """`value` under the activation that is fused into the op."""
    name = site.attribute("activation", "")
    plain = {"Relu": "torch.relu", "Tanh": "torch.tanh", "Sigmoid": "torch.sigmoid"}
    texts = [literal(parameter) for parameter in parameters]
    if name in plain:
        return f"{plain[name]}({value})"
    if name == "LeakyRelu":
        return f"F.leaky_relu({', '.join([value, *texts[:1]])})"
    if name == "Clip" and len(texts) == 2:
        return f"torch.clamp({value}, {texts[0]}, {texts[1]})"
    if name == "HardSigmoid":
        alpha, beta = texts if len(texts) == 2 else ("0.2", "0.5")
        factor = f"({value})" if " + " in value else value
        return f"torch.clamp({factor} * {alpha} + {beta}, 0, 1)"
    return value if not name else No(f"the fused activation {name!a} is not known")


@emits("FusedConv", domain=MICROSOFT)
def fused_conv(site: Site) -> str | No:
    value = convolution(site, site[0], site[1], site[2])
    if site.has(3):
        value = f"{value} + {site[3]}"
    return activated(site, value, site.attribute("activation_params", ()))


@emits("FusedGemm", domain=MICROSOFT)
def fused_gemm(site: Site) -> str | No:
    a = f"{site[0]}.t()" if site.attribute("transA", 0) else site[0]
    b = f"{site[1]}.t()" if site.attribute("transB", 0) else site[1]
    alpha, beta = site.attribute("alpha", 1.0), site.attribute("beta", 1.0)
    value = f"torch.matmul({a}, {b})" + ("" if alpha == 1 else f" * {literal(alpha)}")
    if site.has(2):
        value += f" + {site[2]}" + ("" if beta == 1 else f" * {literal(beta)}")
    names = ("activation_alpha", "activation_beta", "activation_gamma")
    given = tuple(site.attribute(name) for name in names if name in site.op.attributes)
    return activated(site, value, given)


def fused_matmul(site: Site) -> str | No:
    """A matrix product with transposed operands and a factor."""
    if site.attribute("transBatchA", 0) or site.attribute("transBatchB", 0):
        return No("operands with transposed batch axes cannot be written")
    a, b = (
        f"{site[index]}.transpose(-1, -2)"
        if site.attribute(name, 0) and site.rank(index) != 1
        else site[index]
        for index, name in ((0, "transA"), (1, "transB"))
    )
    alpha = site.attribute("alpha", 1.0)
    return f"torch.matmul({a}, {b})" + ("" if alpha == 1 else f" * {literal(alpha)}")


for _kind in ("FusedMatMul", "TransposeMatMul"):
    TABLE.add(Row(_kind, MICROSOFT, 1, fused_matmul))


def _norm_options(site: Site, default: float) -> dict[str, Option]:
    return {"eps": (site.attribute("epsilon", default), None)}


@emits("SkipLayerNormalization", domain=MICROSOFT)
def skip_layer_norm(site: Site) -> str:
    shape = sizes(site, 2)
    options = _norm_options(site, 1e-12)
    if len(site.op.results) == 1 and shape and None not in shape:
        total = " + ".join(site[index] for index in (0, 1, 4) if site.has(index))
        return call("F.layer_norm", total, str(shape), site[2], site[3], **options)
    return results(site, call("microsoft.skip_layer_norm", *every(site), **options), 4)


@emits("SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def skip_rms_norm(site: Site) -> str:
    shape = sizes(site, 2)
    options = _norm_options(site, 1e-12)
    if len(site.op.results) == 1 and shape and None not in shape:
        total = " + ".join(site[index] for index in (0, 1, 3) if site.has(index))
        return call("F.rms_norm", total, str(shape), site[2], **options)
    return results(site, call("microsoft.skip_rms_norm", *every(site), **options), 4)


@emits("SimplifiedLayerNormalization")
def rms_norm(site: Site) -> str:
    shape, axis = sizes(site, 1), site.attribute("axis", -1)
    options = _norm_options(site, 1e-5)
    if len(site.op.results) == 1 and shape and None not in shape and axis == -len(shape):
        return call("F.rms_norm", site[0], str(shape), site[1], **options)
    expression = call("microsoft.rms_norm", *every(site), axis=(axis, -1), **options)
    return results(site, expression, 2)


@emits("EmbedLayerNormalization", domain=MICROSOFT)
def embed_layer_norm(site: Site) -> str:
    options = _norm_options(site, 1e-12)
    return results(site, call("microsoft.embed_layer_norm", *every(site), **options), 3)


def _attention_options(site: Site) -> dict[str, Option]:
    return {
        "heads": (site.attribute("num_heads"), None),
        "causal": (bool(site.attribute("unidirectional", 0)), False),
        "scale": (site.attribute("scale", 0.0) or None, None),
        "filter_value": (site.attribute("mask_filter_value", -10000.0), -10000.0),
    }


@emits("Attention", domain=MICROSOFT)
def attention(site: Site) -> str | No:
    if site.attribute("do_rotary", 0) or site.attribute("past_present_share_buffer", 0):
        return No("rotary embedding or a shared buffer inside of Attention cannot be written")
    if site.rank(3) == 4:
        return No("a mask of rank 4 cannot be written")
    options = _attention_options(site)
    options["sizes"] = (site.attribute("qkv_hidden_sizes") or None, None)
    return results(site, call("microsoft.attention", *every(site)[:6], **options), 2)


@emits("QAttention", domain=MICROSOFT)
def quantized_attention(site: Site) -> str | No:
    if site.attribute("do_rotary", 0) or site.attribute("past_present_share_buffer", 0):
        return No("rotary embedding or a shared buffer inside of QAttention cannot be written")
    options = _attention_options(site)
    return results(site, call("microsoft.quantized_attention", *every(site), **options), 2)


@emits("MultiHeadAttention", domain=MICROSOFT)
def multi_head_attention(site: Site) -> str | No:
    if site.has(8) or site.has(9) or len(site.op.results) > 3:
        return No("shared buffers, beams and scores of MultiHeadAttention cannot be written")
    options = _attention_options(site)
    return results(site, call("microsoft.multi_head_attention", *every(site), **options), 3)


@emits("GroupQueryAttention", domain=MICROSOFT)
def group_query_attention(site: Site) -> str | No:
    plain = all(not site.attribute(name, 0) for name in ("smooth_softmax", "qk_output"))
    quantized = any(site.attribute(f"{name}_quant_type", "NONE") != "NONE" for name in "kv")
    windowed = site.attribute("sliding_window_cache", 0)
    if any(site.has(index) for index in range(11, 16)) or not plain or quantized or windowed:
        return No("sinks, scores and quantized or windowed caches cannot be written")
    if len(site.op.results) > 3:
        return No("the scores of GroupQueryAttention cannot be written")
    expression = call(
        "microsoft.group_query_attention",
        *every(site),
        heads=(site.attribute("num_heads"), None),
        kv_heads=(site.attribute("kv_num_heads"), None),
        scale=(site.attribute("scale", 0.0) or None, None),
        rotary=(bool(site.attribute("do_rotary", 0)), False),
        interleaved=(bool(site.attribute("rotary_interleaved", 0)), False),
        window=(site.attribute("local_window_size", -1), -1),
        softcap=(site.attribute("softcap", 0.0), 0.0),
    )
    return results(site, expression, 3)


@emits("RotaryEmbedding", domain=MICROSOFT)
def rotary_embedding(site: Site) -> str | No:
    if site.attribute("is_packed_batching", 0):
        return No("packed batches cannot be written")
    return call(
        "attention.rotary_embedding",
        *(site[0], site[2], site[3], site[1]),
        heads=(site.attribute("num_heads", 0) or None, None),
        dim=(site.attribute("rotary_embedding_dim", 0), 0),
        interleaved=(bool(site.attribute("interleaved", 0)), False),
    )


@emits("MatMulIntegerToFloat", domain=MICROSOFT)
def matmul_integer_to_float(site: Site) -> str:
    return call("microsoft.matmul_integer_to_float", *every(site))


@emits("DynamicQuantizeMatMul", domain=MICROSOFT)
def dynamic_quantize_matmul(site: Site) -> str:
    return call("microsoft.dynamic_quantize_matmul", *every(site))


@emits("MatMulNBits", domain=MICROSOFT)
def matmul_nbits(site: Site) -> str:
    weight = call(
        "microsoft.blockwise_weight",
        *(site[1], site[2], site[3], site[4]),
        columns=(site.attribute("K"), None),
        bits=(site.attribute("bits", 4), None),
    )
    return call("F.linear", site[0], weight, site[5])


@emits("QGemm", domain=MICROSOFT)
def quantized_gemm(site: Site) -> str:
    return call(
        "microsoft.quantized_gemm",
        *every(site),
        alpha=(site.attribute("alpha", 1.0), 1.0),
        transpose_a=(bool(site.attribute("transA", 0)), False),
        transpose_b=(bool(site.attribute("transB", 0)), False),
    )


def plain_number(site: Site, x: int, scale: int, zero_point: int) -> str:
    """A quantized operand as floating-point numbers."""
    return call("quant.dequantize_linear", site[x], site[scale], site[zero_point])


def small_number(site: Site, value: str, scale: int, zero_point: int, like: int = 0) -> str:
    """Floating-point numbers quantized by operands; without a zero point in the type of another."""
    if site.has(zero_point):
        return call("quant.quantize_linear", value, site[scale], site[zero_point])
    return call("quant.quantize_linear", value, site[scale], f"dtype={site[like]}.dtype")


@emits("QLinearAdd", domain=MICROSOFT)
def qlinear_add(site: Site) -> str:
    total = f"{plain_number(site, 0, 1, 2)} + {plain_number(site, 3, 4, 5)}"
    return small_number(site, total, 6, 7)


@emits("QLinearMul", domain=MICROSOFT)
def qlinear_mul(site: Site) -> str:
    product = f"{plain_number(site, 0, 1, 2)} * {plain_number(site, 3, 4, 5)}"
    return small_number(site, product, 6, 7)


@emits("QLinearSigmoid", domain=MICROSOFT)
def qlinear_sigmoid(site: Site) -> str:
    return small_number(site, f"torch.sigmoid({plain_number(site, 0, 1, 2)})", 3, 4)


@emits("QLinearLeakyRelu", domain=MICROSOFT)
def qlinear_leaky_relu(site: Site) -> str:
    slope = literal(site.attribute("alpha", 0.01))
    return small_number(site, f"F.leaky_relu({plain_number(site, 0, 1, 2)}, {slope})", 3, 4)


@emits("QLinearSoftmax", domain=MICROSOFT)
def qlinear_softmax(site: Site) -> str | No:
    axis, rank = site.attribute("axis", -1), site.rank(0)
    if site.attribute("opset", 13) < 13 and axis not in (-1, (rank or 0) - 1):
        return No("an axis other than the last means several axes before version 13")
    return small_number(site, f"torch.softmax({plain_number(site, 0, 1, 2)}, {axis})", 3, 4)


@emits("QLinearWhere", domain=MICROSOFT)
def qlinear_where(site: Site) -> str:
    chosen = f"torch.where({site[0]}, {plain_number(site, 1, 2, 3)}, {plain_number(site, 4, 5, 6)})"
    return small_number(site, chosen, 7, 8, like=1)


@emits("QLinearConcat", domain=MICROSOFT)
def qlinear_concat(site: Site) -> str:
    parts = [plain_number(site, at, at + 1, at + 2) for at in range(2, len(site.expressions), 3)]
    return small_number(site, f"torch.cat([{', '.join(parts)}], {site.attribute('axis')})", 0, 1)


@emits("QLinearAveragePool", domain=MICROSOFT)
def qlinear_average_pool(site: Site) -> str | No:
    if site.attribute("channels_last", 0):
        return No("channels in the last axis cannot be written")
    return small_number(site, pooled_average(site, plain_number(site, 0, 1, 2)), 3, 4)


@emits("QLinearGlobalAveragePool", domain=MICROSOFT)
def qlinear_global_average_pool(site: Site) -> str | No:
    rank = site.rank(0)
    if rank is None or rank < 3:
        return No("the rank of the operand must be known")
    axes = tuple(range(1, rank - 1) if site.attribute("channels_last", 0) else range(2, rank))
    mean = f"torch.mean({plain_number(site, 0, 1, 2)}, dim={axes}, keepdim=True)"
    return small_number(site, mean, 3, 4)


@emits("NhwcMaxPool", domain=MICROSOFT)
def nhwc_max_pool(site: Site) -> str | No:
    padding = site.attribute("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    if site.rank(0) != 4 or not padding:
        return No("only images, padded by numbers, can be written")
    pooled = call(
        "nn.max_pool",
        f"{site[0]}.permute(0, 3, 1, 2)",
        **window_attributes(site),
        ceil_mode=(bool(site.attribute("ceil_mode", 0)), False),
    )
    return f"{pooled}[0].permute(0, 2, 3, 1)"


@emits("QLinearConv", domain=MICROSOFT)
def microsoft_qlinear_conv(site: Site) -> str | No:
    if site.attribute("channels_last", 0):
        return No("channels in the last axis cannot be written")
    return qlinear_conv(site)


TABLE.add(Row("QuantizeLinear", MICROSOFT, 1, quantize_linear))
TABLE.add(Row("DequantizeLinear", MICROSOFT, 1, dequantize_linear))
