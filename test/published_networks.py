# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""SfMLearner and GeoNet as their specification tells it: names, shapes, what is computed."""

import numpy as np
from tf_layers import (
    batch_norm, convolve, convolve_transposed, cut, legacy_bilinear, max_pool, nearest, sigmoid)

# sfmlearner.md, appendix A.
SFMLEARNER_DEPTH = """
    cnv1 7x7x3x32 cnv1b 7x7x32x32 cnv2 5x5x32x64 cnv2b 5x5x64x64 cnv3 3x3x64x128
    cnv3b 3x3x128x128 cnv4 3x3x128x256 cnv4b 3x3x256x256 cnv5 3x3x256x512 cnv5b 3x3x512x512
    cnv6 3x3x512x512 cnv6b 3x3x512x512 cnv7 3x3x512x512 cnv7b 3x3x512x512 upcnv7 3x3x512x512
    icnv7 3x3x1024x512 upcnv6 3x3x512x512 icnv6 3x3x1024x512 upcnv5 3x3x256x512
    icnv5 3x3x512x256 upcnv4 3x3x128x256 icnv4 3x3x256x128 disp4 3x3x128x1 upcnv3 3x3x64x128
    icnv3 3x3x129x64 disp3 3x3x64x1 upcnv2 3x3x32x64 icnv2 3x3x65x32 disp2 3x3x32x1
    upcnv1 3x3x16x32 icnv1 3x3x17x16 disp1 3x3x16x1"""
SFMLEARNER_POSE = """
    cnv1 7x7x9x16 cnv2 5x5x16x32 cnv3 3x3x32x64 cnv4 3x3x64x128 cnv5 3x3x128x256
    pose/cnv6 3x3x256x256 pose/cnv7 3x3x256x256 pose/pred 1x1x256x12"""
SFMLEARNER_MASKS = """
    exp/upcnv5 3x3x256x256 exp/upcnv4 3x3x128x256 exp/mask4 3x3x128x4 exp/upcnv3 3x3x64x128
    exp/mask3 3x3x64x4 exp/upcnv2 5x5x32x64 exp/mask2 5x5x32x4 exp/upcnv1 7x7x16x32
    exp/mask1 7x7x16x4"""
# geonet.md, appendix B, in the order of creation; those of prediction have biases.
GEONET_VGG = """
    7x7x3x32 7x7x32x32 5x5x32x64 5x5x64x64 3x3x64x128 3x3x128x128 3x3x128x256 3x3x256x256
    3x3x256x512 3x3x512x512 3x3x512x512 3x3x512x512 3x3x512x512 3x3x512x512 3x3x512x512
    3x3x1024x512 3x3x512x512 3x3x1024x512 3x3x512x256 3x3x512x256 3x3x256x128 3x3x256x128
    3x3x128x1 3x3x128x64 3x3x129x64 3x3x64x1 3x3x64x32 3x3x65x32 3x3x32x1 3x3x32x16 3x3x17x16
    3x3x16x1"""
GEONET_VGG_HEADS = (22, 25, 28, 31)
GEONET_RESNET = """
    7x7x3x64
    1x1x64x64 3x3x64x64 1x1x64x256 1x1x64x256 1x1x256x64 3x3x64x64 1x1x64x256 1x1x256x256
    1x1x256x64 3x3x64x64 1x1x64x256 1x1x256x256
    1x1x256x128 3x3x128x128 1x1x128x512 1x1x256x512 1x1x512x128 3x3x128x128 1x1x128x512
    1x1x512x512 1x1x512x128 3x3x128x128 1x1x128x512 1x1x512x512 1x1x512x128 3x3x128x128
    1x1x128x512 1x1x512x512
    1x1x512x256 3x3x256x256 1x1x256x1024 1x1x512x1024 1x1x1024x256 3x3x256x256 1x1x256x1024
    1x1x1024x1024 1x1x1024x256 3x3x256x256 1x1x256x1024 1x1x1024x1024 1x1x1024x256 3x3x256x256
    1x1x256x1024 1x1x1024x1024 1x1x1024x256 3x3x256x256 1x1x256x1024 1x1x1024x1024 1x1x1024x256
    3x3x256x256 1x1x256x1024 1x1x1024x1024
    1x1x1024x512 3x3x512x512 1x1x512x2048 1x1x1024x2048 1x1x2048x512 3x3x512x512 1x1x512x2048
    1x1x2048x2048 1x1x2048x512 3x3x512x512 1x1x512x2048 1x1x2048x2048
    3x3x2048x512 3x3x1536x512 3x3x512x256 3x3x768x256 3x3x256x128 3x3x384x128 3x3x128x1
    3x3x128x64 3x3x129x64 3x3x64x1 3x3x64x32 3x3x97x32 3x3x32x1 3x3x32x16 3x3x17x16 3x3x16x1"""
