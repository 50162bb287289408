# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Imported networks of the published sizes against stored numbers, most of them TensorFlow's."""

from named_weights import differences, FILES, outputs, sources
import pytest

# Parts of the spread of an output.
TOLERANCE = 1e-4


@pytest.mark.parametrize('name', FILES)
def test_every_output_at_the_published_size(name):
    """Every scale and head; nothing of the file is left over."""
    build, _ = FILES[name]
    imported = build(sources(name))
    assert not any(imported.ignored.values())
    found = differences(name, outputs(imported))
    assert max(found.values()) < TOLERANCE, found
