"""Small PyTorch modules of many kinds, and their ONNX exports by both of PyTorch's exporters.

Each case names a module, example inputs, and further inputs that take another size or another
branch through the same export. `export(case, exporter)` gives the model; `expected(case, inputs)`
what PyTorch makes of these inputs.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from tests.exported.modules import (
    BranchedMLP,
    Conditional,
    ConvNet,
    Decoder,
    Detector,
    Encoder,
    Quantized,
    Ranker,
    Recurrent,
    Scripted,
    TwoTowers,
    UNet,
    integers,
    normal,
)

DYNAMO = "dynamo"
SCRIPT = "script"
EXPORTERS = (DYNAMO, SCRIPT)
"""torch.export's exporter and the older one, which traces or takes TorchScript."""

OPSETS = {DYNAMO: 21, SCRIPT: 17}

Sizes = dict[str, int]


@dataclass(frozen=True, eq=False)
class Case:
    """A module to export, and inputs to export and to try it with."""

    name: str
    module: Callable[[], nn.Module]
    inputs: Callable[..., tuple[Tensor, ...]]
    """Example inputs by size, each size with a default; `seed` draws others."""
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    dynamic_axes: dict[str, dict[int, str]] = field(default_factory=dict)
    further: tuple[Sizes, ...] = ({"seed": 1},)
    """Arguments of `inputs` that the same export must also get right."""
    exporters: tuple[str, ...] = EXPORTERS
    dynamic_in: tuple[str, ...] = EXPORTERS
    """Exporters that keep the dynamic axes; others cannot, or take long."""
    scripted: bool = False
    """Whether the module is compiled by torch.jit.script before the export."""

    def __str__(self) -> str:
        return self.name

    def axes(self, exporter: str) -> dict[str, dict[int, str]]:
        """The dynamic axes of this export, by input and output."""
        return self.dynamic_axes if exporter in self.dynamic_in else {}

    def sizes(self, exporter: str) -> tuple[Sizes, ...]:
        """Arguments of `inputs` that this export must get right."""
        static = self.dynamic_axes and not self.axes(exporter)
        return ({}, {"seed": 1}) if static else ({}, *self.further)


def images(channels: int, *size: int) -> Callable[..., tuple[Tensor, ...]]:
    """Example inputs: one batch of images."""

    def inputs(batch: int = 2, seed: int = 0) -> tuple[Tensor, ...]:
        return (normal(batch, channels, *size, seed=seed),)

    return inputs


def encoder_inputs(batch: int = 2, length: int = 6, seed: int = 0) -> tuple[Tensor, ...]:
    mask = torch.arange(length).expand(batch, length) < length - torch.arange(batch)[:, None]
    return integers(50, batch, length, seed=seed), mask.long()


def decoder_inputs(
    batch: int = 2, new: int = 3, past: int = 4, seed: int = 0
) -> tuple[Tensor, ...]:
    keys = normal(batch, 2, past, 8, seed=seed)
    values = normal(batch, 2, past, 8, seed=seed + 1)
    return integers(50, batch, new, seed=seed), keys, values


def recurrent_inputs(batch: int = 2, length: int = 5, seed: int = 0) -> tuple[Tensor, ...]:
    return normal(batch, length, 6, seed=seed), normal(4, batch, 8, seed=seed + 1)


def unet_inputs(
    batch: int = 2, height: int = 16, width: int = 24, seed: int = 0
) -> tuple[Tensor, ...]:
    return (normal(batch, 1, height, width, seed=seed),)


def conditional_inputs(sign: int = 1, batch: int = 3, seed: int = 0) -> tuple[Tensor, ...]:
    return (sign * normal(batch, 6, seed=seed).abs(),)


def scripted_inputs(steps: int = 3, batch: int = 2, seed: int = 0) -> tuple[Tensor, ...]:
    return normal(batch, 6, seed=seed), torch.tensor(steps)


