# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The networks of monodepth: published sizes, and numbers of the reference graph."""

from monodepth_golden import check_numbers, convolutions, fill, SIZES
import numpy as np
import pytest
import torch
from torch import nn

from geo_perception.errors import ConfigurationError
from geo_perception.networks.monodepth import MonodepthResNet50, MonodepthVGG
from geo_perception.networks.monodepth_lite import MonodepthLite
from geo_perception.networks.stereo import build_stereo_network

NAMES = ('monodepth_vgg', 'monodepth_resnet50', 'monodepth_lite')


@pytest.mark.parametrize('build, encoder, total, layers', [
    (MonodepthVGG, 14_294_560, 31_600_072, 32), (MonodepthResNet50, 38_041_728, 58_452_008, 81)])
def test_published_sizes(build, encoder, total, layers):
    """To the digit (monodepth.md sections 4 and 5)."""
    with torch.device('meta'):
        network = build()
    assert sum(p.numel() for p in network.encoder.parameters()) == encoder
    assert sum(p.numel() for p in network.parameters()) == total
    assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) == layers


@pytest.mark.parametrize('name, build', [('vgg', MonodepthVGG), ('resnet', MonodepthResNet50)])
def test_numbers_of_the_reference_graph(name, build):
    """Padding, stride, pooling, enlargement, concatenation and order of the weights at once."""
    check_numbers(name, fill(build(), SIZES[name]).eval())


def test_order_and_shapes_of_the_weights():
    """Importers walk through both in this order (monodepth.md section 4)."""
    # So wide that only predictions have two channels.
    layers = convolutions(MonodepthVGG(width=0.25), (128, 128))
    assert len(layers) == 32 and layers[0].kernel_size == (7, 7) and layers[3].stride == (2, 2)
    # Predictions come between the layers of the decoder, from the coarsest.
    assert [i for i, layer in enumerate(layers) if layer.out_channels == 2
            and layer.kernel_size == (3, 3) and layer.stride == (1, 1) and i >= 14] == [
                22, 25, 28, 31]


@pytest.mark.parametrize('name', NAMES)
def test_four_scales_in_range(name):
    """From the finest to an eighth, two eyes, 0 to 0.3 of the width."""
    torch.manual_seed(0)
    network = build_stereo_network(name, {'width': 0.125})
    assert network.multiple == {'monodepth_vgg': 128, 'monodepth_resnet50': 64,
                                'monodepth_lite': 32}[name]
    size = network.multiple, 2 * network.multiple
    for head in network.predict:
        nn.init.normal_(head.weight, std=100.0)
    disparities = network(torch.rand(1, 3, *size))
    assert [tuple(d.shape) for d in disparities] == [
        (1, 2, size[0] // 2 ** s, size[1] // 2 ** s) for s in range(4)]
    everything = torch.cat([d.flatten() for d in disparities])
    assert 0 <= everything.min() < 0.01 and 0.29 < everything.max() <= 0.3


@pytest.mark.parametrize('name', NAMES)
def test_every_weight_learns(name):
    """No layer is built and forgotten."""
    torch.manual_seed(0)
    network = build_stereo_network(name, {'width': 0.125})
    sum(d.mean() for d in network(torch.rand(2, 3, 128, 128))).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


def test_range_of_monodepth2():
    """Its depths, 100 to 0.1 nominal units, are disparities between two ends (section 19.4)."""
    focal = 0.58
    network = MonodepthLite(width=0.1, max_disparity=focal, min_disparity=0.001 * focal)
    sigma = torch.tensor([0.01, 0.1, 0.5])
    depth = 0.1 * focal / network.range(torch.logit(sigma))
    np.testing.assert_allclose(depth, [9.099182, 0.991080, 0.199800], rtol=1e-5)


def test_light_trunk_sees_what_it_was_pretrained_on():
    """0..1 becomes (x - 127) / 128 of 0..255; training begins at an eighth of the range."""
    network = MonodepthLite(width=0.1, frozen_trunk=True)
    seen = []
    network.trunk.stem.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    values = torch.tensor([0.0, 127, 255]).reshape(1, 3, 1, 1).expand(1, 3, 32, 32)
    network(values / 255)
    torch.testing.assert_close(seen[0], (values - 127) / 128)
    assert not any(p.requires_grad for p in network.trunk.parameters())
    begin = network.activate(network.predict[0].bias.detach())
    assert begin.tolist() == pytest.approx([0.0358, 0.0358], abs=1e-3)


@pytest.mark.parametrize('name, arguments, words', [
    ('monodepth', {}, 'monodepth_vgg, monodepth_resnet50, monodepth_lite'),
    ('monodepth_vgg', {'wdth': 1}, 'wdth'), ('monodepth_vgg', {'width': 0}, 'above 0'),
    ('monodepth_resnet50', {'width': -1}, 'above 0'), ('monodepth_lite', {'width': 0}, 'above 0'),
    ('monodepth_lite', {'max_disparity': 1.5}, 'parts of the width'),
    ('monodepth_vgg', {'width': 0.1, 'min_disparity': 0.4}, 'parts of the width')])
def test_wrong_arguments(name, arguments, words):
    """One sentence that names what is wrong."""
    with pytest.raises(ConfigurationError, match=words):
        build_stereo_network(name, arguments)
