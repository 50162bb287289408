# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
XML files parse, and package.xml says what format 3 asks for.

ament_xmllint fetches its schema from the network and needs a program that is no wheel, so the
same is asked of catkin_pkg, the parser that colcon uses.
"""

from xml.etree import ElementTree

import pytest
from source_tree import files, ROOT

FILES = files('.xml', '.launch')


@pytest.mark.linter
@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_well_formed(path):
    """The file is XML."""
    ElementTree.parse(path)


@pytest.mark.linter
def test_package_xml():
    """Parse package.xml as colcon does; warnings count as errors."""
    package = pytest.importorskip('catkin_pkg.package', reason='catkin_pkg is not installed')
    warnings = []
    package.parse_package(str(ROOT / 'package.xml'), warnings=warnings)
    assert not warnings
