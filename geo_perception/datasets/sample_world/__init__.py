# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A small rendered place with exact truth: the embedded default of demo and tests."""

from geo_perception.datasets.sample_world.world import SampleFrame, SampleWorld
from geo_perception.datasets.sample_world.write import write_sample_world

__all__ = ['SampleFrame', 'SampleWorld', 'write_sample_world']
