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
# What would reach past tensors although a harmless module has it.
_FORBIDDEN = frozenset(
    (
        "classes", "compile", "ctypeslib", "distributed", "export", "from_file", "fromfile",
        "genfromtxt", "hub", "jit", "load", "loads", "loadtxt", "memmap", "multiprocessing",
        "open_memmap", "ops", "os", "package", "save", "savetxt", "savez", "serialization",
        "sys", "tofile", "utils",
    )
)  # fmt: skip


class GateError(RamielError):
    """Generated source holds something that it may not hold; nothing was written."""


def check_expression(node: ast.expr, names: Collection[str]) -> None:
    """Raise `GateError` unless the expression is made of permitted nodes and of these names."""
    for part in ast.walk(node):
        if not isinstance(part, _EXPRESSIONS):
            raise GateError(f"generated code may not contain {type(part).__name__}")
        if isinstance(part, ast.Name) and part.id not in names:
            raise GateError(f"generated code may not use the name {part.id!a}")
        if isinstance(part, ast.Attribute) and not _is_permitted(part.attr):
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


def _is_permitted(attribute: str) -> bool:
    return not attribute.startswith("_") and attribute not in (*_FORBIDDEN, *MODULES)
