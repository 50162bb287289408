# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Metrics for machines."""

import json

from geo_perception.atomic_files import write_atomically


def write_metrics(path, metrics, **context):
    """
    Write metrics and what they were measured on as JSON.

    Parameters
    ----------
    path : str or Path
        A file; its folder is made.
    metrics : dict
        Name of the job (``relocalization``, ``depth``, ``odometry``) to its metrics, None where
        unknown.
    **context
        Further top-level entries: machine, command, ...

    """
    text = json.dumps({**metrics, **context}, indent=2, allow_nan=False)
    write_atomically(path, text.encode() + b'\n')
