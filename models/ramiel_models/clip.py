"""CLIP: an image encoder and a text encoder side by side, joined in a matrix of similarities."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from ramiel_models.builder import Dim, Net, paper
from ramiel_models.layers import conv
from ramiel_models.transformer import (
    MASKED,
    attention,
    dense,
    embedding,
    feed_forward,
    layer_norm,
    leading,
    quick_gelu,
)

VOCABULARY = 49408
CONTEXT = 77
EMBEDDING = 512
EPSILON = 1e-5


@dataclass(frozen=True)
class Tower:
    """Sizes of one encoder; heads are 64 wide and the feed-forward width is 4 `width`."""

    layers: int
    width: int

    @property
    def heads(self) -> int:
        return self.width // 64


IMAGE = Tower(layers=10, width=256)
TEXT = Tower(layers=3, width=256)
"""Wu et al. 2023, TinyCLIP ViT-8M/16 Text-3M: the towers' sizes in millions of parameters."""

PATCH = 16

TEMPERATURE = 0.07
"""Radford et al. 2021, section 2.5: where the learned temperature starts."""

BRANCH_GAIN = 0.5
"""What each branch adds to a stream that starts with unit variance."""


def block(net: Net, x: ir.Value, tower: Tower, mask: ir.Value | None) -> ir.Value:
    """Self-attention and feed-forward, each of the normalised operand and added to it."""
    with net.scope("attention"):
        context = layer_norm(net, x, "norm", epsilon=EPSILON)
        context = attention(net, context, tower.heads, mask, gain=BRANCH_GAIN)
        x = net.op("Add", x, context, name="residual")
    with net.scope("feed_forward"):
        inner = layer_norm(net, x, "norm", epsilon=EPSILON)
        inner = feed_forward(net, inner, 4 * tower.width, quick_gelu, gain=BRANCH_GAIN)
        return net.op("Add", x, inner, name="residual")


def transformer(net: Net, x: ir.Value, tower: Tower, mask: ir.Value | None = None) -> ir.Value:
    """The blocks of one tower, [batch, length, width] to the same shape."""
    for index in range(tower.layers):
        with net.scope(f"blocks.{index}"):
            x = block(net, x, tower, mask)
    return x


def with_class_token(net: Net, patches: ir.Value) -> ir.Value:
    """Put a learned token in front of the patches: [batch, 1 + patches, width]."""
    assert patches.shape is not None
    batch = patches.shape[0]
    token = net.weight("class_token", [1, 1, patches.shape[2]])
    if not isinstance(batch, int):
        size = net.op("Shape", patches, start=0, end=1)
        token = net.op("Expand", token, net.op("Concat", size, [1, 1], axis=0))
        token.shape = ir.Shape([batch, 1, patches.shape[2]])
    elif batch > 1:
        token = net.op("Expand", token, [batch, 1, 1])
    return net.op("Concat", token, patches, axis=1, name="tokens")


def image_encoder(net: Net, image: ir.Value) -> ir.Value:
    """Vision transformer; the class token's last state: [batch, width]."""
    x = conv(net, image, "patches", IMAGE.width, PATCH, stride=PATCH, padding=0, bias=False, gain=1)
    assert x.shape is not None
    patches = x.shape[2] * x.shape[3]
    x = net.op("Transpose", net.op("Reshape", x, [0, IMAGE.width, patches]), perm=[0, 2, 1])
    x = with_class_token(net, x)
    x = net.op("Add", x, net.weight("position", [patches + 1, IMAGE.width]), name="embedded")
    x = transformer(net, layer_norm(net, x, "norm_before", epsilon=EPSILON), IMAGE)
    return layer_norm(net, net.op("Gather", x, 0, axis=1), "norm_after", epsilon=EPSILON)


def text_encoder(net: Net, text: ir.Value) -> ir.Value:
    """Causal transformer; the last state of the end token, which has the greatest id."""
    x = embedding(net, text, "token", VOCABULARY, TEXT.width)
    table = (CONTEXT, TEXT.width)
    positions = leading(net, "position", lambda rng: rng.standard_normal(table, np.float32), text)
    future = np.triu(np.full((CONTEXT, CONTEXT), MASKED, np.float32), 1)
    mask = leading(net, "causal_mask", future, text, axes=2)
    x = transformer(net, net.op("Add", x, positions, name="embedded"), TEXT, mask)
    x = layer_norm(net, x, "norm_after", epsilon=EPSILON)
    end = net.op("ArgMax", text, axis=1, keepdims=1)
    return net.op("GatherND", x, end, batch_dims=1, name="end")


def project(net: Net, features: ir.Value) -> ir.Value:
    """Map the features of a tower to the shared space, at unit length: [batch, EMBEDDING]."""
    x = dense(net, features, "projection", EMBEDDING, bias=False)
    with net.scope("normalize"):
        length = net.op("Sqrt", net.op("ReduceSum", net.op("Mul", x, x), [1], keepdims=1))
        return net.op("Div", x, length)


@paper("Radford et al. 2021, Learning transferable visual models (CLIP), arXiv:2103.00020")
def clip_tiny(
    *,
    batch: Dim = 1,
    texts: Dim | None = None,
    image_size: int = 224,
    sequence_length: Dim = CONTEXT,
    seed: int = 0,
    opset: int = 21,
) -> onnx.ModelProto:
    """CLIP tiny (ViT-8M/16, Text-3M).

    Radford et al., "Learning transferable visual models from natural language supervision", 2021,
    arXiv:2103.00020, section 2.4 and figure 3, at the sizes of TinyCLIP ViT-8M/16 Text-3M: Wu et
    al., "TinyCLIP: CLIP distillation via affinity mimicking and weight inheritance", 2023,
    arXiv:2309.12314. Activations, masks and the pooled end token follow openai/CLIP, except that
    the causal mask holds the least finite number where that has minus infinity.

    image: f32[batch, 3, image_size, image_size], text: i64[texts, sequence_length] →
    logits_per_image: f32[batch, texts], logits_per_text: f32[texts, batch], image_embeds:
    f32[batch, 512], text_embeds: f32[texts, 512]. `texts` is `batch` unless given; texts have at
    most 77 tokens; `image_size` is a multiple of 16.
    """
    if image_size % PATCH:
        raise ValueError(f"image_size {image_size} is not a multiple of {PATCH}")
    net = Net("clip_tiny", seed=seed, opset=opset)
    image = net.input("image", [batch, 3, image_size, image_size], low=-2, high=2)
    shape = [batch if texts is None else texts, sequence_length]
    text = net.input("text", shape, low=0, high=VOCABULARY, dtype=ir.DataType.INT64)
    with net.scope("visual"):
        image_embeds = project(net, image_encoder(net, image))
    with net.scope("textual"):
        text_embeds = project(net, text_encoder(net, text))
    scale = net.op("Exp", net.constant("log_scale", -math.log(TEMPERATURE)), name="scale")
    transposed = net.op("Transpose", text_embeds, perm=[1, 0])
    similarity = net.op("MatMul", image_embeds, transposed, name="similarity")
    logits = net.op("Mul", similarity, scale)
    net.output(logits, "logits_per_image")
    net.output(net.op("Transpose", logits, perm=[1, 0]), "logits_per_text")
    net.output(image_embeds, "image_embeds")
    net.output(text_embeds, "text_embeds")
    return net.finish()
