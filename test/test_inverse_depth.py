# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Where points are seen, and how large errors are."""

import numpy as np
import pytest

from geo_perception.geometry.inverse_depth import (
    in_camera, reprojection_errors, rotated_rays, spread, wide_weights)
from geo_perception.geometry.se3 import (
    inverse_transform, make_transform, matrix_from_rotation_vector, transform_points)


def test_points_are_where_their_depth_has_them():
    """In the camera, times inverse depth; one lies infinitely far, one behind."""
    random = np.random.default_rng(0)
    hosts, T = (make_transform(matrix_from_rotation_vector(random.normal(0, 0.2, (4, 3))),
                               random.normal(0, 0.3, (4, 3))) for _ in range(2))
    rays, rho = random.uniform(-0.5, 0.5, (4, 2)), np.array([0.5, 1.0, 0.0, 0.25])
    T[3] = hosts[3] @ make_transform(np.eye(3), [0.0, 0.0, 9.0])
    rotated = rotated_rays(rays, hosts)
    v, q, front = in_camera(rotated, rho, hosts[:, :3, 3], T)
    assert front.tolist() == [True, True, True, False]
    for i in (0, 1, 3):
        point = transform_points(hosts[i], np.append(rays[i], 1.0)[None] / rho[i])
        assert q[i] == pytest.approx(rho[i] * transform_points(inverse_transform(T[i]), point)[0])
        assert v[i] == pytest.approx(rho[i] * (point[0] - T[i, :3, 3]))
    assert v[2] == pytest.approx(rotated[2])


def test_errors_have_unit_variance_and_their_derivatives():
    """Numerically; behind the camera there is none."""
    random = np.random.default_rng(1)
    q, seen = random.uniform(0.5, 2, (5, 3)), random.uniform(-1, 1, (5, 2))
    roots, front = random.normal(0, 50, (5, 2, 2)), np.array([True] * 4 + [False])
    error, D = reprojection_errors(seen, q, front, roots)
    assert error[0] == pytest.approx(roots[0] @ (seen[0] - q[0, :2] / q[0, 2]))
    assert (error[4] == 0).all()
    for axis in range(3):
        step = np.zeros(3)
        step[axis] = 1e-6
        after, _ = reprojection_errors(seen, q + step, front, roots)
        assert -(after - error)[:4] / 1e-6 == pytest.approx(D[:4, :, axis], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize('part', [0.3, 0.5])
def test_spread_is_the_standard_deviation_whatever_the_largest_are(part):
    """A tenth of the errors is far off, and hardly weighs."""
    squares = (np.random.default_rng(2).normal(0, 3, (4000, 2)) ** 2).sum(1)
    assert spread(squares, part) == pytest.approx(3, rel=0.05)
    squares[::10] *= 1e4
    assert spread(squares, part) == pytest.approx(3, rel=0.15)
    weights = wide_weights(squares)
    assert np.median(weights[::10]) < 0.01 and np.median(weights) > 0.7
