# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Monodepth: the disparities of both eyes at four scales, from the left image (monodepth.md 3 to 5).

Numbers of parameters, paddings and the order of concatenation are those of the released networks.
"""

import torch
from torch import nn
from torch.nn import functional as F

from geo_perception.errors import ConfigurationError
from geo_perception.networks.layers import (
    elu_convolution, EvenConv2d, initialise_glorot, scaled, UpConv2d)

# A sixth of the width was the largest disparity that the author saw in KITTI; this is twice that.
LARGEST_DISPARITY = 0.3
SCALES = 4
VGG_ENCODER = ((32, 7), (64, 5), (128, 3), (256, 3), (512, 3), (512, 3), (512, 3))
VGG_DECODER = (512, 512, 256, 128, 64, 32, 16)
# Units and inner channels of each group; the output has four times as many.
RESNET_ENCODER = ((3, 64), (4, 128), (6, 256), (3, 512))
RESNET_DECODER = (512, 256, 128, 64, 32, 16)
EXPANSION = 4


class DisparityRange:
    """
    What the linear output of a network means: disparity between two ends.

    With the ends ``0.001 f`` and ``f`` (focal length over width) it is the inverse depth of
    Monodepth2, 0.1 to 100 times its nominal baseline (monodepth.md section 17).

    Parameters
    ----------
    largest, smallest : float
        Parts of the width of the image.

    Raises
    ------
    ConfigurationError
        When they are not 0 <= smallest < largest <= 1.

    """

    def __init__(self, largest, smallest):
        if not 0 <= smallest < largest <= 1:
            raise ConfigurationError(f'max_disparity {largest} and min_disparity {smallest} are '
                                     'parts of the width of the image: 0 <= min < max <= 1')
        self.largest, self.smallest = largest, smallest

    def __call__(self, raw):
        """
        Return disparity.

        Parameters
        ----------
        raw : torch.Tensor
            Any number.

        Returns
        -------
        torch.Tensor
            Parts of the width, same shape.

        """
        return (self.largest - self.smallest) * torch.sigmoid(raw) + self.smallest


class Monodepth(nn.Module):
    """
    The decoder of both published networks; subclasses build ``encoder``.

    Parameters
    ----------
    encoder : torch.nn.Module
        Returns maps at halving sizes, the input of the decoder last; its ``channels`` say how
        many each has.
    decoder : tuple of int
        Channels from the coarsest level to the finest, published.
    width : float
        Factor on these.
    max_disparity, min_disparity : float
        See `DisparityRange`.

    """

    def __init__(self, encoder, decoder, width, max_disparity, min_disparity):
        super().__init__()
        self.range = DisparityRange(max_disparity, min_disparity)
        self.encoder = encoder
        *skips, n = encoder.channels
        # Of the height and width of the input.
        self.multiple = 2 ** len(decoder)
        self.up, self.merge = nn.ModuleList(), nn.ModuleList()
        self.predict = nn.ModuleList()
        for level, channels in zip(range(len(decoder), 0, -1), decoder):
            channels = scaled(channels, width)
            self.up.append(nn.Sequential(UpConv2d(n, channels, 3), nn.ELU(inplace=True)))
            skip = skips[level - 2] if level > 1 else 0
            self.merge.append(elu_convolution(channels + skip + 2 * (level < SCALES), channels,
                                              3))
            if level <= SCALES:
                self.predict.append(EvenConv2d(channels, 2, 3))
            n = channels
        initialise_glorot(self)

    def forward(self, images):
        """
        Return disparities of the left and the right eye.

        Parameters
        ----------
        images : torch.Tensor
            Of the left eye, RGB in [0, 1], shape (B, 3, H, W), multiples of ``multiple``.

        Returns
        -------
        list of torch.Tensor
            Parts of the width, shapes (B, 2, H / 2^s, W / 2^s), the finest first. The first
            channel lies over the left image: what is seen at x is at ``x - d W`` in the right
            one. The second lies over the right image: it is at ``x + d W`` in the left one.

        """
        *maps, x = self.encoder(images)
        disparities = []
        for i, (up, merge) in enumerate(zip(self.up, self.merge)):
            level = len(self.up) - i
            parts = [up(x)]
            if level > 1:
                parts.append(maps[level - 2])
            if disparities:
                # A part of the width is the same at every scale.
                parts.append(F.interpolate(disparities[0], scale_factor=2))
            x = merge(torch.cat(parts, 1))
            if level <= SCALES:
                disparities.insert(0, self.range(self.predict[SCALES - level](x)))
        return disparities


class MonodepthVGG(Monodepth):
    """
    The first published network, 31 600 072 parameters (monodepth.md section 4).

    Parameters
    ----------
    width : float
        Factor on all numbers of channels.
    max_disparity, min_disparity : float
        See `DisparityRange`.

    Raises
    ------
    ConfigurationError
        When an argument is out of range.

    """

    def __init__(self, width=1.0, max_disparity=LARGEST_DISPARITY, min_disparity=0.0):
        super().__init__(_VGGEncoder(_checked(width, 'monodepth_vgg')), VGG_DECODER, width,
                         max_disparity, min_disparity)


class MonodepthResNet50(Monodepth):
    """
    The second one, 58 452 008 parameters (monodepth.md section 5).

    Parameters
    ----------
    width : float
        Factor on all numbers of channels.
    max_disparity, min_disparity : float
        See `DisparityRange`.

    Raises
    ------
    ConfigurationError
        When an argument is out of range.

    """

    def __init__(self, width=1.0, max_disparity=LARGEST_DISPARITY, min_disparity=0.0):
        super().__init__(_ResNetEncoder(_checked(width, 'monodepth_resnet50')), RESNET_DECODER,
                         width, max_disparity, min_disparity)


class _VGGEncoder(nn.Module):
    """Pairs of convolutions, the second with stride 2."""

    def __init__(self, width):
        super().__init__()
        self.channels, stages, n = [], [], 3
        for channels, kernel in VGG_ENCODER:
            channels = scaled(channels, width)
            stages.append(nn.Sequential(elu_convolution(n, channels, kernel),
                                        elu_convolution(channels, channels, kernel, stride=2)))
            self.channels.append(channels)
            n = channels
        self.stages = nn.ModuleList(stages)

    def forward(self, x):
        """Return the maps at strides 2 to 128."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class _Unit(nn.Module):
    """1x1, 3x3, 1x1, and a projection of the input, always."""

    def __init__(self, n_in, n, stride):
        super().__init__()
        self.body = nn.Sequential(elu_convolution(n_in, n, 1),
                                  elu_convolution(n, n, 3, stride=stride),
                                  EvenConv2d(n, EXPANSION * n, 1))
        self.shortcut = EvenConv2d(n_in, EXPANSION * n, 1, stride=stride)

    def forward(self, x):
        """Return the unit's output."""
        return F.elu(self.body(x) + self.shortcut(x))


class _ResNetEncoder(nn.Module):
    """Four groups of units, of each the last one has the stride."""

    def __init__(self, width):
        super().__init__()
        n = scaled(64, width)
        self.stem = elu_convolution(3, n, 7, stride=2)
        self.channels, stages = [n, n], []
        for repeats, inner in RESNET_ENCODER:
            units, inner = [], scaled(inner, width)
            for i in range(repeats):
                units.append(_Unit(n, inner, 2 if i == repeats - 1 else 1))
                n = EXPANSION * inner
            stages.append(nn.Sequential(*units))
            self.channels.append(n)
        self.stages = nn.ModuleList(stages)

    def forward(self, x):
        """Return the maps at strides 2, 4, 8, 16, 32, 64."""
        maps = [self.stem(x)]
        # Zeros around it, which are more than what ELU makes of dark pixels.
        maps.append(F.max_pool2d(F.pad(maps[0], (1, 1, 1, 1)), 3, 2))
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps


def _checked(width, name):
    if width <= 0:
        raise ConfigurationError(f'{name} needs a width above 0, not {width}')
    return width
