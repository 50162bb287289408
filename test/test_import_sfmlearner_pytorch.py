# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""SfMLearner's port to PyTorch: its keys, and what its layers compute, written with functions."""

from published_networks import (
    port_disparities, PORT_KEYS, port_poses, SFMLEARNER_DEPTH, SFMLEARNER_POSE, shape_of)
import pytest
import torch

from geo_perception.cli import main
from geo_perception.errors import ConfigurationError, WeightsError
from geo_perception.importers.sfmlearner_pytorch import import_sfmlearner_pytorch
from geo_perception.importers.sources import read_source
from geo_perception.inference.weights import load_weights
from geo_perception.model_file import load_model_file
from geo_perception.networks.depth import build_depth_network
from geo_perception.networks.egomotion import EgoMotionNet


def state(text, generator):
    """Return a state as the port saves it; its layers have the original's sizes."""
    words, result = text.split(), {}
    for name, shape in zip(words[::2], map(shape_of, words[1::2])):
        # HWIO to OIHW; of a transposed convolution HWOI to IOHW.
        shape = (shape[3], shape[2], *shape[:2])
        n_in, n_out = shape[:2] if 'upcnv' in name else shape[1::-1]
        gain = 8 if 'upcnv' in name else 2
        result[f'{PORT_KEYS[name]}.weight'] = torch.randn(shape, generator=generator) * (
            gain / (shape[2] * shape[3] * n_in)) ** 0.5
        result[f'{PORT_KEYS[name]}.bias'] = 0.1 * torch.randn(n_out, generator=generator)
    return result


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Return both files and what they hold."""
    folder = tmp_path_factory.mktemp('port')
    generator = torch.Generator().manual_seed(0)
    depth, pose = state(SFMLEARNER_DEPTH, generator), state(SFMLEARNER_POSE, generator)
    torch.save({'epoch': 7, 'state_dict': depth}, folder / 'dispnet.pth.tar',
               _use_new_zipfile_serialization=False)
    masks = {'upconv5.0.weight': torch.zeros(256, 256, 4, 4)}
    torch.save({'state_dict': {**pose, **masks}}, folder / 'exp_pose.pth.tar')
    return folder, depth, pose


def check(ours, expected):
    """Compare maps, each by its own spread."""
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() < 1e-4 * expected.std()


def test_both_files_make_a_model(files, capsys):
    """In any order; masks are ignored; what comes out is what the port computes."""
    folder, depth, pose = files
    path = folder / 'm.safetensors'
    assert main(['import', 'sfmlearner-pytorch', str(folder / 'exp_pose.pth.tar'),
                 str(folder / 'dispnet.pth.tar'), '--output', str(path)]) == 0
    out = capsys.readouterr().out
    assert 'depth by DispNetS: 64 variables' in out and 'upconv5.0.weight' in out
    model = load_model_file(path, 'geometry')
    arguments = model.metadata.arguments
    assert arguments['egomotion'] == {'sources': 2, 'even_padding': True}
    assert model.metadata.preprocessing.interpolation == 'bilinear'
    generator = torch.Generator().manual_seed(1)
    x = torch.rand((2, 3, 48, 80), generator=generator) * 2 - 1
    frames = torch.rand((2, 3, 3, 48, 80), generator=generator) * 2 - 1
    with torch.inference_mode():
        net = load_weights(build_depth_network('dispnet_vgg', arguments['depth']), model, 'depth.')
        for a, b in zip(net(x), port_disparities(depth, x)):
            check(a, b)
        net = load_weights(EgoMotionNet(**arguments['egomotion']), model, 'egomotion.')
        check(net(frames[:, 0], frames[:, 1:])[0], port_poses(pose, frames.flatten(1, 2)))


def test_what_is_missing_is_named(files):
    """The file of the other network has no depth; nothing of it is half imported."""
    folder, *_ = files
    pose = read_source(folder / 'exp_pose.pth.tar')
    with pytest.raises(WeightsError, match='is missing in .*exp_pose.pth.tar|has the shape'):
        import_sfmlearner_pytorch([pose])
    with pytest.raises(ConfigurationError, match='no masks with even padding'):
        EgoMotionNet(explainability=True, even_padding=True)
