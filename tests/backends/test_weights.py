"""weights.safetensors: every element type, read by the runtime and by safetensors."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import safe_open

from ramiel_backends.runtime.weights import Weights
from ramiel_backends.weights import write_weights
from ramiel_ir.ir import DType, Tensor


def test_every_element_type_comes_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {}
    for dtype in DType:
        if dtype is DType.STRING:
            array = np.array([["a", b"\xff"], ["", "\u00e9" * 9]], object)
        else:
            array = np.asarray(rng.integers(0, 2, (3, 5)), dtype.numpy)
        tensors[f"of_{dtype.text}"] = Tensor.of(array)
    tensors["empty"] = Tensor.of(np.zeros((2, 0), np.float32))
    tensors["scalar"] = Tensor.of(np.array(7, np.int64))
    tensors["transposed"] = Tensor.of(np.arange(6, dtype=np.float32).reshape(2, 3).T)
    tensors["large"] = Tensor.of(rng.standard_normal((64, 64)).astype(ml_dtypes.bfloat16))
    assert write_weights(tensors, tmp_path) == ("weights.safetensors",)
    found = Weights(tmp_path)
    assert set(found) == set(tensors)
    for key, tensor in tensors.items():
        assert found[key].dtype == tensor.array.dtype, key
        assert found[key].shape == tensor.array.shape, key
        assert str(found[key].tolist()) == str(tensor.array.tolist()), key  # nan equals nan


def test_it_is_an_ordinary_safetensors_file(tmp_path: Path) -> None:
    tensors = {
        name: Tensor.of(np.arange(count, dtype=dtype))
        for name, count, dtype in (("a", 3, np.int8), ("b", 16, np.float32), ("c", 5, np.float64))
    }
    write_weights(tensors, tmp_path)
    with safe_open(tmp_path / "weights.safetensors", framework="numpy") as file:
        assert set(file.keys()) == set(tensors)
        for key, tensor in tensors.items():
            np.testing.assert_array_equal(file.get_tensor(key), tensor.array)


def test_each_weight_is_aligned_to_its_elements_and_large_ones_to_cache_lines(
    tmp_path: Path,
) -> None:
    tensors = {
        "odd": Tensor.of(np.zeros(3, np.int8)),
        "large": Tensor.of(np.zeros(1024, np.float32)),
        "double": Tensor.of(np.zeros(5, np.float64)),
    }
    write_weights(tensors, tmp_path)
    found = Weights(tmp_path)
    for key in tensors:
        address = found[key].__array_interface__["data"][0]
        assert address % (64 if key == "large" else found[key].itemsize) == 0


def test_no_weights_no_file(tmp_path: Path) -> None:
    assert write_weights({}, tmp_path) == ()
    assert list(tmp_path.iterdir()) == []
