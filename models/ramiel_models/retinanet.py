"""RetinaNet: a feature pyramid on ResNet-50, and two heads that every pyramid level shares."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from ramiel_models.builder import Dim, Net, paper
from ramiel_models.layers import conv, conv_relu, upsample
from ramiel_models.resnet import backbone

PYRAMID = 256
"""Channels of every pyramid level and of the heads' hidden layers."""

HIDDEN_LAYERS = 4

CLASSES, ANCHORS, BOX = 80, 9, 4


def pyramid(net: Net, c3: ir.Value, c4: ir.Value, c5: ir.Value) -> dict[str, ir.Value]:
    """Section 4 and Lin et al. 2016 (arXiv:1612.03144), figure 3: levels P3 to P7."""
    p5 = conv(net, c5, "lateral5", PYRAMID, gain=1.0)
    p4 = net.op("Add", conv(net, c4, "lateral4", PYRAMID, gain=1.0), upsample(net, p5, 2))
    p3 = net.op("Add", conv(net, c3, "lateral3", PYRAMID, gain=1.0), upsample(net, p4, 2))
    p6 = conv(net, c5, "p6", PYRAMID, 3, stride=2, gain=1.0)
    return {
        "p3": conv(net, p3, "p3", PYRAMID, 3, gain=1.0),
        "p4": conv(net, p4, "p4", PYRAMID, 3, gain=1.0),
        "p5": conv(net, p5, "p5", PYRAMID, 3, gain=1.0),
        "p6": p6,
        "p7": conv(net, net.op("Relu", p6), "p7", PYRAMID, 3, stride=2),
    }


def head(net: Net, x: ir.Value, name: str, outputs: int) -> ir.Value:
    """Figure 3(c, d): four 3x3 convolutions with ReLU, and one to `outputs` per anchor."""
    with net.scope(name):
        for layer in range(HIDDEN_LAYERS):
            x = conv_relu(net, x, f"conv{layer}", PYRAMID, 3)
        return conv(net, x, "out", ANCHORS * outputs, 3)


@paper("Lin et al. 2017, Focal loss for dense object detection, arXiv:1708.02002")
def retinanet(
    *, batch: Dim = 1, image_size: int = 512, seed: int = 0, opset: int = 21
) -> onnx.ModelProto:
    """RetinaNet with a ResNet-50 backbone.

    Lin et al., "Focal loss for dense object detection", 2017, arXiv:1708.02002, section 4. Where
    they differ this follows Detectron2: P6 is computed from C5, where torchvision's first version
    takes P5, and the backbone is torchvision's. The heads' weights are shared by all levels and
    their results left raw: no sigmoid, anchor decoding or suppression. `image_size` must be a
    multiple of 32.

    image: f32[batch, 3, image_size, image_size] → for each level n of 3 to 7, with
    s = image_size / 2ⁿ: logits.pn: f32[batch, 720, s, s] and boxes.pn: f32[batch, 36, s, s].
    """
    net = Net("retinanet", seed=seed, opset=opset)
    x = net.input("image", [batch, 3, image_size, image_size], low=-2, high=2)
    with net.scope("backbone"):
        _, c3, c4, c5 = backbone(net, x)
    with net.scope("fpn"):
        levels = pyramid(net, c3, c4, c5)
    for name, level in levels.items():
        with net.scope(name, shared_weights=True):
            logits = head(net, level, "class", CLASSES)
            boxes = head(net, level, "box", BOX)
        net.output(logits, f"logits.{name}")
        net.output(boxes, f"boxes.{name}")
    return net.finish()
