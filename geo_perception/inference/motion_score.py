# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
How sure it is that something moves by itself: what rigid flow lacks, in parts of what is usual.

Rigid flow is wrong by the noise of all images, and by a part of the parallax: depth that is wrong
by a tenth shifts a point by a tenth of the way that its distance gives it. So the score is

    ``|full - rigid| / sqrt(noise^2 + (depth_error |parallax|)^2)``

with both numbers measured on the validation recording. The published bounds (geonet.md section 8,
improvement 4) know neither.
"""

from dataclasses import asdict, dataclass

import numpy as np

from geo_perception.errors import ModelFileError

PREFIX = 'moving_'
# Of still pixels, that may be said to move.
FALSE_ALARMS = 0.01
# The median of the length of a normally distributed vector, in standard deviations.
_MEDIAN_LENGTH = 1.1774
# Parts of the pixels by parallax that the two numbers are fitted to.
_BINS = 12
# In parts of the width.
SMALLEST_NOISE = 1e-4
_FEWEST = 200


@dataclass(frozen=True)
class MotionScore:
    """
    What is usual where nothing moves.

    Attributes
    ----------
    noise : float
        Standard deviation of a component of flow, in parts of the width of the image.
    depth_error : float
        The same in parts of the parallax.
    threshold : float
        Score above which something moves.
    false_alarms : float
        Share of still pixels above it, 0..1.

    """

    noise: float = 0.004
    depth_error: float = 0.1
    threshold: float = 4.0
    false_alarms: float = FALSE_ALARMS

    @classmethod
    def from_model(cls, model):
        """
        Return what a model file says, or the defaults.

        Parameters
        ----------
        model : ModelFile
            For geometry.

        Returns
        -------
        MotionScore

        Raises
        ------
        ModelFileError
            When an entry is no positive number.

        """
        entries = {name[len(PREFIX):]: value for name, value in model.metadata.calibration.items()
                   if name.startswith(PREFIX)}
        known = {name: value for name, value in entries.items()
                 if name in cls.__dataclass_fields__}
        for name, value in known.items():
            if not isinstance(value, (int, float)) or not 0 <= value < np.inf:
                raise ModelFileError(f'model file {model.path} has a damaged calibration: '
                                     f'{PREFIX}{name} is {value!r}')
        return cls(**known)

    def entries(self):
        """
        Return the entries of the calibration in a model file.

        Returns
        -------
        dict of str to float

        """
        return {f'{PREFIX}{name}': value for name, value in asdict(self).items()}

    def __call__(self, flow, rigid, parallax):
        """
        Return the score of each pixel.

        Parameters
        ----------
        flow, rigid : np.ndarray
            Full and rigid flow, pixels, shape (H, W, 2).
        parallax : np.ndarray
            The part of rigid flow that depends on depth, pixels, same shape.

        Returns
        -------
        np.ndarray
            float32, shape (H, W).

        """
        return _score(_length(flow - rigid), _length(parallax),
                      max(self.noise, SMALLEST_NOISE) * flow.shape[1],
                      self.depth_error).astype(np.float32)


def fit_motion_score(lack, parallax, width, moving=None, false_alarms=FALSE_ALARMS):
    """
    Return what is usual, from pixels of many images of which most stand still.

    Parameters
    ----------
    lack, parallax : np.ndarray
        Lengths of what rigid flow lacks, and of the part of it that depends on depth, pixels,
        shape (N,).
    width : int
        Of the images.
    moving : np.ndarray, optional
        Whether a pixel moves by itself, bool, shape (N,). Where nobody knows, medians make sure
        that few moving ones change little, and the threshold is that of a normal distribution.
    false_alarms : float
        Wanted share of still pixels above the threshold.

    Returns
    -------
    MotionScore or None
        None where there are too few pixels.

    """
    usable = np.isfinite(lack) & np.isfinite(parallax)
    still = usable if moving is None else usable & ~moving
    if still.sum() < _FEWEST:
        return None
    lack, parallax = lack[still], parallax[still]
    edges = np.quantile(parallax, np.linspace(0, 1, _BINS + 1)[1:-1])
    which = np.searchsorted(edges, parallax)
    bins = [which == i for i in np.unique(which)]
    squared = np.array([np.median(parallax[b] ** 2) for b in bins])
    variance = np.array([(np.median(lack[b]) / _MEDIAN_LENGTH) ** 2 for b in bins])
    # Relative errors of the variance count: a bin of large ones must not outweigh the others.
    weight = np.sqrt([b.sum() for b in bins]) / np.maximum(variance, 1e-12)
    A = np.stack([np.ones_like(squared), squared], 1) * weight[:, None]
    noise, part = _non_negative(A, variance * weight)
    noise, part = max(np.sqrt(noise), SMALLEST_NOISE * width), np.sqrt(part)
    threshold = float(np.sqrt(-2 * np.log(false_alarms)))
    if moving is not None:
        threshold = float(np.quantile(_score(lack, parallax, noise, part), 1 - false_alarms))
    return MotionScore(float(noise / width), float(part), threshold, false_alarms)


def _score(lack, parallax, noise, depth_error):
    return lack / np.sqrt(noise ** 2 + (depth_error * parallax) ** 2)


def _length(flow):
    return np.hypot(flow[..., 0], flow[..., 1])


def _non_negative(A, b):
    """Return the least squares solution of two unknowns that are not negative."""
    x = np.linalg.lstsq(A, b, rcond=None)[0]
    if (x >= 0).all():
        return x
    alone = [np.where(np.arange(2) == i, A[:, i] @ b / max(A[:, i] @ A[:, i], 1e-30), 0.0)
             for i in range(2)]
    return min(alone, key=lambda y: np.square(A @ y - b).sum())
