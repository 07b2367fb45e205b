"""What holds for every model of the zoo."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

import numpy as np
import onnx
import pytest

import ramiel_models
from ramiel_models import MODELS
from tests.models.branches import draw, session, shapes

SOURCE = re.compile(r"arXiv:\d{4}\.\d{4,5}|doi:\S+\d")


def test_import_is_light():
    code = "import sys, ramiel_models; assert not {'numpy', 'onnx', 'onnx_ir'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": "models"})


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown model 'squeezenext'; there are: squeezenet, goo"):
        ramiel_models.build("squeezenext")


@pytest.mark.parametrize("name", MODELS)
def test_builder_says_where_the_model_comes_from(name):
    builder = ramiel_models.load(name)
    assert builder.__doc__.splitlines()[0].endswith(".")
    (source,) = SOURCE.findall(builder.paper)
    assert source in builder.__doc__


@pytest.mark.parametrize("name", MODELS)
def test_default_model_is_static_and_named(name, default_model):
    model = default_model(name)
    assert model.ir_version == 10
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 21)]
    known = shapes(model)
    for node in model.graph.node:
        for output in node.output:
            assert all(isinstance(size, int) for size in known[output]), output
    labels = Counter(node.name for node in model.graph.node)
    assert max(labels.values()) == 1 and "" not in labels


@pytest.mark.parametrize("name", MODELS)
def test_weights_differ_from_each_other(name, default_model):
    weights = [
        weight
        for weight in default_model(name).graph.initializer
        if weight.data_type == onnx.TensorProto.FLOAT and np.prod(weight.dims) > 4
    ]
    assert all(weight.HasField("raw_data") for weight in weights)
    copies = Counter(weight.raw_data for weight in weights)
    assert max(copies.values()) == 1


def test_seed_decides_all_weights():
    first, same, other = (
        ramiel_models.build("squeezenet", seed=seed).SerializeToString(deterministic=True)
        for seed in (0, 0, 1)
    )
    assert first == same
    assert first != other


@pytest.mark.parametrize("opset", [18, 19, 20, 22, 23])
def test_opsets(opset):
    model = ramiel_models.build("yolov5n", image_size=64, opset=opset)
    assert model.opset_import[0].version == opset
    assert session(model).run(None, draw(model))[0].shape == (1, 252, 4)


def test_large_model_builds_in_ten_seconds(build_seconds):
    assert build_seconds("nasnet-large") < 10
