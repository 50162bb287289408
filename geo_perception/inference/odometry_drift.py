# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
How the errors of motions add up along the way.

What each motion adds of its own grows with the root of the way, what neighbours share with the
way itself.
"""

from dataclasses import dataclass, replace

import numpy as np

from geo_perception.geometry.se3 import skew

# Motions in a row whose mean error shows what they share.
RUN = 20
# Something is left to each motion of its own, and something shared: a drive may happen to end with
# little of it (the same odometry showed 0 on one drive, 0.02 to 0.05 on five others).
SMALLEST_COMMON, LARGEST_COMMON = 0.03, 0.95


def with_common_parts(calibration, errors, covariances):
    """
    Return a calibration with the parts of the variances that neighbours share.

    The mean of n errors with the common part c has the variance ``c + (1 - c) / n``.

    Parameters
    ----------
    calibration : MotionCalibration or CornerCalibration
        Fitted otherwise.
    errors : np.ndarray
        In order of time, shape (N, 6).
    covariances : sequence of np.ndarray
        What it says of each, 6x6.

    Returns
    -------
    MotionCalibration or CornerCalibration

    """
    whitened = np.array([np.linalg.solve(_root(covariance), error)
                         for covariance, error in zip(covariances, errors)])
    n = min(RUN, len(whitened) // 4)
    means = whitened[:len(whitened) // n * n].reshape(-1, n, 6).mean(1)
    variances = (means ** 2).reshape(-1, 2, 3).mean((0, 2))
    translation, rotation = np.clip(
        (n * variances - 1) / (n - 1), SMALLEST_COMMON, LARGEST_COMMON).tolist()
    return replace(calibration, common_translation=translation, common_rotation=rotation)


def common_root(calibration, covariance, of_scale):
    """
    Return the root of what a motion's covariance shares with its neighbours'.

    Parameters
    ----------
    calibration : MotionCalibration or CornerCalibration
        Which parts they share.
    covariance : np.ndarray
        Of the motion, 6x6.
    of_scale : np.ndarray
        From `scale_root`, shape (6,): neighbours share all of that.

    Returns
    -------
    np.ndarray
        S, 6x7: ``S S^T`` is the common part. The last column is the scale's: what is too long
        there is too long on the way back.

    """
    root = np.zeros((6, 7))
    root[:, 6] = of_scale
    for block, part in ((slice(0, 3), calibration.common_translation),
                        (slice(3, 6), calibration.common_rotation)):
        root[block, block] = _root(part * covariance[block, block])
    return root


def scale_root(motion, spread):
    """
    Return how a motion changes with the scale.

    Parameters
    ----------
    motion : np.ndarray
        ``T_previous_current``, 4x4.
    spread : float
        Relative standard deviation of the scale.

    Returns
    -------
    np.ndarray
        For one standard deviation, in the order and axes of the motion's covariance, shape (6,).

    """
    return spread * np.concatenate([motion[:3, 3], np.zeros(3)])


@dataclass(frozen=True)
class Drift:
    """
    The covariance of a chain of motions.

    Attributes
    ----------
    independent : np.ndarray
        What each motion added of its own, 6x6, axes of the origin.
    common : np.ndarray
        How the pose changes with the errors that all motions share, 6x7.

    """

    independent: np.ndarray
    common: np.ndarray

    @classmethod
    def none(cls):
        """
        Return that of the origin.

        Returns
        -------
        Drift

        """
        return cls(np.zeros((6, 6)), np.zeros((6, 7)))

    @property
    def covariance(self):
        """6x6, order (x, y, z, rot X, rot Y, rot Z), axes of the origin."""
        return self.independent + self.common @ self.common.T

    def after(self, T, motion, covariance, common_root):
        """
        Return the drift after another motion: both are carried along by the adjoint.

        Parameters
        ----------
        T : np.ndarray
            Pose before, 4x4.
        motion, covariance : np.ndarray
            The motion, 4x4, and its covariance, 6x6, axes of the previous camera.
        common_root : np.ndarray
            From `common_root`.

        Returns
        -------
        Drift

        """
        carry, turn = np.eye(6), np.zeros((6, 6))
        carry[:3, 3:] = -skew(T[:3, :3] @ motion[:3, 3])
        turn[:3, :3] = turn[3:, 3:] = T[:3, :3]
        own = covariance - common_root @ common_root.T
        return Drift(carry @ self.independent @ carry.T + turn @ own @ turn.T,
                     carry @ self.common + turn @ common_root)

    def scaled(self, scale):
        """
        Return the drift in another unit of length.

        Parameters
        ----------
        scale : float
            New units per old unit.

        Returns
        -------
        Drift

        """
        factors = np.array([scale] * 3 + [1.0] * 3)
        return Drift(self.independent * np.outer(factors, factors),
                     self.common * factors[:, None])


def _root(matrix):
    """Return the symmetric square root of a positive matrix."""
    values, axes = np.linalg.eigh(matrix)
    return (axes * np.sqrt(np.maximum(values, 0.0))) @ axes.T
