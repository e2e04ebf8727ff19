"""The quickstart's network, as exper/quickstart/net.py defines it for Caffe."""

import torch
from settings import CONVOLUTIONS, MOMENTUM, STRIDE, WEIGHT_DECAY
from torch import nn

from rloss_caffe.datasets import examples

CLASSES = len(examples.CLASSES)


class Network(nn.Module):
    """From images (N, 3, H, W), BGR minus the mean, to class scores (N, K, H, W); H and W are multiples of 4."""

    def __init__(self):
        super().__init__()
        layers, channels = [], 3
        for wider, stride, dilation in CONVOLUTIONS:
            layers += [nn.Conv2d(channels, wider, 3, stride, dilation, dilation), nn.ReLU(inplace=True)]
            channels = wider
        layers.append(nn.Conv2d(channels, CLASSES, 1))
        self.trunk = nn.Sequential(*layers)
        for layer in self.trunk:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # Caffe's "msra"
                nn.init.zeros_(layer.bias)
        self.register_buffer("interpolation", bilinear_weights(STRIDE))

    def forward(self, images):
        # Caffe's Deconvolution with bilinear weights. Unlike nn.Upsample it takes 0 for what is beyond the edge.
        coarse = self.trunk(images / 64)
        return nn.functional.conv_transpose2d(coarse, self.interpolation, stride=STRIDE, padding=2, groups=CLASSES)


def bilinear_weights(factor):
    """Weights of a transposed convolution that interpolates each class, (K, 1, 2 factor, 2 factor)."""
    row = 1 - (torch.arange(2 * factor) - factor + 0.5).abs() / factor
    return torch.outer(row, row).expand(CLASSES, 1, -1, -1).contiguous()


def optimizer(network, base_lr):
    """SGD as in the Caffe solvers: biases learn twice as fast and do not decay."""
    weights = [parameter for name, parameter in network.named_parameters() if name.endswith("weight")]
    biases = [parameter for name, parameter in network.named_parameters() if name.endswith("bias")]
    groups = [{"params": weights, "weight_decay": WEIGHT_DECAY}, {"params": biases, "lr": 2 * base_lr}]
    return torch.optim.SGD(groups, lr=base_lr, momentum=MOMENTUM)
