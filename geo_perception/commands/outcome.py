# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What a verb tells machines."""

import json

from geo_perception.model_file import write_atomically


def write_outcome(path, outcome):
    """
    Write what a verb returns as JSON, where that was asked for.

    Parameters
    ----------
    path : str, optional
        File to write; None for none.
    outcome : dict
        Plain numbers, strings, lists and dictionaries.

    Raises
    ------
    ModelFileError
        When the file cannot be written.

    """
    if path is not None:
        write_atomically(path, json.dumps(outcome, indent=2).encode() + b'\n')
