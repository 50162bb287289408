# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Depth errors: published numbers, a second implementation, what is counted and what is not."""

import csv
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from geo_perception.errors import ConfigurationError
from geo_perception.evaluation import depth as depth_module
from geo_perception.evaluation.depth import (
    compare_depth, crop_slices, depth_at_truth, DepthRules)
from geo_perception.evaluation.depth_samples import _shrunk
from geo_perception.evaluation.geometry_result import GeometryRecording
from geo_perception.geometry.camera import Camera

CAMERA = Camera(np.array([[100.0, 0, 61.3], [0, 90, 29.7], [0, 0, 1]]), 120, 64)


def test_published_numbers():
    """The check of sfmlearner.md section 6.1."""
    truth, predicted = np.array([[5, 10, 20, 40, 70.0]]), np.array([[5.5, 9, 26, 30, 80.0]])
    assert compare_depth(predicted, truth, True).errors == pytest.approx(
        [0.178571, 1.175714, 6.888396, 0.194736, 0.6, 1.0, 1.0], abs=1e-6)


@pytest.mark.parametrize('height, width, rows, columns', [
    (375, 1242, (153, 371), (44, 1197)), (370, 1224, (151, 366), (43, 1180)),
    (374, 1238, (152, 370), (44, 1193)), (370, 1226, (151, 366), (44, 1181)),
    (376, 1241, (153, 372), (44, 1196))])
def test_garg_crop_is_truncated(height, width, rows, columns):
    """
    The ready values of sfmlearner.md section 6.1; rounding would give others.

    Its first column 43 for 1226 pixels is a slip: 0.03594771 * 1226 is 44.07.
    """
    assert crop_slices('garg', height, width) == (slice(*rows), slice(*columns))


def test_eigen_crop_is_another_one():
    """Rows 0.3324324 to 0.91351351 of 375 are 124.66 and 342.57."""
    assert crop_slices('eigen', 375, 1242) == (slice(124, 342), slice(44, 1197))


