# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The relocalization pipeline: one camera image in, one pose with its trustworthiness out."""

from dataclasses import asdict, dataclass
from typing import Optional

import numpy as np
import torch
from torch import nn

from geo_perception.errors import ConfigurationError, ModelFileError
from geo_perception.geometry.se3 import make_transform, rotate_pose_covariance
from geo_perception.inference.engine import ACCURATE, Engine
from geo_perception.inference.novelty import Novelty, pooled
from geo_perception.inference.rectification import checked_image
from geo_perception.inference.retrieval import Retrieval
from geo_perception.inference.uncertainty import Calibration, summarise_samples
from geo_perception.inference.weights import build_network, load_weights
from geo_perception.model_file import is_number, load_model_file
from geo_perception.networks.relocalization import build_regressor
from geo_perception.networks.rotation import decode_rotation, WIDTHS

JOB = 'relocalization'
# Rows x columns of dense crops on a landscape image (posenet.md section 6.3).
DENSE_GRID = (8, 16)


@dataclass(frozen=True)
class Relocalization:
    """
    The answer for one image.

    Attributes
    ----------
    T_world_camera : np.ndarray
        4x4, optical frame in the model's published world frame, metres.
    covariance : np.ndarray
        6x6, order (x, y, z, rot X, rot Y, rot Z), fixed world axes, SI units squared.
    score : float
        0..1; 1 for a frame like 95 % of the validation frames, 0.5 for one twice as uncertain
        or half as familiar.
    accepted : bool
        Whether the score reaches the gate.
    reason : str
        Why not, one sentence; empty when accepted.
    coarse : Relocalization, optional
        What the network alone said, where a place memory was asked as well.

    """

    T_world_camera: np.ndarray
    covariance: np.ndarray
    score: float
    accepted: bool
    reason: str
    coarse: Optional['Relocalization'] = None


class _Features(nn.Module):
    """From uint8 crops to the features before the first dropout layer."""

    def __init__(self, network, preprocessing):
        super().__init__()
        self.network, self._preprocessing = network, preprocessing

    def forward(self, crops):
        """Return features of uint8 crops, shape (1, h, w, 3)."""
        return self.network.features(self._preprocessing.normalise(crops))


