# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
How many metres a unit of the networks is, with a stated source (sfmlearner.md section 8.4).

One camera sees the shape of the world, not its size: depth and motion of networks that learned
from video have a unit of their own.
"""

from collections import deque
from dataclasses import dataclass
from typing import Optional

import numpy as np

from geo_perception.errors import ConfigurationError, ModelFileError
from geo_perception.inference.ground_plane import camera_height, height_over_points

SOURCES = ('model', 'camera_height', 'odometry', 'constant', 'none')
# Estimates that the median is taken of.
WINDOW = 50
# With so many of them half of what can be known is known.
HALF_WINDOW = 5
# So many heights over points of the map, and depth images have no say any longer.
ENOUGH = 3
# How far to trust what a stereo camera taught, of which no spread is known.
STEREO_CONFIDENCE = 0.5
# Shorter distances say more about noise than about scale, metres.
SMALLEST_DISTANCE = 0.01


@dataclass(frozen=True)
class ScaleOptions:
    """
    Where metres come from.

    Attributes
    ----------
    source : str
        ``model``: measured on the validation recording, or known from the stereo camera of
        training, stored in the model file;
        ``camera_height``: the known height of the camera over the ground it sees;
        ``odometry``: true distances from wheels or TF; ``constant``; ``none``: results have
        no unit.
    constant : float
        Metres per unit, for ``constant``.
    camera_height : float
        Of the optical centre over the ground, metres, for ``camera_height``.
    camera_pitch : float
        How far the camera looks down, radians, for ``camera_height``.
    camera_roll : float
        How far it is turned clockwise about its axis, radians, for ``camera_height``.

    Raises
    ------
    ConfigurationError
        When the source is unknown or a number that it needs is missing.

    """

    source: str = 'model'
    constant: float = 1.0
    camera_height: float = 0.0
    camera_pitch: float = 0.0
    camera_roll: float = 0.0

    def __post_init__(self):
        """Refuse what cannot give a scale."""
        if self.source not in SOURCES:
            raise ConfigurationError(f'scale source "{self.source}" is unknown; choose one of '
                                     f'{", ".join(SOURCES)}')
        for name in ('constant', 'camera_height'):
            value = getattr(self, name)
            if self.source == name and not (np.isfinite(value) and value > 0):
                what = 'metres per unit' if name == 'constant' else name
                raise ConfigurationError(f'scale source {name} needs {what} above 0, not {value}')
        if not np.isfinite([self.camera_pitch, self.camera_roll]).all():
            raise ConfigurationError('camera_pitch and camera_roll must be finite, radians')


@dataclass(frozen=True)
class Scale:
    """
    Metres per unit of the networks, and how far to trust it.

    Attributes
    ----------
    source : str
        As in `ScaleOptions`.
    metres_per_unit : float or None
        None where nothing is metric, for now or for good.
    confidence : float
        0..1: share of the estimates' median that their spread leaves, less while there are few.
    spread : float or None
        Interquartile range of the estimates over their median; None where there are none.
    sentence : str
        All of it for a person.

    """

    source: str
    metres_per_unit: Optional[float]
    confidence: float
    spread: Optional[float]
    sentence: str


class ScaleEstimator:
    """
    Keeps the scale up to date.

    Parameters
    ----------
    options : ScaleOptions
        The source.
    model : ModelFile
        Whose calibration has a scale if it was validated with known poses.

    Raises
    ------
    ModelFileError
        When the scale in it is no number above zero.

    """

    def __init__(self, options, model):
        self._options = options
        self._calibration = model.metadata.calibration
        for name in ('metres_per_unit', 'metres_per_unit_spread'):
            value = self._calibration.get(name, 1.0)
            if not isinstance(value, (int, float)) or not 0 <= value < np.inf or (
                    not value and name == 'metres_per_unit'):
                raise ModelFileError(f'model file {model.path} is of no use: its calibration says '
                                     f'{name} = {value}')
        self._estimates = deque(maxlen=WINDOW)
        # From points in which the depth network has less of a say.
        self._better = deque(maxlen=WINDOW)

    def current(self):
        """
        Return the scale as it is known now.

        Returns
        -------
        Scale

        """
        source = self._options.source
        if source == 'none':
            return Scale(source, None, 0.0, None,
                         'No scale is set: depth and motion are up to scale.')
        if source == 'constant':
            return Scale(source, self._options.constant, 1.0, None,
                         f'{self._options.constant:.4g} metres per unit, as set.')
        if source == 'model':
            return self._of_model()
        return self._of_estimates()

    def observe_depth(self, depth, camera):
        """
        Learn from the ground in a depth image, where that is the source.

        Parameters
        ----------
        depth : np.ndarray
            Units of the network, NaN where unknown, shape (H, W).
        camera : Camera
            Its intrinsics.

        """
        if self._options.source != 'camera_height':
            return
        height = camera_height(depth, camera, self._options.camera_pitch,
                               self._options.camera_roll)
        if height is not None:
            self._estimates.append(self._options.camera_height / height)

    def observe_points(self, points):
        """
        Learn from points on the ground that parallax has placed, where that is the source.

        Once there are enough of these, depth images have no say any longer: the ground is where
        networks err with one sign, in a street that they were not trained in by a seventh.

        Parameters
        ----------
        points : np.ndarray
            In the camera, units of the network, shape (N, 3).

        """
        if self._options.source != 'camera_height':
            return
        height = height_over_points(points, self._options.camera_pitch, self._options.camera_roll)
        if height is not None:
            self._better.append(self._options.camera_height / height)

    def observe_motion(self, distance, true_distance):
        """
        Learn from a known distance, where that is the source.

        Parameters
        ----------
        distance : float
            Between two frames by the network, its units.
        true_distance : float
            Between the same frames, metres.

        """
        if (self._options.source == 'odometry' and true_distance > SMALLEST_DISTANCE
                and distance > 0 and np.isfinite(distance) and np.isfinite(true_distance)):
            self._estimates.append(true_distance / distance)

    def _of_model(self):
        """Return the scale in the model file."""
        value = self._calibration.get('metres_per_unit')
        if value is None:
            return Scale('model', None, 0.0, None,
                         'The model carries no scale, because it was validated without poses: '
                         'depth and motion are up to scale; choose another scale source.')
        if 'reach' in self._calibration:
            return Scale('model', value, STEREO_CONFIDENCE, None, ' '.join(filter(None, [
                f'{value:.4g} metres per unit, by the stereo camera of training.',
                self._calibration.get('tape_measure')])))
        spread = self._calibration.get('metres_per_unit_spread')
        confidence = 0.5 if spread is None else float(np.clip(1 - spread, 0, 1))
        told = '' if spread is None else f', spread {100 * spread:.0f} %'
        return Scale('model', value, confidence, spread,
                     f'{value:.4g} metres per unit, measured at validation{told}.')

    def _of_estimates(self):
        """Return the median of the window."""
        source = self._options.source
        estimates = self._better if len(self._better) >= ENOUGH else self._estimates
        n = len(estimates)
        words = {'camera_height': 'the ground plane', 'odometry': 'known distances'}[source]
        if not n:
            return Scale(source, None, 0.0, None,
                         f'No scale yet: {words} have not been seen; depth and motion are up to '
                         'scale until then.' if source == 'odometry' else
                         f'No scale yet: {words} has not been seen; depth and motion are up to '
                         'scale until then.')
        low, median, high = np.quantile(estimates, [0.25, 0.5, 0.75])
        spread = float((high - low) / median)
        confidence = float(np.clip(1 - spread, 0, 1) * n / (n + HALF_WINDOW))
        return Scale(source, float(median), confidence, spread,
                     f'{median:.4g} metres per unit from {words}, {n} estimates, spread '
                     f'{100 * spread:.0f} %.')
