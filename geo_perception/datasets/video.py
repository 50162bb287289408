# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Videos as sequences of frames."""

from bisect import bisect_left
import os

import cv2
import numpy as np

from geo_perception.datasets.frame import Frame
from geo_perception.datasets.image_files import NOMINAL_HZ, nominal_stamps
from geo_perception.errors import ImageError, RecordingError

_SUFFIXES = ('.mp4', '.avi', '.mkv', '.mov', '.webm', '.m4v', '.mpg', '.mpeg')


def is_video(path):
    """
    Tell whether a file is named like a video.

    Parameters
    ----------
    path : Path
        File.

    Returns
    -------
    bool

    """
    return path.suffix.lower() in _SUFFIXES


class VideoSequence:
    """
    Frames of a video file, without poses; stamps from its frame rate.

    Parameters
    ----------
    path : Path
        Anything that OpenCV plays.

    Raises
    ------
    RecordingError
        When no frame can be read.

    """

    world_frame = ''
    poses = None

    def __init__(self, path):
        self._path = path
        self._capture = self._process = None
        capture = self._open()
        rate = capture.get(cv2.CAP_PROP_FPS)
        # Containers announce a frame or two more than they hold, damaged ones millions.
        count = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        if count and self._read(count - 1) is None:
            count = bisect_left(range(count), True, key=lambda i: self._read(i) is None)
        if count == 0:
            raise RecordingError(f'no frame of the video {path} can be read')
        self._stamps = nominal_stamps(count, rate if np.isfinite(rate) and rate > 0
                                      else NOMINAL_HZ)

    def __getstate__(self):
        """Leave the open file behind."""
        return {'_path': self._path, '_stamps': self._stamps, '_capture': None, '_process': None}

    def __len__(self):
        """Return the number of frames."""
        return len(self._stamps)

    def __getitem__(self, index):
        """Read one frame; in order is fast, out of order seeks."""
        index = range(len(self))[index]
        picture = self._read(index)
        if picture is None:
            raise ImageError(f'frame {index} of the video {self._path} cannot be read')
        return Frame(stamp=int(self._stamps[index]), name=f'{self._path}#{index}',
                     image=cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))

    @property
    def stamps(self):
        """Stamps of all frames, int64 nanoseconds, shape (N,)."""
        return self._stamps

    def _open(self):
        # A forked process would move the file offset of its parent.
        if self._capture is None or self._process != os.getpid():
            self._capture, self._process = cv2.VideoCapture(str(self._path)), os.getpid()
        return self._capture

    def _read(self, index):
        capture = self._open()
        if int(capture.get(cv2.CAP_PROP_POS_FRAMES)) != index:
            capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        return capture.read()[1]
