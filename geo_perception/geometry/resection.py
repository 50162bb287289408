# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Resection: where a camera is among points whose depths are not sure, either.

The points and the frames that saw them first are those of a window
(`geo_perception.geometry.bundle_adjustment`); the pose is found by Gauss-Newton with the inverse
depths eliminated.
"""

import cv2
import numpy as np

from geo_perception.geometry.bundle_adjustment import rigid
from geo_perception.geometry.inverse_depth import (
    by_turn, reprojection_errors, rotated_rays, spread, TAIL, wide_weights)
from geo_perception.geometry.se3 import make_transform

# How large errors are is judged by that part of them, the smallest: a large thing that moves makes
# the others large. They are not said to be smaller than so many standard deviations.
BEST, SMALLEST_SCALE = 0.3, 0.3
# Metres and radians: a smaller step is the last.
SMALLEST_STEP = 1e-5
# Information about a pose that nothing is known of.
_SMALLEST = 1e-9


def locate(window, variances, seen, T, trusted, wide=3, iterations=15):
    """
    Find a camera among points whose depths are not sure, either.

    Parameters
    ----------
    window : Window
        The points, where their hosts are, and their inverse depths.
    variances : np.ndarray
        Of the inverse depths, shape (N,).
    seen : np.ndarray
        (x, y) at depth 1 in the camera, shape (N, 2).
    T : np.ndarray
        Pose ``T_map_camera`` to begin with, 4x4.
    trusted : np.ndarray
        Bool, shape (N,): points that the pose shall be found by. The others have errors, too.
    wide : int
        So many of the first steps listen to what is far off, too, for the start may be.
    iterations : int
        Steps of Gauss-Newton, at most.

    Returns
    -------
    T : np.ndarray
        4x4.
    errors : np.ndarray
        Of all points, standard deviations, shape (N,); infinite behind the camera.

    Raises
    ------
    np.linalg.LinAlgError
        When the points do not span a pose.

    """
    sights = _Sights(window, variances, seen)
    expected = rho = window.inverse_depths
    for k in range(iterations):
        sights.take(rho, T)
        weight = np.zeros(len(rho))
        use = sights.front & trusted
        if use.any():
            weight[use] = (wide_weights if k < wide else _weights)(sights.squares[use])
        A, b, C, g, h = sights.normal_equations(weight)
        step = np.linalg.solve(A, b)
        rho = np.clip(rho + (g - step @ C) / h, expected / 3, expected * 3)
        T = T @ make_transform(cv2.Rodrigues(step[3:])[0], step[:3])
        if k >= wide and np.abs(step).max() < SMALLEST_STEP:
            break
    T = rigid(T)
    sights.take(rho, T)
    return T, np.where(sights.front, np.sqrt(sights.squares), np.inf)


def pose_covariance(window, variances, seen, T):
    """
    Return how far a camera that was found by `locate` may be off.

    Parameters
    ----------
    window, variances, seen
        As of `locate`, of the points that agree with the pose.
    T : np.ndarray
        The pose, 4x4.

    Returns
    -------
    np.ndarray
        6x6, order (x, y, z, rot X, rot Y, rot Z), axes of the map: what the stated errors of
        places and depths leave open, times how large the errors turned out (the square of it).

    """
    sights = _Sights(window, variances, seen)
    sights.take(window.inverse_depths, T)
    A = sights.normal_equations(np.ones(len(variances)))[0]
    to_map = np.kron(np.eye(2), T[:3, :3])
    return spread(sights.squares, 0.5) ** 2 * to_map @ np.linalg.inv(A) @ to_map.T


class _Sights:
    """
    What one camera sees of the points of a window.

    Attributes
    ----------
    squares : np.ndarray
        Of the lengths of the errors in place and depth, unit variance, shape (N,).
    front : np.ndarray
        Which points are in front of the camera, bool, shape (N,).

    """

    def __init__(self, window, variances, seen):
        hosts = window.T[window.host]
        self._rotated = rotated_rays(window.rays, hosts[:, :3, :3])
        self._origins = hosts[:, :3, 3].T.copy()
        self._roots = np.moveaxis(window.roots, 0, -1).copy()
        self._seen, self._expected = seen.T.copy(), window.inverse_depths
        self._information = 1.0 / variances

    def take(self, rho, T):
        """Look at points of some inverse depths (N,) from a pose 4x4."""
        R, t = T[:3, :3], T[:3, 3:]
        self._rho, self._origin = rho, R.T @ (self._origins - t)
        self._q = R.T @ self._rotated + rho * self._origin
        self._error, self._by_point, self.front = reprojection_errors(
            self._seen, self._q, self._roots)
        self._pull = (rho - self._expected) * self._information
        self.squares = (self._error ** 2).sum(0) + (rho - self._expected) * self._pull

    def normal_equations(self, weight):
        """
        Return A (6, 6) and b (6,) of a step and a turn along the axes of the camera.

        Then what gives the change of inverse depth, ``(g - C step) / h``: C (6, N), g and h (N,).
        """
        by_point, origin = self._by_point, self._origin
        J = np.concatenate([-self._rho * by_point, by_turn(by_point, self._q)])
        by_depth = by_point[0] * origin[0] + by_point[1] * origin[1] + by_point[2] * origin[2]
        C = J[:, 0] * by_depth[0] + J[:, 1] * by_depth[1]
        g = (by_depth * self._error).sum(0) - self._pull
        h = (by_depth ** 2).sum(0) + self._information
        weighted, eliminated = (J * weight).reshape(6, -1), C * (weight / h)
        A = weighted @ J.reshape(6, -1).T - eliminated @ C.T
        A += 1e-6 * np.diag(np.diag(A)) + _SMALLEST * np.eye(6)
        return A, weighted @ self._error.ravel() - eliminated @ g, C, g, h


def _weights(squares):
    """
    Return weights (Geman-McClure) that follow the size of the errors: far away all are large.

    What is wrong with a part of the observations in common, as on a large thing that moves by
    itself, does not pull once the others agree.
    """
    scale = max(SMALLEST_SCALE, spread(squares, BEST))
    return 1.0 / (1.0 + squares / (TAIL * scale) ** 2) ** 2
