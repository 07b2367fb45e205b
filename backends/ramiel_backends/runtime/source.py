"""Loads model.py, and says where in it something went wrong."""

from __future__ import annotations

import importlib.util
import traceback
from pathlib import Path
from types import ModuleType

from .errors import ArtifactError

NAME = "model.py"


def load_model(folder: Path) -> ModuleType:
    """Run model.py as a module of its own: it enters no `sys.modules`, so artifacts do not meet."""
    path = folder / NAME
    spec = importlib.util.spec_from_file_location("ramiel_artifact_model", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ArtifactError(f"{folder}: there is no {NAME}")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ArtifactError(f"{path} cannot be loaded: {describe(error)}") from error
    if not hasattr(module, "WORKERS"):
        raise ArtifactError(f"{path} has no WORKERS")
    return module


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
