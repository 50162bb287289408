# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Corners of one image, found again in the next.

Images are freed of local brightness and contrast first: a light that moves with the camera, or
exposure, would pull every patch of little texture along.
"""

from dataclasses import dataclass

import cv2
import numpy as np

# Local brightness and contrast are Gaussian means of this many pixels; contrast below the second
# number of levels is not enlarged further; what is left has that deviation.
NEIGHBOURHOOD, SMALLEST_CONTRAST, DEVIATION = 6.0, 2.0, 40.0
# Such means are taken in an image that many times smaller, which is as good and costs a tenth.
COARSE = 4
# Images are made smaller than this, pixels: larger ones cost more than they tell.
LARGEST_SIDE = 640
# One corner a cell, this many cells.
CELLS = 300
# Corners whose smaller eigenvalue (`cv2.cornerMinEigenVal`) is below this are noise.
SMALLEST_CORNER = 1e-5
# Patches of Lucas-Kanade, pixels, and halvings of the image.
PATCH, HALVINGS = 9, 3
# Pixels that a corner followed forth and back may be off.
LARGEST_ROUND_TRIP = 0.5
# Errors of a place: of every corner, pixels, and per contrast, levels of 255.
PLACE_SIGMA, LEVEL_SIGMA = 0.2, 3.0
# Pixels at the border where patches are not complete.
BORDER = 6


@dataclass(frozen=True)
class FeatureImage:
    """
    An image as corners are followed in it.

    Attributes
    ----------
    grey : np.ndarray
        float32, shape (H, W).
    even : np.ndarray
        The same without local brightness and contrast, uint8.
    K : np.ndarray
        Intrinsics, no distortion, 3x3.

    """

    grey: np.ndarray
    even: np.ndarray
    K: np.ndarray

    @classmethod
    def of(cls, image, camera):
        """
        Prepare an image.

        Parameters
        ----------
        image : np.ndarray
            RGB uint8 without distortion, shape (H, W, 3).
        camera : Camera
            Of that image.

        Returns
        -------
        FeatureImage

        """
        longer = max(image.shape[:2])
        if longer > LARGEST_SIDE:
            size = tuple(round(n * LARGEST_SIDE / longer) for n in image.shape[1::-1])
            image, camera = cv2.resize(image, size, interpolation=cv2.INTER_AREA), (
                camera.resized(*size))
        # Finer than the 8 bits of each channel.
        grey = cv2.cvtColor(np.float32(image), cv2.COLOR_RGB2GRAY)
        centred = grey - _blurred(grey)
        contrast = cv2.sqrt(_blurred(centred * centred))
        even = cv2.addWeighted(cv2.divide(centred, contrast + SMALLEST_CONTRAST), DEVIATION,
                               centred, 0.0, 128.0)
        return cls(grey, np.uint8(np.clip(even, 0, 255)), camera.K)

    def rays(self, pixels):
        """
        Return (x, y) at depth 1.

        Parameters
        ----------
        pixels : np.ndarray
            Shape (N, 2).

        Returns
        -------
        np.ndarray
            Shape (N, 2).

        """
        return (pixels - self.K[:2, 2]) / self.K[[0, 1], [0, 1]]

    def pixels(self, points):
        """
        Return where points are seen.

        Parameters
        ----------
        points : np.ndarray
            In the camera, shape (N, 3).

        Returns
        -------
        np.ndarray
            Shape (N, 2), NaN where behind the camera.

        """
        z = np.where(points[:, 2:] > 1e-6, points[:, 2:], np.nan)
        return points[:, :2] / z * self.K[[0, 1], [0, 1]] + self.K[:2, 2]


def find_corners(image, taken):
    """
    Return the best corner of each cell of an image that has none yet.

    The whole image counts, not only where contrast is high: a few points on a bare floor tell
    way from turn better than many on one picture.

    Parameters
    ----------
    image : FeatureImage
        To search.
    taken : np.ndarray
        Where there are some already, pixels, shape (M, 2).

    Returns
    -------
    pixels : np.ndarray
        Shape (N, 2).

    """
    height, width = image.even.shape
    cell = max(round(np.sqrt(height * width / CELLS)), 8)
    rows, columns = height // cell, width // cell
    if not (rows and columns) or min(height, width) <= 2 * BORDER:
        return np.zeros((0, 2))
    quality = cv2.cornerMinEigenVal(image.even, 5, ksize=3)
    quality[:BORDER] = quality[-BORDER:] = quality[:, :BORDER] = quality[:, -BORDER:] = 0.0
    corner = np.array([width - columns * cell, height - rows * cell]) // 2
    cells = quality[corner[1]:corner[1] + rows * cell, corner[0]:corner[0] + columns * cell]
    cells = cells.reshape(rows, cell, columns, cell).swapaxes(1, 2).reshape(-1, cell * cell)
    best = cells.argmax(1)
    good = cells[np.arange(len(best)), best] > SMALLEST_CORNER
    indices = np.arange(len(best))
    pixels = corner + cell * np.stack([indices % columns, indices // columns], 1) + np.stack(
        [best % cell, best // cell], 1)
    pixels = pixels[good].astype(float)
    if len(taken) and len(pixels):
        apart = np.abs(pixels[:, None] - taken[None]).max(2).min(1)
        pixels = pixels[apart > cell / 2]
    return pixels


def place_roots(image, pixels):
    """
    Return how exactly corners can be placed: along an edge less than across it.

    Parameters
    ----------
    image : FeatureImage
        In which they are.
    pixels : np.ndarray
        Shape (N, 2).

    Returns
    -------
    np.ndarray
        Roots of the information about (x, y) at depth 1, shape (N, 2, 2).

    """
    if not len(pixels):
        return np.zeros((0, 2, 2))
    parts = cv2.cornerEigenValsAndVecs(image.grey, PATCH, 3)
    at = np.round(pixels).astype(int)
    parts = parts[at[:, 1], at[:, 0]].astype(float)
    roots = np.zeros((len(pixels), 2, 2))
    for k in (0, 1):
        # OpenCV's mean over the patch is of derivatives twice as large, squared.
        squares = np.maximum(parts[:, k], 0.0) / 4 * PATCH ** 2
        sigma = np.sqrt(LEVEL_SIGMA ** 2 / np.maximum(squares, 1e-3) + PLACE_SIGMA ** 2)
        axis = parts[:, 2 + 2 * k:4 + 2 * k]
        roots += axis[:, :, None] * axis[:, None] / sigma[:, None, None]
    return roots * image.K[[0, 1], [0, 1]]


def follow(before, now, pixels, expected):
    """
    Return where corners are now.

    Parameters
    ----------
    before, now : FeatureImage
        Two images of one size.
    pixels, expected : np.ndarray
        Where the corners were, and where they may be now, shape (N, 2).

    Returns
    -------
    pixels : np.ndarray
        Shape (N, 2).
    good : np.ndarray
        Which were found: they lead back to where they were, bool, shape (N,).

    """
    if not len(pixels):
        return np.zeros((0, 2)), np.zeros(0, bool)
    old, guess = (np.float32(p)[:, None] for p in (pixels, expected))
    options = {'winSize': (PATCH, PATCH), 'criteria': (3, 20, 0.01),
               'flags': cv2.OPTFLOW_USE_INITIAL_FLOW}
    new, found, _ = cv2.calcOpticalFlowPyrLK(before.even, now.even, old, guess.copy(),
                                             maxLevel=HALVINGS, **options)
    back, again, _ = cv2.calcOpticalFlowPyrLK(now.even, before.even, new, old.copy(),
                                              maxLevel=1, **options)
    new = new[:, 0].astype(float)
    height, width = now.even.shape
    inside = ((new >= BORDER / 2) & (new < np.array([width, height]) - BORDER / 2)).all(1)
    trip = np.linalg.norm(back - old, axis=2)[:, 0]
    return new, (found[:, 0] == 1) & (again[:, 0] == 1) & (trip < LARGEST_ROUND_TRIP) & inside


def _blurred(image):
    """Return Gaussian means of neighbourhoods."""
    height, width = image.shape
    small = cv2.resize(image, (-(-width // COARSE), -(-height // COARSE)),
                       interpolation=cv2.INTER_AREA)
    return cv2.resize(cv2.GaussianBlur(small, (0, 0), NEIGHBOURHOOD / COARSE), (width, height),
                      interpolation=cv2.INTER_LINEAR)
