# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Flow and what moves in a replay: scored against the bag, as offline, and shown."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from report_page import Page
from tiny_geometry_model import CALIBRATION, write_flow_model, write_geometry_model

from geo_perception.commands import evaluate_flow
from geo_perception.commands.replay import measure_without_ros, replay
from geo_perception.datasets.bag_writer import BagWriter
from geo_perception.datasets.recording import open_recording
from geo_perception.datasets.sample_world.world import SampleWorld
from geo_perception.evaluation.geometry_score import (
    score_of_flow, score_of_motion, score_of_odometry)
from geo_perception.evaluation.run_record import load_run
from geo_perception.geometry.camera import Camera
from geo_perception.inference.geometry_model import load_geometry_model
from geo_perception.inference.motion_uncertainty import MotionCalibration

HERE = Path(__file__).parent
FRAMES = 6
# With such a residual expected no motion of the untrained network passes for a cut.
PATIENT = {**CALIBRATION, **{f'motion_{name}': value for name, value in vars(
    MotionCalibration(usual_residual=1.0)).items()}}


@pytest.fixture(scope='module', autouse=True)
def importable(without_openvino):
    """Let child processes find the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PYTHONPATH', os.pathsep.join([str(HERE.parent), os.environ['PYTHONPATH']]))
        yield


def write_drive(path, distortion=0.0):
    """Write a bag in which things move, with all that is true of it."""
    camera = Camera(np.array([[66.0, 0, 47.9], [0, 66.0, 31.6], [0, 0, 1]]), 96, 64,
                    frame_id='camera', distortion=np.array([distortion, 0, 0, 0, 0]))
    drive = SampleWorld(0, camera, changing_light=False).drive('train', 60)
    with BagWriter(path) as bag:
        for i in range(FRAMES):
            frame = drive[30 + i]
            bag.image('/camera/image_raw', frame.stamp, 'camera', frame.image, 'rgb8')
            bag.camera_info('/camera/camera_info', frame.stamp, camera)
            bag.image('/camera/depth/image', frame.stamp, 'camera', frame.depth, '32FC1')
            bag.image('/camera/flow', frame.stamp, 'camera', frame.flow, '32FC2')
            bag.image('/camera/motion_mask', frame.stamp, 'camera', frame.motion_mask, 'mono8')
            bag.pose('/pose', frame.stamp, 'map', frame.T_world_camera)
    return str(path)


@pytest.fixture(scope='module')
def drive(tmp_path_factory):
    """Return a bag of a good camera."""
    return write_drive(tmp_path_factory.mktemp('bags') / 'drive')


def flow_model(path):
    """Write a model whose flow is noise, some of which is said to move."""
    return str(write_flow_model(path, zero_heads=False, calibration=PATIENT, seed=1,
                                noise=0.002, threshold=0.1))


def test_live_and_offline_flow_give_the_same_numbers(drive, tmp_path, capsys):
    """The real node in lock step, and the pipeline alone: equal, of the newest images."""
    bag, model = drive, flow_model(tmp_path / 'm.safetensors')
    live = replay(bag, geometry=model, lockstep=True, json=str(tmp_path / 'live.json'),
                  report=str(tmp_path / 'live'))
    told = capsys.readouterr().out
    offline = {'flow': evaluate_flow.flow(model, bag, baselines=False)['newest'],
               'motion': evaluate_flow.motion(model, bag)['newest']}
    assert list(live) == ['depth', 'odometry', 'flow', 'motion']
    assert live['flow']['images'] == live['motion']['images'] == FRAMES - 1
    assert live['flow']['epe_px'] > 0.1 and live['flow']['rigid']['epe_px'] > 0.1
    assert live['motion']['iou'] > 0 and live['motion']['false_alarm_rate'] > 0
    for job, figures in offline.items():
        for name, value in figures.items():
            if name == 'network':   # before it is refined: a node does not show that
                assert name not in live[job]
            elif isinstance(value, dict):
                assert live[job][name] == pytest.approx(value, rel=1e-4), name
            else:
                assert live[job][name] == (
                    None if value is None else pytest.approx(value, rel=1e-4, abs=1e-6)), name
    written = json.loads((tmp_path / 'live.json').read_text())
    assert {'epe_px', 'fl_percent'} <= set(written['flow'])
    assert {'iou', 'precision', 'recall', 'false_alarm_rate'} <= set(written['motion'])
    assert 'End point error (pixels)' in told and 'Intersection over union' in told
    stored = load_run(tmp_path / 'live' / 'run.npz').geometry.moments
    assert [moment.index for moment in stored.taken] == list(range(FRAMES))
    assert [m.moving is not None for m in stored.taken] == [False] + [True] * (FRAMES - 1)
    assert all(moment.depth is not None for moment in stored.taken)
    _, without = measure_without_ros(open_recording(bag), None, load_geometry_model(model))[
        'geometry']
    for job, score in (('odometry', score_of_odometry), ('flow', score_of_flow),
                       ('motion', score_of_motion)):
        figures = score(without)
        for name, value in live[job].items():
            if isinstance(value, float) and not name.startswith('delay'):
                assert figures[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    for one, two in zip(stored.taken, without.moments.taken):
        assert one.image == two.image and (one.moving is None) == (two.moving is None)
        assert one.moving is None or (one.moving != two.moving).mean() < 0.01
        assert (abs(one.depth.astype(int) - two.depth) <= 1).all()
    page = Page(tmp_path / 'live' / 'report.html')
    assert page.headings == ['Overview', 'Along the way', 'Depth', 'Odometry', 'Flow',
                             'What moves', 'Timing', 'Run']
    assert 'of the image moves' in page.text and 'if nothing moved' in page.raw
    assert page.raw.count('alt="true flow of image') == page.raw.count('alt="what moves of image')


def test_no_flow_no_keys(drive, tmp_path, monkeypatch):
    """A model without flow, or a bag whose true flow is of distorted images: as before."""
    plain = str(write_geometry_model(tmp_path / 'n.safetensors', calibration=PATIENT))
    with monkeypatch.context() as patch:   # one node less to start; what is told is told alike
        patch.setattr('geo_perception.commands.replay.has_ros', lambda: False)
        assert list(replay(drive, geometry=plain)) == ['depth', 'odometry']
    bag = write_drive(tmp_path / 'bent', distortion=-0.1)
    assert list(replay(bag, geometry=flow_model(tmp_path / 'm.safetensors'), lockstep=True,
                       report=str(tmp_path / 'live'))) == ['depth', 'odometry']
    # What is said to move is in the pictures all the same.
    taken = load_run(tmp_path / 'live' / 'run.npz').geometry.moments.taken
    assert [moment.moving is not None for moment in taken] == [False] + [True] * (FRAMES - 1)
