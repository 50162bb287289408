# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The page about reliability and the suite speak of the same faults; see `field_day`."""

from importlib import import_module
from pathlib import Path

from field_page import CASES, PAGE, rows_of, SECTIONS


def test_the_page_names_the_cases_of_the_suite(request):
    """Each one, and no others."""
    for module in Path(__file__).parent.glob('test_field_*.py'):
        import_module(module.stem)
    cases = [case[1:] for case in CASES]
    assert len(set(cases)) == len(cases) and {case[0] for case in CASES} == set(SECTIONS)
    if not request.config.getoption('reliability'):     # which writes it at the end
        assert set(rows_of(PAGE.read_text())) == set(cases)
