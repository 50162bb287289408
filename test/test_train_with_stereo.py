# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Depth and ego-motion that learn from stereo pairs: as a beginning, and as a further source."""

import json

import numpy as np
import pytest
from stereo_world import CAMERA, write_pairs
import tiny_stereo_model
import torch
from torch import nn

pytest.importorskip('lightning', reason='lightning is not installed')

from geo_perception.cli import main   # noqa: E402
from geo_perception.datasets.recording import open_stereo   # noqa: E402
from geo_perception.errors import ConfigurationError   # noqa: E402
from geo_perception.inference.depth import DepthNetwork   # noqa: E402
from geo_perception.losses.view_synthesis import ViewSynthesisOptions   # noqa: E402
from geo_perception.model_file import load_model_file, save_model_file   # noqa: E402
from geo_perception.networks.stereo import build_stereo_network   # noqa: E402
from geo_perception.training.from_stereo import stereo_start   # noqa: E402
from geo_perception.training.video_augmentation import VideoAugmentation   # noqa: E402
from geo_perception.training.view_synthesis import ViewSynthesisModule   # noqa: E402
from geo_perception.training.view_synthesis_data import load_video   # noqa: E402

REACH, BASELINE = 0.08, 0.12
SMALL = ('--model.depth', 'dispnet_vgg', '--model.depth_arguments', '{width: 0.1}',
         '--model.egomotion_arguments', '{width: 0.25}', '--model.size', '[64,96]',
         '--data.batch_size', '2', '--trainer.max_epochs', '1')


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Work in an empty folder, on one thread."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """Return a folder with recordings of a stereo camera, without poses."""
    folder = tmp_path_factory.mktemp('stereo')
    write_pairs(folder / 'train', 'train', 8)
    write_pairs(folder / 'swapped', 'train', 4, lambda left, right: (right, left))
    write_pairs(folder / 'sign', 'train', 4, told=-BASELINE)
    return folder


def train(place, *options, system='sfmlearner', train='train'):
    """Run the program and return its exit status."""
    return main(['train', system, '--data.train', str(place / train), '--data.stereo', 'true',
                 *options])


def write_stereo_model(name, arguments, reach=REACH):
    """Write a model with random weights; return its network."""
    torch.manual_seed(0)
    network = build_stereo_network(name, arguments).eval()
    save_model_file('stereo.safetensors', tiny_stereo_model.metadata(
        architecture=name, arguments={'network': arguments}, calibration={'reach': reach}),
        {f'network.{key}': value.numpy() for key, value in network.state_dict().items()})
    return network


@pytest.mark.parametrize('largest, smallest', [(0.3, 0.0), (0.2, 0.001)])
def test_depth_begins_in_the_metres_of_the_stereo_network(largest, smallest):
    """All weights are kept, but for the map of the right eye."""
    network = write_stereo_model('monodepth_lite', {
        'width': 0.5, 'max_disparity': largest, 'min_disparity': smallest})
    module = ViewSynthesisModule('dispnet_lite', {'frozen_trunk': True}, 'direct', size=(64, 96),
                                 start_from='stereo.safetensors').eval()
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected, found = network(image), module.depth(2 * image - 1)
    for disparity, inverse_depth in zip(expected, found):
        assert disparity.std() > 1e-5
        torch.testing.assert_close(inverse_depth, disparity[:, :1] / REACH)
    # So does the robot find it.
    assert module.metadata().arguments['depth']['span'] == pytest.approx(
        (largest - smallest) / REACH)
    assert not next(module.depth.trunk.parameters()).requires_grad


def test_a_rig_may_be_told_in_whole_numbers():
    """JSON does not tell one metre from 1."""
    write_stereo_model('monodepth_lite', {
        'width': 0.5, 'max_disparity': 0.25, 'min_disparity': 0.0}, reach=1)
    assert stereo_start('stereo.safetensors', 'dispnet_lite').arguments['span'] == 0.25


def test_other_networks_do_not_begin_so():
    """They compute something else with the same weights."""
    write_stereo_model('monodepth_resnet50', {'width': 0.05})
    with pytest.raises(ConfigurationError, match='monodepth_resnet50, which computes otherwise '
                                                 'than dispnet_resnet50'):
        ViewSynthesisModule('dispnet_resnet50', {'width': 0.05}, start_from='stereo.safetensors')


class Wall(nn.Module):
    """A depth network that sees a wall across the view."""

    multiple = 16

    def __init__(self, inverse_depth):
        super().__init__()
        self.inverse_depth = inverse_depth

    def forward(self, images):
        """Return disparities at four scales."""
        height, width = images.shape[2:]
        return [torch.full((len(images), 1, height >> s, width >> s), self.inverse_depth)
                for s in range(4)]


@pytest.mark.parametrize('both_directions', [False, True])
@pytest.mark.parametrize('mirrored', [False, True])
def test_the_other_eye_tells_metres(both_directions, mirrored):
    """The loss is least at the true depth, whichever eye is on which side after mirroring."""
    depth, focal = 2.0, 100.0
    shift = round(focal * BASELINE / depth)   # 6 pixels
    torch.manual_seed(0)
    scene = nn.functional.interpolate(torch.rand(1, 3, 16, 28) * 2 - 1, (64, 112),
                                      mode='bicubic').clamp(-1, 1)
    left, right = scene[..., :96], scene[..., shift:shift + 96]
    module = ViewSynthesisModule(
        'dispnet_vgg', {'width': 0.05}, egomotion_arguments={'width': 0.1}, size=(64, 96),
        loss=ViewSynthesisOptions(both_directions=both_directions, smoothness_weight=0.0,
                                  scales=1),
        augmentation=VideoAugmentation(1.0))
    nn.init.zeros_(module.egomotion.pose[-1].weight)   # it stands still
    images = torch.stack([left, left, left, right], 1)
    images = images.flip(-1) if mirrored else images
    K = torch.tensor([[[focal, 0, 47.5], [0, focal, 31.5], [0, 0, 1]]])
    baseline = torch.tensor([-BASELINE if mirrored else BASELINE])
    losses = {}
    for factor in (0.5, 0.8, 1.0, 1.25, 2.0):
        module.depth = Wall(factor / depth)
        losses[factor] = module.terms(images, images, K, baseline)['total'].item()
    assert min(losses, key=losses.get) == 1.0
    assert losses[1.0] < 0.05 * min(losses[0.8], losses[1.25])


def test_from_pairs_to_odometry_in_metres(place):
    """Without any pose in the recording the model file knows its unit."""
    assert train(place, *SMALL, '--model.loss.scale_anchor_weight', '5.0', '--json',
                 'o.json') == 0
    outcome = json.loads(open('o.json').read())
    assert outcome['steps'] == 1 and 'train/scale_anchor' not in outcome['metrics']
    assert main(['export', outcome['checkpoint'], '--output', 'm.safetensors']) == 0
    model = load_model_file('m.safetensors', 'geometry')
    assert model.metadata.calibration['metres_per_unit'] == 1.0
    assert model.metadata.data['baseline'] == pytest.approx(BASELINE)
    depth = DepthNetwork(model, 'cpu', 'fp32', 1)(np.zeros((64, 96, 3), np.uint8), 1.0)
    assert np.isfinite(depth).all()
    assert model.metadata.training_camera.fx == CAMERA.K[0, 0]


@pytest.mark.parametrize('options, words', [
    (('--model.loss.normalise_disparity', 'true'), 'takes its unit away'),
    (('--model.loss.explainability_weight', '0.2', '--model.egomotion_arguments',
      '{explainability: true}'), 'no masks for what the other eye sees'),
    (('--data.stereo', 'false', '--data.right_topic', '/right'), "right_topic '/right' is of"),
])
def test_what_does_not_fit_together(place, capsys, options, words):
    """It is said before the recordings are read."""
    assert train(place, *SMALL, *options) == 1
    assert words in capsys.readouterr().err


def test_a_hopeless_rig_is_refused(place, capsys):
    """Eyes that are swapped, and a recording of one eye."""
    assert train(place, *SMALL, train='swapped') == 1
    assert 'swapped' in capsys.readouterr().err


def test_a_baseline_of_the_wrong_sign_counts_by_its_size(place):
    """The check of the rig promises it: the right eye is where the images have it."""
    sequence = open_stereo(place / 'sign')
    assert sequence[0].baseline == pytest.approx(-BASELINE)
    video = load_video(sequence, tiny_stereo_model.PREPROCESSING, 3, 1, 'sign', stereo=True)
    np.testing.assert_allclose(video.baselines, BASELINE)
