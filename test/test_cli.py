# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The program: every verb explains itself, mistakes are one sentence, machines get JSON."""

import csv
from dataclasses import asdict
import io
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading

import cv2
import numpy as np
from numpy.testing import assert_allclose
import pytest
from small_world import write_drive
from tiny_model import images, metadata, network, tensors, write_model
import torch

from geo_perception.cli import main
from geo_perception.datasets.recording import open_images, open_recording
from geo_perception.geometry.se3 import matrix_from_quaternion, matrix_from_rotation_vector
from geo_perception.inference.relocalizer import Relocalizer
from geo_perception.model_file import load_model_file
from geo_perception.training.checkpoint import CONTENT_KEY

ROOT = Path(__file__).parents[1]
VERBS = ('info', 'sample', 'prepare bag', 'prepare kitti-raw', 'prepare kitti-odometry',
         'prepare cityscapes', 'prepare stereo', 'train', 'export', 'import posenet',
         'import sfmlearner', 'import geonet', 'import sfmlearner-pytorch', 'import monodepth',
         'import backbone', 'infer', 'calibrate scale', 'calibrate motion', 'calibrate odometry',
         'calibrate place',
         'evaluate relocalization', 'evaluate depth', 'evaluate odometry', 'evaluate flow',
         'evaluate motion', 'map', 'replay', 'report', 'demo')


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Work in a folder with a model and pictures, on one thread, without compiling anything."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('geo_perception.inference.engine._openvino',
                        lambda *_: (None, None, None))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    write_model('tiny.safetensors')
    Path('pictures').mkdir()
    for i, image in enumerate(images()[:3]):
        cv2.imwrite(f'pictures/{i}.png', image[..., ::-1])
    yield tmp_path
    torch.set_num_threads(threads)


def run(capsys, *arguments):
    """Return (status, standard output, standard error) of the program."""
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as exit_:
        status = exit_.code
    captured = capsys.readouterr()
    assert 'Traceback' not in captured.err
    return status, captured.out, captured.err


@pytest.mark.parametrize('verb', VERBS)
def test_every_verb_explains_itself(capsys, verb):
    """Usage, what it does, and a line for every option."""
    status, out, err = run(capsys, *verb.split(), '--help')
    assert (status, err) == (0, '') and out.startswith('usage: geo_perception')
    assert '--json' in out or verb in ('train', 'demo')   # see their own help, and metrics.json
    described = {}
    for line in out[out.index('  -h, --help'):].splitlines():
        if line[:2] == '  ' != line[2:4]:
            option = line.split()[0]
        described.setdefault(option, []).extend(line.split())
    assert len(described) > 2
    for option, words in described.items():
        told = ' '.join(words).partition('(type:')[0].partition('(required')[0]
        assert len(told.split()) > 4 or option in ('--config', '--print_config', '-h,'), option


def test_help_lists_the_verbs(capsys):
    """And training has its own, with the options of Lightning."""
    status, out, _ = run(capsys, '--help')
    assert status == 0 and all(verb.split()[0] in out for verb in VERBS)
    pytest.importorskip('lightning', reason='lightning is not installed')
    status, out, _ = run(capsys, 'train', 'relocalization', '--help')
    for option in ('--data.train', '--data.batch_size', '--model.learning_rate', '--resume',
                   '--trainer.max_epochs', '--model.loss'):
        assert option in out
    assert status == 0 and 'reprojection' in out


@pytest.mark.parametrize('arguments, words', [
    ((), 'say what to do: info, sample, prepare, train, '),
    (('infr',), "there is no 'infr' (did you mean infer?); choose from info, "),
    (('evaluate', 'reloc', 'm', 'r'), '(did you mean relocalization?); choose from reloc'),
    (('infer', '--model', 'm', '--output', 'o'), 'model is given as a word, without --model'),
    (('train',), 'system'), (('train', 'depth'), 'depth'),
    (('export', 'a.ckpt'), 'output'), (('import', 'geonet', 'a', 'b'), 'output is missing'),
    (('import', 'geonet', '--output', 'o'), 'sources is missing'),
    (('evaluate',), 'say what to evaluate: relocalization, depth, odometry, flow, motion; '
     'see geo_perception evaluate --help'),
    (('infer', 'm', 'i', '--outptu', 'o'), 'outptu'),
    (('evaluate', 'depth', 'm'),
     'recordings is missing; see geo_perception evaluate depth --help'),
    (('infer', 'm'), 'images, output are missing; see geo_perception infer --help'),
    (('infer', 'm', 'i', '--output', 'o', '--samples', 'many'), 'samples'),
    (('infer', 'm', 'i', '--outptu', 'o'), 'no option --outptu (did you mean --output?); see'),
    (('train', 'flow'), "system is flow, but must be one of 'relocalization', '"),
    (('infer', 'm', 'i', '--output', 'o', '--dense', 'x'), '--dense is x, but must be true or'),
    (('sample', '--config', 'nowhere'), '--config: File does not exist'),
    (('sample', '--output', 'o', '--seed', '1.5'), '--seed is 1.5, but must be a whole number')])
