# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Tables of results, one row a frame."""

import csv
import io

import numpy as np

from geo_perception.atomic_files import write_atomically
from geo_perception.geometry import se3


def write_table(path, columns):
    """
    Write a CSV file, unknown numbers as empty cells.

    Parameters
    ----------
    path : str or Path
        A file; its folder is made.
    columns : dict
        Column name (with unit) to a list or array of values.

    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in zip(*columns.values()))
    write_atomically(path, text.getvalue().encode())


def pose_columns(prefix, T):
    """
    Return poses as columns of a table.

    Parameters
    ----------
    prefix : str
        Of the names.
    T : np.ndarray
        Poses, metres, shape (N, 4, 4), NaN where unknown.

    Returns
    -------
    dict
        Position and quaternion (w, x, y, z).

    """
    known = np.isfinite(T).all((1, 2))
    q = np.full((len(T), 4), np.nan)
    q[known] = se3.quaternion_from_matrix(T[known, :3, :3])
    return {f'{prefix}x_m': T[:, 0, 3], f'{prefix}y_m': T[:, 1, 3], f'{prefix}z_m': T[:, 2, 3],
            f'{prefix}qw': q[:, 0], f'{prefix}qx': q[:, 1], f'{prefix}qy': q[:, 2],
            f'{prefix}qz': q[:, 3]}


def _cell(value):
    if isinstance(value, float):   # NumPy's float64 is one
        return '' if np.isnan(value) else f'{value:.9g}'
    return value
