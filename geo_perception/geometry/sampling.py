# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Bilinear sampling and warping that gradients flow through (sfmlearner.md section 3.4)."""

import torch
from torch.nn import functional as F

from geo_perception.geometry.constants import constant
from geo_perception.geometry.projection import pixel_grid, project_pixels, SMALLEST_Z

# inclusive: the last row and column count; published: they do not, and what is outside is 0.
BORDERS = ('inclusive', 'published')


def sample(image, pixels, border='inclusive'):
    """
    Return an image at fractional pixels.

    Parameters
    ----------
    image : torch.Tensor
        Shape (B, C, H, W).
    pixels : torch.Tensor
        (x, y), pixel centres are integers, shape (B, 2, h, w).
    border : str
        ``inclusive``: the image reaches from 0 to W - 1, and outside its border is repeated.
        ``published``: from 0 to W - 1 exclusive, and outside is 0 without gradient, so that the
        last row and column are never seen.

    Returns
    -------
    values : torch.Tensor
        Shape (B, C, h, w).
    valid : torch.Tensor
        Whether the pixel lies inside, bool, shape (B, 1, h, w).

    """
    height, width = image.shape[2:]
    x, y = pixels.unbind(1)
    if border == 'published':
        valid = (x >= 0) & (x < width - 1) & (y >= 0) & (y < height - 1)
    else:
        valid = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    limit = constant(pixels, width - 1, height - 1)
    grid = 2.0 * pixels.permute(0, 2, 3, 1) / limit - 1.0
    if border == 'published':
        grid = torch.where(valid[..., None], grid, 2.0)
        values = F.grid_sample(image, grid, padding_mode='zeros', align_corners=True)
    else:
        # Far outside coordinates overflow when they are turned into indices.
        values = F.grid_sample(image, grid.clamp(-2.0, 2.0), padding_mode='border',
                               align_corners=True)
    return values, valid[:, None]


def inverse_warp(source, depth, T_source_target, K, border='inclusive'):
    """
    Return the target view made from a source image, by the depth of the target.

    Parameters
    ----------
    source : torch.Tensor
        Shape (B, C, H, W).
    depth : torch.Tensor
        Of the target, shape (B, 1, H, W).
    T_source_target : torch.Tensor
        Shape (B, 4, 4).
    K : torch.Tensor
        Shape (B, 3, 3).
    border : str
        As for `sample`.

    Returns
    -------
    warped : torch.Tensor
        Shape (B, C, H, W).
    valid : torch.Tensor
        Whether the pixel is seen in the source, bool, shape (B, 1, H, W).

    """
    pixels, z = project_pixels(depth, T_source_target, K)
    warped, inside = sample(source, pixels, border)
    return warped, inside & (z > SMALLEST_Z)


def flow_warp(source, flow, border='inclusive'):
    """
    Return the target view made from a source image, by optical flow.

    Parameters
    ----------
    source : torch.Tensor
        Shape (B, C, H, W).
    flow : torch.Tensor
        From target to source, pixels, shape (B, 2, H, W).
    border : str
        As for `sample`.

    Returns
    -------
    warped : torch.Tensor
        Shape (B, C, H, W).
    valid : torch.Tensor
        Whether the flow stays inside, bool, shape (B, 1, H, W).

    """
    return sample(source, pixel_grid(*flow.shape[2:], flow)[:2] + flow, border)


def shift_columns(image, offset, border='inclusive'):
    """
    Return an image sampled beside each pixel, in the same row (monodepth.md section 8).

    Parameters
    ----------
    image : torch.Tensor
        Shape (B, C, H, W).
    offset : torch.Tensor
        How far to the right, parts of the width, shape (B, 1, H, W).
    border : str
        ``inclusive``: outside the border is repeated. ``published``: outside is 0, and within
        one pixel of the border the image fades into it.

    Returns
    -------
    values : torch.Tensor
        Shape (B, C, H, W).
    valid : torch.Tensor
        Whether the pixel lies inside, bool, shape (B, 1, H, W).

    """
    height, width = image.shape[2:]
    pixels = pixel_grid(height, width, offset)[:2].expand(len(image), 2, height, width)
    pixels = torch.stack([pixels[:, 0] + width * offset[:, 0], pixels[:, 1]], 1)
    if border == 'inclusive':
        return sample(image, pixels)
    valid = (pixels[:, :1] >= 0) & (pixels[:, :1] <= width - 1)
    limit = constant(pixels, width - 1, height - 1)
    grid = 2.0 * pixels.permute(0, 2, 3, 1) / limit - 1.0
    # Far outside coordinates overflow when they are turned into indices.
    return F.grid_sample(image, grid.clamp(-3.0, 3.0), padding_mode='zeros',
                         align_corners=True), valid


def area_pyramid(image, levels):
    """
    Return an image in halving sizes, each pixel the mean of those it covers.

    Parameters
    ----------
    image : torch.Tensor
        Shape (B, C, H, W), multiples of ``2^(levels - 1)``.
    levels : int
        How many, the full image included.

    Returns
    -------
    list of torch.Tensor
        Shapes (B, C, H / 2^s, W / 2^s), the full image first.

    """
    pyramid = [image]
    for _ in range(levels - 1):
        pyramid.append(F.avg_pool2d(pyramid[-1], 2))
    return pyramid
