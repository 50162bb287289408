# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""From the way of a camera to odometry of the robot that carries it (REP 105)."""

from dataclasses import dataclass

import numpy as np

from geo_perception.geometry import se3
from geo_perception.ros.localization import move_pose_to_base

# How fast a robot may have gone while nobody saw it; what was seen before counts if it is more.
_UNSEEN_SPEED = 0.5   # m/s
_UNSEEN_TURN = 0.5    # rad/s


@dataclass(frozen=True)
class BaseOdometry:
    """
    Pose and velocity of the base.

    Attributes
    ----------
    T_odom_base : np.ndarray
        4x4, metres.
    covariance : np.ndarray
        Of the pose, 6x6, order (x, y, z, rot X, rot Y, rot Z), axes of ``odom``.
    twist : np.ndarray
        Linear and angular velocity of the base in its own axes, m/s and rad/s, shape (6,).
    twist_covariance : np.ndarray
        Of the twist, 6x6, axes of the base.

    """

    T_odom_base: np.ndarray
    covariance: np.ndarray
    twist: np.ndarray
    twist_covariance: np.ndarray


class OdometryFrame:
    """
    Keeps ``odom`` where it is while visual odometry starts anew now and then.

    ``odom`` lies in the base as it was at the first motion, so z is up as far as the mounting of
    the camera on the base tells. When the visual odometry has lost its past, the pose goes on
    from the last one: ``odom`` never jumps, and its covariance grows by what may have happened
    unseen. When the time jumps back, everything begins again.
    """

    def __init__(self):
        self._T_odom_origin = None     # origin: where the visual odometry began
        self._anchor_covariance = np.zeros((6, 6))
        self._last = None              # stamp, T_odom_camera, covariance, speed, turn

    def restart(self):
        """Take the next motion for the first after a restart of the visual odometry."""
        self._T_odom_origin = None

    def update(self, estimate, T_base_camera, T_base_camera_before):
        """
        Take over a motion.

        Parameters
        ----------
        estimate : OdometryEstimate
            The newest motion of the camera.
        T_base_camera, T_base_camera_before : np.ndarray
            4x4, where the camera sits on the base now, and sat at the frame before.

        Returns
        -------
        BaseOdometry

        """
        began = estimate.stamp - round(1e9 * estimate.interval)
        if self._last is not None and estimate.stamp <= self._last[0]:
            self._last = self._T_odom_origin = None
        if self._T_odom_origin is None:
            self._anchor(estimate, began, T_base_camera_before)

        T_odom_camera = self._T_odom_origin @ estimate.T_odom_camera
        lever_arm = T_odom_camera[:3, 3] - self._T_odom_origin[:3, 3]
        covariance = se3.move_pose_covariance(self._anchor_covariance, lever_arm) \
            + se3.rotate_pose_covariance(estimate.covariance, self._T_odom_origin[:3, :3])
        twist, twist_covariance = twist_of_base(estimate, T_base_camera, T_base_camera_before)
        self._last = (estimate.stamp, T_odom_camera, covariance,
                      np.linalg.norm(twist[:3]), np.linalg.norm(twist[3:]))
        T_odom_base, covariance = move_pose_to_base(T_odom_camera, covariance, T_base_camera)
        return BaseOdometry(T_odom_base, covariance, twist, twist_covariance)

    def _anchor(self, estimate, began, T_base_camera):
        """Put the origin so that the frame before this motion is where the last pose was."""
        if self._last is None:
            T_odom_before, self._anchor_covariance = T_base_camera, np.zeros((6, 6))
        else:
            stamp, T_odom_before, covariance, speed, turn = self._last
            unseen = max(1e-9 * (began - stamp), 0.0)
            self._anchor_covariance = covariance + np.diag(np.repeat(
                [max(speed, _UNSEEN_SPEED) * unseen, max(turn, _UNSEEN_TURN) * unseen], 3) ** 2)
        T_origin_before = estimate.T_odom_camera @ se3.inverse_transform(estimate.motion)
        self._T_odom_origin = T_odom_before @ se3.inverse_transform(T_origin_before)


def twist_of_base(estimate, T_base_camera, T_base_camera_before):
    """
    Return the velocity of the base from a motion of the camera it carries.

    Parameters
    ----------
    estimate : OdometryEstimate
        The motion.
    T_base_camera, T_base_camera_before : np.ndarray
        4x4, where the camera sits on the base after and before the motion.

    Returns
    -------
    twist : np.ndarray
        Linear and angular, axes of the base, m/s and rad/s, shape (6,).
    covariance : np.ndarray
        6x6, same axes.

    """
    T_camera_base, covariance = move_pose_to_base(
        estimate.motion, estimate.motion_covariance, T_base_camera)
    motion = T_base_camera_before @ T_camera_base
    # From the axes of the camera before to those of the base after the motion.
    R = motion[:3, :3].T @ T_base_camera_before[:3, :3]
    return (se3.twist_of_motion(motion) / estimate.interval,
            se3.rotate_pose_covariance(covariance, R) / estimate.interval ** 2)


def body_frame_of(camera_frame):
    """
    Return the frame with body axes (x forward) at the place of an optical frame, and its name.

    Parameters
    ----------
    camera_frame : str
        Name of the optical frame, which REP 103 marks by ``_optical``.

    Returns
    -------
    name : str
        The name without that mark; where there is none, with ``_body``.
    T_body_camera : np.ndarray
        4x4, a rotation.

    """
    name = camera_frame.replace('_optical', '') if '_optical' in camera_frame \
        else f'{camera_frame}_body'
    return name, se3.make_transform(se3.R_BODY_OPTICAL, np.zeros(3))
