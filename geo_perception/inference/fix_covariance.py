# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
From the covariance of the solver to that of a verified pose.

The solver's is several times too small: points of one key frame err together. Poses of the map
that drifted against each other do not shrink with the number of points, and all of it grows with
the distance between the view and the map.
"""

from dataclasses import astuple, dataclass

import numpy as np

# Standard deviations grow by a power of 1 at a key frame, and one more for each such angle, up to
# so many.
GROWTH_VIEW, LARGEST_GROWTH = 0.25, 3.0
# Variances below this are numerical zero: 0.1 mm and 0.006 degrees.
SMALLEST_VARIANCE = 1e-8
# Student's t, whose likelihood a few poses far off do not decide.
TAIL_DEGREES = 4.0
# Percentages of the chi-squared distribution with six degrees of freedom, and their quantiles.
CHI2_6 = {68: 7.0092, 95: 12.5916}


@dataclass(frozen=True)
class FixCalibration:
    """
    What frames of known pose taught about the errors of verified poses.

    Attributes
    ----------
    scale_position, scale_rotation : float
        Factors on the standard deviation of the solver.
    floor_position : float
        Standard deviation at a key frame whatever the solver says, metres.
    floor_rotation : float
        The same, radians.
    power_position, power_rotation : float
        How both grow with the distance in view to the nearest key frame.

    """

    scale_position: float
    scale_rotation: float
    floor_position: float
    floor_rotation: float
    power_position: float
    power_rotation: float

    def problem(self):
        """
        Say what is wrong with these numbers.

        Returns
        -------
        str
            Half a sentence, empty if nothing is.

        """
        numbers = astuple(self)
        if not np.isfinite(numbers).all() or min(numbers) < 0:
            return f'the covariance of its poses has the numbers {list(numbers)}'
        return ''

    def covariance(self, raw, view):
        """
        Return the covariance of one or more verified poses.

        Parameters
        ----------
        raw : np.ndarray
            Of the solver, shape (..., 6, 6).
        view : float or np.ndarray
            Distance to the nearest key frame, radians, shape (...).

        Returns
        -------
        np.ndarray
            Symmetric positive definite, shape (..., 6, 6).

        """
        scale = np.repeat([self.scale_position, self.scale_rotation], 3)
        floor = np.repeat([self.floor_position, self.floor_rotation], 3)
        powers = np.repeat([self.power_position, self.power_rotation], 3)
        growth = np.minimum(1.0 + np.asarray(view) / GROWTH_VIEW, LARGEST_GROWTH)
        growth = growth[..., None] ** powers
        at_key_frame = raw * np.outer(scale, scale) + np.diag(
            np.maximum(floor ** 2, SMALLEST_VARIANCE))
        return at_key_frame * growth[..., :, None] * growth[..., None, :]


# What the solver says as it is.
UNCALIBRATED = FixCalibration(1.0, 1.0, 0.0, 0.0, 0.0, 0.0)


def fit_fix_calibration(errors, raw, views):
    """
    Fit how much larger real errors are than those of the solver, and the least they are.

    The numbers of the highest likelihood under Student's t of position and orientation together,
    for they err together. The size of all is then such that ellipsoids hold what they say: that
    of 68 % and that of 95 % to equal parts, for real errors have longer tails than normal ones.

    Parameters
    ----------
    errors : np.ndarray
        ``[x_true - x; Log(R_true R^T)]``, metres and radians, shape (N, 6).
    raw : np.ndarray
        Covariances of the solver, shape (N, 6, 6).
    views : np.ndarray
        Distances to the nearest key frame, radians, shape (N,).

    Returns
    -------
    FixCalibration

    """
    from scipy.optimize import minimize

    def calibration(parameters, factor=1.0):
        """Return the numbers that the optimiser moves as a calibration."""
        sizes = np.exp(parameters[:4])
        sizes[2:] = np.maximum(sizes[2:], np.sqrt(SMALLEST_VARIANCE))
        return FixCalibration(*(factor * sizes).tolist(), *np.abs(parameters[4:]).tolist())

    def cost(parameters):
        """Return the mean of twice the negative log likelihoods, but for constants."""
        covariances = calibration(parameters).covariance(raw, views)
        return float(np.mean(np.linalg.slogdet(covariances)[1] + (TAIL_DEGREES + 6.0) * np.log1p(
            _squared(errors, covariances) / TAIL_DEGREES)))

    usual = [np.median(np.linalg.norm(errors[:, block], axis=1))
             for block in (slice(0, 3), slice(3, 6))]
    best = np.array([1.0, 1.0, *np.log(np.maximum(usual, 1e-4)) - 1.0, 1.0, 1.0])
    for _ in range(2):   # The simplex collapses early; a fresh one goes on from there.
        best = minimize(cost, best, method='Nelder-Mead', options={
            'maxiter': 3000, 'xatol': 1e-3, 'fatol': 1e-5, 'adaptive': True}).x
    squared = _squared(errors, calibration(best).covariance(raw, views))
    factors = [np.sqrt(np.percentile(squared, percent) / quantile)
               for percent, quantile in CHI2_6.items()]
    return calibration(best, float(np.sqrt(np.prod(factors))))


def _squared(errors, covariances):
    """Return squared normalised errors."""
    normalised = np.linalg.solve(covariances, errors[..., None])[..., 0]
    return np.einsum('ni,ni->n', errors, normalised)
