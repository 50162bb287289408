# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Runs of the geometry pipeline are scored right, compared with others, and told about."""

import base64
from dataclasses import replace
from types import SimpleNamespace
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest
from report_page import Page

from geo_perception.datasets.frame import Frame
from geo_perception.errors import RecordingError
from geo_perception.evaluation.calibration_text import calibration_sentence
from geo_perception.evaluation.classical_odometry import chain, constant_motion
from geo_perception.evaluation.depth_samples import chosen_samples, PARTS, score_depth
from geo_perception.evaluation.geometry_result import GeometryRecording
from geo_perception.evaluation.geometry_run import run_geometry, with_baselines
from geo_perception.evaluation.geometry_score import (
    drift_by_length, score_of_depth, score_of_odometry)
from geo_perception.evaluation.geometry_summary import (
    depth_verdict, odometry_note, odometry_verdict)
from geo_perception.evaluation.run_record import Run, with_geometry
from geo_perception.evaluation.run_report import write_run_report
from geo_perception.geometry import se3
from geo_perception.geometry.camera import Camera
from geo_perception.inference.depth import DepthEstimate
from geo_perception.inference.geometry import GeometryResult
from geo_perception.inference.scale import Scale
from geo_perception.inference.visual_odometry import OdometryEstimate

CAMERA = Camera(np.array([[40.0, 0, 31.5], [0, 40, 23.5], [0, 0, 1]]), 64, 48)
KEYS = {
    'depth': ['abs_rel', 'sq_rel', 'rmse_m', 'rmse_log', 'a1', 'a2', 'a3',
              'abs_rel_median_scaled', 'scale_ratio_median', 'scale_ratio_spread',
              'frames_processed', 'delay_p50_ms', 'delay_p95_ms'],
    'odometry': ['ate_m', 'ate_sim3_m', 'drift_percent', 'drift_deg_per_100m',
                 'rpe_translation_m', 'rpe_rotation_deg', 'ate5_zhou_m', 'path_m',
                 'frames_processed', 'delay_p50_ms', 'delay_p95_ms', 'resets', 'baselines']}
MODEL = SimpleNamespace(
    path='/models/drive.safetensors', sha256='0123456789abcdef' * 4,
    metadata=SimpleNamespace(
        architecture='dispnet_lite', rotation='euler_xyz', world_frame='odom',
        training_camera=None, data={'train': ['monday'], 'length': 3}, metrics={}, versions={}))


class Drive:
    """Frames along a curve in front of a slanted wall."""

    world_frame = 'map'

    def __init__(self, n, with_depth=True, metres=0.2):
        self.poses = [np.eye(4)]
        step = se3.make_transform(se3.matrix_from_rotation_vector([0, 0.03, 0]), [0, 0, metres])
        for _ in range(n - 1):
            self.poses.append(self.poses[-1] @ step)
        # Another world than the odometry's.
        shift = se3.make_transform(se3.R_BODY_OPTICAL, [1.0, 2.0, 3.0])
        self.poses = shift @ np.stack(self.poses)
        self.stamps = np.arange(n) * 100_000_000 + 5
        self.images = np.random.default_rng(0).integers(0, 255, (n, 48, 64, 3), np.uint8)
        self._with_depth = with_depth
        self.camera = CAMERA

    def __len__(self):
        """Return the number of frames."""
        return len(self.stamps)

    def __getitem__(self, index):
        """Return a frame."""
        index = range(len(self))[index]
        depth = None
        if self._with_depth:
            depth = (2 + 0.05 * np.arange(64) + 0.1 * index) * np.ones((48, 1))
        return Frame(int(self.stamps[index]), self.images[index], f'<b>{index}</b>.png',
                     self.camera, self.poses[index],
                     None if depth is None else depth.astype(np.float32))


