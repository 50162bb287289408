# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""TensorFlow's layers in NumPy, in its layout (NHWC, HWIO), from the rules of the books."""

import numpy as np


def pad_same(x, kernel, stride):
    """Pad so that the output has a size of ``ceil(n / stride)``; where it is odd, more behind."""
    pads = [(0, 0)]
    for n in x.shape[1:3]:
        total = max((-(-n // stride) - 1) * stride + kernel - n, 0)
        pads.append((total // 2, total - total // 2))
    return np.pad(x, [*pads, (0, 0)])


def convolve(x, w, stride=1, same=True):
    """Convolve, padding SAME, or with as much on either side."""
    kernel = w.shape[0]
    x = pad_same(x, kernel, stride) if same else np.pad(
        x, [(0, 0), *[((kernel - 1) // 2,) * 2] * 2, (0, 0)])
    height, width = ((n - kernel) // stride + 1 for n in x.shape[1:3])
    return sum(x[:, i:i + stride * height:stride, j:j + stride * width:stride] @ w[i, j]
               for i in range(kernel) for j in range(w.shape[1]))


def convolve_transposed(x, w):
    """
    Return what a SAME convolution of stride 2 would pass back to its input of twice the size.

    The kernel is (height, width, out, in).
    """
    kernel, (batch, height, width, _) = w.shape[0], x.shape
    y = np.zeros((batch, 2 * height + kernel - 2, 2 * width + kernel - 2, w.shape[2]), x.dtype)
    for i in range(kernel):
        for j in range(kernel):
            y[:, i:i + 2 * height:2, j:j + 2 * width:2] += x @ w[i, j].T
    before = (kernel - 2) // 2
    return y[:, before:before + 2 * height, before:before + 2 * width]


def batch_norm(x, variables, scope):
    """Normalise by moving statistics; slim has an offset and no gain."""
    mean, variance, beta = (variables[f'{scope}/BatchNorm/{name}']
                            for name in ('moving_mean', 'moving_variance', 'beta'))
    return (x - mean) / np.sqrt(variance + 1e-3) + beta


def nearest(x):
    """Return a map of twice the size."""
    return x.repeat(2, 1).repeat(2, 2)


def legacy_bilinear(x):
    """Return a map of twice the size, sample i at i / 2 of the input."""
    for axis in (1, 2):
        n = x.shape[axis]
        at = np.arange(2 * n) / 2
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, n - 1)
        part = (at - low).reshape([-1 if i == axis else 1 for i in range(4)]).astype(x.dtype)
        x = x.take(low, axis) * (1 - part) + x.take(high, axis) * part
    return x


def max_pool(x):
    """Return the largest of 3x3 at stride 2, with zeros around."""
    x = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    height, width = ((n - 3) // 2 + 1 for n in x.shape[1:3])
    return np.max([x[:, i:i + 2 * height:2, j:j + 2 * width:2]
                   for i in range(3) for j in range(3)], 0)


def pool(x, kernel, stride):
    """Return the largest of each window, padding SAME."""
    total = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[1:3]]
    x = np.pad(x, [(0, 0), *[(n // 2, n - n // 2) for n in total], (0, 0)],
               constant_values=-np.inf)
    return np.max(_windows(x, kernel, stride), 0)


def average(x, kernel, stride):
    """Return the mean of each window that lies within."""
    return np.mean(_windows(x, kernel, stride), 0, dtype=x.dtype)


def _windows(x, kernel, stride):
    height, width = ((n - kernel) // stride + 1 for n in x.shape[1:3])
    return [x[:, i:i + stride * height:stride, j:j + stride * width:stride]
            for i in range(kernel) for j in range(kernel)]


def local_response(x):
    """Return GoogLeNet's normalisation across channels (posenet.md section 2.5)."""
    squares = np.pad(x ** 2, [(0, 0)] * 3 + [(2, 2)])
    total = sum(squares[..., i:i + x.shape[3]] for i in range(5))
    return x / (1 + 2e-5 * total) ** 0.75


def linear_map(x, w):
    """Return rows times a matrix."""
    return x @ w


def cut(x, like):
    """Return a map without the row or column that its neighbour lacks."""
    return x[:, :like.shape[1], :like.shape[2]]


def sigmoid(x):
    """Return the logistic function."""
    return 1 / (1 + np.exp(-x))