def test_wrong_usage(capsys, arguments, words):
    """Status 2, with what was wrong and where help is, on one line."""
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, '')
    assert words in err and err.startswith('error: ') and err.endswith(' --help\n')
    assert err.count('\n') == 1


@pytest.mark.parametrize('arguments, words', [
    (('infer', 'none', 'pictures', '--output', 'o'), 'cannot read model file none'),
    (('infer', 'pictures/0.png', 'pictures', '--output', 'o'), 'not a geo_perception model file'),
    (('infer', 'tiny.safetensors', 'none', '--output', 'o'), 'none'),
    (('infer', 'tiny.safetensors', 'tiny.safetensors', '--output', 'o'), 'tiny.safetensors'),
    (('infer', 'tiny.safetensors', 'pictures', '--output', 'pictures'), 'cannot write pictures'),
    (('infer', 'tiny.safetensors', 'pictures', '--output', 'o', '--device', 'tpu'), '"tpu"'),
    (('infer', 'tiny.safetensors', 'pictures', '--output', 'o', '--precision', 'int4'), '"int4"'),
    (('infer', 'tiny.safetensors', 'pictures', '--output', 'o', '--samples', '-1'), 'samples'),
    (('infer', 'tiny.safetensors', 'pictures', '--output', 'o', '--threads', '-1'), 'threads'),
    (('infer', 'tiny.safetensors', 'pictures[9:]', '--output', 'o'), 'none of 3'),
    (('evaluate', 'relocalization', 'none', 'pictures'), 'cannot read model file none'),
    (('evaluate', 'relocalization', 'tiny.safetensors', 'pictures'), 'no recording with poses'),
    (('export', 'none.ckpt', '--output', 'o'), 'cannot read checkpoint none.ckpt'),
    (('export', 'pictures/0.png', '--output', 'o'), 'is not a checkpoint'),
    (('export', 'tiny.safetensors', '--output', 'o'), 'is a model file already'),
    (('sample', '--output', 'o', '--frames_train', '0'), 'frames_train')])
def test_mistakes_are_one_sentence(capsys, place, arguments, words):
    """Status 1, one line on standard error, nothing on standard output, nothing written."""
    before = sorted(os.listdir())
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (1, '')
    assert err.startswith('error: ') and err.count('\n') == 1 and words in err
    assert sorted(os.listdir()) == before


def test_infer_writes_what_the_pipeline_says(capsys, place):
    """A row for every image, also for one that cannot be read; counts for machines."""
    Path('pictures/3.png').write_bytes(b'\x89PNG\r\n\x1a\nbroken')
    cv2.imwrite('pictures/4.png', np.zeros((120, 180, 3), np.uint8))
    status, out, _ = run(capsys, 'infer', 'tiny.safetensors', 'pictures', '--output', 'poses.csv',
                         '--json', 'summary.json')
    assert status == 0
    assert out == '5 images: 3 accepted, 1 refused, 1 unreadable; wrote poses.csv\n'
    assert json.loads(Path('summary.json').read_text()) == {
        'images': 5, 'accepted': 3, 'refused': 1, 'failed': 1, 'output': 'poses.csv',
        'world_frame': 'office'}
    rows = list(csv.DictReader(io.StringIO(Path('poses.csv').read_text())))
    assert [row['accepted'] for row in rows] == ['1', '1', '1', '0', '0']
    assert '3.png' in rows[3]['reason'] and rows[3]['x'] == rows[3]['score'] == ''
    assert 'looks like no training image' in rows[4]['reason']
    relocalizer = Relocalizer.load('tiny.safetensors')
    for row, image in zip(rows[:3], images()):
        fix = relocalizer(image)
        assert row['name'].endswith('.png') and row['reason'] == ''
        assert_allclose([float(row[axis]) for axis in 'xyz'], fix.T_world_camera[:3, 3], atol=1e-6)
        q = [float(row[f'q{axis}']) for axis in 'wxyz']
        assert_allclose(matrix_from_quaternion(q), fix.T_world_camera[:3, :3], atol=1e-5)
        sigma = [float(row[f'sigma_{axis}']) for axis in ('x', 'y', 'z', 'rot_x', 'rot_y',
                                                          'rot_z')]
        assert_allclose(sigma, np.sqrt(np.diag(fix.covariance)), atol=1e-6)


