"""A seeded sample of the cases under process isolation, over all kinds of values.

Starting two processes that import torch for each case would take longer than all the rest. So the
sampled cases of one op set become one graph, whose outputs each pass through one more op: then they
travel from one process to the other.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ramiel_ir.artifact import load, write_artifact
from ramiel_ir.backend import find_backend
from ramiel_ir.costs import AnalyticCosts
from ramiel_ir.ir import Graph, Type, Value
from ramiel_ir.onnx_reader import read_onnx
from ramiel_ir.pipeline import Context
from ramiel_ir.plan import simulate
from tests.conformance.cases import Case
from tests.conformance.engines import TIMEOUT, Outcome, compare, describe
from tests.conformance.spread import spread

SIZE = 120
OPSETS = 6
"""At most so many op sets: each is an artifact of its own."""
PER_TRAIT = 5
WORKERS = 2
ROUNDS = 2
"""Requests for each artifact: the second one finds slots that were used."""

Imports = tuple[tuple[str, int], ...]


@dataclass
class Report:
    """What was sampled, and what went wrong."""

    told: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What was sampled, as a paragraph."""
        cases = "; ".join(self.told)
        return (
            "The runs above have their workers as threads of one process. A sample over all kinds "
            "of values also runs with workers in processes of their own, which hand each other "
            f"values through shared memory: {cases}."
        )


def run(cases: Sequence[Case], outcomes: Sequence[Outcome]) -> Report:
    """Run samples of the cases that passed, by engine."""
    report = Report()
    for engine in ("torch", "ort"):
        passed = {found.case for found in outcomes if found.engine == engine and found.passed}
        if passed:
            chosen = choose([case for case in cases if case.name in passed])
            for group in groups(chosen):
                report.failures += _run(engine, group)
            kinds = {trait for case in chosen for trait in traits(case)}
            report.told.append(
                f"{engine} {len(chosen)} cases with {len(kinds)} kinds of values and control flow"
            )
    return report


def traits(case: Case) -> set[str]:
    """The kinds of values and of control flow in a case."""
    model = case.model
    found = set(case.types)
    found |= {f"op {node.op_type}" for node in model.graph.node} & {"op If", "op Loop", "op Scan"}
    dims = [
        dim
        for value in (*model.graph.input, *model.graph.output)
        for dim in value.type.tensor_type.shape.dim
    ]
    if any(dim.WhichOneof("value") != "dim_value" for dim in dims):
        found.add("dynamic")
    return found


def imports(case: Case) -> Imports:
    """The op sets of a case."""
    return tuple(sorted((entry.domain, entry.version) for entry in case.model.opset_import))


def choose(cases: Sequence[Case], seed: int = 0) -> list[Case]:
    """About `SIZE` cases of few op sets, in which every trait comes `PER_TRAIT` times if it can."""
    pool = [case for case in cases if case.category != "real"]
    random.Random(seed).shuffle(pool)
    of = {case.name: traits(case) for case in pool}
    missing = {trait: PER_TRAIT for case in pool for trait in of[case.name]}
    opsets = _richest(pool, of)
    pool = [case for case in pool if imports(case) in opsets]
    chosen = []
    for case in pool:
        if any(missing[trait] > 0 for trait in of[case.name]):
            chosen.append(case)
            for trait in of[case.name]:
                missing[trait] -= 1
    rest = [case for case in pool if case not in chosen]
    return (chosen + rest)[: max(SIZE, len(chosen))]


def _richest(pool: Sequence[Case], of: dict[str, set[str]]) -> list[Imports]:
    """The op sets that cover the most traits together, one after the other."""
    groups: dict[Imports, set[str]] = {}
    for case in pool:
        groups.setdefault(imports(case), set()).update(of[case.name])
    chosen: list[Imports] = []
    covered: set[str] = set()
    for _ in range(OPSETS):
        best = max(groups, key=lambda key: len(groups[key] - covered))
        chosen.append(best)
        covered |= groups[best]
    return chosen


def groups(cases: Sequence[Case]) -> list[list[Case]]:
    """The cases of one op set together, apart from those with strings, sequences or optionals.

    Where a session of ONNX Runtime has an input of those, it cannot return types that numpy lacks.
    """
    found: dict[tuple[Imports, bool], list[Case]] = {}
    for case in cases:
        unbound = bool(case.types & {"STRING", "sequence", "optional"})
        found.setdefault((imports(case), unbound), []).append(case)
    return list(found.values())


@dataclass
class _Part:
    """A case as a part of the merged graph; its values begin with `prefix`."""

    case: Case
    prefix: str
    outputs: list[str]


def _merge(cases: Sequence[Case]) -> tuple[Graph, list[_Part]]:
    """One graph that computes all cases side by side."""
    merged = Graph("sample")
    parts: list[_Part] = []
    outputs: list[Value] = []
    for number, case in enumerate(cases):
        graph = read_onnx(case.model)
        prefix = f"case {number}/"
        for value in graph.values():
            value.name = prefix + value.name
            value.type = _own_symbols(value.type, prefix)
        returned = graph.outputs
        graph.set_outputs(())
        merged.opsets.update(graph.opsets)
        for value in graph.inputs:
            merged.add_input(value)
        for value in graph.weights:
            value.producer = merged
            merged.weights.append(value)
        for op in graph.ops:
            merged.append(op)
        passed = [_passed_on(merged, value, f"{prefix}{i}") for i, value in enumerate(returned)]
        parts.append(_Part(case, prefix, [value.name for value in passed]))
        outputs += passed
    merged.set_outputs(outputs)
    return merged, parts


def _passed_on(graph: Graph, value: Value, name: str) -> Value:
    if value.type is None or value.type.kind != "tensor":
        return value  # Identity took tensors only, for long
    return graph.add("Identity", [value], name, value.type)


def _own_symbols(type: Type | None, prefix: str) -> Type | None:
    """The type with symbols that no other case has."""
    if type is None or isinstance(type.element, Type):
        return type if type is None else replace(type, element=_own_symbols(type.element, prefix))  # type: ignore[arg-type]
    if type.shape is None:
        return type
    dims = tuple(prefix + dim if isinstance(dim, str) else dim for dim in type.shape)
    return replace(type, shape=dims)


def _run(engine: str, cases: Sequence[Case]) -> Iterator[str]:
    where = f"{engine}, process isolation"
    backend = find_backend(engine)
    graph, parts = _merge(cases)
    inputs = {}
    for part in parts:
        names = [part.prefix + name for name in part.case.input_names]
        inputs.update(zip(names, part.case.data[0].inputs, strict=True))
    try:
        prepared = backend.prepare(graph, Context(workers=WORKERS, backend=engine))
        backend.check(prepared)
        plan = backend.arrange(spread(prepared, WORKERS), AnalyticCosts())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "artifact"
            write_artifact(plan, simulate(plan, AnalyticCosts()), backend, path)
            with load(path, isolation="process") as model:
                rounds = [model.run(inputs, timeout=TIMEOUT) for _ in range(ROUNDS)]
    except Exception as error:
        names = ", ".join(case.name for case in cases)
        yield f"{where}: {describe(error)}; the cases are {names}"
        return
    for part in parts:
        for outputs in rounds:
            try:
                compare(part.case.data[0], part.outputs, outputs)
            except Exception as error:
                yield f"{where} {part.case.name}: {describe(error)}"
