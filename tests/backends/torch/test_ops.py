"""The list of ops that the torch backend emits."""

from __future__ import annotations

from ramiel_backends.torch.backend import TorchBackend
from ramiel_backends.torch.table import TABLE


def test_ops_lists_the_whole_table_sorted_and_the_ops_with_regions() -> None:
    ops = TorchBackend().ops()
    assert list(ops) == sorted(ops)
    assert len(ops) == len(TABLE.rows) + 3
    assert ops["Softmax"] == [1, 13] and ops["Scan"] == [9]
    assert "com.microsoft.FusedMatMul" in ops
    assert all(versions == sorted(set(versions)) for versions in ops.values())
