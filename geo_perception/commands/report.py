# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""``geo_perception report``: pages from what was measured before, and what changed since."""

from typing import Optional


def report(runs: str, *, compare: Optional[str] = None, output: Optional[str] = None,
           json: Optional[str] = None, fail_if_worse: bool = False):
    """
    Make the pages of stored runs again, an overview of many, and compare two measurements.

    Nothing is measured. Of a run its report.html is made of its run.npz, unless another version
    wrote that; of a folder of runs there is an index.html with a row for each as well. With
    --compare the numbers are set beside those of earlier runs, and comparison.html and
    comparison.json say what got better or worse.
    The exit status is 0; with --fail_if_worse it is 1 if any number got worse.

    Parameters
    ----------
    runs : str
        Folder that "evaluate" or "replay" wrote with --report, or one that holds several.
    compare : str, optional
        Folder of the runs before: of one if ``runs`` is one, else those of the same names.
    output : str, optional
        Folder for the comparison and the overview; by default ``runs``.
    json : str, optional
        Write what is returned to this file.
    fail_if_worse : bool
        End with status 1 if any number got worse.

    Returns
    -------
    dict
        Without a comparison: name of each run to its metrics. With one: ``before``, ``after``,
        ``counts``, ``runs`` (name to ``caveats`` and ``changes``), ``only_before`` and
        ``only_after``.

    """
    from pathlib import Path

    from rich.console import Console

    from geo_perception.commands.outcome import write_outcome
    from geo_perception.errors import ConfigurationError, RunError
    from geo_perception.evaluation.comparison_report import verdict_of
    from geo_perception.evaluation.run_folders import find_runs, read_metrics

    if fail_if_worse and not compare:
        raise ConfigurationError('--fail_if_worse needs runs to compare with; give --compare')
    console = Console()
    folders = find_runs(runs)
    earlier = find_runs(compare) if compare else {}   # refused before anything is written
    metrics = {name: read_metrics(folder) for name, folder in folders.items()}
    folder = Path(output or runs)
    _render(console, folders)
    if len(folders) > 1:
        write_index(console, folder, Path(runs).resolve().name, metrics, folders, {})
    if not compare:
        write_outcome(json, metrics)
        return metrics
    compared, outcome = _compare(console, folder, runs, compare, metrics, earlier)
    write_outcome(json, outcome)
    if fail_if_worse and outcome['counts']['worse']:
        worse = [f'{name} {change.job} {change.name}' for name, found in compared.items()
                 for change in found['changes'] if change.verdict == 'worse']
        raise RunError(f'{verdict_of(compared)} Worse: {", ".join(worse)}')
    return outcome


def write_index(console, folder, title, metrics, folders, failures):
    """
    Print and write the overview of many runs.

    Parameters
    ----------
    console : rich.console.Console
        Where to.
    folder : Path or None
        For ``index.html`` and ``summary.json``; None for none.
    title : str
        Of the page.
    metrics : dict of str to dict
        Name of the run to its metrics.
    folders : dict of str to Path
        Name of the run to its folder.
    failures : dict of str to str
        What could not be measured, and why.

    """
    import os

    from geo_perception.commands.outcome import write_outcome
    from geo_perception.commands.tables import print_table
    from geo_perception.evaluation.comparison_report import overview_tables, write_overview
    from geo_perception.evaluation.run_folders import PAGE

    for heading, columns, rows in overview_tables(metrics):
        console.print(heading, style='bold')
        print_table(console, columns, rows)
    if folder is None:
        return
    links = {name: os.path.relpath(path / PAGE, folder) for name, path in folders.items()
             if (path / PAGE).exists()}
    write_overview(folder / 'index.html', title, metrics, links, failures)
    write_outcome(folder / 'summary.json', {'runs': metrics, 'failures': failures})
    for name in ('index.html', 'summary.json'):
        console.print(f'wrote {folder / name}', highlight=False, soft_wrap=True)


def _render(console, folders):
    """Make the pages of runs again where they are stored."""
    from geo_perception.errors import RunError
    from geo_perception.evaluation.run_folders import PAGE, STORED
    from geo_perception.progress import track

    stored = {name: folder for name, folder in folders.items() if (folder / STORED).exists()}
    if stored:
        from geo_perception.evaluation.run_record import load_run
        from geo_perception.evaluation.run_report import write_run_report

        for folder in track(stored.values(), 'Writing', total=len(stored)):
            try:
                run = load_run(folder / STORED)
            except RunError as error:   # of another version: its numbers are good all the same
                console.print(f'{error}; the page is left as it is', highlight=False,
                              soft_wrap=True)
                continue
            write_run_report(folder / PAGE, run)
            console.print(f'wrote {folder / PAGE}', highlight=False, soft_wrap=True)
    missing = [name for name in folders if name not in stored]
    if missing:
        console.print(f"no {STORED}, so no page was made: {', '.join(missing)}", highlight=False,
                      soft_wrap=True)


def _compare(console, folder, runs, compare, metrics, earlier):
    """Print and write what changed."""
    from dataclasses import asdict
    from pathlib import Path

    from geo_perception.commands.outcome import write_outcome
    from geo_perception.commands.tables import print_table
    from geo_perception.evaluation.comparison import counts
    from geo_perception.evaluation.comparison_report import (
        cell_text, compare_runs, comparison_tables, verdict_of, write_comparison)
    from geo_perception.evaluation.run_folders import paired, read_metrics

    pairs, only_after, only_before = paired(metrics, earlier)
    compared = compare_runs({name: (metrics[new], read_metrics(earlier[old]))
                             for name, (new, old) in pairs.items()})
    remarks = [f"Only in {where}: {', '.join(names)}." for where, names in (
        (runs, only_after), (compare, only_before)) if names]
    for heading, columns, rows in comparison_tables(compared):
        console.print(heading, style='bold')
        print_table(console, columns, [
            (name, ['\n'.join(filter(None, cell_text(change))) for change in changes])
            for name, changes in rows])
    for name, found in compared.items():
        for sentence in found['caveats']:
            console.print(f'{name}: {sentence}', highlight=False, soft_wrap=True)
    for sentence in (*remarks, verdict_of(compared)):
        console.print(sentence, highlight=False, soft_wrap=True)
    outcome = {
        'before': str(compare), 'after': str(runs), 'only_before': only_before,
        'only_after': only_after,
        'counts': counts(change for found in compared.values() for change in found['changes']),
        'runs': {name: {'caveats': found['caveats'],
                        'changes': [asdict(change) for change in found['changes']]}
                 for name, found in compared.items()}}
    title = ' against '.join(Path(path).resolve().name for path in (runs, compare))
    write_comparison(folder / 'comparison.html', title, compared,
                     [f'Now is {runs}, before is {compare}.', *remarks])
    write_outcome(folder / 'comparison.json', outcome)
    for name in ('comparison.html', 'comparison.json'):
        console.print(f'wrote {folder / name}', highlight=False, soft_wrap=True)
    return compared, outcome
