# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Training of optical flow through the real command line, on a small drive with moving things."""

from dataclasses import replace
import json
from pathlib import Path

import numpy as np
import pytest
from tiny_geometry_model import ARGUMENTS, PREPROCESSING, write_geometry_model
from tiny_model import write_model
import torch

pytest.importorskip('lightning', reason='lightning is not installed')

from geo_perception.cli import main   # noqa: E402
from geo_perception.datasets.bag_writer import BagWriter   # noqa: E402
from geo_perception.datasets.sample_world.world import SampleWorld   # noqa: E402
from geo_perception.errors import ConfigurationError, ModelFileError   # noqa: E402
from geo_perception.geometry.camera import Camera   # noqa: E402
from geo_perception.geometry.projection import matrix_to_pose_vector   # noqa: E402
from geo_perception.geometry.se3 import inverse_transform   # noqa: E402
from geo_perception.inference.motion_score import MotionScore   # noqa: E402
from geo_perception.losses.flow import FlowOptions   # noqa: E402
from geo_perception.model_file import load_model_file   # noqa: E402
from geo_perception.training.checkpoint import read_checkpoint   # noqa: E402
from geo_perception.training.flow import FlowModule   # noqa: E402

CONFIG = Path(__file__).parents[1] / 'config'
CAMERA = Camera(np.array([[66.0, 0, 47.9], [0, 66.0, 31.6], [0, 0, 1]]), 96, 64,
                frame_id='camera')
SMALL = ('--model.flow', 'resflownet_lite', '--model.flow_arguments', '{width: 0.5}')


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """Return a folder with drives and a model of depth and ego-motion."""
    folder = tmp_path_factory.mktemp('flow')
    for name, frames in (('train', 10), ('val', 6)):
        drive = SampleWorld(0, CAMERA).drive(name, frames)
        with BagWriter(folder / name) as bag:
            for frame in drive:
                bag.image('/image', frame.stamp, 'camera', frame.image, 'rgb8')
                bag.camera_info('/camera_info', frame.stamp, CAMERA)
                bag.pose('/pose', frame.stamp, 'map', frame.T_world_camera)
                bag.image('/flow', frame.stamp, 'camera', frame.flow, '32FC2')
                bag.image('/motion_mask', frame.stamp, 'camera', frame.motion_mask, 'mono8')
    write_geometry_model(folder / 'rigid.safetensors')
    return folder


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Work in an empty folder, on one thread."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train(place, *options, init='rigid.safetensors'):
    """Run the program and return its exit status."""
    arguments = ['train', 'geonet', '--stage', 'flow', '--data.train', str(place / 'train'),
                 '--data.val', str(place / 'val'), *options]
    return main(arguments + (['--init', str(place / init)] if init else []))


def state(name, file='last'):
    """Return the weights of a run."""
    return read_checkpoint(f'runs/{name}/version_0/checkpoints/{file}.ckpt')['state_dict']


