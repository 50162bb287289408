# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Pretrained trunks: GoogLeNet and ResNet-50 by torchvision's names, for trainings to begin with.

Batch normalisation is folded into the convolutions, exactly; so are the numbers that images are
given in, but for the zeros around them. Where layers are of another shape than ours they are left
out, and told.
"""

from dataclasses import dataclass, field
from typing import Dict, List, Optional

import numpy as np
import torch

from geo_perception.errors import WeightsError
from geo_perception.importers.imported import Account
from geo_perception.importers.mapping import read_whole, Wanted
from geo_perception.importers.posenet import posenet_plan
from geo_perception.model_file import Metadata
from geo_perception.networks.dispnet_resnet import DispNetResNet50, STAGES
from geo_perception.networks.layers import BATCH_NORM_EPS
from geo_perception.networks.monodepth import MonodepthResNet50
from geo_perception.networks.posenet import INCEPTION_WIDTHS, PoseNet
from geo_perception.preprocessing import Preprocessing

GOOGLENET_MARK, RESNET_MARK = 'inception3a.branch1.conv.weight', 'layer1.0.conv1.weight'
POSENET_MARK = 'icp1_out0/weights'
# Of torchvision's two networks.
GOOGLENET_EPS, RESNET_EPS = 1e-3, 1e-5
_BLOCKS = dict(zip(INCEPTION_WIDTHS, ('3a', '3b', '4a', '4b', '4c', '4d', '4e', '5a', '5b')))
_BRANCHES = {'out0': 'branch1', 'reduction1': 'branch2.0', 'out1': 'branch2.1',
             'reduction2': 'branch3.0', 'out2': 'branch3.1', 'out3': 'branch4.1'}
# Mean and divisor of the published training, red, green, blue, 0..255.
GOOGLENET_INPUT = (127.5,) * 3, (127.5,) * 3
RESNET_INPUT = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
NETWORKS = {'posenet': PoseNet, 'dispnet_resnet50': DispNetResNet50,
            'monodepth_resnet50': MonodepthResNet50}
# What our trainings of these networks give them.
PREPROCESSING = {
    'posenet': Preprocessing(256, (224, 224), 'linear', 'bgr', RESNET_INPUT[0][::-1]),
    'dispnet_resnet50': Preprocessing(128, (128, 416), mean=(127.5,) * 3, std=(127.5,) * 3),
    'monodepth_resnet50': Preprocessing(256, (256, 512), mean=(0.0,) * 3, std=(255.0,) * 3)}


@dataclass
class _Trunk:
    """What became of the layers of a trunk."""

    tensors: Dict[str, np.ndarray] = field(default_factory=dict)
    taken: List[str] = field(default_factory=list)
    names: set = field(default_factory=set)
    identities: List[str] = field(default_factory=list)
    disagree: List[str] = field(default_factory=list)
    absent: List[str] = field(default_factory=list)

    def fits(self, path, expected, name, source):
        """Tell whether a tensor has the shape of a layer, and note it if not."""
        found = source.arrays.get(name)
        if found is None:
            self.absent.append(f'{path} (no {name})')
        elif found.shape != tuple(expected):
            self.disagree.append(f'{path} ({name} is {_times(found.shape)}, not '
                                 f'{_times(expected)})')
        return found is not None and found.shape == tuple(expected)


def import_backbone(sources, network=None):
    """
    Return the trunk of a network, from a state with torchvision's names.

    Parameters
    ----------
    sources : sequence of Source
        One file: of GoogLeNet or ResNet-50, or the layers of PoseNet's own trunk as its
        TensorFlow port names them.
    network : str, optional
        ``posenet``, ``dispnet_resnet50`` or ``monodepth_resnet50``; may be left out where the
        file leaves one.

    Returns
    -------
    Imported
        Of the job ``backbone``, which no pipeline runs.

    Raises
    ------
    WeightsError
        When the file is of no such network, or what is taken is not whole or not finite.

    """
    account = Account(sources)
    source, = sources
    if POSENET_MARK in source.arrays or GOOGLENET_MARK in source.arrays:
        possible, what = ['posenet'], 'GoogLeNet'
    elif RESNET_MARK in source.arrays:
        possible, what = ['dispnet_resnet50', 'monodepth_resnet50'], 'ResNet'
    else:
        raise WeightsError(f'{source.path} is neither a GoogLeNet nor a ResNet-50 by torchvision: '
                           f'it has no tensor {GOOGLENET_MARK} or {RESNET_MARK}')
    if network is None and len(possible) == 1:
        network, = possible
    if network not in possible:
        raise WeightsError(f'{source.path} holds a {what}, the trunk of '
                           f'{" or ".join(possible)}: say which with --network')
    with torch.device('meta'):
        module = NETWORKS[network]()
    if POSENET_MARK in source.arrays:
        trunk = _published_trunk(source, module)
    elif network == 'posenet':
        trunk = _trunk(source, module, _googlenet_layers(), GOOGLENET_EPS, GOOGLENET_INPUT,
                       PREPROCESSING[network])
    else:
        trunk = _trunk(source, module, _resnet_layers(), RESNET_EPS, RESNET_INPUT,
                       PREPROCESSING[network])
    if not trunk.taken:
        raise WeightsError(f'no layer of {source.path} has a shape of {network}; the first is '
                           f'{(trunk.disagree + trunk.absent)[0]}')
    return _account(account, source, network, trunk)


def _account(account, source, network, trunk):
    """Return the import, with sentences about what was taken."""
    account.add(source, trunk.names)
    account.sentences.append(
        f'{len(trunk.taken)} layers of {network} were taken, {len(trunk.names)} tensors of '
        f'{source.path}')
    for paths, words in ((trunk.disagree, 'are of another shape and begin at random'),
                         (trunk.absent, 'are not in the file and begin at random'),
                         (trunk.identities, 'begin as the identity, which the file has in their '
                                            'place')):
        if paths:
            account.sentences.append(f'{len(paths)} layers {words}: {", ".join(paths)}')
    account.sentences.append('all other layers (decoder, heads) begin at random; start with '
                             '"geo_perception train ... --init <this file>"')
    scope = 'network.depth.' if network.startswith('dispnet') else 'network.'
    return account.close(Metadata(
        job='backbone', architecture=network, arguments={}, preprocessing=PREPROCESSING[network],
        rotation='', world_frame='',
        data={'published': source.path, 'layers': len(trunk.taken)}),
        {f'{scope}{name}': array for name, array in trunk.tensors.items()})


def _published_trunk(source, module):
    """Return what a file with PoseNet's own layers has of its trunk."""
    trunk = _Trunk()
    for name, wanted in posenet_plan(module).items():
        if name.startswith('cls') or not trunk.fits(name, wanted.shape, wanted.name, source):
            continue
        trunk.tensors[name] = read_whole(source, wanted, module.get_parameter(name).shape)
        trunk.names.add(wanted.name)
        if name.endswith('.weight'):
            trunk.taken.append(name.removesuffix('.weight'))
    return trunk


