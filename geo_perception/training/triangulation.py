# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Points of key frames of a recording without depth, from several views whose poses are known.

Each key frame's features are matched with those of key frames that look at the same from
elsewhere, along their epipolar lines; what is seen by enough views lies where their rays pass
nearest to each other, refined until reprojection errors are least, and is kept where these are
small and the rays cross at an angle.
"""

import numpy as np

from geo_perception.datasets.frame import needed_camera
from geo_perception.datasets.readable import readable_frames
from geo_perception.geometry.se3 import inverse_transform, skew, transform_points
from geo_perception.inference.local_features import (
    comparable, FeatureDetector, squared_distances)
from geo_perception.inference.place import view_distance
from geo_perception.progress import track
from geo_perception.training.place_memory import KeyFrame, SMALLEST_NUMBER

# Key frames that a key frame is matched with, none farther in view than this (radians).
PARTNERS, FARTHEST_VIEW = 10, 0.7
# Matches lie this near to the epipolar line, points this near to where they are seen (radians).
EPIPOLAR, REPROJECTION = 0.006, 0.006
RATIO = 0.8
# Views of a point, and the angle between the outermost of its rays, at least.
SMALLEST_VIEWS, SMALLEST_PARALLAX = 2, np.deg2rad(1.5)
STEPS = 4
FARTHEST = 500.0


def triangulate_key_frames(sequence, indices, kind='sift'):
    """
    Return key frames of a recording that has no depth.

    Parameters
    ----------
    sequence : Sequence
        Frames with poses and intrinsics.
    indices : np.ndarray
        Which frames.
    kind : str
        Of features.

    Returns
    -------
    list of KeyFrame
        Without those that show too little with parallax.

    Raises
    ------
    RecordingError
        When a frame has no intrinsics.

    """
    detector, views = FeatureDetector(kind), []
    for i, frame in track(readable_frames(sequence, indices), 'Finding features',
                          total=len(indices)):
        needed_camera(frame, 'there is no place memory')
        features = detector(frame.image)
        K = frame.camera.K
        rays = (frame.camera.undistort_pixels(features.pixels) - K[:2, 2]) / (K[0, 0], K[1, 1])
        views.append((i, frame.T_world_camera, rays, features.descriptors,
                      comparable(features.descriptors, kind)))
    poses = np.array([view[1] for view in views])
    found = []
    for j in track(range(len(views)), 'Triangulating'):
        points, kept = _triangulate(views, poses, j)
        if len(kept) < SMALLEST_NUMBER:
            continue
        depth = transform_points(inverse_transform(poses[j]), points)[:, 2]
        found.append(KeyFrame(views[j][0], poses[j], points.astype(np.float32),
                              views[j][3][kept], float(np.median(depth))))
    return found


def _triangulate(views, poses, j):
    """Return points of one key frame, and which of its features they are."""
    _, T, rays, _, rows = views[j]
    step = np.linalg.norm(poses[:, :3, 3] - T[:3, 3], axis=1)
    # Depth is unknown: what counts is that the views turn little and stand apart.
    turn = view_distance(poses, T, np.inf)
    order = [k for k in np.argsort(turn + 1e-3 * step) if step[k] > 1e-6
             and turn[k] < FARTHEST_VIEW]
    # Far ones among them give parallax, near ones are matched surely.
    order = order[:3 * PARTNERS][::max(1, min(3, len(order) // PARTNERS))][:PARTNERS]
    partners = [j, *order]
    seen = np.full((len(partners), len(rays), 2), np.nan)
    seen[0] = rays
    for row, k in enumerate(partners[1:], 1):
        match = _epipolar_matches(inverse_transform(poses[k]) @ T, rays, rows, views[k][2],
                                  views[k][4])
        matched = match >= 0
        seen[row, matched] = views[k][2][match[matched]]
    known = np.isfinite(seen[..., 0])
    kept = np.flatnonzero(known.sum(0) >= SMALLEST_VIEWS)
    points, good = _locate(seen[:, kept], known[:, kept], poses[partners])
    return points[good], kept[good]


def _epipolar_matches(T_b_a, rays_a, rows_a, rays_b, rows_b):
    """Return for each feature of a which one of b shows the same, -1 for none."""
    match = np.full(len(rays_a), -1)
    if len(rays_a) < 2 or len(rays_b) < 2:
        return match
    E = skew(T_b_a[:3, 3]) @ T_b_a[:3, :3]
    lines = np.concatenate([rays_a, np.ones((len(rays_a), 1))], 1) @ E.T
    norm = np.maximum(np.linalg.norm(lines[:, :2], axis=1), 1e-12)
    off = np.abs(lines @ np.concatenate([rays_b, np.ones((len(rays_b), 1))], 1).T) / norm[:, None]
    unlike = squared_distances(rows_a, rows_b)
    # The rival may lie anywhere: along a line alone everything is the best.
    second = np.partition(unlike, 1, axis=1)[:, 1]
    unlike[off > EPIPOLAR] = np.inf
    best = unlike.argmin(1)
    every = np.arange(len(best))
    least = unlike[every, best]
    mutual = unlike.argmin(0)[best] == every
    rival = np.partition(np.where(unlike == least[:, None], np.inf, unlike), 0, axis=1)[:, 0]
    good = np.isfinite(least) & mutual & (least <= second) & (least < RATIO ** 2 * rival)
    match[good] = best[good]
    return match


def _locate(seen, known, poses):
    """Return points from rays of several views, and which can be believed."""
    R, centres = poses[:, :3, :3], poses[:, :3, 3]
    directions = np.einsum('vij,vnj->vni', R, np.concatenate(
        [np.where(known[..., None], seen, 0.0), np.ones((*seen.shape[:2], 1))], 2))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    # Nearest to all rays: sum of I - d d'.
    across = np.eye(3) - directions[..., None] * directions[..., None, :]
    across *= known[..., None, None]
    A = across.sum(0) + 1e-9 * np.eye(3)
    points = np.linalg.solve(A, np.einsum('vnij,vj->ni', across, centres)[..., None])[..., 0]
    for _ in range(STEPS):
        error, J, _ = _reprojected(points, seen, known, poses)
        weight = known / (1.0 + np.sum(error ** 2, 2) / REPROJECTION ** 2)
        H = np.einsum('vnki,vnkj,vn->nij', J, J, weight) + 1e-9 * np.eye(3)
        g = np.einsum('vnki,vnk,vn->ni', J, error, weight)
        points = points + np.linalg.solve(H, g[..., None])[..., 0]
        points = np.where(np.abs(points) < 1e4, points, 1e4)
    error, _, z = _reprojected(points, seen, known, poses)
    fits = known & (np.linalg.norm(error, axis=2) < REPROJECTION) & (z > 0)
    # The key frame's own view is the first one.
    cosines = np.einsum('vni,wni->nvw', directions, directions)
    pairs = fits.T[:, :, None] & fits.T[:, None, :]
    parallax = np.arccos(np.clip(np.where(pairs, cosines, 1.0).min((1, 2)), -1, 1))
    return points, (fits.sum(0) >= SMALLEST_VIEWS) & fits[0] & (
        parallax > SMALLEST_PARALLAX) & (z[0] < FARTHEST)


def _reprojected(points, seen, known, poses):
    """Return errors (V, N, 2), their derivatives by the points (V, N, 2, 3), and depths."""
    inverse = inverse_transform(poses)
    local = np.einsum('vij,nj->vni', inverse[:, :3, :3], points) + inverse[:, None, :3, 3]
    z = np.where(np.abs(local[..., 2]) > 1e-6, local[..., 2], 1e-6)
    x, y = local[..., 0] / z, local[..., 1] / z
    error = np.where(known[..., None], seen - np.stack([x, y], 2), 0.0)
    zero = np.zeros_like(z)
    by_local = np.stack([np.stack([1 / z, zero, -x / z], 2), np.stack([zero, 1 / z, -y / z], 2)],
                        2)
    return error, by_local @ inverse[:, None, :3, :3], local[..., 2]
