# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Pages and tables about many recordings, and about what changed between two measurements."""

from geo_perception.evaluation.comparison import (
    caveats, compare_metrics, counts, headlines, JOBS, require_common_job, value_text)
from geo_perception.evaluation.report import Page, templates, write_pages

_NAMES = {
    'position_median_m': 'Position', 'orientation_median_deg': 'Orientation',
    'within_0.25m_10deg': '≤ 0.25 m, 10°', 'frames_dropped': 'Dropped',
    'delay_p50_ms': 'Delay', 'answered': 'Answered', 'gross_errors': 'Gross errors',
    'coverage_95': 'In 95 %', 'query_p50_ms': 'Delay',
    'abs_rel': 'Relative error', 'abs_rel_median_scaled': 'Median-scaled', 'a1': 'Within 25 %',
    'scale_ratio_median': 'True over said', 'ate_m': 'Trajectory error',
    'ate_sim3_m': 'Scale fitted', 'drift_percent': 'Drift',
    'drift_deg_per_100m': 'Rotation drift per 100 m', 'epe_px': 'End point error',
    'fl_percent': 'Outliers', 'iou': 'Intersection over union',
    'false_alarm_rate': 'False alarms', 'recall': 'Found'}
_MEANING = ('Errors of position and orientation, and delays, are medians; “in 95 %” is the share '
            'of true poses inside the 95 % ellipsoid. Of a place file the answers are the '
            'verified poses, and relocalization is what its network says alone.')
_SIGNS = {'better': '▲', 'worse': '▼', 'same': '', 'unknown': '?', 'other': ''}


def overview_tables(runs):
    """
    Return one table a job, a row a recording.

    Parameters
    ----------
    runs : dict of str to dict
        Name of the run to its metrics.

    Returns
    -------
    list of (str, list of str, list of (str, list of str))
        Heading, columns, and rows of a name and cells.

    """
    tables = []
    for job, heading in JOBS.items():
        found = {name: metrics[job] for name, metrics in runs.items() if job in metrics}
        names = headlines(job, found.values())
        if names:
            tables.append((heading, [_NAMES[name] for name in names], [
                (run, [value_text(name, metrics.get(name)) for name in names])
                for run, metrics in found.items()]))
    return tables


def write_overview(path, title, runs, links, failures):
    """
    Write the page about many recordings.

    Parameters
    ----------
    path : str or Path
        The HTML file.
    title : str
        Of the page.
    runs : dict of str to dict
        Name of the run to its metrics.
    links : dict of str to str
        Name of the run to the address of its page, where there is one.
    failures : dict of str to str
        What could not be measured, and why.

    """
    macros = templates('tables.html.j2').module
    sections = []
    for heading, columns, rows in overview_tables(runs):
        sections.append((heading, macros.table(columns, [
            {'name': name, 'link': links.get(name), 'cells': [
                {'text': text, 'look': '', 'note': ''} for text in cells]}
            for name, cells in rows], 'Recording')))
    sections.append(('How to read this', macros.sentences([_MEANING])))
    if failures:
        sections.insert(0, ('Not measured', macros.sentences(
            f'{name}: {why}' for name, why in failures.items())))
    write_pages(path, title, 'many recordings', [Page('runs', '', sections=sections)],
                _recordings(len(runs), len(failures)))


def compare_runs(pairs):
    """
    Compare pairs of runs.

    Parameters
    ----------
    pairs : dict of str to tuple of dict
        Name to the metrics now and before.

    Returns
    -------
    dict of str to dict
        Name to ``changes`` and ``caveats``, see `geo_perception.evaluation.comparison`.

    Raises
    ------
    RunError
        When no pair has a job in common.

    """
    require_common_job((before, after) for after, before in pairs.values())
    return {name: {'changes': compare_metrics(before, after), 'caveats': caveats(before, after)}
            for name, (after, before) in pairs.items()}


