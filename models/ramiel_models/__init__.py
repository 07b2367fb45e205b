"""The model zoo: published architectures in ONNX Script, with seeded random weights.

`MODELS` names every model without importing any; `build` imports one family and builds from it.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

__all__ = ["MODELS", "UnknownModelError", "build", "load"]

MODELS: dict[str, str] = {
    "squeezenet": "ramiel_models.squeezenet:squeezenet",
    "googlenet": "ramiel_models.googlenet:googlenet",
    "inception-v3": "ramiel_models.inception:inception_v3",
    "inception-v4": "ramiel_models.inception:inception_v4",
    "resnet50": "ramiel_models.resnet:resnet50",
    "densenet121": "ramiel_models.densenet:densenet121",
    "nasnet-mobile": "ramiel_models.nasnet:nasnet_mobile",
    "nasnet-large": "ramiel_models.nasnet:nasnet_large",
    "mobilenet-v3-small": "ramiel_models.mobilenet:mobilenet_v3_small",
    "shufflenet-v2": "ramiel_models.shufflenet:shufflenet_v2",
    "hrnet-w18-small": "ramiel_models.hrnet:hrnet_w18_small",
    "retinanet": "ramiel_models.retinanet:retinanet",
    "yolov5n": "ramiel_models.yolo:yolov5n",
    "yolov5s": "ramiel_models.yolo:yolov5s",
    "bert-base": "ramiel_models.bert:bert_base",
    "bert-small": "ramiel_models.bert:bert_small",
    "dlrm": "ramiel_models.dlrm:dlrm",
    "bilstm": "ramiel_models.bilstm:bilstm",
    "clip-tiny": "ramiel_models.clip:clip_tiny",
}
"""Zoo name → `module:function` of its builder, in the order in which they are listed."""


class UnknownModelError(ValueError):
    """A name that is not in the zoo; the message lists those that are."""

    def __init__(self, name: str) -> None:
        super().__init__(f"unknown model {name!r}; there are: {', '.join(MODELS)}")


def load(name: str) -> Callable[..., onnx.ModelProto]:
    """Return the function that builds zoo model `name`; only its family's module is imported.

    The function's docstring begins with the model's title, and its `paper` attribute names the
    source paper in one line.
    """
    if name not in MODELS:
        raise UnknownModelError(name)
    module, _, function = MODELS[name].partition(":")
    return getattr(import_module(module), function)  # type: ignore[no-any-return]


def build(name: str, **options: Any) -> onnx.ModelProto:
    """Build zoo model `name`; `options` are those of its builder (batch, seed, opset, …)."""
    return load(name)(**options)
