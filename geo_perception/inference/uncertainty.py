# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
From Monte-Carlo samples to a pose, an honest covariance and a score.

Bayesian PoseNet (Kendall & Cipolla 2016; posenet.md section 8.1): dropout samples say *where* a
network is unsure, but their spread is too small, the more so the less an image is like those of
the training; scales, floors and powers of the novelty fitted on frames that were not learned from
make its size right.
"""

from dataclasses import dataclass, replace

import numpy as np

from geo_perception.geometry.se3 import rotation_vector_from_matrix
from geo_perception.model_file import LARGEST_NUMBER

# Variances below this are numerical zero: 0.1 mm and 0.006 degrees.
SMALLEST_VARIANCE = 1e-8
# Novelty counts up to so many times the usual: beyond, nothing was ever measured.
LARGEST_NOVELTY = 3.0
# Errors have heavy tails: the likelihood is that of Student's t with so many degrees of freedom.
TAIL = 4.0
# Percentages of the chi-squared distribution with three degrees of freedom, and their quantiles.
CHI2_3 = {68: 3.5059, 95: 7.8147}


def summarise_samples(positions, rotations):
    """
    Return mean pose and covariance of pose samples.

    The mean rotation is the eigenvector of the mean of ``q q^T``, so signs do not matter;
    rotation errors are vectors about the fixed world axes.

    Parameters
    ----------
    positions : np.ndarray
        Metres, shape (T, 3).
    rotations : np.ndarray
        ``R_world_camera``, shape (T, 3, 3).

    Returns
    -------
    position : np.ndarray
        Shape (3,).
    rotation : np.ndarray
        Shape (3, 3).
    covariance : np.ndarray
        6x6, order (x, y, z, rot X, rot Y, rot Z).

    """
    position = positions.mean(0)
    # The chordal mean: the projection of the mean matrix is the q q^T eigenvector.
    U, _, Vt = np.linalg.svd(rotations.mean(0))
    rotation = U @ np.diag([1.0, 1.0, np.linalg.det(U @ Vt)]) @ Vt
    errors = np.concatenate([positions - position,
                             rotation_vector_from_matrix(rotations @ rotation.T)], 1)
    return position, rotation, errors.T @ errors / max(len(errors) - 1, 1)


@dataclass(frozen=True)
class Calibration:
    """
    What validation frames taught about the spread of samples.

    Attributes
    ----------
    scale_position, scale_rotation : float
        Factors on the standard deviation of the samples.
    floor_position : float
        Standard deviation added whatever the samples say, metres.
    floor_rotation : float
        The same, radians.
    usual_spread : float
        95 % of the frames that it was fitted on have a smaller `spread`.
    usual_similarity : float
        95 % of the validation frames are more similar to their nearest training thumbnail.
    usual_novelty : float
        95 % of the frames that it was fitted on have a larger novelty, see
        `geo_perception.inference.novelty`.
    power_position, power_rotation : float
        How standard deviations grow with the ratio of the novelty to the usual one; 0 in models
        that know no novelty.

    """

    scale_position: float = 1.0
    scale_rotation: float = 1.0
    floor_position: float = 0.05
    floor_rotation: float = 0.05
    usual_spread: float = 10.0
    usual_similarity: float = 0.5
    usual_novelty: float = 1.0
    power_position: float = 0.0
    power_rotation: float = 0.0

    def covariance(self, sample_covariance, novelty=None):
        """
        Return the calibrated covariance ``G (S C S + floor) G``.

        G is the power of the ratio of the novelty to the usual one, for position and rotation
        each; never below 1.

        Parameters
        ----------
        sample_covariance : np.ndarray
            6x6 from `summarise_samples`.
        novelty : float, optional
            Of the image; without it G is 1.

        Returns
        -------
        np.ndarray
            6x6, symmetric positive definite.

        """
        scale = np.repeat([self.scale_position, self.scale_rotation], 3)
        floor = np.repeat([self.floor_position, self.floor_rotation], 3) ** 2
        growth = np.ones(6)
        if novelty is not None:
            growth = relative_novelty(novelty, self.usual_novelty) ** np.repeat(
                [self.power_position, self.power_rotation], 3)
        return np.outer(growth, growth) * (
            sample_covariance * np.outer(scale, scale)
            + np.diag(np.maximum(floor, SMALLEST_VARIANCE)))

    def spread(self, covariance):
        """
        Return the spread of one pose, position and rotation on one scale.

        Parameters
        ----------
        covariance : np.ndarray
            Calibrated, 6x6.

        Returns
        -------
        float
            The larger of both root traces, each in units of its floor.

        """
        variances = np.diag(covariance)
        return float(max(np.sqrt(variances[:3].sum()) / self.floor_position,
                         np.sqrt(variances[3:].sum()) / self.floor_rotation))

    def scores(self, spread, similarity):
        """
        Return how usual a frame is among validation frames.

        Parameters
        ----------
        spread : float
            From `spread`.
        similarity : float
            To the nearest training thumbnail, -1..1.

        Returns
        -------
        spread_score : float
            1 for the better 95 % of validation frames, 0.5 at twice their limit.
        similarity_score : float
            1 for the better 95 % of validation frames, 0.5 at half their limit, 0 below zero.

        """
        return (min(1.0, self.usual_spread / max(spread, 1e-9)),
                float(np.clip(similarity / max(self.usual_similarity, 1e-9), 0.0, 1.0)))


def relative_novelty(novelty, usual):
    """
    Return how many times as novel as usual images are.

    Parameters
    ----------
    novelty : float or np.ndarray
        Of the images.
    usual : float
        The usual one.

    Returns
    -------
    float or np.ndarray
        Between 1 and 3.

    """
    return np.clip(novelty / usual, 1.0, LARGEST_NOVELTY)


def fit_calibration(errors, sample_covariances, similarities, novelties=None, weights=None):
    """
    Fit a calibration so that the truth lies where the covariance says.

    Errors are modelled as ``g^2 (scale^2 x spread^2 + floor^2)``, where ``g`` is a power of the
    novelty: the numbers with the highest likelihood under Student's t, for position and rotation
    each, so that few frames far off do not decide for all. The covariance is then scaled so that
    68 and 95 % of the frames lie in the ellipsoids of 68 and 95 %: in between, where the tails
    are too heavy for both.

    Parameters
    ----------
    errors : np.ndarray
        ``[x_true - x; Log(R_true R^T)]``, metres and radians, shape (N, 6).
    sample_covariances : np.ndarray
        From `summarise_samples`, shape (N, 6, 6).
    similarities : np.ndarray
        Of validation frames to their nearest training thumbnail, shape (M,).
    novelties : np.ndarray, optional
        See `geo_perception.inference.novelty`, shape (N,).
    weights : np.ndarray, optional
        How much each frame counts, shape (N,); equally by default.

    Returns
    -------
    Calibration

    """
    n = len(errors)
    weights = np.ones(n) if weights is None else np.asarray(weights, float)
    weights = weights / weights.sum()
    usual, ratios = 1.0, np.ones(n)
    if novelties is not None:
        usual = max(_quantile(novelties, 0.05, weights), 1e-6)
        ratios = relative_novelty(novelties, usual)
    fitted = {}
    for name, block in (('position', slice(0, 3)), ('rotation', slice(3, 6))):
        fitted.update(zip((f'scale_{name}', f'floor_{name}', f'power_{name}'), _fit_block(
            errors[:, block], sample_covariances[:, block, block], ratios, weights)))
    calibration = Calibration(usual_novelty=usual, **fitted)
    spreads = np.array([calibration.spread(calibration.covariance(c, usual * r))
                        for c, r in zip(sample_covariances, ratios)])
    return replace(calibration, usual_spread=_quantile(spreads, 0.95, weights),
                   usual_similarity=float(np.quantile(similarities, 0.05)))


def _quantile(values, share, weights):
    """Return the smallest value that so much of the weight, 1 in all, does not exceed."""
    order = np.argsort(values)
    # The sum of all weights may be a rounding error short.
    place = np.searchsorted(np.cumsum(weights[order]), share - 1e-9)
    return float(values[order[min(place, len(order) - 1)]])


def _fit_block(errors, covariances, ratios, weights):
    """Return the scale, floor and power of one 3-D block."""
    from scipy.optimize import minimize

    values, axes = np.linalg.eigh(covariances)
    # In the axes of each covariance its calibrated inverse is diagonal.
    squares = np.einsum('nij,ni->nj', axes, errors) ** 2
    values = np.maximum(values, 0.0)
    logs = np.log(ratios)
    has_novelty = np.ptp(logs) > 0

    def squared(parameters):
        """Return log determinant and squared normalised error of each frame."""
        scale, floor = np.exp(2.0 * parameters[:2])
        growth = 2.0 * abs(parameters[2]) * logs if has_novelty else 0.0 * logs
        variance = np.exp(growth)[:, None] * np.maximum(scale * values + floor, SMALLEST_VARIANCE)
        return np.log(variance).sum(1), (squares / variance).sum(1)

    def cost(parameters):
        log_determinant, normalised = squared(parameters)
        tail = (TAIL + 3.0) * np.log1p(normalised / TAIL)
        return float(weights @ (log_determinant + tail))

    # A chi-squared variable with three degrees of freedom has the median 2.37.
    mean = _quantile(squares.sum(1), 0.5, weights) / 2.37
    start = 0.5 * np.log([max(mean / max(weights @ values.mean(1), 1e-12), 1e-6),
                          max(mean / 4, SMALLEST_VARIANCE)])
    starts = [(*start, power) for power in ((1.0, 3.0) if has_novelty else (0.0,))]
    best = min((minimize(cost, x, method='Nelder-Mead', options={'maxiter': 4000})
                for x in starts), key=lambda result: result.fun).x
    normalised = squared(best)[1]
    factor = np.prod([_quantile(normalised, percent / 100, weights) / quantile
                      for percent, quantile in CHI2_3.items()]) ** (0.5 / len(CHI2_3))
    # Where samples agree to the last digit any scale will do; model files hold no larger one.
    scale, floor = np.clip(factor * np.exp(best[:2]), [1e-3, np.sqrt(SMALLEST_VARIANCE)],
                           LARGEST_NUMBER)
    return float(scale), float(floor), float(abs(best[2])) if has_novelty else 0.0
