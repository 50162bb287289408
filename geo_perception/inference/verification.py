# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Exactly where, from roughly where: points of the map are looked for where they should be seen.

The features of the key frames that look most like the hypothesis are projected by it and matched
within a window; SQPNP in a robust estimator finds the pose, which is refined twice with what lies
near the projections of the closest key frames. A dense matrix of distances is faster here than
any tree: a few hundred features times two thousand points.
"""

from dataclasses import dataclass, field
from typing import Dict

import numpy as np

from geo_perception.geometry.perspective_n_point import refine_pose, solve_pose
from geo_perception.geometry.se3 import inverse_transform, rotation_angle, transform_points
from geo_perception.inference.gate import CELLS, Evidence
from geo_perception.inference.local_features import (
    comparable, FeatureDetector, squared_distances)
from geo_perception.inference.place import view_distance

# Key frames to match with at first; the poses of farther ones are less consistent with this one.
NEIGHBOURS = 8
# Key frames that the pose is refined with; so often, unless what is seen hardly moved (radians).
CLOSEST, REFINEMENTS, SETTLED = 4, 2, 0.01
# The key frame that most of the image looks like counts with those that look like it, radians.
ALIKE = 0.2
# Windows around projections, and reprojection errors, as angles: pixels over the focal length.
WINDOW, WIDE_WINDOW, NARROW_WINDOW = 0.23, 0.6, 0.046
THRESHOLD, REFINED_THRESHOLD = 0.023, 0.030
# A match is better than the next best point of another place by this.
RATIO, NARROW_RATIO = 0.85, 0.95
# Points nearer to each other than this part of their depth are the same one.
SAME_POINT = 0.03
# Descriptors further apart are never of the same point.
LARGEST_DISTANCE = {'sift': 250.0, 'orb': 9.5}
# What is nearer to the camera than this is not looked for, metres.
NEAREST = 0.1
FAR = np.float32(1e6)
# The coarse pose tells points apart that are farther from each other than this many of its
# standard deviations: in views unlike the training frames networks are far too sure.
DISTINCT = 12.0


@dataclass(frozen=True)
class Verification:
    """
    A pose found from points of the map.

    Attributes
    ----------
    T_world_camera : np.ndarray
        4x4, world of the training labels.
    covariance : np.ndarray
        6x6 as the solver has it: too small, see `Place.calibration`.
    evidence : Evidence
        What speaks for it.
    view : float
        View distance to the nearest key frame, radians.
    depth : float
        How far the scene is there, metres.
    focal_error : float
        By how much of itself the focal length seems too small; NaN where the points do not tell.
    ambiguity : float
        Share of the points that fit of which another one looks the same, nearer than the coarse
        pose can tell.

    """

    T_world_camera: np.ndarray
    covariance: np.ndarray
    evidence: Evidence
    view: float
    depth: float
    focal_error: float
    ambiguity: float


@dataclass(frozen=True)
class Query:
    """
    The features of one image, ready to be matched.

    Attributes
    ----------
    pixels : np.ndarray
        Without distortion, float64, shape (N, 2).
    rows : np.ndarray
        Comparable descriptors, shape (N, C).
    camera : Camera
        Of the image.
    unlike : dict of int to np.ndarray
        How unlike the points of a key frame are, squared, for those that were asked for: the steps
        of a search ask for much the same ones, and the product takes the most time of all.

    """

    pixels: np.ndarray
    rows: np.ndarray
    camera: object
    unlike: Dict = field(default_factory=dict)


class Verifier:
    """
    Finds poses in a place.

    Parameters
    ----------
    place : Place
        The memory.

    Attributes
    ----------
    place : Place
        The same.

    """

    def __init__(self, place):
        self.place = place
        self._detector = FeatureDetector(place.features)
        self._rows = comparable(place.descriptors, place.features)
        # Of each point: its key frame, and how near others are the same one.
        self._frames = np.repeat(np.arange(len(place.poses)), np.diff(place.first))
        self._same = (SAME_POINT * place.depths[self._frames]).astype(np.float32)

    def look(self, image, camera):
        """
        Return the features of an image.

        Parameters
        ----------
        image : np.ndarray
            (H, W, 3) uint8 RGB.
        camera : Camera
            Its intrinsics.

        Returns
        -------
        Query

        """
        features = self._detector(image)
        return Query(camera.undistort_pixels(features.pixels),
                     comparable(features.descriptors, self.place.features), camera)

    def recognise(self, query, forgotten=None):
        """
        Return the view of the key frame that an image looks most like, whatever the coarse pose.

        Each feature votes for the key frame that shows it, where no point elsewhere rivals it.

        Parameters
        ----------
        query : Query
            From `look`.
        forgotten : np.ndarray, optional
            Key frames not to be used, bool, shape (M,).

        Returns
        -------
        np.ndarray or None
            ``T_world_camera``; None where nothing is recognised.

        """
        place = self.place
        frames = np.arange(len(place.poses))
        frames = frames if forgotten is None else frames[~forgotten]
        if not len(query.rows) or not len(frames):
            return None
        rows = place.rows(frames)
        _, best = self._unambiguous(self._unlike(query, frames), rows, RATIO)
        votes = np.bincount(self._frames[rows[best]], minlength=len(place.poses)).astype(float)
        if not votes.any():
            return None
        likely = np.argsort(-votes, kind='stable')[:NEIGHBOURS]
        support = (place.view_distances(place.poses[likely]) < ALIKE) @ votes
        return place.poses[likely[np.argmax(support)]]

    def __call__(self, query, hypothesis, coarse, sigmas, forgotten=None, window=WINDOW):
        """
        Look for the pose of an image near a hypothesis.

        Parameters
        ----------
        query : Query
            From `look`.
        hypothesis : np.ndarray
            ``T_world_camera`` to begin with, 4x4.
        coarse : np.ndarray
            What the network says, 4x4.
        sigmas : tuple of float
            Its standard deviations: metres, radians.
        forgotten : np.ndarray, optional
            Key frames not to be used, bool, shape (M,).
        window : float
            How far from where the hypothesis has them points are looked for, radians.

        Returns
        -------
        Verification or None
            None where no pose was found.

        """
        K = query.camera.K
        focal = float(np.sqrt(K[0, 0] * K[1, 1]))
        near = self._nearest(hypothesis, NEIGHBOURS, forgotten)[0]
        rows, pixels = self._matches(query, near, hypothesis, window * focal, RATIO)
        found = solve_pose(self.place.points[rows], pixels, K, THRESHOLD * focal)
        if found is None:
            return None
        first_inliers = int(found.inliers.sum())
        first_share = first_inliers / len(rows)
        for _ in range(REFINEMENTS):
            T = found.T_world_camera
            near, view = self._nearest(T, CLOSEST, forgotten)
            rows, pixels = self._matches(query, near, T, NARROW_WINDOW * focal, NARROW_RATIO)
            if len(rows) == 0:
                return None
            points = self.place.points[rows].astype(float)
            found = refine_pose(points, pixels, K, T, REFINED_THRESHOLD * focal)
            if found is None:
                return None
            if view_distance(T, found.T_world_camera, self.place.depths[near[0]]) < SETTLED:
                break
        inside = found.inliers
        cells = np.floor(pixels[inside] * CELLS / (query.camera.width, query.camera.height))
        cells = np.unique(np.clip(cells, 0, CELLS - 1) @ (1, CELLS))
        T, depth = found.T_world_camera, float(self.place.depths[near[0]])
        disagreement = max(np.linalg.norm(T[:3, 3] - coarse[:3, 3]) / sigmas[0],
                           rotation_angle(T[:3, :3], coarse[:3, :3]) / sigmas[1])
        return Verification(
            T, found.covariance,
            Evidence(first_inliers, first_share, int(inside.sum()), float(inside.mean()),
                     len(cells) / CELLS ** 2, float(np.median(found.errors[inside])) / focal,
                     float(disagreement), _uncertainty(found.covariance, depth)),
            float(view[0]), depth, focal_error(points[inside], pixels[inside], K, T),
            float(np.mean(self.place.repeats[rows[inside]] < DISTINCT * sigmas[0])))

    def _nearest(self, T, count, forgotten):
        """Return the key frames that look most like a view, nearest first, and how unlike."""
        view = self.place.view_distances(T)
        if forgotten is not None:
            view = np.where(forgotten, np.inf, view)
        order = np.argsort(view, kind='stable')[:count]
        order = order[np.isfinite(view[order])]
        return order, view[order]

    def _matches(self, query, frames, T, window, ratio):
        """Return which points of key frames the image shows, and where."""
        rows = self.place.rows(frames)
        seen = transform_points(inverse_transform(T), self.place.points[rows])
        z = np.maximum(seen[:, 2], NEAREST)
        at = (seen[:, :2] @ query.camera.K[:2, :2].T / z[:, None]
              + query.camera.K[:2, 2]).astype(np.float32)
        size = np.array([query.camera.width, query.camera.height])
        visible = (seen[:, 2] > NEAREST) & ((at > -window) & (at < size + window)).all(1)
        pixels = query.pixels.astype(np.float32)
        if not visible.any() or not len(pixels):
            return np.zeros(0, int), np.zeros((0, 2))
        at[~visible] = -FAR
        # In one piece of memory: fresh memory takes longer than the differences.
        apart = pixels[:, :1] - at[:, 0]
        near = np.abs(apart, out=apart) <= window
        np.subtract(pixels[:, 1:], at[:, 1], out=apart)
        near &= np.abs(apart, out=apart) <= window
        unlike = np.where(near, self._unlike(query, frames), FAR)
        features, best = self._unambiguous(unlike, rows, ratio)
        return rows[best], query.pixels[features]

    def _unlike(self, query, frames):
        """Return how unlike the points of key frames are, in their order."""
        missing = [i for i in frames if i not in query.unlike]
        if missing:
            found = squared_distances(query.rows, self._rows[self.place.rows(missing)])
            bounds = np.cumsum(np.diff(self.place.first)[missing])[:-1]
            query.unlike.update(zip(missing, np.split(found, bounds, axis=1)))
            if len(missing) == len(frames):
                return found
        return np.concatenate([query.unlike[i] for i in frames], axis=1)

    def _unambiguous(self, unlike, rows, ratio):
        """Return which features have a match that no point of another place rivals, and it."""
        every, best = np.arange(len(unlike)), unlike.argmin(1)
        nearest = unlike[every, best]
        kept = nearest < LARGEST_DISTANCE[self.place.features] ** 2
        limit = np.where(kept, np.minimum(nearest / ratio ** 2, FAR), 0.0)
        # Flat, which NumPy is several times faster at.
        i, j = np.divmod(np.flatnonzero(unlike < limit[:, None]), unlike.shape[1])
        chosen = rows[best[i]]
        apart = np.linalg.norm(self.place.points[rows[j]] - self.place.points[chosen], axis=1)
        kept[i[apart > self._same[chosen]]] = False
        return every[kept], best[kept]


def _uncertainty(covariance, depth):
    """Return the standard deviation of a pose as an angle."""
    variances = np.diag(covariance)
    return float(max(np.sqrt(variances[:3].sum()) / depth, np.sqrt(variances[3:].sum())))


def focal_error(points, pixels, K, T_world_camera):
    """
    Return by how much of itself the focal length seems too small.

    It is solved for together with the pose, to first order: points at different depths tell it
    from a step forward.

    Parameters
    ----------
    points : np.ndarray
        In the world, shape (N, 3).
    pixels : np.ndarray
        Where they are seen, shape (N, 2).
    K : np.ndarray
        Intrinsics, 3x3.
    T_world_camera : np.ndarray
        The pose, 4x4.

    Returns
    -------
    float
        NaN where the points do not tell.

    """
    x, y, z = transform_points(inverse_transform(T_world_camera), points).T
    x, y = x / z, y / z
    zero, one = np.zeros_like(x), np.ones_like(x)
    rays = np.stack([x, y], 1)
    errors = (pixels - K[:2, 2]) / (K[0, 0], K[1, 1]) - rays
    # A step and a turn of the camera, and the focal length, move what is seen.
    J = np.concatenate([
        np.stack([-one / z, zero, x / z, x * y, -(1 + x * x), y, x], 1),
        np.stack([zero, -one / z, y / z, 1 + y * y, -x * y, -x, y], 1)])
    solution, _, rank, _ = np.linalg.lstsq(J, errors.T.ravel(), rcond=1e-6)
    return float(solution[6]) if rank == 7 else float('nan')
