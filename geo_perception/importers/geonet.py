# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The networks of GeoNet, from their TensorFlow variables (geonet.md appendix B)."""

import torch

from geo_perception.errors import WeightsError
from geo_perception.importers.geometry import assemble, neighbours, Part
from geo_perception.importers.imported import Account, first_with
from geo_perception.importers.mapping import tensorflow_layers
from geo_perception.importers.slim_layers import decoder_paths, numbered, residual_paths
from geo_perception.networks.dispnet import COARSEST, DECODER, DispNetVGG, ENCODER
from geo_perception.networks.dispnet_resnet import DECODER as RESNET_DECODER
from geo_perception.networks.dispnet_resnet import DispNetResNet50, STAGES
from geo_perception.networks.egomotion import EgoMotionNet
from geo_perception.networks.resflownet import INPUTS, ResFlowNet

SYSTEM = 'geonet'
DEPTH, EGOMOTION, FLOW = 'depth_net', 'pose_net', 'flow_net'
# Channels of the first convolution tell the encoders apart.
VGG_START = 32
RESNET_PATHS = (residual_paths(repeats for repeats, _ in STAGES)
                + decoder_paths(len(RESNET_DECODER), COARSEST))


def import_geonet(sources, corrected=False, scale_normalize=False):
    """
    Return a model of GeoNet's networks.

    Encoder, snippet length and variant of the flow network are found from the variables.

    Parameters
    ----------
    sources : sequence of Source
        Files; each network is taken from the first that has it.
    corrected : bool
        Leave known bugs of the published behaviour out.
    scale_normalize : bool
        The flag of that name was set in training, which nothing in the variables tells.

    Returns
    -------
    Imported

    Raises
    ------
    WeightsError
        When a variable is missing, of another shape or type, or not finite.

    """
    account = Account(sources)
    builders = {'depth': (DEPTH, _depth), 'egomotion': (EGOMOTION, _egomotion),
                'flow': (FLOW, _flow)}
    parts = {}
    for name, (scope, build) in builders.items():
        source = first_with(sources, f'{scope}/Conv/weights')
        if source is not None:
            parts[name] = build(source)
        elif any(key.startswith(f'{scope}/') for source in sources for key in source.arrays):
            raise WeightsError(f'{sources[0].path} has variables of {scope}, but not '
                               f'{scope}/Conv/weights')
    if 'depth' not in parts:
        if 'flow' in parts:
            raise WeightsError(f'{sources[0].path} holds flow alone, and what a model tells of '
                               'flow needs depth and motion as well; name a checkpoint with '
                               f'{DEPTH} and {EGOMOTION} after it')
        # Names the nearest variable.
        parts['depth'] = _depth(sources[0])
    if len({part.source.path for part in parts.values()}) > 1:
        account.sentences.append('the networks come from several files: rigid flow is right only '
                                 'if depth and motion are of one training')
    border = None
    if 'flow' in parts:
        border = 'inclusive' if corrected else 'published'
        account.sentences.append(
            'corrected: flow to the last row and column of an image counts as seen there'
            if corrected else
            'as published: flow to the last row and column of an image counts as out of sight')
    elif corrected:
        account.sentences.append(
            'corrected: nothing, for the known bugs of depth and motion (samples beyond the '
            'border, intrinsics of the pyramid) are in the training, not in what the networks '
            'compute')
    return assemble(account, parts, SYSTEM, corrected, scale_normalize, border)


def _depth(source):
    """Return the depth network in a file."""
    start = source.arrays.get(f'{DEPTH}/Conv/weights')
    if start is not None and start.shape[-1:] == (VGG_START,):
        architecture, arguments = 'dispnet_vgg', {'form': 'geonet'}
        paths = [f'encoder.{i}.{j}' for i in range(len(ENCODER)) for j in (0, 1)]
        paths += decoder_paths(len(DECODER), COARSEST)
        words = 'depth by DepthNet with the VGG encoder'
        with torch.device('meta'):
            network = DispNetVGG(**arguments)
    else:
        architecture, arguments, paths = 'dispnet_resnet50', {}, RESNET_PATHS
        words = 'depth by DepthNet with the ResNet-50 encoder'
        with torch.device('meta'):
            network = DispNetResNet50()
    return Part(source, architecture, arguments, network,
                tensorflow_layers(network, numbered(DEPTH, paths)), words)


def _egomotion(source):
    """Return the ego-motion network in a file."""
    n = neighbours(source, f'{EGOMOTION}/Conv/weights', 2)
    arguments = {'sources': n, 'batch_norm': True}
    with torch.device('meta'):
        network = EgoMotionNet(**arguments)
    paths = [*(f'encoder.{i}' for i in range(5)), *(f'pose.{i}' for i in range(3))]
    return Part(source, 'egomotion', arguments, network,
                tensorflow_layers(network, numbered(EGOMOTION, paths)),
                f'motion from snippets of {n + 1} frames')


def _flow(source):
    """Return the flow network in a file."""
    shape = source.arrays[f'{FLOW}/Conv/weights'].shape
    variant = 'direct' if shape[2:3] == (INPUTS['direct'],) else 'residual'
    arguments = {'variant': variant}
    with torch.device('meta'):
        network = ResFlowNet(**arguments)
    words = {'direct': 'flow from two images (direct)',
             'residual': 'flow beside rigid flow (residual)'}[variant]
    return Part(source, 'resflownet', arguments, network,
                tensorflow_layers(network, numbered(FLOW, RESNET_PATHS)), words)
