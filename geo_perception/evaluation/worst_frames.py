# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Pictures of the frames at which a relocalizer was farthest off."""

from dataclasses import dataclass

import cv2
import numpy as np

from geo_perception.evaluation.moments import jpeg

_COUNT = 6
_WIDTH = 400
_QUALITY = 80


@dataclass(frozen=True)
class WorstFrame:
    """
    Pictures of one frame.

    Attributes
    ----------
    index : int
        Of the frame.
    image : bytes
        JPEG.
    nearest : bytes
        JPEG of the thumbnail of the training image that looks most alike; empty without one.

    """

    index: int
    image: bytes
    nearest: bytes


def worst_frames(result, sequence, retrieval=None):
    """
    Return the answers that are farthest off, at most one from each part of the recording.

    Parameters
    ----------
    result : RelocalizationResult
        What happened.
    sequence : Sequence
        The frames of the result.
    retrieval : Retrieval, optional
        For the most similar training images.

    Returns
    -------
    list of WorstFrame
        Worst first. A refused answer was never given: it is there only where there is nothing
        worse.

    """
    position, orientation = result.errors()
    usable = np.isfinite(position)
    if not usable.any():
        return []
    badness = np.where(usable, position / max(np.median(position[usable]), 1e-9)
                       + orientation / max(np.median(orientation[usable]), 1e-9), -1.0)
    badness = np.where(result.accepted, badness, badness - badness.max() - 1.0)
    chosen = []
    for i in np.argsort(-badness):
        if usable[i] and all(abs(i - j) > len(result) // 30 for j in chosen):
            chosen.append(int(i))
        if len(chosen) == _COUNT:
            break
    return [_pictures(i, sequence[i].image, retrieval) for i in chosen]


def _pictures(index, image, retrieval):
    height, width = image.shape[:2]
    scale = min(1.0, _WIDTH / width)
    size = round(width * scale), max(1, round(height * scale))
    picture = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    nearest = b''
    if retrieval:
        grey = retrieval.thumbnails[retrieval.nearest(image)]
        grey = (255 * (grey - grey.min()) / max(np.ptp(grey), 1e-6)).astype(np.uint8)
        nearest = jpeg(cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC), _QUALITY)
    return WorstFrame(index, jpeg(picture, _QUALITY), nearest)
