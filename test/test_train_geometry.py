# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Training of depth and ego-motion through the real command line, on a small drive."""

from dataclasses import replace
import json
import os
from pathlib import Path
import subprocess
import sys

import cv2
import numpy as np
import pytest
from small_world import write_drive
import torch

pytest.importorskip('lightning', reason='lightning is not installed')

from geo_perception.cli import main   # noqa: E402
from geo_perception.datasets.frame import Frame   # noqa: E402
from geo_perception.errors import ConfigurationError, ModelFileError   # noqa: E402
from geo_perception.geometry.camera import Camera   # noqa: E402
from geo_perception.inference.motion import MotionNetwork   # noqa: E402
from geo_perception.inference.motion_uncertainty import MotionCalibration   # noqa: E402
from geo_perception.losses.view_synthesis import ViewSynthesisOptions   # noqa: E402
from geo_perception.model_file import load_model_file   # noqa: E402
from geo_perception.preprocessing import Preprocessing   # noqa: E402
from geo_perception.training.checkpoint import CONTENT_KEY, read_checkpoint   # noqa: E402
from geo_perception.training.video_augmentation import (   # noqa: E402
    crop_and_flip, recolour, VideoAugmentation)
from geo_perception.training.view_synthesis import (   # noqa: E402
    split_snippet, ViewSynthesisModule)
from geo_perception.training.view_synthesis_data import (   # noqa: E402
    load_video, ViewSynthesisData)

CONFIG = Path(__file__).parents[1] / 'config'
SMALL = ('--model.depth', 'dispnet_vgg', '--model.depth_arguments', '{width: 0.1}',
         '--model.egomotion_arguments', '{width: 0.25}', '--model.size', '[64,96]',
         '--data.batch_size', '4')


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Return a folder with drives."""
    folder = tmp_path_factory.mktemp('world')
    write_drive(folder / 'train', 16)
    write_drive(folder / 'slow', 48)
    write_drive(folder / 'val', 8, 0.5)
    write_drive(folder / 'without_poses', 16, with_poses=False)
    return folder


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Work in an empty folder, on one thread."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train(world, *options, system='sfmlearner', train='train', val='val'):
    """Run the program and return its exit status."""
    arguments = ['train', system, '--data.train', str(world / train), *options]
    return main(arguments + (['--data.val', str(world / val)] if val else []))


def scalars(name='train/total'):
    """Return a curve of the run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = Path('runs').glob('*/version_0')
    events = EventAccumulator(str(folder))
    events.Reload()
    return [event.value for event in events.Scalars(name)]


def test_from_a_bag_to_a_checkpoint(world):
    """The loss falls, and the checkpoint says what a model file needs."""
    assert train(world, *SMALL, '--model.learning_rate', '0.002', '--trainer.max_epochs', '8',
                 '--trainer.log_every_n_steps', '1', '--model.loss.photometric', 'l1',
                 '--model.augmentation.scale', '1.0', '--trainer.check_val_every_n_epoch', '8',
                 '--json', 'outcome.json', train='slow') == 0
    losses = scalars()
    assert np.mean(losses[-6:]) < 0.8 * np.mean(losses[:6])
    outcome = json.loads(Path('outcome.json').read_text())
    assert outcome['steps'] == 88
    checkpoint = read_checkpoint(outcome['checkpoint'])
    metadata = checkpoint[CONTENT_KEY]['metadata']
    assert (metadata['job'], metadata['architecture']) == ('geometry', 'dispnet_vgg')
    assert metadata['preprocessing']['crop'] == (64, 96)
    assert metadata['calibration']['metres_per_unit'] > 0
    assert metadata['data']['train_snippets'] == 46 and metadata['data']['length'] == 3
    metrics = outcome['metrics']
    assert metrics['val/metres_per_unit'] == pytest.approx(
        metadata['calibration']['metres_per_unit'])
    assert metrics['val/error'] == metrics['val/abs_rel_median_scaled'] != metrics['val/loss']
    # Units of several metres, and errors of less than all of the depth.
    assert metrics['val/error'] < 1 < metrics['val/depth_ratio']


