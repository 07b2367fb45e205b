"""What the documents say is so: links, commands, generated code, Python."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from ramiel_ir import registry
from ramiel_ir.cli import app
from ramiel_ir.driver import compile as compile_model

ROOT = Path(__file__).parents[1]
PAGES = {page.name: page for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]}
_BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest) -> str:
    """The text of each page."""
    return PAGES[request.param].read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[name].read_text(encoding="utf-8")):
        if "://" not in target:
            assert (PAGES[name].parent / target.partition("#")[0]).exists(), target


def test_commands_exist_and_have_these_options(page: str) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    lines = re.findall(r"^ {4}(?:\$ )?(?:\.venv/bin/)?ramiel-ir ([^|\n]*)", page, re.MULTILINE)
    for line in lines:
        words = shlex.split(line, comments=True)
        command = commands[words[0]]
        known = {
            name for option in command.params for name in [*option.opts, *option.secondary_opts]
        }
        given = {word.partition("=")[0] for word in words[1:] if word.startswith("-")}
        assert given - {"-", "--help"} <= known, line


def test_passes_that_are_named_exist(page: str) -> None:
    known = {*registry.PASSES.names(), "cancel-transposes", "interleave"}
    for pipeline in re.findall(r"--passes='?([\w,{}=-]+)", page):
        names = re.sub(r"\{[^}]*\}", "", pipeline).split(",")
        assert set(names) <= known, pipeline


def test_python_parses(page: str) -> None:
    for kind, text in _BLOCK.findall(page):
        if kind.startswith("python") and not text.startswith(" "):
            ast.parse(text)


def test_generated_code_in_the_readme_is_generated(tmp_path: Path) -> None:
    readme = PAGES["README.md"].read_text(encoding="utf-8")
    (passes,) = re.findall(r"`--workers 2 --passes='(.*)'`", readme)
    compile_model("zoo:squeezenet", tmp_path / "out", workers=2, passes=passes)
    source = (tmp_path / "out" / "model.py").read_text()
    shown = [text for kind, text in _BLOCK.findall(readme) if kind.startswith("python worker")]
    assert len(shown) == 2
    for text in shown:
        assert text in source
