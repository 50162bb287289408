# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What the verbs that measure a relocalizer leave behind: a table, JSON, CSV and a report."""

from rich.console import Console

from geo_perception.commands.run_output import write_run
from geo_perception.commands.tables import print_table
from geo_perception.evaluation.calibration_text import calibration_sentence, POSE
from geo_perception.evaluation.relocalization import jobs_of, score
from geo_perception.evaluation.relocalization_summary import (
    summary_table, verdict, verified_sentence)
from geo_perception.evaluation.run_record import relocalization_run


def present(result, sequence, retrieval, model, recording, json=None, report=None, output=None):
    """
    Print the result and write the files that were asked for.

    Parameters
    ----------
    result : RelocalizationResult
        What happened.
    sequence : Sequence
        The frames of the result.
    retrieval : Retrieval
        The baseline.
    model : ModelFile
        What was measured.
    recording : str
        As the user named it.
    json : str, optional
        File for the metrics.
    report : str, optional
        Folder for the page and all that belongs to it, see `write_run`.
    output : str, optional
        File for the per-frame table, CSV.

    Returns
    -------
    dict
        Job (``relocalization``, with a place memory ``verified``) to metrics, see
        :func:`geo_perception.evaluation.relocalization.jobs_of`.

    """
    console = Console()
    metrics = print_relocalization(console, result)
    write_run(console, relocalization_run(recording, result, sequence if report else None,
                                          retrieval, model), metrics,
              {'model': model.path, 'model_sha256': model.sha256, 'run': result.mode},
              json, report, output)
    return metrics


def print_relocalization(console, result):
    """
    Print the result.

    Parameters
    ----------
    console : rich.console.Console
        Where to.
    result : RelocalizationResult
        What happened.

    Returns
    -------
    dict
        Job to metrics.

    """
    metrics = score(result)
    console.print(verdict(metrics), highlight=False, soft_wrap=True)
    if metrics['position_median_m'] is not None:
        print_table(console, *summary_table(result, metrics))
    console.print(_frames_sentence(metrics, result.mode), highlight=False, soft_wrap=True)
    jobs = jobs_of(result)
    sentence = calibration_sentence(jobs['relocalization'], POSE)
    if sentence:
        which = 'Coarse poses. ' if 'verified' in jobs else ''
        console.print(which + sentence, highlight=False, soft_wrap=True, style='dim')
    if 'verified' in jobs:
        console.print(verified_sentence(jobs['verified']), highlight=False, soft_wrap=True)
    return jobs


def _frames_sentence(metrics, mode):
    sentence = (f"{metrics['frames_in']} images, {metrics['frames_processed']} processed, "
                f"{metrics['frames_dropped']} dropped, {metrics['frames_withheld']} refused")
    if metrics['delay_p50_ms'] is None:
        return f'{sentence} ({mode})'
    return (f"{sentence}; delay {metrics['delay_p50_ms']:.1f} ms, 95th percentile "
            f"{metrics['delay_p95_ms']:.1f} ms ({mode})")
