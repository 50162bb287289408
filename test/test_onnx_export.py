# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Networks as ONNX files: the same numbers for any batch, and ports that say what they are."""

from functools import lru_cache
import json
from pathlib import Path
import sys

import numpy as np
import pytest
from tiny_geometry_model import ARGUMENTS, write_flow_model, write_geometry_model
from tiny_model import images, network, write_model
from tiny_stereo_model import metadata, PREPROCESSING, weights
import torch

from geo_perception.cli import main
from geo_perception.errors import ModelFileError
from geo_perception.inference import onnx_export
from geo_perception.inference.onnx_export import _traced as trace
from geo_perception.inference.onnx_parts import onnx_parts
from geo_perception.inference.relocalizer import Relocalizer
from geo_perception.inference.stereo_depth import StereoDepthPipeline
from geo_perception.model_file import load_model_file, save_model_file
from geo_perception.networks.flow import build_flow_network
from geo_perception.networks.posenet_lite import align, align_without_svd


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def onnxruntime():
    """Return the package, where all that is needed is there."""
    pytest.importorskip('onnxscript')
    return pytest.importorskip('onnxruntime')


def ports(name):
    """Return names and shapes of the ports of a network in ports.json."""
    network = json.loads(Path('o/ports.json').read_text())[name]
    return [(port['name'], port['shape']) for kind in ('inputs', 'outputs')
            for port in network[kind]]


