# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Depth as a picture to look at."""

import cv2
import numpy as np

# Single pixels that are nearer or farther would leave few colours for the rest.
_REACH = 1, 99   # percent of the pixels
UNKNOWN = 225, 229, 233


def depth_range(depths):
    """
    Return the depths that the colours of `depth_picture` reach from and to.

    Parameters
    ----------
    depths : list of np.ndarray
        All that is shown, in any unit, NaN where unknown.

    Returns
    -------
    tuple of float

    """
    known = np.concatenate([depth[np.isfinite(depth)] for depth in depths])
    low, high = np.percentile(known, _REACH) if len(known) else (1.0, 1.0)
    return float(low), float(max(high, 1.05 * low))


def depth_picture(depth, limits):
    """
    Return depth in colours: near red, far blue, evenly in its logarithm, unknown grey.

    Parameters
    ----------
    depth : np.ndarray
        Shape (h, w), NaN where unknown.
    limits : tuple of float
        From `depth_range`.

    Returns
    -------
    np.ndarray
        (h, w, 3) uint8 RGB.

    """
    known = np.isfinite(depth)
    low, high = np.log(limits)
    far = (np.log(np.where(known, depth, limits[0])) - low) / (high - low)
    near = np.rint(255 * (1 - far.clip(0, 1))).astype(np.uint8)
    colours = cv2.applyColorMap(near, cv2.COLORMAP_TURBO)[..., ::-1]
    return np.where(known[..., None], colours, np.uint8(UNKNOWN))


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
        (2 h, w, 3) uint8 BGR, see `depth_picture`.

    """
    height, width = depth.shape
    colours = depth_picture(depth, depth_range([depth]))[..., ::-1]
    scale = max(width / image.shape[1], height / image.shape[0])
    size = max(round(image.shape[1] * scale), width), max(round(image.shape[0] * scale), height)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    crop = small[top:top + height, left:left + width, ::-1]
    return np.concatenate([crop, colours])
