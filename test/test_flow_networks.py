# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The flow networks: published sizes, order of weights, units and variants."""

import numpy as np
import pytest
import torch
from torch import nn

from geo_perception.errors import ConfigurationError
from geo_perception.networks.flow import build_flow_network, FLOW_NETWORKS
from geo_perception.networks.layers import SlimBatchNorm2d
from geo_perception.networks.resflownet import ResFlowNet
from geo_perception.networks.resflownet_lite import correlation, ResFlowNetLite


@pytest.mark.parametrize('variant, n_in, trained', [('residual', 12, 58_480_232),
                                                    ('direct', 6, 58_461_416)])
def test_published_sizes(variant, n_in, trained):
    """To the digit, in the order of the checkpoints (geonet.md 1.4 and appendix B.4)."""
    with torch.device('meta'):
        network = ResFlowNet(variant)
    assert sum(p.numel() for p in network.parameters()) == trained
    norms = [m for m in network.modules() if isinstance(m, SlimBatchNorm2d)]
    # 154 updates of moving statistics: two for each layer.
    assert 2 * len(norms) == 154
    assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) == 81
    assert tuple(network.encoder.stem[0].weight.shape) == (64, n_in, 7, 7)
    assert [tuple(block[0].weight.shape[:2]) for block in network.merge] == [
        (512, 1536), (256, 768), (128, 384), (64, 130), (32, 98), (16, 18)]
    assert [tuple(head.weight.shape[:2]) for head in network.predict] == [
        (2, 128), (2, 64), (2, 32), (2, 16)]


@pytest.mark.parametrize('name', FLOW_NETWORKS)
@pytest.mark.parametrize('variant, n_in', [('residual', 12), ('direct', 6)])
def test_four_scales_that_begin_with_nothing(name, variant, n_in):
    """Zero by default, something otherwise; every weight learns; the sizes are legal."""
    torch.manual_seed(0)
    network = build_flow_network(name, {'variant': variant, 'width': 0.125})
    x = torch.randn(2, n_in, 3 * network.multiple, 5 * network.multiple)
    flows = network(x)
    height, width = x.shape[2:]
    assert [tuple(f.shape) for f in flows] == [
        (2, 2, height // 2 ** s, width // 2 ** s) for s in range(4)]
    assert all((f == 0).all() for f in flows)
    sum(f.sum() for f in flows).backward()
    assert all(head.weight.grad.abs().max() > 0 for head in network.predict)
    network = build_flow_network(name, {'variant': variant, 'width': 0.125, 'zero_heads': False})
    flows = network(x)
    assert all(f.abs().max() > 1e-3 for f in flows)
    sum((f ** 2).sum() for f in flows).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


def test_predictions_are_parts_of_the_image():
    """A tenth of the last layer, of the width for u and the height for v, at every scale."""
    network = ResFlowNet('direct', width=0.05).eval()
    for head in network.predict:
        nn.init.constant_(head.bias, 0.5)
    for s, flow in enumerate(network(torch.zeros(1, 6, 64, 96))):
        assert flow[0, 0].unique().tolist() == pytest.approx([0.05 * 96 / 2 ** s])
        assert flow[0, 1].unique().tolist() == pytest.approx([0.05 * 64 / 2 ** s])


def test_the_decoder_sees_predictions_in_parts_of_the_image():
    """What goes up from scale to scale is not multiplied with the size."""
    network = ResFlowNet('direct', width=0.05).eval()
    for head in network.predict:
        nn.init.constant_(head.bias, 0.5)
    seen = []
    network.merge[3].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network(torch.zeros(1, 6, 64, 96))
    np.testing.assert_allclose(seen[0][:, -2:].detach(), 0.05, rtol=1e-6)


def test_correlation_by_loops():
    """Pixel by pixel and displacement by displacement."""
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 2, 3, 4, 5))
    found = correlation(torch.from_numpy(a), torch.from_numpy(b), 2).numpy()
    assert found.shape == (2, 25, 4, 5)
    for n, k, y, x in np.ndindex(found.shape):
        dy, dx = k // 5 - 2, k % 5 - 2
        expected = 0.0
        if 0 <= y + dy < 4 and 0 <= x + dx < 5:
            p, q = a[n, :, y, x], b[n, :, y + dy, x + dx]
            expected = p @ q / np.linalg.norm(p) / np.linalg.norm(q)
        assert found[n, k, y, x] == pytest.approx(expected, abs=1e-12)


def test_light_flow_goes_up_in_pixels():
    """A correction at the coarsest level alone is the same way at every scale."""
    network = ResFlowNetLite('direct', width=0.2)
    nn.init.constant_(network.predict[0].bias, 1.0)
    for s, flow in enumerate(network(torch.randn(1, 6, 32, 48))):
        # One pixel at stride 16 is 16 pixels of the image.
        np.testing.assert_allclose(flow.detach(), 16 / 2 ** s, rtol=1e-6)


def test_light_residual_compares_with_the_warped_image():
    """Not with the other image as it was; the direct variant has only that."""
    torch.manual_seed(0)
    network = ResFlowNetLite(zero_heads=False, width=0.3)
    x = torch.randn(1, 12, 32, 32)
    changed = x.clone()
    changed[:, 3:6] = 0
    assert torch.equal(network(x)[0], network(changed)[0])
    for channels in (slice(0, 3), slice(6, 9), slice(9, 11), slice(11, 12)):
        changed = x.clone()
        changed[:, channels] = 0
        assert not torch.equal(network(x)[0], network(changed)[0])


@pytest.mark.parametrize('name, arguments, words', [
    ('pwc', {}, 'resflownet, resflownet_lite'), ('resflownet', {'variant': 'full'}, 'direct'),
    ('resflownet_lite', {'variant': 'full'}, 'direct'), ('resflownet', {'width': 0}, 'above 0'),
    ('resflownet_lite', {'width': -1}, 'above 0'), ('resflownet', {'wdth': 1}, 'wdth')])
def test_wrong_arguments(name, arguments, words):
    """One sentence that names what is wrong."""
    with pytest.raises(ConfigurationError, match=words):
        build_flow_network(name, arguments)
