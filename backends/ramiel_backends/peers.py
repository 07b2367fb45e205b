"""What we measure ourselves against. Each peer runs the same .onnx file."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ramiel_ir.bench import Peer

PEERS = {
    "onnxruntime": "ramiel_backends.peers:OnnxRuntime",
    "openvino": "ramiel_backends.peers:OpenVino",
}


class OnnxRuntime(Peer):
    """ONNX Runtime with all optimisations, one session."""

    name = "onnxruntime"

    def start(self, model: Path, threads: int) -> Callable[[Mapping[str, Any]], Any]:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.force_spinning_stop", "1")
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return lambda inputs: session.run(None, dict(inputs))


class OpenVino(Peer):
    """OpenVINO in latency mode."""

    name = "openvino"

    @staticmethod
    def is_installed() -> bool:
        return importlib.util.find_spec("openvino") is not None

    def start(self, model: Path, threads: int) -> Callable[[Mapping[str, Any]], Any]:
        import openvino

        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
        return lambda inputs: request.infer(dict(inputs))
