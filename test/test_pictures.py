# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Pictures of depth and of paths show what they should."""

import numpy as np

from geo_perception.geometry.se3 import make_transform, matrix_from_rotation_vector
from geo_perception.inference.preview import preview
from geo_perception.training.pictures import BLUE, GREY, MARGIN, SIZE, trajectory_picture


def test_preview_is_bright_where_it_is_near():
    """Near is brighter than far, unknown is black, the image is above."""
    depth = np.full((8, 12), 10.0, np.float32)
    depth[:, :4], depth[:, 4:8] = 1.0, np.nan
    picture = preview(depth, np.full((16, 24, 3), (200, 0, 0), np.uint8))
    assert picture.shape == (16, 12, 3)
    assert (picture[:8] == (0, 0, 200)).all()
    brightness = picture[8:].astype(int).sum(2)
    assert brightness[4, 1] > 2 * brightness[4, 10] > 2 * brightness[4, 6]


def where(picture, colour):
    """Return rows and columns of the pixels of a colour."""
    return np.nonzero((picture == np.array(colour, np.uint8)).all(2))


def test_path_from_above():
    """Ahead is up and right is right; the scale brings the prediction onto the truth."""
    turn = matrix_from_rotation_vector(np.array([0, np.pi / 2, 0]))
    ahead = make_transform(np.eye(3), np.array([0.0, 0, 1]))
    true = np.stack([ahead] * 4 + [make_transform(turn, np.array([0.0, 0, 1]))] + [ahead] * 5)
    rows, columns = where(trajectory_picture(true, np.full_like(true, np.nan)), BLUE)
    # Five ahead, then five to the right: a square.
    assert abs(columns[rows.argmax()] - MARGIN) <= 4 and abs(rows.max() - (SIZE - MARGIN)) <= 4
    right = columns > SIZE - MARGIN - 4
    assert right.any() and (abs(rows[right] - MARGIN) <= 4).all()
    small = true.copy()
    small[:, :3, 3] /= 10
    scaled = trajectory_picture(small, true, 10.0)
    assert len(where(scaled, BLUE)[0]) > 100 > 2 * len(where(scaled, GREY)[0])
    apart = trajectory_picture(small, true)
    assert len(where(apart, GREY)[0]) > 400


def test_standing_still():
    """A path without extent is a dot."""
    still = np.stack([np.eye(4)] * 3)
    assert len(where(trajectory_picture(still, still), BLUE)[0]) > 10
