# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Depth and odometry: exact networks give exact answers; whatever happens, it is told."""

from dataclasses import replace

import numpy as np
import pytest
from small_world import CAMERA
from true_geometry import (
    curved_drive, drive, METRES_PER_UNIT, pose, run, SECOND, TENTH, true_pipeline)

from geo_perception.geometry.camera import same_camera
from geo_perception.geometry.se3 import (
    inverse_transform, make_transform, matrix_from_rotation_vector, rotation_angle,
    rotation_vector_from_matrix)
from geo_perception.inference.motion import View
from geo_perception.inference.motion_uncertainty import MotionCalibration
from geo_perception.inference.scale import ScaleOptions
from geo_perception.inference.visual_odometry import VisualOdometry


@pytest.fixture(autouse=True)
def plain_pytorch(monkeypatch):
    """Leave OpenVINO out, whose conversion takes seconds a model."""
    monkeypatch.setattr('geo_perception.inference.engine._openvino',
                        lambda *arguments: (None, None, None))


@pytest.fixture(scope='module')
def way():
    """Return frames of a curved drive."""
    return curved_drive()


def is_covariance(matrix):
    """Return whether a matrix is finite, symmetric and positive definite."""
    return bool(np.isfinite(matrix).all() and np.allclose(matrix, matrix.T)
                and (np.linalg.eigvalsh(matrix) > 0).all())


def test_true_motions_give_the_true_way(tmp_path, way):
    """Pose, motion, depth and their cameras are exact, to rounding, and of the right frames."""
    results = run(true_pipeline(tmp_path, way), way)
    assert results[0].odometry is None and 'first frame' in results[0].reason
    assert not any(result.reset or result.warning for result in results)
    start = inverse_transform(way[0].T_world_camera)
    for before, frame, result in zip(way, way[1:], results[1:]):
        odometry = result.odometry
        assert result.reason == '' and odometry.stamp == frame.stamp
        assert np.allclose(odometry.T_odom_camera, start @ frame.T_world_camera, atol=1e-9)
        assert np.allclose(odometry.motion, inverse_transform(before.T_world_camera)
                           @ frame.T_world_camera, atol=1e-9)
        assert odometry.interval == pytest.approx(0.1)
        assert odometry.metric and not odometry.standing
        assert is_covariance(odometry.motion_covariance) and is_covariance(odometry.covariance)
        assert np.allclose(result.depth.depth, frame.depth, rtol=1e-5) and result.depth.metric
        assert np.allclose(result.depth.camera.K, CAMERA.K)
    sizes = [np.linalg.det(result.odometry.covariance) for result in results[1:]]
    assert (np.diff(sizes) > 0).all()
    assert np.allclose(results[1].odometry.covariance, results[1].odometry.motion_covariance)


def test_residual_is_of_the_true_direction(tmp_path, way):
    """True motions explain the images much better than their inverses."""
    good, bad = true_pipeline(tmp_path, way), true_pipeline(tmp_path, way)
    network = bad._odometry._network

    class Backwards:
        memory, keeps_key_frames = 1, False

        def __call__(self, *views):
            return inverse_transform(network(*views))

    bad._odometry._network = Backwards()
    residuals = [[r.odometry.residual for r in run(pipeline, way)[1:]] for pipeline in (good, bad)]
    assert np.median(residuals[0]) < 0.5 * np.median(residuals[1])
    assert np.max(residuals) <= 1


def test_without_scale_nothing_is_metric(tmp_path, way):
    """The same way in the unit of the networks, and marked as such."""
    results = run(true_pipeline(tmp_path, way, scale=ScaleOptions('none')), way)
    truth = inverse_transform(way[0].T_world_camera) @ way[-1].T_world_camera
    odometry = results[-1].odometry
    assert np.allclose(odometry.T_odom_camera[:3, 3] * METRES_PER_UNIT, truth[:3, 3])
    assert np.allclose(odometry.T_odom_camera[:3, :3], truth[:3, :3])
    assert not odometry.metric and not results[-1].depth.metric
    assert np.allclose(results[-1].depth.depth * METRES_PER_UNIT, way[-1].depth, rtol=1e-5)
    metric = run(true_pipeline(tmp_path, way), way)[-1].odometry
    factors = np.outer([2, 2, 2, 1, 1, 1], [2, 2, 2, 1, 1, 1])
    assert np.allclose(metric.covariance, odometry.covariance * factors)


