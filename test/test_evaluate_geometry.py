# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""``evaluate depth`` and ``evaluate odometry`` from a bag to JSON, CSV and report."""

import csv
import json

from numpy.testing import assert_allclose
import pytest
from report_page import Page
from small_world import poses, write_drive
from tiny_geometry_model import write_geometry_model

from geo_perception.cli import main
from geo_perception.commands.many import _failure, run_names
from geo_perception.datasets.bag_writer import BagWriter
from geo_perception.datasets.recording import open_recording

FRAMES = 12


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """Return a folder with a model and a drive."""
    folder = tmp_path_factory.mktemp('geometry')
    write_geometry_model(folder / 'tiny.safetensors')
    write_drive(folder / 'drive', FRAMES)
    return folder


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    """Compile nothing: it takes longer than everything else here."""
    monkeypatch.setattr('geo_perception.inference.engine._openvino',
                        lambda *_: (None, None, None))


def evaluate(capsys, *arguments):
    """Return (status, standard output, standard error)."""
    status = main(['evaluate', *map(str, arguments)])
    captured = capsys.readouterr()
    assert 'Traceback' not in captured.err
    return status, captured.out, captured.err


def rows(path):
    """Return the rows of a CSV file."""
    return list(csv.DictReader(path.read_text().splitlines()))


def test_depth(place, tmp_path, capsys):
    """Keys for machines, rows for each image, a page, and a table for people."""
    status, out, _ = evaluate(
        capsys, 'depth', place / 'tiny.safetensors', place / 'drive', '--json',
        tmp_path / 'm.json', '--report', tmp_path / 'report', '--output', tmp_path / 'rows.csv',
        '--crop', 'garg', '--cap', '50')
    assert status == 0
    result = json.loads((tmp_path / 'm.json').read_text())
    metrics = result['depth']
    assert metrics['frames_processed'] == metrics['images_scored'] == FRAMES
    assert (metrics['crop'], metrics['cap_m'], metrics['coverage']) == ('garg', 50.0, 1.0)
    assert metrics['abs_rel'] > metrics['abs_rel_median_scaled'] > 0
    assert result['scale'].startswith('2 metres per unit') and result['model_sha256']
    table = rows(tmp_path / 'rows.csv')
    assert len(table) == FRAMES
    assert sum(float(row['abs_rel_median_scaled']) for row in table) / FRAMES \
        == pytest.approx(metrics['abs_rel_median_scaled'])
    assert Page(tmp_path / 'report' / 'report.html').lesser_headings[:3] == [
        'Summary', 'Pictures', 'Errors']
    assert json.loads((tmp_path / 'report' / 'metrics.json').read_text()) == result
    assert rows(tmp_path / 'report' / 'frames.csv') == table
    assert 'Absolute relative error' in out and 'the crop of Garg' in out


def test_odometry(place, tmp_path, capsys):
    """Poses in the table are those that the metrics are of."""
    status, out, _ = evaluate(
        capsys, 'odometry', place / 'tiny.safetensors', place / 'drive', '--json',
        tmp_path / 'm.json', '--report', tmp_path / 'report', '--scale', 'constant',
        '--metres_per_unit', '0.01')
    assert status == 0
    metrics = json.loads((tmp_path / 'm.json').read_text())['odometry']
    assert metrics['path_m'] > 1.0 and metrics['frames_answered'] <= FRAMES
    assert set(metrics['baselines']) == {'network', 'five_point', 'constant_motion'}
    assert metrics['baselines']['constant_motion']['ate_m'] is not None
    table = rows(tmp_path / 'report' / 'frames.csv')
    found = [[float(row[f'true_{axis}_m']) for axis in 'xyz'] for row in table]
    assert_allclose(found, poses(FRAMES)[:, :3, 3], atol=1e-6)
    assert float(table[0]['metres_per_unit']) == 0.01 and float(table[0]['qw']) == 1.0
    assert Page(tmp_path / 'report' / 'report.html').lesser_headings[1] == 'Trajectory'
    assert 'ATE-5 (Zhou' in out and '0.01 metres per unit, as set' in out


def test_without_scale_metres_are_null(place, tmp_path, capsys):
    """They are unknown for machines and a dash for people; without baselines there are none."""
    for job in ('depth', 'odometry'):
        more = ['--baselines', 'false'] if job == 'odometry' else []
        status, out, _ = evaluate(capsys, job, place / 'tiny.safetensors', place / 'drive',
                                  '--scale', 'none', '--json', tmp_path / 'm.json', *more)
        assert status == 0 and 'no unit' in out
        metrics = json.loads((tmp_path / 'm.json').read_text())[job]
        assert metrics['abs_rel' if job == 'depth' else 'ate_m'] is None
        assert metrics['abs_rel_median_scaled' if job == 'depth' else 'ate_sim3_m'] > 0
    assert metrics['baselines'] == {}


def test_scale_from_known_distances(place, tmp_path, capsys):
    """The poses of the recording stand in for wheels."""
    status, out, _ = evaluate(capsys, 'odometry', place / 'tiny.safetensors', place / 'drive',
                              '--scale', 'odometry', '--baselines', 'false')
    assert status == 0 and 'metres per unit from known distances' in out


def test_bag_without_poses_has_depth_all_the_same(place, tmp_path, capsys):
    """Depth needs no poses; odometry does."""
    write_drive(tmp_path / 'unposed', 3, with_poses=False)
    status, out, _ = evaluate(capsys, 'depth', place / 'tiny.safetensors', tmp_path / 'unposed')
    assert status == 0 and 'Means over 3 images' in out
    status, _, error = evaluate(capsys, 'odometry', place / 'tiny.safetensors',
                                tmp_path / 'unposed')
    assert status == 1 and error.startswith('error: ') and 'pose' in error


