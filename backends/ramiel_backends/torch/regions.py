"""If, Loop and Scan as Python statements: regions are blocks, captures are just outer names.

The results of an If are assigned in both branches. A loop-carried value goes by the name of the
result it becomes, and scan outputs are collected in a list of that name and stacked at the end.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ramiel_backends.torch import layout
from ramiel_backends.torch.families._types import NUMPY_TYPES, TORCH_TYPES, one_number
from ramiel_backends.torch.statements import (
    Assign,
    Break,
    If,
    Repeat,
    Statement,
    assign,
    names_in,
    reads,
)
from ramiel_backends.torch.translate import Translator, is_region_op
from ramiel_ir.ir import DType, Graph, Op, Type, Value

SINCE = {"If": [1], "Loop": [1], "Scan": [9]}
"""The versions from which each op is written."""


def reason_against(op: Op) -> str:
    """Why the op cannot be written as statements, nothing where it can."""
    bodies = ("then_branch", "else_branch") if op.kind == "If" else ("body",)
    missing = [name for name in bodies if name not in op.regions]
    if missing:
        return f"it has no {missing[0]}"
    version = op.graph.opsets.get("", 1) if op.graph is not None else 1
    if op.kind == "If":
        same = {len(op.regions[name].outputs) for name in bodies} == {len(op.results)}
        return "" if same else "its branches return other numbers of values"
    if op.kind == "Scan" and version < 9:
        return "Scan before opset 9 has a batch axis"
    body = op.regions["body"]
    if op.kind == "Scan":
        slices = op.attribute("num_scan_inputs", 0)
        if len(body.inputs) != len(op.operands) or not 0 < slices <= len(op.operands):
            return "its body takes another number of values"
        for index, value in enumerate(op.operands[-slices:]):
            axis, rank = _listed(op, "scan_input_axes", index), _rank(value)
            if rank is not None and not -rank <= axis < rank:
                return f"it scans axis {axis} of an input of rank {rank}"
    elif len(body.inputs) != max(2, len(op.operands)):
        return "its body takes another number of values"
    carried = _carried(op)
    returned = len(body.outputs) - (op.kind == "Loop")
    if returned != len(op.results) or carried > returned:
        return "its body returns another number of values"
    scanned = [*body.outputs[len(body.outputs) - returned + carried :]]
    if op.kind == "Scan":
        scanned += body.inputs[carried:]
    lacking = [value for value in scanned if _element(value.type) in NUMPY_TYPES]
    return "torch cannot stack values of this type" if lacking else ""


class RegionTranslator(Translator):
    """A translator that knows If, Loop and Scan as well."""

    def op(self, op: Op, sample: int) -> list[Statement]:
        if not is_region_op(op):
            return super().op(op, sample)
        writer = _Regions(self, op, sample)
        return {"If": writer.if_, "Loop": writer.loop, "Scan": writer.scan}[op.kind]()


def _carried(op: Op) -> int:
    if op.kind == "Loop":
        return max(0, len(op.operands) - 2)
    return len(op.operands) - int(op.attribute("num_scan_inputs", 0))


def _element(type: Type | None) -> DType | None:
    return type.element if type is not None and isinstance(type.element, DType) else None


@dataclass
class _Regions:
    translator: Translator
    op: Op
    sample: int

    def name(self, value: Value | None) -> str:
        return "_" if value is None else self.translator.name(value, self.sample)

    def bind(self, value: Value, name: str) -> None:
        self.translator.bind(value, self.sample, name)

    def ops(self, region: Graph) -> list[Statement]:
        return [part for op in region.ops for part in self.translator.op(op, self.sample)]

    # If -------------------------------------------------------------------------------------------

    def if_(self) -> list[Statement]:
        results = [self.name(value) for value in self.op.results]
        body, orelse = (
            tuple(self.branch(self.op.regions[name], results))
            for name in ("then_branch", "else_branch")
        )
        condition = self.op.operand(0)
        test = layout.parse(f"bool({self.name(condition)})")
        if not body and not orelse:
            return []
        return [If(test, body, orelse, frozenset(results) - {"_"})]

    def branch(self, region: Graph, results: Sequence[str]) -> list[Statement]:
        """The statements of a branch, whose own values take the names of the results."""
        later: list[Statement] = []
        taken: set[Value] = set()
        for value, result in zip(region.outputs, results, strict=True):
            own = value.op is not None and value.op.graph is region and value not in taken
            if result != "_" and own:
                self.bind(value, result)
                taken.add(value)
            elif result != "_":
                later.append(assign(result, self.name(value)))
        return [*self.ops(region), *later]

    # Loop -----------------------------------------------------------------------------------------

    def loop(self) -> list[Statement]:
        body = self.op.regions["body"]
        trip, condition = self.op.operand(0), self.op.operand(1)
        step, going, *carried = body.inputs
        going_on, *returned = body.outputs
        start, variables = self.carry(carried, self.op.operands[2:])
        scans = self.lists(returned[len(carried) :])
        inner = self.ops(body)
        inner += self.collect(returned[len(carried) :], scans)
        checks = going_on is not going and _truth(going_on) is not True
        test = f"bool({self.name(going_on)})"
        if checks and self.name(going_on) in variables:  # which are about to change
            inner.append(assign(again := self.translator.names.name("going_on"), test))
            test = again
        inner = _moved(
            inner, variables, [self.name(value) for value in returned[: len(carried)]], test
        )
        used = set(reads(inner))
        head: list[Statement] = []
        if self.name(going) in used:
            head.append(assign(self.name(going), "torch.tensor(True)"))
        counter = self.translator.names.name("step")
        if self.name(step) in used:
            head.append(assign(self.name(step), f"torch.tensor({counter})"))
        keep = frozenset((*variables, *scans)) - {"_"}
        counts = bool(set(reads(head)) & {counter})
        if trip is None:
            whole = [*head, *inner]
            loop = self.while_(counter if counts else "", whole, test if checks else "", keep)
        else:
            if checks:
                inner.append(If(layout.parse(f"not {test}"), (Break(),)))
            times = self.times(trip, condition)
            loop = [Repeat(counter if counts else "_", times, (*head, *inner), keep)]
        least = 1 if self.runs_once(trip, condition) else 0
        start += [assign(name, "[]") for name in scans if name != "_"]
        return [*start, *loop, *self.stack(scans, returned[len(carried) :], least)]

    def while_(
        self, counter: str, body: list[Statement], again: str, keep: frozenset[str]
    ) -> list[Statement]:
        """The loop without a trip count; `again` says whether it goes on, nothing for always."""
        condition = self.op.operand(1)
        known = True if condition is None else _truth(condition)
        if known is False:
            return []
        start: list[Statement] = []
        test = "True"
        if again:
            test = self.translator.names.name("going")
            first = "True" if condition is None else f"bool({self.name(condition)})"
            start.append(assign(test, first))
            body.append(assign(test, again))
        elif condition is not None and known is None:
            test = f"bool({self.name(condition)})"
        if counter:
            start.append(assign(counter, "0"))
            body.append(assign(counter, f"{counter} + 1"))
        kept = keep | ({test} if again else set()) | ({counter} if counter else set())
        return [*start, Repeat("", layout.parse(test), tuple(body), kept)]

    def times(self, trip: Value, condition: Value | None) -> ast.expr:
        """How often a loop with a trip count runs at most."""
        number = one_number(None if trip.weight is None else trip.weight.array)
        count = f"int({self.name(trip)})" if number is None else str(max(0, int(number)))
        known = True if condition is None else _truth(condition)
        if known is None:
            assert condition is not None
            count = f"{count} if bool({self.name(condition)}) else 0"
        return layout.parse(f"range({count if known is not False else 0})")

    def runs_once(self, trip: Value | None, condition: Value | None) -> bool:
        """Whether the loop is known to run at least once."""
        if condition is not None and _truth(condition) is not True:
            return False
        if trip is None:
            return True
        number = one_number(None if trip.weight is None else trip.weight.array)
        return number is not None and number >= 1

    # Scan -----------------------------------------------------------------------------------------

    def scan(self) -> list[Statement]:
        op, body = self.op, self.op.regions["body"]
        count = _carried(op)
        start, variables = self.carry(body.inputs[:count], op.operands[:count])
        scans = self.lists(body.outputs[count:])
        inner = self.ops(body)
        inner += self.collect(body.outputs[count:], scans)
        inner = _moved(inner, variables, map(self.name, body.outputs[:count]))
        used = set(reads(inner))
        counter = self.translator.names.name("step")
        head: list[Statement] = []
        for index, value in enumerate(body.inputs[count:]):
            if self.name(value) in used:
                source = self.name(op.operands[count + index])
                axis = _listed(op, "scan_input_axes", index)
                place = (
                    f"-1 - {counter}" if _listed(op, "scan_input_directions", index) else counter
                )
                taken = f"{source}[{place}]" if axis == 0 else f"{source}.select({axis}, {place})"
                head.append(assign(self.name(value), taken))
        first = op.operands[count]
        length = f"{self.name(first)}.shape[{_listed(op, 'scan_input_axes', 0)}]"
        times = layout.parse(f"range({length})")
        keep = frozenset((*variables, *scans)) - {"_"}
        loop = Repeat(counter if head else "_", times, (*head, *inner), keep)
        start += [assign(name, "[]") for name in scans if name != "_"]
        return [*start, loop, *self.stack(scans, body.outputs[count:], self.known_steps(first))]

    def known_steps(self, first: Value | None) -> int:
        axis = _listed(self.op, "scan_input_axes", 0)
        shape = None if first is None or first.type is None else first.type.shape
        size = shape[axis] if shape is not None and axis < len(shape) else None
        return size if isinstance(size, int) else 0

    # What loops share -----------------------------------------------------------------------------

    def carry(
        self, inner: Sequence[Value], given: Sequence[Value | None]
    ) -> tuple[list[Statement], list[str]]:
        """The first values of the loop-carried variables, and the variables' names."""
        start: list[Statement] = []
        variables = []
        for index, (value, first) in enumerate(zip(inner, given, strict=True)):
            result = self.op.results[index]
            name = self.name(value if result is None else result)
            self.bind(value, name)
            variables.append(name)
            start.append(assign(name, "None" if first is None else self.name(first)))
        return start, variables

    def lists(self, scanned: Sequence[Value]) -> list[str]:
        """The names of the lists for the scan outputs, `_` for those that nobody asks for."""
        return [
            self.name(value) for value in self.op.results[len(self.op.results) - len(scanned) :]
        ]

    def collect(self, scanned: Sequence[Value], scans: Sequence[str]) -> list[Statement]:
        pairs = zip(scanned, scans, strict=True)
        return [
            assign("", f"{name}.append({self.name(value)})") for value, name in pairs if name != "_"
        ]

    def stack(self, scans: Sequence[str], scanned: Sequence[Value], least: int) -> list[Statement]:
        """The scan outputs from their lists, of the right type where the lists are empty."""
        found: list[Statement] = []
        for index, (name, value) in enumerate(zip(scans, scanned, strict=True)):
            if name == "_":
                continue
            axis = _listed(self.op, "scan_output_axes", index)
            order = "[::-1]" if _listed(self.op, "scan_output_directions", index) else ""
            full = f"torch.stack({name}{order}{f', {axis}' if axis else ''})"
            result = self.op.results[len(self.op.results) - len(scans) + index]
            empty = _empty(value.type, result.type if result is not None else None, axis)
            found.append(assign(name, full if least else f"{full} if {name} else {empty}"))
        return found


