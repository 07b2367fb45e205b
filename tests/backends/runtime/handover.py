"""How long a message takes: `python -m tests.backends.runtime.handover [process|thread]`.

Two workers play ping-pong with a small torch tensor; half a round is one hand-over: send, wake-up,
receive. With `pause`, the sender first lets the receiver give up spinning and block.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ramiel_backends.runtime import Message, Spec, load

from .artifacts import write

ROUNDS = 500
MODEL = f"""
import time
import torch

ROUNDS = {ROUNDS}

def worker_0(weights):
    def run(port):
        ball = torch.ones(4)
        pause = float(port.input("pause"))
        times = torch.zeros(ROUNDS, dtype=torch.float64)
        for n in range(ROUNDS):
            start = until = time.perf_counter() + pause
            while start <= until and pause:
                start = time.perf_counter()
            port.send(2 * n, ball)
            port.receive(2 * n + 1)
            times[n] = time.perf_counter() - start
        port.output("times", times)
    return run

def worker_1(weights):
    def run(port):
        for n in range(ROUNDS):
            port.send(2 * n + 1, port.receive(2 * n))
    return run

WORKERS = [worker_0, worker_1]
"""


def main() -> None:
    """Print medians in microseconds."""
    isolation: Any = sys.argv[1] if len(sys.argv) > 1 else "process"
    messages = tuple(Message(n % 2, 1 - n % 2, 16) for n in range(2 * ROUNDS))
    with tempfile.TemporaryDirectory() as name:
        folder = write(
            Path(name),
            MODEL,
            inputs=(Spec("pause", "f64", ()),),
            outputs=(Spec("times", "f64", (ROUNDS,)),),
            messages=messages,
        )
        with load(folder, isolation) as model:
            for pause, text in ((0.0, "spinning"), (0.0004, "one end blocked")):
                samples = [model.run({"pause": np.array(pause)})["times"] for _ in range(4)][1:]
                times = np.sort(np.concatenate(samples)) * 1e6
                best, median = times[len(times) // 100], times[len(times) // 2]
                print(f"{text}: round trip median {median:.1f} µs, 1 % below {best:.1f} µs")


if __name__ == "__main__":
    main()
