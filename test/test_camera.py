# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The pinhole camera, and warps against references written a dumber way."""

from dataclasses import replace

import cv2
import numpy as np
from numpy.testing import assert_allclose
import pytest

from geo_perception.geometry import se3, warp
from geo_perception.geometry.camera import Camera

RNG = np.random.default_rng(0)


def camera(width=40, height=30, f=35.0):
    """Return a camera whose axis is not in the middle."""
    return Camera(np.array([[f, 0, 18.3], [0, f * 1.1, 15.9], [0, 0, 1.0]]), width, height)


def test_project_by_hand():
    """One metre right and two down at four metres."""
    assert_allclose(camera().project(np.array([1.0, 2.0, 4.0])),
                    [18.3 + 35 / 4, 15.9 + 2 * 38.5 / 4])


def test_project_has_no_answer_behind_the_camera():
    """NaN, not a mirrored point."""
    pixels = camera().project(np.array([[0, 0, -1.0], [0, 0, 0], [1, 1, 1], [0, 0, np.nan]]))
    assert np.isnan(pixels[[0, 1, 3]]).all() and np.isfinite(pixels[2]).all()


def test_rays_and_project_are_inverse():
    """Whole coordinates are pixel centres; depth is along the axis."""
    c = camera()
    rays = c.rays()
    assert rays.shape == (30, 40, 3) and (rays[..., 2] == 1).all()
    v, u = np.mgrid[:30, :40]
    assert_allclose(c.project(rays * 7.0), np.stack([u, v], -1), atol=1e-12)


@pytest.mark.parametrize('width, height', [(80, 60), (20, 15), (50, 40), (40, 30), (13, 7)])
def test_resized_keeps_the_outer_edges(width, height):
    """The corners of the image stay corners, and so does what is seen there."""
    c = camera()
    small = c.resized(width, height)
    corners = np.array([[-0.5, -0.5], [39.5, 29.5]])
    rays = np.concatenate([corners, np.ones((2, 1))], 1) @ np.linalg.inv(c.K).T
    assert_allclose(small.project(rays), [[-0.5, -0.5], [width - 0.5, height - 0.5]], atol=1e-12)
    assert (small.width, small.height) == (width, height)


def test_resized_is_what_opencv_does_to_the_image():
    """A smooth function of the ray, drawn by both cameras, is the same picture."""
    def picture(c):
        rays = c.rays()
        return np.sin(5 * rays[..., 0]) * np.cos(4 * rays[..., 1])

    c = Camera(np.array([[200.0, 0, 88.3], [0, 210, 51.9], [0, 0, 1]]), 160, 120)
    for size, mode in (((80, 60), cv2.INTER_AREA), ((200, 150), cv2.INTER_LINEAR)):
        resized = cv2.resize(picture(c), size, interpolation=mode)
        difference = np.abs(resized - picture(c.resized(*size)))[2:-2, 2:-2]
        assert difference.max() < 2e-3


@pytest.mark.parametrize('model, distortion', [
    ('plumb_bob', [-0.3, 0.1, 0.001, -0.002, 0.0]), ('equidistant', [0.05, -0.02, 0.01, 0.0]),
    ('equidistant', [0.0, 0.0, 0.0, 0.0])])
def test_undistorted_lines_are_where_the_pinhole_sees_them(model, distortion):
    """Points drawn where the lens shows them are found where the pinhole projects them."""
    lens = Camera(np.array([[150.0, 0, 99], [0, 150, 74], [0, 0, 1]]), 200, 150,
                  np.array(distortion), model)
    points = np.array([[0.0, 0, 1], [0.4, 0.2, 1], [-0.4, -0.3, 1], [0.45, -0.35, 1]])
    module = cv2.fisheye if model == 'equidistant' else cv2
    seen = module.projectPoints(points[:, None], np.zeros(3), np.zeros(3), lens.K,
                                lens.distortion)[0].reshape(-1, 2)
    assert np.abs(seen - lens.project(points)).max() > 2
    y, x = np.mgrid[:150, :200]
    drawn = sum(np.exp(-((x - u) ** 2 + (y - v) ** 2) / 6) for u, v in seen)
    image, camera = lens.undistort((255 * drawn).astype(np.uint8))
    assert not camera.distorts and camera.width == 200
    assert_allclose(lens.undistort_pixels(seen), lens.project(points), atol=0.05)
    for u, v in camera.project(points):
        row, column = round(v), round(u)
        weight = image[row - 5:row + 6, column - 5:column + 6].astype(float) ** 2
        rows, columns = np.mgrid[-5:6, -5:6]
        assert_allclose([column + (columns * weight).sum() / weight.sum(),
                         row + (rows * weight).sum() / weight.sum()], [u, v], atol=0.2)


