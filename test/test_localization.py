# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""From camera to base and to the correction of odometry."""

import numpy as np
import pytest
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock

from geo_perception.geometry import se3
from geo_perception.ros.localization import (
    correction_of_odometry, move_pose_to_base, OdometryCorrection, uncouple_plane)
from geo_perception.ros.messages import ns_to_stamp


def planar(x, y, yaw, z=0.0):
    """Return a pose in the plane."""
    return se3.make_transform(se3.matrix_from_rotation_vector([0, 0, yaw]), [x, y, z])


def test_the_base_is_behind_and_below_a_camera_that_looks_forward():
    """By hand: camera 0.3 m ahead and 0.5 m above the base, robot facing +y at (1, 2, 0)."""
    T_base_camera = se3.make_transform(se3.R_BODY_OPTICAL, [0.3, 0.0, 0.5])
    T_map_camera = planar(1.0, 2.0, np.pi / 2) @ T_base_camera
    assert np.allclose(T_map_camera[:3, 3], [1.0, 2.3, 0.5])
    T_map_base, _ = move_pose_to_base(T_map_camera, np.eye(6), T_base_camera)
    assert np.allclose(T_map_base, planar(1.0, 2.0, np.pi / 2))


def test_the_lever_arm_moves_the_covariance_as_sampling_does():
    """Errors of the camera pose, drawn, carried over to the base and measured there."""
    rng = np.random.default_rng(0)
    T_base_camera = se3.make_transform(se3.R_BODY_OPTICAL, [0.3, 0.1, 0.5])
    T_map_camera = planar(1.0, 2.0, 0.7) @ T_base_camera
    A = rng.normal(size=(6, 6))
    covariance = 1e-4 * (A @ A.T)
    T_map_base, moved = move_pose_to_base(T_map_camera, covariance, T_base_camera)
    draws = rng.multivariate_normal(np.zeros(6), covariance, 20000)
    R = se3.matrix_from_rotation_vector(draws[:, 3:])
    T_noisy = se3.make_transform(R @ T_map_camera[:3, :3], T_map_camera[:3, 3] + draws[:, :3])
    T_noisy_base = T_noisy @ se3.inverse_transform(T_base_camera)
    errors = np.hstack([T_noisy_base[:, :3, 3] - T_map_base[:3, 3], draws[:, 3:]])
    assert np.allclose(np.cov(errors.T), moved, atol=0.04 * np.abs(moved).max())


def test_the_correction_takes_odometry_to_the_map():
    """The definition: T_map_odom T_odom_base = T_map_base."""
    rng = np.random.default_rng(1)
    T_map_base = se3.make_transform(se3.matrix_from_rotation_vector(rng.normal(size=3)), [1, 2, 3])
    T_odom_base = planar(4.0, 5.0, -2.0, z=6.0)
    T_map_odom = correction_of_odometry(T_map_base, T_odom_base, two_d=False)
    assert np.allclose(T_map_odom @ T_odom_base, T_map_base)


@pytest.mark.parametrize('distance', [1.0, 1000.0])
def test_in_two_dimensions_tilt_and_height_do_not_reach_the_world(distance):
    """Roll, pitch and height noise leave x, y and yaw of the robot as measured."""
    tilt = se3.make_transform(se3.matrix_from_rotation_vector([0.05, -0.04, 0.0]), [0, 0, 0.2])
    T_map_base = planar(3.0, 4.0, 0.5) @ tilt
    T_odom_base = planar(distance, 0.0, -1.0)
    T_map_odom = correction_of_odometry(T_map_base, T_odom_base, two_d=True)
    assert np.allclose(T_map_odom[2], [0, 0, 1, 0]) and np.allclose(T_map_odom[:2, 2], 0)
    base = T_map_odom @ T_odom_base
    assert np.allclose(base[:2, 3], [3.0, 4.0])
    assert np.isclose(np.arctan2(base[1, 0], base[0, 0]), 0.5, atol=2e-3)


