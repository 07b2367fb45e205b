"""Imports run one way, and importing the package or asking for help costs next to nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent
_CORE = _ROOT / "ramiel_ir"

# A module imports modules of earlier lines only, wherever in the file the import stands.
_LAYERS: tuple[tuple[str, ...], ...] = (
    ("_version", "collector", "derived", "errors", "machine"),
    ("registry", "lexer", "types", "files"),
    ("ir",),
    ("laws",),
    ("parser", "costs", "onnx_proto", "onnx_schema"),
    ("printer", "measured", "onnx_writer", "order"),
    ("onnx_reader", "ir_file", "pipeline", "torch_export"),
    ("inputs", "onnx_functions", "onnx_reference"),
    ("plan",),
    ("interpret", "backend"),
    ("artifact",),
    ("trace",),
    ("company", "messages"),
    ("calibrate",),
    ("driver",),
    ("compare", "profile", "contestant"),
    ("bench",),
    ("demo", "tune"),
    ("cli_options",),
    ("cli_measure", "cli_zoo"),
    ("cli",),
    ("__init__", "__main__"),
)
_OURS = {"ramiel_passes", "ramiel_backends", "ramiel_models"}


def _imports(path: Path) -> Iterator[str]:
    """Every module the file imports at run time, in functions too."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):  # what only the type checker reads is no dependency
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            if node.module == "ramiel_ir":
                yield from (f"ramiel_ir.{alias.name}" for alias in node.names)
            yield node.module


def _modules() -> list[str]:
    return sorted(path.stem for path in _CORE.glob("*.py"))


def test_every_module_of_the_core_has_a_layer() -> None:
    assert set(_modules()) <= {name for layer in _LAYERS for name in layer}


@pytest.mark.parametrize("name", _modules())
def test_imports_of_the_core_run_one_way(name: str) -> None:
    depth = {module: level for level, layer in enumerate(_LAYERS) for module in layer}
    for imported in _imports(_CORE / f"{name}.py"):
        package, _, module = imported.partition(".")
        assert package not in _OURS, f"the core names {imported}"
        if package == "ramiel_ir" and module:
            assert depth[module] < depth[name], f"{name} imports {module}"


def test_models_import_nothing_of_ours() -> None:
    for path in (_ROOT / "models" / "ramiel_models").rglob("*.py"):
        packages = {imported.partition(".")[0] for imported in _imports(path)}
        assert not packages & {"ramiel_ir", "ramiel_passes", "ramiel_backends"}, path.name


def test_passes_import_neither_backends_nor_models() -> None:
    for path in (_ROOT / "passes" / "ramiel_passes").rglob("*.py"):
        packages = {imported.partition(".")[0] for imported in _imports(path)}
        assert not packages & {"ramiel_backends", "ramiel_models", "torch", "onnxruntime"}


@pytest.mark.parametrize(
    "statement",
    [
        "import ramiel_ir",
        "from ramiel_ir.cli import app",
        "import ramiel_ir.driver",
        "import ramiel_ir.ir, ramiel_ir.parser, ramiel_ir.plan, ramiel_ir.pipeline",
        "import sys; sys.argv = ['ramiel-ir', '--help']\n"
        "import contextlib; from ramiel_ir.cli import main\n"
        "with contextlib.suppress(SystemExit): main()",
    ],
    ids=["package", "cli", "driver", "core", "help"],
)
def test_neither_torch_nor_onnxruntime_is_loaded(statement: str) -> None:
    check = "import sys; print(*sorted({'torch', 'onnxruntime'} & set(sys.modules)), 'done')"
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}\n{check}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1].split() == ["done"]
