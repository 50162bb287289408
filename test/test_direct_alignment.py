# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Ego-motion by direct alignment, against the exact truth of the sample world."""

import numpy as np
import pytest
import torch

from geo_perception.datasets.sample_world import SampleWorld
from geo_perception.errors import ConfigurationError
from geo_perception.geometry.direct_alignment import align_images
from geo_perception.geometry.projection import (
    invert_rigid, matrix_to_pose_vector, pose_vector_to_matrix, rigid_from_twist)
from geo_perception.geometry.se3 import rotation_angle
from geo_perception.networks.registry import build_by_name
from geo_perception.preprocessing import Preprocessing
from geo_perception.training.direct_egomotion import EGOMOTION

SIZE = (96, 128)


@pytest.fixture(scope='module')
def pairs():
    """Return images, depths, intrinsics and true motions of neighbours in the test pass."""
    drive = SampleWorld().drive('test', 120)
    preprocessing = Preprocessing(min(SIZE), SIZE, mean=(127.5,) * 3, std=(127.5,) * 3)
    targets, sources, depths, truths = [], [], [], []
    for i in range(5, 120, 23):
        frame, following = drive[i], drive[i + 1]
        targets.append(preprocessing.resize(frame.image))
        sources.append(preprocessing.resize(following.image))
        # Every second or third pixel, which is what a nearest neighbour of the smaller size is.
        rows = np.arange(SIZE[0]) * frame.depth.shape[0] // SIZE[0]
        columns = np.arange(SIZE[1]) * frame.depth.shape[1] // SIZE[1]
        depths.append(frame.depth[rows][:, columns])
        truths.append(np.linalg.inv(following.T_world_camera) @ frame.T_world_camera)
        camera = frame.camera.resized(SIZE[1], SIZE[0])
    n = len(targets)
    return (preprocessing.normalise(torch.from_numpy(np.stack(targets))),
            preprocessing.normalise(torch.from_numpy(np.stack(sources))),
            torch.from_numpy(np.stack(depths))[:, None],
            torch.from_numpy(camera.K).float().expand(n, 3, 3), np.stack(truths))


def errors(T, truth):
    """Return how far motions are off, in degrees and metres."""
    T = T.double().numpy()
    return (np.degrees(rotation_angle(T[:, :3, :3], truth[:, :3, :3])),
            np.linalg.norm(T[:, :3, 3] - truth[:, :3, 3], axis=1))


def test_true_depth_gives_the_true_motion(pairs):
    """A tenth of a degree where the camera turns by degrees, in changing light."""
    target, source, depth, K, truth = pairs
    assert np.median(errors(torch.eye(4).expand(len(K), 4, 4), truth)[0]) > 1.5
    T, residual = align_images(target, source, depth, K)
    rotation, translation = errors(T, truth)
    assert np.median(rotation) < 0.15 and rotation.max() < 0.5
    assert np.median(translation) < 0.2 * np.median(np.linalg.norm(truth[:, :3, 3], axis=1))
    assert (residual < 0.3).all()


def test_translation_has_the_unit_of_depth(pairs):
    """Twice the depth is twice the way, and the same turn."""
    target, source, depth, K, _ = pairs
    T, _ = align_images(target, source, depth, K)
    doubled, _ = align_images(target, source, 2 * depth, K)
    # Damping holds what hardly counts, which depends on the unit; elsewhere it is exact.
    torch.testing.assert_close(doubled[:, :3, 3], 2 * T[:, :3, 3], rtol=0.02, atol=1e-3)
    torch.testing.assert_close(doubled[:, :3, :3], T[:, :3, :3], rtol=0, atol=1e-3)


def test_light_does_not_matter(pairs):
    """Brightness and contrast of one image may differ."""
    target, source, depth, K, truth = pairs
    T, _ = align_images(target, 0.6 * source - 0.2, depth, K)
    rotation, _ = errors(T, truth)
    assert np.median(rotation) < 0.2


def test_equal_images_do_not_move(pairs):
    """Not by a thousandth."""
    target, _, depth, K, _ = pairs
    T, residual = align_images(target, target, depth, K)
    torch.testing.assert_close(T, torch.eye(4).expand_as(T), rtol=0, atol=1e-3)
    assert (residual < 0.02).all()


def test_a_batch_is_its_members(pairs):
    """No pair knows of the others."""
    target, source, depth, K, _ = pairs
    together, _ = align_images(target, source, depth, K)
    for i in range(len(K)):
        alone, _ = align_images(*(x[i:i + 1] for x in (target, source, depth, K)))
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=2e-3)


@pytest.mark.parametrize('image', [torch.zeros(1, 3, *SIZE), torch.ones(1, 3, *SIZE)])
def test_nothing_to_see_is_no_motion(pairs, image):
    """Black and white images give a number, and it is zero."""
    depth, K = pairs[2][:1], pairs[3][:1]
    T, residual = align_images(image, image, depth, K)
    torch.testing.assert_close(T, torch.eye(4)[None], rtol=0, atol=1e-6)
    assert residual.isfinite().all()


def test_unrelated_images_give_numbers():
    """Noise is aligned with noise, whatever comes out."""
    generator = torch.Generator().manual_seed(0)
    target, source = torch.rand(2, 4, 3, *SIZE, generator=generator) * 2 - 1
    K = torch.tensor([[88.0, 0, 64], [0, 88, 48], [0, 0, 1]]).expand(4, 3, 3)
    T, residual = align_images(target, source, torch.full((4, 1, *SIZE), 0.3), K)
    assert T.isfinite().all() and (residual > 0.5).all()


def test_vectors_and_twists():
    """Vectors go there and back; a twist is the matrix exponential of its rotation."""
    poses = torch.tensor([[0.1, -0.2, 0.3, 0.4, -0.5, 0.6], [0, 0, 0, 0, 0, 0]]).double()
    torch.testing.assert_close(matrix_to_pose_vector(pose_vector_to_matrix(poses)), poses)
    T = rigid_from_twist(poses)
    x, y, z = poses[0, 3:]
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]]).double()
    torch.testing.assert_close(T[0, :3, :3], torch.linalg.matrix_exp(cross))
    torch.testing.assert_close(T[0, :3, 3], poses[0, :3])
    torch.testing.assert_close(T @ invert_rigid(T), torch.eye(4).double().expand(2, 4, 4))


def test_as_an_egomotion_network(pairs):
    """Every source is aligned with the target; nothing is learned."""
    target, source, depth, K, truth = pairs
    network = build_by_name('ego-motion', EGOMOTION, 'direct', {'sources': 2})
    assert network.uses_depth and not list(network.parameters())
    poses, masks = network(target, torch.stack([target, source], 1), 1 / depth, K)
    assert masks is None and poses.shape == (len(K), 2, 6) and not poses.requires_grad
    rotation, _ = errors(pose_vector_to_matrix(poses[:, 1]), truth)
    assert np.median(rotation) < 0.15
    assert poses[:, 0].abs().max() < 1e-3
    with pytest.raises(ConfigurationError, match='"direkt" is unknown; choose one of network, di'):
        build_by_name('ego-motion', EGOMOTION, 'direkt', {})
    with pytest.raises(ConfigurationError, match='does not take these arguments'):
        build_by_name('ego-motion', EGOMOTION, 'direct', {'wide': 2})
