# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""From the pose of a camera in the map to what a robot needs: its base, and ``map -> odom``."""

import numpy as np

from geo_perception.geometry import se3
from geo_perception.ros.transforms import TransformBroadcaster

# How often map -> odom is sent, transforms a second: as often as its stamps being ahead asks for.
_SLOWEST, _FASTEST = 10.0, 50.0
# A clock that is set back by less, by NTP, is not one that begins anew.
_JUMP_NS = 1_000_000_000


class OdometryCorrection:
    """
    The broadcast ``map -> odom`` of a localizer (REP 105, ros2_conventions.md section 3).

    It is sent at a steady rate, also while no image comes, for a stale correction is better for
    the robot than a hole in TF. Stamps are those of the images, carried on by the clock of the
    node, and lie ahead, so that the transform can be used until the next one.

    Parameters
    ----------
    node : rclpy.node.Node
        Owner.
    map_frame, odom_frame : str
        Parent and child.
    tolerance : float
        Seconds that stamps lie ahead.
    two_d : bool
        See :func:`correction_of_odometry`.
    interruption : callable
        Called with the time of the images, nanoseconds, before each transform; returns why none
        may be sent, or ''. The correction is forgotten then.

    Raises
    ------
    ConfigurationError
        When tf2_msgs is not installed.

    """

    def __init__(self, node, map_frame, odom_frame, tolerance, two_d, interruption):
        self._node = node
        self._broadcaster = TransformBroadcaster(node)
        self._frames = map_frame, odom_frame
        self._tolerance = tolerance
        self._two_d = two_d
        self._interruption = interruption
        self._image = None   # stamp of the newest one, and the clock when it came
        self.reset()
        self._timer = node.create_timer(
            float(np.clip(tolerance / 2, 1 / _FASTEST, 1 / _SLOWEST)), self._on_time)

    def close(self):
        """End the broadcast."""
        self._node.destroy_timer(self._timer)
        self._broadcaster.close()

    def reset(self):
        """Broadcast nothing until the next image and fix."""
        self._T_map_odom = self._sent = self._image = None
        self.problem = ''

    @property
    def state(self):
        """Words for the diagnostics."""
        if self.problem:
            return 'interrupted'
        if self._T_map_odom is None:
            return 'waits for a fix'
        return 'waits for /clock' if self._image is None else 'is broadcast'

    def see(self, stamp):
        """
        Take the time from an image; where it jumped back, the fix is of another past.

        Parameters
        ----------
        stamp : int
            Nanoseconds, of the newest image.

        """
        image = self._image   # the other thread may reset it
        if image is not None and stamp < image[0]:
            self.reset()
        now = self._node.get_clock().now().nanoseconds
        self._image = (stamp, now) if now else None   # no /clock yet; once there, it jumps

    def update(self, stamp, T_map_base, T_odom_base):
        """
        Take over a fix; it goes out with the next transform, the first one at once.

        One of an image from before time jumped back is left alone.

        Parameters
        ----------
        stamp : int
            Of the fix, nanoseconds.
        T_map_base, T_odom_base : np.ndarray
            4x4, at that stamp.

        """
        image = self._image
        if image is not None and stamp > image[0]:
            return
        first = self._T_map_odom is None
        self._T_map_odom = correction_of_odometry(T_map_base, T_odom_base, self._two_d)
        if first:
            if self._tolerance > 0:
                # tf2 interpolates, without this from before an interruption to what lies ahead.
                self._broadcaster.send(stamp, *self._frames, self._T_map_odom)
            self._on_time()

    def _on_time(self):
        """Send the last correction, if there is one and nothing is in its way."""
        image = self._image   # the other thread may reset it
        if image is None:
            return
        stamp, seen = image
        passed = self._node.get_clock().now().nanoseconds - seen
        stamp += passed
        self.problem = self._interruption(stamp)
        if self.problem or passed < -_JUMP_NS:
            self._T_map_odom = None
        T_map_odom = self._T_map_odom
        # Twice for one instant, while a simulation is paused, would make tf2 warn.
        if T_map_odom is not None and stamp != self._sent:
            self._sent = stamp
            self._broadcaster.send(stamp + round(1e9 * self._tolerance), *self._frames,
                                   T_map_odom)


def move_pose_to_base(T_map_camera, covariance, T_base_camera):
    """
    Return pose and covariance of the base from those of the camera it carries.

    The lever arm turns uncertain orientation into uncertain position (posenet.md sections 8.1
    and 12.4).

    Parameters
    ----------
    T_map_camera : np.ndarray
        4x4, camera in the optical frame.
    covariance : np.ndarray
        6x6 of the camera, order (x, y, z, rot X, rot Y, rot Z), fixed axes of the map.
    T_base_camera : np.ndarray
        4x4, where the camera sits on the base.

    Returns
    -------
    T_map_base : np.ndarray
        4x4.
    covariance : np.ndarray
        6x6 of the base, same order and axes.

    """
    T_map_base = T_map_camera @ se3.inverse_transform(T_base_camera)
    lever_arm = T_map_base[:3, 3] - T_map_camera[:3, 3]
    return T_map_base, se3.move_pose_covariance(covariance, lever_arm)


def correction_of_odometry(T_map_base, T_odom_base, two_d):
    """
    Return ``T_map_odom``, what a localizer broadcasts (REP 105).

    Parameters
    ----------
    T_map_base, T_odom_base : np.ndarray
        4x4, of the same instant.
    two_d : bool
        Keep x, y and yaw of both only, so that roll and pitch noise does not tilt the world.

    Returns
    -------
    np.ndarray
        4x4.

    """
    if two_d:
        T_map_base, T_odom_base = _planar(T_map_base), _planar(T_odom_base)
    return T_map_base @ se3.inverse_transform(T_odom_base)


def uncouple_plane(covariance):
    """
    Return a covariance in which z, roll and pitch are coupled with nothing.

    A filter that holds z, roll and pitch at zero (``two_d_mode`` of robot_localization) gives
    them a tiny variance of its own. Versions before August 2025 keep what couples them; then the
    matrix is no covariance any more, and the filter arrives at negative variances.

    Parameters
    ----------
    covariance : np.ndarray
        6x6, order (x, y, z, rot X, rot Y, rot Z), z up; of a pose or a twist.

    Returns
    -------
    np.ndarray
        6x6.

    """
    in_plane = np.array([True, True, False, False, False, True])
    return np.where(np.outer(in_plane, in_plane) | np.eye(6, dtype=bool), covariance, 0.0)


def _planar(T):
    yaw = np.arctan2(T[1, 0], T[0, 0])
    R = se3.matrix_from_rotation_vector([0.0, 0.0, yaw])
    return se3.make_transform(R, [T[0, 3], T[1, 3], 0.0])