def test_relocalizer(place, onnxruntime, capsys):
    """The pose that the pipeline gives, in the published frame, of four images at once."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]], (1, 2, 3)
    write_model('m.safetensors', T_map_world=T.tolist())
    assert main(['export', 'm.safetensors', '--onnx', '--output', 'o']) == 0
    out = capsys.readouterr().out
    assert 'o/pose.onnx' in out and 'agrees with the original within' in out
    assert '  out position: float32, batch x 3. Of the camera in office, metres.' in out
    assert ports('pose') == [('images', ['batch', 64, 96, 3]), ('position', ['batch', 3]),
                             ('rotation', ['batch', 3, 3])]
    pipeline = Relocalizer(load_model_file('m.safetensors'), device='cpu', precision='fp32',
                           samples=0)
    preprocessing = pipeline.model.metadata.preprocessing
    crops = [preprocessing.centre_crop(preprocessing.resize(image)) for image in images()[:4]]
    session = onnxruntime.InferenceSession('o/pose.onnx')
    position, rotation = session.run(['position', 'rotation'], {'images': np.stack(crops)})
    for i in range(4):
        T = pipeline(images()[i]).T_world_camera
        np.testing.assert_allclose(position[i], T[:3, 3], atol=1e-4)
        np.testing.assert_allclose(rotation[i], T[:3, :3], atol=1e-4)


def test_geometry(place, onnxruntime):
    """Depth, motion and flow, a file each; the light flow network takes a minute to trace."""
    flow = {'variant': 'residual', 'width': 0.05}
    torch.manual_seed(0)
    state = build_flow_network('resflownet', flow).state_dict()
    write_geometry_model(
        'm.safetensors', {f'network.flow.{name}': value.numpy() for name, value in state.items()},
        arguments={**ARGUMENTS, 'flow_name': 'resflownet', 'flow': flow,
                   'flow_border': 'published'})
    assert main(['export', 'm.safetensors', '--onnx', '--output', 'o', '--json', 's.json']) == 0
    summary = json.loads(Path('s.json').read_text())['networks']
    assert list(summary) == ['depth', 'ego_motion', 'flow']
    assert all(part['difference'] < 1e-3 for part in summary.values())
    assert 'length of training (80 pixels)' in Path('o/ports.json').read_text()
    assert ports('ego_motion') == [
        ('target', ['batch', 64, 96, 3]), ('sources', ['batch', 2, 64, 96, 3]),
        ('T_source_target', ['batch', 2, 4, 4])]
    assert [name for name, _ in ports('flow')] == ['image', 'other', 'rigid_flow', 'flow']
    described = onnxruntime.InferenceSession('o/flow.onnx').get_modelmeta().custom_metadata_map
    assert json.loads(described['geo_perception'])['outputs'][0]['name'] == 'flow'


def test_flow_without_rigid_flow(place):
    """The direct variant takes two images alone."""
    write_flow_model('m.safetensors', variant='direct', zero_heads=False)
    part = onnx_parts(load_model_file('m.safetensors'))[-1]
    assert [port.name for port in part.inputs] == ['image', 'other']
    images = [port.example(2, torch.Generator()) for port in part.inputs]
    with torch.no_grad():
        flow = part.module(*images)
        x = torch.cat(images, 3).permute(0, 3, 1, 2) / 127.5 - 1
        assert torch.equal(flow, part.module.network(x)[0])


def test_stereo(place, onnxruntime, monkeypatch, capsys):
    """Both disparities as the pipeline has them; what differs is not kept; no check, no claim."""
    save_model_file('m.safetensors', metadata(), weights())
    monkeypatch.setattr(onnx_export, '_traced', lru_cache(lambda part: trace(part)))
    model = load_model_file('m.safetensors')
    parts = onnx_parts(model)
    monkeypatch.setattr(onnx_export, 'onnx_parts', lambda model: parts)
    command = ['export', 'm.safetensors', '--onnx', '--output', 'o']
    assert main(command) == 0
    assert ports('disparity') == [('images', ['batch', 64, 128, 3]),
                                  ('disparity', ['batch', 2, 64, 128])]
    pipeline = StereoDepthPipeline(model, device='cpu', precision='fp32')
    picture = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    crop = PREPROCESSING.resize(picture)
    found, = onnxruntime.InferenceSession('o/disparity.onnx').run(None, {'images': crop[None]})
    expected = pipeline._engine(crop[None])[0].numpy()
    assert np.abs(found[0] - expected).max() < 1e-4 * expected.std()
    Path('o/disparity.onnx').unlink()
    with torch.no_grad():
        head = parts[0].module.network.predict[-1]
        # Another tensor: the graph shares the memory of this one.
        head.weight = torch.nn.Parameter(head.weight + 1.0)
    assert main(command) == 1
    assert 'computes something else in ONNX' in capsys.readouterr().err
    assert not Path('o/disparity.onnx').exists()
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    assert main(command) == 0
    assert 'not compared with the original: onnxruntime' in capsys.readouterr().out


def test_a_stereo_model_without_its_rig_is_refused(place):
    """Its output would mean nothing."""
    save_model_file('m.safetensors', metadata(calibration={}), weights())
    with pytest.raises(ModelFileError, match='which rig it was trained with'):
        onnx_parts(load_model_file('m.safetensors'))


def test_what_cannot_be_done_is_said(place, monkeypatch, capsys):
    """What is missing, one sentence; motion without a network has no file."""
    write_geometry_model('m.safetensors')
    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    for arguments, words in ((('m.safetensors',), 'pip install onnx onnxscript onnxruntime'),
                             (('m.safetensors', '--half'), '--half'), (('none',), 'none')):
        assert main(['export', *arguments, '--onnx', '--output', 'o']) == 1
        err = capsys.readouterr().err
        assert words in err and err.count('\n') == 1
    assert not Path('o').exists()
    write_geometry_model('d.safetensors', arguments={
        'depth': {'width': 0.12}, 'egomotion': {'sources': 2}, 'egomotion_name': 'direct'})
    assert [part.name for part in onnx_parts(load_model_file('d.safetensors'))] == ['depth']
    monkeypatch.setattr(onnx_export, 'export_onnx', lambda model, folder: [])
    assert main(['export', 'd.safetensors', '--onnx', '--output', 'o']) == 0
    assert 'motion is found by aligning images' in capsys.readouterr().out


def test_alignment_without_singular_values():
    """The same rotations, for exact and for noisy points."""
    random = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=random)

    for noise in (0.0, 0.1, 1.0):
        R = torch.linalg.qr(normal(50, 3, 3))[0]
        R = R * torch.det(R)[:, None, None]
        points, shares = normal(50, 40, 3), torch.softmax(normal(50, 40, 1), 1)
        moved = points @ R.mT + noise * normal(50, 40, 3) + normal(50, 1, 3)
        expected = align(points, moved, shares)
        found = align_without_svd(points, moved, shares)
        for a, b in zip(found, expected):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=0)
    assert network().align is align
