# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
How far a camera turned between two images, by the whole of them made small.

Corners are found again within some thirty pixels of where they are looked for. A fast turn that
nobody foresaw is further. Turns move all of an image, near or far, so that few pixels are enough
(inverse compositional alignment, Baker and Matthews 2004; of small blurred images, as Klein and
Murray 2008 begin each frame with).
"""

import cv2
import numpy as np

from geo_perception.geometry.se3 import matrix_from_rotation_vector

# Pixels of the small images, one after the other, and steps of Gauss-Newton in each.
PIXELS, STEPS = (300, 1200), 8
# Blur of small images, pixels, so that derivatives reach far enough.
BLUR = 0.75
# Less in common than that part of an image tells no turn.
SMALLEST_OVERLAP = 0.2
# Radians: a smaller step is the last.
SMALLEST_STEP = 1e-3
# What lies outside of an image, or half outside, is below 0.
_OUTSIDE = -1e4


def turn_between(before, now, guess):
    """
    Return how a camera turned between two images.

    Parameters
    ----------
    before, now : FeatureImage
        Of one camera.
    guess : np.ndarray
        Where it may have turned to, 3x3: ``R_before_now``. That it did not turn is tried, too.

    Returns
    -------
    np.ndarray or None
        ``R_before_now``, 3x3; None where nothing tells.

    """
    coarse, fine = (_Template(before, now, pixels) for pixels in PIXELS)
    fits = [coarse.fit(R) for R in (guess.T, np.eye(3))]
    R, misfit = min(fits, key=lambda fit: fit[1])
    if np.isfinite(misfit):
        R, misfit = fine.fit(R)
    return R.T if np.isfinite(misfit) else None


class _Template:
    """Two images made small, and how the first one changes with small turns."""

    def __init__(self, before, now, pixels):
        height, width = before.grey.shape
        scale = (pixels / (height * width)) ** 0.5
        self._size = max(round(width * scale), 4), max(round(height * scale), 4)
        self._before, self._now = (cv2.GaussianBlur(
            cv2.resize(image.grey, self._size, interpolation=cv2.INTER_AREA), (0, 0), BLUR)
            for image in (before, now))
        ratio = np.array(self._size) / (width, height)
        self._K = before.K.copy()
        self._K[:2] *= ratio[:, None]
        self._K[:2, 2] += (ratio - 1) / 2
        rows, columns = self._before.shape
        x, y = np.meshgrid((np.arange(columns) - self._K[0, 2]) / self._K[0, 0],
                           (np.arange(rows) - self._K[1, 2]) / self._K[1, 1])
        by_y, by_x = np.gradient(self._before)
        by_x, by_y = by_x * self._K[0, 0], by_y * self._K[1, 1]
        self._J = np.stack([-by_x * x * y - by_y * (1 + y * y), by_x * (1 + x * x) + by_y * x * y,
                            by_y * x - by_x * y], -1)

    def fit(self, R):
        """Return ``R_now_before`` from a guess of it, and how badly that fits; infinite: lost."""
        K_inverse = np.linalg.inv(self._K)
        for _ in range(STEPS):
            there = cv2.warpPerspective(
                self._now, self._K @ R @ K_inverse, self._size, borderValue=_OUTSIDE,
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
            seen = there >= 0
            if seen.mean() < SMALLEST_OVERLAP:
                return R, np.inf
            here, there, J = self._before[seen], there[seen], self._J[seen]
            contrast = here.std()
            # A lamp or the exposure is no turn.
            error = (there - there.mean()) * (contrast / (there.std() + 1e-3)) - (
                here - here.mean())
            size = np.abs(error).mean()
            weights = 1.0 / (1.0 + (error / (2 * size + 1e-3)) ** 2)
            weighted = J * weights[:, None]
            try:
                step = np.linalg.solve(J.T @ weighted + 1e-6 * np.eye(3), weighted.T @ error)
            except np.linalg.LinAlgError:
                return R, np.inf
            R = R @ matrix_from_rotation_vector(-step)
            if np.abs(step).max() < SMALLEST_STEP:
                break
        return R, float(size / (contrast + 1e-3)) if np.isfinite(R).all() else np.inf
