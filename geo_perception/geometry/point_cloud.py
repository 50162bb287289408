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
    colours = cv2.remap(image, *image_camera.maps_from(camera), cv2.INTER_LINEAR)
    colours = colours.astype(np.uint32)
    points = np.empty((camera.height, camera.width, 4), np.float32)
    points[..., :3] = camera.rays() * depth[..., None]
    points[..., 3] = (colours @ np.array([1 << 16, 1 << 8, 1], np.uint32)).view(np.float32)
    return points
