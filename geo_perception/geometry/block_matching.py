# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Disparity without a network: OpenCV's semi-global block matching, which sees both eyes."""

import cv2
import numpy as np

_STEP = 16   # OpenCV's numbers of disparities
_UNITS = 16.0
_BLOCK = 5


def block_matching(left, right, largest):
    """
    Return the disparity of a rectified pair.

    Parameters
    ----------
    left, right : np.ndarray
        (H, W, 3) uint8 RGB.
    largest : float
        That is looked for, pixels.

    Returns
    -------
    np.ndarray
        Of the left image, pixels, float32, NaN where the eyes disagree or cannot tell,
        shape (H, W).

    """
    count = _STEP * max(1, int(np.ceil(largest / _STEP)))
    matcher = cv2.StereoSGBM_create(
        0, count, _BLOCK, P1=8 * 3 * _BLOCK ** 2, P2=32 * 3 * _BLOCK ** 2, disp12MaxDiff=1,
        uniquenessRatio=10, speckleWindowSize=100, speckleRange=2,
        mode=cv2.STEREO_SGBM_MODE_SGBM_3WAY)
    # Black on the left, where the left image shows what the right one no longer does.
    wide = [cv2.copyMakeBorder(image, 0, 0, count, 0, cv2.BORDER_CONSTANT)
            for image in (left, right)]
    disparity = matcher.compute(*wide)[:, count:].astype(np.float32) / _UNITS
    reaching = np.arange(left.shape[1]) - disparity >= 0
    return np.where((disparity > 0) & reaching, disparity, np.float32(np.nan))
