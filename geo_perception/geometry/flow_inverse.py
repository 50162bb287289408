# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The way back: flow of the later image, made of that of the earlier one."""

import cv2
import numpy as np

# Depths within this factor are of one surface, and so are flows that differ by less, pixels.
_SAME_DEPTH, _SAME_FLOW = 1.05, 1.0
# Of a pixel that must be covered; less is the rim of what came from elsewhere.
_SMALLEST_COVER = 0.5


def inverse_flow(flow, depth=None):
    """
    Return the flow from the second image to the first.

    Parameters
    ----------
    flow : np.ndarray
        From the first image to the second, pixels, shape (H, W, 2), NaN where unknown. It may be
        of surfaces that are hidden in the second image.
    depth : np.ndarray, optional
        Of the first image, shape (H, W); where surfaces come to lie over each other the nearer
        one is seen. Without it nothing is known there.

    Returns
    -------
    np.ndarray
        Of each pixel of the second image, pixels, float32, shape (H, W, 2), NaN where no known
        surface of the first image came to lie.

    """
    height, width = flow.shape[:2]
    depth = np.ones((height, width), np.float32) if depth is None else depth
    known = np.isfinite(flow).all(-1) & np.isfinite(depth)
    v, u = np.nonzero(known)
    ends = np.stack([u, v], 1) + flow[known]
    # Each surface covers parts of four pixels.
    corners = [_corner(ends, dx, dy) for dy in (0, 1) for dx in (0, 1)]
    x, y, cover = (np.concatenate(values) for values in zip(*corners))
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (cover > 0)
    at, cover = (y * width + x)[inside], cover[inside]
    moved, away = np.tile(flow[known], (4, 1))[inside], np.tile(depth[known], 4)[inside]
    nearest = np.full(height * width, np.inf)
    np.minimum.at(nearest, at, away)
    seen = away <= _SAME_DEPTH * nearest[at]
    at, cover, moved = at[seen], cover[seen], moved[seen]
    total = np.bincount(at, cover, height * width)
    back, doubt = np.full((height * width, 2), np.nan), total < _SMALLEST_COVER
    for i in (0, 1):
        least, most = np.full((2, height * width), [[np.inf], [-np.inf]])
        np.minimum.at(least, at, moved[:, i])
        np.maximum.at(most, at, moved[:, i])
        doubt |= ~(most - least < _SAME_FLOW)
        back[:, i] = -np.bincount(at, cover * moved[:, i], height * width) / np.maximum(
            total, 1e-9)
    back[doubt] = np.nan
    return _refined(back.reshape(height, width, 2).astype(np.float32), flow)


def _corner(ends, dx, dy):
    """Return one of the pixels around each place, and how much of it is covered from there."""
    x, y = np.floor(ends).T + [[dx], [dy]]
    cover = (1 - np.abs(ends[:, 0] - x)) * (1 - np.abs(ends[:, 1] - y))
    return x.astype(int), y.astype(int), cover


def _refined(back, flow):
    """Return the flow where it truly comes from, which is between the pixels."""
    rows, columns = np.indices(back.shape[:2], np.float32)
    found = -cv2.remap(np.asarray(flow, np.float32), columns + back[..., 0],
                       rows + back[..., 1], cv2.INTER_LINEAR)
    same = np.abs(found - back).max(-1, keepdims=True) < _SAME_FLOW / 2
    return np.where(same, found, back)