def _googlenet_layers():
    """Return beginnings of names, convolution and norm, by our layer."""
    layers = {'conv1': 'conv1', 'reduction2': 'conv2', 'conv2': 'conv3'}
    for ours, theirs in _BLOCKS.items():
        layers.update({f'{ours}.{branch}': f'inception{theirs}.{name}'
                       for branch, name in _BRANCHES.items()})
    return {path: (f'{name}.conv', f'{name}.bn') for path, name in layers.items()}


def _resnet_layers():
    """Return the same for the encoder of ResNet-50; None where theirs has no projection."""
    layers: Dict[str, Optional[tuple]] = {'encoder.stem': ('conv1', 'bn1')}
    for stage, (repeats, _) in enumerate(STAGES):
        for unit in range(repeats):
            ours, theirs = f'encoder.stages.{stage}.{unit}', f'layer{stage + 1}.{unit}'
            for i in range(3):
                layers[f'{ours}.body.{i}'] = (f'{theirs}.conv{i + 1}', f'{theirs}.bn{i + 1}')
            layers[f'{ours}.shortcut'] = (None if unit else
                                          (f'{theirs}.downsample.0', f'{theirs}.downsample.1'))
    return layers


def _trunk(source, module, layers, eps, published, preprocessing):
    """Return what a file by torchvision has of a trunk."""
    trunk = _Trunk()
    for i, (path, layer) in enumerate(layers.items()):
        ours = _Layer(module, path)
        if layer is None:
            kernel = np.eye(ours.shape[0], dtype=np.float64)[..., None, None]
            offset, bias = np.zeros(len(kernel)), np.zeros(len(kernel))
            trunk.identities.append(path)
        else:
            convolution, norm = layer
            if not trunk.fits(path, ours.shape, f'{convolution}.weight', source):
                continue
            kernel, offset, bias = _folded(source, convolution, norm, ours.shape, eps, trunk)
            trunk.taken.append(path)
        if i == 0:
            kernel, shift = _for_our_images(kernel, published, preprocessing)
            offset = offset - shift
        trunk.tensors.update(ours.tensors(kernel, offset, bias))
    return trunk


