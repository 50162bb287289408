# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The networks of SfMLearner's port to PyTorch, from its files."""

from dataclasses import replace

import torch
from torch import nn

from geo_perception.importers.geometry import assemble, neighbours, Part, PREPROCESSING
from geo_perception.importers.imported import Account, first_with
from geo_perception.importers.mapping import Wanted
from geo_perception.networks.dispnet import COARSEST, DECODER, DispNetVGG, ENCODER
from geo_perception.networks.egomotion import EgoMotionNet

SYSTEM = 'sfmlearner-pytorch'
# In one file each, where names of both begin alike.
DEPTH_MARK, EGOMOTION_MARK = 'upconv7.0.weight', 'pose_pred.weight'


def import_sfmlearner_pytorch(sources):
    """
    Return a model of the port's networks.

    Parameters
    ----------
    sources : sequence of Source
        Files of the depth network and of the ego-motion network, in any order.

    Returns
    -------
    Imported

    Raises
    ------
    WeightsError
        When a tensor is missing, of another shape or type, or not finite.

    """
    account = Account(sources)
    # Without it the nearest name is told.
    parts = {'depth': _depth(first_with(sources, DEPTH_MARK) or sources[0])}
    source = first_with(sources, EGOMOTION_MARK)
    if source is not None:
        parts['egomotion'] = _egomotion(source)
    account.sentences.append('as published: the paddings and the enlargement of the port, which '
                             'differ from those of the original')
    return assemble(account, parts, SYSTEM, False,
                    preprocessing=replace(PREPROCESSING, interpolation='bilinear'))


def _plan(network, names):
    """Return where the weights of layers are: one for each of ours, of the same shape."""
    plan = {}
    for path, name in names.items():
        layer = network.get_submodule(path)
        if isinstance(layer, nn.Sequential):
            path, layer = f'{path}.0', layer[0]
        for kind in ('weight', 'bias'):
            plan[f'{path}.{kind}'] = Wanted(f'{name}.{kind}', tuple(getattr(layer, kind).shape))
    return plan


def _depth(source):
    """Return the depth network in a file."""
    arguments = {'form': 'sfmlearner_pytorch'}
    with torch.device('meta'):
        network = DispNetVGG(**arguments)
    names = {}
    for i in range(len(ENCODER)):
        names[f'encoder.{i}.0'], names[f'encoder.{i}.1'] = f'conv{i + 1}.0', f'conv{i + 1}.2'
    for i, level in enumerate(range(len(DECODER), 0, -1)):
        names[f'up.{i}'], names[f'merge.{i}'] = f'upconv{level}.0', f'iconv{level}.0'
        if level <= COARSEST:
            names[f'predict.{COARSEST - level}'] = f'predict_disp{level}.0'
    return Part(source, 'dispnet_vgg', arguments, network, _plan(network, names),
                'depth by DispNetS')


def _egomotion(source):
    """Return the ego-motion network in a file."""
    n = neighbours(source, 'conv1.0.weight', 1) if 'conv1.0.weight' in source.arrays else 2
    arguments = {'sources': n, 'even_padding': True}
    with torch.device('meta'):
        network = EgoMotionNet(**arguments)
    names = {**{f'encoder.{i}': f'conv{i + 1}.0' for i in range(5)},
             'pose.0': 'conv6.0', 'pose.1': 'conv7.0', 'pose.2': 'pose_pred'}
    return Part(source, 'egomotion', arguments, network, _plan(network, names),
                f'motion from snippets of {n + 1} frames')