def _rank(value: Value | None) -> int | None:
    shape = None if value is None or value.type is None else value.type.shape
    return None if shape is None else len(shape)


def _listed(op: Op, name: str, index: int) -> int:
    given = op.attribute(name) or ()
    return int(given[index]) if index < len(given) else 0


def _truth(value: Value) -> bool | None:
    """What a condition always is, None where it is not known."""
    number = one_number(None if value.weight is None else value.weight.array)
    return None if number is None else bool(number)


def _moved(
    body: Sequence[Statement], variables: Sequence[str], values: Iterable[str], test: str = "True"
) -> list[Statement]:
    """The body with all values assigned to the variables, as if at the same time, at its end.

    Where nothing else reads a value, and nothing after it the variable's old one, the op that
    computes the value assigns the variable itself. `test` is read after the body.
    """
    found, values = list(body), list(values)
    pairs = []
    for variable, value in zip(variables, values, strict=True):
        place = _only_maker(found, value)
        later = set(reads(found[place + 1 :])) if place is not None else set()
        busy = {value, variable} & {*later, *names_in(layout.parse(test))}
        if place is None or busy or values.count(value) > 1 or variable in values:
            pairs.append((variable, value))
        else:
            maker = found[place]
            assert isinstance(maker, Assign)
            found[place] = replace(maker, targets=(variable,))
    pairs = [(a, b) for a, b in pairs if a != b]
    done = [variable for variable, _ in pairs]
    if any(value in done[:index] for index, (_, value) in enumerate(pairs)):
        return [*found, assign(done, f"({', '.join(value for _, value in pairs)})")]
    return [*found, *(assign(variable, value) for variable, value in pairs)]


def _only_maker(body: Sequence[Statement], name: str) -> int | None:
    """Where a statement assigns this name and nothing else."""
    for index, statement in enumerate(body):
        if isinstance(statement, Assign) and statement.targets == (name,):
            return index
    return None


def _empty(slice: Type | None, result: Type | None, axis: int) -> str:
    """An empty scan output; unknown dimensions are 0."""
    dims: list[int] = []
    if slice is not None and slice.shape is not None:
        dims = [dim if isinstance(dim, int) else 0 for dim in slice.shape]
        dims.insert(axis if axis >= 0 else len(dims) + 1 + axis, 0)
    else:
        dims = [0]
    element = _element(slice) or _element(result)
    dtype = TORCH_TYPES.get(element, "") if element is not None else ""
    sizes = ", ".join(map(str, dims))
    return f"torch.empty({sizes}{f', dtype={dtype}' if dtype else ''})"
