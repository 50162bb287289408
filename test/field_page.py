# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
The page ``docs/reliability.md``: one row for each fault and node, as the tests have seen it.

Cases are registered when the modules ``test_field_*`` are imported, rows when their tests run.
"""

from pathlib import Path

import pytest

from geo_perception.environment import describe_machine

PAGE = Path(__file__).parents[1] / 'docs' / 'reliability.md'
SECTIONS = ('Camera', 'Calibration', 'The other eye', 'TF', 'Time', 'Life', 'Graph', 'Processes',
            'Two nodes in one process')

CASES = []     # (section, fault, node) of every row, in order within each section
ROWS = {}      # (fault, node): cells that were recorded in this run

_HEAD = """# Reliability

What the nodes do on a bad day. The tests `test/test_field_*.py` make it happen on a real ROS
graph, with small models that were never trained, and write this page:

```
make reliability
```

- *Published*: what comes out while the fault lasts. Nothing ever has a stamp that its image did
  not have, none is published twice, and what breaks a rule of filters or Nav2
  (`geo_perception/ros/validators.py`) is withheld, with the rule in the diagnostics.
- *Diagnostics*: level and sentence on `/diagnostics`; … is a number or a name.
- *Normal after*: seconds from the end of the fault until each output has a new result, and until
  the diagnostics say OK. Images come 40 times a second there. Diagnostics look back
  `watchdog_s`, 0.4 s in these tests and 5 s by default: with the default they are OK again up to
  that much later. Of processes it is the time from the start of the program.
- `stereo_depth` has no row where it does what `relocalize` does; it asks for no transforms.

"""


def cases(section, found):
    """
    Return the decorator of a test that is run for each fault and node; they become rows.

    Parameters
    ----------
    section : str
        Of `SECTIONS`.
    found : list of (str, str)
        What happens, a sentence, and to whom.

    """
    found = list(found)
    CASES.extend((section, *case) for case in found)
    return pytest.mark.parametrize('text, node', found)


def page():
    """
    Return the page, of the rows recorded in this run.

    Returns
    -------
    str

    """
    machine = describe_machine()
    lines = [_HEAD, ', '.join(machine[name] for name in ('cpu', 'cores', 'ros') if name in machine)
             .replace(f", {machine['cores']},", f", {machine['cores']} cores,") + '.\n']
    for section in SECTIONS:
        rows = [_line(case[1:], ROWS[case[1:]]) for case in CASES
                if case[0] == section and case[1:] in ROWS]
        if rows:
            lines += [f'\n## {section}\n\n| fault | node | published | diagnostics | normal '
                      'after, s |\n| --- | --- | --- | --- | --- |\n', *rows]
    return ''.join(lines)


def rows_of(text):
    """
    Return the rows of a page.

    Parameters
    ----------
    text : str
        The page.

    Returns
    -------
    dict
        (fault, node): what is published, and the diagnostics.

    """
    cells = [[cell.strip() for cell in line.strip('|').split('|')]
             for line in text.splitlines() if line.startswith('|')]
    return {(row[0], row[1].strip('`')): row[2:4] for row in cells
            if row[0] not in ('fault', '---')}


def check_row(request, *case):
    """Compare what was recorded with what the page says, unless that is being written."""
    if case in ROWS and not request.config.getoption('reliability'):
        assert rows_of(page())[case] == rows_of(PAGE.read_text()).get(case), (
            'docs/reliability.md is not what the tests see; write it with make reliability')


def _line(case, row):
    after = row['results'] if row['words'] == row['results'] else \
        f"{row['results']}; diagnostics {row['words']}"
    return (f"| {case[0]} | `{case[1]}` | {row['published']} | {row['diagnostics']} | {after} |\n")
