# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Layers that compute what TensorFlow computes (sfmlearner.md section 1.4).

The published networks were trained there; with these rules their weights give the same numbers
here.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from geo_perception.geometry.constants import constant

# tf.contrib.slim's defaults; a decay of 0.999 is PyTorch's momentum 0.001.
BATCH_NORM_EPS = 1e-3
BATCH_NORM_MOMENTUM = 1e-3


# Of more weights than this, turning them over costs more than the map gains.
LARGEST_CHANNELS_LAST = 2 ** 20


def fast_layout(network):
    """
    Lay out the weights of a network as training on a CPU is fastest.

    Channels-last but for the largest, which belong to small maps: oneDNN turns over weights
    every time, and the optimiser goes over them in the other order than their gradients.

    Parameters
    ----------
    network : torch.nn.Module
        Changed in place; what it computes stays the same.

    """
    for layer in network.modules():
        if (isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))
                and layer.weight.numel() < LARGEST_CHANNELS_LAST):
            layer.to(memory_format=torch.channels_last)


def _laid_out(x, weight):
    """Return a map in the layout of the weights: where they differ PyTorch changes the weights."""
    return x if weight.is_contiguous(memory_format=torch.channels_last) else x.contiguous()


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: where it is odd, one more at the end."""

    def forward(self, x):
        """Return the convolution, size ``ceil(n / stride)``."""
        x, pad = _laid_out(x, self.weight), []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1],
                                        self.stride[::-1]):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pad += [total // 2, total - total // 2]
        left, right, top, bottom = pad
        if (left, top) == (right, bottom):
            # Always at stride 1. The convolution pads by itself, without a copy of its input.
            return F.conv2d(x, self.weight, self.bias, self.stride, (top, left), self.dilation,
                            self.groups)
        return super().forward(F.pad(x, pad))


class SameConvTranspose2d(nn.ConvTranspose2d):
    """
    TensorFlow's SAME transposed convolution of stride 2: the size doubles exactly.

    Parameters
    ----------
    n_in, n_out : int
        Channels.
    kernel : int
        3, 5 or 7.
    bias : bool
        Whether it has one.

    """

    def __init__(self, n_in, n_out, kernel, bias=True):
        super().__init__(n_in, n_out, kernel, 2, padding=(kernel - 3) // 2, bias=bias)

    def forward(self, x):
        """Return the convolution without the row and column that PyTorch has more."""
        return super().forward(_laid_out(x, self.weight))[:, :, :-1, :-1]


class SlimBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation with an offset and no gain, as tf.contrib.slim builds it."""

    def __init__(self, channels, momentum=BATCH_NORM_MOMENTUM):
        super().__init__(channels, BATCH_NORM_EPS, momentum)
        # No parameter, in no file, but there: PyTorch on CUDA gives an offset no gradient where
        # there is no gain.
        del self.weight
        self.register_buffer('weight', torch.ones(channels), persistent=False)

    def reset_parameters(self):
        """Forget statistics and offset."""
        self.reset_running_stats()
        nn.init.zeros_(self.bias)


