# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Forward-backward consistency against published numbers, loops and the sample world's truth."""

import numpy as np
import pytest
import torch

from geo_perception.datasets.sample_world.render import flow_to, render_view
from geo_perception.datasets.sample_world.world import SampleWorld
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.flow_consistency import consistent, flow_length, round_trip


@pytest.fixture
def published():
    """Return the flows of geonet.md appendix A, forward and backward, grid 8x12."""
    forward = torch.tensor([2.3, -1.2])[:, None, None].expand(1, 2, 8, 12).clone()
    backward = -forward
    backward[:, 0, :, 9:] = 1.7
    return forward, backward


def test_published_masks(published):
    """Which pixels fail, and what the others miss by."""
    forward, backward = published
    for flow, back, failing, mean in (
            (forward, backward, {(r, c) for r in range(2, 8) for c in (7, 8)}, 0.917857),
            (backward, forward, {(r, 9) for r in range(6)}, 0.990000)):
        miss, _ = round_trip(flow, back, 'published')
        valid = consistent(flow, miss)
        assert {tuple(p) for p in (~valid[0, 0]).nonzero().tolist()} == failing
        masked = (miss.abs().mean(1, keepdim=True) * valid).sum() / valid.sum()
        assert masked.item() == pytest.approx(mean, abs=5e-7)


def test_what_leaves_the_image_is_told(published):
    """The published check accepts it; who wants to know learns it."""
    forward, backward = published
    _, inside = round_trip(forward, backward)
    expected = np.zeros((8, 12), bool)
    expected[2:, :9] = True   # 1.2 up, 2.3 to the right
    np.testing.assert_array_equal(inside[0, 0], expected)


@pytest.mark.parametrize('level', [0, 2])
def test_by_loops(level):
    """Pixel by pixel, at a level of a pyramid, with flows beyond both bounds."""
    random = np.random.default_rng(0)
    flow = random.normal(0, 12, (2, 9, 11)) * random.integers(0, 2, (1, 9, 11))
    back = -flow + random.normal(0, 0.6, flow.shape)
    miss, inside = round_trip(*(torch.from_numpy(f)[None] for f in (flow, back)))
    valid = consistent(torch.from_numpy(flow)[None], miss, level)
    for y, x in np.ndindex(9, 11):
        u, v = flow[:, y, x]
        p, q = x + u, y + v
        if not (0 <= p <= 10 and 0 <= q <= 8):
            assert not inside[0, 0, y, x]
            continue
        i, j = min(int(p), 9), min(int(q), 7)
        a, b = p - i, q - j
        there = ((1 - a) * (1 - b) * back[:, j, i] + a * (1 - b) * back[:, j, i + 1]
                 + (1 - a) * b * back[:, j + 1, i] + a * b * back[:, j + 1, i + 1])
        np.testing.assert_allclose(miss[0, :, y, x], flow[:, y, x] + there, atol=1e-9)
        size = np.hypot(*(flow[:, y, x] + there)) * 2 ** level
        assert valid[0, 0, y, x] == (size < max(3.0, 0.05 * np.hypot(u, v) * 2 ** level))
    assert 5 < valid.sum() < 95


def test_gradients():
    """The miss has one, also where nothing moves; the mask has none."""
    flow = torch.zeros(1, 2, 4, 5, requires_grad=True)
    miss, _ = round_trip(flow, flow)
    assert not consistent(flow, miss).requires_grad
    flow_length(miss).sum().backward()
    assert flow.grad.isfinite().all()


def test_true_flow_is_consistent_where_nothing_hides():
    """Of the sample world; occluded pixels are found as far as they miss by more."""
    camera = Camera(np.array([[110.0, 0, 79.5], [0, 110.0, 59.5], [0, 0, 1]]), 160, 120,
                    frame_id='camera')
    world = SampleWorld(0, camera)
    drive = world.drive('test', 30)
    a, b = 20, 23
    views = [render_view(world.scene, camera, drive.poses[i], drive.body_poses(i),
                         drive.light(i)) for i in (a, b)]
    flows = []
    for (i, j), view in zip(((a, b), (b, a)), views):
        flows.append(flow_to(view, camera, drive.poses[i], drive.body_poses(i), drive.poses[j],
                             drive.body_poses(j)))
    forward, backward = (torch.from_numpy(f).permute(2, 0, 1)[None] for f in flows)
    miss, inside = round_trip(forward, backward)
    valid = (consistent(forward, miss, largest_pixels=1.0) & inside)[0, 0].numpy()
    # Hidden: what is farther than what is seen where the flow leads, or is another body.
    v, u = np.mgrid[:120, :160]
    x, y = (np.rint(n + flows[0][..., k]).astype(int) for k, n in enumerate((u, v)))
    within = (x >= 0) & (x < 160) & (y >= 0) & (y < 120)
    x, y = x.clip(0, 159), y.clip(0, 119)
    same = within & (views[1].body[y, x] == views[0].body)
    other = within & ~same
    assert same.mean() > 0.6 and other.sum() > 30
    assert valid[same].mean() > 0.97 and valid[other].mean() < 0.35
    assert not valid[~within].any() or valid[~within].mean() < 0.1
