# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Training with what it cannot use: options, labels, disks, checkpoints."""

import logging
import os
from pathlib import Path
import re
import resource
import subprocess

import numpy as np
import pytest
from small_training import (
    checkpoints, during_training, empty_place, error, OPTIONS, train, write_world)
from small_world import write_drive
import torch

from geo_perception.cli import main
from geo_perception.errors import ConfigurationError, ModelFileError
from geo_perception.geometry.se3 import inverse_transform
from geo_perception.training.checkpoint import read_checkpoint
from geo_perception.training.relocalization import RelocalizationModule
from geo_perception.training.scratch import scratch_array


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Return a folder with drives, and a package of made-up trunk weights."""
    return write_world(tmp_path_factory.mktemp('world'))


@pytest.fixture
def place(world, tmp_path, monkeypatch):
    """Work in an empty folder, on one thread, without compiling anything."""
    with empty_place(world, tmp_path, monkeypatch) as folder:
        yield folder


@pytest.mark.parametrize('options, words', [
    (('--data.train', 'nowhere'), 'the recording nowhere does not exist'),
    (('--resume', 'nowhere.ckpt'), 'cannot read checkpoint nowhere.ckpt: No such file'),
    (('--model.start_from', 'nowhere.ckpt'), 'cannot read checkpoint nowhere.ckpt'),
    (('--model.architecture', 'alexnet'), 'architecture "alexnet" is unknown'),
    (('--model.arguments', '{depth: 3}'), 'does not take these arguments'),
    (('--model.preprocessing.crop', '[60,96]'), 'multiples of 32 pixels, not 60x96'),
    (('--model.preprocessing.interpolation', 'cubic'), 'choose area, linear, bilinear or lanczos'),
    (('--model.mean', 'image'), 'set mean to fixed'),
    (('--model.rotation', 'quaternion'), 'set rotation to "matrix"'),
    (('--trainer.accelerator', 'gpu'), 'gpu'),
    (('--model.loss', 'reprojection', '--data.novel_views.count', '3'), 'count to 0')])
def test_what_does_not_fit_together(world, place, capsys, options, words):
    """One sentence, before any work."""
    if options[-1] == 'gpu' and torch.cuda.is_available():
        pytest.skip('there is a GPU')
    assert train(world, *options) == 1
    assert words in error(capsys)


@pytest.mark.parametrize('options, words', [
    (('--data.batchsize', '3'), '--data.batchsize (did you mean --data.batch_size?); see geo_'),
    (('--model.learning_rte=1',), '--model.learning_rte (did you mean --model.learning_rate?)'),
    (('--trainer.max_epochs', '1.5'), 'max_epochs is 1.5, but must be a whole number or null;'),
    (('--data.batch_size', 'many'), 'batch_size'),
    (('--data.batch_size', '0'), '--data.batch_size is 0, but must be above 0;'),
    (('--model.learning_rate', '-1'), 'learning_rate'), (('--data.views', '0'), 'views'),
    (('--config', 'nowhere.yaml'), 'nowhere.yaml'),
    (('--config', 'bad.yaml'), 'no option --model.learning_rat (did')])
def test_wrong_usage(world, place, capsys, options, words):
    """Misspelt options and configuration keys, wrong types, numbers out of range: status 2."""
    Path('bad.yaml').write_text('model:\n  learning_rat: 0.1\n')
    with pytest.raises(SystemExit) as exit_:
        train(world, *options)
    assert exit_.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith('error: ') and words in message and message.count('\n') == 1


def test_loss_that_is_not_finite_stops_the_run(world, place, capsys):
    """With the step, and what to change."""
    assert train(world, '--model.learning_rate', '1e30', '--trainer.max_epochs', '3') == 1
    assert re.search(r'the training diverged: .* after step \d; lower --model.learning_rate',
                     error(capsys))


def test_weights_that_are_not_finite_are_noticed_in_validation(world, place, monkeypatch, capsys):
    """The last step of an epoch may be the one that breaks them."""
    def break_weights(module):
        module.network.surface.bias.data[1] = float('nan')

    monkeypatch.setattr(RelocalizationModule, 'on_validation_start', break_weights)
    assert train(world, '--trainer.max_epochs', '1') == 1
    assert 'loss or poses are not finite after step 3; lower' in error(capsys)


def test_resume_refuses_what_is_another_run(world, place, capsys):
    """Another length, another network, a damaged file: each its sentence."""
    assert train(world, '--trainer.max_epochs', '2') == 0
    last = checkpoints() / 'last.ckpt'
    Path('part.ckpt').write_bytes(last.read_bytes()[:50_000])
    for options, words in (
            (('--trainer.max_epochs', '5', '--resume', str(last)),
             'of 6 steps, this one has 15: resume with the same'),
            (('--trainer.max_epochs', '2', '--model.arguments', '{width: 16}', '--resume',
              str(last)), 'give it the same --config'),
            (('--resume', 'part.ckpt'), 'part.ckpt is not a checkpoint of')):
        capsys.readouterr()
        assert train(world, *options) == 1
        assert words in error(capsys)


def bad_drive(folder, name, **options):
    """Write a drive once."""
    if not (folder / name).exists():
        write_drive(folder / name, 20, **options)
    return name


def test_poses_that_are_not_numbers_are_left_out(world, place, caplog):
    """With a warning that names the first; its neighbours tell where the image was taken."""
    def damage(i, T):
        return T * np.nan if i == 3 else T

    drive = bad_drive(world, 'nan', change=damage)
    with caplog.at_level(logging.WARNING):
        assert train(world, '--trainer.max_epochs', '1', train=drive) == 0
    assert 'NaN' in caplog.text
    last = read_checkpoint(checkpoints() / 'last.ckpt')['geo_perception']
    assert last['tensors']['retrieval.poses'].isfinite().all()


def test_one_pose_far_away_does_not_spoil_the_rest(world, place, caplog):
    """A label three thousand kilometres off, as released data sets have them."""
    def throw(i, T):
        T = T.copy()
        T[:3, 3] += 3e6 * (i == 7)
        return T

    drive = bad_drive(world, 'far', change=throw)
    with caplog.at_level(logging.WARNING):
        assert train(world, '--trainer.max_epochs', '1', train=drive) == 0
    assert 'left out' in caplog.text
    last = read_checkpoint(checkpoints() / 'last.ckpt')['geo_perception']
    assert last['tensors']['retrieval.poses'].abs().max() < 10


def test_labels_in_the_wrong_convention_are_pointed_out(world, place, caplog):
    """World-to-camera matrices are recognised by gravity."""
    drive = bad_drive(world, 'inverse', change=lambda i, T: inverse_transform(T))
    with caplog.at_level(logging.WARNING):
        train(world, '--trainer.max_epochs', '1', train=drive)
    assert 'world-to-camera' in caplog.text


def test_recording_without_poses(world, place, capsys):
    """One sentence, that says which."""
    drive = bad_drive(world, 'no_poses', with_poses=False)
    assert train(world, train=drive) == 1
    assert 'no_poses' in error(capsys)


def test_few_frames_need_a_validation_recording(world, place, capsys):
    """Nothing can be held out of twenty."""
    assert main(['train', 'relocalization', '--data.train', str(world / 'train'), *OPTIONS]) == 1
    assert 'has only 20 frames' in error(capsys)


def test_full_disk_at_a_checkpoint(world, place, monkeypatch, capsys):
    """One sentence; the checkpoint before is as it was."""
    def fill(module):
        if module.current_epoch == 1:
            monkeypatch.setattr(os, 'fsync', full)

    def full(_):
        raise OSError(28, 'No space left on device')

    during_training(monkeypatch, fill)
    assert train(world, '--trainer.max_epochs', '5') == 1
    assert re.search(r'cannot write .*/(best|last)\.ckpt: No space left on device', error(capsys))
    assert read_checkpoint(checkpoints() / 'last.ckpt')['epoch'] == 0
    assert sorted(os.listdir(checkpoints())) == ['best.ckpt', 'last.ckpt']


def test_disk_too_small_for_the_training_data(world, place, capsys):
    """Said before the first byte, not by a bus error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        status = train(world)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert status == 1 and 'set TMPDIR to another disk' in error(capsys)


