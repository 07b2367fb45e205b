"""BERT against its papers, PyTorch's encoder layer, and itself at other shapes."""

from __future__ import annotations

import time
from collections import Counter
from functools import cache

import numpy as np
import onnx
import pytest

import ramiel_models
from ramiel_models.bert import Sizes, bert
from tests.models.branches import (
    assert_plain,
    distance,
    draw,
    effects,
    joins,
    outputs,
    session,
    shapes,
    weights,
)

MINIATURE = Sizes(layers=2, hidden=64, heads=4)

PARAMETERS = {"bert-base": 109_482_240, "bert-small": 28_763_648}
"""Without the heads of pre-training: Devlin et al. 2018, section 3 (110M), Turc et al. 2019."""

SIZES = {"bert-base": (12, 768, 12), "bert-small": (4, 512, 8)}
"""L, H, A: Devlin et al. 2018, section 3; Turc et al. 2019, Table 1."""


@cache
def built(name: str) -> onnx.ModelProto:
    return ramiel_models.build(name, sequence_length=8)


@cache
def miniature(batch: int | str, length: int | str, opset: int = 21) -> onnx.ModelProto:
    return bert("miniature", MINIATURE, batch, length, 0, opset)


def test_bert_base_has_96_matrix_products():
    start = time.process_time()
    model = built("bert-base")
    assert time.process_time() - start < 10
    counts = Counter(node.op_type for node in model.graph.node)
    assert counts == {
        "Add": 122,
        "MatMul": 96,
        "Reshape": 48,
        "Transpose": 48,
        "LayerNormalization": 25,
        "Mul": 25,
        "Div": 24,
        "Softmax": 12,
        "Erf": 12,
        "Gather": 3,
        "Cast": 1,
        "Unsqueeze": 1,
        "Sub": 1,
        "Gemm": 1,
        "Tanh": 1,
    }


@pytest.mark.parametrize("name", SIZES)
def test_shapes_of_blocks(name):
    layers, hidden, heads = SIZES[name]
    model = built(name)
    assert_plain(model)
    known = shapes(model)
    for index in range(layers):
        layer = f"encoder.{index}"
        assert known[f"{layer}.attention.scores"] == (1, heads, 8, 8)
        assert known[f"{layer}.attention.context"] == (1, heads, 8, 64)
        assert known[f"{layer}.attention.norm"] == (1, 8, hidden)
        assert known[f"{layer}.feed_forward.intermediate.add"] == (1, 8, 4 * hidden)
    assert f"encoder.{layers}.attention.scores" not in known
    assert known["last_hidden_state"] == (1, 8, hidden)
    assert known["pooler_output"] == (1, hidden)


@pytest.mark.parametrize("name", PARAMETERS)
def test_number_of_parameters(name):
    kept = {label: w for label, w in weights(built(name)).items() if w.dtype == np.float32}
    elements = sum(w.size for label, w in kept.items() if w.ndim > 0)
    cut_positions = (512 - 8) * SIZES[name][1]
    assert elements + cut_positions == PARAMETERS[name]


@pytest.mark.parametrize("name", SIZES)
def test_every_sublayer_shows(name):
    model = built(name)
    found = effects(model, joins(model, "residual", [0, 1]), draw(model))
    assert len(found) == 4 * SIZES[name][0]
    assert min(found.values()) > 10


@pytest.mark.parametrize("name", SIZES)
def test_outputs_vary_and_do_not_saturate(name):
    model = built(name)
    loaded = session(model)
    first = outputs(loaded, draw(model))
    hidden, pooled = first["last_hidden_state"][0], first["pooler_output"][0]
    assert hidden.std(axis=0).mean() > 0.2, "tokens are alike"
    assert np.median(np.abs(pooled)) < 0.9
    assert distance(first, outputs(loaded, draw(model, seed=1))) > 100


def test_optimizations_change_little():
    model = built("bert-small")
    inputs = draw(model)
    assert distance(outputs(model, inputs), outputs(model, inputs, optimized=True)) < 0.1


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("length", [1, 5, 12])
def test_symbolic_shapes_agree_with_static_ones(batch, length):
    symbolic = miniature("batch", "length")
    assert shapes(symbolic)["last_hidden_state"] == ("batch", "length", 64)
    assert all(all(dims) for dims in shapes(symbolic).values()), "a dimension is unknown"
    static = miniature(batch, length)
    assert_plain(static)
    inputs = draw(static)
    assert distance(outputs(static, inputs), outputs(symbolic, inputs)) < 1e-3


