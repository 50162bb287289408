# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Monodepth's checkpoints: the numbers of the reference graph, and metric depth out of a file."""

import json
from pathlib import Path

import cv2
from monodepth_golden import check_numbers, variables
import numpy as np
import pytest
from tf_checkpoint_writer import write_checkpoint
import torch

from geo_perception.cli import main
from geo_perception.errors import ConfigurationError, WeightsError
from geo_perception.geometry.camera import Camera
from geo_perception.importers.crc32c import crc32c
from geo_perception.importers.monodepth import import_monodepth
from geo_perception.importers.sources import read_source, Source
from geo_perception.importers.stored import StoredArray
from geo_perception.inference.stereo_depth import StereoDepthPipeline
from geo_perception.inference.weights import load_weights
from geo_perception.model_file import load_model_file, ModelFile
from geo_perception.networks.stereo import build_stereo_network

PARAMETERS = {'vgg': 31_600_072, 'resnet': 58_452_008}


def source(arrays):
    """Return variables as if they had been read from a file."""
    return Source('model_kitti', {
        name: StoredArray('model_kitti', array.shape, array.dtype.name, lambda array=array: array)
        for name, array in arrays.items()}, 'checkpoint')


@pytest.fixture(scope='module')
def vgg():
    """Return the variables of the first network."""
    return variables('vgg')


@pytest.mark.parametrize('name, count', [('vgg', 64), ('resnet', 162)])
def test_numbers_of_the_reference_graph(name, count):
    """By the names of the variables; slots of the optimiser are ignored, and listed."""
    arrays = variables(name)
    assert len(arrays) == count
    assert sum(array.size for array in arrays.values()) == PARAMETERS[name]
    slot = np.zeros(32, np.float32)
    others = {'model/encoder/Conv/biases/Adam': slot, 'model/encoder/Conv/biases/Adam_1': slot,
              'beta1_power': np.float32(0), 'Variable': np.array(7, np.int32)}
    imported = import_monodepth([source({**arrays, **others})])
    assert imported.ignored['model_kitti'] == tuple(sorted(others))
    assert len(imported.taken['model_kitti']) == count
    metadata = imported.metadata
    network = build_stereo_network(metadata.architecture, metadata.arguments['network'])
    check_numbers(name, load_weights(
        network, ModelFile(metadata, imported.tensors, '', 'memory')))


