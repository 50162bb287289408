# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Corners found exactly, by what they looked like first."""

import cv2
import numpy as np
import pytest
from small_world import CAMERA

from geo_perception.inference.feature_tracks import FeatureImage, find_corners, follow
from geo_perception.inference.patches import Patches

WIDTH, HEIGHT = CAMERA.width, CAMERA.height


@pytest.fixture(scope='module')
def picture():
    """Return a smooth random picture, larger than the image."""
    random = np.random.default_rng(0)
    return cv2.GaussianBlur(random.uniform(0, 255, (2 * HEIGHT, 2 * WIDTH)).astype(np.float32),
                            (0, 0), 1.5) * 2.4 - 180


def seen(picture, warp, gain=1.0, offset=0.0):
    """Return the middle of the picture, warped about its centre, in another light."""
    centre = np.array([WIDTH, HEIGHT]) / 2
    M = np.c_[warp, centre - warp @ (2 * centre)]
    image = cv2.warpAffine(picture, M, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC)
    image = np.uint8(np.clip(gain * image + offset, 0, 255))
    return FeatureImage.of(np.repeat(image[..., None], 3, 2), CAMERA)


def corners_of(image):
    """Return corners whose patches are inside, however they turn."""
    corners = find_corners(image, np.zeros((0, 2)))
    return corners[(np.abs(corners - [WIDTH / 2, HEIGHT / 2]) < [32, 18]).all(1)]


def turned(angle, scale=1.0):
    """Return a turn by radians, and an enlargement."""
    return scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def test_errors_do_not_add_up_from_image_to_image(picture):
    """After 12 images, turned and enlarged, a tenth of a pixel is left; following has five."""
    first = image = seen(picture, turned(0))
    start = pixels = corners_of(first)
    assert len(start) > 15
    centre = np.array([WIDTH, HEIGHT]) / 2
    patches = Patches.of(first, start)
    for i in range(1, 13):
        warp = turned(0.02 * i, 1 + 0.01 * i)
        now = seen(picture, warp)
        pixels, _ = follow(image, now, pixels, pixels)
        image = now
    true = (start - centre) @ warp.T + centre
    exact, found = patches.align(image, np.broadcast_to(warp, (len(start), 2, 2)), pixels)
    followed, aligned = (np.median(np.linalg.norm(p - true, axis=1)) for p in (pixels, exact))
    assert found.mean() > 0.9
    assert aligned < 0.1 and followed > 3 * aligned


def test_light_does_not_move_them(picture):
    """Two thirds of the contrast and twenty levels more: to a twentieth of a pixel."""
    first = seen(picture, turned(0))
    start = corners_of(first)
    lit = seen(picture, turned(0), 0.67, 20.0)
    exact, found = Patches.of(first, start).align(
        lit, np.broadcast_to(np.eye(2), (len(start), 2, 2)), start + [0.7, -0.4])
    assert found.all() and np.abs(exact - start).max() < 0.05


def test_faint_corners_are_found_too(picture):
    """Of a deviation of three levels, as at night; not where the image is one colour."""
    start = corners_of(seen(picture, turned(0)))
    eye = np.broadcast_to(np.eye(2), (len(start), 2, 2))
    faint = seen(picture, turned(0), 0.1, 20.0)
    assert faint.grey.std() < 6
    exact, found = Patches.of(faint, start).align(faint, eye, start + 0.3)
    assert found.mean() > 0.95 and np.abs(exact - start)[found].max() < 0.1
    blank = seen(picture, turned(0), 0.0, 20.0)
    assert not Patches.of(blank, start).align(blank, eye, start)[1].any()


def test_a_patch_seen_from_the_side_is_not_found(picture):
    """One that is bent to a line, or seen from behind, does not spoil the others."""
    image = seen(picture, turned(0))
    start = corners_of(image)
    warps = np.tile(np.eye(2), (len(start), 1, 1))
    warps[0], warps[1] = [[1, 1], [1, 1]], [[-1, 0], [0, 1]]
    _, found = Patches.of(image, start).align(image, warps, start)
    assert not found[:2].any() and found[2:].all()


def test_what_looks_otherwise_is_not_found(picture):
    """Another picture, and a place too far away."""
    first = seen(picture, turned(0))
    start = corners_of(first)
    patches, eye = Patches.of(first, start), np.broadcast_to(np.eye(2), (len(start), 2, 2))
    assert patches.align(seen(picture[::-1], turned(0)), eye, start)[1].mean() < 0.2
    assert patches.align(first, eye, start + [4.0, 0.0])[1].mean() < 0.2


def test_some_and_none(picture):
    """Patches are chosen and joined like the corners they belong to."""
    image = seen(picture, turned(0))
    start = corners_of(image)
    patches = Patches.of(image, np.zeros((0, 2))).joined(Patches.of(image, start))
    some = patches.chosen(np.arange(5)).joined(patches.chosen(np.arange(len(start)) >= 5))
    assert np.array_equal(some.basis, patches.basis)
    exact, found = some.align(image, np.broadcast_to(np.eye(2), (len(start), 2, 2)), start)
    assert found.all() and np.allclose(exact, start, atol=0.01)
    none = Patches.of(image, np.zeros((0, 2))).align(
        image, np.zeros((0, 2, 2)), np.zeros((0, 2)))
    assert none[0].shape == (0, 2) and none[1].shape == (0,)
