# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Views of an image that were never taken, with the poses they would have had.

A crop keeps the pose (Kendall 2015). A *turned* camera is exact for any scene: a pure rotation
moves pixels by the homography ``K R K'^-1``, so its label is known. Mirroring is not offered: it
changes the pose (posenet.md section 6.2).
"""

from dataclasses import dataclass
from typing import Tuple

import torch
from torch.nn import functional as F

from geo_perception.errors import ConfigurationError


@dataclass(frozen=True)
class Augmentation:
    """
    What training images go through.

    Attributes
    ----------
    random_crop : bool
        Crop anywhere instead of at the centre.
    turn_deg : tuple of float
        Standard deviations of a virtual rotation about the camera's x, y and z axis (pitch,
        yaw, roll), degrees; cut at twice that. Needs intrinsics.
    gain : float
        Brightness is multiplied by up to ``1 + gain``, or divided by it.
    colour : float
        The same for each channel on its own.
    offset : float
        Up to this is added or subtracted, 0..255.

    """

    random_crop: bool = True
    turn_deg: Tuple[float, float, float] = (0.0, 0.0, 0.0)
    gain: float = 0.0
    colour: float = 0.0
    offset: float = 0.0

    @property
    def turns(self):
        """Whether the virtual camera turns."""
        return any(self.turn_deg)


def augment(images, R, K, crop, augmentation, generator=None):
    """
    Return augmented crops, their rotations and where they were taken.

    Parameters
    ----------
    images : torch.Tensor
        Resized images, uint8 RGB, shape (B, H, W, 3).
    R : torch.Tensor
        ``R_world_camera``, shape (B, 3, 3).
    K : torch.Tensor or None
        Intrinsics of the resized images, shape (3, 3).
    crop : tuple of int
        (height, width), pixels.
    augmentation : Augmentation
        What to do.
    generator : torch.Generator, optional
        Source of chance.

    Returns
    -------
    crops : torch.Tensor
        float32 RGB 0..255, shape (B, h, w, 3).
    R : torch.Tensor
        ``R_world_camera`` of the crops, shape (B, 3, 3).
    offset : torch.Tensor
        (left, top) of the crops in the resized images, pixels, shape (B, 2).

    Raises
    ------
    ConfigurationError
        When the camera shall turn but its intrinsics are unknown.

    """
    n, height, width = images.shape[:3]

    def uniform(*shape):
        return torch.rand(shape, generator=generator, device=images.device) * 2 - 1

    slack = torch.tensor([width - crop[1], height - crop[0]], device=images.device)
    offset = (slack // 2).expand(n, 2)
    if augmentation.random_crop:
        # Both ends included: rows 0..32 and columns 0..W-224 at the published size.
        offset = ((uniform(n, 2) + 1) / 2 * (slack + 1)).long().minimum(slack)
    if augmentation.turns:
        if K is None:
            raise ConfigurationError('turning the virtual camera needs intrinsics, and the '
                                     'recording has none; set augmentation.turn_deg to zeros')
        sigma = torch.deg2rad(torch.tensor(augmentation.turn_deg, device=images.device))
        omega = torch.randn((n, 3), generator=generator, device=images.device)
        turn = torch.linalg.matrix_exp(_skew(omega.clamp(-2, 2) * sigma))
        crops = _warp(images, turn, K, offset, crop)
        R = R @ turn
    else:
        rows, columns = (torch.arange(s, device=images.device) for s in crop)
        crops = images[torch.arange(n, device=images.device)[:, None, None],
                       (offset[:, 1:] + rows)[:, :, None],
                       (offset[:, :1] + columns)[:, None, :]].float()
    gain = (1 + augmentation.gain) ** uniform(n, 1, 1, 1)
    gain = gain * (1 + augmentation.colour) ** uniform(n, 1, 1, 3)
    crops = crops * gain + augmentation.offset * uniform(n, 1, 1, 1)
    return crops.clamp(0, 255), R, offset


def _skew(v):
    """Return [v]x for vectors of shape (B, 3)."""
    x, y, z = v.unbind(1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], 1).reshape(-1, 3, 3)


def _warp(images, turn, K, offset, crop):
    """Return what a camera turned by ``turn`` sees in a window of its image."""
    n, height, width = images.shape[:3]
    v, u = torch.meshgrid(*(torch.arange(s, dtype=torch.float32, device=images.device)
                            for s in crop), indexing='ij')
    pixels = torch.stack([u, v, torch.ones_like(u)], -1).reshape(1, -1, 3).repeat(n, 1, 1)
    pixels[..., :2] += offset[:, None].float()
    K = K.to(torch.float32)
    source = pixels @ (K @ turn @ torch.linalg.inv(K)).transpose(1, 2)
    source = source[..., :2] / source[..., 2:]
    # grid_sample without align_corners: -1 and 1 are the outer edges of the border pixels.
    size = torch.tensor([width, height], device=images.device)
    grid = ((2 * source + 1) / size - 1).reshape(n, *crop, 2)
    warped = F.grid_sample(images.permute(0, 3, 1, 2).float(), grid, mode='bilinear',
                           padding_mode='border', align_corners=False)
    return warped.permute(0, 2, 3, 1)