def comparison_tables(compared):
    """
    Return one table a job, a row a recording, of what the numbers are and were.

    Parameters
    ----------
    compared : dict
        From `compare_runs`.

    Returns
    -------
    list of (str, list of str, list of (str, list of Change))
        Heading, columns, and rows of a name and changes.

    """
    tables = []
    for job, heading in JOBS.items():
        rows = {name: {change.name: change for change in found['changes'] if change.job == job}
                for name, found in compared.items()}
        rows = {name: found for name, found in rows.items() if found}
        names = headlines(job, ({name: change.after if change.before is None else change.before
                                 for name, change in found.items()} for found in rows.values()))
        names = [name for name in names if all(name in found for found in rows.values())]
        if names:
            tables.append((heading, [_NAMES[name] for name in names],
                           [(run, [found[name] for name in names])
                            for run, found in rows.items()]))
    return tables


def cell_text(change):
    """
    Write a change for people.

    Parameters
    ----------
    change : Change
        From `compare_runs`.

    Returns
    -------
    tuple of str
        The number now with a sign that says which way it went, and what it was.

    """
    now = f'{_SIGNS[change.verdict]} {value_text(change.name, change.after)}'.strip()
    if change.verdict == 'same' or change.before == change.after:
        return now, ''
    part = ''
    if change.change is not None and abs(change.change) < 9.995:
        part = f' ({100 * change.change:+.0f} %)'
    return now, f'was {value_text(change.name, change.before)}{part}'


def verdict_of(compared):
    """
    Return the comparison in one sentence.

    Parameters
    ----------
    compared : dict
        From `compare_runs`.

    Returns
    -------
    str

    """
    total = counts(change for found in compared.values() for change in found['changes'])
    sentence = (f"{total['better']} numbers got better, {total['worse']} got worse, "
                f"{total['same']} are as they were")
    if total['unknown']:
        sentence += f", {total['unknown']} are known on one side only"
    runs = len(compared)
    return f"{sentence}{f', in {runs} recordings' if runs > 1 else ''}."


def write_comparison(path, title, compared, remarks):
    """
    Write the page about what changed.

    Parameters
    ----------
    path : str or Path
        The HTML file.
    title : str
        Of the page.
    compared : dict
        From `compare_runs`.
    remarks : list of str
        What else is to be said.

    """
    macros = templates('tables.html.j2').module
    sections = []
    notes = _merged_caveats(compared) + remarks
    if notes:
        sections.append(('To be known', macros.sentences(notes)))
    for heading, columns, rows in comparison_tables(compared):
        sections.append((heading, macros.table(columns, [
            {'name': name, 'link': None, 'cells': [_cell(change) for change in changes]}
            for name, changes in rows], 'Recording')))
    details = []
    for name, found in compared.items():
        rows = [{'name': f'{JOBS[change.job]}: {_words(change.name)}', 'link': None, 'cells': [
            {'text': value_text(change.name, change.before), 'look': '', 'note': ''},
            _cell(change, noted=False),
            {'text': '–' if change.change is None else f'{100 * change.change:+.1f} %',
             'look': change.verdict, 'note': ''}]} for change in found['changes']]
        details.append((f'{name}: all {len(rows)} numbers',
                        macros.table(['Before', 'Now', 'Change'], rows)))
    sections.append(('Every number', macros.folded(details)))
    sections.append(('How to read this', macros.sentences([
        _MEANING, 'Green with ▲ is better, red with ▼ is worse; grey is the same, or neither.',
        'Changes below 2 % (of delays 10 %), or too small to matter (1 mm, 0.02°, half a percent '
        'of a share, 1 ms), count as none.',
        'Of ratios that should be 1, and shares that should be 68 or 95 %, nearer is better.'])))
    write_pages(path, title, 'before and after', [Page('comparison', '', sections=sections)],
                verdict_of(compared))


def _cell(change, noted=True):
    text, note = cell_text(change)
    return {'text': text, 'look': change.verdict, 'note': note if noted else ''}


def _merged_caveats(compared):
    """Return each sentence once, with the runs that it is of unless it is of all."""
    runs = {}
    for name, found in compared.items():
        for sentence in found['caveats']:
            runs.setdefault(sentence, []).append(name)
    return [sentence if len(names) == len(compared) else f"{', '.join(names)}: {sentence}"
            for sentence, names in runs.items()]


def _words(name):
    return name.replace('_', ' ').replace('/', ', ')


def _recordings(measured, failed):
    sentence = f"{measured} recording{'s were' if measured != 1 else ' was'} measured"
    return f'{sentence}, {failed} could not be.' if failed else f'{sentence}.'
