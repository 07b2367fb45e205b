"""Runs an artifact: a folder that holds manifest.json, model.py, weights and this package.

    import runtime

    with runtime.load("out/") as model:
        outputs = model.run({"x": array}, timeout=5.0)

What each file is for: `session` is what callers see; `processes` and `threads` are the two engines
on top of `engine`; `crew`, `children`, `child` and `serving` are the parent's and the child's side of
process isolation; `memory`, `channel`, `layout` and `semaphore` carry values between them; `backend_*`
know the values of one library each; `manifest`, `wiring` and `weights` read the folder.
"""

from __future__ import annotations

from .command import main
from .errors import ArtifactError, InputError, WorkerError, WorkerTimeout
from .manifest import Manifest, Spec
from .session import Model, load
from .wiring import Message, Wiring

__all__ = [
    "ArtifactError",
    "InputError",
    "Manifest",
    "Message",
    "Model",
    "Spec",
    "Wiring",
    "WorkerError",
    "WorkerTimeout",
    "load",
    "main",
]