class KnowingPipeline:
    """Answers with the truth, times a factor; starts anew where it is told to."""

    def __init__(self, drive, factor=1.0, resets=(), metric_from=0, black=0):
        self._drive, self._factor, self._resets = drive, factor, resets
        self._metric_from, self._black = metric_from, black
        self._start, self._i, self.distances = None, -1, []

    def observe_distance(self, distance):
        """Remember what was told."""
        self.distances.append(distance)

    def look(self, image, camera, stamp):
        """Return what `follow` checks."""
        return image, stamp

    def follow(self, view, flow=False):
        """Answer like `GeometryPipeline`."""
        self._i += 1
        (image, stamp), frame, metric = view, self._drive[self._i], self._i >= self._metric_from
        assert stamp == frame.stamp and np.array_equal(image, frame.image)
        factor = self._factor if metric else 7.0 * self._factor
        truth = frame.depth if frame.depth is not None else np.ones((48, 64), np.float32)
        black = self._i < self._black
        depth = DepthEstimate(np.float32(np.nan if black else factor) * truth, CAMERA, metric)
        odometry = None
        reset = 'no usable image for 2.00 s' if self._i in self._resets else ''
        if self._start is None or reset:
            self._start = None if black else self._i
        else:
            T = se3.inverse_transform(self._drive.poses[self._start]) @ frame.T_world_camera
            motion = (se3.inverse_transform(self._drive.poses[self._i - 1])
                      @ frame.T_world_camera)
            for pose in (T, motion):
                pose[:3, 3] *= factor
            odometry = OdometryEstimate(stamp, T, motion, 0.1, 1e-4 * np.eye(6), np.eye(6), 0.05,
                                        metric)
        scale = Scale('constant', factor if metric else None, 1.0, None, 'As set.')
        return GeometryResult(depth, odometry, reset, scale)


def run(n=40, with_depth=True, metres=0.2, **options):
    """Return the recording of a run, and what was run."""
    drive = Drive(n, with_depth, metres)
    pipeline = KnowingPipeline(drive, **options)
    return run_geometry(pipeline, drive), drive, pipeline


def test_perfect_answers_have_no_error():
    """The truth, in a world of its own, has no error in any number."""
    recording, drive, pipeline = run()
    depth, odometry = score_of_depth(recording), score_of_odometry(recording)
    assert set(KEYS['depth']) <= set(depth) and set(KEYS['odometry']) <= set(odometry)
    for name in ('abs_rel', 'rmse_m', 'abs_rel_median_scaled'):
        assert depth[name] == pytest.approx(0.0, abs=1e-6)
    assert depth['a1'] == 1.0 and depth['scale_ratio_median'] == pytest.approx(1.0)
    for name in ('ate_m', 'ate_sim3_m', 'drift_percent', 'drift_deg_per_100m',
                 'rpe_translation_m', 'rpe_rotation_deg', 'ate5_zhou_m', 'ate3_rmse_m',
                 'ate5_rotation_deg'):
        assert odometry[name] == pytest.approx(0.0, abs=1e-5), name
    assert odometry['path_m'] == pytest.approx(0.2 * 39)
    assert odometry['segment_lengths_m'] == [1, 2, 3, 4, 5, 6, 7]
    assert odometry['frames_answered'] == depth['frames_processed'] == 40
    assert odometry['motion_position_normalised_error'] == pytest.approx(0.0, abs=1e-9)
    assert odometry['pose_orientation_normalised_error'] == pytest.approx(0.0, abs=1e-9)
    assert pipeline.distances == pytest.approx([0.2] * 39)


def test_scale_error_is_seen_and_removed():
    """Everything 10 % too long: 10 % drift, none once one scale is fitted."""
    recording, _, _ = run(factor=1.1)
    depth, odometry = score_of_depth(recording), score_of_odometry(recording)
    assert depth['abs_rel'] == pytest.approx(0.1)
    assert depth['abs_rel_median_scaled'] == pytest.approx(0.0, abs=1e-6)
    assert depth['scale_ratio_median'] == pytest.approx(1 / 1.1)
    assert odometry['drift_percent'] == pytest.approx(10.0, abs=1.0)
    assert odometry['drift_sim3_percent'] == pytest.approx(0.0, abs=1e-6)
    assert odometry['sim3_scale'] == pytest.approx(1 / 1.1)
    assert odometry['rpe_translation_m'] == pytest.approx(0.02)
    # 0.02 m off at a standard deviation of 0.01 m in one of three directions.
    assert odometry['motion_position_normalised_error'] == pytest.approx(4 / 3)
    # Of the pose a tenth of the distance from the start, at a standard deviation of 1 m.
    way = np.linalg.norm(recording.T_truth[1:, :3, 3] - recording.T_truth[0, :3, 3], axis=1)
    assert odometry['pose_position_normalised_error'] == pytest.approx(
        (0.01 * way ** 2).mean() / 3)
    assert [row[1] for row in drift_by_length(recording, recording.T_odom_camera, True)] \
        == pytest.approx([0.0] * 7, abs=1e-6)
    # What charts show is in the metrics.
    assert [row['length_m'] for row in odometry['drift_by_length']] == odometry[
        'segment_lengths_m']
    assert [row['percent'] for row in odometry['drift_by_length']] == pytest.approx(
        [10.0] * 7, abs=1.0)
    assert all(row['abs_rel'] == pytest.approx(0.1, abs=1e-6) for row in depth['by_distance'])
    assert sum(row['pixels'] for row in depth['by_distance']) == 40 * 48 * 64


