"""What each block gives, as (channels, height, width), against the papers."""

from __future__ import annotations

import pytest

import ramiel_models
from tests.models.branches import shapes

SHAPES = {
    # Iandola et al. 2016, Table 1, whose sizes are those of images of 227 pixels.
    "squeezenet": {
        "conv1.relu": (96, 111, 111),
        "maxpool": (96, 55, 55),
        "fire2.concat": (128, 55, 55),
        "fire3.concat": (128, 55, 55),
        "fire4.concat": (256, 55, 55),
        "fire4.maxpool": (256, 27, 27),
        "fire5.concat": (256, 27, 27),
        "fire6.concat": (384, 27, 27),
        "fire7.concat": (384, 27, 27),
        "fire8.concat": (512, 27, 27),
        "fire8.maxpool": (512, 13, 13),
        "fire9.concat": (512, 13, 13),
        "conv10.relu": (1000, 13, 13),
        "probabilities": (1000,),
    },
    # Szegedy et al. 2014, Table 1.
    "googlenet": {
        "conv1.relu": (64, 112, 112),
        "maxpool": (64, 56, 56),
        "conv2.relu": (192, 56, 56),
        "maxpool_1": (192, 28, 28),
        "inception3a.concat": (256, 28, 28),
        "inception3b.concat": (480, 28, 28),
        "inception3b.maxpool_1": (480, 14, 14),
        "inception4a.concat": (512, 14, 14),
        "inception4b.concat": (512, 14, 14),
        "inception4c.concat": (512, 14, 14),
        "inception4d.concat": (528, 14, 14),
        "inception4e.concat": (832, 14, 14),
        "inception4e.maxpool_1": (832, 7, 7),
        "inception5a.concat": (832, 7, 7),
        "inception5b.concat": (1024, 7, 7),
        "pool": (1024, 1, 1),
        "probabilities": (1000,),
    },
    # Szegedy et al. 2015, Table 1: the inputs of its rows.
    "inception-v3": {
        "stem.conv0.relu": (32, 149, 149),
        "stem.conv1.relu": (32, 147, 147),
        "stem.conv2.conv0.relu": (64, 147, 147),
        "stem.maxpool": (64, 73, 73),
        "stem.maxpool_1": (192, 35, 35),
        "a2.concat": (288, 35, 35),
        "reduction_a.concat": (768, 17, 17),
        "b3.concat": (768, 17, 17),
        "reduction_b.concat": (1280, 8, 8),
        "c1.concat": (2048, 8, 8),
        "pool": (2048, 1, 1),
    },
    # Szegedy et al. 2016, figures 3 (stem) and 9.
    "inception-v4": {
        "stem.concat": (160, 73, 73),
        "stem.concat_1": (192, 71, 71),
        "stem.concat_2": (384, 35, 35),
        "a3.concat": (384, 35, 35),
        "reduction_a.concat": (1024, 17, 17),
        "b6.concat": (1024, 17, 17),
        "reduction_b.concat": (1536, 8, 8),
        "c2.concat": (1536, 8, 8),
        "pool": (1536, 1, 1),
    },
    # He et al. 2015, Table 1.
    "resnet50": {
        "conv1.relu": (64, 112, 112),
        "layer1.2.relu": (256, 56, 56),
        "layer2.3.relu": (512, 28, 28),
        "layer3.5.relu": (1024, 14, 14),
        "layer4.2.relu": (2048, 7, 7),
        "logits": (1000,),
    },
    # Huang et al. 2016, Table 1.
    "densenet121": {
        "conv0.relu": (64, 112, 112),
        "maxpool": (64, 56, 56),
        "denseblock1.layer6.concat": (256, 56, 56),
        "transition1.averagepool": (128, 28, 28),
        "denseblock2.layer12.concat": (512, 28, 28),
        "transition2.averagepool": (256, 14, 14),
        "denseblock3.layer24.concat": (1024, 14, 14),
        "transition3.averagepool": (512, 7, 7),
        "denseblock4.layer16.concat": (1024, 7, 7),
        "pool": (1024, 1, 1),
    },
    # Zoph et al. 2017: 4 @ 1056 is said of the last line (section 3).
    "nasnet-mobile": {
        "stem_cell1.out": (88, 28, 28),
        "cell3.out": (264, 28, 28),
        "reduction0.out": (352, 14, 14),
        "cell7.out": (528, 14, 14),
        "reduction1.out": (704, 7, 7),
        "cell11.out": (1056, 7, 7),
    },
    # Zoph et al. 2017: 6 @ 4032 is said of the last line (section 3).
    "nasnet-large": {
        "stem_cell0.out": (168, 83, 83),
        "stem_cell1.out": (336, 42, 42),
        "cell5.out": (1008, 42, 42),
        "reduction0.out": (1344, 21, 21),
        "cell11.out": (2016, 21, 21),
        "reduction1.out": (2688, 11, 11),
        "cell17.out": (4032, 11, 11),
    },
    # Howard et al. 2019, Table 2: the inputs of its rows.
    "mobilenet-v3-small": {
        "stem.hardswish": (16, 112, 112),
        "bneck0.project.bn": (16, 56, 56),
        "bneck1.project.bn": (24, 28, 28),
        "bneck2.add": (24, 28, 28),
        "bneck3.project.bn": (40, 14, 14),
        "bneck4.add": (40, 14, 14),
        "bneck5.add": (40, 14, 14),
        "bneck6.project.bn": (48, 14, 14),
        "bneck7.add": (48, 14, 14),
        "bneck8.project.bn": (96, 7, 7),
        "bneck9.add": (96, 7, 7),
        "bneck10.add": (96, 7, 7),
        "head.hardswish": (576, 7, 7),
        "pool": (576, 1, 1),
        "hardswish": (1024,),
    },
    # Ma et al. 2018, Table 5, 1x.
    "shufflenet-v2": {
        "conv1.relu": (24, 112, 112),
        "maxpool": (24, 56, 56),
        "stage2.3.concat": (116, 28, 28),
        "stage3.7.concat": (232, 14, 14),
        "stage4.3.concat": (464, 7, 7),
        "conv5.relu": (1024, 7, 7),
        "pool": (1024, 1, 1),
    },
    # Wang et al. 2019, section 3: strides 4 to 32, widths C to 8C with C = 16; the head's are the
    # authors' code's.
    "hrnet-w18-small": {
        "stage4.fuse0.relu": (16, 56, 56),
        "stage4.fuse1.relu": (32, 28, 28),
        "stage4.fuse2.relu": (64, 14, 14),
        "stage4.fuse3.relu": (128, 7, 7),
        "head.join0.add": (256, 28, 28),
        "head.join1.add": (512, 14, 14),
        "head.join2.add": (1024, 7, 7),
        "head.final.relu": (2048, 7, 7),
    },
    # Lin et al. 2017, section 4: level l has stride 2^l; K·A = 720 scores and 4·A = 36 offsets.
    "retinanet": {
        "logits.p3": (720, 64, 64),
        "logits.p4": (720, 32, 32),
        "logits.p5": (720, 16, 16),
        "logits.p6": (720, 8, 8),
        "logits.p7": (720, 4, 4),
        "boxes.p3": (36, 64, 64),
        "boxes.p4": (36, 32, 32),
        "boxes.p5": (36, 16, 16),
        "boxes.p6": (36, 8, 8),
        "boxes.p7": (36, 4, 4),
    },
    # Jocher et al. 2021: no table; the exported model's 25200 boxes for 640 pixels.
    "yolov5n": {
        "backbone.sppf.concat": (512, 20, 20),
        "neck.top_down3.out.mul": (64, 80, 80),
        "neck.bottom_up4.out.mul": (128, 40, 40),
        "neck.bottom_up5.out.mul": (256, 20, 20),
        "boxes": (25200, 4),
        "scores": (25200, 81),
    },
    "yolov5s": {
        "backbone.sppf.concat": (1024, 20, 20),
        "neck.top_down3.out.mul": (128, 80, 80),
        "neck.bottom_up4.out.mul": (256, 40, 40),
        "neck.bottom_up5.out.mul": (512, 20, 20),
        "boxes": (25200, 4),
        "scores": (25200, 81),
    },
}


@pytest.mark.parametrize("name", SHAPES)
def test_block_shapes(name, default_model):
    if name == "squeezenet":
        model = ramiel_models.build(name, image_size=227)
    else:
        model = default_model(name)
    known = shapes(model)
    assert {value: known[value] for value in SHAPES[name]} == {
        value: (1, *shape) for value, shape in SHAPES[name].items()
    }
