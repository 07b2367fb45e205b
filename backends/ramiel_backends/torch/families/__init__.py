"""The families of ops: importing this package fills the table."""

from ramiel_backends.torch.families import (
    nn,
    norm,
    recurrent,
)

__all__ = [
    "nn",
    "norm",
    "recurrent",
]
