"""The inverse of `divide`: what several ops compute by rows, one op computes again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from ramiel_ir.derived import COPY, Part, parse_part
from ramiel_ir.ir import Attribute, Graph, Op, Type, Value
from ramiel_passes.rows import axis_of, restrict, rows_of


def join(graph: Graph) -> bool:
    """Undo what `divide` did; whether there was anything.

    Names say what is part of what. Since a model may have such names of its own, parts become one
    op only if dividing that op makes just these parts.
    """
    joiner = _Joiner(graph)
    for op in list(graph.ops):
        if op.kind == "Concat" and not op.domain:
            joiner.replace(op)
    return joiner.clean_up()


_DEEPEST = 99
"""Parts in a row that become whole together; `divide` makes fewer."""


class _Joiner:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        counts = Counter(value.name.partition(COPY)[0] for value in graph.values())
        self.plain = {name for name, count in counts.items() if count == 1}
        """Names that only one value has, without what makes them those of copies."""
        self.values = {self._base(value): value for value in graph.values()}
        self.parts: defaultdict[str, list[tuple[Part, Op]]] = defaultdict(list)
        self.wholes: dict[str, Value | None] = {}
        self.new: list[Op] = []
        self.gone: set[Op] = set()
        self.depth = 0
        for op in graph.ops:
            part = parse_part(self._base(op.writes[0])) if len(op.writes) == 1 else None
            if part is not None:
                self.gone.add(op)
                if op.kind != "Slice":
                    self.parts[part.whole].append((part, op))

    def replace(self, concat: Op) -> None:
        """Let the readers of a Concat of all parts of a value read what one op makes."""
        (result,) = concat.writes
        first = self._part(concat.operand(0))
        if first is None or first.whole not in self.parts or result.is_output:
            return
        end = 0
        for value in concat.operands:
            part = self._part(value)
            if part is None or part.whole != first.whole or part.first != end:
                return
            end = part.end
        if end != rows_of(result) or concat.attribute("axis") != axis_of(result):
            return
        whole = self._whole(first.whole)
        if whole is None:
            self._forget()
            return
        result.replace_all_uses(whole)
        for op in self.new:
            op.graph = self.graph
        place = self.graph.ops.index(concat)
        self.graph.ops[place:place] = self.new
        self.new = []
        self.gone.add(concat)

    def _forget(self) -> None:
        """Take back the ops that were made for one that cannot be."""
        for op in reversed(self.new):
            for index in range(len(op.operands)):
                op.set_operand(index, None)
            del self.wholes[op.writes[0].name]
        self.new = []

    def clean_up(self) -> bool:
        """Erase parts that nobody reads any more; whether there were any."""
        before = len(self.graph.ops)
        for op in reversed(self.graph.ops):
            if op in self.gone and not any(value.uses for value in op.writes):
                read = [value for value in op.reads if value.weight is not None]
                self.graph.erase(op)
                self.graph.erase_weights([value for value in read if not value.uses])
        return len(self.graph.ops) < before

    def _whole(self, name: str) -> Value | None:
        """The value that parts of this name are of, made by a new op where only parts are made."""
        if name not in self.parts:
            return self.values.get(name)
        if name not in self.wholes:
            self.wholes[name] = None  # for who asks meanwhile: nothing is a part of itself
            self.depth += 1
            if self.depth <= _DEEPEST:
                self.wholes[name] = self._make_whole(self.parts[name])
            self.depth -= 1
        return self.wholes[name]

    def _make_whole(self, parts: Sequence[tuple[Part, Op]]) -> Value | None:
        (first, op), (last, lowest) = min(parts, key=_first), max(parts, key=_end)
        kinds = {(part.total, op.qualified_kind, len(op.operands)) for part, op in parts}
        if first.first != 0 or last.end != last.total or len(kinds) > 1:
            return None
        operands = [
            self._common([part.operands[index] for _, part in parts])
            for index in range(len(op.operands))
        ]
        absent = [value is None for value in op.operands]
        if [value is None for value in operands] != absent or rows_of(op.writes[0]) is None:
            return None
        attributes = dict(op.attributes)
        if "pads" in attributes and "pads" in lowest.attributes:
            left, right = op.attribute("pads"), lowest.attribute("pads")
            attributes["pads"] = Attribute.of((*left[:2], *right[2:]))
        type = op.writes[0].type
        assert type is not None and type.shape is not None
        shape = list(type.shape)
        shape[-2] = last.total
        made = Value(first.whole, Type(type.element, tuple(shape)))
        results = [value and made for value in op.results]
        whole = Op(op.kind, operands, results, attributes, domain=op.domain, name=op.name)
        whole.graph = self.graph
        if all(self._is_part(part, other, whole) for part, other in parts):
            self.new.append(whole)
            return made
        for index in range(len(operands)):
            whole.set_operand(index, None)
        return None

    def _common(self, read: Sequence[Value | None]) -> Value | None:
        """What an op reads in the place of what its parts read."""
        if all(value is read[0] for value in read):
            return read[0]
        names = {part.whole for value in read if (part := self._part(value)) is not None}
        whole = (value for value in read if value is not None and self._part(value) is None)
        names |= {self._base(value) for value in whole}
        return self._whole(names.pop()) if len(names) == 1 else None

    def _is_part(self, part: Part, op: Op, whole: Op) -> bool:
        """Whether dividing `whole` makes `op`."""
        found = restrict(whole, (part.first, part.end))
        if found is None or found.attributes != op.attributes:
            return False
        for wanted, read, value in zip(found.operands, op.operands, whole.operands, strict=True):
            if wanted is None or value is None or wanted == (0, rows_of(value)):
                if read is not value and self._part(read) != self._whole_part(value):
                    return False
            elif self._part(read) != Part(self._base(value), *wanted, rows_of(value) or 0):
                return False
        return True

    def _part(self, value: Value | None, slices: int = 2) -> Part | None:
        """What part of what a value is, by name, and where it is a slice by what that takes.

        `divide` makes slices of slices, and none of those.
        """
        part = None if value is None else parse_part(self._base(value))
        if value is None or part is None or value.op is None or value.op.kind != "Slice":
            return part
        source = value.op.operand(0)
        if source is None or not slices:
            return None
        held = self._part(source, slices - 1) or self._whole_part(source)
        bounds = (part.first - held.first, part.end - held.first, axis_of(value))
        given = [None if x is None or x.weight is None else x.weight for x in value.op.operands[1:]]
        taken = [x.array.tolist() for x in given if x is not None and not x.is_detached]
        fits = taken == [[bound] for bound in bounds] and held.whole == part.whole
        return part if fits and held.total == part.total else None

    def _whole_part(self, value: Value | None) -> Part:
        name, rows = ("", 0) if value is None else (self._base(value), rows_of(value) or 0)
        return Part(name, 0, rows, rows)

    def _base(self, value: Value) -> str:
        """The name, without what makes it that of a copy where that is the only one left."""
        name = value.name.partition(COPY)[0]
        return name if name in self.plain else value.name


def _first(part: tuple[Part, Op]) -> int:
    return part[0].first


def _end(part: tuple[Part, Op]) -> int:
    return part[0].end
