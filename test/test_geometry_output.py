# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Export and infer with geometry models, through the real command line."""

import csv
from dataclasses import asdict
import json
from pathlib import Path
import weakref

import cv2
import numpy as np
import pytest
from small_world import poses, view, write_drive
from tiny_geometry_model import ARGUMENTS, metadata, write_geometry_model
import torch
from true_geometry import true_pipeline

from geo_perception.cli import main
from geo_perception.commands.geometry_output import write_geometry
from geo_perception.datasets.recording import open_recording
from geo_perception.geometry.se3 import inverse_transform
from geo_perception.model_file import load_model_file
from geo_perception.networks.dispnet import DispNetVGG
from geo_perception.networks.egomotion import EgoMotionNet


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Work in an empty folder, without OpenVINO, whose conversion takes seconds a model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('geo_perception.inference.engine._openvino',
                        lambda *arguments: (None, None, None))


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    """Return a slow drive, of which 30 frames are used."""
    return write_drive(tmp_path_factory.mktemp('world') / 'drive', 80)


def write_checkpoint(path, explainability):
    """Write what training leaves behind."""
    torch.manual_seed(0)
    egomotion = {**ARGUMENTS['egomotion'], 'explainability': explainability}
    networks = {'depth': DispNetVGG(**ARGUMENTS['depth']), 'egomotion': EgoMotionNet(**egomotion)}
    header = asdict(metadata(arguments={**ARGUMENTS, 'egomotion': egomotion}))
    header['preprocessing'].pop('mean_image')
    torch.save({'state_dict': {f'{name}.{weight}': value for name, network in networks.items()
                               for weight, value in network.state_dict().items()},
                'geo_perception': {'metadata': header, 'tensors': {}}}, path)
    return networks


@pytest.mark.parametrize('explainability', [False, True])
def test_export_keeps_what_inference_needs(explainability):
    """All weights but those of the mask decoder, and a header that says so; infer takes it."""
    networks = write_checkpoint('c.ckpt', explainability)
    assert main(['export', 'c.ckpt', '--output', 'm.safetensors']) == 0
    model = load_model_file('m.safetensors', 'geometry')
    assert model.metadata.arguments['egomotion'] == ARGUMENTS['egomotion']
    assert model.metadata.training_camera == metadata().training_camera
    expected = {f'{name}.{weight}' for name, network in networks.items()
                for weight in network.state_dict()
                if name == 'depth' or not weight.startswith(('up.', 'mask.'))}
    assert set(model.weights()) == expected
    weight = networks['egomotion'].state_dict()['pose.0.0.weight'].numpy()
    assert np.array_equal(model.weights()['egomotion.pose.0.0.weight'], weight)
    assert main(['infer', 'm.safetensors', str(write_drive('d', 3)), '--output', 'o']) == 0


def test_export_with_half_the_digits():
    """Large weights have 16 bits."""
    write_checkpoint('c.ckpt', False)
    assert main(['export', 'c.ckpt', '--output', 'm.safetensors']) == 0
    assert main(['export', 'c.ckpt', '--output', 'h.safetensors', '--half']) == 0
    sizes = [Path(name).stat().st_size for name in ('h.safetensors', 'm.safetensors')]
    assert sizes[0] < 0.65 * sizes[1]


def test_export_has_no_world_to_turn(capsys):
    """Gravity is for relocalization."""
    write_checkpoint('c.ckpt', False)
    assert main(['export', 'c.ckpt', '--output', 'm.safetensors', '--align_gravity']) == 1
    assert 'export without --align_gravity' in capsys.readouterr().err
    assert not Path('m.safetensors').exists()


def read_table(name='o/frames.csv'):
    """Return the rows of the table."""
    return list(csv.DictReader(Path(name).read_text().splitlines()))


