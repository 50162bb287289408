# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The part of a report about relocalization."""

import numpy as np

from geo_perception.evaluation import error_charts, trajectory_charts
from geo_perception.evaluation.charts import source_of
from geo_perception.evaluation.number_text import angle_text, length_text, share_text
from geo_perception.evaluation.relocalization import score
from geo_perception.evaluation.relocalization_summary import key_figures, summary_table, verdict
from geo_perception.evaluation.report import Part, templates

_SUMMARY_NOTE = (
    'Errors are over the answered images, the same ones in every column; “within” counts a '
    'refused image as a miss. With a place memory, coarse is what the network alone says, and '
    'verified what the points of the map make of it. Retrieval answers with the pose of the '
    'training image that looks most alike; the nearest pose, of all training images, is what '
    'perfect retrieval would answer.')


def relocalization_part(run):
    """
    Return what a report says about a relocalizer.

    Parameters
    ----------
    run : Run
        With what it answered.

    Returns
    -------
    Part

    """
    result = run.relocalization
    metrics = score(result)
    model = f'Model {run.relocalizer.name} ({run.relocalizer.architecture}), ' \
        if run.relocalizer else ''
    return Part('Relocalization', verdict(metrics),
                f'{model}{result.mode}; poses in the frame “{result.world_frame}”.',
                key_figures(metrics), relocalization_sections(run, metrics))


def relocalization_sections(run, metrics):
    """
    Return the sections about a relocalizer, leaving out what there is nothing to say about.

    Parameters
    ----------
    run : Run
        With what it answered.
    metrics : dict
        Its score.

    Returns
    -------
    list of (str, str)
        Headings and HTML.

    """
    macros = templates('sections.html.j2').module
    result = run.relocalization
    scored = np.isfinite(result.errors()[0])
    sections = []
    if (scored & result.accepted).any():
        sections += [
            ('Summary', macros.summary(*summary_table(result, metrics), _SUMMARY_NOTE)),
            ('Trajectory', macros.charts(_trajectory(result, run.training))),
            ('Errors over time', macros.charts(_over_time(result))),
            ('Distribution of errors', macros.charts(_distribution(result)))]
    if (scored & np.isfinite(result.covariance).all((1, 2))).any():
        sections.append(('Is the stated uncertainty right?',
                         macros.charts(_confidence(result), _calibration_text(metrics))))
    if scored.any() and run.worst:
        alike = any(frame.nearest for frame in run.worst)
        sections.append(('Worst frames', templates('relocalization.html.j2').module.worst_frames(
            _worst_frames(result, run.worst),
            'The answers that are farthest off, at most one from each part of the recording'
            + (', beside the training image that looks most alike (the thumbnail that retrieval '
               'compares with).' if alike else '.'))))
    return sections


def relocalization_timing(result):
    """
    Return the sections about the delay of a relocalizer.

    Parameters
    ----------
    result : RelocalizationResult
        What happened.

    Returns
    -------
    list of (str, str)
        Headings and HTML; empty where no delay is known.

    """
    if not np.isfinite(result.delay_ms).any():
        return []
    return [('Delay of relocalization', templates('sections.html.j2').module.charts(
        _delay(result), _delay_text(result, score(result))))]


def _trajectory(result, training):
    return [
        {'src': trajectory_charts.top_view(result, training), 'alt': 'trajectory from above',
         'caption': 'From above. Each dot is an answer, tied to where the camera really was.'},
        {'src': trajectory_charts.space_view(result), 'alt': 'trajectory in three dimensions',
         'caption': 'The same in three dimensions.'}]


def _over_time(result):
    return [{'src': error_charts.error_over_time(result, quantity),
             'alt': f'{name} error over time'}
            for quantity, name in enumerate(('position', 'orientation'))]


def _distribution(result):
    return [{'src': draw(result, quantity), 'alt': f'{kind} of the {name} error'}
            for draw, kind in ((error_charts.error_histogram, 'histogram'),
                               (error_charts.recall, 'cumulative curve'))
            for quantity, name in enumerate(('position', 'orientation'))]


def _confidence(result):
    return [{'src': error_charts.confidence(result, quantity),
             'alt': f'{name} error against the stated standard deviation'}
            for quantity, name in enumerate(('position', 'orientation'))]


def _calibration_text(metrics):
    if metrics['position_normalised_error'] is None:
        return ''
    parts = [f"{name}: {share_text(metrics[f'{name}_in_68_percent_ellipsoid'])} and "
             f"{share_text(metrics[f'{name}_in_95_percent_ellipsoid'])}, normalised squared error "
             f"{metrics[f'{name}_normalised_error']:.2f}" for name in ('position', 'orientation')]
    return ('Every answer states its covariance. The truth should lie inside its 68 % ellipsoid '
            'in 68 % of the answers, inside its 95 % ellipsoid in 95 %, and the normalised '
            f"squared error should be 1. Measured, {'; '.join(parts)}.")


def _worst_frames(result, worst):
    position, orientation = result.errors()
    table = result.table()
    frames = []
    for frame in worst:
        i = frame.index
        sigma = table['position_sigma_m'][i], table['orientation_sigma_deg'][i]
        frames.append({
            # Names of files tell a person more than those of messages.
            'name': f'image {i}' if '@' in result.names[i] else result.names[i],
            'time': f'{(result.stamps[i] - result.stamps[0]) * 1e-9:.1f} s',
            'image': source_of(frame.image, 'jpeg'),
            'errors': f'{length_text(position[i])}, {angle_text(orientation[i])} off',
            'refused': not result.accepted[i],
            'confidence': (f'stated ± {length_text(sigma[0])}, {angle_text(sigma[1])}'
                           if np.isfinite(sigma).all() else ''),
            'retrieval': (f"{length_text(table['retrieval_position_error_m'][i])}, "
                          f"{angle_text(table['retrieval_orientation_error_deg'][i])} off"
                          if result.T_retrieval is not None else ''),
            'nearest': source_of(frame.nearest, 'jpeg') if frame.nearest else ''})
    return frames


def _delay(result):
    return [{'src': error_charts.delay(result), 'alt': 'delay of each frame'},
            {'src': error_charts.delay_histogram(result), 'alt': 'histogram of the delay'}]


def _delay_text(result, metrics):
    counts = (f"{metrics['frames_in']} images went in, {metrics['frames_processed']} were "
              f"processed, {metrics['frames_dropped']} were dropped on the way, "
              f"{metrics['frames_withheld']} were processed but refused by the gate.")
    if result.mode == 'offline':
        return 'Time of the pipeline alone, without ROS. ' + counts
    return 'From publishing the image to receiving its pose, through DDS. ' + counts
