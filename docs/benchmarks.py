"""Us and the peers over the zoo; `make bench` writes docs/benchmarks.md with it."""

from __future__ import annotations

import argparse
import sys

from filling import fill, table

from ramiel_ir import registry
from ramiel_ir.bench import Measurement, bench
from ramiel_ir.driver import read
from ramiel_ir.profile import profile

_BACKENDS = ("torch", "ort")


def section(name: str, rounds: int) -> str:
    """The table of one model."""
    graph = read(f"zoo:{name}")
    costs = {backend: profile(graph, backend=backend, rounds=8) for backend in _BACKENDS}
    report = bench(graph, backends=_BACKENDS, costs=costs, rounds=rounds)
    header = ["", "min ms", "median ms", "± spread", "CPU ms", "PSS MiB", "start s", "predicted ms"]
    return f"## {name}\n\n{table(header, [_row(row) for row in report.rows])}\n"


def _row(row: Measurement) -> list[str]:
    if row.failure:
        return [row.contestant.name, f"failed: {row.failure}", *[""] * 6]
    predicted = row.contestant.predicted
    return [
        row.contestant.name,
        f"{row.minimum:.2f}",
        f"{row.median:.2f}",
        f"{100 * row.spread:.0f} %",
        f"{1e3 * row.cpu_seconds:.1f}",
        f"{row.memory:.0f}",
        f"{row.start:.1f}",
        "" if predicted is None else f"{predicted / 1e3:.2f}",
    ]


def main() -> None:
    """Measure the zoo, or the models named, and fill in the template."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=registry.MODELS.names())
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    sections = []
    for name in options.models:
        print(name, file=sys.stderr)
        sections.append(section(name, options.rounds))
        # After each model, so that what was measured is kept.
        fill(__file__, {"sections": "\n".join(sections)})


if __name__ == "__main__":
    main()
