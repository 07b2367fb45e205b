"""Random numbers."""

from __future__ import annotations

from ramiel_backends.torch.families._calls import Option, call
from ramiel_backends.torch.families._types import torch_type
from ramiel_backends.torch.table import Site, emits, literal
from ramiel_ir.ir import DType


def _normal(site: Site) -> dict[str, Option]:
    names = {"mean": 0.0, "scale": 1.0, "seed": None}
    return {name: (site.attribute(name, value), value) for name, value in names.items()}


def _uniform(site: Site) -> dict[str, Option]:
    names = {"low": 0.0, "high": 1.0, "seed": None}
    return {name: (site.attribute(name, value), value) for name, value in names.items()}


def _shape(site: Site) -> list[str]:
    """Shape and type as the attributes say."""
    dtype = DType.from_onnx(site.attribute("dtype", 1))
    typed = [] if dtype is DType.F32 else [f"dtype={torch_type(dtype)}"]
    return [literal(site.attribute("shape")), *typed]


def _type_like(site: Site) -> str:
    code = site.attribute("dtype")
    return torch_type(DType.from_onnx(code)) if code else f"{site[0]}.dtype"


def _shape_like(site: Site) -> list[str]:
    """Shape and type of the operand, where no attribute says another type."""
    return [f"{site[0]}.shape", f"dtype={_type_like(site)}"]


@emits("RandomNormal")
def random_normal(site: Site) -> str:
    return call("random.normal", *_shape(site), **_normal(site))


@emits("RandomUniform")
def random_uniform(site: Site) -> str:
    return call("random.uniform", *_shape(site), **_uniform(site))


@emits("RandomNormalLike")
def random_normal_like(site: Site) -> str:
    return call("random.normal", *_shape_like(site), **_normal(site))


@emits("RandomUniformLike")
def random_uniform_like(site: Site) -> str:
    return call("random.uniform", *_shape_like(site), **_uniform(site))


@emits("Bernoulli", since=15)
def bernoulli(site: Site) -> str:
    seed = (site.attribute("seed"), None)
    return call("random.bernoulli", site[0], _type_like(site), seed=seed)


@emits("Multinomial", since=7)
def multinomial(site: Site) -> str:
    wide = ["dtype=torch.int64"] if site.attribute("dtype", 6) == 7 else []
    return call(
        "random.multinomial",
        *(site[0], str(site.attribute("sample_size", 1)), *wide),
        seed=(site.attribute("seed"), None),
    )
