# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Two measurements side by side: what got better or worse, and whether they can be compared."""

from dataclasses import dataclass
from math import log
from pathlib import Path
import re
from typing import Optional

from geo_perception.errors import RunError
from geo_perception.evaluation.number_text import (
    angle_text, length_text, milliseconds_text, number_text, percent_text)

JOBS = {'relocalization': 'Relocalization', 'verified': 'Verified poses', 'depth': 'Depth',
        'odometry': 'Odometry', 'flow': 'Flow', 'motion': 'What moves',
        'disparity': 'Disparity'}
# Of each job those that a table of many recordings shows.
HEADLINES = {
    'relocalization': ('position_median_m', 'orientation_median_deg', 'within_0.25m_10deg',
                       'frames_dropped', 'delay_p50_ms'),
    'verified': ('position_median_m', 'orientation_median_deg', 'answered', 'gross_errors',
                 'coverage_95', 'query_p50_ms'),
    'depth': ('abs_rel', 'abs_rel_median_scaled', 'a1', 'scale_ratio_median', 'delay_p50_ms'),
    'odometry': ('ate_m', 'ate_sim3_m', 'drift_percent', 'drift_deg_per_100m', 'delay_p50_ms'),
    'flow': ('epe_px', 'fl_percent'), 'motion': ('iou', 'false_alarm_rate', 'recall'),
    'disparity': ()}
# Smaller changes than this part are none; delays vary from run to run.
_SAME_PART, _SAME_DELAY_PART = 0.02, 0.1
# Nor are smaller ones than this, by unit.
_SAME_SIZES = {'m': 1e-3, 'deg': 0.02, 'percent': 0.1, 'share': 5e-3, 'px': 0.01, 'ms': 1.0,
               'count': 0.5, '': 1e-3}
# What belongs to the recording, or to what ours is measured against.
_FACTS = re.compile(r'^(frames_in|frames_withheld|images(_scored)?|path_m|crop|cap_m|pairs.*|'
                    r'segment_lengths_m|snippet_length|reasons.*)$|^(retrieval|nearest|flat)_')
_OTHERS = ('baselines', 'rigid', 'network', 'dis', 'farneback', 'nothing_moves', 'sgbm')
_TARGETS = ((re.compile(r'(in_68_percent_ellipsoid|coverage_68)$'), 0.68),
            (re.compile(r'(in_95_percent_ellipsoid|coverage_95)$'), 0.95),
            (re.compile(r'normalised_error$|^scale_ratio_median$|^sim3_scale$'), 1.0))
_HIGHER = re.compile(r'^(within_|a[123](_|$)|coverage$|iou$|precision$|recall$|f$|answered$|'
                     r'average_precision$|frames_processed$|frames_answered$)')
_LOWER = re.compile(r'_(m|deg|percent|ms|px|100m)(_|$)|_rate$|^(abs_rel|sq_rel|rmse_log|'
                    r'scale_ratio_spread|gross_errors|resets|frames_dropped|'
                    r'frames_network_alone|false_alarm)')


@dataclass(frozen=True)
class Change:
    """
    One number, before and after.

    Attributes
    ----------
    job, name : str
        Which number.
    before, after : float or None
        None where unknown.
    verdict : str
        ``better``, ``worse``, ``same`` (too little to tell), ``unknown`` where one of them is,
        ``other`` where neither is better.
    change : float or None
        Of the number, part of what it was; None where that is unknown or zero.

    """

    job: str
    name: str
    before: Optional[float]
    after: Optional[float]
    verdict: str
    change: Optional[float]


def compare_metrics(before, after):
    """
    Compare all numbers of the jobs that two measurements have in common.

    Parameters
    ----------
    before, after : dict
        Contents of two ``metrics.json``.

    Returns
    -------
    list of Change
        In the order of ``after``; of nested metrics the name has slashes.

    """
    timed = _timing_differs(before, after) == ''
    changes = []
    for job in _jobs(before):
        if job not in _jobs(after):
            continue
        old, new = (dict(_numbers(metrics[job])) for metrics in (before, after))
        for name in [*new, *(name for name in old if name not in new)]:
            changes.append(_change(job, name, old.get(name), new.get(name), timed))
    return changes


def caveats(before, after):
    """
    Return what has to be known to read a comparison.

    Parameters
    ----------
    before, after : dict
        Contents of two ``metrics.json``.

    Returns
    -------
    list of str
        Sentences; empty where only the model or the program may differ, and does not.

    """
    jobs = [_jobs(metrics) for metrics in (before, after)]
    sentences = [
        f'Measured only {when}, and so not compared: {_headings(alone)}.'
        for when, mine, others in (('before', *jobs), ('now', *reversed(jobs)))
        if (alone := [job for job in mine if job not in others])]
    names = [_recording_name(metrics) for metrics in (before, after)]
    images = [metrics.get('images') for metrics in (before, after)]
    if names[0] != names[1]:
        sentences.append(f'These are different recordings, {names[0]} before and {names[1]} now: '
                         'what differs may come from them.')
    elif None not in images and images[0] != images[1]:
        sentences.append(f'The recording had {images[0]} images before and has {images[1]} now: '
                         'what differs may come from that.')
    for key, what in (('model', 'model'), ('geometry_model', 'geometry model')):
        hashes = [metrics.get(f'{key}_sha256') for metrics in (before, after)]
        if None not in hashes and hashes[0] != hashes[1]:
            old, new = (f"{Path(metrics.get(key) or '').name} ({digest[:8]})".lstrip()
                        for metrics, digest in zip((before, after), hashes))
            sentences.append(f'The {what} was {old} and is {new}.')
    modes = [metrics.get('run') for metrics in (before, after)]
    if modes[0] != modes[1]:
        sentences.append(f'It was measured by {modes[0]} before and by {modes[1]} now.')
    scales = [metrics.get('scale') for metrics in (before, after)]
    if scales[0] != scales[1] and None not in scales:
        sentences.append(f'Scale before: {scales[0]} Now: {scales[1]}')
    why = _timing_differs(before, after)
    return sentences + ([f'Delays are not judged: {why}.'] if why else [])


