# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Where points are seen, and how large errors are."""

import numpy as np
import pytest

from geo_perception.geometry.inverse_depth import (
    by_turn, reprojection_errors, rotated_rays, spread, wide_weights)
from geo_perception.geometry.se3 import (
    make_transform, matrix_from_rotation_vector, transform_points)


def test_rays_are_turned_as_their_hosts_are():
    """Each by its own."""
    random = np.random.default_rng(0)
    R = matrix_from_rotation_vector(random.normal(0, 0.5, (4, 3)))
    rays = random.uniform(-0.5, 0.5, (4, 2))
    rotated = rotated_rays(rays, R)
    for i in range(4):
        assert rotated[:, i] == pytest.approx(R[i] @ np.append(rays[i], 1.0))


def test_errors_have_unit_variance_and_their_derivatives():
    """Numerically; behind the camera there is none."""
    random = np.random.default_rng(1)
    q, seen = random.uniform(0.5, 2, (3, 5)), random.uniform(-1, 1, (2, 5))
    q[2, 4] = -1.0
    roots = random.normal(0, 50, (2, 2, 5))
    error, by_point, front = reprojection_errors(seen, q, roots)
    assert front.tolist() == [True] * 4 + [False]
    assert error[:, 0] == pytest.approx(roots[..., 0] @ (seen[:, 0] - q[:2, 0] / q[2, 0]))
    assert (error[:, 4] == 0).all()
    for axis in range(3):
        step = np.zeros((3, 1))
        step[axis] = 1e-6
        after, _, _ = reprojection_errors(seen, q + step, roots)
        assert -(after - error)[:, :4] / 1e-6 == pytest.approx(by_point[axis, :, :4], rel=1e-3,
                                                               abs=1e-3)
        # What the camera sees turns the other way.
        T = make_transform(matrix_from_rotation_vector(-step[:, 0]), np.zeros(3))
        after, _, _ = reprojection_errors(seen, transform_points(T, q.T).T, roots)
        assert -(after - error)[:, :4] / 1e-6 == pytest.approx(
            by_turn(by_point, q)[axis, :, :4], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize('part', [0.3, 0.5])
def test_spread_is_the_standard_deviation_whatever_the_largest_are(part):
    """A tenth of the errors is far off, and hardly weighs."""
    squares = (np.random.default_rng(2).normal(0, 3, (4000, 2)) ** 2).sum(1)
    assert spread(squares, part) == pytest.approx(3, rel=0.05)
    squares[::10] *= 1e4
    assert spread(squares, part) == pytest.approx(3, rel=0.15)
    weights = wide_weights(squares)
    assert np.median(weights[::10]) < 0.01 and np.median(weights) > 0.7
