# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Training of optical flow without labels: GeoNet's second stage (geonet.md sections 2.3 and 4).

Depth and ego-motion come from the first stage, and stay as they are unless asked otherwise. What
they say is computed once a step, and without gradient.
"""

from dataclasses import replace
from typing import Dict, List, Literal, Optional, Tuple

from jsonargparse.typing import NonNegativeFloat, PositiveFloat
import numpy as np
import torch
from torch.nn import functional as F

from geo_perception.errors import ConfigurationError, ModelFileError
from geo_perception.geometry.flow_consistency import consistent, round_trip
from geo_perception.geometry.projection import (
    invert_rigid, pose_vector_to_matrix, pyramid_intrinsics, rigid_flow)
from geo_perception.geometry.sampling import flow_warp
from geo_perception.inference.flow_input import flow_input
from geo_perception.inference.flow_picture import flow_picture
from geo_perception.inference.motion_score import (
    fit_motion_score, MotionScore, PREFIX, refuted)
from geo_perception.losses.flow import FlowLoss, FlowOptions
from geo_perception.losses.photometric import image_distance, masked_mean
from geo_perception.losses.smoothness import mean_normalised
from geo_perception.losses.view_synthesis import ViewSynthesisOptions
from geo_perception.networks.flow import build_flow_network
from geo_perception.networks.layers import fast_layout
from geo_perception.training.moving_pieces import miss_of_pieces, MovingPieces, paste_pieces
from geo_perception.training.rigid_part import read_rigid_part
from geo_perception.training.video_augmentation import VideoAugmentation
from geo_perception.training.view_synthesis import (
    Arguments, split_snippet, ViewSynthesisModule)

# One in so many pixels along each axis tells what is usual.
PIXEL_STEP = 2


class FlowModule(ViewSynthesisModule):
    """
    A flow network on top of trained depth and ego-motion.

    Parameters
    ----------
    init : str
        Checkpoint or model file with depth and ego-motion; says their networks and the size of
        the images.
    flow : str
        ``resflownet`` or ``resflownet_lite``.
    flow_arguments : dict
        Its arguments; ``variant: direct`` for flow without depth and ego-motion.
    flow_loss : FlowOptions
        What is asked of flow.
    pieces : MovingPieces
        What is put into the images of training so that more moves, and one knows how.
    finetune : bool
        Train depth and ego-motion as well, with their own loss beside that of flow.
    rigid_loss : ViewSynthesisOptions
        That loss.
    augmentation : VideoAugmentation
        What training snippets go through.
    learning_rate : float
        Of Adam.
    weight_decay : float
        0 as published: its regulariser was never added to the loss.
    schedule : str
        ``constant`` as published, or ``one_cycle``.
    seed : int
        Of everything random.

    Raises
    ------
    ConfigurationError
        When options do not fit together.
    ModelFileError
        When depth and ego-motion cannot be taken from the file.

    """

    def __init__(self, init: str = '', flow: str = 'resflownet',
                 flow_arguments: Optional[Arguments] = None,
                 flow_loss: FlowOptions = FlowOptions(),
                 pieces: MovingPieces = MovingPieces(), finetune: bool = False,
                 rigid_loss: ViewSynthesisOptions = ViewSynthesisOptions(),
                 augmentation: VideoAugmentation = VideoAugmentation(),
                 learning_rate: PositiveFloat = 2e-4, weight_decay: NonNegativeFloat = 0.0,
                 schedule: Literal['constant', 'one_cycle'] = 'constant', seed: int = 0):
        self._rigid = rigid = read_rigid_part(init)
        arguments = rigid.metadata.arguments
        super().__init__(
            rigid.metadata.architecture, arguments['depth'],
            arguments.get('egomotion_name', 'network'),
            {name: value for name, value in arguments['egomotion'].items() if name != 'sources'},
            tuple(rigid.metadata.preprocessing.crop), rigid.metadata.preprocessing.stretch,
            replace(rigid_loss,
                    normalise_disparity=arguments.get('normalise_disparity', False)),
            augmentation, learning_rate, weight_decay, schedule, rigid.sources, seed)
        self.preprocessing = rigid.metadata.preprocessing
        self._finetune, self._pieces = finetune, pieces
        self._flow_name, self._flow_arguments = flow, dict(flow_arguments or {})
        self.flow = build_flow_network(flow, self._flow_arguments)
        fast_layout(self.flow)
        if rigid.flow == (flow, self._flow_arguments):
            # Learning goes on where there is such a flow network already.
            self.load_state_dict(rigid.flow_weights, strict=False)
        height, width = self.preprocessing.crop
        if height % self.flow.multiple or width % self.flow.multiple:
            raise ConfigurationError(
                f'{init} is for images of {height}x{width}, and {flow} takes multiples of '
                f'{self.flow.multiple}; train depth and ego-motion at such a size, or choose '
                'another model.flow')
        self.flow_loss = FlowLoss(flow_loss)
        if not finetune:
            self.depth.requires_grad_(False)
            self.egomotion.requires_grad_(False)
        if self.flow.variant == 'direct' and 'residual' in (
                flow_loss.smooth, *(['residual'] if flow_loss.residual_weight else [])):
            raise ConfigurationError('model.flow_loss asks something of the residual, and flow of '
                                     'the variant direct has none; set smooth to full and '
                                     'residual_weight to 0')
        self._flow_outputs: List[Tuple] = []
        self._pixels: List[np.ndarray] = []
        self._score: Optional[MotionScore] = None

    def _initialise(self):
        """Take depth and ego-motion as they were trained."""
        own = {name for name in self.state_dict() if name.startswith(('depth.', 'egomotion.'))}
        theirs = self._rigid.weights
        wrong = sorted(own ^ theirs.keys()) or [
            name for name in sorted(own) if theirs[name].shape != self.state_dict()[name].shape]
        if wrong:
            raise ModelFileError(f'{self._rigid.path} does not fit its own header: '
                                 f'{len(wrong)} weights are missing, left over or of another '
                                 f'shape, the first is {wrong[0]}')
        self.load_state_dict(theirs, strict=False)

    def train(self, mode=True):
        """Switch between training and evaluation; what is frozen is always evaluated."""
        super().train(mode)
        if not self._finetune_is_on():
            self.depth.eval()
            self.egomotion.eval()
        return self

    def _finetune_is_on(self):
        """Tell whether all parts are trained; Lightning asks before it is known."""
        return getattr(self, '_finetune', False)

    def check_length(self, length):
        """Refuse snippets that the networks do not take."""
        trained = self._rigid.sources + 1
        if length != trained:
            raise ConfigurationError(f'data.length is {length}, but the ego-motion of '
                                     f'{self._rigid.path} was trained on snippets of {trained} '
                                     f'frames; set data.length to {trained}')

    def use_stereo(self):
        """Refuse stereo pairs."""
        raise ConfigurationError('data.stereo is for depth and ego-motion; train them with it, '
                                 'and flow on top of them without')

    def rigid_flows(self, K, disparities, poses, source_disparities):
        """
        Return the flow of a scene that stands still, at all scales.

        Parameters
        ----------
        K : torch.Tensor
            Shape (B, 3, 3).
        disparities, poses, source_disparities
            From `predict`.

        Returns
        -------
        list of torch.Tensor
            From target to sources, then back, pixels of each scale, shapes
            (2, B, n, 2, H / 2^s, W / 2^s), the finest first.

        """
        # In 32 bits, also in mixed precision.
        with torch.autocast(self.device.type, enabled=False):
            return self._rigid_flows(K, disparities, poses.to(K), source_disparities)

    def _rigid_flows(self, K, disparities, poses, source_disparities):
        n = poses.shape[1]
        T = pose_vector_to_matrix(poses).flatten(0, 1)
        T = torch.cat([T, invert_rigid(T)])
        each = self.flow_loss.options.rigid == 'each_scale'
        flows: list = []
        for level, K_level in enumerate(pyramid_intrinsics(K, len(disparities))):
            if level and not each:
                flows.append(0.5 * F.avg_pool2d(flows[-1], 2))
                continue
            own, theirs = disparities[level], source_disparities[level].flatten(0, 1)
            if self.loss.options.normalise_disparity:
                own, theirs = mean_normalised(own), mean_normalised(theirs)
            depth = 1.0 / torch.cat([own.repeat_interleave(n, 0), theirs]).to(K)
            flows.append(rigid_flow(depth, T, K_level.repeat_interleave(n, 0).repeat(2, 1, 1))[0])
        return [flow.unflatten(0, (2, len(K), n)) for flow in flows]

    def parallax(self, rigid, K, poses):
        """
        Return the part of rigid flow that depends on depth, from the target to each source.

        Parameters
        ----------
        rigid : list of torch.Tensor
            From `rigid_flows`.
        K, poses
            As for `rigid_flows`.

        Returns
        -------
        torch.Tensor
            Pixels, shape (B, n, 2, H, W).

        """
        ones = torch.ones_like(rigid[0][0, :, :, :1]).flatten(0, 1)
        with torch.autocast(self.device.type, enabled=False):
            T = pose_vector_to_matrix(poses.to(K)).flatten(0, 1).clone()
            T[:, :3, 3] = 0
            turned, _ = rigid_flow(ones, T, K.repeat_interleave(poses.shape[1], 0))
        return rigid[0][0] - turned.unflatten(0, poses.shape[:2])

    def predict_flow(self, images, rigid):
        """
        Return full flow, and what rigid flow lacks of it.

        Parameters
        ----------
        images : torch.Tensor
            Snippets in order of time, in [-1, 1], shape (B, L, 3, H, W).
        rigid : list of torch.Tensor or None
            From `rigid_flows`; None for the direct variant.

        Returns
        -------
        flows : list of torch.Tensor
            As from `rigid_flows`.
        residuals : list of torch.Tensor or None
            Same shapes; None for the direct variant.

        """
        target, sources = split_snippet(images)
        own = target[:, None].expand_as(sources)
        pairs = torch.stack([own, sources]), torch.stack([sources, own])
        x = flow_input(*(image.flatten(0, 2) for image in pairs),
                       None if rigid is None else rigid[0].flatten(0, 2),
                       self.flow_loss.options.border)
        # In 32 bits in mixed precision, too: a pixel far out is a large number.
        # The losses work along rows.
        own_flows = [flow.float().contiguous().unflatten(0, pairs[0].shape[:3])
                     for flow in self.flow(x.contiguous(memory_format=torch.channels_last))]
        if rigid is None:
            return own_flows, None
        return [a + b for a, b in zip(rigid, own_flows)], own_flows

    def terms(self, images, seen, K):
        """Return the loss of images, of which the networks see a copy in another light."""
        rigid = None
        residual = self.flow.variant == 'residual'
        if residual or self._finetune:
            with torch.set_grad_enabled(self._finetune and torch.is_grad_enabled()):
                own, poses, _, theirs = self.predict(seen, K, True)
                rigid = self.rigid_flows(K, own, poses, theirs) if residual else None
        # What moves by itself must not mislead depth and ego-motion: it is put in afterwards.
        shown, looked_at = images, seen
        if self._pieces.count:
            still = rigid[0][0] if residual else torch.zeros_like(images[:, 1:, :2])
            both, known, inside = paste_pieces(torch.cat([images, seen], 2), still.detach(),
                                               self._pieces)
            shown, looked_at = both.chunk(2, 2)
        flows, residuals = self.predict_flow(looked_at, rigid)
        terms = self.flow_loss(*split_snippet(shown), flows, residuals)
        if self._pieces.count:
            terms['pieces'] = self._pieces.weight * miss_of_pieces(flows, known, inside)
            terms['total'] = terms['total'] + terms['pieces']
        if self._finetune:
            either = self.loss.options.both_directions
            for name, value in self.loss(*split_snippet(images), K, own, poses, None,
                                         theirs if either else None).items():
                terms[f'rigid_{name}'] = value
            terms['total'] = terms['total'] + terms['rigid_total']
        return terms

    def validation_step(self, batch, batch_index):
        """Collect what is known about one batch."""
        if self._finetune:
            super().validation_step(batch, batch_index)
        images, K = self.inputs(batch)
        own, poses, _, theirs = self.predict(images, K, True)
        rigid = self.rigid_flows(K, own, poses, theirs)
        flows, residuals = self.predict_flow(
            images, rigid if self.flow.variant == 'residual' else None)
        terms = self.flow_loss(*split_snippet(images), flows, residuals)
        # From the target to the frame after it.
        centre = images.shape[1] // 2
        forward, still = flows[0][0, :, centre], rigid[0][0, :, centre]
        target, following = images[:, centre], images[:, centre + 1]
        looks = []
        for flow in (forward, still):
            warped, inside = flow_warp(following, flow)
            distance = image_distance(0.5 * warped + 0.5, 0.5 * target + 0.5, reflect=True)
            looks.append(masked_mean(distance.mean(1, keepdim=True), inside).item())
        if batch_index == 0:
            self._show('val/flow', np.concatenate([np.concatenate([
                image.cpu().numpy(), *(flow_picture(f.permute(1, 2, 0).cpu().numpy(), longest)
                                       for f in (a, b))], 1)
                for image, a, b, longest in zip(
                    batch['images'][:, centre], forward, still,
                    still.square().sum(1).sqrt().flatten(1).amax(1).tolist())])[..., ::-1])
        errors = [_end_point_error(flow, batch['flow']) for flow in (forward, still)]
        self._flow_outputs.append((terms['total'].item(), terms['consistent'].item(), *looks,
                                   *errors))
        parallax = self.parallax(rigid, K, poses)[:, centre]
        miss, inside = round_trip(forward, flows[0][1, :, centre])
        seen = inside & consistent(forward, miss)
        pixels = torch.stack([*(forward - still).unbind(1), *parallax.unbind(1),
                              batch['moving'].to(K), seen[:, 0].to(K),
                              refuted(target, following, forward, still)[:, 0].to(K)])
        self._pixels.append(pixels[..., ::PIXEL_STEP, ::PIXEL_STEP].flatten(1).cpu().numpy())

    def _measure(self):
        """Make metrics of what was collected; return what ranks checkpoints."""
        if self._finetune:
            super()._measure()
        else:
            self._metrics = dict(self._rigid.metadata.metrics)
        loss, share, full, rigid, *errors = np.array(self._flow_outputs).T
        self._flow_outputs.clear()
        self._metrics.update({
            'flow_loss': float(loss.mean()), 'flow_consistent': float(share.mean()),
            'flow_residual': float(full.mean()), 'rigid_residual': float(rigid.mean())})
        if np.isfinite(errors[0]).any():
            for name, values in zip(('flow_epe_px', 'rigid_epe_px'), errors):
                self._metrics[name] = float(np.nanmean(values))
        self._learn_score()
        # Not the loss: it is small where nothing is consistent.
        return self._metrics.get('flow_epe_px', self._metrics['flow_residual'])

    def _learn_score(self):
        """Find out what rigid flow lacks where nothing moves."""
        *vectors, moving, seen, heard = np.concatenate(self._pixels, 1)
        self._pixels.clear()
        usable = seen > 0
        lack, parallax = np.stack(vectors[:2], 1)[usable], np.stack(vectors[2:], 1)[usable]
        width, moving, heard = self.preprocessing.crop[1], moving[usable], heard[usable] > 0
        self._score = fit_motion_score(lack, parallax, width, moving, heard=heard)
        known = np.isfinite(moving)
        truth = moving[known] > 0
        if self._score is None or not truth.any():
            return
        moves = heard & (self._score.of_pixels(lack, parallax, width) > self._score.threshold)
        moves = moves[known]
        self._metrics['motion_iou'] = float((moves & truth).sum() / (moves | truth).sum())
        self._metrics['motion_recall'] = float(moves[truth].mean())

    def metadata(self):
        """Return the header of the model file as it is known now."""
        header, before = super().metadata(), self._rigid.metadata
        if not self._finetune:
            # What was measured about depth and ego-motion holds, and where they come from.
            header = replace(header, calibration={
                name: value for name, value in before.calibration.items()
                if not name.startswith(PREFIX)},
                             training_camera=before.training_camera,
                             data={**before.data, 'flow': header.data})
        if self._score is not None:
            header.calibration.update(self._score.entries())
        flow: Dict = {'flow_name': self._flow_name, 'flow': self._flow_arguments,
                      'flow_border': self.flow_loss.options.border}
        return replace(header, arguments={**header.arguments, **flow})


def _end_point_error(flow, truth):
    """Return the mean distance to the true end points, pixels, NaN where nothing is known."""
    error = (flow.permute(0, 2, 3, 1) - truth).norm(dim=3)
    return error.nanmean().item()
