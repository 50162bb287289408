# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The losses of GeoNet's second stage, written out a second time; and options."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from geo_perception.datasets.sample_world.render import flow_to, render_view
from geo_perception.datasets.sample_world.world import SampleWorld
from geo_perception.errors import ConfigurationError
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.sampling import flow_warp
from geo_perception.losses.flow import FlowLoss, FlowOptions, GEONET_FLOW
from geo_perception.losses.photometric import image_distance

DEFAULT = FlowOptions()


@pytest.fixture
def batch():
    """Return images and flows that agree in part, at random."""
    torch.manual_seed(0)
    images = F.interpolate(torch.rand(6, 3, 4, 6), (32, 48), mode='bicubic').clamp(0, 1)
    images = (2 * images - 1).double().unflatten(0, (2, 3))
    flows = []
    for s in range(4):
        shape = 2, 2, 2, 2, 32 // 2 ** s, 48 // 2 ** s
        forward = F.interpolate(6 * torch.randn(8, 2, 2, 2), shape[-2:], mode='bicubic')
        forward = forward.double().reshape(2, *shape[1:])[:1] / 2 ** s
        noise = torch.randn(shape[1:])[None] * torch.rand(shape[1:-2])[None, ..., None, None]
        flows.append(torch.cat([forward, -forward + 2 * noise.double() / 2 ** s]))
    return {'target': images[:, 0], 'sources': images[:, 1:], 'flows': flows}


def along(values, axis):
    """Return forward differences."""
    n = values.shape[axis]
    return values.narrow(axis, 1, n - 1) - values.narrow(axis, 0, n - 1)


def written_out(batch, border, beyond):
    """Return the terms of section 2.3, sum by sum; ``beyond`` pixels out of view count or not."""
    n, terms = 2, {'photometric': 0.0, 'smoothness': 0.0, 'consistency': 0.0}
    for s, flows in enumerate(batch['flows']):
        target = F.avg_pool2d(batch['target'], 2 ** s)
        sources = [F.avg_pool2d(batch['sources'][:, i], 2 ** s) for i in range(n)]
        for direction in (0, 1):
            cost, miss, valid, rough = [], [], [], 0.0
            for i in range(n):
                image, other = (target, sources[i]) if direction == 0 else (sources[i], target)
                flow, back = flows[direction][:, i], flows[1 - direction][:, i]
                warped, inside = flow_warp(other, flow, border)
                cost.append(image_distance(warped, image).mean(1, keepdim=True))
                d = (flow + flow_warp(back, flow, border)[0]).abs()
                bound = 0.05 * (flow[:, :1] ** 2 + flow[:, 1:] ** 2).sqrt() * 2 ** s
                length = (d[:, :1] ** 2 + d[:, 1:] ** 2).sqrt() * 2 ** s
                valid.append((length < bound.clamp_min(3.0)) & (inside | beyond))
                miss.append(d.mean(1, keepdim=True))
                for axis in (2, 3):
                    edge = along(image, axis).abs().mean(1, keepdim=True)
                    rough += (along(flow, axis).abs() * (-edge).exp()).mean() / n
            cost, miss, valid = torch.stack(cost), torch.stack(miss), torch.stack(valid)
            terms['photometric'] += n / 2 * cost[valid].mean()
            terms['consistency'] += 0.2 / 2 * miss[valid].mean()
            terms['smoothness'] += 0.2 / 2 ** (s + 1) * rough
            if s == direction == 0:
                terms['share'] = valid.double().mean()
    return terms


@pytest.mark.parametrize('options, border, beyond', [(GEONET_FLOW, 'published', True),
                                                     (DEFAULT, 'inclusive', False)])
def test_geonet_to_the_letter(batch, options, border, beyond):
    """Section 2.3: masked means a direction, over the whole batch; n/2, 1/2 and 2^(s+1)."""
    terms, expected = FlowLoss(options)(**batch), written_out(batch, border, beyond)
    assert 0.1 < expected.pop('share') < 0.95
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-6), name
    assert terms['total'].item() == pytest.approx(sum(expected.values()).item(), rel=1e-6)


def test_without_consistency_all_pixels_count(batch):
    """Plain means, as published (section 2.3)."""
    terms = FlowLoss(replace(GEONET_FLOW, consistency_weight=0.0, scales=1))(**batch)
    flow, expected = batch['flows'][0], 0.0
    for i in range(2):
        for image, other, f in ((batch['target'], batch['sources'][:, i], flow[0, :, i]),
                                (batch['sources'][:, i], batch['target'], flow[1, :, i])):
            expected += 0.5 * image_distance(flow_warp(other, f, 'published')[0], image).mean()
    assert terms['photometric'].item() == pytest.approx(expected.item(), rel=1e-6)
    assert 'consistency' not in terms and terms['consistent'] == 1


