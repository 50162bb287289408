# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Training of depth from stereo pairs through the real command line, and what guards it."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from stereo_world import CAMERA, write_pairs
import torch

pytest.importorskip('lightning', reason='lightning is not installed')

from geo_perception.cli import main   # noqa: E402
from geo_perception.errors import ConfigurationError   # noqa: E402
from geo_perception.losses.stereo import StereoOptions   # noqa: E402
from geo_perception.model_file import load_model_file   # noqa: E402
from geo_perception.training.checkpoint import read_checkpoint   # noqa: E402
from geo_perception.training.guarded import halving   # noqa: E402
from geo_perception.training.stereo import StereoModule   # noqa: E402
from geo_perception.training.stereo_augmentation import (   # noqa: E402
    flip_pairs, recolour_pairs, StereoAugmentation)
from geo_perception.training.stereo_data import Pairs, StereoPairs   # noqa: E402

SMALL = ('--model.network', 'monodepth_resnet50', '--model.network_arguments', '{width: 0.05}',
         '--model.size', '[64,128]', '--data.batch_size', '2')


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """Return a folder with recordings."""
    folder = tmp_path_factory.mktemp('stereo')
    write_pairs(folder / 'train', 'train', 6)
    write_pairs(folder / 'val', 'val', 3)
    write_pairs(folder / 'swapped', 'train', 4, lambda left, right: (right, left))
    return folder


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Work in an empty folder, on one thread."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train(place, *options, train='train', val='val'):
    """Run the program and return its exit status."""
    arguments = ['train', 'monodepth', '--data.train', str(place / train), *options]
    return main(arguments + (['--data.val', str(place / val)] if val else []))


def test_from_pairs_to_a_model_file(place):
    """It is measured in metres and against block matching, exported and resumed."""
    options = (*SMALL, '--model.schedule', 'constant', '--json', 'o.json', '--trainer.max_epochs')
    assert train(place, *options, '2', '--trainer.logger.name', 'whole') == 0
    outcome = json.loads(Path('o.json').read_text())
    metrics = outcome['metrics']
    assert outcome['steps'] == 6 and metrics['train/skipped'] == 0
    assert metrics['val/error'] == metrics['val/abs_rel'] > 0
    assert metrics['val/matched_error_px'] > 0 and 0 < metrics['val/disparity'] < 0.3
    assert 0.1 < metrics['train/disparity'] < 0.2
    assert main(['export', outcome['checkpoint'], '--output', 'm.safetensors']) == 0
    model = load_model_file('m.safetensors', 'stereo_depth')
    assert model.metadata.architecture == 'monodepth_resnet50'
    assert model.metadata.calibration['reach'] == pytest.approx(88 / 128 * 0.12)
    assert model.metadata.training_camera.fx == CAMERA.K[0, 0]
    assert model.metadata.data['train_pairs'] == 6
    state = StereoModule('monodepth_resnet50', {'width': 0.05}, (64, 128)).state_dict()
    assert {f'network.{name}' for name in model.weights()} == state.keys()
    # Resumed, it is the same run.
    assert train(place, *options, '1', '--trainer.logger.name', 'half') == 0
    assert train(place, *options, '2', '--trainer.logger.name', 'half', '--resume',
                 'runs/half/version_0/checkpoints/last.ckpt') == 0
    whole, half = (read_checkpoint(f'runs/{name}/version_0/checkpoints/last.ckpt')['state_dict']
                   for name in ('whole', 'half'))
    assert all(torch.equal(whole[name], half[name]) for name in whole)


@pytest.mark.parametrize('steps', ['1', '10'])
def test_one_cycle_of_few_steps(place, steps):
    """A tenth of ten is one step, in which no rate can rise."""
    assert train(place, *SMALL, '--model.schedule', 'one_cycle', '--trainer.max_steps', steps,
                 '--trainer.limit_val_batches', '1', '--json', 'o.json') == 0
    assert json.loads(Path('o.json').read_text())['steps'] == int(steps)


def test_a_hopeless_rig_is_refused(place, capsys):
    """Before any training, with what is wrong; who insists may."""
    assert train(place, *SMALL, train='swapped') == 1
    assert 'the eyes are swapped' in capsys.readouterr().err
    assert train(place, *SMALL, '--data.accept_rig', 'true', '--trainer.max_steps', '1',
                 train='swapped') == 0


@pytest.mark.parametrize('options', [
    (), ('--model.loss', '{objective: one_view, smoothness_weight: 0.001, auto_mask: true}',
         '--model.augmentation', '{either_eye: 0.5, loss_sees_colour: false}')])
def test_published_recipes_run(place, options):
    """At the published size, one step; the network is thinner."""
    assert train(place, '--model.network_arguments.width', '0.05', '--trainer.max_steps', '1',
                 '--data.batch_size', '2', '--trainer.limit_val_batches', '1', *options,
                 '--json', 'o.json', val=None) == 0
    outcome = json.loads(Path('o.json').read_text())
    assert outcome['steps'] == 1 and outcome['metrics']['train/skipped'] == 0
    assert np.isfinite(outcome['metrics']['train/total'])
    assert ('train/consistency' in outcome['metrics']) == (not options)


