# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The retrieval baseline finds the view that looks alike, whatever the light."""

import cv2
import numpy as np
import pytest

from geo_perception.inference.retrieval import Retrieval, thumbnail


def pictures(n, height=120, width=160):
    """Return n different smooth colour pictures."""
    rng = np.random.default_rng(0)
    return [cv2.resize(rng.integers(40, 160, (6, 8, 3), np.uint8), (width, height),
                       interpolation=cv2.INTER_CUBIC) for _ in range(n)]


def poses(n):
    """Return n poses that tell their index."""
    T = np.tile(np.eye(4), (n, 1, 1))
    T[:, 0, 3] = np.arange(n)
    return T


def test_thumbnail_is_normalised_and_upright():
    """24 rows, 32 columns, zero mean, unit norm, top left stays top left."""
    image = np.zeros((240, 320, 3), np.uint8)
    image[:120, :160] = 200
    t = thumbnail(image)
    assert t.shape == (24, 32) and t.dtype == np.float32
    assert t.mean() == pytest.approx(0, abs=1e-6) and np.linalg.norm(t) == pytest.approx(1)
    assert (t[:12, :16] > 0).all() and (t[12:] < 0).all() and (t[:, 16:] < 0).all()


def test_thumbnail_averages_all_pixels():
    """Area resampling: each of its pixels is the mean of a block."""
    image = np.repeat(np.random.default_rng(0).integers(0, 256, (240, 320, 1), np.uint8), 3, 2)
    means = image[..., 0].reshape(24, 10, 32, 10).mean((1, 3))
    means -= means.mean()
    assert thumbnail(image) == pytest.approx(means / np.linalg.norm(means), abs=4e-3)   # 8 bits


def test_weights_of_the_channels_are_those_of_rgb():
    """Green is brighter than red, red brighter than blue."""
    image = np.zeros((48, 96, 3), np.uint8)
    for channel in range(3):
        image[:, 32 * channel:32 * (channel + 1), channel] = 255
    left, middle, right = (thumbnail(image)[:, s].mean() for s in
                           (slice(2, 8), slice(13, 19), slice(24, 30)))
    assert middle > left > right


def test_light_and_size_do_not_matter():
    """A darker, duller copy of another size finds its original."""
    images = pictures(8)
    retrieval = Retrieval([thumbnail(image) for image in images], poses(8))
    for i, image in enumerate(images):
        query = (0.5 * cv2.resize(image, (200, 150)) + 20).astype(np.uint8)
        assert retrieval.nearest(query) == i
        assert retrieval(query)[0, 3] == i


def test_half_precision_thumbnails_are_enough():
    """Model files store them as float16."""
    images = pictures(8)
    stored = np.stack([thumbnail(image) for image in images]).astype(np.float16)
    assert [Retrieval(stored, poses(8)).nearest(image) for image in images] == list(range(8))


def test_black_image_has_an_answer():
    """A camera with its lid on: no NaN, no exception."""
    black = np.zeros((48, 64, 3), np.uint8)
    assert not thumbnail(black).any()
    retrieval = Retrieval([thumbnail(image) for image in pictures(3)], poses(3))
    assert np.isfinite(retrieval(black)).all()


def test_similarity_is_the_correlation_with_the_best():
    """1 for a training image, clearly less for a picture of something else."""
    *images, other = pictures(5)
    retrieval = Retrieval([thumbnail(image) for image in images], poses(4))
    assert retrieval.similarity(images[2]) == pytest.approx(1.0, abs=1e-5)
    assert retrieval.similarity(other) < 0.7
    assert retrieval.correlations(images[1]).shape == (4,)
