# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Odometry by corners at the scale of a depth network, and by the network where they fail."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from small_world import CAMERA
import textured_room
from true_geometry import drive, pose, SAMPLE_PREPROCESSING, SECOND, TENTH, true_pipeline

from geo_perception.datasets.frame import Frame
from geo_perception.errors import ConfigurationError, RecordingError
from geo_perception.evaluation.odometry_calibration import calibrate_hybrid_motion
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.se3 import (
    inverse_transform, make_transform, matrix_from_rotation_vector, R_BODY_OPTICAL,
    rotation_angle)
from geo_perception.inference.corner_uncertainty import CornerCalibration
from geo_perception.inference.feature_tracks import (
    FeatureImage, find_corners, follow, LARGEST_SIDE, place_roots)
from geo_perception.inference.hybrid_motion import HYBRID, HybridMotion
from geo_perception.inference.local_map import LocalMap
from geo_perception.inference.motion import View
from geo_perception.inference.motion_uncertainty import motion_errors, MotionCalibration
from geo_perception.inference.scale import ScaleOptions

# Metres: a pixel of the small camera, at the distance of the wall.
PIXEL = 3.0 / CAMERA.K[0, 0]
NOWHERE = make_transform(np.eye(3), [9.0, 9.0, 9.0])


class Network:
    """Says that the camera went far away, and counts who asks."""

    memory, asked, guess = 0, 0, None

    def __call__(self, earlier, previous, current, guess):
        """Return T_previous_current."""
        self.asked, self.guess = self.asked + 1, guess
        return NOWHERE


def views(frames, factor=None):
    """Return what the odometry sees of frames, with depth that is off by a factor a frame."""
    factor = [1.0] * len(frames) if factor is None else factor
    return [View(f.image, f.depth * np.float32(k), CAMERA, f.stamp,
                 features=FeatureImage.of(f.image, CAMERA)) for f, k in zip(frames, factor)]


def room_views(poses):
    """Return what the odometry sees of the room."""
    camera, seen = textured_room.CAMERA, []
    for i, T in enumerate(poses):
        image, depth = textured_room.render(T)
        seen.append(View(image, depth, camera, SECOND + i * TENTH,
                         features=FeatureImage.of(image, camera)))
    return seen


@pytest.fixture(scope='module')
def forward():
    """Return what is seen on a drive of 4.1 m through the room, in steps of 0.18 m."""
    return room_views([make_transform(R_BODY_OPTICAL, [-2.0, 0.18 * i - 2.1, -0.9])
                       for i in range(24)])


def way_of(hybrid, seen):
    """Return the poses of a chain of motions, and the states."""
    T, states = [np.eye(4)], []
    for before, now in zip(seen, seen[1:]):
        T.append(T[-1] @ hybrid((), before, now, np.eye(4)))
        states.append(hybrid.state)
    return np.array(T), states


def truth(frames):
    """Return the poses in the first frame."""
    T = np.array([f.T_world_camera for f in frames])
    return inverse_transform(T[0]) @ T


@pytest.fixture(scope='module')
def curve():
    """Return a drive of 1.4 m past the wall, with a turn."""
    a = np.linspace(0, 1, 24)
    return drive([pose(0.4 * s, 1.2 * s - 0.6, 1 + 0.1 * s, 0.2 * np.sin(3 * s)) for s in a])


def test_motion_is_found_without_the_network(curve):
    """Over 1.4 m it is off by a pixel or so; the network is never asked."""
    network = Network()
    T, states = way_of(HybridMotion(network), views(curve))
    true = truth(curve)
    assert set(states) == {HYBRID} and network.asked == 0
    assert np.linalg.norm(T[:, :3, 3] - true[:, :3, 3], axis=1).max() < 1.5 * PIXEL
    assert rotation_angle(T[:, :3, :3], true[:, :3, :3]).max() < 1.5 / CAMERA.K[0, 0]


