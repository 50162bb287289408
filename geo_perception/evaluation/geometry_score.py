# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The metrics of a run of the geometry pipeline, by the names used in every JSON file."""

import numpy as np

from geo_perception.evaluation import odometry
from geo_perception.evaluation.depth import DISTANCES, METRICS
from geo_perception.evaluation.relocalization import calibration, percentile
from geo_perception.evaluation.snippet_errors import compare_snippets, snippet_errors
from geo_perception.geometry import se3

# Snippets of the published protocol; never compare one with the other.
SNIPPETS = (3, 5)


def score_of_depth(recording):
    """
    Return the metrics of the depth: means over images, as published.

    Parameters
    ----------
    recording : GeometryRecording
        After the run.

    Returns
    -------
    dict
        Plain numbers, None where there is nothing to count. Those named like ``abs_rel`` are of
        the depth as it is, those with ``_median_scaled`` after each image was brought to the true
        scale, which hides every error of the scale: its ratios' median and spread (standard
        deviation over median) stand beside. ``flat_abs_rel`` is that of a flat picture at the
        true median; ``by_distance`` see `depth_by_distance`.

    """
    depth = recording.depth
    scored = np.isfinite(depth.ratio)
    metrics = {name: _mean(depth.errors[:, i]) for i, name in enumerate(METRICS)}
    metrics.update({f'{name}_median_scaled': _mean(depth.errors_scaled[:, i])
                    for i, name in enumerate(METRICS)})
    ratios = depth.ratio[scored]
    metrics.update({
        'scale_ratio_median': float(np.median(ratios)) if len(ratios) else None,
        'scale_ratio_spread': float(np.std(ratios) / np.median(ratios)) if len(ratios) else None,
        'flat_abs_rel': _mean(depth.flat_abs_rel), 'coverage': _mean(depth.coverage),
        'images_scored': int(scored.sum()), 'crop': depth.rules.crop, 'cap_m': depth.rules.cap,
        'by_distance': depth_by_distance(depth)})
    metrics.update(_frames(recording))
    return metrics


def depth_by_distance(depth):
    """
    Return the relative error of pixels by their true distance.

    Parameters
    ----------
    depth : DepthScores
        Of a recording.

    Returns
    -------
    list of dict
        ``from_m``, ``to_m`` (None without an end), ``pixels``, ``abs_rel`` and
        ``abs_rel_median_scaled``, of all distances that occur.

    """
    pixels = depth.distance_pixels.sum(0)
    metric = np.isfinite(depth.errors[:, 0]).any()
    rows = []
    for i in np.flatnonzero(pixels):
        as_is, scaled = (float(np.nansum(errors, 0)[i] / pixels[i]) for errors in (
            depth.distance_errors, depth.distance_errors_scaled))
        rows.append({'from_m': float(DISTANCES[i]),
                     'to_m': float(DISTANCES[i + 1]) if np.isfinite(DISTANCES[i + 1]) else None,
                     'pixels': int(pixels[i]), 'abs_rel': as_is if metric else None,
                     'abs_rel_median_scaled': scaled})
    return rows


def score_of_odometry(recording):
    """
    Return the metrics of the odometry.

    ``ate_m``, ``drift_percent`` and ``rpe_translation_m`` are of the metres that were answered;
    their forms with ``sim3`` are after one scale for the whole recording was fitted. Drift is
    KITTI's, over ``segment_lengths_m``. ``ate5_zhou_m`` is SfMLearner's over snippets of the
    chained trajectory, which is no RMSE; ``ate5_rmse_m`` is the RMSE of the same snippets.
    ``motion_position_in_68_percent_ellipsoid`` and so on tell how well the stated covariances of
    the steps fit, ``pose_position_...`` those of the pose since the start. Errors of a pose are
    those of all steps before: one drive is little to judge by.
    ``network_drift_percent`` is the drift of what the model was trained with, without corners, and
    ``frames_network_alone`` counts the frames whose motion is of that; both None of a live node.
    ``ate5_network_zhou_m`` is of snippets as an ego-motion network for five frames predicts them
    at once, which published numbers are of; ``snippet_length`` is the number of frames that the
    model's network sees, 0 without one, None where its snippets were not asked for.

    Parameters
    ----------
    recording : GeometryRecording
        After the run.

    Returns
    -------
    dict
        Plain numbers, None where there is nothing to count; ``baselines`` holds the same for
        each other system.

    """
    metrics = score_of_trajectory(recording, recording.T_odom_camera)
    metrics.update(_score_of_snippets(recording))
    metrics.update(_motion_calibration(recording))
    metrics.update(_pose_calibration(recording))
    metrics.update(_frames(recording))
    metrics['frames_answered'] = int(np.isfinite(recording.T_odom_camera).all((1, 2)).sum())
    metrics['resets'] = sum(map(bool, recording.resets))
    metrics['drift_by_length'] = [
        {'length_m': length, 'percent': percent, 'deg_per_100m': degrees, 'segments': segments}
        for length, percent, degrees, segments in drift_by_length(
            recording, recording.T_odom_camera, metrics['ate_m'] is None)]
    # A node does not tell.
    metrics['frames_network_alone'] = (
        sum(state.startswith('network') for state in recording.states)
        if any(recording.states) else None)
    metrics['baselines'] = {name: score_of_trajectory(recording, T)
                            for name, T in recording.baselines.items()}
    metrics['network_drift_percent'] = metrics['baselines'].get('network', {}).get(
        'drift_percent')
    return metrics


