# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Published networks as their specifications tell them: names, shapes, what is computed."""

import numpy as np
from tf_layers import (
    average, batch_norm, convolve, convolve_transposed, cut, legacy_bilinear, linear_map,
    local_response, max_pool, nearest, pool, sigmoid)
import torch
from torch.nn import functional as F

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


def geonet_variables(encoder='resnet50', flow=None, sources=2):
    """Return what a checkpoint of GeoNet holds."""
    variables = Variables()
    if encoder is not None:
        text, heads = {'vgg': (GEONET_VGG, GEONET_VGG_HEADS),
                       'resnet50': (GEONET_RESNET, GEONET_RESNET_HEADS)}[encoder]
        geonet_layers(variables, 'depth_net', text, heads)
        geonet_layers(variables, 'pose_net', GEONET_POSE, (7,),
                      {0: f'7x7x{3 * (sources + 1)}x16', 7: f'1x1x256x{6 * sources}'})
    if flow is not None:
        changed = dict(GEONET_FLOW)
        if flow == 'direct':
            changed[0] = '7x7x6x64'
        geonet_layers(variables, 'flow_net', GEONET_RESNET, GEONET_RESNET_HEADS, changed)
    variables['global_step_1'] = np.array(7, np.int64)
    return dict(variables)


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


# Names in SfMLearner's port to PyTorch by those of the original.
PORT_KEYS = {
    **{f'cnv{i}': f'conv{i}.0' for i in range(1, 8)},
    **{f'cnv{i}b': f'conv{i}.2' for i in range(1, 8)},
    **{f'upcnv{i}': f'upconv{i}.0' for i in range(1, 8)},
    **{f'icnv{i}': f'iconv{i}.0' for i in range(1, 8)},
    **{f'disp{i}': f'predict_disp{i}.0' for i in range(1, 5)},
    'pose/cnv6': 'conv6.0', 'pose/cnv7': 'conv7.0', 'pose/pred': 'pose_pred'}


def port_keys():
    """Return the shapes of the port's tensors by key, both networks; names do not collide."""
    result = {}
    for prefix, text in (('depth:', SFMLEARNER_DEPTH), ('pose:', SFMLEARNER_POSE)):
        words = text.split()
        for name, shape in zip(words[::2], map(shape_of, words[1::2])):
            n_out = shape[2] if 'upcnv' in name else shape[3]
            result[f'{prefix}{PORT_KEYS[name]}.weight'] = (shape[3], shape[2], *shape[:2])
            result[f'{prefix}{PORT_KEYS[name]}.bias'] = (n_out,)
    return result


