"""Quantization."""

from __future__ import annotations

from ramiel_backends.torch.families._calls import call, every, results, sizes
from ramiel_backends.torch.families._types import torch_type
from ramiel_backends.torch.families.nn import convolution
from ramiel_backends.torch.table import Site, emits, row
from ramiel_ir.ir import DType


def _typed(site: Site, name: str, keyword: str) -> list[str]:
    """An element type given as an attribute, as a keyword argument."""
    code = site.attribute(name, 0)
    return [f"{keyword}={torch_type(DType.from_onnx(code))}"] if code else []


def _given(site: Site) -> list[str]:
    """The operands without absent ones at the end."""
    operands = list(every(site))
    while operands[-1] == "None":
        operands.pop()
    return operands


@emits("QuantizeLinear", since=10)
def quantize_linear(site: Site) -> str:
    return call(
        "quant.quantize_linear",
        *_given(site),
        *([] if site.has(2) else _typed(site, "output_dtype", "dtype")),
        *_typed(site, "precision", "precision"),
        axis=(site.attribute("axis", 1), 1),
        block_size=(site.attribute("block_size", 0), 0),
        saturate=(bool(site.attribute("saturate", 1)), True),
    )


@emits("DequantizeLinear", since=10)
def dequantize_linear(site: Site) -> str:
    return call(
        "quant.dequantize_linear",
        *_given(site),
        *_typed(site, "output_dtype", "dtype"),
        axis=(site.attribute("axis", 1), 1),
        block_size=(site.attribute("block_size", 0), 0),
    )


@emits("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(site: Site) -> str:
    return results(site, f"quant.dynamic_quantize_linear({site[0]})", 3)


row("QLinearMatMul", "quant.qlinear_matmul({0}, {1}, {2}, {3}, {4}, {5}, {6}, {7})", since=10)


@emits("MatMulInteger", since=10)
def matmul_integer(site: Site) -> str:
    per_row = site.has(2) and site.rank(2) != 0
    a = call("quant.centred", site[0], site[2], axis=(-2 if per_row else None, None))
    b = call("quant.centred", site[1], site[3])
    return f"torch.matmul({a}, {b}).to(torch.int32)"


def _sums(site: Site, weight: int, x_zero_point: int, weight_zero_point: int) -> str:
    """The convolution of quantized numbers, in floats that hold its sums exactly."""
    known = sizes(site, weight)
    terms = 2**30
    if known and None not in known:
        terms = 1
        for size in known[1:]:
            terms *= size or 1
    # a product is less than 2 ** 16, float32 counts to 2 ** 24
    exact = ["dtype=torch.float32"] if terms <= 256 else []
    x = call("quant.centred", *_trimmed(site[0], site[x_zero_point]), *exact)
    per_channel = site.has(weight_zero_point) and site.rank(weight_zero_point) != 0
    w = call(
        "quant.centred",
        *_trimmed(site[weight], site[weight_zero_point]),
        *exact,
        axis=(0 if per_channel else None, None),
    )
    return convolution(site, x, w, "None", weight=weight)


def _trimmed(*operands: str) -> list[str]:
    return [operand for operand in operands if operand != "None"]


@emits("ConvInteger", since=10)
def conv_integer(site: Site) -> str:
    return f"{_sums(site, 1, 2, 3)}.to(torch.int32)"


@emits("QLinearConv", since=10)
def qlinear_conv(site: Site) -> str:
    scales = (site[1], site[4], site[6], site[7])
    return call("quant.requantize", _sums(site, 3, 2, 5), *scales, site[8])
