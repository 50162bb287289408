# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The odometry pipeline: consecutive images and their depths in, the way of the camera out."""

from collections import deque
from dataclasses import dataclass, replace
from typing import Optional

import cv2
import numpy as np
import torch
from torch import nn

from geo_perception.datasets.snippets import block_brightness, SMALLEST_CHANGE
from geo_perception.errors import ModelFileError
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.projection import pose_vector_to_matrix
from geo_perception.geometry.se3 import (
    inverse_transform, make_transform, matrix_from_quaternion, matrix_from_rotation_vector,
    move_pose_covariance, quaternion_from_matrix, rotate_pose_covariance,
    rotation_vector_from_matrix)
from geo_perception.inference.depth import network_arguments
from geo_perception.inference.engine import Engine
from geo_perception.inference.weights import build_network, load_weights
from geo_perception.losses.photometric import photometric_residual
from geo_perception.networks.egomotion import EgoMotionNet

# A gap is longer than this many usual intervals, or this many seconds.
LARGEST_GAP, LARGEST_GAP_S = 4.0, 1.0
# Intervals that the usual one is the median of.
INTERVALS = 15
# Frames sooner than this part of the interval that the network was trained at are left out.
SMALLEST_INTERVAL = 0.75
# Beyond this many times that interval motion is larger than any in training.
LARGEST_INTERVAL = 2.0
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


class MotionNetwork:
    """
    The ego-motion network of a model, with its engine.

    Parameters
    ----------
    model : ModelFile
        A model for geometry.
    device, precision, threads
        As in `geo_perception.inference.engine.Engine`; ``auto`` is 32 bits, for rounding of
        motion adds up along the way and the network is small.

    Attributes
    ----------
    sources : int
        Frames that it takes beside the target.

    Raises
    ------
    ModelFileError
        When something that it needs is missing, of the wrong shape or not finite.

    """

    def __init__(self, model, device='auto', precision='auto', threads=0):
        arguments = network_arguments(model)['egomotion']
        network = build_network(model, EgoMotionNet, **{**arguments, 'explainability': False})
        network = load_weights(network, model, 'egomotion.')
        self.sources = network.sources
        preprocessing = model.metadata.preprocessing
        if self.sources < 2 or self.sources % 2:
            raise ModelFileError(f'model file {model.path} has an ego-motion network for '
                                 f'{self.sources} sources; expected 2 or 4')
        example = np.random.default_rng(0).integers(
            0, 256, (self.sources + 1, *preprocessing.crop, 3), np.uint8)
        self._engine = Engine(_Poses(network, preprocessing), example, device,
                              'fp32' if precision == 'auto' else precision, threads)

    def __call__(self, crops):
        """
        Return how the camera moved between the last two frames of a snippet.

        Parameters
        ----------
        crops : np.ndarray
            In order of time, uint8 RGB, shape (sources + 1, h, w, 3).

        Returns
        -------
        np.ndarray
            ``T_previous_current``, 4x4, units of the network.

        """
        T = pose_vector_to_matrix(self._engine(crops).double())
        return newest_motion(T).numpy()


class _Poses(nn.Module):
    """From uint8 snippets to ego-motion vectors."""

    def __init__(self, network, preprocessing):
        super().__init__()
        self.network, self._preprocessing = network, preprocessing

    def forward(self, crops):
        """Return vectors of ``T_source_target``, shape (n, 6)."""
        images = self._preprocessing.normalise(crops)
        centre = len(images) // 2
        sources = torch.cat([images[:centre], images[centre + 1:]])
        return self.network(images[centre:centre + 1], sources[None])[0][0]


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


def newest_motion(T_source_target):
    """
    Return the motion between the last two frames of a snippet.

    Parameters
    ----------
    T_source_target : torch.Tensor
        Of all sources in order of time, shape (..., n, 4, 4).

    Returns
    -------
    torch.Tensor
        ``T_previous_current``, shape (..., 4, 4): for three frames the inverse of the last
        one's, for the target is the frame before it (sfmlearner.md section 3.5).

    """
    newest = torch.linalg.inv(T_source_target[..., -1, :, :])
    if T_source_target.shape[-3] == 2:
        return newest
    return T_source_target[..., -2, :, :] @ newest


def correct_focal_length(motion, ratio):
    """
    Return a motion as another focal length sees it, see `geo_perception.inference.depth`.

    Parameters
    ----------
    motion : np.ndarray
        ``T_previous_current`` as if the training camera had seen it, 4x4.
    ratio : float
        Focal length of the camera in parts of that of the training camera.

    Returns
    -------
    np.ndarray
        4x4: the way along the optical axis grows by the ratio, turns across it shrink by it.

    """
    omega = rotation_vector_from_matrix(motion[:3, :3]) / [ratio, ratio, 1.0]
    return make_transform(matrix_from_rotation_vector(omega),
                          motion[:3, 3] * [1.0, 1.0, ratio])


