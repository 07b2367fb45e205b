"""RNN, GRU and LSTM."""

from __future__ import annotations

from typing import Any

from ramiel_backends.torch.families._calls import call, every, results
from ramiel_backends.torch.table import Site, emits
from ramiel_ir.pipeline import No

_KNOWN = (
    *("relu", "tanh", "sigmoid", "affine", "leakyrelu", "thresholdedrelu"),
    *("scaledtanh", "hardsigmoid", "elu", "softsign", "softplus"),
)


def _layer(site: Site, function: str, total: int, *usual: str, **more: Any) -> str | No:
    direction = site.attribute("direction", "forward")
    default = usual * (2 if direction == "bidirectional" else 1)
    activations = site.attribute("activations") or default
    for name in activations:
        if name.lower() not in _KNOWN:
            return No(f"the activation {name!a} is not one that ONNX defines")
    weights = [site.op.operand(index) for index in (1, 2, 3)]
    fixed = all(value is None or value.weight is not None for value in weights)
    expression = call(
        f"recurrent.{function}",
        *every(site),
        activations=(activations, default),
        alphas=(site.attribute("activation_alpha", ()), ()),
        betas=(site.attribute("activation_beta", ()), ()),
        clip=(site.attribute("clip"), None),
        direction=(direction, "forward"),
        layout=(site.attribute("layout", 0), 0),
        fixed=(fixed, False),
        **more,
    )
    return results(site, expression, total)


@emits("RNN")
def rnn(site: Site) -> str | No:
    return _layer(site, "rnn", 2, "Tanh")


@emits("GRU")
def gru(site: Site) -> str | No:
    linear = bool(site.attribute("linear_before_reset", 0))
    return _layer(site, "gru", 2, "Sigmoid", "Tanh", linear_before_reset=(linear, False))


@emits("LSTM")
def lstm(site: Site) -> str | No:
    coupled = bool(site.attribute("input_forget", 0))
    return _layer(site, "lstm", 3, "Sigmoid", "Tanh", "Tanh", input_forget=(coupled, False))
