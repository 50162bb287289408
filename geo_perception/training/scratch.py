# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Arrays that are larger than memory, on disk for as long as they are used."""

import os
import tempfile

import numpy as np

from geo_perception.errors import ConfigurationError


def scratch_array(dtype, shape):
    """
    Return a writable array in a nameless file in the folder for temporary files.

    The file goes with the array, however the process ends.

    Parameters
    ----------
    dtype : type
        Of the elements.
    shape : tuple of int
        Not empty.

    Returns
    -------
    np.memmap
        Zeros.

    Raises
    ------
    ConfigurationError
        When the disk is too small.

    """
    size = np.dtype(dtype).itemsize * int(np.prod(shape))
    try:
        with tempfile.TemporaryFile() as file:
            # Without the space set aside, a write to the array on a full disk is a bus error.
            os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype, 'r+', shape=tuple(shape))
    except OSError as error:
        raise ConfigurationError(
            f'cannot keep {size / 1e6:.0f} MB of training data in {tempfile.gettempdir()}: '
            f'{error.strerror}; free space or set TMPDIR to another disk') from error
