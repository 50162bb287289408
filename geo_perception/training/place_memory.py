# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""From a recording with poses to key frames with features whose places in the world are known."""

from dataclasses import dataclass
import logging

import cv2
import numpy as np

from geo_perception.datasets.frame import needed_camera
from geo_perception.datasets.readable import readable_frames
from geo_perception.errors import ImageError, RecordingError
from geo_perception.geometry.se3 import transform_points
from geo_perception.geometry.warp import splat_depth
from geo_perception.inference.local_features import FeatureDetector
from geo_perception.inference.place import view_distance
from geo_perception.progress import track

log = logging.getLogger(__name__)

# A frame becomes a key frame when the picture has moved by this angle since all others, radians.
STEP = 0.05
LARGEST_NUMBER = 200
# Scenes whose depth is unknown are taken to be this far, metres.
UNKNOWN_DEPTH = 3.0
# Frames without depth borrow it from others so many frames before or after.
REACH = 10
# Depth is not believed where it varies by this part of itself within two pixels.
EDGE = 0.05
NEAREST_DEPTH, FARTHEST_DEPTH = 0.2, 200.0
# Key frames with fewer points say nothing.
SMALLEST_NUMBER = 20
# So many frames, spread evenly, tell whether a recording has depth.
PROBES = 12


@dataclass(frozen=True)
class KeyFrame:
    """
    One frame of the memory.

    Attributes
    ----------
    index : int
        In the recording.
    T_world_camera : np.ndarray
        4x4.
    points : np.ndarray
        In the world, metres, float32, shape (N, 3).
    descriptors : np.ndarray
        uint8, shape (N, C).
    depth : float
        Median depth of the points, metres.

    """

    index: int
    T_world_camera: np.ndarray
    points: np.ndarray
    descriptors: np.ndarray
    depth: float


def choose_key_frames(poses, depth, largest=LARGEST_NUMBER, known=None):
    """
    Return frames that together look everywhere that the recording looked.

    Parameters
    ----------
    poses : np.ndarray
        ``T_world_camera``, shape (N, 4, 4).
    depth : float
        How far the scene is, metres.
    largest : int
        So many at most.
    known : np.ndarray, optional
        Poses of key frames that are there already.

    Returns
    -------
    np.ndarray
        Indices, in order.

    """
    step = STEP
    while True:
        chosen = []
        covered = np.full(len(poses), np.inf)
        if known is not None and len(known):
            covered = np.min([view_distance(poses, T, depth) for T in known], axis=0)
        for i in range(len(poses)):
            if covered[i] >= step:
                chosen.append(i)
                covered = np.minimum(covered, view_distance(poses, poses[i], depth))
        if len(chosen) <= largest:
            return np.array(chosen, int)
        step *= 1.15


def clean_depth(depth):
    """
    Return depth without noise and without the mixed pixels at edges.

    Parameters
    ----------
    depth : np.ndarray
        (H, W) float32 metres, NaN where unknown.

    Returns
    -------
    np.ndarray
        Median of 5x5 pixels; NaN at edges and where nothing is known.

    """
    known = np.isfinite(depth)
    zeros = np.where(known, depth, 0.0).astype(np.float32)
    median = cv2.medianBlur(zeros, 5)
    window = np.ones((5, 5), np.uint8)
    farthest = cv2.dilate(zeros, window)
    nearest = cv2.erode(np.where(known, depth, np.float32(1e6)), window)
    flat = farthest - nearest < EDGE * median
    inside = (median > NEAREST_DEPTH) & (median < FARTHEST_DEPTH)
    return np.where(flat & inside, median, np.nan).astype(np.float32)


