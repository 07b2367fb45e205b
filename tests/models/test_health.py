"""Random weights must make good test data: what goes wrong anywhere has to show at an output."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import ramiel_models
from tests.models.branches import distance, draw, effects, session

SMALL_SIZES = {
    "squeezenet": 64,
    "googlenet": 64,
    "inception-v3": 107,
    "inception-v4": 107,
    "resnet50": 64,
    "densenet121": 64,
    "nasnet-mobile": 64,
    "nasnet-large": 64,
    "mobilenet-v3-small": 64,
    "shufflenet-v2": 64,
    "hrnet-w18-small": 64,
    "retinanet": 128,
    "yolov5n": 64,
    "yolov5s": 64,
}
"""Image sizes at which a model runs fast and its last feature maps still have some pixels."""

SAMPLING = {
    "inception-v4": 2,
    "densenet121": 2,
    "nasnet-mobile": 4,
    "nasnet-large": 32,
    "retinanet": 4,
    "yolov5s": 4,
}
"""Of so many operands of joining ops one is disturbed; elsewhere all are."""


@pytest.fixture(scope="module", params=SMALL_SIZES)
def small(request: pytest.FixtureRequest) -> tuple[str, onnx.ModelProto]:
    """Name and model, at a small size, with a symbolic batch and the oldest opset."""
    name = request.param
    size = SMALL_SIZES[name]
    return name, ramiel_models.build(name, batch="N", image_size=size, opset=17)


def joined_operands(model: onnx.ModelProto) -> list[tuple[str, int]]:
    """Every operand of every op that takes two or more computed floats."""
    computed = {
        value.name
        for value in (*model.graph.value_info, *model.graph.input, *model.graph.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    } - {weight.name for weight in model.graph.initializer}
    operands = []
    for node in model.graph.node:
        places = [index for index, name in enumerate(node.input) if name in computed]
        if len(places) > 1:
            operands += [(node.name, index) for index in places]
    return operands


def test_outputs_are_finite_and_tell_samples_apart(small):
    _, model = small
    loaded = session(model)
    names = [output.name for output in loaded.get_outputs()]
    inputs = draw(model, N=2)
    both = dict(zip(names, loaded.run(None, inputs), strict=True))
    one, other = (
        dict(zip(names, loaded.run(None, {"image": image[None]}), strict=True))
        for image in inputs["image"]
    )
    assert distance(one, {name: value[:1] for name, value in both.items()}) < 1
    assert distance(other, {name: value[1:] for name, value in both.items()}) < 1
    for name, value in both.items():
        assert value.std() > 0.01 * np.abs(value).max()
        assert distance({name: one[name]}, {name: other[name]}) > 10


def test_zeroing_any_joined_operand_shows(small):
    name, model = small
    operands = joined_operands(model)[:: SAMPLING.get(name, 1)]
    moved = effects(model, operands, draw(model, N=1))
    assert {operand: change for operand, change in moved.items() if change <= 10} == {}
