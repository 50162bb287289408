# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""From images to flow and what moves: with perfect parts, and through the command line."""

import csv
from dataclasses import replace
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from report_page import Page
from tiny_geometry_model import write_flow_model, write_geometry_model
import torch

from geo_perception.cli import main
from geo_perception.datasets.bag_writer import BagWriter
from geo_perception.datasets.flow_files import kitti_flow_bytes, read_flow
from geo_perception.datasets.sample_world.render import flow_to, render_view
from geo_perception.datasets.sample_world.world import SampleWorld
from geo_perception.errors import ModelFileError
from geo_perception.evaluation.classical_flow import METHODS
from geo_perception.evaluation.flow import compare_flow
from geo_perception.evaluation.run_record import load_run
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.se3 import inverse_transform, make_transform
from geo_perception.inference.flow import FlowNetwork
from geo_perception.inference.flow_picture import flow_picture
from geo_perception.inference.geometry import GeometryPipeline
from geo_perception.inference.motion import View
from geo_perception.inference.scale import ScaleOptions
from geo_perception.model_file import load_model_file

pytestmark = pytest.mark.usefixtures('without_openvino')

CAMERA = Camera(np.array([[66.0, 0, 47.9], [0, 66.0, 31.6], [0, 0, 1]]), 96, 64,
                frame_id='camera')


@pytest.fixture(scope='module')
def drive():
    """Return a drive with moving things, whose light does not change."""
    return SampleWorld(0, CAMERA, changing_light=False).drive('train', 60)


def views(drive, *indices):
    """Return frames as perfect networks would see them."""
    return [View(np.array(frame.image), frame.depth, CAMERA, frame.stamp)
            for frame in (drive[i] for i in indices)]


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    """Return a network whose residual is replaced by the true one, see `true_flow`."""
    path = write_flow_model(tmp_path_factory.mktemp('m') / 'm.safetensors', noise=0.002,
                            depth_error=0.02)
    return FlowNetwork(load_model_file(path), precision='fp32')


def noise():
    """Return an image without any bare wall."""
    return np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)


def flow_back(drive, i):
    """Return the true flow from a frame to the one before it."""
    scene = SampleWorld(0, CAMERA).scene
    (T, before), (bodies, bodies_before) = (
        [poses[j] for j in (i, i - 1)] for poses in (
            drive.poses, {j: drive.body_poses(j) for j in (i, i - 1)}))
    view = render_view(scene, CAMERA, T, bodies, drive.light(i))
    return flow_to(view, CAMERA, T, bodies, before, bodies_before)


def true_flow(network, monkeypatch, drive, i):
    """Return the estimate of perfect depth and motion, and that with perfect flow as well."""
    earlier, later = views(drive, i, i + 1)
    T = inverse_transform(drive.poses[i]) @ drive.poses[i + 1]
    nothing = torch.zeros(2, 2, 64, 96)
    monkeypatch.setattr(network, '_engine', lambda x: nothing)
    rigid = network(earlier, later, T)
    residual = np.zeros((2, 2, 64, 96), np.float32)
    residual[0] = np.moveaxis(drive[i].flow - rigid.forward.flow, -1, 0)
    residual[1] = np.moveaxis(flow_back(drive, i + 1) - rigid.backward.flow, -1, 0)
    monkeypatch.setattr(network, '_engine', lambda x: torch.from_numpy(residual))
    return rigid, network(earlier, later, T)


