"""One namespace makes every identifier of a generated file: unique, never a keyword, always ours.

An identifier keeps of a model's text at most a cleaned hint of lower-case ASCII letters, digits and
underscores. Two texts that clean up to the same hint get different identifiers.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable

HINT_LENGTH = 40
_NOT_WORD = re.compile(r"[^a-z0-9]+")
_EXPORTER_NOISE = re.compile(r"(_output_0)+$")
_RESERVED = frozenset(
    (
        *keyword.kwlist,
        *keyword.softkwlist,
        *dir(builtins),
        # What the generated file names itself, and the letter that reads like a number.
        *("torch", "F", "np", "math", "weights", "port", "run", "runtime", "onnx_ops", "WORKERS"),
        *("_", "l"),
    )
)


def clean(text: str) -> str:
    """The readable rest of `text` as an identifier of at most 40 characters, its tail if need be.

    Not unique, and possibly a keyword: only `Namespace` makes names that may be written.
    """
    text = _EXPORTER_NOISE.sub("", text.lower())
    hint = _NOT_WORD.sub("_", text).strip("_")
    if len(hint) > HINT_LENGTH:
        tail = hint[-HINT_LENGTH:]
        whole_words = tail.partition("_")[2]
        hint = (whole_words if len(whole_words) > HINT_LENGTH // 2 else tail).strip("_")
    if not hint:
        return "value"
    return f"v{hint}"[:HINT_LENGTH] if hint[0].isdigit() else hint


class Namespace:
    """Gives each value of one generated file an identifier of its own."""

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self._taken = {*_RESERVED, *reserved}
        self._next: dict[str, int] = {}

    def name(self, text: str) -> str:
        """A new identifier that reminds of `text`; the same calls always give the same answers."""
        hint = clean(text)
        found = hint
        number = self._next.get(hint, 2)
        while found in self._taken:
            found = f"{hint}_{number}"
            number += 1
        self._next[hint] = number
        self._taken.add(found)
        return found
