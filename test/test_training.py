# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Training through the real command line, on a small drive: it learns, resumes, ends cleanly."""

import json
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from small_training import (
    arguments, checkpoints, during_training, empty_place, train, weights, write_world)
from small_world import EXTENT
import torch

from geo_perception.cli import main
from geo_perception.datasets.recording import open_recording
from geo_perception.geometry.se3 import rotation_angle
from geo_perception.inference.relocalizer import Relocalizer
from geo_perception.training.checkpoint import read_checkpoint


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Return a folder with drives, and a package of made-up trunk weights."""
    return write_world(tmp_path_factory.mktemp('world'))


@pytest.fixture
def place(world, tmp_path, monkeypatch):
    """Work in an empty folder, on one thread, without compiling anything."""
    with empty_place(world, tmp_path, monkeypatch) as folder:
        yield folder


ROOT = Path(__file__).parents[1]


def test_twenty_images_are_learned_by_heart(world, place, capsys):
    """From bag to poses of an exported model: within 1 % of the extent and 1 degree (item 14)."""
    # Fixed weights: learned ones are 1 / loss, so the first quantity that is learned by heart
    # leaves no gradient to the other.
    assert train(world, '--data.batch_size', '20', '--model.learning_rate', '0.005',
                 '--model.loss', 'weighted', '--model.beta', '1',
                 '--model.weight_decay', '0', '--model.arguments', '{width: 128, dropout: 0}',
                 '--trainer.max_epochs', '360', '--trainer.check_val_every_n_epoch', '180',
                 '--json', 'outcome.json', val='train') == 0
    printed = capsys.readouterr()
    outcome = json.loads(Path('outcome.json').read_text())
    assert outcome['steps'] == 360 and outcome['data_wait_share'] < 0.5
    assert outcome['checkpoint'] == str(place / checkpoints() / 'best.ckpt')
    # Standard output has the results, standard error the way there, and nothing else.
    assert re.fullmatch(r'waited for data \d+\.\d % of the training time\n'
                        r'best checkpoint: (\S+)\n'
                        r'next: geo_perception export \1 --output model.safetensors\n',
                        printed.out).group(1) == outcome['checkpoint']
    assert [line.split(':')[0] for line in printed.err.splitlines()] == [
        'step 0 of 360, 1 batches an epoch; a line follows each validation',
        'epoch 180, step 180', 'epoch 360, step 360']

    assert main(['export', outcome['checkpoint'], '--output', 'wall.safetensors']) == 0
    assert main(['export', outcome['checkpoint'], '--output', 'half.safetensors', '--half']) == 0
    sequence = open_recording(world / 'train')
    for name in ('wall', 'half'):
        relocalizer = Relocalizer.load(f'{name}.safetensors', samples=0)
        assert relocalizer.world_frame == 'map'
        assert relocalizer.model.metadata.training_camera.fx == 80.0
        found = np.stack([relocalizer(frame.image).T_world_camera for frame in sequence])
        distance = np.linalg.norm(found[:, :3, 3] - sequence.poses[:, :3, 3], axis=1)
        angle = np.rad2deg(rotation_angle(found[:, :3, :3], sequence.poses[:, :3, :3]))
        assert np.median(distance) < 0.01 * EXTENT and distance.max() < 0.05 * EXTENT
        assert np.median(angle) < 1.0 and angle.max() < 3.0
    assert os.path.getsize('half.safetensors') < 0.6 * os.path.getsize('wall.safetensors')


def test_resumed_run_is_the_uninterrupted_one(world, place, monkeypatch, capsys):
    """To the last bit, with dropout, in the same folder, after Ctrl-C within an epoch."""
    options = ('--trainer.max_epochs', '4', '--data.views', '2',
               '--trainer.accumulate_grad_batches', '2')
    assert train(world, *options) == 0
    steps = read_checkpoint(checkpoints() / 'last.ckpt')['global_step']

    def interrupt(module):
        if module.current_epoch == 2 and module.global_step % 3 == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        during_training(patch, interrupt)
        assert train(world, *options) == 130
    last = checkpoints('version_1') / 'last.ckpt'
    assert f'go on with: --resume {place / last}\ninterrupted\n' in capsys.readouterr().err
    assert read_checkpoint(last)['global_step'] == steps // 2
    assert train(world, *options, '--resume', str(last)) == 0
    assert sorted(os.listdir('runs/relocalization')) == ['version_0', 'version_1']
    a, b = weights(checkpoints() / 'last.ckpt'), weights(last)
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    best = [read_checkpoint(checkpoints(f'version_{i}') / 'best.ckpt')['geo_perception']
            ['metadata']['metrics'] for i in (0, 1)]
    assert best[0] == best[1]


def test_dropout_is_on_while_training(world, place, monkeypatch):
    """Whatever the engine did to the network before."""
    modes = []
    during_training(monkeypatch, lambda module: modes.append(module.network.training))
    assert train(world, '--trainer.max_epochs', '2') == 0
    assert len(modes) == 6 and all(modes)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_cleanly(world, place, monkeypatch, capsys, number):
    """With a message, a status, the old handlers, and what was kept so far."""
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    during_training(monkeypatch, lambda module: module.current_epoch == 1
                    and os.kill(os.getpid(), number))
    assert train(world, '--trainer.max_epochs', '50') == 130
    last = place / checkpoints() / 'last.ckpt'
    lines = capsys.readouterr().err.splitlines()
    assert lines[-2:] == [f'go on with: --resume {last}', 'interrupted']
    assert read_checkpoint(last)['epoch'] == 0
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_signal_before_anything_was_kept(world, place, monkeypatch, capsys):
    """Says so."""
    during_training(monkeypatch, lambda module: os.kill(os.getpid(), signal.SIGTERM))
    assert train(world, '--trainer.max_epochs', '2') == 130
    assert capsys.readouterr().err == ('step 0 of 6, 3 batches an epoch; a line follows each '
                                       'validation\n'
                                       'stopped before the first validation: nothing is kept\n'
                                       'interrupted\n')


# The program as a process of its own, which also leaves the weights of every rank.
PROGRAM = """
import sys
import torch
from geo_perception.cli import main
from geo_perception.inference import engine
from geo_perception.training.relocalization import RelocalizationModule


