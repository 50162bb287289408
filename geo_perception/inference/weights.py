# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Building the networks of a model file, or saying in one sentence why that is impossible."""

import numpy as np
import torch

from geo_perception.errors import ConfigurationError, ModelFileError
from geo_perception.model_file import is_number

# Several times the largest published one.
_LARGEST_NETWORK = 300_000_000


def build_network(model, build, *arguments, **options):
    """
    Return a network, freshly initialised.

    Parameters
    ----------
    model : ModelFile
        Where the arguments come from, for messages.
    build : callable
        Returns the network.
    *arguments, **options
        What it is called with.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ModelFileError
        When it does not take these arguments, or images of the size that the file says.

    """
    try:
        # Without memory first: a header may ask for more than there is.
        with torch.device('meta'):
            size = sum(p.numel() for p in build(*arguments, **options).parameters())
        if size > _LARGEST_NETWORK:
            raise ConfigurationError(f'its header is of a network of {size} weights, where there '
                                     f'is none of more than {_LARGEST_NETWORK}')
        network = build(*arguments, **options)
    except (ConfigurationError, ArithmeticError, AttributeError, LookupError, RuntimeError,
            TypeError, ValueError) as error:
        raise ModelFileError(f'model file {model.path} cannot be used: '
                             f'{str(error).partition(chr(10))[0]}') from error
    multiple, (height, width) = getattr(network, 'multiple', 1), model.metadata.preprocessing.crop
    if height % multiple or width % multiple:
        raise ModelFileError(f'model file {model.path} crops images to {height}x{width}, its '
                             f'network takes multiples of {multiple}')
    return network


def stereo_rig(metadata, path):
    """
    Return what the header of a model for depth from stereo pairs says of network and rig.

    Parameters
    ----------
    metadata : Metadata
        The header.
    path : str or pathlib.Path
        Where it was read from, for messages.

    Returns
    -------
    arguments : dict
        Of the network.
    reach : float
        Depth at a disparity of the whole width with the training camera, metres.

    Raises
    ------
    ModelFileError
        When it does not say.

    """
    arguments, reach = metadata.arguments.get('network'), metadata.calibration.get('reach')
    if (not isinstance(arguments, dict) or metadata.training_camera is None
            or not is_number(reach) or reach <= 0):
        raise ModelFileError(f'{path} does not say how its network is built or which rig it was '
                             'trained with; export it again')
    return arguments, reach


def load_weights(network, model, scope=''):
    """
    Return a network with the weights of a model file, in evaluation mode.

    Parameters
    ----------
    network : torch.nn.Module
        Weights that its ``training_only`` names, if it has that, may be missing.
    model : ModelFile
        Where they are.
    scope : str
        What the names of its weights begin with in the file, e.g. ``depth.``.

    Returns
    -------
    torch.nn.Module
        The same network.

    Raises
    ------
    ModelFileError
        When a weight is missing, of another shape or not finite.

    """
    weights = {name[len(scope):]: value for name, value in model.weights().items()
               if name.startswith(scope)}
    optional = getattr(network, 'training_only', ())
    for name, parameter in network.state_dict().items():
        found = weights[name].shape if name in weights else None
        if found is None and name.startswith(optional):
            continue
        if found != tuple(parameter.shape):
            raise ModelFileError(
                f'model file {model.path} does not fit architecture '
                f'{model.metadata.architecture}: weight {scope}{name} should be '
                f'{tuple(parameter.shape)}, found {found}')
        if not np.isfinite(weights[name]).all():
            raise ModelFileError(f'model file {model.path} is of no use: weight {scope}{name} '
                                 'holds a NaN or infinite number')
    network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()},
                            strict=False)
    return network.eval()
