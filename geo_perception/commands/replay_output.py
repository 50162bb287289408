# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What is left behind by measuring several nodes on one recording: one JSON file, one report."""

from rich.console import Console

from geo_perception.commands.geometry_evaluation import (
    present_geometry, print_geometry, scored_jobs)
from geo_perception.commands.relocalization_output import present, print_relocalization
from geo_perception.commands.run_output import write_run
from geo_perception.evaluation.run_record import relocalization_run, with_geometry
from geo_perception.inference.retrieval import Retrieval


def present_replay(sequence, name, relocalization=None, geometry=None, json=None, report=None,
                   output=None):
    """
    Print the results and write the files that were asked for.

    Parameters
    ----------
    sequence : Sequence
        The frames that were played.
    name : str
        Of the recording, as the user named it.
    relocalization : tuple of ModelFile and RelocalizationResult, optional
        What the relocalizer answered.
    geometry : tuple of ModelFile and GeometryRecording, optional
        What the geometry node answered.
    json : str, optional
        File for the metrics.
    report : str, optional
        Folder for the page and all that belongs to it, see `write_run`.
    output : str, optional
        File for the per-frame table, CSV; for one node only.

    Returns
    -------
    dict
        Job to metrics.

    """
    if geometry is None:
        model, result = relocalization
        return present(result, sequence, Retrieval.from_model(model), model, name, json=json,
                       report=report, output=output)
    geometry_model, recording = geometry
    jobs = scored_jobs(recording)
    if relocalization is None:
        return present_geometry(recording, geometry_model, name, jobs, json=json, report=report,
                                output=output)
    model, result = relocalization
    console = Console()
    metrics = print_relocalization(console, result)
    console.print()
    metrics.update(print_geometry(console, recording, jobs))
    run = relocalization_run(name, result, sequence if report else None,
                             Retrieval.from_model(model), model)
    write_run(console, with_geometry(run, recording, geometry_model, jobs), metrics, {
        'model': model.path, 'model_sha256': model.sha256, 'geometry_model': geometry_model.path,
        'geometry_model_sha256': geometry_model.sha256, 'run': result.mode,
        'scale': recording.scale}, json, report)
    return metrics
