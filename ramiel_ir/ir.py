"""The IR: a `Graph` of `Op`s over `Value`s, each with a `Type`.

    Graph    inputs, weights, ops in topological order, outputs; a region is a Graph inside an Op
    Op       one computation: operands in, results out, attributes, regions (bodies of If, Loop,
    Scan) Value    one tensor, sequence or optional, with exactly one producer and an ordered
    use-list Type     element type and shape, as far as they are known

Values and ops compare by identity. Everything that may end up printed is kept in order. The rest of
the file is small: `Tensor` (constant data), `Attribute`, `verify` and `difference`.
"""

from __future__ import annotations

import enum
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import ml_dtypes
import numpy as np

from ramiel_ir.errors import ModelError

Array = np.ndarray[Any, Any]
Dim = int | str | None
"""One dimension: a number of elements, a symbol shared by equal dimensions, or None for unknown."""


class DType(enum.Enum):
    """An element type: its spelling in the text, its ONNX number, its bits, its numpy type."""

    text: str
    onnx_code: int
    bits: int
    numpy: np.dtype[Any]

    def __init__(self, text: str, onnx_code: int, bits: int, numpy: Any) -> None:
        self.text, self.onnx_code, self.bits, self.numpy = text, onnx_code, bits, np.dtype(numpy)

    F32 = ("f32", 1, 32, np.float32)
    U8 = ("u8", 2, 8, np.uint8)
    I8 = ("i8", 3, 8, np.int8)
    U16 = ("u16", 4, 16, np.uint16)
    I16 = ("i16", 5, 16, np.int16)
    I32 = ("i32", 6, 32, np.int32)
    I64 = ("i64", 7, 64, np.int64)
    STRING = ("str", 8, 0, np.object_)
    BOOL = ("bool", 9, 8, np.bool_)
    F16 = ("f16", 10, 16, np.float16)
    F64 = ("f64", 11, 64, np.float64)
    U32 = ("u32", 12, 32, np.uint32)
    U64 = ("u64", 13, 64, np.uint64)
    C64 = ("c64", 14, 64, np.complex64)
    C128 = ("c128", 15, 128, np.complex128)
    BF16 = ("bf16", 16, 16, ml_dtypes.bfloat16)
    F8E4M3FN = ("f8e4m3fn", 17, 8, ml_dtypes.float8_e4m3fn)
    F8E4M3FNUZ = ("f8e4m3fnuz", 18, 8, ml_dtypes.float8_e4m3fnuz)
    F8E5M2 = ("f8e5m2", 19, 8, ml_dtypes.float8_e5m2)
    F8E5M2FNUZ = ("f8e5m2fnuz", 20, 8, ml_dtypes.float8_e5m2fnuz)
    U4 = ("u4", 21, 4, ml_dtypes.uint4)
    I4 = ("i4", 22, 4, ml_dtypes.int4)
    F4E2M1 = ("f4e2m1", 23, 4, ml_dtypes.float4_e2m1fn)
    F8E8M0 = ("f8e8m0", 24, 8, ml_dtypes.float8_e8m0fnu)
    U2 = ("u2", 25, 2, ml_dtypes.uint2)
    I2 = ("i2", 26, 2, ml_dtypes.int2)
    F6E2M3 = ("f6e2m3", 27, 6, ml_dtypes.float6_e2m3fn)
    F6E3M2 = ("f6e3m2", 28, 6, ml_dtypes.float6_e3m2fn)

    @staticmethod
    def from_onnx(code: int) -> DType:
        """The element type with this `TensorProto.DataType` number, else `ModelError`."""
        if code not in _BY_ONNX_CODE:
            raise ModelError(f"element type {code} is not one that ONNX defines")
        return _BY_ONNX_CODE[code]

    @staticmethod
    def from_numpy(dtype: np.dtype[Any]) -> DType:
        """The element type numpy arrays of `dtype` hold; every kind of text is a string."""
        if dtype.kind in "OSUT":
            return DType.STRING
        if dtype not in _BY_NUMPY:
            raise ModelError(f"numpy type {dtype} has no ONNX element type")
        return _BY_NUMPY[dtype]


_BY_ONNX_CODE = {dtype.onnx_code: dtype for dtype in DType}
_BY_NUMPY = {dtype.numpy: dtype for dtype in DType}


