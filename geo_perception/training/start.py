# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Beginning a training with weights from elsewhere: a run, a model file, a pretrained trunk."""

import logging
from pathlib import Path

import torch

from geo_perception.errors import ConfigurationError
from geo_perception.model_file import load_model_file
from geo_perception.training.checkpoint import CONTENT_KEY, read_checkpoint

_PREFIX = 'network.'

log = logging.getLogger(__name__)


def begin_with(module, path, architecture):
    """
    Take weights into a module: all that the file has must fit; what it lacks stays as it is.

    Parameters
    ----------
    module : torch.nn.Module
        What is trained.
    path : str
        Checkpoint (.ckpt), model file or what ``geo_perception import backbone`` made
        (.safetensors).
    architecture : str
        Name of the network.

    Returns
    -------
    bool
        Whether all parameters were taken, so that the module is a trained one.

    Raises
    ------
    ConfigurationError
        When the file is of another network.
    ModelFileError
        When it is missing or damaged.

    """
    own = {name: value for name, value in module.state_dict().items()
           if not name.startswith('loss.')}
    if Path(path).suffix == '.safetensors':
        model = load_model_file(path)
        found = model.metadata.architecture
        weights = {name: torch.from_numpy(value) for name, value in model.weights().items()}
        # A module with one network has it under that name, one with several under theirs.
        if any(name.startswith(_PREFIX) for name in own):
            weights = {_PREFIX + name: value for name, value in weights.items()}
    else:
        content = read_checkpoint(path)
        found = content[CONTENT_KEY]['metadata'].get('architecture')
        weights, model = content['state_dict'], None
    if found != architecture:
        raise ConfigurationError(f'{path} is of another network than {architecture}: of {found}; '
                                 'name that one, or another file')
    # What only some trainings have: flow, weights of a loss.
    networks = {name.split('.', 1)[0] for name in own}
    weights = {name: value for name, value in weights.items()
               if name.split('.', 1)[0] in networks}
    wrong = sorted(name for name, value in weights.items()
                   if name not in own or own[name].shape != value.shape)
    if wrong or not weights:
        reason = (f'{wrong[0]} has the shape {tuple(weights[wrong[0]].shape)} there' if wrong
                  else 'it has none of the weights')
        raise ConfigurationError(f'{path} is of another network than {architecture} as it is '
                                 f'configured ({reason}); set architecture, arguments, rotation '
                                 'and crop as for that file')
    if model is not None:
        _check_preprocessing(module, model)
    module.load_state_dict(weights, strict=False)
    unused = tuple(f'{name}.{part}' for name, child in module.named_children()
                   for part in getattr(child, 'training_only', ()))
    fresh = [name for name, _ in module.named_parameters()
             if name in own and name not in weights and not name.startswith(unused)]
    if fresh:
        log.warning('%s: %d weights were taken, %d others begin as usual, from %s on', path,
                    len(weights), len(fresh), fresh[0])
    return not fresh


def _check_preprocessing(module, model):
    """Warn where images are given to the network in other numbers than the weights want."""
    ours, theirs = module.preprocessing, model.metadata.preprocessing
    if (ours.channel_order, tuple(ours.std)) != (theirs.channel_order, tuple(theirs.std)):
        log.warning('%s is for images in %s divided by %s, the configuration has %s divided by '
                    '%s: the first layer will see other numbers than it knows', model.path,
                    theirs.channel_order, list(theirs.std), ours.channel_order, list(ours.std))
