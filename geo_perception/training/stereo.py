# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Training of depth from stereo pairs, without labels: Monodepth (monodepth.md section 10).

A falling loss proves nothing: it falls, too, while disparity is dead. So the disparity of some
validation pairs is compared with what block matching finds in them.
"""

import logging
from typing import Dict, List, Literal, Optional, Tuple, Union

from jsonargparse.typing import NonNegativeFloat, PositiveFloat
import numpy as np
import torch

from geo_perception.environment import describe_machine
from geo_perception.errors import ConfigurationError
from geo_perception.inference.preview import preview
from geo_perception.losses.stereo import StereoLoss, StereoOptions
from geo_perception.model_file import Metadata, TrainingCamera
from geo_perception.networks.layers import fast_layout
from geo_perception.networks.stereo import build_stereo_network
from geo_perception.preprocessing import Preprocessing
from geo_perception.training.guarded import GuardedModule
from geo_perception.training.start import begin_with
from geo_perception.training.stereo_augmentation import (
    flip_pairs, recolour_pairs, StereoAugmentation)

# Options of a network: numbers on the command line are numbers.
Arguments = Dict[str, Union[bool, int, float, str]]

# Below this part of what block matching finds, disparity has collapsed; below that part of its
# spread, it has not begun to move.
DEAD, FLAT = 0.25, 0.15

log = logging.getLogger(__name__)


class StereoModule(GuardedModule):
    """
    A network that says the disparity of both eyes from the image of one, and its loss.

    Parameters
    ----------
    network : str
        ``monodepth_vgg``, ``monodepth_resnet50`` or ``monodepth_lite``.
    network_arguments : dict
        Its arguments.
    size : tuple of int
        Height and width of the images, pixels.
    stretch : bool
        Resize to that size whatever the aspect, as published; otherwise crop.
    loss : StereoOptions
        Which loss.
    augmentation : StereoAugmentation
        What training pairs go through.
    learning_rate : float
        Of Adam.
    weight_decay : float
        0 as published.
    schedule : str
        ``constant``, ``one_cycle``, or ``halving`` as published.
    start_from : str, optional
        Checkpoint or model file whose weights to begin with, to fine-tune a model, or what
        "geo_perception import backbone" made.
    seed : int
        Of everything random.

    Raises
    ------
    ConfigurationError
        When options do not fit together.

    """

    items = 'pairs'

    def __init__(self, network: str = 'monodepth_vgg',
                 network_arguments: Optional[Arguments] = None,
                 size: Tuple[int, int] = (256, 512), stretch: bool = True,
                 loss: StereoOptions = StereoOptions(),
                 augmentation: StereoAugmentation = StereoAugmentation(),
                 learning_rate: PositiveFloat = 1e-4, weight_decay: NonNegativeFloat = 0.0,
                 schedule: Literal['constant', 'one_cycle', 'halving'] = 'halving',
                 start_from: Optional[str] = None, seed: int = 0):
        super().__init__(learning_rate, weight_decay, schedule, seed)
        self._network_name, self._network_arguments = network, dict(network_arguments or {})
        self.network = build_stereo_network(network, self._network_arguments)
        if hasattr(self.network, 'load_pretrained'):
            self.network.load_pretrained()
        multiple = self.network.multiple
        if any(n < multiple or n % multiple for n in size):
            raise ConfigurationError(f'model.size is {list(size)}; {network} takes a height and a '
                                     f'width that are multiples of {multiple}')
        if augmentation.either_eye and loss.objective != 'one_view':
            raise ConfigurationError('model.augmentation.either_eye is for the objective '
                                     'one_view: left_right has both eyes in every pair')
        self.max_disparity = self.network.range.largest
        self.preprocessing = Preprocessing(min(size), size, mean=(0.0,) * 3, std=(255.0,) * 3,
                                           stretch=stretch)
        if start_from is not None:
            begin_with(self, start_from, network)
        self.loss, self.augmentation = StereoLoss(loss), augmentation
        self._data: Dict = {}
        self._training_camera: Optional[TrainingCamera] = None
        self._reach: Optional[float] = None
        self._outputs: List[Tuple] = []
        self._collapsed = ''
        fast_layout(self)

    def describe_data(self, summary, camera, reach):
        """
        Take the description of the data for the model file.

        Parameters
        ----------
        summary : dict
            Plain numbers and strings.
        camera : TrainingCamera
            Of the training images.
        reach : float
            Disparity at one metre, parts of the width.

        """
        self._data, self._training_camera, self._reach = summary, camera, reach

    def inputs(self, batch):
        """
        Return what network and loss take.

        Parameters
        ----------
        batch : dict of str to torch.Tensor
            From `geo_perception.training.stereo_data`.

        Returns
        -------
        left, right : torch.Tensor
            In [0, 1], shape (B, 3, H, W).
        ratio : torch.Tensor
            On disparity, shape (B, 1, 1, 1).

        """
        # The losses work along rows; the networks get a layout of their own.
        left, right = (self.preprocessing.normalise(batch[eye]).contiguous()
                       for eye in ('left', 'right'))
        return left, right, batch['ratio'][:, None, None, None]

    def training_step(self, batch, batch_index):
        """Return the loss of one batch, None where it is no number."""
        self.seed_step(batch_index)
        left, right, ratio = self.inputs(batch)
        swap = self.loss.options.objective == 'left_right'
        first, second, side = flip_pairs(left, right, self.augmentation, swap)
        seen, other = recolour_pairs(first, second, self.augmentation)
        if self.augmentation.loss_sees_colour:
            first, second = seen, other
        disparities = [ratio * d for d in self.network(seen)]
        self.log('train/disparity', disparities[0][:, 0].detach().float().mean())
        return self.checked(self.loss(first, second, disparities, side),
                            batch['index'])

    def validation_step(self, batch, batch_index):
        """Collect what is known about one batch."""
        left, right, ratio = self.inputs(batch)
        disparities = [ratio * d for d in self.network(left)]
        total = self.loss(left, right, disparities)['total'].item()
        own = disparities[0][:, 0].float()
        depth = self._reach * ratio[:, 0] / own
        if batch_index == 0:
            self._show('val/depth', np.concatenate([
                preview(d, image) for d, image in zip(
                    depth.cpu().numpy(), batch['left'].cpu().numpy())], 1))
        for i in range(len(own)):
            matched = batch['matched'][i]
            known = torch.isfinite(matched)
            nan = float('nan')
            found = (nan,) * 4 if not known.any() else (
                (own[i] - matched)[known].abs().median().item(),
                (own[i][known].median() / matched[known].median()).item(),
                (_spread(own[i][known]) / _spread(matched[known]).clamp_min(1e-6)).item(),
                _spread(matched[known]).item())
            self._outputs.append((total, _abs_rel(depth[i], batch['depth'][i]),
                                  own[i].median().item(), *found))

    def _measure(self):
        """Make metrics of what was collected; return what ranks checkpoints."""
        loss, abs_rel, disparity, error, ratio, spread, _ = (
            np.array(column) for column in zip(*self._outputs))
        self._outputs.clear()
        self._metrics = {'loss': float(loss.mean()), 'disparity': float(np.median(disparity))}
        if np.isfinite(abs_rel).any():
            self._metrics['abs_rel'] = float(np.nanmean(abs_rel))
        if np.isfinite(error).any():
            self._metrics['matched_error_px'] = float(
                np.nanmedian(error) * self.preprocessing.crop[1])
            self._metrics['matched_ratio'] = float(np.nanmedian(ratio))
            self._metrics['matched_spread'] = float(np.nanmedian(spread))
            self._watch()
        return self._metrics.get('abs_rel', self._metrics.get('matched_error_px',
                                                              self._metrics['loss']))

    def _watch(self):
        """Warn when disparity is dead, once."""
        ratio, spread = self._metrics['matched_ratio'], self._metrics['matched_spread']
        if ratio < DEAD:
            problem = (f'disparity has collapsed to {100 * ratio:.0f} % of what block matching '
                       'finds in the pairs: are the eyes swapped, or the rows not aligned? See '
                       '"geo_perception prepare stereo"')
        elif spread < FLAT:
            problem = (f'disparity is flat, {100 * spread:.0f} % of the spread that block '
                       'matching finds in the pairs: it has not begun to learn, or the texture '
                       'is too fine for gradients to reach that far (smaller images, or '
                       'max_disparity)')
        else:
            problem = ''
        if problem and problem[:20] != self._collapsed:
            log.warning('after step %d %s', self.global_step, problem)
        self._collapsed = problem[:20]

    def metadata(self):
        """
        Return the header of the model file as it is known now.

        Returns
        -------
        Metadata

        """
        return Metadata(
            job='stereo_depth', architecture=self._network_name,
            arguments={'network': self._network_arguments}, preprocessing=self.preprocessing,
            rotation='', world_frame='', training_camera=self._training_camera,
            calibration={'reach': self._reach},
            data={**self._data, 'epochs': self.current_epoch + 1, 'steps': self.global_step,
                  'seed': self.seed},
            metrics=self._metrics, versions=describe_machine())


def _spread(values):
    """Return how far apart the middle four fifths of some values are."""
    return values.quantile(0.9) - values.quantile(0.1)


def _abs_rel(depth, truth):
    """Return the mean relative error, NaN where nothing is known."""
    valid = torch.isfinite(truth) & (truth > 0)
    if not valid.any():
        return float('nan')
    return ((depth[valid] - truth[valid]).abs() / truth[valid]).mean().item()
