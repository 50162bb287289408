# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Single pictures in files, of any depth and number of channels."""

import cv2
import numpy as np
import pytest

from geo_perception.datasets.picture_files import read_depth, read_image
from geo_perception.errors import ImageError


@pytest.mark.parametrize('picture', [
    np.array([[0, 100, 255]], np.uint8),
    np.array([[0, 100 * 256, 65535]], np.uint16),
    np.array([[[0] * 3, [100 * 256] * 3, [65535] * 3]], np.uint16)])
def test_every_picture_becomes_colour_of_eight_bits(tmp_path, picture):
    """Grey is replicated; of 16 bits the upper ones are kept."""
    cv2.imwrite(str(tmp_path / 'a.png'), picture)
    image = read_image(tmp_path / 'a.png')
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, [[[0] * 3, [100] * 3, [255] * 3]])


@pytest.mark.parametrize('shape, dtype', [((4, 6), np.uint8), ((4, 6, 3), np.uint16)])
def test_depth_has_one_channel_of_16_bits(tmp_path, shape, dtype):
    """A picture of depth for people is refused."""
    cv2.imwrite(str(tmp_path / 'a.png'), np.ones(shape, dtype))
    with pytest.raises(ImageError, match='a.png is not a depth image: 16 bits and one channel'):
        read_depth(tmp_path / 'a.png', 1000)
