"""Hand-written artifacts for the runtime's tests."""

from __future__ import annotations

import shutil
from pathlib import Path
from textwrap import dedent
from typing import Any

from ramiel_backends import runtime
from ramiel_backends.runtime import Manifest, Message, Spec, Wiring

PACKAGE = Path(runtime.__file__).parent

TINY = """
import torch

def worker_0(weights):
    def run(port):
        x = port.input("x")
        port.send(0, x * 2)
        y = port.receive(1)
        port.output("y", y + 1)
    return run

def worker_1(weights):
    def run(port):
        port.send(1, port.receive(0) + 10)
    return run

WORKERS = [worker_0, worker_1]

if __name__ == "__main__":
    import runtime

    runtime.main(__file__)
"""
"""y = 2 * x + 11, on two workers."""


def write(
    folder: Path,
    model: str = TINY,
    *,
    backend: str = "torch",
    inputs: tuple[Spec, ...] = (Spec("x", "f32", ("N",)),),
    outputs: tuple[Spec, ...] = (Spec("y", "f32", ("N",)),),
    messages: tuple[Message, ...] = (Message(0, 1), Message(1, 0)),
    workers: int = 2,
    samples: int = 1,
    in_flight: int = 1,
    **fields: Any,
) -> Path:
    """Write an artifact into a folder and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(dedent(model))
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, folder / "runtime", ignore=ignore, dirs_exist_ok=True)
    wiring = Wiring((1,) * workers, messages, samples, in_flight)
    Manifest(backend, "test", inputs, outputs, wiring, **fields).save(folder)
    return folder


MOODY = """
import os, signal, time

def worker_0(weights):
    def run(port):
        x = port.input("x")
        port.send(0, x * 2)
        if x.size and x[0] == -5:
            while True:
                pass
        y = port.receive(1)
        port.output("y", y + 1)
    return run

def worker_1(weights):
    def run(port):
        doubled = port.receive(0)
        mood = doubled[0] / 2 if doubled.size else 0
        if mood == -1 or mood == -5:
            raise ValueError("mood")
        if mood == -2:
            os.kill(os.getpid(), signal.SIGKILL)
        while mood == -3:
            time.sleep(60)
        if mood == -4:
            os.kill(os.getpid(), signal.SIGSEGV)
        if mood == -6:
            port.receive(0)
        port.send(1, doubled + 10)
    return run

WORKERS = [worker_0, worker_1]
"""
"""y = 2 * x + 11, unless x[0] says that worker 1 raises (-1), dies (-2), hangs (-3), crashes (-4),
raises while worker 0 hangs (-5), or waits for what does not come (-6). For numpy."""