def require_common_job(pairs):
    """
    Raise when there is nothing to compare.

    Parameters
    ----------
    pairs : iterable of tuple of dict
        Contents of two ``metrics.json`` each, before and after.

    Raises
    ------
    RunError
        When no pair has a job in common.

    """
    pairs = list(pairs)
    if any(job in _jobs(after) for before, after in pairs for job in _jobs(before)):
        return
    before, after = (_headings(job for job in JOBS if any(job in metrics for metrics in side))
                     for side in zip(*pairs))
    raise RunError(f'these runs have nothing to compare: measured was {before} before and {after} '
                   'now; give runs of the same job')


def counts(changes):
    """
    Return how many numbers got better, worse, or stayed.

    Parameters
    ----------
    changes : iterable of Change
        From `compare_metrics`.

    Returns
    -------
    dict
        ``better``, ``worse``, ``same``, ``unknown``.

    """
    verdicts = [change.verdict for change in changes]
    return {verdict: verdicts.count(verdict) for verdict in ('better', 'worse', 'same', 'unknown')}


def headlines(job, metrics):
    """
    Return the few numbers of a job that a table of many recordings shows.

    Parameters
    ----------
    job : str
        Of `JOBS`.
    metrics : iterable of dict
        Those of this job in each recording.

    Returns
    -------
    list of str
        Names that at least one of them knows.

    """
    metrics = list(metrics)
    return [name for name in HEADLINES[job]
            if any(found.get(name) is not None for found in metrics)]


def value_text(name, value):
    """
    Write a metric for people.

    Parameters
    ----------
    name : str
        Of the metric.
    value : float or None
        The metric.

    Returns
    -------
    str
        With its unit; a dash where it is unknown.

    """
    if value is None:
        return '–'
    kind = _unit(name)
    if kind == 'count':
        return f'{value:g}'
    if kind == 'px':
        return f'{value:.3f} px'
    if kind == 'share':
        return percent_text(100 * value)
    return {'m': length_text, 'deg': angle_text, 'percent': percent_text,
            'ms': milliseconds_text}.get(kind, number_text)(value)


def _numbers(metrics, prefix=''):
    """Yield names and numbers of nested metrics."""
    for name, value in metrics.items():
        if isinstance(value, dict):
            yield from _numbers(value, f'{prefix}{name}/')
        elif value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            yield f'{prefix}{name}', value


def _change(job, name, before, after, timed):
    *groups, last = name.split('/')
    change = (after - before) / abs(before) if before and after is not None else None
    fact = _FACTS.search(last) or any(group in _OTHERS for group in groups)
    delay = _unit(last) == 'ms'
    target = next((value for pattern, value in _TARGETS if pattern.search(last)), None)
    higher = bool(_HIGHER.search(last))
    if fact or (delay and not timed) or not (higher or target or _LOWER.search(last)):
        verdict = 'other'
    elif before is None or after is None:
        verdict = 'same' if before is after else 'unknown'
    else:
        # Of ratios twice is as far off as half; all others count by their distance.
        off = [value if target is None else
               abs(log(max(value, 1e-9))) if target == 1.0 else abs(value - target)
               for value in (before, after)]
        if target:   # it is the distance that counts, whatever side
            smallest = _SAME_PART if target == 1.0 else _SAME_SIZES['share']
        else:
            part = _SAME_DELAY_PART if delay else _SAME_PART
            smallest = max(part * abs(before), _SAME_SIZES[_unit(last)])
        gain = (off[1] - off[0]) * (1 if higher else -1)
        verdict = 'same' if abs(gain) <= smallest else 'better' if gain > 0 else 'worse'
    return Change(job, name, before, after, verdict, change)


def _unit(name):
    last = name.rpartition('/')[2]
    if last.startswith(('within_', 'coverage')) or last in (
            'a1', 'a2', 'a3', 'answered', 'iou', 'precision', 'recall', 'f', 'average_precision') \
            or re.match(r'a[123]_', last) or last.endswith(('_rate', '_ellipsoid')) \
            or 'false_alarm' in last or last.startswith('abs_rel') \
            or last in ('scale_ratio_spread', 'flat_abs_rel'):
        return 'share'
    if last.startswith(('frames_', 'images', 'pairs')) or last in (
            'gross_errors', 'resets', 'snippet_length'):
        return 'count'
    for unit in ('ms', 'px', 'percent', 'deg', 'm'):
        if re.search(f'_{unit}(_|$)', last):
            return unit
    return ''


def _jobs(metrics):
    """Return what was measured."""
    return [job for job in JOBS if job in metrics]


def _headings(jobs):
    return ', '.join(JOBS[job] for job in jobs)


def _recording_name(metrics):
    """Return the last part of the path: the same bag may lie elsewhere."""
    return Path(str(metrics.get('recording', ''))).name


def _timing_differs(before, after):
    """Return why delays cannot be compared, empty if they can."""
    if before.get('run') != after.get('run'):
        return 'the ways of measuring differ'
    machines = [metrics.get('machine') or {} for metrics in (before, after)]
    for key in ('cpu', 'cores', 'gpu'):
        if machines[0].get(key) != machines[1].get(key):
            return 'the machines differ'
    return ''
