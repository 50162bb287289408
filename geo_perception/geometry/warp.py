# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Seeing known surfaces from another pose, in NumPy and OpenCV."""

import cv2
import numpy as np

from geo_perception.geometry.se3 import inverse_transform

NEAREST_DEPTH_M = 0.2
# A pixel this much farther than its neighbours is background seen through the gaps of a cloud.
SEE_THROUGH = 1.15


def splat_depth(points, camera, T_world_camera):
    """
    Return the depth image of a point cloud: the nearest point in each pixel.

    Parameters
    ----------
    points : np.ndarray
        World points, metres, shape (N, 3), float32.
    camera : Camera
        Intrinsics and size of the result.
    T_world_camera : np.ndarray
        Where the camera is, 4x4.

    Returns
    -------
    np.ndarray
        (H, W) float32 metres, NaN where no point falls.

    """
    T = inverse_transform(T_world_camera).astype(np.float32)
    # Row by row: NumPy's product of a long thin matrix with a tiny one is seven times slower.
    columns = points[:, 0], points[:, 1], points[:, 2]
    z = sum(c * t for c, t in zip(columns, T[2])) + T[2, 3]
    ahead = z > NEAREST_DEPTH_M
    z, columns = z[ahead], [c[ahead] for c in columns]
    u, v = (np.rint((sum(c * t for c, t in zip(columns, row)) + row[3]) / z * f + centre)
            for row, f, centre in zip(T, np.diag(camera.K).astype(np.float32), camera.K[:2, 2]))
    inside = (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    index = (v[inside] * camera.width + u[inside]).astype(np.int64)
    depth = np.full(camera.height * camera.width, np.inf, np.float32)
    np.minimum.at(depth, index, z[inside])
    depth[np.isinf(depth)] = np.nan
    return depth.reshape(camera.height, camera.width)


def close_surfaces(depth):
    """
    Return a splatted depth image without gaps.

    Points of a far surface that show between points of a near one are removed, then gaps take
    the mean of what surrounds them, over ever larger windows.

    Parameters
    ----------
    depth : np.ndarray
        (H, W) float32 metres, NaN in gaps.

    Returns
    -------
    np.ndarray
        (H, W) float32 metres; NaN only if the input has nothing but NaN.

    """
    nearest = cv2.erode(np.where(np.isnan(depth), np.float32(1e6), depth), np.ones((5, 5)))
    known = depth <= nearest * SEE_THROUGH
    total = np.where(known, depth, 0).astype(np.float32)
    weight = known.astype(np.float32)
    filled = np.where(known, depth, np.nan)
    window = 3
    while np.isnan(filled).any() and window < 4 * max(depth.shape):
        near_total = cv2.boxFilter(total, -1, (window, window), normalize=False)
        near_weight = cv2.boxFilter(weight, -1, (window, window), normalize=False)
        mean = near_total / np.maximum(near_weight, 1)
        filled = np.where(np.isnan(filled) & (near_weight > 0.5), mean, filled)
        window = 2 * window - 1
    return filled.astype(np.float32)


def warp_image(image, camera, T_world_source, depth, T_world_target):
    """
    Return what the target camera sees, taken from the source image.

    Parameters
    ----------
    image : np.ndarray
        Source image, (H, W, 3) uint8.
    camera : Camera
        Of both images.
    T_world_source : np.ndarray
        Where the source image was taken, 4x4.
    depth : np.ndarray
        Of the target, (H, W) float32 metres.
    T_world_target : np.ndarray
        Where the target camera is, 4x4.

    Returns
    -------
    warped : np.ndarray
        (H, W, 3) uint8; the border of the source is repeated beyond it.
    inside : np.ndarray
        (H, W) bool, True where the source sees the point's direction.

    """
    P = (camera.K @ (inverse_transform(T_world_source) @ T_world_target)[:3]).astype(np.float32)
    P[:, :3] = P[:, :3] @ np.linalg.inv(camera.K)
    v, u = (np.arange(n, dtype=np.float32) for n in (camera.height, camera.width))
    x, y, z = (depth * (u * row[0] + v[:, None] * row[1] + row[2]) + row[3] for row in P)
    behind = z < NEAREST_DEPTH_M
    z[behind] = 1.0
    u, v = x / z, y / z
    inside = (u >= 0) & (u <= camera.width - 1) & (v >= 0) & (v <= camera.height - 1) & ~behind
    warped = cv2.remap(image, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return warped, inside


def register_depth(depth, camera_depth, camera_colour, T_colour_depth):
    """
    Return a depth image as the colour camera would have measured it.

    Parameters
    ----------
    depth : np.ndarray
        (H, W) float32 metres of the depth camera, NaN where unknown.
    camera_depth, camera_colour : Camera
        Intrinsics; sizes equal the images'. Distortion counts for the colour camera alone.
    T_colour_depth : np.ndarray
        From the depth to the colour camera, 4x4.

    Returns
    -------
    np.ndarray
        (H, W) float32 metres of the colour camera, at the pixels of its images as they are taken,
        NaN where unknown.

    """
    points = (camera_depth.rays() * depth[..., None])[np.isfinite(depth)].astype(np.float32)
    straight = splat_depth(points, camera_colour, inverse_transform(T_colour_depth))
    if not camera_colour.distorts:
        return straight
    height, width = straight.shape
    v, u = np.mgrid[:height, :width]
    pixels = camera_colour.undistort_pixels(np.stack([u.ravel(), v.ravel()], 1))
    u, v = np.float32(pixels).T.reshape(2, height, width)
    return cv2.remap(straight, u, v, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT,
                     borderValue=np.nan)
