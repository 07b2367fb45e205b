"""CLIP against its papers, PyTorch's encoder layer, and itself at other shapes."""

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
    "visual.patches.conv": (2, 256, 4, 4),
    "visual.tokens": (2, 17, 256),
    "visual.blocks.0.attention.scores": (2, 4, 17, 17),
    "visual.blocks.9.feed_forward.residual": (2, 17, 256),
    "visual.norm_after": (2, 256),
    "textual.embedded": (3, 9, 256),
    "textual.blocks.0.attention.scores": (3, 4, 9, 9),
    "textual.blocks.2.feed_forward.residual": (3, 9, 256),
    "textual.end": (3, 256),
    "image_embeds": (2, 512),
    "text_embeds": (3, 512),
    "logits_per_image": (2, 3),
    "logits_per_text": (3, 2),
}
"""TinyCLIP ViT-8M/16 Text-3M (Wu et al. 2023): 10 and 3 layers of width 256, embeddings of 512."""


@cache
def static() -> onnx.ModelProto:
    return ramiel_models.build("clip-tiny", batch=2, texts=3, image_size=64, sequence_length=9)


@cache
def symbolic(opset: int = 17) -> onnx.ModelProto:
    return ramiel_models.build(
        "clip-tiny",
        batch="images",
        texts="texts",
        image_size=64,
        sequence_length="length",
        opset=opset,
    )


def test_ops_of_each_kind():
    assert Counter(node.op_type for node in static().graph.node) == {
        "Add": 109,
        "MatMul": 107,
        "Transpose": 55,
        "Reshape": 53,
        "LayerNormalization": 29,
        "Mul": 29,
        "Div": 15,
        "Softmax": 13,
        "Sigmoid": 13,
        "Gather": 2,
        "ReduceSum": 2,
        "Sqrt": 2,
        "Conv": 1,
        "Expand": 1,
        "Concat": 1,
        "ArgMax": 1,
        "GatherND": 1,
        "Exp": 1,
    }


def test_shapes_of_blocks():
    assert_plain(static())
    known = shapes(static())
    assert {name: known[name] for name in SHAPES} == SHAPES
    assert "visual.blocks.10.attention.scores" not in known
    assert "textual.blocks.3.attention.scores" not in known


def test_default_sizes():
    model = ramiel_models.build("clip-tiny")
    assert_plain(model)
    known = shapes(model)
    assert known["visual.tokens"] == (1, 197, 256)
    assert known["textual.embedded"] == (1, 77, 256)
    kept = {name: w.size for name, w in weights(model).items() if "." in name}
    blocks = Counter(
        {
            tower: sum(size for name, size in kept.items() if name.startswith(f"{tower}.blocks"))
            for tower in ("visual", "textual")
        }
    )
    assert blocks == {"visual": 7_897_600, "textual": 2_369_280}


def test_every_sublayer_and_tower_shows():
    model = static()
    branches = joins(model, "residual", [0, 1]) + joins(model, "similarity", [0, 1])
    found = effects(model, branches, draw(model))
    assert len(found) == 2 * 2 * 13 + 2
    assert min(found.values()) > 10


def test_outputs_vary_and_do_not_saturate():
    first = outputs(static(), draw(static()))
    assert distance(first, outputs(static(), draw(static()), optimized=True)) < 0.1
    second = outputs(static(), draw(static(), seed=1))
    for name in ("image_embeds", "text_embeds"):
        np.testing.assert_allclose(np.linalg.norm(first[name], axis=1), 1, rtol=1e-5)
        both = np.concatenate([first[name], second[name]])
        assert (both @ both.T)[np.triu_indices(len(both), 1)].max() < 0.9, "samples are alike"
    assert first["logits_per_image"].std() > 0.1
    assert np.array_equal(first["logits_per_image"], first["logits_per_text"].T)


def test_symbolic_shapes_agree_with_static_ones():
    known = shapes(symbolic())
    assert known["logits_per_image"] == ("images", "texts")
    assert known["textual.blocks.0.attention.masked"] == ("texts", 4, "length", "length")
    assert all(all(dims) for dims in known.values()), "a dimension is unknown"
    inputs = draw(static())
    assert distance(outputs(static(), inputs), outputs(symbolic(), inputs)) < 1e-3


