# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The networks of Monodepth, from their TensorFlow variables (monodepth.md section 6)."""

import torch

from geo_perception.errors import ConfigurationError, WeightsError
from geo_perception.importers.imported import Account
from geo_perception.importers.mapping import take, tensorflow_layers
from geo_perception.importers.slim_layers import decoder_paths, numbered, residual_paths
from geo_perception.model_file import Metadata, TrainingCamera
from geo_perception.networks.monodepth import (
    MonodepthResNet50, MonodepthVGG, RESNET_DECODER, RESNET_ENCODER, SCALES, VGG_DECODER,
    VGG_ENCODER)
from geo_perception.preprocessing import Preprocessing

SYSTEM = 'monodepth'
ENCODER, DECODER = 'model/encoder', 'model/decoder'
START = f'{ENCODER}/Conv/weights'
# Channels of the first convolution tell the encoders apart.
RESNET_START = 64
SIZE = 256, 512
# As TensorFlow resizes by area, whatever the aspect; [0, 1] (monodepth.md section 10).
PREPROCESSING = Preprocessing(min(SIZE), SIZE, interpolation='area', mean=(0.0,) * 3,
                              std=(255.0,) * 3, stretch=True)
# What the variables do not tell: cameras and baselines of the published training, metres
# (monodepth.md section 12.2). Cityscapes without the rows of the bonnet.
RIGS = {'kitti': (TrainingCamera(1242, 375, 721.5377, 721.5377, 609.5593, 172.854), 0.54),
        'cityscapes': (TrainingCamera(2048, 819, 2262.0, 2262.0, 1023.5, 511.5), 0.22)}
# By the calibration of that camera.
KITTI_BASELINE = 0.53273


def import_monodepth(sources, rig='kitti', camera=None, baseline=None, corrected=False):
    """
    Return a model of Monodepth's network.

    Parameters
    ----------
    sources : sequence of Source
        One file; the encoder is found from its variables.
    rig : str
        ``kitti`` or ``cityscapes``, which the network saw last; what follows replaces it.
    camera : sequence of float, optional
        Left camera of another rig: width, height, fx, fy, cx, cy, pixels.
    baseline : float, optional
        Of that rig, metres.
    corrected : bool
        Leave known bugs of the published behaviour out.

    Returns
    -------
    Imported

    Raises
    ------
    WeightsError
        When a variable is missing, of another shape or type, or not finite.
    ConfigurationError
        When the rig is none.

    """
    account = Account(sources)
    source, = sources
    architecture, network, scopes, words = _network(source)
    plan = tensorflow_layers(network, scopes)
    weights = take(source, plan, network)
    account.take(source, plan, words)
    own = camera is not None or baseline is not None
    trained, metres = _own_rig(camera, baseline) if own else RIGS[rig]
    if corrected and rig == 'kitti' and not own:
        metres = KITTI_BASELINE
        account.sentences.append(f'corrected: the baseline is {metres} m, as calibrated, where '
                                 'the published evaluation takes 0.54 m')
    elif corrected:
        account.sentences.append('corrected: nothing, for the other known bugs of Monodepth '
                                 '(smoothness along rows alone) are in its training')
    account.sentences.append(
        f'metres are those of {"your rig" if own else rig.capitalize()}: a baseline of '
        f'{metres:g} m and a focal length of {trained.fx / trained.width:.3f} widths; the '
        'variables do not tell' + ('' if own else ' (--rig, or --camera and --baseline)'))
    account.sentences.append('as published: images of 512x256 whatever the aspect, resized by '
                             'area, and one pass; with post-processing it is "pp" of the paper')
    return account.close(Metadata(
        job='stereo_depth', architecture=architecture, arguments={'network': {}},
        preprocessing=PREPROCESSING, rotation='', world_frame='', training_camera=trained,
        calibration={'reach': metres * trained.fx / trained.width},
        data={'published': SYSTEM, 'behaviour': 'corrected' if corrected else 'as published',
              'rig': 'own' if own else rig}),
        {f'network.{name}': array for name, array in weights.items()})


def _own_rig(camera, baseline):
    """Return camera and baseline of another rig."""
    if camera is None or baseline is None:
        raise ConfigurationError('another rig needs both --camera and --baseline')
    width, height, fx, fy, cx, cy = camera
    if not (width >= 1 and height >= 1 and fx > 0 and fy > 0 and baseline > 0):
        raise ConfigurationError(f'camera {list(camera)} and baseline {baseline:g} are no rig: '
                                 'width, height, fx, fy and the baseline are above zero')
    return TrainingCamera(int(width), int(height), fx, fy, cx, cy), baseline


def _network(source):
    """Return name, network, scopes by path, and words of what is in a file."""
    shape = source.arrays[START].shape if START in source.arrays else ()
    if shape[2:3] == (6,):
        raise WeightsError(f'{source.path} holds the network that sees both eyes '
                           '(model_kitti_stereo), which is not run here; import one that sees '
                           'the left eye')
    transposed = f'{DECODER}/Conv2d_transpose/weights'
    if transposed in source.arrays:
        raise WeightsError(f'{source.path} was trained with transposed convolutions '
                           f'({transposed}), which no published weights have and which are not '
                           'run here')
    if shape[3:] == (RESNET_START,):
        name, build, words = 'monodepth_resnet50', MonodepthResNet50, 'the ResNet-50 encoder'
        encoder = residual_paths(repeats for repeats, _ in RESNET_ENCODER)
        decoder = decoder_paths(len(RESNET_DECODER), SCALES)
    else:
        name, build, words = 'monodepth_vgg', MonodepthVGG, 'the VGG encoder'
        encoder = [f'encoder.stages.{i}.{j}' for i in range(len(VGG_ENCODER)) for j in (0, 1)]
        decoder = decoder_paths(len(VGG_DECODER), SCALES)
    with torch.device('meta'):
        network = build()
    scopes = {**numbered(ENCODER, encoder), **numbered(DECODER, decoder)}
    return name, network, scopes, f'depth by Monodepth with {words}'
