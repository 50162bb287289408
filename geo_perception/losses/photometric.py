# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
How different two images are, pixel by pixel (geonet.md section 2.1, sfmlearner.md 8.1).

Most of a training step on a CPU is spent here when it is written as a chain of PyTorch functions.
Sums along rows, then columns, and a gradient by hand take a fifth of the time.
"""

from typing import NamedTuple

import torch
from torch.nn import functional as F

from geo_perception.geometry.projection import pyramid_intrinsics
from geo_perception.geometry.sampling import area_pyramid, inverse_warp

# Constants of SSIM for values in [0, 1]; GeoNet takes them for [-1, 1] as well.
C1, C2 = 0.01 ** 2, 0.03 ** 2
SSIM_SHARE = 0.85
# A motion that leaves less of the image in view than this explains nothing.
SMALLEST_VIEW = 0.1


class Windows(NamedTuple):
    """
    An image and what SSIM wants to know of its 3x3 windows.

    Attributes
    ----------
    image, mean, variance : torch.Tensor
        Shape (..., C, H, W).
    reflect : bool
        Whether windows at the border see reflected pixels; otherwise they are smaller there, as
        published.

    """

    image: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor
    reflect: bool


def windows(image, reflect=False):
    """
    Return an image with its statistics, once for all images that are compared with it.

    Parameters
    ----------
    image : torch.Tensor
        Shape (..., C, H, W); no gradient flows to it.
    reflect : bool
        See `Windows`.

    Returns
    -------
    Windows

    """
    # In 32 bits even in mixed precision: variances are small differences of large numbers.
    image = _at_least_32_bits(image.detach())
    share = _share(image, reflect)
    mean = _box_sum(image, reflect).mul_(share)
    variance = _box_sum(image * image, reflect).mul_(share) - mean * mean
    return Windows(image, mean, variance, reflect)


def ssim_distance(x, y, reflect=False):
    """
    Return ``(1 - SSIM) / 2`` over 3x3 windows, clipped to 0..1.

    Parameters
    ----------
    x : torch.Tensor
        Images, shape (..., C, H, W).
    y : torch.Tensor or Windows
        What they are compared with, a shape that broadcasts to theirs; no gradient flows to it.
    reflect : bool
        See `Windows`; given with them.

    Returns
    -------
    torch.Tensor
        Shape (..., C, H, W).

    """
    return _distance(x, y, reflect, 1.0)


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
        Shape (..., C, H, W).

    """
    return _distance(x, y, reflect, SSIM_SHARE)


def masked_mean(values, valid):
    """
    Return the mean of valid values, 0 where there is none.

    Parameters
    ----------
    values : torch.Tensor
        Finite.
    valid : torch.Tensor
        Bool, same shape.

    Returns
    -------
    torch.Tensor
        A number.

    """
    return (values * valid).sum() / valid.sum().clamp_min(1)


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


def _distance(x, y, reflect, share):
    if not isinstance(y, Windows):
        y = windows(y, reflect)
    return _ImageDistance.apply(_at_least_32_bits(x), *y, share)


def _at_least_32_bits(x):
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _box_sum(x, reflect, adjoint=False):
    """Return the sums over 3x3 windows, or the adjoint of that map, shape (..., H, W)."""
    for axis in (-1, -2):
        n, total = x.shape[axis], x.clone()
        total.narrow(axis, 1, n - 1).add_(x.narrow(axis, 0, n - 1))
        total.narrow(axis, 0, n - 1).add_(x.narrow(axis, 1, n - 1))
        if reflect:
            for edge, inner in ((0, 1), (n - 1, n - 2)):
                a, b = (inner, edge) if adjoint else (edge, inner)
                total.narrow(axis, a, 1).add_(x.narrow(axis, b, 1))
        x = total
    return x


def _share(x, reflect):
    """Return one over the number of pixels in each window."""
    if reflect:
        return 1.0 / 9.0
    rows, columns = (torch.full((n,), 3.0, dtype=x.dtype, device=x.device)
                     for n in x.shape[-2:])
    for count in (rows, columns):
        count[0] -= 1
        count[-1] -= 1
    return 1.0 / (rows[:, None] * columns)


class _ImageDistance(torch.autograd.Function):
    """``share (1 - SSIM) / 2 + (1 - share) |x - y|`` of x and `Windows`."""

    @staticmethod
    def forward(ctx, x, y, mean_y, variance_y, reflect, share):
        count = _share(x, reflect)
        mean_x = _box_sum(x, reflect).mul_(count)
        mean_xy = mean_x * mean_y
        covariance = _box_sum(x * y, reflect).mul_(count).sub_(mean_xy)
        squares = mean_x * mean_x
        variances = _box_sum(x * x, reflect).mul_(count).sub_(squares).add_(variance_y)
        # SSIM = a1 a2 / (b1 b2)
        a1 = mean_xy.mul_(2).add_(C1)
        a2 = covariance.mul_(2).add_(C2)
        b1 = squares.addcmul_(mean_y, mean_y).add_(C1)
        b2 = variances.add_(C2)
        scale = 1.0 / (b1 * b2)
        ssim = a1 * a2 * scale
        value = (1 - ssim).mul_(0.5)
        inside = (value >= 0) & (value <= 1)
        value.clamp_(0, 1)
        if share < 1:
            value.mul_(share).add_((x - y).abs_(), alpha=1 - share)
        ctx.reflect, ctx.share = reflect, share
        if ctx.needs_input_grad[0]:
            # Derivatives of the first term by the means of x, x^2 and xy in a window.
            scale.mul_(inside).mul_(-0.5 * share)
            ssim.mul_(inside).mul_(-0.5 * share)
            by_mean = ((a2 - a1).mul_(mean_y).mul_(scale)
                       .add_(mean_x * ssim * (1 / b2 - 1 / b1))).mul_(2)
            by_square = ssim.div_(b2).neg_()
            by_product = a1.mul_(scale).mul_(2)
            ctx.save_for_backward(x, y, by_mean, by_square, by_product)
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        x, y, by_mean, by_square, by_product = ctx.saved_tensors
        weighted = gradient * _share(x, ctx.reflect)
        by_mean, by_square, by_product = (
            _box_sum(weighted * factor, ctx.reflect, adjoint=True)
            for factor in (by_mean, by_square, by_product))
        result = by_mean.addcmul_(by_square, x, value=2).addcmul_(by_product, y)
        if ctx.share < 1:
            result.addcmul_((x - y).sign_(), gradient, value=1 - ctx.share)
        return result, None, None, None, None, None
