# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The losses of stereo pairs: published numbers, plain second implementations, what they learn."""

from dataclasses import replace

from monodepth_golden import fill, image
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from geo_perception.errors import ConfigurationError
from geo_perception.geometry.sampling import shift_columns
from geo_perception.losses.photometric import image_distance, ssim_distance
from geo_perception.losses.smoothness import edge_aware, mean_normalised
from geo_perception.losses.stereo import StereoLoss, StereoOptions
from geo_perception.networks.monodepth import MonodepthResNet50

PUBLISHED = StereoOptions(border='published')
Y, X = np.mgrid[:6, :8].astype(float)


def single(values):
    """Return a map as a batch of one channel, 32 bits as published, computed with 64."""
    return torch.from_numpy(values.astype(np.float32)).double()[None, None]


D, E = single(0.06 + 0.04 * np.sin(0.5 * X + 0.3 * Y)), single(
    0.06 + 0.04 * np.cos(0.4 * X - 0.2 * Y))
# Variances are small differences of large numbers: of that the published numbers, computed with
# 32 bits, are off by up to 2e-6.
A, B = image(0.0, 6, 8).double(), image(0.2, 6, 8).double()
SSIM_NOISE = 2e-6


@pytest.mark.parametrize('offset, published, inclusive', [
    (-0.1, '.02 .12 .22 .32 .42 .52 .62 .72', '.10 .12 .22 .32 .42 .52 .62 .72'),
    (0.1, '.18 .28 .38 .48 .58 .68 .78 .16', '.18 .28 .38 .48 .58 .68 .78 .80'),
    (-0.0625, '.05 .15 .25 .35 .45 .55 .65 .75', '.10 .15 .25 .35 .45 .55 .65 .75'),
    (-0.25, '0 0 .1 .2 .3 .4 .5 .6', '.1 .1 .1 .2 .3 .4 .5 .6'),
    (0.3, '.34 .44 .54 .64 .74 .48 0 0', '.34 .44 .54 .64 .74 .8 .8 .8'),
    (-1.0, '0 0 0 0 0 0 0 0', '.1 .1 .1 .1 .1 .1 .1 .1'),
    (1e6, '0 0 0 0 0 0 0 0', '.8 .8 .8 .8 .8 .8 .8 .8')])
def test_sampler(offset, published, inclusive):
    """Both borders, to the published numbers (section 19.1), and what is outside."""
    row = torch.arange(1, 9).float().mul(0.1).expand(1, 1, 2, 8)
    offsets = torch.full((1, 1, 2, 8), offset)
    for border, expected in (('published', published), ('inclusive', inclusive)):
        values, valid = shift_columns(row, offsets, border)
        expected = np.array(expected.split(), float)
        np.testing.assert_allclose(values[0, 0], np.stack([expected, expected]), atol=5e-7)
        inside = np.abs(np.arange(8) + 8 * offset - 3.5) <= 3.5
        assert np.array_equal(valid[0, 0, 0], inside)


def test_terms_have_the_published_values():
    """Section 19.2: one pair at one scale, and the parts it is made of."""
    assert A[0, :, 0, 0].tolist() == pytest.approx((0.7, 0.845267, 0.885704), abs=1e-6)
    ssim = ssim_distance(A, B)[..., 1:-1, 1:-1]
    assert ssim.mean().item() == pytest.approx(0.0159387, abs=SSIM_NOISE)
    assert ssim[0, :, 0, 0].tolist() == pytest.approx((0.002783, 0.023104, 0.042768), abs=3e-5)
    assert edge_aware(D, A, 'x').item() == pytest.approx(0.0118476, abs=2e-7)
    assert (edge_aware(D, A) - edge_aware(D, A, 'x')).item() == pytest.approx(0.0072499, abs=2e-7)
    seen, _ = shift_columns(B, -D, 'published')
    assert seen.mean().item() == pytest.approx(0.729928, abs=1e-6)
    np.testing.assert_allclose(seen[0, 0, 2], (.247319, .743330, .800006, .845266, .868759,
                                               .862145, .822891, .755706), atol=1e-6)
    terms = StereoLoss(replace(PUBLISHED, scales=1, smoothness_axes='x'))(
        A, B, [torch.cat([D, E], 1)])
    assert terms['consistency'].item() == pytest.approx(0.0219340 + 0.0196421, abs=5e-7)
    # Every eye's image is rebuilt from the other's.
    expected = 0.0
    for target, source, offset in ((A, B, -D), (B, A, E)):
        rebuilt = plain_shift(source.numpy(), offset.numpy())
        expected += plain_photometric(rebuilt, target.numpy())
    assert terms['photometric'].item() == pytest.approx(expected, abs=1e-9)


def test_whole_network_to_the_published_losses():
    """Section 19.3: all scales, both eyes."""
    size = (64, 128)
    left, right = image(0.0, *size), image(0.2, *size)
    with torch.no_grad():
        disparities = fill(MonodepthResNet50(), size)(left)
        both = StereoLoss(PUBLISHED)(left, right, disparities)
        one = StereoLoss(replace(PUBLISHED, smoothness_axes='x'))(left, right, disparities)
    assert both['photometric'].item() == pytest.approx(3.525982, abs=1e-5)
    assert both['consistency'].item() == pytest.approx(0.265075, abs=1e-5)
    assert one['smoothness'].item() == pytest.approx(0.00189328, abs=1e-6)
    assert both['smoothness'].item() == pytest.approx(0.00362430, abs=1e-6)
    assert one['total'].item() == pytest.approx(3.792950, abs=1e-5)
    assert both['total'].item() == pytest.approx(3.794681, abs=1e-5)


