"""The BiLSTM tagger against its papers, PyTorch's LSTM, and itself at other shapes."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import onnx
import pytest

import ramiel_models
from tests.models.branches import (
    assert_plain,
    distance,
    draw,
    effects,
    joins,
    outputs,
    shapes,
    weights,
)

SHAPES = {
    "word.gather": (6, 2, 100),
    "layer.0.forward.squeeze": (6, 2, 100),
    "layer.0.reverse.squeeze": (6, 2, 100),
    "layer.0.joined": (6, 2, 200),
    "layer.1.forward.squeeze": (6, 2, 100),
    "layer.1.reverse.squeeze": (6, 2, 100),
    "layer.1.joined": (6, 2, 200),
    "emissions": (2, 6, 9),
}
"""Reimers and Gurevych 2017: 100-d. embeddings, two layers of 100 units, both directions."""


@cache
def built(
    batch: int | str = "batch", sequence_length: int | str = "length", opset: int = 21
) -> onnx.ModelProto:
    return ramiel_models.build("bilstm", batch=batch, sequence_length=sequence_length, opset=opset)


def test_ops_of_each_kind():
    nodes = built(1, 6).graph.node
    assert Counter(node.op_type for node in nodes) == {
        "LSTM": 4,
        "Squeeze": 4,
        "Transpose": 2,
        "Concat": 2,
        "Gather": 1,
        "MatMul": 1,
        "Add": 1,
    }
    first, second, third, fourth = (node for node in nodes if node.op_type == "LSTM")
    assert first.input[0] == second.input[0], "both directions read the same operand"
    assert third.input[0] == fourth.input[0]
    directions = [attribute.s for attribute in first.attribute if attribute.name == "direction"]
    assert directions == [b"forward"]


def test_shapes_of_blocks():
    assert_plain(built(2, 6))
    known = shapes(built(2, 6))
    assert {name: known[name] for name in SHAPES} == SHAPES


def test_every_direction_shows():
    model = built(1, 8)
    found = effects(model, joins(model, "joined", [0, 1]), draw(model))
    assert len(found) == 4
    assert min(found.values()) > 10


@pytest.mark.parametrize("length", [8, 200])
def test_emissions_vary_and_states_do_not_saturate(length):
    inputs = draw(built(), batch=2, length=length)
    found = outputs(built(), inputs)
    assert distance(found, outputs(built(), inputs, optimized=True)) < 0.1
    assert found["emissions"].std(axis=1).mean() > 0.3, "tokens are alike"
    inner = onnx.ModelProto()
    inner.CopyFrom(built())
    inner.graph.output.extend(
        value for value in built().graph.value_info if value.name.endswith("joined")
    )
    states = outputs(inner, inputs)
    for layer in range(2):
        assert 0.15 < states[f"layer.{layer}.joined"].std() < 0.6


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("length", [1, 7, 19])
def test_symbolic_shapes_agree_with_static_ones(batch, length):
    inputs = draw(built(batch, length))
    static = outputs(built(batch, length), inputs)
    assert distance(static, outputs(built(), inputs)) < 1e-3
    assert shapes(built())["emissions"] == ("batch", "length", 9)


@pytest.mark.parametrize("opset", [17, 20, 23])
def test_opsets(opset):
    model = built(opset=opset)
    assert model.opset_import[0].version == opset
    inputs = draw(model, batch=2, length=5)
    assert distance(outputs(built(), inputs), outputs(model, inputs)) < 1e-3


def test_agrees_with_pytorch():
    torch = pytest.importorskip("torch")
    model = built(2, 9)
    inputs = draw(model)
    drawn = weights(model)

    def reordered(array):
        """From ONNX's gates (input, output, forget, cell) to PyTorch's (i, f, g, o)."""
        i, o, f, c = np.split(array, 4)
        return torch.tensor(np.concatenate([i, f, c, o]))

    theirs = torch.nn.LSTM(100, 100, num_layers=2, bidirectional=True, batch_first=True)
    state = {}
    for layer in range(2):
        for direction, suffix in (("forward", ""), ("reverse", "_reverse")):
            own = f"layer.{layer}.{direction}"
            bias_ih, bias_hh = np.split(drawn[f"{own}.bias"][0], 2)
            state[f"weight_ih_l{layer}{suffix}"] = reordered(drawn[f"{own}.operand_weight"][0])
            state[f"weight_hh_l{layer}{suffix}"] = reordered(drawn[f"{own}.state_weight"][0])
            state[f"bias_ih_l{layer}{suffix}"] = reordered(bias_ih)
            state[f"bias_hh_l{layer}{suffix}"] = reordered(bias_hh)
    theirs.load_state_dict(state)
    with torch.no_grad():
        states, _ = theirs(torch.tensor(drawn["word.table"][inputs["tokens"]]))
    emissions = states.numpy() @ drawn["emissions.weight"] + drawn["emissions.bias"]
    assert distance(outputs(model, inputs), {"emissions": emissions}) < 0.1


def test_ranges():
    entries = {entry.key: entry.value for entry in built().metadata_props}
    assert entries == {"ramiel.range.tokens": "0,20000"}
