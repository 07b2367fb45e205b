"""What a backend is: something that can turn a Plan into the files of an artifact."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from ramiel_ir import registry
from ramiel_ir.costs import Costs
from ramiel_ir.errors import UnsupportedOpError, UsageError
from ramiel_ir.ir import Graph, Op, Value
from ramiel_ir.pipeline import Context
from ramiel_ir.plan import Plan, Timeline

Isolation = Literal["process", "thread"]


@dataclass(frozen=True)
class Emission:
    """What a backend tells of the files it wrote, for the manifest.

    `isolation` is how the artifact runs unless its caller says otherwise; `weight_keys` are
    the keys in weights.safetensors of the weights that are outputs themselves; `checked` are the
    files, relative to the folder, that get a digest.
    """

    isolation: Isolation
    weight_keys: Mapping[Value, str] = field(default_factory=dict)
    checked: tuple[str, ...] = ()
    runtime: str = ""
    """Which `runtime/backend_*.py` runs the workers; the backend's own name unless given."""


class Backend(ABC):
    """Emits artifacts. A backend holds no state; one instance serves any number of graphs."""

    name: ClassVar[str]
    unfolded: ClassVar[frozenset[str]] = frozenset()
    """Kinds of ops that its own fusion looks for: constants stay on the other side of them."""

    def prepare(self, graph: Graph, context: Context) -> Graph:
        """The graph this backend would rather plan: its own fusion, its own expansions."""
        return graph

    @abstractmethod
    def check(self, graph: Graph) -> None:
        """Raise `UnsupportedOpError` that names every op it cannot emit, with counts."""

    def arrange(self, plan: Plan, costs: Costs) -> Plan:
        """The plan this backend would rather emit: the same work, messages earlier or later."""
        return plan

    def profile(
        self, graph: Graph, inputs: Mapping[str, Any], threads: int, rounds: int
    ) -> dict[str, float]:
        """Median µs of each op by its first result's name, run in sequence on so many threads."""
        raise UsageError(f"the {self.name} backend cannot profile")

    def segment(self, graph: Graph, inputs: Mapping[str, Any], rounds: int) -> float:
        """µs that a segment of this graph takes beside its ops, on one thread.

        A segment is what a worker computes between messages; most backends write it op by op.
        """
        return 0.0

    def ops(self) -> dict[str, list[int]]:
        """The ops it can emit, each with the versions from which its forms hold, sorted."""
        return {}

    @abstractmethod
    def emit(self, plan: Plan, timeline: Timeline, folder: Path) -> Emission:
        """Write everything but the manifest into `folder`, which exists and is empty."""


def find_backend(name: str) -> Backend:
    """The backend of this name, through the registry; `UsageError` with the known names."""
    cls: type[Backend] = registry.BACKENDS.get(name, "backend")
    return cls()


def refuse(backend: str, ops: Iterable[tuple[Op, str]]) -> None:
    """Raise the `UnsupportedOpError` for ops that a backend cannot emit, each with its reason."""
    found = list(ops)
    if not found:
        return
    counts = Counter(op.qualified_kind for op, _ in found)
    reasons = {op.qualified_kind: reason for op, reason in reversed(found)}
    listed = ", ".join(f"{kind} × {n} ({reasons[kind]})" for kind, n in sorted(counts.items()))
    raise UnsupportedOpError(
        f"the {backend} backend cannot emit {listed}; the first is {found[0][0]}",
        hint="try another backend, or export the model with other ops",
    )