@pytest.mark.parametrize('what', ['pictures/1.png', 'drive', 'drive[::2]'])
def test_infer_takes_an_image_or_a_recording(capsys, place, what):
    """With a slice."""
    write_drive('drive', 4)
    count = {'pictures/1.png': 1, 'drive': 4, 'drive[::2]': 2}[what]
    status, out, _ = run(capsys, 'infer', 'tiny.safetensors', what, '--output', 'poses.csv',
                         '--samples', '0')
    assert status == 0 and out.startswith(f'{count} images:')
    rows = list(csv.DictReader(io.StringIO(Path('poses.csv').read_text())))
    assert len(rows) == count
    if what == 'drive[::2]':
        assert [row['stamp_ns'] for row in rows] == ['1000000000', '1200000000']


def test_prepare_bag_writes_a_bag_and_a_summary(capsys, place):
    """Of the frames that were asked for."""
    write_drive('drive', 4)
    status, out, _ = run(capsys, 'prepare', 'bag', 'drive[1:3]', '--output', 'copy', '--json',
                         'summary.json')
    assert (status, out) == (0, 'wrote 2 frames to copy\n')
    assert json.loads(Path('summary.json').read_text()) == {'frames': 2, 'output': 'copy'}
    assert open_recording('copy').stamps.tolist() == open_recording('drive').stamps[1:3].tolist()


@pytest.mark.parametrize('recording', ['drive[1:3]', '{place}/drive/drive.mcap'])
def test_prepare_bag_does_not_replace_what_it_reads(capsys, place, recording):
    """Frames and topics that the new bag has not would be lost."""
    write_drive('drive', 4)
    status, _, err = run(capsys, 'prepare', 'bag', recording.format(place=Path.cwd()), '--output',
                         './drive', '--overwrite')
    assert status == 1 and './drive holds the recording itself' in err
    assert len(open_recording('drive')) == 4


def test_prepare_bag_of_images_without_poses(capsys, place):
    """Is a bag of images."""
    assert run(capsys, 'prepare', 'bag', 'pictures', '--output', 'copy')[:2] == (
        0, 'wrote 3 frames without poses to copy\n')
    bag = open_images('copy')
    assert len(bag) == 3 and bag[2].image.shape == cv2.imread('pictures/2.png').shape


def test_infer_with_dense_crops(capsys, place):
    """A flag needs no value."""
    status, _, _ = run(capsys, 'infer', 'tiny.safetensors', 'pictures/0.png', '--output', 'a.csv',
                       '--dense')
    assert status == 0 and Path('a.csv').read_text().count('\n') == 2


def test_sample_says_where_the_bags_are(capsys, place, monkeypatch):
    """One line a bag."""
    monkeypatch.setattr('geo_perception.datasets.sample_world.write_sample_world',
                        lambda *_: {'train': Path('w/train'), 'val': Path('w/val')})
    assert run(capsys, 'sample', '--output', 'w') == (0, 'wrote w/train\nwrote w/val\n', '')


def checkpoint(path):
    """Write a checkpoint as training does, of the small network, its camera looking along x."""
    header = asdict(metadata())
    del header['preprocessing']['mean_image']
    kept = {name: torch.from_numpy(np.array(value)) for name, value in tensors().items()
            if name.startswith('retrieval')}
    # Upright in a world whose y axis points down.
    turns = matrix_from_rotation_vector([[0, 0.5 * i, 0] for i in range(6)])
    kept['retrieval.poses'][:, :3, :3] = torch.from_numpy(turns)
    torch.save({'state_dict': {
        **{f'network.{name}': value for name, value in network().state_dict().items()},
        'loss.log_variance': torch.zeros(2)},
        CONTENT_KEY: {'metadata': header, 'tensors': kept}}, path)


def test_export_keeps_the_network_and_what_it_needs(capsys, place):
    """No loss weights, the same answers, half the size if asked for."""
    checkpoint('a.ckpt')
    status, out, _ = run(capsys, 'export', 'a.ckpt', '--output', 'model', '--json', 'outcome')
    assert status == 0 and out.startswith('wrote model (')
    outcome = json.loads(Path('outcome').read_text())
    assert outcome == {'output': 'model',
                       'megabytes': pytest.approx(os.path.getsize('model') / 1e6)}
    model = load_model_file('model')
    assert not any('log_variance' in name for name in model.tensors)
    assert model.metadata.world_frame == 'office'
    assert_allclose(Relocalizer.load('model', samples=0)(images()[0]).T_world_camera,
                    Relocalizer.load('tiny.safetensors', samples=0)(images()[0]).T_world_camera)
    run(capsys, 'export', 'a.ckpt', '--output', 'half', '--half')
    assert os.path.getsize('half') < 0.6 * os.path.getsize('model')
    assert_allclose(Relocalizer.load('half', samples=0)(images()[0]).T_world_camera,
                    Relocalizer.load('model', samples=0)(images()[0]).T_world_camera, atol=0.05)


