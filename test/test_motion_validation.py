# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Scale of depth and errors of motions, from snippets with poses."""

import cv2
import numpy as np
import pytest
import torch

from geo_perception.datasets.sample_world import SampleWorld
from geo_perception.geometry.projection import matrix_to_pose_vector
from geo_perception.geometry.se3 import (
    inverse_transform, make_transform, matrix_from_rotation_vector)
from geo_perception.preprocessing import Preprocessing
from geo_perception.training.motion_validation import (
    MotionSample, sample_motions, SMALLEST_MOTION, validate_motion)

K = torch.tensor([[40.0, 0, 23.5], [0, 40, 15.5], [0, 0, 1]])


@pytest.fixture
def samples():
    """Return snippets, fifty of them without poses, of a network whose motions are too short."""
    random = np.random.default_rng(0)
    true = np.tile(np.eye(4), (300, 1, 1))
    true[:, :3, 3] = random.normal(0, 1, (300, 3)) * [0.02, 0.02, 0.1]
    found = true.copy()
    found[:, :3, 3] = (true[:, :3, 3] + random.normal(0, 0.01, (300, 3))) / 4.0
    true[250:] = np.nan
    # A unit of the depth is two metres, a step of the network as long as half of one says.
    far = np.linalg.norm(true[:, :3, 3], axis=1)
    return [MotionSample(*row) for row in zip(found, true, [0.05] * 300, far / 2.0, far)]


def test_scale_and_errors_are_found(samples):
    """Errors that are known go in: scales and the law of errors come out."""
    motion = validate_motion(samples, uses_depth=False, interval=0.1)
    assert motion.scales['metres_per_unit'] == pytest.approx(2.0)
    assert motion.scales['metres_per_unit_spread'] == pytest.approx(0.0, abs=1e-9)
    assert motion.scales['egomotion_scale'] == pytest.approx(2.0, rel=0.05)
    np.testing.assert_allclose(motion.motions[:, :3, 3], motion.scales['egomotion_scale']
                               * np.array([sample.motion[:3, 3] for sample in samples]))
    np.testing.assert_array_equal(motion.true_motions,
                                  [sample.true_motion for sample in samples])
    sigma = np.sqrt(np.diag(motion.calibration.covariance(motion.motions[0], 0.05, 0.1)))
    assert sigma[:3] == pytest.approx([0.01 / 2] * 3, rel=0.4)
    assert sigma[3] < 1e-4 and motion.calibration.usual_interval == 0.1
    assert motion.entries() == {**motion.scales, **motion.calibration.entries()}


def test_alignment_has_the_unit_of_depth(samples):
    """There is no second scale, and motions stay as they are."""
    motion = validate_motion(samples, uses_depth=True)
    assert sorted(motion.scales) == ['metres_per_unit', 'metres_per_unit_spread']
    np.testing.assert_array_equal(motion.motions, [sample.motion for sample in samples])


def test_scale_is_that_of_most_ways(samples):
    """Its spread is that between the quarters; a camera that stands has no say."""
    units = np.resize([1.0, 2.0, 3.0, 4.0, 10.0], len(samples))
    still = MotionSample(np.eye(4), np.eye(4), 0.05, 1.0, 0.9 * SMALLEST_MOTION)
    motion = validate_motion(
        [s._replace(way=s.true_way / unit) for s, unit in zip(samples, units)
         if s.true_way > SMALLEST_MOTION] + 300 * [still], uses_depth=True)
    assert motion.scales['metres_per_unit'] == pytest.approx(3.0)
    assert motion.scales['metres_per_unit_spread'] == pytest.approx(2 / 3)


