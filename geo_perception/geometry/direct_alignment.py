# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Ego-motion from images and depth, without a network: direct visual odometry.

The motion is the one that lets the source image, seen through the depth of the target, look like
the target (Steinbruecker et al. 2011; as the pose part of depth learning: Wang et al. 2018,
DDVO). Images are compared free of local brightness and contrast, coarse to fine, with weights that
doubt what moves by itself.
"""

import torch
from torch.nn import functional as F

from geo_perception.geometry.projection import (
    pixel_grid, pyramid_intrinsics, rigid_from_twist, SMALLEST_Z)
from geo_perception.geometry.sampling import area_pyramid, sample

# Levels of the pyramid, coarse first, and the steps of Gauss-Newton at each.
LEVELS = ((3, 8), (2, 6), (1, 4), (0, 3))
# Brightness and contrast are those of this many cells a side.
NEIGHBOURHOOD = 7
SMALLEST_CONTRAST = 0.02
# Of each step, relative to what the images say.
DAMPING = 1e-3
SMALLEST_DAMPING = 1e-6


def align_images(target, source, depth, K, initial=None):
    """
    Return the motions that make source images look like target images.

    Parameters
    ----------
    target, source : torch.Tensor
        In [-1, 1], shape (N, 3, H, W), multiples of 8.
    depth : torch.Tensor
        Of the target, shape (N, 1, H, W).
    K : torch.Tensor
        Intrinsics, pixels, shape (N, 3, 3).
    initial : torch.Tensor or None
        Motions to begin with, as returned; None is no motion.

    Returns
    -------
    T_source_target : torch.Tensor
        Translation in the unit of depth, shape (N, 4, 4).
    residual : torch.Tensor
        Median difference that is left, 0 for equal images, about 1 for unrelated ones, shape (N,).

    """
    T = (torch.eye(4, device=depth.device, dtype=depth.dtype).expand(len(depth), 4, 4)
         if initial is None else initial)
    # Mean inverse depth: of near and far in one cell, what is near moves.
    targets, sources, disparities = (area_pyramid(x, len(LEVELS)) for x in (
        target.mean(1, keepdim=True), source.mean(1, keepdim=True), 1.0 / depth))
    intrinsics = pyramid_intrinsics(K, len(LEVELS), exact=True)
    for level, steps in LEVELS:
        own, theirs = _appearance(targets[level]), _appearance(sources[level])
        stack = torch.cat([theirs, *_gradient(theirs)], 1)
        grid = pixel_grid(*own.shape[2:], own).flatten(1)
        points = torch.linalg.inv(intrinsics[level]) @ grid / disparities[level].flatten(2)
        for _ in range(steps):
            T, residual = _step(T, points, intrinsics[level], own, stack)
    return T, residual


def _appearance(grey):
    """Return an image free of local brightness and contrast, shape (N, 1, h, w)."""
    def mean(x):
        return F.avg_pool2d(x, NEIGHBOURHOOD, 1, NEIGHBOURHOOD // 2, count_include_pad=False)

    centred = grey - mean(grey)
    return centred / (mean(centred.square()).sqrt() + SMALLEST_CONTRAST)


def _gradient(image):
    """Return central differences along x and y, each of the shape of the image."""
    padded = F.pad(image, (1, 1, 1, 1), mode='replicate')
    return (0.5 * (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]),
            0.5 * (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]))


def _step(T, points, K, own, stack):
    """Return the motion after a step of Gauss-Newton, and the median difference before it."""
    moved = T[:, :3, :3] @ points + T[:, :3, 3:]
    z = moved[:, 2].clamp_min(SMALLEST_Z)
    x, y, q = moved[:, 0] / z, moved[:, 1] / z, 1.0 / z
    pixels = (K @ torch.stack([x, y, torch.ones_like(x)], 1))[:, :2].unflatten(2, own.shape[2:])
    seen, inside = sample(stack, pixels, 'inclusive')
    value, gx, gy = seen.flatten(2).unbind(1)
    gx, gy = gx * K[:, 0, :1], gy * K[:, 1, 1:2]
    # Of the image by (t, omega) of a small motion of the moved points.
    J = torch.stack([gx * q, gy * q, -(gx * x + gy * y) * q,
                     -(gx * x * y + gy * (1 + y * y)), gx * (1 + x * x) + gy * x * y,
                     gy * x - gx * y], 1)
    residual = own.flatten(1) - value
    inside = inside.flatten(1) & (moved[:, 2] > SMALLEST_Z)
    size = residual.abs()
    typical = torch.where(inside, size, torch.nan).nanmedian(1, keepdim=True).values
    typical = typical.nan_to_num(1.0).clamp_min(1e-3)
    weight = inside / (1.0 + (residual / (1.5 * typical)).square())
    A = (J * weight[:, None]) @ J.mT
    b = (J * weight[:, None]) @ residual[..., None]
    damping = DAMPING * A.diagonal(dim1=1, dim2=2) + SMALLEST_DAMPING
    delta = torch.linalg.solve(A + torch.diag_embed(damping), b)[..., 0]
    return rigid_from_twist(delta) @ T, typical[:, 0]
