"""How far from the optimum the passes end; `make optimality` writes docs/optimality.md with it.

Nothing is measured but how long the proofs take: the makespans follow from the graphs and the
cost models alone.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import random
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import geometric_mean
from typing import ClassVar

from filling import fill, table
from oracle import optimum

from ramiel_ir.costs import AnalyticCosts, Costs, StaticCosts
from ramiel_ir.driver import SIMPLIFY, read
from ramiel_ir.ir import Graph, Op, Value, clone_op
from ramiel_ir.pipeline import Context, PassManager
from ramiel_ir.plan import make_plan, simulate

_WORKERS = (2, 3)
_SIZES = (8, 12, 16, 20, 25, 30)
_SEEDS = 2
_KINDS = ("Relu", "Add", "MatMul", "MaxPool", "Softmax")
_CELLS = {
    "squeezenet": ("fire2.",),
    "googlenet": ("inception3a.", "inception5b."),
    "inception-v3": ("a0.", "b0.", "c0."),
    "nasnet-mobile": ("stem_cell0.",),
}
"""Cells of zoo models: the ops whose results have names that begin so."""


@dataclass(frozen=True)
class RandomCosts(Costs):
    """Costs like those of real ops: 5 to 500 µs, evenly on a logarithmic scale.

    A message takes 10 to 100 µs; its sender and its receiver are busy for a quarter of it each.
    """

    name: ClassVar[str] = "random"
    seed: int = 0

    def _draw(self, text: str, least: float, greatest: float) -> float:
        share = zlib.crc32(f"{self.seed} {text}".encode()) / 2**32
        return least * math.exp(share * math.log(greatest / least))

    def estimate_op(self, op: Op, threads: int) -> float:
        return self._draw(op.label, 5.0, 500.0)

    def estimate_edge(self, value: Value) -> float:
        return self._draw(value.name, 10.0, 100.0)

    def estimate_send(self, value: Value) -> float:
        return self.estimate_edge(value) / 4

    def estimate_receive(self, value: Value) -> float:
        return self.estimate_edge(value) / 4


def random_dag(size: int, seed: int) -> Graph:
    """So many ops that each read one or two of the last values; some reach far back."""
    rng = random.Random(f"{size} {seed}")
    graph = Graph("dag", [Value("x")], opsets={"": 21})
    values = [graph.inputs[0]]
    reach = rng.choice((4, 8))
    for number in range(size):
        operands = rng.choices(values[-reach:], k=rng.choice((1, 2)))
        values.append(graph.add(rng.choice(_KINDS), operands, f"v{number}"))
    graph.set_outputs([value for value in values if not value.uses])
    return graph


def cell(graph: Graph, prefix: str) -> Graph:
    """The ops whose results have names with this prefix, as a graph of their own."""
    chosen = [op for op in graph.ops if op.results[0].name.startswith(prefix)]
    found = Graph(prefix, [], opsets=graph.opsets)
    copies: dict[Value, Value] = {}
    for op in chosen:
        for value in op.reads:
            if value in copies:
                continue
            if value.weight is not None:
                copies[value] = found.add_weight(value.name, value.weight)
            else:
                copies[value] = found.add_input(Value(value.name, value.type))
        found.append(clone_op(op, copies))
    results = [value for op in found.ops for value in op.writes]
    found.set_outputs([value for value in results if not value.uses])
    return found


@dataclass(frozen=True)
class Case:
    """A graph with its costs and workers, and the group that it counts in."""

    group: str
    graph: Graph
    costs: Costs
    workers: int

    def makespan(self, passes: str) -> float:
        """What the plan takes that the passes make."""
        graph = self.graph.clone()
        context = Context(self.costs, workers=self.workers)
        PassManager.parse(passes, context).run(graph)
        return simulate(make_plan(graph), self.costs).makespan


@dataclass(frozen=True)
class Found:
    """The makespans of one case, µs; the optimum is a lower bound where it is not proven."""

    case: Case
    merged: float
    refined: float
    optimum: float
    proven: bool


def cases() -> Iterator[Case]:
    """Random graphs with two kinds of costs, and cells of zoo models."""
    cells = []
    for name, prefixes in _CELLS.items():
        graph = read(f"zoo:{name}")
        PassManager.parse(SIMPLIFY, Context(AnalyticCosts())).run(graph)
        cells += [cell(graph, prefix) for prefix in prefixes]
    for workers in _WORKERS:
        for seed in range(_SEEDS):
            for size in _SIZES:
                graph = random_dag(size, seed)
                yield Case("random, static costs", graph, StaticCosts(), workers)
                yield Case("random, busy messages", graph, RandomCosts(seed), workers)
        for graph in cells:
            yield Case("cells of the zoo, static costs", graph, StaticCosts(), workers)
            yield Case("cells of the zoo, analytic costs", graph, AnalyticCosts(), workers)


def solve(case: Case, seconds: float) -> Found:
    """Run the passes, and prove how short the makespan can be."""
    merge = f"cluster,merge{{max-clusters={case.workers}}}"
    merged, refined = case.makespan(merge), case.makespan(f"{merge},refine")
    least, proven = optimum(case.graph, case.costs, case.workers, seconds, known=refined)
    return Found(case, merged, refined, least, proven)


def ratios(all_found: Sequence[Found]) -> list[str]:
    """The numbers of a row: graphs, proven ones, and how far from these optima the passes end."""
    proven = [found for found in all_found if found.proven]
    row = [str(len(all_found)), str(len(proven))]
    merged = [found.merged / found.optimum for found in proven]
    refined = [found.refined / found.optimum for found in proven]
    for shares in (merged, refined):
        row += [f"{geometric_mean(shares):.3f}", f"{max(shares):.3f}"] if shares else ["", ""]
    return [*row, str(sum(share == 1 for share in refined))]


def main() -> None:
    """Solve all cases and fill in the template."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each proof")
    seconds = parser.parse_args().seconds
    found = []
    for case in cases():
        found.append(solve(case, seconds))
        last = found[-1]
        print(
            f"{case.group}, {len(case.graph.ops)} ops, {case.workers} workers: "
            f"{last.merged:.1f}, {last.refined:.1f}, {last.optimum:.1f}"
            f"{'' if last.proven else ' or more'}",
            file=sys.stderr,
        )
    groups: dict[tuple[str, int], list[Found]] = {}
    for one in found:
        groups.setdefault((one.case.group, one.case.workers), []).append(one)
    rows = [[group, str(workers), *ratios(some)] for (group, workers), some in groups.items()]
    header = [
        "graphs",
        "workers",
        "how many",
        "proven",
        "merge: mean",
        "merge: worst",
        "refine: mean",
        "refine: worst",
        "refine: optimal",
    ]
    unproven = [one.refined / one.optimum for one in found if not one.proven]
    parts = {
        "table": table(header, [*rows, ["all", "", *ratios(found)]]),
        "ortools": importlib.metadata.version("ortools"),
        "seconds": f"{seconds:.0f}",
        "unproven": str(len(unproven)),
        "at most": f"{geometric_mean(unproven or [1.0]):.2f}",
    }
    fill(__file__, parts)


if __name__ == "__main__":
    main()
