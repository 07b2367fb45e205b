"""One loaded artifact of a model with symbolic lengths takes inputs of any length, in turn.

It does so in threads and in processes, from a script without a main guard, from a script that
comes through stdin, and from a notebook.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ramiel_ir
import ramiel_models
from ramiel_ir.compare import Reference, deviation
from ramiel_ir.driver import SIMPLIFY

BACKENDS = ("torch", "ort")
LENGTHS = (7, 19, 1, 7)
PASSES = f"{SIMPLIFY},cluster,merge{{max-clusters=2}},clone"
TIMEOUT = 60.0

SCRIPT = f"""
import numpy, ramiel_ir

given = numpy.load("samples.npz")
for backend in {BACKENDS}:
    model = ramiel_ir.load(backend, isolation="process")
    for length in {LENGTHS}:
        found = model.run({{"tokens": given[f"tokens {{length}}"]}}, timeout={TIMEOUT})["emissions"]
        wanted = given[f"emissions {{length}}"]
        print(backend, found.shape, numpy.abs(found - wanted).max() <= 1e-3 * abs(wanted).max())
    model.close()
"""
"""Runs both artifacts on all samples. There is no main guard."""

PRINTED = "".join(f"{name} (1, {length}, 9) True\n" for name in BACKENDS for length in LENGTHS)

NOTEBOOK = """
import nbclient, nbformat

with open("script.py") as file:
    cell = nbformat.v4.new_code_cell(file.read())
notebook = nbformat.v4.new_notebook(cells=[cell])
nbclient.NotebookClient(notebook, timeout=120).execute()
print("".join(output.text for output in cell.outputs if output.get("name") == "stdout"), end="")
"""
"""Runs the script as the only cell of a notebook and prints what it printed."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an artifact per backend, and samples.npz: inputs and expected outputs."""
    folder = tmp_path_factory.mktemp("bilstm")
    graph = ramiel_ir.read(ramiel_models.build("bilstm", sequence_length="S"))
    reference = Reference(graph)
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for length in LENGTHS:
        tokens = rng.integers(0, 100, size=(1, length))
        arrays[f"tokens {length}"] = tokens
        arrays[f"emissions {length}"] = reference.run({"tokens": tokens})["emissions"]
    np.savez(folder / "samples.npz", **arrays)
    (folder / "script.py").write_text(SCRIPT)
    for backend in BACKENDS:
        done = ramiel_ir.compile(graph, folder / backend, backend=backend, passes=PASSES, workers=2)
        assert len(done.plan.workers) == 2 and done.plan.messages
        assert not all(message.value.type.is_static for message in done.plan.messages)
    return folder


@pytest.mark.parametrize("isolation", ["thread", "process"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_lengths_in_turn_on_one_load(folder: Path, backend: str, isolation: Any) -> None:
    with (
        np.load(folder / "samples.npz") as given,
        ramiel_ir.load(folder / backend, isolation=isolation) as model,
    ):
        for length in LENGTHS:
            outputs = model.run({"tokens": given[f"tokens {length}"]}, timeout=TIMEOUT)
            assert list(outputs) == ["emissions"]
            seen = deviation(given[f"emissions {length}"], outputs["emissions"])
            assert seen.agrees, seen.reason


@pytest.mark.parametrize("isolation", ["thread", "process"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_lengths_of_requests_in_the_queue(folder: Path, backend: str, isolation: Any) -> None:
    with (
        np.load(folder / "samples.npz") as given,
        ramiel_ir.load(folder / backend, isolation=isolation) as model,
    ):
        futures = [model.submit({"tokens": given[f"tokens {length}"]}) for length in LENGTHS]
        for length, future in zip(LENGTHS, futures, strict=True):
            seen = deviation(
                given[f"emissions {length}"], future.result(timeout=TIMEOUT)["emissions"]
            )
            assert seen.agrees, seen.reason


def python(folder: Path, *arguments: str, stdin: str | None = None) -> str:
    """What Python prints in a folder; nothing may be on stderr."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout


def test_a_script_without_a_main_guard(folder: Path) -> None:
    assert python(folder, "script.py") == PRINTED


def test_a_script_through_stdin(folder: Path) -> None:
    assert python(folder, "-", stdin=SCRIPT) == PRINTED


def test_a_notebook(folder: Path) -> None:
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK], cwd=folder, capture_output=True, text=True, timeout=180
    )
    assert (done.stdout, done.returncode) == (PRINTED, 0), done.stderr
