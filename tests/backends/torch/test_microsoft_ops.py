"""The rows of the com.microsoft domain against ONNX Runtime, op by op, on random operands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from ramiel_ir.onnx_reader import read_onnx
from tests.conformance.evaluate import Evaluator, to_numpy, to_torch

Array = np.ndarray[Any, Any]


class Example(NamedTuple):
    """One op: its operands in order (None where absent), results, attributes."""

    name: str
    kind: str
    operands: Mapping[str, Array | None]
    attributes: dict[str, Any]
    results: int = 1
    domain: str = "com.microsoft"
    off_by_one: bool = False


def _floats(seed: int) -> Callable[..., Array]:
    numbers = np.random.default_rng(seed)
    return lambda *shape: numbers.normal(size=shape).astype(np.float32)


def _bytes(seed: int) -> Callable[..., Array]:
    numbers = np.random.default_rng(seed)
    return lambda *shape: numbers.integers(0, 256, shape).astype(np.uint8)


def _weights(seed: int) -> Callable[..., Array]:
    """Of 7 bits: ONNX Runtime's sums of two products saturate at 16 bits where AVX2 is all it has.

    255 · 64 + 255 · 64 is the most that does not.
    """
    numbers = np.random.default_rng(seed)
    return lambda *shape: numbers.integers(-64, 64, shape).astype(np.int8)


def _activations() -> list[Example]:
    f = _floats(0)
    x, bias = f(2, 3, 8), f(8)
    return [
        Example("gelu", "Gelu", {"x": x}, {}),
        Example("fast_gelu", "FastGelu", {"x": x}, {}),
        Example("fast_gelu_bias", "FastGelu", {"x": x, "b": bias}, {}),
        Example("bias_gelu", "BiasGelu", {"x": x, "b": bias}, {}),
        Example("quick_gelu", "QuickGelu", {"x": x}, {"alpha": 1.5}),
        Example("inverse", "Inverse", {"x": f(2, 4, 4)}, {}),
    ]


def _linear() -> list[Example]:
    f = _floats(1)
    image, kernel, bias = f(1, 4, 7, 7), f(6, 4, 3, 3), f(6)
    conv = {"x": image, "w": kernel, "b": bias}
    padding = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    leaky = {"activation": "LeakyRelu", "activation_params": [0.2]}
    clip = {"activation": "Clip", "activation_params": [-0.5, 0.5]}
    hard = {"activation": "HardSigmoid", "activation_params": [0.3, 0.4]}
    gemm = {"a": f(3, 4), "b": f(5, 4), "c": f(5)}
    return [
        Example("conv_relu", "FusedConv", conv, padding | {"activation": "Relu"}),
        Example("conv_leaky", "FusedConv", conv, padding | leaky),
        Example("conv_clip", "FusedConv", conv, padding | clip),
        Example("conv_hard", "FusedConv", conv, padding | hard),
        Example(
            "conv_sum", "FusedConv", conv | {"z": f(1, 6, 7, 7)}, padding | {"activation": "Relu"}
        ),
        Example("gemm", "FusedGemm", gemm, {"transB": 1, "alpha": 0.5, "activation": "Relu"}),
        Example("matmul", "FusedMatMul", {"a": f(2, 4, 3), "b": f(2, 5, 4)}, _TRANSPOSED),
        Example("matmul_old", "TransposeMatMul", {"a": f(4, 3), "b": f(5, 4)}, _TRANSPOSED),
    ]


_TRANSPOSED = {"transA": 1, "transB": 1, "alpha": 0.25}


def _norms() -> list[Example]:
    f = _floats(2)
    x, skip, gamma, beta, bias = f(2, 3, 8), f(2, 3, 8), f(8), f(8), f(8)
    layer = {"x": x, "skip": skip, "gamma": gamma, "beta": beta, "bias": bias}
    ids, segments = np.array([[1, 2, 0], [3, 4, 4]], np.int32), np.array([[0, 0, 1]] * 2, np.int32)
    embed = {
        "ids": ids,
        "segment_ids": segments,
        "words": f(5, 8),
        "places": f(4, 8),
        "segments": f(2, 8),
        "gamma": gamma,
        "beta": beta,
        "mask": np.array([[1, 1, 0], [1, 1, 1]], np.int32),
    }
    options = {"epsilon": 1e-3}
    return [
        Example("skip_layer", "SkipLayerNormalization", layer, options),
        Example("skip_layer_all", "SkipLayerNormalization", layer, options, 4),
        Example("skip_rms", "SkipSimplifiedLayerNormalization", _without(layer, "beta"), options),
        Example(
            "skip_rms_all", "SkipSimplifiedLayerNormalization", _without(layer, "beta"), options, 4
        ),
        Example("rms", "SimplifiedLayerNormalization", {"x": x, "s": gamma}, options, domain=""),
        Example("embed", "EmbedLayerNormalization", embed, options, 2),
    ]


def _without(operands: Mapping[str, Array], name: str) -> dict[str, Array]:
    return {key: value for key, value in operands.items() if key != name}


def _attention() -> list[Example]:
    f = _floats(3)
    x, weights, bias = f(2, 3, 8), f(8, 24), f(24)
    projected = {"x": x, "w": weights, "b": bias}
    lengths = np.array([2, 3], np.int32)
    spans = np.array([3, 2, 1, 0], np.int32)
    hidden = np.array([[1, 1, 0], [1, 0, 1]], np.int32)
    past = {"mask": None, "past": f(2, 2, 2, 4, 4)}
    two = {"num_heads": 2}
    packed = {"q": f(2, 3, 8), "k": f(2, 5, 8), "v": f(2, 5, 8)}
    nothing = {"bias": None, "mask": None, "extra": None}
    cache = {"past_key": f(2, 2, 4, 4), "past_value": f(2, 2, 4, 4)}
    more = {"bias": f(24), "mask": np.array([[1, 1, 0, 1, 0]] * 2, np.int32)}
    return [
        Example("attention", "Attention", projected, two),
        Example("attention_lengths", "Attention", projected | {"mask": lengths}, two),
        Example("attention_spans", "Attention", projected | {"mask": spans}, two),
        Example("attention_mask", "Attention", projected | {"mask": hidden}, two),
        Example("attention_causal", "Attention", projected, two | {"unidirectional": 1}),
        Example("attention_past", "Attention", projected | past, two | {"unidirectional": 1}, 2),
        Example("attention_scale", "Attention", projected, two | {"scale": 0.3}),
        Example("heads", "MultiHeadAttention", packed, two),
        Example("heads_masked", "MultiHeadAttention", packed | more, two),
        Example(
            "heads_biased",
            "MultiHeadAttention",
            packed | {"bias": None, "mask": None, "extra": f(1, 2, 3, 5)},
            two,
        ),
        Example("heads_past", "MultiHeadAttention", packed | nothing | cache, two, 3),
    ]


def _rotary() -> list[Example]:
    f = _floats(4)
    angles = {"cos": f(10, 2), "sin": f(10, 2)}
    places = np.array([[0, 1, 2], [3, 4, 5]], np.int64)
    first = np.array([4], np.int64)
    heads, packed = f(2, 5, 3, 4), f(2, 3, 12)
    return [
        Example("rotary", "RotaryEmbedding", {"x": heads, "p": places, **angles}, {}),
        Example("rotary_packed", "RotaryEmbedding", {"x": packed, "p": places, **angles}, {}),
        Example("rotary_offset", "RotaryEmbedding", {"x": packed, "p": first, **angles}, {}),
        Example(
            "rotary_interleaved",
            "RotaryEmbedding",
            {"x": packed, "p": places, **angles},
            {"interleaved": 1},
        ),
    ]


def _grouped() -> list[Example]:
    f = _floats(5)
    empty = {"past_key": None, "past_value": None}
    angles = {"cos": f(16, 8), "sin": f(16, 8)}
    two = {"num_heads": 4, "kv_num_heads": 2}

    def lengths(last: list[int], total: int) -> dict[str, Array]:
        return {"last": np.array(last, np.int32), "total": np.array(total, np.int32)}

    prompt = {"q": f(2, 3, 64), "k": f(2, 3, 32), "v": f(2, 3, 32), **empty}
    cache = {"past_key": f(2, 2, 6, 16), "past_value": f(2, 2, 6, 16)}
    step = {"q": f(2, 1, 64), "k": f(2, 1, 32), "v": f(2, 1, 32), **cache}
    packed = {"q": f(2, 3, 128), "k": None, "v": None, **empty}
    rotary = two | {"do_rotary": 1}
    return [
        Example("grouped_prompt", "GroupQueryAttention", prompt | lengths([2, 2], 3), two, 3),
        Example("grouped_packed", "GroupQueryAttention", packed | lengths([2, 2], 3), two, 3),
        Example("grouped_step", "GroupQueryAttention", step | lengths([6, 6], 7), two, 3),
        Example(
            "grouped_rotary",
            "GroupQueryAttention",
            step | lengths([6, 6], 7) | angles,
            rotary,
            3,
        ),
        Example(
            "grouped_window",
            "GroupQueryAttention",
            step | lengths([6, 6], 7),
            two | {"local_window_size": 3, "softcap": 2.0},
            3,
        ),
    ]


def _scale(value: float) -> Array:
    return np.array(value, np.float32)


def _quantized() -> list[Example]:
    f, u, i = _floats(6), _bytes(6), _weights(7)
    zero, other = np.array(120, np.uint8), np.array(7, np.uint8)
    a = {"a": u(2, 3, 8), "as": _scale(0.02), "az": zero}
    b = {"b": u(3, 8), "bs": _scale(0.03), "bz": other}
    y = {"ys": _scale(0.05), "yz": zero}
    image = {"x": u(1, 3, 8, 8), "xs": _scale(0.02), "xz": zero}
    pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    w, column_scale = i(8, 5), np.abs(f(5)) / 50 + np.float32(0.01)
    gemm = {
        "a": u(3, 8),
        "as": _scale(0.02),
        "az": zero,
        "b": i(5, 8),
        "bs": column_scale,
        "bz": np.zeros(5, np.int8),
        "c": np.arange(5, dtype=np.int32),
    }
    concat = {"ys": _scale(0.05), "yz": zero, **a, "b": u(2, 3, 5), "bs": b["bs"], "bz": b["bz"]}
    where = {"c": np.array([[True, False] * 4] * 3), "x": u(3, 8), "xs": a["as"], "xz": zero, **b}
    integer = {"a": u(2, 3, 8), "b": w, "as": _scale(0.02), "bs": column_scale, "az": zero}
    attention = {
        "x": u(2, 3, 8),
        "w": i(8, 24),
        "b": f(24),
        "xs": _scale(0.01),
        "ws": _scale(0.01),
        "mask": None,
        "xz": zero,
        "wz": np.array(0, np.int8),
    }
    return [
        Example("add", "QLinearAdd", a | b | y, {}, off_by_one=True),
        Example("mul", "QLinearMul", a | b | y, {}, off_by_one=True),
        Example("sigmoid", "QLinearSigmoid", a | {"ys": _scale(0.004), "yz": other}, {}),
        Example("leaky", "QLinearLeakyRelu", a | y, {"alpha": 0.1}, off_by_one=True),
        Example("where", "QLinearWhere", where | y, {}, off_by_one=True),
        Example("concat", "QLinearConcat", concat, {"axis": -1}, off_by_one=True),
        Example("pool", "QLinearAveragePool", image | y, pool, off_by_one=True),
        Example("global", "QLinearGlobalAveragePool", image | y, {}, off_by_one=True),
        Example("nhwc", "NhwcMaxPool", {"x": u(1, 8, 8, 3)}, pool),
        Example("gemm_float", "QGemm", gemm, {"transB": 1, "alpha": 0.5}),
        Example("gemm_small", "QGemm", gemm | y, {"transB": 1}, off_by_one=True),
        Example("to_float", "MatMulIntegerToFloat", integer | {"bz": None, "bias": f(5)}, {}),
        Example(
            "dynamic",
            "DynamicQuantizeMatMul",
            {"a": f(2, 3, 8), "b": w, "bs": column_scale, "bz": None, "bias": f(5)},
            {},
        ),
        Example("attention_small", "QAttention", attention, {"num_heads": 2}),
    ]


def _blockwise() -> list[Example]:
    f, u = _floats(8), _bytes(8)
    sizes = {"K": 40, "N": 6, "block_size": 16, "bits": 4}
    plain = {"a": f(2, 3, 40), "b": u(6, 3, 8), "s": np.abs(f(6, 3))}
    return [
        Example("nbits", "MatMulNBits", plain, sizes),
        Example("nbits_zero", "MatMulNBits", plain | {"z": u(6, 2)}, sizes),
    ]


EXAMPLES = [
    *(*_activations(), *_linear(), *_norms(), *_attention(), *_rotary(), *_grouped()),
    *(*_quantized(), *_blockwise()),
]


def _model(example: Example) -> onnx.ModelProto:
    given = {name: value for name, value in example.operands.items() if value is not None}
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in given.items()
    ]
    results = [f"result_{index}" for index in range(example.results)]
    node = helper.make_node(
        example.kind,
        [name if name in given else "" for name in example.operands],
        results,
        domain=example.domain,
        **example.attributes,
    )
    outputs = [helper.make_value_info(name, onnx.TypeProto()) for name in results]
    graph = helper.make_graph([node], "g", inputs, outputs)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_row_agrees_with_onnxruntime(example: Example) -> None:
    model = _model(example)
    given = {name: value for name, value in example.operands.items() if value is not None}
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    wanted = session.run(None, given)
    for output, value in zip(model.graph.output, wanted, strict=True):
        if value is not None:
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            output.CopyFrom(helper.make_tensor_value_info(output.name, kind, value.shape))
    graph = read_onnx(model)
    known = {value: to_torch(given[value.name]) for value in graph.inputs}
    found = [to_numpy(value) for value in Evaluator().graph(graph, known)]
    for number, (mine, theirs) in enumerate(zip(found, wanted, strict=True)):
        if theirs is None or (example.kind.startswith("Skip") and number in (1, 2)):
            continue  # ONNX Runtime leaves these alone
        assert mine.dtype == theirs.dtype
        assert mine.shape == theirs.shape
        if theirs.dtype.kind == "f":
            limit = 1e-3 * np.abs(theirs).max() + 1e-5
            assert np.abs(mine - theirs).max() <= limit
        else:  # ties may fall to either side
            distance = np.abs(mine.astype(np.int64) - theirs.astype(np.int64))
            assert distance.max() <= example.off_by_one
            assert (distance > 0).mean() <= 0.02
