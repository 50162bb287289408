# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The parts of a report about depth, odometry, flow and what moves."""

import numpy as np

from geo_perception.evaluation import error_charts, geometry_charts, trajectory_charts
from geo_perception.evaluation.calibration_text import calibration_sentence, ODOMETRY
from geo_perception.evaluation.charts import jpeg_source
from geo_perception.evaluation.depth_samples import chosen_samples
from geo_perception.evaluation.flow_report import flow_sections, motion_sections
from geo_perception.evaluation.flow_summary import (
    flow_figures, flow_verdict, motion_figures, motion_verdict)
from geo_perception.evaluation.geometry_score import (
    compared_frames, score_of_depth, score_of_flow, score_of_motion, score_of_odometry)
from geo_perception.evaluation.geometry_summary import (
    depth_figures, depth_note, depth_table, depth_verdict, odometry_figures, odometry_note,
    odometry_table, odometry_verdict)
from geo_perception.evaluation.number_text import relative_text
from geo_perception.evaluation.odometry import fit_alignment
from geo_perception.evaluation.report import Part, templates
from geo_perception.inference.preview import depth_picture, depth_range


def geometry_parts(run):
    """
    Return what a report says about a run of the geometry pipeline.

    Parameters
    ----------
    run : Run
        With what it answered.

    Returns
    -------
    list of Part
        One for each of ``run.jobs``.

    """
    recording, model = run.geometry, run.geometry_model
    origin = f'Model {model.name} ({model.architecture}), {recording.mode}. {recording.scale}'
    parts = []
    for job, title, score, verdict, figures, sections in (
            ('depth', 'Depth', score_of_depth, depth_verdict, depth_figures, depth_sections),
            ('odometry', 'Odometry', score_of_odometry, odometry_verdict, odometry_figures,
             odometry_sections),
            ('flow', 'Flow', score_of_flow, flow_verdict, flow_figures, flow_sections),
            ('motion', 'What moves', score_of_motion, motion_verdict, motion_figures,
             motion_sections)):
        if job in run.jobs:
            metrics = score(recording)
            parts.append(Part(title, verdict(metrics), origin, figures(metrics),
                              sections(recording, metrics)))
    return parts


def depth_sections(recording, metrics):
    """
    Return the sections about depth, leaving out what there is nothing to say about.

    Parameters
    ----------
    recording : GeometryRecording
        What happened.
    metrics : dict
        From `geo_perception.evaluation.geometry_score.score_of_depth`.

    Returns
    -------
    list of (str, str)
        Headings and HTML.

    """
    if not metrics['images_scored']:
        return []
    macros = templates('sections.html.j2').module
    sections = [('Summary', macros.summary(*depth_table(metrics), depth_note(metrics)))]
    chosen = chosen_samples(recording)
    if chosen:
        sections.append(('Pictures', _pictures(recording, chosen)))
    return [*sections, ('Errors', macros.charts([
        {'src': geometry_charts.errors_by_distance(recording), 'alt': 'error by distance',
         'caption': 'By true distance.'},
        {'src': geometry_charts.depth_over_time(recording), 'alt': 'error over time',
         'caption': 'Of each image.'}]))]


