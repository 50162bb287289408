# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""GeoNet's default DepthNet: a ResNet-50 encoder of Monodepth's kind (geonet.md section 1.2)."""

import torch
from torch import nn
from torch.nn import functional as F

from geo_perception.errors import ConfigurationError
from geo_perception.networks.layers import (
    BATCH_NORM_MOMENTUM, Block, cut_to, EvenConv2d, initialise_glorot, scaled, up_convolution)

# Blocks and inner channels of each stage; the output has four times as many.
STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))
EXPANSION = 4
DECODER = (512, 256, 128, 64, 32, 16)
COARSEST = 4
DISPARITY_SCALE, SMALLEST_DISPARITY = 5.0, 0.01


class Bottleneck(nn.Module):
    """
    1x1, 3x3, 1x1 with a projection shortcut, always.

    Parameters
    ----------
    n_in, n : int
        Channels of the input, and inside.
    stride : int
        Of the 3x3 convolution and the shortcut.
    momentum : float
        Of the statistics of batch norm.

    """

    def __init__(self, n_in, n, stride, momentum):
        super().__init__()
        self.body = nn.Sequential(
            Block(EvenConv2d, n_in, n, 1, momentum),
            Block(EvenConv2d, n, n, 3, momentum, stride=stride),
            Block(EvenConv2d, n, EXPANSION * n, 1, momentum, relu=False))
        self.shortcut = Block(EvenConv2d, n_in, EXPANSION * n, 1, momentum, relu=False,
                              stride=stride)

    def forward(self, x):
        """Return the block's output."""
        return F.relu(self.body(x) + self.shortcut(x))


class ResNetEncoder(nn.Module):
    """
    Monodepth's variant of ResNet-50: the *last* block of a stage has the stride.

    Parameters
    ----------
    n_in : int
        Channels of the input.
    width : float
        Factor on all numbers of channels.
    momentum : float
        Of the statistics of batch norm.

    """

    def __init__(self, n_in, width, momentum):
        super().__init__()
        n = scaled(64, width)
        self.stem = Block(EvenConv2d, n_in, n, 7, momentum, stride=2)
        self.channels, stages = [n, n], []
        for repeats, inner in STAGES:
            blocks, inner = [], scaled(inner, width)
            for i in range(repeats):
                blocks.append(Bottleneck(n, inner, 2 if i == repeats - 1 else 1, momentum))
                n = EXPANSION * inner
            stages.append(nn.Sequential(*blocks))
            self.channels.append(n)
        self.stages = nn.ModuleList(stages)

    def forward(self, x):
        """Return the maps at strides 2, 4, 8, 16, 32, 64."""
        maps = [self.stem(x)]
        # Zeros or -inf around it are the same: nothing is negative after ReLU.
        maps.append(F.max_pool2d(maps[0], 3, 2, 1))
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps


class ResNetPyramid(nn.Module):
    """
    Maps at four scales, each finer one made with the help of the coarser (geonet.md 1.2, 1.4).

    Subclasses say with `activate` what the layers of prediction mean.

    Parameters
    ----------
    n_in, n_out : int
        Channels of the input and of each map.
    width : float
        Factor on all other numbers of channels.
    momentum : float
        Of the statistics of batch norm.

    """

    # Of the height and width of the input.
    multiple = 8

    def __init__(self, n_in, n_out, width, momentum):
        super().__init__()
        self.encoder = ResNetEncoder(n_in, width, momentum)
        *skips, n = self.encoder.channels
        self.up, self.merge = nn.ModuleList(), nn.ModuleList()
        self.predict = nn.ModuleList()
        for level, channels in zip(range(len(DECODER), 0, -1), DECODER):
            channels = scaled(channels, width)
            self.up.append(up_convolution(n, channels, momentum))
            skip = skips[level - 2] if level > 1 else 0
            self.merge.append(Block(EvenConv2d, channels + skip + n_out * (level < COARSEST),
                                    channels, 3, momentum))
            if level <= COARSEST:
                self.predict.append(EvenConv2d(channels, n_out, 3))
            n = channels
        initialise_glorot(self)

    def activate(self, raw):
        """Return a map from the linear output of its layer."""
        raise NotImplementedError

    def forward(self, x):
        """
        Return the maps.

        Parameters
        ----------
        x : torch.Tensor
            Shape (B, C, H, W), multiples of 8.

        Returns
        -------
        list of torch.Tensor
            Shapes (B, D, H / 2^s, W / 2^s), the finest first.

        """
        *maps, x = self.encoder(x)
        results = []
        for i, (up, merge) in enumerate(zip(self.up, self.merge)):
            level = len(self.up) - i
            parts = [up(x)]
            if level > 1:
                parts = [cut_to(parts[0], maps[level - 2]), maps[level - 2]]
            if results:
                parts.append(F.interpolate(results[0], scale_factor=2))
            x = merge(torch.cat(parts, 1))
            if level <= COARSEST:
                results.insert(0, self.activate(self.predict[COARSEST - level](x)))
        return results


class DispNetResNet50(ResNetPyramid):
    """
    Disparity at four scales from one image (geonet.md section 1.2).

    Images are in [-1, 1]; disparity is inverse depth in 0.01..5.01.

    Parameters
    ----------
    width : float
        Factor on all numbers of channels.
    momentum : float
        Of the statistics of batch norm; short trainings want 0.01 to 0.1 (geonet.md section 9).

    Raises
    ------
    ConfigurationError
        When the width is not positive.

    """

    def __init__(self, width=1.0, momentum=BATCH_NORM_MOMENTUM):
        if width <= 0:
            raise ConfigurationError(f'dispnet_resnet50 needs a width above 0, not {width}')
        super().__init__(3, 1, width, momentum)

    def activate(self, raw):
        """Return disparity."""
        return DISPARITY_SCALE * torch.sigmoid(raw) + SMALLEST_DISPARITY