def on_train_end(self):
    torch.save(self.network.state_dict(), f'rank{self.global_rank}.pth')


engine._openvino = lambda *_: (None, None, None)
RelocalizationModule.on_train_end = on_train_end
sys.exit(main())
"""


def process(world, folder, *launcher):
    """Return how to start the program: its first arguments, and options of the process."""
    (folder / 'program.py').write_text(PROGRAM)
    path = os.pathsep.join([str(world / 'package'), str(ROOT)])
    return ([sys.executable, *launcher, str(folder / 'program.py')],
            {'cwd': folder, 'env': {**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'}})


def test_killed_while_checkpoints_are_written(world, tmp_path):
    """At no instant is there half a checkpoint, and what is left can be resumed."""
    program, options = process(world, tmp_path)
    run = subprocess.Popen([*program, *arguments(world, '--trainer.max_epochs', '100000')],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        last = tmp_path / checkpoints() / 'last.ckpt'
        end = time.monotonic() + 120
        while not last.exists() and run.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        steps, reads = set(), 0
        while (reads < 40 or len(steps) <= 3) and time.monotonic() < end:
            steps.add(read_checkpoint(last)['global_step'])
            reads += 1
    finally:
        run.kill()
        run.wait()
    assert len(steps) > 3   # it was being written meanwhile
    assert read_checkpoint(last)['global_step'] >= max(steps)
    assert read_checkpoint(last.with_name('best.ckpt'))['geo_perception']['metadata']


def test_two_processes_train_one_network(world, tmp_path):
    """Under torchrun: the same finite weights in both, and one set of files."""
    program, options = process(world, tmp_path, '-m', 'torch.distributed.run', '--standalone',
                               '--nproc_per_node', '2')
    result = subprocess.run(
        [*program, *arguments(world, '--trainer.max_epochs', '2', '--trainer.accelerator', 'cpu',
                              '--trainer.devices', '2', '--trainer.strategy', 'ddp', '--json',
                              'outcome.json')],
        capture_output=True, text=True, timeout=300, **options)
    assert result.returncode == 0, result.stderr
    first, second = (torch.load(tmp_path / f'rank{i}.pth') for i in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(value.isfinite().all() for value in first.values())
    # Twenty images on two processes: half the steps of one.
    outcome = json.loads((tmp_path / 'outcome.json').read_text())
    assert outcome['steps'] == 4 and np.isfinite(outcome['metrics']['val/error'])
    assert result.stdout.count('best checkpoint') == 1
    assert os.listdir(tmp_path / 'runs/relocalization') == ['version_0']
    learned = weights(outcome['last'])
    assert torch.equal(learned['network.hidden.weight'], first['hidden.weight'])


@pytest.mark.parametrize('options', [
    ('--trainer.precision', 'bf16-mixed', '--trainer.callbacks+=EarlyStopping',
     '--trainer.callbacks.monitor=val/error'),
    ('--model.loss', 'reprojection', '--model.augmentation.turn_deg', '[2,2,2]'),
    ('--data.novel_views.count', '3', '--trainer.val_check_interval', '2'),
    ('--model.optimizer', 'sgd', '--model.schedule', 'constant', '--model.loss', 'weighted',
     '--model.mean', 'pixel')],
    ids=['mixed precision, early stop', 'reprojection', 'novel views', 'sgd'])
def test_other_ways_to_train(world, place, options, capsys):
    """Each runs to its end, says nothing unexpected, and leaves a model that loads."""
    assert train(world, '--trainer.max_epochs', '2', *options) == 0
    begin, *lines = capsys.readouterr().err.splitlines()
    assert begin.startswith('step 0 of ')
    assert all(line.startswith('epoch') for line in lines)
    assert main(['export', str(checkpoints() / 'best.ckpt'), '--output', 'model']) == 0
    fix = Relocalizer.load('model', samples=4)(open_recording(world / 'val')[0].image)
    assert np.isfinite(fix.T_world_camera).all() and np.isfinite(fix.covariance).all()


def test_published_recipe_runs(world, place, capsys):
    """config/posenet.yaml, cut short: GoogLeNet, mean image of the drive, AdaGrad, Caffe loss."""
    assert main(['train', 'relocalization', '--config', str(ROOT / 'config/posenet.yaml'),
                 '--data.train', f'{world / "train"}[0:4]', '--data.val', f'{world / "val"}[0:2]',
                 '--data.batch_size', '2', '--trainer.max_steps', '2',
                 '--trainer.check_val_every_n_epoch', '1']) == 0
    last = read_checkpoint(checkpoints() / 'last.ckpt')['geo_perception']
    mean = last['tensors']['preprocessing.mean_image']
    assert mean.shape == (256, 384, 3)
    frames = [frame.image for frame in open_recording(f'{world / "train"}[0:4]')]
    # Resizing keeps the mean; the network sees BGR.
    assert mean.mean((0, 1)).tolist() == pytest.approx(
        np.mean(frames, axis=(0, 1, 2))[::-1].tolist(), abs=1.0)
    assert main(['export', str(checkpoints() / 'last.ckpt'), '--output', 'model']) == 0
    assert Relocalizer.load('model').model.metadata.preprocessing.mean_image is not None


def test_fine_tuning_starts_from_the_weights_of_another_run(world, place, monkeypatch):
    """Not from the beginning, and not with the other's optimiser."""
    assert train(world, '--trainer.max_epochs', '3', '--model.learning_rate', '0.01') == 0
    start = str(checkpoints() / 'best.ckpt')
    seen = []
    during_training(monkeypatch, lambda module: seen.append(
        {name: value.clone() for name, value in module.network.state_dict().items()}))
    assert train(world, '--trainer.max_epochs', '1', '--model.loss', 'reprojection',
                 '--init', start) == 0
    for name, value in weights(start).items():
        if name.startswith('network.'):
            assert torch.equal(seen[0][name.removeprefix('network.')], value)


def test_a_run_without_validation_keeps_its_last_step(world, place, capsys):
    """And says what is missing."""
    assert train(world, '--trainer.max_epochs', '2', '--trainer.check_val_every_n_epoch',
                 '5') == 0
    printed = capsys.readouterr().out
    assert 'no validation took place' in printed and 'export' in printed.splitlines()[-1]
    assert read_checkpoint(checkpoints() / 'last.ckpt')['global_step'] == 6


def test_steps_after_the_last_validation_are_kept(world, place):
    """Three epochs, validated after the second."""
    assert train(world, '--trainer.max_epochs', '3', '--trainer.check_val_every_n_epoch',
                 '2') == 0
    assert read_checkpoint(checkpoints() / 'best.ckpt')['global_step'] == 6
    assert read_checkpoint(checkpoints() / 'last.ckpt')['global_step'] == 9
