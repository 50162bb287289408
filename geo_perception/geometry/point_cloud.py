# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Coloured points from a depth image and the picture it belongs to."""

import cv2
import numpy as np


def coloured_points(depth, camera, image, image_camera):
    """
    Return the points that a depth image holds, in the colours of the picture.

    Parameters
    ----------
    depth : np.ndarray
        Metres along the optical axis, NaN where unknown, shape (H, W).
    camera : Camera
        Of the depth image, without distortion.
    image : np.ndarray
        Picture of the same instant and viewpoint, of any size, uint8 RGB.
    image_camera : Camera
        Of the picture; its distortion is followed.

    Returns
    -------
    np.ndarray
        float32, shape (H, W, 4): x, y, z in the optical frame, metres, NaN where unknown, and
        the colour as the bytes of a uint32 0x00RRGGBB, as PCL and RViz have it.

    """
    # The maps from the pixels of one camera to those of another one are what rectifying needs.
    module = cv2.fisheye if image_camera.distortion_model == 'equidistant' else cv2
    distortion = image_camera.distortion if image_camera.distortion.any() else np.zeros(4)
    maps = module.initUndistortRectifyMap(
        image_camera.K, distortion, np.eye(3), camera.K, (camera.width, camera.height),
        cv2.CV_16SC2)
    colours = cv2.remap(image, *maps, cv2.INTER_LINEAR).astype(np.uint32)
    points = np.empty((camera.height, camera.width, 4), np.float32)
    points[..., :3] = camera.rays() * depth[..., None]
    points[..., 3] = (colours @ np.array([1 << 16, 1 << 8, 1], np.uint32)).view(np.float32)
    return points
