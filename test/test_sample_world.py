# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The sample world: its truth against a second way of computing it, its paths, its bags."""

import json
import multiprocessing
import pickle

import cv2
import numpy as np
import pytest

from geo_perception.commands.sample import sample
from geo_perception.datasets.recording import open_recording
from geo_perception.datasets.sample_world import SampleWorld, write_sample_world
from geo_perception.datasets.sample_world import scene as places
from geo_perception.datasets.sample_world import write
from geo_perception.datasets.sample_world.trajectory import T_BASE_CAMERA
from geo_perception.datasets.sample_world.world import BASELINE, CAMERA
from geo_perception.errors import ConfigurationError, RecordingError
from geo_perception.geometry.se3 import inverse_transform, rotation_angle, transform_points

SMALL = CAMERA.resized(160, 120)
TINY = CAMERA.resized(48, 36)
# Frames of the training pass in which movers are large: cart, lantern, balloon.
MOVERS_IN_VIEW = (100, 220, 340, 370)


@pytest.fixture(scope='module')
def world():
    return SampleWorld(seed=0, camera=SMALL, changing_light=False)


@pytest.fixture(scope='module')
def drive(world):
    return world.drive('train', 500)


def pixel_grid(camera):
    v, u = np.mgrid[:camera.height, :camera.width].astype(float)
    return u, v


def rigid_flow(frame, T_world_next):
    """Return the flow of a still world, and the depth in the next image, by depth and pose."""
    u, v = pixel_grid(frame.camera)
    fx, fy, cx, cy = frame.camera.K[[0, 1, 0, 1], [0, 1, 2, 2]]
    z = frame.depth.astype(float)
    points = np.stack([(u - cx) / fx * z, (v - cy) / fy * z, z], -1)
    x, y, z = np.moveaxis(transform_points(
        inverse_transform(T_world_next) @ frame.T_world_camera, points), -1, 0)
    return np.stack([fx * x / z + cx - u, fy * y / z + cy - v], -1), z


def warp(array, flow, interpolation=cv2.INTER_LINEAR):
    """Return an array of the next image as seen through the flow; NaN outside."""
    u, v = pixel_grid(SMALL)
    return cv2.remap(np.float32(array), np.float32(u + flow[..., 0]), np.float32(v + flow[..., 1]),
                     interpolation, borderMode=cv2.BORDER_CONSTANT, borderValue=(np.nan,) * 3)


def assert_same_picture(picture, warped, where, original):
    """Demand grey-level agreement, far better than with no warp at all."""
    assert where.mean() > 0.6
    error = np.abs(picture.astype(float) - warped).max(-1)[where]
    unwarped = np.abs(picture.astype(float) - original).max(-1)[where]
    assert np.median(error) <= 1.5
    assert np.mean(error < 8) > 0.96
    assert np.mean(error) < 0.35 * np.mean(unwarped)


@pytest.mark.parametrize('index', MOVERS_IN_VIEW)
def test_next_image_warped_by_depth_and_pose_is_this_image_where_nothing_moves(drive, index):
    here, there = drive[index], drive[index + 2]
    flow, z = rigid_flow(here, there.T_world_camera)
    visible = np.abs(warp(there.depth, flow) - z) < 0.01 * z
    still = (here.motion_mask == 0) & (warp(there.motion_mask, flow) == 0)
    assert_same_picture(here.image, warp(there.image, flow), visible & still, there.image)


@pytest.mark.parametrize('index', MOVERS_IN_VIEW)
def test_next_image_warped_by_flow_is_this_image_movers_included(drive, index):
    here, there = drive[index], drive[index + 1]
    warped = warp(there.image, here.flow)
    _, z = rigid_flow(here, there.T_world_camera)
    moving = here.motion_mask > 0
    # A mover's own motion changes its depth by centimetres in a tenth of a second.
    allowed = np.where(moving, 0.1, 0.01 * z)
    visible = np.abs(warp(there.depth, here.flow) - z) < allowed
    visible &= warp(there.motion_mask, here.flow) == here.motion_mask
    assert_same_picture(here.image, warped, visible, there.image)
    error = np.abs(here.image.astype(float) - warped).max(-1)[visible & moving]
    assert len(error) > 100
    assert np.median(error) <= 3
    assert np.mean(error < 12) > 0.9


