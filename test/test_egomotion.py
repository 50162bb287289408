# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The ego-motion network: published sizes, shapes and order of its inputs."""

import pytest
import torch

from geo_perception.errors import ConfigurationError
from geo_perception.networks.egomotion import EgoMotionNet


@pytest.mark.parametrize('sources, explainability, trained', [
    (2, False, 1_590_668), (4, False, 1_598_456), (2, True, 2_639_180), (4, True, 2_660_232)])
@pytest.mark.parametrize('batch_norm', [False, True])
def test_published_sizes(sources, explainability, trained, batch_norm):
    """To the digit; a norm has as many offsets as the convolution had biases."""
    with torch.device('meta'):
        network = EgoMotionNet(sources, explainability, batch_norm)
    assert sum(p.numel() for p in network.parameters()) == trained
    running = sum(b.numel() for n, b in network.named_buffers() if 'running' in n)
    if not explainability:
        assert running == (2_016 if batch_norm else 0)


def test_motions_and_masks():
    """Shapes for two sources, masks from the finest to an eighth."""
    torch.manual_seed(0)
    network = EgoMotionNet(2, explainability=True, width=0.25)
    poses, masks = network(torch.randn(3, 3, 64, 96), torch.randn(3, 2, 3, 64, 96))
    assert poses.shape == (3, 2, 6)
    assert [tuple(m.shape) for m in masks] == [(3, 2, 2, 64 // 2 ** s, 96 // 2 ** s)
                                               for s in range(4)]
    assert EgoMotionNet(2, width=0.25)(torch.zeros(1, 3, 64, 64),
                                       torch.zeros(1, 2, 3, 64, 64))[1] is None


def test_motion_is_the_mean_of_a_linear_map():
    """Scaled by 0.01, and grouped by source: the first six outputs are the first source's."""
    network = EgoMotionNet(2, width=0.25)
    with torch.no_grad():
        network.pose[-1].weight.zero_()
        network.pose[-1].bias.copy_(torch.arange(12.0))
    poses, _ = network(torch.zeros(1, 3, 64, 64), torch.zeros(1, 2, 3, 64, 64))
    torch.testing.assert_close(poses[0], 0.01 * torch.arange(12.0).reshape(2, 6))


def test_target_comes_first():
    """The stack is target, then the sources in order of time."""
    network = EgoMotionNet(2, width=0.25)
    seen = []
    network.encoder[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    images = torch.arange(3.0).reshape(1, 3, 1, 1, 1).expand(1, 3, 3, 32, 32)
    network(images[:, 0], images[:, 1:])
    assert seen[0][0, :, 0, 0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize('wrong', [{'sources': 0}, {'width': 0.0}])
def test_wrong_arguments(wrong):
    """One sentence."""
    with pytest.raises(ConfigurationError, match='at least one source'):
        EgoMotionNet(**wrong)
