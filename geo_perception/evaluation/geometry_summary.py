# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The result of a run of the geometry pipeline in words and in tables."""

from geo_perception.evaluation.calibration_text import calibration_sentence, ODOMETRY
from geo_perception.evaluation.depth import METRICS
from geo_perception.evaluation.number_text import (
    angle_text, length_text, metric_rows, number_text, percent_text, relative_text, share_text)
from geo_perception.evaluation.report import delay_figure, Figure

# Below it the verdict says how much was not compared.
_SMALLEST_COVERAGE = 0.9
SYSTEMS = {'network': 'Network alone', 'five_point': 'Five-point',
           'constant_motion': 'Constant motion'}


def depth_verdict(metrics):
    """
    Return the result of the depth in one sentence or two.

    Parameters
    ----------
    metrics : dict
        From `geo_perception.evaluation.geometry_score.score_of_depth`.

    Returns
    -------
    str

    """
    scaled, flat = metrics['abs_rel_median_scaled'], metrics['flat_abs_rel']
    if scaled is None:
        return (f"{metrics['frames_processed']} of {metrics['frames_in']} images were processed; "
                'there is no true depth to compare with.')
    if metrics['abs_rel'] is None:
        sentence = (f'Depth has no unit here; once each image is scaled by the true median it is '
                    f'{relative_text(scaled)} off, and {share_text(metrics["a1_median_scaled"])} '
                    'of it is within 25 %.')
    else:
        sentence = (f"Depth is {relative_text(metrics['abs_rel'])} off, and "
                    f"{share_text(metrics['a1'])} of it is within 25 % of the truth; once each "
                    f'image is scaled by the true median it is {relative_text(scaled)} off.')
    if scaled >= flat:
        sentence += (' That does not beat a flat picture at the true median, which is '
                     f'{relative_text(flat)} off.')
    if metrics['coverage'] < _SMALLEST_COVERAGE:
        sentence += (f" The model looks at {share_text(metrics['coverage'])} of the pixels whose "
                     'truth is known.')
    return sentence


def odometry_verdict(metrics):
    """
    Return the result of the odometry in one sentence or two.

    Parameters
    ----------
    metrics : dict
        From `geo_perception.evaluation.geometry_score.score_of_odometry`.

    Returns
    -------
    str

    """
    if metrics['ate_sim3_m'] is None:
        return (f"{metrics['frames_processed']} of {metrics['frames_in']} images were processed; "
                'there are no true poses to compare with.')
    path = f"Over a path of {metrics['path_m']:.1f} m "
    if metrics['ate_m'] is None:
        key = 'drift_sim3_percent'
        sentence = (f'{path}odometry, which has no unit here, is '
                    f"{length_text(metrics['ate_sim3_m'])} off once scaled and aligned with the "
                    'truth')
    else:
        key = 'drift_percent'
        sentence = (f"{path}odometry is {length_text(metrics['ate_m'])} off once aligned with the "
                    'truth')
    if metrics[key] is None:
        return sentence + '; the path is too short to measure drift.'
    sentence += f' and drifts {percent_text(metrics[key])}.'
    others = {name: found[key] for name, found in metrics['baselines'].items()
              if found[key] is not None}
    better = [f'{SYSTEMS[name].lower()} ({percent_text(value)})'
              for name, value in others.items() if value <= metrics[key]]
    if better:
        sentence += f" Less does {' and '.join(better)}."
    elif others:
        name = min(others, key=others.get)
        sentence += (f' {SYSTEMS[name]} at the same scale drifts {percent_text(others[name])}.'
                     if name == 'five_point' else
                     f' {SYSTEMS[name]} drifts {percent_text(others[name])}.')
    alone, answered = metrics['frames_network_alone'], metrics['frames_answered']
    if 'network' in metrics['baselines'] and alone:
        sentence += (f' Corners failed in {alone} of {answered} images, whose motion is of the '
                     'network alone.')
    if metrics['resets']:
        sentence += (f" It restarted {metrics['resets']} "
                     f"time{'s' if metrics['resets'] > 1 else ''} on the way.")
    return sentence


