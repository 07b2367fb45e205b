"""Us and the peers over the zoo; `make bench` writes docs/benchmarks.md with it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from filling import fill, table

from ramiel_ir import registry
from ramiel_ir.backend import find_backend
from ramiel_ir.bench import COLUMNS, bench
from ramiel_ir.costs import MessageCosts
from ramiel_ir.driver import read
from ramiel_ir.messages import measure_messages
from ramiel_ir.profile import profile

_BACKENDS = ("torch", "ort")


def section(name: str, messages: Mapping[str, MessageCosts], rounds: int) -> str:
    """The table of one model."""
    graph = read(f"zoo:{name}")
    costs = {
        backend: profile(graph, backend=backend, rounds=8, messages=messages[backend])
        for backend in _BACKENDS
    }
    report = bench(graph, backends=_BACKENDS, costs=costs, rounds=rounds)
    failures = "".join(
        f"\n{row.contestant.name} failed: {row.failure}\n" for row in report.rows if row.failure
    )
    rows = [row.cells() for row in report.rows]
    return f"## {name}\n\n{table(list(COLUMNS), rows)}\n{failures}"


def main() -> None:
    """Measure the zoo, or the models named, and fill in the template."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=registry.MODELS.names())
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    messages = {name: measure_messages(find_backend(name), rounds=20) for name in _BACKENDS}
    sections = []
    for name in options.models:
        print(name, file=sys.stderr)
        sections.append(section(name, messages, options.rounds))
        # After each model, so that what was measured is kept.
        fill(__file__, {"sections": "\n".join(sections)})


if __name__ == "__main__":
    main()