GEONET_RESNET_HEADS = (71, 74, 77, 80)
GEONET_POSE = """
    7x7x9x16 5x5x16x32 3x3x32x64 3x3x64x128 3x3x128x256 3x3x256x256 3x3x256x256 1x1x256x12"""
GEONET_FLOW = {0: '7x7x12x64', 71: '3x3x128x2', 73: '3x3x130x64', 74: '3x3x64x2',
               76: '3x3x98x32', 77: '3x3x32x2', 79: '3x3x18x16', 80: '3x3x16x2'}


def shape_of(text):
    """Return a shape."""
    return tuple(int(n) for n in text.split('x'))


class Variables(dict):
    """Random variables that keep the size of what goes through the layers."""

    def __init__(self, seed=0):
        super().__init__()
        self._random = np.random.default_rng(seed)

    def layer(self, scope, shape, norm=False, transposed=False):
        """Add a convolution, with batch norm or with biases."""
        n_in, n_out = shape[::-1][:2] if transposed else shape[2:]
        gain = 8 if transposed else 2
        self[f'{scope}/weights'] = self._random.standard_normal(shape, np.float32) * np.float32(
            (gain / (shape[0] * shape[1] * n_in)) ** 0.5)
        if not norm:
            self[f'{scope}/biases'] = 0.1 * self._normal(n_out)
            return
        self[f'{scope}/BatchNorm/beta'] = 0.1 * self._normal(n_out)
        self[f'{scope}/BatchNorm/moving_mean'] = 0.1 * self._normal(n_out)
        self[f'{scope}/BatchNorm/moving_variance'] = 1 + 0.1 * np.abs(self._normal(n_out))

    def _normal(self, n):
        return self._random.standard_normal(n, np.float32)


def sfmlearner_variables(norm=False, masks=True, sources=2, depth=True):
    """Return what a checkpoint of SfMLearner holds."""
    variables = Variables()
    for scope, text in (('depth_net', SFMLEARNER_DEPTH if depth else ''),
                        ('pose_exp_net', SFMLEARNER_POSE + (SFMLEARNER_MASKS if masks else ''))):
        words = text.split()
        for name, shape in zip(words[::2], map(shape_of, words[1::2])):
            if scope == 'pose_exp_net' and name == 'cnv1':
                shape = (7, 7, 3 * (sources + 1), 16)
            elif name == 'pose/pred':
                shape = (1, 1, 256, 6 * sources)
            elif 'mask' in name:
                shape = (*shape[:3], 2 * sources)
            plain = name.startswith(('disp', 'exp/mask', 'pose/pred'))
            variables.layer(f'{scope}/{name}', shape, norm and not plain, 'upcnv' in name)
    variables['train_op/global_step'] = np.array(190532, np.int64)
    return dict(variables)


def geonet_layers(variables, scope, text, heads, changed=()):
    """Add the layers of a network of GeoNet."""
    changed = dict(changed)
    for i, shape in enumerate(text.split()):
        variables.layer(f'{scope}/Conv' + (f'_{i}' if i else ''), shape_of(changed.get(i, shape)),
                        i not in heads)


def sfmlearner_depth(variables, images):
    """Return the four disparities of NHWC images, the finest first (sfmlearner.md 1.1)."""
    norm = 'depth_net/cnv1/BatchNorm/beta' in variables

    def finish(x, name):
        x = (batch_norm(x, variables, f'depth_net/{name}') if norm
             else x + variables[f'depth_net/{name}/biases'])
        return np.maximum(x, 0)

    def conv(name, x, stride=1):
        return finish(convolve(x, variables[f'depth_net/{name}/weights'], stride), name)

    def up(name, x):
        return finish(convolve_transposed(x, variables[f'depth_net/{name}/weights']), name)

    def disp(name, x):
        x = convolve(x, variables[f'depth_net/{name}/weights']) + variables[
            f'depth_net/{name}/biases']
        return 10 * sigmoid(x) + 0.01

    skips, x = [images], images
    for i in range(1, 8):
        x = conv(f'cnv{i}b', conv(f'cnv{i}', x, 2))
        skips.append(x)
    disparities = []
    for i in range(7, 0, -1):
        x = up(f'upcnv{i}', x)
        parts = [x]
        if i > 1:
            parts = [cut(x, skips[i - 1]), skips[i - 1]]
        if i < 4:
            parts.append(legacy_bilinear(disparities[0]))
        x = conv(f'icnv{i}', np.concatenate(parts, 3))
        if i <= 4:
            disparities.insert(0, disp(f'disp{i}', x))
    return disparities


