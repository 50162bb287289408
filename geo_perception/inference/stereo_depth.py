# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Metric depth of one image, by a network that was trained on stereo pairs (monodepth.md 12)."""

from dataclasses import dataclass
from typing import Optional

import cv2
import numpy as np
import torch
from torch import nn

from geo_perception.errors import ConfigurationError
from geo_perception.inference.canonical_view import (
    CanonicalView, is_outside, LARGEST_PADDING)
from geo_perception.inference.depth import DepthEstimate
from geo_perception.inference.engine import Engine
from geo_perception.inference.rectification import Rectifier
from geo_perception.inference.tape_scale import read_tape_scale
from geo_perception.inference.visual_odometry import is_blank
from geo_perception.inference.weights import build_network, load_weights, stereo_rig
from geo_perception.model_file import load_model_file
from geo_perception.networks.stereo import build_stereo_network

JOB = 'stereo_depth'
# What is made of images of another camera than that of training (monodepth.md section 18.1).
CAMERA_POLICIES = 'resize', 'canonical_crop'
# Parts of the width at either side that come from one pass alone, and where both count alike.
RAMP_FROM, RAMP_TO = 0.05, 0.10
# How fast confidence falls with the relative disagreement.
CONFIDENCE_RATE = 10.0
# Focal lengths over the size of the image that are this far apart (relative) are another camera.
USUAL_CAMERA = 0.05
# Disparity within this part of the largest one is at the end of what the network can say, less
# than so many pixels of its image at the other end; both are told where a share of it is there.
AT_THE_END, DEAD_PIXELS = 0.95, 0.25
SATURATED_SHARE, DEAD_SHARE = 0.3, 0.95


@dataclass(frozen=True)
class StereoDepthEstimate(DepthEstimate):
    """
    The depth of one image, with what it was made of.

    Attributes
    ----------
    disparity : np.ndarray
        Parts of the width of the image, float32, shape (h, w).
    confidence : np.ndarray
        0..1, float32, shape (h, w): of both passes with post-processing, else of both
        disparities.
    warning : str
        What makes the depth doubtful, one sentence; mostly empty.
    scale : float
        The factor of the tape measure that is in the depth.

    """

    disparity: Optional[np.ndarray] = None
    confidence: Optional[np.ndarray] = None
    warning: str = ''
    scale: float = 1.0


