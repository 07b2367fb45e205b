"""Names of values that passes derive from those of the model: of copies, and of parts by rows.

A profile knows what the ops of the model cost; by these names it knows what copies and parts do.
"""

from __future__ import annotations

import re
from typing import NamedTuple

COPY = ".copy"
"""In the name of a value: the op that makes it is a copy of the one that makes what is before."""

JOINED = ".joined"
"""In the name of a value: it is put together from parts of the one that is named before."""

_PART = re.compile(r"(.+)\.rows(\d+)_(\d+)_(\d+)(?:_\d+)?", re.DOTALL)
"""What `part_name` makes, and the number behind it where a graph had the name already."""


class Part(NamedTuple):
    """Rows `first` to `end` (without it) of `total` of the value `whole`."""

    whole: str
    first: int
    end: int
    total: int

    @property
    def share(self) -> float:
        """Of the whole."""
        return (self.end - self.first) / self.total


def part_name(part: Part) -> str:
    """The name of a value that is a part of another."""
    return f"{part.whole}.rows{part.first}_{part.end}_{part.total}"


def parse_part(name: str) -> Part | None:
    """What part of which value has the name, None for no part."""
    found = _PART.fullmatch(name)
    if found is None or not int(found[4]):
        return None
    return Part(found[1], *(int(number) for number in found.groups()[1:]))
