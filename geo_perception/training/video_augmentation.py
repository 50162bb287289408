# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Augmentation of snippets of video, whose intrinsics follow (sfmlearner.md, geonet.md 4)."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from geo_perception.errors import ConfigurationError

# Published ranges of GeoNet (geonet.md section 4).
LEGACY_GAMMA, LEGACY_BRIGHTNESS, LEGACY_GAIN = (0.8, 1.2), (0.5, 2.0), (0.8, 1.2)


@dataclass(frozen=True)
class VideoAugmentation:
    """
    What training snippets go through, all frames of a batch alike (sfmlearner.md section 4).

    Attributes
    ----------
    scale : float
        Enlarge by up to this factor along each axis, then crop anywhere; 1.15 as published.
    flip : float
        Probability of a mirror image.
    gamma, gain, colour : float
        Gamma, brightness and the gain of each channel lie within ``1 +- this``, with
        probability 0.5. The networks see it, the loss does not.
    legacy_colour_augmentation : bool
        GeoNet's own change of light in place of these three (geonet.md section 4): gains differ
        between the frames of a snippet, which breaks the brightness constancy that the loss
        rests on, and the loss sees it.

    """

    scale: float = 1.15
    flip: float = 0.0
    gamma: float = 0.0
    gain: float = 0.0
    colour: float = 0.0
    legacy_colour_augmentation: bool = False

    def __post_init__(self):
        """Refuse what contradicts itself."""
        if self.legacy_colour_augmentation and (self.gamma or self.gain or self.colour):
            raise ConfigurationError('model.augmentation.legacy_colour_augmentation has ranges of '
                                     'its own; set gamma, gain and colour to 0')


def crop_and_flip(images, K, augmentation):
    """
    Return enlarged, cropped and mirrored snippets with their intrinsics.

    Parameters
    ----------
    images : torch.Tensor
        Shape (B, L, 3, H, W).
    K : torch.Tensor
        Shape (B, 3, 3).
    augmentation : VideoAugmentation
        How much.

    Returns
    -------
    images : torch.Tensor
        Same shape.
    K : torch.Tensor
        Of the new images.
    mirrored : bool
        Whether left is right now.

    """
    batch, length, _, height, width = images.shape
    K = K.clone()
    if augmentation.scale > 1:
        scale_y, scale_x = (1 + (augmentation.scale - 1) * torch.rand(2)).tolist()
        size = int(height * scale_y), int(width * scale_x)
        top = int(torch.randint(size[0] - height + 1, ()))
        left = int(torch.randint(size[1] - width + 1, ()))
        larger = F.interpolate(images.flatten(0, 1), size, mode='bilinear', align_corners=False)
        images = larger[:, :, top:top + height, left:left + width].unflatten(0, (batch, length))
        # Not as a product of matrices, which mixed precision would round to 8 bits.
        for row, larger_by, cut in ((0, size[1] / width, left), (1, size[0] / height, top)):
            K[:, row] *= larger_by
            K[:, row, 2] += 0.5 * larger_by - 0.5 - cut
    mirrored = bool(torch.rand(()) < augmentation.flip)
    if mirrored:
        images = images.flip(-1)
        K[:, 0, 2] = width - 1 - K[:, 0, 2]
    return images, K, mirrored


def recolour(images, augmentation):
    """
    Return images in another light.

    Parameters
    ----------
    images : torch.Tensor
        In [-1, 1], shape (B, L, 3, H, W).
    augmentation : VideoAugmentation
        How much.

    Returns
    -------
    torch.Tensor
        Same shape and range.

    """
    legacy = augmentation.legacy_colour_augmentation
    if torch.rand(()) < 0.5 or not (legacy or augmentation.gamma or augmentation.gain
                                    or augmentation.colour):
        return images

    def draw(low, high, *shape):
        return low + (high - low) * torch.rand(*shape, device=images.device)

    def around_one(spread, *shape):
        return draw(1 - spread, 1 + spread, *shape)

    light = 0.5 * images + 0.5
    if legacy:
        light = light ** draw(*LEGACY_GAMMA, 1) * draw(*LEGACY_BRIGHTNESS, 1)
        light = (light * draw(*LEGACY_GAIN, 1, images.shape[1], 3, 1, 1)).clamp(0, 1)
        # As TensorFlow turns it to 8 bits and back (sfmlearner.md 1.4, rule 9).
        light = (255.5 * light).floor() / 255
    else:
        light = light ** around_one(augmentation.gamma, 1)
        light = (light * around_one(augmentation.gain, 1)
                 * around_one(augmentation.colour, 1, 1, 3, 1, 1))
    return 2 * light.clamp(0, 1) - 1