class Relocalizer:
    """
    PoseNet with Monte-Carlo dropout, behind a confidence gate.

    Parameters
    ----------
    model : ModelFile
        A model for relocalization.
    device, precision, threads, accurate
        As in `Engine`.
    samples : int
        Monte-Carlo samples, not 1; 0 gives the deterministic pose and the calibrated floor only.
    gate : float
        Smallest score that is accepted, 0..1.

    Attributes
    ----------
    model : ModelFile
        What it was made from.
    world_frame : str
        Name of the frame that poses are given in.
    T_map_world : np.ndarray
        From the frame of the training labels to that frame, 4x4.
    retrieval : Retrieval or None
        The baseline over the training images, poses in that frame; None where they are unknown.

    Raises
    ------
    ModelFileError
        When something that it needs is missing, of the wrong shape or not finite.
    ConfigurationError
        When an option is out of range.

    """

    def __init__(self, model, device='auto', precision='auto', samples=40, threads=0, gate=0.5,
                 accurate=ACCURATE):
        if samples < 0:
            raise ConfigurationError(f'samples is {samples}; set 0 or more')
        if samples == 1:
            raise ConfigurationError('samples is 1, but one sample has no spread; set 0 or at '
                                     'least 2')
        metadata = model.metadata
        self.model = model
        self.world_frame = metadata.world_frame
        self.gate = gate
        self._preprocessing = metadata.preprocessing
        self._network = load_regressor(model)
        self._calibration = _load_calibration(model)
        self._novelty = Novelty.from_model(model)
        self.T_map_world = np.array(metadata.T_map_world)
        self.retrieval = Retrieval.from_model(model)
        generator = torch.Generator().manual_seed(0)
        # The same masks for every frame: equal images give equal poses.
        self._regress = (self._network.sampler(self._network.draw_masks(samples, generator))
                         if samples else self._network.regress)
        example = np.random.default_rng(0).integers(
            0, 256, (1, *self._preprocessing.crop, 3), np.uint8)
        self._engine = Engine(_Features(self._network, self._preprocessing), example, device,
                              precision, threads, accurate)

    @classmethod
    def load(cls, path, **options):
        """
        Load a pipeline from a model file.

        Parameters
        ----------
        path : str or pathlib.Path
            The model file.
        **options
            As in the constructor.

        Returns
        -------
        Relocalizer

        """
        return cls(load_model_file(path, JOB), **options)

    def describe(self):
        """
        Return device, library and precision in words.

        Returns
        -------
        str

        """
        return self._engine.describe()

    def __call__(self, image, camera=None):
        """
        Relocalize one image.

        Parameters
        ----------
        image : np.ndarray
            (H, W, 3) uint8 RGB, any size.
        camera : Camera, optional
            Its intrinsics, which pose regression has no use for.

        Returns
        -------
        Relocalization

        Raises
        ------
        ImageError
            When the array is no such image.

        """
        resized = self._preprocessing.resize(checked_image(image))
        # A copy: PyTorch wants arrays that it may write to, and decoded images are not.
        crop = np.array(self._preprocessing.centre_crop(resized), order='C')
        features = self._engine(crop[None])
        with torch.inference_mode():
            position, rotation = self._regress(features)
            novelty = (None if self._novelty is None
                       else float(self._novelty(pooled(features.float()))))
        return self._answer(image, position, rotation, novelty)

    def dense(self, image):
        """
        Relocalize one image from 128 crops, raw outputs averaged (posenet.md section 6.3).

        Slow: every crop is a trunk pass, in PyTorch.

        Parameters
        ----------
        image : np.ndarray
            (H, W, 3) uint8 RGB.

        Returns
        -------
        Relocalization
            Its covariance is the spread over crops.

        """
        resized = self._preprocessing.resize(checked_image(image))
        height, width = self._preprocessing.crop
        rows, columns = DENSE_GRID if resized.shape[1] >= resized.shape[0] else DENSE_GRID[::-1]
        tops = np.round(np.linspace(0, resized.shape[0] - height, rows)).astype(int)
        lefts = np.round(np.linspace(0, resized.shape[1] - width, columns)).astype(int)
        outputs = []
        with torch.inference_mode():
            for top in tops:
                for left in lefts:
                    crop = torch.from_numpy(resized[None, top:top + height, left:left + width])
                    offset = torch.tensor([[left, top]])
                    outputs.append(self._network(self._preprocessing.normalise(crop, offset)))
        return self._answer(image, *map(torch.cat, zip(*outputs)))

    def _answer(self, image, position, rotation, novelty=None):
        """Turn network outputs, one row a sample, and the novelty into the answer."""
        rotations = decode_rotation(rotation, self.model.metadata.rotation)
        position, R, covariance = summarise_samples(position.double().numpy(),
                                                    rotations.double().numpy())
        covariance = self._calibration.covariance(covariance, novelty)
        similarity = 1.0 if self.retrieval is None else self.retrieval.similarity(image)
        spread_score, similarity_score = self._calibration.scores(
            self._calibration.spread(covariance), similarity)
        score = min(spread_score, similarity_score)
        T = self.T_map_world @ make_transform(R, position)
        covariance = rotate_pose_covariance(covariance, self.T_map_world[:3, :3])
        return Relocalization(T, covariance, score, score >= self.gate,
                              self._refusal(score, spread_score, covariance))

    def _refusal(self, score, spread_score, covariance):
        """Return why a score does not pass the gate, empty if it does."""
        if score >= self.gate:
            return ''
        if spread_score > score:
            return (f'the image looks like no training image (score {score:.2f}, '
                    f'gate {self.gate:.2f})')
        sigma = np.sqrt(np.diag(covariance))
        return (f'the network is unsure: {np.linalg.norm(sigma[:3]):.2f} m, '
                f'{np.rad2deg(np.linalg.norm(sigma[3:])):.1f} deg (score {score:.2f}, '
                f'gate {self.gate:.2f})')


def _load_calibration(model):
    """Return the calibration of a model file."""
    try:
        calibration = Calibration(**model.metadata.calibration)
    except TypeError as error:
        raise ModelFileError(f'model file {model.path} has an unknown calibration: {error}') \
            from error
    if not all(is_number(value) and (
                value > 0 or name == 'usual_similarity' or name.startswith('power') and value == 0)
               for name, value in asdict(calibration).items()):
        raise ModelFileError(f'model file {model.path} has a calibration that is not finite and '
                             f'positive: {calibration}')
    return calibration


def load_regressor(model):
    """
    Return the network of a model for relocalization.

    Parameters
    ----------
    model : ModelFile
        The model.

    Returns
    -------
    PoseRegressor
        In evaluation mode.

    Raises
    ------
    ModelFileError
        When something that it needs is missing, of the wrong shape or not finite.

    """
    metadata = model.metadata
    network = build_network(model, build_regressor, metadata.architecture, metadata.arguments)
    if network.rotation_width != WIDTHS.get(metadata.rotation):
        raise ModelFileError(f'model file {model.path} gives its rotation as {metadata.rotation}, '
                             f'which its arguments {metadata.arguments} do not fit')
    if network.input_size not in (None, tuple(metadata.preprocessing.crop)):
        raise ModelFileError(
            f'model file {model.path} crops images to {tuple(metadata.preprocessing.crop)}, its '
            f'network takes {network.input_size}')
    return load_weights(network, model)