@dataclass(frozen=True, slots=True)
class Type:
    """What is known of a value. `shape` None means unknown rank, which is not rank 0.

    A sequence or optional has a Type as its element and no shape. A value of which nothing is known
    has no Type at all: its `type` is None.
    """

    element: DType | Type | None
    shape: tuple[Dim, ...] | None = None
    kind: Literal["tensor", "sparse", "sequence", "optional"] = "tensor"

    @property
    def is_static(self) -> bool:
        """Whether element type and every dimension are known numbers."""
        return (
            self.kind == "tensor"
            and self.element is not None
            and self.shape is not None
            and all(isinstance(dim, int) for dim in self.shape)
        )

    @property
    def count(self) -> int | None:
        """How many elements a tensor of this type has, None where that is not known."""
        if self.kind != "tensor" or self.shape is None:
            return None
        sizes = [dim for dim in self.shape if isinstance(dim, int)]
        return math.prod(sizes) if len(sizes) == len(self.shape) else None

    @property
    def nbytes(self) -> int | None:
        """Bytes of such a tensor as ONNX stores it; None where unknown, and for strings."""
        if self.count is None or not isinstance(self.element, DType) or not self.element.bits:
            return None
        return (self.count * self.element.bits + 7) // 8


class Tensor:
    """Constant data whose bytes are read when first asked for, and its digest.

    `load` returns a numpy array (ml_dtypes for the types numpy lacks, unpacked; objects of `str` or
    `bytes` for strings). A Tensor without `load` is detached: only its type and digest are known.
    """

    __slots__ = ("_array", "_digest", "_load", "type")

    def __init__(
        self,
        type: Type,
        load: Callable[[], Array] | None = None,
        *,
        digest: str | None = None,
    ) -> None:
        self.type = type
        self._load = load
        self._array: Array | None = None
        self._digest = digest

    @staticmethod
    def of(array: Array) -> Tensor:
        """The tensor that holds `array`."""
        tensor = Tensor(Type(DType.from_numpy(array.dtype), tuple(array.shape)), lambda: array)
        tensor._array = array
        return tensor

    @property
    def dtype(self) -> DType:
        """The element type."""
        assert isinstance(self.type.element, DType)
        return self.type.element

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, in elements."""
        return tuple(dim for dim in self.type.shape or () if isinstance(dim, int))

    @property
    def count(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def is_detached(self) -> bool:
        """Whether the bytes are elsewhere."""
        return self._load is None

    @property
    def array(self) -> Array:
        """The data. Raises `ModelError` when the tensor is detached."""
        if self._array is None:
            if self._load is None:
                raise ModelError(
                    "the weights of this model are detached from it",
                    hint="put the .weights.safetensors file beside the .ir file",
                )
            self._array = self._load()
        return self._array

    @property
    def digest(self) -> str:
        """128 bits of sha256, in hex, over element type, shape and bytes; computed once."""
        if self._digest is None:
            digest = hashlib.sha256(f"{self.dtype.text}{list(self.shape)}".encode())
            if self.dtype is DType.STRING:
                for item in self.array.reshape(-1):
                    data = item if isinstance(item, bytes) else str(item).encode()
                    digest.update(len(data).to_bytes(8, "little") + data)
            else:
                digest.update(np.ascontiguousarray(self.array).reshape(-1).view(np.uint8).data)
            self._digest = digest.hexdigest()[:32]
        return self._digest


AttributeKind = Literal[
    "int", "float", "string", "tensor", "type", "ints", "floats", "strings", "tensors", "types"
]


@dataclass(frozen=True, slots=True)
class Attribute:
    """A compile-time argument of an op. The kind is kept, so that an empty list keeps its type.

    Floats are float32 values, as in ONNX. Strings are `str`, or `bytes` where they are not UTF-8.
    """

    kind: AttributeKind
    value: Any

    def __post_init__(self) -> None:
        if self.kind == "float":
            object.__setattr__(self, "value", _to_float32(self.value))
        elif self.kind == "floats":
            object.__setattr__(self, "value", tuple(_to_float32(item) for item in self.value))
        elif self.kind.endswith("s"):
            object.__setattr__(self, "value", tuple(self.value))

    @staticmethod
    def of(value: Any) -> Attribute:
        """The attribute a plain Python value stands for; an empty list has no kind: refused."""
        if isinstance(value, Attribute):
            return value
        if isinstance(value, (list, tuple)):
            kinds = {Attribute.of(item).kind for item in value}
            if kinds == {"int", "float"}:
                kinds = {"float"}
            if len(kinds) != 1 or next(iter(kinds)).endswith("s"):
                raise ModelError(f"{value!r} is not a list of one attribute kind")
            return Attribute(f"{kinds.pop()}s", value)  # type: ignore[arg-type]
        for types, kind in _KIND_OF_PYTHON:
            if isinstance(value, types):
                return Attribute(kind, value)
        raise ModelError(f"{type(value).__name__} cannot be an attribute")


def _to_float32(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(value))


_KIND_OF_PYTHON: tuple[tuple[Any, AttributeKind], ...] = (
    ((int, np.integer), "int"),
    ((float, np.floating), "float"),
    ((str, bytes), "string"),
    (Tensor, "tensor"),
    (Type, "type"),
)


class Use(NamedTuple):
    """Where a value is read: operand `position` of an op, or output `position` of a graph."""

    user: Op | Graph
    position: int


class Value:
    """A value with exactly one producer: an op, or the graph whose input or weight it is."""

    __slots__ = ("name", "producer", "type", "uses", "weight")

    def __init__(self, name: str, type: Type | None = None, weight: Tensor | None = None) -> None:
        self.name = name
        self.type = type if weight is None else weight.type
        self.weight = weight
        self.producer: Op | Graph | None = None
        self.uses: dict[Use, None] = {}

    def __repr__(self) -> str:
        return f"%{self.name}"

    @property
    def op(self) -> Op | None:
        """The op that produces it, None for an input or a weight."""
        return self.producer if isinstance(self.producer, Op) else None

    @property
    def graph(self) -> Graph | None:
        """The graph it is defined in."""
        return self.producer.graph if isinstance(self.producer, Op) else self.producer

    def users(self) -> list[Op]:
        """The ops of its own graph that read it, in order of first use, each once.

        A use inside a region counts as a use by the op that owns the region.
        """
        home = self.graph
        found: dict[Op, None] = {}
        for user, _ in self.uses:
            op = user.owner if isinstance(user, Graph) else user
            while op is not None and op.graph is not home:
                op = op.graph.owner if op.graph is not None else None
            if op is not None:
                found[op] = None
        return list(found)

    @property
    def is_output(self) -> bool:
        """Whether its own graph returns it."""
        return any(user is self.graph for user, _ in self.uses)

    def replace_all_uses(self, other: Value) -> None:
        """Let every reader of this value read `other` instead."""
        for user, index in list(self.uses):
            if isinstance(user, Op):
                user.set_operand(index, other)
            else:
                user.set_output(index, other)


_RANDOM = frozenset(
    [
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "BiasDropout",
        "DropoutGrad",
        "BitmaskDropout",
        "BitmaskBiasDropout",
        "Sampling",
    ]
)
_PURE_DOMAINS = (
    "",
    "ai.onnx.ml",
    "ai.onnx.preview",
    "ai.onnx.preview.training",
    "com.microsoft",
    "com.microsoft.nchwc",
    "com.ms.internal.nhwc",
)


class Op:
    """One computation. Operands and results may be absent (None); the order of both is meaning."""

    __slots__ = (
        "_operands",
        "attributes",
        "cluster",
        "domain",
        "graph",
        "kind",
        "name",
        "regions",
        "results",
    )

    def __init__(
        self,
        kind: str,
        operands: Iterable[Value | None],
        results: Iterable[Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
        regions: Mapping[str, Graph] | None = None,
        cluster: int | None = None,
        name: str = "",
    ) -> None:
        self.kind = kind
        self.domain = domain
        self.name = name
        self.cluster = cluster
        self.graph: Graph | None = None
        self.attributes = {key: Attribute.of(attr) for key, attr in (attributes or {}).items()}
        self._operands: list[Value | None] = []
        self.results = tuple(results)
        self.regions = dict(regions or {})
        for value in operands:
            self._operands.append(None)
            self.set_operand(len(self._operands) - 1, value)
        for result in self.results:
            if result is not None:
                if result.producer is not None:
                    raise ModelError(f"{result} already has a producer")
                result.producer = self
        for region in self.regions.values():
            region.owner = self

    def __repr__(self) -> str:
        return f"{self.label} = {self.qualified_kind}"

    @property
    def label(self) -> str:
        """How messages name the op: its first result."""
        return next((f"%{result.name}" for result in self.results if result is not None), "_")

    @property
    def qualified_kind(self) -> str:
        """The op kind, with its domain in front where that is not ONNX's own."""
        return f"{self.domain}.{self.kind}" if self.domain else self.kind

    @property
    def operands(self) -> tuple[Value | None, ...]:
        """The values it reads, by position."""
        return tuple(self._operands)

    def set_operand(self, index: int, value: Value | None) -> None:
        """Let operand `index` read `value`."""
        old = self._operands[index]
        if old is not None:
            del old.uses[Use(self, index)]
        self._operands[index] = value
        if value is not None:
            value.uses[Use(self, index)] = None

    def operand(self, index: int) -> Value | None:
        """Operand `index`, None where it is absent or left out at the end."""
        return self._operands[index] if index < len(self._operands) else None

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of an attribute, or the default."""
        return self.attributes[name].value if name in self.attributes else default

    def replace_reads(self, old: Value, new: Value) -> None:
        """Let this op and its regions read `new` wherever they read `old`."""
        for user, index in list(old.uses):
            inside = user if isinstance(user, Op) else user.owner
            while inside is not None and inside is not self and inside.graph is not None:
                inside = inside.graph.owner
            if inside is not self:
                continue
            if isinstance(user, Op):
                user.set_operand(index, new)
            else:
                user.set_output(index, new)

    @property
    def captures(self) -> list[Value]:
        """The outer values its regions read, in order of first use, each once."""
        found: dict[Value, None] = {}
        for region in self.regions.values():
            for value in region.captures:
                if value.graph is not self.graph or value.op is not self:
                    found[value] = None
        return list(found)

    @property
    def reads(self) -> list[Value]:
        """Operands and captures, each once, in order."""
        found = dict.fromkeys(value for value in self._operands if value is not None)
        if self.regions:
            found.update(dict.fromkeys(self.captures))
        return list(found)

    @property
    def writes(self) -> list[Value]:
        """The results that are present."""
        return [result for result in self.results if result is not None]

    @property
    def pure(self) -> bool:
        """Whether running it twice, or at compile time, gives the same: not random, not stateful.

        Ops of domains we know nothing about are not pure.
        """
        if self.kind in _RANDOM or self.domain not in _PURE_DOMAINS:
            return False
        if self.kind == "Dropout" and self.domain == "" and self.operand(2) is not None:
            training = self.operand(2)
            assert training is not None
            if training.weight is None or training.weight.is_detached:
                return False
            if bool(training.weight.array.reshape(-1)[0]):
                return False
        return all(op.pure for region in self.regions.values() for op in region.ops)


class Graph:
    """Inputs, weights, ops in topological order, outputs. Inside an op it is a region.

    `opsets` (domain to version) and `metadata` belong to the outermost graph; regions share them.
    """

    __slots__ = ("_opsets", "_outputs", "inputs", "metadata", "name", "ops", "owner", "weights")

    def __init__(
        self,
        name: str = "graph",
        inputs: Iterable[Value] = (),
        *,
        opsets: Mapping[str, int] | None = None,
    ) -> None:
        self.name = name
        self.owner: Op | None = None
        self.inputs: list[Value] = []
        self.weights: list[Value] = []
        self.ops: list[Op] = []
        self.metadata: dict[str, str] = {}
        self._outputs: list[Value] = []
        self._opsets = dict(opsets or {})
        for value in inputs:
            self.add_input(value)

    def __repr__(self) -> str:
        return f"graph @{self.name} ({len(self.ops)} ops)"

    @property
    def opsets(self) -> dict[str, int]:
        """Version of the op set per domain; "" is ONNX's own."""
        root = self
        while root.owner is not None and root.owner.graph is not None:
            root = root.owner.graph
        return root._opsets

    @property
    def outputs(self) -> tuple[Value, ...]:
        """The values it returns; the same value may stand there twice."""
        return tuple(self._outputs)

    def set_output(self, index: int, value: Value) -> None:
        """Return `value` as output `index`; an index one past the end appends."""
        if index == len(self._outputs):
            self._outputs.append(value)
        else:
            del self._outputs[index].uses[Use(self, index)]
            self._outputs[index] = value
        value.uses[Use(self, index)] = None

    def set_outputs(self, values: Iterable[Value]) -> None:
        """Return exactly `values`."""
        for index, value in enumerate(self._outputs):
            del value.uses[Use(self, index)]
        self._outputs = []
        for index, value in enumerate(values):
            self.set_output(index, value)

    def add_input(self, value: Value) -> Value:
        """Append an input."""
        value.producer = self
        self.inputs.append(value)
        return value

    def add_weight(self, name: str, tensor: Tensor) -> Value:
        """Append a constant and return its value."""
        value = Value(name, weight=tensor)
        value.producer = self
        self.weights.append(value)
        return value

    def append(self, op: Op) -> Op:
        """Add an op at the end."""
        op.graph = self
        self.ops.append(op)
        return op

    def add(
        self,
        kind: str,
        operands: Iterable[Value | None],
        results: str | Sequence[str],
        types: Type | Sequence[Type | None] | None = None,
        **attributes: Any,
    ) -> Any:
        """Append an op of ONNX's own domain by result names; return its result, or its results."""
        names = [results] if isinstance(results, str) else list(results)
        given = list(types) if isinstance(types, Sequence) else [types] * len(names)
        values = [
            Value(name, type) if name else None for name, type in zip(names, given, strict=True)
        ]
        self.append(Op(kind, operands, values, attributes))
        return values[0] if isinstance(results, str) else tuple(values)

    def reorder(self, ops: Sequence[Op]) -> None:
        """Give the ops another order. They must be the same ops."""
        assert len(ops) == len(self.ops) and set(ops) == set(self.ops)
        self.ops = list(ops)

    def replace(self, replacements: Mapping[Op, Op]) -> None:
        """Put new ops in the places of old ones; each result takes over the uses of its like."""
        for old, new in replacements.items():
            for before, after in zip(old.results, new.results, strict=True):
                if before is not None and after is not None:
                    before.replace_all_uses(after)
            new.graph = self
        places = [replacements.get(op, op) for op in self.ops]
        self.erase(*replacements)
        self.ops = places

    def erase(self, *ops: Op) -> None:
        """Remove ops that nobody reads. Raises `ModelError` for one that still has uses."""
        going = set(ops)
        for op in sorted(ops, key=self._positions().__getitem__, reverse=True):
            for result in op.writes:
                if result.uses:
                    raise ModelError(f"{op} cannot be erased: {result} still has uses")
            for index in range(len(op.operands)):
                op.set_operand(index, None)
            for region in op.regions.values():
                region._drop_uses()
            op.graph = None
        self.ops = [op for op in self.ops if op not in going]

    def splice(self, op: Op, body: Graph, names: Names) -> list[Op]:
        """Put copies of the ops of `body` in the place of `op`; return them.

        Inputs of `body` stand for the operands of the same name, its outputs for the results that
        are present, in order. Results keep their names, and the copies the cluster of `op`; all
        other values get names from `names`, which knows the outermost graph.
        """
        given = {value.name: value for value in op.operands if value is not None}
        copies = {value: given[value.name] for value in body.inputs}
        for value in body.weights:
            assert value.weight is not None
            copies[value] = self.add_weight(names.fresh(value.name), value.weight)
        ops = [clone_op(inner, copies) for inner in body.ops]
        made = {value: None for copy in ops for value in copy.writes}
        for result, output in zip(op.writes, body.outputs, strict=True):
            new = copies[output]
            if new not in made:  # an operand, a constant, or what another result already is
                new = Value(names.fresh(result.name), result.type)
                ops.append(Op("Identity", [copies[output]], [new]))
            made.pop(new, None)
            result.replace_all_uses(new)
            new.type = result.type or new.type
            result.name, new.name = names.fresh(result.name), result.name
        for copy in ops:
            copy.graph, copy.cluster = self, op.cluster
            for region in copy.regions.values():
                made.update((value, None) for value in region.values())
        for value in made:
            value.name = names.fresh(value.name)
        place = self.ops.index(op)
        self.ops[place:place] = ops
        self.erase(op)
        return ops

    def erase_weights(self, values: Iterable[Value]) -> None:
        """Remove weights that nobody reads."""
        going = set(values)
        for value in going:
            if value.uses:
                raise ModelError(f"{value} cannot be erased: it still has uses")
        self.weights = [value for value in self.weights if value not in going]

    def _positions(self) -> dict[Op, int]:
        return {op: index for index, op in enumerate(self.ops)}

    def _drop_uses(self) -> None:
        self.set_outputs(())
        for op in self.ops:
            for index in range(len(op.operands)):
                op.set_operand(index, None)
            for region in op.regions.values():
                region._drop_uses()

    @property
    def captures(self) -> list[Value]:
        """The values of enclosing graphs that it reads, in order of first use, each once."""
        own: set[Value] = {*self.inputs, *self.weights}
        found: dict[Value, None] = {}
        for op in self.ops:
            found.update((value, None) for value in op.reads if value not in own)
            own.update(op.writes)
        found.update((value, None) for value in self._outputs if value not in own)
        return list(found)

    def walk(self) -> Iterator[Op]:
        """Every op, those inside regions included, outer before inner."""
        for op in self.ops:
            yield op
            for region in op.regions.values():
                yield from region.walk()

    def values(self) -> Iterator[Value]:
        """Every value defined here or in a region."""
        yield from self.inputs
        yield from self.weights
        for op in self.ops:
            yield from op.writes
            for region in op.regions.values():
                yield from region.values()

    @property
    def clusters(self) -> dict[int, list[Op]]:
        """The ops of each cluster in graph order, by cluster number; ops without one left out."""
        found: dict[int, list[Op]] = {}
        for op in self.ops:
            if op.cluster is not None:
                found.setdefault(op.cluster, []).append(op)
        return dict(sorted(found.items()))

    def clone(self) -> Graph:
        """A deep copy that shares only the constant data."""
        return self._clone({})

    def _clone(self, copies: dict[Value, Value]) -> Graph:
        graph = Graph(self.name, opsets=self._opsets)
        graph.metadata = dict(self.metadata)
        for value in self.inputs:
            copies[value] = graph.add_input(Value(value.name, value.type))
        for value in self.weights:
            assert value.weight is not None
            copies[value] = graph.add_weight(value.name, value.weight)
        for op in self.ops:
            copies_of_op = clone_op(op, copies)
            graph.append(copies_of_op)
        graph.set_outputs(copies.get(value, value) for value in self._outputs)
        return graph