@pytest.mark.parametrize('model, distortion, distorts', [
    ('plumb_bob', [], False), ('plumb_bob', [0.0] * 5, False), ('plumb_bob', [0.1, 0, 0, 0], True),
    ('equidistant', [], False), ('equidistant', [0.0] * 4, True)])
def test_what_distorts(model, distortion, distorts):
    """Zeros bend nothing, but the angle of an equidistant lens is no pinhole's."""
    lens = replace(camera(), distortion=np.array(distortion), distortion_model=model)
    assert lens.distorts is distorts and (lens.undistortion() is not None) is distorts
    assert not lens.straight().distorts


def test_an_undistorted_image_is_not_touched():
    """No lens, no work."""
    image = np.zeros((150, 200, 3), np.uint8)
    assert Camera(np.eye(3), 200, 150).undistort(image)[0] is image


def test_cropped_moves_the_centre():
    """Points keep their ray."""
    c = camera()
    crop = c.cropped(5, 3, 20, 10)
    assert (crop.width, crop.height) == (20, 10)
    assert_allclose(crop.rays(), c.rays()[3:13, 5:25], atol=1e-12)
    assert c.K[0, 2] == 18.3   # the original is as it was


def test_camera_carries_the_rest_along():
    """Distortion and frame survive a change of size."""
    c = Camera(np.eye(3), 4, 4, np.ones(5), 'equidistant', 'left')
    for other in (c.resized(2, 2), c.cropped(0, 0, 2, 2)):
        assert (other.distortion_model, other.frame_id) == ('equidistant', 'left')
        assert_allclose(other.distortion, np.ones(5))


def some_pose(scale=1.0):
    """Return a small motion."""
    return se3.make_transform(
        se3.matrix_from_rotation_vector(RNG.normal(size=3) * 0.1 * scale),
        RNG.normal(size=3) * 0.2 * scale)


def test_splat_is_the_nearest_point_of_every_pixel():
    """Against a loop over points."""
    c, T = camera(), some_pose()
    points = (RNG.uniform(-3, 3, (3000, 3)) + [0, 0, 2.5]).astype(np.float32)
    expected = np.full((30, 40), np.nan)
    for point in points.astype(float):
        x, y, z = (se3.inverse_transform(T) @ [*point, 1.0])[:3]
        if z <= warp.NEAREST_DEPTH_M:
            continue
        u, v = round(c.K[0, 0] * x / z + c.K[0, 2]), round(c.K[1, 1] * y / z + c.K[1, 2])
        if 0 <= u < 40 and 0 <= v < 30:
            expected[v, u] = np.fmin(expected[v, u], z)
    depth = warp.splat_depth(points, c, T)
    # A point on the border of two pixels may go to either, by rounding.
    same = np.isclose(depth, expected, rtol=1e-5, equal_nan=True)
    assert depth.dtype == np.float32 and same.mean() > 0.998


def test_splat_of_nothing_is_unknown():
    """All behind the camera, and damaged points, give no depth and no warning."""
    points = np.array([[0, 0, -5.0], [0, 0, 0.1], [np.nan, 0, 1.0]], np.float32)
    with np.errstate(all='raise'):
        assert np.isnan(warp.splat_depth(points[:2], camera(), np.eye(4))).all()


def test_closing_fills_gaps_and_hides_what_shows_through():
    """A near wall with holes in front of a far one: the far one does not shine through."""
    depth = np.full((30, 40), 2.0, np.float32)
    depth[::3, ::2] = np.nan
    depth[10, 10] = depth[20, 31] = 5.0
    assert_allclose(warp.close_surfaces(depth), 2.0, rtol=1e-6)


def test_closing_keeps_what_is_known():
    """A step between two surfaces, both dense, stays where it is."""
    depth = np.full((30, 40), 2.0, np.float32)
    depth[:, 20:] = 4.0
    closed = warp.close_surfaces(depth)
    assert (closed[:, :20] == 2.0).all() and (closed[:, 23:] == 4.0).all()
    assert ((closed >= 2.0) & (closed <= 4.0)).all()


def test_closing_needs_one_point():
    """One known pixel fills the image; with none it stays unknown."""
    depth = np.full((30, 40), np.nan, np.float32)
    assert np.isnan(warp.close_surfaces(depth)).all()
    depth[29, 0] = 3.0
    assert_allclose(warp.close_surfaces(depth), 3.0, rtol=1e-5)


