"""Runs the conformance cases on the engines: reads every case once, then shards the work."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterable, Sequence

from tests.conformance import shards
from tests.conformance.cases import Case, cases
from tests.conformance.engines import Engine, Outcome, make_engine

PROCESSES = 2
SECONDS = 240.0
"""Seconds for one case on one engine, all plans and data sets together."""

Task = tuple[str, int]
"""An engine's name and the index of a case."""


def load_cases(match: str = "") -> list[Case]:
    """The cases whose name contains `match`, the ones that take longest first."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [case for case in cases() if match in case.name]
    return sorted(found, key=lambda case: case.category != "real")


def run(
    chosen: Sequence[Case], engines: Iterable[str], progress: Callable[[int, int], None]
) -> list[Outcome]:
    """What becomes of every case on every engine, in the order of engines and cases."""
    tasks = [(engine, index) for engine in engines for index in range(len(chosen))]

    def start() -> Callable[[Task], Outcome]:
        warnings.simplefilter("ignore")
        made: dict[str, Engine] = {}

        def work(task: Task) -> Outcome:
            name, index = task
            if name not in made:
                made[name] = make_engine(name)
            begin = time.perf_counter()
            outcome = made[name].outcome(chosen[index])
            outcome.seconds = time.perf_counter() - begin
            return outcome

        return work

    def lost(task: Task, reason: str) -> Outcome:
        return Outcome(chosen[task[1]].name, task[0], reason)

    found: dict[Task, Outcome] = {}
    for task, outcome in shards.run(tasks, start, lost, processes=PROCESSES, seconds=SECONDS):
        found[task] = outcome
        progress(len(found), len(tasks))
    return [found[task] for task in tasks]
