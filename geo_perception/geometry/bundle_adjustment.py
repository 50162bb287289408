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

from geo_perception.geometry.se3 import (
    make_transform, matrix_from_quaternion, matrix_from_rotation_vector, quaternion_from_matrix,
    rotation_vector_from_matrix, skew)

# Numbers of a frame: way, turn, logarithm of the factor that the network is wrong by.
FRAME = 7
# Standard deviations: of the logarithm of the network's depth of a point, and of the factor that
# it errs by in a whole frame. Both are wide on purpose: neighbouring pixels err alike.
DEPTH_SIGMA, FRAME_SIGMA = 0.3, 0.1
# Of the tails: Cauchy. Of a camera that is located, Geman-McClure after the first steps: what is
# far off hardly pulls, for it may move.
TAIL, DEPTH_CAUCHY = 2.385, 2.0
# How large errors are is judged there by that part of them, the smallest: a large thing that moves
# makes the others large. They are not said to be smaller than so many standard deviations.
BEST, SMALLEST_SCALE = 0.3, 0.3
# A step changes an inverse depth by this factor at most.
LARGEST_STEP = 2.0
# Metres and radians: a smaller step of locating a camera is the last.
SMALLEST_STEP = 1e-5
# In parts of the depth: points nearer to a camera than this are behind it.
NEAREST = 1e-3
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
    return Adjusted(window, 1.0 / system.h, wrong, _scale(others, 0.5) if len(others) else 1.0)


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


def locate(window, variances, seen, T, trusted, wide=3, iterations=15):
    """
    Find a camera among points whose depths are not sure, either.

    Parameters
    ----------
    window : Window
        The points, where their hosts are, and their inverse depths.
    variances : np.ndarray
        Of the inverse depths, shape (N,).
    seen : np.ndarray
        (x, y) at depth 1 in the camera, shape (N, 2).
    T : np.ndarray
        Pose ``T_map_camera`` to begin with, 4x4.
    trusted : np.ndarray
        Bool, shape (N,): points that the pose shall be found by. The others have errors, too.
    wide : int
        So many of the first steps listen to what is far off, too, for the start may be.
    iterations : int
        Steps of Gauss-Newton, at most.

    Returns
    -------
    T : np.ndarray
        4x4.
    errors : np.ndarray
        Of all points, standard deviations, shape (N,); infinite behind the camera.

    Raises
    ------
    np.linalg.LinAlgError
        When the points do not span a pose.

    """
    hosts = window.T[window.host]
    rotated = _rotated_rays(window)
    expected = rho = window.inverse_depths
    information = 1.0 / variances
    for k in range(iterations):
        v, q, front = _in_camera(rotated, rho, hosts[:, :3, 3], T[None])
        error, D = _error(seen, q, front, window.roots)
        squares = (error ** 2).sum(1) + (rho - expected) ** 2 * information
        weight = np.zeros(len(squares))
        use = front & trusted
        if use.any():
            weight[use] = (_wide_weights(squares[use]) if k < wide
                           else _weights(squares[use]))
        J, by_depth, C, h = _derivatives(D, v, rho, hosts, T, information)
        g = (by_depth * error).sum(1) - (rho - expected) * information
        rows, weights = J.reshape(-1, 6), np.repeat(weight, 2)
        A = (rows * weights[:, None]).T @ rows - (C * (weight / h)[:, None]).T @ C
        b = rows.T @ (weights * error.ravel()) - C.T @ (weight * g / h)
        A += 1e-6 * np.diag(np.diag(A)) + _SMALLEST * np.eye(6)
        step = np.linalg.solve(A, b)
        rho = np.clip(rho + (g - C @ step) / h, expected / 3, expected * 3)
        T = _stepped(T, step)
        if k >= wide and np.abs(step).max() < SMALLEST_STEP:
            break
    T = _rigid(T)
    _, q, front = _in_camera(rotated, rho, hosts[:, :3, 3], T[None])
    error, _ = _error(seen, q, front, window.roots)
    errors = np.sqrt((error ** 2).sum(1) + (rho - expected) ** 2 * information)
    return T, np.where(front, errors, np.inf)


def pose_covariance(window, variances, seen, T):
    """
    Return how far a camera that was found by `locate` may be off.

    Parameters
    ----------
    window, variances, seen
        As of `locate`, of the points that agree with the pose.
    T : np.ndarray
        The pose, 4x4.

    Returns
    -------
    np.ndarray
        6x6, order (x, y, z, rot X, rot Y, rot Z), axes of the map: what the stated errors of
        places and depths leave open, times how large the errors turned out (the square of it).

    """
    hosts, rho = window.T[window.host], window.inverse_depths
    v, q, front = _in_camera(_rotated_rays(window), rho, hosts[:, :3, 3], T[None])
    error, D = _error(seen, q, front, window.roots)
    J, _, C, h = _derivatives(D, v, rho, hosts, T, 1.0 / variances)
    rows = J.reshape(-1, 6)
    A = rows.T @ rows - (C / h[:, None]).T @ C
    A += 1e-6 * np.diag(np.diag(A)) + _SMALLEST * np.eye(6)
    return _scale((error ** 2).sum(1), 0.5) ** 2 * np.linalg.inv(A)


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
    return _rigid(_stepped(T, step))


