# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The depth pipeline: one camera image in, its depth out."""

from dataclasses import dataclass
from typing import Optional

import numpy as np
from torch import nn

from geo_perception.errors import ModelFileError
from geo_perception.geometry.camera import Camera
from geo_perception.inference.engine import Engine
from geo_perception.inference.weights import build_network, load_weights
from geo_perception.networks.depth import build_depth_network
from geo_perception.networks.stereo import build_stereo_network, STEREO_NETWORKS


@dataclass(frozen=True)
class DepthEstimate:
    """
    The depth of one image.

    Attributes
    ----------
    depth : np.ndarray
        Along the optical axis, NaN where unknown, float32, shape (h, w) of the network's input:
        metres if ``metric``, else in the network's own unit.
    camera : Camera or None
        Pinhole intrinsics of that depth image, without distortion; None where the intrinsics
        of the image are unknown.
    metric : bool
        Whether the unit is metres.

    """

    depth: np.ndarray
    camera: Optional[Camera]
    metric: bool


class DepthNetwork:
    """
    The depth network of a model, with its engine.

    Another focal length is taken account of by rescaling: an image taken with f times the focal
    length of the training camera is, pixel by pixel, the image that the training camera takes of
    a world f times shallower, so depth is multiplied by f. Warping to the training camera first
    (sfmlearner.md section 9) would cost the border of a wide camera, or leave most of the
    network's input black with a narrow one; this keeps the whole image, is exact for any f, and
    goes over into nothing where the cameras are alike.

    Parameters
    ----------
    model : ModelFile
        A model for geometry.
    device, precision, threads
        As in `geo_perception.inference.engine.Engine`.

    Raises
    ------
    ModelFileError
        When something that it needs is missing, of the wrong shape or not finite.

    """

    def __init__(self, model, device='auto', precision='auto', threads=0):
        metadata = model.metadata
        self._preprocessing = metadata.preprocessing
        arguments = network_arguments(model)
        self._normalise = arguments.get('normalise_disparity', False)
        # Of a network for both eyes the first map is that of the eye that sees the image.
        build = build_stereo_network if metadata.architecture in STEREO_NETWORKS \
            else build_depth_network
        network = build_network(model, build, metadata.architecture, arguments['depth'])
        height, width = self._preprocessing.crop
        network = load_weights(network, model, 'depth.')
        self._training_focal_length = training_focal_length(metadata)
        example = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
        self._engine = Engine(_Disparity(network, self._preprocessing), example, device,
                              precision, threads)

    def describe(self):
        """
        Return device, library and precision in words.

        Returns
        -------
        str

        """
        return self._engine.describe()

    def __call__(self, crop, focal_ratio=1.0):
        """
        Return the depth of an image.

        Parameters
        ----------
        crop : np.ndarray
            uint8 RGB, shape (h, w, 3), contiguous and writable.
        focal_ratio : float
            From `focal_ratio`.

        Returns
        -------
        np.ndarray
            Units of the network, float32, shape (h, w).

        """
        disparity = self._engine(crop[None])[0, 0].numpy()
        if self._normalise:
            disparity = disparity / disparity.mean()
        return np.float32(focal_ratio) / disparity

    def focal_ratio(self, camera):
        """
        Return the focal length of a camera in parts of that of the training camera.

        Parameters
        ----------
        camera : Camera or None
            Of the crop; None where unknown.

        Returns
        -------
        float
            1 where either is unknown.

        """
        if camera is None or self._training_focal_length is None:
            return 1.0
        return float(_focal_length(camera) / self._training_focal_length)


class _Disparity(nn.Module):
    """From uint8 crops to the finest disparity."""

    def __init__(self, network, preprocessing):
        super().__init__()
        self.network, self._preprocessing = network, preprocessing

    def forward(self, crops):
        """Return disparity of uint8 crops, shape (1, h, w, 3)."""
        return self.network(self._preprocessing.normalise(crops))[0]


def network_arguments(model):
    """
    Return the arguments that build the networks of a geometry model.

    Parameters
    ----------
    model : ModelFile
        A model for geometry.

    Returns
    -------
    dict
        ``depth`` and ``egomotion``, and what else the model says.

    Raises
    ------
    ModelFileError
        When they are not there.

    """
    arguments = model.metadata.arguments
    for name in ('depth', 'egomotion'):
        if not isinstance(arguments.get(name), dict):
            raise ModelFileError(f'model file {model.path} does not say how its {name} network is '
                                 'built; export it again')
    return arguments


def training_focal_length(metadata):
    """
    Return the focal length that a network was trained with.

    Parameters
    ----------
    metadata : Metadata
        Of the model file.

    Returns
    -------
    float or None
        Pixels of its input; None where no camera was known in training.

    """
    trained = metadata.training_camera
    if trained is None:
        return None
    return _focal_length(trained.camera().resized(
        *metadata.preprocessing.resized_size(trained.width, trained.height)))


def _focal_length(camera):
    """Return the geometric mean of both focal lengths, pixels."""
    return np.sqrt(camera.K[0, 0] * camera.K[1, 1])
