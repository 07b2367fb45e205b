"""Which ops come before which, whatever the plan, and what follows for every plan."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ramiel_ir.costs import Costs
from ramiel_ir.ir import Array, Graph


def ancestors(graph: Graph) -> Array:
    """In row n, which ops have to come before op n: booleans, a byte for each pair of ops."""
    position = {op: index for index, op in enumerate(graph.ops)}
    before = np.zeros((len(graph.ops), len(graph.ops)), bool)
    for index, op in enumerate(graph.ops):
        for value in op.reads:
            if value.op is not None:
                maker = position[value.op]
                before[index] |= before[maker]
                before[index, maker] = True
    return before


def least_makespan(graph: Graph, costs: Costs, workers: int) -> float:
    """µs below which no plan of so many workers of one thread gets, though messages cost nothing.

    Before an op comes all that it depends on, which workers share equally at best, and which takes
    at least its longest path; after it, likewise, all that depends on it. The greatest such sum of
    all ops counts, or the whole work, shared equally; `Work.bound` knows paths and the latter only.
    """
    micros = np.array([costs.op(op) for op in graph.ops])
    before = ancestors(graph)
    order = range(len(micros))
    ends = [
        np.maximum(_longest(related, micros, places), related @ micros / workers)
        for related, places in ((before, order), (before.T, reversed(order)))
    ]
    return float(max([micros.sum() / workers, *(ends[0] + micros + ends[1])]))


def _longest(related: Array, micros: Array, places: Iterable[int]) -> Array:
    """µs of the longest path through the ops in each row, which come earlier in `places`."""
    found = np.zeros(len(micros))
    for place in places:
        found[place] = max((found + micros)[related[place]], default=0.0)
    return found
