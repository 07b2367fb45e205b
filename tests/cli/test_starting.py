"""Starting and help: nothing heavy is loaded, every option is explained."""

from __future__ import annotations

import pytest

from tests.cli.calls import (
    DONE,
    USAGE,
    Cli,
    python,
)


def test_runs_as_a_module() -> None:
    done = python("-m", "ramiel_ir", "--version")
    assert (done.returncode, done.stdout.split()[0], done.stderr) == (DONE, "ramiel-ir", "")


def test_help_and_import_load_nothing_heavy() -> None:
    # By hand: `time ramiel-ir --help` and `time python -c "import ramiel_ir"`, under 0.5 s each.
    script = (
        "import sys, ramiel_ir; sys.argv = ['ramiel-ir', '--help']\n"
        "from ramiel_ir.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'onnxruntime', 'onnx', 'onnxscript', 'numpy', 'rich'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = python("-c", script)
    assert done.returncode == 0, done.stderr
    assert "compile" in done.stdout


COMMANDS = {
    "opt": [
        "--passes", "--output", "-o", "--list-passes", "--print-ir-after",
        "--print-ir-after-change", "--no-verify-each", "--timing", "--stats", "--workers",
        "--costs", "--backend", "--input-shape", "--allow-external",
    ],
    "compile": [
        "--output", "--backend", "--passes", "--workers", "--threads", "--input-shape", "--costs",
        "--force", "--allow-external",
    ],
    "run": ["--inputs", "--outputs", "--isolation", "--timeout", "--repeat"],
    "compare": [
        "--backends", "--workers", "--passes", "--costs", "--rtol", "--atol", "--seed", "--inputs",
        "--input-shape", "--input-range", "--isolation", "--allow-external", "--json",
    ],
    "bench": [
        "--backends", "--workers", "--rounds", "--no-peers", "--costs", "--trace", "--seed",
        "--inputs", "--input-shape", "--input-range", "--allow-external", "--json",
    ],
    "tune": ["--output", "--backends", "--rounds", "--seed", "--inputs", "--force", "--json"],
    "profile": ["--output", "--backend", "--rounds", "--seed", "--inputs", "--allow-external"],
    "calibrate": ["--backends"],
    "demo": ["--output", "--backends", "--workers", "--rounds"],
    "inspect": [
        "--workers", "--costs", "--backend", "--input-shape", "--allow-external", "--json",
    ],
    "ops": ["--backend", "--json"],
    "zoo": ["list", "build"],
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_its_options(run: Cli, command: str) -> None:
    result = run(command, "--help")
    assert result.code == DONE
    assert result.err == ""
    for option in COMMANDS[command]:
        assert option in result.out
    assert run(command, "-h").out == result.out


def test_no_arguments_shows_help(run: Cli) -> None:
    result = run()
    assert result.code == USAGE
    assert "compile" in result.out + result.err
