# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Flow made sharp in larger images, and what is learned from it."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_geometry_model import write_flow_model, write_geometry_model
import torch

from geo_perception.cli import main
from geo_perception.datasets.bag_writer import BagWriter
from geo_perception.datasets.sample_world.world import SampleWorld
from geo_perception.evaluation.flow_scores import seen_by
from geo_perception.geometry.camera import Camera
from geo_perception.inference.flow_refinement import FlowRefinement, motion_of_still_scene
from geo_perception.inference.rectification import LARGEST_DETAIL, Rectifier
from geo_perception.model_file import load_model_file
from geo_perception.preprocessing import Preprocessing

pytestmark = pytest.mark.usefixtures('without_openvino')

LARGE = Camera(np.array([[220.0, 0, 159.5], [0, 220.0, 119.5], [0, 0, 1]]), 320, 240,
               frame_id='camera')


@pytest.fixture(scope='module')
def pair():
    """Return two frames, and a rectifier for a small network."""
    drive = SampleWorld(0, LARGE, changing_light=False).drive('test', 60)
    return [drive[i] for i in (20, 21)], Rectifier(
        Preprocessing(96, (96, 128), mean=(127.5,) * 3, std=(127.5,) * 3))


def small_truth(frame, camera):
    """Return true flow and what moves, at the pixels of the small image."""
    flow = seen_by(camera, frame.camera, frame.flow) * (camera.width / frame.camera.width)
    return flow, seen_by(camera, frame.camera, frame.motion_mask) != 0


def test_refined_flow_is_nearer_to_the_truth(pair):
    """From flow that is a pixel off, and that knows nothing of what moves by itself."""
    (frame, following), rectifier = pair
    _, camera = rectifier(frame.image, LARGE)
    details = [rectifier.detail(rectifier.straighten(f.image, LARGE)) for f in (frame, following)]
    truth, moving = small_truth(frame, camera)
    start = truth + np.float32(1.0)
    start[moving] = np.median(truth[~moving], 0)
    refined = FlowRefinement()(details, np.stack([start, np.zeros_like(start)]))[0]
    before, after = (np.linalg.norm(flow - truth, axis=-1) for flow in (start, refined))
    assert refined.shape == truth.shape and refined.dtype == np.float32
    assert np.median(after[~moving]) < 0.3 * np.median(before[~moving])
    assert np.median(after[moving]) < 0.5 * np.median(before[moving])


def test_the_newest_flow_is_as_good_by_itself(pair):
    """What only checks it is coarser, and it is the same to the last bit."""
    (frame, following), rectifier = pair
    _, camera = rectifier(frame.image, LARGE)
    details = [rectifier.detail(rectifier.straighten(f.image, LARGE)) for f in (frame, following)]
    truth, _ = small_truth(frame, camera)
    start = np.stack([truth + np.float32(1.0), -truth])
    both = FlowRefinement()(details, start)
    alone = FlowRefinement(threads=1, newest_only=True)(details, start)
    np.testing.assert_array_equal(alone[1], both[1])
    before, sharp, check = (np.median(np.linalg.norm(flow - truth, axis=-1))
                            for flow in (start[0], both[0], alone[0]))
    assert sharp < check < 0.5 * before


def test_the_motion_suits_depth_that_is_wrong_as_a_whole(pair):
    """Depth too far by a fifth takes a way longer by as much; what moves does not pull."""
    (frame, following), rectifier = pair
    _, camera = rectifier(frame.image, LARGE)
    flow, moving = small_truth(frame, camera)
    depth = 1.2 * seen_by(camera, LARGE, frame.depth)
    T = np.linalg.inv(following.T_world_camera) @ frame.T_world_camera
    found = motion_of_still_scene(flow, np.isfinite(flow).all(-1), depth, camera.K, T)
    assert moving.mean() > 0.02
    np.testing.assert_allclose(found[:3, 3], 1.2 * T[:3, 3], atol=0.02 * np.linalg.norm(T[:3, 3]))
    np.testing.assert_allclose(found[:3, :3], T[:3, :3], atol=2e-3)
    nothing = motion_of_still_scene(flow, np.zeros_like(moving), depth, camera.K, T)
    assert nothing is T


