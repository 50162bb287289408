# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
The odometry pipeline: consecutive images and their depths in, the way of the camera out.

Where motion is found by alignment, a frame is compared with a key frame as long as that is in
sight, for the errors of every step add up, those within the sight of one frame do not.
"""

from collections import deque
from dataclasses import dataclass, replace
from typing import Optional

import cv2
import numpy as np
import torch

from geo_perception.datasets.snippets import block_brightness, SMALLEST_CHANGE
from geo_perception.geometry.se3 import (
    inverse_transform, make_transform, matrix_from_quaternion, quaternion_from_matrix,
    rotation_vector_from_matrix)
from geo_perception.inference.hybrid_motion import HYBRID
from geo_perception.inference.motion import View
from geo_perception.inference.odometry_drift import common_root, Drift, scale_root
from geo_perception.losses.photometric import photometric_residual

# A gap is longer than this many usual intervals, or this many seconds.
LARGEST_GAP, LARGEST_GAP_S = 4.0, 1.0
# Intervals that the usual one is the median of.
INTERVALS = 15
# Frames sooner than this part of the interval that the network was trained at are left out,
# where nothing but the network finds motions.
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
# A key frame serves until the camera has turned that far, or moved that part of the median depth:
# further away less of it is in sight, and alignment may miss it. Of 0.05 to 0.1 of the depth all
# are alike in the sample world, on KITTI (forward, errors of depth count more) 0.05 is best.
LARGEST_TURN, LARGEST_WAY = np.radians(10.0), 0.05
# It is out of sight, too, when images fit it that many times worse than is usual.
LOST_RESIDUAL = 5.0


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
        ``T_previous_current``: pose of the camera now in the camera of the last frame that had
        an estimate and was not left standing, 4x4, metres if ``metric``.
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
    state : str
        What the motion is of: ``network``, ``hybrid``, or ``network alone: `` and why.

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
    state: str = 'network'


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


@dataclass(frozen=True)
class _Anchor:
    """A frame, its pose ``T_odom_camera`` and how far that may have drifted."""

    view: View
    T: np.ndarray
    drift: Drift

    def scaled(self, scale):
        """Return the same in another unit of length."""
        return replace(self, T=_scaled(self.T, scale), drift=self.drift.scaled(scale))


class VisualOdometry:
    """
    Chains the motions between frames.

    Its state is the last frame that moved, the key frame that motions are measured from, and the
    frames before that which the network wants to see. A frame that hardly differs from the last
    one, and not less so for the motion that the network finds, says that the camera stands: the
    last one stays then, so nothing drifts, and slow motion is seen once it has added up.

    Parameters
    ----------
    network : callable
        See `MotionNetwork`.
    calibration : MotionCalibration
        How far to trust motions of the network.
    corner_calibration : CornerCalibration or None
        How far to trust the others of a `HybridMotion`; None for a network.
    interval : float or None
        Seconds between the frames of the snippets that the network was trained on.

    Attributes
    ----------
    distance : float or None
        Of the last motion, units of the network; None where there was none.

    """

    def __init__(self, network, calibration, interval=None, corner_calibration=None):
        self._network, self._calibration, self._trained_interval = network, calibration, interval
        self._corner_calibration = corner_calibration
        self._intervals = deque(maxlen=INTERVALS)
        self._metric = False
        self.reset()

    @property
    def last(self):
        """Return the last frame that moved, a View, None without any."""
        return None if self._last is None else self._last.view

    def reset(self):
        """Forget all frames; the next one is the new origin."""
        self._key = self._last = None
        # Of the last frame in the key frame, units of the network.
        self._T_key_last = np.eye(4)
        # What lies before the last.
        self._earlier = deque(maxlen=self._network.memory)
        # Of the last image that was of use, and of the last estimate.
        self._last_stamp = self._estimate_stamp = None
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
        if reset or self._last is None:
            return self._begin(current, reset)
        before, self._last_stamp = self._last_stamp, current.stamp
        interval = (current.stamp - self._estimate_stamp) * 1e-9
        if (self._corner_calibration is None and self._trained_interval
                and interval < SMALLEST_INTERVAL * self._trained_interval):
            return Step(reason=f'only {interval:.3f} s after the frame before, the network was '
                               f'trained on frames {self._trained_interval:.3f} s apart')
        self._intervals.append((current.stamp - before) * 1e-9)
        T_key_current, residual = self._find(current)
        brightness = [block_brightness(view.crop) for view in (current, self._last.view)]
        standing = False
        if np.abs(brightness[0] - brightness[1]).mean() < SMALLEST_CHANGE:
            still, moved = (_residual(self._last.view, current, motion) for motion in (
                np.eye(4), self._since_last(T_key_current)))
            standing = not moved < STANDING_RESIDUAL * still
            if standing:
                T_key_current, residual = self._T_key_last, still
        if not (np.isfinite(T_key_current).all() and np.isfinite(residual)):
            return self._begin(current, 'the network gave a motion that is no number')
        # Corners that agree on a motion are in both images.
        if (self._state() != HYBRID
                and residual > CUT_RESIDUAL * self._calibration.usual_residual
                and _correlation(*brightness) < CUT_CORRELATION):
            return self._begin(current, 'the image has nothing in common with the one before: a '
                                        'cut in the video, or too fast a turn (residual '
                                        f'{residual:.2f})')
        estimate = self._chain(current, T_key_current, residual, interval, metres_per_unit,
                               standing)
        self._estimate_stamp = current.stamp
        return Step(estimate, warning=self._interval_warning(interval))

    def _begin(self, current, reset):
        """Make a frame the origin."""
        self.reset()
        self._last = _Anchor(current, np.eye(4), Drift.none())
        self._make_key()
        self._last_stamp = self._estimate_stamp = current.stamp
        return Step(reset=reset, reason=reset or 'the first frame has none to be compared with')

    def _make_key(self):
        """Measure motions from the last frame from now on."""
        self._key, self._T_key_last = self._last, np.eye(4)

    def _discontinuity(self, current):
        """Return why this frame does not continue the ones before, empty if it does."""
        if self._last is None:
            return ''
        gap = (current.stamp - self._last_stamp) * 1e-9
        if gap < 0:
            return f'time jumped back by {-gap:.3f} s'
        before, now = self._last.view.camera.K, current.camera.K
        if not np.allclose(now, before, rtol=1e-3):
            return (f'the focal length or size changed: {before[0, 0]:.1f} pixels before, '
                    f'{now[0, 0]:.1f} now, at the size of the network')
        usual = np.median(self._intervals) if self._intervals else self._trained_interval
        if gap > LARGEST_GAP_S or (usual and gap > LARGEST_GAP * usual):
            if gap <= LARGEST_GAP_S:
                # Perhaps the camera has become slow: the next such interval is a usual one.
                self._intervals.clear()
                self._intervals.append(gap)
            return f'no usable image for {gap:.2f} s'
        return ''

    def _find(self, current):
        """Return the pose of a frame in the key frame, and how badly it fits there."""
        T = self._network(self._earlier, self._key.view, current, self._T_key_last)
        residual = _residual(self._key.view, current, T)
        if (self._key.view is not self._last.view
                and not residual < LOST_RESIDUAL * self._calibration.usual_residual):
            # The key frame is out of sight; the last one is not, unless there was a cut.
            self._make_key()
            return self._find(current)
        return T, residual

    def _state(self):
        """Return what the last motion is of."""
        return 'network' if self._corner_calibration is None else self._network.state

    def _since_last(self, T_key_current):
        """Return the motion since the last frame."""
        return inverse_transform(self._T_key_last) @ T_key_current

    def _chain(self, current, T_key_current, residual, interval, metres_per_unit, standing):
        """Return the estimate, and go on from this frame unless the camera stands."""
        motion = self._since_last(T_key_current)
        self.distance = float(np.linalg.norm(motion[:3, 3]))
        scale = 1.0 if metres_per_unit is None else metres_per_unit
        if metres_per_unit is not None and not self._metric:
            # From now on in metres; what was chained without them becomes metric, too.
            self._last, self._key = self._last.scaled(scale), self._key.scaled(scale)
        self._metric = metres_per_unit is not None
        start, moved = (self._last, motion) if standing else (self._key, T_key_current)
        factors = np.diag([scale] * 3 + [1.0] * 3)
        state = self._state()
        if state == HYBRID:
            calibration, spread = self._corner_calibration, self._network.scale_spread
            if spread:   # Else metres are measured in the map, which has no scale of its own.
                spread = np.hypot(spread, calibration.scale_error)
            covariance = chained = calibration.covariance(self._network.covariance)
        else:
            calibration, spread = self._calibration, 0.0
            covariance, chained = (calibration.covariance(T, residual, interval)
                                   for T in (motion, moved))
        covariance, chained = (factors @ C @ factors for C in (covariance, chained))
        of_scale = scale_root(_scaled(motion, scale), spread)
        covariance += np.outer(of_scale, of_scale)
        moved = _scaled(moved, scale)
        T = start.T @ moved
        of_scale = scale_root(moved, spread)
        drift = start.drift.after(start.T, moved, chained + np.outer(of_scale, of_scale),
                                  common_root(calibration, chained, of_scale))
        # A standing frame is where the last one was, and what comes next happened since.
        if not standing:
            # Products of rotations leave the rotations after a while.
            T = make_transform(matrix_from_quaternion(quaternion_from_matrix(T[:3, :3])),
                               T[:3, 3])
            self._earlier.append(self._last.view)
            self._last, self._T_key_last = _Anchor(current, T, drift), T_key_current
            if not (self._network.keeps_key_frames and _in_sight(T_key_current, self._key.view)):
                self._make_key()
        return OdometryEstimate(current.stamp, T, _scaled(motion, scale), interval,
                                covariance, drift.covariance, residual, self._metric,
                                standing, state)

    def _interval_warning(self, interval):
        """Return what is wrong with the interval between two frames, mostly nothing."""
        if not self._trained_interval or interval <= LARGEST_INTERVAL * self._trained_interval:
            return ''
        return (f'frames are {interval:.2f} s apart, the network was trained on '
                f'{self._trained_interval:.2f} s: motion is larger than any that it knows')


def _residual(reference, current, motion):
    """Return how badly the current image fits the reference once it is warped there."""
    target, source = (torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 127.5 - 1
                      for crop in (reference.crop, current.crop))
    T = torch.from_numpy(inverse_transform(motion).astype(np.float32))[None]
    K = torch.from_numpy(reference.camera.K.astype(np.float32))[None]
    with torch.inference_mode():
        return float(photometric_residual(
            target, source, torch.from_numpy(reference.depth)[None, None], T, K))


def _in_sight(T_key_current, key):
    """Tell whether the next frame may be compared with the same key frame."""
    turn = np.linalg.norm(rotation_vector_from_matrix(T_key_current[:3, :3]))
    way = np.linalg.norm(T_key_current[:3, 3])
    return turn < LARGEST_TURN and way < LARGEST_WAY * np.median(key.depth)


def _correlation(image, other):
    """Return the correlation of the middle of one image with its likeliest place in another."""
    height, width = (n // 4 for n in image.shape)
    return cv2.matchTemplate(other, image[height:-height, width:-width],
                             cv2.TM_CCOEFF_NORMED).max()


def _scaled(T, scale):
    """Return a motion in another unit of length."""
    return make_transform(T[:3, :3], scale * T[:3, 3])
