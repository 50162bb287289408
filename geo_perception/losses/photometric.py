# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""How different two images are, pixel by pixel (geonet.md section 2.1, sfmlearner.md 8.1)."""

import torch
from torch.nn import functional as F

# Constants of SSIM for values in [0, 1]; GeoNet takes them for [-1, 1] as well.
C1, C2 = 0.01 ** 2, 0.03 ** 2
SSIM_SHARE = 0.85


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
