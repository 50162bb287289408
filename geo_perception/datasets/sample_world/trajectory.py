# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
The robot's three passes through the place, and what its wheels tell.

The robot drives rounds on a ring whose radius breathes, and sweeps its heading while it drives.
The training rounds interleave in radius and sweep; the other two passes run between them.
Body frame ``base_link``: on the floor, x forward, y left, z up (REP 103).
"""

from dataclasses import dataclass

import numpy as np

from geo_perception.geometry.se3 import (inverse_transform, make_transform, R_BODY_OPTICAL,
                                         rotation_vector_from_matrix)

RATE = 10.0                       # frames a second
_RING = np.array([1.42, 1.05])    # semi-axes, metres
_PITCH = np.deg2rad(5.0)          # camera looks down
T_BASE_CAMERA = make_transform(
    np.array([[np.cos(_PITCH), 0, np.sin(_PITCH)], [0, 1, 0],
              [-np.sin(_PITCH), 0, np.cos(_PITCH)]]) @ R_BODY_OPTICAL, [0.15, 0.0, 0.75])


@dataclass(frozen=True)
class Trajectory:
    """
    One pass, as a smooth function of time.

    Attributes
    ----------
    start : float
        Angle on the ring at time 0, radians.
    breaths, breath_phase, breath_depth : float
        Changes of the radius: breaths a round, radians, relative amplitude.
    sweeps, sweep_phase, sweep_angle : float
        Changes of the heading: sweeps a round, radians, amplitude in radians.
    lap : float
        Seconds a round.

    """

    start: float
    breaths: float
    breath_phase: float
    breath_depth: float
    sweeps: float
    sweep_phase: float
    sweep_angle: float
    lap: float

    def T_world_base(self, seconds):
        """
        Return the body pose at times since the start of the pass.

        Parameters
        ----------
        seconds : np.ndarray
            Shape (...).

        Returns
        -------
        np.ndarray
            Shape (..., 4, 4).

        """
        angle = 2 * np.pi * np.asarray(seconds, float) / self.lap
        radius = 1 + self.breath_depth * np.sin(self.breaths * angle + self.breath_phase)
        x, y = (_RING[:, None] * np.stack(
            [np.cos(angle + self.start), np.sin(angle + self.start)]).reshape(2, -1)
            ).reshape((2,) + angle.shape) * radius
        # Along the ring, a little inwards, and a sweep: views go across the room.
        yaw = (angle + self.start + np.pi / 2 + np.deg2rad(35)
               + self.sweep_angle * np.sin(self.sweeps * angle + self.sweep_phase))
        c, s, zero = np.cos(yaw), np.sin(yaw), np.zeros_like(yaw)
        R = np.stack([c, -s, zero, s, c, zero, zero, zero, zero + 1], -1)
        return make_transform(R.reshape(angle.shape + (3, 3)), np.stack([x, y, zero], -1))


TRAJECTORIES = {
    'train': Trajectory(start=0.0, breaths=4 / 3, breath_phase=0.0, breath_depth=0.17,
                        sweeps=5 / 3, sweep_phase=0.8, sweep_angle=0.55, lap=18.0),
    'val': Trajectory(start=2.3, breaths=1.39, breath_phase=3.6, breath_depth=0.15,
                      sweeps=1.85, sweep_phase=2.4, sweep_angle=0.5, lap=18.8),
    'test': Trajectory(start=1.1, breaths=1.45, breath_phase=2.0, breath_depth=0.13,
                       sweeps=2.1, sweep_phase=0.5, sweep_angle=0.45, lap=19.5),
}


def wheel_odometry(T_world_base, T_world_base_soon, soon):
    """
    Return drifting odometry of a pass: exact steps, each slightly wrong in scale and heading.

    The error grows smoothly to 1-2 % of the distance driven. The first pose is the identity.

    Parameters
    ----------
    T_world_base : np.ndarray
        True body poses of all frames, shape (N, 4, 4).
    T_world_base_soon : np.ndarray
        True body poses a moment after each frame, shape (N, 4, 4).
    soon : float
        Length of that moment, seconds.

    Returns
    -------
    poses : np.ndarray
        ``T_odom_base``, shape (N, 4, 4).
    twists : np.ndarray
        Velocity in the body frame (vx, vy, vz, wx, wy, wz), m/s and rad/s, shape (N, 6).

    """
    inverse = inverse_transform(T_world_base)
    poses = [np.eye(4)]
    for step in inverse[:-1] @ T_world_base[1:]:
        poses.append(poses[-1] @ _mismeasured(step))
    ahead = inverse @ T_world_base_soon
    twists = np.concatenate([1.012 * ahead[:, :3, 3],
                             rotation_vector_from_matrix(ahead[:, :3, :3])], -1) / soon
    return np.stack(poses), twists


def _mismeasured(step):
    """Return a step as the wheels measure it: 1.2 % too long, 0.1 degree a metre to the left."""
    distance = np.linalg.norm(step[:3, 3])
    c, s = np.cos(0.002 * distance), np.sin(0.002 * distance)
    drift = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return make_transform(step[:3, :3] @ drift, 1.012 * step[:3, 3])
