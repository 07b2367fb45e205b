"""RNN, GRU and LSTM: torch's own where it computes the same, else step by step."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

Activation = Callable[[torch.Tensor], torch.Tensor]
Step = Callable[..., tuple[torch.Tensor, ...]]
Weights = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]


def rnn(
    x: torch.Tensor,
    weight: torch.Tensor,
    recurrence: torch.Tensor,
    bias: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
    initial_h: torch.Tensor | None = None,
    *,
    activations: Sequence[str] = ("Tanh",),
    alphas: Sequence[float] = (),
    betas: Sequence[float] = (),
    clip: float | None = None,
    direction: str = "forward",
    layout: int = 0,
    fixed: bool = False,
) -> tuple[torch.Tensor, ...]:
    """A simple recurrent layer: all outputs and the last state; `fixed` weights never change."""
    weights = (weight, recurrence, bias)
    names = {name.lower() for name in activations}
    if clip is None and _is_full(x, lengths, layout) and names in ({"tanh"}, {"relu"}):
        function = torch.rnn_tanh if names == {"tanh"} else torch.rnn_relu
        return _with_torch(function, (0,), x, weights, (initial_h,), direction, layout, fixed)
    functions = _activations(activations, alphas, betas, weight.shape[0])

    def make_step(index: int) -> Step:
        f = functions[index]
        r, both = _recurrence(weights, index)

        def step(projected: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (f(_clipped(projected + torch.matmul(h, r) + both, clip)),)

        return step

    return _loop(make_step, x, weights, (initial_h,), lengths, direction, layout)


def gru(
    x: torch.Tensor,
    weight: torch.Tensor,
    recurrence: torch.Tensor,
    bias: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
    initial_h: torch.Tensor | None = None,
    *,
    activations: Sequence[str] = ("Sigmoid", "Tanh"),
    alphas: Sequence[float] = (),
    betas: Sequence[float] = (),
    clip: float | None = None,
    direction: str = "forward",
    layout: int = 0,
    linear_before_reset: bool = False,
    fixed: bool = False,
) -> tuple[torch.Tensor, ...]:
    """A GRU layer: all outputs and the last state; `fixed` weights never change."""
    weights = (weight, recurrence, bias)
    usual = _are(activations, "Sigmoid", "Tanh") and clip is None and linear_before_reset
    if usual and _is_full(x, lengths, layout):
        order = (1, 0, 2)  # update, reset, hidden in ONNX; reset, update, new in torch
        return _with_torch(torch.gru, order, x, weights, (initial_h,), direction, layout, fixed)
    functions = _activations(activations, alphas, betas, 2 * weight.shape[0])
    size = recurrence.shape[-1]

    def make_step(index: int) -> Step:
        f, g = functions[2 * index : 2 * index + 2]
        r, both = _recurrence(weights, index)
        r_gates, r_hidden = r[:, : 2 * size], r[:, 2 * size :]
        b_gates, b_hidden = both[: 2 * size], both[2 * size :]

        def step(projected: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, ...]:
            gates = projected[:, : 2 * size] + torch.matmul(h, r_gates) + b_gates
            update, reset = f(_clipped(gates, clip)).chunk(2, -1)
            if linear_before_reset:
                recurrent = reset * (torch.matmul(h, r_hidden) + b_hidden)
            else:
                recurrent = torch.matmul(reset * h, r_hidden) + b_hidden
            hidden = g(_clipped(projected[:, 2 * size :] + recurrent, clip))
            return ((1 - update) * hidden + update * h,)

        return step

    return _loop(make_step, x, weights, (initial_h,), lengths, direction, layout)


def lstm(
    x: torch.Tensor,
    weight: torch.Tensor,
    recurrence: torch.Tensor,
    bias: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
    initial_h: torch.Tensor | None = None,
    initial_c: torch.Tensor | None = None,
    peepholes: torch.Tensor | None = None,
    *,
    activations: Sequence[str] = ("Sigmoid", "Tanh", "Tanh"),
    alphas: Sequence[float] = (),
    betas: Sequence[float] = (),
    clip: float | None = None,
    direction: str = "forward",
    input_forget: bool = False,
    layout: int = 0,
    fixed: bool = False,
) -> tuple[torch.Tensor, ...]:
    """An LSTM layer: all outputs, the last state and cell; `fixed` weights never change."""
    weights = (weight, recurrence, bias)
    initial = (initial_h, initial_c)
    usual = _are(activations, "Sigmoid", "Tanh", "Tanh") and clip is None and not input_forget
    if usual and peepholes is None and _is_full(x, lengths, layout):
        order = (0, 2, 3, 1)  # input, output, forget, cell in ONNX; the output gate last in torch
        return _with_torch(torch.lstm, order, x, weights, initial, direction, layout, fixed)
    functions = _activations(activations, alphas, betas, 3 * weight.shape[0])
    size = recurrence.shape[-1]

    def make_step(index: int) -> Step:
        f, g, h_of = functions[3 * index : 3 * index + 3]
        r, both = _recurrence(weights, index)
        holes = x.new_zeros(3, size) if peepholes is None else peepholes[index].reshape(3, size)

        def step(
            projected: torch.Tensor, h: torch.Tensor, c: torch.Tensor
        ) -> tuple[torch.Tensor, ...]:
            gates = projected + torch.matmul(h, r) + both
            i, o, forget, cell = gates.chunk(4, -1)
            i = f(_clipped(i + holes[0] * c, clip))
            forget = 1 - i if input_forget else f(_clipped(forget + holes[2] * c, clip))
            c = forget * c + i * g(_clipped(cell, clip))
            o = f(_clipped(o + holes[1] * c, clip))
            return o * h_of(c), c

        return step

    return _loop(make_step, x, weights, initial, lengths, direction, layout)


def _are(activations: Sequence[str], *expected: str) -> bool:
    """Whether the activations are these, in every direction."""
    wanted = [name.lower() for name in expected] * (len(activations) // len(expected))
    return [name.lower() for name in activations] == wanted


def _is_full(x: torch.Tensor, lengths: torch.Tensor | None, layout: int) -> bool:
    """Whether every sequence is as long as the batch allows, and there is one."""
    steps = x.shape[1 if layout else 0]
    return x.numel() > 0 and (lengths is None or int(lengths.min()) == steps)


_PREPARED: dict[tuple[int, ...], Any] = {}


def _torch_weights(weights: Weights, order: Sequence[int], fixed: bool) -> list[torch.Tensor]:
    """The weights in torch's order of gates, remembered while a fixed weight lives."""
    key = tuple(id(part) for part in weights)
    if fixed and key in _PREPARED:
        found: list[torch.Tensor] = _PREPARED[key][-1]
        return found
    weight, recurrence, bias = weights
    prepared = []
    for index in range(weight.shape[0]):
        size = recurrence.shape[-1]
        rows = torch.cat([torch.arange(gate * size, (gate + 1) * size) for gate in order])
        prepared += [weight[index][rows], recurrence[index][rows]]
        if bias is not None:
            prepared += [half[rows] for half in bias[index].chunk(2)]
    if fixed:
        reference = weakref.ref(weight, lambda _: _PREPARED.pop(key, None))
        _PREPARED[key] = (reference, recurrence, bias, prepared)
    return prepared


