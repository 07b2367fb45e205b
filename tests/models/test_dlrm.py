"""DLRM against its paper, against NumPy, and itself at other shapes."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import onnx
import pytest

import ramiel_models
from ramiel_models.dlrm import CATEGORIES
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
    "bottom.0.relu": (4, 512),
    "bottom.1.relu": (4, 256),
    "bottom.2.relu": (4, 64),
    "bottom.3.relu": (4, 16),
    "interaction.features": (4, 27, 16),
    "interaction.products": (4, 27, 27),
    "interaction.pairs": (4, 351),
    "interaction.joined": (4, 367),
    "top.0.gemm": (4, 512),
    "top.1.gemm": (4, 256),
    "probability": (4, 1),
}
"""Naumov et al. 2019, section 2.2, at the sizes of dlrm_s_criteo_kaggle.sh (367-512-256-1)."""


@cache
def built(batch: int | str = "batch", bag_size: int | str = 1, opset: int = 21) -> onnx.ModelProto:
    return ramiel_models.build("dlrm", batch=batch, bag_size=bag_size, opset=opset)


def test_ops_of_each_kind():
    assert Counter(node.op_type for node in built(1).graph.node) == {
        "Gather": 27,
        "ReduceSum": 26,
        "Gemm": 7,
        "Relu": 6,
        "Concat": 2,
        "Reshape": 1,
        "Transpose": 1,
        "MatMul": 1,
        "Flatten": 1,
        "Sigmoid": 1,
    }


def test_shapes_of_blocks():
    assert_plain(built(4))
    known = shapes(built(4))
    assert {name: known[name] for name in SHAPES} == SHAPES
    for name in CATEGORIES:
        assert known[name] == (4, 1)
        assert known[f"embedding.{name}.bag"] == (4, 16)
    assert len(CATEGORIES) == 26


def test_tables_have_the_rows_of_criteo_kaggle_up_to_the_limit():
    tables = {n: w.shape for n, w in weights(built(1)).items() if n.endswith("table")}
    assert len(tables) == 26
    assert tables["embedding.C1.table"] == (1460, 16)
    assert tables["embedding.C9.table"] == (3, 16)
    assert tables["embedding.C3.table"] == (10_000, 16)
    assert sum(rows for rows, _ in tables.values()) == 119_889


@pytest.mark.parametrize("seed", [0, 1])
def test_every_embedding_and_the_bottom_mlp_show(seed):
    """Over 16 samples: one probability alone may stay where it is by chance."""
    model = ramiel_models.build("dlrm", batch=16, seed=seed)
    found = effects(model, joins(model, "interaction.stacked", range(27)), draw(model))
    assert len(found) == 27
    assert min(found.values()) > 10


def test_probabilities_vary_and_do_not_saturate():
    inputs = draw(built(), batch=64)
    found = outputs(built(), inputs)
    assert distance(found, outputs(built(), inputs, optimized=True)) < 0.1
    assert found["probability"].min() > 0.01
    assert found["probability"].max() < 0.99
    assert found["probability"].std() > 0.1


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("bag", [1, 3])
def test_symbolic_shapes_agree_with_static_ones(batch, bag):
    inputs = draw(built(batch, bag))
    static = outputs(built(batch, bag), inputs)
    assert distance(static, outputs(built("batch", "bag"), inputs)) < 1e-3
    known = shapes(built("batch", "bag"))
    assert known["C26"] == ("batch", "bag")
    assert known["probability"] == ("batch", 1)


@pytest.mark.parametrize("opset", [17, 23])
def test_opsets(opset):
    model = built(opset=opset)
    assert model.opset_import[0].version == opset
    inputs = draw(model, batch=3)
    assert distance(outputs(built(), inputs), outputs(model, inputs)) < 1e-3


def test_agrees_with_numpy():
    model = built("batch", "bag")
    inputs = draw(model, batch=4, bag=2)
    drawn = weights(model)

    def affine(x, name):
        return x @ drawn[f"{name}.weight"].T + drawn[f"{name}.bias"]

    x = inputs["dense"]
    for index in range(4):
        x = np.maximum(affine(x, f"bottom.{index}"), 0)
    tables = {name: drawn[f"embedding.{name}.table"] for name in CATEGORIES}
    features = [x, *(table[inputs[name]].sum(axis=1) for name, table in tables.items())]
    pairs = [
        (features[row] * features[column]).sum(axis=1) for row in range(27) for column in range(row)
    ]
    x = np.concatenate([x, np.stack(pairs, axis=1)], axis=1)
    x = np.maximum(affine(x, "top.0"), 0)
    x = affine(np.maximum(affine(x, "top.1"), 0), "top.2")
    assert distance(outputs(model, inputs), {"probability": 1 / (1 + np.exp(-x))}) < 0.1


def test_ranges():
    ranges = {entry.key: entry.value for entry in built().metadata_props}
    assert len(ranges) == 27
    assert ranges["ramiel.range.dense"] == "0,6"
    assert ranges["ramiel.range.C3"] == "0,10000"
    assert ranges["ramiel.range.C20"] == "0,4"
