# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Poses from points, against poses that made them."""

import numpy as np
import pytest

from geo_perception.geometry.perspective_n_point import refine_pose, solve_pose
from geo_perception.geometry.se3 import (
    inverse_transform, make_transform, matrix_from_rotation_vector, rotation_vector_from_matrix,
    transform_points)

K = np.array([[220.0, 0, 160], [0, 210.0, 120], [0, 0, 1]])


def view(rng, n=200, noise=0.0, liars=0.0):
    """Return points before a camera, their pixels, the true pose, and which points lie."""
    T = make_transform(matrix_from_rotation_vector(rng.normal(size=3)), 3 * rng.normal(size=3))
    seen = np.stack([rng.uniform(-1.5, 1.5, n), rng.uniform(-1, 1, n), rng.uniform(2, 5, n)], 1)
    pixels = (seen / seen[:, 2:]) @ K.T
    pixels = pixels[:, :2] + noise * rng.normal(size=(n, 2))
    wrong = rng.random(n) < liars
    pixels[wrong] = rng.uniform(0, 240, (wrong.sum(), 2))
    return transform_points(T, seen), pixels, T, wrong


def difference(T, truth):
    """Return the error of a pose as (x, y, z, rotation vector), axes of the world."""
    return np.concatenate([T[:3, 3] - truth[:3, 3],
                           rotation_vector_from_matrix(T[:3, :3] @ truth[:3, :3].T)])


def test_exact_points_give_the_exact_pose():
    """Without noise nothing is left."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        points, pixels, T, _ = view(rng)
        assert np.abs(difference(solve_pose(points, pixels, K).T_world_camera, T)).max() < 1e-6


def test_points_that_lie_are_left_out():
    """Half of the points belong to something else."""
    rng = np.random.default_rng(1)
    points, pixels, T, wrong = view(rng, noise=0.3, liars=0.5)
    pose = solve_pose(points, pixels, K)
    assert np.abs(difference(pose.T_world_camera, T)).max() < 0.02
    assert (pose.inliers == ~wrong).mean() > 0.97


def test_covariance_is_that_of_the_errors():
    """Errors over their covariance are chi-square distributed with six degrees of freedom."""
    rng = np.random.default_rng(2)
    squares = []
    for _ in range(200):
        points, pixels, T, _ = view(rng, n=60, noise=0.5)
        pose = refine_pose(points, pixels, K, T, threshold=5.0)
        error = difference(pose.T_world_camera, T)
        squares.append(error @ np.linalg.solve(pose.covariance, error))
    assert np.mean(squares) == pytest.approx(6.0, rel=0.2)


def test_uncertain_pixels_count_less():
    """Stated errors of pixels make a better pose than one error for all."""
    rng = np.random.default_rng(3)
    errors = {True: [], False: []}
    for _ in range(50):
        points, pixels, T, _ = view(rng, n=100)
        sigmas = np.where(np.arange(100) < 20, 0.05, 2.0)
        pixels = pixels + sigmas[:, None] * rng.normal(size=pixels.shape)
        for known in errors:
            pose = refine_pose(points, pixels, K, T, 10.0, sigmas if known else 1.0)
            errors[known].append(np.linalg.norm(difference(pose.T_world_camera, T)[:3]))
    assert np.median(errors[True]) < 0.7 * np.median(errors[False])


@pytest.mark.parametrize('points', [
    np.zeros((0, 3)), np.zeros((5, 3)), np.ones((50, 3)), np.full((50, 3), -1.0),
    np.linspace(1, 2, 50)[:, None] * np.array([[0.1, 0.1, 1.0]])])
def test_points_without_a_pose_give_none(points):
    """Too few, all in one place, all behind the camera, all on a line: None, no exception."""
    rng = np.random.default_rng(4)
    pixels = rng.uniform(0, 240, (len(points), 2))
    assert solve_pose(points, pixels, K) is None
    assert refine_pose(points, pixels, K, np.eye(4), threshold=0.5) is None


def test_the_same_points_give_the_same_pose():
    """The robust estimator draws the same samples each time."""
    points, pixels, _, _ = view(np.random.default_rng(5), noise=0.5, liars=0.4)
    first, second = (solve_pose(points, pixels, K).T_world_camera for _ in range(2))
    assert (first == second).all()


def test_far_from_the_pose_nothing_fits():
    """Refinement says so where no point is near its pixel."""
    points, pixels, T, _ = view(np.random.default_rng(6))
    away = T @ make_transform(matrix_from_rotation_vector(np.array([0, 1.0, 0])), np.zeros(3))
    assert refine_pose(points, pixels, K, away) is None
    moved = T @ inverse_transform(make_transform(np.eye(3), np.array([0.005, 0, 0])))
    assert np.abs(difference(refine_pose(points, pixels, K, moved).T_world_camera, T)).max() < 1e-6
