"""Ops of every kind that the published architectures have."""

from __future__ import annotations

from collections import Counter

import pytest

COUNTS = {
    "squeezenet": {"Conv": 26, "Relu": 26, "MaxPool": 3, "Concat": 8},
    "googlenet": {"Conv": 57, "Concat": 9, "LRN": 2, "MaxPool": 13},
    "inception-v3": {"Conv": 94, "BatchNormalization": 94, "Concat": 11},
    "inception-v4": {"Conv": 149, "BatchNormalization": 149, "Concat": 19},
    "resnet50": {"Conv": 53, "BatchNormalization": 53, "Add": 16},
    "densenet121": {"Conv": 120, "Gemm": 1, "BatchNormalization": 121, "Concat": 58},
    "nasnet-mobile": {"Conv": 356, "Relu": 132, "BatchNormalization": 192},
    "nasnet-large": {"Conv": 488, "Relu": 180, "BatchNormalization": 264},
    "mobilenet-v3-small": {"Conv": 52, "HardSwish": 19, "HardSigmoid": 9, "Gemm": 2},
    "shufflenet-v2": {"Conv": 56, "Split": 13, "Concat": 16, "Transpose": 16},
    "hrnet-w18-small": {"Conv": 91, "Resize": 10},
    "retinanet": {"Conv": 111, "Resize": 2, "Add": 18},
    "yolov5n": {"Conv": 60, "Sigmoid": 60, "Resize": 2, "MaxPool": 3},
    "yolov5s": {"Conv": 60, "Sigmoid": 60, "Resize": 2, "MaxPool": 3},
}

OPS = {
    "squeezenet": 66,
    "googlenet": 142,
    "inception-v3": 309,
    "inception-v4": 487,
    "resnet50": 175,
    "densenet121": 427,
    "nasnet-mobile": 835,
    "nasnet-large": 1135,
    "mobilenet-v3-small": 156,
    "shufflenet-v2": 230,
    "hrnet-w18-small": 316,
    "retinanet": 275,
    "yolov5n": 297,
    "yolov5s": 297,
}

PARALLELISM = {
    "squeezenet": 1.32,
    "googlenet": 2.33,
    "inception-v3": 1.97,
    "inception-v4": 1.97,
    "nasnet-mobile": 3.34,
    "nasnet-large": 3.46,
    "hrnet-w18-small": 2.87,
    "retinanet": 1.54,
}
"""Ops over the ops of the longest path."""

MILLION_WEIGHTS = {
    "squeezenet": 1.25,
    "googlenet": 7.00,
    "inception-v3": 23.87,
    "inception-v4": 42.74,
    "resnet50": 25.61,
    "densenet121": 8.06,
    "nasnet-mobile": 5.33,
    "nasnet-large": 88.95,
    "mobilenet-v3-small": 2.55,
    "shufflenet-v2": 2.29,
    "hrnet-w18-small": 13.21,
    "retinanet": 38.02,
}
"""Published parameters and batch normalization statistics."""


@pytest.mark.parametrize("name", COUNTS)
def test_ops_of_each_kind(name, default_model):
    counts = Counter(node.op_type for node in default_model(name).graph.node)
    assert {kind: counts[kind] for kind in COUNTS[name]} == COUNTS[name]
    assert counts["Constant"] == 0
    assert counts.total() == OPS[name]


@pytest.mark.parametrize("name", PARALLELISM)
def test_parallelism(name, default_model):
    nodes = default_model(name).graph.node
    depth: dict[str, int] = {}
    for node in nodes:
        level = 1 + max((depth.get(operand, 0) for operand in node.input), default=0)
        depth.update(dict.fromkeys(node.output, level))
    assert len(nodes) / max(depth.values()) == pytest.approx(PARALLELISM[name], abs=0.01)


@pytest.mark.parametrize("name", MILLION_WEIGHTS)
def test_number_of_weights(name, default_model):
    elements = sum(len(weight.raw_data) // 4 for weight in default_model(name).graph.initializer)
    assert elements / 1e6 == pytest.approx(MILLION_WEIGHTS[name], abs=0.005)


def test_retinanet_levels_share_their_heads(default_model):
    nodes = [node for node in default_model("retinanet").graph.node if ".class." in node.name]
    uses = Counter(node.input[1] for node in nodes if node.op_type == "Conv")
    assert uses == {
        f"class.{layer}.weight": 5 for layer in ["conv0", "conv1", "conv2", "conv3", "out"]
    }