def dumb_errors(predicted, truth, scaled, crop, cap):
    """Return the seven errors, pixel by pixel, as sfmlearner.md section 6.1 says it."""
    height, width = truth.shape
    shares = {'garg': (0.40810811, 0.99189189, 0.03594771, 0.96405229),
              'none': (0, 1, 0, 1)}[crop]
    pairs = []
    for y in range(height):
        for x in range(width):
            inside = (int(shares[0] * height) <= y < int(shares[1] * height)
                      and int(shares[2] * width) <= x < int(shares[3] * width))
            if inside and 1e-3 < truth[y, x] < cap:
                pairs.append((truth[y, x], predicted[y, x]))
    ratio = 1.0
    if scaled:
        ratio = (sorted(g for g, _ in pairs)[len(pairs) // 2]
                 / sorted(p for _, p in pairs)[len(pairs) // 2])
    sums = np.zeros(7)
    for g, p in pairs:
        p = min(max(ratio * p, 1e-3), cap)
        worse = max(g / p, p / g)
        sums += [abs(g - p) / g, (g - p) ** 2 / g, (g - p) ** 2, (np.log(g) - np.log(p)) ** 2,
                 worse < 1.25, worse < 1.25 ** 2, worse < 1.25 ** 3]
    sums /= len(pairs)
    sums[2:4] = np.sqrt(sums[2:4])
    return sums


@pytest.mark.parametrize('crop, cap', [('none', 80.0), ('garg', 50.0)])
def test_same_as_a_second_implementation(crop, cap):
    """Random depths, holes and far points, with an odd number of pixels for the median."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.5, 100, (25, 41))
    truth[rng.random(truth.shape) < 0.3] = 0
    predicted = 0.4 * truth * rng.lognormal(0, 0.3, truth.shape) + 0.1
    rules = DepthRules(crop, cap)
    scored = np.argwhere(rules.scored(truth))
    if len(scored) % 2 == 0:
        truth[tuple(scored[0])] = 0
    result = compare_depth(predicted, truth, True, rules)
    assert result.errors == pytest.approx(dumb_errors(predicted, truth, False, crop, cap))
    assert result.errors_scaled == pytest.approx(dumb_errors(predicted, truth, True, crop, cap))
    assert result.coverage == 1.0
    counts = result.distance_pixels.sum()
    assert result.distance_errors.sum() / counts == pytest.approx(result.errors[0])
    assert result.distance_errors_scaled.sum() / counts == pytest.approx(result.errors_scaled[0])


def test_scale_is_found_and_hidden():
    """Half the true depth: perfect after median scaling, off by a half as it is."""
    truth = np.linspace(1, 50, 200).reshape(10, 20)
    result = compare_depth(0.5 * truth, truth, True)
    assert result.ratio == pytest.approx(2.0)
    assert result.errors[0] == pytest.approx(0.5) and result.errors[4] == 0.0
    assert result.errors_scaled == pytest.approx([0, 0, 0, 0, 1, 1, 1], abs=1e-9)
    again = compare_depth(3.5 * truth, truth, True)
    assert again.errors_scaled == pytest.approx(result.errors_scaled, abs=1e-9)
    assert again.flat_abs_rel == result.flat_abs_rel > 0.3


def test_what_has_no_metre_has_no_metric_error():
    """Up to scale only the scaled errors are known."""
    truth = np.linspace(1, 50, 200).reshape(10, 20)
    result = compare_depth(truth, truth, False)
    assert np.isnan(result.errors).all() and result.errors_scaled[0] == pytest.approx(0.0)


def test_missing_predictions_are_told():
    """They are left out of the errors, and the coverage says so."""
    truth = np.full((10, 20), 5.0)
    predicted = truth.copy()
    predicted[:, :5] = np.nan
    result = compare_depth(predicted, truth, True)
    assert result.coverage == pytest.approx(0.75) and result.errors[0] == 0.0
    nothing = compare_depth(np.full((10, 20), np.nan), truth, True)
    assert nothing.coverage == 0.0 and np.isnan(nothing.errors).all()
    assert np.isnan(compare_depth(truth, np.zeros((10, 20)), True).coverage)


def test_whole_image_is_resized_as_opencv_does():
    """Depth, not disparity; half-pixel convention."""
    depth = np.random.default_rng(0).uniform(1, 9, (32, 60)).astype(np.float32)
    estimate = SimpleNamespace(depth=depth, camera=CAMERA.resized(60, 32))
    resized = depth_at_truth(estimate, CAMERA, (64, 120))
    assert np.array_equal(resized, cv2.resize(depth, (120, 64), interpolation=cv2.INTER_LINEAR))


def test_crop_agrees_with_the_resize():
    """A crop is sampled at the same places as the whole, and nothing is made up beside it."""
    depth = np.random.default_rng(0).uniform(1, 9, (32, 60)).astype(np.float32)
    whole = depth_at_truth(SimpleNamespace(depth=depth, camera=CAMERA.resized(60, 32)),
                           CAMERA, (64, 120))
    camera = CAMERA.resized(60, 32).cropped(10, 4, 40, 20)
    part = depth_at_truth(SimpleNamespace(depth=depth[4:24, 10:50], camera=camera), CAMERA,
                          (64, 120))
    seen = np.isfinite(part)
    assert np.abs(part - whole)[seen].max() < 1e-4
    rows, columns = np.nonzero(seen)
    # Centres of the crop's outermost pixels: x' = 2 x + 0.5.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (9, 46, 21, 98)


@pytest.mark.parametrize('model, distortion', [
    ('plumb_bob', [-0.2, 0.05, 0.001, -0.001, 0.0]), ('equidistant', [0.05, -0.01, 0.0, 0.0]),
    ('equidistant', [0.0, 0.0, 0.0, 0.0])])
def test_distorted_images_are_compared_ray_by_ray(model, distortion):
    """A slanted plane seen through a lens equals the straight prediction of that plane."""
    straight = CAMERA
    lens = Camera(CAMERA.K, 120, 64, np.array(distortion), model)

    def plane(rays):
        return 4.0 / (1.0 + 0.3 * rays[..., 0] - 0.2 * rays[..., 1])

    depth = plane(straight.rays()).astype(np.float32)
    found = depth_at_truth(SimpleNamespace(depth=depth, camera=straight), lens, (64, 120))
    # Where OpenCV projects the rays of the truth to is where the lens sees them.
    rays = straight.rays().reshape(-1, 1, 3)
    module = cv2.fisheye if model == 'equidistant' else cv2
    pixels, _ = module.projectPoints(rays, np.zeros(3), np.zeros(3), lens.K, lens.distortion)
    pixels, expected = np.rint(pixels.reshape(-1, 2)).astype(int), plane(rays.reshape(-1, 3))
    inside = ((pixels > 2) & (pixels < [117, 61])).all(1)
    assert inside.sum() > 3000
    values = found[pixels[inside, 1], pixels[inside, 0]]
    known = np.isfinite(values)
    # Half a pixel of rounding is at most 2 % of this plane's depth.
    assert known.mean() > 0.95 and np.abs(values / expected[inside] - 1)[known].max() < 0.02
    undistorted = found[pixels[inside, 1], pixels[inside, 0]] - expected[inside]
    assert np.abs(np.nanmean(undistorted)) < 1e-3


@pytest.mark.parametrize('options', [{'crop': 'grag'}, {'cap': 0.0}])
def test_rules_are_checked(options):
    """A misspelt crop or no room for any pixel is an error."""
    with pytest.raises(ConfigurationError):
        DepthRules(**options)


def test_recording_is_filled_frame_by_frame(tmp_path):
    """A frame's errors stand in its row of the table; unknown numbers are empty."""
    recording = GeometryRecording.unanswered([10, 20])
    truth = np.linspace(1, 50, 200).reshape(10, 20)
    recording.depth.put(1, compare_depth(1.1 * truth, truth, True))
    recording.to_csv(tmp_path / 'out' / 'frames.csv')
    rows = list(csv.DictReader((tmp_path / 'out' / 'frames.csv').read_text().splitlines()))
    assert rows[0]['abs_rel'] == '' and float(rows[1]['abs_rel']) == pytest.approx(0.1)
    assert float(rows[1]['scale_ratio']) == pytest.approx(1 / 1.1)
    assert [row['stamp_ns'] for row in rows] == ['10', '20'] and rows[1]['x_m'] == ''


@pytest.mark.parametrize('values', [
    np.array([3.0]), np.array([4.0, 1.0]), np.arange(70_001.0), np.arange(70_000.0)[::-1],
    np.full(50_000, 2.5), np.repeat([1.0, 2.0], 30_000),
    # What every eighteenth says is far from what the others do.
    np.where(np.arange(73_728) % 18 == 0, 9.0, np.linspace(1, 2, 73_728)),
    np.random.default_rng(0).lognormal(size=76_800).astype(np.float32)])
def test_median_is_that_of_numpy(values):
    """To the last bit, with the two in the middle far apart, many alike, or misleading samples."""
    assert depth_module._median(values) == np.median(values.astype(float))


def test_shrunken_depth_is_the_nearest_of_each_pixel():
    """Pixel by pixel, without what is unknown; what is enlarged has gaps."""
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 9, (50, 70))
    depth[rng.random(depth.shape) < 0.8] = 0
    depth[0, :9] = np.nan, np.inf, -1, 0, 5, 6, 7, 8, 9
    for width, height in ((70, 50), (31, 50), (20, 11), (90, 11)):
        expected = np.full((height, width), np.inf)
        for v, u in np.argwhere(np.isfinite(depth) & (depth > 0)):
            place = v * height // 50, u * width // 70
            expected[place] = min(expected[place], depth[v, u])
        expected[np.isinf(expected)] = np.nan
        assert np.array_equal(_shrunk(depth, (width, height)), expected.astype(np.float32),
                              equal_nan=True)
