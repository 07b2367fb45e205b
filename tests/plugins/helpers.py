"""Plugins as the documents describe them: cut out of the text, installed, used by subprocesses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```\w+ file=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def files_of(document: str) -> dict[str, str]:
    """The files that a document shows, by path."""
    found = _BLOCK.findall((DOCS / document).read_text(encoding="utf-8"))
    assert len(dict(found)) == len(found), f"{document} shows a file twice"
    return dict(found)


def install(files: dict[str, str], folder: Path) -> Path:
    """Write distributions, install each with pip into a folder of its own; that folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    target = folder / "site"
    for project in sorted({folder / Path(name).parts[0] for name in files}):
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"),
                *("--no-build-isolation", "--no-compile", "--disable-pip-version-check"),
                *("--target", target),
                project,
            ],
            check=True,
            timeout=120,
        )
    return target


Shell = Callable[..., subprocess.CompletedProcess[str]]


def shell_with(target: Path) -> Shell:
    """Runs a Python module in a subprocess that finds what is installed in `target`."""

    def run(*args: str | Path, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(target)}
        done = subprocess.run(
            [sys.executable, "-m", *args],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run
