# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""How different two images are, pixel by pixel (geonet.md section 2.1, sfmlearner.md 8.1)."""

import torch
from torch.nn import functional as F

from geo_perception.geometry.projection import pyramid_intrinsics
from geo_perception.geometry.sampling import area_pyramid, inverse_warp

# Constants of SSIM for values in [0, 1]; GeoNet takes them for [-1, 1] as well.
C1, C2 = 0.01 ** 2, 0.03 ** 2
SSIM_SHARE = 0.85
# A motion that leaves less of the image in view than this explains nothing.
SMALLEST_VIEW = 0.1


def ssim_distance(x, y, reflect=False):
    """
    Return ``(1 - SSIM) / 2`` over 3x3 windows, clipped to 0..1.

    Parameters
    ----------
    x, y : torch.Tensor
        Images, shape (B, C, H, W).
    reflect : bool
        Whether windows at the border see reflected pixels; otherwise they are smaller there, as
        published.

    Returns
    -------
    torch.Tensor
        Shape (B, C, H, W).

    """
    # In 32 bits even in mixed precision: variances are small differences of large numbers.
    if x.dtype in (torch.float16, torch.bfloat16):
        x, y = x.float(), y.float()
    if reflect:
        x, y = F.pad(x, (1, 1, 1, 1), 'reflect'), F.pad(y, (1, 1, 1, 1), 'reflect')

    def mean(values):
        return F.avg_pool2d(values, 3, 1, 0 if reflect else 1, count_include_pad=False)

    mean_x, mean_y = mean(x), mean(y)
    mean_xy, squares = mean_x * mean_y, mean_x ** 2 + mean_y ** 2
    covariance = mean(x * y) - mean_xy
    # The sum of both variances, for nothing else is needed: one pooling less.
    variances = mean(x * x + y * y) - squares
    similarity = ((2 * mean_xy + C1) * (2 * covariance + C2)
                  / ((squares + C1) * (variances + C2)))
    return (0.5 * (1 - similarity)).clamp(0, 1)


def image_distance(x, y, reflect=False):
    """
    Return ``0.85 (1 - SSIM) / 2 + 0.15 |x - y|``.

    Parameters
    ----------
    x, y, reflect
        As for `ssim_distance`.

    Returns
    -------
    torch.Tensor
        Shape (B, C, H, W).

    """
    return SSIM_SHARE * ssim_distance(x, y, reflect) + (1 - SSIM_SHARE) * (x - y).abs()


def photometric_residual(target, source, depth, T_source_target, K):
    """
    Return how different a source image is from the target after warping it there.

    At half the size: a quarter of the time, and the noise of the camera counts less.

    Parameters
    ----------
    target, source : torch.Tensor
        In [-1, 1], shape (B, 3, H, W), even.
    depth : torch.Tensor
        Of the target, in the unit of the motion, shape (B, 1, H, W).
    T_source_target : torch.Tensor
        Shape (B, 4, 4).
    K : torch.Tensor
        Shape (B, 3, 3).

    Returns
    -------
    torch.Tensor
        Mean distance over what both images see, 0..1, shape (B,); 1 where they have hardly
        anything in common.

    """
    target, source = (area_pyramid(0.5 * image + 0.5, 2)[1] for image in (target, source))
    # The depth of a surface in the middle of four pixels is the mean of their inverses.
    depth = 1.0 / F.avg_pool2d(1.0 / depth, 2)
    warped, valid = inverse_warp(source, depth, T_source_target,
                                 pyramid_intrinsics(K, 2, exact=True)[1])
    distance = image_distance(warped, target, reflect=True).mean(1, keepdim=True)
    share = valid.float().mean((1, 2, 3))
    mean = (distance * valid).sum((1, 2, 3)) / valid.sum((1, 2, 3)).clamp_min(1)
    return torch.where(share > SMALLEST_VIEW, mean, torch.ones_like(mean)).clamp(0, 1)
