# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The result of an evaluation in words and in one table."""

import numpy as np

from geo_perception.evaluation.number_text import angle_text, length_text, share_text
from geo_perception.evaluation.relocalization import RECALL_BOUNDS
from geo_perception.evaluation.relocalization_result import pose_errors
from geo_perception.evaluation.report import delay_figure, Figure


def verdict(metrics):
    """
    Return the result in one sentence.

    Parameters
    ----------
    metrics : dict
        From :func:`geo_perception.evaluation.relocalization.score`.

    Returns
    -------
    str

    """
    answered = metrics['frames_processed'] - metrics['frames_withheld']
    position, orientation = metrics['position_median_m'], metrics['orientation_median_deg']
    if metrics['frames_processed'] == 0:
        return f"All {metrics['frames_in']} images were dropped on the way: there is no answer."
    if answered == 0:
        return ('The relocalizer trusted none of its answers: it refused all '
                f"{metrics['frames_processed']} images that it processed.")
    if position is None:
        return f"{answered} of {metrics['frames_in']} images were answered; the recording has " \
               'no poses to compare with.'
    sentence = f'The median answer is {length_text(position)} and {angle_text(orientation)} off'
    baseline = metrics['retrieval_position_median_m']
    if baseline is None:
        return sentence + '.'
    closer = baseline / max(position, 1e-9)
    better = metrics['retrieval_orientation_median_deg'] / max(orientation, 1e-9)
    if min(closer, better) < 1.0:
        return (f'{sentence}, which does not beat image retrieval ({length_text(baseline)}, '
                f"{angle_text(metrics['retrieval_orientation_median_deg'])}).")
    return (f'{sentence}: {closer:.1f} times closer and {better:.1f} times better aligned than '
            'image retrieval.')


def verified_sentence(metrics):
    """
    Return what a place memory made of the answers, in one sentence.

    Parameters
    ----------
    metrics : dict
        From :func:`geo_perception.evaluation.relocalization.score_verified`.

    Returns
    -------
    str

    """
    sentence = f"Verified: {share_text(metrics['answered'])} answered"
    if metrics['coverage_95'] is None:
        return sentence + '.'
    return (f"{sentence}, {metrics['gross_errors']} of them off by more than 0.5 m or 15°; the "
            f"truth is in {share_text(metrics['coverage_68'])} and "
            f"{share_text(metrics['coverage_95'])} of the 68 % and 95 % ellipsoids "
            f"(normalised error {metrics['normalised_error']:.2f}).")


def key_figures(metrics):
    """
    Return the numbers for the head of the report.

    Parameters
    ----------
    metrics : dict
        From :func:`geo_perception.evaluation.relocalization.score`.

    Returns
    -------
    list of Figure

    """
    answered = metrics['frames_processed'] - metrics['frames_withheld']
    return [
        Figure('Position error, median', length_text(metrics['position_median_m']),
               f"retrieval {length_text(metrics['retrieval_position_median_m'])}"),
        Figure('Orientation error, median', angle_text(metrics['orientation_median_deg']),
               f"retrieval {angle_text(metrics['retrieval_orientation_median_deg'])}"),
        Figure('Within 0.25 m and 10°', share_text(metrics['within_0.25m_10deg']),
               f"within 0.1 m and 5°: {share_text(metrics['within_0.1m_5deg'])}"),
        delay_figure(metrics),
        Figure('Images answered', f"{answered} of {metrics['frames_in']}",
               f"{metrics['frames_withheld']} refused, {metrics['frames_dropped']} dropped")]


def summary_table(result, metrics):
    """
    Return the comparison with the baselines as text.

    Parameters
    ----------
    result : RelocalizationResult
        What happened, with some answers that have a truth.
    metrics : dict
        Its score.

    Returns
    -------
    columns : list of str
        The systems compared, ours first.
    rows : list of (str, list of str)
        Name and one cell a system.

    """
    ours = 'Relocalizer' if result.coarse is None else 'Verified'
    systems = [(ours, np.where(result.accepted[:, None, None], result.T_estimate, np.nan))]
    if result.coarse is not None:
        systems.append(('Coarse', result.coarse.T_estimate))
    if result.T_retrieval is not None:
        systems.append(('Retrieval', result.T_retrieval))
    if result.T_nearest is not None:
        systems.append(('Nearest pose', result.T_nearest))
    processed = result.processed & np.isfinite(result.T_truth).all((1, 2))
    answered = result.accepted & processed
    errors = [pose_errors(T, result.T_truth) for _, T in systems]
    rows = [
        ('Position error, median', [length_text(np.median(p[answered])) for p, _ in errors]),
        ('Position error, 95th percentile',
         [length_text(np.percentile(p[answered], 95)) for p, _ in errors]),
        ('Orientation error, median', [angle_text(np.median(o[answered])) for _, o in errors]),
        ('Orientation error, 95th percentile',
         [angle_text(np.percentile(o[answered], 95)) for _, o in errors])]
    for metres, degrees in RECALL_BOUNDS:
        rows.append((f'Within {metres:g} m and {degrees:g}°', [
            share_text(np.mean(((p <= metres) & (o <= degrees))[processed])) for p, o in errors]))
    if metrics['frames_withheld']:
        every = [(np.median(p[processed]), np.median(o[processed])) for p, o in errors[1:]]
        every.insert(0, (metrics['position_median_all_m'],
                         metrics['orientation_median_all_deg']))
        rows += [('Position error, median with refused', [length_text(p) for p, _ in every]),
                 ('Orientation error, median with refused', [angle_text(o) for _, o in every])]
    return [name for name, _ in systems], rows