@pytest.mark.parametrize('index', MOVERS_IN_VIEW)
def test_flow_differs_from_rigid_flow_exactly_in_the_mask(drive, index):
    frame = drive[index]
    flow, _ = rigid_flow(frame, drive.poses[index + 1])
    difference = np.linalg.norm(flow - frame.flow, axis=-1)
    moving = frame.motion_mask == 255
    assert set(np.unique(frame.motion_mask)) == {0, 255}
    assert difference[~moving].max() < 2e-3
    assert np.mean(difference[moving] > 0.02) > 0.98


@pytest.mark.parametrize('index', MOVERS_IN_VIEW)
def test_right_image_warped_by_disparity_is_the_left_image(drive, index):
    frame = drive[index]
    assert np.allclose(transform_points(inverse_transform(frame.T_world_camera),
                                        frame.T_world_right[:3, 3]), [BASELINE, 0, 0])
    disparity = frame.camera.K[0, 0] * frame.baseline / frame.depth
    flow = np.stack([-disparity, np.zeros_like(disparity)], -1)
    visible = np.abs(warp(frame.right_depth, flow) - frame.depth) < 0.01 * frame.depth
    assert_same_picture(frame.image, warp(frame.right, flow), visible, frame.right)


def test_colour_lies_where_the_truth_lies(drive, world):
    fine = SampleWorld(seed=0, camera=CAMERA.resized(960, 720), changing_light=False)
    fine.scene = world.scene
    averaged = cv2.resize(fine.drive('train', 500)[100].image, (160, 120),
                          interpolation=cv2.INTER_AREA)
    image, averaged = (image.mean(-1) for image in (drive[100].image, averaged))
    # Shift of one image against the other by least squares, to first order.
    slopes = np.stack(np.gradient(averaged), -1).reshape(-1, 2)
    shift = np.linalg.lstsq(slopes, (image - averaged).reshape(-1), rcond=None)[0]
    assert np.abs(shift).max() < 0.06


def test_depth_is_the_distance_to_the_box_in_the_pixel(world):
    drive = world.drive('test', 100)
    frame = drive[60]
    boxes = [(box.T_world_box, box.size) for box in places.FURNITURE]
    boxes += [(T_world_body @ box.T_world_box, box.size)
              for (box, _), T_world_body in zip(places.MOVERS, drive.body_poses(60)[1:])]
    rays = frame.camera.rays()
    for v, u in np.random.default_rng(0).integers(0, [SMALL.height, SMALL.width], (200, 2)):
        nearest = np.inf
        for T_world_box, size in boxes:
            T_box_camera = inverse_transform(T_world_box) @ frame.T_world_camera
            along, start = T_box_camera[:3, :3] @ rays[v, u], T_box_camera[:3, 3]
            ends = np.sort([(-np.array(size) / 2 - start) / along,
                            (np.array(size) / 2 - start) / along], axis=0)
            if 0 < ends[0].max() <= ends[1].min():
                nearest = min(nearest, ends[0].max())
        along, start = frame.T_world_camera[:3, :3] @ rays[v, u], frame.T_world_camera[:3, 3]
        room = np.array(places.ROOM)
        low = np.array([-room[0] / 2, -room[1] / 2, 0])
        walls = np.where(along > 0, low + room - start, low - start) / along
        assert frame.depth[v, u] == pytest.approx(min(nearest, walls.min()), rel=1e-5)


def test_movers_and_light_differ_between_the_passes_but_the_place_does_not():
    world = SampleWorld(seed=0, camera=TINY)
    train, test = world.drive('train', 2), world.drive('test', 2)
    apart = np.linalg.norm((train.body_poses(0) - test.body_poses(0))[:, :3, 3], axis=-1)
    assert apart[0] == 0 and np.all(apart[1:] > 0.2)
    assert abs(train.light(0)[0] - test.light(0)[0]) > 0.02
    assert abs(train.light(50)[0] - train.light(0)[0]) > 0.02
    assert test.stamps[0] > train.stamps[-1]
    assert np.all(np.diff(train.stamps) == 100_000_000)