def score_of_flow(recording):
    """
    Return the metrics of the flow of each image to the one before.

    Parameters
    ----------
    recording : GeometryRecording
        After the run, with flow.

    Returns
    -------
    dict
        See `geo_perception.evaluation.flow.FlowScore.summary`; ``rigid`` holds the same of a
        scene that stands still.

    """
    metrics = recording.flow.flow_summary()
    return {**metrics, 'images_scored': metrics['images'], **_frames(recording)}


def score_of_motion(recording):
    """
    Return the metrics of what moves by itself.

    Parameters
    ----------
    recording : GeometryRecording
        After the run, with flow.

    Returns
    -------
    dict
        See `geo_perception.evaluation.motion_segmentation`; None where there is nothing to tell a
        figure by.

    """
    metrics = recording.flow.motion_summary()
    return {**metrics, 'images_scored': metrics['images'], **_frames(recording)}


def score_of_trajectory(recording, T_estimate):
    """
    Return the errors of one trajectory of a recording.

    Parameters
    ----------
    recording : GeometryRecording
        With the truth; its ``metric`` says whether estimates are in metres.
    T_estimate : np.ndarray
        Poses like ``T_odom_camera``, shape (N, 4, 4), NaN where unknown.

    Returns
    -------
    dict

    """
    used, metric = compared_frames(recording, T_estimate)
    names = ['ate_m', 'ate_sim3_m', 'sim3_scale', 'drift_percent', 'drift_deg_per_100m',
             'drift_sim3_percent', 'rpe_translation_m', 'rpe_rotation_deg',
             'rpe_translation_sim3_m']
    metrics = dict.fromkeys(names)
    metrics.update({'path_m': None, 'segment_lengths_m': []})
    for length in SNIPPETS:
        metrics.update(dict.fromkeys(_snippet_names(length)))
    if len(used) < 2:
        return metrics
    T, truth = T_estimate[used], recording.T_truth[used]
    path = float(odometry.path_length(truth)[-1])
    lengths, start_every = odometry.segment_lengths(path)
    alignment = odometry.fit_alignment(T[:, :3, 3], truth[:, :3, 3], with_scale=True)
    rescaled = odometry.scaled(T, alignment.scale)
    rigid, similar = (odometry.absolute_errors(T, truth, with_scale)
                      for with_scale in (False, True))
    drift, drift_similar = (odometry.segment_drift(poses, truth, lengths, start_every)
                            for poses in (T, rescaled))
    # Frames that were dropped make a step longer, no worse.
    rpe, rpe_similar = (odometry.motion_errors(odometry.steps(poses), odometry.steps(truth))
                        for poses in (T, rescaled))
    metrics.update({
        'ate_sim3_m': _rms(similar), 'sim3_scale': alignment.scale,
        'drift_deg_per_100m': _scaled_mean(drift.rotation),
        'drift_sim3_percent': _scaled_mean(drift_similar.translation),
        'rpe_rotation_deg': _rms(rpe[1]), 'rpe_translation_sim3_m': _rms(rpe_similar[0]),
        'path_m': path, 'segment_lengths_m': np.unique(drift.lengths).tolist()})
    if metric:
        metrics.update({'ate_m': _rms(rigid), 'drift_percent': _scaled_mean(drift.translation),
                        'rpe_translation_m': _rms(rpe[0])})
    for length in SNIPPETS:
        windows = _windows(used, length)
        if len(windows):
            values = _snippet_values(*snippet_errors(T, truth, windows), length)
            metrics.update(zip(_snippet_names(length), values))
    return metrics


def compared_frames(recording, T_estimate):
    """
    Return the frames of which truth and estimate are compared.

    Until a scale is known poses have another unit, so they are left out where there are metric
    ones.

    Parameters
    ----------
    recording : GeometryRecording
        With the truth.
    T_estimate : np.ndarray
        Poses, shape (N, 4, 4), NaN where unknown.

    Returns
    -------
    used : np.ndarray
        Indices.
    metric : bool
        Whether estimates are in metres there.

    """
    known = np.isfinite(T_estimate).all((1, 2)) & np.isfinite(recording.T_truth).all((1, 2))
    metric = bool((known & recording.metric).sum() >= 2)
    return np.flatnonzero(known & recording.metric if metric else known), metric


