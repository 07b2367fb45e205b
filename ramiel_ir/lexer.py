"""One lexer for the two small languages of ours, the IR's text and pipeline strings."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from ramiel_ir.errors import RamielError

_TOKEN = re.compile(
    r"""(?P<skip>(?:[ \t\r\n]+|//[^\n]*)+)
      | (?P<string>b?"(?:[^"\\\n]|\\.)*")
      | (?P<number>[-+]?(?:\d+\.\d*(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\d+|inf|nan)(?![\w.-]))
      | (?P<name>[\w.-]+)
      | (?P<mark>[^\w\s])""",
    re.VERBOSE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One token: its kind (string, number, name, mark, end), its text and where it starts."""

    kind: str
    text: str
    offset: int


class Lexer:
    """Walks over the tokens of `source`; `what` names it in errors, which are of class `error`."""

    def __init__(self, source: str, what: str, error: type[RamielError]) -> None:
        self._source, self._what, self._error = source, what, error
        self._offset = 0
        self.token = self._scan()

    def _scan(self) -> Token:
        while self._offset < len(self._source):
            match = _TOKEN.match(self._source, self._offset)
            if match is None or match.lastgroup is None:
                raise self.fail("this character means nothing here", self._offset)
            start, self._offset = self._offset, match.end()
            if match.lastgroup != "skip":
                return Token(match.lastgroup, match.group(), start)
        return Token("end", "", self._offset)

    def next(self) -> Token:
        """Take the current token and go on."""
        token, self.token = self.token, self._scan()
        return token

    def accept(self, text: str) -> bool:
        """Take the current token if it is exactly `text`."""
        found = self.token.text == text and self.token.kind != "string"
        if found:
            self.next()
        return found

    def expect(self, text: str) -> None:
        """Take exactly `text`, or fail with a caret under what stands there instead."""
        if not self.accept(text):
            raise self.fail(f"expected {text!r}")

    def take(self, kind: str, what: str) -> str:
        """Take a token of this kind; `what` says in an error what was expected."""
        if self.token.kind != kind:
            raise self.fail(f"expected {what}")
        return self.next().text

    def string(self, what: str = "a string") -> str:
        """Take a quoted string and return what it says."""
        start = self.token.offset
        text = self.take("string", what)
        if text.startswith("b"):
            raise self.fail(f"expected {what}", start)
        try:
            found = str(json.loads(text))
            found.encode()  # raises for a surrogate without its pair
        except ValueError:
            raise self.fail("this string has an unknown escape", start) from None
        return found

    def fail(self, message: str, offset: int | None = None) -> RamielError:
        """The error for `message`, with the line and a caret under the offending column."""
        at = self.token.offset if offset is None else offset
        start = self._source.rfind("\n", 0, at) + 1
        end = self._source.find("\n", at)
        line = self._source[start : end if end >= 0 else len(self._source)]
        number = self._source.count("\n", 0, at) + 1
        place = f"{self._what}:{number}:{at - start + 1}"
        return self._error(f"{place}: {message}\n  {line}\n  {' ' * (at - start)}^")
