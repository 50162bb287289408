# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Pairs of images whose optical flow is known."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Optional

import numpy as np

from geo_perception.datasets.flow_files import read_flow_of
from geo_perception.datasets.kitti_calibration import camera_by_size, camera_in_file
from geo_perception.datasets.picture_files import read_image
from geo_perception.datasets.readable import readable_frames
from geo_perception.datasets.recording import open_images
from geo_perception.errors import RecordingError
from geo_perception.geometry.camera import Camera

# Target and source of KITTI 2015 (geonet.md section 5), and of the flow of each scene.
_TARGET, _SOURCE = '_10.png', '_11.png'
_KITTI_FLOWS = ('flow_occ', 'flow_noc')
# The same in one folder, as examples of KITTI are passed on.
_EXAMPLE = 'kitti_'
KITTI_INTERVAL_NS = 100_000_000


@dataclass(frozen=True)
class FlowPair:
    """
    Two images, and where the pixels of the first one are in the second.

    Attributes
    ----------
    name : str
        For messages and result files.
    image, other : np.ndarray
        uint8 RGB, shape (H, W, 3).
    flow : np.ndarray
        True flow from the first to the second, also of what is hidden there, pixels, NaN where
        unknown, float32, shape (H, W, 2).
    visible : np.ndarray or None
        Where the surface is seen in both images, bool, shape (H, W); None where nobody says.
    camera : Camera or None
        Of both images.
    motion_mask : np.ndarray or None
        255 where the surface moves by itself, uint8, shape (H, W).
    stamps : tuple of int
        Of both images, nanoseconds.

    """

    name: str
    image: np.ndarray
    other: np.ndarray
    flow: np.ndarray
    visible: Optional[np.ndarray] = None
    camera: Optional[Camera] = None
    motion_mask: Optional[np.ndarray] = None
    stamps: tuple = (0, KITTI_INTERVAL_NS)


def open_flow_pairs(spec, image_topic=None, camera_info_topic=None):
    """
    Return an indexable, lazy list of pairs; the layout is known by its content.

    Layouts: KITTI 2015 (``image_2``, ``flow_occ``, ``flow_noc``, perhaps ``calib_cam_to_cam``),
    scenes of KITTI in one folder (``kitti_NNNNNN_10.png``, ``kitti_occ_NNNNNN_10.png``, ...), and
    any recording whose frames have flow, with slices as for
    `geo_perception.datasets.recording.open_images`.

    Parameters
    ----------
    spec : str or Path
        Where they are.
    image_topic, camera_info_topic : str, optional
        Topics of a bag where the choice is not clear.

    Returns
    -------
    FlowPairs or RecordedPairs

    Raises
    ------
    RecordingError
        When nothing fits or no frame has flow.

    """
    path = Path(spec)
    if path.is_dir():
        for find in (_kitti_2015, _kitti_examples):
            files = find(path)
            if files:
                return FlowPairs(files)
    return RecordedPairs(open_images(spec, image_topic, camera_info_topic, ('depth', 'flow')),
                         spec)


class FlowPairs:
    """
    Pairs of image files.

    Parameters
    ----------
    files : list of tuple
        Name, both images, flow of all pixels, flow of the visible ones or None, and a file of
        KITTI's calibration or None.

    """

    def __init__(self, files):
        self._files = files

    def __len__(self):
        """Return the number of pairs."""
        return len(self._files)

    def __getitem__(self, index):
        """Read one pair."""
        name, first, second, everything, seen, calibration = self._files[index]
        image, other = read_image(first), read_image(second)
        if image.shape != other.shape:
            raise RecordingError(f'{first} has {image.shape[1]}x{image.shape[0]} pixels, but '
                                 f'{second} has {other.shape[1]}x{other.shape[0]}')
        flow = read_flow_of(everything, image, first)
        visible = None
        if seen is not None:
            visible = np.isfinite(read_flow_of(seen, image, first)).all(-1)
        height, width = image.shape[:2]
        camera = camera_by_size(width, height) if calibration is None else \
            camera_in_file(calibration, 2)[0]
        if camera is not None and (camera.width, camera.height) != (width, height):
            raise RecordingError(f'{calibration} is for {camera.width}x{camera.height} pixels, '
                                 f'but {first} has {width}x{height}')
        return FlowPair(name, image, other, flow, visible, camera)


class RecordedPairs:
    """
    Frames of a recording, each with the next one, as far as its flow is known.

    Parameters
    ----------
    sequence : Sequence
        Frames.
    name : str
        Of the recording, for messages.

    Attributes
    ----------
    sequence : Sequence
        The frames.

    Raises
    ------
    RecordingError
        When the first frames have no flow.

    """

    def __init__(self, sequence, name):
        self.sequence = sequence
        if len(sequence) < 2:
            raise RecordingError(f'{name} has {len(sequence)} frame, flow takes two')
        if all(frame.flow is None for _, frame in islice(readable_frames(sequence), 3)):
            raise RecordingError(f'{name} has no true optical flow; take KITTI 2015, or a bag '
                                 'with a topic of 32FC2 named flow, such as those of '
                                 '"geo_perception sample"')

    def __len__(self):
        """Return the number of pairs."""
        return len(self.sequence) - 1

    def __getitem__(self, index):
        """Read one pair; its flow is NaN where the recording has none."""
        index = range(len(self))[index]
        frame, following = self.sequence[index], self.sequence[index + 1]
        flow = frame.flow
        if flow is None:
            flow = np.full((*frame.image.shape[:2], 2), np.nan, np.float32)
        return FlowPair(frame.name, frame.image, following.image, flow, None, frame.camera,
                        frame.motion_mask, (frame.stamp, following.stamp))


def _kitti_2015(path):
    """Return the scenes of a folder like ``training`` or of the one above it."""
    for folder in (path, path / 'training'):
        images, flows = folder / 'image_2', folder / _KITTI_FLOWS[0]
        if not (images.is_dir() and flows.is_dir()):
            continue
        found = []
        for flow in sorted(flows.glob(f'*{_TARGET}')):
            scene = flow.name[:-len(_TARGET)]
            seen = folder / _KITTI_FLOWS[1] / flow.name
            calibration = folder / 'calib_cam_to_cam' / f'{scene}.txt'
            found.append((scene, images / flow.name, images / f'{scene}{_SOURCE}', flow,
                          seen if seen.is_file() else None,
                          calibration if calibration.is_file() else None))
        if not found:
            raise RecordingError(f'{flows} holds no flow of the name NNNNNN{_TARGET}')
        return found
    return []


def _kitti_examples(path):
    """Return the scenes of a folder in which everything lies side by side."""
    found = []
    for flow in sorted(path.glob(f'{_EXAMPLE}occ_*{_TARGET}')):
        scene = flow.name[len(f'{_EXAMPLE}occ_'):-len(_TARGET)]
        seen = path / f'{_EXAMPLE}noc_{scene}{_TARGET}'
        found.append((scene, path / f'{_EXAMPLE}{scene}{_TARGET}',
                      path / f'{_EXAMPLE}{scene}{_SOURCE}', flow,
                      seen if seen.is_file() else None, None))
    return found
