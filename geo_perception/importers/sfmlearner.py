# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The networks of SfMLearner, from their TensorFlow variables (sfmlearner.md appendix A)."""

import torch

from geo_perception.errors import WeightsError
from geo_perception.importers.geometry import assemble, neighbours, Part
from geo_perception.importers.imported import Account, first_with
from geo_perception.importers.mapping import tensorflow_layers
from geo_perception.networks.dispnet import COARSEST, DECODER, DispNetVGG, ENCODER
from geo_perception.networks.egomotion import EgoMotionNet, MASK_DECODER

SYSTEM = 'sfmlearner'
DEPTH, EGOMOTION = 'depth_net', 'pose_exp_net'
DEPTH_START, EGOMOTION_START = f'{DEPTH}/cnv1/weights', f'{EGOMOTION}/cnv1/weights'


def import_sfmlearner(sources, corrected=False):
    """
    Return a model of SfMLearner's networks.

    Batch norm (first release), snippet length and mask decoder are found from the variables.

    Parameters
    ----------
    sources : sequence of Source
        Files; each network is taken from the first that has it.
    corrected : bool
        Leave known bugs of the published behaviour out.

    Returns
    -------
    Imported

    Raises
    ------
    WeightsError
        When a variable is missing, of another shape or type, or not finite.

    """
    account = Account(sources)
    source = first_with(sources, DEPTH_START)
    if source is None:
        # Names the nearest one.
        source = sources[0]
    parts = {'depth': _depth(source)}
    source = first_with(sources, EGOMOTION_START)
    if source is not None:
        parts['egomotion'] = _egomotion(source)
    elif any(name.startswith(f'{EGOMOTION}/') for source in sources for name in source.arrays):
        raise WeightsError(f'{sources[0].path} has variables of {EGOMOTION}, but not '
                           f'{EGOMOTION_START}')
    if corrected:
        account.sentences.append(
            'corrected: nothing, for all known bugs of SfMLearner (samples beyond the border, '
            'intrinsics of the pyramid) are in its training, none in what the networks compute')
    return assemble(account, parts, SYSTEM, corrected)


def _depth(source):
    """Return the depth network in a file."""
    arguments = {'form': 'sfmlearner', **_batch_norm(source, f'{DEPTH}/cnv1')}
    with torch.device('meta'):
        network = DispNetVGG(**arguments)
    scopes = {}
    for i in range(len(ENCODER)):
        scopes[f'encoder.{i}.0'] = f'{DEPTH}/cnv{i + 1}'
        scopes[f'encoder.{i}.1'] = f'{DEPTH}/cnv{i + 1}b'
    for i, level in enumerate(range(len(DECODER), 0, -1)):
        scopes[f'up.{i}'] = f'{DEPTH}/upcnv{level}'
        scopes[f'merge.{i}'] = f'{DEPTH}/icnv{level}'
        if level <= COARSEST:
            scopes[f'predict.{COARSEST - level}'] = f'{DEPTH}/disp{level}'
    return Part(source, 'dispnet_vgg', arguments, network, tensorflow_layers(network, scopes),
                'depth by DispNet' + (', with batch norm' if arguments['batch_norm'] else ''))


def _egomotion(source):
    """Return the ego-motion network in a file, with the mask decoder if that has it."""
    n = neighbours(source, EGOMOTION_START, 2)
    explainability = any(name.startswith(f'{EGOMOTION}/exp/') for name in source.arrays)
    arguments = {'sources': n, 'explainability': explainability,
                 **_batch_norm(source, f'{EGOMOTION}/cnv1')}
    with torch.device('meta'):
        network = EgoMotionNet(**arguments)
    scopes = {f'encoder.{i}': f'{EGOMOTION}/cnv{i + 1}' for i in range(5)}
    scopes.update({'pose.0': f'{EGOMOTION}/pose/cnv6', 'pose.1': f'{EGOMOTION}/pose/cnv7',
                   'pose.2': f'{EGOMOTION}/pose/pred'})
    if explainability:
        for i, level in enumerate(range(len(MASK_DECODER), 0, -1)):
            scopes[f'up.{i}'] = f'{EGOMOTION}/exp/upcnv{level}'
            if i > 0:
                scopes[f'mask.{i - 1}'] = f'{EGOMOTION}/exp/mask{level}'
    words = f'motion from snippets of {n + 1} frames' + (
        ', with explainability masks' if explainability else '') + (
        ', with batch norm' if arguments['batch_norm'] else '')
    return Part(source, 'egomotion', arguments, network, tensorflow_layers(network, scopes), words)


def _batch_norm(source, scope):
    """Return whether the first release wrote a network, which had batch norm and no biases."""
    return {'batch_norm': f'{scope}/BatchNorm/beta' in source.arrays}
