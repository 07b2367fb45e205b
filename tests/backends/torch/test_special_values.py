"""NaN and infinities: what torch computes from them, and what ONNX Runtime does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ramiel_ir.interpret import interpret
from ramiel_ir.onnx_reader import read_onnx
from tests.backends.torch.helpers import check, emit, parse, run

X = np.array([np.nan, np.inf, -np.inf, -2, 0, 7], np.float32)


def test_the_sign_of_nan_is_nan(tmp_path: Path) -> None:
    for type in ("float", "double", "int32", "uint8"):
        model = parse(f"g ({type}[6] x) => ({type}[6] y) {{ y = Sign(x) }}")
        x = X if type in ("float", "double") else np.array([0, 1, 2, 3, 0, 5])
        dtype = {"float": "f4", "double": "f8", "int32": "i4", "uint8": "u1"}[type]
        check(model, tmp_path / type, {"x": x.astype(dtype)})


@pytest.mark.parametrize("opset", [15, 19, 21, 25])
def test_infinities_become_the_words_that_onnx_reads(tmp_path: Path, opset: int) -> None:
    model = parse(
        """g (float[3] x) => (string[3] y, string[3] z) <string[1] like = {"a"}> {
            y = Cast <to = 8> (x)
            z = CastLike (x, like)
        }""",
        opset=opset,
    )
    emit(model, tmp_path / "a")
    inputs = {"x": X[:3]}
    for found in (run(tmp_path / "a", inputs), interpret(read_onnx(model), inputs)):
        assert found["y"].tolist() == found["z"].tolist() == ["NaN", "INF", "-INF"]
