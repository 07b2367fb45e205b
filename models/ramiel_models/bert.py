"""BERT: a stack of transformer encoder layers over word, position and segment embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from ramiel_models.builder import Dim, Net, paper
from ramiel_models.layers import linear
from ramiel_models.transformer import (
    MASKED,
    attention,
    embedding,
    feed_forward,
    gelu,
    layer_norm,
    leading,
    width,
)

VOCABULARY = 30522
POSITIONS = 512
SEGMENTS = 2
EPSILON = 1e-12

ATTENTION_GAIN = 0.3
FEED_FORWARD_GAIN = 0.7
"""What the branches add to a stream of unit variance.

Attention averages over tokens: added in full twelve times it would make all tokens the same.
"""


@dataclass(frozen=True)
class Sizes:
    """L, H and A in the paper's notation; the feed-forward width is 4 H."""

    layers: int
    hidden: int
    heads: int


BASE = Sizes(layers=12, hidden=768, heads=12)
"""Devlin et al. 2018, section 3: BERT-base."""

SMALL = Sizes(layers=4, hidden=512, heads=8)
"""Turc et al. 2019, Table 1: BERT-small."""


def embeddings(net: Net, input_ids: ir.Value, token_type_ids: ir.Value, hidden: int) -> ir.Value:
    """Figure 2: the sum of token, segment and position embeddings, normalised."""
    words = embedding(net, input_ids, "word", VOCABULARY, hidden)
    segments = embedding(net, token_type_ids, "token_type", SEGMENTS, hidden)
    positions = leading(
        net, "position", lambda rng: rng.standard_normal((POSITIONS, hidden), np.float32), input_ids
    )
    x = net.op("Add", net.op("Add", words, segments), positions)
    return layer_norm(net, x, "norm", epsilon=EPSILON)


def additive_mask(net: Net, attention_mask: ir.Value) -> ir.Value:
    """From 1 for tokens and 0 for padding, [batch, length], to a term of the scores.

    f32[batch, 1, 1, length]: 0 for tokens, the least finite number for padding.
    """
    mask = net.op("Cast", attention_mask, to=onnx.TensorProto.FLOAT)
    padding = net.op("Sub", 1.0, net.op("Unsqueeze", mask, [1, 2]))
    return net.op("Mul", padding, MASKED)


def encoder_layer(net: Net, x: ir.Value, mask: ir.Value, sizes: Sizes) -> ir.Value:
    """Self-attention and feed-forward, each added to its operand and then normalised."""
    with net.scope("attention"):
        context = attention(net, x, sizes.heads, mask, gain=ATTENTION_GAIN)
        x = net.op("Add", x, context, name="residual")
        x = layer_norm(net, x, "norm", epsilon=EPSILON)
    with net.scope("feed_forward"):
        inner = feed_forward(net, x, 4 * sizes.hidden, gelu, gain=FEED_FORWARD_GAIN)
        x = net.op("Add", x, inner, name="residual")
        return layer_norm(net, x, "norm", epsilon=EPSILON)


def pooler(net: Net, x: ir.Value) -> ir.Value:
    """The first token's state through an affine map and tanh: [batch, hidden]."""
    first = net.op("Gather", x, 0, axis=1)
    return net.op("Tanh", linear(net, first, "dense", width(x), gain=0.7))


def bert(
    name: str, sizes: Sizes, batch: Dim, sequence_length: Dim, seed: int, opset: int
) -> onnx.ModelProto:
    """Encoder of the given sizes, with the pooler on top."""
    net = Net(name, seed=seed, opset=opset)
    shape = [batch, sequence_length]
    input_ids, attention_mask, token_type_ids = (
        net.input(label, shape, low=0, high=high, dtype=ir.DataType.INT64)
        for label, high in (
            ("input_ids", VOCABULARY),
            ("attention_mask", 2),
            ("token_type_ids", SEGMENTS),
        )
    )
    with net.scope("embeddings"):
        x = embeddings(net, input_ids, token_type_ids, sizes.hidden)
    with net.scope("mask"):
        mask = additive_mask(net, attention_mask)
    for index in range(sizes.layers):
        with net.scope(f"encoder.{index}"):
            x = encoder_layer(net, x, mask, sizes)
    with net.scope("pooler"):
        pooled = pooler(net, x)
    net.output(x, "last_hidden_state")
    net.output(pooled, "pooler_output")
    return net.finish()


@paper("Devlin et al. 2018, BERT, arXiv:1810.04805")
def bert_base(
    *, batch: Dim = 1, sequence_length: Dim = 128, seed: int = 0, opset: int = 21
) -> onnx.ModelProto:
    """BERT base.

    Devlin et al., "BERT: pre-training of deep bidirectional transformers for language
    understanding", 2018, arXiv:1810.04805, section 3. Layer normalization comes after each
    residual addition, with epsilon 1e-12, as in google-research/bert; padding is masked with the
    least finite float32 as in Hugging Face transformers, where the former adds -10000. Dropout
    serves training only and is left out, and so are the heads of pre-training.

    input_ids, attention_mask, token_type_ids: i64[batch, sequence_length] → last_hidden_state:
    f32[batch, sequence_length, 768], pooler_output: f32[batch, 768]. At most 512 tokens.
    """
    return bert("bert_base", BASE, batch, sequence_length, seed, opset)


@paper("Turc et al. 2019, Well-read students learn better, arXiv:1908.08962")
def bert_small(
    *, batch: Dim = 1, sequence_length: Dim = 128, seed: int = 0, opset: int = 21
) -> onnx.ModelProto:
    """BERT small.

    Turc et al., "Well-read students learn better: on the importance of pre-training compact
    models", 2019, arXiv:1908.08962, Table 1; otherwise like `bert_base`.

    input_ids, attention_mask, token_type_ids: i64[batch, sequence_length] → last_hidden_state:
    f32[batch, sequence_length, 512], pooler_output: f32[batch, 512]. At most 512 tokens.
    """
    return bert("bert_small", SMALL, batch, sequence_length, seed, opset)