def _stepped(T, step):
    """Return poses after a small step; rounding adds up."""
    return make_transform(matrix_from_rotation_vector(step[..., 3:]) @ T[..., :3, :3],
                          T[..., :3, 3] + step[..., :3])


def _rigid(T):
    """Return transforms whose rotations lost nothing to rounding."""
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
        rotated = _rotated_rays(window)[i]
        v, q, front = _in_camera(rotated, rho[i], T[hosts, :3, 3], T[j])
        error, D = _error(window.seen[i, j], q, front, window.roots[i])
        self.squares = (error ** 2).sum(1)
        other = j != hosts
        weight = np.zeros(len(i))
        self.counted = use = front & other
        if use.any():
            weight[use] = _wide_weights(self.squares[use])
        by_point = D @ np.swapaxes(T[j, :3, :3], 1, 2)
        by_depth = (by_point @ (T[hosts, :3, 3] - T[j, :3, 3])[:, :, None])[..., 0]
        by_way = rho[i, None, None] * by_point
        rows = np.arange(len(i))
        J = np.zeros((len(i), 2, k, FRAME))
        J[rows, :, hosts, :3] += by_way
        J[rows, :, j, :3] -= by_way
        J[rows, :, hosts, 3:6] -= by_point @ skew(rotated)
        J[rows, :, j, 3:6] += by_point @ skew(v)
        J = J.reshape(len(i), 2, -1)
        weighted = J * weight[:, None, None]
        flat = weighted.reshape(2 * len(i), -1)
        self.H = flat.T @ J.reshape(2 * len(i), -1)
        self.b = flat.T @ error.ravel()
        C = weighted[:, 0] * by_depth[:, :1] + weighted[:, 1] * by_depth[:, 1:]
        h = weight * (by_depth ** 2).sum(1)
        g = weight * (by_depth * error).sum(1)

        # log(depth / network depth) - factor, which should be 0.
        with np.errstate(invalid='ignore'):
            excess = (np.log(np.where(front, q[:, 2], np.nan) / rho[i] * window.network[i, j])
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


def _rotated_rays(window):
    """Return the directions of all points in the axes of the map, shape (N, 3)."""
    rays = np.concatenate([window.rays, np.ones((len(window.rays), 1))], 1)
    return (window.T[window.host, :3, :3] @ rays[:, :, None])[..., 0]


def _in_camera(rotated, rho, origins, T):
    """Return points times inverse depth: in the map from the camera, in the camera; in front."""
    v = rotated + rho[:, None] * (origins - T[:, :3, 3])
    q = (np.swapaxes(T[:, :3, :3], 1, 2) @ v[:, :, None])[..., 0]
    return v, q, q[:, 2] > NEAREST


def _error(seen, q, front, roots):
    """Return errors of unit variance (N, 2), and the derivatives of the projection (N, 2, 3)."""
    z = np.where(front, q[:, 2], 1.0)
    x, y = q[:, 0] / z, q[:, 1] / z
    D = np.zeros((len(q), 2, 3))
    D[:, 0, 0] = D[:, 1, 1] = 1.0 / z
    D[:, 0, 2], D[:, 1, 2] = -x / z, -y / z
    error = np.where(front[:, None], seen - np.stack([x, y], 1), 0.0)
    return (roots @ error[:, :, None])[..., 0], roots @ D


def _derivatives(D, v, rho, hosts, T, information):
    """Return those by the pose (N, 2, 6) and by inverse depth (N, 2), C and h, see `_System`."""
    by_point = D @ T[:3, :3].T
    by_depth = (by_point @ (hosts[:, :3, 3] - T[:3, 3])[:, :, None])[..., 0]
    J = np.concatenate([-rho[:, None, None] * by_point, by_point @ skew(v)], 2)
    return (J, by_depth, J[:, 0] * by_depth[:, :1] + J[:, 1] * by_depth[:, 1:],
            (by_depth ** 2).sum(1) + information)


def _weights(squares):
    """
    Return weights; far from the solution all errors are large, so that width follows them.

    What is wrong with a part of the observations in common, as on a large thing that moves by
    itself, does not pull once the others agree.
    """
    scale = max(SMALLEST_SCALE, _scale(squares, BEST))
    return 1.0 / (1.0 + squares / (TAIL * scale) ** 2) ** 2


def _wide_weights(squares):
    """Return weights for a start that may be far off: even what is far pulls."""
    return 1.0 / (1.0 + squares / (TAIL * max(1.0, _scale(squares, 0.5))) ** 2)


def _scale(squares, part):
    """Return the standard deviation of two-dimensional normal errors from the smallest ones."""
    k = int(part * len(squares))
    return float(np.sqrt(np.partition(squares, k)[k] / (-2.0 * np.log(1.0 - part))))