def clone_op(op: Op, copies: dict[Value, Value]) -> Op:
    """A copy of `op` that reads `copies` of its operands where there are some.

    Records the copies of its results in `copies`. Regions are copied with it.
    """
    results = [result and Value(result.name, result.type) for result in op.results]
    for old, new in zip(op.results, results, strict=True):
        if old is not None and new is not None:
            copies[old] = new
    return Op(
        op.kind,
        [value and copies.get(value, value) for value in op.operands],
        results,
        op.attributes,
        domain=op.domain,
        regions={name: region._clone(copies) for name, region in op.regions.items()},
        cluster=op.cluster,
        name=op.name,
    )


@dataclass
class Names:
    """Gives out value names that the graph does not have yet."""

    graph: Graph
    _taken: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self._taken = {value.name for value in self.graph.values()}

    def fresh(self, hint: str) -> str:
        """`hint` itself, or `hint` with the first free number behind it."""
        name, number = hint, 0
        while name in self._taken:
            number += 1
            name = f"{hint}_{number}"
        self._taken.add(name)
        return name


def verify(graph: Graph) -> None:
    """Prove the laws of the IR, or raise `ModelError` that names the op or value.

    Each value has one producer and a name of its own, is defined before it is used, and its
    use-list holds exactly its uses; weights agree with their types; clusters are numbers from 0.
    """
    _Verifier().graph(graph, {}, set())


