"""How long a message takes: `python -m tests.backends.runtime.handover [ISOLATION] [BACKEND]`.

Two workers play ping-pong with a small tensor, for ort with the result of a session; half a round
is one hand-over: send, wake-up, receive. With a pause, the sender first lets the receiver give up
spinning and block. A bare pipe, after the same pause, shows what waking somebody costs here; and
both are measured again while a program that yields to every other keeps each core from sleeping,
which leaves out what this machine takes to wake a core.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from ramiel_backends.runtime import Message, Model, Spec, load

from .artifacts import write

ROUNDS = 500
PAUSE = 0.0004
MODEL = """
import time
{imports}

def worker_0(weights):
    ball = {ball}
    def run(port):
        pause = float({read})
        times = {times}
        for n in range({rounds}):
            start = until = time.perf_counter() + pause
            while start <= until and pause:
                start = time.perf_counter()
            port.send(2 * n, ball)
            port.receive(2 * n + 1)
            times[n] = time.perf_counter() - start
        port.output("times", times)
    return run

def worker_1(weights):
    ball = {ball}
    def run(port):
        for n in range({rounds}):
            port.receive(2 * n)
            port.send(2 * n + 1, ball)
    return run

WORKERS = [worker_0, worker_1]
"""
BACKENDS = {
    "torch": {
        "imports": "import torch",
        "read": 'port.input("pause")',
        "ball": "torch.ones(4)",
        "times": f"torch.zeros({ROUNDS}, dtype=torch.float64)",
    },
    "ort": {
        "imports": "import numpy as np",
        "read": 'getattr(port.input("pause"), "numpy", lambda: port.input("pause"))()',
        "ball": 'weights.segment("ball.onnx")(np.ones(4, np.float32))[0]',
        "times": f"np.zeros({ROUNDS})",
    },
}


def main() -> None:
    """Print medians in microseconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("isolation", nargs="?", choices=("process", "thread"), default="process")
    parser.add_argument("backend", nargs="?", choices=tuple(BACKENDS), default="torch")
    options = parser.parse_args()
    messages = tuple(Message(n % 2, 1 - n % 2, 16) for n in range(2 * ROUNDS))
    with tempfile.TemporaryDirectory() as name:
        folder = write(
            Path(name),
            MODEL.format(rounds=ROUNDS, **BACKENDS[options.backend]),
            backend=options.backend,
            inputs=(Spec("pause", "f64", ()),),
            outputs=(Spec("times", "f64", (ROUNDS,)),),
            messages=messages,
        )
        onnx.save(_ball(), folder / "ball.onnx")
        with load(folder, options.isolation) as model:
            _report("spinning", _ping_pong(model, 0.0))
            _report("one end blocked", _ping_pong(model, PAUSE))
            _report("a bare pipe, both ends blocked", _pipe())
            with _awake():
                _report("one end blocked, no core asleep", _ping_pong(model, PAUSE))
                _report("a bare pipe, no core asleep", _pipe())


def _ping_pong(model: Model, pause: float) -> Sequence[float]:
    """Seconds of each round trip; the first request is not counted."""
    samples = [model.run({"pause": np.array(pause)})["times"] for _ in range(4)][1:]
    return np.concatenate(samples)


@contextmanager
def _awake() -> Iterator[None]:
    """Keeps every core busy with a program that any other interrupts at once."""
    busy = []
    for core in os.sched_getaffinity(0):
        if not (pid := os.fork()):
            os.sched_setaffinity(0, [core])
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            while os.getppid() != 1:
                pass
            os._exit(0)
        busy.append(pid)
    try:
        yield
    finally:
        for pid in busy:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _report(text: str, seconds: Sequence[float]) -> None:
    best, median = np.percentile(np.asarray(seconds) * 1e6, (1, 50))
    print(f"{text}: round trip median {median:.1f} µs, 1 % below {best:.1f} µs")


def _ball() -> onnx.ModelProto:
    """A session whose result lies where workers hand results over."""
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "ball", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def _pipe() -> list[float]:
    """Round trips of a byte between this process and a fork of it that answers."""
    (there, ping), (back, pong) = os.pipe(), os.pipe()
    if not (child := os.fork()):
        for _ in range(ROUNDS):
            os.read(there, 1)
            os.write(pong, b"x")
        os._exit(0)
    times = []
    for _ in range(ROUNDS):
        until = time.perf_counter() + PAUSE
        while (start := time.perf_counter()) < until:
            pass
        os.write(ping, b"x")
        os.read(back, 1)
        times.append(time.perf_counter() - start)
    os.waitpid(child, 0)
    return times


if __name__ == "__main__":
    main()