@pytest.mark.parametrize('share,pixels,first', [(0.3, 1, 8), (0.3, -1, 0), (0.4, -2, 8)])
def test_a_large_bright_thing_that_moves_does_not_pull(curve, share, pixels, first):
    """It covers three or four tenths of the image; the way is off by four pixels at most."""
    random = np.random.default_rng(3)
    picture = cv2.resize(random.integers(0, 255, (40, 60, 3), np.uint8), (240, 160),
                         interpolation=cv2.INTER_CUBIC)
    picture = np.uint8(np.clip(picture * 0.9 + 60, 0, 255))
    width = int(96 * share)
    picture = cv2.GaussianBlur(picture[20:84, 60:60 + width], (3, 3), 0)
    frames = list(curve[:first])
    for i, frame in enumerate(curve[first:]):
        left = (4 if pixels > 0 else 92 - width) + i * pixels
        image, begin, end = frame.image.copy(), max(left, 0), min(left + width, 96)
        image[:, begin:end] = picture[:, begin - left:end - left]
        frames.append(replace(frame, image=image))
    network = Network()
    T, states = way_of(HybridMotion(network), views(frames))
    assert set(states) == {HYBRID} and network.asked == 0
    assert np.linalg.norm(T[:, :3, 3] - truth(curve)[:, :3, 3], axis=1).max() < 4 * PIXEL


def test_depth_that_is_wrong_by_another_factor_in_each_frame(curve):
    """Its mean over the frames is what counts, its jumps do not come through."""
    factor = np.exp(0.1 * np.random.default_rng(0).choice([-1, 1], len(curve)))
    T, _ = way_of(HybridMotion(Network()), views(curve, factor))
    true = truth(curve)
    # Over 4 frames, for a single step is half a pixel.
    steps, true_steps = (np.linalg.norm(p[4:, :3, 3] - p[:-4, :3, 3], axis=1) for p in (T, true))
    ratio = steps / true_steps
    assert ratio.mean() == pytest.approx(1, abs=0.1) and ratio.std() < 0.06


def test_corners_do_not_slip_while_the_camera_rolls():
    """Over 0.3 m and 19 degrees it is off by 8 mm at most; followed from image to image by 17."""
    poses = [make_transform(R_BODY_OPTICAL @ matrix_from_rotation_vector(
        np.array([0.0, 0.0, 0.03 * i])), [-2.0, 0.03 * i - 2.1, -0.9]) for i in range(12)]
    T, states = way_of(HybridMotion(Network()), room_views(poses))
    true = inverse_transform(poses[0]) @ np.array(poses)
    assert set(states) == {HYBRID}
    assert np.linalg.norm(T[:, :3, 3] - true[:, :3, 3], axis=1).max() < 0.008


def test_a_camera_that_jerks_is_followed():
    """It turns by ten degrees to and fro, of which nothing was to be foreseen."""
    turns = [[0.045 * (i % 2), 0.15 * (i % 3 == 1), 0.1 * (i % 2)] for i in range(12)]
    poses = [make_transform(R_BODY_OPTICAL @ matrix_from_rotation_vector(np.array(turn)),
                            [-2.0, 0.03 * i - 1.1, -0.9]) for i, turn in enumerate(turns)]
    network = Network()
    T, states = way_of(HybridMotion(network), room_views(poses))
    true = inverse_transform(poses[0]) @ np.array(poses)
    assert set(states) == {HYBRID} and network.asked == 0
    assert rotation_angle(T[:, :3, :3], true[:, :3, :3]).max() < np.radians(0.5)
    assert np.linalg.norm(T[:, :3, 3] - true[:, :3, 3], axis=1).max() < 0.05


def test_alignment_begins_where_the_whole_image_turned_to(monkeypatch):
    """Where no corners are found again the fallback is told of a turn of nine degrees."""
    turn = matrix_from_rotation_vector(np.array([0.03, 0.15, 0.0]))
    before, now = room_views([make_transform(R, [-2.0, -1.1, -0.9])
                              for R in (R_BODY_OPTICAL, R_BODY_OPTICAL @ turn)])
    monkeypatch.setattr(LocalMap, 'follow', lambda *arguments: 'no corners')
    network = Network()
    HybridMotion(network)((), before, now, np.eye(4))
    assert np.degrees(rotation_angle(network.guess[:3, :3], turn)) < 0.5


