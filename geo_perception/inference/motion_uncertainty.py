# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
How far to trust the motion between two frames.

The longer the way and the worse the images fit after warping, the larger the error; how much so
is fitted on validation frames with known poses. Distances are in the unit of the network until
they are scaled, so that one calibration serves every source of scale.
"""

from dataclasses import asdict, dataclass
from typing import ClassVar, Tuple

import numpy as np

from geo_perception.errors import ModelFileError
from geo_perception.geometry.se3 import rotation_vector_from_matrix
from geo_perception.inference.odometry_drift import LARGEST_COMMON, with_common_parts

# Standard deviations below these are numerical zero: parts of a unit, radians.
SMALLEST_SIGMA = 1e-6
# The residual counts between these parts of its usual size.
RESIDUAL_RANGE = (0.25, 8.0)
# Errors of fewer motions say nothing about their spread.
SMALLEST_SAMPLE = 12
# Floors are at least this part of the usual motion: a standing camera is not known better, and
# validation leaves it out.
SMALLEST_FLOOR = 0.02


@dataclass(frozen=True)
class StoredCalibration:
    """
    Numbers with defaults that travel in a model file.

    Attributes
    ----------
    PREFIX : str
        How their entries begin.
    MAY_BE_ZERO : tuple of str
        The others are above zero; those that begin with ``common`` are parts of a variance.

    """

    PREFIX: ClassVar[str] = ''
    MAY_BE_ZERO: ClassVar[Tuple[str, ...]] = ()

    @classmethod
    def from_model(cls, model):
        """
        Return the calibration in a model file, the defaults where it has none.

        Parameters
        ----------
        model : ModelFile
            With or without one.

        Returns
        -------
        StoredCalibration
            Of this kind.

        Raises
        ------
        ModelFileError
            When an entry is unknown, missing or no such number.

        """
        entries = {name[len(cls.PREFIX):]: value
                   for name, value in model.metadata.calibration.items()
                   if name.startswith(cls.PREFIX)}
        if not entries:
            return cls()
        if entries.keys() != asdict(cls()).keys():
            raise ModelFileError(
                f'model file {model.path} has a motion calibration with the entries '
                f'{", ".join(sorted(entries))}; expected {", ".join(asdict(cls()))}')
        for name, value in entries.items():
            if (not isinstance(value, (int, float)) or not np.isfinite(value) or value < 0
                    or not (value or name in cls.MAY_BE_ZERO)
                    or (name.startswith('common') and value > LARGEST_COMMON)):
                raise ModelFileError(f'model file {model.path} is of no use: its calibration '
                                     f'says {cls.PREFIX}{name} = {value}')
        return cls(**entries)

    def entries(self):
        """
        Return the calibration as entries of a model file.

        Returns
        -------
        dict of str to float

        """
        return {f'{self.PREFIX}{name}': value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class MotionCalibration(StoredCalibration):
    """
    What validation frames taught about the errors of motion.

    Standard deviations: along the way ``g sqrt(floor^2 + (along d)^2)``, across it with
    ``across``, of the rotation ``g' sqrt(floor'^2 + (per_angle a)^2)``; d is the distance, a the
    angle, ``g = (residual / usual_residual)^power``. The defaults are a guess for models that
    were validated without poses.

    Attributes
    ----------
    floor_translation : float
        Units of the network.
    along, across : float
        Parts of the distance.
    floor_rotation : float
        Radians.
    per_angle : float
        Part of the angle.
    usual_residual : float
        Median photometric residual, 0..1.
    power_translation, power_rotation : float
        How errors grow with the residual; 0 where it says nothing about them.
    common_translation, common_rotation : float
        Parts of the variances that neighbouring motions share: depth that is wrong the same way
        in frame after frame. Such errors add up in proportion to the way, others to its root.
    usual_interval : float
        Seconds between the frames that it was fitted on; 0 if unknown. Other intervals are
        trusted less, in proportion.

    """

    floor_translation: float = 0.005
    along: float = 0.3
    across: float = 0.3
    floor_rotation: float = 0.005
    per_angle: float = 0.3
    usual_residual: float = 0.1
    power_translation: float = 1.0
    power_rotation: float = 1.0
    common_translation: float = 0.3
    common_rotation: float = 0.3
    usual_interval: float = 0.0

    PREFIX = 'motion_'
    MAY_BE_ZERO = ('power_translation', 'power_rotation', 'common_translation', 'common_rotation',
                   'usual_interval')

    def covariance(self, motion, residual, interval):
        """
        Return the covariance of a motion.

        Parameters
        ----------
        motion : np.ndarray
            ``T_previous_current``, 4x4, units of the network.
        residual : float
            Photometric residual, 0..1.
        interval : float
            Seconds between the frames.

        Returns
        -------
        np.ndarray
            6x6, order (x, y, z, rot X, rot Y, rot Z), axes of the previous camera, units of the
            network and radians squared; symmetric positive definite.

        """
        distance = np.linalg.norm(motion[:3, 3])
        direction = motion[:3, 3] / max(distance, 1e-12)
        angle = np.linalg.norm(rotation_vector_from_matrix(motion[:3, :3]))
        ratio = np.clip(residual / self.usual_residual, *RESIDUAL_RANGE)
        unusual = 1.0
        if self.usual_interval:
            unusual = max(interval / self.usual_interval, self.usual_interval / interval)
        g_translation = unusual * ratio ** self.power_translation
        g_rotation = unusual * ratio ** self.power_rotation
        floor = max(self.floor_translation, SMALLEST_SIGMA) ** 2
        along, across = (floor + (part * distance) ** 2 for part in (self.along, self.across))
        covariance = np.zeros((6, 6))
        covariance[:3, :3] = g_translation ** 2 * (
            across * np.eye(3) + (along - across) * np.outer(direction, direction))
        covariance[3:, 3:] = np.eye(3) * g_rotation ** 2 * (
            max(self.floor_rotation, SMALLEST_SIGMA) ** 2 + (self.per_angle * angle) ** 2)
        return covariance


def motion_errors(motions, true_motions, metres_per_unit):
    """
    Return how wrong motions are.

    Parameters
    ----------
    motions : np.ndarray
        ``T_previous_current``, units of the network, shape (N, 4, 4).
    true_motions : np.ndarray
        The truth, metres, shape (N, 4, 4).
    metres_per_unit : float
        Scale of the network.

    Returns
    -------
    np.ndarray
        ``[t_true - t; Log(R_true R^T)]``, axes of the previous camera, units of the network and
        radians, shape (N, 6).

    """
    turned = true_motions[:, :3, :3] @ np.swapaxes(motions[:, :3, :3], 1, 2)
    return np.concatenate([true_motions[:, :3, 3] / metres_per_unit - motions[:, :3, 3],
                           rotation_vector_from_matrix(turned)], 1)


def fit_motion_calibration(errors, motions, residuals, interval=0.0):
    """
    Fit a calibration so that the truth lies where the covariance says.

    The numbers with the highest Gaussian likelihood on the validation frames, for position and
    rotation each, as in `geo_perception.inference.uncertainty.fit_calibration`.

    Parameters
    ----------
    errors : np.ndarray
        From `motion_errors`, in order of time, shape (N, 6).
    motions : np.ndarray
        ``T_previous_current``, units of the network, shape (N, 4, 4).
    residuals : np.ndarray
        Photometric residuals, shape (N,).
    interval : float
        Seconds between the frames; 0 if unknown.

    Returns
    -------
    MotionCalibration or None
        None where there are too few motions.

    """
    if len(errors) < SMALLEST_SAMPLE:
        return None
    usual_residual = float(np.clip(np.median(residuals), 1e-4, 1.0))
    ratio = np.clip(residuals / usual_residual, *RESIDUAL_RANGE)
    distances = np.linalg.norm(motions[:, :3, 3], axis=1)
    directions = motions[:, :3, 3] / np.maximum(distances, 1e-12)[:, None]
    along = (errors[:, :3] * directions).sum(1)
    across = errors[:, :3] - along[:, None] * directions
    angles = np.linalg.norm(rotation_vector_from_matrix(motions[:, :3, :3]), axis=1)
    zeros = np.zeros_like(along)

    # One component along the way, two across it, three of the rotation.
    floor_t, part_along, part_across, power_t = _fit(
        np.stack([along ** 2, (across ** 2).sum(1)], 1), np.array([1.0, 2.0]),
        np.stack([distances, distances], 1), ratio)
    floor_r, per_angle, power_r = _fit(
        (errors[:, 3:] ** 2).sum(1)[:, None], np.array([3.0]), (angles + zeros)[:, None], ratio)
    floor_t = max(floor_t, SMALLEST_FLOOR * float(np.median(distances)))
    floor_r = max(floor_r, SMALLEST_FLOOR * float(np.median(angles)))
    calibration = MotionCalibration(
        floor_t, part_along, part_across, floor_r, per_angle, usual_residual, power_t, power_r,
        usual_interval=float(interval))
    return with_common_parts(calibration, errors, [
        calibration.covariance(T, r, interval) for T, r in zip(motions, residuals)])


def _fit(squares, components, lengths, ratio):
    """
    Return floor, one factor for each column, and the power of the residual.

    Columns of ``squares`` are sums over as many ``components``, each with the variance
    ``ratio^(2 power) (floor^2 + (factor length)^2)``.
    """
    from scipy.optimize import minimize

    mean = max(float((squares.sum(1) / components.sum()).mean()), SMALLEST_SIGMA ** 2)

    def unpack(parameters):
        return (np.exp(parameters[0]), np.exp(parameters[1:-1]),
                np.clip(np.abs(parameters[-1]), 0, 2))

    def cost(parameters):
        floor, factors, power = unpack(parameters)
        variance = ratio[:, None] ** (2 * power) * np.maximum(
            floor ** 2 + (factors * lengths) ** 2, SMALLEST_SIGMA ** 2)
        return (components * np.log(variance) + squares / variance).sum(1).mean()

    usual = np.maximum(np.sqrt((lengths ** 2).mean(0)), 1e-9)
    start = np.concatenate([[0.5 * np.log(mean / 2)], 0.5 * np.log(mean / 2) - np.log(usual),
                            [0.5]])
    floor, factors, power = unpack(minimize(cost, start, method='Nelder-Mead', options={
        'maxiter': 2000, 'xatol': 1e-3, 'fatol': 1e-5}).x)
    return (max(float(floor), SMALLEST_SIGMA), *np.maximum(factors, 1e-4).tolist(), float(power))
