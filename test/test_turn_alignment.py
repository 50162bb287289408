# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""How far a camera turned, by the whole of two images."""

import numpy as np
import pytest
import textured_room

from geo_perception.geometry.se3 import (
    make_transform, matrix_from_rotation_vector, R_BODY_OPTICAL, rotation_angle)
from geo_perception.inference.feature_tracks import FeatureImage
from geo_perception.inference.turn_alignment import turn_between


def seen(turn, way=0.0, gain=1.0, offset=0.0):
    """Return the room from its middle, turned about all axes of the camera."""
    image, _ = textured_room.render(make_transform(
        R_BODY_OPTICAL @ matrix_from_rotation_vector(np.array(turn)), [-2.0 + way, -1.1, -0.9]))
    image = np.uint8(np.clip(gain * image + offset, 0, 255))
    return FeatureImage.of(image, textured_room.CAMERA)


@pytest.mark.parametrize('light', [(1.0, 0.0), (0.6, 40.0)])
def test_fast_turn_about_all_axes(light):
    """Ten degrees, 45 of 320 pixels, and 5 cm of way: to half a degree, in whatever light."""
    turn = np.array([0.06, 0.14, -0.09])
    R = turn_between(seen([0.0, 0.0, 0.0]), seen(turn, 0.05, *light), np.eye(3))
    assert np.degrees(rotation_angle(R, matrix_from_rotation_vector(turn))) < 0.5


def test_a_wrong_guess_does_no_harm():
    """The camera turned back: it is found from where it was."""
    turn = np.array([0.0, -0.1, 0.0])
    R = turn_between(seen([0.0, 0.0, 0.0]), seen(turn),
                     matrix_from_rotation_vector(np.array([0.0, 0.5, 0.0])))
    assert np.degrees(rotation_angle(R, matrix_from_rotation_vector(turn))) < 0.5


def test_a_guess_reaches_further():
    """A quarter of the image is left in common after 36 degrees; a guess within 6 finds them."""
    turn = np.array([0.0, 0.63, 0.0])
    R = turn_between(seen([0.0, 0.0, 0.0]), seen(turn),
                     matrix_from_rotation_vector(np.array([0.0, 0.53, 0.0])))
    assert np.degrees(rotation_angle(R, matrix_from_rotation_vector(turn))) < 1.0


def test_blank_images_are_no_error():
    """What has no texture tells no turn, and does not raise."""
    blank = FeatureImage.of(np.full((240, 320, 3), 90, np.uint8), textured_room.CAMERA)
    R = turn_between(blank, blank, np.eye(3))
    assert R is None or np.isfinite(R).all()
