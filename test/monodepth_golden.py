# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Images and weights of the reference vectors (monodepth.md section 19)."""

import numpy as np
import torch
from torch import nn


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
            k = np.arange(layer.weight.numel(), dtype=float)
            values = (np.sqrt(2 / (rows * columns * n_in))
                      * np.cos(0.7 * k * (1 + 0.001 * (k % 97)) + 0.3 * 2 * j))
            layer.weight.copy_(torch.from_numpy(
                values.reshape(rows, columns, n_in, n_out).transpose(3, 2, 0, 1)))
            layer.bias.copy_(torch.from_numpy(
                0.01 * np.cos(0.9 * np.arange(n_out) + 0.1 * (2 * j + 1))))
    return network
