# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What a model for geometry says of its training."""

from dataclasses import replace

import pytest
from tiny_geometry_model import write_geometry_model

from geo_perception.errors import ModelFileError
from geo_perception.inference.geometry_model import load_geometry_model, trained_interval


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """Return a small model."""
    return load_geometry_model(write_geometry_model(
        tmp_path_factory.mktemp('model') / 'm.safetensors'))


def trained_on(model, data):
    """Return a model with another description of its data."""
    return replace(model, metadata=replace(model.metadata, data=data))


@pytest.mark.parametrize('data, expected', [({}, None), ({'interval': None}, None),
                                            ({'interval': 0.1}, 0.1), ({'interval': 1}, 1)])
def test_interval_of_training(model, data, expected):
    """Not every model knows it."""
    assert trained_interval(trained_on(model, data)) == expected


@pytest.mark.parametrize('interval', [0, -0.1, float('inf'), float('nan'), 'short', [0.1]])
def test_impossible_interval(model, interval):
    """It is named, with the file."""
    with pytest.raises(ModelFileError, match='m.safetensors says .* trained on frames .* s apart'):
        trained_interval(trained_on(model, {'interval': interval}))
