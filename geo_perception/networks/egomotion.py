# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The ego-motion network of SfMLearner and GeoNet (sfmlearner.md 1.2, geonet.md 1.3)."""

import torch
from torch import nn

from geo_perception.errors import ConfigurationError
from geo_perception.networks.layers import (
    BATCH_NORM_MOMENTUM, Block, EvenConv2d, initialise_glorot, SameConv2d, SameConvTranspose2d,
    scaled)

ENCODER = ((16, 7), (32, 5), (64, 3), (128, 3), (256, 3))
POSE = (256, 256)
POSE_SCALE = 0.01
# Channels and kernel of the mask decoder, from stride 16 to 1; the last four have a mask each.
MASK_DECODER = ((256, 3), (128, 3), (64, 3), (32, 5), (16, 7))


class EgoMotionNet(nn.Module):
    """
    How the camera moved between a target image and its neighbours.

    Parameters
    ----------
    sources : int
        Neighbours: 2 for snippets of three frames, 4 for five.
    explainability : bool
        Whether masks are predicted that tell which pixels view synthesis can explain.
    batch_norm : bool
        GeoNet and the first release of SfMLearner have it.
    width : float
        Factor on all numbers of channels.
    momentum : float
        Of the statistics of batch norm.
    even_padding : bool
        As much on either side, as the port of SfMLearner to PyTorch pads; its masks are others.

    Raises
    ------
    ConfigurationError
        When there is no source, the width is not positive, or masks are wanted with even padding.

    """

    uses_depth = False
    # The beginnings of the names of weights that inference can do without.
    training_only = ('up.', 'mask.')

    def __init__(self, sources=2, explainability=False, batch_norm=False, width=1.0,
                 momentum=BATCH_NORM_MOMENTUM, even_padding=False):
        super().__init__()
        if even_padding and explainability:
            raise ConfigurationError('the ego-motion network has no masks with even padding; set '
                                     'explainability to false')
        if sources < 1 or width <= 0:
            raise ConfigurationError(f'the ego-motion network needs at least one source '
                                     f'({sources}) and a width ({width}) above 0')
        self.sources = sources
        norm = momentum if batch_norm else None
        convolution = EvenConv2d if even_padding else SameConv2d
        layers, n = [], 3 * (sources + 1)
        for channels, kernel in ENCODER:
            channels = scaled(channels, width)
            layers.append(Block(convolution, n, channels, kernel, norm, stride=2))
            n = channels
        self.encoder = nn.Sequential(*layers)
        layers, n_pose = [], n
        for channels in POSE:
            channels = scaled(channels, width)
            layers.append(Block(convolution, n_pose, channels, 3, norm, stride=2))
            n_pose = channels
        self.pose = nn.Sequential(*layers, nn.Conv2d(n_pose, 6 * sources, 1))
        self.up = nn.ModuleList()
        self.mask = nn.ModuleList()
        if explainability:
            for i, (channels, kernel) in enumerate(MASK_DECODER):
                channels = scaled(channels, width)
                self.up.append(Block(SameConvTranspose2d, n, channels, kernel, norm))
                if i > 0:
                    self.mask.append(SameConv2d(channels, 2 * sources, kernel))
                n = channels
        initialise_glorot(self)

    def forward(self, target, sources):
        """
        Return motions, and masks where the network has them.

        Parameters
        ----------
        target : torch.Tensor
            In [-1, 1], shape (B, 3, H, W).
        sources : torch.Tensor
            In order of time without the target, shape (B, n, 3, H, W).

        Returns
        -------
        poses : torch.Tensor
            (tx, ty, tz, rx, ry, rz) of ``T_source_target``, shape (B, n, 6); see
            `geo_perception.geometry.projection.pose_vector_to_matrix`.
        masks : list of torch.Tensor or None
            Logits of (not explainable, explainable), shapes (B, n, 2, H / 2^s, W / 2^s), the
            finest first.

        """
        x = self.encoder(torch.cat([target, sources.flatten(1, 2)], 1))
        poses = POSE_SCALE * self.pose(x).mean((2, 3)).unflatten(1, (self.sources, 6))
        if not self.up:
            return poses, None
        masks = []
        for i, up in enumerate(self.up):
            x = up(x)
            if i > 0:
                masks.insert(0, self.mask[i - 1](x).unflatten(1, (self.sources, 2)))
        return poses, masks