def test_two_movers_are_often_in_view():
    world = SampleWorld(seed=0, camera=TINY)
    for name, frames in (('train', 500), ('val', 200), ('test', 250)):
        drive = world.drive(name, frames)
        share = np.mean([np.mean(drive[i].motion_mask > 0) > 0.01 for i in range(0, frames, 12)])
        assert share > 0.4


def test_same_seed_same_bytes_and_another_seed_another_look(drive):
    again = pickle.loads(pickle.dumps(SampleWorld(0, SMALL, False).drive('train', 500)))
    first, second = drive[7], again[7]
    for name in ('image', 'right', 'depth', 'flow', 'motion_mask', 'T_world_camera'):
        assert np.array_equal(getattr(first, name), getattr(second, name), equal_nan=True)
    other = SampleWorld(1, SMALL, False).drive('train', 500)[7]
    assert np.array_equal(other.depth, first.depth)
    assert np.mean(np.abs(other.image.astype(int) - first.image)) > 5


def test_negative_index_counts_from_the_end_and_past_the_end_is_an_error(world):
    drive = world.drive('train', 3)
    assert drive[-1].stamp == drive.stamps[2]
    with pytest.raises(IndexError):
        drive[3]


@pytest.mark.parametrize('name, frames', [('train', 500), ('val', 200), ('test', 250)])
def test_robot_keeps_its_limits_and_its_distance(world, name, frames):
    drive = world.drive(name, frames)
    poses = drive.T_world_base
    speed = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=-1) * 10
    assert 0.2 < speed.min() and speed.max() <= 0.6
    turning = rotation_angle(poses[:-1, :3, :3], poses[1:, :3, :3]) * 10
    assert np.rad2deg(turning.max()) <= 40
    assert np.all(poses[:, 2, 3] == 0)
    assert np.all(np.array(places.ROOM[:2]) / 2 - np.abs(poses[:, :2, 3]) > 0.4)
    for box in places.FURNITURE:
        if box.centre[2] < 1.0:
            assert min(_clearance(box, np.eye(4), p, True) for p in poses[:, :3, 3]) > 0.4
    bodies = np.stack([drive.body_poses(index) for index in range(frames)])
    for body, (box, track) in enumerate(places.MOVERS, 1):
        pairs = list(zip(bodies[:, body], poses))
        assert min(_clearance(box, T, (base @ T_BASE_CAMERA)[:3, 3]) for T, base in pairs) > 0.4
        # What hangs higher than the camera may pass over the body.
        if track.centre[2] < 0.8:
            assert min(_clearance(box, T, base[:3, 3], True) for T, base in pairs) > 0.4


def _clearance(box, T_world_track, point, flat=False):
    """Return the distance of a point from a box, seen from above if flat."""
    local = transform_points(inverse_transform(T_world_track @ box.T_world_box), point)
    outside = np.maximum(np.abs(local) - np.array(box.size) / 2, 0)
    return np.linalg.norm(outside[:2] if flat else outside)


def test_movers_run_through_nothing():
    signs = np.array(np.meshgrid(*[[-1, 0, 1]] * 3)).reshape(3, -1).T
    for box, track in places.MOVERS:
        for seconds in np.linspace(0, abs(track.period), 40):
            T = track.pose(seconds) @ box.T_world_box
            corners = transform_points(T, signs * np.array(box.size) / 2)
            assert np.all(np.abs(corners[:, :2]) < np.array(places.ROOM[:2]) / 2)
            assert corners[:, 2].min() > -1e-9 and corners[:, 2].max() < places.ROOM[2]
            for other in places.FURNITURE:
                local = transform_points(inverse_transform(other.T_world_box), corners)
                assert np.any(np.abs(local) > np.array(other.size) / 2, axis=-1).all(), other.name