def _folded(source, convolution, norm, shape, eps, trunk):
    """Return kernel, what is subtracted from what it makes, and what is added, float64."""
    names = [f'{convolution}.weight'] + [f'{norm}.{part}' for part in (
        'weight', 'bias', 'running_mean', 'running_var')]
    trunk.names.update(names)
    kernel, *parts = (
        read_whole(source, Wanted(name, size), size).astype(np.float64)
        for name, size in zip(names, [tuple(shape)] + [tuple(shape[:1])] * 4))
    gain, bias, mean, variance = parts
    if (variance < 0).any():
        raise WeightsError(f'variable {norm}.running_var in {source.path} is negative, which no '
                           'variance is')
    factor = gain / np.sqrt(variance + eps)
    return kernel * factor[:, None, None, None], mean * factor, bias


def _for_our_images(kernel, published, preprocessing):
    """Return a first kernel for images in our numbers, and how much more it makes of them."""
    mean, std = (np.array(x) for x in published)
    ours_mean, ours_std = (np.array(x, float) for x in (preprocessing.mean, preprocessing.std))
    if preprocessing.channel_order == 'bgr':
        kernel, mean, std = kernel[:, ::-1], mean[::-1], std[::-1]
    shift = np.einsum('ocij,c->o', kernel, (ours_mean - mean) / std)
    return kernel * (ours_std / std)[:, None, None], shift


class _Layer:
    """A convolution of ours, bare or with an activation or a norm behind it."""

    def __init__(self, module, path):
        self._path, layer, self._norm = path, module.get_submodule(path), None
        if isinstance(layer, torch.nn.Sequential):
            norms = [name for name, part in layer.named_children()
                     if isinstance(part, torch.nn.BatchNorm2d)]
            self._norm = f'{path}.{norms[0]}' if norms else None
            self._path, layer = f'{path}.0', layer[0]
        self.shape = tuple(layer.weight.shape)

    def tensors(self, kernel, offset, bias):
        """Return the tensors of ours, float32, by name."""
        values = {f'{self._path}.weight': kernel}
        if self._norm is None:
            values[f'{self._path}.bias'] = bias - offset
        else:
            values[f'{self._norm}.running_mean'] = offset
            values[f'{self._norm}.running_var'] = np.full(len(kernel), 1 - BATCH_NORM_EPS)
            values[f'{self._norm}.bias'] = bias
        return {name: np.ascontiguousarray(value, np.float32) for name, value in values.items()}


def _times(shape):
    """Return a shape for a person."""
    return 'x'.join(map(str, shape))
