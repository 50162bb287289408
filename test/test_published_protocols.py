# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The published numbers, from files to metrics, beside a second way to compute them."""

import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from public_trees import CAMERA, dumb_depth, picture, scan, write_image, write_kitti_raw
import pytest
from small_world import poses, view, write_drive
from tiny_geometry_model import ARGUMENTS, tensors, write_geometry_model
import torch

from geo_perception.cli import main
from geo_perception.datasets import kitti_raw
from geo_perception.networks.dispnet import DispNetVGG
from geo_perception.networks.egomotion import EgoMotionNet
from geo_perception.preprocessing import Preprocessing

FRAMES = 9
TEST_FRAMES = (('2011_09_26_drive_0002', 4), ('2011_09_26_drive_0002', 1),
               ('2011_09_28_drive_0002', 3))
STRETCHED = Preprocessing(1, (64, 96), mean=(127.5,) * 3, std=(127.5,) * 3, stretch=True)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Work in an empty folder, and compile nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('geo_perception.inference.engine._openvino',
                        lambda *_: (None, None, None))


@pytest.fixture
def kitti(tmp_path, monkeypatch):
    """Return the root of two small drives, which hold all test images there are."""
    for module in ('datasets.kitti_raw', 'evaluation.training_overlap'):
        monkeypatch.setattr(f'geo_perception.{module}.eigen_test_frames', lambda: TEST_FRAMES)
    for day in ('2011_09_26', '2011_09_28'):
        write_kitti_raw(tmp_path / 'kitti', 2, day=day, cameras=(2,), poses=False)
    return tmp_path / 'kitti'


def evaluate(job, recording, *options):
    """Run the program and return its numbers."""
    assert main(['evaluate', job, 'tiny.safetensors', str(recording), '--device', 'cpu',
                 '--json', 'm.json', *options]) == 0
    return json.loads(Path('m.json').read_text())[job]


def network(name, module, sources=2):
    """Return a network with its weights."""
    prefix = f'network.{name}.'
    module.load_state_dict({key[len(prefix):]: torch.tensor(value)
                            for key, value in tensors(sources).items() if key.startswith(prefix)})
    return module.eval()


def seen(image):
    """Return what a network sees of an image of its size, (1, 3, h, w)."""
    return torch.tensor(np.asarray(image, np.float32)).permute(2, 0, 1)[None] / 127.5 - 1


def published_depth_errors(truth, crop, cap, scaled):
    """Return mean errors over the test images, from the files, number by number."""
    errors = []
    depth_network = network('depth', DispNetVGG(**ARGUMENTS['depth']))
    for (_, i), g in zip(TEST_FRAMES, truth):
        small = Image.fromarray(picture(i)).resize((96, 64), Image.LANCZOS)
        with torch.no_grad():
            depth = 1 / depth_network(seen(small))[0][0, 0].numpy()
        p = cv2.resize(depth, (CAMERA.width, CAMERA.height)).astype(float)
        mask = np.zeros(g.shape, bool)
        top, bottom, left, right = crop
        mask[int(top * 126):int(bottom * 126), int(left * 414):int(right * 414)] = True
        mask &= (g > 1e-3) & (g < cap)
        g, p = g[mask], p[mask]
        p = np.clip(p * (np.median(g) / np.median(p) if scaled else 2.0), 1e-3, cap)
        ratio = np.maximum(g / p, p / g)
        errors.append([(np.abs(g - p) / g).mean(), ((g - p) ** 2 / g).mean(),
                       np.sqrt(((g - p) ** 2).mean()),
                       np.sqrt(((np.log(g) - np.log(p)) ** 2).mean()),
                       *((ratio < 1.25 ** k).mean() for k in (1, 2, 3))])
    return np.mean(errors, 0)


def found_depth_errors(metrics, suffix=''):
    """Return the same from the program."""
    return [metrics[name + suffix] for name in
            ('abs_rel', 'sq_rel', 'rmse_m', 'rmse_log', 'a1', 'a2', 'a3')]


