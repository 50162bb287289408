# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Beginning to learn depth and ego-motion with a network that was trained on stereo pairs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict

import torch

from geo_perception.errors import ConfigurationError
from geo_perception.inference.tape_scale import read_tape_scale
from geo_perception.inference.weights import stereo_rig
from geo_perception.model_file import load_model_file, metadata_from_dict
from geo_perception.networks.stereo import build_stereo_network, STEREO_NETWORKS
from geo_perception.training.checkpoint import CONTENT_KEY, read_checkpoint

# Which of them computes what a depth network does, but for the meaning of its output. The
# published ones have ELU and no batch norm, or strides elsewhere.
TWINS = {'monodepth_lite': 'dispnet_lite'}
_PREFIX = 'network.'


@dataclass(frozen=True)
class StereoStart:
    """
    A depth network in metres.

    Attributes
    ----------
    arguments : dict
        Of the depth network, so that its inverse depth is that of the stereo-trained one.
    weights : dict of str to torch.Tensor
        Its weights, all of them.

    """

    arguments: Dict
    weights: Dict[str, torch.Tensor]


def stereo_start(path, depth):
    """
    Return how a depth network begins with what was learned from stereo pairs.

    Disparity of the left eye in parts of the width, over its reach (focal length in parts of the
    width, times baseline), is inverse depth in 1/m: weights stay as they are, and the range of
    the output is divided by the reach. What the right eye sees is left out. The metres are right
    for cameras with the focal length that the stereo camera had.

    Parameters
    ----------
    path : str
        Checkpoint or model file.
    depth : str
        Name of the depth network.

    Returns
    -------
    StereoStart or None
        None where the file is not of stereo pairs.

    Raises
    ------
    ConfigurationError
        When the networks differ.
    ModelFileError
        When the file is missing, damaged, or does not say what its rig was.

    """
    factor = 1.0
    if Path(path).suffix == '.safetensors':
        model = load_model_file(path)
        metadata = model.metadata
        if metadata.job == 'stereo_depth':
            factor = read_tape_scale(model).factor
        weights = {name: torch.from_numpy(value) for name, value in model.weights().items()}
    else:
        content = read_checkpoint(path)
        metadata = metadata_from_dict(content[CONTENT_KEY]['metadata'], None, path)
        weights = {name[len(_PREFIX):]: value for name, value in content['state_dict'].items()
                   if name.startswith(_PREFIX)}
    found = metadata.architecture
    if found not in STEREO_NETWORKS:
        return None
    if TWINS.get(found) != depth:
        raise ConfigurationError(
            f'{path} was trained on stereo pairs with {found}, which computes otherwise than '
            f'{depth}; depth can begin with {", ".join(TWINS)} alone, as '
            f'{", ".join(TWINS.values())}: set model.depth')
    arguments, reach = stereo_rig(metadata, path)
    span = build_stereo_network(found, arguments).range
    # Of both eyes' maps the left one's.
    weights = {name: value[:1] if name.startswith('predict.') else value
               for name, value in weights.items()}
    return StereoStart({'width': arguments.get('width', 1.0),
                        'span': (span.largest - span.smallest) / (reach * factor),
                        'smallest': span.smallest / (reach * factor)}, weights)
