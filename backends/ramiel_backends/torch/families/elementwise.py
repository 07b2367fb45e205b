"""Functions of one number, and the activations built of them."""

from __future__ import annotations

from ramiel_backends.torch.families._calls import call
from ramiel_backends.torch.families._types import computable
from ramiel_backends.torch.table import TABLE, Row, Site, emits, literal, row

row("Acos", "torch.acos({0})")
row("Acosh", "torch.acosh({0})")
row("Asin", "torch.asin({0})")
row("Asinh", "torch.asinh({0})")
row("Atan", "torch.atan({0})")
row("Atanh", "torch.atanh({0})")
row("Cos", "torch.cos({0})")
row("Cosh", "torch.cosh({0})")
row("Erf", "torch.erf({0})")
row("Exp", "torch.exp({0})")
row("Log", "torch.log({0})")
row("Sin", "torch.sin({0})")
row("Sinh", "torch.sinh({0})")
row("Sqrt", "torch.sqrt({0})")
row("Tan", "torch.tan({0})")
row("Tanh", "torch.tanh({0})")

row("Celu", "F.celu({0}, {alpha})", alpha=1.0)
row("Mish", "F.mish({0})")
row("Sigmoid", "torch.sigmoid({0})")
row("Softplus", "F.softplus({0})")
row("Softsign", "F.softsign({0})")
row("ThresholdedRelu", "F.threshold({0}, {alpha}, 0.0)", alpha=1.0)


@emits("Gelu")
def gelu(site: Site) -> str:
    return call("F.gelu", site[0], approximate=(site.attribute("approximate", "none"), "none"))


def _activation(kind: str, function: str, **defaults: float) -> None:
    """A row for an activation that may work in place, where nobody else reads its operand."""

    def emit(site: Site) -> str:
        options = [literal(site.attribute(name, value)) for name, value in defaults.items()]
        return call(function, site[0], *options, inplace=(site.reusable(0), False))

    TABLE.add(Row(kind, "", 1, emit))


_activation("Elu", "F.elu", alpha=1.0)
_activation("HardSwish", "F.hardswish")
_activation("LeakyRelu", "F.leaky_relu", alpha=0.01)
_activation("Relu", "F.relu")


@emits("HardSigmoid")
def hard_sigmoid(site: Site) -> str:
    alpha, beta = site.attribute("alpha", 0.2), site.attribute("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-7 and beta == 0.5:
        return f"F.hardsigmoid({site[0]})"
    return f"torch.clamp({site[0]} * {literal(alpha)} + {literal(beta)}, 0.0, 1.0)"


@emits("PRelu")
def prelu(site: Site) -> str:
    ranks = (site.rank(0), site.rank(1))
    if site.version < 7:  # one slope for each channel, or one for all
        return f"F.prelu({site[0]}, {site[1]})"
    if None in ranks or max(ranks) != ranks[0]:  # type: ignore[type-var]
        return f"elementwise.prelu({site[0]}, {site[1]})"
    return f"torch.where({site[0]} < 0, {site[0]} * {site[1]}, {site[0]})"


@emits("Selu", since=6)
def selu(site: Site) -> str:
    if not site.op.attributes:
        return f"F.selu({site[0]})"
    return _selu(site, 1.6732632423543772, 1.0507009873554805)


@emits("Selu")
def selu_rounded(site: Site) -> str:
    return _selu(site, 1.6732, 1.0507)


def _selu(site: Site, alpha: float, gamma: float) -> str:
    alpha, gamma = site.attribute("alpha", alpha), site.attribute("gamma", gamma)
    return f"{literal(gamma)} * F.elu({site[0]}, {literal(alpha)})"


@emits("Shrink")
def shrink(site: Site) -> str:
    lambd, bias = site.attribute("lambd", 0.5), site.attribute("bias", 0.0)
    if bias == 0.0 and computable(site):
        return f"torch.where(torch.abs({site[0]}) > {literal(lambd)}, {site[0]}, 0)"
    return f"elementwise.shrink({site[0]}, {literal(lambd)}, {literal(bias)})"


@emits("Swish")
def swish(site: Site) -> str:
    alpha = site.attribute("alpha", 1.0)
    if alpha == 1.0:
        return f"F.silu({site[0]})"
    return f"{site[0]} * torch.sigmoid({site[0]} * {literal(alpha)})"


@emits("Softmax")
def softmax_flat(site: Site) -> str:
    return _flat(site, "torch.softmax")


@emits("Softmax", since=13)
def softmax(site: Site) -> str:
    return f"torch.softmax({site[0]}, {site.attribute('axis', -1)})"


@emits("LogSoftmax")
def log_softmax_flat(site: Site) -> str:
    return _flat(site, "torch.log_softmax")


@emits("LogSoftmax", since=13)
def log_softmax(site: Site) -> str:
    return f"torch.log_softmax({site[0]}, {site.attribute('axis', -1)})"


@emits("Hardmax")
def hardmax_flat(site: Site) -> str:
    return _flat(site, "elementwise.hardmax")


@emits("Hardmax", since=13)
def hardmax(site: Site) -> str:
    return f"elementwise.hardmax({site[0]}, {site.attribute('axis', -1)})"


def _flat(site: Site, function: str) -> str:
    """Before opset 13 all axes from `axis` on counted as one."""
    axis, rank = site.attribute("axis", 1), site.rank(0)
    if rank is not None and axis % max(rank, 1) == rank - 1:
        return f"{function}({site[0]}, -1)"
    return f"{function}({site[0]}.flatten({axis}), -1).reshape({site[0]}.shape)"
