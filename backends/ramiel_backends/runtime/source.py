"""Loads model.py, and says where in it something went wrong."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from .errors import ArtifactError

NAME = "model.py"

_lock = threading.Lock()


def load_model(folder: Path) -> ModuleType:
    """Run model.py as a module of its own: it enters no `sys.modules`, so artifacts do not meet."""
    path = folder / NAME
    spec = importlib.util.spec_from_file_location("ramiel_artifact_model", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ArtifactError(f"{folder}: there is no {NAME}")
    module = importlib.util.module_from_spec(spec)
    try:
        with _siblings(folder):
            spec.loader.exec_module(module)
    except Exception as error:
        raise ArtifactError(f"{path} cannot be loaded: {describe(error)}") from error
    if not hasattr(module, "WORKERS"):
        raise ArtifactError(f"{path} has no WORKERS")
    return module


@contextmanager
def _siblings(folder: Path) -> Iterator[None]:
    """Let model.py import the packages that lie beside it: its own, not another artifact's."""
    own = {entry.parent.name for entry in folder.glob("*/__init__.py")} - {"runtime"}

    def set_aside() -> dict[str, ModuleType]:
        names = [name for name in sys.modules if name.partition(".")[0] in own]
        return {name: sys.modules.pop(name) for name in names}

    with _lock:
        before = set_aside()
        importlib.invalidate_caches()
        sys.path.insert(0, str(folder))
        try:
            yield
        finally:
            sys.path.remove(str(folder))
            set_aside()
            sys.modules.update(before)


def describe(error: BaseException) -> str:
    """One line: what went wrong and, where the error passed through model.py, at which line."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError):
        return f"{text} ({NAME}:{error.lineno})"
    for frame in reversed(frames):
        if Path(frame.filename).name == NAME:
            return f"{text}, at {NAME}:{frame.lineno}: {frame.line}"
    return text
