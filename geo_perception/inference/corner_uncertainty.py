# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
How far to trust a motion found by corners.

What places and depths of the corners leave open is known for each motion, and tells the good ones
from the bad ones: much is seen to the side, little ahead. Real errors are some factor larger,
fitted on frames with known poses. The error of the scale is another matter: it is one for all
motions of a map, see `geo_perception.inference.odometry_drift.scale_root`.
"""

from dataclasses import dataclass

import numpy as np

from geo_perception.inference.motion_uncertainty import (
    SMALLEST_SAMPLE, SMALLEST_SIGMA, StoredCalibration)
from geo_perception.inference.odometry_drift import with_common_parts

# A drive on which nearly nothing moved tells nothing of the scale.
LARGEST_SCALE_ERROR = 1.0


@dataclass(frozen=True)
class CornerCalibration(StoredCalibration):
    """
    What validation frames taught about the errors of motions by corners.

    The defaults are a careful guess: on the sample world the factors are about 1, and the scale
    is 2 % off; on the street it was a quarter off in another one than it was measured in.

    Attributes
    ----------
    scale_translation, scale_rotation : float
        Factors on the standard deviations that the corners leave open.
    floor_translation : float
        Standard deviation whatever the corners say, units of the network.
    floor_rotation : float
        The same, radians.
    scale_error : float
        By how much of themselves all motions may be too long or too short, one standard
        deviation, beside what a young map does not know yet.
    common_translation, common_rotation : float
        Parts of the variances that neighbouring motions share.

    """

    scale_translation: float = 2.0
    scale_rotation: float = 2.0
    floor_translation: float = 0.0
    floor_rotation: float = 0.0
    scale_error: float = 0.2
    common_translation: float = 0.1
    common_rotation: float = 0.1

    PREFIX = 'corner_motion_'
    MAY_BE_ZERO = ('floor_translation', 'floor_rotation', 'scale_error', 'common_translation',
                   'common_rotation')

    def covariance(self, raw):
        """
        Return the covariance of one or more motions, but for the error of the scale.

        Parameters
        ----------
        raw : np.ndarray
            What the corners leave open, `HybridMotion.covariance`, shape (..., 6, 6).

        Returns
        -------
        np.ndarray
            Symmetric positive definite, same shape.

        """
        scale = np.repeat([self.scale_translation, self.scale_rotation], 3)
        floor = np.repeat([self.floor_translation, self.floor_rotation], 3)
        return raw * np.outer(scale, scale) + np.diag(np.maximum(floor, SMALLEST_SIGMA) ** 2)


def fit_corner_calibration(errors, motions, raw):
    """
    Fit a calibration so that the truth lies where the covariance says.

    The numbers with the highest Gaussian likelihood, for position and rotation each, once the
    factor that all motions are too long or too short by is taken out of the errors.

    Parameters
    ----------
    errors : np.ndarray
        From `geo_perception.inference.motion_uncertainty.motion_errors`, in order of time, shape
        (N, 6).
    motions : np.ndarray
        ``T_previous_current``, units of the network, shape (N, 4, 4).
    raw : np.ndarray
        What the corners leave open of each, shape (N, 6, 6).

    Returns
    -------
    CornerCalibration or None
        None where there are too few motions.

    """
    if len(errors) < SMALLEST_SAMPLE:
        return None
    ways = motions[:, :3, 3]
    scale_error = np.sum(errors[:, :3] * ways) / max(np.sum(ways ** 2), 1e-30)
    errors = errors.copy()
    errors[:, :3] -= scale_error * ways
    (scale_t, floor_t), (scale_r, floor_r) = (
        _fit(errors[:, block], raw[:, block, block]) for block in (slice(0, 3), slice(3, 6)))
    calibration = CornerCalibration(scale_t, scale_r, floor_t, floor_r,
                                    min(float(abs(scale_error)), LARGEST_SCALE_ERROR))
    return with_common_parts(calibration, errors, calibration.covariance(raw))


def _fit(errors, raw):
    """Return the factor and the floor of the highest likelihood."""
    from scipy.optimize import minimize

    usual = max(float(np.sqrt(np.mean(errors ** 2))), SMALLEST_SIGMA)
    stated = max(float(np.sqrt(np.mean(np.diagonal(raw, axis1=1, axis2=2)))), SMALLEST_SIGMA)

    def cost(parameters):
        """Return the mean of twice the negative log likelihood, but for a constant."""
        scale, floor = np.exp(parameters)
        covariance = scale ** 2 * raw + max(floor, SMALLEST_SIGMA) ** 2 * np.eye(3)
        squared = errors[:, None] @ np.linalg.solve(covariance, errors[..., None])
        return float(np.mean(np.linalg.slogdet(covariance)[1] + squared[:, 0, 0]))

    start = np.log([max(usual / stated, 0.1), usual / 3])
    scale, floor = np.exp(minimize(cost, start, method='Nelder-Mead', options={
        'maxiter': 2000, 'xatol': 1e-3, 'fatol': 1e-5}).x)
    return max(float(scale), 1e-3), float(floor)
