# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The absolute pose regressors by name."""

from functools import partial
from typing import Dict, Type

from geo_perception.networks.posenet import PoseNet
from geo_perception.networks.posenet_lite import PoseNetLite
from geo_perception.networks.registry import build_by_name
from geo_perception.networks.regressor import PoseRegressor

ARCHITECTURES: Dict[str, Type[PoseRegressor]] = {'posenet': PoseNet, 'posenet_lite': PoseNetLite}

build_regressor = partial(build_by_name, 'architecture', ARCHITECTURES)
