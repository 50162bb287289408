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
# where it was looked for. A patch is found after a step shorter than the last number, pixels.
STEPS, LONGEST_STEP, LARGEST_CORRECTION, SHORTEST_STEP = 5, 1.0, 2.0, 0.003
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
    basis : np.ndarray
        What levels of an image are compared with: derivatives of the first ones by x and y, and
        these themselves. Each less its mean, so that brightness does not count, and over the
        contrast of the first ones: float32, shape (N, 3, n).
    products : np.ndarray
        Of the basis with itself, shape (N, 3, 3).

    """

    basis: np.ndarray
    products: np.ndarray

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
        basis = np.stack([_levels(image, places + half) - _levels(image, places - half)
                          for half in ([0.5, 0.0], [0.0, 0.5])] + [levels], 1)
        basis -= basis.mean(2, keepdims=True)
        basis /= _contrast(levels.std(1))[:, None, None]
        return cls(basis, basis @ np.swapaxes(basis, 1, 2))

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
        return Patches(self.basis[which], self.products[which])

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
        return Patches(np.concatenate([self.basis, others.basis]),
                       np.concatenate([self.products, others.products]))

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
        warps = np.where(seen[:, None, None], warps, np.eye(2)).astype(np.float32)
        inverses = np.linalg.inv(warps)
        transposed = np.swapaxes(inverses, 1, 2)
        # What the products of levels and derivatives say about a step.
        to_step = np.linalg.inv(transposed @ self.products[:, :2, :2] @ inverses
                                + _DAMPING * np.eye(2, dtype=np.float32)) @ transposed
        offsets = _OFFSETS @ np.swapaxes(warps, 1, 2)
        at = pixels.astype(np.float32)
        correlation = np.zeros(len(at), np.float32)
        left = np.arange(len(at))
        for k in range(STEPS + 1):
            levels = _levels(image, at[left, None] + offsets[left])
            products = (self.basis[left] @ levels[:, :, None])[..., 0]
            deviation = levels.std(1)
            correlation[left] = products[:, 2] / np.maximum(deviation * SIZE, 1e-6)
            if k == STEPS:
                break
            error = products[:, :2] / _contrast(deviation)[:, None] - self.products[left, :2, 2]
            step = np.clip((to_step[left] @ error[:, :, None])[..., 0], -LONGEST_STEP,
                           LONGEST_STEP)
            at[left] -= step
            left = left[np.abs(step).max(1) > SHORTEST_STEP]
            if not len(left):
                break
        alike = correlation > SMALLEST_CORRELATION * np.sqrt(self.products[:, 2, 2])
        near = np.linalg.norm(at - pixels, axis=1) < LARGEST_CORRECTION
        return at.astype(float), seen & near & alike


def _levels(image, places):
    """Return the image between pixels, shape (N, n)."""
    if not len(places):
        return np.zeros(places.shape[:-1], np.float32)
    return cv2.remap(image.grey, np.float32(places), None, cv2.INTER_LINEAR,
                     borderMode=cv2.BORDER_REPLICATE)


def _contrast(deviation):
    """Return what a patch is divided by, from the standard deviation of its levels."""
    return deviation + np.float32(SMALLEST_CONTRAST)