class _Verifier:
    def __init__(self) -> None:
        self.uses: dict[Value, set[Use]] = {}

    def graph(self, graph: Graph, names: dict[str, Value], visible: set[Value]) -> None:
        outermost = graph.owner is None
        defined: list[Value] = []

        def define(value: Value, producer: Op | Graph) -> None:
            if value.producer is not producer:
                raise ModelError(f"{producer}: {value} is produced by {value.producer!r} as well")
            if value.name in names:
                raise ModelError(f"{producer}: the name {value} stands for two values")
            if not value.name:
                raise ModelError(f"{producer}: a value has no name")
            names[value.name] = value
            visible.add(value)
            defined.append(value)

        for value in graph.inputs:
            define(value, graph)
        for value in graph.weights:
            define(value, graph)
            if value.weight is None or value.weight.type != value.type:
                raise ModelError(f"weight {value} has another type than its data")
        for op in graph.ops:
            self.op(op, graph, names, visible)
            for result in op.writes:
                define(result, op)
        for index, value in enumerate(graph.outputs):
            if value not in visible:
                raise ModelError(f"output {value} of @{graph.name} is not defined in it")
            self.uses.setdefault(value, set()).add(Use(graph, index))
        for value in defined:
            visible.discard(value)
            del names[value.name]
        if outermost:
            for value in graph.values():
                if set(value.uses) != self.uses.get(value, set()):
                    raise ModelError(f"the use-list of {value} does not hold its uses")

    def op(self, op: Op, graph: Graph, names: dict[str, Value], visible: set[Value]) -> None:
        if op.graph is not graph:
            raise ModelError(f"{op} does not know that it is in @{graph.name}")
        if op.cluster is not None and op.cluster < 0:
            raise ModelError(f"{op} has the cluster {op.cluster}; clusters count from 0")
        for index, value in enumerate(op.operands):
            if value is None:
                continue
            if value not in visible:
                raise ModelError(f"{op} reads {value} before it is defined")
            self.uses.setdefault(value, set()).add(Use(op, index))
        for region in op.regions.values():
            if region.owner is not op:
                raise ModelError(f"a region of {op} does not know its owner")
            self.graph(region, names, visible)