def port_disparities(state, x):
    """Return what the port computes, the finest disparity first."""
    def conv(name, x, stride=1):
        w = state[f'{name}.weight']
        return F.conv2d(x, w, state[f'{name}.bias'], stride, (w.shape[2] - 1) // 2)

    maps = [x]
    for i in range(1, 8):
        x = conv(f'conv{i}.2', conv(f'conv{i}.0', x, 2).relu()).relu()
        maps.append(x)
    results = []
    for i in range(7, 0, -1):
        x = F.conv_transpose2d(x, state[f'upconv{i}.0.weight'], state[f'upconv{i}.0.bias'], 2, 1,
                               1).relu()
        height, width = maps[i - 1].shape[2:]
        parts = [x[:, :, :height, :width], *([maps[i - 1]] if i > 1 else [])]
        if i < 4:
            parts.append(F.interpolate(results[0], scale_factor=2, mode='bilinear',
                                       align_corners=False))
        x = conv(f'iconv{i}.0', torch.cat(parts, 1)).relu()
        if i <= 4:
            results.insert(0, 10 * conv(f'predict_disp{i}.0', x).sigmoid() + 0.01)
    return results


def port_poses(state, frames):
    """Return the port's poses; the channels are those of the target and of all sources."""
    x = frames
    for i in range(1, 8):
        w = state[f'conv{i}.0.weight']
        x = F.conv2d(x, w, state[f'conv{i}.0.bias'], 2, (w.shape[2] - 1) // 2).relu()
    x = F.conv2d(x, state['pose_pred.weight'], state['pose_pred.bias']).mean((2, 3))
    return 0.01 * x.view(len(frames), -1, 6)


# Channels in, 1x1, reduce, 3x3, reduce, 5x5, after the pool (posenet.md section 2.2).
POSENET_BLOCKS = (
    '192 64 96 128 16 32 32', '256 128 128 192 32 96 64', '480 192 96 208 16 48 64',
    '512 160 112 224 24 64 64', '512 128 128 256 24 64 64', '512 112 144 288 32 64 64',
    '528 256 160 320 32 128 128', '832 256 160 320 32 128 128', '832 384 192 384 48 128 128')


def posenet_shapes():
    """Return the shapes of PoseNet's variables (posenet.md section 2)."""
    shapes = {'conv1': (7, 7, 3, 64), 'reduction2': (1, 1, 64, 64), 'conv2': (3, 3, 64, 192)}
    for i, widths in enumerate(POSENET_BLOCKS, 1):
        n, out0, reduction1, out1, reduction2, out2, out3 = map(int, widths.split())
        shapes.update({
            f'icp{i}_out0': (1, 1, n, out0), f'icp{i}_reduction1': (1, 1, n, reduction1),
            f'icp{i}_out1': (3, 3, reduction1, out1), f'icp{i}_reduction2': (1, 1, n, reduction2),
            f'icp{i}_out2': (5, 5, reduction2, out2), f'icp{i}_out3': (1, 1, n, out3)})
    shapes.update({
        'cls1_reduction_pose': (1, 1, 512, 128), 'cls1_fc1_pose': (2048, 1024),
        'cls2_reduction_pose': (1, 1, 528, 128), 'cls2_fc1': (2048, 1024),
        'cls3_fc1_pose': (1024, 2048)})
    for head, n in (('cls1', 1024), ('cls2', 1024), ('cls3', 2048)):
        shapes.update({f'{head}_fc_pose_xyz': (n, 3), f'{head}_fc_pose_wpqr': (n, 4)})
    return {f'{layer}/{part}': size for layer, shape in shapes.items()
            for part, size in (('weights', shape), ('biases', shape[-1:]))}


def posenet(variables, x):
    """Return the outputs of all heads for an NHWC image, padded as Caffe does (posenet.md 2)."""
    def layer(name, x, linear=False):
        x = linear_map(x, variables[f'{name}/weights']) if x.ndim == 2 else convolve(
            x, variables[f'{name}/weights'])
        x = x + variables[f'{name}/biases']
        return x if linear else np.maximum(x, 0)

    def block(i, x):
        name = f'icp{i}'
        return np.concatenate([
            layer(f'{name}_out0', x), layer(f'{name}_out1', layer(f'{name}_reduction1', x)),
            layer(f'{name}_out2', layer(f'{name}_reduction2', x)),
            layer(f'{name}_out3', pool(x, 3, 1))], 3)

    def head(i, x, name):
        hidden = layer(name, x.reshape(len(x), -1))
        return {'position': layer(f'cls{i}_fc_pose_xyz', hidden, True),
                'rotation': layer(f'cls{i}_fc_pose_wpqr', hidden, True)}

    x = convolve(x, variables['conv1/weights'], 2, same=False) + variables['conv1/biases']
    x = local_response(pool(np.maximum(x, 0), 3, 2))
    x = pool(local_response(layer('conv2', layer('reduction2', x))), 3, 2)
    x = block(3, pool(block(2, block(1, x)), 3, 2))
    heads = {1: head(1, layer('cls1_reduction_pose', average(x, 5, 3)), 'cls1_fc1_pose')}
    x = block(6, block(5, block(4, x)))
    heads[2] = head(2, layer('cls2_reduction_pose', average(x, 5, 3)), 'cls2_fc1')
    x = block(9, block(8, pool(block(7, x), 3, 2)))
    heads[3] = head(3, average(x, 7, 1), 'cls3_fc1_pose')
    return {f'{part} of head {i}': value for i, parts in heads.items()
            for part, value in parts.items()}