def odometry_sections(recording, metrics):
    """
    Return the sections about odometry, leaving out what there is nothing to say about.

    Parameters
    ----------
    recording : GeometryRecording
        What happened.
    metrics : dict
        From `geo_perception.evaluation.geometry_score.score_of_odometry`.

    Returns
    -------
    list of (str, str)
        Headings and HTML.

    """
    if metrics['ate_sim3_m'] is None:
        return []
    macros = templates('sections.html.j2').module
    with_scale = metrics['ate_m'] is None
    ways = _aligned_ways(recording, with_scale)
    aligned = 'with one scale each' if with_scale else 'without a change of scale'
    sections = [
        ('Summary', macros.summary(*odometry_table(metrics), odometry_note(metrics))),
        ('Trajectory', macros.charts([
            {'src': trajectory_charts.ways_from_above(ways, recording.T_truth),
             'alt': 'trajectories from above',
             'caption': f'From above, each path aligned with the truth, {aligned}.'},
            {'src': trajectory_charts.ways_in_space(ways, recording.T_truth),
             'alt': 'trajectories in three dimensions',
             'caption': 'The same in three dimensions.'}]))]
    if metrics['segment_lengths_m']:
        sections.append(('Drift', macros.charts([
            {'src': geometry_charts.drift(recording, quantity, with_scale),
             'alt': f'{name} drift by length of the segment'}
            for quantity, name in enumerate(('translation', 'rotation'))])))
    along = [
        {'src': geometry_charts.position_error_over_way(recording, with_scale),
         'alt': 'position error along the path',
         'caption': f'Once the whole is aligned, {aligned}.'}]
    if scale := geometry_charts.scale_over_time(recording):
        along.append({
            'src': scale, 'alt': 'scale over time',
            'caption': 'Scale: 1 where lengths are true. A level line elsewhere is a scale that '
                       'is wrong but constant.'})
    sections.append(('Errors along the path', macros.charts(along)))
    if metrics['motion_position_normalised_error'] is not None:
        sections.append(('Is the stated uncertainty right?',
                         macros.charts([], _calibration_text(metrics))))
    return sections


def geometry_timing(recording):
    """
    Return the sections about the delay of the geometry pipeline.

    Parameters
    ----------
    recording : GeometryRecording
        What happened.

    Returns
    -------
    list of (str, str)
        Headings and HTML; empty where no delay is known.

    """
    if not np.isfinite(recording.delay_ms).any():
        return []
    return [('Delay of depth and odometry', templates('sections.html.j2').module.charts(
        [{'src': error_charts.delay(recording), 'alt': 'delay of each frame'},
         {'src': error_charts.delay_histogram(recording), 'alt': 'histogram of the delay'}],
        _delay_text(recording, score_of_depth(recording))))]


def _pictures(recording, chosen):
    limits = depth_range([sample.truth for _, sample in chosen])
    samples = [{
        'kind': kind.capitalize(), 'abs_rel': relative_text(sample.abs_rel),
        'name': (f'image {sample.index}' if '@' in recording.names[sample.index]
                 else recording.names[sample.index] or f'image {sample.index}'),
        'time': f'{(recording.stamps[sample.index] - recording.stamps[0]) * 1e-9:.1f} s',
        'image': jpeg_source(sample.image),
        'predicted': jpeg_source(depth_picture(sample.predicted, limits)),
        'truth': jpeg_source(depth_picture(sample.truth, limits)),
        'error': jpeg_source(geometry_charts.error_picture(sample))}
        for kind, sample in chosen]
    depth_bar, error_bar = map(jpeg_source, geometry_charts.colour_bars())
    return templates('geometry.html.j2').module.depth_samples(
        samples, 'Camera image, predicted depth (brought to the true scale by the median), true '
        'depth, and relative error. Where nothing is known it is grey.',
        f'{limits[0]:.2g} m', f'{limits[1]:.2g} m',
        f'{100 * geometry_charts.LARGEST_ERROR:.0f} % and more', depth_bar, error_bar)


def _aligned_ways(recording, with_scale):
    ways = []
    for name, T in geometry_charts.trajectories(recording):
        used, _ = compared_frames(recording, T)
        if len(used) < 2:
            continue
        alignment = fit_alignment(T[used, :3, 3], recording.T_truth[used, :3, 3], with_scale)
        shown = np.full((len(T), 3), np.nan)
        shown[used] = alignment.apply(T[used])[:, :3, 3]
        ways.append((*geometry_charts.SYSTEMS[name], shown))
    return ways


def _calibration_text(metrics):
    return ('The motion of every step, and the pose, state their covariance. '
            + calibration_sentence(metrics, ODOMETRY))


def _delay_text(recording, metrics):
    counts = (f"{metrics['frames_in']} images went in, {metrics['frames_processed']} were "
              f"processed, {metrics['frames_dropped']} were dropped on the way.")
    if recording.mode == 'offline':
        return ('Time of the pipeline without ROS, beside reading, scoring and, with odometry, '
                'the depth of the next image: an image by itself takes less. ' + counts)
    return 'From publishing the image to receiving its depth, through DDS. ' + counts
