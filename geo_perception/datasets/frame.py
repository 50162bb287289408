# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Frame and Sequence: what every recording format is turned into."""

from dataclasses import dataclass, replace
from typing import Optional, Protocol

import numpy as np

from geo_perception.errors import RecordingError
from geo_perception.geometry.camera import Camera


@dataclass(frozen=True)
class Frame:
    """
    One camera image and everything the recording knows about that instant.

    Attributes
    ----------
    stamp : int
        Acquisition time, nanoseconds.
    image : np.ndarray
        (H, W, 3) uint8 RGB.
    name : str
        Where it came from, for messages and result files (a file name or ``topic@stamp``).
    camera : Camera, optional
        Intrinsics of ``image``.
    T_world_camera : np.ndarray, optional
        4x4 float64, optical frame to world, metres.
    depth : np.ndarray, optional
        (H, W) float32 metres along the optical axis, NaN where unknown, registered to ``image``;
        it may have a size of its own.
    flow : np.ndarray, optional
        (H, W, 2) float32 pixels to the next frame of the sequence, u right, v down, NaN where
        unknown.
    motion_mask : np.ndarray, optional
        (H, W) uint8, 255 where the visible surface moves by itself, else 0.
    right : np.ndarray, optional
        Right image of a rectified stereo pair, (H, W, 3) uint8 RGB.
    baseline : float, optional
        Metres from left to right camera. A negative one is a mistake of the calibration, which
        `geo_perception.datasets.rig_check` finds.
    right_stamp : int, optional
        Acquisition time of the right image, where it has one of its own, nanoseconds.

    """

    stamp: int
    image: np.ndarray
    name: str = ''
    camera: Optional[Camera] = None
    T_world_camera: Optional[np.ndarray] = None
    depth: Optional[np.ndarray] = None
    flow: Optional[np.ndarray] = None
    motion_mask: Optional[np.ndarray] = None
    right: Optional[np.ndarray] = None
    baseline: Optional[float] = None
    right_stamp: Optional[int] = None


def needed_camera(frame, lack, recording=''):
    """
    Return the intrinsics of a frame.

    Parameters
    ----------
    frame : Frame
        Of any recording; of anything with ``name`` and ``camera``.
    lack : str
        What there is not without them, for the sentence.
    recording : str
        Which one, where the name of the frame does not tell.

    Returns
    -------
    Camera

    Raises
    ------
    RecordingError
        When it has none, and where they would be looked for.

    """
    if frame.camera is None:
        where = f'{recording}: ' if recording else ''
        raise RecordingError(f'{where}frame {frame.name} has no intrinsics, without which {lack}; '
                             'record camera_info beside the images, or write cam.txt into a '
                             'folder of images')
    return frame.camera


class Sequence(Protocol):
    """
    An indexable, picklable list of frames that reads lazily.

    ``stamps`` and ``poses`` answer without decoding an image, so that splits, statistics and
    checks are cheap.
    """

    world_frame: str   # name of the frame that poses are given in, e.g. 'map'

    def __len__(self) -> int:
        """Return the number of frames."""

    def __getitem__(self, index: int) -> Frame:
        """Read one frame; negative indices count from the end, IndexError past it."""

    @property
    def stamps(self) -> np.ndarray:
        """Stamps of all frames, int64 nanoseconds, shape (N,)."""

    @property
    def poses(self) -> Optional[np.ndarray]:
        """``T_world_camera`` of all frames, shape (N, 4, 4), or None without poses."""


class SlicedSequence:
    """
    A view of some frames of a sequence.

    Parameters
    ----------
    sequence : Sequence
        The whole.
    indices : np.ndarray
        Which frames, in order.

    Attributes
    ----------
    whole : Sequence
        What it is a view of.

    """

    def __init__(self, sequence, indices):
        self.whole = sequence
        self._indices = np.asarray(indices, int)
        self.world_frame = sequence.world_frame

    def __len__(self):
        """Return the number of frames."""
        return len(self._indices)

    def __getitem__(self, index):
        """Read one frame; flow leads to the next frame of the whole, so it may be left out."""
        index = range(len(self))[index]
        frame = self.whole[int(self._indices[index])]
        ends = index + 1 == len(self)
        if frame.flow is None or ends or self._indices[index + 1] == self._indices[index] + 1:
            return frame
        return replace(frame, flow=None)

    @property
    def stamps(self):
        """Stamps of all frames, int64 nanoseconds, shape (N,)."""
        return self.whole.stamps[self._indices]

    @property
    def poses(self):
        """``T_world_camera`` of all frames, shape (N, 4, 4), or None without poses."""
        poses = self.whole.poses
        return None if poses is None else poses[self._indices]