def difference(left: Graph, right: Graph) -> str | None:
    """The first place where two graphs differ in structure, None where they are equal.

    Weights compare by name, type and digest. Node names and constant bytes play no part.
    """
    return _difference(left, right, {})


def _difference(left: Graph, right: Graph, pairs: dict[Value, Value]) -> str | None:
    def differs(what: str, a: Any, b: Any) -> str | None:
        return None if a == b else f"@{left.name}: {what}: {a!r} != {b!r}"

    def declare(a: Value | None, b: Value | None) -> str | None:
        if a is None or b is None:
            return differs("result", a, b)
        pairs[a] = b
        digests = [value.weight and value.weight.digest for value in (a, b)]
        return differs("value", (a.name, a.type, digests[0]), (b.name, b.type, digests[1]))

    def checks() -> Iterator[str | None]:
        yield differs("header", (left.name, left.metadata), (right.name, right.metadata))
        yield differs("opsets", left.opsets, right.opsets)
        for field_name in ("inputs", "weights", "ops", "outputs"):
            counts = len(getattr(left, field_name)), len(getattr(right, field_name))
            yield differs(f"number of {field_name}", *counts)
        for a, b in zip(left.inputs, right.inputs, strict=True):
            yield declare(a, b)
        for a, b in zip(_by_name(left.weights), _by_name(right.weights), strict=True):
            yield declare(a, b)
        for op, other in zip(left.ops, right.ops, strict=True):
            yield differs("op", *((o.qualified_kind, o.cluster) for o in (op, other)))
            yield differs(f"attributes of {op}", *(_comparable(o) for o in (op, other)))
            yield differs(
                f"operands of {op}",
                [value and pairs[value] for value in op.operands],
                list(other.operands),
            )
            yield differs(f"regions of {op}", list(op.regions), list(other.regions))
            for name, region in op.regions.items():
                yield _difference(region, other.regions[name], pairs)
            yield differs(f"number of results of {op}", len(op.results), len(other.results))
            for result, twin in zip(op.results, other.results, strict=True):
                yield declare(result, twin)
        yield differs("outputs", [pairs[value] for value in left.outputs], list(right.outputs))

    return next((found for found in checks() if found is not None), None)


def _by_name(values: Iterable[Value]) -> list[Value]:
    return sorted(values, key=lambda value: value.name)


def _comparable(op: Op) -> list[tuple[str, str, Any]]:
    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(plain(item) for item in value)
        if isinstance(value, Tensor):
            return (value.type, value.digest)
        return repr(value) if isinstance(value, float) else value  # nan equals nan here

    return sorted((name, attr.kind, plain(attr.value)) for name, attr in op.attributes.items())
