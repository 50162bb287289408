# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Pretrained trunks by torchvision's names: what is taken computes what it did there."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.numpy import save_file
import torch
from torch.nn import functional as F

from geo_perception.cli import main
from geo_perception.errors import ConfigurationError, WeightsError
from geo_perception.importers.backbone import import_backbone
from geo_perception.importers.sources import read_source, Source
from geo_perception.importers.stored import StoredArray
from geo_perception.model_file import load_model_file, save_model_file
from geo_perception.networks.dispnet_resnet import DispNetResNet50
from geo_perception.networks.monodepth import MonodepthResNet50
from geo_perception.networks.posenet import PoseNet
from geo_perception.training.relocalization import RelocalizationModule
from geo_perception.training.stereo import StereoModule

# Of torchvision's GoogLeNet: block, channels in, 1x1, reduce, 3x3, reduce, 3x3, after the pool.
BLOCKS = ('3a 192 64 96 128 16 32 32', '3b 256 128 128 192 32 96 64', '4a 480 192 96 208 16 48 64',
          '4b 512 160 112 224 24 64 64', '4c 512 128 128 256 24 64 64',
          '4d 512 112 144 288 32 64 64', '4e 528 256 160 320 32 128 128',
          '5a 832 256 160 320 32 128 128', '5b 832 384 192 384 48 128 128')


class State(dict):
    """Random weights that keep the size of what goes through the layers."""

    def __init__(self):
        super().__init__()
        self._random = np.random.default_rng(0)

    def layer(self, convolution, norm, n_in, n_out, kernel):
        """Add a convolution and a norm."""
        normal = self._random.standard_normal
        self[f'{convolution}.weight'] = (
            normal((n_out, n_in, kernel, kernel)) * (2 / (kernel ** 2 * n_in)) ** 0.5).astype('f4')
        for part, value in (('weight', 1 + 0.2 * normal(n_out)), ('bias', 0.1 * normal(n_out)),
                            ('running_mean', 0.2 * normal(n_out)),
                            ('running_var', 1 + 0.2 * np.abs(normal(n_out)))):
            self[f'{norm}.{part}'] = value.astype('f4')
        self[f'{norm}.num_batches_tracked'] = np.array(7)


def googlenet():
    """Return the state of GoogLeNet, with what is not wanted of it."""
    state = State()
    for name, shape in (('conv1', (3, 64, 7)), ('conv2', (64, 64, 1)), ('conv3', (64, 192, 3))):
        state.layer(f'{name}.conv', f'{name}.bn', *shape)
    for block in BLOCKS:
        name, *widths = block.split()
        n, one, reduce3, three, reduce5, five, pooled = map(int, widths)
        for branch, *shape in (('1', n, one, 1), ('2.0', n, reduce3, 1),
                               ('2.1', reduce3, three, 3), ('3.0', n, reduce5, 1),
                               ('3.1', reduce5, five, 3), ('4.1', n, pooled, 1)):
            layer = f'inception{name}.branch{branch}'
            state.layer(f'{layer}.conv', f'{layer}.bn', *shape)
    state['fc.weight'] = np.zeros((10, 1024), 'f4')
    return state


def resnet50():
    """Return the state of ResNet-50."""
    state = State()
    state.layer('conv1', 'bn1', 3, 64, 7)
    n = 64
    for stage, (units, inner) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), 1):
        for unit in range(units):
            name = f'layer{stage}.{unit}'
            state.layer(f'{name}.conv1', f'{name}.bn1', n, inner, 1)
            state.layer(f'{name}.conv2', f'{name}.bn2', inner, inner, 3)
            state.layer(f'{name}.conv3', f'{name}.bn3', inner, 4 * inner, 1)
            if unit == 0:
                state.layer(f'{name}.downsample.0', f'{name}.downsample.1', n, 4 * inner, 1)
            n = 4 * inner
    return state


def source(arrays, path='net.pth'):
    """Return tensors as if they had been read from a file."""
    return Source(path, {name: StoredArray(path, array.shape, array.dtype.name,
                                           lambda array=array: array)
                         for name, array in arrays.items()}, 'torch')


def weights(imported, scope=''):
    """Return the tensors of an import for a network."""
    prefix = f'network.{scope}'
    return {name[len(prefix):]: torch.from_numpy(value)
            for name, value in imported.tensors.items()}


def theirs(state, convolution, norm, x, eps, **options):
    """Return what torchvision's layer computes."""
    state = {name: torch.from_numpy(np.asarray(value)) for name, value in state.items()}
    x = F.conv2d(x, state[f'{convolution}.weight'], **options)
    return F.batch_norm(x, state[f'{norm}.running_mean'], state[f'{norm}.running_var'],
                        state[f'{norm}.weight'], state[f'{norm}.bias'], eps=eps)


