"""The statements of a generated function: what they read and assign, and what may be freed when."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from ramiel_backends.torch import layout

STEP = 4
"""Columns of one level of indentation."""


@dataclass(frozen=True)
class Assign:
    """`targets = value`; without targets just `value`."""

    targets: tuple[str, ...]
    value: ast.expr
    comment: str = ""


@dataclass(frozen=True)
class Delete:
    """`del names`: the tensors may be freed."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Comment:
    """A comment line of ours, after an empty line."""

    text: str


@dataclass(frozen=True)
class Break:
    """`break`."""


@dataclass(frozen=True)
class If:
    """`if test: body, else: orelse`; `keep` are the names that outlive it."""

    test: ast.expr
    body: tuple[Statement, ...]
    orelse: tuple[Statement, ...] = ()
    keep: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Repeat:
    """`for target in iterable: body`, or without a target `while iterable: body`."""

    target: str
    iterable: ast.expr
    body: tuple[Statement, ...]
    keep: frozenset[str] = frozenset()


Statement = Assign | Delete | Comment | Break | If | Repeat


def assign(targets: str | Sequence[str], value: str, comment: str = "") -> Assign:
    """`targets = value` from the source of the value."""
    names = (targets,) if isinstance(targets, str) else tuple(targets)
    return Assign(names if any(names) else (), layout.parse(value), comment)


def names_in(expression: ast.expr) -> list[str]:
    """The names an expression reads, each once, in order."""
    nodes = [node for node in ast.walk(expression) if isinstance(node, ast.Name)]
    nodes.sort(key=lambda node: (node.lineno, node.col_offset))
    return list(dict.fromkeys(node.id for node in nodes))


def reads(statements: Iterable[Statement]) -> Iterator[str]:
    """The names that statements read, bodies included."""
    for statement in statements:
        match statement:
            case Assign(value=value):
                yield from names_in(value)
            case If(test=test, body=body, orelse=orelse):
                yield from names_in(test)
                yield from reads((*body, *orelse))
            case Repeat(iterable=iterable, body=body):
                yield from names_in(iterable)
                yield from reads(body)


def expressions(statements: Iterable[Statement]) -> Iterator[ast.expr]:
    """The expressions of statements, bodies included."""
    for statement in statements:
        match statement:
            case Assign(value=value):
                yield value
            case If(test=test, body=body, orelse=orelse):
                yield test
                yield from expressions((*body, *orelse))
            case Repeat(iterable=iterable, body=body):
                yield iterable
                yield from expressions(body)


def _own(body: Iterable[Statement], keep: frozenset[str]) -> set[str]:
    """The names that only a block has: what its statements assign, without what it keeps."""
    found: set[str] = set()
    for statement in body:
        if isinstance(statement, Assign):
            found.update(statement.targets)
        elif isinstance(statement, (If, Repeat)):
            found |= statement.keep
    return found - keep


def _outer_reads(statement: Statement) -> dict[str, None]:
    """The names that a statement reads and that are not its blocks' own, in order."""
    if isinstance(statement, Assign):
        return dict.fromkeys(names_in(statement.value))
    if not isinstance(statement, (If, Repeat)):
        return {}
    test = statement.test if isinstance(statement, If) else statement.iterable
    found = dict.fromkeys(names_in(test))
    blocks = [statement.body, *([statement.orelse] if isinstance(statement, If) else [])]
    for block in blocks:
        own = _own(block, statement.keep)
        for inner in block:
            found.update((name, None) for name in _outer_reads(inner) if name not in own)
    return found


# Freeing ------------------------------------------------------------------------------------------


def free(
    statements: Sequence[Statement], large: frozenset[str], live: frozenset[str] = frozenset()
) -> tuple[Statement, ...]:
    """The statements with a `del` after the last use of each name of `large`.

    Names in `live` are read afterwards, or belong to somebody else. What a block assigns and does
    not keep is its own, and freed inside it. A result that nobody reads is assigned to `_`.
    """
    after = set(live)
    found: list[Statement] = []
    for statement in reversed(statements):
        if isinstance(statement, If):
            statement = replace(statement, keep=statement.keep & after)
        used = list(_outer_reads(statement))
        dying = [name for name in used if name in large and name not in after]
        if isinstance(statement, Assign):
            targets = tuple(t if t in after or t == "_" else "_" for t in statement.targets)
            statement = replace(statement, targets=targets)
        elif isinstance(statement, (If, Repeat)):
            statement = _free_inside(statement, large, after)
        if _is_idle(statement):
            continue
        if dying:
            found.append(Delete(tuple(dying)))
        found.append(statement)
        after.update(used)
    return tuple(reversed(found))


