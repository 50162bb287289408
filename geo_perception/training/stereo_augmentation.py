# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Augmentation of stereo pairs, which stay pairs (monodepth.md sections 10 and 17)."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class StereoAugmentation:
    """
    What training pairs go through, each by itself, both eyes alike.

    Attributes
    ----------
    flip : float
        Probability of a mirror image. Mirrored eyes change places, so that disparity stays
        positive.
    either_eye : float
        Probability that the network sees the right eye's image and rebuilds it from the left
        one, which puts what only one eye sees on the other side. Only for the objective
        ``one_view``, where mirrored eyes stay at their places.
    colour : float
        Probability of another light.
    gamma : float
        Exponent within ``1 +- this``.
    brightness : tuple of float
        Factor between these.
    gain : float
        Factor on each channel within ``1 +- this``.
    loss_sees_colour : bool
        Whether the loss compares the images in that light, too, as published.

    """

    flip: float = 0.5
    either_eye: float = 0.0
    colour: float = 0.5
    gamma: float = 0.2
    brightness: tuple[float, float] = (0.5, 2.0)
    gain: float = 0.2
    loss_sees_colour: bool = True


def flip_pairs(left, right, augmentation, swap=True):
    """
    Return mirrored pairs.

    Parameters
    ----------
    left, right : torch.Tensor
        Shape (B, 3, H, W).
    augmentation : StereoAugmentation
        How often.
    swap : bool
        Whether mirrored eyes change places.

    Returns
    -------
    first, second : torch.Tensor
        What the network sees, and the other eye's image, same shapes.
    side : torch.Tensor
        As `geo_perception.losses.stereo.StereoLoss` takes it, shape (B, 1, 1, 1).

    """
    shape = len(left), 1, 1, 1
    flip = torch.rand(shape, device=left.device) < augmentation.flip
    exchange = flip if swap else torch.rand(shape, device=left.device) < augmentation.either_eye
    mirrored = [torch.where(flip, eye.flip(-1), eye) for eye in (left, right)]
    first = torch.where(exchange, mirrored[1], mirrored[0])
    second = torch.where(exchange, mirrored[0], mirrored[1])
    side = torch.where(flip ^ exchange, -1.0, 1.0).to(left)
    return first, second, side


def recolour_pairs(first, second, augmentation):
    """
    Return pairs in another light.

    Parameters
    ----------
    first, second : torch.Tensor
        In [0, 1], shape (B, 3, H, W).
    augmentation : StereoAugmentation
        How often, and how much.

    Returns
    -------
    tuple of torch.Tensor
        Same shapes and range.

    """
    batch, device = len(first), first.device

    def draw(low, high, channels=1):
        return low + (high - low) * torch.rand(batch, channels, 1, 1, device=device)

    changed = torch.rand(batch, 1, 1, 1, device=device) < augmentation.colour
    gamma = draw(1 - augmentation.gamma, 1 + augmentation.gamma)
    factor = draw(*augmentation.brightness) * draw(1 - augmentation.gain, 1 + augmentation.gain, 3)
    return tuple(torch.where(changed, (eye ** gamma * factor).clamp(0, 1), eye)
                 for eye in (first, second))