def test_rigid_flow_is_that_of_what_stands(network, monkeypatch, drive):
    """Perfect depth and motion give true flow of still things, and moving ones stand out."""
    rigid, full = true_flow(network, monkeypatch, drive, 20)
    frame = drive[20]
    still = frame.motion_mask == 0
    assert np.abs(rigid.forward.flow - frame.flow)[still].max() < 0.01
    np.testing.assert_array_equal(rigid.forward.flow, rigid.forward.rigid)
    assert not rigid.forward.moving.any() and not rigid.backward.moving.any()
    assert rigid.forward.valid[still].mean() > 0.8
    np.testing.assert_allclose(full.forward.flow, frame.flow, atol=1e-4)
    seen = full.forward.valid
    # A third of what moves does so by less than the noise allows to tell.
    lack = np.linalg.norm(frame.flow - rigid.forward.rigid, axis=-1)
    # The mask has no gaps, but what is scored is scored.
    assert (full.forward.score[seen & (lack > 1) & (full.forward.score > 0)] > 4).all()
    assert 0.3 < full.forward.moving[seen & ~still].mean()
    # Whatever the images say.
    monkeypatch.setattr('geo_perception.inference.flow.refuted',
                        lambda image, *rest: torch.ones(len(image), 1, 64, 96, dtype=torch.bool))
    _, full = true_flow(network, monkeypatch, drive, 20)
    assert (full.forward.score[seen & (lack > 1)] > 4).all()
    # Specks are left out, but nothing of what is as large as the squares that look for them.
    clear = cv2.erode((seen & (lack > 1)).astype(np.uint8), np.ones((5, 5))) > 0
    assert full.forward.moving[clear].all() and clear.sum() > 50
    assert full.forward.moving[seen & ~still].mean() > 0.5
    assert full.forward.moving[seen & still].mean() < 0.01
    assert np.isnan(full.forward.score[~seen]).all()
    assert (full.earlier_stamp, full.later_stamp) == (frame.stamp, drive[21].stamp)
    assert full.reason == ''


def test_unknown_depth_is_not_valid(network, drive):
    """A hole in the depth says nothing there, and is no NaN in the flow."""
    earlier, later = views(drive, 20, 21)
    depth = earlier.depth.copy()
    depth[:20] = np.nan
    T = inverse_transform(drive.poses[20]) @ drive.poses[21]
    found = network(replace(earlier, depth=depth), later, T)
    assert np.isfinite(found.forward.flow).all()
    assert not found.forward.valid[:20].any() and np.isnan(found.forward.rigid[:20]).all()


def test_it_says_when_it_cannot_tell(network, monkeypatch, drive):
    """Nearly everything moves, or nothing is seen twice: no mask, and a sentence."""
    (earlier,) = views(drive, 20)
    earlier = replace(earlier, crop=noise())
    later = replace(earlier, crop=np.roll(earlier.crop, 6, 1))
    shift = np.zeros((2, 2, 64, 96), np.float32)
    shift[0, 0], shift[1, 0] = 6, -6
    monkeypatch.setattr(network, '_engine', lambda x: torch.from_numpy(shift))
    found = network(earlier, later, np.eye(4))
    assert 'nearly everything moves' in found.reason
    assert not found.forward.moving.any() and np.nanmedian(found.forward.score) > 4
    found = network(earlier, later, make_transform(np.eye(3), [0, 0, 50.0]))
    assert 'too little to tell' in found.reason and not found.backward.moving.any()


def test_smoothing_carries_the_score_along(tmp_path, drive, monkeypatch):
    """Half of what was there before, where the flow leads back to."""
    path = write_flow_model(tmp_path / 'm.safetensors')
    network = FlowNetwork(load_model_file(path), precision='fp32', smoothing=0.5)
    (later,) = views(drive, 20)
    later = replace(later, crop=noise())
    earlier = replace(later, crop=np.roll(later.crop, 1, 1))
    shift = np.zeros((2, 2, 64, 96), np.float32)
    shift[0, 0], shift[1, 0] = -1, 1
    monkeypatch.setattr(network, '_engine', lambda x: torch.from_numpy(shift))
    first = network(earlier, later, np.eye(4)).backward.score[25, 45]
    monkeypatch.setattr(network, '_engine', lambda x: torch.from_numpy(0 * shift))
    second = network(later, later, np.eye(4)).backward.score[25, 45]
    network.reset()
    assert second == pytest.approx(0.5 * first) and first > 2
    assert network(later, later, np.eye(4)).backward.score[25, 45] == 0


