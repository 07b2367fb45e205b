"""Latency of a model, contestant against contestant, in a way one can trust.

Every contestant lives in a process of its own and is asleep while another one runs. Rounds go round
robin, so that a machine that slows down slows everybody down. Reported are minimum, median and
spread; losses are shown like wins.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import select
import statistics
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from ramiel_ir import registry
from ramiel_ir.artifact import write_artifact
from ramiel_ir.costs import Costs, work
from ramiel_ir.driver import (
    SIMPLIFY,
    Compilation,
    Source,
    is_torch_module,
    make_context,
    parallel_pipeline,
    plan_model,
    read,
)
from ramiel_ir.errors import RamielError, UnsupportedOpError
from ramiel_ir.inputs import example_inputs
from ramiel_ir.ir import Graph
from ramiel_ir.machine import usable_cores
from ramiel_ir.onnx_writer import write_onnx
from ramiel_ir.pipeline import Context
from ramiel_ir.trace import Trace, predicted, record, typical

MODULE = "module.pt"
"""Beside a peer's model file: the torch module that it was exported from, and whether that takes
its inputs by keyword; pickled."""

Made = TypeVar("Made")

_log = logging.getLogger("ramiel_ir")

_PATIENCE = 10.0  # seconds that a contestant may take to stop
_ANSWER_SECONDS = 900.0  # that it may take to answer: some compile for minutes
_ROUND_SECONDS = 0.25  # how long one contestant runs before the next one does


class Peer(ABC):
    """Something that runs an ONNX model, to be measured beside us. Found by entry point."""

    name: ClassVar[str]

    @staticmethod
    def is_installed() -> bool:
        """Whether it can run here."""
        return True

    @staticmethod
    def thread_counts(cores: int) -> list[int]:
        """The numbers of threads to measure it with."""
        return sorted({1, cores})

    @abstractmethod
    def start(self, model: Path, threads: int) -> Callable[[Mapping[str, Any]], Any]:
        """Load the model with `threads` intra-op threads; return what runs one inference."""


@dataclass(frozen=True)
class Contestant:
    """What one row of the table measures: an artifact folder, or a peer with some threads."""

    name: str
    folder: str = ""
    peer: str = ""
    threads: int = 1
    samples: int = 1
    """How many one request of the artifact takes; each is given the same inputs."""
    compiled: float | None = None
    """Seconds that planning and writing the artifact took."""
    predicted: float | None = None
    """Predicted latency in µs, where there is a plan."""
    bound: float | None = None
    """The least that the same costs allow to any plan of as many workers and threads; µs."""

    def environment(self, scratch: Path) -> dict[str, str]:
        """What its process needs set: thread counts, empty caches, a place for its files."""
        cache = scratch / f"cache-{self.peer}-{self.threads}"
        found = {"TORCHINDUCTOR_CACHE_DIR": os.fspath(cache), "TMPDIR": os.fspath(scratch)}
        # A module's class may lie anywhere; what stands for the current folder comes last, so that
        # no file there passes for a library.
        found["PYTHONPATH"] = os.pathsep.join(sorted(sys.path, key=lambda entry: not entry))
        if self.peer:
            found["OMP_NUM_THREADS"] = str(self.threads)
        return found


@dataclass
class Measurement:
    """What was seen of one contestant: seconds per inference, and CPU seconds per inference."""

    contestant: Contestant
    latencies: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    start: float = 0.0
    """Seconds from the launch of its process to the first answer, compiling included."""
    memory: float = 0.0
    """Proportional set size of all its processes during an inference, at most; MiB."""
    failure: str = ""
    turns: list[float] = field(default_factory=list)
    """The median latency of each turn, in seconds."""

    @property
    def minimum(self) -> float:
        """The least latency, in ms."""
        return 1e3 * min(self.latencies)

    @property
    def median(self) -> float:
        """The median latency, in ms."""
        return 1e3 * statistics.median(self.latencies)

    def speedup(self, other: Measurement) -> float:
        """How many times as fast as `other` this is: the median over rounds of the turns' ratios.

        Turns of one round are neighbours: a machine that slows down for longer slows both down.
        """
        pairs = zip(other.turns, self.turns, strict=True)
        return statistics.median(theirs / own for theirs, own in pairs)

    @property
    def spread(self) -> float:
        """Half the distance between the 10th and the 90th percentile, over the median."""
        low, high = np.percentile(self.latencies, [10, 90])
        return float((high - low) / 2 / statistics.median(self.latencies))

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds per inference, all processes together: the stand-in for energy."""
        return statistics.median(self.cpu)

    def cells(self) -> list[str]:
        """The row as a table would have it; see `COLUMNS`."""
        if self.failure:
            return [self.contestant.name, "failed", *[""] * (len(COLUMNS) - 2)]
        compiled = self.contestant.compiled
        predictions = (self.contestant.predicted, self.contestant.bound)
        return [
            self.contestant.name,
            f"{self.minimum:.2f}",
            f"{self.median:.2f}",
            f"{100 * self.spread:.0f} %",
            f"{1e3 * self.cpu_seconds:.1f}",
            f"{self.memory:.0f}",
            "" if compiled is None else f"{compiled:.1f}",
            f"{self.start:.1f}",
            *("" if micros is None else f"{micros / 1e3:.2f}" for micros in predictions),
        ]

    def as_dict(self) -> dict[str, Any]:
        """The row as JSON would have it; ms."""
        row: dict[str, Any] = {"name": self.contestant.name}
        if self.failure:
            return {**row, "failure": self.failure}
        return {
            **row,
            "min_ms": self.minimum,
            "median_ms": self.median,
            "spread": self.spread,
            "cpu_ms": 1e3 * self.cpu_seconds,
            "predicted_ms": _ms(self.contestant.predicted),
            "bound_ms": _ms(self.contestant.bound),
            "compile_s": self.contestant.compiled,
            "start_s": self.start,
            "memory_mib": self.memory,
            "runs": len(self.latencies),
        }  # fmt: skip


