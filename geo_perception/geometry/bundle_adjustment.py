# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Cameras and points that fit what the cameras saw, and what a depth network said about it.

A point is a direction in the frame that saw it first, its host, and an inverse depth along it
(Civera et al. 2008; Engel et al. 2018, DSO). What is minimised, by Gauss-Newton with the points
eliminated, are the reprojection errors in all frames and the differences between the logarithms
of the points' depths and of those that the network gave in each frame. The network may be wrong
by a factor of its own in every frame: parallax gives the shape, the network the scale, averaged
over all the frames. Frames that leave the window stay as a quadratic prior on the others.
"""

from dataclasses import dataclass, replace

import numpy as np

from geo_perception.geometry.inverse_depth import (
    by_turn, reprojection_errors, rotated_rays, spread, wide_weights)
from geo_perception.geometry.se3 import (
    make_transform, matrix_from_quaternion, matrix_from_rotation_vector, quaternion_from_matrix,
    rotation_vector_from_matrix)

# Numbers of a frame: way, turn, logarithm of the factor that the network is wrong by.
FRAME = 7
# Standard deviations: of the logarithm of the network's depth of a point, and of the factor that
# it errs by in a whole frame. Both are wide on purpose: neighbouring pixels err alike.
DEPTH_SIGMA, FRAME_SIGMA = 0.3, 0.1
# Of the tails of the former: Cauchy.
DEPTH_CAUCHY = 2.0
# A step changes an inverse depth by this factor at most.
LARGEST_STEP = 2.0
# Information about the first frame, which is the origin.
_FIXED = 1e10
_SMALLEST = 1e-9


@dataclass(frozen=True)
class Prior:
    """
    What is known about the frames of a window from those that left it.

    Attributes
    ----------
    H, b : np.ndarray
        Information and gradient at ``T`` and ``factors``, shape (7K, 7K) and (7K,).
    T : np.ndarray
        Poses where it was made, shape (K, 4, 4).
    factors : np.ndarray
        Likewise, shape (K,).

    """

    H: np.ndarray
    b: np.ndarray
    T: np.ndarray
    factors: np.ndarray

    @classmethod
    def origin(cls, T):
        """
        Return that the only frame is where it is.

        Parameters
        ----------
        T : np.ndarray
            Its pose, 4x4.

        Returns
        -------
        Prior

        """
        H = np.zeros((FRAME, FRAME))
        H[:6, :6] = _FIXED * np.eye(6)
        return cls(H, np.zeros(FRAME), np.array(T)[None], np.zeros(1))

    def with_frame(self, T):
        """
        Return the same for one frame more, of which nothing is known.

        Parameters
        ----------
        T : np.ndarray
            Its pose, 4x4.

        Returns
        -------
        Prior

        """
        n = len(self.b)
        H = np.zeros((n + FRAME, n + FRAME))
        H[:n, :n] = self.H
        return Prior(H, np.concatenate([self.b, np.zeros(FRAME)]),
                     np.concatenate([self.T, T[None]]), np.append(self.factors, 0.0))

    def gradient(self, T, factors):
        """
        Return the gradient at other poses.

        Parameters
        ----------
        T, factors : np.ndarray
            Poses and factors, shape (K, 4, 4) and (K,).

        Returns
        -------
        np.ndarray
            Shape (7K,).

        """
        turned = T[:, :3, :3] @ np.swapaxes(self.T[:, :3, :3], 1, 2)
        moved = np.concatenate([T[:, :3, 3] - self.T[:, :3, 3],
                                rotation_vector_from_matrix(turned),
                                (factors - self.factors)[:, None]], 1)
        return self.b - self.H @ moved.ravel()


@dataclass(frozen=True)
class Window:
    """
    Some frames and the points that they see.

    Attributes
    ----------
    T : np.ndarray
        Poses ``T_map_camera``, oldest first, shape (K, 4, 4).
    factors : np.ndarray
        Logarithms of true over network depth of each frame, shape (K,).
    host : np.ndarray
        Frame in which each point was seen first, int, shape (N,).
    rays : np.ndarray
        (x, y) of each point in its host at depth 1, shape (N, 2).
    inverse_depths : np.ndarray
        In the host, shape (N,).
    roots : np.ndarray
        Each point's root of the information of an observation, at depth 1: ``roots @ error`` has
        unit variance. Shape (N, 2, 2).
    seen : np.ndarray
        (x, y) at depth 1 of each point in each frame, shape (N, K, 2), NaN where it is not seen.
    network : np.ndarray
        Inverse depth there by the network, shape (N, K), NaN where unknown.
    prior : Prior
        From the frames before.

    """

    T: np.ndarray
    factors: np.ndarray
    host: np.ndarray
    rays: np.ndarray
    inverse_depths: np.ndarray
    roots: np.ndarray
    seen: np.ndarray
    network: np.ndarray
    prior: Prior

    def points(self, chosen):
        """
        Return only some points.

        Parameters
        ----------
        chosen : np.ndarray
            Bool or indices.

        Returns
        -------
        Window

        """
        return replace(self, **{name: getattr(self, name)[chosen] for name in (
            'host', 'rays', 'inverse_depths', 'roots', 'seen', 'network')})


@dataclass(frozen=True)
class Adjusted:
    """
    The result of an adjustment.

    Attributes
    ----------
    window : Window
        With the best poses, factors and inverse depths.
    variances : np.ndarray
        Of the inverse depths for given poses, shape (N,).
    wrong : np.ndarray
        Bool, shape (N, K): observations further off than ``threshold``.
    noise : float
        Standard deviation of the reprojection errors before the last step, in those that
        ``roots`` state.

    """

    window: Window
    variances: np.ndarray
    wrong: np.ndarray
    noise: float


def adjust(window, iterations=4, threshold=4.0):
    """
    Fit frames and points to each other.

    Parameters
    ----------
    window : Window
        To begin with.
    iterations : int
        Steps.
    threshold : float
        Standard deviations beyond which an observation is said to be wrong.

    Returns
    -------
    Adjusted

    Raises
    ------
    np.linalg.LinAlgError
        When nothing holds the frames together.

    """
    for _ in range(iterations):
        system = _System(window)
        H = system.H + window.prior.H
        b = system.b + window.prior.gradient(window.T, window.factors)
        eliminated = system.C / system.h[:, None]
        S = H - system.C.T @ eliminated
        S += _SMALLEST * (np.diag(np.diag(S)) + np.eye(len(S)))
        step = np.linalg.solve(S, b - eliminated.T @ system.g)
        depths = (system.g - system.C @ step) / system.h
        step = step.reshape(-1, FRAME)
        old = window.inverse_depths
        window = replace(
            window, T=moved(window.T, step[:, :6]), factors=window.factors + step[:, 6],
            inverse_depths=np.clip(old + depths, old / LARGEST_STEP, old * LARGEST_STEP))
    wrong = np.zeros(window.network.shape, bool)
    wrong[system.i, system.j] = (system.squares > threshold ** 2) & (system.j != system.hosts)
    others = system.squares[system.counted]
    return Adjusted(window, 1.0 / system.h, wrong, spread(others, 0.5) if len(others) else 1.0)


def without_oldest(window):
    """
    Leave out the oldest frame and its points; what they tell about the others becomes prior.

    Parameters
    ----------
    window : Window
        Of two frames at least.

    Returns
    -------
    window : Window
        Of the others.
    kept : np.ndarray
        Which points are still there, bool, shape (N,).

    """
    system = _System(window.points(window.host == 0))
    # The factors of the frames that stay are counted when they leave.
    factors = FRAME * np.arange(1, len(window.T)) + FRAME - 1
    system.H[factors, factors] -= FRAME_SIGMA ** -2
    system.b[factors] += window.factors[1:] / FRAME_SIGMA ** 2
    eliminated = system.C / system.h[:, None]
    H = system.H - system.C.T @ eliminated + window.prior.H
    b = (system.b - eliminated.T @ system.g
         + window.prior.gradient(window.T, window.factors))
    oldest = np.linalg.inv(H[:FRAME, :FRAME] + _SMALLEST * np.eye(FRAME))
    across = H[FRAME:, :FRAME] @ oldest
    H, b = H[FRAME:, FRAME:] - across @ H[:FRAME, FRAME:], b[FRAME:] - across @ b[:FRAME]
    kept = window.host > 0
    rest = window.points(kept)
    return replace(
        rest, T=window.T[1:], factors=window.factors[1:], host=rest.host - 1,
        seen=rest.seen[:, 1:], network=rest.network[:, 1:],
        prior=Prior(0.5 * (H + H.T), b, window.T[1:], window.factors[1:])), kept


def moved(T, step):
    """
    Return poses after a small step.

    Parameters
    ----------
    T : np.ndarray
        Shape (..., 4, 4).
    step : np.ndarray
        Way, then turn in the axes of the map, shape (..., 6).

    Returns
    -------
    np.ndarray
        Shape (..., 4, 4); products of rotations leave the rotations after a while, these do not.

    """
    return rigid(make_transform(matrix_from_rotation_vector(step[..., 3:]) @ T[..., :3, :3],
                                T[..., :3, 3] + step[..., :3]))


def rigid(T):
    """
    Return transforms whose rotations lost nothing to rounding.

    Parameters
    ----------
    T : np.ndarray
        Shape (..., 4, 4).

    Returns
    -------
    np.ndarray
        Shape (..., 4, 4).

    """
    return make_transform(matrix_from_quaternion(quaternion_from_matrix(T[..., :3, :3])),
                          T[..., :3, 3])


class _System:
    """The normal equations of all observations, those of the points apart."""

    def __init__(self, window):
        T, rho = window.T, window.inverse_depths
        n, k = window.network.shape
        self.i, self.j = np.nonzero(np.isfinite(window.seen[..., 0]))
        i, j = self.i, self.j
        self.hosts = hosts = window.host[i]
        R, t = T[:, :3, :3], T[:, :3, 3]
        rotated = rotated_rays(window.rays, R[window.host])[:, i]
        apart = (t[hosts] - t[j]).T
        v = rotated + rho[i] * apart
        q = np.einsum('nij,in->jn', R[j], v)
        error, D, front = reprojection_errors(
            window.seen[i, j].T, q, np.moveaxis(window.roots, 0, -1)[..., i])
        self.squares = (error ** 2).sum(0)
        other = j != hosts
        weight = np.zeros(len(i))
        self.counted = use = front & other
        if use.any():
            weight[use] = wide_weights(self.squares[use])
        by_point = np.einsum('nij,jkn->ikn', R[j], D)
        by_depth = (by_point * apart[:, None]).sum(0)
        by_way = rho[i] * by_point
        rows = np.arange(len(i))
        J = np.zeros((len(i), 2, k, FRAME))
        # Where a host sees its own point both would have to be added up, but nothing counts.
        J[rows, :, hosts, :6] = np.concatenate([by_way, -by_turn(by_point, rotated)]).T
        J[rows, :, j, :6] = np.concatenate([-by_way, by_turn(by_point, v)]).T
        J = J.reshape(len(i), 2, -1)
        weighted = J * weight[:, None, None]
        flat = weighted.reshape(2 * len(i), -1)
        self.H = flat.T @ J.reshape(2 * len(i), -1)
        self.b = flat.T @ error.T.ravel()
        C = weighted[:, 0] * by_depth[0, :, None] + weighted[:, 1] * by_depth[1, :, None]
        h = weight * (by_depth ** 2).sum(0)
        g = weight * (by_depth * error).sum(0)

        # log(depth / network depth) - factor, which should be 0.
        with np.errstate(invalid='ignore'):
            excess = (np.log(np.where(front, q[2], np.nan) / rho[i] * window.network[i, j])
                      - window.factors[j])
        known = np.isfinite(excess)
        excess = np.where(known, excess, 0.0)
        told = known / (1 + (excess / (DEPTH_CAUCHY * DEPTH_SIGMA)) ** 2) / DEPTH_SIGMA ** 2
        h += told / rho[i] ** 2
        g += told * excess / rho[i]
        column = FRAME * j + FRAME - 1
        np.add.at(self.H, (column, column), told)
        np.add.at(self.b, column, told * excess)
        C[rows, column] += told / rho[i]
        factors = FRAME * np.arange(k) + FRAME - 1
        self.H[factors, factors] += FRAME_SIGMA ** -2
        self.b[factors] -= window.factors / FRAME_SIGMA ** 2

        self.h = np.maximum(np.bincount(i, h, n), _SMALLEST)
        self.g = np.bincount(i, g, n)
        self.C = np.zeros((n, FRAME * k))
        if len(i):
            first = np.flatnonzero(np.diff(i, prepend=-1))
            self.C[i[first]] = np.add.reduceat(C, first, 0)
