"""Textual cases: every `tests/ir/*.ir` says in comments how it is run and what must come out.

A file holds one case or several, divided by lines of `// -----`. In each case

    // RUN: opt --passes=cluster --costs=static    the command line, without the file
    // CHECK: …, // CHECK-NEXT: …                  what the output holds, as `filecheck` reads it
    // ERROR: …                                    what the error says, if it must fail
    // HINT: …                                     what its hint says
"""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from filecheck.finput import FInput
from filecheck.matcher import Matcher
from filecheck.options import Options
from filecheck.parser import Parser, pattern_for_opts
from typer.testing import CliRunner

from ramiel_ir.cli import app
from ramiel_ir.errors import RamielError
from ramiel_ir.pipeline import Pass
from ramiel_ir.registry import PASSES

_FOLDER = Path(__file__).parent / "ir"


def _cases() -> Iterator[tuple[str, str]]:
    for path in sorted(_FOLDER.glob("*.ir")):
        parts = re.split(r"^// -----\n", path.read_text(), flags=re.MULTILINE)
        for number, part in enumerate(parts, 1):
            yield f"{path.stem}-{number}" if len(parts) > 1 else path.stem, part


_CASES = dict(_cases())


def _said(case: str, word: str) -> list[str]:
    return [line.rstrip() for line in re.findall(rf"^// {word}: (.*)$", case, re.MULTILINE)]


def check(case: str, output: str) -> str:
    """What `filecheck` says about the output; nothing where it fits."""
    options = Options("case")
    said = io.StringIO()
    with redirect_stderr(said):
        parser = Parser(options, io.StringIO(case), *pattern_for_opts(options))
        failed = Matcher(options, FInput("output", output), parser).run()
    return said.getvalue() or "failed" if failed else ""


def _opt(arguments: list[str]) -> str:
    result = CliRunner().invoke(app, ["opt", *arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.mark.parametrize("name", _CASES)
def test_textual_case(name: str, tmp_path: Path) -> None:
    case = _CASES[name]
    (run,) = _said(case, "RUN")
    command, *arguments = shlex.split(run)
    assert command == "opt"
    path = tmp_path / "case.ir"
    path.write_text(case)
    errors, hints = _said(case, "ERROR"), _said(case, "HINT")
    if errors:
        with pytest.raises(RamielError) as caught:
            _opt([*arguments, str(path)])
        for error in errors:
            assert error.replace("case.ir", str(path)) in str(caught.value)
        for hint in hints:
            assert hint in str(caught.value.hint)
        return
    output = _opt([*arguments, str(path)])
    assert "// CHECK" in case
    assert not (failure := check(case, output)), f"{failure}\n{output}"
    path.write_text(output)
    assert _opt([str(path)]) == output


def test_every_graph_pass_has_a_file() -> None:
    graph_passes = {name for name in PASSES.names() if issubclass(PASSES.find(name), Pass)}
    assert graph_passes <= {path.stem for path in _FOLDER.glob("*.ir")}


def test_the_checks_can_fail() -> None:
    assert check("// CHECK: graph @a\n// CHECK-NEXT: return", "graph @a() {\n  return\n}\n") == ""
    assert "Couldn't match" in check("// CHECK: graph @b", "graph @a() {\n  return\n}\n")