@pytest.mark.parametrize('trusted,lost', [(10, False), (7, True)])
def test_a_few_trusted_corners_are_enough_where_all_agree(forward, monkeypatch, trusted, lost):
    """Of 25 that several key frames have seen: ten and most others stand, seven do not."""
    local = LocalMap(forward[0].features, forward[0].depth, textured_room.CAMERA.K)
    monkeypatch.setattr(local, '_trusted', lambda found: np.arange(len(found)) < 25)
    monkeypatch.setattr(local, '_locate', lambda image, found, pixels, expected: (
        np.eye(4), (np.arange(len(found)) < trusted) | (np.arange(len(found)) >= 25)))
    reason = local.follow(forward[1].features)
    assert reason == (f'only {trusted} of 25 corners agree on a motion' if lost else '')


def test_a_change_of_scale_is_no_motion(forward):
    """What moves the whole window when it is adjusted does not make the camera jump."""
    factors = np.exp(np.linspace(0, 0.3, 24, dtype=np.float32))
    T, _ = way_of(HybridMotion(Network()), [replace(view, depth=view.depth * factor)
                                            for view, factor in zip(forward, factors)])
    steps = np.linalg.norm(np.diff(T[:, :3, 3], axis=0), axis=1) / 0.18
    assert steps[-1] > 1.05 and np.abs(np.diff(steps)).max() < 0.4


def test_a_turn_that_keeps_all_in_sight_makes_key_frames_too():
    """Around a point of the wall 3 m away: the image hardly moves, and yet depths are learned."""
    frames = drive([pose(y=0.09 * i, yaw=-np.arctan2(0.09 * i, 3.0)) for i in range(6)])
    hybrid = HybridMotion(Network())
    T, states = way_of(hybrid, views(frames))
    assert set(states) == {HYBRID} and len(hybrid._map._window.T) > 1
    assert np.linalg.norm(T[:, :3, 3] - truth(frames)[:, :3, 3], axis=1).max() < 2 * PIXEL


def test_noise_of_images_is_noticed(forward):
    """Corners of grainy images are trusted less than those of clean ones."""
    random = np.random.default_rng(0)
    grainy = [replace(view, features=FeatureImage.of(np.uint8(np.clip(
        view.crop + random.normal(0, 12, view.crop.shape), 0, 255)), view.camera))
        for view in forward]
    clean, noisy = HybridMotion(Network()), HybridMotion(Network())
    way_of(clean, forward)
    way_of(noisy, grainy)
    assert noisy._map._noise > 1.3 * clean._map._noise


def test_pure_rotation():
    """A camera that turns about itself stays where it is, to three pixels (37 mm each)."""
    frames = drive([pose(yaw=0.02 * i) for i in range(16)])
    T, states = way_of(HybridMotion(Network()), views(frames))
    assert set(states) == {HYBRID}
    assert np.abs(T[:, :3, 3]).max() < 3 * PIXEL
    assert rotation_angle(T[-1, :3, :3], truth(frames)[-1, :3, :3]) < 3 / CAMERA.K[0, 0]


def test_corners_on_what_the_mask_says_moves_are_left_out(curve):
    """None of them is followed any longer; the others are."""
    seen = views(curve[:3])
    hybrid = HybridMotion(Network())
    hybrid((), seen[0], seen[1], np.eye(4))
    before = hybrid._map.size
    mask = np.zeros((32, 48), bool)
    mask[:, :24] = True
    hybrid.leave_out(mask, CAMERA.resized(48, 32).K)
    followed = hybrid._map._pixels[hybrid._map._followed()]
    assert 20 < len(followed) < 0.7 * before and followed[:, 0].min() > 46
    hybrid((), seen[1], seen[2], np.eye(4))
    assert hybrid.state == HYBRID


def test_white_wall_has_the_motion_of_the_network(curve):
    """The state says why; with corners again it is hybrid again at once."""
    blank = [replace(f, image=np.full_like(f.image, 200), stamp=f.stamp + 8 * TENTH)
             for f in curve[8:10]]
    frames = [*curve[:8], *blank, *curve[10:14]]
    network = Network()
    hybrid, seen = HybridMotion(network), views(frames)
    motions, states = [], []
    for before, now in zip(seen, seen[1:]):
        motions.append(hybrid((), before, now, np.eye(4)))
        states.append(hybrid.state)
    assert states[:7] == [HYBRID] * 7 and states[10:] == [HYBRID] * 3
    assert all(s.startswith('network alone: only ') for s in states[7:10])
    assert all(np.array_equal(T, NOWHERE) for T in motions[7:10])
    assert network.asked == 3 and hybrid.describe()['tracking'] == HYBRID


