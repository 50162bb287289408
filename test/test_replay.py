# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Replay of small bags into live node processes, over DDS."""

import csv
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image
import small_world
import stand_in_geometry
from stand_in_replay_node import BLACK, COVARIANCE, pose_of, WHITE
from tiny_geometry_model import write_geometry_model

from geo_perception.datasets.bag import BagSequence
from geo_perception.datasets.bag_writer import BagWriter
from geo_perception.datasets.frame import SlicedSequence
from geo_perception.errors import ConfigurationError, RecordingError, ReplayError
from geo_perception.evaluation.relocalization import score
from geo_perception.geometry import se3
from geo_perception.geometry.camera import Camera
from geo_perception.inference.retrieval import thumbnail
from geo_perception.model_file import load_model_file, Metadata, save_model_file
from geo_perception.preprocessing import Preprocessing
from geo_perception.ros.messages import pose_with_covariance_stamped
from geo_perception.ros.player import BagPlayer
from geo_perception.ros.replay import replay as play_into
from geo_perception.ros.replayed_geometry import ReplayedGeometry
from geo_perception.ros.replayed_relocalizer import ReplayedRelocalizer

HERE = Path(__file__).parent
STAND_IN = 'stand_in_replay_node'
# Two engines may add up in another order, so that the last of 24 bits differ (one part in ten
# millions), and what is made of small differences by more.
FLOAT32 = {'rel': 1e-5, 'abs': 1e-6}
T_MAP_WORLD = se3.make_transform(se3.matrix_from_rotation_vector([0.0, 0.0, 1.0]),
                                 [1.0, -2.0, 0.5])


def replay(sequence, model, node=None, **how):
    """Play into one relocalizer; return its result."""
    return play_into(sequence, [ReplayedRelocalizer(model, node)], **how)[0]


