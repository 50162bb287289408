# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Residual flow for small computers: features are compared instead of learned to be compared.

A plain encoder needs days to find out what matching is. Correlations of the features of two
images are where it starts here (Dosovitskiy et al. 2015, FlowNetC; coarse to fine as in Sun et al.
2018, PWC-Net), and what rigid flow explains is warped away beforehand.
"""

import torch
from torch import nn
from torch.nn import functional as F

from geo_perception.networks.layers import EvenConv2d, scaled
from geo_perception.networks.resflownet import check_arguments

# Channels of the features at strides 2, 4, 8 and 16.
FEATURES = (16, 24, 32, 48)
# Features are compared over this many pixels of their stride to each side, at strides 2 to 16.
RADII = (2, 3, 4, 4)
DECODER = (8, 24, 40, 56, 64)
SCALES = 4
# Of the exponents that turn likeness into a displacement, at first: that is where features of
# random weights tell most on the sample world.
SHARPNESS = 20.0
# So that the rigid flow of slow and fast cameras is a number of the size of others.
FLOW_UNIT = 0.05


class ResFlowNetLite(nn.Module):
    """
    Optical flow at four scales, each finer one a correction of the coarser.

    Parameters
    ----------
    variant : str
        ``residual`` or ``direct``, see `geo_perception.networks.resflownet.ResFlowNet`.
    zero_heads : bool
        See there.
    width : float
        Factor on all numbers of channels.

    Raises
    ------
    ConfigurationError
        When the variant is unknown or the width not positive.

    """

    # Of the height and width of the input.
    multiple = 16

    def __init__(self, variant='residual', zero_heads=True, width=1.0):
        check_arguments('resflownet_lite', variant, width)
        super().__init__()
        self.variant = variant
        n, stages = 3, []
        for channels in FEATURES:
            channels = scaled(channels, width)
            stages.append(nn.Sequential(_layer(n, channels, 2), _layer(channels, channels)))
            n = channels
        self.features = nn.ModuleList(stages)
        # What the residual variant is told beside the images: rigid flow, and how wrong it is.
        told = 3 if variant == 'residual' else 0
        self.merge, self.predict = nn.ModuleList(), nn.ModuleList()
        self.sharpness = nn.Parameter(torch.full((SCALES,), SHARPNESS))
        n = 0
        for level in range(SCALES, -1, -1):
            seen = 6 if level == 0 else (
                scaled(FEATURES[level - 1], width) + (2 * RADII[level - 1] + 1) ** 2 + 2)
            channels = scaled(DECODER[level], width)
            n_in = seen + told + n + (2 if level < SCALES else 0)
            self.merge.append(nn.Sequential(_layer(n_in, channels), _layer(channels, channels)))
            self.predict.append(EvenConv2d(channels, 2, 3))
            if zero_heads:
                nn.init.zeros_(self.predict[-1].weight)
            nn.init.zeros_(self.predict[-1].bias)
            n = channels

    def forward(self, x):
        """
        Return flow.

        Parameters
        ----------
        x : torch.Tensor
            See `geo_perception.inference.flow_input`, shape (B, 12, H, W), or (B, 6, H, W) for
            the direct variant, multiples of 16.

        Returns
        -------
        list of torch.Tensor
            (u, v) in pixels of each scale, shapes (B, 2, H / 2^s, W / 2^s), the finest first.

        """
        image, told = x[:, :3], None
        other = x[:, 3:6]
        if self.variant == 'residual':
            other = x[:, 6:9]
            unit = FLOW_UNIT * x.shape[3]
            told = torch.cat([x[:, 9:11] / unit, x[:, 11:12]], 1)
        # Both images in one batch: the features are the same.
        maps, y = [], torch.cat([image, other])
        for stage in self.features:
            y = stage(y)
            maps.append(y)
        flows, flow, y = [], None, None
        for i, (merge, predict) in enumerate(zip(self.merge, self.predict)):
            level = SCALES - i
            if level == 0:
                parts = [image, other]
            else:
                own, theirs = maps[level - 1].unflatten(0, (2, -1))
                alike = correlation(own, theirs, RADII[level - 1])
                parts = [own, alike, likeliest(alike, RADII[level - 1], self.sharpness[level - 1])]
            if told is not None:
                parts.append(F.avg_pool2d(told, 2 ** level))
            if flow is not None:
                # A flow of twice the pixels is twice as many pixels long.
                flow = 2.0 * F.interpolate(flow, scale_factor=2, mode='bilinear',
                                           align_corners=False)
                parts += [F.interpolate(y, scale_factor=2), flow]
            y = merge(torch.cat(parts, 1))
            step = predict(y)
            flow = step if flow is None else flow + step
            if level < SCALES:
                flows.insert(0, flow)
        return flows


def correlation(own, theirs, radius):
    """
    Return how alike two maps are at each displacement.

    Parameters
    ----------
    own, theirs : torch.Tensor
        Shape (B, C, H, W).
    radius : int
        Largest displacement along each axis, pixels.

    Returns
    -------
    torch.Tensor
        Cosine of the angle between a vector of ``own`` and that of ``theirs`` which lies (dx, dy)
        farther, dy slowest, both from -radius up; 0 beyond the border; shape
        (B, (2 radius + 1)^2, H, W). Vectors begin at the mean of both maps: what all pixels have
        in common makes everything alike.

    """
    height, width = own.shape[2:]
    mean = 0.5 * (own + theirs).mean((2, 3), keepdim=True)
    own, theirs = own - mean, theirs - mean
    own, theirs = F.normalize(own, dim=1), F.normalize(theirs, dim=1)
    theirs = F.pad(theirs, (radius,) * 4)
    return torch.cat([
        (own * theirs[:, :, y:y + height, x:x + width]).sum(1, keepdim=True)
        for y in range(2 * radius + 1) for x in range(2 * radius + 1)], 1)


def likeliest(alike, radius, sharpness):
    """
    Return the mean displacement, weighted by how alike two maps are there.

    Parameters
    ----------
    alike : torch.Tensor
        From `correlation`, shape (B, (2 radius + 1)^2, H, W).
    radius : int
        As there.
    sharpness : torch.Tensor
        More lets the most alike count alone, a number.

    Returns
    -------
    torch.Tensor
        (dx, dy), shape (B, 2, H, W).

    """
    steps = torch.arange(-radius, radius + 1, dtype=alike.dtype, device=alike.device)
    share = (sharpness * alike).softmax(1).unflatten(1, (2 * radius + 1, -1))
    dx = (share.sum(1) * steps[:, None, None]).sum(1, keepdim=True)
    dy = (share.sum(2) * steps[:, None, None]).sum(1, keepdim=True)
    return torch.cat([dx, dy], 1)


def _layer(n_in, n_out, stride=1):
    """Return a convolution and ELU: at the learning rates of short trainings ReLU can die."""
    return nn.Sequential(EvenConv2d(n_in, n_out, 3, stride), nn.ELU(inplace=True))
