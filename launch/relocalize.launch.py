# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Start the node ``relocalize`` and bring it to active.

    ros2 launch geo_perception relocalize.launch.py model:=office.safetensors \
        image:=/camera/image_raw
"""

from geo_perception.ros.launching import node_description, OVERRIDES

_TOPICS = {
    'image': 'Image topic of the camera.',
    'camera_info': 'Calibration topic, optional; by default the one beside the image topic.',
}


def generate_launch_description():
    """Return arguments, environment and the node."""
    return node_description('relocalize', OVERRIDES, _TOPICS)
