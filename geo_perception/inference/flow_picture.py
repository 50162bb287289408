# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Flow as a picture: direction as colour, length as saturation."""

import numpy as np

# Steps from red over yellow, green, cyan, blue and magenta to red, in the unequal numbers of the
# usual colour wheel (Baker et al. 2011), so that eyes see equal steps.
_STEPS = (15, 6, 4, 11, 13, 6)
_CORNERS = np.array([[255, 0, 0], [255, 255, 0], [0, 255, 0], [0, 255, 255], [0, 0, 255],
                     [255, 0, 255], [255, 0, 0]], float)
_WHEEL = np.concatenate([
    a + (b - a) * np.arange(n)[:, None] / n
    for a, b, n in zip(_CORNERS, _CORNERS[1:], _STEPS)])
# Longer flows than that of this part of the pixels have the full colour.
LONGEST_PART = 0.99


def flow_picture(flow, longest=None):
    """
    Return a picture of flow: rightwards is red, downwards yellow, leftwards cyan, upwards violet.

    Parameters
    ----------
    flow : np.ndarray
        Pixels, NaN where unknown, shape (H, W, 2).
    longest : float, optional
        Pixels of the full colour; by default of the longest flow in the picture, nearly.

    Returns
    -------
    np.ndarray
        uint8 RGB, shape (H, W, 3): no flow is white, unknown is black.

    """
    known = np.isfinite(flow).all(-1)
    u, v = np.moveaxis(np.where(known[..., None], flow, 0.0).astype(float), -1, 0)
    length = np.hypot(u, v)
    if longest is None:
        longest = np.quantile(length[known], LONGEST_PART) if known.any() else 1.0
    length = np.minimum(length / max(longest, 1e-9), 1.0)[..., None]
    place = np.arctan2(v, u) % (2 * np.pi) / (2 * np.pi) * len(_WHEEL)
    lower = place.astype(int) % len(_WHEEL)
    part = (place - np.floor(place))[..., None]
    colour = (1 - part) * _WHEEL[lower] + part * _WHEEL[(lower + 1) % len(_WHEEL)]
    colour = 255 - length * (255 - colour)
    return np.where(known[..., None], colour, 0).round().astype(np.uint8)
