# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The flow pipeline: two images in, full and rigid flow both ways and what moves by itself out."""

from dataclasses import dataclass
from typing import Optional

import numpy as np
import torch
from torch import nn

from geo_perception.errors import ModelFileError
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.flow_consistency import consistent, round_trip
from geo_perception.geometry.projection import rigid_flow
from geo_perception.geometry.sampling import BORDERS, flow_warp
from geo_perception.geometry.se3 import inverse_transform
from geo_perception.inference.depth import network_arguments
from geo_perception.inference.engine import Engine, upload
from geo_perception.inference.flow_input import flow_input
from geo_perception.inference.flow_refinement import FlowRefinement, motion_of_still_scene
from geo_perception.inference.motion_score import MotionScore, refuted, solid
from geo_perception.inference.weights import build_network, load_weights
from geo_perception.networks.flow import build_flow_network
from geo_perception.networks.resflownet import INPUTS

# Where more of what both images see moves by itself, or less is seen by both, it cannot be told
# whether the camera moves or the world.
LARGEST_MOVING, SMALLEST_SEEN = 0.6, 0.05


@dataclass(frozen=True)
class FlowField:
    """
    What is known of each pixel of one image.

    Attributes
    ----------
    flow, rigid : np.ndarray
        Full flow to the other image, and that of a scene that stands still, pixels, u right,
        v down, float32, shape (h, w, 2); the latter NaN where its depth is unknown.
    valid : np.ndarray
        Whether the surface is seen in both images: the flow stays inside, and the flow back
        agrees; bool, shape (h, w).
    score : np.ndarray
        How sure it is that the surface moves by itself, see
        `geo_perception.inference.motion_score`, float32, shape (h, w), NaN where not valid.
    moving : np.ndarray
        Whether it does, bool, shape (h, w): specks are left out and gaps filled, also where not
        valid; nowhere where it cannot be told.
    parallax : np.ndarray or None
        The part of ``rigid`` that depends on depth, pixels, float32, shape (h, w, 2). This and the
        next are None of a field that came through topics.
    network : np.ndarray or None
        Full flow as the network has it, before it is refined, pixels, float32, shape (h, w, 2).

    """

    flow: np.ndarray
    rigid: np.ndarray
    valid: np.ndarray
    score: np.ndarray
    moving: np.ndarray
    parallax: Optional[np.ndarray] = None
    network: Optional[np.ndarray] = None


@dataclass(frozen=True)
class FlowEstimate:
    """
    Flow between two frames.

    Attributes
    ----------
    forward : FlowField
        Of the earlier image, to the later one.
    backward : FlowField
        Of the later image, to the earlier one.
    camera : Camera
        Of the pixels, without distortion.
    earlier_stamp, later_stamp : int
        Of both, nanoseconds.
    reason : str
        Why it cannot be told what moves, one sentence; empty if it can.

    """

    forward: FlowField
    backward: FlowField
    camera: Camera
    earlier_stamp: int
    later_stamp: int
    reason: str = ''


def has_flow(model):
    """
    Tell whether a model file holds a flow network.

    Parameters
    ----------
    model : ModelFile
        A model for geometry.

    Returns
    -------
    bool

    """
    return 'flow_name' in model.metadata.arguments


