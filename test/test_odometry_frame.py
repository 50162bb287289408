# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Odometry of a base from that of its camera: signs, lever arm, covariance, restarts."""

import numpy as np
import pytest

from geo_perception.geometry import se3
from geo_perception.inference.visual_odometry import OdometryEstimate
from geo_perception.ros.odometry import body_frame_of, OdometryFrame, twist_of_base

SECOND = 1_000_000_000
INTERVAL = 0.1
# Ahead of the base, to its left and above, looking down to the right.
T_BASE_CAMERA = se3.make_transform(
    se3.matrix_from_rotation_vector([0.05, 0.3, -0.2]) @ se3.R_BODY_OPTICAL, [0.4, 0.15, 0.8])


def any_covariance(seed):
    """Return a covariance with all its off-diagonals."""
    A = np.random.default_rng(seed).normal(size=(6, 6))
    return 1e-4 * (A @ A.T + np.eye(6))


def base_at(time):
    """Return where a base is that drives forward and turns left: 0.5 m/s, 0.4 rad/s."""
    yaw = 0.4 * time
    return se3.make_transform(se3.matrix_from_rotation_vector([0, 0, yaw]),
                              [0.5 / 0.4 * np.sin(yaw), 0.5 / 0.4 * (1 - np.cos(yaw)), 0.0])


def estimate_at(number, origin=0, scale=1.0):
    """Return the estimate of frame ``number``, exact, by an odometry that began at ``origin``."""
    cameras = [base_at(INTERVAL * i) @ T_BASE_CAMERA for i in (origin, number - 1, number)]
    T_origin_world = se3.inverse_transform(cameras[0])
    return OdometryEstimate(
        100 * SECOND + number * SECOND // 10, T_origin_world @ cameras[2],
        se3.inverse_transform(cameras[1]) @ cameras[2], INTERVAL, any_covariance(1),
        any_covariance(number), 0.05, True)


def follow(frame, numbers, origin=0):
    """Take estimates over; return the last base."""
    for number in numbers:
        base = frame.update(estimate_at(number, origin), T_BASE_CAMERA, T_BASE_CAMERA)
    return base


def test_odom_is_where_the_base_began():
    """The base, not the camera; driving forward x grows, turning left yaw."""
    frame = OdometryFrame()
    base = follow(frame, range(1, 6))
    assert base.T_odom_base == pytest.approx(base_at(0.5))
    assert base.T_odom_base[0, 3] > 0.2 and base.T_odom_base[1, 0] > 0.1


def test_twist_is_that_of_the_base_in_its_own_axes():
    """Exactly, whatever the lever arm and the axes of the camera."""
    base = follow(OdometryFrame(), [1])
    assert base.twist == pytest.approx([0.5, 0, 0, 0, 0, 0.4], abs=1e-9)


@pytest.mark.parametrize('omega', [[0, 0, 0], [0, 0, 1e-7], [0.3, -0.2, 0.5], [0, 0, 3.0]])
def test_twist_of_motion_is_the_logarithm(omega):
    """Many small steps at that twist make the motion."""
    T = se3.make_transform(se3.matrix_from_rotation_vector(omega), [1.0, -2.0, 0.5])
    twist = se3.twist_of_motion(T)
    n = 2 ** 16
    step = se3.make_transform(se3.matrix_from_rotation_vector(twist[3:] / n), twist[:3] / n)
    assert np.linalg.matrix_power(step, n) == pytest.approx(T, abs=2e-4)


def perturbed(T, error):
    """Return a pose with an error (x, y, z, rot) in the fixed axes of its parent."""
    return se3.make_transform(se3.matrix_from_rotation_vector(error[3:]) @ T[:3, :3],
                              T[:3, 3] + error[:3])


def numerical_jacobian(function):
    """Return the derivative of a pose error with respect to a pose error."""
    T, step, columns = function(np.zeros(6)), 1e-6, []
    for axis in np.eye(6):
        moved = function(step * axis)
        columns.append(np.concatenate([
            moved[:3, 3] - T[:3, 3],
            se3.rotation_vector_from_matrix(moved[:3, :3] @ T[:3, :3].T)]) / step)
    return np.stack(columns, 1)