def test_without_a_scale_nothing_is_called_metres():
    """Only what does not depend on the scale is known."""
    recording, _, _ = run(factor=0.1, metric_from=1000)
    depth, odometry = score_of_depth(recording), score_of_odometry(recording)
    assert depth['abs_rel'] is depth['rmse_m'] is odometry['ate_m'] is None
    assert {row['abs_rel'] for row in depth['by_distance']} == {None}
    assert odometry['drift_percent'] is odometry['rpe_translation_m'] is None
    assert depth['abs_rel_median_scaled'] < 0.01 and odometry['ate_sim3_m'] < 1e-6
    assert odometry['motion_position_normalised_error'] is None
    assert odometry['pose_position_normalised_error'] is None
    assert 'no unit' in depth_verdict(depth) and 'no unit' in odometry_verdict(odometry)


def test_covariances_that_are_right_hold_the_truth_as_often_as_they_say():
    """Poses drawn from them, of many starts in as many directions."""
    rng = np.random.default_rng(0)
    n = 2000
    A = rng.normal(size=(6, 6))
    covariance = 1e-4 * A @ A.T
    draws = rng.multivariate_normal(np.zeros(6), covariance, n)
    starts, ends, estimates = (se3.make_transform(
        se3.matrix_from_rotation_vector(rng.normal(size=(n, 3))), rng.normal(size=(n, 3)))
        for _ in range(3))
    true = se3.inverse_transform(starts) @ ends
    said = se3.make_transform(
        se3.matrix_from_rotation_vector(-draws[:, 3:]) @ true[:, :3, :3],
        true[:, :3, 3] - draws[:, :3])
    T_truth, T_odom = (np.stack(pair, 1).reshape(-1, 4, 4) for pair in (
        (starts, ends), (estimates, estimates @ said)))
    recording = GeometryRecording.unanswered(np.arange(2 * n), T_truth)
    recording.T_odom_camera[:] = T_odom
    recording.metric[:] = recording.processed[:] = True
    recording.pose_covariance[1::2] = [se3.rotate_pose_covariance(covariance, T[:3, :3])
                                       for T in estimates]
    metrics = score_of_odometry(recording)
    for part in ('position', 'orientation'):
        assert metrics[f'pose_{part}_in_68_percent_ellipsoid'] == pytest.approx(0.68, abs=0.03)
        assert metrics[f'pose_{part}_in_95_percent_ellipsoid'] == pytest.approx(0.95, abs=0.015)
        assert metrics[f'pose_{part}_normalised_error'] == pytest.approx(1.0, abs=0.07)
    assert calibration_sentence(metrics, {'pose': 'pose_position', 'step': 'motion_position'}) \
        .startswith('Truth in the stated 68 % and 95 % ellipsoids')
    # Nobody said what the motions were of, as in a live replay.
    assert metrics['frames_network_alone'] is None
    assert 'A live node does not tell' in odometry_note(metrics)


def test_poses_from_before_the_scale_are_left_out():
    """They are in another unit; what follows is compared in metres."""
    recording, _, _ = run(metric_from=10)
    odometry = score_of_odometry(recording)
    assert odometry['ate_m'] == pytest.approx(0.0, abs=1e-6)
    assert odometry['path_m'] == pytest.approx(0.2 * 29)


def test_after_a_reset_the_way_goes_on_from_the_last_pose():
    """What was missed counts as an error, and what comes after is right again."""
    recording, drive, _ = run(resets=(20,))
    T = recording.T_odom_camera
    assert np.array_equal(T[20], T[19]) and recording.resets[20].startswith('no usable image')
    true = se3.inverse_transform(drive.poses[20]) @ drive.poses[39]
    assert se3.inverse_transform(T[20]) @ T[39] == pytest.approx(true)
    odometry = score_of_odometry(recording)
    assert odometry['resets'] == 1 and 0.03 < odometry['ate_m'] < 0.2
    assert odometry['rpe_translation_m'] == pytest.approx(0.2 / np.sqrt(39), rel=0.01)
    assert 'restarted 1 time on' in odometry_verdict(odometry)


def test_the_way_begins_where_something_is_seen():
    """A covered lens has no pose, and the first image after it is the origin."""
    recording, drive, _ = run(black=3)
    assert np.isnan(recording.T_odom_camera[:3]).all()
    truth = se3.inverse_transform(drive.poses[3]) @ drive.poses[3:]
    assert recording.T_odom_camera[3:] == pytest.approx(truth)
    assert score_of_odometry(recording)['path_m'] == pytest.approx(0.2 * 36)


