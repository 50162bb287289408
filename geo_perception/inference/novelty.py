# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
How far an image is from all that a network was trained on.

Off the training path errors grow long before samples of dropout spread. The features of such
images lie outside the cloud that the training views fill, and the distance to it says by how much
(Mahalanobis distance, as Lee et al. 2018 use it to recognise foreign inputs).
"""

from dataclasses import dataclass

import numpy as np
import torch

from geo_perception.errors import ModelFileError

MEAN, ROOT = 'novelty.mean', 'novelty.root'
# Part of the mean variance that each direction has at least: the least ones are known badly.
SHRINKAGE = 0.1


def pooled(features):
    """
    Return one vector an image.

    Parameters
    ----------
    features : torch.Tensor
        From `PoseRegressor.features`, shape (B, C) or (B, C, h, w).

    Returns
    -------
    torch.Tensor
        Mean over the map, shape (B, C).

    """
    return features.flatten(2).mean(2) if features.dim() > 2 else features


@dataclass(frozen=True)
class Novelty:
    """
    The cloud of the features of all training views.

    Attributes
    ----------
    mean : torch.Tensor
        Shape (C,), float32.
    root : torch.Tensor
        Turns and scales the cloud to a ball: the mean square of ``root (x - mean)`` over it is
        at most 1, shape (C, C), float32.

    """

    mean: torch.Tensor
    root: torch.Tensor

    @classmethod
    def fit(cls, features):
        """
        Return the cloud of some features.

        Parameters
        ----------
        features : torch.Tensor
            From `pooled`, shape (N, C).

        Returns
        -------
        Novelty

        """
        x = features.double()
        mean = x.mean(0)
        covariance = (x - mean).T @ (x - mean) / max(len(x) - 1, 1)
        n = len(covariance)
        least = SHRINKAGE * covariance.trace() / n + 1e-12
        values, axes = torch.linalg.eigh(covariance + least * torch.eye(n).to(x))
        return cls(mean.float(), (axes / (n * values).sqrt()).T.float())

    @classmethod
    def from_model(cls, model):
        """
        Return the cloud in a model file.

        Parameters
        ----------
        model : ModelFile
            For relocalization.

        Returns
        -------
        Novelty or None
            None where the file has none.

        Raises
        ------
        ModelFileError
            When it is damaged.

        """
        mean, root = model.tensors.get(MEAN), model.tensors.get(ROOT)
        if mean is None and root is None:
            return None
        if (mean is None or root is None or mean.ndim != 1 or root.shape != 2 * mean.shape
                or not (np.isfinite(mean).all() and np.isfinite(root).all())):
            shapes = [None if x is None else x.shape for x in (mean, root)]
            raise ModelFileError(f'model file {model.path} has {MEAN} and {ROOT} of the shapes '
                                 f'{shapes[0]} and {shapes[1]}, or not finite; expected (C,) and '
                                 '(C, C); export it again')
        return cls(*(torch.from_numpy(np.asarray(x, np.float32)) for x in (mean, root)))

    def tensors(self):
        """
        Return what the model file keeps.

        Returns
        -------
        dict of str to np.ndarray

        """
        return {MEAN: self.mean.cpu().numpy(), ROOT: self.root.cpu().numpy()}

    def __call__(self, features):
        """
        Return how novel images are.

        Parameters
        ----------
        features : torch.Tensor
            From `pooled`, shape (B, C).

        Returns
        -------
        torch.Tensor
            About 1 for training views, more for others, shape (B,).

        """
        return torch.linalg.vector_norm((features - self.mean) @ self.root.T, dim=1)