def test_covariances_are_moved_to_the_base():
    """As derivatives by finite differences say."""
    frame = OdometryFrame()
    estimate = estimate_at(4)
    base = follow(frame, range(1, 5))
    X_inverse = se3.inverse_transform(T_BASE_CAMERA)
    J = numerical_jacobian(
        lambda e: T_BASE_CAMERA @ perturbed(estimate.T_odom_camera, e) @ X_inverse)
    assert base.covariance == pytest.approx(J @ estimate.covariance @ J.T, rel=1e-4, abs=1e-10)
    motion = T_BASE_CAMERA @ estimate.motion @ X_inverse
    J = numerical_jacobian(lambda e: T_BASE_CAMERA @ perturbed(estimate.motion, e) @ X_inverse)
    R = np.kron(np.eye(2), motion[:3, :3].T) / INTERVAL
    expected = R @ J @ estimate.motion_covariance @ J.T @ R.T
    assert base.twist_covariance == pytest.approx(expected, rel=1e-4, abs=1e-8)


def test_after_a_restart_the_pose_goes_on_and_is_less_certain():
    """Odom never jumps; what happened unseen is in the covariance, at 0.5 m/s and 0.5 rad/s."""
    frame = OdometryFrame()
    before = follow(frame, range(1, 6))
    frame.restart()
    # Frames 6 to 9 were lost: the motion from 5 to 10 is not known.
    after = follow(frame, [11], origin=10)
    step = se3.inverse_transform(base_at(1.0)) @ base_at(1.1)
    assert after.T_odom_base == pytest.approx(before.T_odom_base @ step)
    grown = np.diag(after.covariance - before.covariance)
    assert np.all(grown[:3] > 0.25 ** 2) and np.all(grown[3:] > 0.249 ** 2)
    assert np.all(grown < 1)


def test_an_uncertain_heading_spreads_along_the_way():
    """What was not known at the restart is a lever for all that follows."""
    frame = OdometryFrame()
    follow(frame, range(1, 6))
    frame.restart()
    near, far = (follow(frame, numbers, origin=10) for numbers in ([11], range(12, 60)))
    way = np.linalg.norm(far.T_odom_base[:3, 3] - near.T_odom_base[:3, 3])
    spread = np.trace(far.covariance[:3, :3]) - np.trace(near.covariance[:3, :3])
    assert way > 1 and spread > (0.25 * way) ** 2


def test_at_speed_more_may_have_happened():
    """What was seen last counts where it is more."""
    fast = estimate_at(1)
    motion = fast.motion.copy()
    motion[:3, 3] *= 100
    frame = OdometryFrame()
    fast = OdometryEstimate(fast.stamp, motion, motion, 0.1, fast.motion_covariance,
                            fast.covariance, 0.05, True)
    frame.update(fast, T_BASE_CAMERA, T_BASE_CAMERA)
    frame.restart()
    after = follow(frame, [6], origin=5)
    assert after.covariance[0, 0] > (5 * 0.4) ** 2


def test_when_time_jumps_back_everything_begins_again():
    """So does everybody else then."""
    frame = OdometryFrame()
    follow(frame, range(1, 20))
    frame.restart()
    again = follow(frame, [1])
    assert again.T_odom_base == pytest.approx(base_at(0.1))
    assert again.covariance == pytest.approx(follow(OdometryFrame(), [1]).covariance)


def test_a_camera_that_turns_on_its_base_is_not_a_motion_of_the_base():
    """The base stands while a pan unit moves the camera."""
    pans = [se3.make_transform(se3.matrix_from_rotation_vector([0, 0, a]), np.zeros(3))
            @ T_BASE_CAMERA for a in (0.0, 0.1)]
    motion = se3.inverse_transform(pans[0]) @ pans[1]
    estimate = OdometryEstimate(SECOND, motion, motion, 0.1, any_covariance(1),
                                any_covariance(2), 0.05, True)
    base = OdometryFrame().update(estimate, pans[1], pans[0])
    assert base.T_odom_base == pytest.approx(np.eye(4), abs=1e-12)
    assert base.twist == pytest.approx(np.zeros(6), abs=1e-9)
    assert np.linalg.eigvalsh(twist_of_base(estimate, pans[1], pans[0])[1])[0] > 0


@pytest.mark.parametrize('camera, body', [
    ('camera_optical_frame', 'camera_frame'), ('left_optical', 'left'),
    ('usb_cam', 'usb_cam_body')])
def test_the_body_frame_of_a_camera_is_not_called_optical(camera, body):
    """And its x axis is where the camera looks."""
    name, T = body_frame_of(camera)
    assert name == body
    assert T[:3, :3] @ [0, 0, 1] == pytest.approx([1, 0, 0])
