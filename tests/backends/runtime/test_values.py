"""Values arrive as they were sent: types, shapes, layouts, sequences, strings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from ramiel_backends.runtime import Message, Spec, load
from ramiel_backends.runtime.backend import Backend
from ramiel_backends.runtime.backend_numpy import NumpyBackend
from ramiel_backends.runtime.channel import Reader, Writer
from ramiel_backends.runtime.dtypes import TABLE, numpy_dtype
from ramiel_backends.runtime.memory import HEADER, Arena, create

from .artifacts import write

torch = pytest.importorskip("torch")


class Pair:
    """A writer and a reader of one channel, each with its own mapping of the arena."""

    def __init__(self, backend: Backend, nbytes: int = 0) -> None:
        fd = create("test", 0)
        self.header = memoryview(bytearray(HEADER * 8)).cast("q")
        self.arena = Arena(fd)
        self.writer = Writer(self.header, self.arena, 0, backend, nbytes)
        self.reader = Reader(self.header, [Arena(fd)], backend)

    def pass_on(self, value: Any) -> Any:
        """What the reader sees of a value."""
        self.writer.write(value)
        return self.reader.read()

    @property
    def generation(self) -> int:
        """How often the header changed."""
        return int(self.header[0])


@pytest.fixture(params=["torch", "numpy"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Both kinds of values."""
    if request.param == "numpy":
        return NumpyBackend()
    from ramiel_backends.runtime.backend_torch import TorchBackend

    return TorchBackend()


def same(a: Any, b: Any) -> bool:
    """Whether two values have the same types, shapes and bytes."""
    if a is None or b is None or isinstance(a, list):
        return type(a) is type(b) and (a is None or (all(map(same, a, b)) and len(a) == len(b)))
    if isinstance(a, torch.Tensor):
        return bool(a.dtype == b.dtype and a.shape == b.shape and raw(a) == raw(b))
    if a.dtype.kind == "O":
        return bool(a.shape == b.shape and a.tolist() == b.tolist())
    return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())


def raw(tensor: Any) -> bytes:
    """A tensor's bytes in row-major order."""
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())


@pytest.mark.parametrize("row", TABLE[:-1], ids=lambda row: row.name)
def test_element_types(row: Any, backend: Backend) -> None:
    dtype = numpy_dtype([r.name for r in TABLE].index(row.name))
    array = np.arange(12).reshape(3, 4).astype(np.float32).astype(dtype)
    value = backend.from_numpy(array)
    arrived = Pair(backend).pass_on(value)
    assert same(value, arrived)
    assert same(np.asarray(array), backend.to_numpy(arrived))


def test_complex_halves() -> None:
    from ramiel_backends.runtime.backend_torch import TorchBackend

    value = torch.arange(6, dtype=torch.float32).reshape(3, 2).to(torch.float16)
    value = torch.view_as_complex(value)
    assert torch.equal(
        torch.view_as_real(Pair(TorchBackend()).pass_on(value)), torch.view_as_real(value)
    )


def test_conjugates_arrive_resolved() -> None:
    from ramiel_backends.runtime.backend_torch import TorchBackend

    value = torch.tensor([1 + 2j, 3 - 1j]).conj()
    pair = Pair(TorchBackend())
    assert torch.equal(pair.pass_on(value), value)
    assert torch.equal(pair.pass_on(value.resolve_conj()), value)


def test_one_channel_carries_one_value_after_another(backend: Backend) -> None:
    pair = Pair(backend, nbytes=64)
    make = backend.from_numpy
    numbers = np.arange(24, dtype=np.float32)
    strings = np.array([["ä", b"\0\xff"], ["", "long " * 99]], dtype=object)
    values = [
        make(numbers),
        make(numbers[:3].copy()),
        make(np.full((), 7, np.float32)),
        make(np.zeros((0, 3), np.int64)),
        None,
        [],
        [make(numbers), None, [strings, make(numbers.astype(bool))]],
        strings,
        make(np.arange(3).astype(ml_dtypes.int4)),
        make(np.arange(100_000.0)),
        make(numbers.reshape((1,) * 9 + (24,))),
        make(numbers),
    ]
    for value in values + values[::-1]:
        arrived = pair.pass_on(value)
        assert same(arrived, value), value
        assert same(pair.pass_on(value), value)


