"""ramiel-ir: turns an ONNX model, ahead of time, into a package that runs its branches in parallel.

    import ramiel_ir

    ramiel_ir.compile("model.onnx", "out/", backend="torch", workers=2)
    with ramiel_ir.load("out/") as model:
        outputs = model.run({"x": array}, timeout=5.0)

Names are imported when first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ramiel_ir._version import VERSION as __version__

if TYPE_CHECKING:
    from ramiel_ir.artifact import Model, load
    from ramiel_ir.driver import compile, read
    from ramiel_ir.errors import RamielError
    from ramiel_ir.pipeline import PassManager

__all__ = [
    "Model",
    "PassManager",
    "RamielError",
    "__version__",
    "compile",
    "load",
    "read",
]

_HOME = {
    "Model": "artifact",
    "PassManager": "pipeline",
    "RamielError": "errors",
    "compile": "driver",
    "load": "artifact",
    "read": "driver",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ramiel_ir' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ramiel_ir.{_HOME[name]}"), name)