def test_from_a_rigid_model_to_one_with_flow(place):
    """The rigid part stays to the last bit; flow is measured, exported and resumed."""
    # A GPU adds up in any order, and so no run is another to the last bit.
    options = (*SMALL, '--trainer.accelerator', 'cpu', '--model.augmentation',
               '{scale: 1.1, gain: 0.2}', '--json', 'o.json')
    assert train(place, *options, '--trainer.max_epochs', '2', '--trainer.logger.name',
                 'whole') == 0
    outcome = json.loads(Path('o.json').read_text())
    assert np.isfinite(outcome['best_error']) and outcome['metrics']['train/skipped'] == 0
    metrics = outcome['metrics']
    assert metrics['val/flow_epe_px'] == outcome['metrics']['val/error'] > 0
    assert 0 <= metrics['val/motion_iou'] <= 1 and 0 <= metrics['val/flow_consistent'] <= 1
    whole, before = state('whole'), load_model_file(place / 'rigid.safetensors')
    rigid = {name: value for name, value in whole.items() if not name.startswith('flow.')}
    assert rigid.keys() == before.weights().keys()
    assert all(np.array_equal(value, before.weights()[name]) for name, value in rigid.items())
    assert whole['flow.predict.4.weight'].abs().max() > 0
    assert main(['export', outcome['checkpoint'], '--output', 'm.safetensors']) == 0
    model = load_model_file('m.safetensors', 'geometry')
    assert {name: model.metadata.arguments[name] for name in (
        'flow_name', 'flow', 'flow_border', 'depth')} == {
            'flow_name': 'resflownet_lite', 'flow': {'width': 0.5}, 'flow_border': 'published',
            'depth': ARGUMENTS['depth']}
    assert model.metadata.calibration['metres_per_unit'] == 2.0
    assert model.metadata.training_camera == before.metadata.training_camera
    assert model.metadata.data['interval'] == 0.1
    assert model.metadata.data['flow']['train_snippets'] == 8
    assert MotionScore.from_model(model) != MotionScore()
    assert {n for n in model.tensors if n.startswith('network.flow.')} == {
        f'network.{n}' for n in whole if n.startswith('flow.')}

    # Interrupted after an epoch and resumed without the rigid model: the same.
    half = ('--trainer.logger.name', 'half')
    assert train(place, *options, *half, '--trainer.max_epochs', '1') == 0
    assert train(place, *options, *half, '--trainer.max_epochs', '2', '--resume',
                 'runs/half/version_0/checkpoints/last.ckpt', init=None) == 0
    resumed = state('half')
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_all_parts_together(place):
    """Depth and ego-motion learn as well, from a checkpoint of flow, too."""
    options = (*SMALL, '--trainer.max_epochs', '1', '--trainer.logger.name')
    assert train(place, *options, 'first') == 0
    assert train(place, *options, 'second', '--model.finetune', 'true', '--init',
                 'runs/first/version_0/checkpoints/last.ckpt', '--json', 'o.json', init=None) == 0
    first, second = state('first'), state('second')
    for part in ('depth.', 'egomotion.', 'flow.'):
        assert any(not torch.equal(first[name], second[name]) for name in first
                   if name.startswith(part))
    # It goes on from the flow network it finds; one of another width begins anew.
    kept = 'runs/first/version_0/checkpoints/last.ckpt'
    same, other = (FlowModule(kept, 'resflownet_lite', {'width': width}) for width in (0.5, 0.4))
    assert all(torch.equal(value, first[f'flow.{name}'])
               for name, value in same.flow.state_dict().items())
    assert not other.flow.predict[4].weight.any()
    metrics = json.loads(Path('o.json').read_text())['metrics']
    assert metrics['train/rigid_photometric'] > 0 and 'val/metres_per_unit' in metrics


@pytest.mark.parametrize('options', [
    (), ('--model.flow_arguments.variant', 'direct'),
    ('--config', str(CONFIG / 'geometry_lite_flow.yaml'))])
def test_recipes_run(place, options):
    """As published, direct, and light: one step, the published network thinner."""
    width = () if '--config' in options else ('--model.flow_arguments.width', '0.05')
    assert train(place, *options, *width, '--trainer.max_steps', '1', '--trainer.max_epochs', '-1',
                 '--trainer.limit_val_batches', '1', '--json', 'o.json') == 0
    outcome = json.loads(Path('o.json').read_text())
    assert outcome['steps'] == 1 and np.isfinite(outcome['metrics']['train/total'])


@pytest.mark.parametrize('init, options, words', [
    (None, (), 'give their checkpoint or model file: --init'),
    ('none.ckpt', (), 'cannot read checkpoint'), ('none.safetensors', (), 'cannot read model'),
    ('foreign.safetensors', (), 'is for relocalization, not for geometry'),
    ('damaged.ckpt', (), 'is not a checkpoint'),
    ('rigid.safetensors', ('--data.length', '5'), 'set data.length to 3'),
    ('odd.safetensors', (), 'multiples of 16'),
    ('rigid.safetensors', ('--model.flow_arguments.variant', 'direct', '--model.flow_loss.smooth',
                           'residual'), 'has none'),
    ('rigid.safetensors', ('--model.flow', 'pwc'), 'resflownet, resflownet_lite')])
