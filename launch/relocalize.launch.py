# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Start the node ``relocalize`` and bring it to active.

    ros2 launch geo_perception relocalize.launch.py model:=office.safetensors \
        image:=/camera/image_raw
"""

from geo_perception.ros.launching import BOOLEAN, node_description, OVERRIDES

_OVERRIDES = {
    **OVERRIDES,
    'rectified': ('The images are rectified, so P of camera_info is theirs.', BOOLEAN),
    'map_frame': ("Frame of the poses; the node's default is the world frame of the model.", None),
    'base_frame': ('Robot frame whose pose is published, through TF.', None),
    'publish_tf': ('Broadcast map -> odom, where neither AMCL nor SLAM nor a filter does.',
                   BOOLEAN),
    'two_d': ('The robot moves in a plane: map -> odom is x, y and yaw only.', BOOLEAN),
    'seed': ('first_fix sends the first fix to AMCL, once, on initialpose.',
             ['', 'never', 'first_fix']),
}
_TOPICS = {
    'image': 'Image topic of the camera.',
    'camera_info': 'Calibration topic, optional; by default the one beside the image topic.',
}


def generate_launch_description():
    """Return arguments, environment and the node."""
    return node_description('relocalize', _OVERRIDES, _TOPICS)
