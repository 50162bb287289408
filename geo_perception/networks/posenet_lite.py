# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
A pose regressor for small computers: a light pretrained trunk, a head that keeps the layout.

The trunk is frozen: it runs once over every training view, and a head is trained in minutes on a
CPU. The head sees two depths of the trunk and flattens them instead of averaging, because where
in the image something appears is what tells the pose.
"""

import torch
from torch import nn
from torch.nn import functional as F

from geo_perception.errors import ConfigurationError
from geo_perception.networks.efficientnet import EfficientNetLite, imagenet_weights
from geo_perception.networks.regressor import PoseLayer, PoseRegressor

STRIDE = 32


class PoseNetLite(PoseRegressor):
    """
    EfficientNet-Lite0 with one pose regressor.

    Parameters
    ----------
    input_size : tuple of int
        (height, width), multiples of 32.
    rotation_width : int
        Numbers that describe a rotation.
    reduced : int
        Channels that each of the two maps of the trunk is reduced to before flattening.
    hidden : int
        Width of the localization feature.
    dropout : float
        Drop probability before the outputs; before the hidden layer it is 0.6 of that.

    Raises
    ------
    ConfigurationError
        When a size is not positive, the input no multiple of 32, or dropout not in [0, 1).

    """

    def __init__(self, input_size=(224, 288), rotation_width=6, reduced=64, hidden=512,
                 dropout=0.5):
        super().__init__()
        self.input_size = tuple(input_size)
        if any(size < STRIDE or size % STRIDE for size in self.input_size):
            raise ConfigurationError(f'posenet_lite takes inputs of multiples of {STRIDE} pixels, '
                                     f'not {self.input_size[0]}x{self.input_size[1]}; change '
                                     'preprocessing.crop')
        if min(reduced, hidden) < 1 or not 0 <= dropout < 1:
            raise ConfigurationError(f'posenet_lite needs reduced ({reduced}) and hidden '
                                     f'({hidden}) above 0 and dropout ({dropout}) in [0, 1)')
        cells = (self.input_size[0] // STRIDE) * (self.input_size[1] // STRIDE)
        self.trunk = EfficientNetLite().requires_grad_(False)
        self.reduce_deep = nn.Conv2d(EfficientNetLite.out_channels, reduced, 1)
        self.reduce_fine = nn.Conv2d(EfficientNetLite.fine_channels, reduced, 1)
        self.shrink_fine = nn.Conv2d(reduced, reduced, 3, 2, padding=1)
        self.hidden = nn.Linear(2 * reduced * cells, hidden)
        self.position = PoseLayer(hidden, 3)
        self.rotation = PoseLayer(hidden, rotation_width)
        self._drop_map, self._drop_hidden = 0.6 * dropout, dropout

    has_frozen_part = True

    def load_pretrained(self):
        """Take the ImageNet weights of the trunk."""
        self.trunk.load_pretrained(imagenet_weights())

    def frozen(self, images):
        """Return both maps of the trunk on the grid of the deep one, (B, 768, H / 32, W / 32)."""
        fine, deep = self.trunk(images)
        return torch.cat([deep, F.pixel_unshuffle(fine, 2)], 1)

    def upper(self, frozen):
        """Return both maps reduced and flattened."""
        deep = frozen[:, :EfficientNetLite.out_channels]
        fine = F.pixel_shuffle(frozen[:, EfficientNetLite.out_channels:], 2)
        fine = F.relu(self.shrink_fine(F.relu(self.reduce_fine(fine))))
        return torch.cat([F.relu(self.reduce_deep(deep)), fine], 1).flatten(1)

    def dropout_layers(self):
        """Return shape and probability of the layers; see `PoseRegressor.dropout_layers`."""
        return [((self.hidden.in_features,), self._drop_map),
                ((self.hidden.out_features,), self._drop_hidden)]

    def regress(self, features, masks=None):
        """Return poses for features; see `PoseRegressor.regress`."""
        if masks:
            features = features * masks[0]
        hidden = F.relu(self.hidden(features))
        if masks:
            hidden = hidden * masks[1]
        return self.position(hidden), self.rotation(hidden)

    def heads(self, frozen):
        """Return the training outputs of the one head."""
        features = F.dropout(self.upper(frozen), self._drop_map, self.training)
        hidden = F.dropout(F.relu(self.hidden(features)), self._drop_hidden, self.training)
        return [(self.position(hidden), self.rotation(hidden))]

    def regressors(self):
        """Return the output layers of the one head."""
        return [(self.position, self.rotation)]