@pytest.mark.parametrize('length', [3, 5])
def test_model_file_knows_camera_interval_and_errors(world, length):
    """What inference needs beside the weights is measured, exported and taken."""
    assert train(world, *SMALL, '--trainer.max_epochs', '1', '--data.length', str(length),
                 '--model.sources', str(length - 1), '--json', 'outcome.json', val='slow') == 0
    checkpoint = json.loads(Path('outcome.json').read_text())['checkpoint']
    assert main(['export', checkpoint, '--output', 'm.safetensors']) == 0
    model = load_model_file('m.safetensors', 'geometry')
    camera = model.metadata.training_camera
    assert (camera.width, camera.height, camera.fx, camera.cy) == (96, 64, 80.0, 31.5)
    assert model.metadata.data['interval'] == pytest.approx(0.1)
    calibration = MotionCalibration.from_model(model)
    assert calibration != MotionCalibration() and calibration.usual_interval == 0.1
    # An untrained network is wrong by about all of a motion.
    assert calibration.floor_rotation + calibration.per_angle > 1e-3
    assert 0.01 < calibration.usual_residual < 1
    assert model.metadata.calibration['metres_per_unit'] > 0
    # Steps of the network are as long as those of alignment through its depth.
    scale = model.metadata.calibration['egomotion_scale']
    assert scale > 0 and scale != 1.0
    plain = replace(model, metadata=replace(model.metadata, calibration={}))
    crops = np.random.default_rng(0).integers(0, 256, (length, 64, 96, 3), np.uint8)
    ours, raw = (MotionNetwork(m).snippet(crops)[:, :3, 3] for m in (model, plain))
    np.testing.assert_allclose(ours, scale * raw, rtol=1e-3, atol=1e-9)
    with pytest.raises(ModelFileError, match='egomotion_scale = 0'):
        MotionNetwork(replace(model, metadata=replace(
            model.metadata, calibration={'egomotion_scale': 0})))