def test_files_say_the_truth(tmp_path, bag):
    """Depth in millimetres and metres, both trajectories, and where the camera looks."""
    sequence = open_recording(f'{bag}[:30]')
    frames = [sequence[i] for i in range(len(sequence))]
    summary = write_geometry(true_pipeline(tmp_path, frames), sequence, 'o')
    assert (summary['images'], summary['depth'], summary['odometry']) == (30, 30, 29)
    assert summary['metric'] and summary['pieces'] == 1
    for i in (0, 29):
        depth = np.load(f'o/depth_npy/{i:06d}.npy')
        assert depth.dtype == np.float32 and np.allclose(depth, frames[i].depth, rtol=1e-5)
        png = cv2.imread(f'o/depth_png/{i:06d}.png', cv2.IMREAD_UNCHANGED)
        assert png.dtype == np.uint16
        assert np.abs(png / 1000 - frames[i].depth).max() <= 0.00051
        assert cv2.imread(f'o/preview/{i:06d}.jpg').shape == (128, 96, 3)
    truth = inverse_transform(frames[0].T_world_camera) @ [f.T_world_camera for f in frames]
    kitti = np.loadtxt('o/trajectory_kitti.txt')
    assert np.allclose(kitti.reshape(-1, 3, 4), truth[:, :3], atol=1e-8)
    tum = np.loadtxt('o/trajectory_tum.txt')
    assert np.allclose(tum[:, 0], [f.stamp * 1e-9 for f in frames])
    assert np.allclose(tum[:, 1:4], truth[:, :3, 3], atol=1e-6)
    assert np.allclose(np.linalg.norm(tum[:, 4:], axis=1), 1)
    # (x, y, z, w): the camera turns about its vertical axis.
    assert np.allclose(tum[:, [4, 6]], 0, atol=1e-6)
    camera = json.loads(Path('o/camera.json').read_text())
    assert (camera['width'], camera['fx'], camera['cy']) == (96, 80.0, 31.5)


def test_unknown_and_far_depth_is_zero_millimetres(tmp_path, bag):
    """What is NaN and what 16 bits cannot hold are marked unknown."""
    sequence = open_recording(f'{bag}[0:1]')
    pipeline = true_pipeline(tmp_path, [sequence[0]])
    (depth, T), = pipeline._depth_network.frames.values()
    depth[0, 0], depth[0, 1], depth[0, 2] = np.nan, 40.0, 32.0
    write_geometry(pipeline, sequence, 'o')
    png = cv2.imread('o/depth_png/000000.png', cv2.IMREAD_UNCHANGED)
    assert png[0, :3].tolist() == [0, 0, 64000]


def test_infer_on_the_command_line(bag, capsys):
    """Metric and relative, with a table that tells what happened to each frame."""
    model = str(write_geometry_model('m.safetensors'))
    assert main(['infer', model, f'{bag}[:30]', '--output', 'o', '--json', 's.json']) == 0
    assert '30 images: 30 depths (metres), 29 poses in 1 pieces' in capsys.readouterr().out
    assert json.loads(Path('s.json').read_text())['metres_per_unit'] == 2.0
    rows = read_table()
    assert len(rows) == 30 and 'first frame' in rows[0]['reason']
    assert all(0 <= float(row['residual']) <= 1 for row in rows[1:])
    assert main(['infer', model, f'{bag}[:30]', '--output', 'r', '--scale', 'none']) == 0
    assert 'up to scale' in capsys.readouterr().out
    assert not Path('r/depth_png').exists()
    assert np.allclose(2 * np.load('r/depth_npy/000003.npy'), np.load('o/depth_npy/000003.npy'))
    # What other models alone have would change nothing here.
    assert main(['infer', model, str(bag), '--output', 'n', '--samples', '3', '--depth_scale',
                 '2']) == 1
    assert 'only models of relocalization have --samples' in capsys.readouterr().err
    assert not Path('n').exists()


def test_pictures_without_intrinsics(capsys):
    """Relative depth, no trajectory, and a sentence that says why and how to mend it."""
    Path('pictures').mkdir()
    for i, T in enumerate(poses(4)):
        cv2.imwrite(f'pictures/{i}.png', view(T)[0])
    Path('pictures/1.png').write_bytes(b'no picture')
    model = str(write_geometry_model('m.safetensors'))
    assert main(['infer', model, 'pictures', '--output', 'o', '--json', 's.json']) == 0
    out = capsys.readouterr().out
    assert '3 depths (up to scale)' in out and '1 unreadable' in out
    assert 'no intrinsics' in out and 'record camera_info' in out
    assert sorted(path.name for path in Path('o').iterdir()) == [
        'depth_npy', 'frames.csv', 'preview']
    assert '1.png' in read_table()[1]['reason']


