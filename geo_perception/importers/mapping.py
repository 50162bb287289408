# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""From the variables of a file to the weights of a network: all of them, or none."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Dict, Optional, Tuple

import numpy as np
from torch import nn

from geo_perception.errors import WeightsError
from geo_perception.importers.stored import KINDS
from geo_perception.networks.layers import SlimBatchNorm2d

# From HWIO to OIHW, and from a transposed convolution's HWOI to IOHW (sfmlearner.md 1.4, rule 3).
FROM_TENSORFLOW = (3, 2, 0, 1)


@dataclass(frozen=True)
class Wanted:
    """
    What a weight of ours is in a file.

    Attributes
    ----------
    name : str
        Of the variable.
    shape : tuple of int
        In the layout of the file.
    axes : tuple of int, optional
        Order of its axes in ours; None where it is the same.
    flat : tuple of int, optional
        ``shape`` as it is before it is turned, where axes were put together.

    """

    name: str
    shape: Tuple[int, ...]
    axes: Optional[Tuple[int, ...]] = None
    flat: Optional[Tuple[int, ...]] = None


def tensorflow_layers(network, scopes):
    """
    Return where TensorFlow keeps the weights of layers of a network.

    Parameters
    ----------
    network : torch.nn.Module
        It may be on the ``meta`` device.
    scopes : dict of str to str
        Scope of the variables by the path of the module: a convolution, or a `Block` with one.

    Returns
    -------
    dict of str to Wanted
        By the name of the weight in the state of the network.

    """
    plan = {}
    for path, scope in scopes.items():
        module = network.get_submodule(path)
        layers = {path: module}
        if isinstance(module, nn.Sequential):
            layers = {f'{path}.{name}': layer for name, layer in module.named_children()}
        for name, layer in layers.items():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                plan[f'{name}.weight'] = turned(f'{scope}/weights', layer.weight.shape)
                if layer.bias is not None:
                    plan[f'{name}.bias'] = Wanted(f'{scope}/biases', tuple(layer.bias.shape))
            elif isinstance(layer, SlimBatchNorm2d):
                shape = tuple(layer.bias.shape)
                for ours, theirs in (('bias', 'beta'), ('running_mean', 'moving_mean'),
                                     ('running_var', 'moving_variance')):
                    plan[f'{name}.{ours}'] = Wanted(f'{scope}/BatchNorm/{theirs}', shape)
    return plan


def turned(name, shape):
    """
    Return the weights of a convolution, which TensorFlow keeps in its own order.

    Parameters
    ----------
    name : str
        Of the variable.
    shape : sequence of int
        Of ours: OIHW, or IOHW for a transposed one.

    Returns
    -------
    Wanted

    """
    return Wanted(name, tuple(shape[axis] for axis in (2, 3, 1, 0)), FROM_TENSORFLOW)


def take(source, plan, network, left_out=()):
    """
    Return the weights of a network from a file.

    Parameters
    ----------
    source : Source
        The file.
    plan : dict of str to Wanted
        Every weight of the network but those of ``left_out``.
    network : torch.nn.Module
        On any device; only its names and shapes count.
    left_out : tuple of str
        What the names of weights begin with that may be missing in the plan.

    Returns
    -------
    dict of str to np.ndarray
        float32, by the names in the state of the network.

    Raises
    ------
    WeightsError
        When a variable is missing, of another shape or type, or not finite.

    """
    # Everything is compared before anything is read.
    for wanted in plan.values():
        _check(source, wanted)
    state: Dict[str, np.ndarray] = {}
    for name, parameter in network.state_dict().items():
        if name not in plan:
            if name.startswith(tuple(left_out)):
                continue
            # Batches that were seen in training: no weight.
            assert name.endswith('num_batches_tracked'), name
            state[name] = np.zeros((), np.int64)
            continue
        state[name] = _read(source, plan[name], parameter.shape)
    return state


def read_whole(source, wanted, shape):
    """
    Return one weight from a file.

    Parameters
    ----------
    source : Source
        The file.
    wanted : Wanted
        What it is there.
    shape : sequence of int
        Of ours.

    Returns
    -------
    np.ndarray
        float32.

    Raises
    ------
    WeightsError
        When it is missing, of another shape or type, or not finite.

    """
    _check(source, wanted)
    return _read(source, wanted, shape)


def _read(source, wanted, shape):
    """Return one weight from a file, in our layout."""
    array = source.arrays[wanted.name].load()
    if wanted.flat is not None:
        array = array.reshape(wanted.flat)
    if wanted.axes is not None:
        array = array.transpose(wanted.axes)
    array = np.array(array, np.float32, order='C').reshape(tuple(shape))
    if not np.isfinite(array).all():
        raise WeightsError(f'variable {wanted.name} in {source.path} holds a NaN or infinite '
                           'number: the training that wrote it had failed')
    return array


def _check(source, wanted):
    """Refuse a variable that is missing or not what is wanted."""
    array = source.arrays.get(wanted.name)
    if array is None:
        near = get_close_matches(wanted.name, source.arrays, 20, 0.0)
        # Of similar names the one of this shape, for it may be this variable in another scope.
        near.sort(key=lambda name: source.arrays[name].shape != wanted.shape)
        nearest = (f'the nearest name in it is {near[0]} of shape {source.arrays[near[0]].shape}'
                   if near else 'it is empty')
        raise WeightsError(f'variable {wanted.name} of shape {wanted.shape} is missing in '
                           f'{source.path}; {nearest}')
    if array.shape != wanted.shape:
        raise WeightsError(f'variable {wanted.name} in {source.path} has the shape '
                           f'{array.shape}, expected {wanted.shape}')
    if array.kind not in KINDS:
        raise WeightsError(f'variable {wanted.name} in {source.path} is of type {array.kind}, '
                           'expected float32')
