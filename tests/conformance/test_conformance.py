"""ONNX's conformance cases on every engine; see `python -m tests.conformance --help`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.cases import Case
from tests.conformance.engines import Outcome
from tests.conformance.exclusions import Exclusion, read_exclusions, unexpected

ROOT = Path(__file__).parents[2]


def test_every_case_on_every_engine_is_as_the_list_says() -> None:
    """In a process of its own, which forks before torch has threads."""
    pytest.importorskip("torch")
    command = [sys.executable, "-m", "tests.conformance", "--no-write"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


def test_the_list_names_known_engines_and_each_case_once() -> None:
    lines = read_exclusions()
    assert {line.engine for line in lines} <= {"torch", "ort", "interpret"}
    assert len({(line.engine, line.glob) for line in lines}) == len(lines)


LINES = [
    Exclusion("torch", "test_a*", "a reason"),
    Exclusion("torch", "test_r*", "by chance: draws"),
]


@pytest.mark.parametrize(
    ("outcome", "complaint"),
    [
        (Outcome("test_a", "torch", "UnsupportedOpError: no"), ""),
        (Outcome("test_a", "torch"), "torch test_a: passes now"),
        (Outcome("test_b", "torch"), ""),
        (Outcome("test_r", "torch"), ""),
        (Outcome("test_r", "torch", "output 'y' differs"), ""),
        (Outcome("test_b", "torch", "output 'y' differs"), "torch test_b: output 'y' differs"),
        (Outcome("test_a", "ort", "output 'y' differs"), "ort test_a: output 'y' differs"),
        (Outcome("test_b", "ort", "UnsupportedOpError: no", "does not load it: why"), ""),
        (Outcome("test_b", "ort", "TypeError: no", "does not load it: why"), "ort test_b"),
        (Outcome("test_b", "ort", "output 'y' differs", "computes something else: why"), ""),
    ],
)
def test_unexpected(outcome: Outcome, complaint: str) -> None:
    found = unexpected([outcome], LINES, complete=False)
    assert len(found) == bool(complaint)
    assert not found or found[0].startswith(complaint)


def test_a_line_that_is_about_no_case_is_unexpected() -> None:
    outcomes = [Outcome("test_b", "torch")]
    assert unexpected(outcomes, LINES[:1], complete=True) == [
        "torch test_a*: no case has this name"
    ]


def test_shards_outlive_tasks_that_die_and_tasks_that_hang() -> None:
    """Also: every task has a result, and each shard is started before it works."""
    script = """
import os, time
from tests.conformance.shards import run

def start():
    offset = 100
    def work(task):
        if task == 3:
            print("out of luck", flush=True)
            os._exit(7)
        if task == 5:
            time.sleep(60)
        return offset + task
    return work

found = dict(run(range(8), start, lambda task, reason: reason, processes=2, seconds=1.0))
assert {task: found[task] for task in (0, 1, 2, 4, 6, 7)} == {
    task: 100 + task for task in (0, 1, 2, 4, 6, 7)
}
assert found[3] == "the process died: exit code 7; out of luck", found[3]
assert found[5] == "no end after 1 s", found[5]
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_case_types() -> None:
    import onnx.parser

    text = "g (float[1] x, seq(optional(int64[N])) s) => (float[1] y) { y = Relu(x) }"
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]>\n{text}')

    class Test:
        pass

    Test.model = model  # type: ignore[attr-defined]
    case = Case("test", "node", None, Test)
    assert case.types == {"FLOAT", "sequence", "optional", "INT64"}
    assert not case.is_plain and not case.is_training
