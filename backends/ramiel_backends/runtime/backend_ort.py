"""ONNX Runtime: a worker calls segments, each a session. The one file with onnxruntime.

A segment's outputs of static shape are allocated once and bound to the session, and the next
segment's inputs to the same memory: what travels between workers is a reference.
"""

from __future__ import annotations

import ctypes
import json
import math
import platform
import sys
import threading
from collections.abc import Callable, Collection, Hashable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from .backend import Run
from .backend_numpy import NumpyBackend
from .dtypes import CODES, TABLE, code_of, numpy_dtype
from .errors import ArtifactError
from .layout import Layout
from .manifest import Manifest, inside
from .memory import Arena
from .source import load_model
from .weights import Weights
from .wiring import cores

HOST = "segments/host.json"
"""What segments made of hardware-specific ops need; only such an artifact has this file."""

# As ONNX Runtime spells an element type: its name in dtypes.TABLE, its number in ONNX.
_ELEMENTS = {
    "float": ("f32", 1),
    "uint8": ("u8", 2),
    "int8": ("i8", 3),
    "uint16": ("u16", 4),
    "int16": ("i16", 5),
    "int32": ("i32", 6),
    "int64": ("i64", 7),
    "bool": ("bool", 9),
    "float16": ("f16", 10),
    "double": ("f64", 11),
    "uint32": ("u32", 12),
    "uint64": ("u64", 13),
    "bfloat16": ("bf16", 16),
    "float8e4m3fn": ("f8e4m3fn", 17),
    "float8e4m3fnuz": ("f8e4m3fnuz", 18),
    "float8e5m2": ("f8e5m2", 19),
    "float8e5m2fnuz": ("f8e5m2fnuz", 20),
    "uint4": ("u4", 21),
    "int4": ("i4", 22),
}
_NAME_OF_ONNX = {number: name for name, number in _ELEMENTS.values()}
_ONNX_OF_NAME = dict(_ELEMENTS.values())
_PACKED = ("u4", "i4")

# The CPU features by which ONNX Runtime chooses how to lay out and compute a hardware-specific op.
_FEATURES = (
    "sse4_1 avx avx2 fma f16c avx_vnni avx512f avx512bw avx512dq avx512vl avx512_vnni avx512_bf16 "
    "amx_tile amx_int8 amx_bf16 asimd asimdhp asimddp i8mm bf16 sve sve2"
)


def host() -> dict[str, Any]:
    """What hardware-specific ops depend on: machine, CPU features, ONNX Runtime's version."""
    features: set[str] = set()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("flags", "Features"):
                features = set(_FEATURES.split()) & set(value.split())
                break
    return {
        "machine": platform.machine(),
        "features": sorted(features),
        "onnxruntime": ort.__version__,
    }


class OrtBackend(NumpyBackend):
    """Values are OrtValues or numpy arrays; a sequence is a list of them."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._run_of: Callable[[int], Run] | None = None
        self._results = Results()

    def key(self, value: Any) -> Hashable | None:
        """Type, dimensions and strides of a tensor."""
        return super().key(_array_of(value))

    def layout(self, value: Any) -> Layout:
        """The layout of a copy of this tensor."""
        return super().layout(_array_of(value))

    def copier(self, view: Any) -> Callable[[Any], Any]:
        """A function that copies a tensor into `view`."""
        copy = super().copier(view)
        return lambda value: copy(_array_of(value))

    def from_numpy(self, array: Any) -> Any:
        """An OrtValue on the array's memory, on a copy where it is not contiguous."""
        return _ort_value_of(array) if isinstance(array, np.ndarray) else array

    def to_numpy(self, value: Any) -> Any:
        """An array on the tensor's memory."""
        return super().to_numpy(self._results.array(value))

    def share(self, arena: Arena) -> bool:
        """Sessions write results of static shape right where other processes read them."""
        self._results.arena = arena
        return True

    def place(self, value: Any) -> int | None:
        """The offset of a result that lies in shared memory."""
        return self._results.place(value)

    def worker(self, folder: Path, number: int) -> Run:
        """What maker `number` of model.py makes of the sessions in `folder`.

        On a machine that the artifact's segments were not made for, worker 0 runs the whole model
        and the others have nothing to do.
        """
        with self._lock:
            if self._run_of is None:
                self._run_of = _makers(folder, self._results)
        return self._run_of(number)


def make() -> OrtBackend:
    """A backend for artifacts whose workers are ONNX Runtime sessions."""
    return OrtBackend()


def _makers(folder: Path, results: Results) -> Callable[[int], Run]:
    model = load_model(folder)
    sessions = Sessions(folder, results)
    reason = _misfit(folder)
    if reason is None:
        return lambda number: model.WORKERS[number](sessions)
    if not hasattr(model, "PORTABLE"):
        raise ArtifactError(
            f"{folder} was compiled for another machine ({reason}): compile it again"
        )

    def make(number: int) -> Run:
        if number:
            return lambda port: None
        note = f"{folder} was compiled for another machine ({reason}): it runs on one worker"
        print(f"note: {note}, unfused; compile it here", file=sys.stderr)
        run: Run = model.PORTABLE(sessions)
        return run

    return make


