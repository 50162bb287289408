# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Pieces of other images that move by themselves, and one knows how.

What moves is a twentieth of an image, and the way images look changes little with flow that is a
pixel off: a flow network learns matching within hours from that alone. Pieces cut from other
images and moved across these teach it within minutes, for their flow is known without a label
(the idea of Liu et al. 2019, SelFlow: a network teaches itself where it knows better).
"""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from geo_perception.geometry.constants import constant

# Half lengths of a piece, in parts of the width of the image.
SMALLEST, LARGEST = 0.04, 0.2
# What is missed counts by this power, with an offset in pixels (as Sun et al. 2018 finish
# PWC-Net): otherwise long ways are all that is learned, and short ones are taken for noise.
POWER, OFFSET = 0.4, 0.01


@dataclass(frozen=True)
class MovingPieces:
    """
    What is put into the images of a snippet.

    Attributes
    ----------
    count : int
        Pieces in each snippet; 0 for none, as published.
    shortest, longest : float
        Their ways between frames, beside that of what stands there, in parts of the width; the
        logarithm is spread evenly.
    weight : float
        Of what the flow of pieces misses, see `miss_of_pieces`.

    """

    count: int = 0
    shortest: float = 0.002
    longest: float = 0.1
    weight: float = 0.1


def paste_pieces(images, rigid, options):
    """
    Return images with moving pieces in them.

    Parameters
    ----------
    images : torch.Tensor
        Snippets in order of time, with any number of channels, shape (B, L, C, H, W).
    rigid : torch.Tensor
        Flow of what stands from the target in the middle to the others, pixels, shape
        (B, L - 1, 2, H, W): pieces move otherwise.
    options : MovingPieces
        How many, and how far.

    Returns
    -------
    images : torch.Tensor
        Same shape.
    known : torch.Tensor
        Flow of the pieces from target to sources, and back, pixels, 0 elsewhere, shape
        (2, B, L - 1, 2, H, W).
    inside : torch.Tensor
        Where there are pieces, bool, shape (2, B, L - 1, 1, H, W).

    """
    batch, length, _, height, width = images.shape
    like, centre, n = {'device': images.device, 'dtype': torch.float32}, length // 2, length - 1
    grid = torch.stack(torch.meshgrid(torch.arange(width, **like), torch.arange(height, **like),
                                      indexing='xy'))
    known = torch.zeros(2, batch, n, 2, height, width, **like)
    inside = torch.zeros(2, batch, n, 1, height, width, dtype=torch.bool, device=images.device)
    textures, images = images[:, centre].roll(1, 0), images.clone()
    times = torch.tensor([i - centre for i in range(length) if i != centre], **like)
    everyone = torch.arange(batch, device=images.device)
    for _ in range(options.count):
        draw = torch.rand(batch, 8, **like)
        middle = draw[:, :2] * constant(draw, width - 1, height - 1)
        half = width * (SMALLEST + (LARGEST - SMALLEST) * draw[:, 2:4])
        heading, turn = 2 * torch.pi * draw[:, 4], torch.pi * draw[:, 5]
        way = width * options.shortest * (options.longest / options.shortest) ** draw[:, 6]
        own = way[:, None] * torch.stack([heading.cos(), heading.sin()], 1)
        x, y = middle.long().T
        # Of the target it is 0.
        ways = rigid[everyone, :, :, y, x] + times[:, None] * own[:, None]
        texture = textures.roll((int(torch.randint(height, ())), int(torch.randint(width, ()))),
                                (2, 3))
        covered = [None] * length
        for frame in range(length):
            source = frame - (frame > centre)
            shift = torch.zeros_like(own) if frame == centre else ways[:, source]
            at = grid - shift[:, :, None, None]
            off = at - middle[:, :, None, None]
            cos, sin = turn.cos()[:, None, None], turn.sin()[:, None, None]
            a = (cos * off[:, 0] + sin * off[:, 1]).abs() / half[:, :1, None]
            b = (cos * off[:, 1] - sin * off[:, 0]).abs() / half[:, 1:, None]
            # Boxes and ellipses.
            round_ = (draw[:, 7] < 0.5)[:, None, None]
            covers = torch.where(round_, a.square() + b.square(), torch.maximum(a, b)) < 1
            covered[frame] = covers[:, None]
            where = 2 * at / constant(at, width - 1, height - 1)[:, None, None] - 1
            piece = F.grid_sample(texture, where.permute(0, 2, 3, 1), padding_mode='reflection',
                                  align_corners=True)
            images[:, frame] = torch.where(covered[frame], piece, images[:, frame])
        for source in range(n):
            way = ways[:, source, :, None, None]
            for direction, frame, sign in ((0, centre, 1), (1, source + (source >= centre), -1)):
                known[direction, :, source] = torch.where(covered[frame], sign * way,
                                                          known[direction, :, source])
                inside[direction, :, source] |= covered[frame]
    return images, known, inside


def miss_of_pieces(flows, known, inside):
    """
    Return how far flow misses that of the pieces.

    Parameters
    ----------
    flows : list of torch.Tensor
        Pixels of each scale, shapes (2, B, n, 2, H / 2^s, W / 2^s), the finest first.
    known, inside : torch.Tensor
        From `paste_pieces`.

    Returns
    -------
    torch.Tensor
        Mean of ``(pixels + OFFSET)^POWER - OFFSET^POWER`` over scales and pieces; pixels of the
        full image, the mean of both axes.

    """
    total = 0.0
    shape = known.shape[:3]
    for level, flow in enumerate(flows):
        step = 2 ** level
        # A pixel of a coarse scale lies in a piece where all of its parts do.
        there = F.avg_pool2d(inside.flatten(0, 2).float(), step) == 1 if level else (
            inside.flatten(0, 2))
        truth = F.avg_pool2d(known.flatten(0, 2), step).unflatten(0, shape)
        miss = (step * flow - truth).abs().mean(3, keepdim=True)
        there = there.unflatten(0, shape)
        miss = (miss + OFFSET) ** POWER - OFFSET ** POWER
        total = total + (miss * there).sum() / there.sum().clamp_min(1)
    return total / len(flows)
