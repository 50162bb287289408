# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
The style of ROS 2: flake8 with the configuration and the plugins of ament_flake8.

One of these checks docstrings (PEP 257) as ament_pep257 does.

The wheel of ament_flake8 itself is of no use here: it demands a flake8 of 2021.
"""

import subprocess
import sys

import pytest
from source_tree import ROOT

pytest.importorskip('flake8', reason='flake8 is not installed')


@pytest.mark.linter
def test_flake8():
    """Every Python file, with setup.cfg."""
    result = subprocess.run([sys.executable, '-m', 'flake8'], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert result.returncode == 0, result.stdout
