"""The cases that an engine is known to fail, with the reasons, and what else is unexpected."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.engines import Outcome, refused

LIST = Path(__file__).with_name("exclusions.txt")


@dataclass(frozen=True)
class Exclusion:
    """One line of exclusions.txt: an engine, a glob for case names, and why they fail there."""

    engine: str
    glob: str
    reason: str

    @property
    def by_chance(self) -> bool:
        """Whether the cases may also pass."""
        return self.reason.startswith("by chance:")

    def covers(self, outcome: Outcome) -> bool:
        """Whether the line is about this outcome."""
        return self.engine == outcome.engine and fnmatch.fnmatchcase(outcome.case, self.glob)


def read_exclusions(path: Path = LIST) -> list[Exclusion]:
    """The lines of the list; empty lines and those that start with # are comments."""
    lines = (line.strip() for line in path.read_text().splitlines())
    found = []
    for line in lines:
        if line and not line.startswith("#"):
            engine, glob, reason = line.split(maxsplit=2)
            found.append(Exclusion(engine, glob, reason))
    return found


def reason_for(outcome: Outcome, exclusions: Iterable[Exclusion]) -> str:
    """The reason the list gives for a failure, nothing where it gives none."""
    return next((line.reason for line in exclusions if line.covers(outcome)), "")


def excused(outcome: Outcome) -> bool:
    """Whether the engine's own library fails the case too, and the engine failed it decently.

    What the library does not load, the engine has to refuse. What the library loads and fails to
    run, or computes otherwise, the engine may fail as well.
    """
    from tests.conformance.ort_itself import NOT_LOADED

    if outcome.passed or not outcome.excuse:
        return False
    return refused(outcome) or not outcome.excuse.startswith(NOT_LOADED)


def unexpected(
    outcomes: Sequence[Outcome], exclusions: Sequence[Exclusion], *, complete: bool
) -> list[str]:
    """What is not as the list says; where `complete`, every line must be about a case."""
    found = []
    used: set[Exclusion] = set()
    for outcome in outcomes:
        lines = [line for line in exclusions if line.covers(outcome)]
        used.update(lines)
        where = f"{outcome.engine} {outcome.case}"
        if outcome.passed and lines and not lines[0].by_chance:
            found.append(f"{where}: passes now; take it out of {LIST.name} ({lines[0].reason})")
        elif not outcome.passed and not lines and not excused(outcome):
            found.append(f"{where}: {outcome.reason}")
    engines = {outcome.engine for outcome in outcomes}
    if complete:
        unused = [line for line in exclusions if line.engine in engines and line not in used]
        found += [f"{line.engine} {line.glob}: no case has this name" for line in unused]
    return found