def tower_inputs(
    images: int = 2, texts: int = 3, length: int = 5, seed: int = 0
) -> tuple[Tensor, ...]:
    return normal(images, 3, 8, 8, seed=seed), integers(40, texts, length, seed=seed)


def ranker_inputs(batch: int = 4, seed: int = 0) -> tuple[Tensor, ...]:
    bags = (integers(rows, batch, 3, seed=seed + rows) for rows in (30, 50, 20))
    return normal(batch, 5, seed=seed), *bags


def row_inputs(batch: int = 2, seed: int = 0) -> tuple[Tensor, ...]:
    return (normal(batch, 12, seed=seed),)


def _recurrent(name: str, layer: type[nn.RNNBase]) -> Case:
    return Case(
        name,
        lambda: Recurrent(layer),
        recurrent_inputs,
        ("x", "hidden"),
        ("scores", "last"),
        {
            "x": {0: "batch", 1: "length"},
            "hidden": {1: "batch"},
            "scores": {0: "batch", 1: "length"},
            "last": {1: "batch"},
        },
        ({"batch": 3, "length": 8}, {"seed": 1}),
        dynamic_in=(SCRIPT,),
    )


CASES = (
    Case(
        "cnn",
        ConvNet,
        images(3, 20, 20),
        ("image",),
        ("probabilities",),
        {"image": {0: "batch"}, "probabilities": {0: "batch"}},
        ({"batch": 3}, {"batch": 5, "seed": 1}),
    ),
    Case(
        "encoder",
        Encoder,
        encoder_inputs,
        ("ids", "mask"),
        ("states",),
        {name: {0: "batch", 1: "length"} for name in ("ids", "mask", "states")},
        ({"batch": 3, "length": 9}, {"batch": 2, "length": 4, "seed": 1}),
    ),
    Case(
        "decoder",
        Decoder,
        decoder_inputs,
        ("ids", "keys", "values"),
        ("logits", "new_keys", "new_values"),
        {
            "ids": {0: "batch", 1: "new"},
            "keys": {0: "batch", 2: "past"},
            "values": {0: "batch", 2: "past"},
            "logits": {0: "batch", 1: "new"},
            "new_keys": {0: "batch", 2: "total"},
            "new_values": {0: "batch", 2: "total"},
        },
        ({"batch": 3, "new": 2, "past": 7}, {"seed": 1}),
    ),
    _recurrent("lstm", nn.LSTM),
    _recurrent("gru", nn.GRU),
    Case(
        "unet",
        UNet,
        unet_inputs,
        ("image",),
        ("mask",),
        {
            "image": {0: "batch", 2: "height", 3: "width"},
            "mask": {0: "batch", 2: "height", 3: "width"},
        },
        ({"batch": 1, "height": 24, "width": 20},),
    ),
    Case(
        "detector",
        Detector,
        lambda seed=0: (normal(1, 3, 24, 24, seed=seed),),
        ("image",),
        ("boxes", "scores", "labels"),
    ),
    Case(
        "conditional",
        Conditional,
        conditional_inputs,
        ("x",),
        ("y",),
        further=({"sign": -1}, {"seed": 1}),
        exporters=(DYNAMO,),
    ),
    Case(
        "scripted",
        Scripted,
        scripted_inputs,
        ("x", "steps"),
        ("y",),
        {"x": {0: "batch"}, "y": {0: "batch"}},
        ({"steps": 0}, {"steps": 6, "batch": 4, "seed": 1}),
        exporters=(SCRIPT,),
        scripted=True,
    ),
    Case(
        "quantized",
        Quantized,
        images(3, 8, 8),
        ("image",),
        ("y",),
        {"image": {0: "batch"}, "y": {0: "batch"}},
        ({"batch": 5, "seed": 1},),
        dynamic_in=(SCRIPT,),
    ),
    Case(
        "two-towers",
        TwoTowers,
        tower_inputs,
        ("images", "texts"),
        ("similarity", "best"),
        {
            "images": {0: "images"},
            "texts": {0: "texts", 1: "length"},
            "similarity": {0: "images", 1: "texts"},
            "best": {0: "images"},
        },
        ({"images": 4, "texts": 2, "length": 7},),
    ),
    Case(
        "ranker",
        Ranker,
        ranker_inputs,
        ("dense", "first", "second", "third"),
        ("scores",),
        {name: {0: "batch"} for name in ("dense", "first", "second", "third", "scores")},
        ({"batch": 6, "seed": 1},),
    ),
    Case(
        "branched-mlp",
        BranchedMLP,
        row_inputs,
        ("x",),
        ("y",),
        {"x": {0: "batch"}, "y": {0: "batch"}},
        ({"batch": 7, "seed": 1},),
    ),
)

