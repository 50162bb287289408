# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What a verb leaves behind: where it can, what of it when interrupted, what machines read."""

from contextlib import contextmanager
import json
import os
from pathlib import Path
import tempfile

from geo_perception.atomic_files import write_atomically
from geo_perception.errors import OutputError


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
    OutputError
        When the file cannot be written.

    """
    if path is not None:
        write_atomically(path, json.dumps(outcome, indent=2).encode() + b'\n')


def require_writable(*files, folder=None):
    """
    Raise where results could not be written, before any work is done. Nothing is left behind.

    Parameters
    ----------
    *files : str or None
        Files that will be written, and their folders where there are none yet.
    folder : str, optional
        Folder that files will be written into.

    Raises
    ------
    OutputError
        As the attempt at the end would.

    """
    for path in filter(None, files):
        if Path(path).is_dir():
            raise OutputError(f'cannot write {path}: it is a folder; name a file')
        _try(path, Path(path).absolute().parent)
    if folder:
        _try(folder, Path(folder).absolute())


def _try(path, folder):
    """Make a nameless file in the folder, or in the one where that would come to be."""
    while not os.path.lexists(folder):
        folder = folder.parent
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OutputError(f'cannot write {path}: {folder}: {error.strerror}') from error


@contextmanager
def kept_when_interrupted(keep):
    """
    Let Ctrl-C end long work without losing what it has found.

    Parameters
    ----------
    keep : callable
        Writes what there is by then, and says so.

    """
    try:
        yield
    except KeyboardInterrupt:
        keep()
        raise
