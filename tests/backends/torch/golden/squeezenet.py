"""squeezenet: 66 ops on 2 workers, predicted to take 14.71 ms."""

import torch
import torch.nn.functional as F
from onnx_ops import nn


def worker_0(weights):
    """Worker 0: 50 ops, predicted to compute for 13.99 ms and to end at 14.71 ms.

    To worker 1: fire2_squeeze_relu, fire3_squeeze_relu, fire4_squeeze_relu, fire5_squeeze_relu,
        fire6_squeeze_relu, fire7_squeeze_relu, fire8_squeeze_relu, fire9_squeeze_relu
    From worker 1: fire2_expand1x1_relu, fire3_expand1x1_relu, fire4_expand1x1_relu,
        fire5_expand1x1_relu, fire6_expand1x1_relu, fire7_expand1x1_relu, fire8_expand1x1_relu,
        fire9_expand1x1_relu
    """
    conv1_weight = weights["conv1_weight"].permute(0, 3, 1, 2)
    conv1_bias = weights["conv1_bias"]
    fire2_squeeze_weight = weights["fire2_squeeze_weight"].permute(0, 3, 1, 2)
    fire2_squeeze_bias = weights["fire2_squeeze_bias"]
    fire2_expand3x3_weight = weights["fire2_expand3x3_weight"].permute(0, 3, 1, 2)
    fire2_expand3x3_bias = weights["fire2_expand3x3_bias"]
    fire3_squeeze_weight = weights["fire3_squeeze_weight"].permute(0, 3, 1, 2)
    fire3_squeeze_bias = weights["fire3_squeeze_bias"]
    fire3_expand3x3_weight = weights["fire3_expand3x3_weight"].permute(0, 3, 1, 2)
    fire3_expand3x3_bias = weights["fire3_expand3x3_bias"]
    fire4_squeeze_weight = weights["fire4_squeeze_weight"].permute(0, 3, 1, 2)
    fire4_squeeze_bias = weights["fire4_squeeze_bias"]
    fire4_expand3x3_weight = weights["fire4_expand3x3_weight"].permute(0, 3, 1, 2)
    fire4_expand3x3_bias = weights["fire4_expand3x3_bias"]
    fire5_squeeze_weight = weights["fire5_squeeze_weight"].permute(0, 3, 1, 2)
    fire5_squeeze_bias = weights["fire5_squeeze_bias"]
    fire5_expand3x3_weight = weights["fire5_expand3x3_weight"].permute(0, 3, 1, 2)
    fire5_expand3x3_bias = weights["fire5_expand3x3_bias"]
    fire6_squeeze_weight = weights["fire6_squeeze_weight"].permute(0, 3, 1, 2)
    fire6_squeeze_bias = weights["fire6_squeeze_bias"]
    fire6_expand3x3_weight = weights["fire6_expand3x3_weight"].permute(0, 3, 1, 2)
    fire6_expand3x3_bias = weights["fire6_expand3x3_bias"]
    fire7_squeeze_weight = weights["fire7_squeeze_weight"].permute(0, 3, 1, 2)
    fire7_squeeze_bias = weights["fire7_squeeze_bias"]
    fire7_expand3x3_weight = weights["fire7_expand3x3_weight"].permute(0, 3, 1, 2)
    fire7_expand3x3_bias = weights["fire7_expand3x3_bias"]
    fire8_squeeze_weight = weights["fire8_squeeze_weight"].permute(0, 3, 1, 2)
    fire8_squeeze_bias = weights["fire8_squeeze_bias"]
    fire8_expand3x3_weight = weights["fire8_expand3x3_weight"].permute(0, 3, 1, 2)
    fire8_expand3x3_bias = weights["fire8_expand3x3_bias"]
    fire9_squeeze_weight = weights["fire9_squeeze_weight"].permute(0, 3, 1, 2)
    fire9_squeeze_bias = weights["fire9_squeeze_bias"]
    fire9_expand3x3_weight = weights["fire9_expand3x3_weight"].permute(0, 3, 1, 2)
    fire9_expand3x3_bias = weights["fire9_expand3x3_bias"]
    conv10_weight = weights["conv10_weight"].permute(0, 3, 1, 2)
    conv10_bias = weights["conv10_bias"]

    def run(port):
        # Segment 1 of 9, predicted to start at 0.00 ms.
        image = port.input("image")
        conv1_conv = F.conv2d(image, conv1_weight, conv1_bias, stride=2)
        conv1_relu = F.relu(conv1_conv, inplace=True)
        del conv1_conv
        maxpool = F.max_pool2d(conv1_relu, 3, stride=2, ceil_mode=True)
        del conv1_relu
        fire2_squeeze_conv = nn.pointwise_conv2d(maxpool, fire2_squeeze_weight, fire2_squeeze_bias)
        del maxpool
        fire2_squeeze_relu = F.relu(fire2_squeeze_conv, inplace=True)
        del fire2_squeeze_conv
        port.send(0, fire2_squeeze_relu)  # to worker 1
        fire2_expand3x3_conv = F.conv2d(
            fire2_squeeze_relu, fire2_expand3x3_weight, fire2_expand3x3_bias, padding=1
        )
        del fire2_squeeze_relu
        fire2_expand3x3_relu = F.relu(fire2_expand3x3_conv, inplace=True)
        del fire2_expand3x3_conv

        # Segment 2 of 9, predicted to start at 3.88 ms.
        fire2_expand1x1_relu = port.receive(1)  # from worker 1
        fire2_concat = torch.cat((fire2_expand1x1_relu, fire2_expand3x3_relu), 1)
        del fire2_expand1x1_relu, fire2_expand3x3_relu
        fire3_squeeze_conv = nn.pointwise_conv2d(
            fire2_concat, fire3_squeeze_weight, fire3_squeeze_bias
        )
        del fire2_concat
        fire3_squeeze_relu = F.relu(fire3_squeeze_conv, inplace=True)
        del fire3_squeeze_conv
        port.send(2, fire3_squeeze_relu)  # to worker 1
        fire3_expand3x3_conv = F.conv2d(
            fire3_squeeze_relu, fire3_expand3x3_weight, fire3_expand3x3_bias, padding=1
        )
        del fire3_squeeze_relu
        fire3_expand3x3_relu = F.relu(fire3_expand3x3_conv, inplace=True)
        del fire3_expand3x3_conv

        # Segment 3 of 9, predicted to start at 4.93 ms.
        fire3_expand1x1_relu = port.receive(3)  # from worker 1
        fire3_concat = torch.cat((fire3_expand1x1_relu, fire3_expand3x3_relu), 1)
        del fire3_expand1x1_relu, fire3_expand3x3_relu
        fire4_squeeze_conv = nn.pointwise_conv2d(
            fire3_concat, fire4_squeeze_weight, fire4_squeeze_bias
        )
        del fire3_concat
        fire4_squeeze_relu = F.relu(fire4_squeeze_conv, inplace=True)
        del fire4_squeeze_conv
        port.send(4, fire4_squeeze_relu)  # to worker 1
        fire4_expand3x3_conv = F.conv2d(
            fire4_squeeze_relu, fire4_expand3x3_weight, fire4_expand3x3_bias, padding=1
        )
        del fire4_squeeze_relu
        fire4_expand3x3_relu = F.relu(fire4_expand3x3_conv, inplace=True)
        del fire4_expand3x3_conv

        # Segment 4 of 9, predicted to start at 7.08 ms.
        fire4_expand1x1_relu = port.receive(5)  # from worker 1
        fire4_concat = torch.cat((fire4_expand1x1_relu, fire4_expand3x3_relu), 1)
        del fire4_expand1x1_relu, fire4_expand3x3_relu
        fire4_maxpool = F.max_pool2d(fire4_concat, 3, stride=2, ceil_mode=True)
        del fire4_concat
        fire5_squeeze_conv = nn.pointwise_conv2d(
            fire4_maxpool, fire5_squeeze_weight, fire5_squeeze_bias
        )
        del fire4_maxpool
        fire5_squeeze_relu = F.relu(fire5_squeeze_conv, inplace=True)
        del fire5_squeeze_conv
        port.send(6, fire5_squeeze_relu)  # to worker 1
        fire5_expand3x3_conv = F.conv2d(
            fire5_squeeze_relu, fire5_expand3x3_weight, fire5_expand3x3_bias, padding=1
        )
        del fire5_squeeze_relu
        fire5_expand3x3_relu = F.relu(fire5_expand3x3_conv, inplace=True)
        del fire5_expand3x3_conv

        # Segment 5 of 9, predicted to start at 8.58 ms.
        fire5_expand1x1_relu = port.receive(7)  # from worker 1
        fire5_concat = torch.cat((fire5_expand1x1_relu, fire5_expand3x3_relu), 1)
        del fire5_expand1x1_relu, fire5_expand3x3_relu
        fire6_squeeze_conv = nn.pointwise_conv2d(
            fire5_concat, fire6_squeeze_weight, fire6_squeeze_bias
        )
        del fire5_concat
        fire6_squeeze_relu = F.relu(fire6_squeeze_conv, inplace=True)
        del fire6_squeeze_conv
        port.send(8, fire6_squeeze_relu)  # to worker 1
        fire6_expand3x3_conv = F.conv2d(
            fire6_squeeze_relu, fire6_expand3x3_weight, fire6_expand3x3_bias, padding=1
        )
        del fire6_squeeze_relu
        fire6_expand3x3_relu = F.relu(fire6_expand3x3_conv, inplace=True)
        del fire6_expand3x3_conv

        # Segment 6 of 9, predicted to start at 9.67 ms.
        fire6_expand1x1_relu = port.receive(9)  # from worker 1
        fire6_concat = torch.cat((fire6_expand1x1_relu, fire6_expand3x3_relu), 1)
        del fire6_expand1x1_relu, fire6_expand3x3_relu
        fire7_squeeze_conv = nn.pointwise_conv2d(
            fire6_concat, fire7_squeeze_weight, fire7_squeeze_bias
        )
        del fire6_concat
        fire7_squeeze_relu = F.relu(fire7_squeeze_conv, inplace=True)
        del fire7_squeeze_conv
        port.send(10, fire7_squeeze_relu)  # to worker 1
        fire7_expand3x3_conv = F.conv2d(
            fire7_squeeze_relu, fire7_expand3x3_weight, fire7_expand3x3_bias, padding=1
        )
        del fire7_squeeze_relu
        fire7_expand3x3_relu = F.relu(fire7_expand3x3_conv, inplace=True)
        del fire7_expand3x3_conv

        # Segment 7 of 9, predicted to start at 10.87 ms.
        fire7_expand1x1_relu = port.receive(11)  # from worker 1
        fire7_concat = torch.cat((fire7_expand1x1_relu, fire7_expand3x3_relu), 1)
        del fire7_expand1x1_relu, fire7_expand3x3_relu
        fire8_squeeze_conv = nn.pointwise_conv2d(
            fire7_concat, fire8_squeeze_weight, fire8_squeeze_bias
        )
        del fire7_concat
        fire8_squeeze_relu = F.relu(fire8_squeeze_conv, inplace=True)
        del fire8_squeeze_conv
        port.send(12, fire8_squeeze_relu)  # to worker 1
        fire8_expand3x3_conv = F.conv2d(
            fire8_squeeze_relu, fire8_expand3x3_weight, fire8_expand3x3_bias, padding=1
        )
        del fire8_squeeze_relu
        fire8_expand3x3_relu = F.relu(fire8_expand3x3_conv, inplace=True)
        del fire8_expand3x3_conv

        # Segment 8 of 9, predicted to start at 12.66 ms.
        fire8_expand1x1_relu = port.receive(13)  # from worker 1
        fire8_concat = torch.cat((fire8_expand1x1_relu, fire8_expand3x3_relu), 1)
        del fire8_expand1x1_relu, fire8_expand3x3_relu
        fire8_maxpool = F.max_pool2d(fire8_concat, 3, stride=2, ceil_mode=True)
        del fire8_concat
        fire9_squeeze_conv = nn.pointwise_conv2d(
            fire8_maxpool, fire9_squeeze_weight, fire9_squeeze_bias
        )
        del fire8_maxpool
        fire9_squeeze_relu = F.relu(fire9_squeeze_conv, inplace=True)
        del fire9_squeeze_conv
        port.send(14, fire9_squeeze_relu)  # to worker 1
        fire9_expand3x3_conv = F.conv2d(
            fire9_squeeze_relu, fire9_expand3x3_weight, fire9_expand3x3_bias, padding=1
        )
        del fire9_squeeze_relu
        fire9_expand3x3_relu = F.relu(fire9_expand3x3_conv, inplace=True)
        del fire9_expand3x3_conv

        # Segment 9 of 9, predicted to start at 13.55 ms.
        fire9_expand1x1_relu = port.receive(15)  # from worker 1
        fire9_concat = torch.cat((fire9_expand1x1_relu, fire9_expand3x3_relu), 1)
        del fire9_expand1x1_relu, fire9_expand3x3_relu
        conv10_conv = nn.pointwise_conv2d(fire9_concat, conv10_weight, conv10_bias)
        del fire9_concat
        conv10_relu = F.relu(conv10_conv, inplace=True)
        del conv10_conv
        pool = torch.mean(conv10_relu, dim=(2, 3), keepdim=True)
        del conv10_relu
        flatten = pool.flatten(1)
        probabilities = torch.softmax(flatten, 1)
        port.output("probabilities", probabilities)

    return run


