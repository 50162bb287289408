# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The closed-form alignment that gives `posenet_lite` its pose."""

import numpy as np
import pytest
import torch

from geo_perception.geometry.se3 import matrix_from_rotation_vector
from geo_perception.networks.posenet_lite import align


def _problem(seed, noise=0.0):
    """Return points in both frames, weights, and the motion between them."""
    random = np.random.default_rng(seed)
    R = matrix_from_rotation_vector(random.normal(size=3))
    t = random.normal(size=3)
    in_camera = random.uniform(-2, 2, (3, 30))
    in_world = R @ in_camera + t[:, None] + noise * random.normal(size=(3, 30))
    weights = np.full((1, 30), 1 / 30)
    return (*(torch.from_numpy(a.T)[None] for a in (in_camera, in_world, weights)), R, t)


@pytest.mark.parametrize('seed', range(5))
def test_a_rigid_motion_is_found_again(seed):
    in_camera, in_world, weights, R, t = _problem(seed)
    position, columns = align(in_camera, in_world, weights)
    # The tie breaker costs a tenth of a millimetre.
    np.testing.assert_allclose(position[0], t, atol=1e-3)
    np.testing.assert_allclose(columns.reshape(2, 3).T, R[:, :2], atol=1e-3)


def test_points_without_weight_do_not_count():
    in_camera, in_world, weights, R, t = _problem(0)
    in_world[0, 10:] += 5.0 * torch.randn(20, 3, dtype=torch.float64)
    weights[0, :10], weights[0, 10:] = 0.1, 0.0
    position, columns = align(in_camera, in_world, weights)
    np.testing.assert_allclose(position[0], t, atol=1e-3)
    np.testing.assert_allclose(columns.reshape(2, 3).T, R[:, :2], atol=1e-3)


def test_mirrored_points_still_give_a_rotation():
    in_camera, in_world, weights, _, _ = _problem(1)
    _, columns = align(in_camera, in_world * torch.tensor([-1.0, 1.0, 1.0]), weights)
    first, second = columns.reshape(2, 3).double()
    assert abs(float(first @ second)) < 1e-9
    assert float(first.norm()) == pytest.approx(1.0) == float(second.norm())


def test_gradients_equal_finite_differences():
    in_camera, in_world, weights, _, _ = _problem(2, noise=0.2)
    in_world.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: torch.cat(align(in_camera, x, weights), 1),
                                    in_world, eps=1e-6, atol=1e-4)
