"""Lays expressions out over lines of 100 columns, as `ruff format` would leave them.

An expression becomes a small document of texts, lines and groups (Wadler, "A prettier printer",
2003): a group stands on one line where it fits, else its own lines break. Which group breaks first
follows ruff's rules for assignments: brackets at the end of the expression split before anything
gets parentheses. Source goes in through `ast`, so that quotes, blanks and needless parentheses of
the input play no part.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from ramiel_backends.torch.document import (
    Doc,
    Group,
    Indent,
    Line,
    between,
    concat,
    joined,
    render,
    separated,
)
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


def parse(source: str) -> ast.expr:
    """The expression a piece of source stands for. Raises SyntaxError where it is none."""
    return ast.parse(source, mode="eval").body


def assignment(targets: Sequence[str], value: ast.expr, depth: int) -> list[str]:
    """The lines of `a, b = value`, indented by `depth` columns; without targets, of `value`."""
    flat = f"{', '.join(targets)} = " if targets else ""
    left: list[Doc] = [flat]
    if len(targets) > 1 and depth + len(flat) + _head(value) > WIDTH:
        names = [name for target in targets for name in (target, ",", Line(" "))][:-1]
        left = ["(", Indent((Line(""), *names)), Line(""), ") = "]
    return _lay_out(left, value, "", depth, len(targets) > 1)


def header(keyword: str, value: ast.expr, depth: int) -> list[str]:
    """The lines of `keyword value:`, as in `if x > 0:`."""
    return _lay_out([f"{keyword} "], value, ":", depth)


def flat(value: ast.expr) -> str:
    """The expression on one line, however long."""
    return render((_doc(value, False),), 0, 1 << 60)


def string(text: str | bytes) -> str:
    """`text` as an ASCII literal between the quotes that need fewer escapes."""
    prefix = "b" if isinstance(text, bytes) else ""
    letters = text.decode("latin-1") if isinstance(text, bytes) else text
    quote = "'" if letters.count('"') > letters.count("'") else '"'
    return f"{prefix}{quote}{''.join(_letter(letter, quote) for letter in letters)}{quote}"


def _letter(letter: str, quote: str) -> str:
    return f"\\{letter}" if letter == quote else ascii(letter)[1:-1]


def _lay_out(
    left: Sequence[Doc], value: ast.expr, right: str, depth: int, several: bool = False
) -> list[str]:
    plain = (*left, _doc(value, False), right)
    wrapped = (
        *left,
        *("(", Indent((Line(""), _doc(value, True))), Line(""), ")"),
        right,
    )
    parts = wrapped if _wants_parentheses(left, value, right, depth, several) else plain
    return (" " * depth + render(parts, depth, WIDTH)).splitlines()


def _wants_parentheses(
    left: Sequence[Doc], value: ast.expr, right: str, depth: int, several: bool
) -> bool:
    """Whether ruff puts the whole value between parentheses of its own."""
    plain = (*left, _doc(value, False), right)
    if _all_fit(render(plain, depth, 1 << 60), depth):
        return False
    core = value
    while isinstance(core, ast.UnaryOp):
        if precedence(core.operand) < precedence(core):
            return False
        core = core.operand
    if not is_operation(core) and chain_attributes(core) < 2:
        if isinstance(core, (ast.List, ast.Tuple)):
            return False
        if isinstance(core, (ast.Name, ast.Constant, ast.Attribute)):
            return not several and depth + 4 + len(flat(value)) <= WIDTH
        return not several and not _fits_expanded(left, value, right, depth)
    if not can_omit_parentheses(value):
        return True
    return not _fits_expanded(left, value, right, depth)


def _fits_expanded(left: Sequence[Doc], value: ast.expr, right: str, depth: int) -> bool:
    """Whether every line fits when all brackets of the value are broken open."""
    start = render(left, depth, WIDTH)
    column = depth + len(start) if "\n" not in start else len(start.rpartition("\n")[2])
    first, *others = render((_doc(value, False), right), depth, 0).split("\n")
    return column + len(first) <= WIDTH and all(len(line) <= WIDTH for line in others)


def _all_fit(text: str, depth: int) -> bool:
    first, *others = text.split("\n")
    return depth + len(first) <= WIDTH and all(len(line) <= WIDTH for line in others)


def _head(value: ast.expr) -> int:
    """Columns of the value up to the first place where it may break."""
    columns = 0
    while isinstance(value, ast.UnaryOp):
        columns += len(symbol(value.op))
        value = value.operand
    if is_operation(value) or chain_attributes(value) >= 2:
        return columns + 1
    return columns + len(render((_doc(value, False),), 0, 0).partition("\n")[0])


# From expressions to documents --------------------------------------------------------------------


def _doc(node: ast.expr, inside: bool, least: int = 0) -> Doc:
    """The document of an expression; `inside` brackets its operators may break."""
    if precedence(node) < least:
        return between("(", [_doc(node, True)], ")")
    match node:
        case ast.Constant(value=str() | bytes() as text):
            return _string(text)
        case ast.Constant(value=value):
            return "..." if value is ... else repr(value)
        case ast.Name(id=name):
            return name
        case ast.Starred(value=value):
            return concat("*", _doc(value, inside, UNARY))
        case ast.Attribute() | ast.Call() | ast.Subscript():
            return _chain(node, inside)
        case ast.List(elts=items):
            return _items("[", items, "]")
        case ast.Tuple(elts=items):
            return _items("(", items, ")")
        case ast.UnaryOp(op=op, operand=operand):
            return concat(symbol(op), _doc(operand, inside, precedence(node)))
        case ast.BinOp(op=ast.Pow(), left=left, right=right):
            return _power(left, right, inside)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            parts = [_doc(body, inside, 2), _doc(test, inside, 2), _doc(orelse, inside, 1)]
            line = Line(" ") if inside else " "
            return Group((parts[0], line, "if ", parts[1], line, "else ", parts[2]))
        case ast.BinOp() | ast.Compare() | ast.BoolOp():
            operators, operands = _flatten(node)
            parts = [_doc(operands[0][0], inside, operands[0][1])]
            for operator, (operand, level) in zip(operators, operands[1:], strict=True):
                parts += [Line(" ") if inside else " ", f"{operator} "]
                parts.append(_doc(operand, inside, level))
            return Group(tuple(parts))
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


def _power(left: ast.expr, right: ast.expr, inside: bool) -> Doc:
    simple = all(_is_simple_power_operand(operand) for operand in (left, right))
    before = _doc(left, inside, POWER + 1)
    after = _doc(right, inside, UNARY)
    if simple:
        return concat(before, "**", after)
    return Group((before, Line(" ") if inside else " ", "** ", after))


def _is_simple_power_operand(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub) and isinstance(node.operand, (ast.Name, ast.Constant))
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name) or (
        isinstance(node, ast.Constant) and isinstance(node.value, (int, float))
    )


def _chain(node: ast.expr, inside: bool) -> Doc:
    """Calls, subscripts and attributes behind one another, broken at the points when inside."""
    links: list[ast.expr] = []
    while isinstance(node, (ast.Attribute, ast.Call, ast.Subscript)):
        links.append(node)
        node = node.func if isinstance(node, ast.Call) else node.value
    links.reverse()
    fluent = inside and chain_attributes(links[-1]) >= 2
    parts: list[Doc] = [_doc(node, inside, ATOM)]
    seen_bracket = precedence(node) < ATOM
    for link in links:
        if isinstance(link, ast.Attribute):
            parts += [Line("")] if fluent and seen_bracket else []
            parts.append(f".{link.attr}")
        elif isinstance(link, ast.Call):
            parts.append(_arguments(link))
            seen_bracket = True
        elif isinstance(link, ast.Subscript):
            parts.append(_subscript(link.slice))
            seen_bracket = True
    return Group(tuple(parts)) if fluent else concat(*parts)


def _arguments(call: ast.Call) -> Doc:
    given = [_doc(argument, True) for argument in call.args]
    for keyword in call.keywords:
        given.append(concat(f"{keyword.arg}=", _doc(keyword.value, True)))
    if not given:
        return "()"
    return between("(", [Group(separated(given))], ")")


def _subscript(index: ast.expr) -> Doc:
    if isinstance(index, ast.Tuple) and index.elts:
        parts = [_slice(item) for item in index.elts]
        if len(parts) == 1:
            return between("[", [parts[0], ","], "]")
        return between("[", [Group(separated(parts))], "]")
    return between("[", [_slice(index)], "]")


def _slice(node: ast.expr) -> Doc:
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


def _items(opening: str, items: Sequence[ast.expr], closing: str) -> Doc:
    if not items:
        return opening + closing
    parts = [_doc(item, True) for item in items]
    if opening == "(" and len(parts) == 1:
        return between(opening, [parts[0], ","], closing)
    return between(opening, separated(parts), closing)


def _string(text: str | bytes) -> Doc:
    """A literal, in pieces on lines of their own where it is too long for one line."""
    whole = string(text)
    if len(whole) <= _PIECE:
        return whole
    pieces, start = [], 0
    for end in range(1, len(text) + 1):
        if end == len(text) or len(string(text[start : end + 1])) > _PIECE:
            pieces.append(string(text[start:end]))
            start = end
    return Group(tuple(joined(pieces, [Line(" ")])))