def test_pictures_of_two_shapes(capsys, caplog):
    """Intrinsics are for one of them; metres and depths up to scale are counted apart."""
    Path('pictures').mkdir()
    for i, T in enumerate(poses(3)):
        image = view(T)[0]
        cv2.imwrite(f'pictures/{i}.png', image[:-9] if i == 1 else image)
    Path('pictures/cam.txt').write_text('80 0 47.5 0 80 31.5 0 0 1')
    model = str(write_geometry_model('m.safetensors'))
    assert main(['infer', model, 'pictures', '--output', 'o']) == 0
    assert '3 depths (2 in metres, the others up to scale)' in capsys.readouterr().out
    assert 'intrinsics are for images of 96x64 pixels, pictures/1.png has 96x55' in caplog.text
    assert [row['reason'] == 'the image has no intrinsics' for row in read_table()] == [
        False, True, False]


def test_earlier_results_are_replaced_as_a_whole(tmp_path, bag):
    """No image of a longer run stands behind those of this one; other files are left alone."""
    sequence = open_recording(f'{bag}[:4]')
    pipeline = true_pipeline(tmp_path, [sequence[i] for i in range(4)])
    write_geometry(pipeline, sequence, 'o')
    Path('o/preview/notes.jpg').touch()
    Path('o/trajectory_tum_2.txt').touch()
    pipeline.reset()
    write_geometry(pipeline, open_recording(f'{bag}[:2]'), 'o')
    assert sorted(path.name for path in Path('o').glob('*/*')) == [
        '000000.jpg', '000000.npy', '000000.png', '000001.jpg', '000001.npy', '000001.png',
        'notes.jpg']
    assert len(read_table()) == 2 and not Path('o/trajectory_tum_2.txt').exists()
    Path('p/preview').mkdir(parents=True)
    Path('p/preview/000009.jpg').touch()
    pipeline.reset()
    write_geometry(pipeline, open_recording(f'{bag}[:2]'), 'p')
    assert Path('p/preview/000009.jpg').exists()


def test_interruption_keeps_the_answers_so_far(tmp_path, bag, capsys):
    """Table, trajectory and intrinsics of what was seen before Ctrl-C."""
    sequence = open_recording(f'{bag}[:6]')
    pipeline = true_pipeline(tmp_path, [sequence[i] for i in range(6)])

    class Interrupted:
        stamps = sequence.stamps

        def __len__(self):
            return 6

        def __getitem__(self, i):
            if i == 4:
                raise KeyboardInterrupt
            return sequence[i]

    with pytest.raises(KeyboardInterrupt):
        write_geometry(pipeline, Interrupted(), 'o')
    assert 'stopped after 4 of 6 images; they are in o' in capsys.readouterr().out
    assert len(read_table()) == 4 and len(np.loadtxt('o/trajectory_tum.txt')) == 4
    assert Path('o/camera.json').exists()


def test_images_do_not_pile_up(tmp_path, bag):
    """Of all images of a drive only the last ones are in memory."""
    sequence, images = open_recording(f'{bag}[:8]'), []

    class Watched:
        stamps = sequence.stamps

        def __len__(self):
            return 8

        def __getitem__(self, i):
            frame = sequence[i]
            images.append(weakref.ref(frame.image))
            assert sum(image() is not None for image in images) <= 3
            return frame

    write_geometry(true_pipeline(tmp_path, [sequence[i] for i in range(8)]), Watched(), 'o')
    assert len(images) == 8


def test_jump_in_time_makes_two_pieces(bag):
    """Each piece of the way has files of its own, from its own origin."""
    model = str(write_geometry_model('m.safetensors'))
    assert main(['infer', model, f'{bag}[0:8,20:26]', '--output', 'o', '--json', 's.json']) == 0
    summary = json.loads(Path('s.json').read_text())
    assert (summary['resets'], summary['pieces'], summary['odometry']) == (1, 2, 12)
    lengths = [len(np.loadtxt(f'o/trajectory_kitti{suffix}.txt')) for suffix in ('', '_2')]
    assert lengths == [8, 6]
    assert np.allclose(np.loadtxt('o/trajectory_kitti_2.txt')[0], np.eye(4)[:3].ravel())


@pytest.mark.parametrize('options,words', [
    (['--scale', 'odometry'], 'only the node gets'), (['--scale', 'camera_height'], 'above 0'),
    (['--scale', 'guess'], 'guess')])
def test_impossible_scale(bag, capsys, options, words):
    """One sentence."""
    model = str(write_geometry_model('m.safetensors'))
    assert main(['infer', model, str(bag), '--output', 'o', *options]) == 1
    assert words in capsys.readouterr().err
    assert not Path('o').exists()