def test_dropped_frames_are_counted_and_skipped():
    """As in a live replay: no pose, no window of five across the hole."""
    recording, _, _ = run()
    recording.T_odom_camera[10] = np.nan
    recording.processed[10] = False
    odometry = score_of_odometry(recording)
    assert (odometry['frames_dropped'], odometry['frames_answered']) == (1, 39)
    assert odometry['ate_m'] == pytest.approx(0.0, abs=1e-6)
    assert odometry['ate5_zhou_m'] == pytest.approx(0.0, abs=1e-6)


def test_snippets_without_any_error_are_left_out_as_published():
    """A standing camera that is said to stand must not make the mean look better."""
    recording, _, _ = run(10)
    recording.T_truth[:] = recording.T_odom_camera[:] = np.eye(4)
    recording.T_odom_camera[9, 0, 3], recording.T_truth[9, 1, 3] = 1.0, 1.0
    odometry = score_of_odometry(recording)
    assert odometry['ate5_zhou_m'] == pytest.approx(1.0 / 5)
    assert odometry['ate5_rmse_m'] == pytest.approx(np.sqrt(1 / 5) / 6)


def test_frames_without_intrinsics_are_an_error():
    """They cannot be compared, and nothing is made up."""
    drive = Drive(3)
    drive.camera = None
    with pytest.raises(RecordingError, match='no intrinsics'):
        run_geometry(KnowingPipeline(drive), drive)


def test_constant_motion_is_that_of_the_whole_recording():
    """It repeats a circle exactly, poses that are missing or not; without any it stands."""
    drive = Drive(30)
    truth = drive.poses.copy()
    truth[4] = np.nan
    expected = se3.inverse_transform(drive.poses[0]) @ drive.poses
    assert constant_motion(drive.stamps, truth) == pytest.approx(expected)
    nothing = constant_motion(drive.stamps, np.full((30, 4, 4), np.nan))
    assert np.array_equal(nothing, np.tile(np.eye(4), (30, 1, 1)))


def test_constant_motion_knows_the_time():
    """Where a frame was dropped the step is twice as long."""
    stamps = np.array([0, 1, 2, 4, 5, 9]) * 100_000_000
    truth = np.tile(np.eye(4), (6, 1, 1))
    truth[:, 2, 3] = 3e-9 * stamps
    assert constant_motion(stamps, truth) == pytest.approx(truth)


def test_chain_lends_only_lengths():
    """True directions and lengths give the truth; half the length half of the way."""
    truth = Drive(12).poses
    references = [0, 0, 0, 2, 3, 3, 5, 6, 7, 7, 7, 10]
    motions = []
    for i, j in enumerate(references):
        motion = se3.inverse_transform(truth[j]) @ truth[i]
        motion[:3, 3] /= max(np.linalg.norm(motion[:3, 3]), 1e-12)
        motions.append(motion)
    expected = se3.inverse_transform(truth[0]) @ truth
    assert chain(references, motions, truth) == pytest.approx(expected)
    half = truth.copy()
    half[:, :3, 3] *= 0.5
    shorter = chain(references, motions, half)
    assert shorter[:, :3, 3] == pytest.approx(0.5 * expected[:, :3, 3])
    half[4] = np.nan
    assert np.isnan(chain(references, motions, half)[4]).all()


def test_few_pictures_are_kept_and_the_right_ones():
    """Of a long recording a bounded number, with the best and the worst among them."""
    n = 400
    drive = Drive(n)
    recording = GeometryRecording.unanswered(drive.stamps)
    rng = np.random.default_rng(0)
    errors = 0.05 + 0.3 * rng.random(n)
    wave = np.where(np.arange(64) % 4 < 2, 1.0, -1.0)
    for i, error in enumerate(errors):
        frame = drive[i]
        # The pictures are scaled by the true median.
        said = 1.7 * frame.depth * (1 + error * wave)
        estimate = DepthEstimate(said.astype(np.float32), CAMERA, True)
        score_depth(recording, i, frame, estimate)
    assert len(recording.samples) <= 3 * PARTS
    found = recording.depth.errors_scaled[:, 0]
    chosen = chosen_samples(recording)
    assert [kind for kind, _ in chosen] == ['best', 'typical', 'typical', 'worst', 'worst']
    assert chosen[0][1].index == np.argmin(found) and chosen[-1][1].index == np.argmax(found)
    assert np.abs(chosen[1][1].abs_rel / np.median(found) - 1) < 0.3
    sample = chosen[0][1]
    assert sample.predicted.shape == sample.truth.shape == sample.image.shape[:2] == (48, 64)
    assert np.nanmedian(sample.predicted / sample.truth) == pytest.approx(1.0, abs=0.3)