def test_depth_is_validated_as_the_model_has_it(monkeypatch):
    """Normalised where the loss does so; the target is shown above its depth."""
    module = ViewSynthesisModule('dispnet_vgg', {'width': 0.05},
                                 egomotion_arguments={'width': 0.1}, size=(32, 32),
                                 loss=ViewSynthesisOptions(normalise_disparity=True)).eval()
    shown = []
    monkeypatch.setattr(module, '_show', lambda name, picture: shown.append(picture))
    images = torch.randint(256, (2, 3, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        module.validation_step({
            'images': images, 'K': torch.tensor([[30.0, 0, 16], [0, 30, 16], [0, 0, 1]]).expand(
                2, 3, 3), 'depth': torch.full((2, 32, 32), 3.0),
            'poses': torch.eye(4).expand(2, 3, 4, 4)}, 0)
    # Before training depth is about one everywhere; disparity as it is would make it a fifth.
    assert [row[1] for row in module._outputs] == pytest.approx([3.0, 3.0], rel=0.2)
    np.testing.assert_array_equal(shown[0][:32, :32], images[0, 1].numpy()[..., ::-1])


def test_resumed_run_is_the_uninterrupted_one(world):
    """Weights to the last digit, with augmentation on; a GPU adds up in any order."""
    options = (*SMALL, '--trainer.accelerator', 'cpu',
               '--model.augmentation', '{scale: 1.1, flip: 0.5, gain: 0.2}',
               '--trainer.max_epochs', '2')
    assert train(world, *options, '--trainer.logger.name', 'whole') == 0
    assert train(world, *options[:-1], '1', '--trainer.logger.name', 'half') == 0
    assert train(world, *options, '--trainer.logger.name', 'half', '--resume',
                 'runs/half/version_0/checkpoints/last.ckpt') == 0
    whole, half = (read_checkpoint(f'runs/{name}/version_0/checkpoints/last.ckpt')['state_dict']
                   for name in ('whole', 'half'))
    assert all(torch.equal(whole[name], half[name]) for name in whole)


@pytest.mark.parametrize('system, config, options', [
    ('sfmlearner', 'sfmlearner.yaml', ('--model.egomotion_arguments.explainability', 'true',
                                       '--model.loss.explainability_weight', '0.2')),
    ('sfmlearner', 'sfmlearner.yaml', (
        '--data.length', '5', '--model.sources', '4', '--model.loss.explainability_weight', '0.2',
        '--model.egomotion_arguments.explainability', 'true',
        '--model.egomotion_arguments.batch_norm', 'true',
        '--model.depth_arguments.batch_norm', 'true')),
    ('geonet', None, ('--stage', 'rigid')),
    ('geonet', 'geonet_rigid.yaml', (
        '--model.depth', 'dispnet_vgg', '--model.depth_arguments.form', 'geonet',
        '--model.augmentation',
        '{gamma: 0, gain: 0, colour: 0, legacy_colour_augmentation: true}'))])
def test_published_recipes_run(world, system, config, options):
    """Each at the published size, one step; the networks are thinner."""
    options = ('--model.depth_arguments.width', '0.05', '--model.egomotion_arguments.width',
               '0.25', *options)
    config = () if config is None else ('--config', str(CONFIG / config))
    assert train(world, *config, *options, '--trainer.max_steps', '1',
                 '--trainer.limit_val_batches', '1', '--json', 'o.json', system=system) == 0
    outcome = json.loads(Path('o.json').read_text())
    assert outcome['steps'] == 1 and outcome['metrics']['train/skipped'] == 0
    assert np.isfinite(outcome['metrics']['train/total'])


@pytest.mark.parametrize('system, network, photometric', [
    ('sfmlearner', 'DispNetVGG', 'l1'), ('geonet', 'DispNetResNet50', 'ssim')])
def test_without_a_configuration_it_is_the_published_one(world, monkeypatch, system, network,
                                                         photometric):
    """Networks, loss and size, as soon as they are built."""
    built = []

    def setup(self, stage):
        built.append(self.trainer.lightning_module)
        raise ConfigurationError('seen enough')

    monkeypatch.setattr(ViewSynthesisData, 'setup', setup)
    assert train(world, system=system) == 1
    (module,) = built
    assert type(module.depth).__name__ == network
    options = module.loss.options
    assert (options.photometric, options.border) == (photometric, 'published')
    assert module.preprocessing.crop == (128, 416) and module.preprocessing.stretch


def test_the_other_stage_needs_this_one(world, capsys):
    """It says how to name it; the rest is in test_train_flow.py."""
    assert train(world, '--stage', 'flow', system='geonet') == 1
    assert '--init best.ckpt' in capsys.readouterr().err


def test_poses_are_not_needed(world):
    """Without any there is no scale, and the end of the drive is held out."""
    assert train(world, *SMALL, '--trainer.max_epochs', '1', train='without_poses', val=None) == 0
    (path,) = Path('runs').glob('**/last.ckpt')
    metadata = read_checkpoint(path)[CONTENT_KEY]['metadata']
    assert metadata['calibration'] == {} and 'metres_per_unit' not in metadata['metrics']


PROGRAM = """
import sys
import torch
from geo_perception.cli import main
from geo_perception.training.view_synthesis import ViewSynthesisModule

predict = ViewSynthesisModule.predict


def broken(self, images, K, all_frames, right=None):
    disparities, *rest = predict(self, images, K, all_frames)
    if self.training and self.global_step == self.global_rank == 1:
        disparities = [float('nan') * d for d in disparities]
    return disparities, *rest


def on_train_end(self):
    torch.save(self.state_dict(), f'rank{self.global_rank}.pth')


ViewSynthesisModule.predict, ViewSynthesisModule.on_train_end = broken, on_train_end
sys.exit(main())
"""


def test_two_processes_train_one_network(world, tmp_path):
    """Under torchrun: equal weights, and what is no number in one process is skipped in both."""
    (tmp_path / 'program.py').write_text(PROGRAM)
    result = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2',
         'program.py', 'train', 'sfmlearner', '--data.train', str(world / 'train'), '--data.val',
         str(world / 'val'), *SMALL, '--data.batch_size', '2', '--trainer.max_epochs', '1',
         '--trainer.accelerator', 'cpu', '--trainer.devices', '2', '--trainer.strategy', 'ddp',
         '--json', 'outcome.json'], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[1]), 'OMP_NUM_THREADS': '1'})
    assert result.returncode == 0, result.stderr
    first, second = (torch.load(tmp_path / f'rank{i}.pth') for i in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(value.isfinite().all() for value in first.values())
    outcome = json.loads((tmp_path / 'outcome.json').read_text())
    # Fourteen snippets, two a process and step; the last ones are left out.
    assert outcome['steps'] == 3 and outcome['metrics']['train/skipped'] == 1
    assert np.isfinite(outcome['metrics']['val/error'])


@pytest.mark.parametrize('options, words', [
    (('--model.size', '[60,96]'), 'multiples of 16'), (('--data.length', '4'), 'odd'),
    (('--data.length', '5'), 'model.sources must be 4'),
    (('--model.depth', 'resnet'), 'dispnet_vgg'),
    (('--model.egomotion_arguments', '{wide: 1}'), 'wide'),
    (('--model.loss.depth_consistency_weight', '0.5'), 'both_directions'),
    (('--model.loss.explainability_weight', '0.2'), 'set both'),
    (('--model.egomotion_arguments', '{explainability: true}'), 'set both'),
    (('--model.augmentation', '{gain: 0.1, legacy_colour_augmentation: true}'), 'its own')])
def test_what_does_not_fit_together(world, capsys, options, words):
    """One sentence."""
    assert train(world, *SMALL, *options) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error')]
    assert words in line


@pytest.mark.parametrize('what, options', [
    ('loss', ()), ('loss', ('--trainer.precision', 'bf16-mixed')), ('gradient', ()),
    ('loss', ('--trainer.accumulate_grad_batches', '2'))],
    ids=['loss', 'loss in half precision', 'gradient', 'loss among several'])
def test_what_is_no_number_is_skipped_and_then_ends_the_run(world, monkeypatch, capsys, caplog,
                                                            what, options):
    """One is skipped, named and changes nothing; several in a row are the end."""
    predict = ViewSynthesisModule.predict
    bad, weights = {4, 8, 9, 10, 11, 12}, {}

    def broken(self, images, K, all_frames, right=None):
        disparities, *rest = predict(self, images, K, all_frames)
        if self.training:
            n = self.global_step
            weights[n] = self.depth.predict[0].weight.detach().clone()
            if n in bad and what == 'loss':
                disparities = [float('nan') * d for d in disparities]
            elif n in bad:
                disparities[0].register_hook(lambda gradient: float('nan') * gradient)
        return disparities, *rest

    monkeypatch.setattr(ViewSynthesisModule, 'predict', broken)
    assert train(world, *SMALL, *options, '--trainer.max_epochs', '12') == 1
    assert f'the {what} at step 4 is not finite; snippets [' in caplog.text
    assert f'the {what} of 5 batches in a row' in capsys.readouterr().err
    assert torch.equal(weights[5], weights[4]) and not torch.equal(weights[4], weights[3])
    checkpoint = read_checkpoint(next(Path('runs').glob('**/last.ckpt')))
    assert all(value.isfinite().all() for value in checkpoint['state_dict'].values())


@pytest.mark.parametrize('precision', ['32-true', 'bf16-mixed'])
def test_gradients_are_clipped(world, precision):
    """To next to nothing, and the weights stay as they are; so in mixed precision."""
    changes = []
    for clip in ('1e-12', '5.0'):
        assert train(world, *SMALL, '--trainer.precision', precision,
                     '--trainer.gradient_clip_val', clip, '--trainer.max_steps', '2',
                     '--trainer.logger.name', clip) == 0
        weights = read_checkpoint(next(Path('runs', clip).glob('**/last.ckpt')))['state_dict']
        changes.append(weights['depth.predict.0.weight'])
    start = ViewSynthesisModule('dispnet_vgg', {'width': 0.1}).depth.predict[0].weight.detach()
    assert torch.allclose(changes[0], start, atol=1e-6)
    assert not torch.allclose(changes[1], start, atol=1e-6)


def test_intrinsics_follow_crop_and_flip():
    """A pattern drawn where a point projects to is found where it projects to after."""
    torch.manual_seed(0)
    height, width = 48, 64
    K = np.array([[50.0, 0, 30.2], [0, 52, 22.7], [0, 0, 1]])
    points = np.array([[0.0, 0, 2], [0.6, 0.4, 2], [-0.7, -0.5, 2]])
    y, x = np.mgrid[:height, :width]
    drawn = sum(np.exp(-((x - u) ** 2 + (y - v) ** 2) / 8)
                for u, v in Camera(K, width, height).project(points))
    images = torch.from_numpy(drawn).float().expand(2, 3, 3, height, width)
    Ks = torch.from_numpy(K).float().expand(2, 3, 3)
    for flip in (0.0, 1.0):
        for _ in range(4):
            with torch.autocast('cpu', torch.bfloat16):
                moved, K_moved, flipped = crop_and_flip(images, Ks, VideoAugmentation(1.3, flip))
            assert flipped == flip
            assert moved.shape == images.shape
            camera = Camera(K_moved[0].numpy().astype(float), width, height)
            mirrored = points * [-1, 1, 1] if flip else points
            for u, v in camera.project(mirrored):
                column, row = round(u), round(v)
                if 4 < u < width - 5 and 4 < v < height - 5:
                    weight = moved[0, 0, 0, row - 4:row + 5, column - 4:column + 5].numpy() ** 2
                    rows, columns = np.mgrid[-4:5, -4:5]
                    found = (column + (columns * weight).sum() / weight.sum(),
                             row + (rows * weight).sum() / weight.sum())
                    np.testing.assert_allclose(found, (u, v), atol=0.1)


@pytest.mark.parametrize('stretch', [True, False])
@pytest.mark.parametrize('distortion', [(), (-0.2, 0.05, 0, 0)])
def test_intrinsics_follow_undistortion_resize_and_crop(stretch, distortion):
    """What is seen at a place of the camera image is found where the new K projects it to."""
    camera = Camera(np.array([[150.0, 0, 101.3], [0, 155, 58.8], [0, 0, 1]]), 200, 120,
                    np.array(distortion, float))
    points = np.array([[0.0, 0, 2], [0.5, 0.3, 2], [-0.5, -0.35, 2]])
    seen = cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera.K,
                             camera.distortion if distortion else None)[0][:, 0]
    y, x = np.mgrid[:120, :200]
    drawn = sum(200 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / 20) for u, v in seen)
    image = np.repeat(drawn.clip(0, 255).astype(np.uint8)[..., None], 3, 2)
    # The ground, with something on it, passes by, or there would be no snippets.
    image[100:] = cv2.resize(np.random.default_rng(0).integers(0, 255, (4, 40, 3), np.uint8),
                             (200, 20))
    frames = [Frame(i * 10**8, image if i % 2 else np.roll(image, 20, 1), str(i), camera)
              for i in range(5)]

    class Video(list):
        stamps, poses = np.arange(5) * 10**8, None

    preprocessing = Preprocessing(short_side=64, crop=(64, 96), stretch=stretch)
    video = load_video(Video(frames), preprocessing, 3, 1, 'test')
    new = Camera(video.K[1].astype(float), 96, 64)
    for u, v in new.project(points):
        column, row = round(u), round(v)
        weight = video.images[1][row - 4:row + 5, column - 4:column + 5, 0].astype(float) ** 2
        rows, columns = np.mgrid[-4:5, -4:5]
        np.testing.assert_allclose(
            (column + (columns * weight).sum() / weight.sum(),
             row + (rows * weight).sum() / weight.sum()), (u, v), atol=0.12)


