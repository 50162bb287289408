# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The report: one HTML page that needs no other file, no network and no script."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from geo_perception.environment import describe_machine
from geo_perception.evaluation.number_text import milliseconds_text
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


def write_report(path, title, parts, closing):
    """
    Write one page.

    Parameters
    ----------
    path : str or Path
        The HTML file; its folder is made.
    title : str
        What it was measured on.
    parts : list of Part
        One for each job that was measured.
    closing : list of (str, str)
        Sections about all of them.

    """
    page = templates('report.html.j2').render(title=title, parts=parts, closing=closing)
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


def recording_text(recording, result):
    """
    Return what was measured on, in words.

    Parameters
    ----------
    recording : str
        As the user named it.
    result : RelocalizationResult or GeometryRecording
        With ``stamps``.

    Returns
    -------
    str

    """
    duration = 1e-9 * (result.stamps[-1] - result.stamps[0])
    return f'{recording}, {len(result)} images over {duration:.1f} s'


def model_card(model):
    """
    Return what a model file says about itself.

    Parameters
    ----------
    model : ModelFile
        What was evaluated.

    Returns
    -------
    list of (str, str)
        Names and values.

    """
    metadata = model.metadata
    rows = [('File', f'{Path(model.path).name}, SHA-256 {model.sha256[:16]}'),
            ('Architecture', f'{metadata.architecture}, rotation as {metadata.rotation}'),
            ('World frame', metadata.world_frame)]
    camera = metadata.training_camera
    if camera is not None:
        rows.append(('Training camera', f'{camera.width} × {camera.height} pixels, '
                                        f'fx {camera.fx:.1f}, fy {camera.fy:.1f}'))
    for name, values in (('Training data', metadata.data), ('Validation', metadata.metrics),
                         ('Trained with', metadata.versions)):
        if values:
            rows.append((name, ', '.join(f"{key.replace('_', ' ')} {_brief(value)}"
                                         for key, value in values.items())))
    return rows


def _brief(value):
    return f'{value:.3g}' if isinstance(value, float) else str(value)
