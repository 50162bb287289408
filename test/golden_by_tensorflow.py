# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Writes ``published_golden.json``: what the published networks compute, by TensorFlow's own layers.

No test runs it. With TensorFlow installed: ``python test/golden_by_tensorflow.py``. The numbers of
SfMLearner's port are PyTorch's, those of Monodepth's published size this package's, once it has
the numbers of the reference graph at a smaller one (monodepth.md section 19.3).
"""

import json

from monodepth_golden import check_numbers
from named_weights import arrays, digest, FILES, GOLDEN, outputs, reference, sources
import numpy as np
import published_networks
import tensorflow as tf

from geo_perception.inference.weights import load_weights
from geo_perception.model_file import ModelFile
from geo_perception.networks.stereo import build_stereo_network


def convolve(x, w, stride=1, same=True):
    """Convolve, padding SAME, or with as much on either side."""
    n = (w.shape[0] - 1) // 2
    padding = 'SAME' if same else [[0, 0], [n, n], [n, n], [0, 0]]
    return tf.nn.conv2d(x, w, stride, padding).numpy()


def convolve_transposed(x, w):
    """Return a SAME transposed convolution of stride 2."""
    size = [len(x), 2 * x.shape[1], 2 * x.shape[2], w.shape[2]]
    return tf.nn.conv2d_transpose(x, w, size, 2, 'SAME').numpy()


def batch_norm(x, variables, scope):
    """Normalise by moving statistics."""
    mean, variance, beta = (variables[f'{scope}/BatchNorm/{name}']
                            for name in ('moving_mean', 'moving_variance', 'beta'))
    return tf.compat.v1.nn.fused_batch_norm(
        x, np.ones_like(beta), beta, mean, variance, 1e-3, is_training=False)[0].numpy()


def resize(function, x):
    """Return a map of twice the size."""
    return function(x, (2 * x.shape[1], 2 * x.shape[2]), align_corners=False,
                    half_pixel_centers=False).numpy()


LAYERS = {
    'convolve': convolve, 'convolve_transposed': convolve_transposed, 'batch_norm': batch_norm,
    'nearest': lambda x: resize(tf.compat.v1.image.resize_nearest_neighbor, x),
    'legacy_bilinear': lambda x: resize(tf.compat.v1.image.resize_bilinear, x),
    'max_pool': lambda x: tf.nn.max_pool2d(
        tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, 'VALID').numpy(),
    'pool': lambda x, kernel, stride: tf.nn.max_pool2d(x, kernel, stride, 'SAME').numpy(),
    'average': lambda x, kernel, stride: tf.nn.avg_pool2d(x, kernel, stride, 'VALID').numpy(),
    'local_response': lambda x: tf.nn.local_response_normalization(
        x, depth_radius=2, bias=1.0, alpha=2e-5, beta=0.75).numpy(),
    'linear_map': lambda x, w: tf.linalg.matmul(x, w).numpy(),
    'sigmoid': lambda x: tf.sigmoid(x).numpy()}


def main():
    """Write the file."""
    for name, layer in LAYERS.items():
        setattr(published_networks, name, layer)
    networks = {}
    for name, (build, _) in FILES.items():
        if name.startswith('monodepth'):
            imported = build(sources(name))
            architecture = imported.metadata.architecture
            check_numbers('vgg' if 'VGG' in name else 'resnet', load_weights(
                build_stereo_network(architecture, {}),
                ModelFile(imported.metadata, imported.tensors, '', 'memory')))
            found = outputs(imported)
        else:
            found = reference(name, arrays(name))
        networks[name] = {output: digest(value) for output, value in found.items()}
        for output, value in networks[name].items():
            print(f"{name}: {output} {value['shape']} mean {value['mean']:.5g} "
                  f"std {value['std']:.3g}", flush=True)
    GOLDEN.write_text(json.dumps({'tensorflow': tf.__version__, 'networks': networks}) + '\n')


if __name__ == '__main__':
    main()
