"""The refilled light models tell branches apart: whatever is disturbed moves an output."""

from __future__ import annotations

import random

import numpy as np
import pytest

from ramiel_ir.ir import Graph, Names, Op, Tensor, Value
from ramiel_ir.laws import difference
from tests.light import light_inputs, light_model, run_ort

_JOINS = ("Concat", "Sum", "Add", "Mul")
_SMALL = ("shufflenet", "squeezenet")
_BRANCHING = ("densenet121", "inception_v1", "inception_v2", "resnet50", *_SMALL)


def branches(graph: Graph) -> list[tuple[Op, int]]:
    """The operands of joins that ops compute; where nothing joins, what every op reads."""
    found = [
        (op, index)
        for op in graph.ops
        for index, value in enumerate(op.operands)
        if value is not None and value.op is not None and len(op.reads) > 1
    ]
    joins = [(op, index) for op, index in found if op.kind in _JOINS]
    return [pair for pair in joins if sum(v.op is not None for v in pair[0].reads) > 1] or found


def disturbed(graph: Graph, number: int, branch: int) -> Graph:
    """The graph with operand `branch` of op `number` set to zero."""
    copy = graph.clone()
    op = copy.ops[number]
    value = op.operands[branch]
    assert value is not None
    names = Names(copy)
    zero = copy.add_weight(names.fresh("zero"), Tensor.of(np.zeros(1, np.float32)))
    nothing = Value(names.fresh("nothing"), value.type)
    op.set_operand(branch, nothing)
    gone = Op("Mul", [value, zero], [nothing])
    gone.graph = copy
    copy.ops.insert(number, gone)
    return copy


@pytest.mark.parametrize("name", [*_BRANCHING, "zfnet512"])
def test_every_branch_of_a_light_model_matters(name: str) -> None:
    graph = light_model(name)
    inputs = light_inputs(graph, seed=1)
    (expected,) = run_ort(graph, inputs)
    assert np.isfinite(expected).all()
    assert expected.std() > 0
    if expected.min() >= 0 and abs(expected.sum() - 1) < 1e-3:  # a softmax
        assert 0.005 < expected.max() < 0.9
    limit = 10 * (1e-3 * np.abs(expected).max() + 1e-5)
    all_branches = branches(graph)
    count = 6 if name in _SMALL else 3 if name in _BRANCHING else 1
    position = {op: number for number, op in enumerate(graph.ops)}
    for op, branch in random.Random(0).sample(all_branches, min(count, len(all_branches))):
        (found,) = run_ort(disturbed(graph, position[op], branch), inputs)
        assert np.abs(found - expected).max() > limit, f"{op}, operand {branch}"


def test_a_seed_gives_the_same_weights_and_another_others() -> None:
    assert difference(light_model("squeezenet"), light_model("squeezenet")) is None
    assert difference(light_model("squeezenet"), light_model("squeezenet", seed=1)) is not None


def test_no_weight_is_one_repeated_value() -> None:
    for value in light_model("shufflenet").weights:
        assert value.weight is not None
        if value.weight.dtype.text == "f32" and value.weight.count > 1:
            assert value.weight.array.std() > 0, value