def test_what_does_not_fit_together(place, capsys, init, options, words):
    """One sentence."""
    write_model(place / 'foreign.safetensors')
    (place / 'damaged.ckpt').write_bytes(b'nothing')
    write_geometry_model(place / 'odd.safetensors', preprocessing=replace(
        PREPROCESSING, crop=(64, 104)), arguments=ARGUMENTS)
    assert train(place, *SMALL[:2], *options, init=init) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error')]
    assert words in line


def test_weights_that_do_not_fit_their_header(place, tmp_path):
    """It names the first."""
    write_geometry_model(tmp_path / 'm.safetensors', {'network.egomotion.pose.2.bias': None})
    with pytest.raises(ModelFileError, match='1 weights are missing.*egomotion.pose.2.bias'):
        FlowModule(str(tmp_path / 'm.safetensors'), 'resflownet_lite')


@pytest.fixture(scope='module')
def snippet():
    """Return images, intrinsics, and what is true of a snippet with moving things in it."""
    drive = SampleWorld(0, CAMERA, changing_light=False).drive('train', 60)
    frames = [drive[i] for i in (19, 20, 21)]
    images = torch.stack([torch.from_numpy(f.image).permute(2, 0, 1) for f in frames])
    depths = torch.stack([torch.from_numpy(f.depth) for f in frames])[:, None]
    poses = torch.stack([matrix_to_pose_vector(torch.from_numpy(
        inverse_transform(frames[i].T_world_camera) @ frames[1].T_world_camera))
        for i in (0, 2)]).float()
    return {'images': images[None].float() / 127.5 - 1,
            'K': torch.from_numpy(CAMERA.K).float()[None], 'disparities': 1 / depths,
            'poses': poses[None], 'flow': frames[1].flow, 'moving': frames[1].motion_mask > 0}


def flow_module(place, **options):
    """Return a module with a network of its own size."""
    return FlowModule(str(place / 'rigid.safetensors'), 'resflownet_lite', **options)


def truth(snippet):
    """Return what perfect networks would say at four scales."""
    pyramid = [torch.nn.functional.avg_pool2d(snippet['disparities'], 2 ** s) for s in range(4)]
    return ([d[1:2] for d in pyramid], snippet['poses'],
            [torch.stack([d[0], d[2]])[None] for d in pyramid])


