# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Whether the flows of two images undo each other (geonet.md section 2.3)."""

import torch

from geo_perception.geometry.sampling import flow_warp

# Flows that miss each other by less than this many pixels of the full image are consistent, or by
# less than this part of their length.
LARGEST_PIXELS, LARGEST_PART = 3.0, 0.05
# Under the root, so that the norm of nothing has a gradient.
_TINY = 1e-10


def flow_length(flow):
    """
    Return how long flow is.

    Parameters
    ----------
    flow : torch.Tensor
        Shape (B, 2, H, W).

    Returns
    -------
    torch.Tensor
        Shape (B, 1, H, W).

    """
    return (flow.square().sum(1, keepdim=True) + _TINY).sqrt()


def round_trip(flow, back, border='inclusive'):
    """
    Return how far from home one is after following a flow, and then the one of the other image.

    Parameters
    ----------
    flow : torch.Tensor
        From one image to another, pixels, shape (B, 2, H, W).
    back : torch.Tensor
        From the other image to the first, same shape.
    border : str
        As for `geo_perception.geometry.sampling.sample`; ``published`` takes no flow back where
        the first one leaves the image.

    Returns
    -------
    miss : torch.Tensor
        ``flow(p) + back(p + flow(p))``, pixels, shape (B, 2, H, W).
    inside : torch.Tensor
        Whether the first flow stays in the image, bool, shape (B, 1, H, W).

    """
    there, inside = flow_warp(back, flow, border)
    return flow + there, inside


def consistent(flow, miss, level=0, largest_pixels=LARGEST_PIXELS, largest_part=LARGEST_PART):
    """
    Return where flow may be believed, without gradient.

    Parameters
    ----------
    flow, miss : torch.Tensor
        See `round_trip`, at one level of a pyramid, shape (B, 2, H, W).
    level : int
        Halvings of the size: bounds are in pixels of the full image.
    largest_pixels, largest_part : float
        Bounds of the length of the miss: pixels, or part of the length of the flow, whichever is
        more.

    Returns
    -------
    torch.Tensor
        Bool, shape (B, 1, H, W).

    """
    scale = 2.0 ** level
    with torch.no_grad():
        bound = (largest_part * scale * flow_length(flow)).clamp_min(largest_pixels)
        return flow_length(miss) * scale < bound