@dataclass(frozen=True)
class _Reference:
    """The frame that the next one is compared with."""

    crop: np.ndarray
    brightness: np.ndarray
    depth: np.ndarray
    camera: Camera
    stamp: int


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
    wants to see. A frame that hardly differs from the reference says that the camera stands: the
    reference stays then, so nothing drifts, and slow motion is seen once it has added up.

    Parameters
    ----------
    network : callable
        See `MotionNetwork`.
    calibration : MotionCalibration
        How far to trust motions.
    interval : float or None
        Seconds between the frames of the snippets that the network was trained on.

    """

    def __init__(self, network, calibration, interval=None):
        self._network, self._calibration, self._trained_interval = network, calibration, interval
        self._intervals = deque(maxlen=INTERVALS)
        self._metric = False
        self.distance = None
        self.reset()

    def reset(self):
        """Forget all frames; the next one is the new origin."""
        self._reference = None
        # What lies before the reference.
        self._earlier = deque(maxlen=self._network.sources - 1)
        self._last_stamp = None
        self._T, self._covariance = np.eye(4), np.zeros((6, 6))
        self.distance = None

    def update(self, crop, depth, camera, stamp, metres_per_unit, focal_ratio=1.0):
        """
        Take the next frame.

        Parameters
        ----------
        crop : np.ndarray
            uint8 RGB, shape (h, w, 3).
        depth : np.ndarray
            Of it, units of the network, shape (h, w).
        camera : Camera
            Of it, without distortion.
        stamp : int
            Nanoseconds, other than the one before.
        metres_per_unit : float or None
            Scale, None where unknown.
        focal_ratio : float
            See `correct_focal_length`.

        Returns
        -------
        Step

        """
        if is_blank(crop):
            return Step(reason='the image is black or blank: the lens is covered, or it is dark')
        brightness = block_brightness(crop)
        current = _Reference(crop, brightness, depth, camera, stamp)
        reset = self._discontinuity(camera, stamp)
        if reset:
            self.reset()
        last, self._last_stamp = self._last_stamp, stamp
        if self._reference is None:
            self._reference = current
            return Step(reset=reset, reason='the first frame has none to be compared with')
        interval = (stamp - self._reference.stamp) * 1e-9
        if self._trained_interval and interval < SMALLEST_INTERVAL * self._trained_interval:
            return Step(reason=f'only {interval:.3f} s after the frame before, the network was '
                               f'trained on frames {self._trained_interval:.3f} s apart')
        self._intervals.append((stamp - last) * 1e-9)
        standing = np.abs(brightness - self._reference.brightness).mean() < SMALLEST_CHANGE
        motion = np.eye(4)
        if not standing:
            motion = correct_focal_length(self._network(self._snippet(crop)), focal_ratio)
        residual = self._residual(current, motion)
        if not (np.isfinite(motion).all() and np.isfinite(residual)):
            self.reset()
            return Step(reset='the network gave a motion that is no number',
                        reason='the motion is unknown')
        if (residual > CUT_RESIDUAL * self._calibration.usual_residual
                and _correlation(brightness, self._reference.brightness) < CUT_CORRELATION):
            self.reset()
            self._reference, self._last_stamp = current, stamp
            return Step(reset='the image has nothing in common with the one before: a cut in the '
                              f'video, or too fast a turn (residual {residual:.2f})',
                        reason='the first frame has none to be compared with')
        return Step(self._chain(current, motion, residual, interval, metres_per_unit, standing),
                    warning=self._interval_warning(interval))

    def _discontinuity(self, camera, stamp):
        """Return why this frame does not continue the ones before, empty if it does."""
        if self._reference is None:
            return ''
        if stamp < self._last_stamp:
            return f'time jumped back by {(self._last_stamp - stamp) * 1e-9:.3f} s'
        before = self._reference.camera
        if not np.allclose(camera.K, before.K, rtol=1e-3):
            return (f'the focal length or size changed: {before.K[0, 0]:.1f} pixels before, '
                    f'{camera.K[0, 0]:.1f} now, at the size of the network')
        gap = (stamp - self._last_stamp) * 1e-9
        usual = np.median(self._intervals) if self._intervals else self._trained_interval
        if gap > LARGEST_GAP_S or (usual and gap > LARGEST_GAP * usual):
            return f'no usable image for {gap:.2f} s'
        return ''

    def _snippet(self, crop):
        """
        Return the frames that the network sees.

        While there are too few, the earliest is repeated: seen so, it stood still before.
        """
        crops = [*self._earlier, self._reference.crop, crop]
        missing = self._network.sources + 1 - len(crops)
        return np.stack([crops[0]] * missing + crops)

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
                self._T, self._covariance = scaled(self._T, self._covariance, metres_per_unit)
            motion, covariance = scaled(motion, covariance, metres_per_unit)
        self._metric = metres_per_unit is not None
        R = self._T[:3, :3]
        T = self._T @ motion
        accumulated = (move_pose_covariance(self._covariance, R @ motion[:3, 3])
                       + rotate_pose_covariance(covariance, R))
        if standing:
            # Where it was, as of now: whatever comes next happened since.
            self._reference = replace(self._reference, stamp=current.stamp)
        else:
            self._earlier.append(self._reference.crop)
            self._reference, self._covariance = current, accumulated
            # Products of rotations leave the rotations after a while.
            self._T = make_transform(matrix_from_quaternion(quaternion_from_matrix(T[:3, :3])),
                                     T[:3, 3])
        return OdometryEstimate(current.stamp, T, motion, interval, covariance, accumulated,
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


def scaled(T, covariance, scale):
    """
    Return a motion and its covariance in another unit of length.

    Parameters
    ----------
    T : np.ndarray
        4x4.
    covariance : np.ndarray
        6x6, order (x, y, z, rot X, rot Y, rot Z).
    scale : float
        New units per old unit.

    Returns
    -------
    T, covariance : np.ndarray
        Of the same shapes.

    """
    factors = np.array([scale] * 3 + [1.0] * 3)
    T = T.copy()
    T[:3, 3] *= scale
    return T, covariance * np.outer(factors, factors)
