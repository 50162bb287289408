# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Pose of a camera from points in the world and where it sees them."""

from dataclasses import dataclass

import cv2
import numpy as np

from geo_perception.geometry.se3 import (
    inverse_transform, make_transform, matrix_from_rotation_vector, skew, transform_points)

# Three points leave four poses, a fourth chooses, more show which points lie.
SMALLEST_NUMBER = 6
# Steps of refinement; it stops before where a step is smaller than this (metres, radians).
STEPS, SMALLEST_STEP = 10, 1e-7
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
    T = inverse_transform(make_transform(matrix_from_rotation_vector(omega[:, 0]), t[:, 0]))
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
        A, b, _ = _normal_equations(error[inliers], J[inliers], sigmas[inliers])
        try:
            delta = np.linalg.solve(A, b)
        except np.linalg.LinAlgError:  # All the points lie on a line of sight.
            return None
        T = make_transform(
            matrix_from_rotation_vector(delta[3:]) @ T[:3, :3], T[:3, 3] + delta[:3])
        if np.abs(delta).max() < SMALLEST_STEP:
            break
    error, J, inliers = _linearised(points, pixels, K, T, threshold)
    if inliers.sum() < SMALLEST_NUMBER or not np.isfinite(T).all():
        return None
    A, _, spread = _normal_equations(error[inliers], J[inliers], sigmas[inliers])
    try:
        covariance = spread * np.linalg.inv(A)
    except np.linalg.LinAlgError:
        return None
    return CameraPose(T, covariance, inliers, np.linalg.norm(error, axis=1) / sigmas)


def _linearised(points, pixels, K, T, threshold):
    """Return errors (N, 2), their derivatives by (translation, rotation) (N, 2, 6), which fit."""
    R = T[:3, :3]
    x, y, z = transform_points(inverse_transform(T), points).T
    front = z > NEAREST
    z = np.where(front, z, 1.0)
    fx, fy = K[0, 0], K[1, 1]
    error = pixels - np.stack([fx * x / z + K[0, 2], fy * y / z + K[1, 2]], 1)
    error[~front] = np.inf
    zero = np.zeros_like(z)
    by_point = np.stack([np.stack([fx / z, zero, -fx * x / z ** 2], 1),
                         np.stack([zero, fy / z, -fy * y / z ** 2], 1)], 1)
    # A point in the camera is R' (p - t); R becomes exp(omega) R, t becomes t + tau.
    by_world = by_point @ R.T
    J = np.concatenate([-by_world, by_world @ skew(points - T[:3, 3])], 2)
    return error, J, front & (np.linalg.norm(error, axis=1) <= threshold)


def _normal_equations(error, J, sigmas):
    """Return A, b of a step, and the variance of the errors in units of the stated one."""
    size = np.linalg.norm(error, axis=1) / sigmas
    # Median length of a two-dimensional normal error is 1.177 standard deviations.
    scale = max(float(np.median(size)) / 1.177, 1e-6)
    weight = 1.0 / (1.0 + (size / (CAUCHY * scale)) ** 2) / sigmas ** 2
    weighted = (J * weight[:, None, None]).reshape(-1, 6)
    return weighted.T @ J.reshape(-1, 6), weighted.T @ error.reshape(-1), scale ** 2
