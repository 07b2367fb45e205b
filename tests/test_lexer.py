"""Tokens, and errors with a caret under the offending column."""

from __future__ import annotations

import pytest

from ramiel_ir.errors import ModelError
from ramiel_ir.lexer import Lexer


def tokens(source: str) -> list[tuple[str, str]]:
    lexer = Lexer(source, "test", ModelError)
    found = []
    while lexer.token.kind != "end":
        token = lexer.next()
        found.append((token.kind, token.text))
    return found


@pytest.mark.parametrize(
    "number", ["0", "-1", "+7", "1.5", "1.", "-1e-7", "1e+30", "2.5E3", "inf", "-inf", "nan"]
)
def test_numbers(number: str) -> None:
    assert tokens(number) == [("number", number)]


@pytest.mark.parametrize(
    "name", ["x", "_", "a.b-c", "1x", "1-2", "12-relu", "1.5.2", "inf.x", "nan-1", "...", "0x1"]
)
def test_names(name: str) -> None:
    assert tokens(name) == [("name", name)]


def test_strings_marks_and_comments() -> None:
    assert tokens('%"a\\"b" // gone "x"\n {b"ff"}') == [
        ("mark", "%"),
        ("string", '"a\\"b"'),
        ("mark", "{"),
        ("string", 'b"ff"'),
        ("mark", "}"),
    ]


def test_offsets_are_where_tokens_start() -> None:
    lexer = Lexer("a // b\n  c", "test", ModelError)
    assert (lexer.next().offset, lexer.token.offset) == (0, 9)


def test_a_string_says_what_it_quotes() -> None:
    assert Lexer(r'"a\u00e9\n\"\\"', "test", ModelError).string() == 'aé\n"\\'


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a \f", "test:1:3: this character means nothing here\n  a \f\n    ^"),
        ("a é", "test:1:3: expected a name\n  a é\n    ^"),
        ('ok\n "open', 'test:2:2: expected a name\n   "open\n   ^'),
        (r'"\q"', 'test:1:1: this string has an unknown escape\n  "\\q"\n  ^'),
    ],
)
def test_mistakes_have_a_caret(source: str, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        lexer = Lexer(source, "test", ModelError)
        while lexer.token.kind != "end":
            if lexer.token.text.startswith('"\\'):
                lexer.string()
            lexer.take("name", "a name")
    assert str(caught.value) == message


def test_a_string_is_never_a_keyword() -> None:
    lexer = Lexer('"="', "test", ModelError)
    assert not lexer.accept("=")
    with pytest.raises(ModelError, match="expected '='"):
        lexer.expect("=")
