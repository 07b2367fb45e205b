"""BiLSTM tagger: each layer reads the sentence forward and backward side by side."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx_ir as ir

from ramiel_models.builder import Dim, Net, paper
from ramiel_models.transformer import dense, embedding, width

VOCABULARY = 20_000
EMBEDDING = 100
UNITS = 100
LAYERS = 2
"""Reimers and Gurevych 2017: two stacked layers of about 100 units read 100-d. embeddings."""

TAGS = 9
"""CoNLL 2003 in the IOB scheme: four kinds of entities, each beginning and inside, and outside."""

RECURRENT_GAIN = 0.8
OPERAND_GAIN = 1.5
STATE_RMS = 0.27
"""The root mean square of the hidden states that these gains lead to."""


def lstm(net: Net, x: ir.Value, direction: str, *, gain: float) -> ir.Value:
    """One direction over the sentence: [length, batch, features] to [length, batch, UNITS]."""
    size, gates = width(x), 4 * UNITS

    def bias(rng: np.random.Generator) -> np.ndarray:
        values = 0.1 * rng.standard_normal((1, 8, UNITS))
        values[:, 2] += 1.0  # the forget gate, open at first (Gers et al. 2000)
        return values.reshape(1, 2 * gates)

    with net.scope(direction):
        states = net.op(
            "LSTM",
            x,
            net.weight("operand_weight", [1, gates, size], std=gain / math.sqrt(size)),
            net.weight("state_weight", [1, gates, UNITS], std=RECURRENT_GAIN / math.sqrt(UNITS)),
            net.constant("bias", bias),
            direction=direction,
            hidden_size=UNITS,
        )
        return net.op("Squeeze", states, [1])


def layer(net: Net, x: ir.Value, *, gain: float) -> ir.Value:
    """Both directions over the same operand: [length, batch, 2 UNITS]."""
    forward = lstm(net, x, "forward", gain=gain)
    backward = lstm(net, x, "reverse", gain=gain)
    return net.op("Concat", forward, backward, axis=2, name="joined")


@paper("Huang et al. 2015, Bidirectional LSTM-CRF models, arXiv:1508.01991")
def bilstm(
    *, batch: Dim = 1, sequence_length: Dim = 32, seed: int = 0, opset: int = 21
) -> onnx.ModelProto:
    """BiLSTM tagger.

    Huang et al., "Bidirectional LSTM-CRF models for sequence tagging", 2015, arXiv:1508.01991,
    figure 4, without the CRF that would decode the scores; two stacked layers at the sizes that
    Reimers and Gurevych, "Optimal hyperparameters for deep LSTM-networks for sequence labeling
    tasks", 2017, arXiv:1707.06799, recommend. Each direction is an LSTM op of its own, without
    the peephole connections that ONNX offers, as in PyTorch.

    tokens: i64[batch, sequence_length] → emissions: f32[batch, sequence_length, 9].
    """
    net = Net("bilstm", seed=seed, opset=opset)
    shape = [batch, sequence_length]
    tokens = net.input("tokens", shape, low=0, high=VOCABULARY, dtype=ir.DataType.INT64)
    x = embedding(net, net.op("Transpose", tokens, perm=[1, 0]), "word", VOCABULARY, EMBEDDING)
    for index in range(LAYERS):
        with net.scope(f"layer.{index}"):
            x = layer(net, x, gain=OPERAND_GAIN if index == 0 else OPERAND_GAIN / STATE_RMS)
    emissions = dense(net, x, "emissions", TAGS, gain=1.0 / STATE_RMS)
    net.output(net.op("Transpose", emissions, perm=[1, 0, 2]), "emissions")
    return net.finish()