@pytest.fixture(scope='module', autouse=True)
def importable(without_openvino):
    """Let child processes find the package and the stand-in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PYTHONPATH', os.pathsep.join([
            str(HERE.parent), str(HERE), os.environ['PYTHONPATH']]))
        yield


def write_bag(path, images, period=0.05, compressed=False):
    """Write a bag with camera, intrinsics, static transform and truth; return the poses."""
    poses = np.stack([pose_of(10.0 * i) for i in range(len(images))])
    camera = Camera(np.array([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]]), 64, 48,
                    frame_id='camera_optical_frame')
    with BagWriter(path) as bag:
        bag.transform(10**9, 'base_link', 'camera_optical_frame', np.eye(4), static=True)
        for i, (image, T) in enumerate(zip(images, poses)):
            stamp = 10**9 + round(i * period * 1e9)
            bag.pose('/ground_truth/pose', stamp, 'map', T)
            bag.camera_info('/camera/camera_info', stamp, camera)
            if compressed:
                bag.compressed_image('/camera/image_raw/compressed', stamp,
                                     'camera_optical_frame', image, format='png')
            else:
                bag.image('/camera/image_raw', stamp, 'camera_optical_frame', image, 'rgb8')
    return poses


def test_an_answer_that_filters_would_not_take_is_told_once(caplog):
    """With the rule that it breaks; it is recorded all the same."""
    node = ReplayedRelocalizer(None)
    for stamp in (1, 2):
        node._on_pose(pose_with_covariance_stamped(stamp, '/map', np.eye(4), COVARIANCE))
    assert sorted(node.answered) == [1, 2]
    record, = caplog.records
    assert 'pose_with_covariance' in record.message and 'no leading slash' in record.message


def grey(*values):
    """Return images of one grey value each."""
    return [np.full((48, 64, 3), value, np.uint8) for value in values]


def write_model(path, images, poses, architecture='none', arguments=None, weights=()):
    """Write a model file; without weights it is good for the baseline only."""
    metadata = Metadata('relocalization', architecture, arguments or {}, Preprocessing(),
                        'quaternion', 'map', tuple(map(tuple, T_MAP_WORLD.tolist())),
                        calibration={'usual_spread': 1e3, 'usual_similarity': 0.9})
    save_model_file(path, metadata, {
        'retrieval.thumbnails': np.stack([thumbnail(image) for image in images]),
        'retrieval.poses': np.asarray(poses), **dict(weights)})
    return load_model_file(path)


@pytest.fixture
def scene(tmp_path):
    """Return a function that makes a bag and a model without a network."""
    def make(*values, **how):
        images = grey(*values)
        poses = write_bag(tmp_path / 'bag', images, **how)
        model = write_model(tmp_path / 'model.safetensors', images, poses)
        return BagSequence(tmp_path / 'bag'), model
    return make


@pytest.mark.parametrize('compressed', [False, True])
def test_lock_step_gets_every_answer_to_its_image(scene, compressed):
    """Answers match by stamp; refused and unusable images are told apart; nothing is dropped."""
    values = [40, 80, WHITE, 120, BLACK, 160, 200]
    result = replay(*scene(*values, compressed=compressed), lock_step=True, node=STAND_IN)
    assert result.processed.tolist() == [value != BLACK for value in values]
    assert result.accepted.tolist() == [value not in (WHITE, BLACK) for value in values]
    for i in np.flatnonzero(result.processed):
        assert result.T_estimate[i] == pytest.approx(pose_of(values[i]), abs=1e-9)
    assert result.covariance[0] == pytest.approx(COVARIANCE)
    assert np.isnan(result.covariance[2]).all()   # the marker of a refusal is no covariance
    assert 'refused' in result.reasons[2] and result.reasons[0] == ''
    # The truth goes from the frame of the labels to the one that answers are in.
    assert result.T_truth[1] == pytest.approx(T_MAP_WORLD @ pose_of(10.0))
    assert result.T_nearest[1] == pytest.approx(result.T_truth[1])
    metrics = score(result)
    assert (metrics['frames_in'], metrics['frames_processed'], metrics['frames_dropped'],
            metrics['frames_withheld']) == (7, 6, 1, 1)
    assert 0 < metrics['delay_p50_ms'] < 1000


def test_paced_playback_drops_what_a_slow_node_cannot_do(scene, monkeypatch):
    """Images every 50 ms, 150 ms each: about a third is answered, the last one always."""
    monkeypatch.setenv('STAND_IN', 'slow')
    result = replay(*scene(*range(10, 250, 12)), node=STAND_IN)
    metrics = score(result)
    assert metrics['frames_in'] == 20
    assert 2 <= metrics['frames_processed'] <= 10
    assert metrics['frames_dropped'] == 20 - metrics['frames_processed']
    assert result.processed[-1]
    # A queue would have made the later answers seconds old.
    assert 150 <= np.nanmin(result.delay_ms) and metrics['delay_p50_ms'] < 1000


def test_slices_play_only_their_images(scene):
    """A slice of a bag is a recording of its own."""
    sequence, model = scene(*range(20, 120, 10))
    part = SlicedSequence(SlicedSequence(sequence, range(2, 8)), [0, 2, 4])
    result = replay(part, model, lock_step=True, node=STAND_IN)
    assert len(result) == 3 and result.processed.all()
    assert result.T_estimate[:, 0, 3] == pytest.approx([4.0, 6.0, 8.0])


def test_player_plays_what_was_asked_for(tmp_path, graph):
    """Only the images asked for, the intrinsics, and bytes as they were recorded."""
    write_bag(tmp_path / 'bag', grey(10, 20, 30, 40))
    stamps = [10**9 + 50_000_000, 10**9 + 150_000_000]
    player = BagPlayer(graph.peer, tmp_path / 'bag', '/camera/image_raw', stamps)
    assert (player.transport, player.info_topic) == ('raw', '/camera/camera_info')
    messages = list(player.messages())
    assert [message.stamp for message in messages if message.stamp is not None] == stamps
    assert {message.topic for message in messages} >= {'/camera/image_raw', '/camera/camera_info'}
    received, infos = (graph.listen(message_class, topic) for message_class, topic in (
        (Image, '/camera/image_raw'), (CameraInfo, '/camera/camera_info')))
    graph.spin_until(player.is_heard, what='the match')
    assert not player.is_heard(2)
    player.introduce()
    graph.spin_until(lambda: infos, what='the first calibration')
    for message in messages:
        player.publish(message)
    graph.spin_until(lambda: len(received) == 2, what='the images')
    assert [image.data[0] for image in received] == [20, 40]
    with pytest.raises(RecordingError, match="no topic '/left'; it has: /camera/camera_info"):
        BagPlayer(graph.peer, tmp_path / 'bag', '/left', stamps)
    with pytest.raises(RecordingError, match='rosbags-convert --src old.bag --dst old'):
        BagPlayer(graph.peer, 'old.bag', '/left', stamps)


@pytest.mark.parametrize('behaviour, sentence', [
    ('no model', 'the model file is a cake'), ('die', 'exit code 3: out of memory')])
def test_sentence_of_the_node_is_passed_on(scene, monkeypatch, behaviour, sentence):
    """A node that does not start or dies: its own words, and soon."""
    monkeypatch.setenv('STAND_IN', behaviour)
    started = time.monotonic()
    with pytest.raises(ReplayError, match=sentence):
        replay(*scene(40, 80), lock_step=True, node=STAND_IN)
    assert time.monotonic() - started < 15


def test_what_cannot_be_played_is_refused(scene):
    """Not a bag, no speed: one sentence before anything is started."""
    sequence, model = scene(40)
    with pytest.raises(ConfigurationError, match='rate'):
        replay(sequence, model, rate=0.0)
    with pytest.raises(RecordingError, match='geo_perception prepare bag'):
        replay([], model)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_node_is_left_behind(scene, tmp_path, number):
    """Ctrl-C, SIGTERM and even SIGKILL of the replay end the node."""
    scene(*range(10, 250), period=0.1)
    script = (
        'import sys\n'
        'from geo_perception.datasets.bag import BagSequence\n'
        'from geo_perception.model_file import load_model_file\n'
        'from geo_perception.ros.replay import replay\n'
        'from geo_perception.ros.replayed_relocalizer import ReplayedRelocalizer\n'
        'replay(BagSequence(sys.argv[1]), [ReplayedRelocalizer(load_model_file(sys.argv[2]), '
        "'stand_in_replay_node')])\n")
    parent = subprocess.Popen(
        [sys.executable, '-c', script, str(tmp_path / 'bag'),
         str(tmp_path / 'model.safetensors')], stderr=subprocess.DEVNULL)
    children = Path(f'/proc/{parent.pid}/task/{parent.pid}/children')
    deadline, found = time.monotonic() + 20, []
    while not any(map(has_begun, found)):   # somewhere between start and playing
        assert parent.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
        found = children.read_text().split()
    parent.send_signal(number)
    # Both ends that leave time for it unwind like Ctrl-C.
    assert parent.wait(15) == -(number if number == signal.SIGKILL else signal.SIGINT)
    deadline = time.monotonic() + 15
    while any(is_running(child) for child in found):
        assert time.monotonic() < deadline, 'the node outlives the replay'
        time.sleep(0.05)


def has_begun(pid):
    """Tell whether a process is a node of its own, no longer a copy of its parent, with ROS."""
    process = Path(f'/proc/{pid}')
    return (b'\0-m\0' in (process / 'cmdline').read_bytes()
            and 'rclpy' in (process / 'maps').read_text())


def is_running(pid):
    """Tell whether a process exists and is no zombie."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


