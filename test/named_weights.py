# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Published files with weights that follow from the names of the variables, at the published sizes.

What the networks make of them is stored in ``published_golden.json``, which
``golden_by_tensorflow.py`` wrote with TensorFlow's own layers.
"""

import json
from pathlib import Path
from zlib import crc32

from monodepth_golden import differences_from_reference, image
from monodepth_golden import variables as monodepth_variables
import numpy as np
from published_networks import (
    GeoNet, geonet_variables, port_disparities, port_keys, port_poses, posenet, posenet_shapes,
    sfmlearner_depth, sfmlearner_pose, sfmlearner_variables)
import torch

from geo_perception.importers.geonet import import_geonet
from geo_perception.importers.monodepth import import_monodepth
from geo_perception.importers.posenet import import_posenet
from geo_perception.importers.sfmlearner import import_sfmlearner
from geo_perception.importers.sfmlearner_pytorch import import_sfmlearner_pytorch
from geo_perception.importers.sources import Source
from geo_perception.importers.stored import StoredArray
from geo_perception.inference.weights import load_weights
from geo_perception.model_file import ModelFile
from geo_perception.networks.depth import build_depth_network
from geo_perception.networks.egomotion import EgoMotionNet
from geo_perception.networks.flow import build_flow_network
from geo_perception.networks.posenet import PoseNet
from geo_perception.networks.stereo import build_stereo_network

GOLDEN = Path(__file__).with_name('published_golden.json')
SIZE = 128, 416
# Numbers of each output that are stored, evenly spread.
SAMPLES = 24
# File: importer, and kind of file.
FILES = {
    'posenet': (import_posenet, 'npy'), 'sfmlearner': (import_sfmlearner, 'checkpoint'),
    'sfmlearner, first release': (import_sfmlearner, 'checkpoint'),
    'sfmlearner-pytorch': (import_sfmlearner_pytorch, 'torch'),
    'geonet, VGG': (import_geonet, 'checkpoint'),
    'geonet, ResNet-50 and flow': (import_geonet, 'checkpoint'),
    'monodepth, VGG': (import_monodepth, 'checkpoint'),
    'monodepth, ResNet-50': (import_monodepth, 'checkpoint')}


def by_name(name, shape, transposed=False):
    """Return a variable: cosines, whose phase comes from the name."""
    k = np.arange(int(np.prod(shape)), dtype=float)
    wave = np.cos(0.7 * k * (1 + 0.001 * (k % 97)) + 1e-3 * (crc32(name.encode()) % 6283))
    if name.endswith(('weights', '.weight')) and len(shape) > 1:
        if name.endswith('.weight') and len(shape) == 4:   # PyTorch's order
            rows, columns, n_in = shape[2], shape[3], shape[0 if transposed else 1]
        elif len(shape) == 4:
            rows, columns, n_in = shape[0], shape[1], shape[3 if transposed else 2]
        else:
            rows, columns, n_in = 1, 1, shape[0]
        wave *= ((16 if transposed else 4) / (rows * columns * n_in)) ** 0.5
    elif name.endswith('moving_variance'):
        wave = 1 + 0.1 * wave ** 2
    else:
        wave *= 0.1
    return wave.reshape(shape).astype(np.float32)


def arrays(name):
    """Return the variables of a file."""
    if name.startswith('monodepth'):
        return monodepth_variables('vgg' if 'VGG' in name else 'resnet')
    if name == 'posenet':
        shapes = posenet_shapes()
    elif name == 'sfmlearner-pytorch':
        shapes = port_keys()
    else:
        variables = (geonet_variables('vgg' if 'VGG' in name else 'resnet50',
                                      None if 'VGG' in name else 'residual')
                     if name.startswith('geonet') else sfmlearner_variables('first' in name))
        shapes = {key: value.shape for key, value in variables.items() if 'step' not in key}
    return {key: by_name(key, shape, 'upcnv' in key or 'upconv' in key)
            for key, shape in shapes.items()}


def parts(name, variables):
    """Return the variables by file: the port has two, whose names collide."""
    if name != 'sfmlearner-pytorch':
        return [variables]
    return [{key.removeprefix(prefix): value for key, value in variables.items()
             if key.startswith(prefix)} for prefix in ('depth:', 'pose:')]


def sources(name):
    """Return files as if they had been read."""
    return [Source(f'file {i}', {
        key: StoredArray(f'file {i}', array.shape, array.dtype.name, lambda array=array: array)
        for key, array in part.items()}, FILES[name][1])
        for i, part in enumerate(parts(name, arrays(name)))]


def frames(n):
    """Return NHWC images in [-1, 1], side by side in the channels."""
    return torch.cat([2 * image(0.3 * i, *SIZE) - 1 for i in range(n)], 1).permute(
        0, 2, 3, 1).numpy()


def flow_frames():
    """Return a made-up input of a residual flow network, NHWC."""
    return np.concatenate([frames(3), 5 * frames(1)[..., :2], np.abs(frames(1)[..., :1])], 3)


def crop():
    """Return PoseNet's input, BGR less a mean, NHWC."""
    return (255 * image(0.0, 224, 224) - 110).permute(0, 2, 3, 1).numpy()