class Block(nn.Sequential):
    """
    A convolution, batch normalisation where asked for, and ReLU unless it is left out.

    Parameters
    ----------
    convolution : type
        Called with channels, kernel and further arguments: `SameConv2d`, `EvenConv2d` or
        `SameConvTranspose2d`.
    n_in, n_out, kernel : int
        Channels and size.
    batch_norm : float or None
        Momentum of the statistics; None leaves the norm out, and the convolution has a bias.
    relu : bool
        Whether the output is rectified.
    **options
        Of the convolution.

    """

    def __init__(self, convolution, n_in, n_out, kernel, batch_norm=None, relu=True, **options):
        layers = [convolution(n_in, n_out, kernel, bias=batch_norm is None, **options)]
        if batch_norm is not None:
            layers.append(SlimBatchNorm2d(n_out, batch_norm))
        if relu:
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class EvenConv2d(nn.Conv2d):
    """A convolution with as much padding on either side."""

    def __init__(self, n_in, n_out, kernel, stride=1, bias=True):
        super().__init__(n_in, n_out, kernel, stride, padding=(kernel - 1) // 2, bias=bias)

    def forward(self, x):
        """Return the convolution, size ``ceil(n / stride)``."""
        if self.kernel_size == (1, 1) and self.stride != (1, 1):
            # oneDNN writes beyond its memory for 1x1 at stride 2, channels-last, with some
            # numbers of channels, such as 4, 12 and 13.
            return F.conv2d(x[:, :, ::self.stride[0], ::self.stride[1]], self.weight, self.bias)
        return super().forward(_laid_out(x, self.weight))


class EvenConvTranspose2d(nn.ConvTranspose2d):
    """
    A transposed convolution of stride 2 as most of PyTorch's ports have it.

    The size doubles, too, but what it makes lies one pixel further than TensorFlow's.

    Parameters
    ----------
    n_in, n_out : int
        Channels.
    kernel : int
        3.
    bias : bool
        Whether it has one.

    """

    def __init__(self, n_in, n_out, kernel, bias=True):
        super().__init__(n_in, n_out, kernel, 2, padding=(kernel - 1) // 2, output_padding=1,
                         bias=bias)

    def forward(self, x):
        """Return the convolution, size ``2 n``."""
        return super().forward(_laid_out(x, self.weight))


def _taps():
    """Return how weights of 3x3 add up to those of 4x4: 9 rows of 16 numbers."""
    # Along one axis; the other one goes by the same.
    along = np.array([[0, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 0]], float)
    return tuple(map(tuple, np.kron(along, along).tolist()))


_TAPS = _taps()


class UpConv2d(EvenConv2d):
    """
    Nearest neighbour to twice the size, then a 3x3 convolution.

    Each pixel of the result sees four of the input, some of them twice. Adding up the weights
    instead leaves 4 products of 9, and no enlarged copy: a transposed convolution. Only where
    there are more weights than pixels it is the sums that cost.
    """

    def forward(self, x):
        """Return the map, size ``2 n``."""
        if self.weight.numel() > 4 * x.numel():
            return super().forward(F.interpolate(x, scale_factor=2))
        summed = (self.weight.flatten(2) @ constant(self.weight, *_TAPS)).unflatten(2, (4, 4))
        return F.conv_transpose2d(_laid_out(x, self.weight), summed.transpose(0, 1), self.bias,
                                  2, 1)


def elu_convolution(n_in, n_out, kernel, stride=1):
    """
    Return a convolution with as much padding on either side, and ELU.

    Parameters
    ----------
    n_in, n_out : int
        Channels.
    kernel, stride : int
        Of the convolution.

    Returns
    -------
    torch.nn.Module

    """
    return nn.Sequential(EvenConv2d(n_in, n_out, kernel, stride), nn.ELU(inplace=True))


def up_convolution(n_in, n_out, batch_norm):
    """
    Return GeoNet's way to twice the size.

    Parameters
    ----------
    n_in, n_out : int
        Channels.
    batch_norm : float or None
        As in `Block`.

    Returns
    -------
    torch.nn.Module

    """
    return Block(UpConv2d, n_in, n_out, 3, batch_norm)


def initialise_glorot(module):
    """
    Draw weights as tf.contrib.slim does: Glorot uniform, biases zero.

    Parameters
    ----------
    module : torch.nn.Module
        Whose convolutions are initialised.

    """
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def upsample_legacy_bilinear(x):
    """
    Return a map of twice the size as TensorFlow 1 made it (rule 4).

    Even samples are the input, odd ones the mean of two neighbours, the last is repeated.

    Parameters
    ----------
    x : torch.Tensor
        Shape (B, C, H, W).

    Returns
    -------
    torch.Tensor
        Shape (B, C, 2 H, 2 W).

    """
    for axis in (2, 3):
        following = torch.cat([x.narrow(axis, 1, x.shape[axis] - 1),
                               x.narrow(axis, x.shape[axis] - 1, 1)], axis)
        x = torch.stack([x, 0.5 * (x + following)], axis + 1).flatten(axis, axis + 1)
    return x


def cut_to(x, like):
    """
    Return a map without the last row or column that its neighbour lacks (rule 5).

    Parameters
    ----------
    x, like : torch.Tensor
        Shapes (B, C, H, W) and (B, D, h, w), at most one pixel smaller.

    Returns
    -------
    torch.Tensor
        Shape (B, C, h, w).

    """
    return x[:, :, :like.shape[2], :like.shape[3]]


def scaled(channels, width):
    """
    Return a number of channels times a width multiplier.

    Parameters
    ----------
    channels : int
        Of the published network.
    width : float
        Factor.

    Returns
    -------
    int
        At least 1.

    """
    return max(1, round(channels * width))
