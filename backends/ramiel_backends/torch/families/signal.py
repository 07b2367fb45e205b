"""Fourier transforms, windows and spectrograms."""

from __future__ import annotations

from ramiel_backends.torch.families._calls import call, every
from ramiel_backends.torch.families._types import constant_number, one_number, torch_type
from ramiel_backends.torch.table import Site, emits
from ramiel_ir.ir import DType


@emits("DFT", since=17)
def dft_17(site: Site) -> str:
    return _dft(site, str(site.attribute("axis", 1)))


@emits("DFT", since=20)
def dft(site: Site) -> str:
    if not site.has(2):
        return _dft(site, "-2")
    axis = one_number(site.constant(2))
    return _dft(site, f"int({site[2]})" if axis is None else str(axis))


def _dft(site: Site, axis: str) -> str:
    operands = [site[0], *([site[1]] if site.has(1) else [])]
    return call(
        "signal.dft",
        *operands,
        *([] if axis == "-2" else [f"axis={axis}"]),
        inverse=(bool(site.attribute("inverse", 0)), False),
        onesided=(bool(site.attribute("onesided", 0)), False),
    )


@emits("STFT", since=17)
def stft(site: Site) -> str:
    onesided = bool(site.attribute("onesided", 1))
    return call("signal.stft", *every(site), onesided=(onesided, True))


def _window(site: Site, function: str, *shape: str) -> str:
    dtype = DType.from_onnx(site.attribute("output_datatype", 1))
    direct = dtype in (DType.F32, DType.F64)
    periodic = bool(site.attribute("periodic", 1))
    # torch takes the parameters of the shape only after `periodic`
    operands = [constant_number(site, 0), *([str(periodic), *shape] if shape else [])]
    if not shape and not periodic:
        operands.append("periodic=False")
    if dtype is DType.F64:
        operands.append("dtype=torch.float64")
    expression = call(f"torch.{function}", *operands)
    return expression if direct else f"{expression}.to({torch_type(dtype)})"


@emits("HannWindow", since=17)
def hann_window(site: Site) -> str:
    return _window(site, "hann_window")


@emits("HammingWindow", since=17)
def hamming_window(site: Site) -> str:
    return _window(site, "hamming_window", "25 / 46", "21 / 46")


@emits("BlackmanWindow", since=17)
def blackman_window(site: Site) -> str:
    return _window(site, "blackman_window")


@emits("MelWeightMatrix", since=17)
def mel_weight_matrix(site: Site) -> str:
    dtype = DType.from_onnx(site.attribute("output_datatype", 1))
    typed = [] if dtype is DType.F32 else [f"dtype={torch_type(dtype)}"]
    return call("signal.mel_weight_matrix", *every(site), *typed)