def test_scratch_array_on_a_full_disk(tmp_path, monkeypatch):
    """On a real one, where that is permitted: pages cannot be lost after they were promised."""
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', str(tmp_path)],
                      capture_output=True).returncode:
        pytest.skip('mounting is not permitted')
    try:
        monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
        array = scratch_array(np.float16, (100, 10))
        array[:] = 1.0
        with pytest.raises(ConfigurationError, match='cannot keep 10 MB .* No space left'):
            scratch_array(np.uint8, (10_000_000,))
        assert array.sum() == 1000.0 and os.listdir(tmp_path) == []
        del array
    finally:
        subprocess.run(['umount', '-l', str(tmp_path)], check=True)


def test_scratch_array_is_zero_and_nameless(tmp_path, monkeypatch):
    """It can be written and read, and nothing is left to clean up."""
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    array = scratch_array(np.uint8, (3, 4, 5))
    assert array.shape == (3, 4, 5) and not array.any()
    array[1] = 7
    assert array.sum() == 7 * 20 and os.listdir(tmp_path) == []


def test_folder_that_cannot_be_written(world, place, capsys):
    """The place of the runs is a file."""
    Path('runs').write_text('')
    assert train(world, '--trainer.max_epochs', '1') == 1
    assert 'runs' in error(capsys)


@pytest.mark.parametrize('content', [b'', b'text', b'PK\x03\x04garbage', b'\x80\x02garbage'])
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    """By export and resume alike; nothing in it runs."""
    path = tmp_path / 'file.ckpt'
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match='is not a checkpoint of'):
        read_checkpoint(path)


def test_checkpoints_of_other_programs_are_refused(tmp_path):
    """Also those of Lightning, and pickles that would run something."""
    class Bomb:

        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'exploded'),)

    for i, content in enumerate(({'state_dict': {}}, [1], 'text', {'geo_perception': 3},
                                 {'geo_perception': {}}, Bomb())):
        path = tmp_path / f'{i}.ckpt'
        torch.save(content, path)
        with pytest.raises(ModelFileError, match='is not a checkpoint of'):
            read_checkpoint(path)
    assert not (tmp_path / 'exploded').exists()
