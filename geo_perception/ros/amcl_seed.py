# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Telling AMCL once where the robot is (ros2_conventions.md section 6)."""

from geometry_msgs.msg import PoseWithCovarianceStamped
import numpy as np
from rclpy.qos import QoSProfile
from std_srvs.srv import Trigger

from geo_perception.ros.messages import pose_with_covariance_stamped


class AmclSeed:
    """
    Sends one fix on ``initialpose``: the first one, and the next one whenever ``~/seed`` asks.

    Each message resets the particles of AMCL, so there is never a second one unasked: what was
    sent and what is asked for outlive :meth:`close`. While AMCL is not there yet the fix waits for
    it: the next one goes out once somebody listens.

    Parameters
    ----------
    node : rclpy.node.Node
        Owner.

    """

    def __init__(self, node):
        self._node = node
        self._asked = self._was_sent = False
        self._publisher = self._service = None

    def advertise(self, first, refusal=''):
        """
        Create service and publisher.

        Parameters
        ----------
        first : bool
            Whether the first fix is sent without being asked.
        refusal : str
            Why nothing can be sent at all; empty where it can.

        """
        self._first = first
        self._refusal = refusal
        # Fixed, reliable: AMCL subscribes so.
        self._publisher = self._node.create_publisher(
            PoseWithCovarianceStamped, 'initialpose', QoSProfile(depth=1))
        self._service = self._node.create_service(Trigger, '~/seed', self._on_seed)

    def close(self):
        """End service and publisher, where there are any."""
        if self._publisher is not None:
            self._node.destroy_service(self._service)
            self._node.destroy_publisher(self._publisher)
            self._publisher = self._service = None

    @property
    def state(self):
        """Words for the diagnostics."""
        if not self._is_wanted():
            return 'nothing to send'
        return 'waits for a fix' if self._heard() else 'waits for a listener on initialpose'

    def is_due(self):
        """
        Tell whether a fix is wanted now.

        Returns
        -------
        bool

        """
        return self._is_wanted() and self._heard()

    def offer(self, stamp, frame_id, T, covariance):
        """
        Send this fix, if one is wanted.

        AMCL asks for every element of the covariance to be between 0 and 1e9, so correlations,
        which may be negative, are left out. From the stamp of the image it goes on by odometry.

        Parameters
        ----------
        stamp : int
            Nanoseconds, of the image.
        frame_id : str
            The map.
        T : np.ndarray
            4x4, pose of the base.
        covariance : np.ndarray
            6x6 of it.

        """
        if self.is_due():
            self._asked, self._was_sent = False, True
            self._publisher.publish(pose_with_covariance_stamped(
                stamp, frame_id, T, np.diag(np.diag(covariance))))
            x, y = T[:2, 3]
            self._node.get_logger().info(
                f'seeded {self._publisher.topic_name} with x {x:.2f} m, y {y:.2f} m')

    def _is_wanted(self):
        return not self._refusal and (self._asked or self._first and not self._was_sent)

    def _heard(self):
        return self._publisher.get_subscription_count() > 0

    def _on_seed(self, request, response):
        response.success, response.message = False, self._refusal
        if not self._refusal and self._node.phase != 'active':
            response.message = f'the node is {self._node.phase}; activate it first'
        elif not self._refusal:
            self._asked = response.success = True
            topic = self._publisher.topic_name
            response.message = f'the next accepted fix goes to {topic}' if self._heard() else (
                f'nobody listens on {topic} yet; the next accepted fix after that goes there')
        return response
