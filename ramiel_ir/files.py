"""Writing files so that a failure leaves the old ones."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ramiel_ir.errors import RamielError


def refuse_unwritable(folder: Path) -> None:
    """Raise a `RamielError` where no file can be made in the folder."""
    if not folder.is_dir():
        raise RamielError(f"there is no folder {str(folder)!r}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RamielError(f"{str(folder)!r} cannot be written into")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to in the place of `path`, and others beside it in the place of their likes.

    When all is written, what is there takes the places, `path` itself last: what it refers to is
    never missing. Raises `RamielError` where no file can be made there.
    """
    refuse_unwritable(Path(path).parent)
    target = Path(path).resolve()  # a link stays one
    with tempfile.TemporaryDirectory(prefix=".ramiel-", dir=target.parent) as scratch:
        yield (written := Path(scratch, target.name))
        others = (file for file in Path(scratch).iterdir() if file != written)
        for file in (*others, written):
            file.replace(target.with_name(file.name))