EXPECTED_WARNINGS: tuple[tuple[type[Warning], str], ...] = (
    (FutureWarning, r"`isinstance\(treespec, LeafSpec\)` is deprecated"),
    (DeprecationWarning, "You are using the legacy TorchScript-based ONNX export"),
    (DeprecationWarning, "The feature will be removed"),
    (DeprecationWarning, "`torch.jit.script` is deprecated"),
    (UserWarning, r"The tensor attributes self\.layers\._flat_weights"),
    (UserWarning, "Exporting a model to ONNX with a batch_size other than 1"),
    (UserWarning, "Exporting aten::index operator of advanced indexing"),
    (torch.jit.TracerWarning, "Converting a tensor to a Python boolean"),
)
"""What the exporters say about themselves and about recurrent layers, which concerns nobody here.

The last one comes from checks inside of torch.nn.LSTM and GRU.
"""

PAIRS = tuple((case, exporter) for case in CASES for exporter in case.exporters)
"""Every export there is."""


@cache
def built(case: Case) -> nn.Module:
    """The module in evaluation mode, with weights that depend on nothing but the case."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return case.module().eval()


def arrays(case: Case, **sizes: int) -> dict[str, np.ndarray]:
    """Inputs for a runtime, by name."""
    values = (value.numpy() for value in case.inputs(**sizes))
    return dict(zip(case.input_names, values, strict=True))


def expected(case: Case, **sizes: int) -> dict[str, np.ndarray]:
    """What PyTorch computes from these inputs, by name of the output."""
    with torch.no_grad():
        results = built(case)(*case.inputs(**sizes))
    results = results if isinstance(results, tuple) else (results,)
    return dict(zip(case.output_names, (value.numpy() for value in results), strict=True))


@cache
def export(case: Case, exporter: str) -> onnx.ModelProto:
    """Export the case's module with one of its exporters, once per process: do not change it."""
    write = {DYNAMO: _by_dynamo, SCRIPT: _by_script}[exporter]
    with warnings.catch_warnings():
        for category, message in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message, category)
        return write(case)


def _by_dynamo(case: Case) -> onnx.ModelProto:
    axes = case.axes(DYNAMO)
    dynamic = tuple(
        dict.fromkeys(axes.get(name, {}), torch.export.Dim.DYNAMIC) for name in case.input_names
    )
    program = torch.onnx.export(
        built(case),
        case.inputs(),
        input_names=case.input_names,
        output_names=case.output_names,
        dynamic_shapes=dynamic if axes else None,
        opset_version=OPSETS[DYNAMO],
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def _by_script(case: Case) -> onnx.ModelProto:
    module = built(case)
    file = io.BytesIO()
    torch.onnx.export(
        torch.jit.script(module) if case.scripted else module,
        case.inputs(),
        file,
        input_names=case.input_names,
        output_names=case.output_names,
        dynamic_axes=case.axes(SCRIPT),
        opset_version=OPSETS[SCRIPT],
        dynamo=False,
    )
    return onnx.load_from_string(file.getvalue())
