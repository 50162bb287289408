# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Start the node ``stereo_depth`` and bring it to active.

    ros2 launch geo_perception stereo_depth.launch.py model:=stereo.safetensors \
        image:=/left/image_rect camera_info:=/left/camera_info
"""

from geo_perception.ros.launching import BOOLEAN, node_description, OVERRIDES

_OVERRIDES = {
    **OVERRIDES,
    'rectified': ('The images are rectified, so P of camera_info is theirs.', BOOLEAN),
    'post_process': ('Look at the mirror image as well.', BOOLEAN),
    'scale_correction': ('Factor on depth; with a decimal point.', None),
}
_TOPICS = {
    'image': 'Image topic of the camera, one eye.',
    'right_image': 'Image topic of the other eye, where there is one: depth is checked by it.',
    'camera_info': 'Calibration topic; by default the one beside the image topic.',
}


def generate_launch_description():
    """Return arguments, environment and the node."""
    return node_description('stereo_depth', _OVERRIDES, _TOPICS)
