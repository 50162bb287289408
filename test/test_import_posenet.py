# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""PoseNet from the dictionary of layers that its TensorFlow port has."""

from pathlib import Path

import cv2
import numpy as np
from published_networks import posenet_shapes
import pytest
from tf_layers import convolve
import torch

from geo_perception.cli import main
from geo_perception.errors import WeightsError
from geo_perception.importers.posenet import import_posenet
from geo_perception.importers.sources import read_source, Source
from geo_perception.importers.stored import StoredArray
from geo_perception.inference.relocalizer import Relocalizer
from geo_perception.inference.weights import load_weights
from geo_perception.model_file import load_model_file, ModelFile
from geo_perception.networks.posenet import PoseNet


@pytest.fixture(scope='module')
def layers():
    """Return layers by name, numbers as in the tables of posenet.md section 2."""
    random = np.random.default_rng(0)
    shapes = {name.removesuffix('/weights'): shape for name, shape in posenet_shapes().items()
              if name.endswith('/weights')}
    return {name: {'weights': random.standard_normal(shape, np.float32) * np.float32(
                       (2 / np.prod(shape[:-1])) ** 0.5),
                   'biases': 0.1 * random.standard_normal(shape[-1], np.float32)}
            for name, shape in shapes.items()}


def source(layers, kind='npy'):
    """Return layers as if they had been read from a file."""
    return Source('posenet.npy', {
        f'{layer}/{name}': StoredArray('posenet.npy', array.shape, array.dtype.name,
                                       lambda array=array: array)
        for layer, parts in layers.items() for name, array in parts.items()}, kind)


def network(imported):
    """Return the network of an import, by the way of its model file."""
    return load_weights(PoseNet(**imported.metadata.arguments),
                        ModelFile(imported.metadata, imported.tensors, '', 'memory'))


def inception(x, layers, name):
    """Return an NHWC map after a block."""
    def conv(layer, x):
        return np.maximum(convolve(x, layers[f'{name}_{layer}']['weights'])
                          + layers[f'{name}_{layer}']['biases'], 0)

    around = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-np.inf)
    pooled = np.max([around[:, i:i + x.shape[1], j:j + x.shape[2]]
                     for i in range(3) for j in range(3)], 0)
    return np.concatenate([conv('out0', x), conv('out1', conv('reduction1', x)),
                           conv('out2', conv('reduction2', x)), conv('out3', pooled)], 3)


def test_layers_in_their_own_layout(layers):
    """All 68 layers; blocks and heads compute what they do on maps with channels last."""
    imported = import_posenet([source(layers)], mean=(100.0, 110.0, 120.0))
    assert len(imported.taken['posenet.npy']) == 136 and not imported.ignored['posenet.npy']
    assert sum(array.size for array in imported.tensors.values()) == 12_431_173
    net = network(imported)
    random = np.random.default_rng(1)
    with torch.inference_mode():
        for name, channels in (('icp1', 192), ('icp9', 832)):
            x = random.uniform(0, 1, (1, 5, 6, channels)).astype(np.float32)
            ours = getattr(net, name)(torch.from_numpy(x.transpose(0, 3, 1, 2)))
            expected = inception(x, layers, name)
            assert np.abs(ours.numpy().transpose(0, 2, 3, 1) - expected).max() < 1e-4
        for name, fc, channels in (('cls1', 'fc1_pose', 512), ('cls2', 'fc1', 528)):
            x = random.uniform(0, 1, (2, 14, 14, channels)).astype(np.float32)
            ours = getattr(net, name)(torch.from_numpy(x.transpose(0, 3, 1, 2)))
            pooled = np.stack([[x[:, i:i + 5, j:j + 5].mean((1, 2)) for j in (0, 3, 6, 9)]
                               for i in (0, 3, 6, 9)]).transpose(2, 0, 1, 3)
            y = np.maximum(convolve(pooled, layers[f'{name}_reduction_pose']['weights'])
                           + layers[f'{name}_reduction_pose']['biases'], 0)
            check_head(ours, y.reshape(2, -1), layers, name, fc)
        x = random.uniform(0, 1, (2, 7, 7, 1024)).astype(np.float32)
        ours = net.regress(net._hidden(torch.from_numpy(x.transpose(0, 3, 1, 2))))
        check_head(ours, x.mean((1, 2)), layers, 'cls3', 'fc1_pose')


