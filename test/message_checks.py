# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What every message of a node has to be (ros2_conventions.md sections 3 to 6)."""

import numpy as np


def check_frame(name):
    """Demand a frame name without a leading slash."""
    assert name and not name.startswith('/'), name


def check_pose(pose):
    """Demand finite numbers and a unit quaternion."""
    position, q = pose.position, pose.orientation
    assert np.all(np.isfinite([position.x, position.y, position.z]))
    assert abs(np.linalg.norm([q.x, q.y, q.z, q.w]) - 1) < 1e-6


def check_covariance(numbers):
    """Demand symmetric and positive definite, neither zero nor identity; return 6x6."""
    covariance = np.reshape(numbers, (6, 6))
    assert np.all(np.isfinite(covariance)) and np.array_equal(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance)[0] > 0
    assert not np.array_equal(covariance, np.eye(6))
    return covariance


def check_odometry(message):
    """Demand all that filters need."""
    check_frame(message.header.frame_id)
    check_frame(message.child_frame_id)
    check_pose(message.pose.pose)
    check_covariance(message.pose.covariance)
    twist = message.twist.twist
    assert np.all(np.isfinite([twist.linear.x, twist.linear.y, twist.linear.z,
                               twist.angular.x, twist.angular.y, twist.angular.z]))
    check_covariance(message.twist.covariance)


def check_depth(message, info):
    """Demand a depth image with the calibration that belongs to it (REP 118)."""
    check_frame(message.header.frame_id)
    assert info.header == message.header
    assert (info.width, info.height) == (message.width, message.height)
    assert message.encoding == '32FC1' and message.step == 4 * message.width
    assert info.k[0] > 0 and np.array_equal(np.reshape(info.p, (3, 4))[:, :3].ravel(), info.k)
    depth = np.frombuffer(message.data, np.float32)
    assert np.all(depth[~np.isnan(depth)] > 0)
