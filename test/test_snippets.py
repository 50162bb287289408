# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Which frames make a snippet: consecutive ones, of a camera that moves."""

import numpy as np
import pytest

from geo_perception.datasets.snippets import (
    brightness_changes, consecutive_snippets, moving_snippets, SMALLEST_CHANGE)
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
    changes = brightness_changes(drive(4))
    assert changes[0] == 0
    assert (changes[1:11] > SMALLEST_CHANGE).all() and (changes[11:] < SMALLEST_CHANGE).all()
    kept = moving_snippets(consecutive_snippets(np.arange(20) * TENTH), changes)
    assert kept[:, 1].tolist() == list(range(1, 10))


def test_a_camera_that_never_moves_is_refused():
    """And it is said what to do."""
    images = drive(0)
    with pytest.raises(RecordingError, match='hardly moves.*drive while recording'):
        moving_snippets(consecutive_snippets(np.arange(20) * TENTH), brightness_changes(images))
