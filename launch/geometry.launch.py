# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Start the node ``geometry`` and bring it to active.

With a model that holds a flow network it has ``~/flow``, ``~/rigid_flow``, ``~/flow_valid``,
``~/motion_mask`` and ``~/motion_score``, too, computed while somebody listens to one of them.

    ros2 launch geo_perception geometry.launch.py model:=drive.safetensors \
        image:=/camera/image_raw camera_info:=/camera/camera_info
"""

from geo_perception.ros.launching import BOOLEAN, node_description, OVERRIDES

_OVERRIDES = {
    **OVERRIDES,
    'rectified': ('The images are rectified, so P of camera_info is theirs.', BOOLEAN),
    'scale_source': ('Where metres come from; none publishes without unit, under other names.',
                     ['', 'model', 'camera_height', 'odometry', 'constant', 'none']),
    'scale': ('Metres per unit, for scale_source constant; with a decimal point.', None),
    'camera_height': ('Metres from the ground to the lens, for scale_source camera_height; with '
                      'a decimal point.', None),
    'base_frame': ('Robot frame whose odometry is published, through TF.', None),
    'odometry': ('How motion is found; network leaves corners alone.',
                 ['', 'hybrid', 'network']),
    'motion_smoothing': ('How much of the motion score of the frame before is carried along, 0 to '
                         '0.99; with a decimal point.', None),
    'publish_tf': ('Broadcast odom -> base_frame, where nobody else does.', BOOLEAN),
    'two_d': ('The robot moves in a plane; for a filter that takes the odometry.', BOOLEAN),
}
_TOPICS = {
    'image': 'Image topic of the camera.',
    'camera_info': 'Calibration topic; by default the one beside the image topic.',
    'wheel_odometry': 'Odometry topic that gives the metres, for scale_source odometry.',
}


def generate_launch_description():
    """Return arguments, environment and the node."""
    return node_description('geometry', _OVERRIDES, _TOPICS)
