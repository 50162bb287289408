# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Views that were never taken have the poses they say they have."""

import numpy as np
from numpy.testing import assert_allclose
import pytest
import torch

from geo_perception.errors import ConfigurationError
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.se3 import matrix_from_rotation_vector, rotation_angle
from geo_perception.training.augmentation import augment, Augmentation

CAMERA = Camera(np.array([[150.0, 0, 78.0], [0, 155, 63.0], [0, 0, 1]]), 160, 120)
K = torch.from_numpy(CAMERA.K)
CROP = (96, 128)
R0 = matrix_from_rotation_vector([0.4, -0.2, 1.0])


def generator(seed=0):
    """Return a source of chance."""
    return torch.Generator().manual_seed(seed)


def stars(R):
    """Return the picture that a camera takes of far points in the world, and where they are."""
    random = np.random.default_rng(0)
    directions = np.concatenate([random.uniform(-0.6, 0.6, (60, 2)), np.ones((60, 1))], 1) @ R0.T
    pixels = CAMERA.project(directions @ R)
    v, u = np.mgrid[:120, :160]
    image = np.zeros((120, 160))
    for x, y in pixels:
        image = np.maximum(image, 250 * np.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * 1.5 ** 2)))
    return np.repeat(np.round(image).astype(np.uint8)[..., None], 3, 2), directions


def test_turned_camera_sees_what_its_label_says():
    """Every star within the crop is where the label puts it, to a tenth of a pixel."""
    image, directions = stars(R0)
    n = 12
    crops, R, offset = augment(
        torch.from_numpy(image).expand(n, -1, -1, -1),
        torch.from_numpy(R0).float().expand(n, 3, 3),
        K, CROP, Augmentation(turn_deg=(4.0, 5.0, 6.0)), generator())
    angles, checked = rotation_angle(R.double().numpy(), R0), 0
    assert angles.min() > 0.01 and angles.max() > 0.1
    for crop, R_crop, corner in zip(crops.numpy(), R.double().numpy(), offset.numpy()):
        expected = CAMERA.project(directions @ R_crop) - corner
        taken = CAMERA.project(directions @ R0)
        for (x, y), (x0, y0) in zip(expected, taken):
            alone = np.sort(np.hypot(*(expected - [x, y]).T))[1] > 12
            if not (6 < x < CROP[1] - 7 and 6 < y < CROP[0] - 7 and alone
                    and 6 < x0 < 153 and 6 < y0 < 113):
                continue
            left, top = int(x) - 5, int(y) - 5
            patch = crop[top:top + 11, left:left + 11, 0]
            v, u = np.mgrid[top:top + 11, left:left + 11]
            centre = [(patch * u).sum() / patch.sum(), (patch * v).sum() / patch.sum()]
            assert_allclose(centre, [x, y], atol=0.1)
            checked += 1
    assert checked > 50


def test_turning_the_other_way_is_noticed():
    """The test above can fail: a transposed rotation is off by many pixels."""
    _, directions = stars(R0)
    turn = matrix_from_rotation_vector([0.05, 0.08, -0.1])
    right, wrong = (CAMERA.project(directions @ (R0 @ t)) for t in (turn, turn.T))
    assert np.nanmedian(np.hypot(*(right - wrong).T)) > 5


def test_no_turn_is_the_crop_itself():
    """Zero standard deviation on a turned camera's road gives the plain crop."""
    image = torch.from_numpy(stars(R0)[0])[None]
    R = torch.from_numpy(R0).float()[None]
    plain, R_plain, at = augment(image, R, K, CROP, Augmentation(random_crop=False))
    # So little that nothing moves, but by the other road.
    warped, R_warped, _ = augment(image, R, K, CROP,
                                  Augmentation(random_crop=False, turn_deg=(1e-7, 0.0, 0.0)))
    assert_allclose(warped, plain, atol=0.02)
    assert_allclose(R_warped, R_plain, atol=1e-6)
    assert at.tolist() == [[16, 12]]


def test_turn_is_limited():
    """To twice its standard deviation about each axis."""
    n = 2000
    _, R, _ = augment(torch.zeros(n, 3, 3, 3, dtype=torch.uint8),
                      torch.eye(3).expand(n, 3, 3), torch.eye(3, dtype=torch.float64), (3, 3),
                      Augmentation(turn_deg=(0.0, 5.0, 0.0)), generator())
    angles = np.rad2deg(rotation_angle(R.double().numpy(), np.eye(3)))
    assert angles.max() == pytest.approx(10.0, abs=0.01) and (angles > 9.99).mean() < 0.1
    assert np.sqrt(np.mean(angles ** 2)) == pytest.approx(5.0, rel=0.1)
    assert_allclose(R[:, 1, 1], 1.0, atol=1e-6)   # about y alone


