# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The depth networks: published sizes, ranges and order of weights."""

import pytest
import torch
from torch import nn

from geo_perception.errors import ConfigurationError
from geo_perception.networks.depth import build_depth_network
from geo_perception.networks.dispnet import DispNetVGG
from geo_perception.networks.dispnet_lite import DispNetLite
from geo_perception.networks.dispnet_resnet import DispNetResNet50
from geo_perception.networks.layers import SlimBatchNorm2d


def parameters(network):
    """Return how many numbers are trained."""
    return sum(p.numel() for p in network.parameters())


def statistics(network):
    """Return how many numbers batch norm gathers."""
    return sum(2 * m.num_features for m in network.modules() if isinstance(m, SlimBatchNorm2d))


@pytest.mark.parametrize('build, trained, gathered', [
    (DispNetVGG, 31_596_900, 0), (lambda: DispNetVGG('geonet'), 31_596_900, 14_144),
    (DispNetResNet50, 58_448_836, 79_680)])
def test_published_sizes(build, trained, gathered):
    """To the digit (sfmlearner.md 1.1; geonet.md 1.1, 1.2)."""
    with torch.device('meta'):
        network = build()
    assert (parameters(network), statistics(network)) == (trained, gathered)


def test_order_of_the_weights_is_that_of_the_checkpoints():
    """Importers walk through both in the order of creation (geonet.md appendix B.1)."""
    with torch.device('meta'):
        network = DispNetVGG('geonet')
    convolutions = [m for m in network.encoder.modules() if isinstance(m, nn.Conv2d)]
    assert [tuple(m.weight.shape[:2]) for m in convolutions] == [
        (32, 3), (32, 32), (64, 32), (64, 64), (128, 64), (128, 128), (256, 128), (256, 256),
        (512, 256), (512, 512), (512, 512), (512, 512), (512, 512), (512, 512)]
    assert [tuple(block[0].weight.shape[:2]) for block in network.merge] == [
        (512, 1024), (512, 1024), (256, 512), (128, 256), (64, 129), (32, 65), (16, 17)]
    with torch.device('meta'):
        network = DispNetResNet50()
    assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) == 81
    assert [tuple(block[0].weight.shape[:2]) for block in network.merge] == [
        (512, 1536), (256, 768), (128, 384), (64, 129), (32, 97), (16, 17)]


@pytest.mark.parametrize('name, arguments, largest', [
    ('dispnet_vgg', {}, 10.01), ('dispnet_vgg', {'batch_norm': True}, 10.01),
    ('dispnet_vgg', {'form': 'geonet'}, 10.01), ('dispnet_resnet50', {}, 5.01),
    ('dispnet_lite', {}, 10.01)])
def test_four_scales_in_range(name, arguments, largest):
    """From the finest to an eighth; the sizes are legal, and odd inside (2x7 in the middle)."""
    torch.manual_seed(0)
    network = build_depth_network(name, {**arguments, 'width': 0.125})
    # On noise at full gain the sigmoid reaches its ends.
    for head in network.predict:
        nn.init.normal_(head.weight, std=30.0)
    image = 2 * torch.rand(1, 3, 64, 224) - 1
    disparities = network(image)
    assert [tuple(d.shape) for d in disparities] == [
        (1, 1, 64 // 2 ** s, 224 // 2 ** s) for s in range(4)]
    everything = torch.cat([d.flatten() for d in disparities])
    assert 0.01 <= everything.min() < 0.02 and largest - 0.01 < everything.max() <= largest


@pytest.mark.parametrize('name, size', [('dispnet_vgg', (48, 80)), ('dispnet_resnet50', (40, 56)),
                                        ('dispnet_lite', (32, 96))])
def test_legal_sizes(name, size):
    """Every multiple that a network names is legal; surplus rows are cut inside."""
    network = build_depth_network(name, {'width': 0.1}).eval()
    assert all(n % network.multiple == 0 for n in size)
    assert network(torch.zeros(1, 3, *size))[0].shape[2:] == size


@pytest.mark.parametrize('name', ['dispnet_vgg', 'dispnet_resnet50', 'dispnet_lite'])
def test_every_weight_learns(name):
    """No layer is built and forgotten."""
    torch.manual_seed(0)
    network = build_depth_network(name, {'width': 0.125})
    sum(d.mean() for d in network(torch.randn(2, 3, 64, 64))).backward()
    without = [n for n, p in network.named_parameters() if p.grad is None]
    assert without == []


def test_light_trunk_sees_what_it_was_pretrained_on():
    """0..255 in [-1, 1] becomes (x - 127) / 128, and it can be frozen."""
    network = DispNetLite(width=0.1, frozen_trunk=True)
    seen = []
    network.trunk.stem.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    values = torch.tensor([0.0, 127, 255]).reshape(1, 3, 1, 1).expand(1, 3, 32, 32)
    network(values / 127.5 - 1)
    torch.testing.assert_close(seen[0], (values - 127) / 128)
    assert not any(p.requires_grad for p in network.trunk.parameters())
    assert all(p.requires_grad for p in network.merge.parameters())


@pytest.mark.parametrize('name, arguments, words', [
    ('resnet', {}, 'dispnet_vgg, dispnet_resnet50'), ('dispnet_vgg', {'form': 'keras'}, 'geonet'),
    ('dispnet_vgg', {'wdth': 1}, 'wdth'), ('dispnet_vgg', {'width': 0}, 'above 0'),
    ('dispnet_resnet50', {'width': -1}, 'above 0'), ('dispnet_lite', {'width': 0}, 'above 0')])
def test_wrong_arguments(name, arguments, words):
    """One sentence that names what is wrong."""
    with pytest.raises(ConfigurationError, match=words):
        build_depth_network(name, arguments)