def test_few_poses_give_a_scale_and_none_give_nothing(samples):
    """What cannot be known is left out."""
    few = validate_motion(samples[:5], uses_depth=False)
    assert few.calibration is None and few.entries() == few.scales
    assert few.scales['metres_per_unit'] == pytest.approx(2.0)
    for unknown in (samples[250:], [sample._replace(true_way=np.nan) for sample in samples],
                    [sample._replace(true_motion=np.full((4, 4), np.nan)) for sample in samples]):
        none = validate_motion(unknown, uses_depth=False)
        assert none.entries() == {}
        np.testing.assert_array_equal(none.motions, [sample.motion for sample in unknown])


def snippets(length):
    """Return poses of two snippets, shape (2, L, 4, 4), and what true ego-motion says of them."""
    random = np.random.default_rng(1)
    poses = make_transform(matrix_from_rotation_vector(0.1 * random.normal(size=(2, length, 3))),
                           random.normal(size=(2, length, 3)))
    target = length // 2
    sources = np.delete(poses, target, axis=1)
    T_source_target = inverse_transform(sources) @ poses[:, target:target + 1]
    return torch.from_numpy(poses), matrix_to_pose_vector(torch.from_numpy(T_source_target))


@pytest.mark.parametrize('length', [3, 5])
def test_true_ego_motion_is_the_truth(length):
    """The last step, and the way from the target to the frame after it."""
    poses, vectors = snippets(length)
    images = torch.zeros(2, length, 3, 32, 48)
    found = sample_motions(images, K.expand(2, 3, 3), torch.ones(2, 32, 48), vectors, poses, True)
    for sample, T in zip(found, poses.numpy()):
        np.testing.assert_allclose(sample.true_motion, np.linalg.inv(T[-2]) @ T[-1], atol=1e-9)
        np.testing.assert_allclose(sample.motion, sample.true_motion, atol=1e-5)
        centre = length // 2
        way = np.linalg.norm(T[centre + 1, :3, 3] - T[centre, :3, 3])
        assert (sample.way, sample.true_way) == pytest.approx((way, way), rel=1e-5)


def test_way_of_a_network_is_by_alignment():
    """Its own steps say nothing of the unit of depth, but how well they explain the images."""
    drive = SampleWorld().drive('test', 120)
    frames = [drive[i] for i in (4, 5, 6)]
    preprocessing = Preprocessing(96, (96, 128), mean=(127.5,) * 3, std=(127.5,) * 3)
    images = preprocessing.normalise(torch.from_numpy(
        np.stack([preprocessing.resize(frame.image) for frame in frames])))[None]
    depth = torch.from_numpy(cv2.resize(frames[1].depth, (128, 96),
                                        interpolation=cv2.INTER_NEAREST))[None]
    camera = torch.from_numpy(frames[1].camera.resized(128, 96).K).float()[None]
    poses = torch.from_numpy(np.stack([frame.T_world_camera for frame in frames]))[None]
    true = matrix_to_pose_vector(poses[:, [0, 2]].inverse() @ poses[:, 1:2])
    right, = sample_motions(images, camera, depth, true, poses, False)
    standing, = sample_motions(images, camera, depth, torch.zeros(1, 2, 6), poses, False)
    far, = sample_motions(images, camera, 2 * depth, true, poses, False)
    np.testing.assert_array_equal(standing.motion, np.eye(4))
    assert right.way == standing.way == pytest.approx(right.true_way, rel=0.2)
    assert far.way == pytest.approx(2 * right.way, rel=0.01)
    assert 0 < right.residual < 0.5 * standing.residual


def test_what_is_unknown_stays_so():
    """A snippet whose frames lack a pose."""
    poses, vectors = snippets(3)
    poses[1, 2] = np.nan
    first, second = sample_motions(torch.zeros(2, 3, 3, 32, 48), K.expand(2, 3, 3),
                                   torch.ones(2, 32, 48), vectors, poses, True)
    assert np.isfinite(first.true_motion).all() and np.isfinite(first.true_way)
    assert np.isnan(second.true_motion[:3, 3]).all() and np.isnan(second.true_way)
    assert np.isfinite(second.motion).all()
