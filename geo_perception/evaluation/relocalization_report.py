# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The relocalization sections of a report."""

from pathlib import Path

import cv2
import numpy as np

from geo_perception.environment import command_line
from geo_perception.evaluation import error_charts, trajectory_charts
from geo_perception.evaluation.charts import jpeg_source
from geo_perception.evaluation.number_text import angle_text, length_text, share_text
from geo_perception.evaluation.relocalization import score
from geo_perception.evaluation.relocalization_summary import key_figures, summary_table, verdict
from geo_perception.evaluation.report import (
    model_card, Part, provenance_section, recording_text, templates, title_of, write_report)

_WORST = 6
_SUMMARY_NOTE = (
    'Errors are over the answered images, the same ones in every column; “within” counts a '
    'refused image as a miss. With a place memory, coarse is what the network alone says, and '
    'verified what the points of the map make of it. Retrieval answers with the pose of the '
    'training image that looks most alike; the nearest pose, of all training images, is what '
    'perfect retrieval would answer.')
_PICTURE_WIDTH = 400


def write_relocalization_report(path, result, sequence, retrieval, model, recording):
    """
    Write the report of one evaluation, offline or live.

    Parameters
    ----------
    path : str or Path
        The HTML file.
    result : RelocalizationResult
        What happened.
    sequence : Sequence
        The frames of the result.
    retrieval : Retrieval
        The baseline.
    model : ModelFile
        What was evaluated.
    recording : str
        As the user named it.

    """
    facts = [('Recording', recording_text(recording, result)), ('Run', result.mode)]
    write_report(path, title_of(recording),
                 [relocalization_part(result, sequence, retrieval, model)],
                 [provenance_section(command_line(), facts)])


def relocalization_part(result, sequence, retrieval, model):
    """
    Return what a report says about a relocalizer.

    Parameters
    ----------
    result : RelocalizationResult
        What happened.
    sequence : Sequence
        The frames of the result.
    retrieval : Retrieval
        The baseline.
    model : ModelFile
        What was evaluated.

    Returns
    -------
    Part

    """
    metrics = score(result)
    return Part(
        'Relocalization', verdict(metrics),
        f'Model {Path(model.path).name} ({model.metadata.architecture}), {result.mode}; poses in '
        f'the frame “{result.world_frame}”.', key_figures(metrics),
        relocalization_sections(result, metrics, sequence, retrieval, model))


def relocalization_sections(result, metrics, sequence, retrieval=None, model=None):
    """
    Return the sections about one evaluation, leaving out what there is nothing to say about.

    Parameters
    ----------
    result : RelocalizationResult
        What happened.
    metrics : dict
        Its score.
    sequence : Sequence
        The frames of the result, for the pictures of the worst ones.
    retrieval : Retrieval, optional
        For the most similar training images and the training poses.
    model : ModelFile, optional
        For the model card.

    Returns
    -------
    list of (str, str)
        Headings and HTML.

    """
    macros = templates('sections.html.j2').module
    scored = np.isfinite(result.errors()[0])
    sections = []
    if (scored & result.accepted).any():
        sections += [
            ('Summary', macros.summary(*summary_table(result, metrics), _SUMMARY_NOTE)),
            ('Trajectory', macros.charts(_trajectory(result, retrieval))),
            ('Errors over time', macros.charts(_over_time(result))),
            ('Distribution of errors', macros.charts(_distribution(result)))]
    if (scored & np.isfinite(result.covariance).all((1, 2))).any():
        sections.append(('Is the stated uncertainty right?',
                         macros.charts(_confidence(result), _calibration_text(metrics))))
    if scored.any():
        sections.append(('Worst frames', templates('relocalization.html.j2').module.worst_frames(
            _worst_frames(result, sequence, retrieval),
            'The answers that are farthest off, at most one from each part of the recording'
            + (', beside the training image that looks most alike (the thumbnail that retrieval '
               'compares with).' if retrieval else '.'))))
    if np.isfinite(result.delay_ms).any():
        sections.append(('Delay', macros.charts(_delay(result), _delay_text(result, metrics))))
    if model is not None:
        sections.append(('Model', macros.facts(model_card(model))))
    return sections


def _trajectory(result, retrieval):
    training = retrieval.poses if retrieval else None
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


def _worst_frames(result, sequence, retrieval):
    position, orientation = result.errors()
    usable = np.isfinite(position)
    badness = np.where(usable, position / max(np.median(position[usable]), 1e-9)
                       + orientation / max(np.median(orientation[usable]), 1e-9), -1.0)
    # A refused answer was never given: it is shown only where there is nothing worse to show.
    badness = np.where(result.accepted, badness, badness - badness.max() - 1.0)
    table = result.table()
    chosen = []
    for i in np.argsort(-badness):
        if usable[i] and all(abs(i - j) > len(result) // 30 for j in chosen):
            chosen.append(i)
        if len(chosen) == _WORST:
            break
    frames = []
    for i in chosen:
        image = sequence[int(i)].image
        picture = _fit(image)
        sigma = table['position_sigma_m'][i], table['orientation_sigma_deg'][i]
        frames.append({
            # Names of files tell a person more than those of messages.
            'name': f'image {i}' if '@' in result.names[i] else result.names[i],
            'time': f'{(result.stamps[i] - result.stamps[0]) * 1e-9:.1f} s',
            'image': jpeg_source(picture),
            'errors': f'{length_text(position[i])}, {angle_text(orientation[i])} off',
            'refused': not result.accepted[i],
            'confidence': (f'stated ± {length_text(sigma[0])}, {angle_text(sigma[1])}'
                           if np.isfinite(sigma).all() else ''),
            'retrieval': (f"{length_text(table['retrieval_position_error_m'][i])}, "
                          f"{angle_text(table['retrieval_orientation_error_deg'][i])} off"
                          if result.T_retrieval is not None else ''),
            'nearest': (jpeg_source(_thumbnail_picture(retrieval, image, picture.shape))
                        if retrieval else '')})
    return frames


def _fit(image):
    height, width = image.shape[:2]
    scale = min(1.0, _PICTURE_WIDTH / width)
    size = round(width * scale), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _thumbnail_picture(retrieval, image, shape):
    grey = retrieval.thumbnails[retrieval.nearest(image)]
    grey = (255 * (grey - grey.min()) / max(np.ptp(grey), 1e-6)).astype(np.uint8)
    return cv2.resize(grey, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


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