def test_the_header_changes_only_when_the_layout_does(backend: Backend) -> None:
    pair = Pair(backend)
    first = pair.pass_on(backend.from_numpy(np.ones((3, 4), np.float32)))
    again = pair.pass_on(backend.from_numpy(np.zeros((3, 4), np.float32)))
    assert again is first and not again.any()
    assert pair.generation == 1
    pair.pass_on(backend.from_numpy(np.zeros((4, 3), np.float32)))
    assert pair.generation == 2


def test_regions_grow_by_doubling(backend: Backend) -> None:
    pair = Pair(backend)
    for size in range(1, 3000):
        value = backend.from_numpy(np.full(size, size, np.float32))
        assert same(pair.pass_on(value), value)
    assert pair.arena.allocate(0) < 4 * 12_000


def test_layouts_survive() -> None:
    from ramiel_backends.runtime.backend_torch import TorchBackend

    pair = Pair(TorchBackend())
    image = torch.randn(2, 3, 4, 5)
    for value in (
        image,
        image.contiguous(memory_format=torch.channels_last),
        image.permute(3, 1, 0, 2),
        image[:1].contiguous(memory_format=torch.channels_last),
        torch.randn(2, 3, 4, 5, 6).contiguous(memory_format=torch.channels_last_3d),
    ):
        arrived = pair.pass_on(value)
        assert torch.equal(arrived, value) and arrived.stride() == value.stride()
    for gaps in (
        image[:, 1:],
        image[..., ::2],
        image[:1].expand(2, 3, 4, 5),
        torch.ones(1).expand(9),
    ):
        before = pair.generation
        arrived = pair.pass_on(gaps)
        assert torch.equal(arrived, gaps) and arrived.is_contiguous()
        assert torch.equal(pair.pass_on(gaps), gaps)
        assert pair.generation <= before + 1


def test_numpy_layouts_survive() -> None:
    pair = Pair(NumpyBackend())
    image = np.random.default_rng(0).random((2, 3, 4))
    for value in (image, image.transpose(2, 0, 1), np.asfortranarray(image)):
        arrived = pair.pass_on(value)
        assert np.array_equal(arrived, value) and arrived.strides == value.strides
    for gaps in (image[:, ::-1], image[:, 1:], np.broadcast_to(image[0], (5, 3, 4))):
        assert np.array_equal(pair.pass_on(gaps), gaps)


def test_what_cannot_be_sent_is_named(backend: Backend) -> None:
    with pytest.raises(TypeError, match="cannot be sent"):
        Pair(backend).pass_on(object())


ECHO = """
def worker_0(weights):
    def run(port):
        value = port.input("x")
        port.send(0, value)
        port.output("y", port.receive(1))
    return run

def worker_1(weights):
    def run(port):
        port.send(1, port.receive(0))
    return run

WORKERS = [worker_0, worker_1]
"""


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_torch_values_through_a_whole_artifact(tmp_path: Path, isolation: Any) -> None:
    messages = (Message(0, 1, 48), Message(1, 0, 48))
    spec = {name: (Spec(name),) for name in "xy"}
    folder = write(tmp_path / "out", ECHO, inputs=spec["x"], outputs=spec["y"], messages=messages)
    arrays: list[Any] = [
        np.arange(12, dtype=np.float32),
        np.arange(12, dtype=np.float32).reshape(3, 4).T,
        np.broadcast_to(np.float64(3), (2, 2)),
        np.arange(4)[::-1],
        np.arange(7).astype(ml_dtypes.bfloat16),
        np.arange(4).astype(ml_dtypes.float8_e4m3fn),
        np.arange(4).astype(ml_dtypes.uint4),
        np.array(["strings", "too"], dtype=object),
        np.array(["of", "fixed", "width"]),
        np.zeros((0, 4), np.uint16),
        np.array(True),
    ]
    with load(folder, isolation) as model:
        for array in arrays + arrays[::-1]:
            answer = model.run({"x": array}, timeout=60)["y"]
            if array.dtype.kind == "U":
                assert answer.tolist() == array.tolist()
                continue
            assert same(answer, array)
            assert answer.flags.owndata and answer.flags.writeable and answer.flags.c_contiguous