@pytest.mark.parametrize("opset", range(17, 24))
def test_opsets(opset):
    model = miniature(2, "length", opset)
    assert model.opset_import[0].version == opset
    inputs = draw(model, length=6)
    assert distance(outputs(miniature(2, 6), inputs), outputs(model, inputs)) < 1e-3


def test_padding_changes_nothing():
    model = miniature(2, 10)
    inputs = draw(model)
    inputs["attention_mask"][:] = np.arange(10) < 6
    others = {name: value.copy() for name, value in inputs.items()}
    others["input_ids"][:, 6:] = 7
    first, second = outputs(model, inputs), outputs(model, others)
    assert np.array_equal(first["last_hidden_state"][:, :6], second["last_hidden_state"][:, :6])
    assert not np.array_equal(first["last_hidden_state"][:, 6:], second["last_hidden_state"][:, 6:])


def test_all_padding_is_finite():
    model = miniature(1, 4)
    inputs = draw(model)
    inputs["attention_mask"][:] = 0
    assert all(np.isfinite(value).all() for value in outputs(model, inputs).values())


def test_encoder_agrees_with_pytorch():
    torch = pytest.importorskip("torch")
    model = miniature(2, 7)
    inputs = draw(model)
    inputs["attention_mask"][:] = np.arange(7) < 5
    expected = outputs(model, inputs)
    drawn = {name: torch.tensor(value.T) for name, value in weights(model).items()}

    def norm(x, name):
        scale, shift = drawn[f"{name}.scale"], drawn[f"{name}.shift"]
        return torch.nn.functional.layer_norm(x, (64,), scale, shift, 1e-12)

    x = drawn["embeddings.word.table"].mT[inputs["input_ids"]]
    x = x + drawn["embeddings.token_type.table"].mT[inputs["token_type_ids"]]
    x = norm(x + drawn["embeddings.position.table"].mT, "embeddings.norm")
    for index in range(2):
        own = f"encoder.{index}"
        theirs = torch.nn.TransformerEncoderLayer(
            64, 4, 256, activation="gelu", layer_norm_eps=1e-12, batch_first=True
        ).eval()
        state = {}
        for part in ("weight", "bias"):
            state[f"self_attn.in_proj_{part}"] = torch.cat(
                [drawn[f"{own}.attention.{side}.{part}"] for side in ("query", "key", "value")]
            )
            state[f"self_attn.out_proj.{part}"] = drawn[f"{own}.attention.output.{part}"]
            state[f"linear1.{part}"] = drawn[f"{own}.feed_forward.intermediate.{part}"]
            state[f"linear2.{part}"] = drawn[f"{own}.feed_forward.output.{part}"]
        for number, block in ((1, "attention"), (2, "feed_forward")):
            state[f"norm{number}.weight"] = drawn[f"{own}.{block}.norm.scale"]
            state[f"norm{number}.bias"] = drawn[f"{own}.{block}.norm.shift"]
        theirs.load_state_dict(state)
        with torch.no_grad():
            x = theirs(x, src_key_padding_mask=torch.tensor(inputs["attention_mask"] == 0))
    actual = {
        "last_hidden_state": x.numpy(),
        "pooler_output": torch.tanh(
            x[:, 0] @ drawn["pooler.dense.weight"] + drawn["pooler.dense.bias"]
        ).numpy(),
    }
    kept = slice(None, 5)
    for states in (expected, actual):
        states["last_hidden_state"] = states["last_hidden_state"][:, kept]
    assert distance(expected, actual) < 0.1


def test_too_long_a_sequence_is_refused():
    with pytest.raises(ValueError, match="length 513 exceeds the 512 rows"):
        miniature(1, 513)


@pytest.mark.parametrize("name", SIZES)
def test_ranges(name):
    assert {entry.key: entry.value for entry in built(name).metadata_props} == {
        "ramiel.range.input_ids": "0,30522",
        "ramiel.range.attention_mask": "0,2",
        "ramiel.range.token_type_ids": "0,2",
    }
