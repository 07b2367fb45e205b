"""What we measure ourselves against. Each peer runs the same .onnx file.

The two torch peers run the module that the file was exported from; where there is none, our
sequential emission: constants folded, activations that an exporter spelt out as PyTorch's own, and
otherwise a call for each ONNX op.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ramiel_ir.bench import MODULE, Peer

PEERS = {
    "onnxruntime": "ramiel_backends.peers:OnnxRuntime",
    "onnxruntime-parallel": "ramiel_backends.peers:OnnxRuntimeParallel",
    "openvino": "ramiel_backends.peers:OpenVino",
    "torch-compile": "ramiel_backends.peers:TorchCompile",
    "torch-eager": "ramiel_backends.peers:TorchEager",
}

Run = Callable[[Mapping[str, Any]], Any]


class OnnxRuntime(Peer):
    """ONNX Runtime with all optimisations, one session, ops in sequence."""

    name = "onnxruntime"

    def start(self, model: Path, threads: int) -> Run:
        return _session(model, threads, parallel=False)


class OnnxRuntimeParallel(Peer):
    """ONNX Runtime's own inter-op parallelism: ORT_PARALLEL, one intra-op thread per op."""

    name = "onnxruntime-parallel"

    @staticmethod
    def thread_counts(cores: int) -> list[int]:
        return [cores] if cores > 1 else []

    def start(self, model: Path, threads: int) -> Run:
        return _session(model, threads, parallel=True)


def _session(model: Path, threads: int, *, parallel: bool) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    if parallel:
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
        options.inter_op_num_threads = threads
    options.intra_op_num_threads = 1 if parallel else threads
    # Threads that spin after a run would disturb whoever runs next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, dict(inputs))


class OpenVino(Peer):
    """OpenVINO in latency mode, float32."""

    name = "openvino"

    @staticmethod
    def is_installed() -> bool:
        return importlib.util.find_spec("openvino") is not None

    def start(self, model: Path, threads: int) -> Run:
        import openvino

        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
        return lambda inputs: request.infer(dict(inputs))


class TorchEager(Peer):
    """PyTorch in eager mode."""

    name = "torch-eager"

    @staticmethod
    def is_installed() -> bool:
        return importlib.util.find_spec("torch") is not None

    def start(self, model: Path, threads: int) -> Run:
        return _torch(model, threads, compiled=False)


class TorchCompile(TorchEager):
    """torch.compile, with the default backend and static shapes."""

    name = "torch-compile"

    @staticmethod
    def thread_counts(cores: int) -> list[int]:
        """Every core: compiling takes a minute each time."""
        return [cores]

    def start(self, model: Path, threads: int) -> Run:
        return _torch(model, threads, compiled=True)


class _Port:
    """What a worker's function talks to where there is nobody else."""

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        self.inputs = inputs
        self.outputs: dict[str, Any] = {}

    def input(self, name: str, sample: int = 0) -> Any:
        return self.inputs[name]

    def output(self, name: str, value: Any, sample: int = 0) -> None:
        self.outputs[name] = value


def _torch(model: Path, threads: int, *, compiled: bool) -> Run:
    import torch

    from ramiel_backends.runtime import backend_torch
    from ramiel_backends.runtime.backend import convert

    torch.set_num_threads(threads)
    backend = backend_torch.make()
    path = model.with_name(MODULE)
    if path.is_file():
        # We pickled it ourselves, a moment ago and for this process.
        module, by_keyword = torch.load(path, weights_only=False)
        forward = module.eval()
    else:
        forward, by_keyword = _emission(model, backend.weight), False
    function = _Compiled(forward) if compiled else forward

    def run(inputs: Mapping[str, Any]) -> Any:
        with torch.inference_mode():
            given = {name: convert(value, backend.from_numpy) for name, value in inputs.items()}
            return function(**given) if by_keyword else function(*given.values())

    return run


class _Compiled:
    """What torch.compile makes of a function; where its pattern matcher fails, without that.

    torch 2.13 takes some attention for a pattern of its own and then refuses the operands' shapes.
    """

    def __init__(self, forward: Callable[..., Any]) -> None:
        import torch

        self._forward = forward
        self._function = torch.compile(forward, dynamic=False)

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        import torch
        from torch._dynamo.exc import BackendCompilerFailed

        try:
            return self._function(*inputs, **named)
        except BackendCompilerFailed:
            torch._dynamo.reset()
            options = {"pattern_matcher": False}
            self._function = torch.compile(self._forward, dynamic=False, options=options)
            return self._function(*inputs, **named)


def _emission(model: Path, weight: Callable[[Any], Any]) -> Callable[..., dict[str, Any]]:
    """The worker function of our emission without passes, called directly."""
    from ramiel_backends.runtime.weights import Weights
    from ramiel_ir import driver

    # Beside the model, whose folder goes when everything is measured.
    folder = Path(tempfile.mkdtemp(dir=model.parent)) / "emitted"
    done = driver.compile(model, folder, backend="torch", passes="fold,dce,sequential", workers=1)
    names = [value.name for value in done.graph.inputs]
    sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location("emitted_model", folder / "model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # torch.compile looks it up there
    spec.loader.exec_module(module)
    worker = module.WORKERS[0](Weights(folder, weight))

    def forward(*inputs: Any) -> dict[str, Any]:
        port = _Port(dict(zip(names, inputs, strict=True)))
        worker(port)
        return port.outputs

    return forward