@pytest.mark.parametrize('options, words', [
    (('--model.size', '[60,128]'), 'multiples of 64'),
    (('--model.network', 'resnet'), 'monodepth_vgg'),
    (('--model.augmentation.either_eye', '0.5'), 'one_view'),
    (('--data.right_topic', '/nowhere'), 'set right_topic to one of')])
def test_mistakes_are_one_sentence(place, capsys, options, words):
    """With how to mend it."""
    assert train(place, *SMALL, *options) == 1
    assert words in capsys.readouterr().err


def test_mirrored_eyes_change_places():
    """What was at x - d in the right eye is there again."""
    left = torch.arange(8.0).expand(1, 3, 2, 8)
    right = torch.roll(left, -2, -1)   # two pixels of disparity
    first, second, side = flip_pairs(left, right, StereoAugmentation(flip=1.0))
    assert torch.equal(first, right.flip(-1)) and torch.equal(second, left.flip(-1))
    assert torch.equal(second[..., :6], first[..., 2:])   # still two, positive
    assert side.item() == 1.0
    first, second, side = flip_pairs(left, right, StereoAugmentation(flip=0.0))
    assert torch.equal(first, left) and side.item() == 1.0
    # Monodepth2 leaves them at their places, and knows the sign.
    first, second, side = flip_pairs(left, right, StereoAugmentation(flip=1.0), swap=False)
    assert torch.equal(first, left.flip(-1)) and side.item() == -1.0
    first, second, side = flip_pairs(left, right, StereoAugmentation(0.0, 1.0), swap=False)
    assert torch.equal(first, right) and torch.equal(second, left) and side.item() == -1.0
    torch.manual_seed(0)
    _, _, side = flip_pairs(left.expand(200, -1, -1, -1), right.expand(200, -1, -1, -1),
                            StereoAugmentation(either_eye=0.5), swap=False)
    assert 0.35 < (side > 0).float().mean() < 0.65


def test_both_eyes_see_the_same_light():
    """Numbers are drawn for each pair, and within the published ranges."""
    torch.manual_seed(0)
    grey = torch.full((400, 3, 1, 1), 0.4)
    left, right = recolour_pairs(grey, grey.clone(), StereoAugmentation())
    assert torch.equal(left, right)
    changed = (left != grey).any(1).flatten()
    assert 0.4 < changed.float().mean() < 0.6
    factors = left[changed].flatten()
    assert 0.4 ** 1.2 * 0.5 * 0.8 <= factors.min() < 0.25 and 0.85 < factors.max() <= 1.0


def test_learning_rate_halves_twice():
    """To the step (monodepth.md section 19.4)."""
    assert [halving(step, 181_250) for step in (0, 108_750, 108_751, 145_000, 145_001)] == [
        1.0, 1.0, 0.5, 0.5, 0.25]


def test_a_dead_disparity_is_told(caplog):
    """Once, in words, while the loss says nothing."""
    module = StereoModule('monodepth_resnet50', {'width': 0.05}, (64, 64))
    row = (0.5, float('nan'), 0.002, 0.05, 0.05, 0.9, 0.04)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            module._outputs = [row] * 3
            assert module._measure() == pytest.approx(0.05 * 64)
    assert [r.message for r in caplog.records if 'collapsed to 5 %' in r.message] and len(
        caplog.records) == 1
    module._outputs = [(0.5, float('nan'), 0.15, 0.1, 3.0, 0.02, 0.04)]
    module._measure()
    assert 'disparity is flat, 2 %' in caplog.records[-1].message
    module._outputs = [(0.5, 0.1, 0.05, 0.01, 1.1, 0.8, 0.04)]
    assert module._measure() == pytest.approx(0.1) and len(caplog.records) == 2


def test_other_rigs_are_scaled():
    """A baseline twice as long sees twice the disparity; the truth stays what it is."""
    images = np.zeros((2, 2, 8, 16, 3), np.uint8)
    pairs = Pairs([StereoPairs(images, np.array([0.08, 0.08]), [None] * 2),
                   StereoPairs(images, np.array([0.16, 0.16]), [np.ones((8, 16))] * 2)], 0.08)
    assert [pairs[i]['ratio'] for i in range(4)] == [1.0, 1.0, 2.0, 2.0]
    assert np.isnan(pairs[0]['depth']).all() and (pairs[3]['depth'] == 1).all()


def test_options_contradict():
    """In Python as well."""
    with pytest.raises(ConfigurationError, match='one_view'):
        StereoModule('monodepth_resnet50', {'width': 0.05}, (64, 64), loss=StereoOptions(),
                     augmentation=StereoAugmentation(either_eye=0.5))
