# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The odometry pipeline: consecutive images and their depths in, the way of the camera out."""

from collections import deque
from dataclasses import dataclass, replace
from typing import Optional

import cv2
import numpy as np
import torch

from geo_perception.datasets.snippets import block_brightness, SMALLEST_CHANGE
from geo_perception.geometry.se3 import (
    inverse_transform, make_transform, matrix_from_quaternion, quaternion_from_matrix)
from geo_perception.inference.motion_uncertainty import Drift
from geo_perception.losses.photometric import photometric_residual

# A gap is longer than this many usual intervals, or this many seconds.
LARGEST_GAP, LARGEST_GAP_S = 4.0, 1.0
# Intervals that the usual one is the median of.
INTERVALS = 15
# Frames sooner than this part of the interval that the network was trained at are left out.
SMALLEST_INTERVAL = 0.75
# Beyond this many times that interval motion is larger than any in training.
LARGEST_INTERVAL = 2.0
# The camera stands where motion does not make two similar images more alike than this. Before a
# bare wall images change little though the camera moves: there the residual fell to 0.78 or less
# of that without motion, while of a standing camera, with noise of up to 8 levels, 0.98 was left.
STANDING_RESIDUAL = 0.95
# Images of less contrast (standard deviation of 255 levels) show a cover or the night.
SMALLEST_CONTRAST = 3.0
# Across a cut images fit that many times worse than is usual once they are warped, and their
# blocks of brightness correlate less than this wherever one is laid over the other. In drives,
# indoors and in the sample world at 6 to 30 Hz the correlation was 0.84 or more from frame to
# frame, 0.55 to 0.63 between frames of different places.
CUT_RESIDUAL, CUT_CORRELATION = 2.0, 0.8


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


def is_blank(crop):
    """
    Tell whether an image shows a cover or the night.

    Parameters
    ----------
    crop : np.ndarray
        uint8, shape (H, W, 3).

    Returns
    -------
    bool

    """
    return bool(cv2.meanStdDev(crop)[1].max() < SMALLEST_CONTRAST)


@dataclass(frozen=True)
class Step:
    """
    What one frame did to the odometry.

    Attributes
    ----------
    estimate : OdometryEstimate or None
        None where there is no motion to tell.
    reset : str
        Why earlier frames were thrown away, empty if they were not.
    reason : str
        Why there is no estimate, empty if there is.
    warning : str
        What makes the estimate doubtful, mostly empty.

    """

    estimate: Optional[OdometryEstimate] = None
    reset: str = ''
    reason: str = ''
    warning: str = ''


