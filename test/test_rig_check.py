# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The check of stereo rigs: a good one passes, each fault is found and named."""

from dataclasses import replace
import re

import cv2
import numpy as np
import pytest

from geo_perception.datasets.rig_check import check_rig
from geo_perception.datasets.sample_world.world import BASELINE, SampleWorld
from geo_perception.errors import ImageError
from geo_perception.geometry.camera import Camera

CAMERA = Camera(np.array([[176.0, 0, 127.5], [0, 176.0, 95.5], [0, 0, 1]]), 256, 192,
                frame_id='camera')


class Altered:
    """Frames, each of which went through a function."""

    def __init__(self, frames, alter):
        self._frames, self._alter = frames, alter

    def __len__(self):
        return len(self._frames)

    def __getitem__(self, index):
        return self._alter(self._frames[index])


@pytest.fixture(scope='module')
def frames():
    """Return a few pairs of the sample world, far apart."""
    drive = SampleWorld(0, CAMERA).drive('val', 100)
    return [drive[i] for i in (0, 35, 70)]


def moved(image, right=0.0, down=0.0, turn_deg=0.0):
    """Return an image moved and turned."""
    height, width = image.shape[:2]
    A = cv2.getRotationMatrix2D((width / 2, height / 2), turn_deg, 1.0)
    A[:, 2] += right, down
    return cv2.warpAffine(image, A, (width, height), borderMode=cv2.BORDER_REFLECT)


def test_a_good_rig_passes(frames):
    """Rows within a fraction of a pixel, disparity as depth says."""
    report = check_rig(frames)
    assert not report.hopeless and report.warnings == [] and report.verdict() == 'The rig is good.'
    assert report.pairs == 3 and report.matches > 100 and report.size == (256, 192)
    assert abs(report.vertical_px) < 0.1 and report.positive > 0.98
    assert report.baseline == BASELINE and report.time_offset is None
    shifted = check_rig(Altered(frames, lambda f: replace(f, right=moved(f.image, right=-7))))
    assert shifted.disparity_px[0] == pytest.approx(7, abs=0.05)
    text = '\n'.join(report.measurements())
    assert '3 pairs of 256x192' in text and '0.1200 m' in text


FAULTS = {
    'swapped': (lambda f: replace(f, image=f.right, right=f.image), 'the eyes are swapped'),
    'lower': (lambda f: replace(f, right=moved(f.right, down=3)), 'is 3.[0-9] pixels lower'),
    'higher': (lambda f: replace(f, right=moved(f.right, down=-2)), 'pixels higher'),
    'turned': (lambda f: replace(f, right=moved(f.right, turn_deg=4)), 'not rectified'),
    'converging': (lambda f: replace(f, right=moved(f.right, right=7)), 'converge|swapped'),
    'other size': (lambda f: replace(f, right=f.right[:-2]), 'left 256x192, right 256x190'),
    'black': (lambda f: replace(f, right=f.right // 40), 'right eye is black in 3 of 3'),
    'saturated': (lambda f: replace(f, image=np.maximum(f.image, 250)),
                  'left eye is saturated'),
    'covered': (lambda f: replace(f, right=np.full_like(f.right, 90)), 'without any texture'),
    'mono': (lambda f: replace(f, right=None), 'no right image'),
    'twice': (lambda f: replace(f, right=f.image.copy()), 'same image'),
    'elsewhere': (lambda f: replace(f, right=cv2.GaussianBlur(np.random.default_rng(0).integers(
        0, 256, f.right.shape, np.uint8), (0, 0), 2)), 'too little in common|not rectified'),
    'zero baseline': (lambda f: replace(f, baseline=0.0), 'baseline is zero'),
    'no baseline': (lambda f: replace(f, baseline=None), 'baseline is unknown'),
    'other time': (lambda f: replace(f, right_stamp=f.stamp + 50_000_000), '50 ms apart')}


@pytest.mark.parametrize('name', FAULTS)
def test_faults_are_named(frames, name):
    """One at a time."""
    alter, words = FAULTS[name]
    report = check_rig(Altered(frames, alter))
    assert report.hopeless
    assert report.verdict().startswith('The rig is not fit to learn from:')
    assert re.search(words, ' '.join(report.faults))
    assert report.measurements()


WARNINGS = {
    'half a pixel': (lambda f: replace(f, right=moved(f.right, down=0.7)), 'not quite aligned'),
    'sign': (lambda f: replace(f, baseline=-f.baseline), 'with the wrong sign'),
    'too long': (lambda f: replace(f, baseline=2 * f.baseline), '2.0[0-9] times as long'),
    'millimetres': (lambda f: replace(f, baseline=120.0), 'are those metres'),
    'gain': (lambda f: replace(f, right=(0.7 * f.right).astype(np.uint8)),
             '0.7[0-9]? times as bright'),
    'some time': (lambda f: replace(f, right_stamp=f.stamp - 5_000_000), '5.0 ms apart'),
    'raw': (lambda f: replace(f, camera=replace(CAMERA, distortion=np.array([-0.1, 0, 0, 0]))),
            'has distortion')}


@pytest.mark.parametrize('name', WARNINGS)
def test_lesser_faults_are_warned_of(frames, name):
    """They cost accuracy, not the training."""
    alter, words = WARNINGS[name]
    report = check_rig(Altered(frames, alter))
    assert not report.hopeless and report.verdict().startswith('The rig can be learned from, but:')
    assert re.search(words, report.verdict())


def test_swapped_eyes_and_sign_are_one_fault(frames):
    """A right camera that is to the left in images and calibration: the topics are swapped."""
    report = check_rig(Altered(frames, lambda f: replace(
        f, image=f.right, right=f.image, baseline=-f.baseline)))
    assert len(report.faults) == 2 and 'exchange both' in report.faults[0]


def test_disparity_beyond_the_network(frames):
    """It is said before training, with what to do."""
    report = check_rig(frames, max_disparity=0.05)
    assert 'raise max_disparity' in report.verdict() and not report.hopeless


def test_some_left_images_alone(frames):
    """Those are left out; a rig that is there all the same is no fault."""
    report = check_rig([frames[0], replace(frames[1], right=None), frames[2]])
    assert not report.hopeless and '1 of 3 left images' in report.verdict()


@pytest.mark.parametrize('damaged', [1, 3])
def test_pairs_that_cannot_be_read(frames, damaged):
    """Some are left out and told of; of all of them nothing can be learned."""
    def read(frame):
        if any(frame is other for other in frames[:damaged]):
            raise ImageError('half.png is cut off')
        return frame

    report = check_rig(Altered(frames, read))
    assert report.pairs == 3 - damaged and report.hopeless == (damaged == 3)
    assert f'{damaged} of 3 pairs cannot be read (half.png is cut off).' in report.verdict()
