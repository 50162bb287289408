# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Image retrieval: the baseline that a pose regressor has to beat.

The pose of the training image that looks most alike, with no learning at all. A regressor
that does not beat it has learned nothing beyond retrieval (posenet.md section 6.4).
"""

import cv2
import numpy as np

from geo_perception.errors import ModelFileError

THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT = 32, 24


def thumbnail(rgb):
    """
    Return a small grey image, free of brightness and contrast.

    Parameters
    ----------
    rgb : np.ndarray
        (H, W, 3) uint8.

    Returns
    -------
    np.ndarray
        (24, 32) float32 of zero mean and unit norm, so that the inner product of two of them
        is their correlation; all zeros for an image of one colour.

    """
    grey = cv2.resize(cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY),
                      (THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT), interpolation=cv2.INTER_AREA)
    grey = grey.astype(np.float32)
    grey -= grey.mean()
    return grey / max(np.linalg.norm(grey), np.float32(1e-6))


class Retrieval:
    """
    Answer with the pose of the most similar training image.

    Parameters
    ----------
    thumbnails : np.ndarray
        Results of :func:`thumbnail` for the training images, shape (N, 24, 32), any float type.
    poses : np.ndarray
        Their ``T_world_camera``, shape (N, 4, 4).

    """

    def __init__(self, thumbnails, poses):
        self.thumbnails = np.asarray(thumbnails, np.float32)
        self.poses = np.asarray(poses, float)
        self._rows = self.thumbnails.reshape(len(self.poses), -1)

    @classmethod
    def from_model(cls, model):
        """
        Return the baseline over the training images of a model, poses in its published frame.

        Parameters
        ----------
        model : ModelFile
            For relocalization.

        Returns
        -------
        Retrieval or None
            None where the model knows no training images, as imported ones.

        Raises
        ------
        ModelFileError
            When it is damaged.

        """
        if not any(name.startswith('retrieval.') for name in model.tensors):
            return None
        thumbnails = model.tensors.get('retrieval.thumbnails', np.zeros(0))
        poses = model.tensors.get('retrieval.poses', np.zeros(0))
        n = len(poses)
        if not n or poses.shape != (n, 4, 4) or thumbnails.shape != (
                n, THUMBNAIL_HEIGHT, THUMBNAIL_WIDTH):
            raise ModelFileError(f'model file {model.path} has thumbnails {thumbnails.shape} and '
                                 f'poses {poses.shape} of training images, expected (N, '
                                 f'{THUMBNAIL_HEIGHT}, {THUMBNAIL_WIDTH}) and (N, 4, 4); '
                                 'export it again')
        return cls(thumbnails, np.array(model.metadata.T_map_world) @ poses)

    def correlations(self, rgb):
        """
        Return how much an image looks like each training image.

        Parameters
        ----------
        rgb : np.ndarray
            (H, W, 3) uint8.

        Returns
        -------
        np.ndarray
            Correlation -1..1, shape (N,).

        """
        # Not `@`: OpenBLAS's threads spin for milliseconds after it, which the network pays for.
        return np.einsum('nd,d->n', self._rows, thumbnail(rgb).ravel())

    def nearest(self, rgb):
        """
        Return which training image looks most like this one.

        Parameters
        ----------
        rgb : np.ndarray
            (H, W, 3) uint8.

        Returns
        -------
        int
            Index into ``thumbnails`` and ``poses``.

        """
        return int(np.argmax(self.correlations(rgb)))

    def similarity(self, rgb):
        """
        Return how much an image looks like the training image that it resembles most.

        Parameters
        ----------
        rgb : np.ndarray
            (H, W, 3) uint8.

        Returns
        -------
        float
            Correlation -1..1.

        """
        return float(np.max(self.correlations(rgb)))

    def __call__(self, rgb):
        """
        Return the pose of the training image that looks most like this one.

        Parameters
        ----------
        rgb : np.ndarray
            (H, W, 3) uint8.

        Returns
        -------
        np.ndarray
            ``T_world_camera``, shape (4, 4).

        """
        return self.poses[self.nearest(rgb)]