class StereoDepthPipeline:
    """
    Depth from single images.

    Parameters
    ----------
    model : ModelFile
        A model for depth from stereo pairs.
    device, precision, threads
        As in `geo_perception.inference.engine.Engine`.
    post_process : bool
        Look at the mirror image as well, in the same batch, and take from each what it sees
        better: without, depth is doubtful at the left border and left of what is near.
    scale : float
        Factor on depth, from a calibration with a tape measure.
    camera_policy : str
        ``resize``: the network sees the whole image, and depth is rescaled for the focal length.
        ``canonical_crop``: it sees what the camera of training would have seen, and nothing is
        rescaled; where more than `LARGEST_PADDING` of that lies beyond the image, it is the
        former, with a warning.

    Attributes
    ----------
    model : ModelFile
        What it was made from.
    scale : float
        The factor; it may be changed.
    baseline : float
        Of the rig that it was trained with, metres.
    reach : float
        Depth at a disparity of the whole width, with the training camera and no factor, metres.
    largest_disparity : float
        That it can say, parts of the width.

    Raises
    ------
    ModelFileError
        When something that it needs is missing, of the wrong shape or not finite.
    ConfigurationError
        When there is no such policy.

    """

    def __init__(self, model, device='auto', precision='auto', threads=0, post_process=False,
                 scale=1.0, camera_policy='resize'):
        metadata = model.metadata
        self.model, self.scale = model, scale
        if camera_policy not in CAMERA_POLICIES:
            raise ConfigurationError(f'camera_policy "{camera_policy}" is unknown; choose '
                                     f'{" or ".join(CAMERA_POLICIES)}')
        self._crops = camera_policy == 'canonical_crop'
        preprocessing = metadata.preprocessing
        arguments, reach = stereo_rig(metadata, model.path)
        network = build_network(model, build_stereo_network, metadata.architecture, arguments)
        height, width = preprocessing.crop
        network = load_weights(network, model)
        self._straightener, self._rectifier = Rectifier(preprocessing), Rectifier(preprocessing)
        self._whole = metadata.training_camera.camera()
        self._trained = self._rectifier.network_camera(self._whole)
        self.baseline = reach * width / self._trained.K[0, 0]
        self.reach, self.largest_disparity = reach, network.range.largest
        self._preprocessing, self._post_process = preprocessing, post_process
        example = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
        self._engine = Engine(_Disparities(network, preprocessing, post_process), example, device,
                              precision, threads)

    @classmethod
    def load(cls, path, **options):
        """
        Load a pipeline from a model file.

        Parameters
        ----------
        path : str or pathlib.Path
            The model file. Distances that were measured with it, see
            `geo_perception.inference.tape_scale`, are in the scale.
        **options
            As in the constructor.

        Returns
        -------
        StereoDepthPipeline

        """
        model = load_model_file(path, JOB)
        scale = options.pop('scale', 1.0) * read_tape_scale(model).factor
        return cls(model, scale=scale, **options)

    def nearest(self, camera=None):
        """
        Return the smallest depth that it can say.

        Parameters
        ----------
        camera : Camera, optional
            Of a depth image; by default that of training.

        Returns
        -------
        float
            Metres.

        """
        ratio = 1.0 if camera is None else \
            camera.K[0, 0] / camera.width * self._trained.width / self._trained.K[0, 0]
        return self.scale * self.reach * ratio / self.largest_disparity

    def describe(self):
        """
        Return device, library and precision in words.

        Returns
        -------
        str

        """
        return self._engine.describe()

    def view(self, image, camera):
        """
        Return what is made small and cropped for the network.

        Parameters
        ----------
        image, camera
            As of a call.

        Returns
        -------
        image : np.ndarray
            Of the window that the training camera would have seen, or the whole as it is.
        camera : Camera or None
            Of that.

        Raises
        ------
        ImageError, ConfigurationError
            As of a call.

        """
        if not self._crops or camera is None:
            return image, camera
        straight = self._straightener.straighten(image, camera)
        window = CanonicalView.of(camera, self._whole)
        if window.padding > LARGEST_PADDING:
            return image, camera
        return window.cut(straight), window.camera(camera)

    def __call__(self, image, camera):
        """
        Return the depth of an image.

        Parameters
        ----------
        image : np.ndarray
            (H, W, 3) uint8 RGB.
        camera : Camera or None
            Of that image, whose distortion is removed; None where unknown: depth is not metric
            then, for the same image may be of a near thing by a wide camera or of a far one by a
            narrow camera.

        Returns
        -------
        StereoDepthEstimate
            At the resolution of the image; NaN beyond it, where the view reaches there.

        Raises
        ------
        ImageError
            When it is no image, or not of the size that its camera has.
        ConfigurationError
            When the intrinsics are absurd.

        """
        view, view_camera = self.view(image, camera)
        crop, seen = self._rectifier(view, view_camera)
        if is_blank(crop):
            return self._nothing(view, seen)
        first, second = self._engine(crop[None])[0].numpy()
        doubt = second if self._post_process else _disagreement(first, second)
        confidence = np.exp(-CONFIDENCE_RATE * doubt / np.maximum(first, 1e-6))
        size = self._output_size(view)
        # Disparity is enlarged, not depth, whose mean of near and far is neither.
        disparity = cv2.resize(first, size, interpolation=cv2.INTER_LINEAR)
        confidence = cv2.resize(confidence, size, interpolation=cv2.INTER_LINEAR)
        taken = self._trained if seen is None else seen
        focal = taken.K[0, 0] / taken.width
        scale = self.scale
        depth = np.float32(scale * self.baseline * focal) / np.maximum(disparity, 1e-9)
        warning = self._disparity_warning(first) or self._camera_warning(seen)
        shown = None if seen is None else seen.resized(*size)
        if view is not image:
            beyond = is_outside(shown, camera)
            depth[beyond] = disparity[beyond] = np.nan
            confidence[beyond] = 0.0
        return StereoDepthEstimate(depth, shown, seen is not None, disparity, confidence, warning,
                                   scale)

    # Offline evaluation asks for depth alone of every pipeline.
    depth_only = __call__

    def _nothing(self, image, seen):
        """Return that nothing is known."""
        size = self._output_size(image)
        unknown = np.full(size[::-1], np.nan, np.float32)
        return StereoDepthEstimate(
            unknown, None if seen is None else seen.resized(*size), seen is not None,
            unknown.copy(), np.zeros_like(unknown),
            'The image is black or blank: the lens is covered, or it is dark.')

    def _output_size(self, image):
        """Return (width, height) of the part of the image that the network sees."""
        height, width = image.shape[:2]
        resized = self._preprocessing.resized_size(width, height)
        rows, columns = self._preprocessing.crop
        return round(columns * width / resized[0]), round(rows * height / resized[1])

    def _disparity_warning(self, disparity):
        """Return whether disparity is at an end of what the network can say."""
        near = np.mean(disparity > AT_THE_END * self.largest_disparity)
        if near > SATURATED_SHARE:
            return (f'{100 * near:.0f} % of the image is nearer than the network can say '
                    f'({self.nearest():.2f} m with the training camera), or it was not trained '
                    'for such images.')
        if np.mean(disparity * disparity.shape[1] < DEAD_PIXELS) > DEAD_SHARE:
            return ('Disparity is next to nothing in the whole image: the network is dead '
                    '(trained on swapped or unaligned pairs?), or all is out of its range.')
        return ''

    def _camera_warning(self, seen):
        """Return what to think of depth from a camera unlike that of training."""
        if seen is None:
            return ''
        ratios = [seen.K[i, i] / self._trained.K[i, i] for i in (0, 1)]
        if max(abs(ratio - 1) for ratio in ratios) <= USUAL_CAMERA:
            return ''
        remedy = (f'more than {100 * LARGEST_PADDING:.0f} % of what that camera would see lies '
                  'beyond the image, so that it could not be cut out' if self._crops else
                  'camera_policy canonical_crop shows them what that camera would have seen')
        return (f'The focal length is {ratios[0]:.2f} (across) and {ratios[1]:.2f} (down) times '
                'that of the training camera, in parts of the image: depth is rescaled for it, '
                f'but networks are not made for other cameras; {remedy}; or calibrate the scale, '
                'or train with pairs of this camera.')


