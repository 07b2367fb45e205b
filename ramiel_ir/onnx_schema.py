"""Are ops as ONNX's schemas say? What the checks of a stranger's model rest on.

Rows of an op table, shape inference and kernels trust an attribute to have its type and an operand
to be there. Ops of which onnx knows no schema, of other domains, are not judged.
"""

from __future__ import annotations

from functools import cache

import onnx
from onnx import defs

from ramiel_ir.errors import ModelError
from ramiel_ir.ir import DType, Graph, Op, Value

_AttrType = defs.OpSchema.AttrType
_KINDS = {
    _AttrType.INT: "int",
    _AttrType.INTS: "ints",
    _AttrType.FLOAT: "float",
    _AttrType.FLOATS: "floats",
    _AttrType.STRING: "string",
    _AttrType.STRINGS: "strings",
    _AttrType.TENSOR: "tensor",
    _AttrType.TENSORS: "tensors",
    _AttrType.TYPE_PROTO: "type",
    _AttrType.TYPE_PROTOS: "types",
    _AttrType.GRAPH: "graph",
    _AttrType.SPARSE_TENSOR: "sparse tensor",
}


def check_schemas(graph: Graph) -> None:
    """Raise `ModelError` that names the op unless every op is as its schema says.

    Attributes: those that there are, of their types, and all that must be given. Operands and
    results: their number, and the element types of operands. Versions of op sets: that there is
    such a number, since no op would be judged without it.
    """
    for domain, version in graph.opsets.items():
        if not (0 if domain else 1) <= version < 2**31:
            name = domain or "ai.onnx"
            raise ModelError(f"no op set has the version {version}, as that of {name!r} has here")
    for op in graph.walk():
        schema = _schema(op.kind, op.domain, graph.opsets.get(op.domain, 1))
        if schema is not None:
            problem = _of_attributes(op, schema) or _of_values(op, schema)
            if problem:
                raise ModelError(f"{op}: {problem}")


@cache
def _schema(kind: str, domain: str, version: int) -> defs.OpSchema | None:
    try:
        return defs.get_schema(kind, version, domain)
    except defs.SchemaError:
        return None


def _of_attributes(op: Op, schema: defs.OpSchema) -> str:
    given: dict[str, str] = dict.fromkeys(op.regions, "graph")
    given |= {name: attribute.kind for name, attribute in op.attributes.items()}
    for name, kind in given.items():
        if name not in schema.attributes:
            return f"there is no attribute {name!r}"
        wanted = _KINDS[schema.attributes[name].type]
        if kind != wanted:
            return f"attribute {name!r} is of type {kind}, not {wanted}"
    for name, attribute in schema.attributes.items():
        if attribute.required and name not in given:
            return f"attribute {name!r} is missing"
    return ""


def _of_values(op: Op, schema: defs.OpSchema) -> str:
    if not schema.min_input <= len(op.operands) <= schema.max_input:
        most = schema.max_input
        wanted = f"{schema.min_input}" + (f" to {most}" if most > schema.min_input else "")
        return f"it has {len(op.operands)} operands, not {wanted}"
    if len(op.results) > schema.max_output:
        return f"it has {len(op.results)} results, not {schema.max_output}"
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    bound: dict[str, str] = {}
    for index, operand in enumerate(op.operands):
        formal = schema.inputs[min(index, len(schema.inputs) - 1)]
        if operand is None:
            if formal.option == defs.OpSchema.FormalParameterOption.Single:
                return f"operand {formal.name!r} is missing"
            continue
        type = _type_string(operand)
        if type is None:
            continue
        if type not in allowed.get(formal.type_str, {formal.type_str}):
            return f"operand {formal.name!r} may not be a {type}"
        if formal.is_homogeneous and bound.setdefault(formal.type_str, type) != type:
            return f"operand {formal.name!r} is a {type}, beside a {bound[formal.type_str]}"
    return ""


def _type_string(value: Value) -> str | None:
    """The type of a tensor in the schemas' words, None where it is none or not known."""
    type = value.type
    if type is None or type.kind != "tensor" or not isinstance(type.element, DType):
        return None
    return f"tensor({onnx.TensorProto.DataType.Name(type.element.onnx_code).lower()})"