def _misfit(folder: Path) -> str | None:
    """What of this machine differs from the one the segments were made on; None if they fit."""
    path = folder / HOST
    if not path.is_file():
        return None
    try:
        made_on = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{path} is damaged: {error}") from error
    here = host()
    for key in ("machine", "onnxruntime"):
        if made_on.get(key) != here[key]:
            return f"{key} {made_on.get(key)}, here {here[key]}"
    differing = sorted(set(made_on.get("features", ())) ^ set(here["features"]))
    return f"CPU features differ: {', '.join(differing)}" if differing else None


class Results:
    """Makes the values that sessions write into, in the arena of a child process if there is one.

    What lies in the arena is read there by other workers and by the caller, and never copied.
    """

    def __init__(self) -> None:
        self.arena: Arena | None = None
        self._made: dict[int, _Result] = {}

    def make(self, shape: Sequence[int], name: str) -> Any:
        """A value for results of this shape, of elements of this name in dtypes.TABLE."""
        offset = None
        if self.arena is None or name in _PACKED:
            value = ort.OrtValue.ortvalue_from_shape_and_type(shape, _ONNX_OF_NAME[name])
        else:
            dtype = numpy_dtype(CODES[name])
            nbytes = math.prod(shape) * dtype.itemsize
            offset = self.arena.allocate(nbytes)
            array = np.ndarray(shape, dtype, self.arena.memory(offset + nbytes), offset)
            value = _ort_value_of(array)
        self._made[id(value)] = _Result(value, offset)
        return value

    def place(self, value: Any) -> int | None:
        """The offset in the arena of a value that `make` made there."""
        made = self._made.get(id(value))
        return None if made is None or made.value is not value else made.offset

    def array(self, value: Any) -> Any:
        """A numpy array on a value's memory; of what `make` made, the same one every time."""
        made = self._made.get(id(value))
        if made is None or made.value is not value:
            return _array_of(value)
        if made.array is None:
            made.array = _array_of(value)
        return made.array


class _Result:
    """A value that sessions write into: where it lies in the arena, and an array on its memory."""

    __slots__ = ("array", "offset", "value")

    def __init__(self, value: Any, offset: int | None) -> None:
        self.value, self.offset = value, offset
        self.array: Any = None


class Sessions(Weights):
    """What a maker gets: weights as everywhere, and the sessions of the artifact's .onnx files.

    All sessions of an artifact allocate from one arena, so that what one frees is still in the
    cache when the next one takes it.
    """

    def __init__(self, folder: Path, results: Results) -> None:
        super().__init__(folder)
        self._results = results
        manifest = Manifest.load(folder, verify=False)
        wiring = manifest.wiring
        self._slots = wiring.in_flight
        self._threads = max(wiring.threads)
        self._alone = wiring.workers == 1
        # A caller in this process may still copy an output when the next request but K - 1 starts.
        fresh = self._slots > 1 and results.arena is None
        self._fresh = {spec.name for spec in manifest.outputs} if fresh else set()
        self._optimized = (folder / HOST).is_file()
        self._lock = threading.Lock()
        self._sessions: dict[str, Any] = {}
        share_allocator()

    def segment(self, file: str) -> Segment:
        """One place from which a segment is called; places may share a session."""
        with self._lock:
            if file not in self._sessions:
                self._sessions[file] = self._start(
                    file, self._threads, self._alone, self._optimized
                )
            return self._segment(file)

    def _segment(self, file: str) -> Segment:
        return Segment(self._sessions[file], self._slots, self._results, self._fresh)

    def model(self, file: str) -> Segment:
        """A whole model, alone in the process: it gets every core that nobody else was promised."""
        threads = self._threads if self._alone else cores()
        with self._lock:
            if file not in self._sessions:
                self._sessions[file] = self._start(file, threads, True, False)
            return self._segment(file)

    def _start(self, file: str, threads: int, alone: bool, optimized: bool) -> Any:
        """A session of `file`; `alone` it may keep its threads awake while it runs."""
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        if optimized:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if alone else "0")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        path = inside(self.folder, file)
        try:
            return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no class in common but this
            raise ArtifactError(f"{path} cannot be loaded: {error}") from error


def share_allocator() -> None:
    """Let sessions with `session.use_env_allocators` allocate from one arena."""
    info = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    ort.create_and_register_allocator(info, None)


class Segment:
    """A session with memory for its results: called with its inputs, it returns its outputs.

    With K requests in flight it has K sets of results and uses them in turn: a set is written again
    only when every worker is done with the request that used it before. Outputs named in `fresh`
    get new memory each time.
    """

    def __init__(
        self, session: Any, slots: int, results: Results, fresh: Collection[str] = ()
    ) -> None:
        values = (*session.get_inputs(), *session.get_outputs())
        if all(_element(value.type) is not None for value in values):
            self._sets = [_Bound(session, results, fresh).run for _ in range(slots)]
        else:
            self._sets = [_Plain(session).run] * slots
        self._turn = 0

    def __call__(self, *values: Any) -> Sequence[Any]:
        """Run the segment. The outputs are valid until the same set of results is used again."""
        self._turn = (self._turn + 1) % len(self._sets)
        return self._sets[self._turn](values)


