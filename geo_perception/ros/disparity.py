# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Depth as the messages of a stereo camera, for the tools that take those (monodepth.md 18.2)."""

import numpy as np
from sensor_msgs.msg import RegionOfInterest
from stereo_msgs.msg import DisparityImage

from geo_perception.ros.messages import camera_info_message, image_message, make_header

# Consumers take the smallest value of the image, wherever it stands, for unknown: there has to be
# exactly one, and NaN is none of them.
UNKNOWN = -1.0


def disparity_message(stamp, frame_id, depth, camera, baseline, limits, step, border=0):
    """
    Return a disparity image.

    Parameters
    ----------
    stamp : int
        Nanoseconds.
    frame_id : str
        Optical frame of the left camera.
    depth : np.ndarray
        Metres, NaN or infinite where there is none within the limits, shape (H, W).
    camera : Camera
        Of the depth.
    baseline : float
        Of the stereo camera that it might come from, metres.
    limits : tuple of float
        Nearest and farthest depth, metres.
    step : float
        Least difference of disparity that means anything, pixels.
    border : int
        Columns on the left without an answer.

    Returns
    -------
    stereo_msgs.msg.DisparityImage
        ``Z = f t / d``; unknown is -1.

    """
    f, (height, width) = camera.K[0, 0], depth.shape
    known = np.isfinite(depth) & (depth > 0)
    disparity = np.full(depth.shape, UNKNOWN, np.float32)
    disparity[known] = f * baseline / depth[known]
    nearest, farthest = limits
    return DisparityImage(
        header=make_header(stamp, frame_id),
        image=image_message(stamp, frame_id, disparity, '32FC1'), f=float(f), t=float(baseline),
        valid_window=RegionOfInterest(x_offset=border, width=width - border, height=height),
        min_disparity=float(f * baseline / farthest),
        max_disparity=float(f * baseline / nearest), delta_d=step)


def right_camera_info(stamp, frame_id, camera, baseline):
    """
    Return the calibration of the right eye that would belong to a disparity image.

    Parameters
    ----------
    stamp : int
        Nanoseconds.
    frame_id : str
        Optical frame of the left camera, which rectified pairs share.
    camera : Camera
        Of the depth.
    baseline : float
        Metres.

    Returns
    -------
    sensor_msgs.msg.CameraInfo
        That of the left one, but for ``P[0, 3] = -f baseline``.

    """
    message = camera_info_message(stamp, frame_id, camera)
    message.p[3] = -float(camera.K[0, 0] * baseline)
    return message
