"""Costs that were measured: µs per op, per message and per byte, with one backend."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from ramiel_ir.costs import AnalyticCosts, MessageCosts, MicrosecondCosts
from ramiel_ir.derived import COPY, Part, parse_part, part_name
from ramiel_ir.errors import UsageError
from ramiel_ir.ir import Graph, Op, Value

FORMAT_VERSION = 6


@dataclass(frozen=True)
class MeasuredCosts(MicrosecondCosts):
    """Costs read from a profile. Ops it does not know cost what the analytic model says, scaled.

    `ops` holds µs by the name of an op's first result, on one and on `cores` threads. On fewer it
    takes what Amdahl's law says (Amdahl 1967): a part of it takes as long on any number of threads,
    and the rest is shared. `scale` is measured over analytic, the median.
    """

    name: ClassVar[str] = "measured"
    backend: str
    ops: Mapping[str, tuple[float, float]]
    cores: int = 2
    scale: float = 1.0
    machine: str = ""
    model: AnalyticCosts = field(default_factory=AnalyticCosts)
    company: float = 1.0

    def estimate_op(self, op: Op, threads: int) -> float:
        known = self._find(op)
        if known is None:
            return self.scale * self.model.estimate_op(op, threads)
        alone, together = known
        if threads == 1 or self.cores == 1:
            return alone
        shared = (alone - together) / (1 - 1 / self.cores)
        return alone - shared * (1 - 1 / min(threads, self.cores))

    def part(self, op: Op, part: Part, threads: int = 1) -> float:
        return self.op(Op(op.kind, (), [Value(part_name(part))]), threads)

    def known(self, graph: Graph) -> int:
        """How many ops of the graph were measured."""
        return sum(self._find(op) is not None for op in graph.ops)

    def _find(self, op: Op) -> tuple[float, float] | None:
        """What was measured of the op, or of the one that it is a copy or a part of."""
        name = op.label.removeprefix("%")
        name = name if name in self.ops else name.partition(COPY)[0]
        part = None if name in self.ops or op.kind == "Slice" else parse_part(name)
        if part is None or part.whole not in self.ops:
            return self.ops.get(name)
        share = part.share * self._waste.get(part.whole, 1.0)
        alone, together = self.ops[part.whole]
        return share * alone, share * together

    @cached_property
    def _waste(self) -> dict[str, float]:
        """How much longer parts of an op take than their share, by the parts that were measured."""
        found: defaultdict[str, list[float]] = defaultdict(list)
        for name, (alone, _) in self.ops.items():
            part = parse_part(name)
            if part is not None and self.ops.get(part.whole, (0.0,))[0] > 0:
                found[part.whole].append(alone / self.ops[part.whole][0] / part.share)
        return {name: statistics.mean(ratios) for name, ratios in found.items()}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the profile as JSON."""
        described = {
            "format_version": FORMAT_VERSION,
            "backend": self.backend,
            "machine": self.machine,
            "messages": dataclasses.asdict(self.messages),
            "cores": self.cores,
            "scale": self.scale,
            "company": self.company,
            "ops": {name: list(pair) for name, pair in self.ops.items()},
        }
        Path(path).write_text(json.dumps(described, indent=1) + "\n")

    @staticmethod
    def load(path: str | os.PathLike[str]) -> MeasuredCosts:
        """Read a profile. Raises `UsageError` for a file that is none."""
        try:
            found = json.loads(Path(path).read_text())
            if found["format_version"] != FORMAT_VERSION:
                raise UsageError(f"{str(path)!r} has another format than this version reads")
            return MeasuredCosts(
                found["backend"],
                {name: (float(one), float(all_)) for name, (one, all_) in found["ops"].items()},
                int(found["cores"]),
                float(found["scale"]),
                found["machine"],
                company=float(found["company"]),
                messages=MessageCosts(**{k: float(v) for k, v in found["messages"].items()}),
            )
        except OSError as error:
            raise UsageError(f"{str(path)!r} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{str(path)!r} is no profile: {error}") from None
