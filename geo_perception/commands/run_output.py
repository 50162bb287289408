# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The files that a measurement leaves behind."""

from pathlib import Path

from geo_perception.evaluation.metrics_file import write_metrics
from geo_perception.evaluation.run_folders import METRICS, PAGE, STORED
from geo_perception.evaluation.run_record import store_run
from geo_perception.evaluation.run_report import write_run_report

TABLE, GEOMETRY_TABLE = 'frames.csv', 'geometry_frames.csv'


def write_run(console, run, metrics, facts, json=None, report=None, output=None):
    """
    Write the files that were asked for, and say so.

    Parameters
    ----------
    console : rich.console.Console
        Where to.
    run : Run
        What was measured.
    metrics : dict
        Job to metrics.
    facts : dict
        What the metrics were measured with, see
        `geo_perception.evaluation.metrics_file.write_metrics`.
    json : str, optional
        File for the metrics.
    report : str, optional
        Folder for the page, the metrics, the tables, and what the page can be made of again.
    output : str, optional
        File for the per-frame table, CSV; for one node only.

    """
    tables = dict(zip((TABLE, GEOMETRY_TABLE), run.results))
    numbers = dict.fromkeys(str(path) for path in (
        json, report and Path(report) / METRICS) if path)
    for path in numbers:
        write_metrics(path, metrics, recording=run.name, images=len(run.stamps), **facts,
                      command=run.command, machine=run.machine)
    written = [*numbers]
    if report:
        folder = Path(report)
        write_run_report(folder / PAGE, run)
        for name, result in tables.items():
            result.to_csv(folder / name)
        store_run(folder / STORED, run)
        written += [str(folder / name) for name in (PAGE, *tables, STORED)]
    if output:
        run.results[0].to_csv(output)
        written.append(str(output))
    for path in written:
        console.print(f'wrote {path}', highlight=False, soft_wrap=True)
