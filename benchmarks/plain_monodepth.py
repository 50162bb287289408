# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Monodepth's networks and a step of their training as one writes them down first.

Zeros around every map before each convolution, eye by eye and scale by scale, in eager PyTorch
and its default layout of memory. The graph, and so the loss, is that of ``geo_perception train``.
"""

from copy import deepcopy

from plain_training import PlainTraining
import torch
from torch import nn
from torch.nn import functional as F

from geo_perception.networks.layers import EvenConv2d, UpConv2d


class _Padded(EvenConv2d):
    """Pads, then convolves."""

    def forward(self, x):
        pad = (self.kernel_size[0] - 1) // 2
        return F.conv2d(F.pad(x, (pad, pad, pad, pad)), self.weight, self.bias, self.stride)


class _Enlarged(UpConv2d):
    """Enlarges, pads, then convolves."""

    def forward(self, x):
        return F.conv2d(F.pad(F.interpolate(x, scale_factor=2), (1, 1, 1, 1)), self.weight,
                        self.bias)


def plain_network(network):
    """
    Return a twin of a network in its plainest form.

    Parameters
    ----------
    network : torch.nn.Module
        Of `geo_perception.networks.monodepth`.

    Returns
    -------
    torch.nn.Module

    """
    twin = deepcopy(network).to(memory_format=torch.contiguous_format)
    for layer in twin.modules():
        if isinstance(layer, EvenConv2d):
            layer.__class__ = _Enlarged if isinstance(layer, UpConv2d) else _Padded
        if isinstance(layer, nn.ELU):
            layer.inplace = False
    return twin


class PlainStep(PlainTraining):
    """
    Training of a twin of a module's network on one batch in memory.

    Parameters
    ----------
    module : StereoModule
        Gives network and options; stays as it is.
    left, right : torch.Tensor
        In [0, 1], shape (B, 3, H, W).

    """

    def __init__(self, module, left, right):
        self._network = plain_network(module.network)
        self._left, self._right = left.contiguous(), right.contiguous()
        self._options = module.loss.options
        super().__init__(1e-4, self._network)

    def loss(self):
        """Return the loss, as published."""
        options, total = self._options, 0.0
        for level, both in enumerate(self._network(self._left)):
            left, right = (F.interpolate(eye, both.shape[2:], mode='area')
                           for eye in (self._left, self._right))
            d_left, d_right = both[:, :1], both[:, 1:]
            for image, other, own, partner, way in (
                    (left, right, d_left, d_right, -d_left),
                    (right, left, d_right, d_left, d_right)):
                total = total + _distance(_shifted(other, way), image)
                total = total + options.smoothness_weight / 2 ** level * _roughness(own, image)
                total = total + options.consistency_weight * (
                    _shifted(partner, way) - own).abs().mean()
        return total


def _shifted(image, offset):
    """Return an image sampled at ``x + offset W``."""
    height, width = image.shape[2:]
    y, x = torch.meshgrid(torch.arange(float(height), device=offset.device),
                          torch.arange(float(width), device=offset.device), indexing='ij')
    u = 2 * (x + offset[:, 0] * width) / (width - 1) - 1
    v = (2 * y / (height - 1) - 1).expand_as(u)
    return F.grid_sample(image, torch.stack([u, v], 3), padding_mode='zeros', align_corners=True)


def _distance(x, y):
    """Return how different two images are."""
    mean_x, mean_y = F.avg_pool2d(x, 3, 1), F.avg_pool2d(y, 3, 1)
    variance_x = F.avg_pool2d(x ** 2, 3, 1) - mean_x ** 2
    variance_y = F.avg_pool2d(y ** 2, 3, 1) - mean_y ** 2
    covariance = F.avg_pool2d(x * y, 3, 1) - mean_x * mean_y
    ssim = ((2 * mean_x * mean_y + 1e-4) * (2 * covariance + 9e-4)
            / ((mean_x ** 2 + mean_y ** 2 + 1e-4) * (variance_x + variance_y + 9e-4)))
    return 0.85 * ((1 - ssim) / 2).clamp(0, 1).mean() + 0.15 * (x - y).abs().mean()


def _roughness(disparity, image):
    """Return how much disparity changes where the image does not."""
    total = 0.0
    for axis in (2, 3):
        change = disparity.diff(dim=axis).abs()
        edge = image.diff(dim=axis).abs().mean(1, keepdim=True)
        total = total + (change * (-edge).exp()).mean()
    return total
