# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Files that are installed beside the code: configuration and shipped models."""

import os
from pathlib import Path
import sysconfig

from geo_perception.errors import ConfigurationError


def share_file(name):
    """
    Return the path of an installed file, in a source tree, a pip or a colcon installation.

    Parameters
    ----------
    name : str
        Path below the package's share folder, e.g. ``config/relocalize.yaml``.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ConfigurationError
        When the file is nowhere.

    """
    places = [Path(__file__).parents[1], Path(sysconfig.get_path('data'), 'share/geo_perception')]
    places += [Path(prefix, 'share/geo_perception') for prefix in
               os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if prefix]
    for place in places:
        if (place / name).is_file():
            return place / name
    raise ConfigurationError(f'{name} was not installed with geo_perception; looked in '
                             f'{", ".join(map(str, places))}; install the package again')