GEOMETRY = 'stand_in_geometry'


@pytest.fixture(scope='module')
def drive(tmp_path_factory):
    """Return a bag with the drive that the stand-in knows, and its true depth times 1.1."""
    path = tmp_path_factory.mktemp('bags') / 'drive'
    camera = Camera(np.array([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]]), 64, 48,
                    frame_id='camera_optical_frame')
    depth = np.full((48, 64), 1.1 * stand_in_geometry.DEPTH, np.float32)
    images = grey(40, 80, 120, BLACK, 160, 200, 240)
    with BagWriter(path) as bag:
        for i, image in enumerate(images):
            stamp = 10**9 + i * 10**8
            bag.image('/camera/image_raw', stamp, 'camera_optical_frame', image, 'rgb8')
            # The other way round than cameras do it.
            bag.camera_info('/camera/camera_info', stamp, camera)
            bag.image('/camera/depth/image', stamp, 'camera_optical_frame', depth, '32FC1')
            bag.pose('/ground_truth/pose', stamp, 'map', stand_in_geometry.camera_at(stamp))
    return BagSequence(path)


def geometry_model(path, **calibration):
    """Return a model file that the stand-in does not read."""
    save_model_file(path, Metadata('geometry', 'none', {}, Preprocessing(), 'euler_xyz', 'odom',
                                   calibration=calibration), {})
    return load_model_file(path)


