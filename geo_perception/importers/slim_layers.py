# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Layers that TensorFlow numbers in the order in which a published network made them."""


def numbered(scope, paths):
    """
    Return scopes of layers.

    Parameters
    ----------
    scope : str
        Of the network.
    paths : sequence of str
        Our layers, in the order in which theirs were made.

    Returns
    -------
    dict of str to str
        ``scope/Conv``, ``scope/Conv_1`` and so on, by path.

    """
    return {path: f'{scope}/Conv' + (f'_{i}' if i else '') for i, path in enumerate(paths)}


def decoder_paths(levels, coarsest):
    """
    Return the layers of a decoder in the order in which theirs were made.

    Parameters
    ----------
    levels : int
        How often it doubles the size.
    coarsest : int
        Level, counted from 1 at the finest, from which on it makes predictions.

    Returns
    -------
    list of str

    """
    paths = []
    for i, level in enumerate(range(levels, 0, -1)):
        paths += [f'up.{i}', f'merge.{i}']
        if level <= coarsest:
            paths.append(f'predict.{coarsest - level}')
    return paths


def residual_paths(repeats):
    """
    Return the layers of the published ResNet-50 encoders in the order in which theirs were made.

    Parameters
    ----------
    repeats : sequence of int
        Units of each group.

    Returns
    -------
    list of str

    """
    paths = ['encoder.stem']
    for stage, n in enumerate(repeats):
        for unit in range(n):
            path = f'encoder.stages.{stage}.{unit}'
            paths += [*(f'{path}.body.{i}' for i in range(3)), f'{path}.shortcut']
    return paths
