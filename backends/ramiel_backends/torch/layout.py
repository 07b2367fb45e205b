"""Lays expressions out over lines of 100 columns, as `ruff format` would leave them.

An expression becomes a small document of texts, lines and groups (Wadler, "A prettier printer",
2003): a group stands on one line where it fits, else its own lines break. Which group breaks first
follows ruff's rules for assignments: brackets at the end of the expression split before anything
gets parentheses. Source goes in through `ast`, so that quotes, blanks and needless parentheses of
the input play no part.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ramiel_backends.torch.precedence import (
    ATOM,
    POWER,
    UNARY,
    can_omit_parentheses,
    chain_attributes,
    is_operation,
    precedence,
    symbol,
)

WIDTH = 100
_PIECE = 64


@dataclass(frozen=True, slots=True)
class _Line:
    """A line break in an expanded group, `flat` otherwise."""

    flat: str


@dataclass(frozen=True, slots=True)
class _Broken:
    """Text that only an expanded group has."""

    text: str


@dataclass(frozen=True, slots=True)
class _Group:
    parts: tuple[_Doc, ...]


@dataclass(frozen=True, slots=True)
class _Indent:
    parts: tuple[_Doc, ...]


_Doc = str | _Line | _Broken | _Group | _Indent
_Entry = tuple[int, bool, _Doc]


def parse(source: str) -> ast.expr:
    """The expression a piece of source stands for. Raises SyntaxError where it is none."""
    return ast.parse(source, mode="eval").body


def assignment(targets: Sequence[str], value: ast.expr, depth: int) -> list[str]:
    """The lines of `a, b = value`, indented by `depth` columns; without targets, of `value`."""
    flat = f"{', '.join(targets)} = " if targets else ""
    left: list[_Doc] = [flat]
    if len(targets) > 1 and depth + len(flat) + _head(value) > WIDTH:
        names = [name for target in targets for name in (target, ",", _Line(" "))][:-1]
        left = ["(", _Indent((_Line(""), *names)), _Line(""), ") = "]
    return _lay_out(left, value, "", depth, len(targets) > 1)


def header(keyword: str, value: ast.expr, depth: int) -> list[str]:
    """The lines of `keyword value:`, as in `if x > 0:`."""
    return _lay_out([f"{keyword} "], value, ":", depth)


def flat(value: ast.expr) -> str:
    """The expression on one line, however long."""
    return _print((_doc(value, False),), 0, 1 << 60)


def string(text: str | bytes) -> str:
    """`text` as an ASCII literal between the quotes that need fewer escapes."""
    prefix = "b" if isinstance(text, bytes) else ""
    letters = text.decode("latin-1") if isinstance(text, bytes) else text
    quote = "'" if letters.count('"') > letters.count("'") else '"'
    return f"{prefix}{quote}{''.join(_letter(letter, quote) for letter in letters)}{quote}"


def _letter(letter: str, quote: str) -> str:
    return f"\\{letter}" if letter == quote else ascii(letter)[1:-1]


def _lay_out(
    left: Sequence[_Doc], value: ast.expr, right: str, depth: int, several: bool = False
) -> list[str]:
    plain = (*left, _doc(value, False), right)
    wrapped = (
        *left,
        *("(", _Indent((_Line(""), _doc(value, True))), _Line(""), ")"),
        right,
    )
    parts = wrapped if _wants_parentheses(left, value, right, depth, several) else plain
    return (" " * depth + _print(parts, depth, WIDTH)).splitlines()


def _wants_parentheses(
    left: Sequence[_Doc], value: ast.expr, right: str, depth: int, several: bool
) -> bool:
    """Whether ruff puts the whole value between parentheses of its own."""
    plain = (*left, _doc(value, False), right)
    if _all_fit(_print(plain, depth, 1 << 60), depth):
        return False
    core = value
    while isinstance(core, ast.UnaryOp):
        if precedence(core.operand) < precedence(core):
            return False
        core = core.operand
    if not is_operation(core) and chain_attributes(core) < 2:
        bare = isinstance(core, (ast.Name, ast.Constant, ast.Attribute))
        if bare or isinstance(core, ast.Subscript):
            # Only where that makes it fit, and never behind several targets.
            if several or depth + 4 + len(flat(value)) > WIDTH:
                return False
            head = flat(core.value) if isinstance(core, ast.Subscript) else ""
            return bare or depth + len(_print(left, depth, WIDTH)) + len(head) + 1 > WIDTH
        return False
    if not can_omit_parentheses(value):
        return True
    start = _print(left, depth, WIDTH)
    column = depth + len(start) if "\n" not in start else len(start.rpartition("\n")[2])
    first, *others = _print((_doc(value, False), right), depth, 0).split("\n")
    return column + len(first) > WIDTH or not all(len(line) <= WIDTH for line in others)


def _all_fit(text: str, depth: int) -> bool:
    first, *others = text.split("\n")
    return depth + len(first) <= WIDTH and all(len(line) <= WIDTH for line in others)


def _head(value: ast.expr) -> int:
    """Columns of the value up to the first place where it may break."""
    while isinstance(value, ast.UnaryOp):
        value = value.operand
    if is_operation(value) or chain_attributes(value) >= 2:
        return 1
    return len(_print((_doc(value, False),), 0, 0).partition("\n")[0])


# From expressions to documents --------------------------------------------------------------------


def _doc(node: ast.expr, inside: bool, least: int = 0) -> _Doc:
    """The document of an expression; `inside` brackets its operators may break."""
    if precedence(node) < least:
        return _between("(", [_doc(node, True)], ")")
    match node:
        case ast.Constant(value=str() | bytes() as text):
            return _string(text)
        case ast.Constant(value=value):
            return "..." if value is ... else repr(value)
        case ast.Name(id=name):
            return name
        case ast.Starred(value=value):
            return _concat("*", _doc(value, inside, UNARY))
        case ast.Attribute() | ast.Call() | ast.Subscript():
            return _chain(node, inside)
        case ast.List(elts=items):
            return _items("[", items, "]")
        case ast.Tuple(elts=items):
            return _items("(", items, ")")
        case ast.UnaryOp(op=op, operand=operand):
            return _concat(symbol(op), _doc(operand, inside, precedence(node)))
        case ast.BinOp(op=ast.Pow(), left=left, right=right):
            return _power(left, right, inside)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            parts = [_doc(body, inside, 2), _doc(test, inside, 2), _doc(orelse, inside, 1)]
            line = _Line(" ") if inside else " "
            return _Group((parts[0], line, "if ", parts[1], line, "else ", parts[2]))
        case ast.BinOp() | ast.Compare() | ast.BoolOp():
            operators, operands = _flatten(node)
            parts = [_doc(operands[0][0], inside, operands[0][1])]
            for operator, (operand, level) in zip(operators, operands[1:], strict=True):
                parts += [_Line(" ") if inside else " ", f"{operator} "]
                parts.append(_doc(operand, inside, level))
            return _Group(tuple(parts))
    raise ValueError(f"{type(node).__name__} has no layout")


def _flatten(node: ast.expr) -> tuple[list[str], list[tuple[ast.expr, int]]]:
    """The operators of one precedence and their operands, each with the least it must bind."""
    level = precedence(node)
    if isinstance(node, ast.BinOp):
        left: tuple[list[str], list[tuple[ast.expr, int]]] = ([], [(node.left, level)])
        if isinstance(node.left, ast.BinOp) and precedence(node.left) == level:
            left = _flatten(node.left)
        return [*left[0], symbol(node.op)], [*left[1], (node.right, level + 1)]
    if isinstance(node, ast.Compare):
        operands = [node.left, *node.comparators]
        return [symbol(op) for op in node.ops], [(operand, level + 1) for operand in operands]
    assert isinstance(node, ast.BoolOp)
    count = len(node.values) - 1
    return [symbol(node.op)] * count, [(operand, level + 1) for operand in node.values]


def _power(left: ast.expr, right: ast.expr, inside: bool) -> _Doc:
    simple = all(_is_simple_power_operand(operand) for operand in (left, right))
    before = _doc(left, inside, POWER + 1)
    after = _doc(right, inside, UNARY)
    if simple:
        return _concat(before, "**", after)
    return _Group((before, _Line(" ") if inside else " ", "** ", after))


def _is_simple_power_operand(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub) and isinstance(node.operand, (ast.Name, ast.Constant))
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name) or (
        isinstance(node, ast.Constant) and isinstance(node.value, (int, float))
    )


def _chain(node: ast.expr, inside: bool) -> _Doc:
    """Calls, subscripts and attributes behind one another, broken at the points when inside."""
    links: list[ast.expr] = []
    while isinstance(node, (ast.Attribute, ast.Call, ast.Subscript)):
        links.append(node)
        node = node.func if isinstance(node, ast.Call) else node.value
    links.reverse()
    fluent = inside and chain_attributes(links[-1]) >= 2
    parts: list[_Doc] = [_doc(node, inside, ATOM)]
    seen_bracket = precedence(node) < ATOM
    for link in links:
        if isinstance(link, ast.Attribute):
            parts += [_Line("")] if fluent and seen_bracket else []
            parts.append(f".{link.attr}")
        elif isinstance(link, ast.Call):
            parts.append(_arguments(link))
            seen_bracket = True
        elif isinstance(link, ast.Subscript):
            parts.append(_subscript(link.slice))
            seen_bracket = True
    return _Group(tuple(parts)) if fluent else _concat(*parts)


def _arguments(call: ast.Call) -> _Doc:
    given = [_doc(argument, True) for argument in call.args]
    for keyword in call.keywords:
        given.append(_concat(f"{keyword.arg}=", _doc(keyword.value, True)))
    if not given:
        return "()"
    return _between("(", [_Group(_separated(given))], ")")


def _subscript(index: ast.expr) -> _Doc:
    if isinstance(index, ast.Tuple) and index.elts:
        parts = [_slice(item) for item in index.elts]
        if len(parts) == 1:
            return _between("[", [parts[0], ","], "]")
        return _between("[", [_Group(_separated(parts))], "]")
    return _between("[", [_slice(index)], "]")


def _slice(node: ast.expr) -> _Doc:
    if not isinstance(node, ast.Slice):
        return _doc(node, True)
    bounds = [node.lower, node.upper] + ([node.step] if node.step is not None else [])
    spaced = any(bound is not None and not _is_simple_bound(bound) for bound in bounds)
    text = ""
    for place, bound in enumerate(bounds):
        if place:
            text += " :" if spaced and text.strip() and bounds[place - 1] is not None else ":"
        if bound is not None:
            text += (" " if spaced and place else "") + flat(bound)
    return text


def _is_simple_bound(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        node = node.operand
    return isinstance(node, (ast.Name, ast.Constant))


def _items(opening: str, items: Sequence[ast.expr], closing: str) -> _Doc:
    if not items:
        return opening + closing
    parts = [_doc(item, True) for item in items]
    if opening == "(" and len(parts) == 1:
        return _between(opening, [parts[0], ","], closing)
    return _between(opening, _separated(parts), closing)


def _string(text: str | bytes) -> _Doc:
    """A literal, in pieces on lines of their own where it is too long for one line."""
    whole = string(text)
    if len(whole) <= _PIECE:
        return whole
    pieces, start = [], 0
    for end in range(1, len(text) + 1):
        if end == len(text) or len(string(text[start : end + 1])) > _PIECE:
            pieces.append(string(text[start:end]))
            start = end
    return _Group(tuple(_joined(pieces, [_Line(" ")])))


def _separated(parts: Sequence[_Doc]) -> tuple[_Doc, ...]:
    return (*_joined(parts, [",", _Line(" ")]), _Broken(","))


def _joined(parts: Sequence[_Doc], separator: Sequence[_Doc]) -> list[_Doc]:
    return [item for part in parts for item in (*separator, part)][len(separator) :]


def _between(opening: str, parts: Iterable[_Doc], closing: str) -> _Doc:
    return _Group((opening, _Indent((_Line(""), *parts)), _Line(""), closing))


def _concat(*parts: _Doc) -> _Doc:
    return _Indent(()) if not parts else _Parts(parts)


class _Parts(_Group):
    """Parts in a row that break as what is around them does."""


# From documents to text ---------------------------------------------------------------------------


def _print(parts: Sequence[_Doc], depth: int, width: int) -> str:
    """The text, without the first line's indentation; the outermost lines break."""
    out: list[str] = []
    column = depth
    stack: list[_Entry] = [(depth, False, part) for part in reversed(parts)]
    while stack:
        indent, is_flat, doc = stack.pop()
        if isinstance(doc, str):
            out.append(doc)
            column += len(doc)
        elif isinstance(doc, _Line):
            out.append(doc.flat if is_flat else "\n" + " " * indent)
            column = column + len(doc.flat) if is_flat else indent
        elif isinstance(doc, _Broken):
            out.append("" if is_flat else doc.text)
            column += 0 if is_flat else len(doc.text)
        elif isinstance(doc, _Indent):
            stack += [(indent + 4, is_flat, part) for part in reversed(doc.parts)]
        else:
            if not isinstance(doc, _Parts) and not is_flat:
                is_flat = _fits(doc, stack, width - column)
            stack += [(indent, is_flat, part) for part in reversed(doc.parts)]
    return "".join(out)


def _fits(doc: _Doc, rest: Sequence[_Entry], room: int) -> bool:
    """Whether `doc` in one line, and what follows up to the next line break, has room."""
    stack: list[tuple[bool, _Doc]] = [(True, doc)]
    following = len(rest)
    while room >= 0:
        if not stack:
            if not following:
                return True
            following -= 1
            stack.append(rest[following][1:])
        is_flat, part = stack.pop()
        if isinstance(part, str):
            room -= len(part)
        elif isinstance(part, _Line):
            if not is_flat:
                return True
            room -= len(part.flat)
        elif isinstance(part, _Broken):
            room -= 0 if is_flat else len(part.text)
        else:
            stack += [(is_flat, item) for item in reversed(part.parts)]
    return False