class VisualOdometry:
    """
    Chains the motions between frames.

    Its state is the reference frame with its pose, and the frames before that which the network
    wants to see. A frame that hardly differs from the reference, and not less so for the motion
    that the network finds, says that the camera stands: the reference stays then, so nothing
    drifts, and slow motion is seen once it has added up.

    Parameters
    ----------
    network : callable
        See `MotionNetwork`.
    calibration : MotionCalibration
        How far to trust motions.
    interval : float or None
        Seconds between the frames of the snippets that the network was trained on.

    Attributes
    ----------
    distance : float or None
        Of the last motion, units of the network; None where there was none.

    """

    def __init__(self, network, calibration, interval=None):
        self._network, self._calibration, self._trained_interval = network, calibration, interval
        self._intervals = deque(maxlen=INTERVALS)
        self._metric = False
        self.reset()

    @property
    def reference(self):
        """Return the frame that the next one is compared with, a View, None without any."""
        return self._reference

    def reset(self):
        """Forget all frames; the next one is the new origin."""
        self._reference = None
        # What lies before the reference.
        self._earlier = deque(maxlen=self._network.memory)
        self._last_stamp = None
        self._T, self._drift = np.eye(4), Drift(np.zeros((6, 6)), np.zeros((6, 6)))
        self.distance = None

    def update(self, current, metres_per_unit):
        """
        Take the next frame.

        Parameters
        ----------
        current : View
            With a stamp other than the one before.
        metres_per_unit : float or None
            Scale, None where unknown.

        Returns
        -------
        Step

        """
        if is_blank(current.crop):
            return Step(reason='the image is black or blank: the lens is covered, or it is dark')
        reset = self._discontinuity(current)
        if reset:
            self.reset()
        last, self._last_stamp = self._last_stamp, current.stamp
        if self._reference is None:
            return self._begin(current, reset)
        interval = (current.stamp - self._reference.stamp) * 1e-9
        if self._trained_interval and interval < SMALLEST_INTERVAL * self._trained_interval:
            return Step(reason=f'only {interval:.3f} s after the frame before, the network was '
                               f'trained on frames {self._trained_interval:.3f} s apart')
        self._intervals.append((current.stamp - last) * 1e-9)
        brightness, before = (block_brightness(view.crop) for view in (current, self._reference))
        motion = self._network(self._earlier, self._reference, current)
        residual = self._residual(current, motion)
        standing = False
        if np.abs(brightness - before).mean() < SMALLEST_CHANGE:
            still = self._residual(current, np.eye(4))
            standing = not residual < STANDING_RESIDUAL * still
            motion, residual = (np.eye(4), still) if standing else (motion, residual)
        if not (np.isfinite(motion).all() and np.isfinite(residual)):
            return self._begin(current, 'the network gave a motion that is no number')
        if (residual > CUT_RESIDUAL * self._calibration.usual_residual
                and _correlation(brightness, before) < CUT_CORRELATION):
            return self._begin(current, 'the image has nothing in common with the one before: a '
                                        'cut in the video, or too fast a turn (residual '
                                        f'{residual:.2f})')
        return Step(self._chain(current, motion, residual, interval, metres_per_unit, standing),
                    warning=self._interval_warning(interval))

    def _begin(self, current, reset):
        """Make a frame the origin."""
        self.reset()
        self._reference, self._last_stamp = current, current.stamp
        return Step(reset=reset, reason='the first frame has none to be compared with')

    def _discontinuity(self, current):
        """Return why this frame does not continue the ones before, empty if it does."""
        if self._reference is None:
            return ''
        gap = (current.stamp - self._last_stamp) * 1e-9
        if gap < 0:
            return f'time jumped back by {-gap:.3f} s'
        before, now = self._reference.camera.K, current.camera.K
        if not np.allclose(now, before, rtol=1e-3):
            return (f'the focal length or size changed: {before[0, 0]:.1f} pixels before, '
                    f'{now[0, 0]:.1f} now, at the size of the network')
        usual = np.median(self._intervals) if self._intervals else self._trained_interval
        if gap > LARGEST_GAP_S or (usual and gap > LARGEST_GAP * usual):
            return f'no usable image for {gap:.2f} s'
        return ''

    def _residual(self, current, motion):
        """Return how badly the current image fits the reference once it is warped there."""
        reference = self._reference
        target, source = (torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 127.5 - 1
                          for crop in (reference.crop, current.crop))
        T = torch.from_numpy(inverse_transform(motion).astype(np.float32))[None]
        K = torch.from_numpy(reference.camera.K.astype(np.float32))[None]
        with torch.inference_mode():
            return float(photometric_residual(
                target, source, torch.from_numpy(reference.depth)[None, None], T, K))

    def _chain(self, current, motion, residual, interval, metres_per_unit, standing):
        """Return the estimate, and go on from this frame unless the camera stands."""
        covariance = self._calibration.covariance(motion, residual, interval)
        self.distance = float(np.linalg.norm(motion[:3, 3]))
        if metres_per_unit is not None:
            if not self._metric:
                # From now on in metres; what was chained without them becomes metric, too.
                self._T = _scaled(self._T, metres_per_unit)
                self._drift = self._drift.scaled(metres_per_unit)
            factors = np.array([metres_per_unit] * 3 + [1.0] * 3)
            motion = _scaled(motion, metres_per_unit)
            covariance = covariance * np.outer(factors, factors)
        self._metric = metres_per_unit is not None
        T = self._T @ motion
        drift = self._drift.after(self._T, motion, covariance,
                                  self._calibration.common_root(covariance))
        if standing:
            # Where it was, as of now: whatever comes next happened since.
            self._reference = replace(self._reference, stamp=current.stamp)
        else:
            self._earlier.append(self._reference)
            self._reference, self._drift = current, drift
            # Products of rotations leave the rotations after a while.
            self._T = make_transform(matrix_from_quaternion(quaternion_from_matrix(T[:3, :3])),
                                     T[:3, 3])
        return OdometryEstimate(current.stamp, T, motion, interval, covariance, drift.covariance,
                                residual, self._metric, standing)

    def _interval_warning(self, interval):
        """Return what is wrong with the interval between two frames, mostly nothing."""
        if not self._trained_interval or interval <= LARGEST_INTERVAL * self._trained_interval:
            return ''
        return (f'frames are {interval:.2f} s apart, the network was trained on '
                f'{self._trained_interval:.2f} s: motion is larger than any that it knows')


def _correlation(image, other):
    """Return the correlation of the middle of one image with its likeliest place in another."""
    height, width = (n // 4 for n in image.shape)
    return cv2.matchTemplate(other, image[height:-height, width:-width],
                             cv2.TM_CCOEFF_NORMED).max()


def _scaled(T, scale):
    """Return a motion in another unit of length."""
    return make_transform(T[:3, :3], scale * T[:3, 3])