def test_odometry_drifts_a_little_and_its_twist_is_its_motion(world):
    drive = world.drive('train', 300)
    poses, twists = drive.odometry()
    assert np.array_equal(poses[0], np.eye(4))
    start = inverse_transform(drive.T_world_base[0])
    error = np.linalg.norm((start @ drive.T_world_base - poses)[:, :3, 3], axis=-1)
    distance = np.sum(np.linalg.norm(np.diff(drive.T_world_base[:, :3, 3], axis=0), axis=-1))
    assert 0.002 * distance < error.max() < 0.025 * distance
    step = inverse_transform(poses[:-1]) @ poses[1:]
    middle = (twists[:-1] + twists[1:]) / 2 * 0.1
    assert np.allclose(step[:, :3, 3], middle[:, :3], atol=2e-3)
    assert np.allclose(np.arctan2(step[:, 1, 0], step[:, 0, 0]), middle[:, 5], atol=2e-3)


def test_bags_hold_what_was_rendered_for_any_number_of_workers(tmp_path):
    bags = write_sample_world(tmp_path / 'one', 4, 2, 3, camera=TINY, workers=1)
    again = write_sample_world(tmp_path / 'two', 4, 2, 3, camera=TINY, workers=2)
    world = SampleWorld(0, TINY)
    for name, frames in (('train', 4), ('val', 2), ('test', 3)):
        file = f'{name}.mcap'
        assert (bags[name] / file).read_bytes() == (again[name] / file).read_bytes()
        recording, drive = open_recording(bags[name]), world.drive(name, frames)
        assert recording.world_frame == 'map'
        assert np.array_equal(recording.stamps, drive.stamps)
        assert np.allclose(recording.poses, drive.poses, atol=1e-9)
        for index in range(frames):
            read, frame = recording[index], drive[index]
            assert np.array_equal(read.image, frame.image)
            assert np.array_equal(read.right, frame.right)
            assert np.array_equal(read.depth, frame.depth)
            assert read.baseline == pytest.approx(BASELINE)
            assert np.allclose(read.camera.K, TINY.K)
    with pytest.raises(RecordingError, match='exists already'):
        write_sample_world(tmp_path / 'one', 4, 2, 3, camera=TINY, workers=1)


def test_camera_pose_of_the_body_agrees_with_truth_through_tf(tmp_path):
    outcome = tmp_path / 'outcome.json'
    bags = sample(output=str(tmp_path), frames_train=2, frames_val=1, frames_test=1,
                  json=str(outcome))
    assert json.loads(outcome.read_text()) == bags
    bag = bags['train']
    recording = open_recording(bag, pose_topic='/tf')
    drive = SampleWorld(0).drive('train', 2)
    assert np.allclose(inverse_transform(recording.poses[0]) @ recording.poses[1],
                       inverse_transform(drive.poses[0]) @ drive.poses[1], atol=2e-3)
    assert np.allclose(recording.poses[0], T_BASE_CAMERA, atol=1e-9)


def test_a_worker_that_dies_ends_it_with_a_sentence(tmp_path, monkeypatch):
    def kill_workers(writer, drive, frames):
        for worker in multiprocessing.active_children():
            worker.kill()
        list(frames)

    monkeypatch.setattr(write, '_write_drive', kill_workers)
    with pytest.raises(RecordingError, match='train is not complete: a rendering process'):
        write_sample_world(tmp_path, 50, 1, 1, camera=TINY, workers=1)


@pytest.mark.parametrize('wrong', [{'frames_train': 0}, {'frames_val': 0}, {'frames_test': -1},
                                   {'seed': -1}, {'workers': 0}])
def test_numbers_out_of_range_are_refused_by_name(tmp_path, wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        write_sample_world(tmp_path, **wrong)
    assert not list(tmp_path.iterdir())


def test_unknown_pass_is_refused(world):
    with pytest.raises(ConfigurationError, match='validation'):
        world.drive('validation', 3)
