# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""ResFlowNet, GeoNet's non-rigid motion localizer, and its direct twin (geonet.md section 1.4)."""

from torch import nn

from geo_perception.errors import ConfigurationError
from geo_perception.geometry.constants import constant
from geo_perception.networks.dispnet_resnet import ResNetPyramid
from geo_perception.networks.layers import BATCH_NORM_MOMENTUM

# Channels of the input: two images, the second warped to the first, rigid flow, and how different
# the warped one is; or two images alone.
INPUTS = {'residual': 12, 'direct': 6}
# Predictions are this part of the size of the image for each unit of the last layer.
FLOW_SCALE = 0.1


def check_arguments(name, variant, width):
    """
    Refuse arguments that no flow network takes.

    Parameters
    ----------
    name : str
        Of the network, for messages.
    variant : str
        One of `INPUTS`.
    width : float
        Factor on numbers of channels.

    Raises
    ------
    ConfigurationError
        When the variant is unknown or the width not positive.

    """
    if variant not in INPUTS:
        raise ConfigurationError(f'variant "{variant}" of {name} is unknown; choose one of '
                                 f'{", ".join(INPUTS)}')
    if width <= 0:
        raise ConfigurationError(f'{name} needs a width above 0, not {width}')


def to_pixels(fraction):
    """
    Return flow in pixels from flow in parts of the size of the image.

    Parameters
    ----------
    fraction : torch.Tensor
        Shape (B, 2, H, W).

    Returns
    -------
    torch.Tensor
        Same shape.

    """
    height, width = fraction.shape[2:]
    return fraction * constant(fraction, width, height)[:, None, None]


class ResFlowNet(ResNetPyramid):
    """
    Optical flow at four scales: what rigid flow lacks, or all of it.

    Parameters
    ----------
    variant : str
        ``residual``: what has to be added to rigid flow; ``direct``: flow from two images alone.
    zero_heads : bool
        Begin with no flow at all, so that full flow begins as rigid flow. Published networks
        begin tens of pixels off, where almost nothing passes the consistency check (geonet.md
        section 4).
    width : float
        Factor on all numbers of channels.
    momentum : float
        Of the statistics of batch norm; short trainings want 0.01 to 0.1 (geonet.md section 9).

    Raises
    ------
    ConfigurationError
        When the variant is unknown or the width not positive.

    """

    def __init__(self, variant='residual', zero_heads=True, width=1.0,
                 momentum=BATCH_NORM_MOMENTUM):
        check_arguments('resflownet', variant, width)
        super().__init__(INPUTS[variant], 2, width, momentum)
        self.variant = variant
        if zero_heads:
            for head in self.predict:
                nn.init.zeros_(head.weight)

    def activate(self, raw):
        """Return flow in parts of the size of the image, as the decoder passes it on."""
        return FLOW_SCALE * raw

    def forward(self, x):
        """
        Return flow.

        Parameters
        ----------
        x : torch.Tensor
            See `geo_perception.inference.flow_input`, shape (B, 12, H, W), or (B, 6, H, W) for
            the direct variant, multiples of 8.

        Returns
        -------
        list of torch.Tensor
            (u, v) in pixels of each scale, shapes (B, 2, H / 2^s, W / 2^s), the finest first.

        """
        return [to_pixels(fraction) for fraction in super().forward(x)]
