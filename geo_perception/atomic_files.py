# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Files of which at no instant a part stands under their name."""

from contextlib import contextmanager
import os
from pathlib import Path
import tempfile

from geo_perception.errors import OutputError


def write_atomically(path, data):
    """
    Write a file, or leave what was there.

    Parameters
    ----------
    path : str or pathlib.Path
        Destination; its folder is created.
    data : bytes-like
        Content.

    Raises
    ------
    OutputError
        When the file cannot be written (no permission, disk full).

    """
    with replaced(path) as temporary, open(temporary, 'wb') as file:
        file.write(data)


@contextmanager
def replaced(path):
    """
    Give the name of an empty file that takes the place of another one when it is written.

    Parameters
    ----------
    path : str or pathlib.Path
        Destination; its folder is created.

    Yields
    ------
    str
        In the same folder; gone where writing it fails or is interrupted.

    Raises
    ------
    OutputError
        When the file cannot be written (no permission, disk full).

    """
    path, temporary = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=path.name + '.', dir=path.parent)
        os.close(descriptor)
        yield temporary
        with open(temporary, 'rb+') as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f'cannot write {path}: {error.strerror}') from error
    finally:
        # Also when interrupted by Ctrl-C; after success the name is gone.
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
