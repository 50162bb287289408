# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Which frames make a snippet: consecutive ones, of a camera that moves."""

import cv2
import numpy as np
import pytest

from geo_perception.datasets.snippets import (
    consecutive_snippets, image_motion, moving_snippets, SMALLEST_MOTION)
from geo_perception.errors import RecordingError

TENTH = 100_000_000


def test_every_run_of_a_whole_drive():
    """N - 2 snippets of three, N - 4 of five, and fewer with a larger step."""
    stamps = np.arange(10) * TENTH
    assert consecutive_snippets(stamps).tolist() == [[i, i + 1, i + 2] for i in range(8)]
    assert len(consecutive_snippets(stamps, 5)) == 6
    assert consecutive_snippets(stamps, 3, step=2).tolist() == [
        [i, i + 2, i + 4] for i in range(6)]


@pytest.mark.parametrize('change', ['cut', 'repeated', 'back'])
def test_no_run_crosses(change):
    """A gap, a stamp that comes twice, and time that jumps back each separate two videos."""
    stamps = np.arange(10) * TENTH
    if change == 'cut':
        stamps[5:] += 3 * TENTH
    elif change == 'repeated':
        stamps[5:] -= TENTH
    else:
        stamps[5:] -= 20 * TENTH
    snippets = consecutive_snippets(stamps)
    assert len(snippets) == 6
    assert not any(4 in snippet and 5 in snippet for snippet in snippets)


def test_some_jitter_is_no_cut():
    """Cameras are late by a few milliseconds, and now and then by half an interval."""
    stamps = np.arange(50) * TENTH + np.random.default_rng(0).integers(-30, 30, 50) * 1_000_000
    assert len(consecutive_snippets(stamps)) == 48


@pytest.mark.parametrize('stamps', [[], [5], [5, 6], [7, 7, 7, 7], [9, 8, 7, 6]])
def test_nothing_follows(stamps):
    """Says how many frames there were."""
    with pytest.raises(RecordingError, match=f'these {len(stamps)} frames'):
        consecutive_snippets(stamps)


def drive(speed):
    """Return a camera that passes a textured wall, and stands in the second half."""
    wall = np.random.default_rng(0).integers(0, 255, (6, 40, 3)).repeat(8, 0).repeat(8, 1)
    noise = np.random.default_rng(1)
    frames = []
    for i in range(20):
        left = speed * min(i, 10)
        frame = wall[:, left:left + 64] + noise.normal(0, 3, (48, 64, 3))
        frames.append(frame.clip(0, 255).astype(np.uint8))
    return np.stack(frames)


def test_standing_frames_are_left_out():
    """Noise is no motion; snippets that stand part of the way go, too."""
    motion = image_motion(drive(4))
    assert motion[0] == 0
    np.testing.assert_allclose(motion[1:11], 4, atol=0.2)
    assert (motion[11:] < SMALLEST_MOTION).all()
    kept = moving_snippets(consecutive_snippets(np.arange(20) * TENTH), motion)
    assert kept[:, 1].tolist() == list(range(1, 10))


def test_cars_that_pass_are_no_motion():
    """A fifth of the picture moves, the camera does not."""
    random = np.random.default_rng(3)
    street, car = (cv2.resize(random.integers(0, 255, (rows, columns, 3), np.uint8),
                              (8 * columns, 8 * rows)) for rows, columns in ((16, 52), (9, 18)))
    frames = np.stack([street] * 12).astype(float)
    for i, frame in enumerate(frames):
        frame[48:120, 12 * i:12 * i + 144] = car
    frames = (frames + random.normal(0, 2, frames.shape)).clip(0, 255).astype(np.uint8)
    assert (image_motion(frames) < SMALLEST_MOTION).all()
    # The picture as a whole changes a lot.
    assert np.abs(np.diff(frames.astype(int), axis=0)).mean() > 5


def test_slow_motion_counts_over_longer_steps():
    """Six frames a pixel are too slow from one to the next, but not four frames apart."""
    wide = np.random.default_rng(0).integers(0, 255, (6, 40, 3)).repeat(48, 0).repeat(48, 1)
    frames = np.stack([cv2.resize(wide[:, i:i + 384].astype(np.uint8), (64, 48),
                                  interpolation=cv2.INTER_AREA) for i in range(20)])
    motion, stamps = image_motion(frames), np.arange(20) * TENTH
    np.testing.assert_allclose(motion[1:], 1 / 6, atol=0.06)
    with pytest.raises(RecordingError, match='raise data.step'):
        moving_snippets(consecutive_snippets(stamps), motion)
    assert len(moving_snippets(consecutive_snippets(stamps, step=4), motion)) == 12


@pytest.mark.parametrize('level', [0, 128, 255])
def test_nothing_to_see_is_no_motion(level):
    """A lens cap, fog, and the sun."""
    assert image_motion(np.full((4, 48, 64, 3), level, np.uint8)).tolist() == [0] * 4


def test_a_camera_that_never_moves_is_refused():
    """And it is said what to do."""
    images = drive(0)
    with pytest.raises(RecordingError, match='hardly moves.*drive while recording'):
        moving_snippets(consecutive_snippets(np.arange(20) * TENTH), image_motion(images))
