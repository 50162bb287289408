# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Pose of a camera from points in the world and where it sees them."""

from dataclasses import dataclass

import cv2
import numpy as np

from geo_perception.geometry.se3 import inverse_transform, make_transform

# Three points leave four poses, a fourth chooses, more show which points lie.
SMALLEST_NUMBER = 6
# Steps of refinement; it stops before where a step is smaller than this part of its standard
# deviation.
STEPS, SMALLEST_STEP = 10, 0.02
# Points nearer than this are behind the camera, or as good as there.
NEAREST = 1e-3
# Of the tails of reprojection errors, Cauchy, 95 % as good as least squares on normal errors.
CAUCHY = 2.385


@dataclass(frozen=True)
class CameraPose:
    """
    A pose found from points.

    Attributes
    ----------
    T_world_camera : np.ndarray
        4x4, optical frame, unit of the points.
    covariance : np.ndarray
        6x6, order (x, y, z, rot X, rot Y, rot Z), axes of the world, for the stated errors of
        pixels times how large they turned out. Points that err together are not known here:
        real errors are larger.
    inliers : np.ndarray
        Which points fit, bool, shape (N,).
    errors : np.ndarray
        Reprojection errors in units of their stated sigma, shape (N,), infinite behind the camera.

    """

    T_world_camera: np.ndarray
    covariance: np.ndarray
    inliers: np.ndarray
    errors: np.ndarray


def solve_pose(points, pixels, K, threshold=3.0, sigmas=1.0, iterations=200):
    """
    Find a camera among points, many of which may lie: SQPNP in a robust estimator, then refined.

    Parameters
    ----------
    points : np.ndarray
        In the world, shape (N, 3).
    pixels : np.ndarray
        Where the camera sees them, no distortion, shape (N, 2).
    K : np.ndarray
        Intrinsics, 3x3.
    threshold : float
        Points further away than this from where they belong, in pixels, do not count.
    sigmas : float or np.ndarray
        Standard deviations of ``pixels``, shape (N,); the refined pose weighs by them.
    iterations : int
        Of the robust estimator, at most. The same input gives the same pose.

    Returns
    -------
    CameraPose or None
        None where fewer than `SMALLEST_NUMBER` points agree.

    """
    points = np.ascontiguousarray(points, dtype=np.float64)
    pixels = np.ascontiguousarray(pixels, dtype=np.float64)
    if len(points) < SMALLEST_NUMBER:
        return None
    try:
        found, omega, t, _ = cv2.solvePnPRansac(
            points, pixels, K, None, flags=cv2.SOLVEPNP_SQPNP, reprojectionError=threshold,
            iterationsCount=iterations, confidence=0.9999)
    except cv2.error:  # No four of the points span a pose.
        return None
    if not found:
        return None
    T = inverse_transform(make_transform(cv2.Rodrigues(omega)[0], t[:, 0]))
    return refine_pose(points, pixels, K, T, threshold, sigmas)


def refine_pose(points, pixels, K, T_world_camera, threshold=3.0, sigmas=1.0):
    """
    Move a pose to where the points that fit it fit best.

    Gauss-Newton on reprojection errors with the weights of a Cauchy distribution.

    Parameters
    ----------
    points, pixels, K, threshold, sigmas
        See `solve_pose`.
    T_world_camera : np.ndarray
        To begin with, 4x4.

    Returns
    -------
    CameraPose or None
        None where fewer than `SMALLEST_NUMBER` points fit.

    """
    T = np.asarray(T_world_camera, dtype=np.float64)
    sigmas = np.broadcast_to(np.asarray(sigmas, dtype=np.float64), len(points))
    for _ in range(STEPS):
        error, J, inliers = _linearised(points, pixels, K, T, threshold)
        if inliers.sum() < SMALLEST_NUMBER:
            return None
        A, b, spread = _normal_equations(error[:, inliers], J[:, inliers], sigmas[inliers])
        try:
            delta = np.linalg.solve(A, b)
        except np.linalg.LinAlgError:  # All the points lie on a line of sight.
            return None
        R = T[:3, :3]
        T = make_transform(R @ cv2.Rodrigues(delta[3:])[0], T[:3, 3] + R @ delta[:3])
        if b @ delta < SMALLEST_STEP ** 2 * spread:
            break
    error, J, inliers = _linearised(points, pixels, K, T, threshold)
    if inliers.sum() < SMALLEST_NUMBER or not np.isfinite(T).all():
        return None
    A, _, spread = _normal_equations(error[:, inliers], J[:, inliers], sigmas[inliers])
    to_world = np.kron(np.eye(2), T[:3, :3])
    try:
        covariance = spread * to_world @ np.linalg.inv(A) @ to_world.T
    except np.linalg.LinAlgError:
        return None
    return CameraPose(T, covariance, inliers, np.hypot(*error) / sigmas)


def _linearised(points, pixels, K, T, threshold):
    """
    Return errors (2, N), their derivatives (2, N, 6), which points fit.

    Derivatives are by a step and a turn of the camera along its own axes.
    """
    seen = (points - T[:3, 3]) @ T[:3, :3]
    front = seen[:, 2] > NEAREST
    inverse = 1.0 / np.where(front, seen[:, 2], 1.0)
    x, y = seen[:, 0] * inverse, seen[:, 1] * inverse
    error = pixels.T - K[:2, 2:] - K[[0, 1], [0, 1]][:, None] * (x, y)
    error[:, ~front] = np.inf
    J = np.zeros((2, len(points), 6))
    J[0, :, 0] = J[1, :, 1] = -inverse
    J[0, :, 2], J[1, :, 2] = x * inverse, y * inverse
    J[0, :, 3] = x * y
    J[1, :, 4] = -J[0, :, 3]
    J[0, :, 4], J[1, :, 3] = -1.0 - x * x, 1.0 + y * y
    J[0, :, 5], J[1, :, 5] = y, -x
    J *= K[[0, 1], [0, 1]][:, None, None]
    return error, J, front & (np.hypot(*error) <= threshold)


def _normal_equations(error, J, sigmas):
    """Return A, b of a step, and the variance of the errors in units of the stated one."""
    size = np.hypot(*error) / sigmas
    # Median length of a two-dimensional normal error is 1.177 standard deviations. Partitioned by
    # hand: np.median takes as long as all the rest.
    middle = [(len(size) - 1) // 2, len(size) // 2]
    scale = max(float(np.partition(size, middle)[middle].mean()) / 1.177, 1e-6)
    weight = 1.0 / (1.0 + (size / (CAUCHY * scale)) ** 2) / sigmas ** 2
    weighted, J = (J * weight[:, None]).reshape(-1, 6), J.reshape(-1, 6)
    return weighted.T @ J, weighted.T @ error.ravel(), scale ** 2