def test_light_changes_alike_in_all_frames():
    """Brightness constancy is what the loss rests on."""
    torch.manual_seed(0)
    images = (2 * torch.rand(1, 1, 3, 4, 5) - 1).expand(2, 3, 3, 4, 5)
    changed = [recolour(images, VideoAugmentation(gamma=0.2, gain=0.5, colour=0.2))
               for _ in range(12)]
    assert any(torch.equal(c, images) for c in changed)
    assert any((c - images).abs().max() > 0.05 for c in changed)
    for c in changed:
        assert torch.equal(c[:, 0], c[:, 2]) and c.abs().max() <= 1


def test_light_as_published():
    """Each channel of each frame has a gain of its own, and values are those of 8 bits."""
    torch.manual_seed(0)
    images = torch.full((2, 3, 3, 4, 5), -0.2)
    published = VideoAugmentation(legacy_colour_augmentation=True)
    changed = torch.stack([recolour(images, published) for _ in range(60)])
    different = changed[(changed != images).flatten(1).any(1)]
    assert 20 < len(different) < 40
    light = 0.5 * different + 0.5
    gains = light[:, 0, :, :, 0, 0]
    assert (light == gains[:, None, :, :, None, None]).all()   # alike in a batch and an image
    ratio = gains.flatten(1).amax(1) / gains.flatten(1).amin(1)
    assert ratio.max() < 1.55 and ratio.median() > 1.15
    assert ((255 * light - (255 * light).round()).abs() < 1e-3).all()


def test_order_of_a_snippet():
    """The target is in the middle."""
    target, sources = split_snippet(torch.arange(5.0)[None])
    assert target.item() == 2 and sources.tolist() == [[0, 1, 3, 4]]


def test_wrong_snippet_length_is_refused_without_data():
    """The module itself compares."""
    module = ViewSynthesisModule('dispnet_vgg', {'width': 0.05}, size=(32, 32))
    with pytest.raises(ConfigurationError, match='model.sources must be 4'):
        module.describe_data({'length': 5})
