"""What the passes make of the zoo; `make zoo-table` writes docs/zoo.md with it.

Nothing is measured: the numbers follow from the models and the cost models alone.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filling import fill, table

from ramiel_ir import registry
from ramiel_ir.costs import AnalyticCosts, Costs, StaticCosts, Work, work
from ramiel_ir.driver import read
from ramiel_ir.ir import Graph
from ramiel_ir.pipeline import Context, PassManager

_WORKERS = 2
_SIMPLIFY = ("fold", "dce", "absorb")
_CLONE = ("cluster", f"merge{{max-clusters={_WORKERS}}}", "clone")
_MERGE = ("cluster", "merge")

_REIMPLEMENTATION = {
    "squeezenet": (66, 9, 2),
    "googlenet": (197, 28, 4),
    "resnet50": (175, 5, 2),
    "densenet121": (431, 1, 1),
    "inception-v3": (314, 36, 6),
}
"""Published nodes, and clusters before and after merging, of the known reimplementation."""


@dataclass(frozen=True)
class Facts:
    """What is known about one model. Clusters are pairs: before merging, and after."""

    name: str
    kinds: Counter[str]
    parameters: int
    static: Work
    analytic: Work
    ops: list[int]
    """Ops as read, then after each pass of `_SIMPLIFY`, then after clone."""
    clusters: tuple[int, int]
    """With static costs, of the graph as it is read: the paper's setting."""
    simplified: tuple[int, int]
    """With analytic costs, of the simplified graph: ours."""

    @property
    def count(self) -> int:
        """Ops of the graph as it is read."""
        return self.ops[0]


def passed(graph: Graph, passes: Sequence[str], costs: Costs) -> list[Graph]:
    """Copies of the graph after each of the passes."""
    found: list[Graph] = []
    manager = PassManager.parse(",".join(passes), Context(costs, workers=_WORKERS))
    manager.after = lambda step, graph, changed: found.append(graph.clone())
    manager.run(graph.clone())
    return found


def merged(graph: Graph, costs: Costs) -> tuple[int, int]:
    """Clusters before and after merging those that are never busy at the same time."""
    before, after = passed(graph, _MERGE, costs)
    return len(before.clusters), len(after.clusters)


def facts(name: str) -> Facts:
    """Build the model and look at it."""
    graph = read(f"zoo:{name}")
    simplified = passed(graph, _SIMPLIFY, AnalyticCosts())
    cloned = passed(simplified[-1], _CLONE, AnalyticCosts())
    return Facts(
        name,
        Counter(op.kind for op in graph.ops),
        sum(value.weight.count for value in graph.weights if value.weight is not None),
        work(graph, StaticCosts()),
        work(graph, AnalyticCosts()),
        [len(each.ops) for each in (graph, *simplified, cloned[-1])],
        merged(graph, StaticCosts()),
        merged(simplified[-1], AnalyticCosts()),
    )


def _whole(number: float) -> str:
    return f"{number:,.0f}"


def _milliseconds(microseconds: float) -> str:
    digits = max(0, 1 - math.floor(math.log10(microseconds / 1e3)))
    return f"{microseconds / 1e3:.{min(digits, 3)}f}"


def _arrow(pair: Sequence[int]) -> str:
    return " → ".join(str(number) for number in pair)


def parallelism(models: Sequence[Facts]) -> str:
    """The table of sizes and bounds."""
    header = [
        "model",
        "ops",
        "parameters, M",
        "work, static",
        "critical path",
        "parallelism",
        "work, ms",
        "critical path, ms",
        "parallelism",
    ]
    rows = [
        [
            each.name,
            str(each.count),
            f"{each.parameters / 1e6:.2f}",
            _whole(each.static.work),
            _whole(each.static.critical_path),
            f"{each.static.parallelism:.2f}",
            _milliseconds(each.analytic.work),
            _milliseconds(each.analytic.critical_path),
            f"{each.analytic.parallelism:.2f}",
        ]
        for each in models
    ]
    return table(header, rows)


def passes(models: Sequence[Facts]) -> str:
    """The table of what each pass does to the number of ops, and of clusters."""
    header = ["model", "ops", *_SIMPLIFY, "clone", "clusters, static", "clusters, analytic"]
    rows = []
    for each in models:
        before, after = each.ops[:-1], each.ops[1:]
        steps = [_arrow((a, b)) if a != b else "·" for a, b in zip(before, after, strict=True)]
        row = [each.name, str(each.count), *steps, _arrow(each.clusters), _arrow(each.simplified)]
        rows.append(row)
    return table(header, rows)


def agreeing(known: Mapping[str, Facts]) -> int:
    """How many models have as many clusters as there, before and after merging."""
    pairs = ((known[name].clusters, counts[1:]) for name, counts in _REIMPLEMENTATION.items())
    return sum(ours == theirs for ours, theirs in pairs)


def comparison(known: Mapping[str, Facts]) -> str:
    """The table beside the known reimplementation."""
    header = ["model", "ops", "nodes there", "difference", "clusters", "clusters there"]
    rows = []
    for name, (nodes, *clusters) in _REIMPLEMENTATION.items():
        each = known[name]
        counts = [str(each.count), str(nodes), f"{each.count - nodes:+d}"]
        rows.append([name, *counts, _arrow(each.clusters), _arrow(clusters)])
    return table(header, rows)


def main() -> None:
    """Look at every model and fill in the template."""
    models = []
    for name in registry.MODELS.names():
        print(name, file=sys.stderr)
        models.append(facts(name))
    known = {each.name: each for each in models}
    parts = {
        "parallelism": parallelism(models),
        "passes": passes(models),
        "comparison": comparison(known),
    }
    for size in ("mobile", "large"):
        for kind in ("Conv", "Relu"):
            parts[f"{size} {kind}"] = str(known[f"nasnet-{size}"].kinds[kind])
    googlenet = known["googlenet"]
    convolutions, norms = googlenet.kinds["Conv"], googlenet.kinds["LRN"]
    parts |= {
        "workers": str(_WORKERS),
        "agreeing": f"{agreeing(known)} of {len(_REIMPLEMENTATION)}",
        "googlenet Conv": str(convolutions),
        "googlenet LRN": str(norms),
        "googlenet normalised": str(googlenet.count - norms + convolutions),
        "densenet blocks": str(known["densenet121"].kinds["AveragePool"] + 1),
    }
    fill(str(Path(__file__).with_name("zoo")), parts)


if __name__ == "__main__":
    main()