def reference(name, variables):
    """Return what the original computes, by output, NHWC."""
    if name == 'posenet':
        return posenet(variables, crop())
    if name == 'sfmlearner-pytorch':
        depth, pose = ({key: torch.from_numpy(value) for key, value in part.items()}
                       for part in parts(name, variables))
        maps = port_disparities(depth, planes(frames(1)))
        return {**{f'disparity {i}': x.permute(0, 2, 3, 1).numpy() for i, x in enumerate(maps)},
                'poses': port_poses(pose, planes(frames(3))).numpy()}
    if name.startswith('sfmlearner'):
        maps = sfmlearner_depth(variables, frames(1))
        poses, masks = sfmlearner_pose(variables, frames(3))
    else:
        net = GeoNet(variables, 'depth_net')
        maps = net.vgg(frames(1)) if 'VGG' in name else net.resnet(
            frames(1), lambda y: 5 / (1 + np.exp(-y)) + 0.01)
        poses, masks = sfmlearner_pose(
            variables, frames(3), scope='pose_net',
            names=['Conv', *(f'Conv_{i}' for i in range(1, 8))])
    results = {**{f'disparity {i}': x for i, x in enumerate(maps)}, 'poses': poses,
               **{f'mask {i}': x for i, x in enumerate(masks)}}
    if 'flow' in name:
        maps = GeoNet(variables, 'flow_net').resnet(flow_frames(), lambda y: 0.1 * y)
        results.update({f'flow {i}': x * [x.shape[2], x.shape[1]] for i, x in enumerate(maps)})
    return results


def planes(x):
    """Return NHWC images as PyTorch has them."""
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def outputs(imported):
    """Return what a model computes, by output, in the layout of `reference`."""
    metadata, arguments = imported.metadata, imported.metadata.arguments
    model = ModelFile(metadata, imported.tensors, '', 'memory')
    with torch.inference_mode():
        if metadata.job == 'relocalization':
            net = load_weights(PoseNet(**arguments), model)
            heads = net.heads(planes(crop()))
            return {f'{name} of head {i}': value.numpy() for i, head in enumerate(heads, 1)
                    for name, value in zip(('position', 'rotation'), head)}
        if metadata.job == 'stereo_depth':
            net = load_weights(build_stereo_network(metadata.architecture, {}), model)
            return {'disparity 0': net(image(0.0, 256, 512))[0].permute(0, 2, 3, 1).numpy()}
        net = load_weights(build_depth_network(metadata.architecture, arguments['depth']), model,
                           'depth.')
        results = _maps('disparity', net(planes(frames(1))))
        net = load_weights(EgoMotionNet(**arguments['egomotion']), model, 'egomotion.')
        x = planes(frames(3)).unflatten(1, (3, 3))
        poses, masks = net(x[:, 0], x[:, 1:])
        results.update({'poses': poses.numpy(),
                        **_maps('mask', [mask.flatten(1, 2) for mask in masks or []])})
        if 'flow_name' in arguments:
            net = load_weights(build_flow_network(arguments['flow_name'], arguments['flow']),
                               model, 'flow.')
            results.update(_maps('flow', net(planes(flow_frames()))))
    return results


def _maps(name, maps):
    return {f'{name} {i}': x.permute(0, 2, 3, 1).numpy() for i, x in enumerate(maps)}


def largest_difference(name, model):
    """Return how far a model is from the original, in parts of the spread of an output."""
    if model.metadata.job != 'stereo_depth':
        return max(differences(name, outputs(model)).values())
    net = load_weights(build_stereo_network(model.metadata.architecture, {}),
                       ModelFile(model.metadata, model.tensors, '', 'memory'))
    kind = 'vgg' if 'VGG' in name else 'resnet'
    return max(off / spread for off, spread in differences_from_reference(kind, net))


def digest(array):
    """Return what is stored of an output: shape, mean, spread, and some of its numbers."""
    flat = np.asarray(array, float).ravel()
    at = np.linspace(0, flat.size - 1, min(SAMPLES, flat.size)).astype(int)
    return {'shape': list(np.shape(array)), 'mean': float(flat.mean()),
            'std': float(flat.std()), 'values': [float(x) for x in flat[at]]}


def differences(name, found):
    """Return how far outputs are from what is stored, in parts of the spread, by output."""
    stored = json.loads(GOLDEN.read_text())['networks'][name]
    assert found.keys() == stored.keys()
    result = {}
    for output, expected in stored.items():
        own = digest(found[output])
        assert own['shape'] == expected['shape']
        errors = np.abs(np.array([own['mean'], own['std'], *own['values']])
                        - [expected['mean'], expected['std'], *expected['values']])
        result[output] = float(errors.max() / expected['std'])
    return result
