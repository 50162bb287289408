# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What got better and what got worse, told apart from what cannot be compared."""

from copy import deepcopy
import json

import pytest
from report_page import Page
from test_report import make_result

from geo_perception.cli import main
from geo_perception.errors import RunError
from geo_perception.evaluation.comparison import (
    caveats, compare_metrics, counts, JOBS, value_text)
from geo_perception.evaluation.relocalization import score
from geo_perception.evaluation.relocalization_summary import summary_table
from geo_perception.evaluation.run_folders import find_runs, paired, read_metrics

MACHINE = {'cpu': 'A', 'cores': '2'}
METRICS = {
    'relocalization': {'position_median_m': 0.1, 'orientation_median_deg': 1.0,
                       'within_0.25m_10deg': 0.9, 'frames_in': 100, 'frames_dropped': 4,
                       'retrieval_position_median_m': 0.4, 'delay_p50_ms': 20.0,
                       'position_normalised_error': 1.5, 'position_in_95_percent_ellipsoid': 0.9},
    'depth': {'abs_rel': 0.1, 'a1': 0.9, 'scale_ratio_median': 1.1, 'crop': 'none'},
    'odometry': {'ate_m': 0.5, 'drift_percent': 2.0, 'path_m': 90.0, 'resets': 1,
                 'segment_lengths_m': [1, 2], 'baselines': {'five_point': {'ate_m': 3.0}}},
    'flow': {'epe_px': 1.0, 'fl_percent': 5.0, 'newest': {'epe_px': 1.0}},
    'motion': {'iou': 0.5, 'false_alarm_rate': 0.02},
    'recording': '/bags/monday.mcap', 'images': 100, 'model': '/models/a.place',
    'model_sha256': 'a' * 64, 'run': 'offline', 'machine': MACHINE}


def changed(job, name, value, metrics=METRICS):
    """Return the metrics with another value."""
    metrics = deepcopy(metrics)
    *path, last = name.split('/')
    place = metrics[job]
    for step in path:
        place = place[step]
    place[last] = value
    return metrics


def verdict(job, name, value, **others):
    """Return what is said of one number that is another now."""
    after = {**changed(job, name, value), **others}
    found = [c for c in compare_metrics(METRICS, after) if (c.job, c.name) == (job, name)]
    return found[0].verdict


@pytest.mark.parametrize('job, name, value, expected', [
    ('relocalization', 'position_median_m', 0.08, 'better'),
    ('relocalization', 'position_median_m', 0.12, 'worse'),
    ('relocalization', 'position_median_m', 0.1015, 'same'),      # 1.5 %
    ('relocalization', 'orientation_median_deg', 1.2, 'worse'),
    ('relocalization', 'within_0.25m_10deg', 0.95, 'better'),
    ('relocalization', 'within_0.25m_10deg', 0.8, 'worse'),
    ('relocalization', 'frames_dropped', 9, 'worse'),
    ('relocalization', 'delay_p50_ms', 21.5, 'same'),             # 7.5 % of a delay
    ('relocalization', 'delay_p50_ms', 25.0, 'worse'),
    ('relocalization', 'position_normalised_error', 1.1, 'better'),
    ('relocalization', 'position_normalised_error', 0.5, 'worse'),  # overdone
    ('relocalization', 'position_in_95_percent_ellipsoid', 0.94, 'better'),
    ('relocalization', 'position_in_95_percent_ellipsoid', 1.0, 'same'),   # as far on that side
    ('relocalization', 'retrieval_position_median_m', 0.8, 'other'),
    ('relocalization', 'frames_in', 50, 'other'),
    ('relocalization', 'position_median_m', None, 'unknown'),
    ('depth', 'abs_rel', 0.2, 'worse'), ('depth', 'a1', 0.95, 'better'),
    ('depth', 'scale_ratio_median', 1.02, 'better'),
    ('depth', 'scale_ratio_median', 0.8, 'worse'),
    ('odometry', 'ate_m', 0.3, 'better'), ('odometry', 'drift_percent', 3.0, 'worse'),
    ('odometry', 'resets', 3, 'worse'), ('odometry', 'path_m', 60.0, 'other'),
    ('odometry', 'baselines/five_point/ate_m', 1.0, 'other'),
    ('flow', 'epe_px', 0.5, 'better'), ('flow', 'newest/epe_px', 2.0, 'worse'),
    ('motion', 'iou', 0.6, 'better'), ('motion', 'false_alarm_rate', 0.08, 'worse')])