def sfmlearner_pose(variables, frames, scope='pose_exp_net', names=None):
    """
    Return poses, and masks where there are variables for them (sfmlearner.md 1.2).

    The channels of ``frames`` are those of the target and of all sources.
    """
    names = names or ['cnv1', 'cnv2', 'cnv3', 'cnv4', 'cnv5', 'pose/cnv6', 'pose/cnv7',
                      'pose/pred']

    def conv(name, x, stride=1, relu=True):
        x = convolve(x, variables[f'{scope}/{name}/weights'], stride)
        norm = f'{scope}/{name}/BatchNorm/beta' in variables
        x = (batch_norm(x, variables, f'{scope}/{name}') if norm
             else x + variables[f'{scope}/{name}/biases'])
        return np.maximum(x, 0) if relu else x

    x = frames
    for name in names[:5]:
        x = conv(name, x, 2)
    y = conv(names[6], conv(names[5], x, 2), 2)
    poses = 0.01 * conv(names[7], y, relu=False).mean((1, 2))
    poses = poses.reshape(len(frames), -1, 6)
    masks = []
    if f'{scope}/exp/upcnv5/weights' in variables:
        for i in range(5, 0, -1):
            name = f'exp/upcnv{i}'
            x = convolve_transposed(x, variables[f'{scope}/{name}/weights'])
            norm = f'{scope}/{name}/BatchNorm/beta' in variables
            x = np.maximum(batch_norm(x, variables, f'{scope}/{name}') if norm
                           else x + variables[f'{scope}/{name}/biases'], 0)
            if i < 5:
                masks.insert(0, conv(f'exp/mask{i}', x, relu=False))
    return poses, masks


class GeoNet:
    """The layers of a network of GeoNet, which are used in the order of their creation."""

    def __init__(self, variables, scope):
        self._variables, self._scope, self._next = variables, scope, 0

    def conv(self, x, stride=1, same=True, relu=True):
        """Return the next convolution of a map, with its norm or biases."""
        scope = f'{self._scope}/Conv' + (f'_{self._next}' if self._next else '')
        self._next += 1
        x = convolve(x, self._variables[f'{scope}/weights'], stride, same)
        if f'{scope}/biases' in self._variables:
            return x + self._variables[f'{scope}/biases']
        x = batch_norm(x, self._variables, scope)
        return np.maximum(x, 0) if relu else x

    def vgg(self, x):
        """Return disparities (geonet.md 1.1)."""
        skips, results = [x], []
        for _ in range(7):
            x = self.conv(self.conv(x, 2))
            skips.append(x)
        for i in range(7, 0, -1):
            x = self.conv(nearest(x), same=False)
            parts = [x] if i == 1 else [cut(x, skips[i - 1]), skips[i - 1]]
            if i < 4:
                parts.append(legacy_bilinear(results[0]))
            x = self.conv(np.concatenate(parts, 3))
            if i <= 4:
                results.insert(0, 10 * sigmoid(self.conv(x)) + 0.01)
        return results

    def resnet(self, x, head):
        """Return the maps of the ResNet-50 form (geonet.md 1.2); ``head`` ends each."""
        x = self.conv(x, 2, same=False)
        skips = [x, max_pool(x)]
        x = skips[1]
        for blocks in (3, 4, 6, 3):
            for block in range(blocks):
                stride = 2 if block == blocks - 1 else 1
                y = self.conv(self.conv(x, same=False), stride, same=False)
                y = self.conv(y, same=False, relu=False)
                x = np.maximum(y + self.conv(x, stride, same=False, relu=False), 0)
            skips.append(x)
        results = []
        for i in range(6, 0, -1):
            x = self.conv(nearest(x), same=False)
            parts = [x] if i == 1 else [cut(x, skips[i - 2]), skips[i - 2]]
            if i < 4:
                parts.append(nearest(results[0]))
            x = self.conv(np.concatenate(parts, 3), same=False)
            if i <= 4:
                results.insert(0, head(self.conv(x, same=False)))
        return results