class DepthOfFrames:
    """
    Depth of any frame of a recording, its own or that of a frame nearby.

    Parameters
    ----------
    sequence : Sequence
        Frames with poses and intrinsics.

    """

    def __init__(self, sequence):
        self._sequence = sequence
        self._surfaces = {}   # index -> world points of a frame, None without depth

    def has_depth(self):
        """
        Say whether the recording has depth at all.

        Returns
        -------
        bool

        """
        n = len(self._sequence)
        # In pairs of neighbours up to REACH apart: depth may come with every tenth frame.
        probes = np.unique(np.concatenate([
            np.linspace(0, n - 1, PROBES).astype(int), np.arange(min(n, 2 * REACH))]))
        return any(frame.depth is not None
                   for _, frame in readable_frames(self._sequence, probes))

    def at(self, index, frame, pixels):
        """
        Return the depth of some pixels of a frame.

        Parameters
        ----------
        index : int
            Of the frame.
        frame : Frame
            Read already.
        pixels : np.ndarray
            (u, v), shape (N, 2).

        Returns
        -------
        np.ndarray
            Metres, NaN where unknown, shape (N,).

        """
        if frame.depth is not None:
            depth = clean_depth(frame.depth)
            scale = np.array(depth.shape[::-1]) / (frame.camera.width, frame.camera.height)
            return _sample(depth, (pixels + 0.5) * scale - 0.5)
        surface = self._surface_nearby(index, frame)
        if surface is None:
            return np.full(len(pixels), np.nan)
        depth = clean_depth(splat_depth(surface, frame.camera.straight(), frame.T_world_camera))
        return _sample(depth, frame.camera.undistort_pixels(pixels))

    def _surface_nearby(self, index, frame):
        """Return what the nearest frame with depth saw, in the world."""
        for distance in range(1, REACH + 1):
            for other in (index - distance, index + distance):
                if not 0 <= other < len(self._sequence):
                    continue
                surface = self._surface(other)
                if surface is not None and view_distance(
                        frame.T_world_camera, self._sequence.poses[other], 1.0) < 0.5:
                    return surface
        return None

    def _surface(self, index):
        """Return what a frame saw, in the world; None without depth, or where it is damaged."""
        if index not in self._surfaces:
            try:
                self._surfaces[index] = _seen_by(self._sequence[index])
            except (ImageError, RecordingError):
                self._surfaces[index] = None
            for old in [i for i, s in self._surfaces.items()
                        if s is not None and abs(i - index) > 2 * REACH]:
                del self._surfaces[old]
        return self._surfaces[index]


def make_key_frames(sequence, indices, kind='sift'):
    """
    Return key frames of a recording that has depth.

    Parameters
    ----------
    sequence : Sequence
        Frames with poses, intrinsics and depth, at least with some frames.
    indices : np.ndarray
        Which frames.
    kind : str
        Of features.

    Returns
    -------
    list of KeyFrame
        Without those that show too little.

    Raises
    ------
    RecordingError
        When a frame has no intrinsics.

    """
    detector, depths, found = FeatureDetector(kind), DepthOfFrames(sequence), []
    for i, frame in track(readable_frames(sequence, indices), 'Making key frames',
                          total=len(indices)):
        needed_camera(frame, 'there is no place memory')
        features = detector(frame.image)
        depth = depths.at(i, frame, features.pixels)
        known = np.isfinite(depth)
        if known.sum() < SMALLEST_NUMBER:
            continue
        pixels = frame.camera.undistort_pixels(features.pixels[known])
        points = transform_points(frame.T_world_camera, _lift(pixels, depth[known], frame.camera))
        found.append(KeyFrame(i, frame.T_world_camera, points.astype(np.float32),
                              features.descriptors[known], float(np.median(depth[known]))))
    return found


def _seen_by(frame):
    """Return what a frame saw, in the world; None without depth."""
    if frame.depth is None or frame.camera is None:
        return None
    camera = frame.camera.resized(frame.depth.shape[1], frame.depth.shape[0])
    depth = clean_depth(frame.depth)
    v, u = np.nonzero(np.isfinite(depth))
    pixels = camera.undistort_pixels(np.stack([u, v], 1))
    return transform_points(frame.T_world_camera, _lift(
        pixels, depth[v, u], camera)).astype(np.float32)


def _lift(pixels, depth, camera):
    """Return points in the camera that undistorted pixels see."""
    rays = (pixels - camera.K[:2, 2]) / (camera.K[0, 0], camera.K[1, 1])
    return np.concatenate([rays, np.ones((len(rays), 1))], 1) * depth[:, None]


def _sample(image, pixels):
    """Return the nearest entries of an image, NaN outside."""
    u, v = np.rint(pixels).astype(int).T
    inside = (u >= 0) & (u < image.shape[1]) & (v >= 0) & (v < image.shape[0])
    values = np.full(len(pixels), np.nan)
    values[inside] = image[v[inside], u[inside]]
    return values
