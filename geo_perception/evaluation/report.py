# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The report: one HTML file that needs no other file and no network."""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import List

from geo_perception.atomic_files import write_atomically
from geo_perception.evaluation.number_text import milliseconds_text

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


def delay_figure(metrics):
    """
    Return how long answers take.

    Parameters
    ----------
    metrics : dict
        Of any job.

    Returns
    -------
    Figure

    """
    return Figure('Delay, median', milliseconds_text(metrics['delay_p50_ms']),
                  f"95th percentile {milliseconds_text(metrics['delay_p95_ms'])}")


@dataclass(frozen=True)
class Part:
    """
    What a report says about one job.

    Attributes
    ----------
    name : str
        The job, e.g. ``Relocalization``.
    verdict : str
        The result in one sentence.
    origin : str
        Where the data and the model came from, one line.
    figures : list of Figure
        The few numbers to remember.
    sections : list of (str, str)
        Headings and their HTML.

    """

    name: str
    verdict: str
    origin: str
    figures: list
    sections: list


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


@dataclass(frozen=True)
class Page:
    """
    What is seen at once; without scripts, and in print, all follow each other.

    Attributes
    ----------
    key : str
        Its address within the file.
    name : str
        For people.
    verdict, origin : str
        What is said at its top, see `Part`.
    parts : list of Part
        Whose figures it shows, of several with their verdicts.
    sections : list of (str, str)
        Headings, perhaps empty, and their HTML.

    """

    key: str
    name: str
    verdict: str = ''
    origin: str = ''
    parts: List[Part] = field(default_factory=list)
    sections: List = field(default_factory=list)


def write_pages(path, title, kind, pages, verdict='', origin=''):
    """
    Write one file.

    Parameters
    ----------
    path : str or Path
        The HTML file; its folder is made.
    title : str
        What it was measured on.
    kind : str
        What it is about.
    pages : list of Page
        The first is shown first.
    verdict, origin : str
        What is said above all pages, see `Part`.

    """
    text = templates('report.html.j2').render(title=title, kind=kind, pages=pages,
                                              verdict=verdict, origin=origin)
    write_atomically(path, text.encode())


def provenance_section(command, rows, machine):
    """
    Return the section that says how to get the same numbers again.

    Parameters
    ----------
    command : str
        The command line.
    rows : list of (str, str)
        Facts that come before those of the machine.
    machine : dict
        See `geo_perception.environment.describe_machine`.

    Returns
    -------
    tuple of str
        Heading and HTML.

    """
    machine = [(_MACHINE_NAMES.get(name, name), value) for name, value in machine.items()]
    macros = templates('sections.html.j2').module
    return 'How this was measured', macros.provenance(command, rows + machine)


def title_of(recording):
    """
    Return the title of a report.

    Parameters
    ----------
    recording : str
        As the user named it.

    Returns
    -------
    str

    """
    return '/'.join(Path(recording).parts[-2:])