class FlowNetwork:
    """
    The flow network of a model, with its engine.

    Parameters
    ----------
    model : ModelFile
        A model for geometry.
    device, precision, threads
        As in `geo_perception.inference.engine.Engine`.
    smoothing : float
        How much of the score of the frame before is carried along, 0..1.
    refine : bool
        Whether flow is made sharp in the image of the camera.
    newest_only : bool
        Whether the flow of the earlier image serves only to check that of the later one, and need
        not be as good.

    Raises
    ------
    ModelFileError
        When it has no flow network, or something that it needs is missing, of the wrong shape or
        not finite.

    """

    def __init__(self, model, device='auto', precision='auto', threads=0, smoothing=0.0,
                 refine=True, newest_only=False):
        arguments = network_arguments(model)
        if not has_flow(model):
            raise ModelFileError(f'model file {model.path} has no flow network; train one with '
                                 f'"geo_perception train geonet --stage flow --init {model.path}"')
        self._border = arguments.get('flow_border', 'inclusive')
        if self._border not in BORDERS:
            raise ModelFileError(f'model file {model.path} was trained with the border '
                                 f'"{self._border}", which is unknown here; update geo_perception')
        network = build_network(model, build_flow_network, arguments['flow_name'],
                                arguments.get('flow', {}))
        height, width = model.metadata.preprocessing.crop
        load_weights(network, model, 'flow.')
        self._residual = network.variant == 'residual'
        self._score = MotionScore.from_model(model)
        self._smoothing, self._last = smoothing, None
        self._refinement = FlowRefinement(threads, newest_only) if refine else None
        example = np.random.default_rng(0).uniform(
            -1, 1, (2, INPUTS[network.variant], height, width)).astype(np.float32)
        self._engine = Engine(_Finest(network), example, device, precision, threads)
        self._device = self._engine.device

    def describe(self):
        """
        Return device, library and precision in words.

        Returns
        -------
        str

        """
        return self._engine.describe()

    def reset(self):
        """Forget the score of the frame before."""
        self._last = None

    def __call__(self, earlier, later, T_earlier_later):
        """
        Return the flow between two frames.

        Parameters
        ----------
        earlier, later : View
            See `geo_perception.inference.motion`.
        T_earlier_later : np.ndarray
            Motion between them, units of the network, 4x4.

        Returns
        -------
        FlowEstimate

        """
        device = self._device
        images, depth, K, T = upload(device, *(np.stack(pair) for pair in (
            (earlier.crop, later.crop), (earlier.depth, later.depth),
            (earlier.camera.K, later.camera.K),
            (inverse_transform(T_earlier_later), T_earlier_later))))
        images = images.permute(0, 3, 1, 2).float() / 127.5 - 1
        depth, K = depth[:, None], K.float()
        known = torch.isfinite(depth)
        depth = torch.where(known, depth, torch.ones_like(depth))
        with torch.inference_mode():
            rigid, _ = rigid_flow(depth, T.float(), K)
            x = flow_input(images, images.flip(0), rigid if self._residual else None,
                           self._border)
            network = self._engine(x.contiguous().cpu().numpy()).to(device)
            network = rigid + network if self._residual else network
            details = earlier.detail, later.detail
            refine = self._refinement is not None and all(d is not None for d in details)
            flow = network
            if refine:
                flow, = upload(device, self._refinement(details, _channels_last(network)))
                flow = flow.permute(0, 3, 1, 2)
            miss, inside = round_trip(flow, flow.flip(0))
            valid = inside & consistent(flow, miss) & known
            if refine:
                T, = upload(device, np.stack([motion_of_still_scene(*seen) for seen in zip(
                    _channels_last(flow), valid[:, 0].cpu().numpy(), depth[:, 0].cpu().numpy(),
                    K.cpu().numpy(), T.cpu().numpy())]))
                rigid, _ = rigid_flow(depth, T.float(), K)
            turned = T.float().clone()
            turned[:, :3, 3] = 0
            parallax = rigid - rigid_flow(torch.ones_like(depth), turned, K)[0]
            heard = refuted(images, images.flip(0), flow, rigid)
        valid, heard = (mask[:, 0].cpu().numpy() for mask in (valid, heard))
        rigid = torch.where(known, rigid, torch.nan)
        flow, rigid, parallax, network = (
            _channels_last(f) for f in (flow, rigid, parallax, network))
        score = np.where(heard, self._score(flow, rigid, parallax), np.float32(0))
        score[~valid] = np.nan
        if self._smoothing and self._last is not None:
            self._carry_along(score[1], flow[1])
        self._last = score[1]
        moving = np.nan_to_num(score, nan=0.0) > self._score.threshold
        reason = _undecided(moving[1], valid[1])
        moving = np.stack([solid(mask) for mask in moving])
        if reason:
            moving[:] = False
        return FlowEstimate(
            *(FlowField(flow[i], rigid[i], valid[i], score[i], moving[i], parallax[i], network[i])
              for i in (0, 1)),
            later.camera, earlier.stamp, later.stamp, reason)

    def _carry_along(self, score, flow):
        """Mix the score of the frame before into that of the newest, where flow leads back."""
        before = flow_warp(torch.from_numpy(self._last)[None, None],
                           torch.from_numpy(flow).permute(2, 0, 1)[None])[0][0, 0].numpy()
        carried = self._smoothing * before + (1 - self._smoothing) * score
        np.copyto(score, carried, where=np.isfinite(carried))


class _Finest(nn.Module):
    """Flow at the size of the input alone."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        """Return flow, pixels, shape (2, 2, h, w)."""
        return self.network(x)[0]


def _channels_last(fields):
    """Return fields of pixels, (B, 2, h, w), as arrays of shape (B, h, w, 2)."""
    return np.ascontiguousarray(fields.permute(0, 2, 3, 1).cpu().numpy())


def _undecided(moving, valid):
    """Return why it cannot be told what moves, empty if it can."""
    seen = valid.mean()
    if seen < SMALLEST_SEEN:
        return (f'only {100 * seen:.0f} % of the image are seen in the frame before as well, too '
                'little to tell what moves')
    share = moving[valid].mean()
    if share > LARGEST_MOVING:
        return (f'{100 * share:.0f} % of the image move otherwise than the camera says: either '
                'nearly everything moves, or the motion of the camera is wrong')
    return ''
