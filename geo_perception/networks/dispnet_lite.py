# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Disparity for small computers: a pretrained EfficientNet-Lite0 and a slim decoder with skips.

Unsupervised training from random weights takes days; from an ImageNet trunk it takes an hour.
"""

import torch
from torch import nn
from torch.nn import functional as F

from geo_perception.errors import ConfigurationError
from geo_perception.networks.dispnet import DISPARITY_SCALE, SMALLEST_DISPARITY
from geo_perception.networks.efficientnet import EfficientNetLite, imagenet_weights
from geo_perception.networks.layers import EvenConv2d, scaled

# Stages of the trunk that feed the decoder, from stride 32 to 2, and their channels.
TAPS = ((6, 320), (4, 112), (2, 40), (1, 24), (0, 16))
DECODER = (96, 64, 48, 32, 16)
SCALES = 4
# Training begins with surfaces at about twice the unit: a sigmoid that begins in the middle has
# them at a fiftieth of its range, and motion that is too small at first drives it into its end.
INITIAL_LOGIT = -3.0


class DispNetLite(nn.Module):
    """
    Disparity at four scales from one image.

    Parameters
    ----------
    width : float
        Factor on the channels of the decoder.
    frozen_trunk : bool
        Whether the trunk keeps its weights.

    Raises
    ------
    ConfigurationError
        When the width is not positive.

    """

    # Of the height and width of the input.
    multiple = 32

    def __init__(self, width=1.0, frozen_trunk=False):
        super().__init__()
        if width <= 0:
            raise ConfigurationError(f'dispnet_lite needs a width above 0, not {width}')
        self.trunk = EfficientNetLite().requires_grad_(not frozen_trunk)
        (_, n), *skips = TAPS
        self.reduce, self.merge = nn.ModuleList(), nn.ModuleList()
        self.predict = nn.ModuleList()
        for i, channels in enumerate(DECODER):
            channels = scaled(channels, width)
            # Narrowed before it is enlarged: half the work of the published order.
            self.reduce.append(_layer(n, channels, 1 if i == 0 else 3))
            skip = skips[i][1] if i < len(skips) else 0
            self.merge.append(_layer(channels + skip, channels, 3))
            if i >= len(DECODER) - SCALES:
                self.predict.append(EvenConv2d(channels, 1, 3))
                nn.init.constant_(self.predict[-1].bias, INITIAL_LOGIT)
            n = channels

    def load_pretrained(self):
        """Take the ImageNet weights of the trunk."""
        self.trunk.load_pretrained(imagenet_weights())

    def forward(self, images):
        """
        Return disparities.

        Parameters
        ----------
        images : torch.Tensor
            In [-1, 1], shape (B, 3, H, W), multiples of 32.

        Returns
        -------
        list of torch.Tensor
            Inverse depth in 0.01..10.01, shapes (B, 1, H / 2^s, W / 2^s), the finest first.

        """
        # The trunk wants (x - 127) / 128 of 0..255.
        maps = self.trunk.pyramid((images * 127.5 + 0.5) / 128.0)
        x, *skips = [maps[stage] for stage, _ in TAPS]
        disparities, first = [], len(DECODER) - SCALES
        for i, (reduce, merge) in enumerate(zip(self.reduce, self.merge)):
            x = F.interpolate(reduce(x), scale_factor=2)
            x = merge(torch.cat([x, skips[i]], 1) if i < len(skips) else x)
            if i >= first:
                raw = self.predict[i - first](x)
                disparities.insert(0, DISPARITY_SCALE * torch.sigmoid(raw)
                                   + SMALLEST_DISPARITY)
        return disparities


def _layer(n_in, n_out, kernel):
    """Return a convolution and ELU: at the learning rates of short trainings ReLU can die."""
    return nn.Sequential(EvenConv2d(n_in, n_out, kernel), nn.ELU(inplace=True))
