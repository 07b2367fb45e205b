"""Identifiers for generated code: cleaned hints from one collision-proof namespace."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable

_LONGEST = 40


class Identifiers:
    """Gives out identifiers that are new, ASCII, no keyword and no builtin."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {*taken, *keyword.kwlist, *keyword.softkwlist, *dir(builtins)}
        self._counts: dict[str, int] = {}

    def fresh(self, hint: str) -> str:
        """An identifier like `hint`, numbered where it is taken."""
        base = re.sub(r"[^a-z0-9]+", "_", hint.lower())[:_LONGEST].strip("_")
        if not base or base[0].isdigit():
            base = f"v_{base}".rstrip("_")
        name = base
        while name in self._taken:
            self._counts[base] = self._counts.get(base, 0) + 1
            name = f"{base}_{self._counts[base]}"
        self._taken.add(name)
        return name
