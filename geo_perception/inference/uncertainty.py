# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
From Monte-Carlo samples to a pose, an honest covariance and a score.

Bayesian PoseNet (Kendall & Cipolla 2016; posenet.md section 8.1): dropout samples say *where* a
network is unsure, but their spread is too small; scales and floors fitted on validation frames
make its size right.
"""

from dataclasses import dataclass, replace

import numpy as np

from geo_perception.geometry.se3 import rotation_vector_from_matrix

# Variances below this are numerical zero: 0.1 mm and 0.006 degrees.
SMALLEST_VARIANCE = 1e-8


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
        95 % of the validation frames have a smaller `spread`.
    usual_similarity : float
        95 % of the validation frames are more similar to their nearest training thumbnail.

    """

    scale_position: float = 1.0
    scale_rotation: float = 1.0
    floor_position: float = 0.05
    floor_rotation: float = 0.05
    usual_spread: float = 10.0
    usual_similarity: float = 0.5

    def covariance(self, sample_covariance):
        """
        Return the calibrated covariance ``S C S + floor``.

        Parameters
        ----------
        sample_covariance : np.ndarray
            6x6 from `summarise_samples`.

        Returns
        -------
        np.ndarray
            6x6, symmetric positive definite.

        """
        scale = np.repeat([self.scale_position, self.scale_rotation], 3)
        floor = np.repeat([self.floor_position, self.floor_rotation], 3) ** 2
        return (sample_covariance * np.outer(scale, scale)
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


def fit_calibration(errors, sample_covariances, similarities):
    """
    Fit a calibration so that the truth lies where the covariance says.

    Errors are modelled as ``scale^2 x spread^2 + floor^2``: the two numbers with the highest
    Gaussian likelihood on the validation frames, for position and rotation each. Medians of
    errors and covariances are not used: tails matter to a filter.

    Parameters
    ----------
    errors : np.ndarray
        ``[x_true - x; Log(R_true R^T)]``, metres and radians, shape (N, 6).
    sample_covariances : np.ndarray
        From `summarise_samples`, shape (N, 6, 6).
    similarities : np.ndarray
        To the nearest training thumbnail, shape (N,).

    Returns
    -------
    Calibration

    """
    fitted = {}
    for name, block in (('position', slice(0, 3)), ('rotation', slice(3, 6))):
        scale, floor = _fit_scale_and_floor(errors[:, block], sample_covariances[:, block, block])
        fitted[f'scale_{name}'], fitted[f'floor_{name}'] = scale, floor
    calibration = Calibration(**fitted)
    spreads = [calibration.spread(calibration.covariance(c)) for c in sample_covariances]
    return replace(calibration, usual_spread=float(np.quantile(spreads, 0.95)),
                   usual_similarity=float(np.quantile(similarities, 0.05)))


def _fit_scale_and_floor(errors, covariances):
    """Return the maximum-likelihood (scale, floor) of one 3-D block."""
    from scipy.optimize import minimize

    values, axes = np.linalg.eigh(covariances)
    # In the axes of each covariance the likelihood is a sum over independent components.
    squares = np.einsum('nij,ni->nj', axes, errors) ** 2
    values = np.maximum(values, 0.0)

    def cost(log_parameters):
        scale, floor = np.exp(2.0 * log_parameters)
        variance = np.maximum(scale * values + floor, SMALLEST_VARIANCE)
        return (np.log(variance) + squares / variance).mean()

    start = 0.5 * np.log([max(squares.mean() / max(values.mean(), 1e-12), 1e-6),
                          max(squares.mean() / 4, SMALLEST_VARIANCE)])
    best = minimize(cost, start, method='Nelder-Mead').x
    return tuple(np.maximum(np.exp(best), [1e-3, np.sqrt(SMALLEST_VARIANCE)]).tolist())
