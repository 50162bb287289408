# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The published networks for depth, motion and flow compute what they computed in TensorFlow."""

import json
from pathlib import Path

import cv2
import numpy as np
from published_networks import (
    GeoNet, geonet_variables, sfmlearner_depth, sfmlearner_pose, sfmlearner_variables)
import pytest
from tf_checkpoint_writer import write_checkpoint
import torch

from geo_perception.cli import main
from geo_perception.errors import WeightsError
from geo_perception.importers.crc32c import crc32c
from geo_perception.importers.geonet import import_geonet
from geo_perception.importers.sfmlearner import import_sfmlearner
from geo_perception.importers.sources import Source
from geo_perception.importers.stored import StoredArray
from geo_perception.inference.weights import load_weights
from geo_perception.model_file import load_model_file, ModelFile
from geo_perception.networks.depth import build_depth_network
from geo_perception.networks.egomotion import EgoMotionNet
from geo_perception.networks.flow import build_flow_network

# Parts of the standard deviation of an output.
TOLERANCE = 1e-4


def source(variables, path='model-7'):
    """Return variables as if they had been read from a file."""
    return Source(path, {name: StoredArray(path, array.shape, array.dtype.name,
                                           lambda array=array: array)
                         for name, array in variables.items()}, 'checkpoint')


def network(imported, part):
    """Return a network of an import, by the way of its model file."""
    arguments = imported.metadata.arguments
    build = {'depth': lambda: build_depth_network(imported.metadata.architecture,
                                                  arguments['depth']),
             'egomotion': lambda: EgoMotionNet(**arguments['egomotion']),
             'flow': lambda: build_flow_network(arguments['flow_name'], arguments['flow'])}[part]
    model = ModelFile(imported.metadata, imported.tensors, '', 'memory')
    return load_weights(build(), model, f'{part}.')


def images(height, width, channels=3):
    """Return an NHWC image in [-1, 1]."""
    random = np.random.default_rng(1)
    return random.uniform(-1, 1, (1, height, width, channels)).astype(np.float32)


def check(ours, expected):
    """Compare NCHW maps of PyTorch with NHWC maps of NumPy, each by its own spread."""
    assert len(ours) == len(expected)
    for a, b in zip(ours, expected):
        a = a.numpy().transpose(0, 2, 3, 1) if a.dim() == 4 else a.numpy()
        assert a.shape == b.shape
        assert np.abs(a - b).max() < TOLERANCE * b.std()


def planes(x):
    """Return NHWC images as PyTorch has them."""
    return torch.from_numpy(x.transpose(0, 3, 1, 2).copy())


def check_poses(net, variables, sources, **options):
    """Compare poses, and masks, at a size with odd maps."""
    frames = images(32, 96, 3 * (sources + 1))
    x = planes(frames).unflatten(1, (sources + 1, 3))
    with torch.inference_mode():
        poses, masks = net(x[:, 0], x[:, 1:])
    expected, expected_masks = sfmlearner_pose(variables, frames, **options)
    check([poses], [expected])
    check([mask.flatten(1, 2) for mask in masks or []], expected_masks)


@pytest.mark.parametrize('norm', [False, True])
def test_sfmlearner(norm):
    """Both releases: disparities, poses and masks at every scale; odd maps are cut."""
    variables = sfmlearner_variables(norm)
    count = sum(array.size for name, array in variables.items() if 'global_step' not in name)
    if not norm:
        assert count == 34_236_080   # sfmlearner.md 1.2
    imported = import_sfmlearner([source(variables)])
    assert imported.ignored == {'model-7': ('train_op/global_step',)}
    assert len(imported.taken['model-7']) == len(variables) - 1
    assert imported.metadata.arguments == {
        'depth': {'form': 'sfmlearner', 'batch_norm': norm}, 'normalise_disparity': False,
        'egomotion_name': 'network',
        'egomotion': {'sources': 2, 'explainability': True, 'batch_norm': norm}}
    x = images(48, 80)
    with torch.inference_mode():
        check(network(imported, 'depth')(planes(x)), sfmlearner_depth(variables, x))
    check_poses(network(imported, 'egomotion'), variables, 2)


