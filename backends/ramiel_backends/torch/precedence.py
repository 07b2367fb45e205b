"""How tightly Python's operators bind, and what ruff makes of it when a line is too long."""

from __future__ import annotations

import ast

ATOM, POWER, UNARY = 15, 13, 12

_SYMBOLS: dict[type[ast.AST], tuple[str, int]] = {
    ast.Or: ("or", 2),
    ast.And: ("and", 3),
    ast.Not: ("not ", 4),
    ast.Eq: ("==", 5),
    ast.NotEq: ("!=", 5),
    ast.Lt: ("<", 5),
    ast.LtE: ("<=", 5),
    ast.Gt: (">", 5),
    ast.GtE: (">=", 5),
    ast.Is: ("is", 5),
    ast.IsNot: ("is not", 5),
    ast.In: ("in", 5),
    ast.NotIn: ("not in", 5),
    ast.BitOr: ("|", 6),
    ast.BitXor: ("^", 7),
    ast.BitAnd: ("&", 8),
    ast.LShift: ("<<", 9),
    ast.RShift: (">>", 9),
    ast.Add: ("+", 10),
    ast.Sub: ("-", 10),
    ast.Mult: ("*", 11),
    ast.Div: ("/", 11),
    ast.FloorDiv: ("//", 11),
    ast.Mod: ("%", 11),
    ast.MatMult: ("@", 11),
    ast.UAdd: ("+", UNARY),
    ast.USub: ("-", UNARY),
    ast.Invert: ("~", UNARY),
    ast.Pow: ("**", POWER),
}


def symbol(op: ast.AST) -> str:
    """The operator as it is written."""
    return _SYMBOLS[type(op)][0]


def precedence(node: ast.expr) -> int:
    """How tightly the outermost operator of an expression binds; ATOM where there is none."""
    if isinstance(node, ast.IfExp):
        return 1
    if isinstance(node, (ast.BinOp, ast.UnaryOp, ast.BoolOp)):
        return _SYMBOLS[type(node.op)][1]
    return 5 if isinstance(node, ast.Compare) else ATOM


def is_operation(node: ast.expr) -> bool:
    """Whether the outermost node is an operator."""
    return precedence(node) < ATOM


def chain_attributes(node: ast.expr) -> int:
    """How many attributes follow a closing bracket: from two on ruff breaks at the points."""
    found = 0
    while isinstance(node, (ast.Attribute, ast.Call, ast.Subscript)):
        if isinstance(node, ast.Attribute):
            found += isinstance(node.value, (ast.Call, ast.Subscript))
            node = node.value
        else:
            node = node.func if isinstance(node, ast.Call) else node.value
    return found + is_operation(node)


def can_omit_parentheses(node: ast.expr) -> bool:
    """Whether an operation may break inside brackets of its first or last operand only."""
    visitor = _Operators()
    visitor.visit(node)
    if not visitor.has_brackets or visitor.count > 1:
        return False
    if visitor.weakest == ATOM:
        return True
    return _ends_in_brackets(visitor.last) or _ends_in_brackets(visitor.first)


def _ends_in_brackets(node: ast.expr | None) -> bool:
    if isinstance(node, ast.Call):
        return bool(node.args or node.keywords)
    if isinstance(node, (ast.List, ast.Tuple)):
        return bool(node.elts)
    return node is not None and is_operation(node)


class _Operators:
    """Counts the weakest operators outside brackets; remembers the first and last operand."""

    def __init__(self) -> None:
        self.weakest = ATOM
        self.count = 0
        self.has_brackets = False
        self.first: ast.expr | None = None
        self.last: ast.expr | None = None

    def visit(self, node: ast.expr, least: int = 0) -> None:
        level = precedence(node)
        if level < least:
            self.has_brackets = True
            self._operand(node)
        elif isinstance(node, ast.BinOp):
            self._count(level, 1)
            power = isinstance(node.op, ast.Pow)
            self.visit(node.left, level + power)
            self.visit(node.right, UNARY if power else level + 1)
        elif isinstance(node, (ast.Compare, ast.BoolOp)):
            operands = node.values if isinstance(node, ast.BoolOp) else [node.left]
            operands = operands if isinstance(node, ast.BoolOp) else [node.left, *node.comparators]
            self._count(level, len(operands) - 1)
            for operand in operands:
                self.visit(operand, level + 1)
        elif isinstance(node, ast.IfExp):
            self._count(level, 2)
            for operand, bound in ((node.body, 2), (node.test, 2), (node.orelse, 1)):
                self.visit(operand, bound)
        elif isinstance(node, ast.UnaryOp):
            if isinstance(node.op, (ast.Invert, ast.Not)):
                self._count(level, 1)
            self.visit(node.operand, level)
        else:
            self._chain(node)

    def _chain(self, node: ast.expr) -> None:
        if isinstance(node, (ast.List, ast.Tuple)):
            self.has_brackets = True
        elif isinstance(node, (ast.Call, ast.Subscript)):
            self.has_brackets = True
            self._chain(node.func if isinstance(node, ast.Call) else node.value)
        elif isinstance(node, ast.Attribute):
            if isinstance(node.value, (ast.Call, ast.Subscript)):
                self._count(ATOM - 1, 1)
            self._chain(node.value)
        elif is_operation(node):
            self.has_brackets = True
        self._operand(node)

    def _operand(self, node: ast.expr) -> None:
        self.first = node if self.first is None else self.first
        self.last = node

    def _count(self, level: int, operators: int) -> None:
        if level < self.weakest:
            self.weakest, self.count = level, 0
        if level == self.weakest:
            self.count += operators
