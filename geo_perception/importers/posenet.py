# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""PoseNet from the layers of its TensorFlow port (posenet.md section 4)."""

import torch
from torch import nn

from geo_perception.errors import WeightsError
from geo_perception.importers.imported import Account
from geo_perception.importers.mapping import FROM_TENSORFLOW, take, turned, Wanted
from geo_perception.model_file import Metadata
from geo_perception.networks.posenet import PoseNet
from geo_perception.preprocessing import Preprocessing

SYSTEM = 'posenet'
# Left and top of what its TensorFlow port calls the centre of 455x256 (posenet.md section 7).
PORT_OFFSET = 87, 0
# Height, width and channels of the map that the hidden layers of the auxiliary heads follow:
# TensorFlow flattens it in this order, PyTorch channels first.
AUXILIARY_MAP = (4, 4, 128)
AUXILIARY_HEADS = ('cls1', 'cls2')
# Blue, green, red: what networks of this kind were pretrained with.
IMAGENET_MEAN = (104.0, 117.0, 123.0)
# What is known of the errors of an imported network: those of the literature outdoors, metres and
# radians (posenet.md section 9.1).
CALIBRATION = {'floor_position': 2.0, 'floor_rotation': 0.12}


def import_posenet(sources, mean=None, mean_image=None, padding='auto', world_frame='map',
                   corrected=False):
    """
    Return a model of PoseNet.

    Parameters
    ----------
    sources : sequence of Source
        One file.
    mean : sequence of float, optional
        Of the training images, 0..255, blue, green, red.
    mean_image : np.ndarray, optional
        Instead of it, shape (256, W, 3), blue, green, red.
    padding : str
        Of the first layer, ``caffe`` or ``tf``; ``auto``: ``tf`` for a TensorFlow checkpoint.
    world_frame : str
        Name of the frame of the poses.
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
        When the mean is none.

    """
    account = Account(sources)
    source, = sources
    if padding == 'auto':
        padding = 'tf' if source.kind == 'checkpoint' else 'caffe'
    arguments = {'conv1_padding': padding}
    with torch.device('meta'):
        network = PoseNet(**arguments)
    if 'conv1/weights' in source.arrays and not any(
            name.startswith('cls3_') for name in source.arrays):
        raise WeightsError(f'{source.path} holds a pretrained GoogLeNet without the layers that '
                           'answer with a pose (cls3_fc1_pose, cls3_fc_pose_xyz, '
                           'cls3_fc_pose_wpqr), so it was never trained on a scene; begin a '
                           'training with it ("import backbone", then "train relocalization '
                           '--init"), or import what came out of one')
    left_out = tuple(f'{head}.' for head in AUXILIARY_HEADS
                     if not any(name.startswith(f'{head}_') for name in source.arrays))
    plan = {name: wanted for name, wanted in posenet_plan(network).items()
            if not name.startswith(left_out)}
    weights = take(source, plan, network, left_out)
    account.take(source, plan, 'pose by PoseNet' + (
        '' if left_out else ', with both auxiliary heads'))
    if mean is None and mean_image is None:
        mean = IMAGENET_MEAN
        account.sentences.append('the mean of the training images is not in the file: that of '
                                 'ImageNet is taken, and poses are worse than published until '
                                 'the right one is given (--mean, --mean_image)')
    offset = PORT_OFFSET if padding == 'tf' and not corrected else None
    where = 'the centre' if offset is None else 'rows from 0 and columns from 87 on'
    account.sentences.append(f'as published: images of 256 pixels on the shorter side without '
                             f'antialiasing, {where} of them, BGR, padding of {padding}')
    if padding == 'tf':
        account.sentences.append('the port to TensorFlow was trained without dropout: take '
                                 '--samples 0, for samples tell nothing')
    if corrected:
        account.sentences.append(
            'corrected: images are cropped at their centre, where the port to TensorFlow crops '
            'rows from 0 and columns from 87 on (trained and tested)' if padding == 'tf' else
            'corrected: nothing, for the known bugs are those of the port to TensorFlow')
    account.sentences.append('the covariance is not calibrated: its floor is the usual error in '
                             'the literature, 2 m and 7 degrees')
    preprocessing = Preprocessing(256, (224, 224), 'linear', 'bgr', tuple(mean or (0.0,) * 3),
                                  mean_image=mean_image, offset=offset)
    return account.close(Metadata(
        job='relocalization', architecture='posenet', arguments=arguments,
        preprocessing=preprocessing, rotation='quaternion', world_frame=world_frame,
        calibration=dict(CALIBRATION),
        data={'published': SYSTEM, 'behaviour': 'corrected' if corrected else 'as published'}),
        {f'network.{name}': array for name, array in weights.items()})


def posenet_plan(network):
    """
    Return where the weights of all layers are.

    Parameters
    ----------
    network : torch.nn.Module
        PoseNet, on any device.

    Returns
    -------
    dict of str to Wanted
        By the name of the weight.

    """
    plan = {}
    for path, layer in network.named_modules():
        scope = path.replace('.', '_')
        if isinstance(layer, nn.Conv2d):
            plan[f'{path}.weight'] = turned(f'{scope}/weights', layer.weight.shape)
        elif isinstance(layer, nn.Linear):
            n_out, n_in = layer.weight.shape
            after_map = scope in ('cls1_fc1_pose', 'cls2_fc1')
            plan[f'{path}.weight'] = Wanted(
                f'{scope}/weights', (n_in, n_out),
                FROM_TENSORFLOW if after_map else (1, 0),
                (*AUXILIARY_MAP, n_out) if after_map else None)
        else:
            continue
        plan[f'{path}.bias'] = Wanted(f'{scope}/biases', tuple(layer.bias.shape))
    return plan