@pytest.fixture(scope='module')
def both(drive, importable, tmp_path_factory):
    """Return the models of two nodes that heard one player, in lock step, and what they said."""
    folder = tmp_path_factory.mktemp('models')
    images = [drive[i].image for i in range(len(drive))]
    place = write_model(folder / 'place.safetensors', images, drive.poses)
    way = geometry_model(folder / 'way.safetensors', metres_per_unit=1.5)
    relocalization, geometry = play_into(
        drive, [ReplayedRelocalizer(place, STAND_IN), ReplayedGeometry(way, GEOMETRY)],
        lock_step=True)
    return (place, relocalization), (way, geometry)


def test_depth_is_scored_and_odometry_recorded(both):
    """The black image has nothing, all others have pose and depth; the depth is 10 % off."""
    _, (_, recording) = both
    assert recording.processed.tolist() == [True, True, True, False, True, True, True]
    known = np.isfinite(recording.T_odom_camera).all((1, 2))
    # Where it began is known, too.
    assert known.tolist() == [True, True, True, False, True, True, True]
    # In another world frame, but the same way.
    truth, odometry = recording.T_truth, recording.T_odom_camera
    for i in (1, 2, 6):
        expected = odometry[0] @ se3.inverse_transform(truth[0]) @ truth[i]
        assert odometry[i] == pytest.approx(expected, abs=1e-6)
    assert len(recording.samples) > 0
    for i in (1, 2):
        assert recording.motion_covariance[i] == pytest.approx(
            stand_in_geometry.MOTION_COVARIANCE, rel=1e-6, abs=1e-12)
        assert recording.pose_covariance[i] == pytest.approx(
            stand_in_geometry.COVARIANCE, rel=1e-6, abs=1e-12)
    assert np.isnan(recording.motion_covariance[[0, 3]]).all()
    assert np.isnan(recording.pose_covariance[[0, 3]]).all()
    assert recording.depth.errors[recording.processed, 0] == pytest.approx(1 - 1 / 1.1, rel=1e-3)
    assert recording.depth.ratio[0] == pytest.approx(1.1)
    assert np.isnan(recording.depth.errors[3]).all()
    assert recording.metric.tolist() == recording.processed.tolist()
    assert recording.metres_per_unit[0] == 1.5 and recording.scale == '1.5 metres per unit.'
    assert recording.mode == 'live replay in lock step'
    assert 0 < np.nanmedian(recording.delay_ms) < 1000
    assert recording.names[0] == '/camera/image_raw@1000000000'


def test_a_model_without_metres_is_measured_without_unit(drive, tmp_path):
    """On the topics that say so."""
    node = ReplayedGeometry(geometry_model(tmp_path / 'model.safetensors'), GEOMETRY)
    recording, = play_into(drive, [node], lock_step=True)
    assert recording.processed.sum() == 6 and not recording.metric.any()
    assert np.isnan(recording.depth.errors).all()
    assert recording.depth.errors_scaled[0, 0] == pytest.approx(0, abs=1e-6)