def test_pipeline_gives_flow_only_when_asked(tmp_path, drive):
    """And only with a frame before; the unit of odometry does not matter."""
    pipeline = GeometryPipeline.load(write_flow_model(tmp_path / 'm.safetensors'),
                                     precision='fp32')
    results = [pipeline(drive[i].image, CAMERA, drive[i].stamp, flow=i != 1) for i in range(4)]
    assert [r.flow is not None for r in results] == [False, False, True, True]
    flow = results[3].flow
    assert (flow.earlier_stamp, flow.later_stamp) == (drive[2].stamp, drive[3].stamp)
    pair = pipeline.flow_of_pair(drive[2].image, drive[3].image, CAMERA, 0.1)
    assert pair.forward.flow.shape == (64, 96, 2)
    unscaled = GeometryPipeline.load(
        write_geometry_model(tmp_path / 'n.safetensors'), precision='fp32')
    with pytest.raises(ModelFileError, match='has no flow network; train one'):
        unscaled(drive[0].image, CAMERA, drive[0].stamp, flow=True)


def test_unit_of_odometry_does_not_matter(tmp_path, drive):
    """Rigid flow is that of the motion of the networks, whatever a unit is in metres."""
    path = write_flow_model(tmp_path / 'm.safetensors')
    rigid = []
    for metres in (1.0, 5.0):
        pipeline = GeometryPipeline.load(path, precision='fp32', odometry='network',
                                         scale=ScaleOptions('constant', metres))
        for i in range(2):
            result = pipeline(drive[i].image, CAMERA, drive[i].stamp, flow=True)
        assert result.odometry.metric and np.linalg.norm(result.odometry.motion[:3, 3]) > 0
        rigid.append(result.flow.forward.rigid)
    np.testing.assert_allclose(*rigid, atol=1e-3)
    assert np.abs(rigid[0]).max() > 0.01


def test_what_is_carried_along_is_of_the_frame_before(tmp_path, drive):
    """A frame too soon leaves it alone; one without flow, or a new start, forgets it."""
    # Corners follow at any interval; the network alone leaves out what comes too soon.
    pipeline = GeometryPipeline.load(write_flow_model(tmp_path / 'm.safetensors'),
                                     precision='fp32', odometry='network')
    pipeline.prepare_flow(0.5)
    network = pipeline._flow_network

    def see(i, flow=True, late=0):
        return pipeline(drive[i].image, CAMERA, drive[i].stamp + late, flow=flow)

    see(0), see(1)
    assert see(2).flow is not None and network._last is not None
    soon = see(2, late=10**7)
    assert 'only' in soon.reason and soon.flow is None and network._last is not None
    assert see(3, flow=False).odometry is not None and network._last is None
    see(4)
    assert network._last is not None
    assert see(4, late=10**10).reset and network._last is None


def test_opencv_beats_nothing(drive):
    """The baselines look in the right direction."""
    frame = drive[20]
    errors = {name: compare_flow(method(frame.image, drive[21].image), frame.flow).total.epe
              for name, method in METHODS.items()}
    assert errors['dis'] < 0.7 * errors['nothing_moves']
    assert errors['farneback'] < 0.9 * errors['nothing_moves']


def test_colours_of_flow():
    """The usual wheel: right is red, left is cyan, down is yellow, nothing is white."""
    flow = np.array([[[5.0, 0], [-5, 0], [0, 5], [0, 0], [np.nan, 0]]])
    right, left, down, nothing, unknown = flow_picture(flow, 5.0)[0].astype(int)
    assert right.tolist() == [255, 0, 0] and nothing.tolist() == [255] * 3
    assert unknown.tolist() == [0] * 3
    assert left[0] < 30 and left[1] > 150 and left[2] == 255
    assert down[0] > 200 and down[1] > 200 and down[2] < 30
    half = flow_picture(0.5 * flow, 5.0)[0, 0].astype(int)
    assert half.tolist() == [255, 128, 128]