def test_each_number_has_its_direction(job, name, value, expected):
    """Errors fall, shares rise, ratios and coverages come nearer; little changes are none."""
    assert verdict(job, name, value) == expected


def test_nothing_changed_is_nothing():
    """All that is judged is the same, and there is nothing to be known."""
    changes = compare_metrics(METRICS, deepcopy(METRICS))
    assert {c.verdict for c in changes} == {'same', 'other'}
    assert {c.change for c in changes if c.before} == {0.0}
    assert counts(iter(changes))['same'] == sum(c.verdict == 'same' for c in changes) > 15
    assert caveats(METRICS, METRICS) == []
    known = dict(METRICS['relocalization'], position_median_m=None)
    both = {**METRICS, 'relocalization': known}
    assert not counts(compare_metrics(both, both))['unknown']


@pytest.mark.parametrize('others, words', [
    ({'recording': '/bags/tuesday.mcap'}, ['different recordings', 'monday', 'tuesday']),
    ({'images': 90}, ['100 images', '90 now']),
    ({'model_sha256': 'b' * 64}, ['The model was a.place (aaaaaaaa)', '(bbbbbbbb)']),
    ({'model_sha256': 'b' * 64, 'model': None}, ['was a.place (aaaaaaaa) and is (bbbbbbbb)']),
    ({'run': 'live'}, ['offline before', 'by live now', 'Delays are not judged']),
    ({'machine': {'cpu': 'B', 'cores': '2'}}, ['Delays are not judged', 'machines differ'])])
def test_what_cannot_be_compared_is_said(others, words):
    """Another place for the same bag is no difference."""
    text = ' '.join(caveats(METRICS, {**METRICS, **others}))
    assert all(word in text for word in words), text
    moved = {**METRICS, 'recording': '/elsewhere/monday.mcap'}
    assert caveats(METRICS, moved) == []
    if 'Delays' in text:
        assert verdict('relocalization', 'delay_p50_ms', 99.0, **others) == 'other'


def test_numbers_have_their_unit():
    """As people write them."""
    for name, value, text in (
            ('position_median_m', 0.123, '12.3 cm'), ('within_0.25m_10deg', 0.5, '50.0 %'),
            ('orientation_median_deg', 1.0, '1.00°'), ('drift_percent', 2.04, '2.0 %'),
            ('delay_p50_ms', 12.3, '12.3 ms'), ('newest/epe_px', 1.5, '1.500 px'),
            ('abs_rel_median_scaled', 0.091, '9.1 %'), ('frames_dropped', 7, '7'),
            ('drift_deg_per_100m', 3.0, '3.00°'), ('iou', None, '–')):
        assert value_text(name, value) == text, name


def test_tables_of_pages_are_in_the_metrics():
    """Those of the baselines, too."""
    result = make_result(40)
    metrics = score(result)
    columns, rows = summary_table(result, metrics)
    table = dict(rows)
    for column, prefix in (('Relocalizer', ''), ('Retrieval', 'retrieval_'),
                           ('Nearest pose', 'nearest_')):
        place = columns.index(column)
        for row, name in (('Position error, median', 'position_median_m'),
                          ('Position error, 95th percentile', 'position_p95_m'),
                          ('Orientation error, 95th percentile', 'orientation_p95_deg')):
            assert table[row][place] == value_text(name, metrics[prefix + name]), (row, column)
        within = metrics[f'{prefix}within_0.25m_10deg']
        assert table['Within 0.25 m and 10°'][place] == f'{100 * within:.0f} %'


def write(folder, metrics):
    """Write the metrics of a run."""
    folder.mkdir(parents=True)
    (folder / 'metrics.json').write_text(json.dumps(metrics))


@pytest.fixture
def folders(tmp_path):
    """Return a folder of runs now and one of before; one bag is in each alone."""
    write(tmp_path / 'now' / 'monday', changed('depth', 'abs_rel', 0.2))
    write(tmp_path / 'now' / 'tuesday', changed('odometry', 'ate_m', 0.1))
    write(tmp_path / 'now' / 'new', METRICS)
    for name in ('monday', 'tuesday', '<old>'):
        write(tmp_path / 'before' / name, METRICS)
    return tmp_path


def report(capsys, *arguments):
    """Return (status, standard output, standard error)."""
    status = main(['report', *map(str, arguments)])
    captured = capsys.readouterr()
    assert 'Traceback' not in captured.err
    return status, captured.out, captured.err


