# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Odometry from key frames: errors of single motions do not add up while one is in sight."""

import cv2
import numpy as np
import pytest
from small_world import CAMERA, view

from geo_perception.geometry.direct_alignment import align_images
from geo_perception.geometry.se3 import (
    inverse_transform, make_transform, matrix_from_rotation_vector, R_BODY_OPTICAL)
from geo_perception.inference.motion import DirectMotion, View
from geo_perception.inference.motion_uncertainty import MotionCalibration
from geo_perception.inference.visual_odometry import LARGEST_TURN, LARGEST_WAY, VisualOdometry

TENTH = 10 ** 8
ERROR = make_transform(matrix_from_rotation_vector([0.0, 0.002, 0.0]), [0.004, 0.0, 0.0])


def drive(offsets, yaw=0.0):
    """Return views and true poses of a level camera before the wall, metres aside."""
    views, poses = [], []
    for i, x in enumerate(offsets):
        R = matrix_from_rotation_vector([0, 0, yaw * i]) @ R_BODY_OPTICAL
        poses.append(make_transform(R, [0.0, -x, 1.0]))
        image, depth = view(poses[-1])
        views.append(View(cv2.GaussianBlur(image, (7, 7), 0), depth, CAMERA, (i + 1) * TENTH))
    return views, [inverse_transform(poses[0]) @ T for T in poses]


class Slightly:
    """Knows the motion between any two views of a drive, with the same error in each."""

    memory = 0

    def __init__(self, views, poses, keeps_key_frames, error=ERROR):
        self.poses = {v.stamp: T for v, T in zip(views, poses)}
        self.keeps_key_frames, self.error, self.asked = keeps_key_frames, error, []

    def __call__(self, earlier, previous, current, guess):
        """Return T_previous_current."""
        self.asked.append((previous.stamp, current.stamp, guess))
        return inverse_transform(self.poses[previous.stamp]) @ self.poses[current.stamp] @ (
            self.error)


def follow(network, views, scales=None):
    """Return what odometry says about each view after the first."""
    odometry = VisualOdometry(network, MotionCalibration())
    scales = [1.0] * len(views) if scales is None else scales
    steps = [odometry.update(v, scale) for v, scale in zip(views, scales)]
    return [step.estimate for step in steps[1:]]


def test_errors_add_up_per_key_frame_instead_of_per_frame():
    """Within the sight of a key frame a pose is as wrong as one motion; so is its covariance."""
    views, poses = drive(0.02 * np.arange(8))
    chained, kept = (follow(Slightly(views, poses, keeps), views) for keeps in (False, True))
    assert np.allclose(chained[-1].T_odom_camera[:3, 3] - poses[-1][:3, 3], [0.028, 0, 0],
                       atol=0.002)
    assert np.allclose(kept[-1].T_odom_camera, poses[-1] @ ERROR, atol=1e-9)
    assert np.linalg.det(kept[-1].covariance) < np.linalg.det(chained[-1].covariance)


def test_motion_is_that_of_the_last_interval():
    """Twist must not be the way since the key frame; the same error in both ends goes away."""
    views, poses = drive(0.02 * np.arange(6))
    for estimate, before, now in list(zip(follow(Slightly(views, poses, True), views), poses,
                                          poses[1:]))[1:]:
        assert estimate.interval == pytest.approx(0.1)
        truth = inverse_transform(before @ ERROR) @ now @ ERROR
        assert np.allclose(estimate.motion, truth, atol=1e-9)


@pytest.mark.parametrize('step,yaw,frames_per_key', [
    (1.001 * LARGEST_WAY * 3 / 4, 0.0, 4), (0.01, 1.001 * LARGEST_TURN / 3, 3)])
def test_a_key_frame_is_left_once_it_is_out_of_sight(step, yaw, frames_per_key):
    """After a part of the depth, or after a turn; alignment begins at the pose before."""
    views, poses = drive(step * np.arange(13), yaw)
    views = [View(v.crop, np.full_like(v.depth, 3.0), v.camera, v.stamp) for v in views]
    network = Slightly(views, poses, True, np.eye(4))
    follow(network, views)
    keys = [previous // TENTH - 1 for previous, _, _ in network.asked]
    assert keys == [i // frames_per_key * frames_per_key for i in range(12)]
    for previous, current, guess in network.asked:
        expected = inverse_transform(network.poses[previous]) @ network.poses[current - TENTH]
        assert np.allclose(guess, expected, atol=1e-9)


def test_a_key_frame_that_is_lost_gives_way_to_the_last_frame():
    """A motion from the key frame that does not explain the image is found again from the last."""
    views, poses = drive(0.02 * np.arange(6))

    class Loses(Slightly):

        def __call__(self, earlier, previous, current, guess):
            T = super().__call__(earlier, previous, current, guess)
            far = current.stamp - previous.stamp > 3 * TENTH
            return T @ make_transform(np.eye(3), [0.5, 0, 0]) if far else T

    network = Loses(views, poses, True, np.eye(4))
    calibration = MotionCalibration(usual_residual=0.01)
    odometry = VisualOdometry(network, calibration)
    estimates = [odometry.update(v, 1.0).estimate for v in views][1:]
    assert all(np.allclose(e.T_odom_camera, T) for e, T in zip(estimates, poses[1:]))
    assert [current - previous for previous, current, _ in network.asked] == [
        n * TENTH for n in (1, 2, 3, 4, 1, 2)]


def test_scale_that_comes_late_between_two_key_frames():
    """What was chained without metres becomes metric, and so do the poses of both frames."""
    views, poses = drive(0.02 * np.arange(6))
    estimates = follow(Slightly(views, poses, True, np.eye(4)), views, [None] * 3 + [2.0] * 3)
    assert [e.metric for e in estimates] == [False] * 2 + [True] * 3
    for estimate, T, unit in zip(estimates, poses[1:], [1, 1, 2, 2, 2]):
        assert np.allclose(estimate.T_odom_camera[:3, 3], unit * T[:3, 3], atol=1e-9)
        assert np.allclose(np.linalg.norm(estimate.motion[:3, 3]), unit * 0.02, atol=1e-9)


def test_standing_keeps_key_frame_and_place():
    """A camera that stops in the sight of a key frame has not moved, and goes on from there."""
    views, poses = drive([0.0, 0.02, 0.04, 0.04, 0.04, 0.06])
    network = Slightly(views, poses, True, np.eye(4))
    estimates = follow(network, views)
    assert [e.standing for e in estimates] == [False, False, True, True, False]
    assert np.array_equal(estimates[3].T_odom_camera, estimates[1].T_odom_camera)
    assert np.allclose(estimates[-1].T_odom_camera, poses[-1], atol=1e-9)
    assert {previous for previous, _, _ in network.asked} == {TENTH}


def test_alignment_begins_at_the_guess(monkeypatch):
    """The guess is of the other direction than what alignment begins with."""
    views, poses = drive([0.0, 0.05])
    begun = []

    def align(*arguments):
        begun.append(arguments[-1][0].numpy())
        return align_images(*arguments)

    monkeypatch.setattr('geo_perception.inference.motion.align_images', align)
    motion = DirectMotion('cpu')((), *views, poses[1])
    assert np.allclose(begun[0], inverse_transform(poses[1]), atol=1e-6)
    assert np.allclose(motion[:3, 3], poses[1][:3, 3], atol=0.01)