def test_from_checkpoint_to_metres(tmp_path, monkeypatch, capsys, vgg):
    """The whole way: a checkpoint on disk, a model file, depth of pictures of KITTI's shape."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('geo_perception.inference.engine._openvino',
                        lambda *_: (None, None, None))
    write_checkpoint('model_kitti', vgg, crc32c=crc32c)
    assert main(['import', 'monodepth', 'model_kitti', '--output', 'm.safetensors',
                 '--json', 'm.json']) == 0
    out = capsys.readouterr().out
    assert 'depth by Monodepth with the VGG encoder: 64 variables of model_kitti\n' in out
    assert 'metres are those of Kitti: a baseline of 0.54 m' in out
    assert len(json.loads(Path('m.json').read_text())['taken']['model_kitti']) == 64
    model = load_model_file('m.safetensors', 'stereo_depth')
    theirs = vgg['model/decoder/Conv_1/weights'].transpose(3, 2, 0, 1)
    assert np.array_equal(model.weights()['merge.0.0.weight'], theirs)
    picture = np.random.default_rng(0).integers(0, 255, (375, 1242, 3), np.uint8)
    Path('pictures').mkdir()
    cv2.imwrite('pictures/0.png', picture[..., ::-1])
    pipeline = StereoDepthPipeline(model, device='cpu', precision='fp32')
    assert pipeline.baseline == pytest.approx(0.54)
    # What the published evaluation does: area, [0, 1], one pass, disparity enlarged linearly.
    seen = cv2.resize(picture, (512, 256), interpolation=cv2.INTER_AREA)
    network = load_weights(build_stereo_network('monodepth_vgg', {}), model)
    with torch.inference_mode():
        x = torch.from_numpy(seen.transpose(2, 0, 1)[None].astype(np.float32) / 255)
        disparity = network(x)[0][0, 0].numpy()
    disparity = 1242 * cv2.resize(disparity, (1242, 375), interpolation=cv2.INTER_LINEAR)
    expected = 0.54 * 721.5377 / disparity
    K = np.array([[721.5377, 0, 609.5593], [0, 721.5377, 172.854], [0, 0, 1]])
    estimate = pipeline(picture, Camera(K, 1242, 375))
    assert estimate.metric and estimate.warning == ''
    assert np.abs(estimate.depth - expected).max() < 1e-4 * expected.std()
    assert main(['infer', 'm.safetensors', 'pictures', '--output', 'o', '--precision', 'fp32',
                 '--device', 'cpu']) == 0
    assert 'no intrinsics' in capsys.readouterr().out
    written = np.load(next(Path('o').glob('depth_npy/*.npy')))
    assert written.shape == (375, 1242)


def test_rigs_and_corrections(vgg):
    """Metres come from the rig, which variables do not tell."""
    def reach(**options):
        imported = import_monodepth([source(vgg)], **options)
        return imported.metadata.calibration['reach'], ' '.join(imported.account)

    assert reach()[0] == pytest.approx(0.31371, abs=1e-5)   # monodepth.md 12.2
    assert reach(rig='cityscapes')[0] == pytest.approx(0.24299, abs=1e-5)
    value, words = reach(corrected=True)
    assert value == pytest.approx(0.53273 * 721.5377 / 1242)
    assert 'corrected: the baseline is 0.53273 m' in words
    value, words = reach(camera=(640, 480, 500.0, 500.0, 320.0, 240.0), baseline=0.12,
                         corrected=True)
    assert value == pytest.approx(0.12 * 500 / 640)
    assert 'your rig' in words and 'corrected: nothing' in words
    for options, message in (({'baseline': 0.1}, 'needs both'),
                             ({'camera': (640, 480, 0, 500, 320, 240), 'baseline': 0.1}, 'no rig'),
                             ({'camera': (640, 480, 500, 500, 320, 240), 'baseline': -1},
                              'no rig')):
        with pytest.raises(ConfigurationError, match=message):
            reach(**options)


@pytest.mark.parametrize('name, change, words', [
    ('model/decoder/Conv_9/weights', None,
     r'variable model/decoder/Conv_9/weights of shape \(3, 3, 128, 64\) is missing in '
     'model_kitti; the nearest name in it is'),
    ('model/encoder/Conv/weights', None, 'model/encoder/Conv/weights .*is missing'),
    ('model/encoder/Conv/weights', lambda x: np.tile(x, (1, 1, 2, 1)), 'sees both eyes'),
    ('model/encoder/Conv_3/weights', lambda x: x[:3], r'expected \(5, 5, 64, 64\)'),
    ('model/decoder/Conv_17/biases', lambda x: x * np.nan, 'Conv_17/biases in .*holds a NaN')])
def test_what_does_not_fit_is_named(vgg, name, change, words):
    """With the expected shape; nothing is made of the rest."""
    arrays = dict(vgg)
    array = arrays.pop(name)
    if change is not None:
        arrays[name] = change(array)
    with pytest.raises(WeightsError, match=words):
        import_monodepth([source(arrays)])


def test_transposed_convolutions_are_refused(vgg):
    """An option of the original's training, which is not run here."""
    arrays = {**vgg, 'model/decoder/Conv2d_transpose/weights': np.zeros((3, 3, 512, 512), 'f4')}
    with pytest.raises(WeightsError, match='transposed convolutions'):
        import_monodepth([source(arrays)])


def test_npz(tmp_path, vgg):
    """Names without ``:0``, or with it."""
    np.savez(tmp_path / 'm.npz', **{f'{name}:0': array for name, array in vgg.items()})
    imported = import_monodepth([read_source(tmp_path / 'm.npz')])
    assert imported.metadata.architecture == 'monodepth_vgg'
