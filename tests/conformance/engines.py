"""The ways a conformance case can be run: through a backend and its artifact, or interpreted."""

from __future__ import annotations

import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ramiel_ir.artifact import write_artifact
from ramiel_ir.backend import find_backend
from ramiel_ir.compare import deviation
from ramiel_ir.costs import AnalyticCosts
from ramiel_ir.errors import UnsupportedOpError
from ramiel_ir.interpret import interpret
from ramiel_ir.ir import Graph
from ramiel_ir.onnx_reader import read_onnx
from ramiel_ir.pipeline import Context
from ramiel_ir.plan import Plan, simulate
from tests.conformance.cases import Case, DataSet
from tests.conformance.spread import CLUSTERS, spread

TIMEOUT = 120.0
"""Seconds for one request."""


@dataclass
class Outcome:
    """What became of one case on one engine; `reason` is empty where it passed.

    `plans` and `messages` count what was run. `excuse` is what keeps the engine's own library,
    used directly, from passing the case.
    """

    case: str
    engine: str
    reason: str = ""
    excuse: str = ""
    plans: int = 0
    messages: int = 0
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether every output of every plan was as expected."""
        return not self.reason


class Engine(ABC):
    """Runs cases. One instance serves any number of them, one at a time."""

    name: str

    @abstractmethod
    def run(self, case: Case, outcome: Outcome) -> None:
        """Run the case under every plan; fill in the outcome, raise where it fails."""

    def outcome(self, case: Case) -> Outcome:
        """What becomes of the case, whatever it raises."""
        found = Outcome(case.name, self.name)
        try:
            self.run(case, found)
        except Exception as error:
            found.reason = describe(error)
        return found


class Mismatch(Exception):
    """An output is not as expected."""


def describe(error: BaseException) -> str:
    """An error on one line, our own refusals by their message alone."""
    text = " ".join(str(error).split())
    if isinstance(error, Mismatch):
        return text
    return f"{type(error).__name__}: {text}"


def compare(data: DataSet, names: list[str], found: Mapping[str, Any]) -> None:
    """Raise `Mismatch` for the first output that is not as expected."""
    for name, expected in zip(names, data.outputs, strict=True):
        seen = deviation(expected, found[name])
        if not seen.agrees:
            raise Mismatch(f"output {name!r}: {seen.reason}")


def output_names(graph: Graph) -> list[str]:
    """The names of the outputs, in the model's order."""
    return [value.name for value in graph.outputs]


@dataclass
class Interpret(Engine):
    """The interpreter, of the graph and of its plans; of whole architectures of the graph only."""

    name: str = "interpret"

    def run(self, case: Case, outcome: Outcome) -> None:
        graph = read_onnx(case.model)
        programs: list[Graph | Plan] = [graph]
        if case.category != "real":
            counts = [count for count in CLUSTERS[1:] if len(graph.ops) >= count]
            programs += [spread(graph, count) for count in counts]
        for program in programs:
            outcome.plans += 1
            outcome.messages += len(program.messages) if isinstance(program, Plan) else 0
            for data in case.data:
                given = dict(zip(case.input_names, data.inputs, strict=True))
                compare(data, output_names(graph), interpret(program, given))


@dataclass
class Compiled(Engine):
    """A backend: the case is compiled into an artifact, which is loaded and run with threads."""

    name: str
    scratch: Path = field(default_factory=lambda: memory_folder())

    def __post_init__(self) -> None:
        self.backend = find_backend(self.name)

    def run(self, case: Case, outcome: Outcome) -> None:
        for plan in self.plans(read_onnx(case.model), clusters(case)):
            outcome.plans += 1
            outcome.messages += len(plan.messages)
            try:
                self._run_plan(plan, case)
            except Exception as error:
                error.args = (f"{error} [{len(plan.workers)} workers]",)
                raise

    def plans(self, graph: Graph, counts: Sequence[int]) -> Iterator[Plan]:
        """The plans for so many clusters, those left out that would be the same."""
        for count in counts:
            context = Context(workers=count, backend=self.name)
            prepared = self.backend.prepare(graph.clone(), context)
            if count > 1 and len(prepared.ops) < min(count, 3):
                continue
            self.backend.check(prepared)
            yield spread(prepared, count)
            if len(prepared.ops) < 2:
                return

    def _run_plan(self, plan: Plan, case: Case) -> None:
        # The runtime's own tests load what an artifact carries; here one copy serves every case.
        from ramiel_backends.runtime.session import load

        names = output_names(plan.graph)
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            path = Path(folder) / "artifact"
            plan = self.backend.arrange(plan, AnalyticCosts())
            write_artifact(plan, simulate(plan, AnalyticCosts()), self.backend, path)
            with load(path, "thread") as model:
                for data in case.data:
                    given = dict(zip(case.input_names, data.inputs, strict=True))
                    compare(data, names, model.run(given, timeout=TIMEOUT))


class Ort(Compiled):
    """The ort backend; what ONNX Runtime itself does not pass is excused, if it fails as cleanly.

    Where ONNX Runtime does not load the model, ours has to say so with `UnsupportedOpError`.
    """

    def __init__(self) -> None:
        super().__init__("ort")

    def outcome(self, case: Case) -> Outcome:
        from tests.conformance.ort_itself import complaint

        complaint_of_it = complaint(case)
        found = super().outcome(case)
        found.excuse = complaint_of_it
        return found


def clusters(case: Case) -> Sequence[int]:
    """The numbers of clusters to run a case with; whole architectures take long to run with 4."""
    return CLUSTERS[:2] if case.category == "real" else CLUSTERS


def refused(outcome: Outcome) -> bool:
    """Whether the engine said that it does not support the case."""
    return outcome.reason.startswith(f"{UnsupportedOpError.__name__}:")


def memory_folder() -> Path:
    """A folder for short-lived files, in memory where the system has one."""
    shared = Path("/dev/shm")
    if shared.is_dir() and shutil.disk_usage(shared).free > 1 << 32:
        return shared
    return Path(tempfile.gettempdir())


def make_engine(name: str) -> Engine:
    """The engine of this name."""
    if name == "interpret":
        return Interpret()
    return Ort() if name == "ort" else Compiled(name)


ENGINES = ("torch", "ort", "interpret")