def test_sfmlearner_with_five_frames_and_no_masks():
    """Both are told by the variables."""
    variables = sfmlearner_variables(masks=False, sources=4)
    imported = import_sfmlearner([source(variables)])
    assert imported.metadata.arguments['egomotion'] == {
        'sources': 4, 'explainability': False, 'batch_norm': False}
    assert imported.metadata.data['length'] == 5
    check_poses(network(imported, 'egomotion'), variables, 4)


GEONET_NAMES = ['Conv', *(f'Conv_{i}' for i in range(1, 8))]


@pytest.mark.parametrize('encoder, count, sources', [
    ('vgg', 120 + 30, 2), ('resnet50', 316 + 30, 4)])
def test_geonet_depth_and_motion(encoder, count, sources):
    """Both encoders, three and five frames; statistics of batch norm are taken."""
    variables = geonet_variables(encoder, sources=sources)
    assert len(variables) == count + 1
    imported = import_geonet([source(variables)], scale_normalize=encoder == 'vgg')
    assert imported.ignored == {'model-7': ('global_step_1',)}
    arguments = imported.metadata.arguments
    assert arguments['normalise_disparity'] == (encoder == 'vgg')
    assert imported.metadata.architecture == f'dispnet_{encoder}'
    x = images(*((48, 80) if encoder == 'vgg' else (24, 40)))
    expected = (GeoNet(variables, 'depth_net').vgg(x) if encoder == 'vgg' else
                GeoNet(variables, 'depth_net').resnet(x, lambda y: 5 * sigmoid(y) + 0.01))
    with torch.inference_mode():
        check(network(imported, 'depth')(planes(x)), expected)
    check_poses(network(imported, 'egomotion'), variables, sources, scope='pose_net',
                names=GEONET_NAMES)


def sigmoid(x):
    """Return the logistic function."""
    return 1 / (1 + np.exp(-x))


def test_geonet_flow_beside_another_file():
    """Flow from one file, depth and motion from the next; the border as published or not."""
    flow, rigid = geonet_variables(None, 'residual'), geonet_variables('vgg')
    files = [source(flow, 'flow'), source(rigid, 'rigid')]
    imported = import_geonet(files)
    assert imported.metadata.arguments['flow'] == {'variant': 'residual'}
    assert imported.metadata.arguments['flow_border'] == 'published'
    assert {path: len(names) for path, names in imported.taken.items()} == {
        'flow': 316, 'rigid': 150}
    x = images(24, 40, 12)
    expected = [y * [y.shape[2], y.shape[1]]
                for y in GeoNet(flow, 'flow_net').resnet(x, lambda y: 0.1 * y)]
    with torch.inference_mode():
        check(network(imported, 'flow')(planes(x)), expected)
    with pytest.raises(WeightsError, match='flow holds flow alone'):
        import_geonet(files[:1])
    # The other variant takes images alone.
    flow['flow_net/Conv/weights'] = flow['flow_net/Conv/weights'][:, :, :6]
    direct = import_geonet([source(flow, 'flow'), files[1]], corrected=True)
    assert direct.metadata.arguments['flow'] == {'variant': 'direct'}
    assert direct.metadata.arguments['flow_border'] == 'inclusive'
    assert any(sentence.startswith('corrected: flow') for sentence in direct.account)


@pytest.fixture(scope='module')
def pose_only():
    """Return small variables, and a depth network that fits them."""
    return sfmlearner_variables(masks=False)


@pytest.mark.parametrize('name, change, words', [
    ('depth_net/icnv3/weights', None,
     r'depth_net/icnv3/weights of shape \(3, 3, 129, 64\) is missing in model-7; the nearest name '
     r'in it is depth_net/icnv3/weightz of shape \(3, 3, 129, 64\)'),
    ('depth_net/upcnv5/weights', lambda x: x.transpose(0, 1, 3, 2),
     r'upcnv5/weights in model-7 has the shape \(3, 3, 512, 256\), expected \(3, 3, 256, 512\)'),
    ('depth_net/cnv1/weights', None, 'depth_net/cnv1/weights .*is missing'),
    ('pose_exp_net/cnv1/weights', None, 'variables of pose_exp_net, but not pose_exp_net/cnv1'),
    ('pose_exp_net/cnv1/weights', lambda x: x[:, :, :7], r'expected \(7, 7, 9, 16\)'),
    ('pose_exp_net/pose/pred/weights', lambda x: x[..., :6], r'expected \(1, 1, 256, 12\)'),
    ('depth_net/cnv1/biases', lambda x: x.astype(np.int32), 'of type int32, expected float32'),
    ('depth_net/cnv1/biases', lambda x: x * np.nan, 'cnv1/biases in model-7 holds a NaN')])
