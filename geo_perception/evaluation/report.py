# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The report: one HTML page that needs no other file, no network and no script."""

from dataclasses import dataclass
from functools import lru_cache

from geo_perception.environment import describe_machine
from geo_perception.model_file import write_atomically

_MACHINE_NAMES = {'cpu': 'Processor', 'cores': 'Cores used', 'memory': 'Memory', 'gpu': 'GPU',
                  'os': 'System', 'kernel': 'Kernel', 'python': 'Python', 'ros': 'ROS 2',
                  'opencv': 'OpenCV', 'torch': 'PyTorch', 'openvino': 'OpenVINO',
                  'numpy': 'NumPy'}


@dataclass(frozen=True)
class Figure:
    """
    One number at the head of a report.

    Attributes
    ----------
    name : str
        What it is.
    value : str
        The number with its unit.
    note : str
        What to compare it with.

    """

    name: str
    value: str
    note: str = ''


def templates(name):
    """
    Return a template of this package; its macros are in ``.module``.

    Parameters
    ----------
    name : str
        File name in ``templates/``.

    Returns
    -------
    jinja2.Template
        It escapes what it is given.

    """
    return _environment().get_template(name)


@lru_cache(maxsize=1)
def _environment():
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader('geo_perception.evaluation', 'templates'), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def write_report(path, kind, title, verdict, origin, figures, sections):
    """
    Write one page.

    Parameters
    ----------
    path : str or Path
        The HTML file; its folder is made.
    kind : str
        What was measured, e.g. ``relocalization``.
    title : str
        What it was measured on.
    verdict : str
        The result in one sentence.
    origin : str
        Where the data and the model came from, one line.
    figures : list of Figure
        The few numbers to remember.
    sections : list of (str, str)
        Headings and their HTML.

    """
    page = templates('report.html.j2').render(
        kind=kind, title=title, verdict=verdict, origin=origin, figures=figures,
        sections=sections)
    write_atomically(path, page.encode())


def provenance_section(command, rows):
    """
    Return the section that says how to get the same numbers again.

    Parameters
    ----------
    command : str
        The command line.
    rows : list of (str, str)
        Facts that come before those of the machine.

    Returns
    -------
    tuple of str
        Heading and HTML.

    """
    machine = [(_MACHINE_NAMES.get(name, name), value)
               for name, value in describe_machine().items()]
    macros = templates('relocalization.html.j2').module
    return 'How this was measured', macros.provenance(command, rows + machine)
