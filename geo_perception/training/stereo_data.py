# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Stereo pairs for training depth.

The rig of every recording is looked at first; then pairs are decoded and resized once, into a
file that is mapped to memory.
"""

from dataclasses import dataclass
import logging
from typing import List, Optional, Union

from jsonargparse.typing import PositiveInt
import numpy as np
from torch.utils.data import Dataset

from geo_perception.datasets.frame import SlicedSequence
from geo_perception.datasets.readable import first_readable, readable_frames
from geo_perception.datasets.recording import open_stereo
from geo_perception.errors import RecordingError
from geo_perception.geometry.block_matching import block_matching
from geo_perception.model_file import TrainingCamera
from geo_perception.progress import track
from geo_perception.training.batches import SeededBatches
from geo_perception.training.recorded_rig import check_recorded_rig
from geo_perception.training.scratch import scratch_array
from geo_perception.training.view_synthesis_data import (
    check_pair, matching_depth, PARTS, recording_name)

# Validation pairs whose disparity is compared with block matching.
MATCHED = 16
# Rigs whose disparities of one scene differ by less count as one.
SAME_RIG = 1e-3

log = logging.getLogger(__name__)


@dataclass
class StereoPairs:
    """
    A recording, decoded and resized.

    Attributes
    ----------
    images : np.ndarray
        uint8 RGB, left and right, shape (N, 2, H, W, 3), memory-mapped.
    reach : np.ndarray
        Focal length over width, times baseline: disparity (parts of the width) at one metre,
        shape (N,).
    depths : list of np.ndarray or None
        True depths of the left images, metres, NaN where unknown, shape (H, W).

    """

    images: np.ndarray
    reach: np.ndarray
    depths: list


def load_pairs(sequence, preprocessing, name):
    """
    Decode and resize the pairs of a recording once.

    Parameters
    ----------
    sequence : Sequence
        From `geo_perception.datasets.recording.open_stereo`.
    preprocessing : Preprocessing
        Says the size.
    name : str
        Of the recording, for messages.

    Returns
    -------
    StereoPairs
        Without left images that have no right one.

    Raises
    ------
    RecordingError
        When there is no pair, or a pair lacks intrinsics or baseline, or its eyes differ in size.

    """
    height, width = preprocessing.crop
    images = scratch_array(np.uint8, (len(sequence), 2, height, width, 3))
    reach, depths, n = [], [], 0
    for _, frame in track(readable_frames(sequence), 'Reading pairs', total=len(sequence)):
        if frame.right is None:
            continue
        check_pair(frame, name)
        for side, eye in enumerate((frame.image, frame.right)):
            resized = preprocessing.resize(eye)
            images[n, side] = preprocessing.centre_crop(resized)
        K = frame.camera.resized(resized.shape[1], resized.shape[0]).K
        reach.append(K[0, 0] / width * abs(frame.baseline))
        depths.append(matching_depth(frame, preprocessing))
        n += 1
    if not n:
        raise RecordingError(f'{name} has no stereo pair')
    return StereoPairs(images[:n], np.array(reach), depths)


class Pairs(Dataset):
    """
    The pairs of several recordings.

    Parameters
    ----------
    recordings : list of StereoPairs
        Where they come from.
    reach : float
        Of the rig that the network learns the disparity of.
    matched : int
        So many pairs, evenly spread, come with a disparity of block matching.
    max_disparity : float
        The largest one that is looked for, parts of the width.

    """

    def __init__(self, recordings, reach, matched=0, max_disparity=0.3):
        self.recordings = recordings
        self._reach = reach
        self._index = [(r, i) for r, recording in enumerate(recordings)
                       for i in range(len(recording.images))]
        self._matched = {}
        for index in np.unique(np.linspace(0, len(self) - 1, matched).round().astype(int)):
            recording, i = self._index[index]
            left, right = recordings[recording].images[i]
            self._matched[int(index)] = block_matching(
                left, right, max_disparity * left.shape[1]) / left.shape[1]

    def __len__(self):
        """Return the number of pairs."""
        return len(self._index)

    def __getitem__(self, index):
        """Return a pair, how much more disparity its rig has, and what is known of the truth."""
        which, i = self._index[index]
        recording = self.recordings[which]
        unknown = np.full(recording.images.shape[2:4], np.nan, np.float32)
        ratio = recording.reach[i] / self._reach
        depth = recording.depths[i]
        return {'left': np.array(recording.images[i, 0]),
                'right': np.array(recording.images[i, 1]),
                'ratio': np.float32(1.0 if abs(ratio - 1) < SAME_RIG else ratio),
                'depth': unknown if depth is None else depth,
                'matched': self._matched.get(index, unknown), 'index': index}


class StereoData(SeededBatches):
    """
    Training and validation pairs.

    Parameters
    ----------
    train : str or list of str
        Recordings to learn from: bags with two image topics, KITTI drives, lists of pairs, folders
        ``left/`` and ``right/``; slices as in ``bag[0:500]``.
    val : str, optional
        Recording that selects the checkpoint. Without it the last tenth of the (last) training
        recording is held out.
    batch_size : int
        Pairs a step, on each process.
    image_topic, right_topic, camera_info_topic : str, optional
        Topics of a bag, where the choice is not clear; the last one is of the left camera.
    accept_rig : bool
        Train although the check of the rig finds it hopeless.

    """

    def __init__(self, train: Union[str, List[str]], val: Optional[str] = None,
                 batch_size: PositiveInt = 8, image_topic: Optional[str] = None,
                 right_topic: Optional[str] = None, camera_info_topic: Optional[str] = None,
                 accept_rig: bool = False):
        super().__init__()
        self._train_specs = [train] if isinstance(train, str) else list(train)
        self._val_spec = val
        self._options = {'image_topic': image_topic, 'right_topic': right_topic,
                         'camera_info_topic': camera_info_topic}
        self.batch_size, self._accept_rig = batch_size, accept_rig
        self.train, self.val = None, None

    def setup(self, stage):
        """Check all rigs, then read all recordings."""
        if self.train is not None:
            return
        module = self.trainer.lightning_module
        specs = [*self._train_specs, *([self._val_spec] if self._val_spec else [])]
        sequences = [open_stereo(spec, **self._options) for spec in specs]
        for spec, sequence in zip(specs, sequences):
            check_recorded_rig(spec, sequence, module.max_disparity, self._accept_rig)
        val = sequences.pop() if self._val_spec else None
        if val is None:
            whole, n = sequences[-1], len(sequences[-1])
            cut = n - max(n // PARTS, 1)
            if not cut:
                raise RecordingError(f'{specs[-1]} has a single pair; training and validation '
                                     'need one each')
            sequences[-1] = SlicedSequence(whole, np.arange(cut))
            val = SlicedSequence(whole, np.arange(cut, n))
        preprocessing = module.preprocessing
        train = [load_pairs(sequence, preprocessing, spec)
                 for sequence, spec in zip(sequences, self._train_specs)]
        reach = float(np.median(train[0].reach))
        if any(np.abs(pairs.reach / reach - 1).max() > 10 * SAME_RIG for pairs in train):
            log.warning('the recordings were made with rigs of different baseline or focal '
                        'length: the network learns the disparity of the first one, and that of '
                        'the others is scaled')
        self.train = Pairs(train, reach)
        self.val = Pairs([load_pairs(val, preprocessing, specs[-1])], reach, MATCHED,
                         module.max_disparity)
        module.describe_data({
            'train': [recording_name(spec) for spec in self._train_specs],
            'train_pairs': len(self.train), 'val_pairs': len(self.val),
            'val': ('the end of the last' if self._val_spec is None
                    else recording_name(self._val_spec))},
            TrainingCamera.of(first_readable(sequences[0]).camera), reach)
