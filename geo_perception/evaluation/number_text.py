# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Numbers as people read them, with their unit; a dash where one is unknown."""

import numpy as np


def length_text(metres):
    """
    Write a length for people.

    Parameters
    ----------
    metres : float or None
        Metres.

    Returns
    -------
    str
        A dash where it is unknown.

    """
    if metres is None or not np.isfinite(metres):
        return '–'
    return f'{100 * metres:.1f} cm' if metres < 0.9995 else f'{metres:.2f} m'


def angle_text(degrees):
    """
    Write an angle for people.

    Parameters
    ----------
    degrees : float or None
        Degrees.

    Returns
    -------
    str
        A dash where it is unknown.

    """
    if degrees is None or not np.isfinite(degrees):
        return '–'
    return f'{degrees:.2f}°' if degrees < 9.995 else f'{degrees:.1f}°'


def percent_text(percent):
    """
    Write an error in percent for people.

    Parameters
    ----------
    percent : float or None
        Percent.

    Returns
    -------
    str
        A dash where it is unknown.

    """
    if percent is None or not np.isfinite(percent):
        return '–'
    return f'{percent:.1f} %' if percent < 99.95 else f'{percent:.0f} %'


def share_text(share):
    """
    Write a share in percent for people.

    Parameters
    ----------
    share : float or None
        0..1.

    Returns
    -------
    str
        A dash where it is unknown.

    """
    return '–' if share is None else f'{100 * share:.0f} %'


def relative_text(share):
    """
    Write a relative error for people.

    Parameters
    ----------
    share : float or None
        1 is 100 %.

    Returns
    -------
    str
        A dash where it is unknown.

    """
    return percent_text(None if share is None else 100 * share)


def milliseconds_text(value):
    """
    Write a duration for people.

    Parameters
    ----------
    value : float or None
        Milliseconds.

    Returns
    -------
    str
        A dash where it is unknown.

    """
    return '–' if value is None else f'{value:.1f} ms' if value < 99.95 else f'{value:.0f} ms'


def metric_rows(entries, systems):
    """
    Return metrics of several systems as rows of a table.

    Parameters
    ----------
    entries : sequence of (str, str, callable)
        Title, name of the metric and what writes it for people.
    systems : sequence of dict
        Metrics; what one lacks is unknown.

    Returns
    -------
    list of (str, list of str)
        Title and one cell a system.

    """
    return [(title, [text(system.get(name)) for system in systems])
            for title, name, text in entries]


def number_text(value):
    """
    Write a number to three digits.

    Parameters
    ----------
    value : float or None
        Any unit.

    Returns
    -------
    str
        A dash where it is unknown.

    """
    return '–' if value is None else f'{value:.3f}' if abs(value) < 9.9995 else f'{value:.3g}'
