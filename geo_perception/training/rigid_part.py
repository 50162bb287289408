# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What stage 2 starts from: the depth and ego-motion of a finished training or a model file."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Dict, Tuple

import torch

from geo_perception.errors import ConfigurationError, ModelFileError
from geo_perception.inference.geometry_model import JOB
from geo_perception.model_file import load_model_file, Metadata, metadata_from_dict
from geo_perception.networks.egomotion import EgoMotionNet
from geo_perception.training.checkpoint import CONTENT_KEY, read_checkpoint

# Of flow, which stage 2 says anew.
FLOW_ENTRIES = ('flow_name', 'flow', 'flow_border')


@dataclass(frozen=True)
class RigidPart:
    """
    Networks that were trained before.

    Attributes
    ----------
    path : str
        Where they come from.
    metadata : Metadata
        Header, without what is said about flow.
    weights : dict of str to torch.Tensor
        By ``depth.*`` and ``egomotion.*``, without what masks were made with.
    flow : tuple of str, dict
        Name and arguments of its flow network, ``('', {})`` without one.
    flow_weights : dict of str to torch.Tensor
        By ``flow.*``, empty without one.

    """

    path: str
    metadata: Metadata
    weights: Dict[str, torch.Tensor]
    flow: Tuple[str, Dict] = ('', {})
    flow_weights: Dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def sources(self):
        """Neighbours of the target in its snippets."""
        return self.metadata.arguments['egomotion']['sources']


def read_rigid_part(path):
    """
    Read depth and ego-motion from a checkpoint or a model file.

    Parameters
    ----------
    path : str
        ``.ckpt`` of "train geonet" or "train sfmlearner", or a model file for geometry.

    Returns
    -------
    RigidPart

    Raises
    ------
    ConfigurationError
        When no file is named.
    ModelFileError
        When it is missing, damaged, of another program or for another job.

    """
    if not path:
        raise ConfigurationError('--stage flow begins with trained depth and ego-motion; give '
                                 'their checkpoint or model file: --init best.ckpt')
    if Path(path).suffix == '.safetensors':
        model = load_model_file(path, JOB)
        metadata = model.metadata
        weights = {name: torch.from_numpy(value) for name, value in model.weights().items()}
    else:
        content = read_checkpoint(path)
        header = content[CONTENT_KEY]['metadata']
        if header.get('job') != JOB:
            raise ModelFileError(f'{path} is for {header.get("job")}, and flow begins with depth '
                                 'and ego-motion; give a checkpoint of "train geonet"')
        metadata = metadata_from_dict(header, None, path)
        weights = content['state_dict']
    arguments = {name: value for name, value in metadata.arguments.items()
                 if name not in FLOW_ENTRIES}
    if not {'depth', 'egomotion'} <= arguments.keys() or 'sources' not in arguments['egomotion']:
        raise ModelFileError(f'{path} does not say how its depth and ego-motion networks are '
                             'built; train it again with "train geonet"')
    arguments['egomotion'] = {name: value for name, value in arguments['egomotion'].items()
                              if name != 'explainability'}
    unused = tuple(f'egomotion.{part}' for part in EgoMotionNet.training_only)
    flow = {name: value for name, value in weights.items() if name.startswith('flow.')}
    kind = metadata.arguments.get('flow_name', ''), dict(metadata.arguments.get('flow', {}))
    weights = {name: value for name, value in weights.items()
               if name.startswith(('depth.', 'egomotion.')) and not name.startswith(unused)}
    return RigidPart(str(path), replace(metadata, arguments=arguments), weights, kind, flow)
