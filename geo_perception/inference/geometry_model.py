# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Models that the geometry pipeline takes, and what they say of their training."""

import numpy as np

from geo_perception.errors import ModelFileError
from geo_perception.inference.stereo_depth import JOB as STEREO_DEPTH
from geo_perception.inference.stereo_geometry import as_geometry
from geo_perception.model_file import load_model_file

JOB = 'geometry'


def load_geometry_model(path):
    """
    Read a model file that depth and odometry can be made with.

    Parameters
    ----------
    path : str or pathlib.Path
        A model for geometry, or one for depth from stereo pairs, see
        `geo_perception.inference.stereo_geometry.as_geometry`.

    Returns
    -------
    ModelFile
        For geometry.

    Raises
    ------
    ModelFileError
        When it is neither, or not to be read.

    """
    return geometry_of(load_model_file(path, (JOB, STEREO_DEPTH)))


def geometry_of(model):
    """
    Return a model as one for geometry.

    Parameters
    ----------
    model : ModelFile
        For geometry, or for depth from stereo pairs.

    Returns
    -------
    ModelFile

    Raises
    ------
    ModelFileError
        When the latter does not say what is needed.

    """
    return as_geometry(model) if model.metadata.job == STEREO_DEPTH else model


def trained_interval(model):
    """
    Return how far apart the frames were that the networks of a model were trained on.

    Parameters
    ----------
    model : ModelFile
        For geometry.

    Returns
    -------
    float or None
        Seconds; None if unknown.

    Raises
    ------
    ModelFileError
        When the file says something impossible.

    """
    interval = model.metadata.data.get('interval')
    if interval is None:
        return None
    if not isinstance(interval, (int, float)) or not 0 < interval < np.inf:
        raise ModelFileError(f'model file {model.path} says that it was trained on frames '
                             f'{interval} s apart')
    return interval
