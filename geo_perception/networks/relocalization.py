# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The absolute pose regressors by name."""

from typing import Dict, Type

from geo_perception.networks.posenet import PoseNet
from geo_perception.networks.posenet_lite import PoseNetLite
from geo_perception.networks.registry import build_by_name
from geo_perception.networks.regressor import PoseRegressor

ARCHITECTURES: Dict[str, Type[PoseRegressor]] = {'posenet': PoseNet, 'posenet_lite': PoseNetLite}


def build_regressor(architecture, arguments):
    """
    Return a network by name, freshly initialised.

    Parameters
    ----------
    architecture : str
        ``posenet`` or ``posenet_lite``.
    arguments : dict
        Its arguments.

    Returns
    -------
    PoseRegressor

    Raises
    ------
    ConfigurationError
        When the name or an argument is unknown.

    """
    return build_by_name('architecture', ARCHITECTURES, architecture, arguments)
