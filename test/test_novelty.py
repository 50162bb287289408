# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""How far features lie outside the cloud of the training features."""

from types import SimpleNamespace

import numpy as np
from numpy.testing import assert_allclose
import pytest
import torch

from geo_perception.errors import ModelFileError
from geo_perception.inference.novelty import Novelty, pooled, SHRINKAGE

SIGMA = torch.tensor([3.0, 1.0, 0.2, 0.5])


def cloud(n=5000, turn=False):
    """Return features around (1, 2, 3, 4), more spread in some directions than in others."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((n, 4), generator=generator) * SIGMA
    if turn:
        x = x @ torch.linalg.qr(torch.randn((4, 4), generator=generator))[0]
    return x + torch.arange(1.0, 5.0)


def test_training_features_are_usual():
    """Their mean square is below one by what the least spread takes, however it is turned."""
    variance = SIGMA.square()
    expected = (variance / (variance + SHRINKAGE * variance.mean())).mean()
    for turn in (False, True):
        x = cloud(turn=turn)
        assert float(Novelty.fit(x)(x).square().mean()) == pytest.approx(float(expected), rel=0.05)


def test_distance_by_hand():
    """Along each axis in units of its spread, the least spread a part of the mean variance."""
    novelty = Novelty.fit(cloud(200_000))
    least = SHRINKAGE * SIGMA.square().mean()
    found = novelty(novelty.mean + torch.eye(4) * 2.0)
    assert_allclose(found, 2.0 / (4.0 * (SIGMA.square() + least)).sqrt(), rtol=0.02)
    assert float(novelty(novelty.mean[None])) == pytest.approx(0.0, abs=1e-5)


def test_fewer_features_than_channels():
    """The cloud is flat, and beside it is still far away, not infinitely."""
    x = torch.zeros(5, 300)
    x[:, :2] = cloud(5)[:, :2]
    found = Novelty.fit(x)(x.mean(0) + torch.eye(300)[[0, 299]])
    assert found.isfinite().all() and found[1] > found[0] > 0


def test_pooled_maps_and_vectors():
    """Means over maps; vectors as they are."""
    x = torch.arange(24.0).reshape(2, 3, 2, 2)
    assert_allclose(pooled(x), x.numpy().mean((2, 3)))
    assert_allclose(pooled(x[..., 0, 0]), x[..., 0, 0])


def test_model_file_keeps_it():
    """Also none; damaged tensors are a sentence."""
    novelty = Novelty.fit(cloud())
    tensors = novelty.tensors()
    again = Novelty.from_model(SimpleNamespace(tensors=tensors, path='m'))
    assert torch.equal(again(cloud(7)), novelty(cloud(7)))
    assert Novelty.from_model(SimpleNamespace(tensors={}, path='m')) is None
    for name, value in (('novelty.mean', None), ('novelty.root', np.eye(3)),
                        ('novelty.mean', np.full(4, np.nan))):
        damaged = {key: x for key, x in {**tensors, name: value}.items() if x is not None}
        with pytest.raises(ModelFileError, match='model file m has novelty.mean and'):
            Novelty.from_model(SimpleNamespace(tensors=damaged, path='m'))
