# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Disparity is learned from pairs alone, and a falling loss proves nothing (section 19.5)."""

import cv2
import numpy as np
import pytest
import torch

from geo_perception.losses.stereo import StereoLoss, StereoOptions
from geo_perception.networks.stereo import build_stereo_network

HEIGHT, WIDTH = 64, 128
BATCH = 2


def surface(random, disparity):
    """Return smooth texture, mixed with a colour that says the disparity."""
    texture = np.zeros((HEIGHT, WIDTH + 32, 3), np.float32)
    for cell in (4, 8, 16, 32):
        noise = random.random((HEIGHT // cell + 2, (WIDTH + 32) // cell + 2, 3), np.float32)
        texture += cell / 60 * cv2.resize(noise, texture.shape[1::-1],
                                          interpolation=cv2.INTER_LINEAR)
    colour = np.array([disparity / 12, 1 - disparity / 12, 0.5], np.float32)
    return 0.7 * texture + 0.3 * colour


def pair(seed):
    """Return a background and a rectangle before it as both eyes see them, and the disparity."""
    random = np.random.default_rng(seed)
    far, near = random.choice([4, 6]), random.choice([8, 12])
    top, left = random.integers(0, HEIGHT - 32), random.integers(16, WIDTH - 44)
    back, front = surface(random, far), surface(random, near)
    eyes, disparity = [], np.full((HEIGHT, WIDTH), far / WIDTH, np.float32)
    for shift in (0, 1):
        eye = back[:, shift * far:shift * far + WIDTH].copy()
        first = left - shift * near
        eye[top:top + 32, first:first + 40] = front[top:top + 32, left:left + 40]
        eyes.append(eye)
    disparity[top:top + 32, left:left + 40] = near / WIDTH
    return (*eyes, disparity)


def learn(steps, swapped):
    """Return the losses, and the last disparities with the true ones."""
    torch.manual_seed(0)
    network = build_stereo_network('monodepth_resnet50', {'width': 0.125})
    loss = StereoLoss(StereoOptions(border='published'))
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    losses = []
    for step in range(steps):
        left, right, true = (torch.tensor(np.stack(part)) for part in zip(
            *(pair(BATCH * step + i) for i in range(BATCH))))
        left, right = (eye.permute(0, 3, 1, 2).contiguous() for eye in (left, right))
        if swapped:
            left, right = right, left
        disparities = network(left)
        total = loss(left, right, disparities)['total']
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        losses.append(total.item())
    found = disparities[0][:, 0].detach()
    return losses, found, true


@pytest.fixture(autouse=True)
def one_thread():
    """Small maps are slower on more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_disparity_is_learned_from_pairs():
    """To a pixel or two, from nothing but that one eye's image is to be the other's."""
    losses, found, true = learn(100, False)
    assert np.mean(losses[-10:]) < 0.25 * losses[0]
    assert (found - true)[..., 13:].abs().median() < 0.02


def test_swapped_eyes_collapse():
    """The loss falls all the same, and disparity dies; test_rig_check.py refuses such pairs."""
    losses, found, _ = learn(60, True)
    # It began in the middle of its range, 0.15, and everything is to the left of where it looks.
    assert np.mean(losses[-10:]) < 0.5 * losses[0]
    assert found.mean() < 0.04
