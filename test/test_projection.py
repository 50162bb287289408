# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Projection against published numbers, NumPy and the sample world's truth."""

import golden_grid as golden
import numpy as np
import pytest
import torch

from geo_perception.datasets.sample_world.world import SampleWorld
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.projection import (
    invert_rigid, pixel_grid, pose_vector_to_matrix, project_pixels, pyramid_intrinsics,
    rigid_flow)
from geo_perception.geometry.se3 import inverse_transform


def test_published_rotations():
    """Rows printed in the specification, R = Rx Ry Rz."""
    R = pose_vector_to_matrix(golden.POSE)[0, :3, :3]
    expected = [[0.999350, -0.029990, -0.019999], [0.029794, 0.999506, -0.009998],
                [0.020289, 0.009395, 0.999750]]
    np.testing.assert_allclose(R, expected, atol=5e-7)
    T = pose_vector_to_matrix(torch.tensor([0.1, 0.2, 0.3, 0.1, -0.2, 0.3]))
    np.testing.assert_allclose(T[:3, :3], [[0.9363, -0.2896, -0.1987], [0.2751, 0.9564, -0.0978],
                                           [0.2184, 0.0370, 0.9752]], atol=5e-5)
    np.testing.assert_allclose(T[:, 3], [0.1, 0.2, 0.3, 1.0])


def test_rotations_by_elementary_matrices():
    """A second, dumber way, with angles beyond pi clipped."""
    random = np.random.default_rng(0)
    for angles in [*random.uniform(-3, 3, (5, 3)), np.array([4.0, -5.0, 0.3])]:
        x, y, z = np.clip(angles, -np.pi, np.pi)
        Rx = [[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]]
        Ry = [[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]
        Rz = [[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]]
        T = pose_vector_to_matrix(torch.tensor([0, 0, 0, *angles]).double())
        np.testing.assert_allclose(T[:3, :3], np.array(Rx) @ Ry @ Rz, atol=1e-12)


def test_inverse():
    """T and its inverse cancel."""
    T = pose_vector_to_matrix(torch.randn(2, 3, 6).double())
    torch.testing.assert_close(invert_rigid(T) @ T, torch.eye(4).double().expand(2, 3, 4, 4))


@pytest.mark.parametrize('inverse, expected', [
    (False, {(0, 0): (0.110620, -0.130069), (1, 2): (0.024016, -0.090950),
             (3, 5): (-0.170621, -0.081758)}),
    (True, {(0, 0): (-0.114566, 0.137068), (1, 2): (-0.025921, 0.095786),
            (3, 5): (0.183338, 0.085742)})])
def test_published_flow(inverse, expected):
    """Displacements printed in the specification."""
    T = pose_vector_to_matrix(golden.POSE)
    flow, valid = rigid_flow(golden.DEPTH, invert_rigid(T) if inverse else T, golden.K)
    assert valid.all()
    for (row, column), displacement in expected.items():
        np.testing.assert_allclose(flow[0, :, row, column], displacement, atol=5e-7)


def test_pyramid_intrinsics():
    """Published: all divided by 2^s; exact: the same ray through the same spot."""
    K = torch.tensor([[[200.0, 0, 160.2], [0, 210, 119.3], [0, 0, 1]]])
    published = pyramid_intrinsics(K, 4)
    assert torch.equal(published[0], K)
    np.testing.assert_allclose(published[3][0], [[25, 0, 20.025], [0, 26.25, 14.9125], [0, 0, 1]],
                               rtol=1e-6)
    exact = pyramid_intrinsics(K, 4, exact=True)
    for level, K_level in enumerate(exact):
        camera = Camera(K[0].numpy().astype(float), 320, 240).resized(
            320 // 2 ** level, 240 // 2 ** level)
        np.testing.assert_allclose(K_level[0], camera.K, rtol=1e-6)


def test_true_depth_and_motion_give_true_flow():
    """The sample world's own flow, wherever nothing moves."""
    camera = Camera(np.array([[55.0, 0, 40.1], [0, 55.0, 29.7], [0, 0, 1]]), 80, 60,
                    frame_id='camera')
    drive = SampleWorld(0, camera).drive('train', 3)
    first, second = drive[0], drive[1]
    T = inverse_transform(second.T_world_camera) @ first.T_world_camera
    flow, _ = rigid_flow(torch.from_numpy(first.depth)[None, None].double(),
                         torch.from_numpy(T)[None], torch.from_numpy(camera.K)[None])
    still = (first.motion_mask == 0) & np.isfinite(first.depth)
    difference = np.abs(flow[0].permute(1, 2, 0).numpy() - first.flow)[still]
    assert still.mean() > 0.5 and np.abs(first.flow[still]).max() > 1
    assert difference.max() < 1e-3


def test_behind_the_camera_is_not_valid_and_not_nan():
    """Nothing is in front of a camera that moved through the wall."""
    K = torch.tensor([[[50.0, 0, 3.5], [0, 50, 2.5], [0, 0, 1]]])
    depth = torch.ones(1, 1, 6, 8, requires_grad=True)
    T = torch.eye(4)[None].clone()
    T[0, 2, 3] = -2.0
    flow, valid = rigid_flow(depth, T, K)
    assert not valid.any() and flow.isfinite().all()
    flow.sum().backward()
    assert depth.grad.isfinite().all()


def test_no_motion_no_flow():
    """The pixel grid is where the pixels are."""
    pixels, z = project_pixels(golden.DEPTH, torch.eye(4).double()[None], golden.K)
    torch.testing.assert_close(pixels[0], pixel_grid(4, 6, pixels)[:2])
    torch.testing.assert_close(z, golden.DEPTH)
    assert pixel_grid(4, 6, pixels)[:, 1, 2].tolist() == [2, 1, 1]
