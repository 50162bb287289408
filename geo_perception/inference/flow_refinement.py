# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Flow of a network, made sharp in the image of the camera.

Networks see small images, where small things hardly move: half of the moving pixels of the sample
world move less than one pixel there. Dense inverse search (Kroeger et al. 2016), which OpenCV
has, begins at the flow of the network and ends within a fraction of a pixel of the large image.
"""

import cv2
import numpy as np

# Of OpenCV's medium preset, but to the last pixel, a sparser grid of patches and more smoothing:
# as good on the sample world as the dense grid, and faster.
FINEST_SCALE, PATCH_STRIDE, VARIATIONAL_STEPS = 0, 5, 10


class FlowRefinement:
    """Refines flow both ways between two images."""

    def __init__(self):
        self._search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._search.setFinestScale(FINEST_SCALE)
        self._search.setPatchStride(PATCH_STRIDE)
        self._search.setVariationalRefinementIterations(VARIATIONAL_STEPS)

    def __call__(self, image, other, flow):
        """
        Return better flow.

        Parameters
        ----------
        image, other : np.ndarray
            Grey, uint8, shape (H, W).
        flow : np.ndarray
            From ``image`` to ``other``, of the same view at a smaller size and in its pixels,
            float32, shape (h, w, 2).

        Returns
        -------
        np.ndarray
            Same shape and pixels.

        """
        (height, width), (rows, columns) = image.shape, flow.shape[:2]
        zoom = np.array([width / columns, height / rows], np.float32)
        start = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR) * zoom
        found = self._search.calc(image, other, np.ascontiguousarray(start))
        return cv2.resize(found, (columns, rows), interpolation=cv2.INTER_AREA) / zoom
