# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""How good a relocalizer was on one recording: errors, metrics and calibration."""

import numpy as np

from geo_perception.evaluation.relocalization_result import pose_errors
from geo_perception.geometry import se3
from geo_perception.inference.fix_covariance import CHI2_6
from geo_perception.inference.uncertainty import CHI2_3

# (metres, degrees) pairs of the recall that robots care about indoors.
RECALL_BOUNDS = ((0.1, 5.0), (0.25, 10.0))
# One degree weighs as much as 25 mm when "the nearest pose" has to be one pose.
_NEAREST_METRES_PER_DEGREE = 0.025
# A fix that is farther off than this is worse than none (metres, degrees).
GROSS_ERROR = (0.5, 15.0)


def nearest_poses(poses, T_truth):
    """
    Return for each true pose the nearest training pose: what perfect retrieval would answer.

    Nearest in ``metres + 0.025 * degrees``.

    Parameters
    ----------
    poses : np.ndarray
        Training poses, shape (M, 4, 4).
    T_truth : np.ndarray
        Shape (N, 4, 4), NaN where unknown.

    Returns
    -------
    np.ndarray
        Shape (N, 4, 4).

    """
    nearest = np.full((len(T_truth), 4, 4), np.nan)
    q = se3.quaternion_from_matrix(poses[:, :3, :3])
    for i in np.flatnonzero(np.isfinite(T_truth).all((1, 2))):
        metres = np.linalg.norm(poses[:, :3, 3] - T_truth[i, :3, 3], axis=1)
        # An arc cosine is exact enough to choose by, and ten times faster.
        cosines = np.abs(q @ se3.quaternion_from_matrix(T_truth[i, :3, :3]))
        degrees = np.degrees(2.0 * np.arccos(np.minimum(cosines, 1.0)))
        nearest[i] = poses[np.argmin(metres + _NEAREST_METRES_PER_DEGREE * degrees)]
    return nearest


def recall_curve(errors, total):
    """
    Return the share of frames with at most a given error, for every error that occurs.

    Parameters
    ----------
    errors : np.ndarray
        Shape (N,), NaN where there was no answer.
    total : int
        Frames that count; those without an answer are never within any error.

    Returns
    -------
    error : np.ndarray
        Ascending, starts at 0.
    share : np.ndarray
        0..1, same shape, starts at 0.

    """
    errors = np.sort(errors[np.isfinite(errors)])
    share = np.arange(1, len(errors) + 1) / max(total, 1)
    return np.concatenate([[0.0], errors]), np.concatenate([[0.0], share])


def score(result):
    """
    Return the metrics of a result, by the names used in every JSON file of this package.

    Position and orientation errors, of the relocalizer and of retrieval, are those of the
    *answered* frames: accepted by the gate, with a known truth. Recall counts every processed
    frame, so a gate cannot improve it. Extra keys ending in ``_all_`` count refused frames too.

    Parameters
    ----------
    result : RelocalizationResult
        What happened.

    Returns
    -------
    dict
        Plain numbers, None where there is nothing to count. Metres, degrees, milliseconds,
        shares 0..1.

    """
    position, orientation = result.errors()
    true = np.isfinite(result.T_truth).all((1, 2))
    answered = result.accepted & np.isfinite(position)
    metrics = {
        'position_median_m': percentile(position[answered], 50),
        'orientation_median_deg': percentile(orientation[answered], 50),
        'position_p95_m': percentile(position[answered], 95),
        'orientation_p95_deg': percentile(orientation[answered], 95)}
    for metres, degrees in RECALL_BOUNDS:
        within = answered & (position <= metres) & (orientation <= degrees)
        metrics[f'within_{metres:g}m_{degrees:g}deg'] = _mean(within[result.processed & true])
    metrics.update(_baseline('retrieval', result.T_retrieval, result.T_truth, answered))
    metrics.update({
        'frames_in': len(result), 'frames_processed': int(result.processed.sum()),
        'frames_dropped': int((~result.processed).sum()),
        'delay_p50_ms': percentile(result.delay_ms, 50),
        'delay_p95_ms': percentile(result.delay_ms, 95),
        'frames_withheld': int((result.processed & ~result.accepted).sum())})
    metrics.update(_baseline('nearest', result.T_nearest, result.T_truth, answered))
    for name, T_baseline in (('retrieval', result.T_retrieval), ('nearest', result.T_nearest)):
        metrics.update(_baseline_spread(name, T_baseline, result.T_truth, answered,
                                        result.processed & true))
    # With refused frames whose pose stayed inside the node these medians cannot be known.
    refused_known = np.isfinite(position[result.processed & true]).all()
    everything = result.processed & true
    metrics['position_median_all_m'] = (
        percentile(position[everything], 50) if refused_known else None)
    metrics['orientation_median_all_deg'] = (
        percentile(orientation[everything], 50) if refused_known else None)
    metrics.update({key.replace('_median_', '_median_all_'): value for key, value in _baseline(
        'retrieval', result.T_retrieval, result.T_truth, everything).items()})
    metrics.update(calibration(result.T_estimate[answered], result.T_truth[answered],
                               result.covariance[answered]))
    return metrics


