# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
The networks of a model as other programs want them: images in, documented results out.

What the model file says about images (order of channels, mean, divisor) is inside; resizing and
cropping are the caller's, as `Preprocessing` says.
"""

from dataclasses import dataclass
from typing import Tuple

import torch
from torch import nn

from geo_perception.errors import ModelFileError
from geo_perception.geometry.projection import pose_vector_to_matrix
from geo_perception.inference.depth import network_arguments, training_focal_length
from geo_perception.inference.flow import has_flow
from geo_perception.inference.flow_input import flow_input
from geo_perception.inference.motion import egomotion_scale
from geo_perception.inference.relocalizer import load_regressor
from geo_perception.inference.weights import build_network, load_weights, stereo_rig
from geo_perception.networks.depth import build_depth_network
from geo_perception.networks.egomotion import EgoMotionNet
from geo_perception.networks.flow import build_flow_network
from geo_perception.networks.posenet_lite import align_without_svd
from geo_perception.networks.rotation import decode_rotation
from geo_perception.networks.stereo import build_stereo_network

BATCH = 'batch'
# Of pixels of made-up rigid flow.
_SPREAD = 3.0


@dataclass(frozen=True)
class Port:
    """
    An input or output.

    Attributes
    ----------
    name : str
        In the graph.
    dtype : str
        ``uint8`` or ``float32``.
    shape : tuple
        Numbers; the first is ``batch``, which is free.
    meaning : str
        With unit and frames.

    """

    name: str
    dtype: str
    shape: Tuple
    meaning: str

    def example(self, batch, generator):
        """
        Return random values.

        Parameters
        ----------
        batch : int
            How many.
        generator : torch.Generator
            Where they come from.

        Returns
        -------
        torch.Tensor

        """
        shape = (batch, *self.shape[1:])
        if self.dtype == 'uint8':
            return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        return _SPREAD * torch.randn(shape, generator=generator)


@dataclass(frozen=True)
class Part:
    """
    A network with what is before and behind it.

    Attributes
    ----------
    name : str
        Of the file.
    module : torch.nn.Module
        Takes and returns tensors in the order of the ports; a tuple where there are several.
    inputs, outputs : tuple of Port
        Its ports.

    """

    name: str
    module: nn.Module
    inputs: Tuple[Port, ...]
    outputs: Tuple[Port, ...]


def onnx_parts(model):
    """
    Return the networks of a model.

    Parameters
    ----------
    model : ModelFile
        For any job.

    Returns
    -------
    list of Part

    Raises
    ------
    ModelFileError
        When something that they need is missing, of the wrong shape or not finite.

    """
    builders = {'relocalization': _relocalization, 'geometry': _geometry, 'stereo_depth': _stereo}
    job = model.metadata.job
    if job not in builders:
        raise ModelFileError(f'model file {model.path} is for {job}, which no pipeline runs')
    parts = builders[job](model)
    for part in parts:
        part.module.eval()
    return parts


def _images(model, name='images', words='Images'):
    """Return the port of images as the network takes them."""
    return Port(name, 'uint8', (BATCH, *model.metadata.preprocessing.crop, 3),
                f'{words}, RGB, resized and cropped as "preprocessing" says.')


def _relocalization(model):
    """Return the one network of a relocalizer, without dropout."""
    frame, network = model.metadata.world_frame, load_regressor(model)
    if hasattr(network, 'align'):
        network.align = align_without_svd
    return [Part('pose', _Pose(network, model.metadata), (_images(model),), (
        Port('position', 'float32', (BATCH, 3), f'Of the camera in {frame}, metres.'),
        Port('rotation', 'float32', (BATCH, 3, 3),
             f'From the optical frame (x right, y down, z forward) to {frame}.')))]


def _stereo(model):
    """Return the one network that was trained on stereo pairs."""
    metadata = model.metadata
    arguments, reach = stereo_rig(metadata, model.path)
    network = load_weights(build_network(model, build_stereo_network, metadata.architecture,
                                         arguments), model)
    return [Part('disparity', _Finest(network, metadata.preprocessing), (_images(model),), (
        Port('disparity', 'float32', (BATCH, 2, *metadata.preprocessing.crop),
             'Of the left and of the right eye, parts of the width; depth in metres is '
             f'{reach:.6g} / left disparity with the training camera, and grows with the focal '
             'length over the width.'),))]


def _geometry(model):
    """Return depth, and ego-motion and flow where they are networks."""
    metadata, arguments = model.metadata, network_arguments(model)
    size = metadata.preprocessing.crop
    images = _images(model)
    network = load_weights(build_network(model, build_depth_network, metadata.architecture,
                                         arguments['depth']), model, 'depth.')
    scale = metadata.calibration.get('metres_per_unit')
    unit = 'units of the network' + (f', {scale:.6g} m each' if scale else '')
    focal = training_focal_length(metadata)
    focal = f' ({focal:.6g} pixels)' if focal else ''
    parts = [Part('depth', _Depth(network, metadata.preprocessing,
                                  arguments.get('normalise_disparity', False)), (images,), (
        Port('depth', 'float32', (BATCH, *size), f'Along the optical axis, {unit}, for the focal '
             f'length of training{focal}; it grows with that.'),))]
    if arguments.get('egomotion_name', 'network') == 'network':
        network = build_network(model, EgoMotionNet,
                                **{**arguments['egomotion'], 'explainability': False})
        n = network.sources
        parts.append(Part(
            'ego_motion', _Motion(load_weights(network, model, 'egomotion.'),
                                  metadata.preprocessing),
            (_images(model, 'target', 'The frame in the middle'),
             Port('sources', 'uint8', (BATCH, n, *size, 3),
                  f'The {n} frames around it in order of time, prepared alike.')),
            (Port('T_source_target', 'float32', (BATCH, n, 4, 4),
                  'From the camera of the target to that of each source; translation times '
                  f'{egomotion_scale(model):.6g} is in {unit}.'),)))
    if has_flow(model):
        network = build_network(model, build_flow_network, arguments['flow_name'],
                                arguments.get('flow', {}))
        rigid = (Port('rigid_flow', 'float32', (BATCH, 2, *size),
                      'Flow by depth and motion, (u, v) pixels, from image to other.'),)
        parts.append(Part(
            'flow', _Flow(load_weights(network, model, 'flow.'),
                          arguments.get('flow_border', 'inclusive')),
            (_images(model, 'image', 'The image that flow belongs to'),
             _images(model, 'other', 'The image that it leads to'),
             *(rigid if network.variant == 'residual' else ())),
            (Port('flow', 'float32', (BATCH, 2, *size), '(u, v), pixels, from image to other.'),)))
    return parts


class _Pose(nn.Module):
    """From images to poses in the published frame."""

    def __init__(self, network, metadata):
        super().__init__()
        self.network, self._metadata = network, metadata
        self.register_buffer('_T', torch.tensor(metadata.T_map_world, dtype=torch.float64))

    def forward(self, images):
        """Return positions and rotation matrices."""
        x = self._metadata.preprocessing.normalise(images)
        position, rotation = self.network.regress(self.network.features(x))
        R, t = self._T[:3, :3].float(), self._T[:3, 3].float()
        return (position @ R.mT + t,
                R @ decode_rotation(rotation, self._metadata.rotation))


class _Finest(nn.Module):
    """From images to disparities at their size."""

    def __init__(self, network, preprocessing):
        super().__init__()
        self.network, self._preprocessing = network, preprocessing

    def forward(self, images):
        """Return disparities of both eyes."""
        return self.network(self._preprocessing.normalise(images))[0]


class _Depth(nn.Module):
    """From images to depth."""

    def __init__(self, network, preprocessing, normalise):
        super().__init__()
        self.network, self._preprocessing, self._normalise = network, preprocessing, normalise

    def forward(self, images):
        """Return depth, units of the network."""
        disparity = self.network(self._preprocessing.normalise(images))[0][:, 0]
        if self._normalise:
            disparity = disparity / disparity.mean((1, 2), keepdim=True)
        return 1.0 / disparity


class _Motion(nn.Module):
    """From snippets to motions."""

    def __init__(self, network, preprocessing):
        super().__init__()
        self.network, self._preprocessing = network, preprocessing

    def forward(self, target, sources):
        """Return motions, units of the network."""
        others = torch.stack([self._preprocessing.normalise(sources[:, i])
                              for i in range(self.network.sources)], 1)
        poses, _ = self.network(self._preprocessing.normalise(target), others)
        return pose_vector_to_matrix(poses)


class _Flow(nn.Module):
    """From two images, and the rigid flow between them, to flow."""

    def __init__(self, network, border):
        super().__init__()
        self.network, self._border = network, border

    def forward(self, image, other, rigid_flow=None):
        """Return flow, pixels."""
        image, other = (x.permute(0, 3, 1, 2).float() / 127.5 - 1 for x in (image, other))
        flow = self.network(flow_input(image, other, rigid_flow, self._border))[0]
        return flow if rigid_flow is None else rigid_flow + flow