def test_from_the_command_line(tmp_path, monkeypatch, capsys):
    """Files of flow and masks; figures of flow and of what moves."""
    monkeypatch.chdir(tmp_path)
    drive = SampleWorld(0, CAMERA).drive('test', 4)
    with BagWriter('bag') as bag:
        for frame in drive:
            bag.image('/image', frame.stamp, 'camera', frame.image, 'rgb8')
            bag.camera_info('/camera_info', frame.stamp, CAMERA)
            bag.image('/flow', frame.stamp, 'camera', frame.flow, '32FC2')
            bag.image('/motion_mask', frame.stamp, 'camera', frame.motion_mask, 'mono8')
    write_flow_model('m.safetensors', zero_heads=False)
    assert main(['infer', 'm.safetensors', 'bag', '--output', 'out', '--flow', 'true', '--motion',
                 'true', '--json', 'infer.json']) == 0
    written = json.loads(Path('infer.json').read_text())['flow']
    assert written >= 1
    assert len(list(Path('out/flow_flo').iterdir())) == written
    names = sorted(path.stem for path in Path('out/motion_mask').iterdir())
    assert names[0] == '000000' and '000003' not in names
    flow, quantised = (read_flow(f'out/{kind}/000000.{kind[5:]}')
                       for kind in ('flow_flo', 'flow_png'))
    np.testing.assert_allclose(flow, quantised, atol=0.01)
    assert set(np.unique(cv2.imread('out/motion_mask/000000.png', -1))) <= {0, 255}
    assert cv2.imread('out/flow_preview/000000.jpg').shape == (3 * 64, 96, 3)

    assert main(['evaluate', 'flow', 'm.safetensors', 'bag', '--json', 'flow.json', '--report',
                 'flow']) == 0
    found = json.loads(Path('flow.json').read_text())['flow']
    assert found['epe_px'] > 0 and found['rigid']['epe_px'] > 0 and found['dis']['epe_px'] > 0
    assert 0 <= found['fl_percent'] <= 100 and found['pairs'] == 3
    assert main(['evaluate', 'motion', 'm.safetensors', 'bag', '--image_topic', '/other']) == 1
    assert 'set image_topic to one of' in capsys.readouterr().err
    assert main(['evaluate', 'motion', 'm.safetensors', 'bag', '--json', 'motion.json',
                 '--image_topic', '/image', '--camera_info_topic', '/camera_info', '--output',
                 'pairs.csv', '--report', 'motion']) == 0
    for job, words in (('flow', 'flow if nothing moved'), ('motion', 'of the image moves')):
        assert words in Page(Path(f'{job}/report.html')).raw
        figures, told = (json.loads(Path(name).read_text())[job] for name in (
            f'{job}/metrics.json', f'{job}.json'))
        newest = told.pop('newest')
        assert figures['pairs'] == told and newest.items() <= figures.items()
        assert figures['frames_processed'] == 4
        assert load_run(f'{job}/run.npz').jobs == [job]
        rows = list(csv.DictReader(Path(f'{job}/frames.csv').read_text().splitlines()))
        assert [row['flow_epe_px'] != '' for row in rows] == [False, True, True, True]
    found = json.loads(Path('motion.json').read_text())['motion']
    assert 0 <= found['false_alarm_rate'] <= 1
    rows = list(csv.DictReader(Path('pairs.csv').read_text().splitlines()))
    assert [row['name'] != '' for row in rows] == [True] * 3
    assert all(float(row['motion_false_alarm_rate']) <= 1 for row in rows if row['flow_epe_px'])
    assert sum(row['newest_flow_epe_px'] != '' for row in rows) == found['pairs_processed'] > 0
    Path('scenes').mkdir()
    for instant in (10, 11):
        cv2.imwrite(f'scenes/kitti_000000_{instant}.png', drive[0].image)
    Path('scenes/kitti_occ_000000_10.png').write_bytes(kitti_flow_bytes(drive[0].flow))
    capsys.readouterr()
    assert main(['evaluate', 'flow', 'm.safetensors', 'scenes', '--report', 'no']) == 1
    assert 'the pairs of scenes do not follow each other' in capsys.readouterr().err
    write_geometry_model('n.safetensors')
    assert main(['infer', 'n.safetensors', 'bag', '--output', 'o', '--flow', 'true']) == 1
    assert 'has no flow network' in capsys.readouterr().err
