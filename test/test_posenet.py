# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""PoseNet is the published network (posenet.md sections 2, 8.1 and 13)."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from geo_perception.errors import ConfigurationError
from geo_perception.networks.posenet import INCEPTION_WIDTHS, PoseNet
from geo_perception.networks.regressor import PoseLayer
from geo_perception.networks.relocalization import build_regressor

# posenet.md section 2.1 to 2.3.
PARAMETERS = {
    'conv1': 9_472, 'reduction2': 4_160, 'conv2': 110_784,
    'icp1': 163_696, 'icp2': 388_736, 'icp3': 376_176, 'icp4': 449_160, 'icp5': 510_104,
    'icp6': 605_376, 'icp7': 868_352, 'icp8': 1_043_456, 'icp9': 1_444_080,
    'cls1': 2_171_015, 'cls2': 2_173_063, 'cls3': 2_113_543}
INFERENCE_PARAMETERS = 8_087_095
# What each block puts out at 224x224.
SHAPES = {
    'conv1': (64, 112, 112), 'reduction2': (64, 56, 56), 'conv2': (192, 56, 56),
    'icp1': (256, 28, 28), 'icp2': (480, 28, 28), 'icp3': (512, 14, 14), 'icp4': (512, 14, 14),
    'icp5': (512, 14, 14), 'icp6': (528, 14, 14), 'icp7': (832, 14, 14), 'icp8': (832, 7, 7),
    'icp9': (1024, 7, 7), 'cls1.reduction_pose': (128, 4, 4), 'cls1.fc1_pose': (1024,),
    'cls2.reduction_pose': (128, 4, 4), 'cls2.fc1': (1024,), 'cls3.fc1_pose': (2048,),
    'cls3.fc_pose_xyz': (3,), 'cls3.fc_pose_wpqr': (4,)}


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    """Tiny work on busy machines."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='module')
def network():
    """Return a network of random weights."""
    torch.manual_seed(0)
    return PoseNet().eval()


@pytest.fixture(scope='module')
def images():
    """Return a picture of noise in the range that the network sees."""
    return torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1)) * 255 - 128


def same_weights(network, **options):
    """Return another network of the same weights."""
    other = PoseNet(**options).eval()
    other.load_state_dict(network.state_dict())
    return other


def heads_of(network):
    """Return the modules of the three heads."""
    return network.cls1, network.cls2, network.cls3


def test_parameters_of_every_block(network):
    """68 layers with weight and bias, as many numbers as published, block by block."""
    counts = {name: sum(p.numel() for p in module.parameters())
              for name, module in network.named_children()}
    assert counts.pop('norm') == 0
    assert counts == PARAMETERS
    assert sum(counts.values()) == 12_431_173
    layers = {name.rpartition('.')[0] for name in network.state_dict()}
    assert len(layers) == 68 and len(network.state_dict()) == 136
    inference = sum(value.numel() for name, value in network.state_dict().items()
                    if not name.startswith(network.training_only))
    assert inference == INFERENCE_PARAMETERS


def test_layers_have_the_published_names(network):
    """Also the one without its suffix."""
    layers = {name.rpartition('.')[0].replace('.', '_') for name in network.state_dict()}
    inception = {f'{block}_{branch}' for block in INCEPTION_WIDTHS for branch in (
        'out0', 'reduction1', 'out1', 'reduction2', 'out2', 'out3')}
    assert layers == inception | {
        'conv1', 'reduction2', 'conv2', 'cls1_reduction_pose', 'cls1_fc1_pose',
        'cls1_fc_pose_xyz', 'cls1_fc_pose_wpqr', 'cls2_reduction_pose', 'cls2_fc1',
        'cls2_fc_pose_xyz', 'cls2_fc_pose_wpqr', 'cls3_fc1_pose', 'cls3_fc_pose_xyz',
        'cls3_fc_pose_wpqr'}


def test_shapes_of_every_block(network, images):
    """At 224x224, as in the tables."""
    seen, hooks = {}, []
    for name, module in network.named_modules():
        if name in SHAPES:
            hooks.append(module.register_forward_hook(
                lambda module, inputs, output, name=name: seen.update({name: output.shape[1:]})))
    with torch.no_grad():
        heads = network.heads(images)
    for hook in hooks:
        hook.remove()
    assert {name: tuple(shape) for name, shape in seen.items()} == SHAPES
    assert [(x.shape, q.shape) for x, q in heads] == [((1, 3), (1, 4))] * 3


def reference_features(network, images):
    """Return the last map, written down from the tables of section 2, layer after layer."""
    weights = network.state_dict()

    def conv(name, x, stride=1, padding=0):
        return F.relu(F.conv2d(x, weights[f'{name}.weight'], weights[f'{name}.bias'], stride,
                               padding))

    def pool(x):
        # Windows start at 0 and the last hangs over: minus infinity below and right.
        return F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-np.inf), 3, 2)

    def norm(x):
        squares = F.pad(x * x, (0, 0, 0, 0, 2, 2))
        total = sum(squares[:, i:i + x.shape[1]] for i in range(5))
        return x / (1 + 1e-4 / 5 * total) ** 0.75

    x = norm(pool(conv('conv1', images, 2, 3)))
    x = pool(norm(conv('conv2', conv('reduction2', x), 1, 1)))
    for name in INCEPTION_WIDTHS:
        if name in ('icp3', 'icp8'):
            x = pool(x)
        x = torch.cat([
            conv(f'{name}.out0', x),
            conv(f'{name}.out1', conv(f'{name}.reduction1', x), 1, 1),
            conv(f'{name}.out2', conv(f'{name}.reduction2', x), 1, 2),
            conv(f'{name}.out3', F.max_pool2d(x, 3, 1, 1))], 1)
    return x


def test_forward_is_the_table_layer_by_layer(network, images):
    """Pools, norms, branches and their order, against a second writing."""
    with torch.no_grad():
        x = reference_features(network, images)
        weights = network.state_dict()
        hidden = F.relu(F.linear(x.mean((2, 3)), weights['cls3.fc1_pose.weight'],
                                 weights['cls3.fc1_pose.bias']))
        position = F.linear(hidden, weights['cls3.fc_pose_xyz.weight'],
                            weights['cls3.fc_pose_xyz.bias'])
        features = network.features(images)
        torch.testing.assert_close(features, hidden, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(network.regress(features)[0], position, rtol=1e-4, atol=1e-4)


def test_pools_are_not_the_shifted_ones():
    """``padding=1`` gives the same size and other values."""
    x = torch.rand(1, 1, 8, 8)
    ceil = F.max_pool2d(x, 3, 2, ceil_mode=True)
    padded = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-np.inf), 3, 2)
    assert torch.equal(ceil, padded)
    assert ceil.shape == F.max_pool2d(x, 3, 2, padding=1).shape
    assert not torch.equal(ceil, F.max_pool2d(x, 3, 2, padding=1))


def test_local_response_norm_is_the_formula(network):
    """In 64 bits, the first and last channels included."""
    x = torch.randn(2, 11, 3, 4, dtype=torch.float64) * 100
    expected = torch.empty_like(x)
    for c in range(11):
        window = x[:, max(0, c - 2):c + 3]
        expected[:, c] = x[:, c] / (1 + 1e-4 / 5 * window.square().sum(1)) ** 0.75
    torch.testing.assert_close(network.norm(x), expected, rtol=1e-12, atol=1e-12)


def test_tf_padding_is_a_shift_of_one_pixel(network, images):
    """Where no border is near (section 2.6); and it is not the same thing."""
    class Seen(Exception):
        """The output of the first layer, which is all that is wanted."""

    def stop(module, inputs, output):
        raise Seen(output)

    outputs = []
    for net, x in ((same_weights(network, conv1_padding='tf'), images),
                   (network, images.roll((-1, -1), (2, 3))), (network, images)):
        hook = net.conv1.register_forward_hook(stop)
        with torch.no_grad(), pytest.raises(Seen) as seen:
            net(x)
        hook.remove()
        outputs.append(seen.value.args[0][..., 3:-3, 3:-3])
    torch.testing.assert_close(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2])


def test_unknown_padding_is_refused():
    """By name, as it comes from a configuration."""
    with pytest.raises(ConfigurationError, match='conv1_padding "same" is unknown'):
        build_regressor('posenet', {'conv1_padding': 'same'})


def test_reversed_first_layer_takes_the_other_colour_order(network, images):
    """RGB into reversed weights equals BGR into the original ones (item 6)."""
    other = same_weights(network)
    with torch.no_grad():
        other.conv1.weight.copy_(network.conv1.weight.flip(1))
        answer = network(images)
        for a, b in zip(other(images.flip(1)), answer):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(network(images.flip(1))[0], answer[0], rtol=1e-3)


def test_initial_weights_are_those_of_the_solver():
    """Section 2.7: normal with a width by layer, uniform for 1x1, no biases."""
    torch.manual_seed(3)
    weights = PoseNet().state_dict()
    assert not any(value.any() for name, value in weights.items() if name.endswith('bias'))
    for name, std in (('conv1', 0.015), ('conv2', 0.02), ('icp4.out1', 0.04),
                      ('icp4.out2', 0.08), ('cls3.fc1_pose', 0.01), ('cls2.fc1', 0.01),
                      ('cls3.fc_pose_xyz', 0.5), ('cls3.fc_pose_wpqr', 0.01)):
        assert weights[f'{name}.weight'].std().item() == pytest.approx(std, rel=0.03), name
    for name, fan_in in (('reduction2', 64), ('icp4.out0', 512), ('icp4.out3', 512),
                         ('cls1.reduction_pose', 512)):
        weight = weights[f'{name}.weight']
        bound = (3 / fan_in) ** 0.5
        assert weight.abs().max() <= bound and weight.abs().max() > 0.98 * bound, name
        assert weight.std().item() == pytest.approx(bound / 3 ** 0.5, rel=0.03), name


def test_outputs_start_at_the_mean_pose():
    """Biases are the means, and position rows are drawn in proportion to the scene."""
    torch.manual_seed(0)
    network = PoseNet()
    mean, rotation = torch.tensor([5.0, -2.0, 1.0]), torch.tensor([0.9, 0.1, 0.2, 0.3])
    network.fit_to_scene(mean, torch.tensor([10.0, 5.0, 1.0]), rotation, None)
    for head in heads_of(network):
        assert torch.equal(head.fc_pose_xyz.bias, mean)
        assert torch.equal(head.fc_pose_wpqr.bias, rotation)
        spread = head.fc_pose_xyz.weight.std(1)
        assert spread[0].item() == pytest.approx(0.5, rel=0.1)
        assert (spread / spread[0]).tolist() == pytest.approx([1.0, 0.5, 0.1], rel=0.15)


def test_dropout_is_on_in_training_only(network, images):
    """Eval mode is the same bit for bit; training mode is not."""
    with torch.no_grad():
        answer, heads = network(images), network.heads(images)
        assert all(torch.equal(a, b) for a, b in zip(answer, heads[-1]))
        network.train()
        try:
            torch.manual_seed(0)
            noisy = [network.heads(images) for _ in range(2)]
        finally:
            network.eval()
    for head in range(3):
        assert not torch.allclose(noisy[0][head][0], noisy[1][head][0], rtol=1e-3)


def test_dropout_probabilities_of_the_heads(network, images):
    """0.7 in the auxiliary heads, 0.5 in the main one, measured at the output layers."""
    hidden, hooks = {}, []
    for head in heads_of(network):
        hooks.append(head.fc_pose_xyz.register_forward_pre_hook(
            lambda module, inputs, head=head: hidden.update({head: inputs[0]})))
    with torch.no_grad():
        network.heads(images)
        clean = dict(hidden)
        network.train()
        torch.manual_seed(0)
        network.heads(images)
        network.eval()
    for hook in hooks:
        hook.remove()
    for head, keep in zip(heads_of(network), (0.3, 0.3, 0.5)):
        alive = clean[head] > 0
        assert (hidden[head][alive] > 0).float().mean().item() == pytest.approx(keep, abs=0.08)


@pytest.mark.parametrize('bayesian', [False, True])
def test_one_trunk_pass_equals_full_passes_with_the_same_masks(network, images, bayesian):
    """Monte-Carlo dropout behind the trunk is exact (item 12)."""
    net = same_weights(network, bayesian=bayesian)
    masks = net.draw_masks(4, torch.Generator().manual_seed(5))
    assert [tuple(m.shape) for m in masks] == [(4, 1024, 7, 7), (4, 2048)][not bayesian:]
    image = images
    with torch.no_grad():
        positions, rotations = net.regress(net.features(image), masks)
        last_map = net._maps(image)[2]
        for i in range(4):
            x = last_map * masks[0][i] if bayesian else last_map
            hidden = F.relu(net.cls3.fc1_pose(F.avg_pool2d(x, 7).flatten(1))) * masks[-1][i]
            torch.testing.assert_close(positions[i:i + 1], net.cls3.fc_pose_xyz(hidden))
            torch.testing.assert_close(rotations[i:i + 1], net.cls3.fc_pose_wpqr(hidden))
    assert positions.std(0).min() > 0


def test_masks_follow_their_generator(network):
    """The same state gives the same masks; their mean is one."""
    draw = [network.draw_masks(200, torch.Generator().manual_seed(seed))[0]
            for seed in (1, 1, 2)]
    assert torch.equal(draw[0], draw[1]) and not torch.equal(draw[0], draw[2])
    assert set(draw[0].unique().tolist()) == {0.0, 2.0}
    assert draw[0].mean().item() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize('width', [3, 6])
def test_width_of_the_rotation(width):
    """All three heads follow it."""
    network = PoseNet(rotation_width=width)
    assert [head.fc_pose_wpqr.out_features for head in heads_of(network)] == [width] * 3
    assert network.rotation_width == width


def test_outputs_stay_exact_in_mixed_precision(network):
    """Positions of many metres are not rounded to 8 bits."""
    for head in heads_of(network):
        assert isinstance(head.fc_pose_xyz, PoseLayer) and isinstance(head.fc_pose_wpqr, PoseLayer)
    layer = PoseLayer(4, 3)
    torch.nn.init.constant_(layer.bias, 1000.06)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        position = layer(torch.zeros(2, 4, dtype=torch.bfloat16))
    assert position.dtype == torch.float32
    torch.testing.assert_close(position, torch.full((2, 3), 1000.06))


def test_unknown_networks_are_refused():
    """Architecture and arguments come from files."""
    with pytest.raises(ConfigurationError, match='"alexnet" is unknown; choose one of posenet'):
        build_regressor('alexnet', {})
    with pytest.raises(ConfigurationError, match='depth'):
        build_regressor('posenet', {'depth': 3})
