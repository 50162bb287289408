# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Stamps and pictures of an image topic, one after the other."""

import numpy as np
import pytest

from geo_perception.ros.image_stream import ImageStream, LARGEST_DELAY_NS

SECOND = 1_000_000_000


def test_stamps_that_grow_are_fine():
    """However far apart."""
    stream = ImageStream()
    for stamp in (0, 1, SECOND, 1000 * SECOND):
        assert stream.arrival(stamp, 0) == ('', '')


@pytest.mark.parametrize('stamp, category', [
    (100 * SECOND, 'repeated'), (100 * SECOND - 1, 'late'),
    (100 * SECOND - LARGEST_DELAY_NS, 'late'), (100 * SECOND - LARGEST_DELAY_NS - 1, ''),
    (-1, 'stamp'), (2**31 * SECOND, 'stamp')])
def test_stamps_that_do_not_grow(stamp, category):
    """Again, late, or a clock that jumped: then that is the new time."""
    stream = ImageStream()
    stream.arrival(100 * SECOND, 0)
    assert stream.arrival(stamp, 0)[0] == category
    if not category:
        assert stream.arrival(stamp + 1, 0) == ('', '')
    else:
        assert stream.arrival(100 * SECOND + 1, 0) == ('', '')


@pytest.mark.parametrize('age, words', [
    (0.9, ''), (3.0, 'Images arrive 3.0 s after'), (-3.0, 'stamped 3.0 s ahead'), (-0.9, ''),
    (1e5, ''), (-1e5, '')])
def test_ages(age, words):
    """A second is much; a day is another epoch."""
    stream = ImageStream()
    for i in range(5):
        stream.arrival(10**6 * SECOND + i, round((10**6 + age) * SECOND) + i)
    warning = stream.warning(simulated=True)
    assert words in warning and bool(words) == bool(warning)


def test_the_age_without_a_clock_is_unknown():
    """Nothing is on /clock yet."""
    stream = ImageStream()
    stream.arrival(3 * SECOND, 0)
    assert stream.warning(simulated=True) == ''


def test_a_frozen_picture():
    """One pixel in sixteen that differs is enough to be alive; a simulation may stand still."""
    stream, image = ImageStream(), np.zeros((48, 64, 3), np.uint8)
    for i in range(30):
        stream.picture(i * SECOND // 10, image)
        expected = 'has not changed in a single pixel' if i > 20 else ''
        assert (expected in stream.warning(simulated=False)) \
            and bool(expected) == bool(stream.warning(simulated=False))
        assert stream.warning(simulated=True) == ''
    image[8, 8, 1] = 1
    stream.picture(3 * SECOND, image)
    assert stream.warning(simulated=False) == ''


def test_few_equal_pictures_are_no_frozen_camera():
    """However slow the camera is."""
    stream = ImageStream()
    for i in range(5):
        stream.picture(10 * i * SECOND, np.zeros((48, 64, 3), np.uint8))
    assert stream.warning(simulated=False) == ''
