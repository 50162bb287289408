# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Flow of a network, made sharp in the image of the camera, and the motion that explains it.

Networks see small images, where small things hardly move: half of the moving pixels of the sample
world move less than one pixel there. Dense inverse search (Kroeger et al. 2016), which OpenCV
has, begins at the flow of the network and ends within a fraction of a pixel of the large image.
"""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from geo_perception.geometry.perspective_n_point import refine_pose
from geo_perception.geometry.se3 import inverse_transform

# Of OpenCV's medium preset, but to the last pixel, a sparser grid of patches and more smoothing:
# as good on the sample world as the dense grid, and faster.
FINEST_SCALE, PATCH_STRIDE, VARIATIONAL_STEPS = 0, 5, 10
# About so many pixels decide what the camera did, each third one of 128x96; further than that
# part of the width from where a still scene would have it, a pixel has no say.
PIXELS, LARGEST_LACK = 1400, 1.0 / 128


class FlowRefinement:
    """
    Refines flow both ways between two images.

    Parameters
    ----------
    threads : int
        With 1 one way after the other; else both at once, for OpenCV's search uses little more
        than one core.
    newest_only : bool
        Whether the flow of the first image serves only to check that of the second: it is not
        smoothed, which is most of the work.

    """

    def __init__(self, threads=0, newest_only=False):
        self._searches = [_search(0 if newest_only else VARIATIONAL_STEPS),
                          _search(VARIATIONAL_STEPS)]
        self._pool = ThreadPoolExecutor(1 if threads == 1 else len(self._searches))

    def __call__(self, images, flow):
        """
        Return better flow.

        Parameters
        ----------
        images : sequence of np.ndarray
            Both, grey, uint8, shape (H, W).
        flow : np.ndarray
            From each of the images to the other, of the same view at a smaller size and in its
            pixels, float32, shape (2, h, w, 2).

        Returns
        -------
        np.ndarray
            Same shape and pixels.

        """
        return np.stack(list(self._pool.map(
            _refined, self._searches, images, images[::-1], flow)))


def _search(variational_steps):
    """Return OpenCV's search, which keeps buffers: one for each thread."""
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(FINEST_SCALE)
    search.setPatchStride(PATCH_STRIDE)
    search.setVariationalRefinementIterations(variational_steps)
    return search


def _refined(search, image, other, flow):
    """Return better flow from an image to another one."""
    (height, width), (rows, columns) = image.shape, flow.shape[:2]
    zoom = np.array([width / columns, height / rows], np.float32)
    start = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR) * zoom
    found = search.calc(image, other, np.ascontiguousarray(start))
    return cv2.resize(found, (columns, rows), interpolation=cv2.INTER_AREA) / zoom


def motion_of_still_scene(flow, valid, depth, K, T_other_own):
    """
    Return the motion of the camera that explains most of the flow.

    Odometry has the true motion as nearly as it can. What moves by itself is told by what a still
    scene would do at the depth that this very image has, and a common error of depth changes that
    as much as motion does: so both are fitted to each other.

    Parameters
    ----------
    flow : np.ndarray
        From this image to the other, pixels, shape (h, w, 2).
    valid : np.ndarray
        Where it is known, bool, shape (h, w).
    depth : np.ndarray
        Of this image, shape (h, w), finite where valid.
    K : np.ndarray
        Intrinsics of both, 3x3.
    T_other_own : np.ndarray
        To begin with, 4x4, unit of depth.

    Returns
    -------
    np.ndarray
        4x4; what it began with where too few pixels agree with it.

    """
    height, width = valid.shape
    step = max(1, round(np.sqrt(height * width / PIXELS)))
    y, x = np.mgrid[step // 2:height:step, step // 2:width:step]
    y, x = (index[valid[y, x]] for index in (y, x))
    pixels = np.stack([x, y], 1)
    points = np.concatenate([(pixels - K[:2, 2]) / np.diag(K)[:2], np.ones((len(x), 1))], 1)
    found = refine_pose(points * depth[y, x][:, None], pixels + flow[y, x], K,
                        inverse_transform(T_other_own), LARGEST_LACK * width)
    return T_other_own if found is None else inverse_transform(found.T_world_camera)
