# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Optical flow without learning, to be compared with: what OpenCV brings along."""

import cv2
import numpy as np


def dis_flow(image, other):
    """
    Return dense inverse search (Kroeger et al. 2016), OpenCV's medium preset.

    Parameters
    ----------
    image, other : np.ndarray
        (H, W, 3) uint8 RGB.

    Returns
    -------
    np.ndarray
        Pixels, float32, shape (H, W, 2).

    """
    method = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return method.calc(*_grey(image, other), None)


def farneback_flow(image, other):
    """
    Return polynomial expansion (Farneback 2003) with the parameters of OpenCV's example.

    Parameters
    ----------
    image, other : np.ndarray
        (H, W, 3) uint8 RGB.

    Returns
    -------
    np.ndarray
        Pixels, float32, shape (H, W, 2).

    """
    return cv2.calcOpticalFlowFarneback(*_grey(image, other), None, 0.5, 3, 15, 3, 5, 1.2, 0)


def no_flow(image, other):
    """
    Return the flow of who says that nothing moves.

    Parameters
    ----------
    image, other : np.ndarray
        (H, W, 3) uint8 RGB.

    Returns
    -------
    np.ndarray
        Zeros, float32, shape (H, W, 2).

    """
    return np.zeros((*image.shape[:2], 2), np.float32)


def _grey(*images):
    return [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]


METHODS = {'dis': dis_flow, 'farneback': farneback_flow, 'nothing_moves': no_flow}