def test_the_calibration_that_was_asked_for_is_played(tmp_path, monkeypatch):
    """And is the node's, though another one, of another size, lies beside the images."""
    from geo_perception.commands import replay as verb

    camera = Camera(np.array([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]]), 64, 48,
                    frame_id='camera_optical_frame')
    with BagWriter(tmp_path / 'bag') as bag:
        for i, image in enumerate(grey(40, 80, 120)):
            stamp = 10**9 + i * 10**8
            bag.camera_info('/camera/camera_info', stamp, camera.resized(32, 24))
            bag.camera_info('/calibrated/camera_info', stamp, camera)
            bag.image('/camera/image_raw', stamp, 'camera_optical_frame', image, 'rgb8')
    model = geometry_model(tmp_path / 'way.safetensors', metres_per_unit=1.5)
    monkeypatch.setattr(verb, 'play', lambda sequence, place, way, **how: {
        'geometry': (way, play_into(sequence, [ReplayedGeometry(way, GEOMETRY)], **how)[0])})
    metrics = verb.replay(str(tmp_path / 'bag'), geometry=model.path, lockstep=True,
                          camera_info_topic='/calibrated/camera_info')
    assert metrics['depth']['frames_processed'] == 3


def test_both_nodes_hear_one_player(both):
    """In lock step the slower one is waited for."""
    (_, relocalization), (_, geometry) = both
    assert relocalization.processed.tolist() == geometry.processed.tolist()
    assert geometry.processed.sum() == 6


def test_a_slow_geometry_node_drops_what_it_cannot_do(drive, tmp_path, monkeypatch):
    """At the recorded pace, 150 ms each: not all are answered, and none is late."""
    monkeypatch.setenv('STAND_IN', 'slow')
    model = geometry_model(tmp_path / 'model.safetensors', metres_per_unit=1.5)
    recording, = play_into(drive, [ReplayedGeometry(model, GEOMETRY)], rate=2.0)
    assert 2 <= recording.processed.sum() < 6 and recording.processed[-1]
    assert 150 <= np.nanmin(recording.delay_ms)


def test_live_and_offline_give_the_same_numbers(tmp_path, monkeypatch):
    """The real node with a real network in lock step, and the pipeline alone: equal."""
    from geo_perception.commands.evaluate import relocalization as evaluate_relocalization
    from geo_perception.commands.replay import replay as replay_verb
    from geo_perception.networks.relocalization import build_regressor

    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(6)]
    poses = write_bag(tmp_path / 'bag', images)
    state = build_regressor('posenet', {}).state_dict()
    write_model(tmp_path / 'model.safetensors', images[::2], poses[::2], 'posenet', {},
                {f'network.{name}': value.numpy() for name, value in state.items()
                 if not name.startswith(('cls1', 'cls2'))})
    model, bag = str(tmp_path / 'model.safetensors'), f'{tmp_path}/bag[0:6]'
    replay_verb(bag, relocalizer=model, lockstep=True, report=str(tmp_path / 'live'),
                json=str(tmp_path / 'live.json'))
    evaluate_relocalization(model, bag, json=str(tmp_path / 'offline.json'),
                            output=str(tmp_path / 'offline.csv'))

    live, offline = (json.loads((tmp_path / f'{name}.json').read_text())
                     for name in ('live', 'offline'))
    assert live['machine'] == offline['machine'] and live['run'] != offline['run']
    live, offline = live['relocalization'], offline['relocalization']
    assert live['frames_processed'] == 6 and live['position_median_m'] is not None
    for name in live:
        if not name.startswith('delay'):
            assert live[name] == pytest.approx(offline[name], **FLOAT32), name
    live, offline = (list(csv.DictReader((tmp_path / name).read_text().splitlines()))
                     for name in ('live/frames.csv', 'offline.csv'))
    # The gate refuses what looks like no training image: every other one.
    assert [row['accepted'] for row in live] == ['1', '0'] * 3
    for ours, theirs in zip(live, offline):
        assert [ours[name] for name in ('stamp_ns', 'name', 'accepted')] == [
            theirs[name] for name in ('stamp_ns', 'name', 'accepted')]
        for name in ('x_m', 'y_m', 'z_m', 'qw', 'qx', 'qy', 'qz', 'position_error_m'):
            assert float(ours[name]) == pytest.approx(float(theirs[name]), **FLOAT32), name
    assert (tmp_path / 'live' / 'report.html').stat().st_size > 100_000
    monkeypatch.setattr('geo_perception.commands.replay.has_ros', lambda: False)
    assert replay_verb(bag, relocalizer=model)['relocalization'][
        'position_median_m'] == pytest.approx(float(np.median([
            float(row['position_error_m']) for row in offline if row['accepted'] == '1'])))


