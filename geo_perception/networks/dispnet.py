# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""DispNet: disparity at four scales from one image, with a plain encoder and skips."""

import torch
from torch import nn
from torch.nn import functional as F

from geo_perception.errors import ConfigurationError
from geo_perception.networks.layers import (
    BATCH_NORM_MOMENTUM, Block, cut_to, EvenConv2d, EvenConvTranspose2d, initialise_glorot,
    SameConv2d, SameConvTranspose2d, scaled, up_convolution, upsample_legacy_bilinear)

FORMS = ('sfmlearner', 'geonet', 'sfmlearner_pytorch')
ENCODER = ((32, 7), (64, 5), (128, 3), (256, 3), (512, 3), (512, 3), (512, 3))
DECODER = (512, 512, 256, 128, 64, 32, 16)
# The coarsest level with a prediction.
COARSEST = 4
DISPARITY_SCALE, SMALLEST_DISPARITY = 10.0, 0.01


class DispNetVGG(nn.Module):
    """
    DispNet in the form of SfMLearner (sfmlearner.md section 1.1) or GeoNet (geonet.md 1.1).

    Parameters
    ----------
    form : str
        ``sfmlearner``: transposed convolutions, no norm; ``geonet``: nearest neighbour and
        convolution, batch norm; ``sfmlearner_pytorch``: as the former, with the paddings and the
        bilinear enlargement that its port to PyTorch has (sfmlearner.md section 2).
    batch_norm : bool, optional
        Batch norm on all but the predictions; by default what the form has. The first release
        of SfMLearner had it.
    width : float
        Factor on all numbers of channels.
    momentum : float
        Of the statistics of batch norm; short trainings want 0.01 to 0.1 (geonet.md section 9).

    Raises
    ------
    ConfigurationError
        When the form is unknown or the width not positive.

    """

    # Of the height and width of the input.
    multiple = 16

    def __init__(self, form='sfmlearner', batch_norm=None, width=1.0,
                 momentum=BATCH_NORM_MOMENTUM):
        super().__init__()
        if form not in FORMS:
            raise ConfigurationError(f'form "{form}" of dispnet_vgg is unknown; choose one of '
                                     f'{", ".join(FORMS)}')
        if width <= 0:
            raise ConfigurationError(f'dispnet_vgg needs a width above 0, not {width}')
        if batch_norm is None:
            batch_norm = form == 'geonet'
        norm = momentum if batch_norm else None
        self._even = form == 'sfmlearner_pytorch'
        convolution = EvenConv2d if self._even else SameConv2d
        encoder, skips, n = [], [], 3
        for channels, kernel in ENCODER:
            channels = scaled(channels, width)
            encoder.append(nn.Sequential(
                Block(convolution, n, channels, kernel, norm, stride=2),
                Block(convolution, channels, channels, kernel, norm)))
            skips.append(channels)
            n = channels
        self.encoder = nn.ModuleList(encoder)
        self.up, self.merge = nn.ModuleList(), nn.ModuleList()
        self.predict = nn.ModuleList()
        for level, channels in zip(range(len(DECODER), 0, -1), DECODER):
            channels = scaled(channels, width)
            transposed = EvenConvTranspose2d if self._even else SameConvTranspose2d
            self.up.append(up_convolution(n, channels, norm) if form == 'geonet' else
                           Block(transposed, n, channels, 3, norm))
            skip = skips[level - 2] if level > 1 else 0
            self.merge.append(Block(convolution, channels + skip + (level < COARSEST), channels,
                                    3, norm))
            if level <= COARSEST:
                self.predict.append(convolution(channels, 1, 3))
            n = channels
        initialise_glorot(self)

    def forward(self, images):
        """
        Return disparities.

        Parameters
        ----------
        images : torch.Tensor
            In [-1, 1], shape (B, 3, H, W), multiples of 16.

        Returns
        -------
        list of torch.Tensor
            Inverse depth in 0.01..10.01, shapes (B, 1, H / 2^s, W / 2^s), the finest first.

        """
        maps, x = [], images
        for stage in self.encoder:
            x = stage(x)
            maps.append(x)
        disparities = []
        for i, (up, merge) in enumerate(zip(self.up, self.merge)):
            level = len(self.up) - i
            parts = [up(x)]
            if level > 1:
                parts = [cut_to(parts[0], maps[level - 2]), maps[level - 2]]
            if disparities:
                parts.append(F.interpolate(disparities[0], scale_factor=2, mode='bilinear')
                             if self._even else upsample_legacy_bilinear(disparities[0]))
            x = merge(torch.cat(parts, 1))
            if level <= COARSEST:
                raw = self.predict[COARSEST - level](x)
                disparities.insert(0, DISPARITY_SCALE * torch.sigmoid(raw)
                                   + SMALLEST_DISPARITY)
        return disparities