def test_rigid_flow_of_true_depth_is_the_flow_of_what_stands(place, snippet):
    """From the target to the next frame; parallax is what turning leaves."""
    module = flow_module(place)
    own, poses, theirs = truth(snippet)
    rigid = module.rigid_flows(snippet['K'], own, poses, theirs)
    assert [tuple(f.shape) for f in rigid] == [
        (2, 1, 2, 2, 64 // 2 ** s, 96 // 2 ** s) for s in range(4)]
    forward = rigid[0][0, 0, 1].permute(1, 2, 0).numpy()
    still = ~snippet['moving']
    assert still.mean() > 0.5 and np.abs(snippet['flow'][still]).max() > 1
    assert np.abs(forward - snippet['flow'])[still].max() < 0.01
    # Coarser, the same picture in its own pixels, either way.
    each = flow_module(place, flow_loss=FlowOptions(rigid='each_scale')).rigid_flows(
        snippet['K'], own, poses, theirs)
    for level in (1, 2):
        fine = torch.nn.functional.avg_pool2d(rigid[0].flatten(0, 2), 2 ** level) / 2 ** level
        torch.testing.assert_close(rigid[level].flatten(0, 2), fine)
        assert (each[level].flatten(0, 2) - fine).abs().median() < 0.05
    # There and back is home, for what stands and is not hidden.
    back = torch.nn.functional.grid_sample(
        rigid[0][1, :, 1], torch.stack([
            2 * (torch.arange(96) + rigid[0][0, 0, 1, 0]) / 95 - 1,
            2 * (torch.arange(64)[:, None] + rigid[0][0, 0, 1, 1]) / 63 - 1], -1)[None],
        align_corners=True)
    assert (rigid[0][0, :, 1] + back).abs().median() < 0.02
    turned = poses.clone()
    turned[..., :3] = 0
    parallax = module.parallax(rigid, snippet['K'], poses)
    expected = rigid[0][0] - module.rigid_flows(snippet['K'], own, turned, theirs)[0][0]
    torch.testing.assert_close(parallax, expected, atol=1e-4, rtol=0)


def test_flow_begins_as_rigid_flow_and_finds_what_moves(place, snippet):
    """One snippet, with perfect depth and motion, learned by heart."""
    torch.manual_seed(0)
    module = flow_module(place, flow_loss=FlowOptions(smooth='residual', smoothness_weight=0.05,
                                                      unit_range=True))
    rigid = module.rigid_flows(snippet['K'], *truth(snippet))
    flows, _ = module.predict_flow(snippet['images'], rigid)
    assert all(torch.equal(a, b) for a, b in zip(flows, rigid))
    moving = snippet['moving']

    def errors():
        flows, _ = module.predict_flow(snippet['images'], rigid)
        error = np.linalg.norm(flows[0][0, 0, 1].detach().permute(1, 2, 0).numpy()
                               - snippet['flow'], axis=-1)
        return error[moving].mean(), error[~moving].mean()

    before, _ = errors()
    optimizer = torch.optim.Adam(module.flow.parameters(), 2e-3)
    target, sources = snippet['images'][:, 1], snippet['images'][:, [0, 2]]
    for _ in range(60):
        loss = module.flow_loss(target, sources, *module.predict_flow(snippet['images'],
                                                                      rigid))['total']
        optimizer.zero_grad()
        loss.backward()
        # As in training.
        torch.nn.utils.clip_grad_norm_(module.flow.parameters(), 5.0)
        optimizer.step()
    after, still = errors()
    assert before > 1 and after < 0.6 * before and still < 0.3


def test_frozen_parts_are_evaluated(place):
    """Their statistics stay, whatever mode the module is in."""
    module = flow_module(place).train()
    assert module.flow.training and not module.depth.training and not module.egomotion.training
    assert not any(p.requires_grad for p in module.depth.parameters())
    assert flow_module(place, finetune=True).train().depth.training


def test_rigid_products_are_made_once_without_gradient(place, snippet):
    """Both directions share them; fine-tuning has them with one."""
    for finetune in (False, True):
        module = flow_module(place, finetune=finetune)
        made = []
        for network in (module.depth, module.egomotion):
            network.register_forward_hook(lambda *call: made.append(call[2][0]))
        module.terms(snippet['images'], snippet['images'], snippet['K'])
        assert [part.requires_grad for part in made] == [finetune] * 2


def test_stereo_pairs_are_for_depth(place):
    """Flow on top of it takes video."""
    with pytest.raises(ConfigurationError, match='data.stereo is for depth and ego-motion'):
        flow_module(place).use_stereo()


def test_direct_flow_needs_no_rigid_part(place, snippet, monkeypatch):
    """Nothing of it is computed in a step."""
    module = flow_module(place, flow_arguments={'variant': 'direct'})
    monkeypatch.setattr(module, 'predict', None)
    terms = module.terms(snippet['images'], snippet['images'], snippet['K'])
    assert terms['total'].requires_grad


def test_options_of_the_residual_need_one(place):
    """One sentence, in Python as well."""
    with pytest.raises(ConfigurationError, match='variant direct has none'):
        flow_module(place, flow_arguments={'variant': 'direct'},
                    flow_loss=FlowOptions(residual_weight=0.1))