class _Bound:
    """Runs a session on values that are bound to it; only what is not bound yet is bound anew."""

    def __init__(self, session: Any, results: Results, fresh: Collection[str]) -> None:
        self._binding = session.io_binding()
        self._session = session
        self._names = [value.name for value in session.get_inputs()]
        self._bound: list[Any] = [None] * len(self._names)
        self._results: list[Any] = []
        self._dynamic: list[tuple[int, str]] = []
        for index, value in enumerate(session.get_outputs()):
            result = None
            # An unknown rank is described as rank 0.
            static = value.shape and all(isinstance(dim, int) for dim in value.shape)
            if static and value.name not in fresh:
                result = results.make(value.shape, _element(value.type))
                self._binding.bind_ortvalue_output(value.name, result)
            else:
                self._binding.bind_output(value.name, "cpu")
                self._dynamic.append((index, value.name))
            self._results.append(result)

    def run(self, values: Sequence[Any]) -> Sequence[Any]:
        """The outputs of the session for these inputs."""
        bound = self._bound
        for index, value in enumerate(values):
            if value is not bound[index]:
                self._binding.bind_ortvalue_input(self._names[index], _ort_value_of(value))
                copied = isinstance(value, np.ndarray) and not value.flags.c_contiguous
                bound[index] = None if copied else value  # the same array may hold other numbers
        if not self._dynamic:
            self._session.run_with_iobinding(self._binding)
            return self._results
        for _, name in self._dynamic:
            self._binding.bind_output(name, "cpu")  # new memory: the old may have another size
        self._session.run_with_iobinding(self._binding)
        results = self._binding.get_outputs()
        return [kept or new for kept, new in zip(self._results, results, strict=True)]


class _Plain:
    """Runs a session that takes or gives sequences, optionals or strings, through numpy.

    ONNX Runtime takes types that numpy lacks as OrtValues only, and returns floats of 8 bits as
    bare bytes.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._names = [value.name for value in session.get_inputs()]
        self._bytes: list[tuple[int, Any]] = []
        for index, value in enumerate(session.get_outputs()):
            name = value.type.removeprefix("tensor(").removesuffix(")")
            if name.startswith("float8") and name in _ELEMENTS:
                self._bytes.append((index, numpy_dtype(CODES[_ELEMENTS[name][0]])))

    def run(self, values: Sequence[Any]) -> Sequence[Any]:
        """The outputs of the session for these inputs."""
        given = (
            _array_of(value) if isinstance(value, list) else _ort_value_of(value)
            for value in values
        )
        feeds = dict(zip(self._names, given, strict=True))
        results: list[Any] = self._session.run(None, feeds)
        for index, dtype in self._bytes:
            results[index] = results[index].view(dtype)
        return results


def _element(type: str) -> str | None:
    """The name of the elements of a numeric tensor type; None for every other type."""
    if not type.startswith("tensor("):
        return None
    found = _ELEMENTS.get(type.removeprefix("tensor(").removesuffix(")"))
    return None if found is None else found[0]


def _ort_value_of(value: Any) -> Any:
    """The OrtValue of a numeric array, on its memory where it is contiguous; others stay."""
    if not isinstance(value, np.ndarray) or value.dtype.kind in "OUST":
        return value
    if not value.flags.c_contiguous or not value.dtype.isnative:
        return _ort_value_of(np.ascontiguousarray(value, value.dtype.newbyteorder("=")))
    raw, number = _raw_and_number(value.dtype)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(value.view(raw), number)


@cache
def _raw_and_number(dtype: np.dtype[Any]) -> tuple[np.dtype[Any], int]:
    """How ONNX Runtime takes elements of this type: as bare bytes, and its number in ONNX."""
    code = code_of(dtype)
    name = None if code is None else TABLE[code].name
    if name not in _ONNX_OF_NAME or name in _PACKED:
        raise TypeError(f"ONNX Runtime takes no array of {dtype}")
    return np.dtype(f"u{dtype.itemsize}"), _ONNX_OF_NAME[name]


def _array_of(value: Any) -> Any:
    """A numpy array on the memory of an OrtValue; lists item by item; everything else stays."""
    if isinstance(value, list):
        return [_array_of(item) for item in value]
    if not isinstance(value, ort.OrtValue):
        return value
    name = _NAME_OF_ONNX.get(value.element_type()) if value.is_tensor() else None
    if name is None or name in _PACKED:
        raise TypeError(f"numpy cannot hold a value of type {value.data_type()}")
    memory = (ctypes.c_char * value.tensor_size_in_bytes()).from_address(value.data_ptr())
    array = np.frombuffer(memory, numpy_dtype(CODES[name])).reshape(value.shape())
    memory._owner = value  # the array keeps the memory, and this the value
    return array
