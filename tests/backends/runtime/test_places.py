"""Where workers run, and who runs them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from ramiel_backends.runtime import Message, Spec, WorkerError, load
from ramiel_backends.runtime.backend import find_backend
from ramiel_backends.runtime.backend_numpy import NumpyBackend
from ramiel_backends.runtime.channel import Reader, Writer
from ramiel_backends.runtime.memory import HEADER, Arena, create
from ramiel_backends.runtime.places import wake_order
from ramiel_backends.runtime.threads import _Inbox

from .artifacts import write


def test_whoever_shares_the_callers_core_is_woken_last() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system does not say where a thread runs")
    allowed = os.sched_getaffinity(0)
    core = min(allowed)
    os.sched_setaffinity(0, {core})
    try:
        here, elsewhere = core + 1, core + 2
        assert wake_order([here, elsewhere, here, 0]) == [1, 3, 0, 2]
    finally:
        os.sched_setaffinity(0, allowed)


WHERE = """
import threading

import numpy as np

def worker_0(weights):
    def run(port):
        port.output("y", port.input("x") + 0 * port.receive(0) + threading.get_ident())
    return run

def worker_1(weights):
    def run(port):
        if port.input("x") < 0:
            raise ValueError("no message comes")
        port.send(0, port.input("x"))
    return run

WORKERS = [worker_0, worker_1]
"""


def test_the_caller_is_worker_0_unless_there_is_a_deadline(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "out",
        WHERE,
        backend="numpy",
        inputs=(Spec("x", "i64", ()),),
        outputs=(Spec("y", "i64", ()),),
        messages=(Message(1, 0),),
    )
    here = threading.get_ident()
    with load(folder, "thread") as model:
        assert model.run({"x": np.array(0)})["y"] == here
        assert model.run({"x": np.array(0)}, timeout=60)["y"] != here
        with pytest.raises(WorkerError, match=r"worker 1 failed.*no message comes"):
            model.run({"x": np.array(-1)})
        assert model.run({"x": np.array(0)})["y"] == here


@pytest.mark.parametrize("backend", ["numpy", "torch", "ort"])
def test_small_inputs_are_new_in_every_request(backend: str) -> None:
    kind = find_backend(backend)
    inbox = _Inbox(kind)
    wide = np.arange(8, dtype=np.float32)
    for given in (np.array(1.0), np.array(2.0), wide, wide[::2], wide[1::2], wide[::-1], wide + 1):
        taken = inbox.take({"x": given})["x"]
        assert np.array_equal(kind.to_numpy(taken), given)
    half = np.arange(4, dtype=ml_dtypes.bfloat16)
    for given in (half, half + half):
        assert np.array_equal(kind.to_numpy(inbox.take({"x": given})["x"]), given)


def test_a_worker_thread_outlives_whatever_its_model_raises(tmp_path: Path) -> None:
    text = WHERE.replace("ValueError", "KeyboardInterrupt")
    fields = {"inputs": (Spec("x", "i64", ()),), "outputs": (Spec("y", "i64", ()),)}
    folder = write(tmp_path / "out", text, backend="numpy", messages=(Message(1, 0),), **fields)
    with load(folder, "thread") as model:
        for _ in range(2):
            with pytest.raises(WorkerError, match=r"worker 1 failed.*no message comes"):
                model.run({"x": np.array(-1)})
        assert model.run({"x": np.array(0)}, timeout=60)["y"]


class _Settled(NumpyBackend):
    """A backend some of whose values lie in the arena by themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[int, int] = {}

    def place(self, value: object) -> int | None:
        return self.places.get(id(value))


def test_a_value_that_lies_in_the_arena_is_not_copied() -> None:
    fd = create("test", 1 << 16)
    arena, other = Arena(fd), Arena(fd)
    backend = _Settled()
    settled = []
    for _ in range(2):
        offset = arena.allocate(32)
        settled.append(np.ndarray(8, np.float32, arena.memory(offset + 32), offset))
        backend.places[id(settled[-1])] = offset
    passing = np.full(8, 3, np.float32)
    header = memoryview(bytearray(8 * HEADER)).cast("q")
    writer, reader = Writer(header, arena, 0, backend), Reader(header, [other], NumpyBackend())
    for value in (settled[0], settled[0], settled[1]):
        value += 1
        writer.write(value)
        read = reader.read()
        value += 1
        assert read.tolist() == value.tolist()  # they share the memory
    for value in (passing, settled[1], passing, settled[0]):
        value += 1
        writer.write(value)
        assert reader.read().tolist() == value.tolist()
    os.close(fd)
