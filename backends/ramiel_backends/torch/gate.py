"""The gate that generated source passes before it is written: a closed list of what it may hold.

It is the last of several locks. Identifiers are made, never copied, and model text is quoted. If a
row of the op table ever lets text through, the source is not made of the few node types, roots and
imports below, and nothing is written.
"""

from __future__ import annotations

import ast
from collections.abc import Collection

from ramiel_ir.errors import RamielError

BUILTINS = frozenset(
    (
        "abs", "bool", "complex", "enumerate", "float", "int", "len", "list", "max", "min",
        "range", "reversed", "round", "slice", "sorted", "str", "sum", "tuple", "zip",
    )
)  # fmt: skip
"""The builtins that generated expressions may call."""

MODULES = ("torch", "F", "np", "math")
"""The modules that generated code may import, by the name it gives them."""

_HEADER = {
    "import math",
    "import numpy as np",
    "import torch",
    "import torch.nn.functional as F",
}
_EXPRESSIONS = (
    *(ast.Name, ast.Constant, ast.Attribute, ast.Call, ast.keyword, ast.Subscript, ast.Slice),
    *(ast.List, ast.Tuple, ast.Starred, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare),
    *(ast.IfExp, ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)
_STATEMENTS = (ast.Assign, ast.AugAssign, ast.Expr, ast.Delete, ast.If, ast.For, ast.While)
_MAIN = ast.dump(
    ast.parse('if __name__ == "__main__":\n    import runtime\n\n    runtime.main(__file__)')
)
_ATTRIBUTES = frozenset(
    (
        "abs", "absolute", "acos", "acosh", "add", "addmm", "affine_grid", "align", "amax", "amin",
        "append", "arange", "argmax", "argmin", "array_feature_extractor", "asin", "asinh", "atan",
        "atanh", "attention", "average_pool", "avg_pool1d", "avg_pool2d", "avg_pool3d",
        "batch_norm", "batch_norm_training", "bernoulli", "bfloat16", "bitwise_left_shift",
        "bitwise_right_shift", "blackman_window", "blockwise_weight", "bool", "cat", "causal_conv",
        "ceil", "celu", "center_crop_pad", "centred", "chunk", "clamp", "clip", "col2im",
        "complex128", "complex64", "compress", "concat", "conv1d", "conv2d", "conv3d",
        "conv_transpose", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "cos", "cosh",
        "count_ngrams", "cross_entropy", "cumprod", "cumsum", "cut", "deform_conv",
        "depth_to_space", "dequantize_linear", "det", "dft", "div", "divide", "dropout", "dtype",
        "dynamic_quantize_linear", "dynamic_quantize_matmul", "einsum", "elu", "embed_layer_norm",
        "empty", "equal", "erase", "erf", "exp", "expand", "eye", "feature_vectorizer", "flatten",
        "float", "float16", "float32", "float64", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2",
        "float8_e5m2fnuz", "float8_e8m0fnu", "floor", "fmod", "fold", "from_array", "from_strings",
        "full", "full_match", "gather", "gather_elements", "gather_nd", "gelu", "gemm", "greater",
        "greater_or_equal", "grid_sample", "group_norm", "group_norm_18", "group_query_attention",
        "gru", "hamming_window", "hann_window", "hardmax", "hardsigmoid", "hardswish", "impute",
        "input", "insert", "instance_norm", "int16", "int32", "int64", "int8", "interpolate", "inv",
        "invert", "is_nan", "isinf", "isnan", "isneginf", "isposinf", "item", "join_strings", "l1",
        "l2", "label_encoder", "layer_norm", "leaky_relu", "less", "less_or_equal", "linalg",
        "linear", "linear_attention", "linear_classifier", "local_response_norm", "log",
        "log_softmax", "log_sum", "log_sum_exp", "logsumexp", "lp_norm", "lp_pool", "lstm",
        "matmul", "matmul_integer_to_float", "max_pool", "max_pool1d", "max_pool2d", "max_pool3d",
        "max_roi_pool", "max_unpool", "maximum", "mean", "mean_variance_norm", "mel_weight_matrix",
        "minimum", "mish", "mm", "multi_head_attention", "multinomial", "ndim", "nll_loss",
        "non_max_suppression", "non_zero", "nonzero", "normal", "normalize", "numel", "one_hot",
        "ones_like", "output", "pad", "permute", "pixel_shuffle", "pixel_unshuffle",
        "pointwise_conv2d", "pow", "power", "prelu", "prod", "product", "qlinear_matmul",
        "quantize_linear", "quantized_attention", "quantized_gemm", "receive", "reciprocal",
        "reinterpret", "relu", "remainder", "requantize", "reshape", "resize", "reverse_sequence",
        "rms_norm", "rnn", "roi_align", "rotary_embedding", "round", "scale",
        "scaled_dot_product_attention", "scatter_elements", "scatter_nd", "select", "selu", "send",
        "shape", "shift_left", "shift_right", "shrink", "sigmoid", "sign", "silu", "sin", "sinh",
        "skip_layer_norm", "skip_rms_norm", "softmax", "softplus", "softsign", "space_to_depth",
        "split", "split_evenly", "split_ones", "sqrt", "square", "squeeze", "stack", "stft",
        "subtract", "sum", "sum_square", "t", "tan", "tanh", "tensor", "threshold", "tile", "to",
        "to_array", "to_exponents", "to_float8", "to_strings", "tolist", "top_k", "total",
        "transpose", "tree_classifier", "tree_ensemble", "tril", "triu", "uint16", "uint32",
        "uint64", "uint8", "uniform", "unique", "unsqueeze", "vector_norm", "view", "where",
        "write_cache", "zeros", "zeros_like",
    )
)  # fmt: skip
"""The functions and methods that rows of the op table use, and those of a port."""


class GateError(RamielError):
    """Generated source holds something that it may not hold; nothing was written."""


def check_expression(node: ast.expr, names: Collection[str]) -> None:
    """Raise `GateError` unless the expression is made of permitted nodes and of these names."""
    for part in ast.walk(node):
        if not isinstance(part, _EXPRESSIONS):
            raise GateError(f"generated code may not contain {type(part).__name__}")
        if isinstance(part, ast.Name) and part.id not in names:
            raise GateError(f"generated code may not use the name {part.id!a}")
        if isinstance(part, ast.Attribute) and part.attr not in _ATTRIBUTES:
            raise GateError(f"generated code may not use the attribute {part.attr!a}")
        if isinstance(part, ast.Attribute) and _is_hidden_module(part.value):
            raise GateError(f"generated code may not use {ast.unparse(part)!a}")
        if isinstance(part, ast.keyword) and part.arg is None:
            raise GateError("generated code may not unpack keywords")


def check_source(source: str, libraries: Collection[str]) -> None:
    """Raise `GateError` unless the file is made of the header, makers, and the closing lines."""
    if not source.isascii():
        raise GateError("generated code may only contain ASCII")
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise GateError(f"generated code does not parse: {error}") from error
    modules: set[str] = set()
    makers: list[str] = []
    docstring, *body = tree.body
    _check_docstring(docstring)
    if not body or ast.dump(ast.Module([body.pop()], [])) != _MAIN:
        raise GateError("generated code must end in its main lines")
    for statement in body:
        if isinstance(statement, (ast.Import, ast.ImportFrom)) and not makers:
            modules |= _imported(statement, libraries)
        elif isinstance(statement, ast.FunctionDef):
            makers.append(statement.name)
            _check_maker(statement, {*modules, *BUILTINS})
        elif ast.unparse(statement) != f"WORKERS = [{', '.join(makers)}]":
            raise GateError(f"generated code may not contain {type(statement).__name__} here")


def _check_docstring(statement: ast.stmt) -> None:
    value = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(value, ast.Constant) or not isinstance(value.value, str):
        raise GateError("generated code must begin with a docstring")


def _imported(statement: ast.Import | ast.ImportFrom, libraries: Collection[str]) -> set[str]:
    names = {alias.asname or alias.name for alias in statement.names}
    if ast.unparse(statement) in _HEADER:
        return names & set(MODULES)
    if isinstance(statement, ast.ImportFrom) and statement.module == "onnx_ops":
        plain = all(alias.asname is None for alias in statement.names)
        if statement.level == 0 and plain and names <= set(libraries):
            return names
    raise GateError(f"generated code may not contain {ast.unparse(statement)!a}")


def _check_maker(maker: ast.FunctionDef, known: set[str]) -> None:
    docstring, *bindings, run, result = maker.body
    _check_docstring(docstring)
    if not _takes(maker, "weights") or ast.unparse(result) != "return run":
        raise GateError(f"{maker.name} is no maker")
    if not isinstance(run, ast.FunctionDef) or run.name != "run" or not _takes(run, "port"):
        raise GateError(f"{maker.name} makes no run function")
    _check_block(bindings, known | {"weights"} | _targets(bindings))
    _check_block(run.body, known | {"port"} | _targets(bindings) | _targets(run.body))


def _takes(function: ast.FunctionDef, argument: str) -> bool:
    plain = not function.decorator_list and function.returns is None
    return plain and ast.unparse(function.args) == argument


def _targets(statements: list[ast.stmt]) -> set[str]:
    nodes = (node for statement in statements for node in ast.walk(statement))
    return {
        node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def _check_block(statements: list[ast.stmt], names: set[str]) -> None:
    for statement in statements:
        if isinstance(statement, (ast.Break, ast.Pass)):
            continue
        if not isinstance(statement, _STATEMENTS):
            raise GateError(f"generated code may not contain {type(statement).__name__}")
        for child in ast.iter_child_nodes(statement):
            if isinstance(child, ast.expr):
                check_expression(child, names)
        if isinstance(statement, (ast.Assign, ast.For, ast.AugAssign)):
            _check_targets(statement)
        if isinstance(statement, (ast.If, ast.For, ast.While)):
            _check_block([*statement.body, *statement.orelse], names)


def _check_targets(statement: ast.Assign | ast.For | ast.AugAssign) -> None:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    for target in targets:
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        if not all(isinstance(name, ast.Name) for name in names):
            raise GateError("generated code may only assign to names")
        if any(name.id in (*MODULES, *BUILTINS) for name in names if isinstance(name, ast.Name)):
            raise GateError("generated code may not assign to the names it relies on")


def _is_hidden_module(node: ast.expr) -> bool:
    """Whether it is `torch.x` or the like, and x none of the modules of plain mathematics."""
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in MODULES
        and node.attr not in ("fft", "linalg", "special", "random")
    )
