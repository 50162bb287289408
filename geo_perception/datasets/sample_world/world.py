# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The sample world as sequences of frames: any frame of either pass, rendered when asked for."""

from dataclasses import dataclass
from typing import Optional

import numpy as np

from geo_perception.datasets.frame import Frame
from geo_perception.datasets.sample_world.render import flow_to, render_view
from geo_perception.datasets.sample_world.scene import Light, Scene
from geo_perception.datasets.sample_world.trajectory import (RATE, T_BASE_CAMERA, TRAJECTORIES,
                                                             wheel_odometry)
from geo_perception.errors import ConfigurationError
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.se3 import make_transform

WORLD_FRAME = 'map'
BASELINE = 0.12   # metres
CAMERA = Camera(np.array([[220.0, 0, 161.3], [0, 220.0, 118.6], [0, 0, 1]]), 320, 240,
                frame_id='camera_optical_frame')
_T_CAMERA_RIGHT = make_transform(np.eye(3), [BASELINE, 0, 0])
# Start of the recording (ns), start on the movers' tracks (s), phase of the light (rad).
_PASSES = {'train': (1_750_000_000_000_000_000, 0.0, 0.0),
           'val': (1_750_001_800_000_000_000, 2.9, 4.2),
           'test': (1_750_003_600_000_000_000, 5.3, 2.1)}


@dataclass(frozen=True)
class SampleFrame(Frame):
    """
    A frame with the truth that no sensor gives.

    The flow of the last frame of a pass leads onwards, too: the world goes on. It is NaN where a
    point is then behind the camera.

    Attributes
    ----------
    T_world_right : np.ndarray
        4x4 pose of the right camera.
    right_depth : np.ndarray
        (H, W) float32 metres, depth of the right image.

    """

    T_world_right: Optional[np.ndarray] = None
    right_depth: Optional[np.ndarray] = None


class SampleWorld:
    """
    The place, with its two passes.

    Parameters
    ----------
    seed : int
        Draws textures and colours; geometry and paths are the same for every seed.
    camera : Camera
        Left camera; the right one has the same intrinsics.
    changing_light : bool
        False freezes the light, which makes brightness constancy exact.

    """

    def __init__(self, seed=0, camera=CAMERA, changing_light=True):
        self.scene = Scene(seed)
        self.camera = camera
        self.changing_light = changing_light

    def drive(self, name, frames):
        """
        Return one pass through the place as a sequence of frames.

        Parameters
        ----------
        name : str
            ``'train'``, ``'val'`` or ``'test'``.
        frames : int
            Number of frames, at 10 Hz.

        Returns
        -------
        Drive

        Raises
        ------
        ConfigurationError
            When there is no such pass or no frame.

        """
        if name not in _PASSES:
            raise ConfigurationError(
                f'the sample world has no pass {name!r}; take one of {", ".join(_PASSES)}')
        if frames < 1:
            raise ConfigurationError(f'a pass needs at least 1 frame, {frames} were asked for')
        return Drive(self, name, frames)


class Drive:
    """
    One pass: a picklable Sequence that renders a frame when it is asked for.

    Attributes
    ----------
    world_frame : str
        Frame of the poses.
    stamps : np.ndarray
        int64 nanoseconds, shape (N,).
    poses : np.ndarray
        ``T_world_camera``, shape (N, 4, 4).
    T_world_base : np.ndarray
        Body poses, shape (N, 4, 4).

    """

    world_frame = WORLD_FRAME

    def __init__(self, world, name, frames):
        self._world, self._name = world, name
        self._trajectory = TRAJECTORIES[name]
        start, self._track_start, phase = _PASSES[name]
        self._light = Light(phase, world.changing_light)
        self.stamps = start + np.arange(frames) * int(1e9 / RATE)
        # One more than there are frames: flow leads from the last frame onwards.
        self._bases = self._trajectory.T_world_base(np.arange(frames + 1) / RATE)
        self.T_world_base = self._bases[:-1]
        self.poses = self.T_world_base @ T_BASE_CAMERA

    def __len__(self):
        """Return the number of frames."""
        return len(self.stamps)

    def __getitem__(self, index):
        """Render one frame with its truth, a SampleFrame."""
        index = range(len(self))[index]
        world = self._world
        T_camera, T_next = self._bases[index:index + 2] @ T_BASE_CAMERA
        T_right = T_camera @ _T_CAMERA_RIGHT
        bodies, bodies_next = self.body_poses(index), self.body_poses(index + 1)
        light = self.light(index)
        left = render_view(world.scene, world.camera, T_camera, bodies, light)
        right = render_view(world.scene, world.camera, T_right, bodies, light)
        return SampleFrame(
            stamp=int(self.stamps[index]), image=left.image, name=f'{self._name}/{index:06d}',
            camera=world.camera, T_world_camera=T_camera, depth=left.depth.astype(np.float32),
            right=right.image, baseline=BASELINE,
            flow=flow_to(left, world.camera, T_camera, bodies, T_next, bodies_next),
            motion_mask=np.uint8(left.body > 0) * np.uint8(255), T_world_right=T_right,
            right_depth=right.depth.astype(np.float32))

    def body_poses(self, index):
        """
        Return where everything that moves is at a frame.

        Parameters
        ----------
        index : int
            Frame number; it may lie outside the pass.

        Returns
        -------
        np.ndarray
            ``T_world_body``, shape (B, 4, 4); the first is the identity, of all that stands
            still.

        """
        return self._world.scene.body_poses(self._track_start + index / RATE)

    def light(self, index):
        """
        Return the light at a frame.

        Parameters
        ----------
        index : int
            Frame number.

        Returns
        -------
        gain : float
            Factor on every albedo far from the spot.
        spot : np.ndarray
            Centre of the spot in ``map``, metres, shape (3,).

        """
        return self._light.at(index / RATE)

    def odometry(self):
        """
        Return what the wheels tell: poses that drift by 1-2 % of the distance, and twists.

        Returns
        -------
        poses : np.ndarray
            ``T_odom_base``, shape (N, 4, 4).
        twists : np.ndarray
            In the body frame (vx, vy, vz, wx, wy, wz), m/s and rad/s, shape (N, 6).

        """
        soon = 1e-4
        seconds = np.arange(len(self)) / RATE
        return wheel_odometry(self.T_world_base,
                              self._trajectory.T_world_base(seconds + soon), soon)