def depth_figures(metrics):
    """
    Return the numbers for the head of the report.

    Parameters
    ----------
    metrics : dict
        See `depth_verdict`.

    Returns
    -------
    list of Figure

    """
    return [
        Figure('Relative error', relative_text(metrics['abs_rel']),
               f"median-scaled {relative_text(metrics['abs_rel_median_scaled'])}"),
        Figure('Within 25 %', share_text(metrics['a1']),
               f"median-scaled {share_text(metrics['a1_median_scaled'])}"),
        Figure('Root mean square error', length_text(metrics['rmse_m']),
               f"median-scaled {length_text(metrics['rmse_m_median_scaled'])}"),
        Figure('True scale over said', number_text(metrics['scale_ratio_median']),
               f"spread {relative_text(metrics['scale_ratio_spread'])}"),
        delay_figure(metrics)]


def odometry_figures(metrics):
    """
    Return the numbers for the head of the report.

    Parameters
    ----------
    metrics : dict
        See `odometry_verdict`.

    Returns
    -------
    list of Figure

    """
    five_point = metrics['baselines'].get('five_point')

    def beside(name, text):
        return f'five-point {text(five_point[name])}' if five_point else ''

    return [
        Figure('Trajectory error', length_text(metrics['ate_m']),
               f"scale fitted {length_text(metrics['ate_sim3_m'])}"),
        Figure('Drift', percent_text(metrics['drift_percent']),
               beside('drift_percent', percent_text)),
        Figure('Rotation drift per 100 m', angle_text(metrics['drift_deg_per_100m']),
               beside('drift_deg_per_100m', angle_text)),
        delay_figure(metrics),
        Figure('Images answered', f"{metrics['frames_answered']} of {metrics['frames_in']}",
               f"{metrics['frames_dropped']} dropped, {metrics['resets']} restarts")]


def depth_table(metrics):
    """
    Return the errors of the depth as text.

    Parameters
    ----------
    metrics : dict
        See `depth_verdict`.

    Returns
    -------
    columns : list of str
        As it is, and median-scaled.
    rows : list of (str, list of str)
        Name and one cell a column.

    """
    scaled = {name: metrics[f'{name}_median_scaled'] for name in METRICS}
    return ['As it is', 'Median-scaled'], metric_rows((
        ('Absolute relative error', 'abs_rel', number_text),
        ('Squared relative error (m)', 'sq_rel', number_text),
        ('Root mean square error (m)', 'rmse_m', number_text),
        ('Root mean square of the logarithm', 'rmse_log', number_text),
        ('Within a factor of 1.25', 'a1', relative_text),
        ('Within 1.25²', 'a2', relative_text), ('Within 1.25³', 'a3', relative_text)),
        (metrics, scaled))


def depth_note(metrics):
    """
    Return by which rules depth was compared.

    Parameters
    ----------
    metrics : dict
        See `depth_verdict`.

    Returns
    -------
    str

    """
    crop = 'the whole image' if metrics['crop'] == 'none' else \
        f"the crop of {metrics['crop'].capitalize()}"
    return (f"Means over {metrics['images_scored']} images, over {crop} and true depths below "
            f"{metrics['cap_m']:g} m; {share_text(metrics['coverage'])} of these pixels have a "
            'prediction. Median-scaled: each image is multiplied by true over predicted median, '
            'as published results are; that hides errors of the scale, whose ratio varies by '
            f"{relative_text(metrics['scale_ratio_spread'])} from image to image. A flat picture "
            f"at the true median has a relative error of {number_text(metrics['flat_abs_rel'])}.")


