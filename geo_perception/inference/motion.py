# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
How the camera moved between two frames: by the ego-motion network of a model, or by alignment.

Which of both is what the model was trained with, see `geo_perception.training.direct_egomotion`.
"""

from dataclasses import dataclass
from typing import Optional

import numpy as np
import torch
from torch import nn

from geo_perception.errors import ModelFileError
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.direct_alignment import align_images
from geo_perception.geometry.projection import pose_vector_to_matrix
from geo_perception.geometry.se3 import (
    inverse_transform, make_transform, matrix_from_rotation_vector, rotation_vector_from_matrix)
from geo_perception.inference.depth import network_arguments
from geo_perception.inference.engine import Engine, resolve_device, upload
from geo_perception.inference.feature_tracks import FeatureImage
from geo_perception.inference.weights import build_network, load_weights
from geo_perception.networks.egomotion import EgoMotionNet


@dataclass(frozen=True)
class View:
    """
    One frame as the networks see it.

    Attributes
    ----------
    crop : np.ndarray
        uint8 RGB, shape (h, w, 3).
    depth : np.ndarray
        Units of the network, shape (h, w).
    camera : Camera
        Of the crop, without distortion.
    stamp : int
        Nanoseconds.
    focal_ratio : float
        Focal length in parts of that of the training camera.
    detail : np.ndarray or None
        The same view in more pixels, grey, uint8; None where nobody wants it.
    features : FeatureImage or None
        The whole image, where corners are followed in it.

    """

    crop: np.ndarray
    depth: np.ndarray
    camera: Camera
    stamp: int
    focal_ratio: float = 1.0
    detail: Optional[np.ndarray] = None
    features: Optional[FeatureImage] = None


def build_motion(model, device='auto', precision='auto', threads=0):
    """
    Return what a model finds motions with.

    Parameters
    ----------
    model : ModelFile
        A model for geometry.
    device, precision, threads
        As in `geo_perception.inference.engine.Engine`.

    Returns
    -------
    MotionNetwork or DirectMotion

    Raises
    ------
    ModelFileError
        When the model names another way, or something that it needs is missing, of the wrong
        shape or not finite.

    """
    name = network_arguments(model).get('egomotion_name', 'network')
    if name == 'direct':
        return DirectMotion(device)
    if name != 'network':
        raise ModelFileError(f'model file {model.path} finds motions by "{name}", which is '
                             'unknown here; update geo_perception')
    return MotionNetwork(model, device, precision, threads)


class DirectMotion:
    """
    Alignment of two images through the depth of the first.

    Parameters
    ----------
    device : str
        As in `geo_perception.inference.engine.Engine`.

    Attributes
    ----------
    memory : int
        0: nothing before the two is asked for.
    snippet_length : int
        0: it predicts no snippets.
    keeps_key_frames : bool
        Whether the previous frame may lie further back than in training.

    """

    memory, snippet_length, keeps_key_frames = 0, 0, True

    def __init__(self, device='auto'):
        self._device = resolve_device(device)

    def __call__(self, earlier, previous, current, guess):
        """
        Return how the camera moved between two frames.

        Parameters
        ----------
        earlier : sequence of View
            Not used.
        previous, current : View
            The two.
        guess : np.ndarray
            Where alignment begins: about ``T_previous_current``, 4x4, units of the network.

        Returns
        -------
        np.ndarray
            ``T_previous_current``, 4x4, units of the network.

        """
        images, depth, K, initial = upload(
            self._device, np.stack([previous.crop, current.crop]), previous.depth,
            *(x.astype(np.float32) for x in (previous.camera.K, inverse_transform(guess))))
        images = images.permute(0, 3, 1, 2) / 127.5 - 1
        with torch.inference_mode():
            T, _ = align_images(images[:1], images[1:], depth[None, None], K[None], initial[None])
        return inverse_transform(T[0].double().cpu().numpy())


class MotionNetwork:
    """
    The ego-motion network of a model, with its engine.

    Parameters
    ----------
    model : ModelFile
        A model for geometry.
    device, precision, threads
        As in `geo_perception.inference.engine.Engine`; ``auto`` is 32 bits, for rounding of
        motion adds up along the way and the network is small.

    Attributes
    ----------
    memory : int
        Frames before the last two that it wants to see.
    snippet_length : int
        Frames of a snippet: all that it sees at once.
    keeps_key_frames : bool
        Whether the previous frame may lie further back than in training.

    Raises
    ------
    ModelFileError
        When something that it needs is missing, of the wrong shape or not finite.

    """

    keeps_key_frames = False

    def __init__(self, model, device='auto', precision='auto', threads=0):
        arguments = network_arguments(model)['egomotion']
        # Masks are for training; imported files may have what makes them.
        network = build_network(model, EgoMotionNet, **{**arguments, 'explainability': False})
        network = load_weights(network, model, 'egomotion.')
        preprocessing = model.metadata.preprocessing
        if network.sources < 2 or network.sources % 2:
            raise ModelFileError(f'model file {model.path} has an ego-motion network for '
                                 f'{network.sources} sources; expected 2 or 4')
        self.memory, self.snippet_length = network.sources - 1, network.sources + 1
        example = np.random.default_rng(0).integers(
            0, 256, (network.sources + 1, *preprocessing.crop, 3), np.uint8)
        # Its steps in the unit of the depth; published ones have one unit.
        self._scale = egomotion_scale(model)
        self._engine = Engine(_Poses(network, preprocessing), example, device,
                              'fp32' if precision == 'auto' else precision, threads)

    def __call__(self, earlier, previous, current, guess):
        """
        Return how the camera moved between two frames.

        Parameters
        ----------
        earlier : sequence of View
            Frames before those, in order of time, at most ``memory``. While there are too few
            the first one is repeated: the camera stood still before.
        previous, current : View
            The two.
        guess : np.ndarray
            Not used.

        Returns
        -------
        np.ndarray
            ``T_previous_current``, 4x4, units of the network.

        """
        crops = [view.crop for view in (*earlier, previous, current)]
        missing = self.memory + 2 - len(crops)
        T = self._predict([crops[0]] * missing + crops)
        return correct_focal_length(newest_motion(T).numpy(), current.focal_ratio)

    def snippet(self, crops, focal_ratio=1.0):
        """
        Return everything that is predicted for a snippet.

        Parameters
        ----------
        crops : sequence of np.ndarray
            ``snippet_length`` frames in order of time, uint8 RGB, shape (h, w, 3).
        focal_ratio : float
            Of all of them, see `View`.

        Returns
        -------
        np.ndarray
            ``T_frame_target`` of each frame, shape (L, 4, 4), units of the network: the target is
            the middle one, with the identity.

        """
        T_target_source = [correct_focal_length(T, focal_ratio)
                           for T in inverse_transform(self._predict(crops).numpy())]
        return inverse_transform(np.insert(T_target_source, len(crops) // 2, np.eye(4), axis=0))

    def _predict(self, crops):
        """Return ``T_source_target`` of all sources, float64, shape (n, 4, 4)."""
        T = pose_vector_to_matrix(self._engine(np.stack(crops)).double())
        T[:, :3, 3] *= self._scale
        return T


class _Poses(nn.Module):
    """From uint8 snippets to ego-motion vectors."""

    def __init__(self, network, preprocessing):
        super().__init__()
        self.network, self._preprocessing = network, preprocessing

    def forward(self, crops):
        """Return vectors of ``T_source_target``, shape (n, 6)."""
        images = self._preprocessing.normalise(crops)
        centre = len(images) // 2
        sources = torch.cat([images[:centre], images[centre + 1:]])
        return self.network(images[centre:centre + 1], sources[None])[0][0]


def egomotion_scale(model):
    """
    Return how long a step of the ego-motion network is in units of the depth.

    Parameters
    ----------
    model : ModelFile
        A model for geometry.

    Returns
    -------
    float
        1 where validation has not measured it.

    Raises
    ------
    ModelFileError
        When the file says something that is no number above zero.

    """
    scale = model.metadata.calibration.get('egomotion_scale', 1.0)
    if not isinstance(scale, (int, float)) or not 0 < scale < np.inf:
        raise ModelFileError(f'model file {model.path} is of no use: its calibration says '
                             f'egomotion_scale = {scale}')
    return float(scale)


def newest_motion(T_source_target):
    """
    Return the motion between the last two frames of a snippet.

    Parameters
    ----------
    T_source_target : torch.Tensor
        Of all sources in order of time, shape (..., n, 4, 4).

    Returns
    -------
    torch.Tensor
        ``T_previous_current``, shape (..., 4, 4): for three frames the inverse of the last
        one's, for the target is the frame before it (sfmlearner.md section 3.5).

    """
    newest = torch.linalg.inv(T_source_target[..., -1, :, :])
    if T_source_target.shape[-3] == 2:
        return newest
    return T_source_target[..., -2, :, :] @ newest


def correct_focal_length(motion, ratio):
    """
    Return a motion as another focal length sees it, see `geo_perception.inference.depth`.

    Parameters
    ----------
    motion : np.ndarray
        ``T_previous_current`` as if the training camera had seen it, 4x4.
    ratio : float
        Focal length of the camera in parts of that of the training camera.

    Returns
    -------
    np.ndarray
        4x4: the way along the optical axis grows by the ratio, turns across it shrink by it.

    """
    omega = rotation_vector_from_matrix(motion[:3, :3]) / [ratio, ratio, 1.0]
    return make_transform(matrix_from_rotation_vector(omega),
                          motion[:3, 3] * [1.0, 1.0, ratio])
