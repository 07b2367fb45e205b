"""Documents that print over as few lines as they can (Wadler, "A prettier printer", 2003).

A document is text, a place where a line may break, or a group of documents: a group stands on one
line where that fits, else its own lines break and those of the groups inside are tried in turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """A line break in an expanded group, `flat` otherwise."""

    flat: str


@dataclass(frozen=True, slots=True)
class Broken:
    """Text that only an expanded group has."""

    text: str


@dataclass(frozen=True, slots=True)
class Group:
    parts: tuple[Doc, ...]


@dataclass(frozen=True, slots=True)
class Indent:
    parts: tuple[Doc, ...]


Doc = str | Line | Broken | Group | Indent
_Entry = tuple[int, bool, Doc]


def separated(parts: Sequence[Doc]) -> tuple[Doc, ...]:
    return (*joined(parts, [",", Line(" ")]), Broken(","))


def joined(parts: Sequence[Doc], separator: Sequence[Doc]) -> list[Doc]:
    return [item for part in parts for item in (*separator, part)][len(separator) :]


def between(opening: str, parts: Iterable[Doc], closing: str) -> Doc:
    return Group((opening, Indent((Line(""), *parts)), Line(""), closing))


def concat(*parts: Doc) -> Doc:
    return Indent(()) if not parts else Parts(parts)


class Parts(Group):
    """Parts in a row that break as what is around them does."""


def render(parts: Sequence[Doc], depth: int, width: int) -> str:
    """The text, without the first line's indentation; the outermost lines break."""
    out: list[str] = []
    column = depth
    stack: list[_Entry] = [(depth, False, part) for part in reversed(parts)]
    while stack:
        indent, is_flat, doc = stack.pop()
        if isinstance(doc, str):
            out.append(doc)
            column += len(doc)
        elif isinstance(doc, Line):
            out.append(doc.flat if is_flat else "\n" + " " * indent)
            column = column + len(doc.flat) if is_flat else indent
        elif isinstance(doc, Broken):
            out.append("" if is_flat else doc.text)
            column += 0 if is_flat else len(doc.text)
        elif isinstance(doc, Indent):
            stack += [(indent + 4, is_flat, part) for part in reversed(doc.parts)]
        else:
            if not isinstance(doc, Parts) and not is_flat:
                is_flat = _fits(doc, stack, width - column)
            stack += [(indent, is_flat, part) for part in reversed(doc.parts)]
    return "".join(out)


def _fits(doc: Doc, rest: Sequence[_Entry], room: int) -> bool:
    """Whether `doc` in one line, and what follows up to the next line break, has room."""
    stack: list[tuple[bool, Doc]] = [(True, doc)]
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
        elif isinstance(part, Line):
            if not is_flat:
                return True
            room -= len(part.flat)
        elif isinstance(part, Broken):
            room -= 0 if is_flat else len(part.text)
        else:
            stack += [(is_flat, item) for item in reversed(part.parts)]
    return False