def worker_1(weights):
    """Worker 1: 16 ops, predicted to compute for 1.88 ms and to end at 13.34 ms.

    To worker 0: fire2_expand1x1_relu, fire3_expand1x1_relu, fire4_expand1x1_relu,
        fire5_expand1x1_relu, fire6_expand1x1_relu, fire7_expand1x1_relu, fire8_expand1x1_relu,
        fire9_expand1x1_relu
    From worker 0: fire2_squeeze_relu, fire3_squeeze_relu, fire4_squeeze_relu, fire5_squeeze_relu,
        fire6_squeeze_relu, fire7_squeeze_relu, fire8_squeeze_relu, fire9_squeeze_relu
    """
    fire2_expand1x1_weight = weights["fire2_expand1x1_weight"].permute(0, 3, 1, 2)
    fire2_expand1x1_bias = weights["fire2_expand1x1_bias"]
    fire3_expand1x1_weight = weights["fire3_expand1x1_weight"].permute(0, 3, 1, 2)
    fire3_expand1x1_bias = weights["fire3_expand1x1_bias"]
    fire4_expand1x1_weight = weights["fire4_expand1x1_weight"].permute(0, 3, 1, 2)
    fire4_expand1x1_bias = weights["fire4_expand1x1_bias"]
    fire5_expand1x1_weight = weights["fire5_expand1x1_weight"].permute(0, 3, 1, 2)
    fire5_expand1x1_bias = weights["fire5_expand1x1_bias"]
    fire6_expand1x1_weight = weights["fire6_expand1x1_weight"].permute(0, 3, 1, 2)
    fire6_expand1x1_bias = weights["fire6_expand1x1_bias"]
    fire7_expand1x1_weight = weights["fire7_expand1x1_weight"].permute(0, 3, 1, 2)
    fire7_expand1x1_bias = weights["fire7_expand1x1_bias"]
    fire8_expand1x1_weight = weights["fire8_expand1x1_weight"].permute(0, 3, 1, 2)
    fire8_expand1x1_bias = weights["fire8_expand1x1_bias"]
    fire9_expand1x1_weight = weights["fire9_expand1x1_weight"].permute(0, 3, 1, 2)
    fire9_expand1x1_bias = weights["fire9_expand1x1_bias"]

    def run(port):
        # Segment 1 of 8, predicted to start at 3.40 ms.
        fire2_squeeze_relu = port.receive(0)  # from worker 0
        fire2_expand1x1_conv = nn.pointwise_conv2d(
            fire2_squeeze_relu, fire2_expand1x1_weight, fire2_expand1x1_bias
        )
        del fire2_squeeze_relu
        fire2_expand1x1_relu = F.relu(fire2_expand1x1_conv, inplace=True)
        del fire2_expand1x1_conv
        port.send(1, fire2_expand1x1_relu)  # to worker 0
        del fire2_expand1x1_relu

        # Segment 2 of 8, predicted to start at 4.45 ms.
        fire3_squeeze_relu = port.receive(2)  # from worker 0
        fire3_expand1x1_conv = nn.pointwise_conv2d(
            fire3_squeeze_relu, fire3_expand1x1_weight, fire3_expand1x1_bias
        )
        del fire3_squeeze_relu
        fire3_expand1x1_relu = F.relu(fire3_expand1x1_conv, inplace=True)
        del fire3_expand1x1_conv
        port.send(3, fire3_expand1x1_relu)  # to worker 0
        del fire3_expand1x1_relu

        # Segment 3 of 8, predicted to start at 5.59 ms.
        fire4_squeeze_relu = port.receive(4)  # from worker 0
        fire4_expand1x1_conv = nn.pointwise_conv2d(
            fire4_squeeze_relu, fire4_expand1x1_weight, fire4_expand1x1_bias
        )
        del fire4_squeeze_relu
        fire4_expand1x1_relu = F.relu(fire4_expand1x1_conv, inplace=True)
        del fire4_expand1x1_conv
        port.send(5, fire4_expand1x1_relu)  # to worker 0
        del fire4_expand1x1_relu

        # Segment 4 of 8, predicted to start at 8.20 ms.
        fire5_squeeze_relu = port.receive(6)  # from worker 0
        fire5_expand1x1_conv = nn.pointwise_conv2d(
            fire5_squeeze_relu, fire5_expand1x1_weight, fire5_expand1x1_bias
        )
        del fire5_squeeze_relu
        fire5_expand1x1_relu = F.relu(fire5_expand1x1_conv, inplace=True)
        del fire5_expand1x1_conv
        port.send(7, fire5_expand1x1_relu)  # to worker 0
        del fire5_expand1x1_relu

        # Segment 5 of 8, predicted to start at 8.90 ms.
        fire6_squeeze_relu = port.receive(8)  # from worker 0
        fire6_expand1x1_conv = nn.pointwise_conv2d(
            fire6_squeeze_relu, fire6_expand1x1_weight, fire6_expand1x1_bias
        )
        del fire6_squeeze_relu
        fire6_expand1x1_relu = F.relu(fire6_expand1x1_conv, inplace=True)
        del fire6_expand1x1_conv
        port.send(9, fire6_expand1x1_relu)  # to worker 0
        del fire6_expand1x1_relu

        # Segment 6 of 8, predicted to start at 10.11 ms.
        fire7_squeeze_relu = port.receive(10)  # from worker 0
        fire7_expand1x1_conv = nn.pointwise_conv2d(
            fire7_squeeze_relu, fire7_expand1x1_weight, fire7_expand1x1_bias
        )
        del fire7_squeeze_relu
        fire7_expand1x1_relu = F.relu(fire7_expand1x1_conv, inplace=True)
        del fire7_expand1x1_conv
        port.send(11, fire7_expand1x1_relu)  # to worker 0
        del fire7_expand1x1_relu

        # Segment 7 of 8, predicted to start at 11.38 ms.
        fire8_squeeze_relu = port.receive(12)  # from worker 0
        fire8_expand1x1_conv = nn.pointwise_conv2d(
            fire8_squeeze_relu, fire8_expand1x1_weight, fire8_expand1x1_bias
        )
        del fire8_squeeze_relu
        fire8_expand1x1_relu = F.relu(fire8_expand1x1_conv, inplace=True)
        del fire8_expand1x1_conv
        port.send(13, fire8_expand1x1_relu)  # to worker 0
        del fire8_expand1x1_relu

        # Segment 8 of 8, predicted to start at 13.25 ms.
        fire9_squeeze_relu = port.receive(14)  # from worker 0
        fire9_expand1x1_conv = F.conv2d(
            fire9_squeeze_relu, fire9_expand1x1_weight, fire9_expand1x1_bias
        )
        del fire9_squeeze_relu
        fire9_expand1x1_relu = F.relu(fire9_expand1x1_conv, inplace=True)
        port.send(15, fire9_expand1x1_relu)  # to worker 0

    return run


WORKERS = [worker_0, worker_1]

if __name__ == "__main__":
    import runtime

    runtime.main(__file__)
