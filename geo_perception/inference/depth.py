# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The depth pipeline: one camera image in, its depth out."""

from dataclasses import dataclass
from typing import Optional

import numpy as np

from geo_perception.geometry.camera import Camera


@dataclass(frozen=True)
class DepthEstimate:
    """
    The depth of one image.

    Attributes
    ----------
    depth : np.ndarray
        Along the optical axis, NaN where unknown, float32, shape (h, w) of the network's input:
        metres if ``metric``, else in the network's own unit.
    camera : Camera or None
        Pinhole intrinsics of that depth image, without distortion; None where the intrinsics
        of the image are unknown.
    metric : bool
        Whether the unit is metres.

    """

    depth: np.ndarray
    camera: Optional[Camera]
    metric: bool
