# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Images, weights and variables of the reference vectors (monodepth.md section 19)."""

import numpy as np
import torch
from torch import nn

# Sections 4 and 5: kernel, channels in and out, in the order of creation.
VGG_ENCODER = """
    7x7x3x32 7x7x32x32 5x5x32x64 5x5x64x64 3x3x64x128 3x3x128x128 3x3x128x256 3x3x256x256
    3x3x256x512 3x3x512x512 3x3x512x512 3x3x512x512 3x3x512x512 3x3x512x512"""
VGG_DECODER = """
    3x3x512x512 3x3x1024x512 3x3x512x512 3x3x1024x512 3x3x512x256 3x3x512x256 3x3x256x128
    3x3x256x128 3x3x128x2 3x3x128x64 3x3x130x64 3x3x64x2 3x3x64x32 3x3x66x32 3x3x32x2 3x3x32x16
    3x3x18x16 3x3x16x2"""
RESNET_DECODER = """
    3x3x2048x512 3x3x1536x512 3x3x512x256 3x3x768x256 3x3x256x128 3x3x384x128 3x3x128x2
    3x3x128x64 3x3x130x64 3x3x64x2 3x3x64x32 3x3x98x32 3x3x32x2 3x3x32x16 3x3x18x16 3x3x16x2"""
# Channels into each group, inner channels, units.
RESNET_GROUPS = (64, 64, 3), (256, 128, 4), (512, 256, 6), (1024, 512, 3)

# Means of both channels, and both at the first pixel, scale by scale (section 19.3).
EXPECTED = {
    'vgg': [(0.175411, 0.180964, 0.158385, 0.152601), (0.161257, 0.148167, 0.153087, 0.148362),
            (0.151490, 0.142328, 0.143559, 0.134909), (0.155120, 0.151126, 0.153333, 0.150669)],
    'resnet': [(0.121078, 0.100081, 0.141966, 0.144773), (0.128691, 0.140130, 0.148896, 0.155473),
               (0.139908, 0.147591, 0.161690, 0.168493), (0.137536, 0.140994, 0.149142, 0.131010)]}
# The standard deviation of the left one, and both in the middle and at the last pixel.
FINEST = {'vgg': (0.013288, 0.173857, 0.178464, 0.160493, 0.168358),
          'resnet': (0.016673, 0.110943, 0.093313, 0.129450, 0.136841)}
SIZES = {'vgg': (128, 256), 'resnet': (64, 128)}


def check_numbers(name, network):
    """Compare a network that has the weights of the reference with its numbers."""
    assert max(off for off, _ in differences_from_reference(name, network)) < 2e-6


def differences_from_reference(name, network):
    """Return how far outputs are from the reference, and the spread of each, scale by scale."""
    size = SIZES[name]
    with torch.no_grad():
        disparities = [d[0].numpy().astype(float) for d in network(image(0.0, *size))]
    assert len(disparities) == 4
    results = []
    for (*means, left, right), d in zip(EXPECTED[name], disparities):
        off = np.abs([*(d.mean((1, 2)) - means), *(d[:, 0, 0] - (left, right))])
        results.append([off.max(), d[0].std()])
    finest, (height, width) = disparities[0], size
    off = np.abs(np.array([finest[0].std(), *finest[:, height // 2, width // 2],
                           *finest[:, -1, -1]]) - FINEST[name])
    results[0][0] = max(results[0][0], off.max())
    return results


def values(shape, t):
    """Return the weights of layer ``t / 2`` in TensorFlow's layout, float32."""
    k = np.arange(np.prod(shape), dtype=float)
    scale = np.sqrt(2 / np.prod(shape[:3]))
    return (scale * np.cos(0.7 * k * (1 + 0.001 * (k % 97)) + 0.3 * t)).reshape(shape).astype('f4')


def variables(name):
    """Return a checkpoint with the weights of the reference, by variable name (section 6.1)."""
    encoder, decoder = VGG_ENCODER.split(), VGG_DECODER.split()
    if name == 'resnet':
        encoder, decoder = ['7x7x3x64'], RESNET_DECODER.split()
        for n, inner, units in RESNET_GROUPS:
            for _ in range(units):
                encoder += [f'1x1x{n}x{inner}', f'3x3x{inner}x{inner}',
                            f'1x1x{inner}x{4 * inner}', f'1x1x{n}x{4 * inner}']
                n = 4 * inner
    result, j = {}, 0
    for scope, layers in (('encoder', encoder), ('decoder', decoder)):
        for i, text in enumerate(layers):
            shape = tuple(map(int, text.split('x')))
            layer = f'model/{scope}/Conv' + (f'_{i}' if i else '')
            result[f'{layer}/weights'] = values(shape, 2 * j)
            result[f'{layer}/biases'] = (
                0.01 * np.cos(0.9 * np.arange(shape[3]) + 0.1 * (2 * j + 1))).astype('f4')
            j += 1
    return result


def image(phase, height, width):
    """Return ``I(phase)``, float32, shape (1, 3, H, W)."""
    y, x, c = np.mgrid[:height, :width, :3].astype(float)
    values = (0.5 + 0.25 * np.sin(0.31 * x + 0.7 * c + phase)
              + 0.2 * np.cos(0.23 * y - 0.4 * c + 0.11 * x))
    return torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)[None].contiguous()


def convolutions(network, size):
    """Return the convolutions in the order they are run in, which is that of their creation."""
    found = []
    hooks = [m.register_forward_pre_hook(lambda module, _: found.append(module))
             for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        network(torch.zeros(1, 3, *size))
    for hook in hooks:
        hook.remove()
    return found


def fill(network, size):
    """Give all convolutions the weights of the reference; return the network."""
    with torch.no_grad():
        for j, layer in enumerate(convolutions(network, size)):
            n_out, n_in, rows, columns = layer.weight.shape
            layer.weight.copy_(torch.from_numpy(
                values((rows, columns, n_in, n_out), 2 * j).transpose(3, 2, 0, 1)))
            layer.bias.copy_(torch.from_numpy(
                0.01 * np.cos(0.9 * np.arange(n_out) + 0.1 * (2 * j + 1))))
    return network
