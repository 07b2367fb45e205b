"""The layout of expressions agrees with ruff's, on examples and on random expressions."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from ramiel_backends.torch import layout

ROOT = Path(__file__).parents[3]


def ruff_format(source: str) -> str:
    """`source` as ruff leaves it."""
    command = [sys.executable, "-m", "ruff", "format", "--config", "pyproject.toml", "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Random:
    """Expressions of the kinds that rows write."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def name(self) -> str:
        length = self.random.choice((1, 5, 12, 25, 40, 45))
        return "x" + "abcdefgh_"[: self.random.randint(1, 8)] * (length // 8) + "y"

    def atom(self) -> str:
        return self.random.choice(
            (self.name(), self.name(), self.name(), "0", "-1", "1e-05", "True", '"same"', "None")
        )

    def expression(self, depth: int) -> str:
        if depth == 0:
            return self.atom()
        kind = self.random.randrange(10)
        if kind < 4:
            return self.call(depth)
        if kind == 4:
            items = [self.expression(depth - 1) for _ in range(self.random.randint(2, 6))]
            opening, closing = self.random.choice(("()", "[]"))
            return f"{opening}{', '.join(items)}{closing}"
        if kind < 7:
            op = self.random.choice(("+", "-", "*", "/", "<", "@", "&"))
            left, right = (self.expression(depth - 1) for _ in range(2))
            return f"({left}) {op} ({right})"
        if kind == 7:
            return f"{self.name()}[:, {self.atom()}:, None]"
        if kind == 8:
            return f"-{self.name()}"
        return f"{self.call(depth)}.{self.random.choice(('to', 'reshape'))}({self.atom()})"

    def call(self, depth: int) -> str:
        function = self.random.choice(
            (
                "torch.cat",
                "F.conv2d",
                "nn.max_pool",
                f"{self.name()}.to",
                f"{self.name()}{'_' * 40}.to",
            )
        )
        items = [self.expression(depth - 1) for _ in range(self.random.randint(0, 4))]
        items += [
            f"{key}={self.expression(depth - 1)}"
            for key in self.random.sample(("stride", "padding", "dim"), self.random.randint(0, 2))
        ]
        return f"{function}({', '.join(items)})"

    def targets(self) -> list[str]:
        return [f"{self.name()}{i}" for i in range(self.random.choice((0, 1, 1, 1, 2, 4)))]


@pytest.mark.parametrize("seed", range(4))
def test_random_statements(seed: int) -> None:
    source = Random(seed)
    lines: list[str] = []
    for _ in range(250):
        text = source.expression(source.random.randint(1, 2))
        lines += layout.assignment(source.targets(), layout.parse(text), 0)
    laid_out = "\n".join(lines) + "\n"
    assert laid_out.splitlines() == ruff_format(laid_out).splitlines()


def test_depth_and_headers() -> None:
    source = Random(7)
    lines = ["def run(port):"]
    for _ in range(200):
        value = layout.parse(source.call(2))
        lines += layout.header(source.random.choice(("if", "while", "for x in")), value, 4)
        lines += layout.assignment(["y"], layout.parse(source.call(1)), 8)
    laid_out = "\n".join(lines) + "\n"
    assert laid_out.splitlines() == ruff_format(laid_out).splitlines()


@pytest.mark.parametrize(
    "text",
    (
        *("", "it's", 'say "no"', "both ' and \"", "back\\slash", "new\nline\r", "\u043a\u043b"),
        *("\x00\x7f", "a" * 300, "two words " * 30, "\N{GRINNING FACE}\u2028" * 20),
    ),
)
def test_strings(text: str) -> None:
    call = layout.parse(f"port.input({layout.string(text)})")
    lines = layout.assignment(["x"], call, 8)
    assert all(len(line) <= 100 and line.isascii() for line in lines)
    namespace: dict[str, object] = {}
    source = "class port:\n    input = staticmethod(lambda name: name)\n\n\nif True:\n"
    source += "    if port:\n" + "\n".join(lines) + "\n"
    exec(source, namespace)
    assert namespace["x"] == text
    assert ruff_format(source) == source
