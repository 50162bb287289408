# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
PoseNet: GoogLeNet with pose regressors (Kendall 2015; posenet.md section 2).

Module paths equal the published layer names with dots for underscores, so that
``icp1.out0.weight`` is the weight of layer ``icp1_out0``.
"""

import torch
from torch import nn
from torch.nn import functional as F

from geo_perception.errors import ConfigurationError
from geo_perception.networks.regressor import PoseLayer, PoseRegressor

# Zeros left, right, above and below the image (posenet.md section 2.6).
CONV1_PADDING = {'caffe': (3, 3, 3, 3), 'tf': (2, 3, 2, 3)}
# Block: (in, out0, reduction1, out1, reduction2, out2, out3), posenet.md section 2.2.
INCEPTION_WIDTHS = {
    'icp1': (192, 64, 96, 128, 16, 32, 32),
    'icp2': (256, 128, 128, 192, 32, 96, 64),
    'icp3': (480, 192, 96, 208, 16, 48, 64),
    'icp4': (512, 160, 112, 224, 24, 64, 64),
    'icp5': (512, 128, 128, 256, 24, 64, 64),
    'icp6': (512, 112, 144, 288, 32, 64, 64),
    'icp7': (528, 256, 160, 320, 32, 128, 128),
    'icp8': (832, 256, 160, 320, 32, 128, 128),
    'icp9': (832, 384, 192, 384, 48, 128, 128),
}


class Inception(nn.Module):
    """
    Four parallel branches, concatenated in the order out0, out1, out2, out3.

    Parameters
    ----------
    widths : tuple of int
        (in, out0, reduction1, out1, reduction2, out2, out3) channels.

    """

    def __init__(self, widths):
        super().__init__()
        n, out0, reduction1, out1, reduction2, out2, out3 = widths
        self.out0 = nn.Conv2d(n, out0, 1)
        self.reduction1 = nn.Conv2d(n, reduction1, 1)
        self.out1 = nn.Conv2d(reduction1, out1, 3, padding=1)
        self.reduction2 = nn.Conv2d(n, reduction2, 1)
        self.out2 = nn.Conv2d(reduction2, out2, 5, padding=2)
        self.out3 = nn.Conv2d(n, out3, 1)

    def forward(self, x):
        """Return the concatenated branches, same height and width."""
        return torch.cat([
            F.relu(self.out0(x)),
            F.relu(self.out1(F.relu(self.reduction1(x)))),
            F.relu(self.out2(F.relu(self.reduction2(x)))),
            F.relu(self.out3(F.max_pool2d(x, 3, 1, padding=1)))], 1)


class AuxiliaryHead(nn.Module):
    """
    One of the two regressors that help training only (posenet.md section 2.3).

    Parameters
    ----------
    channels : int
        Channels of the 14x14 map it taps.
    fc_name : str
        Published name of its hidden layer: ``fc1_pose`` or ``fc1`` (sic).
    rotation_width : int
        Numbers that describe a rotation.

    """

    def __init__(self, channels, fc_name, rotation_width):
        super().__init__()
        self.reduction_pose = nn.Conv2d(channels, 128, 1)
        self.add_module(fc_name, nn.Linear(2048, 1024))
        self.fc_pose_xyz = PoseLayer(1024, 3)
        self.fc_pose_wpqr = PoseLayer(1024, rotation_width)
        self._fc_name = fc_name

    def forward(self, x):
        """Return position (B, 3) and raw rotation (B, rotation_width)."""
        x = F.relu(self.reduction_pose(F.avg_pool2d(x, 5, 3)))
        x = F.relu(getattr(self, self._fc_name)(x.flatten(1)))
        x = F.dropout(x, 0.7, self.training)
        return self.fc_pose_xyz(x), self.fc_pose_wpqr(x)


class MainHead(nn.Module):
    """
    The regressor that answers: 2048-wide localization feature, then position and rotation.

    Parameters
    ----------
    rotation_width : int
        Numbers that describe a rotation.

    """

    def __init__(self, rotation_width):
        super().__init__()
        self.fc1_pose = nn.Linear(1024, 2048)
        self.fc_pose_xyz = PoseLayer(2048, 3)
        self.fc_pose_wpqr = PoseLayer(2048, rotation_width)


class PoseNet(PoseRegressor):
    """
    GoogLeNet with local response normalisation and three pose regressors.

    The input is fixed at 224x224: with another size the pools of the heads do not fit.

    Parameters
    ----------
    rotation_width : int
        Numbers that describe a rotation: 4 quaternion, 3 log-quaternion, 6 for two columns.
    bayesian : bool
        Also drop elements of the last feature map before its average pool, in training and in
        Monte-Carlo sampling (Kendall & Cipolla 2016; posenet.md section 8.1).
    conv1_padding : str
        ``caffe`` (3 on all sides) or ``tf`` (2 before, 3 after; posenet.md section 2.6).

    Raises
    ------
    ConfigurationError
        When the padding is none of those.

    """

    input_size = (224, 224)
    head_weights = (0.3, 0.3, 1.0)
    training_only = ('cls1.', 'cls2.')

    def __init__(self, rotation_width=4, bayesian=False, conv1_padding='caffe'):
        super().__init__()
        if conv1_padding not in CONV1_PADDING:
            raise ConfigurationError(f'conv1_padding "{conv1_padding}" is unknown; choose '
                                     f'{" or ".join(CONV1_PADDING)}')
        self.rotation_width, self.bayesian = rotation_width, bayesian
        self._conv1_pad = CONV1_PADDING[conv1_padding]
        self.conv1 = nn.Conv2d(3, 64, 7, 2)
        # PyTorch divides alpha by the window size, as Caffe does (posenet.md section 2.5).
        self.norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        self.reduction2 = nn.Conv2d(64, 64, 1)
        self.conv2 = nn.Conv2d(64, 192, 3, padding=1)
        for name, widths in INCEPTION_WIDTHS.items():
            self.add_module(name, Inception(widths))
        self.cls1 = AuxiliaryHead(512, 'fc1_pose', rotation_width)
        self.cls2 = AuxiliaryHead(528, 'fc1', rotation_width)
        self.cls3 = MainHead(rotation_width)
        self._initialise()

    def _initialise(self):
        """Draw the weights as the published solver does (posenet.md section 2.7)."""
        if self.conv1.weight.is_meta:
            # There is nothing to draw, and normal numbers there load 800 modules, 76 MB.
            return
        normal = {'conv1': 0.015, 'conv2': 0.02, 'out1': 0.04, 'out2': 0.08, 'fc1_pose': 0.01,
                  'fc1': 0.01, 'fc_pose_xyz': 0.5, 'fc_pose_wpqr': 0.01}
        for name, module in self.named_modules():
            if not isinstance(module, (nn.Conv2d, nn.Linear)):
                continue
            nn.init.zeros_(module.bias)
            std = normal.get(name.rsplit('.', 1)[-1])
            if std is not None:
                nn.init.normal_(module.weight, std=std)
            else:
                bound = (3.0 / module.weight[0].numel()) ** 0.5
                nn.init.uniform_(module.weight, -bound, bound)

    def _maps(self, images):
        """Return the three feature maps that the heads tap."""
        x = F.relu(self.conv1(F.pad(images, self._conv1_pad)))
        # Caffe's pools hang over the far border: ceil mode without padding, never padding=1.
        x = self.norm(F.max_pool2d(x, 3, 2, ceil_mode=True))
        x = self.norm(F.relu(self.conv2(F.relu(self.reduction2(x)))))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.icp2(self.icp1(x)), 3, 2, ceil_mode=True)
        tap1 = self.icp3(x)
        tap2 = self.icp6(self.icp5(self.icp4(tap1)))
        x = F.max_pool2d(self.icp7(tap2), 3, 2, ceil_mode=True)
        return tap1, tap2, self.icp9(self.icp8(x))

    def _hidden(self, last_map):
        """Return the localization feature, (B, 2048)."""
        return F.relu(self.cls3.fc1_pose(F.avg_pool2d(last_map, 7).flatten(1)))

    def upper(self, images):
        """Return what dropout acts on first: the hidden layer, or the last map if Bayesian."""
        last_map = self._maps(images)[2]
        return last_map if self.bayesian else self._hidden(last_map)

    def dropout_layers(self):
        """Return shape and probability of the layers; see `PoseRegressor.dropout_layers`."""
        return ([((1024, 7, 7), 0.5)] if self.bayesian else []) + [((2048,), 0.5)]

    def regress(self, features, masks=None):
        """Return poses for features; see `PoseRegressor.regress`."""
        masks = list(masks or [])
        if self.bayesian:
            features = self._hidden(features * masks.pop(0) if masks else features)
        hidden = features * masks.pop(0) if masks else features
        return self.cls3.fc_pose_xyz(hidden), self.cls3.fc_pose_wpqr(hidden)

    def heads(self, images):
        """Return the training outputs: a list of (position, rotation) of cls1, cls2, cls3."""
        tap1, tap2, last_map = self._maps(images)
        if self.bayesian:
            last_map = F.dropout(last_map, 0.5, self.training)
        hidden = F.dropout(self._hidden(last_map), 0.5, self.training)
        main = self.cls3.fc_pose_xyz(hidden), self.cls3.fc_pose_wpqr(hidden)
        return [self.cls1(tap1), self.cls2(tap2), main]

    @torch.no_grad()
    def fit_to_scene(self, mean_position, extent, mean_rotation, K):
        """Start the output layers at the mean training pose (posenet.md section 2.7)."""
        for head in (self.cls1, self.cls2, self.cls3):
            weight = head.fc_pose_xyz.weight
            scale = weight.std() * extent / extent.max()
            weight.copy_(torch.randn_like(weight) * scale[:, None])
            head.fc_pose_xyz.bias.copy_(mean_position)
            head.fc_pose_wpqr.bias.copy_(mean_rotation)
