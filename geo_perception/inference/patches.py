# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Corners found exactly: by what they looked like where they were seen first.

What is followed from image to image slips a little with each, and after ten of them is off by
half a pixel. Here the patch of the first image is bent to the view of the camera now, and moved to
where it fits best (inverse compositional alignment, Baker and Matthews 2004, as in SVO, Forster et
al. 2014): errors do not add up.
"""

from dataclasses import dataclass

import cv2
import numpy as np

# Pixels of a patch, across.
SIZE = 9
# Steps of Gauss-Newton, pixels of the longest one, and pixels that a patch may be found away from
# where it was looked for.
STEPS, LONGEST_STEP, LARGEST_CORRECTION = 5, 1.0, 2.0
# A patch that looks less like the first is not found, nor one whose area has become smaller than
# this part of it: that is seen from the side, or from behind.
SMALLEST_CORRELATION, SMALLEST_AREA = 0.7, 0.05
# Levels of 255: contrast below it is not enlarged.
SMALLEST_CONTRAST = 1.0
_OFFSETS = np.stack(np.meshgrid(
    *[np.arange(SIZE, dtype=np.float32) - SIZE // 2] * 2), -1).reshape(-1, 2)
# Damps the normal equations of what has no texture.
_DAMPING = 1e-4


@dataclass(frozen=True)
class Patches:
    """
    What corners looked like.

    Attributes
    ----------
    values : np.ndarray
        Levels less their mean, over their contrast, so that a lamp does not count: float32, shape
        (N, n).
    gradients : np.ndarray
        Derivatives of the levels by the pixels of that image, less their mean, over the same
        contrast: float32, shape (N, n, 2).

    """

    values: np.ndarray
    gradients: np.ndarray

    @classmethod
    def of(cls, image, pixels):
        """
        Cut patches out of an image.

        Parameters
        ----------
        image : FeatureImage
            In which the corners were found.
        pixels : np.ndarray
            Where, shape (N, 2).

        Returns
        -------
        Patches

        """
        places = pixels[:, None] + _OFFSETS
        levels = _levels(image, places)
        gradients = np.stack([_levels(image, places + half) - _levels(image, places - half)
                              for half in ([0.5, 0.0], [0.0, 0.5])], -1)
        gradients -= gradients.mean(1, keepdims=True)
        return cls(_even(levels), gradients / _contrast(levels)[..., None])

    def chosen(self, which):
        """
        Return some of them.

        Parameters
        ----------
        which : np.ndarray
            Bool or indices.

        Returns
        -------
        Patches

        """
        return Patches(self.values[which], self.gradients[which])

    def joined(self, others):
        """
        Return these, then others.

        Parameters
        ----------
        others : Patches
            To append.

        Returns
        -------
        Patches

        """
        return Patches(np.concatenate([self.values, others.values]),
                       np.concatenate([self.gradients, others.gradients]))

    def align(self, image, warps, pixels):
        """
        Find the patches in another image.

        Parameters
        ----------
        image : FeatureImage
            To search.
        warps : np.ndarray
            How small steps in the first image become steps in this one, shape (N, 2, 2).
        pixels : np.ndarray
            Where to begin, within a pixel or two, shape (N, 2).

        Returns
        -------
        pixels : np.ndarray
            Shape (N, 2).
        found : np.ndarray
            Which of them look like the first, near to where it was begun; bool, shape (N,).

        """
        seen = np.linalg.det(warps) > SMALLEST_AREA
        warps = np.where(seen[:, None, None], warps, np.eye(2))
        J = self.gradients @ np.float32(np.linalg.inv(warps))
        J_T = np.ascontiguousarray(np.swapaxes(J, 1, 2))
        to_step = np.linalg.solve(J_T @ J + _DAMPING * np.eye(2, dtype=np.float32), J_T)
        offsets = _OFFSETS @ np.float32(np.swapaxes(warps, 1, 2))
        at = pixels.astype(np.float32)
        for _ in range(STEPS):
            difference = _even(_levels(image, at[:, None] + offsets)) - self.values
            at -= np.clip((to_step * difference[:, None]).sum(2), -LONGEST_STEP, LONGEST_STEP)
        now = _even(_levels(image, at[:, None] + offsets))
        lengths = np.linalg.norm(now, axis=1) * np.linalg.norm(self.values, axis=1)
        alike = (now * self.values).sum(1) > SMALLEST_CORRELATION * lengths
        near = np.linalg.norm(at - pixels, axis=1) < LARGEST_CORRECTION
        return at.astype(float), seen & near & alike


def _levels(image, places):
    """Return the image between pixels, shape (N, n)."""
    if not len(places):
        return np.zeros(places.shape[:-1], np.float32)
    return cv2.remap(image.grey, np.float32(places), None, cv2.INTER_LINEAR,
                     borderMode=cv2.BORDER_REPLICATE)


def _contrast(levels):
    return levels.std(1, keepdims=True) + np.float32(SMALLEST_CONTRAST)


def _even(levels):
    return (levels - levels.mean(1, keepdims=True)) / _contrast(levels)
