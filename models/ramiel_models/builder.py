"""`Net`: an ONNX graph while it is being written down, on top of ONNX Script's graph builder.

It adds what a zoo of random models needs: one dotted name per value, weights drawn from
(seed, name) so that they depend neither on build order nor on each other, input ranges in the
model's metadata, and a finished model that is checked and carries every shape.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import ArrayLike
from onnx_ir.passes.common import CheckerPass, ShapeInferencePass
from onnxscript import GraphBuilder

__all__ = ["Dim", "Net", "channels", "paper"]

IR_VERSION = 10
"""Every runtime that knows opset 21 loads this version."""

Dim = int | str
"""A dimension: a size, or the name of a symbolic one."""

_INFERENCE_ERROR = "pkg.onnxscript.shape_inference_error"
"""Where ONNX Script's builder notes on a node that its operands do not fit together."""

_Builder = TypeVar("_Builder", bound=Callable[..., onnx.ModelProto])


def paper(citation: str) -> Callable[[_Builder], _Builder]:
    """Mark a model builder with its source paper (one line), readable as its `paper` attribute."""

    def mark(function: _Builder) -> _Builder:
        function.paper = citation  # type: ignore[attr-defined]
        return function

    return mark


def channels(value: ir.Value) -> int:
    """The size of axis 1 of `value`."""
    assert value.shape is not None
    size = value.shape[1]
    assert isinstance(size, int), f"{value.name} has no static channel count"
    return size


class Net:
    """A model being built: ops by name, dotted scopes, seeded weights."""

    def __init__(self, name: str, *, seed: int = 0, opset: int = 21) -> None:
        self._seed = seed
        self._opset = opset
        self._graph = ir.Graph([], [], nodes=[], opset_imports={"": opset}, name=name)
        self._builder = GraphBuilder(self._graph)
        self._scopes: list[tuple[str, bool]] = []
        self._names: Counter[str] = Counter()
        self._ranges: dict[str, str] = {}

    @contextmanager
    def scope(self, name: str, *, shared_weights: bool = False) -> Iterator[None]:
        """Prefix every name made inside with `name.`; scopes nest.

        With `shared_weights` the names of weights leave this scope out, and a weight whose name
        exists already is used again: the same layers in two such scopes share their weights.
        """
        self._scopes.append((name, shared_weights))
        try:
            yield
        finally:
            self._scopes.pop()

    def input(
        self,
        name: str,
        shape: Sequence[Dim],
        *,
        low: float,
        high: float,
        dtype: ir.DataType = ir.DataType.FLOAT,
    ) -> ir.Value:
        """Add a graph input whose useful values lie in [low, high), which the metadata states."""
        self._ranges[name] = f"{low},{high}"
        return self._builder.input(name, dtype, list(shape))

    def op(
        self, op_type: str, *operands: Any, name: str | None = None, **attributes: Any
    ) -> ir.Value:
        """Add an op of one result and return that result, with its shape inferred.

        An operand is a value, None where an optional one is absent, or a Python number or list,
        which becomes a constant. `name` (default: the op type in lower case) is qualified by the
        open scopes and numbered where it repeats.
        """
        return self.ops(op_type, *operands, results=1, name=name, **attributes)[0]

    def ops(
        self, op_type: str, *operands: Any, results: int, name: str | None = None, **attributes: Any
    ) -> tuple[ir.Value, ...]:
        """Add an op of several results and return them all; otherwise like `op`."""
        scopes = [scope for scope, _ in self._scopes]
        label = self._unique(".".join([*scopes, name or op_type.lower()]))
        labels = [label] if results == 1 else [f"{label}.{i}" for i in range(results)]
        values = self._builder.call_op(
            op_type, operands, attributes, version=self._opset, outputs=labels, name=label
        )
        values = (values,) if isinstance(values, ir.Value) else tuple(values)
        for value, own_label in zip(values, labels, strict=True):
            value.name = own_label
        notes = values[0].producer().metadata_props
        if _INFERENCE_ERROR in notes:
            raise ValueError(f"{label} = {op_type}: {notes[_INFERENCE_ERROR]}")
        notes.clear()
        return values

    def weight(
        self, name: str, shape: Sequence[int], *, std: float = 1.0, mean: float = 0.0
    ) -> ir.Value:
        """Add a float32 weight with normally distributed elements."""
        return self.constant(name, lambda rng: rng.standard_normal(shape, "f4") * std + mean)

    def constant(
        self, name: str, values: ArrayLike | Callable[[np.random.Generator], np.ndarray]
    ) -> ir.Value:
        """Add an initializer: an array, or a function that draws one from the generator it gets.

        The generator depends on the model's seed and the qualified name only. Floats are stored
        as float32.
        """
        label = ".".join([*(scope for scope, shared in self._scopes if not shared), name])
        if label in self._graph.initializers and any(shared for _, shared in self._scopes):
            return self._graph.initializers[label]
        label = self._unique(label)
        array = np.asarray(values(self._generator(label)) if callable(values) else values)
        if array.dtype.kind == "f":
            array = array.astype(np.float32, copy=False)
        return self._builder.initializer(ir.Tensor(array, name=label), label)

    def output(self, value: ir.Value, name: str) -> None:
        """Make `value` a graph output called `name`."""
        self._builder.add_output(value, name)

    def finish(self) -> onnx.ModelProto:
        """Infer all shapes, check the model and return it."""
        model = ir.Model(self._graph, ir_version=IR_VERSION, producer_name="ramiel_models")
        for name, bounds in self._ranges.items():
            model.metadata_props[f"ramiel.range.{name}"] = bounds
        ShapeInferencePass()(model)
        CheckerPass()(model)
        return ir.serde.serialize_model(model)

    def _generator(self, label: str) -> np.random.Generator:
        digest = hashlib.sha256(label.encode()).digest()
        return np.random.default_rng([self._seed, int.from_bytes(digest[:8], "little")])

    def _unique(self, label: str) -> str:
        """Number `label` where it was used before."""
        self._names[label] += 1
        repeats = self._names[label] - 1
        return self._unique(f"{label}_{repeats}") if repeats else label
