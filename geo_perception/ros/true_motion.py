# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""How far the camera really moved, from wheels or TF: what gives visual odometry its metres."""

from nav_msgs.msg import Odometry
import numpy as np
from rclpy.qos import qos_profile_sensor_data

from geo_perception.errors import PoseError, TransformError
from geo_perception.geometry.transform_tree import TransformTree
from geo_perception.ros.messages import matrix_from_pose, stamp_to_ns

_HISTORY_NS = 10_000_000_000
_LARGEST_GAP_NS = 1_000_000_000


class WheelMotion:
    """
    Distances of the camera from an odometry topic.

    Parameters
    ----------
    node : rclpy.node.Node
        Owner.
    topic : str
        Relative name, of ``nav_msgs/Odometry``.
    base_frame : str
        Frame that an odometry without ``child_frame_id`` moves, as robot_localization has it.
    mounting : callable
        Returns ``T_child_camera`` for the frame that the odometry moves and a stamp in
        nanoseconds; may raise TransformError.

    Attributes
    ----------
    topic : str
        Full name.

    """

    def __init__(self, node, topic, base_frame, mounting):
        self._node = node
        self._base_frame = base_frame
        self._mounting = mounting
        self._tree = TransformTree(_HISTORY_NS, _LARGEST_GAP_NS)
        self._frames = None
        self.topic = node.resolve_topic_name(topic)
        self._problem = f'no odometry has come on {self.topic}; remap wheel_odometry'
        self._subscription = node.create_subscription(
            Odometry, topic, self._on_odometry, qos_profile_sensor_data)

    def close(self):
        """End the subscription."""
        self._node.destroy_subscription(self._subscription)

    def reset(self):
        """Forget what was before a jump in time."""
        self._tree.clear()

    def distance(self, before, after):
        """
        Return how far the camera moved between two instants.

        Parameters
        ----------
        before, after : int
            Nanoseconds.

        Returns
        -------
        float
            Metres.

        Raises
        ------
        TransformError
            When the odometry does not reach from one to the other.

        """
        if self._frames is None:
            raise TransformError(self._problem)
        fixed, moving = self._frames
        ends = [self._tree.lookup(fixed, moving, stamp) @ self._mounting(moving, stamp)
                for stamp in (before, after)]
        return float(np.linalg.norm(ends[1][:3, 3] - ends[0][:3, 3]))

    def _on_odometry(self, message):
        frames = (message.header.frame_id.lstrip('/'),
                  message.child_frame_id.lstrip('/') or self._base_frame)
        try:
            self._tree.add(*frames, stamp_to_ns(message.header.stamp),
                           matrix_from_pose(message.pose.pose))
            self._frames = frames
        except (PoseError, TransformError) as error:
            self._problem = f'ignored an odometry on {self.topic}: {error}'
            self._node.get_logger().warning(self._problem, throttle_duration_sec=5.0)


class TransformMotion:
    """
    Distances of the camera from TF.

    Parameters
    ----------
    listener : TransformListener
        What is known.
    fixed_frame : str
        In which distances are measured, e.g. ``odom``.
    camera_frame : callable
        Returns the name of the camera's frame.

    """

    def __init__(self, listener, fixed_frame, camera_frame):
        self._listener = listener
        self._fixed_frame = fixed_frame
        self._camera_frame = camera_frame

    def close(self):
        """Do nothing: the listener is somebody else's."""

    def reset(self):
        """Do nothing likewise."""

    def distance(self, before, after):
        """
        Return how far the camera moved between two instants.

        Parameters
        ----------
        before, after : int
            Nanoseconds.

        Returns
        -------
        float
            Metres.

        Raises
        ------
        TransformError
            When TF does not reach from one to the other.

        """
        ends = [self._listener.lookup(self._fixed_frame, self._camera_frame(), stamp, 0.0)[:3, 3]
                for stamp in (before, after)]
        return float(np.linalg.norm(ends[1] - ends[0]))
