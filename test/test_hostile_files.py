# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Damaged files of every format that is read: each is read or refused in a sentence, in time.

A few cases of each here, thousands in ``make nightly``.
"""

from dataclasses import replace
import json
from pathlib import Path
import resource
import shutil
from types import SimpleNamespace

import cv2
from hostile import CHANGES, damage_document, damages, refused_or_fine
from hypothesis import given, strategies as st
import numpy as np
import public_trees
import pytest
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.typesys import get_typestore, Stores
from safetensors.numpy import save_file
import small_bag
import small_recordings
import tf_checkpoint_writer
import tiny_geometry_model
import tiny_model
import tiny_stereo_model
import torch

from geo_perception.commands.info import info
from geo_perception.datasets.flow_files import flo_bytes, kitti_flow_bytes, read_flow
from geo_perception.datasets.recording import open_images, open_recording, open_stereo
from geo_perception.importers.sources import read_source
from geo_perception.inference.place import Place
from geo_perception.inference.tape_scale import (
    read_tape_scale, tape_file, TapeSample, TapeScale, write_tape_scale)
from geo_perception.model_file import HEADER_KEY, load_model_file, save_model_file

pytestmark = pytest.mark.hostile
SHIPPED = Path(__file__).parents[1] / 'models'
FRAMES = 3
MOST_MEMORY = 3 * 2 ** 30   # more than there is now; a file of a few kilobytes needs none of it


@pytest.fixture(scope='module', autouse=True)
def little_memory():
    """Make room that a lying file asks for an error."""
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_MEMORY, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


# Recordings: what writes one into a folder and returns its path, and what opens it


def _ros1(root):
    store = get_typestore(Stores.ROS1_NOETIC)
    types = store.types
    header, time = types['std_msgs/msg/Header'], types['builtin_interfaces/msg/Time']
    path = root / 'run.bag'
    with Ros1Writer(path) as bag:
        connections = [bag.add_connection(topic, kind, typestore=store) for topic, kind in (
            ('/camera/image_raw', 'sensor_msgs/msg/Image'),
            ('/pose', 'geometry_msgs/msg/PoseStamped'))]
        for i in range(FRAMES):
            head = header(seq=i, stamp=time(sec=10 + i, nanosec=0), frame_id='camera')
            image = types['sensor_msgs/msg/Image'](
                header=head, height=24, width=32, encoding='rgb8', is_bigendian=0, step=96,
                data=small_bag.picture(i).reshape(-1))
            pose = types['geometry_msgs/msg/PoseStamped'](header=head, pose=types[
                'geometry_msgs/msg/Pose'](
                    position=types['geometry_msgs/msg/Point'](x=1.0 * i, y=0.0, z=0.0),
                    orientation=types['geometry_msgs/msg/Quaternion'](x=0.0, y=0.0, z=0.0,
                                                                      w=1.0)))
            for connection, message in zip(connections, (image, pose)):
                bag.write(connection, (10 + i) * 10**9,
                          store.serialize_ros1(message, connection.msgtype))
    return path


def _bag(storage):
    def write(root):
        small_bag.write_everything(root / 'bag', storage)
        return root / 'bag'

    return write


def _kitti_odometry(root):
    small_recordings.write_kitti(root / 'kitti')
    return root / 'kitti' / 'sequences' / '00'


def _kitti_raw(root):
    public_trees.write_kitti_raw(root, 1, n=3, cameras=(2, 3))
    return root


def _cityscapes(root):
    return public_trees.write_cityscapes(root, videos=1, n=3).parent


def _prepared(root):
    from geo_perception.cli import main

    public_trees.write_kitti_raw(root / 'kitti', 1, n=8, cameras=(2,), scans=False)
    assert main(['prepare', 'kitti-raw', str(root / 'kitti'), '--cameras', '02', '--width', '104',
                 '--height', '32', '--output', str(root / 'out')]) == 0
    shutil.rmtree(root / 'kitti')
    return root / 'out'


def _folder(name, text):
    def write(root):
        for i in range(FRAMES):
            small_recordings.write_image(root / f'{i}.png', small_recordings.picture(i))
        (root / name).write_text(text)
        return root

    return write


def _jpeg(root):
    for i in range(FRAMES):
        cv2.imwrite(str(root / f'{i}.jpg'), small_recordings.picture(i))
    return root


def _video(root):
    writer = cv2.VideoWriter(str(root / 'v.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, (32, 24))
    for i in range(FRAMES):
        writer.write(small_recordings.picture(i))
    writer.release()
    return root / 'v.avi'


def _pairs(root):
    for i in range(FRAMES):
        for eye in ('left', 'right'):
            small_recordings.write_image(root / eye / f'{i}.png', small_recordings.picture(i))
    (root / 'left' / 'cam.txt').write_text('20 0 15.5 0 20 11.5 0 0 1')
    (root / 'pairs.txt').write_text('\n'.join(
        f'left/{i}.png right/{i}.png' for i in range(FRAMES)) + '\n')
    return root / 'pairs.txt'


YAML = """image_width: 32
image_height: 24
distortion_model: plumb_bob
camera_matrix: {rows: 3, cols: 3, data: [20.0, 0, 15.5, 0, 20.0, 11.5, 0, 0, 1]}
distortion_coefficients: {rows: 1, cols: 5, data: [0.1, -0.2, 0.001, 0.002, 0.0]}
"""
RECORDINGS = {
    'mcap bag': (_bag('mcap'), open_recording),
    'sqlite3 bag': (_bag('sqlite3'), open_recording),
    'ROS 1 bag': (_ros1, open_recording),
    'TUM': (lambda root: small_recordings.write_tum(root / 'tum'), open_recording),
    '7-Scenes': (lambda root: small_recordings.write_seven_scenes(root, count=FRAMES),
                 open_recording),
    'Cambridge': (small_recordings.write_cambridge, open_recording),
    'KITTI odometry': (_kitti_odometry, open_recording),
    'KITTI raw': (_kitti_raw, open_recording),
    'Cityscapes': (_cityscapes, open_images),
    'prepared': (_prepared, open_images),
    'folder with cam.txt': (_folder('cam.txt', '20 0 15.5 0 20 11.5 0 0 1'), open_images),
    'folder with camera.yaml': (_folder('camera.yaml', YAML), open_images),
    'JPEG': (_jpeg, open_images),
    'video': (_video, open_images),
    'list of pairs': (_pairs, open_stereo),
}


def _read_frames(open_it, path):
    sequence = open_it(path)
    for i in range(min(len(sequence), FRAMES)):
        frame = sequence[i]
        assert frame.image.ndim == 3 and frame.image.dtype == np.uint8
        pose = frame.T_world_camera
        assert pose is None or np.isfinite(pose).all()


@pytest.fixture(scope='module')
def recordings(tmp_path_factory):
    """Return a function that returns a whole recording of a format, made once."""
    made = {}

    def make(name):
        if name not in made:
            root = tmp_path_factory.mktemp('recording')
            path = RECORDINGS[name][0](root)
            files = sorted(file for file in root.rglob('*') if file.is_file())
            made[name] = path, [(file, file.read_bytes()) for file in files]
            _read_frames(RECORDINGS[name][1], path)
        return made[name]

    return make


@pytest.mark.parametrize('name', RECORDINGS)
@given(data=st.data())
def test_recordings(recordings, name, data):
    """One file of each is damaged."""
    path, files = recordings(name)
    # Text files are few and hold what matters; images are many and alike.
    texts = [pair for pair in files if pair[0].suffix not in ('.png', '.jpg', '.bin')]
    file, content = data.draw(st.sampled_from(texts + files), label='file')
    try:
        file.write_bytes(data.draw(damages(content), label='content'))
        with refused_or_fine():
            _read_frames(RECORDINGS[name][1], path)
    finally:
        file.write_bytes(content)


# Model files


def _relocalizer(path):
    from geo_perception.inference.relocalizer import Relocalizer

    found = Relocalizer.load(path, device='cpu', precision='fp32', threads=1, samples=2)(
        tiny_model.images()[0])
    assert np.isfinite(found.T_world_camera).all() and np.isfinite(found.covariance).all()


def _geometry(path):
    from geo_perception.inference.geometry import GeometryPipeline
    import small_world

    pipeline = GeometryPipeline.load(path, device='cpu', precision='fp32', threads=1)
    for i, T in enumerate(small_world.poses(40)[:2]):
        found = pipeline(small_world.view(T)[0], small_world.CAMERA, i * 10**8)
    if found.odometry is not None:
        assert np.isfinite(found.odometry.covariance).all()


def _stereo(path):
    from geo_perception.geometry.camera import Camera
    from geo_perception.inference.stereo_depth import StereoDepthPipeline

    camera = Camera(np.array([[88.0, 0, 63.9], [0, 88, 47.6], [0, 0, 1]]), 128, 96)
    StereoDepthPipeline.load(path, device='cpu', precision='fp32', threads=1)(
        np.full((96, 128, 3), 99, np.uint8), camera)


def _place(path):
    place = Place.from_model(load_model_file(path, 'relocalization'))
    if place is not None:
        usual, spread = place.focal_error
        assert np.isfinite(usual + spread) and isinstance(place.summary['recordings'], list)


def _write_place(path):
    model = load_model_file(SHIPPED / 'sample_world.place')
    place = Place.from_model(model)
    few = place.without(np.arange(len(place.poses)) > 1)
    save_model_file(path, replace(model.metadata, place=few.header()), few.tensors())
    return path


MODELS = {
    'relocalization': (tiny_model.write_model, _relocalizer),
    'geometry': (tiny_geometry_model.write_geometry_model, _geometry),
    'stereo_depth': (lambda path: save_model_file(
        path, tiny_stereo_model.metadata(), tiny_stereo_model.weights()), _stereo),
    'place': (_write_place, _place)}


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    """Return a function that returns path, content, header and tensors of a model file."""
    made = {}

    def make(name):
        if name not in made:
            path = tmp_path_factory.mktemp('model') / f'{name}.safetensors'
            MODELS[name][0](path)
            content = path.read_bytes()
            size = int.from_bytes(content[:8], 'little')
            header = json.loads(json.loads(content[8:8 + size])['__metadata__'][HEADER_KEY])
            tensors = dict(load_model_file(path).tensors)
            MODELS[name][1](path)
            made[name] = path, content, header, tensors
        return made[name]

    return make


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch):
    """Compile nothing."""
    monkeypatch.setattr('geo_perception.inference.engine._openvino',
                        lambda *_: (None, None, None))


@pytest.mark.parametrize('name', MODELS)
@given(data=st.data())
def test_model_files(models, name, data):
    """Bytes anywhere are damaged."""
    path, content, _, _ = models(name)
    damaged = data.draw(damages(content[:20_000]), label='start') + content[20_000:]
    path.write_bytes(damaged)
    with refused_or_fine():
        load_model_file(path)


@pytest.mark.parametrize('name', MODELS)
@given(changes=CHANGES)
def test_headers_of_model_files(models, name, changes):
    """The header says something else; who believes it must not fall."""
    path, _, header, tensors = models(name)
    save_file(tensors, str(path), {HEADER_KEY: json.dumps(damage_document(header, changes))})
    with refused_or_fine():
        MODELS[name][1](path)
    with refused_or_fine():
        info(str(path))


# Files beside


@given(data=st.data())
def test_tape_scales(tmp_path_factory, data):
    """The scale that a tape measure gave."""
    model = SimpleNamespace(path=str(tmp_path_factory.getbasetemp() / 'any.safetensors'),
                            sha256='0' * 64)
    write_tape_scale(model, TapeScale((TapeSample(2.0, 1.9, 'here'), TapeSample(3.0, 2.9))))
    path = tape_file(model)
    path.write_bytes(data.draw(damages(path.read_bytes()), label='content'))
    with refused_or_fine():
        scale = read_tape_scale(model)
        assert 0 < scale.factor < np.inf and scale.sentence() is not None


FLOW = np.stack(np.meshgrid(np.arange(8.0), np.arange(6.0)), -1).astype(np.float32)


@pytest.mark.parametrize('name, content', [
    ('a.flo', flo_bytes(FLOW)), ('a.png', kitti_flow_bytes(FLOW))])
@given(data=st.data())
def test_flow_files(tmp_path_factory, name, content, data):
    """Of both formats."""
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(data.draw(damages(bytes(content)), label='content'))
    with refused_or_fine():
        assert read_flow(path).shape[-1] == 2


# Weights of others


def _weights(kind):
    arrays = {'conv1/weights': np.ones((3, 3, 2, 2), np.float32),
              'conv1/biases': np.zeros(2, np.float32)}

    def write(root):
        path = root / f'weights.{kind}'
        if kind == 'npz':
            np.savez(path, **{'a': arrays['conv1/weights'], 'b': arrays['conv1/biases']})
        elif kind == 'npy':
            np.save(path, {'conv1': {'weights': arrays['conv1/weights']}}, allow_pickle=True)
        elif kind == 'pth':
            torch.save({'state_dict': {'a': torch.ones(2, 3)}}, path)
        elif kind == 'old.pth':
            torch.save({'a': torch.ones(2, 3)}, path, _use_new_zipfile_serialization=False)
        elif kind == 'safetensors':
            save_file(arrays, str(path))
        else:
            tf_checkpoint_writer.write_checkpoint(path, arrays)
        return path

    return write


@pytest.mark.parametrize('kind', ['npz', 'npy', 'pth', 'old.pth', 'safetensors', 'ckpt'])
@given(data=st.data())
def test_weights_of_others(tmp_path_factory, kind, data):
    """None is run, none asks for memory it does not fill."""
    root = tmp_path_factory.mktemp('weights', numbered=True)
    path = _weights(kind)(root)
    file = data.draw(st.sampled_from(sorted(root.iterdir())), label='file')
    file.write_bytes(data.draw(damages(file.read_bytes()), label='content'))
    with refused_or_fine():
        for stored in read_source(path).arrays.values():
            stored.load()
    shutil.rmtree(root)