class _Disparities(nn.Module):
    """From uint8 crops to two maps: disparity, and that of the other eye or what is doubtful."""

    def __init__(self, network, preprocessing, post_process):
        super().__init__()
        self.network, self._preprocessing = network, preprocessing
        self._post_process = post_process
        width = preprocessing.crop[1]
        self.register_buffer('_left', left_share(width))

    def forward(self, crops):
        """Return both maps of uint8 crops (1, h, w, 3), shape (1, 2, h, w)."""
        images = self._preprocessing.normalise(crops)
        if not self._post_process:
            return self.network(images)[0]
        both = self.network(torch.cat([images, images.flip(-1)]))[0][:, :1]
        direct, mirrored = both[:1], both[1:].flip(-1)
        return torch.cat([blend(direct, mirrored, self._left), (direct - mirrored).abs()], 1)


def left_share(width):
    """
    Return how much of each column comes from the mirrored pass alone (monodepth.md 12.1).

    Parameters
    ----------
    width : int
        Columns.

    Returns
    -------
    torch.Tensor
        0..1, shape (width,).

    """
    column = torch.linspace(0, 1, width)
    return 1 - ((column - RAMP_FROM) / (RAMP_TO - RAMP_FROM)).clamp(0, 1)


def blend(direct, mirrored, left):
    """
    Return the disparity of both passes.

    Parameters
    ----------
    direct : torch.Tensor
        Of the image, shape (..., W).
    mirrored : torch.Tensor
        Of the mirror image, mirrored back, same shape.
    left : torch.Tensor
        From `left_share`.

    Returns
    -------
    torch.Tensor
        Same shape: the left border from the mirrored pass, the right one from the direct one.

    """
    right = left.flip(-1)
    return right * direct + left * mirrored + (1 - left - right) * 0.5 * (direct + mirrored)


def _disagreement(left, right):
    """Return how far the disparity of the right eye, where the left one has it, is off."""
    height, width = left.shape
    column = np.arange(width, dtype=np.float32) - width * left
    row = np.repeat(np.arange(height, dtype=np.float32)[:, None], width, 1)
    there = cv2.remap(right, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.abs(there - left)