def _is_idle(statement: Statement) -> bool:
    """Whether it does nothing: a name that nobody reads, an If without branches."""
    if isinstance(statement, If):
        return not statement.body and not statement.orelse
    return (
        isinstance(statement, Assign)
        and statement.targets == ("_",)
        and isinstance(statement.value, (ast.Name, ast.Constant))
    )


def _free_inside(statement: If | Repeat, large: frozenset[str], after: set[str]) -> Statement:
    def inside(body: tuple[Statement, ...], outer: set[str]) -> tuple[Statement, ...]:
        own = _own(body, statement.keep)
        read = {name for part in body for name in _outer_reads(part)} - own
        return free(body, frozenset(large & own), frozenset(outer | read))

    if isinstance(statement, Repeat):
        kept = statement.keep & {*after, *_outer_reads(statement)}
        return replace(statement, body=inside(statement.body, after | kept))
    return replace(
        statement, body=inside(statement.body, after), orelse=inside(statement.orelse, after)
    )


def without_last_deletes(statements: Sequence[Statement]) -> tuple[Statement, ...]:
    """Without the `del`s after which a function computes nothing more."""
    last = 0
    for index, statement in enumerate(statements):
        if isinstance(statement, (If, Repeat)) or (
            isinstance(statement, Assign) and statement.targets
        ):
            last = index
    return tuple(
        statement
        for index, statement in enumerate(statements)
        if index < last or not isinstance(statement, Delete)
    )


# Writing ------------------------------------------------------------------------------------------


@dataclass
class Writer:
    """Collects the lines of a file, indented."""

    lines: list[str] = field(default_factory=list)

    def text(self, text: str, depth: int = 0) -> None:
        """Add a line as it is, an empty one for no text."""
        self.lines.append(" " * depth + text if text else "")

    def write(self, statements: Iterable[Statement], depth: int) -> None:
        """Add statements; an empty list is `pass`."""
        before = len(self.lines)
        for statement in statements:
            self._statement(statement, depth, len(self.lines) == before)
        if len(self.lines) == before:
            self.text("pass", depth)

    def _statement(self, statement: Statement, depth: int, first: bool) -> None:
        match statement:
            case Assign(targets=targets, value=value, comment=comment):
                names = () if set(targets) == {"_"} and len(targets) > 1 else targets
                self.lines += layout.assignment(names, value, depth)
                self.lines[-1] += f"  # {comment}" if comment else ""
            case Delete(names=names):
                self._delete(names, depth)
            case Comment(text=text):
                if not first:
                    self.text("")
                self.text(f"# {text}", depth)
            case Break():
                self.text("break", depth)
            case If():
                self._if(statement, depth)
            case Repeat(target=target, iterable=iterable, body=body):
                keyword = f"for {target} in" if target else "while"
                self.lines += layout.header(keyword, iterable, depth)
                self.write(body, depth + STEP)

    def _if(self, statement: If, depth: int) -> None:
        ternary = _as_ternary(statement)
        if ternary is not None and ternary.fits(depth):
            self._statement(ternary.statement, depth, False)
            return
        self.lines += layout.header("if", statement.test, depth)
        self.write(statement.body, depth + STEP)
        if statement.orelse:
            self.text("else:", depth)
            self.write(statement.orelse, depth + STEP)

    def _delete(self, names: Sequence[str], depth: int) -> None:
        line = f"del {', '.join(names)}"
        if depth + len(line) <= layout.WIDTH:
            self.text(line, depth)
            return
        self.text("del (", depth)
        for name in names:
            self.text(f"{name},", depth + STEP)
        self.text(")", depth)


@dataclass(frozen=True)
class _Ternary:
    statement: Assign

    def fits(self, depth: int) -> bool:
        target = self.statement.targets[0]
        return depth + len(f"{target} = {layout.flat(self.statement.value)}") <= layout.WIDTH


def _as_ternary(statement: If) -> _Ternary | None:
    """`x = a if test else b` for an If whose branches only assign x."""
    if len(statement.body) != 1 or len(statement.orelse) != 1:
        return None
    one, other = statement.body[0], statement.orelse[0]
    if not isinstance(one, Assign) or not isinstance(other, Assign):
        return None
    if len(one.targets) != 1 or one.targets != other.targets:
        return None
    value = ast.IfExp(statement.test, one.value, other.value)
    return _Ternary(Assign(one.targets, value))
