# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Images of a recorded place from poses where no image was taken.

A regressor learns little about position from one path: every image it sees lies on it. Where the
recording has depth, its surfaces are known, and frames can be warped to poses between and beside
those that were recorded.
"""

from dataclasses import dataclass

import numpy as np

from geo_perception.datasets.readable import readable_frames
from geo_perception.errors import ConfigurationError
from geo_perception.geometry.se3 import (
    interpolate_transform, matrix_from_rotation_vector, rotation_angle, transform_points)
from geo_perception.geometry.warp import close_surfaces, splat_depth, warp_image
from geo_perception.progress import track

VOXEL_M = 0.02
LARGEST_CLOUD = 250_000
# Points of several frames are thinned together when this many have gathered.
WAITING_POINTS = 3_000_000
# A metre of distance costs as much as this many radians when the next best frame is chosen.
RADIANS_PER_METRE = 0.8
# The first frame warped is one of this many nearest; the holes are filled from farther ones.
SOURCES = ((0, 6), (10, 20), (30, 50), (60, 80))
SMALLEST_COVERAGE = 0.6
# Views lie between recorded poses that are no farther apart than this.
LARGEST_GAP_M = 1.2
LARGEST_GAP_RAD = 0.8
# So many views in a row that show less are no chance any more.
LARGEST_REJECTION = 100


@dataclass(frozen=True)
class NovelViews:
    """
    How many views to render, and how far from the path.

    Attributes
    ----------
    count : int
        Views; 0 renders none.
    position_m : float
        Standard deviation of the distance, along each axis, from a pose between two recorded
        ones, metres.
    rotation_deg : float
        The same about each axis, degrees.

    """

    count: int = 0
    position_m: float = 0.15
    rotation_deg: float = 9.0


def fuse_depth(sequence):
    """
    Return the surfaces of a recording as one point cloud.

    Parameters
    ----------
    sequence : Sequence
        Frames with poses and intrinsics, at least some with registered depth.

    Returns
    -------
    np.ndarray
        World points, metres, shape (N, 3), float32, one a 2 cm cell; none where no frame has
        depth and intrinsics.

    """
    clouds, size = [], 0
    for _, frame in track(readable_frames(sequence), 'Fusing depth', total=len(sequence)):
        if frame.depth is None or frame.camera is None:
            continue
        camera = frame.camera.resized(frame.depth.shape[1], frame.depth.shape[0])
        # Every other row and column: neighbours fall into one cell anyway.
        seen = (camera.rays() * frame.depth[..., None])[::2, ::2].reshape(-1, 3)
        seen = seen[np.isfinite(seen).all(1)]
        seen = transform_points(frame.T_world_camera, seen).astype(np.float32)
        clouds.append(_thin(seen))
        size += len(clouds[-1])
        if size > WAITING_POINTS:
            clouds = [_thin(np.concatenate(clouds))]
            size = len(clouds[0])
    if not size:
        return np.zeros((0, 3), np.float32)
    points = _thin(np.concatenate(clouds))
    if len(points) > LARGEST_CLOUD:
        points = points[np.random.default_rng(0).permutation(len(points))[:LARGEST_CLOUD]]
    return points


def _thin(points):
    """Return one point of each cell."""
    cells = np.floor(points / VOXEL_M).astype(np.int64)
    key = (cells[:, 0] * 2_000_003 + cells[:, 1]) * 2_000_003 + cells[:, 2]
    return points[np.unique(key, return_index=True)[1]]


class NovelViewRenderer:
    """
    Draws random views around a recorded path.

    Parameters
    ----------
    images : np.ndarray
        Resized frames, uint8, shape (N, H, W, 3).
    poses : np.ndarray
        Their ``T_world_camera``, shape (N, 4, 4).
    camera : Camera
        Intrinsics of the resized frames.
    points : np.ndarray
        From `fuse_depth`.
    options : NovelViews
        How far views lie from the path.

    """

    def __init__(self, images, poses, camera, points, options):
        self._images, self._poses, self._camera = images, poses, camera
        self._points, self._options = points, options
        # Depth is smooth: half the size is enough, at a quarter of the time.
        self._coarse = camera.resized(camera.width // 2, camera.height // 2)

    def draw(self, random):
        """
        Return one view.

        Parameters
        ----------
        random : np.random.Generator
            Source of chance.

        Returns
        -------
        image : np.ndarray
            (H, W, 3) uint8 RGB.
        T_world_camera : np.ndarray
            4x4.
        sources : np.ndarray
            Indices of the frames that it may show pixels of, shape (4,), -1 for none.

        Raises
        ------
        ConfigurationError
            When views so far from the path show next to nothing that was recorded.

        """
        for _ in range(LARGEST_REJECTION):
            first = self._poses[random.integers(len(self._poses))]
            second = self._poses[random.choice(np.flatnonzero(self._near(first)))]
            T = interpolate_transform(first, second, random.uniform())
            T[:3, 3] += random.normal(size=3) * self._options.position_m
            turn = random.normal(size=3) * np.deg2rad(self._options.rotation_deg)
            T[:3, :3] = T[:3, :3] @ matrix_from_rotation_vector(turn)
            image, coverage, sources = self._render(T, random)
            if coverage >= SMALLEST_COVERAGE:
                return image, T, sources
        raise ConfigurationError(
            f'{LARGEST_REJECTION} views in a row showed too little of what was recorded; lower '
            f'data.novel_views.position_m ({self._options.position_m}) and rotation_deg '
            f'({self._options.rotation_deg}), or check the depth of the recording')

    def _near(self, T):
        """Return which recorded poses are near enough for views between them."""
        distance = np.linalg.norm(self._poses[:, :3, 3] - T[:3, 3], axis=1)
        angle = rotation_angle(self._poses[:, :3, :3], T[:3, :3])
        return (distance < LARGEST_GAP_M) & (angle < LARGEST_GAP_RAD)

    def _render(self, T, random):
        """Return the view from a pose, the share of it that was really seen, and by whom."""
        sources = np.full(len(SOURCES), -1)
        depth = close_surfaces(splat_depth(self._points, self._coarse, T))
        if np.isnan(depth).any():
            return None, 0.0, sources
        rows = np.arange(self._camera.height) * depth.shape[0] // self._camera.height
        columns = np.arange(self._camera.width) * depth.shape[1] // self._camera.width
        depth = depth[rows][:, columns]
        cost = rotation_angle(self._poses[:, :3, :3], T[:3, :3]) + RADIANS_PER_METRE * (
            np.linalg.norm(self._poses[:, :3, 3] - T[:3, 3], axis=1))
        nearest = np.argsort(cost)
        view, seen = None, np.zeros(depth.shape, bool)
        for i, (first, last) in enumerate(SOURCES):
            if first >= len(nearest):
                break
            source = sources[i] = nearest[random.integers(first, min(last, len(nearest)))]
            warped, inside = warp_image(self._images[source], self._camera, self._poses[source],
                                        depth, T)
            view = warped if view is None else np.where((inside & ~seen)[..., None], warped, view)
            seen |= inside
        return view, seen.mean(), sources