def test_what_does_not_fit_is_named(pose_only, name, change, words):
    """With the expected shape and the nearest name; nothing is made of the rest."""
    variables = dict(pose_only)
    array = variables.pop(name)
    variables[f'{name[:-1]}z' if change is None else name] = change(array) if change else array
    with pytest.raises(WeightsError, match=words):
        import_sfmlearner([source(variables)])


def test_motion_without_a_network_for_it(pose_only):
    """A file of depth alone makes a model whose motion is found by alignment, and says so."""
    depth = {name: array for name, array in pose_only.items() if name.startswith('depth_net')}
    imported = import_sfmlearner([source(depth)], corrected=True)
    assert imported.metadata.arguments['egomotion_name'] == 'direct'
    assert any('aligning' in sentence for sentence in imported.account)
    with pytest.raises(WeightsError, match='depth_net/cnv1/weights'):
        import_sfmlearner([source({'a': np.zeros(1)})])
    with pytest.raises(WeightsError, match='was given'):
        import_sfmlearner([])


def test_from_checkpoint_to_depth(tmp_path, monkeypatch, capsys, pose_only):
    """The whole way: a checkpoint on disk, a model file, pictures; the account for machines."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('geo_perception.inference.engine._openvino',
                        lambda *_: (None, None, None))
    variables = {**pose_only, 'depth_net/cnv1/weights/Adam': np.zeros((7, 7, 3, 32), np.float32)}
    write_checkpoint('model-190532', variables, crc32c=crc32c)
    assert main(['import', 'sfmlearner', 'model-190532', '--output', 'm.safetensors',
                 '--json', 'm.json']) == 0
    out = capsys.readouterr().out
    assert 'depth by DispNet: 64 variables of model-190532\n' in out
    assert ('ignored: 2 of model-190532: depth_net/cnv1/weights/Adam, train_op/global_step\n'
            in out)
    summary = json.loads(Path('m.json').read_text())
    assert len(summary['taken']['model-190532']) == 64 + 16
    model = load_model_file('m.safetensors', 'geometry')
    for ours, theirs in (('depth.up.2.0.weight', 'depth_net/upcnv5/weights'),
                         ('egomotion.pose.2.weight', 'pose_exp_net/pose/pred/weights')):
        assert np.array_equal(model.weights()[ours], variables[theirs].transpose(3, 2, 0, 1))
    assert model.metadata.versions and model.metadata.data['behaviour'] == 'as published'
    Path('pictures').mkdir()
    random = np.random.default_rng(0)
    picture = random.integers(0, 255, (128, 416, 3), np.uint8)
    cv2.imwrite('pictures/0.png', picture[..., ::-1])
    assert main(['infer', 'm.safetensors', 'pictures', '--output', 'o', '--precision', 'fp32',
                 '--device', 'cpu']) == 0
    depth = np.load(next(Path('o').glob('depth_npy/*.npy')))
    expected = sfmlearner_depth(variables, picture[None] / np.float32(127.5) - 1)[0][0, ..., 0]
    assert np.abs(1 / depth - expected).max() < TOLERANCE * expected.std()


def test_damaged_checkpoint_leaves_nothing_behind(tmp_path, monkeypatch, capsys):
    """One sentence, and no model file."""
    monkeypatch.chdir(tmp_path)
    write_checkpoint('model', {'depth_net/cnv1/weights': np.zeros((7, 7, 3, 32), np.float32)})
    assert main(['import', 'sfmlearner', 'model', '--output', 'm.safetensors']) == 1
    err = capsys.readouterr().err
    assert err.startswith('error: variable depth_net/cnv1') and err.count('\n') == 1
    assert not Path('m.safetensors').exists()