@pytest.mark.parametrize('size, network, stretch', [
    ((320, 240), (96, 128), False), ((1242, 375), (128, 416), False),
    ((640, 480), (96, 96), False), ((90, 60), (96, 128), False),
    ((1242, 375), (128, 416), True)])
def test_details_show_what_the_network_sees(size, network, stretch):
    """The same view, not more pixels than the camera has, nor than is affordable."""
    width, height = size
    rng = np.random.default_rng(0)
    smooth = torch.nn.functional.interpolate(
        torch.from_numpy(rng.uniform(0, 255, (1, 3, 12, 16))), (height, width), mode='bicubic',
        align_corners=False)
    image = smooth[0].permute(1, 2, 0).clamp(0, 255).numpy().astype(np.uint8)
    rectifier = Rectifier(Preprocessing(min(network), network, stretch=stretch,
                                        mean=(127.5,) * 3, std=(127.5,) * 3))
    crop, detail = rectifier.crop(image), rectifier.detail(image)
    zoom = np.array(detail.shape) / network
    assert zoom.max() / zoom.min() < 1.02 and zoom.min() >= 1
    assert detail.size <= max(1.02 * LARGEST_DETAIL, crop[..., 0].size)

    shrunk = cv2.resize(detail, network[::-1], interpolation=cv2.INTER_AREA).astype(float)
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(float)
    assert np.abs(shrunk - grey).mean() < 4


def test_the_score_is_calibrated_on_what_the_pipeline_gives(tmp_path, monkeypatch, capsys):
    """Entries of the model file change, nothing else does, and they fit the recording."""
    monkeypatch.chdir(tmp_path)
    drive = SampleWorld(0, LARGE).drive('val', 8)
    with BagWriter('bag') as bag:
        for frame in drive:
            bag.image('/image', frame.stamp, 'camera', frame.image, 'rgb8')
            bag.camera_info('/camera_info', frame.stamp, LARGE)
            bag.image('/flow', frame.stamp, 'camera', frame.flow, '32FC2')
            bag.image('/motion_mask', frame.stamp, 'camera', frame.motion_mask, 'mono8')
    write_flow_model('m.safetensors', noise=0.5, depth_error=0.5)
    assert main(['calibrate', 'motion', 'm.safetensors', 'bag', '--output', 'c.safetensors',
                 '--json', 'c.json']) == 0
    before, after = load_model_file('m.safetensors'), load_model_file('c.safetensors')
    entries = json.loads(Path('c.json').read_text())
    assert set(entries) == {f'moving_{name}' for name in (
        'noise', 'depth_error', 'threshold', 'false_alarms')}
    assert after.metadata.calibration == {**before.metadata.calibration, **entries}
    assert entries['moving_noise'] != 0.5
    assert all(np.array_equal(after.tensors[name], value)
               for name, value in before.tensors.items())
    assert main(['evaluate', 'motion', 'c.safetensors', 'bag', '--json', 'm.json']) == 0
    found = json.loads(Path('m.json').read_text())['motion']
    assert found['false_alarm_rate'] < 0.05
    capsys.readouterr()
    write_geometry_model('n.safetensors')
    assert main(['calibrate', 'motion', 'n.safetensors', 'bag', '--output',
                 'o.safetensors']) == 1
    assert 'has no flow network' in capsys.readouterr().err
    assert main(['calibrate', 'motion', 'm.safetensors', 'bag[0:1]', '--output',
                 'o.safetensors']) == 1
    assert 'take a longer recording' in capsys.readouterr().err
    assert not Path('o.safetensors').exists()
