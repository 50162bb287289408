# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
What validation tells about motion: the scale of depth, and how wrong motions are.

Depth and motion are learned without labels, up to an unknown unit. Where the validation drive has
poses, they say how many metres that unit is.
"""

from dataclasses import dataclass
from typing import Dict, NamedTuple, Optional

import numpy as np
import torch

from geo_perception.geometry.direct_alignment import align_images
from geo_perception.geometry.projection import pose_vector_to_matrix
from geo_perception.geometry.se3 import inverse_transform
from geo_perception.inference.motion import newest_motion
from geo_perception.inference.motion_uncertainty import (
    fit_motion_calibration, motion_errors, MotionCalibration)
from geo_perception.losses.photometric import photometric_residual

# Motion that says something about the scale, metres.
SMALLEST_MOTION = 0.005


class MotionSample(NamedTuple):
    """
    How the camera moved in one snippet.

    Attributes
    ----------
    motion : np.ndarray
        ``T_previous_current`` of the last two frames as ego-motion has it, in its own unit, 4x4.
    true_motion : np.ndarray
        The same, metres, NaN where unknown.
    residual : float
        Photometric residual between the target and the frame after it.
    way : float
        Distance between these two by alignment through the depth, in its unit.
    true_way : float
        The same, metres, NaN where unknown.

    """

    motion: np.ndarray
    true_motion: np.ndarray
    residual: float
    way: float
    true_way: float


@dataclass(frozen=True)
class ValidatedMotion:
    """
    What the snippets of a validation drive say together.

    Attributes
    ----------
    motions : np.ndarray
        Of all snippets, in the unit of depth where scales are known, shape (N, 4, 4).
    true_motions : np.ndarray
        The same, metres, NaN where unknown.
    scales : dict
        ``metres_per_unit`` of depth and its spread, and ``egomotion_scale``, units of depth in
        one of an ego-motion network; empty where nothing is known.
    calibration : MotionCalibration or None
        How wrong motions are; None where too few are known.

    """

    motions: np.ndarray
    true_motions: np.ndarray
    scales: Dict[str, float]
    calibration: Optional[MotionCalibration]

    def entries(self):
        """
        Return what the model file has to know.

        Returns
        -------
        dict
            For the calibration in its header.

        """
        return {**self.scales, **({} if self.calibration is None else self.calibration.entries())}


def sample_motions(images, K, depth, poses, true_poses, uses_depth):
    """
    Return how the camera moved in each snippet of a batch.

    Parameters
    ----------
    images : torch.Tensor
        Snippets in order of time, in [-1, 1], shape (B, L, 3, H, W).
    K : torch.Tensor
        Intrinsics, shape (B, 3, 3).
    depth : torch.Tensor
        Of the targets, shape (B, H, W).
    poses : torch.Tensor
        Vectors of ``T_source_target`` as ego-motion has them, shape (B, L - 1, 6).
    true_poses : torch.Tensor
        ``T_world_camera``, metres, NaN where unknown, shape (B, L, 4, 4).
    uses_depth : bool
        Whether ego-motion is itself alignment through the depth.

    Returns
    -------
    list of MotionSample

    """
    centre = images.shape[1] // 2
    target, following, depth = images[:, centre], images[:, centre + 1], depth[:, None]
    with torch.autocast(images.device.type, enabled=False):
        T = pose_vector_to_matrix(poses.float())
        motions = newest_motion(T)
        residuals = photometric_residual(target, following, depth, T[:, centre], K)
        # Alignment goes as far as the depth has it, which the network's own steps may not.
        aligned = T[:, centre] if uses_depth else align_images(target, following, depth, K)[0]
    return [MotionSample(motion.double().cpu().numpy(), _last_motion(true), residual.item(),
                         way.norm().item(),
                         float(np.linalg.norm(_last_motion(true[:centre + 2])[:3, 3])))
            for motion, true, residual, way in zip(
                motions, true_poses.cpu().numpy(), residuals, aligned[:, :3, 3])]


def validate_motion(samples, uses_depth, interval=0.0):
    """
    Find the scale of depth, and how wrong motions are once they are in its unit.

    The steps of an ego-motion network need not be in it, though view synthesis asks for that: a
    young network makes short steps.

    Parameters
    ----------
    samples : sequence of MotionSample
        In order of time.
    uses_depth : bool
        As of `sample_motions`; motions are in the unit of depth then.
    interval : float
        Seconds between the frames; 0 if unknown.

    Returns
    -------
    ValidatedMotion

    """
    motions, true_motions, residuals, ways, true_ways = (
        np.array(column) for column in zip(*samples))
    steps, true_steps = (np.linalg.norm(T[:, :3, 3], axis=1) for T in (motions, true_motions))
    ratios, of_depth = _ratios(steps, true_steps), _ratios(ways, true_ways)
    if not (len(ratios) and len(of_depth)):
        return ValidatedMotion(motions, true_motions, {}, None)
    scale = float(np.median(of_depth))
    low, high = np.quantile(of_depth, [0.25, 0.75])
    scales = {'metres_per_unit': scale, 'metres_per_unit_spread': float((high - low) / scale)}
    if not uses_depth:
        scales['egomotion_scale'] = float(np.median(ratios) / scale)
        motions[:, :3, 3] *= scales['egomotion_scale']
    known = np.isfinite(true_steps)
    return ValidatedMotion(motions, true_motions, scales, fit_motion_calibration(
        motion_errors(motions[known], true_motions[known], scale), motions[known],
        residuals[known], interval))


def _ratios(found, true):
    """Return by how much ways are too short, of those that are long enough to tell."""
    moving = np.isfinite(true) & (true > SMALLEST_MOTION)
    return true[moving] / np.maximum(found[moving], 1e-12)


def _last_motion(poses):
    """Return how the camera moved between the last two frames, NaN where unknown."""
    return inverse_transform(poses[-2]) @ poses[-1]
