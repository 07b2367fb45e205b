"""Products of matrices."""

from __future__ import annotations

from ramiel_backends.torch.families._calls import call
from ramiel_backends.torch.families._types import FLOATS, computable, known_shape, typed
from ramiel_backends.torch.table import Site, emits, literal
from ramiel_ir.ir import DType

typed("MatMul", "torch.matmul({0}, {1})", "linear.matmul({0}, {1})")


@emits("Det")
def det(site: Site) -> str:
    if site.dtype(0) in (DType.F32, DType.F64):
        return f"torch.linalg.det({site[0]})"
    return f"linear.det({site[0]})"


@emits("Einsum")
def einsum(site: Site) -> str:
    function = "torch.einsum" if computable(site) else "linear.einsum"
    equation = literal(site.attribute("equation").replace(" ", ""))
    return f"{function}({', '.join([equation, *site.given])})"


@emits("Gemm")
def gemm(site: Site) -> str:
    alpha, beta = site.attribute("alpha", 1.0), site.attribute("beta", 1.0)
    flips = bool(site.attribute("transA", 0)), bool(site.attribute("transB", 0))
    if site.dtype(0) not in (*FLOATS, None):
        return _gemm_of_integers(site, alpha, beta, flips)
    a, b = (f"{site[i]}.t()" if flip else site[i] for i, flip in enumerate(flips))
    if not site.has(2) or beta == 0:
        product = f"torch.mm({a}, {b})"
        return product if alpha == 1 else f"{literal(alpha)} * {product}"
    bias = known_shape(site, 2)
    if alpha == beta == 1 and flips == (False, True) and bias is not None and _is_row(site, bias):
        return f"F.linear({site[0]}, {site[1]}, {site[2]})"
    return call("torch.addmm", site[2], a, b, beta=(beta, 1.0), alpha=(alpha, 1.0))


def _is_row(site: Site, bias: tuple[int, ...]) -> bool:
    weight = known_shape(site, 1)
    return weight is not None and bias == weight[:1]


def _gemm_of_integers(site: Site, alpha: float, beta: float, flips: tuple[bool, bool]) -> str:
    factors = {"alpha": (alpha, 1.0), "beta": (beta, 1.0)}
    trans = {"trans_a": (flips[0], False), "trans_b": (flips[1], False)}
    return call("linear.gemm", site[0], site[1], site[2], **factors, **trans)
