"""Both plugins of the documents, installed once per session."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plugins.helpers import Shell, files_of, install, shell_with


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds both plugins' sources, and in `site` both installed."""
    folder = tmp_path_factory.mktemp("plugins")
    install(files_of("writing-a-pass.md") | files_of("writing-a-backend.md"), folder)
    return folder


@pytest.fixture
def shell(plugins: Path) -> Shell:
    """Runs `python -m …` with both plugins installed."""
    return shell_with(plugins / "site")
