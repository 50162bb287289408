# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Pictures of depth and of paths show what they should."""

from types import SimpleNamespace

import numpy as np
import pytest

from geo_perception.evaluation.geometry_charts import colour_bars, error_picture
from geo_perception.geometry.se3 import make_transform, matrix_from_rotation_vector
from geo_perception.inference.preview import depth_picture, depth_range, preview
from geo_perception.training.pictures import BLUE, GREY, MARGIN, SIZE, trajectory_picture


def test_depth_is_red_where_it_is_near_and_blue_where_it_is_far():
    """Evenly in its logarithm, so green in the middle; unknown is grey, also where all is."""
    depth = np.float32([[0.5, 1.0, 4.0, 16.0, 99.0, np.nan]])
    colours = depth_picture(depth, (1.0, 16.0))[0].astype(int)
    assert (colours[0] == colours[1]).all() and (colours[3] == colours[4]).all()
    assert [int(colours[i].argmax()) for i in (1, 2, 3)] == [0, 1, 2]
    assert np.ptp(colours[5]) < 10 < 200 < colours[5].min()
    unknown = np.full((2, 3), np.nan, np.float32)
    assert (depth_picture(unknown, depth_range([unknown])) == colours[5]).all()


def test_single_pixels_do_not_take_the_colours():
    """Of all that is shown the nearest and farthest percent, and a wall is a range as well."""
    depth = np.linspace(2, 3, 1000, dtype=np.float32)
    outliers = np.float32([1e-3, 1e4, np.nan])
    low, high = depth_range([depth[:500], depth[500:], outliers])
    assert low == pytest.approx(2, abs=0.02) and high == pytest.approx(3, abs=0.02)
    low, high = depth_range([np.full(9, 2.0)])
    assert low == 2 and high > low


def test_preview_and_report_have_one_scale():
    """In the preview the image is above; the bar of the report shows the colours of both."""
    depth = np.full((8, 12), 10.0, np.float32)
    depth[:, :4], depth[:, 4:8] = 1.0, np.nan
    picture = preview(depth, np.full((16, 24, 3), (200, 0, 0), np.uint8))
    assert picture.shape == (16, 12, 3)
    assert (picture[:8] == (0, 0, 200)).all()
    bar = colour_bars()[0]
    for colour, expected in ((picture[12, 1], bar[0, 0]), (picture[12, 10], bar[0, -1])):
        assert (colour[::-1] == expected).all()
    unknown = picture[12, 6, ::-1]
    wall = np.ones((1, 2), np.float32)
    error = error_picture(SimpleNamespace(predicted=np.float32([[np.nan, 1]]), truth=wall))
    assert (error[0, 0] == unknown).all() and not (error[0, 1] == unknown).all()


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
