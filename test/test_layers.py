# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""TensorFlow's layers in PyTorch, against sums written out by hand (sfmlearner.md 1.4)."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from geo_perception.networks.layers import (
    BATCH_NORM_EPS, Block, cut_to, EvenConv2d, SameConv2d, SameConvTranspose2d, scaled,
    SlimBatchNorm2d, up_convolution, upsample_legacy_bilinear)


@pytest.mark.parametrize('size, kernel, stride, before, after', [
    ((128, 416), 7, 2, (2, 2), (3, 3)), ((64, 208), 5, 2, (1, 1), (2, 2)),
    ((32, 104), 3, 2, (0, 0), (1, 1)), ((4, 13), 3, 2, (0, 1), (1, 1)),
    ((2, 7), 3, 2, (0, 1), (1, 1)), ((8, 9), 3, 1, (1, 1), (1, 1))])
def test_same_padding_depends_on_the_size(size, kernel, stride, before, after):
    """The paddings that the specification lists for 128x416, level by level."""
    conv = SameConv2d(1, 1, kernel, stride, bias=False)
    image = torch.randn(1, 1, *size)
    padded = torch.nn.functional.pad(image, (before[1], after[1], before[0], after[0]))
    expected = torch.nn.functional.conv2d(padded, conv.weight, stride=stride)
    found = conv(image)
    assert found.shape[2:] == tuple(-(-n // stride) for n in size)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('kernel', [3, 5, 7])
def test_transposed_convolution_is_the_adjoint_of_the_same_convolution(kernel):
    """It is defined as the gradient of the SAME convolution of stride 2."""
    up = SameConvTranspose2d(2, 3, kernel, bias=False).double()
    down = SameConv2d(3, 2, kernel, 2, bias=False).double()
    with torch.no_grad():
        down.weight.copy_(up.weight)
    small = torch.randn(1, 2, 4, 5, dtype=torch.double)
    large = torch.randn(1, 3, 8, 10, dtype=torch.double)
    assert up(small).shape == large.shape
    torch.testing.assert_close((up(small) * large).sum(), (small * down(large)).sum())


def test_legacy_bilinear():
    """The specification's example, and an image by loops."""
    row = torch.arange(4.0)[None, None, None]
    expected = torch.tensor([0, .5, 1, 1.5, 2, 2.5, 3, 3])
    assert torch.equal(upsample_legacy_bilinear(row)[0, 0, 0], expected)
    image = torch.randn(1, 1, 3, 4)
    found = upsample_legacy_bilinear(image)[0, 0]
    assert found.shape == (6, 8)
    for y in range(6):
        for x in range(8):
            rows, columns = ({n // 2, min(n // 2 + n % 2, limit)} for n, limit in ((y, 2), (x, 3)))
            mean = np.mean([image[0, 0, r, c] for r in rows for c in columns])
            assert found[y, x] == pytest.approx(mean, abs=1e-6)


def test_batch_norm_has_an_offset_and_no_gain():
    """Slim's default; statistics follow with the given momentum."""
    norm = SlimBatchNorm2d(2, momentum=0.1)
    assert [name for name, _ in norm.named_parameters()] == ['bias']
    with torch.no_grad():
        norm.bias.copy_(torch.tensor([1.0, 2.0]))
    x = 3 + 2 * torch.randn(4, 2, 5, 5)
    expected = (x - x.mean((0, 2, 3), keepdim=True)) / (
        x.var((0, 2, 3), keepdim=True, unbiased=False) + BATCH_NORM_EPS).sqrt()
    torch.testing.assert_close(norm(x), expected + torch.tensor([1.0, 2.0])[:, None, None])
    torch.testing.assert_close(norm.running_mean, 0.1 * x.mean((0, 2, 3)))


def test_a_norm_replaces_the_bias():
    """A convolution before batch norm has none (rule 8)."""
    assert [n for n, _ in Block(SameConv2d, 3, 4, 3).named_parameters()] == ['0.weight', '0.bias']
    normed = Block(SameConv2d, 3, 4, 3, 0.01, relu=False)
    assert [n for n, _ in normed.named_parameters()] == ['0.weight', '1.bias']
    assert (Block(SameConv2d, 3, 4, 3)(torch.randn(1, 3, 8, 8)) >= 0).all()


def test_one_by_one_of_stride_two():
    """It sees every other pixel; oneDNN's own crashes here, channels-last."""
    conv = EvenConv2d(12, 12, 1, 2).to(memory_format=torch.channels_last)
    for _ in range(20):
        x = torch.randn(4, 12, 15, 26).contiguous(memory_format=torch.channels_last)
        found = conv(x.requires_grad_())
        found.sum().backward()
    expected = torch.einsum('oi,bihw->bohw', conv.weight[:, :, 0, 0], x[:, :, ::2, ::2])
    torch.testing.assert_close(found, expected + conv.bias[:, None, None])


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('channels', [4, 200])   # fewer and more weights than pixels
def test_up_convolution_is_nearest_neighbour_and_a_convolution(channels, layout):
    """Values and both gradients, to the border, as the published two steps have them."""
    up = up_convolution(3, channels, None).double().to(memory_format=layout)
    conv = up[0]
    nn.init.normal_(conv.bias)
    found, expected = (torch.randn(2, 3, 4, 5, dtype=torch.double,
                                   generator=torch.Generator().manual_seed(0)).requires_grad_()
                       for _ in range(2))
    results = []
    for x, function in (found, up), (expected, lambda x: torch.relu(F.conv2d(
            F.interpolate(x, scale_factor=2), conv.weight, conv.bias, padding=1))):
        y = function(x)
        conv.zero_grad()
        (y * torch.arange(y.numel()).reshape(y.shape)).sum().backward()
        results.append((y, x.grad, conv.weight.grad, conv.bias.grad))
    assert results[0][0].shape == (2, channels, 8, 10)
    for value, reference in zip(*results):
        torch.testing.assert_close(value, reference)


def test_cut_and_width():
    """A surplus row and column goes; channels are scaled and never vanish."""
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert torch.equal(cut_to(x, torch.zeros(1, 5, 3, 4)), x[:, :, :3])
    assert (scaled(64, 0.25), scaled(16, 0.01)) == (16, 1)