def test_residual_may_be_smooth_and_short_in_place_of_flow(batch):
    """Flow that is all rigid costs nothing there, however rough."""
    options = replace(DEFAULT, smooth='residual', residual_weight=0.5)
    nothing = [torch.zeros_like(f) for f in batch['flows']]
    terms = FlowLoss(options)(**batch, residuals=nothing)
    assert terms['smoothness'] == 0 and terms['residual'] == 0
    all_of_it = FlowLoss(options)(**batch, residuals=batch['flows'])
    assert all_of_it['smoothness'] == FlowLoss(DEFAULT)(**batch)['smoothness']
    length = 2 * batch['flows'][0].abs().mean().item() / 48
    assert all_of_it['residual'].item() == pytest.approx(0.5 * length, rel=1e-6)


@pytest.mark.parametrize('options', [GEONET_FLOW, DEFAULT, replace(DEFAULT, unit_range=True)])
@pytest.mark.parametrize('case', ['black', 'still', 'far away', 'nowhere'])
def test_finite_whatever_comes(batch, options, case):
    """Loss and gradients are numbers though no pixel is consistent or in view."""
    if case == 'black':
        batch = {**batch, 'target': torch.full_like(batch['target'], -1.0),
                 'sources': torch.full_like(batch['sources'], -1.0)}
    size = {'black': 1.0, 'still': 0.0, 'far away': 1e4, 'nowhere': 1e12}[case]
    flows = [(size * f).float().requires_grad_() for f in batch['flows']]
    terms = FlowLoss(options)(batch['target'].float(), batch['sources'].float(), flows)
    terms['total'].backward()
    assert terms['total'].isfinite()
    assert all(f.grad is None or f.grad.isfinite().all() for f in flows)
    if size > 1e3 and options.border == 'inclusive':
        assert terms['consistent'] == 0 and terms['photometric'] == 0


@pytest.fixture(scope='module')
def world():
    """Return frames of the sample world with their true flows in both directions."""
    camera = Camera(np.array([[66.0, 0, 47.9], [0, 66.0, 31.6], [0, 0, 1]]), 96, 64,
                    frame_id='camera')
    place = SampleWorld(0, camera, changing_light=False)
    drive = place.drive('train', 60)
    target, *sources = 42, 40, 44
    views = {i: render_view(place.scene, camera, drive.poses[i], drive.body_poses(i),
                            drive.light(i)) for i in (target, *sources)}
    images = {i: torch.from_numpy(view.image).permute(2, 0, 1).float() / 127.5 - 1
              for i, view in views.items()}

    def flow(i, j):
        found = flow_to(views[i], camera, drive.poses[i], drive.body_poses(i), drive.poses[j],
                        drive.body_poses(j))
        return torch.from_numpy(found).permute(2, 0, 1)

    full = torch.stack([torch.stack([flow(target, i) for i in sources]),
                        torch.stack([flow(i, target) for i in sources])])[:, None]
    pyramid = [F.avg_pool2d(full.flatten(0, 2), 2 ** s).unflatten(0, (2, 1, 2)) / 2 ** s
               for s in range(4)]
    return {'target': images[target][None],
            'sources': torch.stack([images[i] for i in sources])[None], 'flows': pyramid}


@pytest.mark.parametrize('options', [GEONET_FLOW, DEFAULT, replace(DEFAULT, unit_range=True)])
def test_truth_is_the_best_answer(world, options):
    """Less and more flow, none, and flow that is wrong by a pixel and a half cost more."""
    def cost(change):
        terms = FlowLoss(options)(**{**world, 'flows': [
            change(f, s) for s, f in enumerate(world['flows'])]})
        assert terms['consistent'] > 0.3
        return (terms['photometric'] + terms.get('consistency', 0)).item()

    truth = cost(lambda f, s: f)
    # What leaves the image costs the published loss as much whatever the flow.
    close = 0.95 if options.border == 'published' else 0.9
    assert truth < close * cost(lambda f, s: 0.7 * f)
    assert truth < close * cost(lambda f, s: 1.3 * f)
    assert truth < 0.6 * cost(lambda f, s: 0 * f)
    assert truth < 0.7 * cost(lambda f, s: f + torch.tensor([1.5, 0])[:, None, None] / 2 ** s)


@pytest.mark.parametrize('options, words', [
    ({'scales': 0}, 'model.flow_loss.scales is 0; of the four'),
    ({'largest_pixels': 0.0}, 'nothing would count')])
def test_options_that_mean_nothing(options, words):
    """One sentence."""
    with pytest.raises(ConfigurationError, match=words):
        FlowOptions(**options)