def _with_torch(
    function: Any,
    order: Sequence[int],
    x: torch.Tensor,
    weights: Weights,
    initial: tuple[torch.Tensor | None, ...],
    direction: str,
    layout: int,
    fixed: bool,
) -> tuple[torch.Tensor, ...]:
    """One layer by torch; the backward one alone runs over the flipped sequence."""
    parameters = _torch_weights(weights, order, fixed)
    x, states = _prepared(x, weights, initial, layout)
    if direction == "reverse":
        x = x.flip(0)
    both = direction == "bidirectional"
    has_bias = weights[2] is not None
    start = states[0] if len(states) == 1 else states
    y, *last = function(x, start, parameters, has_bias, 1, 0.0, False, both, False)
    if direction == "reverse":
        y = y.flip(0)
    y = y.reshape(*y.shape[:2], 2 if both else 1, -1).transpose(1, 2)
    return _laid_out(y, last, layout)


def _prepared(
    x: torch.Tensor, weights: Weights, initial: tuple[torch.Tensor | None, ...], layout: int
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The input with time first, and the initial states: zeros where absent."""
    if layout:
        x = x.transpose(0, 1)
    shape = (weights[1].shape[0], x.shape[1], weights[1].shape[-1])
    states = [
        x.new_zeros(shape) if state is None else state.transpose(0, 1) if layout else state
        for state in initial
    ]
    return x, [state.contiguous() for state in states]


def _laid_out(
    y: torch.Tensor, last: Sequence[torch.Tensor], layout: int
) -> tuple[torch.Tensor, ...]:
    """The results with the batch first where the layout says so."""
    if not layout:
        return (y, *last)
    return (y.permute(2, 0, 1, 3), *(state.transpose(0, 1) for state in last))


def _recurrence(weights: Weights, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The transposed recurrence weights and their bias, for one direction."""
    recurrence, bias = weights[1][index], weights[2]
    zeros = recurrence.new_zeros(recurrence.shape[0])
    return recurrence.t(), zeros if bias is None else bias[index].chunk(2)[1]


def _loop(
    make_step: Callable[[int], Step],
    x: torch.Tensor,
    weights: Weights,
    initial: tuple[torch.Tensor | None, ...],
    lengths: torch.Tensor | None,
    direction: str,
    layout: int,
) -> tuple[torch.Tensor, ...]:
    """Step through time in each direction; a finished sequence keeps its state and yields zeros."""
    x, states = _prepared(x, weights, initial, layout)
    steps, batch = x.shape[:2]
    order = torch.arange(steps)[:, None].expand(steps, batch)
    backwards = order.flip(0)
    if lengths is not None:
        length = lengths.to(torch.int64)
        backwards = torch.where(order < length, length - 1 - order, order)
    columns = torch.arange(batch)
    outputs, finals = [], []
    for index in range(weights[0].shape[0]):
        reverse = direction == "reverse" or index == 1
        step = make_step(index)
        bias = weights[2]
        projected = torch.matmul(x, weights[0][index].t())
        if bias is not None:
            projected = projected + bias[index].chunk(2)[0]
        if reverse:
            projected = projected[backwards, columns]
        state = tuple(initial_state[index] for initial_state in states)
        found = []
        for time in range(steps):
            following = step(projected[time], *state)
            output = following[0]
            if lengths is not None:
                alive = (time < lengths)[:, None]
                pairs = zip(following, state, strict=True)
                following = tuple(torch.where(alive, new, old) for new, old in pairs)
                output = torch.where(alive, output, 0)
            state = following
            found.append(output)
        y = torch.stack(found) if found else x.new_zeros(0, batch, weights[1].shape[-1])
        outputs.append(y[backwards, columns] if reverse else y)
        finals.append(state)
    last = [torch.stack(parts) for parts in zip(*finals, strict=True)]
    return _laid_out(torch.stack(outputs, 1), last, layout)


def _clipped(x: torch.Tensor, clip: float | None) -> torch.Tensor:
    return x if clip is None else x.clamp(-clip, clip)


# name: the defaults of the parameters it takes, and the function of x, alpha, beta
_ACTIVATIONS: dict[str, tuple[tuple[float, ...], Callable[..., torch.Tensor]]] = {
    "relu": ((), lambda x: torch.relu(x)),
    "tanh": ((), lambda x: torch.tanh(x)),
    "sigmoid": ((), lambda x: torch.sigmoid(x)),
    "affine": ((1.0, 0.0), lambda x, a, b: a * x + b),
    "leakyrelu": ((0.01,), lambda x, a: torch.where(x >= 0, x, a * x)),
    "thresholdedrelu": ((1.0,), lambda x, a: torch.where(x >= a, x, 0)),
    "scaledtanh": ((1.0, 1.0), lambda x, a, b: a * torch.tanh(b * x)),
    "hardsigmoid": ((0.2, 0.5), lambda x, a, b: (a * x + b).clamp(0, 1)),
    "elu": ((1.0,), lambda x, a: torch.where(x >= 0, x, a * torch.expm1(x))),
    "softsign": ((), lambda x: F.softsign(x)),
    "softplus": ((), lambda x: F.softplus(x)),
}


def _activations(
    names: Sequence[str], alphas: Sequence[float], betas: Sequence[float], count: int
) -> list[Activation]:
    """`count` functions, repeating the names; each takes the parameters that are next in line."""
    remaining = [list(alphas), list(betas)]
    functions = []
    for name in [*names] * (count // len(names)):
        defaults, function = _ACTIVATIONS[name.lower()]
        values = [
            given.pop(0) if given else default
            for given, default in zip(remaining, defaults, strict=False)
        ]
        functions.append(_with_parameters(function, values))
    return functions


def _with_parameters(function: Callable[..., torch.Tensor], values: list[float]) -> Activation:
    return lambda x: function(x, *values)
