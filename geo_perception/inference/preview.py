# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Depth as a picture to look at."""

import cv2
import numpy as np

# The nearest part of the inverse depths is cut off, or one pixel darkens the rest.
NEAREST_PART = 0.98


def preview(depth, image):
    """
    Return a picture of a depth image below the image that it is of.

    Parameters
    ----------
    depth : np.ndarray
        Any unit, NaN where unknown, shape (h, w).
    image : np.ndarray
        (H, W, 3) uint8 RGB.

    Returns
    -------
    np.ndarray
        (2 h, w, 3) uint8 BGR: near is bright, unknown is black.

    """
    height, width = depth.shape
    inverse = np.nan_to_num(1.0 / depth, nan=0.0)
    nearest = max(np.quantile(inverse, NEAREST_PART), 1e-12)
    colours = cv2.applyColorMap((255 * np.clip(inverse / nearest, 0, 1)).astype(np.uint8),
                                cv2.COLORMAP_MAGMA)
    scale = max(width / image.shape[1], height / image.shape[0])
    size = max(round(image.shape[1] * scale), width), max(round(image.shape[0] * scale), height)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    crop = small[top:top + height, left:left + width, ::-1]
    return np.concatenate([crop, colours])
