# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Points of an image that are found again in another one, with OpenCV that every build has."""

from dataclasses import dataclass

import cv2
import numpy as np

from geo_perception.errors import ConfigurationError

KINDS = ('sift', 'orb')
# Features are looked for in an image whose shorter side has this many pixels; SIFT doubles it
# itself. At the full size of a VGA camera it takes eight times as long, for the same accuracy.
SHORT_SIDE = 180
# At most so many features an image, those with the strongest response. ORB would always find more:
# with 800 a map takes three times as long to make as with 400, for poses as good.
LARGEST_NUMBERS = {'sift': 800, 'orb': 400}
# Root-SIFT (Arandjelovic & Zisserman 2012): square roots of the share of each entry, in a byte.
_ROOT_SCALE = 512.0


@dataclass(frozen=True)
class LocalFeatures:
    """
    What was found in one image.

    Attributes
    ----------
    pixels : np.ndarray
        (u, v) in the image as it was given, float32, shape (N, 2).
    descriptors : np.ndarray
        uint8: 128 entries for SIFT, 32 bytes of bits for ORB, shape (N, C).

    """

    pixels: np.ndarray
    descriptors: np.ndarray

    def __len__(self):
        """Return the number of features."""
        return len(self.pixels)


class FeatureDetector:
    """
    Finds and describes features.

    Parameters
    ----------
    kind : str
        ``sift`` or ``orb``.

    Attributes
    ----------
    kind : str
        The same.
    width : int
        Bytes of a descriptor.

    Raises
    ------
    ConfigurationError
        When the kind is unknown.

    """

    def __init__(self, kind='sift'):
        if kind not in KINDS:
            raise ConfigurationError(f'features "{kind}" are unknown; choose {" or ".join(KINDS)}')
        self.kind = kind
        self.width = 128 if kind == 'sift' else 32
        number = LARGEST_NUMBERS[kind]
        self._detector = (cv2.SIFT_create(number) if kind == 'sift'
                          else cv2.ORB_create(number, fastThreshold=7))

    def __call__(self, image):
        """
        Return the features of an image.

        Parameters
        ----------
        image : np.ndarray
            (H, W, 3) uint8 RGB, any size.

        Returns
        -------
        LocalFeatures

        """
        grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
        # ORB has no doubled image: it begins at twice the size.
        scale = SHORT_SIDE * (1 if self.kind == 'sift' else 2) / min(grey.shape)
        if scale < 1.0:
            size = round(grey.shape[1] * scale), round(grey.shape[0] * scale)
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        found, descriptors = self._detector.detectAndCompute(grey, None)
        if not found:
            return LocalFeatures(np.zeros((0, 2), np.float32),
                                 np.zeros((0, self.width), np.uint8))
        step = np.array([image.shape[1] / grey.shape[1], image.shape[0] / grey.shape[0]])
        pixels = (cv2.KeyPoint_convert(found) + 0.5) * step - 0.5
        if self.kind == 'sift':
            share = descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-6)
            descriptors = np.minimum(_ROOT_SCALE * np.sqrt(share), 255.0).astype(np.uint8)
        return LocalFeatures(pixels.astype(np.float32), descriptors)


def comparable(descriptors, kind):
    """
    Return descriptors as rows whose squared distances say how unlike they are.

    Parameters
    ----------
    descriptors : np.ndarray
        From `LocalFeatures`.
    kind : str
        ``sift`` or ``orb``.

    Returns
    -------
    np.ndarray
        float32, shape (N, C); for ORB a row of bits, squared distance = differing bits.

    """
    if kind == 'orb':
        descriptors = np.unpackbits(descriptors, axis=1)
    return descriptors.astype(np.float32)


def squared_distances(a, b):
    """
    Return squared Euclidean distances between rows.

    Parameters
    ----------
    a, b : np.ndarray
        From `comparable`, shapes (N, C) and (M, C).

    Returns
    -------
    np.ndarray
        float32, shape (N, M).

    """
    # OpenCV's product: OpenBLAS's threads would spin for milliseconds after it, which the network
    # pays for.
    products = cv2.gemm(a, b, -2.0, None, 0.0, flags=cv2.GEMM_2_T)
    products += np.einsum('ij,ij->i', a, a)[:, None]
    products += np.einsum('ij,ij->i', b, b)
    return products