def odometry_table(metrics):
    """
    Return the comparison with the other systems as text.

    Parameters
    ----------
    metrics : dict
        See `odometry_verdict`.

    Returns
    -------
    columns : list of str
        The systems compared, ours first.
    rows : list of (str, list of str)
        Name and one cell a system.

    """
    systems = [metrics, *metrics['baselines'].values()]
    rows = metric_rows((
        ('Trajectory error (ATE), SE(3)', 'ate_m', length_text),
        ('Trajectory error (ATE), Sim(3)', 'ate_sim3_m', length_text),
        ('Drift', 'drift_percent', percent_text),
        ('Drift, one scale fitted', 'drift_sim3_percent', percent_text),
        ('Rotation drift per 100 m', 'drift_deg_per_100m', angle_text),
        ('Relative pose error (RPE), translation', 'rpe_translation_m', length_text),
        ('The same, one scale fitted', 'rpe_translation_sim3_m', length_text),
        ('Relative pose error (RPE), rotation', 'rpe_rotation_deg', angle_text)), systems)
    for length in (3, 5):
        rows += _snippet_rows(systems, length, f'ate{length}', 'chained')
        if metrics[f'ate{length}_network_zhou_m'] is not None:
            rows += _snippet_rows(systems, length, f'ate{length}_network', 'network')
    return ['Odometry', *(SYSTEMS[name] for name in metrics['baselines'])], rows


def _snippet_rows(systems, length, key, origin):
    """Return the rows about snippets; not every system predicts some."""
    found = [[system.get(f'{key}_{name}') for name in ('zhou_m', 'zhou_std_m', 'rmse_m',
                                                       'rotation_deg')] for system in systems]
    return [
        (f'ATE-{length} (Zhou protocol), {origin}',
         ['–' if row[0] is None else f'{row[0]:.4f} ± {row[1]:.4f} m' for row in found]),
        (f'The same {length} frames, {origin}, RMSE', [length_text(row[2]) for row in found]),
        (f'The same {length} frames, {origin}, rotation', [angle_text(row[3]) for row in found])]


def odometry_note(metrics):
    """
    Return how the trajectory was compared.

    Parameters
    ----------
    metrics : dict
        See `odometry_verdict`.

    Returns
    -------
    str

    """
    lengths = metrics['segment_lengths_m']
    segments = (f"segments of {', '.join(f'{length:g}' for length in lengths)} m"
                if lengths else 'no segment, for the path is too short')
    published = '' if lengths and lengths[0] >= 100 else \
        ' (KITTI takes 100 to 800 m, for which this path is too short)'
    baselines = ('' if not metrics['baselines'] else
                 ' Five-point is OpenCV’s essential matrix with recoverPose on followed corners, '
                 'its steps as long as ours; constant motion is the mean of the true steps.')
    return (f'Trajectory errors are root mean squares after alignment. Drift is KITTI’s, over '
            f'{segments}{published}. The Zhou protocol fits a scale to every snippet and divides '
            'by the number of frames instead of its root: it says little about odometry. '
            + _snippet_note(metrics) + baselines + _live_note(metrics) + ' '
            + calibration_sentence(metrics, ODOMETRY)).rstrip()


def _live_note(metrics):
    """Return what only offline evaluation knows."""
    return ('' if metrics['frames_network_alone'] is not None else
            ' A live node does not tell how each motion was found; evaluate odometry does, and '
            'measures the network alone beside.')


def _snippet_note(metrics):
    """Return which snippets were scored."""
    length = metrics['snippet_length']
    if metrics.get(f'ate{length}_network_zhou_m') is not None:
        return (f'Snippets of the network are as it predicts them, {length} frames at once, which '
                'published numbers are of; chained ones are cut from the trajectory.')
    sentence = 'Snippets are cut from the chained trajectory'
    if length == 0:
        sentence += ', for the model finds motions by alignment and predicts none'
    return f'{sentence}; published numbers are of snippets that a network predicts at once.'
