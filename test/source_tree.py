# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Which files of the repository are ours, for the tests that read sources."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_MADE = {'__pycache__', 'build', 'demo', 'dist', 'install', 'log', 'runs'}


def files(*suffixes):
    """Return our files with one of the suffixes, without what tools and programs make."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in _MADE and name[0] != '.'
                      and not name.endswith('.egg-info')]
        found += [Path(folder, name) for name in names if name.endswith(suffixes)]
    return sorted(found)