def drift_by_length(recording, T_estimate, with_scale):
    """
    Return KITTI's drift for each length of segments.

    Parameters
    ----------
    recording : GeometryRecording
        With the truth.
    T_estimate : np.ndarray
        Poses, shape (N, 4, 4), NaN where unknown.
    with_scale : bool
        Whether one scale is fitted first.

    Returns
    -------
    list of tuple
        See `geo_perception.evaluation.odometry.Drift.by_length`.

    """
    used, _ = compared_frames(recording, T_estimate)
    if len(used) < 2:
        return []
    T, truth = T_estimate[used], recording.T_truth[used]
    if with_scale:
        T = odometry.scaled(T, odometry.fit_alignment(T[:, :3, 3], truth[:, :3, 3], True).scale)
    lengths = odometry.segment_lengths(odometry.path_length(truth)[-1])
    return odometry.segment_drift(T, truth, *lengths).by_length()


def _score_of_snippets(recording):
    """Return the errors of the snippets that the ego-motion network predicts at once."""
    metrics = dict.fromkeys(name for length in SNIPPETS for name in _snippet_names(length, True))
    metrics['snippet_length'] = length = (
        None if recording.snippets is None else recording.snippets.shape[1])
    if length not in SNIPPETS or length > len(recording):
        return metrics
    truth = recording.T_truth[_windows(np.arange(len(recording)), length)]
    snippets = recording.snippets[:len(truth)]
    known = np.isfinite(truth).all((1, 2, 3)) & np.isfinite(snippets).all((1, 2, 3))
    if known.any():
        snippets, truth = snippets[known], truth[known]
        values = _snippet_values(
            *compare_snippets(snippets, se3.inverse_transform(truth[:, :1]) @ truth), length)
        metrics.update(zip(_snippet_names(length, True), values))
    return metrics


def _snippet_names(length, of_network=False):
    prefix = f'ate{length}_network' if of_network else f'ate{length}'
    return tuple(f'{prefix}_{name}' for name in ('zhou_m', 'zhou_std_m', 'rmse_m',
                                                 'rotation_deg'))


def _snippet_values(ate, rotation, length):
    """Return what `_snippet_names` names."""
    # The original leaves out snippets without any error, and so do its numbers.
    counted = ate[ate != 0] if (ate != 0).any() else ate
    return tuple(map(float, (counted.mean(), counted.std(), (np.sqrt(length) * ate).mean(),
                             rotation.mean())))


def _windows(used, length):
    """Return windows of frames that follow each other, as positions in ``used``."""
    windows = np.arange(max(len(used) - length + 1, 0))[:, None] + np.arange(length)
    return windows[(np.diff(used[windows], axis=1) == 1).all(1)]


def _motion_calibration(recording):
    """Return how well the stated covariance of each motion fits its error."""
    T, truth = recording.T_odom_camera, recording.T_truth
    answered = np.isfinite(T).all((1, 2))
    index = np.flatnonzero(answered & recording.metric)
    before, after = index[:-1], index[1:]
    usable = (np.isfinite(recording.motion_covariance[after]).all((1, 2))
              & np.isfinite(truth[before]).all((1, 2)) & np.isfinite(truth[after]).all((1, 2)))
    before, after = before[usable], after[usable]
    motion, true = (se3.inverse_transform(poses[before]) @ poses[after] for poses in (T, truth))
    scores = calibration(motion, true, recording.motion_covariance[after])
    return {f'motion_{name}': value for name, value in scores.items()}


def _pose_calibration(recording):
    """Return how well the stated covariance of the pose fits what errors add up to."""
    T, truth, covariance = (recording.T_odom_camera, recording.T_truth,
                            recording.pose_covariance)
    start, pairs = None, []
    for i in np.flatnonzero(np.isfinite(T).all((1, 2)) & recording.metric):
        if np.isnan(covariance[i]).any():
            start = i
        elif start is not None:
            pairs.append((start, i))
    starts, ends = np.reshape(pairs, (-1, 2)).T.astype(int)
    known = np.isfinite(truth[starts]).all((1, 2)) & np.isfinite(truth[ends]).all((1, 2))
    starts, ends = starts[known], ends[known]
    pose, true = (se3.inverse_transform(poses[starts]) @ poses[ends] for poses in (T, truth))
    R = np.swapaxes(T[starts, :3, :3], 1, 2)
    turned = np.array([se3.rotate_pose_covariance(covariance[end], turn)
                       for end, turn in zip(ends, R)]).reshape(-1, 6, 6)
    scores = calibration(pose, true, turned)
    return {f'pose_{name}': value for name, value in scores.items()}


def _frames(recording):
    return {'frames_in': len(recording), 'frames_processed': int(recording.processed.sum()),
            'frames_dropped': int((~recording.processed).sum()),
            'delay_p50_ms': percentile(recording.delay_ms, 50),
            'delay_p95_ms': percentile(recording.delay_ms, 95)}


def _mean(values):
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else None


def _rms(values):
    return float(np.sqrt(np.mean(values ** 2)))


def _scaled_mean(values):
    """Return a mean in percent, or per 100 m."""
    return float(100.0 * values.mean()) if len(values) else None
