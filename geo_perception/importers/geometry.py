# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Model files for depth, motion and flow out of published networks."""

from dataclasses import dataclass
from typing import Dict, Optional

from torch import nn

from geo_perception.importers.mapping import take, Wanted
from geo_perception.importers.sources import Source
from geo_perception.model_file import Metadata
from geo_perception.preprocessing import Preprocessing

LARGEST_SNIPPET = 99
# How SfMLearner and GeoNet measure depth: Pillow's Lanczos to 416x128 whatever the aspect, then
# [-1, 1] (sfmlearner.md 1.4 rule 9 and 6.1).
PREPROCESSING = Preprocessing(128, (128, 416), interpolation='lanczos', mean=(127.5,) * 3,
                              std=(127.5,) * 3, stretch=True)


@dataclass(frozen=True)
class Part:
    """
    One network of a model.

    Attributes
    ----------
    source : Source
        Where its weights are.
    architecture : str
        Its name.
    arguments : dict
        What builds it.
    network : torch.nn.Module
        Built, on the ``meta`` device.
    plan : dict of str to Wanted
        Where its weights are in the file.
    words : str
        What it is, for a person.

    """

    source: Source
    architecture: str
    arguments: Dict
    network: nn.Module
    plan: Dict[str, Wanted]
    words: str


def assemble(account, parts, system, corrected, normalise_disparity=False,
             flow_border: Optional[str] = None, preprocessing=PREPROCESSING):
    """
    Return a model of several networks, all of whose weights are there.

    Parameters
    ----------
    account : Account
        Of this import.
    parts : dict of str to Part
        ``depth``, and ``egomotion`` and ``flow`` where there are such.
    system : str
        Name of the published system.
    corrected : bool
        Whether known bugs were left out, for the record.
    normalise_disparity : bool
        Whether disparity is divided by its mean.
    flow_border : str, optional
        Of the sampler that makes the input of the flow network.
    preprocessing : Preprocessing
        From camera image to network input.

    Returns
    -------
    Imported

    Raises
    ------
    WeightsError
        When a variable is missing, of another shape or type, or not finite.

    """
    tensors = {}
    for name, part in parts.items():
        weights = take(part.source, part.plan, part.network)
        tensors.update({f'network.{name}.{ours}': array for ours, array in weights.items()})
        account.take(part.source, part.plan, part.words)
    arguments = {'depth': parts['depth'].arguments, 'normalise_disparity': normalise_disparity}
    data = {'published': system, 'behaviour': 'corrected' if corrected else 'as published'}
    if 'egomotion' in parts:
        arguments.update(egomotion_name='network', egomotion=parts['egomotion'].arguments)
        data['length'] = parts['egomotion'].arguments['sources'] + 1
    else:
        arguments.update(egomotion_name='direct', egomotion={'sources': 2})
        account.sentences.append('no ego-motion network is in the files: motion is found by '
                                 'aligning images through the depth')
    if 'flow' in parts:
        arguments.update(flow_name=parts['flow'].architecture, flow=parts['flow'].arguments,
                         flow_border=flow_border)
    return account.close(Metadata(
        job='geometry', architecture=parts['depth'].architecture, arguments=arguments,
        preprocessing=preprocessing, rotation='euler_xyz', world_frame='odom', data=data),
        tensors)


def neighbours(source, name, axis):
    """
    Return how many neighbours an ego-motion network sees, from its first convolution.

    Parameters
    ----------
    source : Source
        The file.
    name : str
        Of the weights of that convolution.
    axis : int
        Of its axes that of the input, whose channels are three for the target and each neighbour.

    Returns
    -------
    int
        2 or more; what does not fit is noticed when shapes are compared.

    """
    shape = source.arrays[name].shape
    channels = shape[axis] if len(shape) == 4 else 0
    return min(max(channels // 3 - 1, 2), LARGEST_SNIPPET - 1)
