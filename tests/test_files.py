"""Files are replaced when everything is written, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ramiel_ir.errors import RamielError
from ramiel_ir.files import replacing
from ramiel_ir.ir import Graph, Tensor
from ramiel_ir.ir_file import read_ir, write_ir


def test_a_file_and_those_beside_it_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("old")
    with replacing(tmp_path / "x.txt") as target:
        target.write_text("new")
        target.with_name("x.data").write_text("more")
        assert (tmp_path / "x.txt").read_text() == "old"
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "x.txt": "new",
        "x.data": "more",
    }


def test_a_failure_leaves_the_old_file_alone(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("old")
    with pytest.raises(ValueError, match="no"), replacing(tmp_path / "x.txt") as target:
        target.write_text("half")
        raise ValueError("no")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("x.txt", "old")]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "x.txt"
    link.symlink_to(tmp_path / "there" / "y.txt")
    with replacing(link) as target:
        target.write_text("new")
    assert link.is_symlink() and (tmp_path / "there" / "y.txt").read_text() == "new"


def test_a_folder_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(RamielError, match="there is no folder"), replacing(tmp_path / "no" / "x"):
        pass


def test_ir_is_written_over_the_weights_that_it_is_read_from(tmp_path: Path) -> None:
    graph = Graph("g")
    weight = graph.add_weight("w", Tensor.of(np.arange(1000, dtype=np.float32)))
    graph.set_outputs([graph.add("Neg", [weight], "y")])
    write_ir(graph, tmp_path / "x.ir")
    again = read_ir(tmp_path / "x.ir")  # whose weights are not loaded yet
    write_ir(again, tmp_path / "x.ir")
    (value,) = read_ir(tmp_path / "x.ir").weights
    assert value.weight is not None and value.weight.array.sum() == 499500
