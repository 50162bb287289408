# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Whether the camera in front of the robot is like the one the network was trained with."""

import numpy as np
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo

from geo_perception.errors import ConfigurationError
from geo_perception.ros.messages import camera_from_info

# Positions scale with the focal length (posenet.md section 7).
_FIELD_OF_VIEW_TOLERANCE = 0.05


class CalibrationCheck:
    """
    Listens to a calibration topic; there need not be one.

    Parameters
    ----------
    node : rclpy.node.Node
        Owner.
    topic : str
        Of ``sensor_msgs/CameraInfo``.

    """

    def __init__(self, node, topic):
        self._node = node
        self._info = None
        self._subscription = node.create_subscription(
            CameraInfo, topic, self._on_info, qos_profile_sensor_data)

    def close(self):
        """End the subscription."""
        self._node.destroy_subscription(self._subscription)

    def problem(self, frame_id, trained):
        """
        Return what is wrong with the calibration.

        Parameters
        ----------
        frame_id : str
            Frame of the images; empty while unknown.
        trained : TrainingCamera or None
            What the model file says.

        Returns
        -------
        str
            One sentence, empty if all is well or nothing is known.

        """
        if self._info is None:
            return ''
        try:
            camera = camera_from_info(self._info)
        except ConfigurationError as error:
            return f'{error}.'
        if frame_id and camera.frame_id != frame_id:
            return (f"camera_info is for '{camera.frame_id}', but the image is of '{frame_id}'; "
                    'remap camera_info or set camera_frame.')
        if trained is None:
            return ''
        live = _field_of_view(camera.width, camera.height, camera.K[0, 0], camera.K[1, 1])
        learnt = _field_of_view(trained.width, trained.height, trained.fx, trained.fy)
        if abs(live / learnt - 1) > _FIELD_OF_VIEW_TOLERANCE:
            return (f'The field of view of this camera ({live:.0f} deg) differs from that of the '
                    f'training camera ({learnt:.0f} deg); positions will be off by about as much.')
        return ''

    def _on_info(self, message):
        self._info = message


def _field_of_view(width, height, fx, fy):
    """Return the angle across the shorter side, degrees: that is what the network is given."""
    side, focal = (width, fx) if width < height else (height, fy)
    return np.degrees(2 * np.arctan2(side / 2, focal))
