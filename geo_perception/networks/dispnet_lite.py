# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Disparity for small computers: a pretrained EfficientNet-Lite0 and a slim decoder with skips.

Unsupervised training from random weights takes days; from an ImageNet trunk it takes an hour.
"""

import torch

from geo_perception.errors import ConfigurationError
from geo_perception.networks.dispnet import DISPARITY_SCALE, SMALLEST_DISPARITY
from geo_perception.networks.lite import LitePyramid

# Training begins with surfaces at about twice the unit: a sigmoid that begins in the middle has
# them at a fiftieth of its range, and motion that is too small at first drives it into its end.
INITIAL_LOGIT = -3.0


class DispNetLite(LitePyramid):
    """
    Disparity at four scales from one image.

    Images are in [-1, 1]; disparity is inverse depth, as a rule in 0.01..10.01.

    Parameters
    ----------
    width : float
        Factor on the channels of the decoder.
    frozen_trunk : bool
        Whether the trunk keeps its weights.
    span, smallest : float
        Length and lower end of the range of the disparity, which a start with a stereo-trained
        network sets.

    Raises
    ------
    ConfigurationError
        When the width or the range is not positive.

    """

    def __init__(self, width=1.0, frozen_trunk=False, span=DISPARITY_SCALE,
                 smallest=SMALLEST_DISPARITY):
        if width <= 0 or span <= 0 or smallest < 0:
            raise ConfigurationError(f'dispnet_lite needs a width and a span above 0 and a '
                                     f'smallest disparity not below, not {width}, {span} and '
                                     f'{smallest}')
        super().__init__(1, width, frozen_trunk, INITIAL_LOGIT)
        self._span, self._smallest = span, smallest

    def trunk_input(self, images):
        """Return what the trunk was pretrained on."""
        return (images * 127.5 + 0.5) / 128.0

    def activate(self, raw):
        """Return disparity."""
        return self._span * torch.sigmoid(raw) + self._smallest