def test_live_and_offline_geometry_give_the_same_numbers(tmp_path):
    """The real node with real networks in lock step, and the pipeline alone: equal."""
    from geo_perception.commands import evaluate
    from geo_perception.commands.replay import replay as replay_verb
    from geo_perception.inference.motion_uncertainty import MotionCalibration

    small_world.write_drive(tmp_path / 'drive', 40)
    # With such a residual expected no motion of the untrained network passes for a cut.
    model = str(write_geometry_model(tmp_path / 'model.safetensors', calibration={
        'metres_per_unit': 2.0, **{f'motion_{name}': value for name, value in vars(
            MotionCalibration(usual_residual=1.0)).items()}}))
    bag = f'{tmp_path}/drive[0:7]'
    live = replay_verb(bag, geometry=model, lockstep=True, json=str(tmp_path / 'live.json'),
                       report=str(tmp_path / 'live'))
    offline = {'depth': evaluate.depth(model, bag, output=str(tmp_path / 'offline.csv')),
               'odometry': evaluate.odometry(model, bag, baselines=False)}
    assert live['depth']['frames_processed'] == 7 and live['depth']['abs_rel'] > 0
    assert live['odometry']['ate_m'] > 0
    for job in offline:
        for name, value in offline[job].items():
            # A node chains motions and never shows the snippets that its network predicts.
            if 'network' in name or name == 'snippet_length':
                assert live[job][name] is None, name
            elif isinstance(value, float) and not name.startswith('delay'):
                assert live[job][name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
            elif isinstance(value, int) or value is None:
                assert live[job][name] == value, name
    written = json.loads((tmp_path / 'live.json').read_text())
    assert {'depth', 'odometry', 'run', 'machine'} <= set(written)
    assert written['scale'].startswith('2 metres per unit')
    rows, expected = (list(csv.DictReader((tmp_path / name).read_text().splitlines()))
                      for name in ('live/frames.csv', 'offline.csv'))
    assert len(rows) == len(expected) == 7
    for ours, theirs in zip(rows, expected):
        for name in ('abs_rel', 'x_m', 'y_m', 'z_m', 'qw', 'qx', 'qy', 'qz'):
            assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=1e-4, abs=1e-6)


def test_one_report_holds_what_both_nodes_answered(drive, both, tmp_path):
    """With its own table for each."""
    from geo_perception.commands.replay_output import present_replay

    (place, relocalization), (way, geometry) = both
    metrics = present_replay(drive, 'drive', (place, relocalization), (way, geometry),
                             json=str(tmp_path / 'm.json'), report=str(tmp_path / 'out'))
    assert set(metrics) == {'relocalization', 'depth', 'odometry'}
    assert metrics['depth']['frames_processed'] == 6
    assert metrics['odometry']['ate_m'] == pytest.approx(0, abs=1e-6)
    written = json.loads((tmp_path / 'm.json').read_text())
    assert written['model'] == place.path and written['geometry_model'] == way.path
    page = (tmp_path / 'out' / 'report.html').read_text()
    assert all(word in page for word in ('Relocalization', 'Depth', 'Odometry'))
    assert (tmp_path / 'out' / 'frames.csv').exists()
    assert len((tmp_path / 'out' / 'geometry_frames.csv').read_text().splitlines()) == 8


@pytest.mark.parametrize('options, sentence', [
    ({}, 'give --relocalizer, --geometry or both'),
    ({'relocalizer': 'a', 'geometry': 'b', 'output': 'c'}, 'the table of one node')])
def test_replay_says_what_it_needs(options, sentence):
    """Before anything is loaded."""
    from geo_perception.commands.replay import replay as replay_verb

    with pytest.raises(ConfigurationError, match=sentence):
        replay_verb('bag', **options)
