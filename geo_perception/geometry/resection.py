# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Resection: where a camera is among points whose depths are not sure, either.

The points and the frames that saw them first are those of a window
(`geo_perception.geometry.bundle_adjustment`); the pose is found by Gauss-Newton with the inverse
depths eliminated.
"""

import numpy as np

from geo_perception.geometry.bundle_adjustment import rigid, stepped
from geo_perception.geometry.inverse_depth import (
    in_camera, reprojection_errors, rotated_rays, spread, TAIL, wide_weights)
from geo_perception.geometry.se3 import skew

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
    hosts = window.T[window.host]
    rotated = rotated_rays(window.rays, hosts)
    expected = rho = window.inverse_depths
    information = 1.0 / variances
    for k in range(iterations):
        v, q, front = in_camera(rotated, rho, hosts[:, :3, 3], T[None])
        error, D = reprojection_errors(seen, q, front, window.roots)
        squares = (error ** 2).sum(1) + (rho - expected) ** 2 * information
        weight = np.zeros(len(squares))
        use = front & trusted
        if use.any():
            weight[use] = (wide_weights(squares[use]) if k < wide
                           else _weights(squares[use]))
        J, by_depth, C, h = _derivatives(D, v, rho, hosts, T, information)
        g = (by_depth * error).sum(1) - (rho - expected) * information
        rows, weights = J.reshape(-1, 6), np.repeat(weight, 2)
        A = (rows * weights[:, None]).T @ rows - (C * (weight / h)[:, None]).T @ C
        b = rows.T @ (weights * error.ravel()) - C.T @ (weight * g / h)
        A += 1e-6 * np.diag(np.diag(A)) + _SMALLEST * np.eye(6)
        step = np.linalg.solve(A, b)
        rho = np.clip(rho + (g - C @ step) / h, expected / 3, expected * 3)
        T = stepped(T, step)
        if k >= wide and np.abs(step).max() < SMALLEST_STEP:
            break
    T = rigid(T)
    _, q, front = in_camera(rotated, rho, hosts[:, :3, 3], T[None])
    error, _ = reprojection_errors(seen, q, front, window.roots)
    errors = np.sqrt((error ** 2).sum(1) + (rho - expected) ** 2 * information)
    return T, np.where(front, errors, np.inf)


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
    hosts, rho = window.T[window.host], window.inverse_depths
    v, q, front = in_camera(rotated_rays(window.rays, hosts), rho, hosts[:, :3, 3], T[None])
    error, D = reprojection_errors(seen, q, front, window.roots)
    J, _, C, h = _derivatives(D, v, rho, hosts, T, 1.0 / variances)
    rows = J.reshape(-1, 6)
    A = rows.T @ rows - (C / h[:, None]).T @ C
    A += 1e-6 * np.diag(np.diag(A)) + _SMALLEST * np.eye(6)
    return spread((error ** 2).sum(1), 0.5) ** 2 * np.linalg.inv(A)


def _derivatives(D, v, rho, hosts, T, information):
    """
    Return what the normal equations are made of.

    By the pose (N, 2, 6) and by inverse depth (N, 2), the product of both (N, 6), and the
    information about inverse depth (N,).
    """
    by_point = D @ T[:3, :3].T
    by_depth = (by_point @ (hosts[:, :3, 3] - T[:3, 3])[:, :, None])[..., 0]
    J = np.concatenate([-rho[:, None, None] * by_point, by_point @ skew(v)], 2)
    return (J, by_depth, J[:, 0] * by_depth[:, :1] + J[:, 1] * by_depth[:, 1:],
            (by_depth ** 2).sum(1) + information)


def _weights(squares):
    """
    Return weights (Geman-McClure) that follow the size of the errors: far away all are large.

    What is wrong with a part of the observations in common, as on a large thing that moves by
    itself, does not pull once the others agree.
    """
    scale = max(SMALLEST_SCALE, spread(squares, BEST))
    return 1.0 / (1.0 + squares / (TAIL * scale) ** 2) ** 2
