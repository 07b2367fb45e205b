"""PyTorch modules as a source: the only border to `torch.onnx`."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import onnx

from ramiel_ir.errors import ModelError

_log = logging.getLogger("ramiel_ir")
_OPSET = 20  # the newest that both exporters write


def export(
    module: Any,
    example_inputs: Sequence[Any] | Mapping[str, Any],
    dynamic_shapes: Any = None,
) -> onnx.ModelProto:
    """The ONNX model of a `torch.nn.Module`, by the dynamo exporter, else by tracing.

    `example_inputs` are positional arguments, or keyword arguments as a mapping; `dynamic_shapes`
    is what `torch.export` takes. What is exported is the module in eval mode, and its modes are
    afterwards as they were. Raises `ModelError` with both exporters' reasons.
    """
    import torch

    arguments = () if isinstance(example_inputs, Mapping) else tuple(example_inputs)
    keywords = dict(example_inputs) if isinstance(example_inputs, Mapping) else {}
    reasons = []
    with warnings.catch_warnings(), torch.no_grad(), _in_eval_mode(module):
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                module,
                arguments,
                kwargs=keywords,
                dynamo=True,
                opset_version=_OPSET,
                dynamic_shapes=dynamic_shapes,
                verbose=False,
            )
            assert program is not None
            model: onnx.ModelProto = program.model_proto
            return model
        except Exception as error:  # whatever stands in the dynamo exporter's way
            reasons.append(f"dynamo: {_first_line(error)}")
        if dynamic_shapes is None:
            _log.warning("torch.onnx's dynamo exporter failed; tracing the module instead")
            try:
                buffer = io.BytesIO()
                torch.onnx.export(
                    module,
                    arguments,
                    buffer,
                    kwargs=keywords,
                    dynamo=False,
                    opset_version=_OPSET,
                )
                return onnx.load_from_string(buffer.getvalue())
            except Exception as error:
                reasons.append(f"tracing: {_first_line(error)}")
    raise ModelError(f"torch.onnx cannot export this module ({'; '.join(reasons)})")


@contextmanager
def _in_eval_mode(module: Any) -> Iterator[None]:
    """Every part in eval mode, and then in its own again; frozen scripts have none."""
    modes = [(part, part.training) for part in module.modules() if hasattr(part, "training")]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
