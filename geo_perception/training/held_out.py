# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
What a relocalizer answers where it was not trained.

Frames between training frames are easy, views rendered from training frames too: both show what
the network has learned by heart. How wrong it is elsewhere shows when long stretches of the
drive are left out, with every rendered view that has a pixel of them, and a head is trained on
the rest.
"""

from dataclasses import dataclass

import numpy as np
import torch

from geo_perception.geometry.se3 import rotation_vector_from_matrix
from geo_perception.inference.novelty import Novelty, pooled
from geo_perception.inference.uncertainty import summarise_samples
from geo_perception.networks.rotation import decode_rotation
from geo_perception.progress import track

MONTE_CARLO_SAMPLES = 40
# So many steps for each stretch at most: a head learns what generalises first.
LARGEST_STEPS = 400
# The cloud of training features is fitted to this many at most, spread evenly.
LARGEST_CLOUD = 2000
BATCH = 128
LARGEST_GRADIENT = 5.0


@dataclass(frozen=True)
class Answers:
    """
    Monte-Carlo answers beside the truth.

    Attributes
    ----------
    errors : torch.Tensor
        ``[x_true - x; Log(R_true R^T)]``, metres and radians, float64, shape (N, 6).
    covariances : torch.Tensor
        Of the samples, shape (N, 6, 6).
    novelties : torch.Tensor
        Shape (N,); all 1 where none is known.

    """

    errors: torch.Tensor
    covariances: torch.Tensor
    novelties: torch.Tensor


def answer(network, rotation, features, poses, novelty=None):
    """
    Return what inference would answer.

    Parameters
    ----------
    network : PoseRegressor
        In evaluation mode.
    rotation : str
        Parametrisation of its rotation.
    features : torch.Tensor
        From ``network.upper``, shape (N, ...).
    poses : torch.Tensor
        The truth, ``T_world_camera``, shape (N, 4, 4).
    novelty : Novelty, optional
        The cloud of the training features.

    Returns
    -------
    Answers
        On the CPU.

    """
    masks = [m.to(features.device) for m in network.draw_masks(
        MONTE_CARLO_SAMPLES, torch.Generator().manual_seed(0))]
    errors, covariances = [], []
    for feature, pose in zip(features, poses.double().cpu().numpy()):
        x, raw = network.regress(feature[None], masks)
        R = decode_rotation(raw, rotation)
        x, R, covariance = summarise_samples(x.double().cpu().numpy(), R.double().cpu().numpy())
        errors.append(np.concatenate([
            pose[:3, 3] - x, rotation_vector_from_matrix(pose[:3, :3] @ R.T)]))
        covariances.append(covariance)
    novelties = (torch.ones(len(features)) if novelty is None
                 else novelty(pooled(features).cpu()))
    return Answers(torch.from_numpy(np.stack(errors)), torch.from_numpy(np.stack(covariances)),
                   novelties.double())


@torch.no_grad()
def training_cloud(network, inputs, rows):
    """
    Return the cloud of the features of training views.

    Parameters
    ----------
    network : PoseRegressor
        With a frozen part.
    inputs : np.ndarray
        Output of that part, one a view.
    rows : np.ndarray
        Which views were trained on.

    Returns
    -------
    Novelty

    """
    rows = rows[::max(1, -(-len(rows) // LARGEST_CLOUD))]
    device = next(network.parameters()).device
    return Novelty.fit(torch.cat([
        pooled(network.upper(_batch(inputs, rows[i:i + BATCH], device)).float()).cpu()
        for i in range(0, len(rows), BATCH)]))


def held_out_answers(module, views, stretches, steps, batch_size):
    """
    Leave out each stretch of the drive once, and answer for its frames.

    Parameters
    ----------
    module : RelocalizationModule
        Says how to train.
    views : FrozenViews
        What is trained on.
    stretches : int
        Into how many the drive is cut.
    steps : int
        Training steps for each.
    batch_size : int
        Views a step.

    Returns
    -------
    Answers

    """
    frames = len(views.recorded)
    stretch = np.arange(frames) * stretches // frames
    found = []
    with torch.random.fork_rng(), torch.inference_mode(False), torch.enable_grad():
        for i in track(range(stretches), 'Leaving out stretches'):
            left_out = np.flatnonzero(stretch == i)
            rows = np.flatnonzero(~np.isin(views.sources, left_out).any(1))
            network = _trained(module, views, rows, steps, batch_size, i)
            with torch.no_grad():
                device = next(network.parameters()).device
                features = torch.cat([
                    network.upper(_batch(views.inputs, left_out[j:j + BATCH], device)).float()
                    for j in range(0, len(left_out), BATCH)])
                found.append(answer(network, module.rotation, features,
                                    torch.from_numpy(views.poses[left_out]),
                                    training_cloud(network, views.inputs, rows)))
    return Answers(*(torch.cat([getattr(a, name) for a in found])
                     for name in ('errors', 'covariances', 'novelties')))


def _batch(inputs, rows, device):
    return torch.from_numpy(inputs[rows]).to(device).float()


def _trained(module, views, rows, steps, batch_size, seed):
    """Return a network trained on some of the views."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    network, loss, optimizer, schedule = module.untrained(views.poses[rows], steps)
    for _ in range(steps):
        chosen = random.choice(rows, batch_size)
        value = module.loss_of(network, loss, _batch(views.inputs, chosen, module.device),
                               torch.from_numpy(views.poses[chosen]).to(module.device))
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        schedule.step()
    return network.eval()
