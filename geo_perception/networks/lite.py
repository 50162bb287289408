# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Maps at four scales for small computers: a pretrained trunk and a slim decoder with skips."""

import torch
from torch import nn
from torch.nn import functional as F

from geo_perception.networks.efficientnet import EfficientNetLite, imagenet_weights
from geo_perception.networks.layers import elu_convolution, EvenConv2d, scaled

# Stages of the trunk that feed the decoder, from stride 32 to 2, and their channels.
TAPS = ((6, 320), (4, 112), (2, 40), (1, 24), (0, 16))
DECODER = (96, 64, 48, 32, 16)
SCALES = 4


class LitePyramid(nn.Module):
    """
    EfficientNet-Lite0 and a decoder; subclasses say what goes in and what comes out.

    Parameters
    ----------
    n_out : int
        Channels of each map.
    width : float
        Factor on the channels of the decoder.
    frozen_trunk : bool
        Whether the trunk keeps its weights.
    initial_logit : float
        What the maps are at first, before `activate`.

    """

    # Of the height and width of the input.
    multiple = 32

    def __init__(self, n_out, width, frozen_trunk, initial_logit):
        super().__init__()
        self.trunk = EfficientNetLite().requires_grad_(not frozen_trunk)
        (_, n), *skips = TAPS
        self.reduce, self.merge = nn.ModuleList(), nn.ModuleList()
        self.predict = nn.ModuleList()
        for i, channels in enumerate(DECODER):
            channels = scaled(channels, width)
            # Narrowed before it is enlarged: half the work of the published order. ELU, since at
            # the learning rates of short trainings ReLU can die.
            self.reduce.append(elu_convolution(n, channels, 1 if i == 0 else 3))
            skip = skips[i][1] if i < len(skips) else 0
            self.merge.append(elu_convolution(channels + skip, channels, 3))
            if i >= len(DECODER) - SCALES:
                self.predict.append(EvenConv2d(channels, n_out, 3))
                nn.init.constant_(self.predict[-1].bias, initial_logit)
            n = channels

    def load_pretrained(self):
        """Take the ImageNet weights of the trunk."""
        self.trunk.load_pretrained(imagenet_weights())

    def trunk_input(self, images):
        """Return ``(x - 127) / 128`` of 0..255, from images as the network takes them."""
        raise NotImplementedError

    def activate(self, raw):
        """Return a map from the linear output of its layer."""
        raise NotImplementedError

    def forward(self, images):
        """
        Return the maps.

        Parameters
        ----------
        images : torch.Tensor
            Shape (B, 3, H, W), multiples of 32.

        Returns
        -------
        list of torch.Tensor
            Shapes (B, D, H / 2^s, W / 2^s), the finest first.

        """
        maps = self.trunk.pyramid(self.trunk_input(images))
        x, *skips = [maps[stage] for stage, _ in TAPS]
        results, first = [], len(DECODER) - SCALES
        for i, (reduce, merge) in enumerate(zip(self.reduce, self.merge)):
            x = F.interpolate(reduce(x), scale_factor=2)
            x = merge(torch.cat([x, skips[i]], 1) if i < len(skips) else x)
            if i >= first:
                results.insert(0, self.activate(self.predict[i - first](x)))
        return results
