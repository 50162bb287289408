# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Folders that runs left behind."""

import json
from pathlib import Path

from geo_perception.errors import RunError
from geo_perception.evaluation.comparison import JOBS

METRICS, STORED, PAGE = 'metrics.json', 'run.npz', 'report.html'


def find_runs(folder):
    """
    Find the runs in a folder.

    Parameters
    ----------
    folder : str or Path
        That of a run, or one with those of several below it.

    Returns
    -------
    dict of str to Path
        Name, which is the path below ``folder`` or that folder's own, to the folder of the run.

    Raises
    ------
    RunError
        When there is none.

    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(f'{folder} is no folder; give one that "geo_perception evaluate" or '
                       '"replay" wrote with --report')
    if (folder / METRICS).is_file():
        return {folder.resolve().name: folder}
    found = {path.parent.relative_to(folder).as_posix(): path.parent
             for path in sorted(folder.rglob(METRICS))}
    if not found:
        raise RunError(f'there is no {METRICS} in {folder} or below; "geo_perception evaluate" '
                       'and "replay" write it with --report')
    return found


def read_metrics(folder):
    """
    Read the metrics of a run.

    Parameters
    ----------
    folder : str or Path
        Of the run.

    Returns
    -------
    dict
        Name of the job to its metrics, and what they were measured on.

    Raises
    ------
    RunError
        When they cannot be read.

    """
    path = Path(folder) / METRICS
    try:
        metrics = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f'{path} cannot be read ({error}); measure again') from error
    if not isinstance(metrics, dict) or not all(
            isinstance(metrics.get(job, {}), dict) for job in JOBS) or not any(
            job in metrics for job in JOBS):
        raise RunError(f'{path} holds no metrics of geo_perception; it needs one of '
                       f"{', '.join(JOBS)}")
    return metrics


def paired(after, before):
    """
    Match two sets of runs.

    Parameters
    ----------
    after, before : dict of str to Path
        From `find_runs`.

    Returns
    -------
    pairs : dict of str to tuple of str
        Name to those of the later and of the earlier run: where each is a single one, the two;
        else those of the same name.
    only_after, only_before : list of str
        Names without the other.

    Raises
    ------
    RunError
        When nothing matches.

    """
    if len(after) == len(before) == 1:
        (new,), (old,) = after, before
        return {new: (new, old)}, [], []
    pairs = {name: (name, name) for name in after if name in before}
    if not pairs:
        raise RunError(f"no run is in both: now {', '.join(after)}; before {', '.join(before)}")
    return (pairs, [name for name in after if name not in before],
            [name for name in before if name not in after])