COLUMNS = (
    "", "min ms", "median ms", "± spread", "CPU ms", "PSS MiB", "compile s", "start s",
    "predicted ms", "bound ms",
)  # fmt: skip
"""Of a table of measurements."""


def _ms(micros: float | None) -> float | None:
    return None if micros is None else micros / 1e3


class _Process:
    """A contestant's process, which runs when told to and sleeps otherwise."""

    def __init__(self, contestant: Contestant, model: Path, inputs: Path) -> None:
        command = [sys.executable, "-P", "-m", "ramiel_ir.contestant", str(model), str(inputs)]
        # What it writes goes to a file: a pipe that nobody reads stops it once the pipe is full.
        with tempfile.NamedTemporaryFile(dir=model.parent, delete=False) as log:
            self.process = subprocess.Popen(
                [*command, json.dumps(contestant.__dict__)],
                env={**os.environ, **contestant.environment(model.parent)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.log = Path(log.name)

    def ask(self, seconds: float) -> dict[str, Any]:
        """Run for about so long; latencies and CPU seconds per inference."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(f"{seconds}\n")
            self.process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Wait for what it says next; at first, that one inference is done."""
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], _ANSWER_SECONDS)[0]:
            self.process.kill()
            self.close()
            raise RamielError(f"it gave no answer for {_ANSWER_SECONDS:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            self.close()
            tail = self.log.read_text(errors="replace").strip().splitlines()[-1:]
            raise RamielError(tail[0] if tail else "its process ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process: it stops by itself when its input ends, and its workers with it."""
        try:
            self.process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


def measure(
    contestants: Sequence[Contestant],
    graph: Graph,
    inputs: Mapping[str, Any],
    *,
    rounds: int = 8,
    module: Any = None,
    by_keyword: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> list[Measurement]:
    """Measure contestants in interleaved rounds; one that fails is reported, not hidden.

    Peers find the model as a file, and beside it the torch `module` that it was made from, if any,
    and whether that takes its inputs by keyword.
    """
    found = [Measurement(contestant) for contestant in contestants]
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        model, given = Path(scratch) / "model.onnx", Path(scratch) / "inputs.pickle"
        write_onnx(graph, model)
        if module is not None:
            sys.modules["torch"].save((module, by_keyword), model.with_name(MODULE))
        given.write_bytes(pickle.dumps({value.name: inputs[value.name] for value in graph.inputs}))
        processes: dict[int, _Process] = {}
        for index, contestant in enumerate(contestants):
            start = time.perf_counter()
            processes[index] = _Process(contestant, model, given)
            stack.callback(processes[index].close)
            _ask(found[index], processes, index)
            found[index].start = time.perf_counter() - start
            progress()
        for _ in range(rounds):
            for index in list(processes):
                answer = _ask(found[index], processes, index, _ROUND_SECONDS)
                if answer:
                    found[index].latencies += answer["latencies"]
                    found[index].turns.append(statistics.median(answer["latencies"]))
                    found[index].cpu.append(answer["cpu"])
                    found[index].memory = max(found[index].memory, answer["memory"])
                progress()
    return found


def _ask(
    row: Measurement, processes: dict[int, _Process], index: int, seconds: float | None = None
) -> dict[str, Any] | None:
    """The answer of a process, to a question or, without one, the first; None when it failed."""
    process = processes[index]
    try:
        return process.answer() if seconds is None else process.ask(seconds)
    except RamielError as error:
        row.failure = str(error)
        del processes[index]
        return None


@dataclass(frozen=True)
class Report:
    """The measurements of one model, and the plans behind them."""

    rows: list[Measurement]
    plans: dict[str, Compilation]
    traces: dict[str, Trace]
    """Predicted and measured, of each plan with several workers; empty unless asked for."""


def bench(
    source: Source,
    *,
    backends: Sequence[str] = ("torch", "ort"),
    workers: int | None = None,
    rounds: int = 8,
    costs: Costs | Mapping[str, Costs] | None = None,
    peers: bool = True,
    traces: bool = False,
    seed: int = 0,
    inputs: Mapping[str, Any] | None = None,
    progress: Callable[[], None] = lambda: None,
    **reading: Any,
) -> Report:
    """Measure our plans (sequential, ungated parallel, the gate's choice) and the peers.

    A `torch.nn.Module` is what the torch peers then run; its class must be importable. `costs` may
    be given by backend, as profiles are. With `traces`, each parallel plan runs a little longer
    while a clock is read at every step.
    """
    graph = read(source, **reading)
    given = example_inputs(graph, inputs, seed=seed)
    cores = usable_cores()
    with ours(graph, backends, workers=workers, costs=costs) as (contestants, plans):
        field_ = list(contestants)
        if peers:
            field_ += [
                Contestant(f"{name}, {threads} thread{'s' * (threads > 1)}", "", name, threads)
                for name in registry.PEERS.names()
                if registry.PEERS.find(name).is_installed()
                for threads in registry.PEERS.find(name).thread_counts(cores)
            ]
        rows = measure(
            field_,
            graph,
            given,
            rounds=rounds,
            module=source if is_torch_module(source) else None,
            by_keyword=isinstance(reading.get("example_inputs"), Mapping),
            progress=progress,
        )
        found: dict[str, Trace] = {}
        for contestant, row in zip(contestants if traces else (), rows, strict=False):
            done = plans[contestant.name]
            if not done.plan.is_sequential and not row.failure:
                told = predicted(done.plan, done.timeline)
                found[f"{contestant.name}, predicted"] = told
                try:
                    seen = record(contestant.folder, given)
                except Exception as error:  # the table is there, whatever the runtime has to say
                    _log.warning("%s could not be traced: %s", contestant.name, error)
                else:
                    found[f"{contestant.name}, measured"] = typical(seen)
        return Report(rows, plans, found)


@contextmanager
def ours(
    graph: Graph,
    backends: Sequence[str],
    *,
    workers: int | None = None,
    costs: Costs | Mapping[str, Costs] | None = None,
) -> Iterator[tuple[list[Contestant], dict[str, Compilation]]]:
    """Artifacts to measure: per backend sequential on 1 and on all cores, parallel, and gated."""

    def compiled(backend: str) -> dict[str, Compilation]:
        context = make_context(workers=workers, costs=costs, backend=backend)
        found = sequential_plans(graph, context)
        for title, passes in (
            (f"parallel, {context.workers} workers", parallel_pipeline(context.workers)),
            ("default (gated)", None),
        ):
            done = plan_model(graph, backend=backend, passes=passes, context=context)
            found[f"{backend}: {title}"] = done
        return found

    plans = {title: done for found in of_each(backends, compiled) for title, done in found.items()}
    with emitted(plans) as contestants:
        yield contestants, plans


def of_each(backends: Sequence[str], make: Callable[[str], Made]) -> list[Made]:
    """What is made for each backend; one that lacks an op of the model takes no part.

    Raises its `UnsupportedOpError` where that leaves none.
    """
    found: list[Made] = []
    lacking = None
    for backend in backends:
        try:
            found.append(make(backend))
        except UnsupportedOpError as error:
            _log.warning("%s takes no part: %s", backend, error)
            lacking = error
    if not found and lacking is not None:
        raise lacking
    return found


def sequential_plans(graph: Graph, context: Context) -> dict[str, Compilation]:
    """By title, the plans of one worker with one thread and with all cores."""
    passes, backend = f"{SIMPLIFY},sequential", context.backend
    return {
        f"{backend}: sequential, {threads} thread{'s' * (threads > 1)}": plan_model(
            graph, backend=backend, passes=passes, context=replace(context, alone=(threads,))
        )
        for threads in sorted(context.alone)
    }


@contextmanager
def emitted(plans: Mapping[str, Compilation]) -> Iterator[list[Contestant]]:
    """A contestant for each plan: its artifact is there for as long as the context is open."""
    # A parallel plan computes some ops twice, which a bound must not count.
    plain = {done.backend.name: done.graph for done in plans.values() if done.plan.is_sequential}
    with tempfile.TemporaryDirectory() as scratch:
        contestants = []
        for number, (name, done) in enumerate(plans.items()):
            folder = Path(scratch) / f"{done.backend.name}_{number}"
            start = time.perf_counter()
            write_artifact(done.plan, done.timeline, done.backend, folder)
            compiled = done.seconds + time.perf_counter() - start
            graph = plain.get(done.backend.name, done.graph)
            least = work(graph, done.context.costs, done.plan.threads)
            bound = done.timeline.request + least.bound(len(done.plan.workers))
            predicted = done.timeline.latency
            contestants.append(
                Contestant(
                    name, os.fspath(folder), compiled=compiled, predicted=predicted, bound=bound
                )
            )
        yield contestants