def close(a, b):
    """Compare, in parts of the spread."""
    assert a.shape == b.shape
    assert (a - b).abs().max() < 1e-4 * b.std()


@pytest.fixture(scope='module')
def places():
    """Return GoogLeNet and what was imported of it."""
    state = googlenet()
    return state, import_backbone([source(state)])


def test_googlenet_for_posenet(places):
    """48 of 57 layers; the 5x5 ones are 3x3 there, are named, and are left alone."""
    state, imported = places
    assert imported.metadata.job == 'backbone' and imported.metadata.architecture == 'posenet'
    text = '\n'.join(imported.account)
    assert '48 layers of posenet were taken, 240 tensors of net.pth' in text
    assert '9 layers are of another shape' in text
    assert 'icp1.out2 (inception3a.branch3.1.conv.weight is 32x16x3x3, not 32x16x5x5)' in text
    assert 'fc.weight' in imported.ignored['net.pth']
    network = PoseNet().eval()
    result = network.load_state_dict(weights(imported), strict=False)
    assert not result.unexpected_keys
    image = torch.rand((1, 3, 224, 224), generator=torch.Generator().manual_seed(0)) * 255
    with torch.inference_mode():
        mean = torch.tensor(imported.metadata.preprocessing.mean)[:, None, None]
        ours = network.conv1(F.pad(image.flip(1) - mean, (3, 3, 3, 3)))
        expected = theirs(state, 'conv1.conv', 'conv1.bn', image / 127.5 - 1, 1e-3, stride=2,
                          padding=3)
        # Zeros around the image stand for another grey.
        close(ours[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2])
        x = torch.rand((1, 192, 9, 8), generator=torch.Generator().manual_seed(1))
        close(network.icp1.out1(network.icp1.reduction1(x).relu()), theirs(
            state, 'inception3a.branch2.1.conv', 'inception3a.branch2.1.bn', theirs(
                state, 'inception3a.branch2.0.conv', 'inception3a.branch2.0.bn', x, 1e-3).relu(),
            1e-3, padding=1))
        close(network.icp1.out3(x), theirs(
            state, 'inception3a.branch4.1.conv', 'inception3a.branch4.1.bn', x, 1e-3))


@pytest.mark.parametrize('name, build, scope', [
    ('dispnet_resnet50', DispNetResNet50, 'depth.'),
    ('monodepth_resnet50', MonodepthResNet50, '')])
def test_resnet_for_depth(name, build, scope):
    """All 53 convolutions; where ResNet adds its input as it is, the projection does that."""
    state = resnet50()
    imported = import_backbone([source(state)], network=name)
    text = '\n'.join(imported.account)
    assert f'53 layers of {name} were taken, 265 tensors' in text
    assert '12 layers begin as the identity' in text and 'another shape' not in text
    network = build().eval()
    assert not network.load_state_dict(weights(imported, scope), strict=False).unexpected_keys
    header = imported.metadata.preprocessing
    image = torch.rand((1, 3, 64, 96), generator=torch.Generator().manual_seed(0)) * 255
    mean, std = torch.tensor([[123.675, 116.28, 103.53], [58.395, 57.12, 57.375]])[..., None, None]
    with torch.inference_mode():
        ours = network.encoder.stem((image - header.mean[0]) / header.std[0])
        expected = theirs(state, 'conv1', 'bn1', (image - mean) / std, 1e-5, stride=2, padding=3)
        expected = F.elu(expected) if name.startswith('mono') else expected.relu()
        close(ours[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2])
        # The first units have projections in both, the second do not; without the stride.
        x = torch.rand((1, 64, 9, 8), generator=torch.Generator().manual_seed(1))
        act = F.elu if name.startswith('mono') else F.relu
        for unit in (0, 1):
            layer, y = f'layer1.{unit}', x
            for i, options in ((1, {}), (2, {'padding': 1}), (3, {})):
                y = theirs(state, f'{layer}.conv{i}', f'{layer}.bn{i}', y, 1e-5, **options)
                y = act(y) if i < 3 else y
            y = y + (x if unit else theirs(state, f'{layer}.downsample.0', f'{layer}.downsample.1',
                                           x, 1e-5))
            ours = network.encoder.stages[0][unit](x)
            close(ours, act(y))
            x = ours


