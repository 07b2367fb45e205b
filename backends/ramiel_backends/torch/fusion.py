"""Activations that exporters spell out, as the one function that PyTorch has for them.

x · sigmoid(x) is SiLU; ½ · x · (1 + erf(x / √2)), its factors in any order, is GELU (Hendrycks and
Gimpel 2016, arXiv:1606.08415). They become the ops that ONNX Runtime's optimizer makes of them: one
walk over memory, and one line to read, for two or five.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ramiel_ir.ir import Graph, Op, Value

_DOMAIN = "com.microsoft"
_CLOSE = 3e-4
"""How far the square of a spelled-out √2 may be from 2, as a share: rounding to f16 takes 2e-4."""


def fuse_activations(graph: Graph) -> None:
    """Replace them here and in regions; what others read of the ops in between stays as it is."""
    for scope in {op.graph: None for op in graph.walk()}:
        assert scope is not None
        found = list(_activations(scope))
        if not found:
            continue
        scope.opsets.setdefault(_DOMAIN, 1)
        scope.replace({activation.last: activation.fused for activation in found})
        scope.erase(*(op for activation in found for op in activation.others))


@dataclass(frozen=True)
class _Activation:
    """The op that makes the result, the one in its place, and those that nobody needs then."""

    last: Op
    fused: Op
    others: tuple[Op, ...]


def _activations(graph: Graph) -> Iterator[_Activation]:
    for op in graph.ops:
        if op.qualified_kind == "Sigmoid":
            found = _silu(op)
        elif op.qualified_kind == "Erf":
            found = _gelu(op)
        else:
            continue
        if found is not None:
            yield found


def _silu(sigmoid: Op) -> _Activation | None:
    x, product = sigmoid.operand(0), _only_user(sigmoid)
    if x is None or product is None or product.qualified_kind != "Mul":
        return None
    if _other(product, sigmoid) is not x:
        return None
    return _fused("QuickGelu", x, product, (sigmoid,), alpha=1.0)


def _gelu(erf: Op) -> _Activation | None:
    scaled = erf.operand(0)
    scaling = None if scaled is None else scaled.op
    if scaling is None or scaling.graph is not erf.graph or _only_user(scaling) is not erf:
        return None
    x, scale = _scaled(scaling)
    if x is None or abs(scale * scale * 2 - 1) > _CLOSE:
        return None
    plus_one = _only_user(erf)
    if plus_one is None or plus_one.qualified_kind != "Add":
        return None
    if _number(_other(plus_one, erf)) != 1.0:
        return None
    others, last, factor, times_x = [scaling, erf, plus_one], plus_one, 1.0, False
    while not (times_x and factor == 0.5):
        user = _only_user(last)
        if user is None or user.qualified_kind not in ("Mul", "Div") or len(others) > 5:
            return None
        value = _other(user, last)
        half, half_scale = (None, 1.0) if value is None or value.op is None else _scaled(value.op)
        if value is x and not times_x and user.kind == "Mul":
            times_x = True
        elif value is not None and half is x and not times_x and user.kind == "Mul":
            if value.op is None or _only_user(value.op) is not user:
                return None
            times_x, factor = True, factor * half_scale
            others.append(value.op)
        else:
            _, scale = _scaled(user)
            factor *= scale
        others.append(user)
        last = user
    return _fused("Gelu", x, last, tuple(op for op in others if op is not last))


def _fused(
    kind: str, x: Value, last: Op, others: tuple[Op, ...], **options: float
) -> _Activation | None:
    """None without a result, and where multiplying by a constant of more axes changes its type."""
    if x.type is None or x.type.shape is None or [x.type] != [v.type for v in last.writes]:
        return None
    (result,) = last.writes
    fused = Op(
        kind,
        [x],
        [Value(result.name, result.type)],
        options,
        domain=_DOMAIN,
        cluster=last.cluster,
        name=last.name,
    )
    return _Activation(last, fused, others)


def _only_user(op: Op) -> Op | None:
    """The op of the same graph that reads the result of `op`, once and alone; None without one."""
    if len(op.writes) != 1:
        return None
    (value,) = op.writes
    if value.is_output or len(value.uses) != 1:
        return None
    (user,) = value.users()
    return user if user.graph is op.graph else None


def _other(op: Op, known: Op) -> Value | None:
    """The operand of an op of two that `known` does not make."""
    left, right = op.operands
    return right if left is not None and left.op is known else left


def _scaled(op: Op) -> tuple[Value | None, float]:
    """The operand that the op multiplies with a constant, and the constant; None and 0 if none."""
    if op.qualified_kind not in ("Mul", "Div"):
        return None, 0.0
    left, right = op.operands
    number = _number(right)
    if number:
        return left, number if op.kind == "Mul" else 1 / number
    number = _number(left)
    if number and op.kind == "Mul":
        return right, number
    return None, 0.0


def _number(value: Value | None) -> float | None:
    """The one number of a constant."""
    weight = None if value is None else value.weight
    if weight is None or weight.is_detached or weight.type.count != 1:
        return None
    return float(weight.array.reshape(-1)[0])