def test_scale_that_becomes_known_on_the_way(tmp_path, way):
    """What was chained without a scale becomes metric with the first one."""
    pipeline = true_pipeline(tmp_path, way, scale=ScaleOptions('odometry'))
    start = inverse_transform(way[0].T_world_camera)
    for i, frame in enumerate(way):
        result = pipeline(frame.image, frame.camera, frame.stamp)
        if i >= 5:
            truth = np.linalg.norm(frame.T_world_camera[:3, 3] - way[i - 1].T_world_camera[:3, 3])
            pipeline.observe_distance(truth)
        if i > 5:
            assert result.odometry.metric and result.depth.metric
            assert np.allclose(result.odometry.T_odom_camera, start @ frame.T_world_camera)
        elif i:
            assert not result.odometry.metric
    assert pipeline.scale().metres_per_unit == pytest.approx(METRES_PER_UNIT)


def shift(frames, first, nanoseconds):
    """Return frames, later from one on."""
    return frames[:first] + [replace(f, stamp=f.stamp + nanoseconds) for f in frames[first:]]


def with_camera(frames, first, camera):
    """Return frames, of another camera from one on."""
    return frames[:first] + [replace(f, camera=camera) for f in frames[first:]]


@pytest.mark.parametrize('change,words', [
    (lambda way: shift(way, 6, -5 * SECOND), 'time jumped back by 4.900 s'),
    (lambda way: shift(way, 6, 5 * SECOND), 'no usable image for 5.10 s'),
    (lambda way: shift(way, 6, 4 * TENTH), 'no usable image for 0.50 s'),
    (lambda way: with_camera(way, 6, replace(CAMERA, K=CAMERA.K * [[1.1], [1.1], [1]])),
     '80.0 pixels before, 88.0 now')], ids=['back', 'gap', 'gap of several', 'focal length'])
def test_what_breaks_the_chain_starts_it_anew(tmp_path, way, change, words):
    """One sentence at the break, no motion across it, and a new origin."""
    frames = change(way)
    results = run(true_pipeline(tmp_path, way), frames)
    assert words in results[6].reset and results[6].odometry is None
    assert not any(result.reset for i, result in enumerate(results) if i != 6)
    truth = inverse_transform(frames[6].T_world_camera) @ frames[8].T_world_camera
    assert np.allclose(results[8].odometry.T_odom_camera, truth, atol=1e-9)
    assert np.allclose(results[7].odometry.covariance, results[7].odometry.motion_covariance)


@pytest.mark.parametrize('odometry', ['network', 'hybrid'])
def test_looking_ahead_changes_nothing(tmp_path, way, odometry):
    """Evaluation does it; nothing of a frame may be of the one that is followed meanwhile."""
    way = with_camera(way, 6, replace(CAMERA, K=CAMERA.K * [[1.1], [1.1], [1]]))
    expected = run(true_pipeline(tmp_path, way, odometry=odometry), way)
    pipeline = true_pipeline(tmp_path, way, odometry=odometry)
    views = [pipeline.look(frame.image, frame.camera, frame.stamp) for frame in way]
    for view, result in zip(views, expected):
        found = pipeline.follow(view)
        assert np.array_equal(found.depth.depth, result.depth.depth)
        assert same_camera(found.depth.camera, result.depth.camera)
        assert found.reset == result.reset
        assert (found.odometry is None) == (result.odometry is None)
        if result.odometry is not None:
            assert np.array_equal(found.odometry.T_odom_camera, result.odometry.T_odom_camera)
    assert any(result.reset for result in expected)


def test_cut_in_the_video(tmp_path, way):
    """Another scene from one frame to the next is told; a wrong network alone is not."""
    other = [replace(f, image=np.ascontiguousarray(255 - f.image[::-1, ::-1])) for f in way]
    mixed = way[:6] + other[6:]
    pipeline = true_pipeline(tmp_path, mixed)
    results = run(pipeline, mixed)
    assert 'cut' in results[6].reset and results[6].odometry is None
    assert not any(result.reset for i, result in enumerate(results) if i != 6)
    assert results[7].odometry is not None


def test_frame_left_out_is_bridged(tmp_path, way):
    """Motion over two intervals is motion, only less certain."""
    results = run(true_pipeline(tmp_path, way), way[:5] + way[6:])
    truth = inverse_transform(way[0].T_world_camera) @ way[-1].T_world_camera
    assert np.allclose(results[-1].odometry.T_odom_camera, truth, atol=1e-9)
    assert results[5].odometry.interval == pytest.approx(0.2)


def test_repeated_stamp_is_ignored(tmp_path, way):
    """The same frame twice gives its depth, no motion, and leaves the way as it is."""
    frames = way[:4] + [way[3]] + way[4:]
    results = run(true_pipeline(tmp_path, way), frames)
    assert results[4].odometry is None and 'this stamp' in results[4].reason
    assert results[4].reset == '' and np.array_equal(results[4].depth.depth,
                                                     results[3].depth.depth)
    truth = inverse_transform(way[0].T_world_camera) @ way[-1].T_world_camera
    assert np.allclose(results[-1].odometry.T_odom_camera, truth, atol=1e-9)


