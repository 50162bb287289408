# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Image distance and smoothness against published numbers and loops."""

import golden_grid as golden
import numpy as np
import pytest
import torch

from geo_perception.losses.photometric import image_distance, ssim_distance
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
