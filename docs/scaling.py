"""How the time of the passes grows with the graph; `make scaling` writes docs/scaling.md with it.

The graphs branch and join at random: every op reads one or two of the last 64 values. Each size is
measured several times in turn, in a process of its own, and the least time of each step counts.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ramiel_ir.driver import make_context
from ramiel_ir.ir import DType, Graph, Type, Value
from ramiel_ir.onnx_reader import read_onnx
from ramiel_ir.onnx_writer import write_onnx
from ramiel_ir.parser import parse_graph
from ramiel_ir.pipeline import PassManager
from ramiel_ir.plan import make_plan
from ramiel_ir.printer import print_graph

_SIZES = (1_000, 10_000, 50_000, 100_000)
_ROUNDS = 3
_SUMMED = ("read", "cluster", "merge", "plan")
_TYPE = Type(DType.F32, (1, 64, 28, 28))
_TEMPLATE = Path(__file__).with_suffix(".md.in")


def branching_graph(ops: int, seed: int = 0) -> Graph:
    """A random graph of so many ops, most of them binary, with forks and joins everywhere."""
    rng = random.Random(seed)
    graph = Graph("branching", [Value("x", _TYPE)], opsets={"": 21})
    values = [graph.inputs[0]]
    for index in range(ops):
        kind = rng.choice(("Relu", "Add", "Mul", "Sigmoid", "Sub"))
        near = values[-64:]
        operands = rng.choices(near, k=1 if kind in ("Relu", "Sigmoid") else 2)
        values.append(graph.add(kind, operands, f"v{index}", _TYPE))
    graph.set_outputs([value for value in values if not value.uses])
    return graph


def measure(ops: int) -> dict[str, float]:
    """Seconds per step for one graph, and the peak memory in MiB."""
    seconds: dict[str, float] = {}

    def timed(name: str, action: Callable[[], object]) -> object:
        start = time.perf_counter()
        result = action()
        seconds[name] = time.perf_counter() - start
        return result

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "graph.onnx"
        write_onnx(branching_graph(ops), path)
        gc.collect()  # what writing leaves behind is no part of the steps
        graph = timed("read", lambda: read_onnx(path))
    assert isinstance(graph, Graph)
    context = make_context(workers=2)

    def timed_pass(spec: str) -> None:
        manager = PassManager.parse(spec, context)
        timed(spec, lambda: manager.run(graph))

    for spec in ("cluster", "merge", "merge{max-clusters=2}"):
        timed_pass(spec)
    timed("plan", lambda: make_plan(graph).verify())
    timed_pass("refine")
    text = timed("print", lambda: print_graph(graph))
    timed("parse", lambda: parse_graph(str(text)))
    seconds["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return seconds


def main() -> None:
    """Measure all sizes in fresh processes, interleaved, and fill in the template."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", type=int, help="measure one size in this process, print JSON")
    one = parser.parse_args().one
    if one:
        print(json.dumps(measure(one)))
        return
    best: dict[int, dict[str, float]] = {size: {} for size in _SIZES}
    for _ in range(_ROUNDS):
        for size in _SIZES:
            command = [sys.executable, __file__, "--one", str(size)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            for step, seconds in found.items():
                best[size][step] = min(seconds, best[size].get(step, math.inf))
    steps = list(best[_SIZES[0]])
    lines = [
        f"| step | {' | '.join(f'{size:,} ops' for size in _SIZES)} | exponent |",
        f"| --- | {'---: | ' * len(_SIZES)}---: |",
    ]
    rows = {step: [step] for step in steps[:-1]}
    rows |= {" + ".join(_SUMMED): list(_SUMMED), "all of them": steps[:-1]}
    for label, summed in rows.items():
        row = [sum(best[size][step] for step in summed) for size in _SIZES]
        exponent = math.log(row[-1] / row[0]) / math.log(_SIZES[-1] / _SIZES[0])
        cells = " | ".join(f"{seconds:.3f} s" for seconds in row)
        lines.append(f"| {label} | {cells} | {exponent:.2f} |")
    memory = " | ".join(f"{best[size]['memory']:.0f} MiB" for size in _SIZES)
    lines.append(f"| peak memory | {memory} | |")
    text = _TEMPLATE.read_text().replace("{{table}}", "\n".join(lines))
    text = text.replace("{{machine}}", f"Python {platform.python_version()}, {platform.machine()}")
    Path(__file__).with_suffix(".md").write_text(text)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