def test_standing_camera_does_not_drift(tmp_path, way):
    """A hundred noisy frames of one view: same pose, no growing doubt; then on as before."""
    random = np.random.default_rng(0)
    standing = [replace(way[5], stamp=way[5].stamp + (i + 1) * TENTH, image=np.clip(
        way[5].image + random.normal(0, 4, way[5].image.shape), 0, 255).astype(np.uint8))
        for i in range(100)]
    after = [replace(f, stamp=f.stamp + 100 * TENTH) for f in way[6:]]
    frames = way[:6] + standing + after
    results = run(true_pipeline(tmp_path, frames), frames)
    there = results[5].odometry.T_odom_camera
    for result in results[6:106]:
        assert result.odometry.standing and result.odometry.interval == pytest.approx(0.1)
        assert np.array_equal(result.odometry.motion, np.eye(4))
        assert np.allclose(result.odometry.T_odom_camera, there, atol=1e-12)
        assert is_covariance(result.odometry.motion_covariance)
    assert np.allclose(results[6].odometry.covariance, results[105].odometry.covariance,
                       rtol=0.3)
    assert results[106].odometry.interval == pytest.approx(0.1)
    truth = inverse_transform(way[0].T_world_camera) @ way[-1].T_world_camera
    assert np.allclose(results[-1].odometry.T_odom_camera, truth, atol=1e-9)


def test_creeping_is_not_lost(tmp_path):
    """Motion too small for the network to see is seen once it has added up."""
    frames = drive([pose(y=0.004 * i) for i in range(80)])
    pipeline = true_pipeline(tmp_path, frames)
    network = pipeline._odometry._network

    class Blunt:
        memory, keeps_key_frames = 1, False

        def __call__(self, *views):
            motion = network(*views)
            return motion if np.linalg.norm(motion[:3, 3]) * METRES_PER_UNIT > 0.01 else np.eye(4)

    pipeline._odometry._network = Blunt()
    results = run(pipeline, frames)
    assert sum(result.odometry.standing for result in results[1:]) > 20
    way = results[-1].odometry.T_odom_camera[:3, 3]
    assert np.linalg.norm(way) == pytest.approx(0.004 * 79, abs=0.01)


def test_moving_before_a_bare_wall_is_no_standing(tmp_path):
    """Images that hardly change tell of motion all the same, where motion explains the change."""
    frames = [replace(f, image=(0.1 * f.image + 120).astype(np.uint8))
              for f in drive([pose(y=0.03 * i) for i in range(8)])]
    results = run(true_pipeline(tmp_path, frames), frames)
    assert not any(result.odometry.standing for result in results[1:])
    changes = [np.abs(a.image.astype(int) - b.image).mean() for a, b in zip(frames, frames[1:])]
    assert np.max(changes) < 2.5


def test_covered_lens(tmp_path, way):
    """Black and blank frames have neither depth nor motion, and do no harm when they are few."""
    black = replace(way[5], image=np.zeros_like(way[5].image))
    blank = replace(way[6], image=np.full_like(way[6].image, 200))
    results = run(true_pipeline(tmp_path, way), way[:5] + [black, blank] + way[7:])
    for result in results[5:7]:
        assert result.odometry is None and 'covered' in result.reason and not result.reset
        assert np.isnan(result.depth.depth).all()
    truth = inverse_transform(way[0].T_world_camera) @ way[-1].T_world_camera
    assert np.allclose(results[-1].odometry.T_odom_camera, truth, atol=1e-9)
    only = true_pipeline(tmp_path, way)
    assert run(only, [black, blank, *way[7:9]])[-1].odometry is not None