@pytest.mark.parametrize('cap', [80.0, 20.0])
def test_eigen_split(kitti, capsys, cap):
    """Lanczos, scans at the original size, Garg's crop, both scales, means over images."""
    write_geometry_model('tiny.safetensors', preprocessing=STRETCHED, training_camera=None)
    metrics = evaluate('depth', kitti, '--split', 'eigen', '--cap', str(cap),
                       '--output', 'rows.csv')
    garg = (0.40810811, 0.99189189, 0.03594771, 0.96405229)
    truth = [dumb_depth(scan(i), True) for _, i in TEST_FRAMES]
    assert found_depth_errors(metrics) == pytest.approx(
        published_depth_errors(truth, garg, cap, False), rel=1e-4)
    assert found_depth_errors(metrics, '_median_scaled') == pytest.approx(
        published_depth_errors(truth, garg, cap, True), rel=1e-4)
    assert (metrics['images_scored'], metrics['crop'], metrics['coverage']) == (3, 'garg', 1.0)
    assert 'split eigen as published' in capsys.readouterr().out
    assert '10.00 s' not in Path('rows.csv').read_text()


def test_eigen_split_with_annotated_depth(kitti, monkeypatch):
    """The whole image, against depth images instead of scans."""
    monkeypatch.setattr(kitti_raw, 'ANNOTATED_TEST_IMAGES', 3)
    truth = []
    for drive, i in TEST_FRAMES:
        units = np.random.default_rng(i).integers(500, 10_000, (126, 414), np.uint16)
        write_image(kitti / drive[:10] / f'{drive}_sync' / 'proj_depth/groundtruth/image_02'
                    / f'{i:010d}.png', units)
        truth.append(units / 256)
    write_geometry_model('tiny.safetensors', preprocessing=STRETCHED, training_camera=None)
    metrics = evaluate('depth', kitti, '--split', 'eigen_benchmark')
    assert metrics['crop'] == 'none'
    assert found_depth_errors(metrics, '_median_scaled') == pytest.approx(
        published_depth_errors(truth, (0, 1, 0, 1), 80.0, True), rel=1e-4)


@pytest.mark.parametrize('options, sentence', [
    (['--split', 'egen'], "the split 'egen' is unknown; choose eigen or eigen_benchmark"),
    (['--split', 'eigen', '--image_topic', '/image'], "image_topic '/image' belongs to a bag"),
    (['--post_process', 'true'], '--post_process True has no meaning here'),
    (['--right_topic', '/right'], '--right_topic /right has no meaning here'),
    (['--split', 'eigen_benchmark'], "0 of Eigen's test images"),
    (['--split', 'eigen'], '1 of 6 files of Eigen'),
    ([], 'holds 2 KITTI drives')])
def test_what_is_no_split_is_said(kitti, capsys, options, sentence):
    """One sentence; fewer images than published are none at all."""
    write_geometry_model('tiny.safetensors')
    folder = kitti / '2011_09_28/2011_09_28_drive_0002_sync'
    (folder / 'velodyne_points/data/0000000003.bin').unlink()
    assert main(['evaluate', 'depth', 'tiny.safetensors', str(kitti), *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith('error: ') and sentence in error and error.count('\n') == 1


def test_split_that_was_trained_on_and_wrong_folder(kitti, capsys):
    """No score of training images; the folder that is meant is described."""
    write_geometry_model('tiny.safetensors',
                         data={'train': ['2011_09_28_drive_0002_sync'], 'length': 3, 'step': 1})
    assert main(['evaluate', 'depth', 'tiny.safetensors', str(kitti), '--split', 'eigen']) == 1
    assert "shows images of Eigen's test split" in capsys.readouterr().err
    write_geometry_model('tiny.safetensors')
    for path, words in (('none', 'is no folder'), (kitti / '2011_09_26', 'are missing in')):
        assert main(['evaluate', 'depth', 'tiny.safetensors', str(path), '--split', 'eigen']) == 1
        assert words in capsys.readouterr().err


def rotation(rx, ry, rz):
    """Return Rx Ry Rz."""
    (cx, cy, cz), (sx, sy, sz) = np.cos([rx, ry, rz]), np.sin([rx, ry, rz])
    return (np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
            @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
            @ np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]]))


