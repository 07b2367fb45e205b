"""The process of one contestant of a benchmark: `python -m ramiel_ir.contestant MODEL INPUTS SPEC`.

Answers with a line of JSON when the first inference is done. Then it reads a number of seconds per
line, runs inferences for about so long, at least one, after at least one that is not counted and
before one during which memory is looked at, and answers with latencies, CPU seconds per inference
and memory, children included.
"""

from __future__ import annotations

import atexit
import json
import os
import pickle
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from ramiel_ir import registry
from ramiel_ir.artifact import load


def _start(spec: dict[str, Any], model: Path, inputs: dict[str, Any]) -> Callable[[], Any]:
    if spec["folder"]:
        loaded = load(spec["folder"])
        atexit.register(loaded.close)
        given = inputs if spec["samples"] == 1 else [inputs] * spec["samples"]
        return lambda: loaded.run(given)
    run = registry.PEERS.get(spec["peer"], "peer")().start(model, spec["threads"])
    return lambda: run(inputs)


def _processes() -> list[Path]:
    """The /proc folders of this process and of all processes below it."""
    found, todo = [], [os.getpid()]
    while todo:
        folder = Path(f"/proc/{todo.pop()}")
        with suppress(OSError):  # it may end while we look
            tasks = [task.read_text() for task in folder.glob("task/*/children")]
            todo += [int(child) for task in tasks for child in task.split()]
            found.append(folder)
    return found


def _cpu_seconds() -> float:
    """CPU seconds of this process and of the processes below it."""
    total = 0.0
    for folder in _processes():
        with suppress(OSError):
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            total += (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    return total


def _memory() -> float:
    """Proportional set size of this process and of the processes below it, in MiB."""
    total = 0
    for folder in _processes():
        with suppress(OSError):
            lines = (folder / "smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def _peak_memory(run: Callable[[], Any]) -> float:
    """The most memory that was seen during one more inference, in MiB."""
    found, over = [_memory()], threading.Event()

    def look() -> None:
        while not over.is_set():
            found.append(_memory())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        run()
    finally:
        over.set()
        looking.join()
    return max(found)


def main() -> None:
    """Serve until the input ends."""
    model, given, spec = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    # The benchmark pickled them itself, a moment ago and for this process.
    inputs = pickle.loads(given.read_bytes())
    run = _start(spec, model, inputs)
    run()
    _answer(answers, {})
    latencies: list[float] = []
    for line in sys.stdin:
        # While others ran, caches went cold: the first inference is not counted, nor are those for
        # which there is time in a fifth of the turn.
        end = time.perf_counter() + float(line) / 5 - min(latencies, default=0.0)
        run()
        while time.perf_counter() < end:
            run()
        latencies = []
        cpu = _cpu_seconds()
        end = time.perf_counter() + float(line)
        while not latencies or time.perf_counter() < end:
            start = time.perf_counter()
            run()
            latencies.append(time.perf_counter() - start)
        used = (_cpu_seconds() - cpu) / len(latencies)
        _answer(answers, {"latencies": latencies, "cpu": used, "memory": _peak_memory(run)})


def _answer(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # whatever it is, the last line says it: that one is reported
        traceback.print_exc()
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
        reason = " ".join(lines[: 2 if lines[0].endswith(":") else 1])
        sys.exit(f"{type(error).__name__}: {reason}")