def test_many_bags_side_by_side(folders, capsys):
    """A row a bag for people, every number for machines, and the status for scripts."""
    now, before = folders / 'now', folders / 'before'
    (now / 'monday' / 'run.npz').write_text('of another version')
    status, out, _ = report(capsys, now, '--compare', before, '--json', folders / 'c.json')
    assert status == 0 and 'measure again; the page is left as it is' in out
    assert 'got worse' in out and 'Only in' in out and '▼ 20.0 %' in out and '▲ 10.0 cm' in out
    outcome = json.loads((now / 'comparison.json').read_text())
    assert outcome == json.loads((folders / 'c.json').read_text())
    assert (outcome['only_after'], outcome['only_before']) == (['new'], ['<old>'])
    assert outcome['counts']['better'] == outcome['counts']['worse'] == 1
    change, = [c for c in outcome['runs']['monday']['changes'] if c['verdict'] == 'worse']
    assert (change['job'], change['name'], change['before'], change['after'],
            change['change']) == ('depth', 'abs_rel', 0.1, 0.2, 1.0)
    page = Page(now / 'comparison.html')
    assert '1 numbers got better, 1 got worse' in page.text and 'was 10.0 % (+100 %)' in page.text
    assert page.raw.count('class="number worse"') == 3   # in the table, and among all numbers
    assert '<old>' in page.text and '<old>' not in page.raw
    index = Page(now / 'index.html')
    assert [name for name in index.lesser_headings if name in JOBS.values()] == [
        'Relocalization', 'Depth', 'Odometry', 'Flow', 'What moves']
    assert index.markup.count('<th>tuesday</th>') == 5 and not index.sources
    assert set(json.loads((now / 'summary.json').read_text())['runs']) == {
        'monday', 'tuesday', 'new'}
    assert report(capsys, now, '--compare', now, '--fail_if_worse')[0] == 0
    status, _, error = report(capsys, now, '--compare', before, '--fail_if_worse')
    assert status == 1 and 'monday depth abs_rel' in error


def test_two_single_runs_need_no_common_name(folders, capsys):
    """What they are of is told from their metrics."""
    status, out, _ = report(capsys, folders / 'now' / 'monday', '--compare',
                            folders / 'before' / 'tuesday', '--output', folders / 'out')
    assert status == 0 and '1 got worse' in out
    assert sorted(path.name for path in (folders / 'out').iterdir()) == [
        'comparison.html', 'comparison.json']


def test_only_jobs_of_both_are_compared(folders, capsys):
    """The others are named; with none in common there is nothing but the sentence."""
    common = {name: METRICS[name] for name in METRICS if name not in JOBS}
    for name, jobs in (('way', ['depth', 'odometry']), ('depth', ['depth', 'flow']),
                       ('place', ['relocalization'])):
        write(folders / name, {**common, **{job: METRICS[job] for job in jobs}})
    status, out, _ = report(capsys, folders / 'way', '--compare', folders / 'depth')
    assert status == 0 and '?' not in out and 'known on one side' not in out
    assert 'Measured only before, and so not compared: Flow.' in out
    assert 'Measured only now, and so not compared: Odometry.' in out
    outcome = json.loads((folders / 'way' / 'comparison.json').read_text())
    assert {change['job'] for change in outcome['runs']['way']['changes']} == {'depth'}
    status, out, error = report(capsys, folders / 'place', '--compare', folders / 'way')
    assert status == 1 and '?' not in out and error.count('\n') == 1
    assert 'was Depth, Odometry before and Relocalization now' in error
    assert not (folders / 'place' / 'comparison.html').exists()


def test_what_is_no_run_is_refused(folders, capsys):
    """In one sentence, whatever the file holds."""
    empty = folders / 'empty'
    empty.mkdir()
    for arguments, words in (
            ((folders / 'nowhere',), 'is no folder'), ((empty,), 'no metrics.json'),
            ((folders / 'now', '--compare', empty), 'no metrics.json'),
            ((folders / 'now', '--fail_if_worse'), 'give --compare')):
        status, _, error = report(capsys, *arguments)
        assert status == 1 and words in error and error.count('\n') == 1
    assert not (folders / 'now' / 'index.html').exists()   # nothing is half done
    for content in ('', '{', '[1]', '{"depth": 3}', '{"a": {}}', '[' * 100_000, '\udcff'):
        (empty / 'metrics.json').write_bytes(content.encode(errors='surrogateescape'))
        with pytest.raises(RunError, match='metrics.json'):
            read_metrics(empty)
    with pytest.raises(RunError, match='no run is in both'):
        paired({'a': 1, 'b': 2}, {'c': 3})
    assert list(find_runs(folders / 'now')) == ['monday', 'new', 'tuesday']
