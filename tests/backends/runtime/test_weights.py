"""Weights are mapped, of every type, and damaged files are refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from ramiel_backends.runtime import ArtifactError, load
from ramiel_backends.runtime.weights import NAME, Weights

from .artifacts import write

safetensors = pytest.importorskip("safetensors.numpy")


def strings(*elements: str | bytes) -> bytes:
    """Strings as weights.safetensors holds them."""
    data = b""
    for element in elements:
        raw = element if isinstance(element, bytes) else element.encode()
        data += struct.pack("<q", 2 * len(raw) + isinstance(element, bytes)) + raw
    return data


def save(folder: Path) -> dict[str, Any]:
    """Write weights of many types; returns what should be read."""
    plain = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "odd name \n": np.array([True, False]),
        "scalar": np.array(3, np.int64),
        "none": np.zeros((0, 2), np.float16),
        "bf": np.arange(3).astype(ml_dtypes.bfloat16),
    }
    raw = {
        "i4": np.array([[-8, 7], [0, 1]]).astype(ml_dtypes.int4),
        "c": np.array([1 + 2j, 3]),
        "s": np.array([["ä", b"\xff"]], dtype=object),
    }
    data = {
        key: array.view(np.uint8).reshape(-1) if array.dtype.kind != "O" else strings("ä", b"\xff")
        for key, array in raw.items()
    }
    notes = {"i4": ("i4", (2, 2)), "c": ("c128", (2,)), "s": ("str", (1, 2))}
    safetensors.save_file(
        {
            **plain,
            **{key: np.frombuffer(bytes(value), np.uint8) for key, value in data.items()},
        },
        folder / NAME,
        {key: json.dumps({"dtype": d, "shape": shape}) for key, (d, shape) in notes.items()},
    )
    return {**plain, **raw}


def test_every_type(tmp_path: Path) -> None:
    expected = save(tmp_path)
    weights = Weights(tmp_path)
    assert {*weights} == {*expected} and len(weights) == len(expected)
    for key, array in expected.items():
        assert weights[key].dtype == array.dtype and weights[key].shape == array.shape
        assert weights[key].tolist() == array.tolist()
        assert weights[key] is weights[key]
    with pytest.raises(KeyError):
        weights["z"]


def test_they_are_mapped_and_the_file_never_changes(tmp_path: Path) -> None:
    save(tmp_path)
    before = (tmp_path / NAME).read_bytes()
    weights = Weights(tmp_path)
    assert not weights["a"].flags.owndata
    weights["a"][:] = 99
    assert (tmp_path / NAME).read_bytes() == before


@pytest.mark.parametrize("damage", [b"", b"\xff" * 8, b"\x04" + b"\0" * 7 + b"[1]\n", None])
def test_damage(tmp_path: Path, damage: bytes | None) -> None:
    safetensors.save_file({"a": np.zeros((100, 100))}, tmp_path / NAME)
    data = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(data[:9000] if damage is None else damage)
    with pytest.raises(ArtifactError, match="damaged"):
        Weights(tmp_path)["a"]


MODEL = """
import torch

def worker_0(weights):
    a = weights["a"]
    assert isinstance(weights["i4"], object) and weights.folder.is_dir()
    def run(port):
        port.send(0, port.input("x") @ a)
        port.output("y", port.receive(1))
        port.output("bf", weights["bf"])
        port.output("threads", torch.tensor(torch.get_num_threads()))
    return run

def worker_1(weights):
    def run(port):
        port.send(1, port.receive(0) + weights["scalar"])
    return run

WORKERS = [worker_0, worker_1]
"""


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_torch_workers_use_them(tmp_path: Path, isolation: Any) -> None:
    torch = pytest.importorskip("torch")
    from ramiel_backends.runtime import Spec

    threads = torch.get_num_threads()
    outputs = (Spec("y", "f32", (1, 3)), Spec("bf", "bf16", (3,)), Spec("threads"))
    folder = write(tmp_path / "out", MODEL, inputs=(Spec("x"),), outputs=outputs)
    expected = save(folder)
    with load(folder, isolation) as model:
        x = np.ones((1, 2), np.float32)
        answer = model.run({"x": x}, timeout=60)
        assert np.array_equal(answer["y"], x @ expected["a"] + 3)
        assert np.array_equal(answer["bf"], expected["bf"])
        assert answer["threads"] == 1
    assert torch.get_num_threads() == threads, "the caller's setting is untouched"
