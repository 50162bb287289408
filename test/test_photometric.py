# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Image distance and smoothness against published numbers and loops."""

import golden_grid as golden
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from geo_perception.losses.photometric import image_distance, ssim_distance, windows
from geo_perception.losses.smoothness import edge_aware, mean_normalised, second_order


def test_published_ssim():
    """Values printed in geonet.md appendix A."""
    x, y = golden.image(), golden.image(0.4)
    distance = ssim_distance(x, y)
    np.testing.assert_allclose(distance.mean(), 0.253949, atol=5e-7)
    np.testing.assert_allclose(distance[0, 0, 0, 0], 0.080152, atol=5e-7)
    np.testing.assert_allclose(distance[0, 1, 1, 2], 0.077701, atol=5e-7)
    np.testing.assert_allclose(image_distance(x, y).mean(), 0.250999, atol=5e-7)


def test_ssim_by_loops():
    """One window written out, with real pixels only or reflected ones."""
    random = np.random.default_rng(0)
    x, y = random.random((2, 5, 6)).astype(np.float32)
    for reflect in (False, True):
        a, b = (np.pad(v, 1, 'reflect') if reflect else np.pad(v, 1, constant_values=np.nan)
                for v in (x, y))
        found = ssim_distance(torch.from_numpy(x)[None, None], torch.from_numpy(y)[None, None],
                              reflect)[0, 0]
        for row, column in ((0, 0), (2, 3), (4, 5)):
            p, q = (v[row:row + 3, column:column + 3] for v in (a, b))
            p, q = p[np.isfinite(p)].astype(float), q[np.isfinite(q)].astype(float)
            covariance = np.mean(p * q) - p.mean() * q.mean()
            ssim = ((2 * p.mean() * q.mean() + 1e-4) * (2 * covariance + 9e-4)
                    / ((p.mean() ** 2 + q.mean() ** 2 + 1e-4) * (p.var() + q.var() + 9e-4)))
            assert found[row, column] == pytest.approx(np.clip((1 - ssim) / 2, 0, 1), abs=1e-5)


def plain_distance(x, y, reflect):
    """Return the distance as a chain of PyTorch functions, which differentiates itself."""
    pad = (lambda v: F.pad(v, (1, 1, 1, 1), 'reflect')) if reflect else (lambda v: v)

    def mean(values):
        return F.avg_pool2d(values, 3, 1, 0 if reflect else 1, count_include_pad=False)

    a, b = pad(x), pad(y)
    mean_a, mean_b = mean(a), mean(b)
    ssim = ((2 * mean_a * mean_b + 1e-4) * (2 * (mean(a * b) - mean_a * mean_b) + 9e-4)
            / ((mean_a ** 2 + mean_b ** 2 + 1e-4)
               * (mean(a * a) - mean_a ** 2 + mean(b * b) - mean_b ** 2 + 9e-4)))
    return 0.85 * (0.5 * (1 - ssim)).clamp(0, 1) + 0.15 * (x - y).abs()


@pytest.mark.parametrize('reflect', [False, True])
def test_gradient_by_hand(reflect):
    """Values and gradient are those of the plain chain, where SSIM is clipped, too."""
    torch.manual_seed(0)
    x, y, weight = torch.rand(3, 2, 3, 7, 9).double()
    # Opposite patterns have a negative SSIM, far from any clip; equal ones one at its end.
    x[0, 0], x[0, 1] = 1 - y[0, 0], y[0, 1]
    x.requires_grad_()
    expected = plain_distance(x, y, reflect)
    (gradient,) = torch.autograd.grad((expected * weight).sum(), x)
    for other in (y, windows(y, reflect)):
        found = image_distance(x, other, reflect)
        torch.testing.assert_close(found, expected)
        (by_hand,) = torch.autograd.grad((found * weight).sum(), x)
        torch.testing.assert_close(by_hand, gradient)
    assert torch.autograd.gradcheck(lambda v: ssim_distance(v, y[1:], reflect),
                                    x[1:].detach().requires_grad_())


def test_one_image_with_many():
    """Its statistics broadcast, and half precision is compared in single."""
    x, y = torch.rand(2, 4, 3, 6, 8), torch.rand(2, 1, 3, 6, 8)
    together = image_distance(x, windows(y, True))
    for i in range(4):
        torch.testing.assert_close(together[:, i], image_distance(x[:, i], y[:, 0], True))
    half = image_distance(x.bfloat16(), y.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, image_distance(x.bfloat16().float(), y.bfloat16().float()))


def test_equal_images_are_no_distance_apart():
    """Black ones too."""
    for image in (golden.image(), torch.zeros(1, 3, 8, 8)):
        torch.testing.assert_close(image_distance(image, image).double(),
                                   torch.zeros_like(image).double(), atol=1e-6, rtol=0)


def test_published_smoothness():
    """Values printed in sfmlearner.md 3.6 and geonet.md appendix A."""
    image = golden.image()
    np.testing.assert_allclose(second_order(golden.DISPARITY), 0.075889, atol=5e-7)
    np.testing.assert_allclose(edge_aware(golden.DISPARITY, image), 0.045049, atol=5e-7)
    np.testing.assert_allclose(mean_normalised(golden.DISPARITY)[0, 0, 0, 0], 1.104994, atol=5e-7)
    # The specification averages over u and v.
    np.testing.assert_allclose(edge_aware(golden.FLOW, image), 0.306937, atol=5e-7)


def test_edges_may_be_sharp_where_the_image_has_one():
    """A step in disparity costs less on a step in the image."""
    step = torch.zeros(1, 1, 4, 8)
    step[..., 4:] = 1.0
    grey = torch.zeros(1, 3, 4, 8)
    assert edge_aware(step, step.expand(1, 3, 4, 8)) < 0.5 * edge_aware(step, grey)
    plane = torch.arange(8.0).expand(1, 1, 4, 8)
    assert second_order(plane) == 0 and edge_aware(plane, grey) == 1
