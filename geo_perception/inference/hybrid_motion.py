# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
How the camera moved, by corners among points of known depth; by the network where they fail.

It stands in the place of a `geo_perception.inference.motion.MotionNetwork`. Corners are told to be
where they would be if the camera went on as before. Where too few agree the network, or alignment,
is asked for the motion, and they are looked for once more from there. If that does not help the
frame has the motion of the network alone, and the map begins anew.
"""

import numpy as np

from geo_perception.geometry.se3 import inverse_transform, make_transform
from geo_perception.inference.local_map import FEWEST, LocalMap
from geo_perception.inference.turn_alignment import turn_between

HYBRID = 'hybrid'


class HybridMotion:
    """
    Motions from a local map, with the network to fall back on.

    Parameters
    ----------
    network : MotionNetwork or DirectMotion
        The fallback.
    scaled_by_network : bool
        Whether depth says what a metre is; False where that is measured in the map, whose own
        scale then is of no account.

    Attributes
    ----------
    memory : int
        Frames before the last two that the network wants to see.
    keeps_key_frames : bool
        False: the previous frame is always the last one.
    state : str
        ``hybrid``, or ``network alone: `` and why, of the last motion.
    covariance : np.ndarray or None
        What the corners leave open of the last motion, 6x6, order (x, y, z, rot X, rot Y, rot Z),
        axes of the previous camera, units of the network and radians squared; None where it is
        the network's.

    """

    keeps_key_frames = False

    def __init__(self, network, scaled_by_network=True):
        self._network, self._scaled_by_network = network, scaled_by_network
        self.memory = network.memory
        self.state, self.covariance = HYBRID, None
        self._map = None
        self._has_news = False
        # The two frames of the last motion, their poses in the map and how sure these are.
        self._frames = []

    def describe(self):
        """
        Return how following corners goes, for people.

        Returns
        -------
        dict
            Name to text.

        """
        values = {'tracking': self.state}
        if self._map is not None:
            values['corners'] = str(self._map.agreeing)
            # Far from 1 the network's depth of this view is off, or the map has drifted.
            values['map scale over network'] = f'{self._map.scale_ratio:.3f}'
        return values

    @property
    def scale_spread(self):
        """Relative standard deviation of the scale of the map; 0 where metres are its own."""
        return self._map.scale_spread if self._scaled_by_network and self._map else 0.0

    def __call__(self, earlier, previous, current, guess):
        """
        Return how the camera moved between two frames.

        Parameters
        ----------
        earlier, previous, current, guess
            See `geo_perception.inference.motion.MotionNetwork`; the frames have ``features``.

        Returns
        -------
        np.ndarray
            ``T_previous_current``, 4x4, units of the network.

        """
        known = self._known(previous)
        T_network = None
        if known is None:
            self._map = LocalMap(previous.features, previous.depth, previous.camera.K)
            known = np.eye(4), np.zeros((6, 6))
        T_previous, unsure = known
        reason = self._map.follow(current.features)
        if reason and self._map.size >= FEWEST:
            T_network = self._ask_network(earlier, previous, current, guess)
            if np.isfinite(T_network).all():
                reason = self._map.follow(
                    current.features, inverse_transform(self._map.T) @ T_previous @ T_network)
        if reason:
            self._map, self.state, self.covariance = None, f'network alone: {reason}', None
            return (self._ask_network(earlier, previous, current, guess) if T_network is None
                    else T_network)
        self.state, own = HYBRID, self._map.covariance()
        to_previous = np.kron(np.eye(2), T_previous[:3, :3].T)
        self.covariance = to_previous @ (unsure + own) @ to_previous.T
        if self._map.is_key_frame():
            try:
                T_previous = self._map.add_key_frame(
                    current.depth, current.camera.K) @ T_previous
                self._has_news = True
            except np.linalg.LinAlgError:
                # The pose stands, what holds the window together does not: the next one is new.
                self._frames = []
                return inverse_transform(T_previous) @ self._map.T
        self._frames = [(previous, T_previous, unsure), (current, self._map.T, own)]
        return inverse_transform(T_previous) @ self._map.T

    def news(self):
        """
        Return where points are as parallax has them, once for each key frame.

        Returns
        -------
        np.ndarray or None
            In the camera of the last frame, units of the network, shape (N, 3); None where it
            is no key frame.

        """
        has_news, self._has_news = self._has_news, False
        return self._map.points_ahead() if has_news and self._map is not None else None

    def leave_out(self, moving, K):
        """
        Follow no corner any longer that lies on what moves by itself.

        Parameters
        ----------
        moving : np.ndarray
            Bool, of the last frame, shape (h, w).
        K : np.ndarray
            Intrinsics of that mask, 3x3.

        """
        if self._map is not None:
            self._map.leave_out(moving, K)

    def _ask_network(self, earlier, previous, current, guess):
        """Return the motion of the network; alignment begins where the whole image turned to."""
        turn = turn_between(previous.features, current.features, guess[:3, :3])
        if turn is not None:
            guess = make_transform(turn, guess[:3, 3])
        return self._network(earlier, previous, current, guess)

    def _known(self, view):
        """Return pose and covariance of a frame of the last motion, None of any other."""
        if self._map is None:
            return None
        return next((known for frame, *known in self._frames if frame is view), None)