def test_export_turns_the_world_upright(capsys, place):
    """Down becomes -z: the down axis of every camera, which was +y of the world."""
    checkpoint('a.ckpt')
    assert run(capsys, 'export', 'a.ckpt', '--output', 'model', '--align_gravity')[0] == 0
    T = np.array(load_model_file('model').metadata.T_map_world)
    assert_allclose(T[:3, :3] @ [0, 1, 0], [0, 0, -1], atol=1e-6)
    assert_allclose(T[:3, 3], 0)


def test_interruption_keeps_the_answers_so_far(capsys, place, monkeypatch):
    """The table of the images before Ctrl-C."""
    answered, call = [], Relocalizer.__call__

    def interrupted(relocalizer, *arguments):
        if len(answered) == 2:
            raise KeyboardInterrupt
        answered.append(call(relocalizer, *arguments))
        return answered[-1]

    monkeypatch.setattr(Relocalizer, '__call__', interrupted)
    assert run(capsys, 'infer', 'tiny.safetensors', 'pictures', '--output', 'poses.csv') == (
        130, '2 of 3 images: 2 accepted, 0 refused, 0 unreadable; wrote poses.csv\n',
        'interrupted\n')
    assert Path('poses.csv').read_text().count('\n') == 3


@pytest.mark.parametrize('verb, options, place_for_it', [
    ('infer', ['--output', 'tiny.safetensors/poses.csv'], 'tiny.safetensors/poses.csv'),
    ('infer', ['--output', 'poses.csv', '--json', 'pictures'], 'pictures: it is a folder'),
    ('evaluate relocalization', ['--report', 'tiny.safetensors'], 'tiny.safetensors'),
    ('evaluate relocalization', ['--output', 'pictures'], 'pictures: it is a folder')])
def test_results_that_could_not_be_kept_are_not_worked_for(capsys, place, monkeypatch, verb,
                                                           options, place_for_it):
    """Said before the first image is looked at; nothing is left behind."""
    monkeypatch.setattr(Relocalizer, '__init__', None)
    before = sorted(os.listdir())
    status, out, err = run(capsys, *verb.split(), 'tiny.safetensors', 'pictures', *options)
    assert (status, out) == (1, '') and f'cannot write {place_for_it}' in err
    assert sorted(os.listdir()) == before


def test_sigterm_is_answered_like_ctrl_c(capsys, place, monkeypatch):
    """Status 130, one word, and nothing half made; the old handler is back afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(Relocalizer, '__call__',
                        lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    files = sorted(os.listdir())
    assert run(capsys, 'infer', 'tiny.safetensors', 'pictures', '--output', 'poses.csv') == (
        130, '', 'interrupted\n')
    assert sorted(os.listdir()) == files and signal.getsignal(signal.SIGTERM) is before


def test_verbs_run_in_any_thread(capsys, place):
    """Signals belong to the main thread; elsewhere they are left alone."""
    results = []
    thread = threading.Thread(target=lambda: results.append(main(
        ['infer', 'tiny.safetensors', 'pictures/0.png', '--output', 'poses.csv'])))
    thread.start()
    thread.join()
    assert results == [0]


def process(*arguments, **options):
    """Start the program as a process of its own."""
    return subprocess.run([sys.executable, '-m', 'geo_perception.cli', *arguments], text=True,
                          capture_output=True, env={**os.environ, 'PYTHONPATH': str(ROOT)},
                          **options)


def test_as_a_process(tmp_path):
    """Status and streams are those that a shell sees."""
    result = process('export', 'none.ckpt', '--output', 'o', cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, '')
    assert result.stderr == 'error: cannot read checkpoint none.ckpt: No such file or directory\n'


def test_reader_that_went_away(place):
    """``geo_perception infer ... | head -0`` says nothing of broken pipes."""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    environment.pop('PYTHONUNBUFFERED', None)   # written at the very end, then
    command = 'infer tiny.safetensors pictures/0.png --output poses.csv --samples 0 | true'
    result = subprocess.run(['bash', '-c', f'{sys.executable} -m geo_perception.cli {command}'],
                            text=True, capture_output=True, env=environment)
    assert result.stderr == '' and Path('poses.csv').exists()
