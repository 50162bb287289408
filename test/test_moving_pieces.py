# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Pieces that move by themselves: their flow is known, and the rest of the image stays."""

import pytest
import torch
from torch.nn import functional as F

from geo_perception.geometry.sampling import flow_warp
from geo_perception.training.moving_pieces import miss_of_pieces, MovingPieces, paste_pieces

OPTIONS = MovingPieces(3, shortest=0.01, longest=0.05)


def snippets(length=3):
    """Return smooth images, and flow of what stands."""
    torch.manual_seed(1)
    images = 2 * torch.rand(2, length, 3, 6, 8) - 1
    images = F.interpolate(images.flatten(0, 1), (48, 64), mode='bicubic').unflatten(0, (2, -1))
    rigid = torch.zeros(2, length - 1, 2, 48, 64)
    rigid[:, :, 0] = 2.0
    return images, rigid


@pytest.mark.parametrize('length', [3, 5])
def test_known_flow_leads_from_a_piece_to_itself(length):
    """Both ways, for all sources; it is not that of what stands."""
    images, rigid = snippets(length)
    shown, known, inside = paste_pieces(images, rigid, OPTIONS)
    assert 0.05 < inside.float().mean() < 0.7
    centre = length // 2
    others = [i for i in range(length) if i != centre]
    for direction in (0, 1):
        for source, frame in enumerate(others):
            a, b = ((centre, frame), (frame, centre))[direction]
            there = inside[direction, :, source]
            warped, seen = flow_warp(shown[:, b], known[direction, :, source])
            # Some of a piece is behind another one in the other frame.
            wrong = (warped - shown[:, a]).abs().mean(1, keepdim=True)[there & seen]
            assert wrong.median() < 0.02 and (wrong < 0.1).float().mean() > 0.8
            assert torch.equal(shown[:, a] * ~there, images[:, a] * ~there)
            assert (known[direction, :, source] * ~there == 0).all()
    own = (known[0, :, -1] - rigid[:, -1]).norm(dim=1, keepdim=True)[inside[0, :, -1]]
    way = length // 2 * 64
    assert own.min() > 0.0099 * way and own.max() < 0.0501 * way


def test_miss_of_pieces():
    """Nothing for the known flow, at all scales; elsewhere anything goes."""
    images, rigid = snippets()
    _, known, inside = paste_pieces(images, rigid, OPTIONS)
    flow = torch.where(inside, known, torch.full_like(known, 7.0))
    flows = [(F.avg_pool2d(flow.flatten(0, 2), 2 ** s) / 2 ** s).unflatten(0, (2, 2, 2))
             for s in range(3)]
    assert miss_of_pieces(flows, known, inside) < 1e-3
    off = [f + 0.5 / 2 ** s for s, f in enumerate(flows)]
    assert miss_of_pieces(off, known, inside) == pytest.approx(
        0.51 ** 0.4 - 0.01 ** 0.4, abs=1e-3)
    assert miss_of_pieces(off, known, torch.zeros_like(inside)) == 0


def test_no_pieces_change_nothing():
    """As published."""
    images, rigid = snippets()
    shown, _, inside = paste_pieces(images, rigid, MovingPieces())
    assert torch.equal(shown, images) and not inside.any()
