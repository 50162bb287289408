# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Disparities of both eyes for small computers, in an hour of training."""

from geo_perception.errors import ConfigurationError
from geo_perception.networks.lite import LitePyramid
from geo_perception.networks.monodepth import DisparityRange, LARGEST_DISPARITY

# Photometric gradients reach about one element of texture (monodepth.md section 20.14): training
# begins at an eighth of the range, where the surfaces of a usual rig are, not in its middle.
INITIAL_LOGIT = -2.0


class MonodepthLite(LitePyramid):
    """
    As `geo_perception.networks.monodepth.Monodepth`, on a pretrained EfficientNet-Lite0.

    Parameters
    ----------
    width : float
        Factor on the channels of the decoder.
    frozen_trunk : bool
        Whether the trunk keeps its weights.
    max_disparity, min_disparity : float
        See `geo_perception.networks.monodepth.DisparityRange`.

    Raises
    ------
    ConfigurationError
        When an argument is out of range.

    """

    def __init__(self, width=1.0, frozen_trunk=False, max_disparity=LARGEST_DISPARITY,
                 min_disparity=0.0):
        if width <= 0:
            raise ConfigurationError(f'monodepth_lite needs a width above 0, not {width}')
        super().__init__(2, width, frozen_trunk, INITIAL_LOGIT)
        self.range = DisparityRange(max_disparity, min_disparity)

    def trunk_input(self, images):
        """Return what the trunk was pretrained on."""
        return (images * 255.0 - 127.0) / 128.0

    def activate(self, raw):
        """Return disparity."""
        return self.range(raw)
