# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What the plain training steps share: Adam on a loss that is made anew each time."""

import torch


class PlainTraining:
    """
    Training of twins of a module's networks on one batch in memory.

    Parameters
    ----------
    rate : float
        Of learning.
    *networks : torch.nn.Module
        Trained.

    """

    def __init__(self, rate, *networks):
        self._optimizer = torch.optim.Adam(
            [weight for network in networks for weight in network.parameters()], rate)

    def __call__(self):
        """Train for one step."""
        loss = self.loss()
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()

    def loss(self):
        """Return the loss."""
        raise NotImplementedError