@pytest.mark.parametrize(("texts", "length"), [(1, 1), (4, 77)])
def test_texts_do_not_depend_on_each_other(texts, length):
    inputs = draw(symbolic(), images=1, texts=texts, length=length)
    together = outputs(symbolic(), inputs)
    last = outputs(symbolic(), {**inputs, "text": inputs["text"][-1:]})
    np.testing.assert_allclose(
        last["text_embeds"], together["text_embeds"][-1:], rtol=1e-3, atol=1e-5
    )


def test_what_follows_the_end_token_changes_nothing():
    inputs = draw(static())
    inputs["text"][:] = inputs["text"] % 1000
    inputs["text"][:, 5] = 49407
    others = {**inputs, "text": inputs["text"].copy()}
    others["text"][:, 6:] = 0
    assert distance(outputs(static(), inputs), outputs(static(), others)) < 0.01


def test_opset_23():
    model = symbolic(23)
    assert model.opset_import[0].version == 23
    inputs = draw(static())
    assert distance(outputs(static(), inputs), outputs(model, inputs)) < 1e-3


def test_towers_agree_with_pytorch():
    torch = pytest.importorskip("torch")
    inputs = draw(static())
    drawn = {name: torch.tensor(value) for name, value in weights(static()).items()}

    def norm(x, name):
        scale, shift = drawn[f"{name}.scale"], drawn[f"{name}.shift"]
        return torch.nn.functional.layer_norm(x, (256,), scale, shift, 1e-5)

    def quick_gelu(x):
        return x * torch.sigmoid(1.702 * x)

    def layer(own):
        theirs = torch.nn.TransformerEncoderLayer(
            256, 4, 1024, activation=quick_gelu, batch_first=True, norm_first=True
        ).eval()
        turned = {name: drawn[name].mT for name in drawn if drawn[name].ndim == 2}
        of = {**drawn, **turned}
        state = {}
        for part in ("weight", "bias"):
            state[f"self_attn.in_proj_{part}"] = torch.cat(
                [of[f"{own}.attention.{side}.{part}"] for side in ("query", "key", "value")]
            )
            state[f"self_attn.out_proj.{part}"] = of[f"{own}.attention.output.{part}"]
            state[f"linear1.{part}"] = of[f"{own}.feed_forward.intermediate.{part}"]
            state[f"linear2.{part}"] = of[f"{own}.feed_forward.output.{part}"]
        for number, block in ((1, "attention"), (2, "feed_forward")):
            state[f"norm{number}.weight"] = of[f"{own}.{block}.norm.scale"]
            state[f"norm{number}.bias"] = of[f"{own}.{block}.norm.shift"]
        theirs.load_state_dict(state)
        return theirs

    def embed(x, tower):
        return torch.nn.functional.normalize(x @ drawn[f"{tower}.projection.weight"], dim=-1)

    with torch.no_grad():
        x = torch.nn.functional.conv2d(
            torch.tensor(inputs["image"]), drawn["visual.patches.weight"], stride=16
        )
        x = torch.cat([drawn["visual.class_token"].expand(2, 1, 256), x.flatten(2).mT], dim=1)
        x = norm(x + drawn["visual.position"], "visual.norm_before")
        for index in range(10):
            x = layer(f"visual.blocks.{index}")(x)
        image = embed(norm(x[:, 0], "visual.norm_after"), "visual")

        text = torch.tensor(inputs["text"])
        x = drawn["textual.token.table"][text] + drawn["textual.position.table"]
        future = torch.ones(9, 9, dtype=torch.bool).triu(1)
        for index in range(3):
            x = layer(f"textual.blocks.{index}")(x, src_mask=future)
        x = norm(x, "textual.norm_after")
        text = embed(x[torch.arange(3), text.argmax(dim=-1)], "textual")
    logits = image @ text.T / 0.07
    expected = {
        "logits_per_image": logits.numpy(),
        "logits_per_text": logits.T.numpy(),
        "image_embeds": image.numpy(),
        "text_embeds": text.numpy(),
    }
    assert distance(expected, outputs(static(), inputs)) < 0.1


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="image_size 100 is not a multiple of 16"):
        ramiel_models.build("clip-tiny", image_size=100)
    with pytest.raises(ValueError, match="length 78 exceeds the 77 rows"):
        ramiel_models.build("clip-tiny", sequence_length=78)


def test_ranges():
    assert {entry.key: entry.value for entry in static().metadata_props} == {
        "ramiel.range.image": "-2,2",
        "ramiel.range.text": "0,49408",
    }