def test_jump_is_found_from_the_motion_of_the_network(curve):
    """Where going on as before finds no corners, the network says where to look."""
    frames = [*curve[:4], *curve[14:17]]
    true = truth(frames)

    class Knows(Network):

        def __call__(self, earlier, previous, current, guess):
            self.asked += 1
            i, j = (int(np.argmin([abs(f.stamp - v.stamp) for f in frames]))
                    for v in (previous, current))
            return inverse_transform(true[i]) @ true[j]

    network = Knows()
    T, states = way_of(HybridMotion(network), views(frames))
    assert set(states) <= {HYBRID}
    assert np.linalg.norm(T[-1, :3, 3] - true[-1, :3, 3]) < 2 * PIXEL


def test_pipeline_says_how_it_found_motions(curve, tmp_path):
    """Scale, state and the true way; the network alone on the same frames beside it."""
    pipeline = true_pipeline(tmp_path, curve, odometry='hybrid')
    results = [pipeline(f.image, f.camera, f.stamp).odometry for f in curve][1:]
    assert {r.state for r in results} == {HYBRID} and all(r.metric for r in results)
    assert np.linalg.norm(results[-1].T_odom_camera[:3, 3] - truth(curve)[-1, :3, 3]) < 1.5 * PIXEL
    assert pipeline.tracking['tracking'] == HYBRID and int(pipeline.tracking['corners']) > 20
    alone = pipeline.network_alone()
    others = [alone(f.image, f.camera, f.stamp).odometry for f in curve][1:]
    assert {r.state for r in others} == {'network'} and alone.tracking == {}
    assert np.allclose(others[-1].T_odom_camera, truth(curve)[-1], atol=1e-6)


def test_height_over_ground_is_that_of_corners(tmp_path):
    """Depth of the floor that is a fifth too short makes the world too large for a while."""
    poses = [make_transform(R_BODY_OPTICAL, [-2.0, 0.18 * i - 2.1, -0.9]) for i in range(24)]
    frames = []
    for i, T in enumerate(poses):
        image, depth = textured_room.render(T)
        height = (textured_room.CAMERA.rays() * depth[..., None])[..., 1]
        depth = np.where(height > 0.59, np.float32(0.8) * depth, depth)
        frames.append(Frame(SECOND + i * TENTH, image, f'{i}', textured_room.CAMERA, T, depth))
    pipeline = true_pipeline(tmp_path, frames, SAMPLE_PREPROCESSING, odometry='hybrid',
                             scale=ScaleOptions('camera_height', camera_height=0.6))
    scales = [pipeline(f.image, f.camera, f.stamp).scale.metres_per_unit for f in frames]
    assert scales[0] == pytest.approx(2.5, rel=0.02)
    assert scales[-1] == pytest.approx(2.0, rel=0.08)


def test_standing_does_not_drift(curve, tmp_path):
    """Noise moves corners, not the camera; afterwards the way goes on."""
    random = np.random.default_rng(0)
    frames = [curve[0], *[replace(
        curve[1], stamp=SECOND + (i + 1) * TENTH,
        image=np.uint8(np.clip(curve[1].image + random.normal(0, 2, curve[1].image.shape),
                               0, 255))) for i in range(20)]]
    frames.append(replace(curve[2], stamp=SECOND + 21 * TENTH))
    pipeline = true_pipeline(tmp_path, frames, odometry='hybrid')
    results = [pipeline(f.image, f.camera, f.stamp).odometry for f in frames][1:]
    assert all(r.standing for r in results[1:20])
    assert np.array_equal(results[0].T_odom_camera, results[19].T_odom_camera)
    assert np.linalg.norm(results[-1].T_odom_camera[:3, 3]
                          - truth(frames)[-1, :3, 3]) < PIXEL