def check_head(ours, x, layers, name, fc):
    """Compare position and rotation with those of a flattened map."""
    hidden = np.maximum(x @ layers[f'{name}_{fc}']['weights'] + layers[f'{name}_{fc}']['biases'],
                        0)
    for a, part in zip(ours, ('xyz', 'wpqr')):
        layer = layers[f'{name}_fc_pose_{part}']
        expected = hidden @ layer['weights'] + layer['biases']
        assert np.abs(a.numpy() - expected).max() < 1e-4 * expected.std()


def test_padding_follows_the_file(layers):
    """Weights of Caffe have its padding, those that TensorFlow wrote have TensorFlow's."""
    for kind, padding, expected in (
            ('npy', 'auto', 'caffe'), ('npz', 'auto', 'caffe'), ('checkpoint', 'auto', 'tf'),
            ('checkpoint', 'caffe', 'caffe')):
        imported = import_posenet([source(layers, kind)], padding=padding)
        assert imported.metadata.arguments == {'conv1_padding': expected}
        assert any('ImageNet' in sentence for sentence in imported.account)
        assert imported.metadata.preprocessing.offset == ((87, 0) if expected == 'tf' else None)
        corrected = import_posenet([source(layers, kind)], padding=padding, corrected=True)
        assert corrected.metadata.preprocessing.offset is None
        assert any(sentence.startswith('corrected: ' + (
            'images' if expected == 'tf' else 'nothing')) for sentence in corrected.account)


def test_partial_files(layers):
    """Without auxiliary heads it is whole; with a part of one, or no main head, it is not."""
    main_only = {name: parts for name, parts in layers.items()
                 if not name.startswith(('cls1', 'cls2'))}
    imported = import_posenet([source(main_only)])
    assert sum(array.size for array in imported.tensors.values()) == 8_087_095
    network(imported)
    trunk = {name: parts for name, parts in layers.items() if not name.startswith('cls')}
    with pytest.raises(WeightsError, match='pretrained GoogLeNet without the layers'):
        import_posenet([source({**trunk, 'cls2_fc1': layers['cls2_fc1']})])
    with pytest.raises(WeightsError, match='cls2_reduction_pose/weights of shape .* is missing'):
        import_posenet([source({**main_only, 'cls2_fc1': layers['cls2_fc1']})])
    with pytest.raises(WeightsError, match='conv1/weights'):
        import_posenet([source({'first': layers['conv1']})])


def test_from_dictionary_to_poses(tmp_path, monkeypatch, capsys, layers):
    """The whole way: a pickled dictionary, a model file, poses of pictures; BGR less the mean."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('geo_perception.inference.engine._openvino',
                        lambda *_: (None, None, None))
    np.save('posenet.npy', layers, allow_pickle=True)
    random = np.random.default_rng(0)
    mean = random.uniform(90, 130, (256, 341, 3)).astype(np.float32)
    np.save('mean.npy', mean)
    assert main(['import', 'posenet', 'posenet.npy', '--output', 'm.safetensors', '--mean_image',
                 'mean.npy', '--world_frame', 'college']) == 0
    assert 'both auxiliary heads: 136 variables of posenet.npy\n' in capsys.readouterr().out
    Path('pictures').mkdir()
    picture = random.integers(0, 255, (480, 640, 3), np.uint8)
    cv2.imwrite('pictures/0.png', picture)
    assert main(['infer', 'm.safetensors', 'pictures', '--output', 'poses.csv', '--samples', '0',
                 '--device', 'cpu', '--precision', 'fp32']) == 0
    row = Path('poses.csv').read_text().splitlines()[1].split(',')
    x = cv2.resize(picture, (341, 256), interpolation=cv2.INTER_LINEAR) - mean
    x = torch.from_numpy(x[16:240, 58:282].transpose(2, 0, 1)[None].copy())
    net = network(import_posenet([read_source('posenet.npy')]))
    with torch.inference_mode():
        position, _ = net(x)
    assert np.allclose(np.array(row[2:5], float), position[0].numpy(), atol=1e-3)
    relocalizer = Relocalizer(load_model_file('m.safetensors'), device='cpu', samples=0)
    assert relocalizer.retrieval is None and relocalizer.world_frame == 'college'
    assert main(['import', 'posenet', 'posenet.npy', '--output', 'n.safetensors', '--mean_image',
                 'posenet.npy']) == 1
    assert 'no mean image' in capsys.readouterr().err
    assert main(['import', 'posenet', 'posenet.npy', '--output', 'n.safetensors', '--mean',
                 '[1, 2, 3]']) == 0
    assert load_model_file('n.safetensors').metadata.preprocessing.mean == (1.0, 2.0, 3.0)
