# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
The ground in a depth image or among points, and how high the camera is over it.

On a plane ``n . P = h`` inverse depth is linear in the image: ``1 / z = (n / h) . ray``. Planes
are fitted there, where the error of a network is about the same near and far.
"""

import numpy as np

# Where the ground is looked for: the lowest part of the image.
LOWEST_PART = 0.4
# So many pixels of it are enough.
SAMPLES = 2000
HYPOTHESES = 100
REFINEMENTS = 5
# A pixel lies on the plane when its inverse depth is right to this part.
TOLERANCE = 0.07
# At least this part of the pixels must lie on it.
SMALLEST_SHARE = 0.5
# Among points, which are few, at least so many and this part of those below the horizon; nearer to
# it than this (radians) the ground is far and little of what is seen.
SMALLEST_NUMBER, SMALLEST_SHARE_OF_POINTS = 15, 0.3
BELOW_HORIZON = np.deg2rad(4)
# The ground may be this oblique to where it is expected, radians.
LARGEST_TILT = np.deg2rad(20)


def camera_height(depth, camera, pitch=0.0, roll=0.0):
    """
    Return the height of the camera over the ground.

    Parameters
    ----------
    depth : np.ndarray
        Any unit, NaN where unknown, shape (H, W).
    camera : Camera
        Its intrinsics, no distortion.
    pitch, roll : float
        How far the camera looks down and is turned clockwise about its axis, radians.

    Returns
    -------
    float or None
        In the unit of the depth; None where no ground is seen.

    """
    first = int((1 - LOWEST_PART) * depth.shape[0])
    random = np.random.default_rng(0)
    v = random.integers(first, depth.shape[0], SAMPLES)
    u = random.integers(0, depth.shape[1], SAMPLES)
    inverse = 1.0 / depth[v, u].astype(float)
    known = np.isfinite(inverse) & (inverse > 0)
    if known.sum() < SAMPLES // 4:
        return None
    rays = np.stack([u, v, np.ones(SAMPLES)], 1)[known] @ np.linalg.inv(camera.K).T
    plane, share = _fit(rays, inverse[known], down(pitch, roll), random)
    if plane is None or share < SMALLEST_SHARE:
        return None
    return float(1.0 / np.linalg.norm(plane))


def height_over_points(points, pitch=0.0, roll=0.0):
    """
    Return the height of the camera over the ground that some points are of.

    Parameters
    ----------
    points : np.ndarray
        In the camera, any unit, shape (N, 3).
    pitch, roll : float
        See `camera_height`.

    Returns
    -------
    float or None
        In the unit of the points; None where they show no ground.

    """
    expected = down(pitch, roll)
    below = points @ expected > np.sin(BELOW_HORIZON) * np.linalg.norm(points, axis=1)
    points = points[below & (points[:, 2] > 0)]
    if len(points) < SMALLEST_NUMBER:
        return None
    plane, share = _fit(points / points[:, 2:], 1.0 / points[:, 2], expected,
                        np.random.default_rng(0))
    if plane is None or share < SMALLEST_SHARE_OF_POINTS or share * len(points) < SMALLEST_NUMBER:
        return None
    return float(1.0 / np.linalg.norm(plane))


def down(pitch, roll):
    """
    Return the direction of gravity in the optical frame of a camera.

    Parameters
    ----------
    pitch, roll : float
        How far it looks down and is turned clockwise about its axis, radians.

    Returns
    -------
    np.ndarray
        Unit vector, shape (3,); (0, 1, 0) for a level camera.

    """
    return np.array([np.sin(roll) * np.cos(pitch), np.cos(roll) * np.cos(pitch), np.sin(pitch)])


def _fit(rays, inverse, expected, random):
    """Return ``n / h`` and the share of pixels on that plane, None and 0 where there is none."""
    triples = random.integers(0, len(rays), (HYPOTHESES, 3))
    M = rays[triples]
    good = np.abs(np.linalg.det(M)) > 1e-9
    planes = np.linalg.solve(M[good], inverse[triples[good]][..., None])[..., 0]
    planes = planes[_upright(planes, expected)]
    if not len(planes):
        return None, 0.0
    near = _lie_on(planes, rays, inverse)
    best = near[near.sum(1).argmax()]
    for _ in range(REFINEMENTS):
        if best.sum() < 3:
            return None, 0.0
        plane = np.linalg.lstsq(rays[best], inverse[best], rcond=None)[0]
        best = _lie_on(plane[None], rays, inverse)[0]
    return (plane, best.mean()) if _upright(plane[None], expected)[0] else (None, 0.0)


def _lie_on(planes, rays, inverse):
    """Return which pixels lie on which planes, shape (planes, pixels)."""
    # In parts of the plane's inverse depth: in parts of the pixel's, near ones would be preferred
    # among noisy pixels.
    expected = planes @ rays.T
    return np.abs(expected - inverse) < TOLERANCE * np.abs(expected)


def _upright(planes, expected):
    """Return which planes lie below the camera, about level."""
    norms = np.maximum(np.linalg.norm(planes, axis=1), 1e-12)
    return planes @ expected / norms > np.cos(LARGEST_TILT)