def test_frames_faster_than_in_training(tmp_path, way):
    """A camera of 30 Hz gives motion every 0.1 s, at which the network was trained."""
    frames = [replace(f, stamp=SECOND + i * TENTH // 3) for i, f in enumerate(way)]
    results = run(true_pipeline(tmp_path, way), frames)
    moved = [i for i, result in enumerate(results) if result.odometry is not None]
    assert moved == [3, 6, 9]
    assert 'trained on frames 0.100 s apart' in results[1].reason
    truth = inverse_transform(way[0].T_world_camera) @ way[9].T_world_camera
    assert np.allclose(results[9].odometry.T_odom_camera, truth, atol=1e-9)


def test_frames_slower_than_in_training(tmp_path, way):
    """At 3 Hz there is odometry, with a warning."""
    frames = [replace(f, stamp=SECOND + i * 3 * TENTH) for i, f in enumerate(way)]
    results = run(true_pipeline(tmp_path, way), frames)
    assert all(result.odometry is not None for result in results[1:])
    assert 'larger than any' in results[3].warning
    usual = run(true_pipeline(tmp_path, way), way)[3].odometry.motion_covariance
    assert np.trace(results[3].odometry.motion_covariance) == pytest.approx(np.trace(usual))


def test_camera_that_has_become_slow(tmp_path, way):
    """The first long interval breaks the chain; when it is the usual one, it does no more."""
    frames = [replace(f, stamp=SECOND + i * 5 * TENTH) for i, f in enumerate(way)]
    results = run(true_pipeline(tmp_path, way), frames)
    assert [i for i, result in enumerate(results) if result.reset] == [1]
    assert all(result.odometry is not None for result in results[2:])


def test_pure_rotation(tmp_path):
    """Turning on the spot gives turns and no NaN."""
    frames = drive([pose(yaw=0.03 * i) for i in range(8)])
    results = run(true_pipeline(tmp_path, frames), frames)
    last = results[-1].odometry
    assert np.allclose(last.T_odom_camera[:3, 3], 0, atol=1e-12)
    assert rotation_angle(np.eye(3), last.T_odom_camera[:3, :3]) == pytest.approx(0.21)
    assert all(is_covariance(r.odometry.covariance) for r in results[1:])


def test_motion_that_is_no_number(tmp_path, way):
    """A network gone mad ends the chain, and nothing that is not finite comes out."""
    pipeline = true_pipeline(tmp_path, way)
    network = pipeline._odometry._network
    run(pipeline, way[:5])

    class Mad:
        memory, keeps_key_frames = 1, False

        def __call__(self, *views):
            return np.full((4, 4), np.nan)

    pipeline._odometry._network = Mad()
    result = run(pipeline, way[5:6])[0]
    assert result.odometry is None and 'no number' in result.reset
    pipeline._odometry._network = network
    results = run(pipeline, way[6:])
    assert np.isfinite(results[-1].odometry.T_odom_camera).all()


def test_reset_and_depth_only(tmp_path, way):
    """Depth alone leaves the odometry alone; reset makes the next frame the origin."""
    pipeline = true_pipeline(tmp_path, way)
    run(pipeline, way[:5])
    depth = pipeline.depth_only(way[9].image, way[9].camera)
    assert np.allclose(depth.depth, way[9].depth, rtol=1e-5) and depth.metric
    unknown = pipeline.depth_only(way[9].image, None)
    assert not unknown.metric and unknown.camera is None
    result = run(pipeline, way[5:6])[0]
    assert np.allclose(result.odometry.T_odom_camera, inverse_transform(way[0].T_world_camera)
                       @ way[5].T_world_camera, atol=1e-9)
    pipeline.reset()
    results = run(pipeline, way[5:8])
    assert results[0].odometry is None and results[0].reset == ''
    assert np.allclose(results[2].odometry.T_odom_camera,
                       inverse_transform(way[5].T_world_camera) @ way[7].T_world_camera, atol=1e-9)


@pytest.mark.parametrize('common', [0.0, 0.6])
def test_accumulated_covariance_is_that_of_noisy_ways(common):
    """Many chains of noisy motions spread as their covariance says, turns and lever arms too."""
    law = MotionCalibration(0.01, 0.1, 0.02, 0.01, 0.1, 1.0, 0.0, 0.0, common, common)
    motion = make_transform(matrix_from_rotation_vector([0.02, 0.3, 0.1]), [0.1, 0, 0.5])
    random, ends = np.random.default_rng(0), np.eye(4)
    covariance = law.covariance(motion, 1.0, 0.1)
    shared, *own = random.multivariate_normal(np.zeros(6), covariance, (7, 4000))
    for e in own:
        e = np.sqrt(common) * shared + np.sqrt(1 - common) * e
        ends = ends @ make_transform(matrix_from_rotation_vector(e[:, 3:]) @ motion[:3, :3],
                                     motion[:3, 3] + e[:, :3])

    class Network:
        memory, keeps_key_frames = 1, False

        def __call__(self, *views):
            return motion

    odometry = VisualOdometry(Network(), law)
    pictures = np.random.default_rng(1).integers(0, 255, (7, 64, 96, 3), np.uint8)
    depth = np.ones((64, 96), np.float32)
    steps = [odometry.update(View(image, depth, CAMERA, i * TENTH), None)
             for i, image in enumerate(pictures)]
    estimate = steps[-1].estimate
    errors = np.concatenate([
        ends[:, :3, 3] - estimate.T_odom_camera[:3, 3],
        rotation_vector_from_matrix(ends[:, :3, :3] @ estimate.T_odom_camera[:3, :3].T)], 1)
    sampled = errors.T @ errors / len(errors)
    whiten = np.linalg.inv(np.linalg.cholesky(estimate.covariance))
    assert np.allclose(whiten @ sampled @ whiten.T, np.eye(6), atol=0.12)
