# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Cameras from calibration messages, of rclpy or of rosbags (ros2_conventions.md section 4)."""

import numpy as np

from geo_perception.geometry.camera import Camera


def camera_from_info(info, rectified):
    """
    Return the intrinsics of an image from its CameraInfo (ros2_conventions.md section 4).

    Parameters
    ----------
    info : sensor_msgs/CameraInfo
        Of ROS 1 or ROS 2; binning and region of interest are applied.
    rectified : bool
        Whether the image is rectified: then P holds its intrinsics, else K and the distortion.

    Returns
    -------
    Camera

    """
    K, D, P = (info_numbers(info, name) for name in 'kdp')
    K, P = K.reshape(3, 3), P.reshape(3, 4)
    rectified = rectified and P[0, 0] > 0
    camera = Camera(K=P[:, :3] if rectified else K, width=int(info.width), height=int(info.height),
                    distortion=np.zeros(0) if rectified else D,
                    distortion_model=info.distortion_model or 'plumb_bob',
                    frame_id=info.header.frame_id.lstrip('/'))
    roi = info.roi
    if roi.width and roi.height:
        camera = camera.cropped(int(roi.x_offset), int(roi.y_offset), int(roi.width),
                                int(roi.height))
    if max(info.binning_x, info.binning_y) > 1:
        camera = camera.resized(camera.width // max(int(info.binning_x), 1),
                                camera.height // max(int(info.binning_y), 1))
    return camera


def info_numbers(info, name):
    """
    Return a matrix of a CameraInfo, whose names are capitals in ROS 1.

    Parameters
    ----------
    info : sensor_msgs/CameraInfo
        Of ROS 1 or ROS 2.
    name : str
        ``k``, ``d``, ``r`` or ``p``.

    Returns
    -------
    np.ndarray
        As in the message, one-dimensional.

    """
    return np.array(getattr(info, name if hasattr(info, name) else name.upper()), float)
