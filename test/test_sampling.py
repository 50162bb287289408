# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Sampling at borders, published and mended; warps against the sample world's truth."""

import golden_grid as golden
import numpy as np
import pytest
import torch

from geo_perception.datasets.sample_world.world import SampleWorld
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.projection import pixel_grid, pose_vector_to_matrix, rigid_flow
from geo_perception.geometry.sampling import area_pyramid, flow_warp, inverse_warp, sample
from geo_perception.geometry.se3 import inverse_transform


def by_hand(image, x, y):
    """Return one bilinear sample."""
    height, width = image.shape[1:]
    left, top = min(int(x), width - 2), min(int(y), height - 2)
    a, b = x - left, y - top
    return ((1 - a) * (1 - b) * image[:, top, left] + a * (1 - b) * image[:, top, left + 1]
            + (1 - a) * b * image[:, top + 1, left] + a * b * image[:, top + 1, left + 1])


@pytest.mark.parametrize('border', ['published', 'inclusive'])
def test_against_loops(border):
    """Inside, on the last row and column, and outside."""
    torch.manual_seed(0)
    image = torch.randn(1, 2, 5, 7).double()
    x = torch.tensor([0.0, 1.3, 5.999, 6.0, 2.0, -0.01, 3.0, 1e9]).double()
    y = torch.tensor([0.0, 3.7, 0.5, 2.0, 4.0, 2.0, 4.2, 1.0]).double()
    values, valid = sample(image, torch.stack([x, y])[None, :, None], border)
    last = border == 'inclusive'
    assert valid[0, 0, 0].tolist() == [True, True, True, last, last, False, False, False]
    for i in range(len(x)):
        if valid[0, 0, 0, i]:
            expected = by_hand(image[0], x[i].item(), y[i].item())
            torch.testing.assert_close(values[0, :, 0, i], expected)
        elif border == 'published':
            assert torch.equal(values[0, :, 0, i], torch.zeros(2).double())
        else:
            expected = by_hand(image[0], x[i].clamp(0, 6).item(), y[i].clamp(0, 4).item())
            torch.testing.assert_close(values[0, :, 0, i], expected)


def test_published_warp():
    """Values printed in the specification."""
    flow, _ = rigid_flow(golden.DEPTH, pose_vector_to_matrix(golden.POSE), golden.K)
    warped, valid = flow_warp(golden.image(), flow, 'published')
    for (row, column), value in {(1, 2): (0.983929, 0.807661, 0.433649), (0, 0): (0, 0, 0),
                                 (3, 5): (-0.866773, -0.961733, -0.821227)}.items():
        np.testing.assert_allclose(warped[0, :, row, column], value, atol=5e-7)
    assert not valid[0, 0, 0, 0] and valid[0, 0, 3, 5]


def test_without_motion():
    """Published: the last row and column are lost; inclusive: nothing is."""
    image, flow = torch.randn(1, 3, 4, 6), torch.zeros(1, 2, 4, 6)
    warped, _ = flow_warp(image, flow, 'published')
    torch.testing.assert_close(warped[:, :, :-1, :-1], image[:, :, :-1, :-1])
    assert not warped[:, :, -1].any() and not warped[..., -1].any()
    warped, valid = flow_warp(image, flow)
    torch.testing.assert_close(warped, image)
    assert valid.all()


def test_warp_with_true_depth_and_motion_is_the_earlier_frame():
    """The sample world's later frame, warped, is the earlier one where nothing is in the way."""
    camera = Camera(np.array([[110.0, 0, 79.7], [0, 110.0, 59.2], [0, 0, 1]]), 160, 120,
                    frame_id='camera')
    drive = SampleWorld(0, camera).drive('train', 3)
    first, second = drive[0], drive[1]
    T = inverse_transform(second.T_world_camera) @ first.T_world_camera
    tensors = [torch.from_numpy(np.asarray(a, np.float32))[None]
               for a in (first.image.transpose(2, 0, 1), second.image.transpose(2, 0, 1),
                         first.depth[None], T, camera.K)]
    target, source, depth, T, K = tensors
    warped, valid = inverse_warp(source, depth, T, K)
    still = valid[0, 0].numpy() & (first.motion_mask == 0)
    before = (source - target)[0].abs().mean(0).numpy()[still]
    after = (warped - target)[0].abs().mean(0).numpy()[still]
    assert still.mean() > 0.5
    # The light changes and surfaces are hidden: most pixels, not all.
    assert np.median(after) < 1.5 and after.mean() < 0.4 * before.mean()


def test_gradients_are_finite_everywhere():
    """Also for zero depth, depth without bound and motion through the wall."""
    torch.manual_seed(0)
    depth = torch.tensor([0.0, 1e-6, 1.0, 1e6, 1e12, 3.0]).reshape(1, 1, 2, 3)
    depth = depth.repeat(1, 1, 2, 2).requires_grad_()
    poses = torch.tensor([[0.0, 0, -2.0, 0, 0, 0]], requires_grad=True)
    K = torch.tensor([[[5.0, 0, 2.5], [0, 5, 1.5], [0, 0, 1]]])
    for border in ('published', 'inclusive'):
        warped, _ = inverse_warp(torch.randn(1, 3, 4, 6), depth, pose_vector_to_matrix(poses), K,
                                 border)
        warped.sum().backward()
        assert warped.isfinite().all()
        assert depth.grad.isfinite().all() and poses.grad.isfinite().all()


def test_published_border_has_no_gradient_outside():
    """What leaves the image is a constant there; inside, coordinates move it."""
    pixels = pixel_grid(4, 6, torch.zeros(1))[:2][None] + 2.5
    pixels.requires_grad_()
    values, valid = sample(torch.randn(1, 3, 4, 6), pixels, 'published')
    values.sum().backward()
    outside = ~valid.expand(1, 2, 4, 6)
    assert not pixels.grad[outside].any() and pixels.grad[~outside].any()


def test_area_pyramid():
    """Each pixel is the mean of those it covers."""
    image = torch.randn(1, 3, 8, 16)
    levels = area_pyramid(image, 3)
    assert torch.equal(levels[0], image)
    torch.testing.assert_close(levels[2][0, :, 1, 2], image[0, :, 4:8, 8:12].mean((1, 2)))
