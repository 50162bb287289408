# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Metrics of flow and of moving things, against loops and numbers made by hand."""

import cv2
import numpy as np
import pytest

from geo_perception.errors import ConfigurationError
from geo_perception.evaluation.flow import (
    compare_flow, enlarge_flow, flow_at_truth, FlowScore)
from geo_perception.evaluation.motion_segmentation import MotionCounts, ScoreCurve
from geo_perception.geometry.camera import Camera


def test_by_loops():
    """EPE and outliers of all, visible and hidden pixels, one by one."""
    random = np.random.default_rng(0)
    truth = random.normal(0, 60, (20, 30, 2))
    predicted = truth + random.normal(0, 3, truth.shape)
    truth[3, :9] = np.nan
    predicted[10:12] = np.nan
    visible = random.random((20, 30)) < 0.7
    found = compare_flow(predicted, truth, visible)
    sums = {'total': [], 'noc': [], 'occ': []}
    for y, x in np.ndindex(20, 30):
        if np.isnan(truth[y, x]).any() or np.isnan(predicted[y, x]).any():
            continue
        error = np.hypot(*(predicted[y, x] - truth[y, x]))
        bad = error > 3 and error / np.hypot(*truth[y, x]) > 0.05
        for region in ('total', 'noc' if visible[y, x] else 'occ'):
            sums[region].append((error, bad))
    for region, values in sums.items():
        errors = getattr(found, region)
        assert errors.pixels == len(values)
        assert (errors.epe, errors.outliers) == pytest.approx(np.mean(values, 0), rel=1e-9)
    assert 0.2 < found.total.outliers < 0.9
    assert found.coverage == pytest.approx((600 - 9 - 60) / 591)


def test_an_outlier_misses_by_pixels_and_by_part():
    """Both bounds are exclusive."""
    truth = np.array([[[100.0, 0], [100, 0], [10, 0], [10, 0]]])
    predicted = truth + np.array([[[4.0, 0], [6, 0], [3, 0], [3.5, 0]]])
    assert compare_flow(predicted, truth).total.outliers == 0.5


def test_means_of_images_and_of_pixels():
    """As GeoNet averages, and as KITTI does; images without truth count for nothing."""
    truth = np.zeros((1, 40, 2))
    small = truth.copy()
    small[0, 10:] = np.nan
    score = FlowScore([compare_flow(truth + [4.0, 0], truth),
                       compare_flow(small + [1.0, 0], small),
                       compare_flow(truth, np.full_like(truth, np.nan))])
    summary = score.summary()
    assert summary['epe_px'] == 2.5 and summary['fl_percent'] == 50
    assert summary['epe_px_pooled'] == pytest.approx(3.4)
    assert summary['fl_percent_pooled'] == pytest.approx(80)
    assert summary['images'] == 2 and 'epe_px_noc' not in summary
    assert FlowScore([compare_flow(truth, np.full_like(truth, np.nan))]).summary() == {'images': 0}


def test_other_sizes_are_refused():
    """Flow is in pixels."""
    with pytest.raises(ConfigurationError, match=r'\(4, 5, 2\) cannot .* \(8, 10, 2\)'):
        compare_flow(np.zeros((4, 5, 2)), np.zeros((8, 10, 2)))
    with pytest.raises(ConfigurationError, match='motion mask'):
        MotionCounts().add(np.zeros((4, 5)), np.zeros((8, 10)))


def test_enlarged_as_published():
    """Cut to 1/64 pixels, nearest neighbour, u times 3 and v times 2.5."""
    flow = np.random.default_rng(0).uniform(-9, 9, (4, 6, 2)).astype(np.float32)
    found = enlarge_flow(flow, 10, 18, 'nearest', quantise=True)
    for y, x in np.ndindex(10, 18):
        u, v = flow[int(y / 2.5), x // 3].astype(float)
        expected = [(int(w * 64 + 32768) - 32768) / 64 * k for w, k in ((u, 3), (v, 2.5))]
        assert found[y, x] == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ConfigurationError, match='bilinear, nearest'):
        enlarge_flow(flow, 10, 18, 'cubic')


def test_a_crop_is_found_at_its_pixels():
    """A network that sees the middle of a larger image, at half the size."""
    camera = Camera(np.array([[100.0, 0, 39.5], [0, 90, 29.5], [0, 0, 1]]), 80, 60)
    small = camera.resized(40, 30).cropped(8, 6, 24, 18)
    y, x = np.mgrid[:60, :80].astype(np.float32)
    truth = np.stack([0.1 * x - 2, 0.05 * y + 1], -1)
    half = cv2.resize(truth, (40, 30), interpolation=cv2.INTER_AREA) / 2
    found = flow_at_truth(half[6:24, 8:32], small, camera, (60, 80))
    known = np.isfinite(found).all(-1)
    assert known[14:46, 18:62].all() and known.sum() < 50 * 38
    np.testing.assert_allclose(found[known], truth[known], atol=1e-4)
    whole = flow_at_truth(half, camera.resized(40, 30), camera, (60, 80))
    np.testing.assert_allclose(whole[1:-1, 1:-1], truth[1:-1, 1:-1], atol=1e-4)


def test_masks_by_hand():
    """Five pixels; then a frame in which nothing moves."""
    counts = MotionCounts()
    counts.add(np.array([[1, 1, 0, 0, 1]]), np.array([[255, 0, 255, 0, 255]]))
    summary = counts.summary()
    assert summary['iou'] == 0.5 and summary['f'] == pytest.approx(2 / 3)
    assert summary['precision'] == summary['recall'] == pytest.approx(2 / 3)
    assert summary['false_alarm_rate'] == 0.5
    assert np.isnan(summary['false_alarm_rate_still_frames'])
    counts.add(np.array([[1, 0, 0, 0]]), np.zeros((1, 4)))
    assert counts.summary()['false_alarm_rate_still_frames'] == 0.25
    assert counts.summary()['false_alarm_rate'] == pytest.approx(2 / 6)
    assert all(np.isnan(value) for value in MotionCounts().summary().values())


def test_curve_by_thresholds():
    """At each threshold what a mask of it would count."""
    random = np.random.default_rng(0)
    truth = random.random((40, 50)) < 0.2
    score = random.lognormal(0, 1, (40, 50)) * (1 + 3 * truth)
    score[0, :5] = np.nan
    curve = ScoreCurve()
    curve.add(score[:20], truth[:20])
    curve.add(score[20:], truth[20:])
    thresholds, precision, recall, false = curve.curve()
    for i in (1, 60, 120, 160):
        counts = MotionCounts()
        known = np.isfinite(score)
        counts.add(score[known] >= thresholds[i], truth[known])
        summary = counts.summary()
        assert precision[i] == pytest.approx(summary['precision'])
        assert recall[i] == pytest.approx(summary['recall'])
        assert false[i] == pytest.approx(summary['false_alarm_rate'])
    assert 0.4 < curve.average_precision() < 0.9
    assert np.isnan(ScoreCurve().average_precision())
