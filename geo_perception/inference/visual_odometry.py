# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The odometry pipeline: consecutive images and their depths in, the way of the camera out."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class OdometryEstimate:
    """
    How the camera moved.

    Attributes
    ----------
    stamp : int
        Of the newest frame, nanoseconds.
    T_odom_camera : np.ndarray
        Pose of the optical frame now in the optical frame at the (re)start of odometry, 4x4,
        metres if ``metric``.
    motion : np.ndarray
        ``T_previous_current``: pose of the camera now in the camera of the frame that it is
        compared with, 4x4, metres if ``metric``.
    interval : float
        Seconds between these two frames.
    motion_covariance : np.ndarray
        Of ``motion``, 6x6, order (x, y, z, rot X, rot Y, rot Z), axes of the previous camera,
        SI units squared.
    covariance : np.ndarray
        Of ``T_odom_camera``, accumulated, same order, axes of the odometry origin.
    residual : float
        How different the newest image is from the previous one once it is warped there, 0..1.
    metric : bool
        Whether the unit is metres.
    standing : bool
        Whether the camera stands still.

    """

    stamp: int
    T_odom_camera: np.ndarray
    motion: np.ndarray
    interval: float
    motion_covariance: np.ndarray
    covariance: np.ndarray
    residual: float
    metric: bool
    standing: bool = False
