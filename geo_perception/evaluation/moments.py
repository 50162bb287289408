# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Small pictures of a run, evenly over its time: what the camera saw and what was made of it."""

from dataclasses import dataclass, field
from typing import List, Optional

import cv2
import numpy as np

from geo_perception.datasets.readable import readable_frames
from geo_perception.evaluation.depth import depth_at_truth
from geo_perception.inference.depth import DepthEstimate

# Of a recording, however long it is: the page stays small.
MOMENTS = 400
WIDTH = 320
# Depths are kept as logarithms in one byte: steps of 3 %, from and to (metres, or units).
NEAREST, FARTHEST = 0.05, 200.0
_QUALITY = 75
UNKNOWN, STILL, MOVING = 0, 1, 2


@dataclass(frozen=True)
class Moment:
    """
    Pictures of one frame, all at the pixels of the small image.

    Attributes
    ----------
    index : int
        Of the frame.
    image : bytes
        JPEG.
    depth : np.ndarray or None
        From `coded_depth`, shape (h, w).
    moving : np.ndarray or None
        ``UNKNOWN``, ``STILL`` or ``MOVING``, uint8, shape (h, w).

    """

    index: int
    image: bytes
    depth: Optional[np.ndarray] = None
    moving: Optional[np.ndarray] = None


@dataclass(frozen=True)
class Moments:
    """
    Pictures of a run, taken as it goes.

    Attributes
    ----------
    stride : int
        Every so many frames there is one.
    taken : list of Moment
        By index.

    """

    stride: int = 1
    taken: List[Moment] = field(default_factory=list)

    @classmethod
    def of(cls, frames):
        """
        Return an empty series.

        Parameters
        ----------
        frames : int
            Of the recording.

        Returns
        -------
        Moments

        """
        return cls(max(1, -(-frames // MOMENTS)))

    def wants(self, index):
        """
        Tell whether a frame is one of them.

        Parameters
        ----------
        index : int
            Of the frame.

        Returns
        -------
        bool

        """
        return index % self.stride == 0

    def take(self, index, frame, depth=None, moving=None, moving_camera=None):
        """
        Keep the pictures of a frame, if it is one of them.

        Parameters
        ----------
        index : int
            Of the frame.
        frame : Frame
            Its camera is needed for depth and for what moves.
        depth : DepthEstimate, optional
            Of the frame.
        moving : np.ndarray, optional
            Not zero where something is said to move, shape (h, w).
        moving_camera : Camera, optional
            Of the pixels of ``moving``.

        """
        if not self.wants(index):
            return
        height, width = frame.image.shape[:2]
        scale = min(1.0, WIDTH / width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
        known = frame.camera is not None
        self.taken.append(Moment(
            index, jpeg(small, _QUALITY),
            coded_depth(depth_at_truth(depth, frame.camera, size[::-1]))
            if known and depth is not None and depth.camera is not None else None,
            _placed(moving, moving_camera, frame.camera, size)
            if known and moving is not None else None))

    def fill_in(self, sequence):
        """
        Take the pictures that are missing, of frames that were dropped or are not told of.

        Parameters
        ----------
        sequence : Sequence
            The frames of the recording.

        """
        there = {moment.index for moment in self.taken}
        missing = [i for i in range(0, len(sequence), self.stride) if i not in there]
        for index, frame in readable_frames(sequence, missing):
            self.take(index, frame)
        self.taken.sort(key=lambda moment: moment.index)

    def add_moving(self, index, moving, moving_camera, camera):
        """
        Add what moves to a frame whose pictures were taken before it was known.

        Parameters
        ----------
        index : int
            Of the frame.
        moving, moving_camera
            See `take`.
        camera : Camera
            Of the frame.

        """
        for place, moment in enumerate(self.taken):
            if moment.index == index and camera is not None:
                size = cv2.imdecode(np.frombuffer(moment.image, np.uint8),
                                    cv2.IMREAD_GRAYSCALE).shape[::-1]
                self.taken[place] = Moment(index, moment.image, moment.depth,
                                           _placed(moving, moving_camera, camera, size))


def jpeg(rgb, quality):
    """
    Return an image as JPEG.

    Parameters
    ----------
    rgb : np.ndarray
        (H, W, 3) or (H, W) uint8.
    quality : int
        0..100.

    Returns
    -------
    bytes

    """
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR) if rgb.ndim == 3 else rgb
    return cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def coded_depth(depth):
    """
    Return the logarithm of depth in one byte.

    Parameters
    ----------
    depth : np.ndarray
        NaN where unknown.

    Returns
    -------
    np.ndarray
        uint8, 0 where unknown, 1 at ``NEAREST`` or nearer, 255 at ``FARTHEST`` or farther.

    """
    known = np.isfinite(depth) & (depth > 0)
    share = cv2.log(np.where(known, depth, 1.0) / NEAREST) / np.log(FARTHEST / NEAREST)
    return np.where(known, 1 + np.rint(254 * share.clip(0, 1)), 0).astype(np.uint8)


def decoded_depth(code):
    """
    Return depth from `coded_depth`.

    Parameters
    ----------
    code : np.ndarray
        uint8.

    Returns
    -------
    np.ndarray
        float32, NaN where unknown.

    """
    depth = NEAREST * (FARTHEST / NEAREST) ** ((code.astype(np.float32) - 1) / 254)
    return np.where(code == 0, np.float32(np.nan), depth)


def _placed(moving, found_camera, camera, size):
    """Return a mask at the pixels of the small image."""
    share = depth_at_truth(DepthEstimate((np.asarray(moving) != 0).astype(np.float32),
                                         found_camera, False), camera, size[::-1])
    return np.where(np.isnan(share), UNKNOWN, np.where(share > 0.5, MOVING, STILL)).astype(
        np.uint8)
