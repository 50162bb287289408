# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
From the covariance of the solver to that of a verified pose.

The solver's is several times too small: points of one key frame err together. What it knows
nothing of, poses of the map that drifted against each other, does not shrink with the number of
points, and grows with the distance between the view and the map.
"""

from dataclasses import astuple, dataclass

import numpy as np

# Floors grow by a power of 1 at a key frame, and one more for each such angle, up to so many.
GROWTH_VIEW, LARGEST_GROWTH = 0.25, 3.0
# Variances below this are numerical zero: 0.1 mm and 0.006 degrees.
SMALLEST_VARIANCE = 1e-8


@dataclass(frozen=True)
class FixCalibration:
    """
    What frames left out of a map taught about the errors of verified poses.

    Attributes
    ----------
    scale_position, scale_rotation : float
        Factors on the standard deviation of the solver.
    floor_position : float
        Standard deviation at a key frame whatever the solver says, metres.
    floor_rotation : float
        The same, radians.
    power_position, power_rotation : float
        How the floors grow with the distance in view to the nearest key frame.

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
        floors = np.maximum((floor * growth[..., None] ** powers) ** 2, SMALLEST_VARIANCE)
        return raw * np.outer(scale, scale) + floors[..., None] * np.eye(6)