def plain_shift(image, offset):
    """Return the published sampler, pixel by pixel."""
    _, channels, height, width = image.shape
    padded = np.zeros((channels, height, width + 3))
    padded[:, :, 1:width + 1] = image[0]
    result = np.zeros((channels, height, width))
    for y in range(height):
        for x in range(width):
            u = np.clip(x + offset[0, 0, y, x] * width, -1, width)
            whole = int(np.floor(u))
            part = u - whole
            result[:, y, x] = ((1 - part) * padded[:, y, whole + 1]
                               + part * padded[:, y, whole + 2])
    return result[None]


def plain_photometric(x, y):
    """Return 0.85 DSSIM + 0.15 L1, window by window."""
    _, channels, height, width = x.shape
    values = []
    for c in range(channels):
        for i in range(height - 2):
            for j in range(width - 2):
                a, b = (v[0, c, i:i + 3, j:j + 3].astype(float) for v in (x, y))
                covariance = (a * b).mean() - a.mean() * b.mean()
                ssim = ((2 * a.mean() * b.mean() + 1e-4) * (2 * covariance + 9e-4)
                        / ((a.mean() ** 2 + b.mean() ** 2 + 1e-4) * (a.var() + b.var() + 9e-4)))
                values.append(np.clip((1 - ssim) / 2, 0, 1))
    return 0.85 * np.mean(values) + 0.15 * np.abs(x - y).mean()


def test_inclusive_leaves_out_what_only_one_eye_sees():
    """A plane at three pixels costs next to nothing; as published its border does."""
    torch.manual_seed(0)
    wide = F.avg_pool2d(torch.rand(1, 3, 16, 40), 3, 1, 1)
    left, right = wide[..., :32], wide[..., 3:35]
    disparities = [torch.full((1, 2, 16, 32), 3 / 32)]
    options = StereoOptions(scales=1)
    inclusive = StereoLoss(options)(left, right, disparities)
    # Windows of the last column inside reach one pixel beyond.
    assert inclusive['total'] < 0.01 and inclusive['consistency'] < 1e-6
    published = StereoLoss(replace(options, border='published'))(left, right, disparities)
    assert published['photometric'] > 10 * inclusive['photometric']
    assert published['consistency'] > 0.01
    assert StereoLoss(options)(right, left, disparities)['photometric'] > 0.1


def test_both_eyes_learn_from_every_term():
    """Gradients reach the offset and what is sampled, in both objectives."""
    torch.manual_seed(0)
    left, right = torch.rand(2, 1, 3, 16, 32)
    for options, channels in ((StereoOptions(), 2), (PUBLISHED, 2),
                              (StereoOptions('one_view', 0.001), 1)):
        disparities = [(0.05 + 0.02 * torch.rand(1, 2, 16 // 2 ** s, 32 // 2 ** s)
                        ).requires_grad_() for s in range(4)]
        StereoLoss(options)(left, right, disparities)['total'].backward()
        for d in disparities:
            assert [bool(d.grad[:, c].abs().sum() > 0) for c in (0, 1)] == [True, channels == 2]
        assert 'consistency' in StereoLoss(options)(left, right, disparities) or channels == 1


def test_monodepth2_to_the_published_numbers():
    """Section 19.4: reflected windows, normalised smoothness, and the minimum with the mask."""
    assert ssim_distance(A, B, True).mean().item() == pytest.approx(0.0146351, abs=SSIM_NOISE)
    assert image_distance(A, B, True).mean().item() == pytest.approx(0.0169103, abs=SSIM_NOISE)
    assert edge_aware(mean_normalised(D), A).item() == pytest.approx(0.274356, abs=2e-6)
    options = StereoOptions('one_view', 0.001, scales=1)
    terms = StereoLoss(options)(A, B, [torch.cat([D, E], 1)])
    assert terms['smoothness'].item() == pytest.approx(0.000274356, abs=1e-8)
    rebuilt, _ = shift_columns(B, -D)
    expected = image_distance(rebuilt, A, True)
    assert terms['photometric'].item() == pytest.approx(expected.mean().item(), abs=1e-7)
    masked = StereoLoss(replace(options, auto_mask=True))(A, B, [torch.cat([D, E], 1)])
    still = image_distance(B, A, True).mean(1)
    least = torch.minimum(expected.mean(1), still).mean().item()
    assert masked['photometric'].item() == pytest.approx(least, abs=3e-5) and (
        least < expected.mean())


def test_monodepth2_from_either_eye():
    """A plane, four pixels apart: it is to the left in the right eye, and the other way round."""
    wide = F.avg_pool2d(torch.rand(1, 3, 16, 48, generator=torch.Generator().manual_seed(0)),
                        5, 1, 2)
    left, right = wide[..., :40], wide[..., 4:44]
    disparity = [torch.full((1, 2, 16, 40), 0.1)]
    loss = StereoLoss(StereoOptions('one_view', scales=1))
    right_way = loss(left, right, disparity)['photometric']
    assert right_way < 0.3 * loss(right, left, disparity)['photometric']
    # As the right eye's, with the left one as the source, and the other sign.
    side = torch.full((1, 1, 1, 1), -1.0)
    assert loss(right, left, disparity, side)['photometric'] < 0.3 * loss(
        left, right, disparity, side)['photometric']


@pytest.mark.parametrize('options, words', [({'scales': 5}, '1 to 4'),
                                            ({'auto_mask': True}, 'one_view')])
def test_options_that_mean_nothing(options, words):
    """One sentence."""
    with pytest.raises(ConfigurationError, match=words):
        StereoOptions(**options)
