# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Every source file says whose it is and how it may be used (ament_copyright has no wheel)."""

import re

import pytest
from source_tree import files, ROOT

HEADER = re.compile(
    r'(#!.*\n)?'
    r'# Copyright 20\d\d(-20\d\d)? The geo_perception authors\n'
    r'# SPDX-License-Identifier: Apache-2\.0\n')
SOURCES = [*files('.py', '.sh'), ROOT / '.ci/run', ROOT / 'Makefile']


@pytest.mark.linter
@pytest.mark.parametrize('path', SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_header(path):
    """The file begins with both lines."""
    assert HEADER.match(path.read_text()), f'{path} lacks the two header lines of CONTRIBUTING.md'


@pytest.mark.linter
def test_licence():
    """The whole licence is there, and so is the way to contribute."""
    text = (ROOT / 'LICENSE').read_text()
    assert 'Apache License' in text and 'END OF TERMS AND CONDITIONS' in text
    assert (ROOT / 'CONTRIBUTING.md').is_file()