def bilinear(image, u, v):
    """Return one value of an image between its pixels."""
    left, top = int(np.floor(u)), int(np.floor(v))
    total = 0.0
    for y, wy in ((top, 1 - (v - top)), (top + 1, v - top)):
        for x, wx in ((left, 1 - (u - left)), (left + 1, u - left)):
            if wx * wy > 0:
                total = total + wx * wy * image[y, x].astype(float)
    return total


def test_warp_is_projection_and_bilinear_lookup():
    """Against a loop over pixels, with a depth that differs everywhere."""
    c, T_source, T_target = camera(), some_pose(), some_pose()
    image = cv2.resize(RNG.integers(0, 255, (6, 8, 3), np.uint8), (40, 30),
                       interpolation=cv2.INTER_CUBIC)
    depth = RNG.uniform(1.5, 4.0, (30, 40)).astype(np.float32)
    warped, inside = warp.warp_image(image, c, T_source, depth, T_target)
    checked = 0
    for v in range(30):
        for u in range(40):
            ray = np.linalg.inv(c.K) @ [u, v, 1.0]
            world = T_target @ [*(ray * depth[v, u]), 1.0]
            x, y, z = (np.linalg.inv(T_source) @ world)[:3]
            su, sv = c.K[0, 0] * x / z + c.K[0, 2], c.K[1, 1] * y / z + c.K[1, 2]
            within = 0 <= su <= 39 and 0 <= sv <= 29
            assert inside[v, u] == within
            if within:
                # OpenCV rounds the weights to 1/32 of a pixel.
                assert_allclose(warped[v, u], bilinear(image, su, sv), atol=5.0)
                checked += 1
    assert checked > 300


def test_warp_to_the_same_place_is_the_image():
    """Whatever the depth."""
    image = RNG.integers(0, 255, (30, 40, 3), np.uint8)
    T = some_pose()
    warped, inside = warp.warp_image(image, camera(), T, np.full((30, 40), 2.0, np.float32), T)
    # The border may round to just outside.
    assert inside[1:-1, 1:-1].all() and (np.abs(warped.astype(int) - image) <= 1).all()


def test_warp_of_what_is_behind_the_source():
    """Is not inside, nor is what has no depth."""
    behind = se3.make_transform(np.eye(3), [0, 0, 10.0])
    depth = np.full((30, 40), 2.0, np.float32)
    image = np.zeros((30, 40, 3), np.uint8)
    assert not warp.warp_image(image, camera(), behind, depth, np.eye(4))[1].any()
    depth[:] = np.nan
    assert not warp.warp_image(image, camera(), np.eye(4), depth, np.eye(4))[1].any()


def test_registered_depth_is_that_of_the_colour_camera():
    """A slanted plane seen by one camera, then by the other from elsewhere."""
    depth_camera = Camera(np.array([[150.0, 0, 82], [0, 150, 57], [0, 0, 1]]), 160, 120)
    colour = Camera(np.array([[130.0, 0, 78], [0, 130, 61], [0, 0, 1]]), 160, 120)
    T = se3.make_transform(se3.matrix_from_rotation_vector([0.0, 0.02, 0.01]), [0.05, 0.0, 0.01])
    normal, offset = np.array([0.2, -0.1, 1.0]), 3.0

    def plane(c, T_depth_c):
        rays = c.rays() @ T_depth_c[:3, :3].T
        return ((offset - T_depth_c[:3, 3] @ normal) / (rays @ normal)).astype(np.float32)

    seen = plane(depth_camera, np.eye(4))
    seen[:10] = np.nan
    registered = warp.register_depth(seen, depth_camera, colour, T)
    known = np.isfinite(registered)
    truth = plane(colour, se3.inverse_transform(T))
    assert known.mean() > 0.5 and not known[:4].any()
    assert_allclose(registered[known], truth[known], rtol=5e-3)
    # With distortion a pixel of the image as it was taken sees another part of the plane.
    bent = replace(colour, distortion=np.array([-0.2, 0.05, 0.0, 0.0, 0.0]))
    registered = warp.register_depth(seen, depth_camera, bent, T)
    v, u = np.nonzero(np.isfinite(registered))
    x, y = np.round(bent.undistort_pixels(np.stack([u, v], 1))).astype(int).T
    assert len(u) > 5000 and np.hypot(x - u, y - v).max() > 2
    assert_allclose(registered[v, u], truth[y, x], rtol=5e-3)