def test_nothing_to_compare_is_an_error(place, tmp_path, capsys):
    """No mean of an empty list (sfmlearner.md section 9 no. 17)."""
    sequence = open_recording(place / 'drive')
    with BagWriter(tmp_path / 'no_depth') as bag:
        for frame in (sequence[i] for i in range(3)):
            bag.image('/camera/image_raw', frame.stamp, 'camera', frame.image, 'rgb8')
            bag.camera_info('/camera/camera_info', frame.stamp, frame.camera)
            bag.pose('/pose', frame.stamp, 'map', frame.T_world_camera)
    status, _, error = evaluate(capsys, 'depth', place / 'tiny.safetensors', tmp_path / 'no_depth')
    assert status == 1 and 'none of its 3 images has true depth' in error
    status, _, error = evaluate(capsys, 'depth', place / 'tiny.safetensors', place / 'drive',
                                '--cap', '0.5')
    assert status == 1 and 'between 0 and 0.5 m' in error
    status, _, error = evaluate(capsys, 'odometry', place / 'tiny.safetensors',
                                f"{place / 'drive'}[0:1]")
    assert status == 1 and 'fewer than two' in error


def test_training_data_are_not_scored(place, tmp_path, capsys):
    """A drive of KITTI that the model file names."""
    write_geometry_model(tmp_path / 'kitti.safetensors',
                         data={'train': ['00[0:90]'], 'length': 3, 'step': 1})
    (tmp_path / 'kitti_odometry_00').symlink_to(place / 'drive')
    for job in ('depth', 'odometry'):
        status, _, error = evaluate(capsys, job, tmp_path / 'kitti.safetensors',
                                    f"{tmp_path / 'kitti_odometry_00'}[0:3]")
        assert status == 1 and 'was trained on 00[0:90]' in error


@pytest.mark.parametrize('options, words', [
    (['--crop', 'grag'], "the crop 'grag' is unknown"),
    (['--scale', 'wheels'], 'scale source "wheels" is unknown'),
    (['--scale', 'constant', '--metres_per_unit', '0'], 'needs metres per unit above 0, not 0.0'),
    (['--scale', 'camera_height'], 'needs camera_height above 0')])
def test_options_are_checked(place, capsys, options, words):
    """One sentence that names the value."""
    status, _, error = evaluate(capsys, 'depth', place / 'tiny.safetensors', place / 'drive',
                                *options)
    assert status == 1 and words in error


def test_many_recordings_each_by_itself(place, tmp_path, capsys):
    """One that fails costs no other, and is named with its reason; a row a recording."""
    recordings = [place / 'drive', tmp_path / 'nowhere', f"{place / 'drive'}[0:6]"]
    status, out, error = evaluate(
        capsys, 'depth', place / 'tiny.safetensors', *recordings, '--jobs', '2', '--cap', '50',
        '--report', tmp_path / 'runs', '--json', tmp_path / 'all.json')
    assert status == 1 and '1 of 3 recordings could not be measured' in error
    assert 'nowhere does not exist' in error and error.count('\n') == 1
    assert 'Relative error' in out
    summary = json.loads((tmp_path / 'all.json').read_text())
    assert list(summary['runs']) == ['drive', 'drive_0_6']
    assert 'nowhere does not exist' in summary['failures']['nowhere']
    assert summary == json.loads((tmp_path / 'runs' / 'summary.json').read_text())
    for name, images in (('drive', FRAMES), ('drive_0_6', 6)):
        folder = tmp_path / 'runs' / name
        assert len(rows(folder / 'frames.csv')) == images == summary['runs'][name]['images']
        assert json.loads((folder / 'metrics.json').read_text()) == summary['runs'][name]
        assert summary['runs'][name]['depth']['cap_m'] == 50.0
        assert Page(folder / 'report.html').headings[0] == 'Depth'
    page = Page(tmp_path / 'runs' / 'index.html')
    assert page.sources == [f'{name}/report.html' for name in summary['runs']]
    assert 'nowhere does not exist' in page.text
    assert not (tmp_path / 'runs' / 'nowhere').exists()


def test_wrong_use_of_many_recordings(place, tmp_path, capsys):
    """Before anything is measured."""
    two = [place / 'tiny.safetensors', place / 'drive', place / 'drive']
    for options, words in ((('--jobs', '0'), 'at least 1'),
                           (('--output', tmp_path / 'o.csv'), 'the table of one recording')):
        status, _, error = evaluate(capsys, 'odometry', *two, *options)
        assert status == 1 and words in error


def test_why_a_process_failed():
    """By its own last error, its last words, or the signal that ended it."""
    assert _failure(0, 'WARNING: x\n') == ''
    assert _failure(1, 'WARNING: x\nerror: no such thing\n') == 'no such thing'
    assert _failure(1, 'Traceback\nValueError: odd\n') == 'ValueError: odd'
    assert _failure(-9, '') == 'the process was ended by SIGKILL'
    assert 'status 3' in _failure(3, '')


def test_names_of_runs():
    """Good for folders, different from each other, and without the suffix of a bag."""
    names = run_names(['a/x.mcap', 'b/x.mcap', 'b/x.mcap', 'y[0:500]', 'z.db3[::2]', '../..',
                       'data set/ü.bag'])
    assert list(names) == ['x', 'b_x', 'b_x_2', 'y_0_500', 'z_2', 'recording', 'ü']
    assert list(names.values())[1] == 'b/x.mcap'
