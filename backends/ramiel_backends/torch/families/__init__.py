"""The families of ops: importing this package fills the table."""

from ramiel_backends.torch.families import (
    arithmetic,
    cast,
    compare,
    elementwise,
    index,
    linear,
    nn,
    norm,
    quant,
    recurrent,
    reduce,
    sequence,
    shape,
    tensor,
    text,
    vision,
)

__all__ = [
    "arithmetic",
    "cast",
    "compare",
    "elementwise",
    "index",
    "linear",
    "nn",
    "norm",
    "quant",
    "recurrent",
    "reduce",
    "sequence",
    "shape",
    "tensor",
    "text",
    "vision",
]
