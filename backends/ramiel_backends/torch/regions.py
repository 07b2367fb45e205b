from __future__ import annotations
from typing import TYPE_CHECKING

from ramiel_backends.torch.statements import Statement
from ramiel_ir.ir import Op


def reason_against(op: Op) -> str:
    return "later"


def statements(t, op: Op, sample: int) -> list[Statement]:
    raise NotImplementedError