def test_recovers_from_a_blackout(curve, tmp_path):
    """After 2 s of darkness it says that it starts anew, and answers with the next image."""
    dark = [replace(curve[7], image=np.zeros_like(curve[7].image), stamp=SECOND + (8 + i) * TENTH)
            for i in range(20)]
    after = [replace(f, stamp=f.stamp + 20 * TENTH) for f in curve[8:16]]
    frames = [*curve[:8], *dark, *after]
    pipeline = true_pipeline(tmp_path, frames, odometry='hybrid')
    results = [pipeline(f.image, f.camera, f.stamp) for f in frames]
    assert all(r.odometry is None and 'covered' in r.reason for r in results[8:28])
    assert 'no usable image for 2.' in results[28].reset
    assert all(r.odometry.state == HYBRID for r in results[29:])
    assert np.linalg.norm(results[-1].odometry.T_odom_camera[:3, 3]
                          - truth(after)[-1, :3, 3]) < PIXEL


def test_cut_starts_anew(curve, tmp_path):
    """No corner is found again and nothing else fits, either; then all goes on."""
    other = [replace(f, image=np.ascontiguousarray(255 - f.image[::-1, ::-1]))
             for f in curve[8:12]]
    frames = [*curve[:8], *other]
    law = MotionCalibration(usual_residual=0.01)
    pipeline = true_pipeline(tmp_path, frames, calibration=law, odometry='hybrid')
    results = [pipeline(f.image, f.camera, f.stamp) for f in frames]
    assert [bool(r.reset) for r in results] == [False] * 8 + [True] + [False] * 3
    assert 'nothing in common' in results[8].reset
    assert all(r.odometry.state == HYBRID for r in results[9:])