def test_no_instant_is_broadcast_twice(graph, tf):
    """Where the clock of a simulation stands between two images: tf2 would warn."""
    graph.peer.set_parameters([Parameter('use_sim_time', value=True)])
    clock = graph.advertise(Clock, '/clock')
    graph.spin_until(lambda: clock.get_subscription_count() > 0)
    clock.publish(Clock(clock=ns_to_stamp(10**9)))
    graph.spin_until(lambda: graph.peer.get_clock().now().nanoseconds, what='the time')
    heard = graph.listen(tf.message_class, '/tf')
    correction = OdometryCorrection(graph.peer, 'map', 'odom', 0.5, False, lambda now: '')
    for stamp, known in ((10**9, 2), (10**9, 2), (2 * 10**9, 3)):
        correction.see(stamp)
        correction.update(stamp, np.eye(4), np.eye(4))
        correction._on_time()
        graph.spin_until(lambda: len(heard) >= known)
    graph.spin_for(0.1)
    assert len(heard) == 3   # the first fix has one at its own stamp, too
    correction.close()


@pytest.mark.parametrize('what', ['images', 'clock'])
def test_a_fix_from_before_a_jump_back_is_not_broadcast_after_it(graph, tf, what):
    """At once; nor is that of an image which was in work when time jumped."""
    graph.peer.set_parameters([Parameter('use_sim_time', value=True)])
    clock = graph.advertise(Clock, '/clock')
    graph.spin_until(lambda: clock.get_subscription_count() > 0)
    heard = graph.listen(tf.message_class, '/tf')
    correction = OdometryCorrection(graph.peer, 'map', 'odom', 0.5, False, lambda now: '')

    def set_clock(seconds):
        clock.publish(Clock(clock=ns_to_stamp(seconds * 10**9)))
        graph.spin_until(lambda: graph.peer.get_clock().now().nanoseconds == seconds * 10**9)

    set_clock(70)
    correction.see(70 * 10**9)
    correction.update(70 * 10**9, np.eye(4), np.eye(4))
    graph.spin_until(lambda: len(heard) == 2, what='the broadcast')
    if what == 'images':
        correction.see(10 * 10**9)
        correction.update(70 * 10**9 + 1, np.eye(4), np.eye(4))
    else:
        set_clock(10)
        correction._on_time()
    assert correction.state == 'waits for a fix'
    correction.see(10 * 10**9 + 1)
    correction._on_time()
    correction.update(10 * 10**9 + 1, np.eye(4), np.eye(4))
    graph.spin_until(lambda: len(heard) == 4, what='the broadcast')
    assert [message.transforms[0].header.stamp.sec for message in heard] == [70, 70, 10, 10]
    correction.close()


def test_a_filter_of_the_plane_can_read_the_covariance():
    """Two_d_mode of robot_localization gives z, roll, pitch 1e-6, and keeps what couples them."""
    def as_the_filter_reads_it(covariance):
        read = covariance.copy()
        read[[2, 3, 4], [2, 3, 4]] = 1e-6
        return read

    T_base_camera = se3.make_transform(se3.R_BODY_OPTICAL, [0.15, 0.0, 0.75])
    T_map_camera = planar(1.0, 2.0, 0.7) @ T_base_camera
    camera = np.diag([0.01, 0.01, 0.01, 0.003, 0.003, 0.003]) ** 2
    _, covariance = move_pose_to_base(T_map_camera, camera, T_base_camera)
    assert np.linalg.eigvalsh(as_the_filter_reads_it(covariance))[0] < 0
    uncoupled = uncouple_plane(covariance)
    assert np.linalg.eigvalsh(as_the_filter_reads_it(uncoupled))[0] > 0
    assert np.array_equal(np.diag(uncoupled), np.diag(covariance))
    plane = np.ix_([0, 1, 5], [0, 1, 5])
    assert np.array_equal(uncoupled[plane], covariance[plane])
