"""ONNX's conformance cases on the engines: prints a table, and what is not as expected.

    python -m tests.conformance [--engine torch,ort,interpret] [--match TEXT] [--show]

A complete run writes docs/conformance.md. Exits with 1 where a case fails that exclusions.txt does
not list, or passes although it does.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.conformance import report, sample
from tests.conformance.engines import ENGINES, Outcome
from tests.conformance.exclusions import read_exclusions, unexpected
from tests.conformance.runner import load_cases, run


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--engine", default=",".join(ENGINES), help="which engines, with commas")
    parser.add_argument("--match", default="", help="only cases whose name contains this text")
    parser.add_argument("--show", action="store_true", help="print every failure and its reason")
    parser.add_argument("--no-write", action="store_true", help="leave docs/conformance.md alone")
    options = parser.parse_args()
    engines = options.engine.split(",")
    if unknown := set(engines) - set(ENGINES):
        parser.error(f"unknown engine {', '.join(unknown)}; there are: {', '.join(ENGINES)}")
    begin = time.perf_counter()
    cases = load_cases(options.match)
    outcomes = run(cases, engines, _progress)
    print(file=sys.stderr)
    print(report.summary(cases, outcomes))
    print()
    print(report.effort(outcomes))
    if options.show:
        _show(outcomes)
    exclusions = read_exclusions()
    found = unexpected(outcomes, exclusions, complete=not options.match)
    if not options.match:
        sampled = sample.run(cases, outcomes)
        found += sampled.failures
        if set(engines) == set(ENGINES) and not options.no_write:
            text = report.document(cases, outcomes, exclusions, sampled.text)
            report.TEMPLATE.with_suffix("").write_text(text)
    print(f"\n{time.perf_counter() - begin:.0f} s; {len(found)} unexpected results")
    for line in found:
        print(f"  {line}")
    return 1 if found else 0


def _progress(done: int, total: int) -> None:
    if done % 50 == 0 or done == total:
        print(f"\r{done} of {total}", end="", file=sys.stderr, flush=True)


def _show(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        if not outcome.passed:
            excuse = f"\n    ONNX Runtime itself {outcome.excuse}" if outcome.excuse else ""
            print(f"\n{outcome.engine} {outcome.case}\n    {outcome.reason}{excuse}")


if __name__ == "__main__":
    sys.exit(main())