def test_turning_needs_intrinsics():
    """One sentence, with the option to change."""
    with pytest.raises(ConfigurationError, match='needs intrinsics.*turn_deg to zeros'):
        augment(torch.zeros(1, 8, 8, 3, dtype=torch.uint8), torch.eye(3)[None], None, (4, 4),
                Augmentation(turn_deg=(1.0, 0.0, 0.0)))


def test_crop_offsets_are_uniform_with_both_ends():
    """Rows 0 to 3 and columns 0 to 5, each as often as the others (pitfall 28)."""
    n, height, width = 6000, 11, 15
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    image = torch.stack([u, v, v], -1).to(torch.uint8).expand(n, -1, -1, -1)
    crops, R, offset = augment(image, torch.eye(3).expand(n, 3, 3), None, (8, 10),
                               Augmentation(), generator())
    assert crops.shape == (n, 8, 10, 3) and torch.equal(R, torch.eye(3).expand(n, 3, 3))
    # The picture tells its own coordinates.
    assert torch.equal(crops[:, 0, 0, :2], offset.float())
    for axis, count in ((0, 6), (1, 4)):
        shares = torch.bincount(offset[:, axis], minlength=count) / n
        assert len(shares) == count
        assert_allclose(shares, 1 / count, atol=0.02)


def test_nothing_is_mirrored_or_stretched():
    """Each crop is a window of the image, pixel by pixel."""
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 20, 24, 3), np.uint8))
    crops, _, offset = augment(image, torch.eye(3).expand(5, 3, 3), None, (16, 16),
                               Augmentation(), generator())
    for i, (left, top) in enumerate(offset.tolist()):
        assert torch.equal(crops[i], image[i, top:top + 16, left:left + 16].float())


def test_without_random_crop_it_is_the_centre():
    """Integer halves, as in `Preprocessing.centre`."""
    image = torch.arange(11 * 16, dtype=torch.uint8).reshape(1, 11, 16, 1).expand(-1, -1, -1, 3)
    crops, _, offset = augment(image, torch.eye(3)[None], None, (8, 9),
                               Augmentation(random_crop=False))
    assert offset.tolist() == [[3, 1]]
    assert torch.equal(crops[0], image[0, 1:9, 3:12].float())


def test_crop_as_large_as_the_image():
    """There is only one."""
    image = torch.randint(0, 256, (3, 8, 8, 3), dtype=torch.uint8)
    crops, _, offset = augment(image, torch.eye(3).expand(3, 3, 3), None, (8, 8), Augmentation())
    assert torch.equal(crops, image.float()) and not offset.any()


def test_light_changes_within_its_limits():
    """Gain up to a factor either way, per channel on top, an offset, and never beyond 0..255."""
    n = 3000
    image = torch.full((n, 2, 2, 3), 100, dtype=torch.uint8)
    options = Augmentation(random_crop=False, gain=0.5, colour=0.1, offset=10.0)
    crops, _, _ = augment(image, torch.eye(3).expand(n, 3, 3), None, (2, 2), options, generator())
    assert (crops == crops[:, :1, :1]).all()   # the same for every pixel
    values = crops[:, 0, 0]
    assert 100 / (1.5 * 1.1) - 10 <= values.min() < 65
    assert 155 < values.max() <= 100 * 1.5 * 1.1 + 10
    assert values.median().item() == pytest.approx(100, abs=5)
    assert (values.amax(1) / values.amin(1)).max() <= 1.1 ** 2 * 1.02
    white = augment(image * 0 + 250, torch.eye(3).expand(n, 3, 3), None, (2, 2), options,
                    generator())[0]
    assert white.max() == 255.0 and white.min() > 100


def test_same_seed_same_views():
    """And another one gives others."""
    image = torch.randint(0, 256, (4, 20, 20, 3), dtype=torch.uint8)
    options = Augmentation(turn_deg=(3.0, 3.0, 3.0), gain=0.2)
    K_small = torch.tensor([[20.0, 0, 10], [0, 20, 10], [0, 0, 1]])
    a, b, c = (augment(image, torch.eye(3).expand(4, 3, 3), K_small, (16, 16), options,
                       generator(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(x, y) for x, y in zip(a, b)) and not torch.equal(a[0], c[0])
