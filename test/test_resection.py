# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A camera is found among the points of a window, and says how far it may be off."""

from dataclasses import replace

import numpy as np
import pytest
from test_bundle_adjustment import FOCAL, window

from geo_perception.geometry.resection import locate, pose_covariance
from geo_perception.geometry.se3 import (
    inverse_transform, rotation_angle, rotation_vector_from_matrix)


def test_a_camera_is_located_though_depths_are_off():
    """Depth that is wrong by a tenth costs little where it is said to be unsure."""
    true = window()
    T, seen = true.T[-1], true.seen[:, -1]
    noisy = true.inverse_depths * np.exp(
        np.random.default_rng(2).normal(0, 0.1, len(true.host)))
    found, errors = locate(replace(true, inverse_depths=noisy), (0.1 * noisy) ** 2, seen,
                           true.T[-2], np.ones(len(seen), bool))
    assert np.abs(found[:3, 3] - T[:3, 3]).max() < 0.01
    assert rotation_angle(found[:3, :3], T[:3, :3]) < 0.003
    assert np.median(errors) < 2


def test_what_moves_by_itself_does_not_pull():
    """A fifth of the points go their own way, all the same one."""
    true = window(noise=0.1)
    T, seen = true.T[-1], true.seen[:, -1].copy()
    seen[::5] += np.array([8.0, 5.0]) / FOCAL
    found, errors = locate(true, (0.2 * true.inverse_depths) ** 2, seen, true.T[-2],
                           np.ones(len(seen), bool))
    assert np.abs(found[:3, 3] - T[:3, 3]).max() < 0.01
    assert rotation_angle(found[:3, :3], T[:3, :3]) < 0.004
    assert np.median(errors[::5]) > 4 > np.median(errors)


def test_a_point_behind_the_camera_has_no_finite_error():
    """Nor does it hinder the others."""
    true = window()
    behind = true.rays.copy()
    behind[7] = 1e5, 0.0
    T, seen = true.T[-1], true.seen[:, -1]
    found, errors = locate(replace(true, rays=behind), (0.1 * true.inverse_depths) ** 2, seen, T,
                           np.arange(len(seen)) != 7)
    assert np.allclose(found, T, atol=1e-6)
    assert np.isinf(errors[7]) and np.isfinite(np.delete(errors, 7)).all()


@pytest.mark.parametrize('louder', [1.0, 3.0])
def test_covariance_is_the_scatter_of_the_poses(louder):
    """Nearly: of corners with the stated error, or three times it, and depths that err, too."""
    true = window(points=150)
    T, seen, random = true.T[-1], true.seen[:, -1], np.random.default_rng(3)
    sigma, rho = 0.3 / FOCAL, true.inverse_depths
    normalised = []
    for _ in range(60):
        noisy = seen + random.normal(0, louder * sigma, seen.shape)
        off = replace(true, inverse_depths=rho + random.normal(0, 0.01 * louder, rho.shape) * rho)
        found, _ = locate(off, (0.01 * rho) ** 2, noisy, T, np.ones(len(rho), bool))
        covariance = pose_covariance(off, (0.01 * rho) ** 2, noisy, found)
        error = np.concatenate([found[:3, 3] - T[:3, 3], rotation_vector_from_matrix(
            (found @ inverse_transform(T))[:3, :3])])
        normalised.append(error @ np.linalg.solve(covariance, error))
    assert np.allclose(covariance, covariance.T)
    assert 4.5 < np.mean(normalised) < 8   # 6 would be right
