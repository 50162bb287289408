# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Rendered views equal what a camera would have seen there."""

import numpy as np
from numpy.testing import assert_allclose
import pytest

from geo_perception.datasets.frame import Frame
from geo_perception.errors import ConfigurationError
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.se3 import (
    make_transform, matrix_from_rotation_vector, rotation_angle)
from geo_perception.training.novel_views import fuse_depth, NovelViewRenderer, NovelViews

CAMERA = Camera(np.array([[110.0, 0, 62.5], [0, 110, 47.0], [0, 0, 1]]), 128, 96)
WALL = 3.0


def wall(T, camera=CAMERA):
    """Return image and depth of a textured wall at z = 3 of the world, seen from T."""
    rays = camera.rays() @ T[:3, :3].T
    scale = (WALL - T[2, 3]) / rays[..., 2]
    x, y = (T[i, 3] + scale * rays[..., i] for i in (0, 1))
    image = np.stack([127 + 100 * np.sin(4 * x) * np.cos(3 * y),
                      127 + 100 * np.cos(5 * y + x), 127 + 100 * np.sin(2 * x - 4 * y)], -1)
    return image.astype(np.uint8), scale.astype(np.float32)


def poses(n=12):
    """Return a path along the wall, the camera turning a little."""
    a = np.linspace(0, 2 * np.pi, n, endpoint=False)
    t = np.stack([0.25 * np.cos(a), 0.15 * np.sin(a), 0.1 * np.sin(2 * a)], 1)
    return make_transform(matrix_from_rotation_vector(np.stack(
        [0.1 * np.sin(a), 0.1 * np.cos(a), 0.05 * np.sin(a)], 1)), t)


class Recording:
    """The frames of that path."""

    def __init__(self, depth=True, camera=CAMERA):
        self._depth, self._camera = depth, camera

    def __len__(self):
        """Return the number of frames."""
        return len(poses())

    def __getitem__(self, i):
        """Return one frame."""
        image, depth = wall(poses()[i])
        return Frame(i, image, camera=self._camera, T_world_camera=poses()[i],
                     depth=depth if self._depth else None)


@pytest.fixture(scope='module')
def points():
    """Return the fused wall."""
    return fuse_depth(Recording())


def renderer(points, **options):
    """Return what draws views of the wall."""
    images = np.stack([wall(T)[0] for T in poses()])
    return NovelViewRenderer(images, poses(), CAMERA, points, NovelViews(**options))


def test_fused_points_lie_on_the_wall(points):
    """In the world frame, one a cell of 2 cm."""
    assert points.dtype == np.float32
    assert_allclose(points[:, 2], WALL, atol=1e-4)
    cells = np.floor(points / 0.02).astype(int)
    assert len(np.unique(cells, axis=0)) == len(points)
    assert len(points) > 1000 and np.ptp(points[:, 0]) > 3.0


def test_unknown_depth_is_no_point(points):
    """With NaN or missing depth points are left away; without any there is an empty cloud."""
    class Holes(Recording):

        def __getitem__(self, i):
            frame = super().__getitem__(i)
            frame.depth[:, :64] = np.nan
            return frame

    found = fuse_depth(Holes())
    assert np.isfinite(found).all() and 0.3 * len(points) < len(found) < 0.9 * len(points)
    assert len(fuse_depth(Recording(depth=False))) == 0
    assert len(fuse_depth(Recording(camera=None))) == 0


def test_rendered_views_equal_the_camera_s_own(points):
    """At the pose they say, where any frame saw the wall."""
    draw = renderer(points, position_m=0.1, rotation_deg=3.0).draw
    random = np.random.default_rng(0)
    for _ in range(8):
        image, T, _ = draw(random)
        truth, _ = wall(T)
        difference = np.abs(image.astype(int) - truth)[16:-16, 20:-20]
        # Depth is known to a 2 cm cell and half the resolution.
        assert image.dtype == np.uint8 and image.shape == truth.shape
        assert np.median(difference) <= 2 and np.percentile(difference, 90) < 12


def test_views_of_another_pose_would_differ(points):
    """The test above can fail: a pose off by 10 cm is seen in the picture."""
    image, T, _ = renderer(points, position_m=0.1, rotation_deg=3.0).draw(np.random.default_rng(0))
    other, _ = wall(make_transform(T[:3, :3], T[:3, 3] + [0.1, 0.0, 0.0]))
    assert np.median(np.abs(image.astype(int) - other)[16:-16, 20:-20]) > 6


def test_views_lie_as_far_from_the_path_as_asked(points):
    """And turn as much; with nothing asked they lie between recorded poses."""
    def distances(**options):
        draw, random = renderer(points, **options).draw, np.random.default_rng(1)
        drawn = np.stack([draw(random)[1] for _ in range(25)])
        near = np.linalg.norm(drawn[:, None, :3, 3] - poses()[:, :3, 3], axis=2).min(1)
        turns = rotation_angle(drawn[:, None, :3, :3], poses()[:, :3, :3]).min(1)
        return near.max(), np.rad2deg(turns.max())

    near, turn = distances(position_m=0.0, rotation_deg=0.0)
    far, wide = distances(position_m=0.3, rotation_deg=8.0)
    assert near < 0.3 and turn < 6
    assert far > 0.3 and wide > 8


def test_a_view_shows_its_sources_and_nothing_else(points):
    """What a head must not know can be left out of its training (held-out stretches)."""
    def draw(blacken):
        images = np.stack([wall(T)[0] for T in poses()])
        images[blacken] = 0
        return NovelViewRenderer(images, poses(), CAMERA, points, NovelViews()).draw(
            np.random.default_rng(3))

    view, _, sources = draw([])
    sources = sources[sources >= 0]
    others = np.setdiff1d(np.arange(len(poses())), sources)
    assert len(sources) and len(others)
    assert np.array_equal(draw(others)[0], view)
    assert not np.array_equal(draw(sources[:1])[0], view)


def test_same_seed_same_view(points):
    """Runs are repeatable."""
    draw = renderer(points).draw
    (a, T_a, _), (b, T_b, _) = (draw(np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(a, b) and np.array_equal(T_a, T_b)


def test_hopeless_options_end_with_a_sentence(points):
    """Views kilometres away see nothing: that is no endless loop."""
    with pytest.raises(ConfigurationError, match='views in a row.*position_m'):
        renderer(points, position_m=1e4).draw(np.random.default_rng(0))
