# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Depth of one eye, checked by the other one where there happens to be one."""

from dataclasses import dataclass

import cv2
import numpy as np

from geo_perception.geometry.block_matching import block_matching

# Pixels of width that the pair is looked at with: a few milliseconds.
WIDTH = 320
# Parts of the width that matching looks for.
LARGEST_MATCHED = 0.3
# Share of the pixels that matching has to answer for, for its answer to count.
SMALLEST_COVERAGE = 0.05
# Depth that is this part off, at the median, is worth a warning.
LARGEST_ERROR = 0.2


@dataclass(frozen=True)
class EyeCheck:
    """
    What the other eye says.

    Attributes
    ----------
    error : float
        Mean difference of the left image from the right one once that is laid over it by
        disparity, 0..1.
    matched_error : float
        The same by block matching, at the pixels it has an answer for; NaN where it has none.
    ratio : float
        Predicted over matched depth, the median; NaN where matching has no answer.

    """

    error: float
    matched_error: float
    ratio: float

    def warning(self):
        """
        Return what is wrong.

        Returns
        -------
        str
            One sentence, mostly empty.

        """
        if not np.isfinite(self.ratio) or abs(np.log(self.ratio)) < np.log1p(LARGEST_ERROR):
            return ''
        return (f'Depth is {self.ratio:.2f} times what both eyes see (median): calibrate the '
                'scale, check the baseline of the right camera_info, or train with pairs of this '
                'camera.')


def check_eyes(left, right, disparity):
    """
    Compare a prediction with a pair.

    Parameters
    ----------
    left, right : np.ndarray
        Rectified, (H, W, 3) uint8 RGB.
    disparity : np.ndarray
        Between these two eyes as predicted, parts of the width, NaN where unknown, shape (h, w).

    Returns
    -------
    EyeCheck

    """
    size = WIDTH, max(1, round(WIDTH * left.shape[0] / left.shape[1]))
    left, right = (cv2.resize(eye, size, interpolation=cv2.INTER_AREA) for eye in (left, right))
    predicted = WIDTH * cv2.resize(disparity.astype(np.float32), size,
                                   interpolation=cv2.INTER_LINEAR)
    matched = block_matching(left, right, LARGEST_MATCHED * WIDTH)
    both = np.isfinite(matched) & np.isfinite(predicted) & (predicted > 0)
    enough = both.mean() > SMALLEST_COVERAGE
    return EyeCheck(
        _difference(left, right, predicted),
        _difference(left, right, matched) if enough else float('nan'),
        float(np.median(matched[both] / predicted[both])) if enough else float('nan'))


def _difference(left, right, disparity):
    """Return the mean difference where both images and the disparity say something, 0..1."""
    height, width = disparity.shape
    known = np.isfinite(disparity)
    column = np.arange(width, dtype=np.float32) - np.where(known, disparity, 0)
    row = np.repeat(np.arange(height, dtype=np.float32)[:, None], width, 1)
    there = cv2.remap(right, column.astype(np.float32), row, cv2.INTER_LINEAR)
    known &= column >= 0
    if not known.any():
        return float('nan')
    return float(np.abs(left[known].astype(np.float32) - there[known]).mean() / 255)
