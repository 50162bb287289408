# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The losses of SfMLearner and GeoNet's first stage, written out a second time; and options."""

from dataclasses import replace

import golden_grid as golden
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from geo_perception.datasets.sample_world.world import SampleWorld
from geo_perception.errors import ConfigurationError
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.projection import (
    pose_vector_to_matrix, project_pixels, rigid_flow)
from geo_perception.geometry.sampling import flow_warp, inverse_warp
from geo_perception.geometry.se3 import inverse_transform
from geo_perception.losses import view_synthesis
from geo_perception.losses.photometric import image_distance
from geo_perception.losses.view_synthesis import (
    GEONET_RIGID, SCALE_ANCHOR, SFMLEARNER, ViewSynthesisLoss, ViewSynthesisOptions)

LITE = ViewSynthesisOptions(
    smoothness_weight=1e-3, normalise_smoothness=True, unit_range=True,
    minimum_reprojection=True, auto_mask=True, full_resolution=True)


@pytest.fixture
def batch():
    """Return images, intrinsics, disparities of all frames, and motions, at random."""
    torch.manual_seed(0)
    images = F.interpolate(torch.rand(6, 3, 4, 6), (32, 48), mode='bicubic').clamp(0, 1)
    images = (2 * images - 1).double().unflatten(0, (2, 3))
    K = torch.tensor([[40.0, 0, 23.7], [0, 42, 15.9], [0, 0, 1]]).double().expand(2, 3, 3)
    disparities = [0.2 + 0.3 * torch.rand(2, 3, 1, 32 // 2 ** s, 48 // 2 ** s).double()
                   for s in range(4)]
    poses = 0.05 * torch.randn(2, 2, 6).double()
    return {'target': images[:, 0], 'sources': images[:, 1:], 'K': K,
            'disparities': [d[:, 0] for d in disparities],
            'source_disparities': [d[:, 1:] for d in disparities], 'poses': poses}


def differences(values, *axes):
    """Return repeated forward differences."""
    for axis in axes:
        n = values.shape[axis]
        values = values.narrow(axis, 1, n - 1) - values.narrow(axis, 0, n - 1)
    return values


def warp(batch, source, depth, T, level):
    """Return a published warp at one scale."""
    K = batch['K'].clone()
    K[:, :2] /= 2 ** level
    flow, _ = rigid_flow(depth, T, K)
    return flow_warp(source, flow, 'published')[0]


def test_sfmlearner_to_the_letter(batch):
    """Section 2 of the specification, sum by sum."""
    masks = [torch.randn(2, 2, 2, 32 // 2 ** s, 48 // 2 ** s).double() for s in range(4)]
    loss = ViewSynthesisLoss(replace(SFMLEARNER, explainability_weight=0.2))
    terms = loss(**batch, masks=masks)
    pixel = smooth = explain = 0.0
    for s, disparity in enumerate(batch['disparities']):
        target = F.avg_pool2d(batch['target'], 2 ** s)
        for i in range(2):
            source = F.avg_pool2d(batch['sources'][:, i], 2 ** s)
            T = pose_vector_to_matrix(batch['poses'][:, i])
            warped = warp(batch, source, 1 / disparity, T, s)
            believed = masks[s][:, i].softmax(1)[:, 1:]
            pixel += ((warped - target).abs() * believed).mean()
            explain -= 0.2 * masks[s][:, i].log_softmax(1)[:, 1].mean()
        smooth += 0.5 / 2 ** s * sum(differences(disparity, *axes).abs().mean() for axes in (
            (3, 3), (3, 2), (2, 3), (2, 2)))
    assert terms['photometric'].item() == pytest.approx(pixel.item(), rel=1e-5)
    assert terms['smoothness'].item() == pytest.approx(smooth.item(), rel=1e-5)
    assert terms['explainability'].item() == pytest.approx(explain.item(), rel=1e-5)
    assert terms['total'] == terms['photometric'] + terms['smoothness'] + terms['explainability']


def test_geonet_to_the_letter(batch):
    """Section 2.2 of geonet.md: both directions, smoothness over targets and sources."""
    terms = ViewSynthesisLoss(GEONET_RIGID)(**batch)
    n, rigid, smooth = 2, 0.0, 0.0
    for s, disparity in enumerate(batch['disparities']):
        target = F.avg_pool2d(batch['target'], 2 ** s)
        there, back, images, maps = [], [], [target], [disparity]
        for i in range(n):
            source = F.avg_pool2d(batch['sources'][:, i], 2 ** s)
            other = batch['source_disparities'][s][:, i]
            T = pose_vector_to_matrix(batch['poses'][:, i])
            there.append(image_distance(warp(batch, source, 1 / disparity, T, s), target))
            back.append(image_distance(warp(batch, target, 1 / other, T.inverse(), s), source))
            images.append(source)
            maps.append(other)
        rigid += n / 2 * (torch.cat(there).mean() + torch.cat(back).mean())
        images, maps = torch.cat(images), torch.cat(maps)
        for axis in (2, 3):
            edges = differences(images, axis).abs().mean(1, keepdim=True)
            smooth += 0.5 / 2 ** s * (differences(maps, axis).abs() * (-edges).exp()).mean()
    assert terms['photometric'].item() == pytest.approx(rigid.item(), rel=1e-5)
    assert terms['smoothness'].item() == pytest.approx(smooth.item(), rel=1e-5)


def test_light_recipe_written_out(batch, monkeypatch):
    """Section 8: minimum, auto-mask, full resolution and consistent depth, pair by pair."""
    monkeypatch.setattr(view_synthesis, 'AUTO_MASK_NOISE', 0.0)
    options = replace(LITE, both_directions=True, depth_consistency_weight=0.5)
    batch['poses'] *= 3
    terms = ViewSynthesisLoss(options)(**batch)
    frames = [0.5 * image + 0.5 for image in (batch['target'], *batch['sources'].unbind(1))]
    photometric = consistency = 0.0
    for s in range(4):
        depths = [1 / F.interpolate(d, (32, 48), mode='bilinear') for d in (
            batch['disparities'][s], *batch['source_disparities'][s].unbind(1))]
        for backward in (False, True):
            costs, disagreement, seen = [], 0.0, 0
            for i in (1, 2):
                T = pose_vector_to_matrix(batch['poses'][:, i - 1])
                a, b, T = (i, 0, T.inverse()) if backward else (0, i, T)
                warped, valid = inverse_warp(frames[b], depths[a], T, batch['K'])
                there, _ = inverse_warp(depths[b], depths[a], T, batch['K'])
                _, z = project_pixels(depths[a], T, batch['K'])
                difference = ((z - there).abs() / (z + there)).clamp(0, 1)
                cost = image_distance(warped, frames[a], True).mean(1, keepdim=True)
                still = image_distance(frames[b], frames[a], True).mean(1, keepdim=True)
                cost = torch.minimum(cost * (1 - difference), still)
                costs.append(torch.where(valid, cost, still))
                disagreement, seen = disagreement + difference[valid].sum(), seen + valid.sum()
            photometric += 0.5 * torch.minimum(*costs).mean() / 4
            consistency += 0.5 * 0.5 * disagreement / seen / 4
    assert terms['photometric'].item() == pytest.approx(photometric.item(), rel=1e-6)
    assert terms['depth_consistency'].item() == pytest.approx(consistency.item(), rel=1e-6)


def test_explainability_numbers(batch):
    """The check points of sections 2 and 3.6."""
    fresh = [torch.zeros(2, 2, 2, 32 // 2 ** s, 48 // 2 ** s) for s in range(4)]
    terms = ViewSynthesisLoss(replace(SFMLEARNER, explainability_weight=0.2))(**batch, masks=fresh)
    assert terms['explainability'].item() == pytest.approx(4 * 2 * 0.2 * np.log(2), abs=1e-6)
    logits = torch.stack([0.3 * golden.X - 0.5, 0.2 * golden.Y + 0.1])[None]
    found = F.cross_entropy(logits, torch.ones(1, 4, 6, dtype=torch.long))
    assert found.item() == pytest.approx(0.658823, abs=5e-7)


@pytest.mark.parametrize('options', [
    SFMLEARNER, GEONET_RIGID, LITE, replace(GEONET_RIGID, normalise_disparity=True),
    replace(LITE, both_directions=True, depth_consistency_weight=0.5),
    ViewSynthesisOptions(both_directions=True, depth_consistency_weight=0.5)])
@pytest.mark.parametrize('case', ['black', 'still', 'through the wall'])
def test_finite_whatever_comes(batch, options, case):
    """Loss and gradients are numbers: for black images, no motion, nothing in view."""
    if case == 'black':
        batch['target'], batch['sources'] = (torch.full_like(batch[name], -1.0)
                                             for name in ('target', 'sources'))
    batch['poses'] = torch.zeros(2, 2, 6)
    if case == 'through the wall':
        batch['poses'][..., 2] = -50.0
    batch = {name: value.float() if torch.is_tensor(value) else [v.float() for v in value]
             for name, value in batch.items()}
    leaves = [batch['poses'], *batch['disparities'], *batch['source_disparities']]
    for leaf in leaves:
        leaf.requires_grad_()
    total = ViewSynthesisLoss(options)(**batch)['total']
    total.backward()
    assert total.isfinite()
    assert all(leaf.grad is None or leaf.grad.isfinite().all() for leaf in leaves)


@pytest.fixture(scope='module')
def world():
    """Return a snippet of the sample world with its true depths and motions."""
    camera = Camera(np.array([[66.0, 0, 47.9], [0, 66.0, 31.6], [0, 0, 1]]), 96, 64,
                    frame_id='camera')
    frames = [SampleWorld(0, camera).drive('train', 60)[i] for i in (42, 40, 44)]
    images = torch.stack([torch.from_numpy(frame.image).permute(2, 0, 1) for frame in frames])
    images = images.float() / 127.5 - 1
    depths = torch.stack([torch.from_numpy(frame.depth) for frame in frames])[:, None]
    vectors = []
    for frame in frames[1:]:
        T = inverse_transform(frame.T_world_camera) @ frames[0].T_world_camera
        vector = torch.zeros(6, dtype=torch.double, requires_grad=True)
        # Euler angles of a matrix: the few steps of Newton that small rotations need.
        target = torch.from_numpy(T)
        for _ in range(5):
            J = torch.autograd.functional.jacobian(
                lambda v: pose_vector_to_matrix(v)[:3].flatten(), vector)
            residual = (target[:3] - pose_vector_to_matrix(vector)[:3]).flatten()
            vector = (vector + torch.linalg.lstsq(J, residual[:, None]).solution[:, 0]).detach()
        np.testing.assert_allclose(pose_vector_to_matrix(vector), T, atol=1e-9)
        vectors.append(vector.float())
    pyramid = [F.interpolate(1 / depths, scale_factor=0.5 ** s, mode='area') for s in range(4)]
    return {'target': images[:1], 'sources': images[None, 1:],
            'K': torch.from_numpy(camera.K).float()[None],
            'disparities': [d[:1] for d in pyramid],
            'source_disparities': [d[None, 1:] for d in pyramid],
            'poses': torch.stack(vectors)[None]}


@pytest.mark.parametrize('options', [
    SFMLEARNER, GEONET_RIGID, replace(LITE, auto_mask=False),
    LITE, ViewSynthesisOptions(both_directions=True, depth_consistency_weight=0.5)])
def test_truth_is_the_best_answer(world, options):
    """True depth and motion cost less than motion or depth that is 20 % off, or turned."""
    def cost(**changes):
        torch.manual_seed(0)
        terms = ViewSynthesisLoss(options)(**{**world, **changes})
        return (terms['total'] - terms['smoothness']).item()

    truth = cost()
    turned = world['poses'].clone()
    turned[..., 4] += np.deg2rad(1.5)
    still = torch.zeros_like(turned)
    flat = [torch.full_like(d, d.mean().item()) for d in world['disparities']]
    assert truth < 0.97 * cost(poses=world['poses'] * 1.2)
    assert truth < 0.97 * cost(poses=turned) and truth < 0.97 * cost(disparities=flat)
    if not options.auto_mask:
        assert truth < 0.8 * cost(poses=still)
    else:
        assert truth < cost(poses=still)


def test_depths_that_agree_cost_nothing(world):
    """Depth consistency sees a scale of its own in one of the frames."""
    options = ViewSynthesisOptions(both_directions=True, depth_consistency_weight=1.0)
    agree = ViewSynthesisLoss(options)(**world)['depth_consistency']
    other = [1.3 * d for d in world['source_disparities']]
    differ = ViewSynthesisLoss(options)(**{**world, 'source_disparities': other})
    # |1.3 - 1| / (1.3 + 1) = 0.13 at each of four scales.
    assert agree < 0.15 and differ['depth_consistency'] > agree + 0.25


def test_minimum_reprojection_forgives_one_bad_source(world):
    """A source that shows nothing useful costs nothing where the other one does."""
    torch.manual_seed(0)
    options = replace(LITE, auto_mask=False)
    noise = world['sources'].clone()
    noise[:, 0] = torch.rand_like(noise[:, 0])
    noisy = {**world, 'sources': noise}
    mean = ViewSynthesisLoss(replace(options, minimum_reprojection=False))
    assert mean(**noisy)['photometric'] > 3 * mean(**world)['photometric']
    # Without the minimum the cost of both is summed up.
    assert (ViewSynthesisLoss(options)(**noisy)['photometric']
            < 0.35 * 0.5 * mean(**noisy)['photometric'])


def test_auto_mask_leaves_out_what_moves_along(world):
    """Frames without motion teach nothing: neither depth nor pose has a gradient."""
    still = world['target'][:, None].expand(1, 2, 3, 64, 96)
    poses = (world['poses'] * 1.0).requires_grad_()
    torch.manual_seed(0)
    terms = ViewSynthesisLoss(LITE)(**{**world, 'sources': still, 'poses': poses})
    terms['photometric'].backward()
    assert poses.grad.abs().max() < 1e-4


def test_coarse_scales_may_be_left_out(batch):
    """Whatever they say; one scale alone is the finest term of all."""
    loss = ViewSynthesisLoss(replace(SFMLEARNER, scales=1))
    before = loss(**batch)
    batch['disparities'][1:] = [10 * d for d in batch['disparities'][1:]]
    assert loss(**batch) == before
    assert before['photometric'] < ViewSynthesisLoss(SFMLEARNER)(**batch)['photometric']
    with pytest.raises(ConfigurationError, match='model.loss.scales is 5; of the four scales'):
        ViewSynthesisOptions(scales=5)


def test_anchor_holds_the_scale(batch):
    """Zero at the anchor, the same above and below by one factor, and blind to the shape."""
    loss = ViewSynthesisLoss(ViewSynthesisOptions(scale_anchor_weight=2.0))
    shape = batch['disparities'][0] / batch['disparities'][0].mean()
    anchor = []
    for factor in (1.0, 3.0, 1 / 3):
        batch['disparities'][0] = SCALE_ANCHOR * factor * shape
        anchor.append(loss(**batch)['scale_anchor'].item())
    assert anchor == pytest.approx([0, 2 * np.log(3) ** 2, 2 * np.log(3) ** 2], abs=1e-12)


@pytest.mark.parametrize('options', [SFMLEARNER, GEONET_RIGID, LITE])
def test_mixed_precision_keeps_the_loss(batch, options):
    """What the networks say is rounded, what is made of it is not."""
    loss = ViewSynthesisLoss(replace(options, auto_mask=False))
    single = {name: [x.float() for x in value] if isinstance(value, list) else value.float()
              for name, value in batch.items()}
    expected = loss(**single)
    with torch.autocast('cpu', torch.bfloat16):
        terms = loss(**single)
    assert all(terms[name] == value for name, value in expected.items())
