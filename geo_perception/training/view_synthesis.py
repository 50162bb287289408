# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Training of depth and ego-motion without labels (sfmlearner.md section 4, geonet.md section 4).

SfMLearner and GeoNet's rigid stage differ in networks, loss and augmentation only; their
configurations say how.
"""

from dataclasses import replace
from typing import Dict, List, Literal, Optional, Tuple, Union

from jsonargparse.typing import NonNegativeFloat, PositiveFloat
import numpy as np
import torch

from geo_perception.environment import describe_machine
from geo_perception.errors import ConfigurationError
from geo_perception.inference.preview import preview
from geo_perception.losses.smoothness import mean_normalised
from geo_perception.losses.view_synthesis import ViewSynthesisLoss, ViewSynthesisOptions
from geo_perception.model_file import Metadata, TrainingCamera
from geo_perception.networks.depth import build_depth_network
from geo_perception.networks.layers import fast_layout
from geo_perception.networks.registry import build_by_name
from geo_perception.preprocessing import Preprocessing
from geo_perception.training.direct_egomotion import EGOMOTION
from geo_perception.training.from_stereo import stereo_start
from geo_perception.training.guarded import GuardedModule
from geo_perception.training.motion_validation import (
    sample_motions, validate_motion, ValidatedMotion)
from geo_perception.training.pictures import trajectory_picture
from geo_perception.training.start import begin_with
from geo_perception.training.video_augmentation import (
    crop_and_flip, recolour, VideoAugmentation)

# Options of a network: numbers on the command line are numbers.
Arguments = Dict[str, Union[bool, int, float, str]]


class ViewSynthesisModule(GuardedModule):
    """
    A depth network, an ego-motion network and their loss.

    Parameters
    ----------
    depth : str
        ``dispnet_vgg``, ``dispnet_resnet50`` or ``dispnet_lite``.
    depth_arguments : dict
        Its arguments.
    egomotion : str
        ``network``, as published, or ``direct``: images aligned through the depth, see
        `geo_perception.training.direct_egomotion`.
    egomotion_arguments : dict
        Its arguments, without ``sources``.
    size : tuple of int
        Height and width of the images, pixels.
    stretch : bool
        Resize to that size whatever the aspect, as published; otherwise crop.
    loss : ViewSynthesisOptions
        Which loss.
    augmentation : VideoAugmentation
        What training snippets go through.
    learning_rate : float
        Of Adam.
    weight_decay : float
        0 as published: its regulariser was never added to the loss.
    schedule : str
        ``constant`` as published, or ``one_cycle``.
    sources : int
        Neighbours of the target in a snippet: ``data.length - 1``.
    seed : int
        Of everything random.
    start_from : str, optional
        Checkpoint or model file whose weights to begin with, to fine-tune a model, or what
        "geo_perception import backbone" made. Of "train monodepth", too: depth then begins in
        metres, see `geo_perception.training.from_stereo`.

    Raises
    ------
    ConfigurationError
        When options do not fit together.

    """

    def __init__(self, depth: str = 'dispnet_lite', depth_arguments: Optional[Arguments] = None,
                 egomotion: str = 'network',
                 egomotion_arguments: Optional[Arguments] = None,
                 size: Tuple[int, int] = (128, 416), stretch: bool = False,
                 loss: ViewSynthesisOptions = ViewSynthesisOptions(),
                 augmentation: VideoAugmentation = VideoAugmentation(),
                 learning_rate: PositiveFloat = 2e-4, weight_decay: NonNegativeFloat = 0.0,
                 schedule: Literal['constant', 'one_cycle'] = 'constant',
                 sources: int = 2, seed: int = 0,
                 start_from: Optional[str] = None):
        super().__init__(learning_rate, weight_decay, schedule, seed)
        self._depth_name, self._depth_arguments = depth, dict(depth_arguments or {})
        stereo = None if start_from is None else stereo_start(start_from, depth)
        if stereo is not None:
            self._depth_arguments.update(stereo.arguments)
        self._egomotion_name = egomotion
        self._egomotion_arguments = {**(egomotion_arguments or {}), 'sources': sources}
        self.depth = build_depth_network(depth, self._depth_arguments)
        self.egomotion = build_by_name('ego-motion', EGOMOTION, egomotion,
                                       self._egomotion_arguments)
        if stereo is None:
            self._initialise()
        else:
            self.depth.load_state_dict(stereo.weights)
        fast_layout(self)
        multiple = self.depth.multiple
        if any(n < multiple or n % multiple for n in size):
            raise ConfigurationError(f'model.size is {list(size)}; {depth} takes a height and a '
                                     f'width that are multiples of {multiple}')
        if loss.depth_consistency_weight and not loss.both_directions:
            raise ConfigurationError('model.loss.depth_consistency_weight compares the depths of '
                                     'target and sources; set model.loss.both_directions to true')
        if bool(loss.explainability_weight) != bool(
                self._egomotion_arguments.get('explainability')):
            # Without the other, one does nothing and one excuses every pixel (sfmlearner.md 9).
            raise ConfigurationError('model.egomotion_arguments.explainability and '
                                     'model.loss.explainability_weight go together; set both')
        if loss.explainability_weight and loss.both_directions:
            raise ConfigurationError('model.loss.explainability_weight is for warps to the target '
                                     'only; set model.loss.both_directions to false')
        if self.egomotion.uses_depth and loss.normalise_disparity:
            raise ConfigurationError('model.egomotion direct needs depth as it is; set '
                                     'model.loss.normalise_disparity to false')
        self.preprocessing = Preprocessing(min(size), size, mean=(127.5,) * 3,
                                           std=(127.5,) * 3, stretch=stretch)
        if start_from is not None and stereo is None:
            begin_with(self, start_from, depth)
        self.loss = ViewSynthesisLoss(loss)
        self.augmentation = augmentation
        self._data: Dict = {}
        self._outputs: List[Tuple] = []
        self._motion: Optional[ValidatedMotion] = None
        self._training_camera: Optional[TrainingCamera] = None
        self._stereo = False

    def _initialise(self):
        """Take weights from elsewhere, where there are any."""
        if hasattr(self.depth, 'load_pretrained'):
            self.depth.load_pretrained()

    def describe_data(self, summary, camera=None):
        """
        Take the description of the data for the model file.

        Parameters
        ----------
        summary : dict
            Plain numbers and strings.
        camera : TrainingCamera, optional
            Of the training images.

        """
        self.check_length(summary['length'])
        self._data, self._training_camera = summary, camera

    def check_length(self, length):
        """
        Refuse snippets that the networks do not take.

        Parameters
        ----------
        length : int
            Frames of a snippet.

        Raises
        ------
        ConfigurationError
            When there are too few or too many.

        """
        sources = self._egomotion_arguments['sources']
        if length != sources + 1:
            raise ConfigurationError(f'data.length is {length}, so model.sources must be '
                                     f'{length - 1}, not {sources}')

    def use_stereo(self):
        """
        Prepare for stereo pairs, whose other eye is a source of known motion.

        Raises
        ------
        ConfigurationError
            When depth cannot be in metres, or a source have no mask.

        """
        if self.loss.options.normalise_disparity:
            raise ConfigurationError('data.stereo gives depth in metres, and '
                                     'model.loss.normalise_disparity takes its unit away; set '
                                     'one of them to false')
        if self.loss.options.explainability_weight:
            raise ConfigurationError('data.stereo has no masks for what the other eye sees; set '
                                     'model.loss.explainability_weight to 0 and '
                                     'model.egomotion_arguments.explainability to false')
        # The pairs hold the scale.
        self.loss = ViewSynthesisLoss(replace(self.loss.options, scale_anchor_weight=0.0))
        self._stereo = True

    def inputs(self, batch):
        """
        Return what the networks and the loss take.

        Parameters
        ----------
        batch : dict of str to torch.Tensor
            From `geo_perception.training.view_synthesis_data`.

        Returns
        -------
        images : torch.Tensor
            In [-1, 1], shape (B, L, 3, H, W).
        K : torch.Tensor
            Shape (B, 3, 3).

        """
        shape = batch['images'].shape
        images = self.preprocessing.normalise(batch['images'].flatten(0, 1))
        # The losses work along rows; the networks get a layout of their own.
        return images.unflatten(0, shape[:2]).contiguous(), batch['K']

    def other_eye(self, batch):
        """
        Return what the right eye saw of the targets.

        Parameters
        ----------
        batch : dict of str to torch.Tensor
            From `geo_perception.training.view_synthesis_data`, of stereo pairs or not.

        Returns
        -------
        images : torch.Tensor or None
            In [-1, 1], shape (B, 1, 3, H, W).
        baseline : torch.Tensor or None
            Metres to it, shape (B,).

        """
        if 'right' not in batch:
            return None, None
        right = self.preprocessing.normalise(batch['right']).contiguous()
        return right[:, None], batch['baseline']

    def predict(self, images, K, all_frames, right=None):
        """
        Return what both networks say.

        Parameters
        ----------
        images : torch.Tensor
            Snippets in order of time, in [-1, 1], shape (B, L, 3, H, W).
        K : torch.Tensor
            Intrinsics, shape (B, 3, 3).
        all_frames : bool
            Whether depth is wanted of the sources, too.
        right : torch.Tensor, optional
            From `other_eye`: the last source then as far as depth goes, not for ego-motion.

        Returns
        -------
        disparities : list of torch.Tensor
            Of the target, shapes (B, 1, H / 2^s, W / 2^s).
        poses : torch.Tensor
            Vectors of ``T_source_target`` of the video, shape (B, n, 6).
        masks : list of torch.Tensor or None
            Explainability.
        source_disparities : list of torch.Tensor or None
            Shapes (B, n, 1, H / 2^s, W / 2^s).

        """
        target, sources = split_snippet(images)
        others = sources if right is None else torch.cat([sources, right], 1)
        batch, n = others.shape[:2]
        frames = torch.cat([target, others.flatten(0, 1)]) if all_frames else target
        disparities = self.depth(frames.contiguous(memory_format=torch.channels_last))
        own = [d[:batch] for d in disparities]
        poses, masks = (self.egomotion(target, sources, own[0], K) if self.egomotion.uses_depth
                        else self.egomotion(target, sources))
        theirs = [d[batch:].unflatten(0, (batch, n)) for d in disparities] if all_frames else None
        return own, poses, masks, theirs

    def training_step(self, batch, batch_index):
        """Return the loss of one batch, None where it is no number."""
        self.seed_step(batch_index)
        images, K = self.inputs(batch)
        right, baseline = self.other_eye(batch)
        if right is not None:
            images = torch.cat([images, right], 1)
        images, K, mirrored = crop_and_flip(images, K, self.augmentation)
        seen = recolour(images, self.augmentation)
        if self.augmentation.legacy_colour_augmentation:
            images = seen
        if right is None:
            terms = self.terms(images, seen, K)
        else:
            # In a mirror the right eye is on the left.
            terms = self.terms(images, seen, K, -baseline if mirrored else baseline)
        return self.checked(terms, batch['index'])

    def terms(self, images, seen, K, baseline=None):
        """
        Return the loss of images, of which the networks see a copy in another light.

        Parameters
        ----------
        images, seen : torch.Tensor
            Snippets in order of time, in [-1, 1], shape (B, L, 3, H, W).
        K : torch.Tensor
            Intrinsics, shape (B, 3, 3).
        baseline : torch.Tensor, optional
            Metres from the target to the right to what is then the last image of each snippet,
            from the other eye at the same time, shape (B,).

        Returns
        -------
        dict of str to torch.Tensor
            ``total`` and its parts.

        """
        right = None
        if baseline is not None:
            images, right = images[:, :-1], images[:, -1:]
            seen, seen_right = seen[:, :-1], seen[:, -1:]
        disparities, poses, masks, source_disparities = self.predict(
            seen, K, self.loss.options.both_directions, None if right is None else seen_right)
        target, sources = split_snippet(images)
        if right is not None:
            # A further source whose motion is known, in metres: so is depth then.
            known = poses.new_zeros(len(poses), 1, 6)
            known[:, 0, 0] = -baseline
            poses, sources = torch.cat([poses, known], 1), torch.cat([sources, right], 1)
        return self.loss(target, sources, K, disparities, poses, masks, source_disparities)

    def validation_step(self, batch, batch_index):
        """Collect what is known about one batch."""
        torch.manual_seed(batch_index)
        images, K = self.inputs(batch)
        disparities, poses, masks, source_disparities = self.predict(
            images, K, self.loss.options.both_directions)
        terms = self.loss(*split_snippet(images), K, disparities, poses, masks,
                          source_disparities)
        disparity = disparities[0].float()
        if self.loss.options.normalise_disparity:
            disparity = mean_normalised(disparity)
        depth = 1.0 / disparity[:, 0]
        samples = sample_motions(images, K, depth, poses, batch['poses'],
                                 self.egomotion.uses_depth)
        if batch_index == 0:
            targets = batch['images'][:, images.shape[1] // 2]
            self._show('val/depth', np.concatenate([
                preview(d, image) for d, image in zip(
                    depth.cpu().numpy(), targets.cpu().numpy())], 1))
        for i, sample in enumerate(samples):
            self._outputs.append((terms['total'].item(),
                                  *_depth_errors(depth[i], batch['depth'][i]), sample))

    def _measure(self):
        """Make metrics of what was collected, find the scale; return what ranks checkpoints."""
        *columns, samples = zip(*self._outputs)
        loss, ratio, scaled_error = np.array(columns)
        self._outputs.clear()
        self._metrics = {'loss': float(loss.mean())}
        if np.isfinite(scaled_error).any():
            self._metrics['abs_rel_median_scaled'] = float(np.nanmean(scaled_error))
            self._metrics['depth_ratio'] = float(np.nanmedian(ratio))
            self._metrics['depth_ratio_spread'] = float(
                np.nanstd(ratio) / np.nanmedian(ratio))
        self._motion = motion = validate_motion(samples, self.egomotion.uses_depth,
                                                self._data.get('interval') or 0.0)
        self._metrics.update(motion.scales)
        if self.trainer.world_size == 1:
            # Several processes have every other snippet each.
            self._show('val/trajectory', trajectory_picture(
                motion.motions, motion.true_motions, motion.scales.get('metres_per_unit')))
        # Photometric loss does not rank models by the quality of their depth (sfmlearner.md 9).
        return self._metrics.get('abs_rel_median_scaled', self._metrics['loss'])

    def metadata(self):
        """
        Return the header of the model file as it is known now.

        Returns
        -------
        Metadata

        """
        calibration = {'metres_per_unit': 1.0} if self._stereo else {}
        if self._motion is not None:
            calibration.update(self._motion.entries())
        return Metadata(
            job='geometry', architecture=self._depth_name,
            arguments={'depth': self._depth_arguments, 'egomotion_name': self._egomotion_name,
                       'egomotion': self._egomotion_arguments,
                       'normalise_disparity': self.loss.options.normalise_disparity},
            preprocessing=self.preprocessing, rotation='euler_xyz', world_frame='odom',
            training_camera=self._training_camera, calibration=calibration,
            data={**self._data, 'epochs': self.current_epoch + 1, 'steps': self.global_step,
                  'seed': self.seed},
            metrics=self._metrics, versions=describe_machine())


def split_snippet(images):
    """
    Return target and sources of snippets in order of time.

    Parameters
    ----------
    images : torch.Tensor
        Shape (B, L, ...).

    Returns
    -------
    target : torch.Tensor
        The frame in the middle, shape (B, ...).
    sources : torch.Tensor
        The others in order of time, shape (B, L - 1, ...).

    """
    centre = images.shape[1] // 2
    return images[:, centre], torch.cat([images[:, :centre], images[:, centre + 1:]], 1)


def _depth_errors(depth, truth):
    """Return the median ratio of true to predicted depth, and the error once it is applied."""
    valid = torch.isfinite(truth) & (truth > 0)
    if not valid.any():
        return float('nan'), float('nan')
    ratio = truth[valid].median() / depth[valid].median()
    error = ((ratio * depth[valid] - truth[valid]).abs() / truth[valid]).mean()
    return ratio.item(), error.item()