def jobs_of(result):
    """
    Return the metrics of a result as JSON files have them, pose regression always apart.

    Parameters
    ----------
    result : RelocalizationResult
        What happened.

    Returns
    -------
    dict
        ``relocalization``: the `score` of the network alone; with a place memory ``verified``,
        see `score_verified`, beside it.

    """
    if result.coarse is None:
        return {'relocalization': score(result)}
    return {'relocalization': score(result.coarse), 'verified': score_verified(result)}


def score_verified(result):
    """
    Return the metrics of verified poses.

    Parameters
    ----------
    result : RelocalizationResult
        What happened; ``delay_ms`` is that of the coarse pose and its verification together.

    Returns
    -------
    dict
        Errors of the answered frames; ``answered`` and ``gross_errors``: share of the processed
        frames that were answered, and number of answers farther off than 0.5 m or 15 degrees;
        ``coverage_68`` and ``coverage_95``: share of true poses inside these ellipsoids, position
        and orientation together, and ``normalised_error``, which is 1 when calibrated.

    """
    metrics = score(result)
    position, orientation = result.errors()
    answered = result.accepted & np.isfinite(position)
    gross = answered & ((position > GROSS_ERROR[0]) | (orientation > GROSS_ERROR[1]))
    squared = _mahalanobis_squared(
        pose_differences(result.T_estimate[answered], result.T_truth[answered]),
        result.covariance[answered])
    kept = [name for name in metrics if name.startswith((
        'position_', 'orientation_', 'within_', 'frames_')) and '_all_' not in name]
    return {'answered': _mean(result.accepted[result.processed]),
            'gross_errors': int(gross.sum()), **{name: metrics[name] for name in kept},
            **{f'coverage_{percent}': _mean(squared <= quantile)
               for percent, quantile in CHI2_6.items()},
            'normalised_error': _mean(squared / 6.0),
            'query_p50_ms': metrics['delay_p50_ms'], 'query_p95_ms': metrics['delay_p95_ms']}


def pose_differences(T_estimate, T_truth):
    """
    Return how far poses are off, in the order of covariances.

    Parameters
    ----------
    T_estimate, T_truth : np.ndarray
        ``T_world_camera``, shape (N, 4, 4), finite.

    Returns
    -------
    np.ndarray
        Metres, and radians about the axes of the world, shape (N, 6).

    """
    turned = T_estimate[:, :3, :3] @ np.swapaxes(T_truth[:, :3, :3], 1, 2)
    return np.concatenate([T_estimate[:, :3, 3] - T_truth[:, :3, 3],
                           se3.rotation_vector_from_matrix(turned)], axis=1)


def calibration(T_estimate, T_truth, covariance):
    """
    Return how well covariances predict errors, position and orientation apart.

    Parameters
    ----------
    T_estimate, T_truth : np.ndarray
        Shape (N, 4, 4), finite.
    covariance : np.ndarray
        Shape (N, 6, 6), rotation about the fixed axes of the world (posenet.md section 8.1);
        rows that are not finite or not positive definite are left out.

    Returns
    -------
    dict
        For each of position and orientation: the share of truths inside the 68 % and 95 %
        ellipsoids, and the mean normalised squared error over 3 (1 when calibrated, above 1
        when overconfident). None without a usable row.

    """
    difference = pose_differences(T_estimate, T_truth)
    metrics = {}
    for name, block in (('position', slice(0, 3)), ('orientation', slice(3, 6))):
        squared = _mahalanobis_squared(difference[:, block], covariance[:, block, block])
        for percent, quantile in CHI2_3.items():
            metrics[f'{name}_in_{percent}_percent_ellipsoid'] = _mean(squared <= quantile)
        metrics[f'{name}_normalised_error'] = _mean(squared / 3.0)
    return metrics


def _baseline(name, T_baseline, T_truth, counted):
    if T_baseline is None:
        position = orientation = np.full(len(T_truth), np.nan)
    else:
        position, orientation = pose_errors(T_baseline, T_truth)
    return {f'{name}_position_median_m': percentile(position[counted], 50),
            f'{name}_orientation_median_deg': percentile(orientation[counted], 50)}


def _baseline_spread(name, T_baseline, T_truth, answered, processed):
    """Return the other numbers that stand beside ours in tables."""
    if T_baseline is None:
        return {}
    position, orientation = pose_errors(T_baseline, T_truth)
    return {f'{name}_position_p95_m': percentile(position[answered], 95),
            f'{name}_orientation_p95_deg': percentile(orientation[answered], 95),
            **{f'{name}_within_{metres:g}m_{degrees:g}deg': _mean(
                ((position <= metres) & (orientation <= degrees))[processed])
               for metres, degrees in RECALL_BOUNDS}}


def percentile(values, percent):
    """
    Return a percentile of what is known.

    Parameters
    ----------
    values : np.ndarray
        Of any shape, NaN where unknown.
    percent : float
        0..100.

    Returns
    -------
    float or None
        None where nothing is known.

    """
    values = values[np.isfinite(values)]
    return float(np.percentile(values, percent)) if len(values) else None


def _mean(values):
    return float(np.mean(values)) if len(values) else None


def _mahalanobis_squared(difference, covariance):
    """Return squared normalised errors of the rows with a usable covariance."""
    usable = np.isfinite(covariance).all((1, 2))
    usable[usable] = np.linalg.eigvalsh(covariance[usable])[:, 0] > 0
    solved = np.linalg.solve(covariance[usable], difference[usable, :, None])[..., 0]
    return np.sum(difference[usable] * solved, axis=1)
