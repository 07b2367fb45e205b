"""Copies the sources an artifact carries: the runtime, and the library functions its code calls."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

RUNTIME = "runtime"
LIBRARY = "onnx_ops"


def copy_runtime(folder: Path) -> tuple[str, ...]:
    """Copy `ramiel_backends.runtime` verbatim to `folder/runtime`; the files written."""
    return _write(folder / RUNTIME, _sources("ramiel_backends.runtime"))


def copy_library(folder: Path, used: Iterable[str]) -> tuple[str, ...]:
    """Copy the used modules of the torch library, and those they import, to `folder/onnx_ops`."""
    known = _sources("ramiel_backends.torch.library")
    wanted: dict[str, str] = {}
    queue = sorted(used)
    if not queue:
        return ()
    queue.append("__init__")
    while queue:
        module = queue.pop()
        if module not in wanted:
            wanted[module] = known[module]
            queue += [name for name in _imports(known[module]) if name in known]
    return _write(folder / LIBRARY, wanted)


def library_modules() -> frozenset[str]:
    """The modules of the torch library by name."""
    return frozenset(_sources("ramiel_backends.torch.library")) - {"__init__"}


@cache
def _sources(package: str) -> Mapping[str, str]:
    """The text of each Python file of a package, by module name; read once per process."""
    found = [entry for entry in files(package).iterdir() if entry.name.endswith(".py")]
    return {
        entry.name.removesuffix(".py"): entry.read_text(encoding="utf-8")
        for entry in sorted(found, key=lambda entry: entry.name)
    }


@cache
def _imports(source: str) -> tuple[str, ...]:
    """The modules of its own package that a source imports."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found += [node.module] if node.module else [alias.name for alias in node.names]
    return tuple(found)


def _write(folder: Path, sources: Mapping[str, str]) -> tuple[str, ...]:
    folder.mkdir()
    for name, text in sorted(sources.items()):
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return tuple(f"{folder.name}/{name}.py" for name in sorted(sources))