def test_frames_come_sooner_than_the_network_knows(curve, tmp_path):
    """Corners need no interval; a network alone leaves such frames out."""
    frames = [replace(f, stamp=SECOND + i * TENTH // 5) for i, f in enumerate(curve[:6])]
    for odometry, answered in (('hybrid', 5), ('network', 1)):
        pipeline = true_pipeline(tmp_path, frames, odometry=odometry)
        pipeline._odometry._trained_interval = 0.1
        results = [pipeline(f.image, f.camera, f.stamp).odometry for f in frames]
        assert sum(r is not None for r in results) == answered


def test_covariance_of_hybrid_motions_is_what_the_corners_leave_open(tmp_path, curve):
    """Times what validation taught, in metres; beside it the error of the scale."""
    law = CornerCalibration(3.0, 0.5, 0.0, 0.01, 0.3)
    pipeline = true_pipeline(tmp_path, curve, odometry='hybrid', others=law.entries())
    for f in curve[:4]:
        result = pipeline(f.image, f.camera, f.stamp).odometry
    raw, stated = pipeline.corner_covariance, result.motion_covariance
    way = np.hypot(pipeline._hybrid.scale_spread, 0.3) * result.motion[:3, 3]
    assert np.allclose(stated[:3, :3], 36.0 * raw[:3, :3] + np.outer(way, way), rtol=1e-6)
    assert np.allclose(stated[3:, 3:], 0.25 * raw[3:, 3:] + 1e-4 * np.eye(3), rtol=1e-6)
    assert np.allclose(stated[:3, 3:], 3.0 * raw[:3, 3:], atol=1e-12)


def test_corners_tell_the_errors_of_their_motions(curve):
    """Errors are a few times what corners leave open, in every direction; none of the network."""
    hybrid = HybridMotion(Network())
    frames, errors = views(curve), []
    for i, (previous, current) in enumerate(zip(frames, frames[1:])):
        motion = hybrid([], previous, current, np.eye(4))
        true = np.linalg.inv(curve[i].T_world_camera) @ curve[i + 1].T_world_camera
        error = motion_errors(motion[None], true[None], 1.0)[0]
        errors.append(error @ np.linalg.solve(hybrid.covariance, error) / 6)
        assert np.linalg.eigvalsh(hybrid.covariance).min() > 0
    assert 0.1 < np.median(errors) < 10
    hybrid([], frames[-1], replace(frames[-1], features=FeatureImage.of(
        np.zeros((64, 96, 3), np.uint8), CAMERA)), np.eye(4))
    assert hybrid.state != HYBRID and hybrid.covariance is None


def test_the_scale_of_a_young_map_is_known_to_a_tenth(tmp_path, curve):
    """In metres; not where metres are measured in the map, nor without one."""
    pipeline = true_pipeline(tmp_path, curve, odometry='hybrid',
                             others=CornerCalibration(1e-3, 1e-3, scale_error=0.0).entries(),
                             scale=ScaleOptions('constant', constant=2.0))
    first, second = [pipeline(f.image, f.camera, f.stamp).odometry for f in curve[:3]][1:]
    way = 0.1 * second.motion[:3, 3]
    assert np.linalg.norm(way) > 0.1 * 0.05
    assert np.allclose(second.motion_covariance[:3, :3], np.outer(way, way), atol=1e-7)
    way = 0.1 * (first.T_odom_camera @ second.motion)[:3, 3]
    assert np.allclose(second.covariance[:3, :3], np.outer(way, way), atol=1e-7)
    own = HybridMotion(Network(), scaled_by_network=False)
    assert own.scale_spread == 0 == HybridMotion(Network()).scale_spread
    way_of(own, views(curve[:3]))
    assert own.state == HYBRID and own.scale_spread == 0


def test_unknown_odometry(tmp_path, curve):
    """The sentence names the two that there are."""
    with pytest.raises(ConfigurationError, match="'guess'; expected hybrid or network"):
        true_pipeline(tmp_path, curve, odometry='guess')


def test_corners_are_spread_and_followed(curve):
    """One a cell, none twice; an image moved by 3.3 pixels moves them by that."""
    image = FeatureImage.of(curve[0].image, CAMERA)
    corners = find_corners(image, np.zeros((0, 2)))
    assert len(corners) > 40 and not len(find_corners(image, corners))
    shift = np.float32([[1, 0, 3.3], [0, 1, 0]])
    moved = FeatureImage.of(cv2.warpAffine(curve[0].image, shift, (96, 64)), CAMERA)
    inner = corners[(corners[:, 0] > 15) & (corners[:, 0] < 80)]
    found, good = follow(image, moved, inner, inner)
    assert good.mean() > 0.8
    assert np.allclose(np.median(found[good] - inner[good], axis=0), [3.3, 0], atol=0.1)


def test_place_along_an_edge_is_not_known():
    """Across a vertical edge much better than along it."""
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:, 48:] = 200
    image = FeatureImage.of(cv2.GaussianBlur(picture, (5, 5), 0), CAMERA)
    root = place_roots(image, np.array([[48.0, 32.0]]))[0]
    information = root.T @ root
    assert information[0, 0] > 1e3 * information[1, 1]


def test_large_images_are_made_smaller():
    """Intrinsics follow."""
    camera = Camera(np.array([[1000.0, 0, 639.5], [0, 1000, 359.5], [0, 0, 1]]), 1280, 720)
    image = FeatureImage.of(np.zeros((720, 1280, 3), np.uint8), camera)
    assert max(image.even.shape) == LARGEST_SIDE and image.K[0, 0] == 1000 * LARGEST_SIDE / 1280


class Recording(list):
    """Frames with what a recording has."""

    @property
    def stamps(self):
        """Return the stamps."""
        return np.array([frame.stamp for frame in self])

    @property
    def poses(self):
        """Return the true poses."""
        return np.array([frame.T_world_camera for frame in self])


def test_the_covariance_is_that_of_the_errors_on_a_recording(tmp_path):
    """Poses that are said to be other than they are make it larger; too few are refused."""
    frames = drive([pose(0.02 * i, 0.03 * i) for i in range(16)])
    pipeline = true_pipeline(tmp_path, frames, odometry='hybrid')
    entries = calibrate_hybrid_motion(pipeline, Recording(frames))
    assert all(name.startswith(CornerCalibration.PREFIX) for name in entries)
    random = np.random.default_rng(0)
    noisy = Recording(replace(frame, T_world_camera=frame.T_world_camera @ make_transform(
        np.eye(3), 0.05 * random.normal(size=3))) for frame in frames)
    pipeline.reset()
    wider = calibrate_hybrid_motion(pipeline, noisy)
    spread, wide = (np.trace(CornerCalibration(**{
        name[len(CornerCalibration.PREFIX):]: value for name, value in found.items()}).covariance(
            pipeline.corner_covariance)[:3, :3]) for found in (entries, wider))
    assert wide > 9 * spread
    pipeline.reset()
    with pytest.raises(RecordingError, match='have a known truth; a calibration takes 12'):
        calibrate_hybrid_motion(pipeline, Recording(frames[:8]))
    with pytest.raises(RecordingError, match='has no intrinsics, without which there is no odom'):
        calibrate_hybrid_motion(pipeline, Recording([replace(frames[0], camera=None)]))
