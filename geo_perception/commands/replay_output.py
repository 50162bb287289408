# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What is left behind by measuring several nodes on one recording: one JSON file, one report."""

from pathlib import Path

from rich.console import Console

from geo_perception.commands.geometry_evaluation import (
    present_geometry, print_geometry, scored_jobs)
from geo_perception.commands.relocalization_output import present, print_relocalization
from geo_perception.environment import command_line, describe_machine
from geo_perception.evaluation.geometry_report import geometry_parts
from geo_perception.evaluation.metrics_file import write_metrics
from geo_perception.evaluation.relocalization_report import relocalization_part
from geo_perception.evaluation.report import (
    provenance_section, recording_text, title_of, write_report)
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
        Folder for ``report.html`` and ``frames.csv``; with both nodes also
        ``geometry_frames.csv``.
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
    written = []
    if json:
        write_metrics(
            json, metrics, recording=str(name), model=model.path, model_sha256=model.sha256,
            geometry_model=geometry_model.path, geometry_model_sha256=geometry_model.sha256,
            run=result.mode, scale=recording.scale, command=command_line(),
            machine=describe_machine())
        written.append(json)
    if report:
        written += [str(Path(report) / file) for file in (
            'report.html', 'frames.csv', 'geometry_frames.csv')]
        parts = [relocalization_part(result, sequence, Retrieval.from_model(model), model),
                 *geometry_parts(recording, geometry_model, jobs)]
        write_report(written[-3], title_of(name), parts, [provenance_section(command_line(), [
            ('Recording', recording_text(name, result)), ('Run', result.mode),
            ('Scale', recording.scale)])])
        result.to_csv(written[-2])
        recording.to_csv(written[-1])
    for path in written:
        console.print(f'wrote {path}', highlight=False, soft_wrap=True)
    return metrics