def published_snippet_errors(length):
    """Return (ATE, rotation error in degrees) of every snippet of the drive, one by one."""
    sources = length - 1
    egomotion = network('egomotion', EgoMotionNet(sources=sources, width=0.1), sources)
    truth, ates, turns = poses(FRAMES), [], []
    images = [seen(view(T)[0]) for T in truth]
    for first in range(FRAMES - length + 1):
        snippet = images[first:first + length]
        target = snippet.pop(length // 2)
        with torch.no_grad():
            vectors = egomotion(target, torch.cat(snippet)[None])[0][0].double().tolist()
        T = []
        for tx, ty, tz, *angles in vectors:
            T.append(np.eye(4))
            T[-1][:3, :3], T[-1][:3, 3] = rotation(*angles), (tx, ty, tz)
        T.insert(length // 2, np.eye(4))
        said = [T[0] @ np.linalg.inv(M) for M in T]
        true = [np.linalg.inv(truth[first]) @ M for M in truth[first:first + length]]
        p, g = (np.array([M[:3, 3] for M in way]) for way in (said, true))
        scale = (g * p).sum() / (p * p).sum()
        ates.append(np.sqrt(((scale * p - g) ** 2).sum()) / length)
        turns.append(np.mean([np.degrees(np.arccos(min(1, (np.trace(a[:3, :3].T @ b[:3, :3]) - 1)
                                                       / 2)))
                              for a, b in list(zip(said, true))[1:]]))
    return np.array(ates), np.array(turns)


@pytest.mark.parametrize('length', [3, 5])
def test_snippets_of_the_network(tmp_path, capsys, length):
    """What the network predicts at once is scored, not the chained motions."""
    write_geometry_model('tiny.safetensors', arguments={
        **ARGUMENTS, 'egomotion': {'sources': length - 1, 'width': 0.1}})
    metrics = evaluate('odometry', write_drive(tmp_path / 'drive', FRAMES), '--baselines',
                       'false')
    ate, turn = published_snippet_errors(length)
    prefix = f'ate{length}_network'
    assert len(ate) == FRAMES - length + 1 and metrics['snippet_length'] == length
    assert metrics[f'{prefix}_zhou_m'] == pytest.approx(ate.mean(), rel=1e-4)
    assert metrics[f'{prefix}_zhou_std_m'] == pytest.approx(ate.std(), rel=1e-4)
    assert metrics[f'{prefix}_rmse_m'] == pytest.approx(np.sqrt(length) * ate.mean(), rel=1e-4)
    assert metrics[f'{prefix}_rotation_deg'] == pytest.approx(turn.mean(), rel=1e-4)
    # Another thing than the odometry, which stands where it sees no motion.
    assert metrics[f'{prefix}_zhou_m'] != pytest.approx(metrics[f'ate{length}_zhou_m'], rel=1e-3)
    assert metrics[f'ate{8 - length}_network_zhou_m'] is None
    out = capsys.readouterr().out
    assert f'ATE-{length} (Zhou protocol), network' in out and 'ATE-3 (Zhou protocol), ch' in out
    assert f'ATE-{8 - length} (Zhou protocol), network' not in out
    assert f'as it predicts them, {length} frames at once' in ' '.join(out.split())


def test_alignment_predicts_no_snippets(tmp_path, capsys):
    """Its numbers are of the chained trajectory, and that is said."""
    write_geometry_model('tiny.safetensors', arguments={
        'depth': ARGUMENTS['depth'], 'egomotion_name': 'direct', 'egomotion': {'sources': 2}})
    metrics = evaluate('odometry', write_drive(tmp_path / 'drive', FRAMES), '--baselines',
                       'false')
    assert metrics['snippet_length'] == 0 and metrics['ate5_zhou_m'] > 0
    assert metrics['ate3_network_zhou_m'] is metrics['ate5_network_zhou_m'] is None
    out = ' '.join(capsys.readouterr().out.split())
    assert 'cut from the chained trajectory, for the model finds motions by alignment' in out
