# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
TF without tf2_ros: a listener and a broadcaster.

``tf2_msgs`` is optional; only who asks for TF must have it.
"""

import threading
import time

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from geo_perception.errors import ConfigurationError, PoseError, TransformError
from geo_perception.geometry.transform_tree import TransformTree
from geo_perception.ros.messages import matrix_from_transform, stamp_to_ns, transform_stamped

_HISTORY_NS = 10_000_000_000
_DYNAMIC = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE,
                      durability=DurabilityPolicy.VOLATILE)
_STATIC = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE,
                     durability=DurabilityPolicy.TRANSIENT_LOCAL)


def tf_message_class():
    """
    Return ``tf2_msgs.msg.TFMessage``.

    Returns
    -------
    type

    Raises
    ------
    ConfigurationError
        When tf2_msgs is not installed.

    """
    try:
        from tf2_msgs.msg import TFMessage
    except ImportError:
        raise ConfigurationError(
            'TF is asked for (base_frame or publish_tf), but the Python package tf2_msgs is not '
            'installed; source a ROS 2 installation or run tools/build_tf2_msgs.py'
        ) from None
    return TFMessage


class TransformListener:
    """
    Everything that ``/tf`` and ``/tf_static`` said in the last ten seconds.

    The callbacks run in the node's executor, :meth:`lookup` may be called and may wait in any
    other thread.

    Parameters
    ----------
    node : rclpy.node.Node
        Owner.

    Raises
    ------
    ConfigurationError
        When tf2_msgs is not installed.

    """

    def __init__(self, node):
        message_class = tf_message_class()
        self._node = node
        self._arrived = threading.Condition()
        self._tree = TransformTree(history_ns=_HISTORY_NS)
        self._subscriptions = [
            node.create_subscription(message_class, '/tf', self._on_tf, _DYNAMIC),
            node.create_subscription(message_class, '/tf_static', self._on_tf_static, _STATIC)]

    def close(self):
        """End the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def reset(self):
        """Forget all but the static transforms, for a clock that jumped back."""
        self._tree.clear()

    def lookup(self, target, source, stamp, timeout):
        """
        Return the transform between two frames, waiting for it if need be.

        Parameters
        ----------
        target, source : str
            Frames.
        stamp : int
            Nanoseconds; the tree interpolates and never extrapolates.
        timeout : float
            Seconds of steady time to wait at most.

        Returns
        -------
        np.ndarray
            ``T_target_source``, 4x4 float64.

        Raises
        ------
        TransformError
            Which link is missing, or how far the stamp is from what is known.

        """
        deadline = time.monotonic() + timeout
        with self._arrived:
            while True:
                try:
                    return self._tree.lookup(target, source, stamp)
                except TransformError:
                    if not self._arrived.wait(deadline - time.monotonic()):
                        raise

    def newest(self, target, source):
        """
        Return until when the transform between two frames is known; see `TransformTree.newest`.

        Parameters
        ----------
        target, source : str
            Frames.

        Returns
        -------
        int or None
            Nanoseconds.

        Raises
        ------
        TransformError
            Which link is missing.

        """
        return self._tree.newest(target, source)

    def _on_tf(self, message):
        self._add(message.transforms, static=False)

    def _on_tf_static(self, message):
        self._add(message.transforms, static=True)

    def _add(self, transforms, static):
        for transform in transforms:
            try:
                self._tree.add(
                    transform.header.frame_id, transform.child_frame_id,
                    stamp_to_ns(transform.header.stamp),
                    matrix_from_transform(transform.transform), static=static)
            except (PoseError, TransformError) as error:
                self._node.get_logger().warning(
                    f"ignored a transform of '{transform.child_frame_id}': {error}",
                    throttle_duration_sec=5.0)
        with self._arrived:
            self._arrived.notify_all()


class TransformBroadcaster:
    """
    Publish transforms on ``/tf``.

    Parameters
    ----------
    node : rclpy.node.Node
        Owner.

    Raises
    ------
    ConfigurationError
        When tf2_msgs is not installed.

    """

    def __init__(self, node):
        self._message_class = tf_message_class()
        self._node = node
        self._publisher = node.create_publisher(self._message_class, '/tf', _DYNAMIC)

    def send(self, stamp, parent, child, T):
        """
        Publish one transform.

        Parameters
        ----------
        stamp : int
            Nanoseconds.
        parent, child : str
            Frames.
        T : np.ndarray
            ``T_parent_child``, 4x4, metres.

        """
        self._publisher.publish(
            self._message_class(transforms=[transform_stamped(stamp, parent, child, T)]))

    def close(self):
        """End the publisher."""
        self._node.destroy_publisher(self._publisher)
