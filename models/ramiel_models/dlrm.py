"""DLRM: 26 embedding tables beside an MLP, joined by the dot products of every pair."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx_ir as ir

from ramiel_models.builder import Dim, Net, paper
from ramiel_models.transformer import width

DENSE_FEATURES = 13
CATEGORIES = {
    "C1": 1460,
    "C2": 583,
    "C3": 10131227,
    "C4": 2202608,
    "C5": 305,
    "C6": 24,
    "C7": 12517,
    "C8": 633,
    "C9": 3,
    "C10": 93145,
    "C11": 5683,
    "C12": 8351593,
    "C13": 3194,
    "C14": 27,
    "C15": 14992,
    "C16": 5461306,
    "C17": 10,
    "C18": 5652,
    "C19": 2173,
    "C20": 4,
    "C21": 7046547,
    "C22": 18,
    "C23": 15,
    "C24": 286181,
    "C25": 105,
    "C26": 142572,
}
"""Values that each categorical feature of Criteo Kaggle takes, by its name in the data set."""

EMBEDDING = 16
BOTTOM = (512, 256, 64, EMBEDDING)
TOP = (512, 256, 1)
"""Embeddings of 16, MLPs 13-512-256-64-16 and 367-512-256-1: bench/dlrm_s_criteo_kaggle.sh."""

EMBEDDING_STD = 0.5
"""Dot products of two embeddings have variance 1: 16 times 0.5 to the fourth power."""

DENSE_HIGH = 6
"""Counts enter as log(1 + count); few counts exceed e to the sixth."""

LOGIT_GAIN = 1.5
"""Spreads the probabilities of a click without saturating them."""

RELU_GAIN = 1.0 / math.sqrt(0.5 - 0.5 / math.pi)
"""Gain after a ReLU for weights that sum to zero: what it leaves of a standard normal's variance.

Were they not centred, the mean that rectified values share would drown what tells samples apart.
"""


def affine(net: Net, x: ir.Value, name: str, features: int, *, gain: float) -> ir.Value:
    """Affine map with each feature's weights summing to zero, [batch, features]."""
    size = width(x)

    def draw(rng: np.random.Generator) -> np.ndarray:
        weights = rng.standard_normal((features, size))
        weights -= weights.mean(axis=1, keepdims=True)
        return weights * (gain / math.sqrt(size))

    with net.scope(name):
        bias = net.weight("bias", [features], std=0.1)
        return net.op("Gemm", x, net.constant("weight", draw), bias, transB=1)


def bottom_mlp(net: Net, x: ir.Value) -> ir.Value:
    """Dense features to the size of an embedding, with a ReLU after each layer."""
    deviation = DENSE_HIGH / math.sqrt(12)
    gains = [1.0 / deviation, RELU_GAIN, RELU_GAIN, RELU_GAIN * EMBEDDING_STD * math.sqrt(2.0)]
    for index, (features, gain) in enumerate(zip(BOTTOM, gains, strict=True)):
        x = affine(net, x, str(index), features, gain=gain)
        x = net.op("Relu", x, name=f"{index}.relu")
    return x


def top_mlp(net: Net, x: ir.Value) -> ir.Value:
    """Interactions to the probability of a click: [batch, 1]."""
    for index, (features, gain) in enumerate(zip(TOP, [1.0, RELU_GAIN, LOGIT_GAIN], strict=True)):
        x = net.op("Relu", x, name=f"{index - 1}.relu") if index else x
        x = affine(net, x, str(index), features, gain=gain)
    return net.op("Sigmoid", x)


def embedding_bag(net: Net, indices: ir.Value, rows: int) -> ir.Value:
    """The sum of the rows that a sample's indices pick: [batch, EMBEDDING]."""
    table = net.weight("table", [rows, EMBEDDING], std=EMBEDDING_STD)
    picked = net.op("Gather", table, indices, axis=0)
    return net.op("ReduceSum", picked, [1], keepdims=0, name="bag")


def interaction(net: Net, dense: ir.Value, sparse: list[ir.Value]) -> ir.Value:
    """Dense features beside the dot products of every two of all features (section 2.2).

    [batch, 16 + 27 · 26 / 2]: the strictly lower triangle of the matrix of products.
    """
    count = 1 + len(sparse)
    stacked = net.op("Concat", dense, *sparse, axis=1, name="stacked")
    features = net.op("Reshape", stacked, [0, count, EMBEDDING], name="features")
    transposed = net.op("Transpose", features, perm=[0, 2, 1])
    products = net.op("MatMul", features, transposed, name="products")
    rows, columns = np.tril_indices(count, -1)
    triangle = net.constant("triangle", rows * count + columns)
    pairs = net.op("Gather", net.op("Flatten", products), triangle, axis=1, name="pairs")
    return net.op("Concat", dense, pairs, axis=1, name="joined")


@paper("Naumov et al. 2019, DLRM, arXiv:1906.00091")
def dlrm(
    *,
    batch: Dim = 1,
    bag_size: Dim = 1,
    max_rows: int = 10_000,
    seed: int = 0,
    opset: int = 21,
) -> onnx.ModelProto:
    """DLRM (deep learning recommendation model).

    Naumov et al., "Deep learning recommendation model for personalization and recommendation
    systems", 2019, arXiv:1906.00091, sections 2 and 5; sizes and order of the interaction from
    facebookresearch/dlrm, whose `--max-ind-range` becomes `max_rows`: the rows of the largest
    tables. Each feature takes a bag of `bag_size` indices, summed; Criteo's have one.

    dense: f32[batch, 13], C1 … C26: i64[batch, bag_size] → probability: f32[batch, 1].
    """
    net = Net("dlrm", seed=seed, opset=opset)
    dense = net.input("dense", [batch, DENSE_FEATURES], low=0, high=DENSE_HIGH)
    sizes = {name: min(rows, max_rows) for name, rows in CATEGORIES.items()}
    indices = {
        name: net.input(name, [batch, bag_size], low=0, high=rows, dtype=ir.DataType.INT64)
        for name, rows in sizes.items()
    }
    with net.scope("bottom"):
        x = bottom_mlp(net, dense)
    bags = []
    for name, rows in sizes.items():
        with net.scope(f"embedding.{name}"):
            bags.append(embedding_bag(net, indices[name], rows))
    with net.scope("interaction"):
        x = interaction(net, x, bags)
    with net.scope("top"):
        x = top_mlp(net, x)
    net.output(x, "probability")
    return net.finish()
