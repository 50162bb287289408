# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Flow and what moves, measured of a recording, in words and in tables."""

from geo_perception.evaluation.number_text import (
    metric_rows, number_text, percent_text, relative_text)
from geo_perception.evaluation.report import delay_figure, Figure


def flow_verdict(metrics):
    """
    Return the result of the flow in one sentence or two.

    Parameters
    ----------
    metrics : dict
        From `geo_perception.evaluation.geometry_score.score_of_flow`.

    Returns
    -------
    str

    """
    if not metrics['images_scored']:
        return 'There is flow, but none of it can be compared with the truth.'
    rigid = metrics['rigid'].get('epe_px')
    sentence = (f"Flow is {number_text(metrics['epe_px'])} pixels off, and "
                f"{relative_text(metrics['fl_percent'] / 100)} of it are outliers")
    if rigid is None:
        return sentence + '.'
    sentence += f'; that of a scene that stands still would be {number_text(rigid)} pixels off.'
    if rigid <= metrics['epe_px']:
        sentence += ' The flow network adds nothing here.'
    return sentence


def motion_verdict(metrics):
    """
    Return in one sentence how well what moves is found.

    Parameters
    ----------
    metrics : dict
        From `geo_perception.evaluation.geometry_score.score_of_motion`.

    Returns
    -------
    str

    """
    alarms = (f"{relative_text(metrics['false_alarm_rate'])} of what stands still is said to "
              'move')
    if metrics['recall'] is None:
        return f'Nothing moves by itself here, and {alarms}.'
    if metrics['precision'] is None:
        return 'Nothing is said to move, though something does.'
    return (f"Of what moves by itself {relative_text(metrics['recall'])} is found, and "
            f"{relative_text(metrics['precision'])} of what is found does move (IoU "
            f"{number_text(metrics['iou'])}); {alarms}.")


def flow_figures(metrics):
    """
    Return the numbers for the head of the report.

    Parameters
    ----------
    metrics : dict
        See `flow_verdict`.

    Returns
    -------
    list of Figure

    """
    rigid = metrics['rigid']
    return [
        Figure('End point error', _pixels(metrics.get('epe_px')),
               f"nothing moves {_pixels(rigid.get('epe_px'))}"),
        Figure('Outliers', percent_text(metrics.get('fl_percent')),
               f"nothing moves {percent_text(rigid.get('fl_percent'))}"),
        delay_figure(metrics)]


def motion_figures(metrics):
    """
    Return the numbers for the head of the report.

    Parameters
    ----------
    metrics : dict
        See `motion_verdict`.

    Returns
    -------
    list of Figure

    """
    return [
        Figure('Intersection over union', number_text(metrics['iou']),
               f"average precision {number_text(metrics['average_precision'])}"),
        Figure('Found', relative_text(metrics['recall']), 'of what moves'),
        Figure('Right', relative_text(metrics['precision']), 'of what is said to move'),
        Figure('False alarms', relative_text(metrics['false_alarm_rate']),
               'in frames in which nothing moves '
               f"{relative_text(metrics['false_alarm_rate_still_frames'])}")]


def flow_table(metrics):
    """
    Return the errors of the flow as text.

    Parameters
    ----------
    metrics : dict
        See `flow_verdict`.

    Returns
    -------
    columns : list of str
        Full flow, and that of a scene that stands still.
    rows : list of (str, list of str)
        Name and one cell a column.

    """
    return ['Flow', 'Nothing moves'], metric_rows((
        ('End point error (pixels)', 'epe_px', number_text),
        ('Outliers, Fl', 'fl_percent', percent_text),
        ('The same, over all pixels at once', 'fl_percent_pooled', percent_text)),
        (metrics, metrics['rigid']))


def motion_table(metrics):
    """
    Return how well what moves is found, as text.

    Parameters
    ----------
    metrics : dict
        See `motion_verdict`.

    Returns
    -------
    columns : list of str
        One.
    rows : list of (str, list of str)
        Name and one cell.

    """
    return ['What moves'], metric_rows((
        ('Intersection over union', 'iou', number_text),
        ('Precision', 'precision', relative_text), ('Recall', 'recall', relative_text),
        ('False alarms', 'false_alarm_rate', relative_text),
        ('False alarms where nothing moves', 'false_alarm_rate_still_frames', relative_text),
        ('Average precision of the score', 'average_precision', number_text)), [metrics])


def flow_note(metrics):
    """
    Return by which rules flow was compared.

    Parameters
    ----------
    metrics : dict
        See `flow_verdict`.

    Returns
    -------
    str

    """
    return (f"Means over {metrics['images_scored']} images, of the flow of the newest image to "
            'the one before; the truth is that of the image before turned round, known of what '
            'both images see. An outlier misses by more than 3 pixels and 5 %.')


def motion_note(metrics):
    """
    Return by which rules masks were compared.

    Parameters
    ----------
    metrics : dict
        See `motion_verdict`.

    Returns
    -------
    str

    """
    return (f"Pixels of {metrics['images_scored']} newest images, at the size of the network, all "
            'counted at once, those included of which it cannot be told. False alarms are the '
            'share of still pixels that is said to move.')


def _pixels(value):
    return '–' if value is None else f'{number_text(value)} px'