def test_frames_without_truth_are_not_scored():
    """Nothing is kept of them."""
    recording, _, _ = run(with_depth=False)
    assert not recording.samples and score_of_depth(recording)['images_scored'] == 0
    assert 'no true depth' in depth_verdict(score_of_depth(recording))


def report(tmp_path, recording, jobs=('depth', 'odometry')):
    """Write a report and return its page."""
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        write_run_report(tmp_path / 'out' / 'report.html', with_geometry(
            Run('drives/monday[0:500]'), recording, MODEL, jobs))
    return Page(tmp_path / 'out' / 'report.html')


def test_page_stands_alone_and_says_the_numbers(tmp_path):
    """No reference leaves the page; every picture is whole; text is escaped."""
    recording, drive, _ = run(factor=1.1)
    page = report(tmp_path, with_baselines(recording, drive))
    assert page.headings == ['Overview', 'Along the way', 'Depth', 'Odometry', 'Timing', 'Run']
    assert page.lesser_headings == [
        'Depth', 'Odometry', 'Summary', 'Pictures', 'Errors', 'Summary', 'Trajectory', 'Drift',
        'Errors along the path', 'Is the stated uncertainty right?',
        'Delay of depth and odometry', 'How this was measured', 'Model']
    assert '://' not in page.markup and '<b>1' not in page.raw and '@import' not in page.raw
    assert all(source.startswith(('data:image/', '#')) for source in page.sources)
    for source in page.sources:
        kind, _, data = source.partition(';base64,')
        if kind == 'data:image/svg+xml':
            ElementTree.fromstring(base64.b64decode(data))
    for text in ('10.0 %', 'drives/monday', 'As set.', 'Five-point', 'Constant motion',
                 '40 of 40', 'ATE-5 (Zhou protocol)', 'segments of 1, 2, 3, 4, 5, 6, 7 m',
                 'drive.safetensors', '40 images over 3.9 s'):
        assert text in page.text, text


@pytest.mark.parametrize('jobs, headings', [
    (('depth',), ['Summary', 'Pictures', 'Errors']),
    (('odometry',), ['Summary', 'Trajectory', 'Drift', 'Errors along the path',
                     'Is the stated uncertainty right?'])])
def test_one_job_has_a_page_of_its_own(tmp_path, jobs, headings):
    """Its sections are those of the page."""
    assert report(tmp_path, run()[0], jobs).lesser_headings == [
        *headings, 'Delay of depth and odometry', 'How this was measured', 'Model']


@pytest.mark.parametrize('changes', [
    {'metric_from': 1000}, {'with_depth': False}, {'n': 1}, {'n': 3},
    {'n': 2, 'with_depth': False}, {'metres': 0.0}, {'metres': 1e-13, 'with_depth': False},
    {'resets': tuple(range(1, 40))}],
    ids=['no scale', 'no depth', 'one frame', 'three frames', 'two without depth', 'standing',
         'rounding', 'reset at every frame'])
def test_odd_results_have_a_report_too(tmp_path, changes):
    """What there is nothing to say about is left out; nothing fails and nothing says nan."""
    recording, drive, _ = run(**changes)
    page = report(tmp_path, with_baselines(recording, drive))
    assert 'How this was measured' in page.lesser_headings
    assert 'nan' not in page.text.lower().split() and 'None' not in page.text


def test_nothing_known_has_a_report_too(tmp_path):
    """No truth, no answer."""
    recording = GeometryRecording.unanswered(np.arange(5))
    page = report(tmp_path, recording)
    assert '0 of 5 images were processed' in page.text and 'None' not in page.text


def test_verdict_does_not_flatter():
    """Who drifts less is named; worse than a flat picture is said."""
    recording, drive, _ = run(factor=2.0)
    odometry = score_of_odometry(with_baselines(recording, drive))
    assert odometry['baselines']['constant_motion']['drift_percent'] < 1.0
    assert 'Less does' in odometry_verdict(odometry)
    assert 'constant motion (0.0 %)' in odometry_verdict(odometry)
    depth = replace(recording.depth, flat_abs_rel=np.zeros(40))
    assert 'does not beat a flat picture' in depth_verdict(
        score_of_depth(replace(recording, depth=depth)))
    partly = replace(recording.depth, coverage=np.full(40, 0.5))
    assert 'looks at 50 % of the pixels' in depth_verdict(
        score_of_depth(replace(recording, depth=partly)))
    assert 'looks at' not in depth_verdict(score_of_depth(recording))
