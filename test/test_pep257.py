# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Docstrings keep PEP 257 as ament_pep257 reads it: numpydoc passes, Google style does not."""

import subprocess
import sys

import pytest
from source_tree import files, ROOT

pytest.importorskip('pydocstyle', reason='pydocstyle is not installed')

AMENT_IGNORE = 'D100,D101,D102,D103,D104,D105,D106,D107,D203,D212,D404'


@pytest.mark.linter
def test_pep257():
    """Every Python file."""
    result = subprocess.run(
        [sys.executable, '-m', 'pydocstyle', f'--ignore={AMENT_IGNORE}', r'--match=.*\.py',
         *map(str, files('.py'))],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert result.returncode == 0, result.stdout
