# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Files that are whole or not there."""

import os

import pytest

from geo_perception.atomic_files import write_atomically
from geo_perception.errors import OutputError


def test_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    """Ctrl-C between the first byte and the last."""
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, 'fsync', interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / 'file', b'content')
    assert os.listdir(tmp_path) == []


def test_write_makes_folders_and_replaces(tmp_path):
    """Readable by others, as files are."""
    path = tmp_path / 'a' / 'b' / 'file'
    for content in (b'first', b'second'):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o644


def test_write_where_nothing_can_be_written(tmp_path):
    """A folder in the place of the file, a file in the place of the folder."""
    (tmp_path / 'file').write_text('')
    for path in (tmp_path, tmp_path / 'file' / 'model'):
        with pytest.raises(OutputError, match='cannot write'):
            write_atomically(path, b'content')
    assert os.listdir(tmp_path) == ['file']