def test_what_the_file_must_say(places):
    """A ResNet is the trunk of two networks; others of nothing here."""
    state = resnet50()
    with pytest.raises(WeightsError, match='dispnet_resnet50 or monodepth_resnet50: say which'):
        import_backbone([source(state)])
    with pytest.raises(WeightsError, match='holds a GoogLeNet'):
        import_backbone([source(places[0])], network='monodepth_resnet50')
    with pytest.raises(WeightsError, match='neither a GoogLeNet nor a ResNet-50'):
        import_backbone([source({'features.0.weight': np.zeros(3, 'f4')})])
    state['layer1.0.bn1.running_var'] = -state['layer1.0.bn1.running_var']
    with pytest.raises(WeightsError, match='layer1.0.bn1.running_var in net.pth is negative'):
        import_backbone([source(state)], network='dispnet_resnet50')
    del state['layer1.0.bn1.running_var']
    with pytest.raises(WeightsError, match='running_var of shape .64,. is missing'):
        import_backbone([source(state)], network='dispnet_resnet50')


def test_own_layers_of_posenet():
    """The published posenet.npy is a trunk without the layers that answer: all 57 are taken."""
    state = {name.replace('.', '_').replace('_weight', '/weights').replace('_bias', '/biases'):
             value for name, value in PoseNet().state_dict().items() if 'cls' not in name}
    arrays = {name: value.permute(2, 3, 1, 0).numpy() if value.dim() == 4 else value.numpy()
              for name, value in state.items()}
    imported = import_backbone([source(arrays, 'posenet.npy')])
    assert '57 layers of posenet were taken, 114 tensors' in imported.account[0]
    for name, value in weights(imported).items():
        assert torch.equal(value, state[name.replace('.', '_').replace('_weight', '/weights')
                                        .replace('_bias', '/biases')])


@pytest.mark.parametrize('kind', ['pth', 'npz', 'safetensors'])
def test_files_of_every_kind(tmp_path, kind, capsys, places):
    """The verb, its account, and a header that no pipeline takes."""
    state = {name: np.asarray(value) for name, value in places[0].items()}
    path = tmp_path / f'googlenet.{kind}'
    if kind == 'pth':
        torch.save({name: torch.from_numpy(value) for name, value in state.items()}, path)
    elif kind == 'npz':
        np.savez(path, **state)
    else:
        save_file(state, path)
    out = tmp_path / 'trunk.safetensors'
    assert main(['import', 'backbone', str(path), '--output', str(out), '--json',
                 str(tmp_path / 'json')]) == 0
    assert '48 layers of posenet were taken' in capsys.readouterr().out
    assert len(json.loads((tmp_path / 'json').read_text())['taken'][str(path)]) == 240
    assert set(load_model_file(out, 'backbone').tensors) == set(places[1].tensors)
    cv2.imwrite(str(tmp_path / '0.png'), np.zeros((48, 64, 3), np.uint8))
    assert main(['infer', str(out), str(tmp_path / '0.png'), '--output', 'o']) == 1
    assert 'is for backbone' in capsys.readouterr().err


def test_damaged_safetensors(tmp_path):
    """Cut anywhere, or with a header that lies about sizes."""
    path = tmp_path / 'a.safetensors'
    save_file({'conv.weight': np.ones((2, 3), 'f4')}, path)
    assert np.array_equal(read_source(path).arrays['conv.weight'].load(), np.ones((2, 3)))
    data = path.read_bytes()
    for n in range(9, len(data), 7):
        path.write_bytes(data[:n])
        with pytest.raises(WeightsError):
            read_source(path)
    for wrong in (data.replace(b'[2,3]', b'[2,9]'), data.replace(b'[0,24]', b'[0,99]'),
                  (2 ** 60).to_bytes(8, 'little') + data[8:]):
        path.write_bytes(wrong)
        with pytest.raises(WeightsError):
            read_source(path)


def test_trainings_begin_with_it(tmp_path, places, caplog):
    """Its weights are in the network, the others as usual; another network is refused."""
    imported = places[1]
    path = str(tmp_path / 'trunk.safetensors')
    save_model_file(path, imported.metadata, imported.tensors)
    options = {'rotation': 'quaternion', 'preprocessing': imported.metadata.preprocessing}
    module = RelocalizationModule('posenet', start_from=path, **options)
    for name, value in weights(imported).items():
        assert torch.equal(module.network.state_dict()[name], value)
    # Its head has not been trained: it is fitted to the scene.
    assert not module._trained
    assert '96 weights were taken' in caplog.text and 'icp1.out2.weight' in caplog.text
    with pytest.raises(ConfigurationError, match='of another network than monodepth_vgg'):
        StereoModule(start_from=path)
    whole = {f'network.{name}': value.numpy() for name, value in PoseNet().state_dict().items()
             if not name.startswith('cls1')}
    save_model_file(path, imported.metadata, whole)
    assert RelocalizationModule('posenet', start_from=path, **options)._trained
    with pytest.raises(ConfigurationError, match='cls2.fc_pose_wpqr.bias has the shape'):
        RelocalizationModule('posenet', start_from=path, rotation='matrix',
                             preprocessing=imported.metadata.preprocessing)
    assert Path(path).exists()
