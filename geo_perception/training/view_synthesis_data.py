# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Snippets of video for training depth and ego-motion.

Frames are decoded, undistorted and resized once, into a file that is mapped to memory.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Union

import cv2
from jsonargparse.typing import PositiveInt
import numpy as np
from torch.utils.data import Dataset

from geo_perception.datasets.frame import needed_camera, SlicedSequence
from geo_perception.datasets.prepared import LISTS, read_settings, SETTINGS, split_lists
from geo_perception.datasets.readable import first_readable, readable_frames
from geo_perception.datasets.recording import open_stereo, open_with_poses_if_any
from geo_perception.datasets.snippets import (
    consecutive_snippets, image_motion, moving_snippets, usual_interval)
from geo_perception.errors import ConfigurationError, RecordingError
from geo_perception.model_file import TrainingCamera
from geo_perception.networks.monodepth import LARGEST_DISPARITY
from geo_perception.progress import track
from geo_perception.training.batches import SeededBatches
from geo_perception.training.recorded_rig import check_recorded_rig
from geo_perception.training.scratch import scratch_array

# Held out where no validation recording is given: the last of this many parts.
PARTS = 10


@dataclass
class Video:
    """
    A recording, decoded and resized.

    Attributes
    ----------
    images : np.ndarray
        uint8 RGB, shape (N, H, W, 3), memory-mapped.
    K : np.ndarray
        Intrinsics of the resized images, float32, shape (N, 3, 3).
    snippets : np.ndarray
        Frames that follow each other, shape (M, length).
    depths : list of np.ndarray or None
        True depths, metres, NaN where unknown, at sizes of their own; None where the recording
        has none with a frame.
    poses : np.ndarray or None
        ``T_world_camera``, shape (N, 4, 4).
    flows : list of np.ndarray or None
        True flow to the next frame of a snippet, pixels of the resized images, NaN where unknown,
        shape (H, W, 2); None where the recording has none with a frame.
    motion_masks : list of np.ndarray or None
        Not zero where the surface moves by itself, shape (H, W).
    rights : np.ndarray or None
        What the right eye saw, like ``images``; None where nobody asked.
    baselines : np.ndarray
        Metres to the right eye, float32, shape (N,), NaN where there is no image of it.

    """

    images: np.ndarray
    K: np.ndarray
    snippets: np.ndarray
    depths: list
    poses: Optional[np.ndarray]
    flows: list
    motion_masks: list
    rights: Optional[np.ndarray]
    baselines: np.ndarray


def load_video(sequence, preprocessing, length, step, name, stereo=False):
    """
    Decode, undistort and resize a recording once.

    Parameters
    ----------
    sequence : Sequence
        Frames with intrinsics.
    preprocessing : Preprocessing
        Says the size.
    length, step : int
        Of the snippets, see `geo_perception.datasets.snippets.consecutive_snippets`.
    name : str
        Of the recording, for messages.
    stereo : bool
        Whether the targets of snippets have to be stereo pairs.

    Returns
    -------
    Video

    Raises
    ------
    RecordingError
        When frames lack intrinsics, there are no snippets with motion, or no pairs.
    ConfigurationError
        When the images do not fit the disk.

    """
    snippets = consecutive_snippets(sequence.stamps, length, step)
    height, width = preprocessing.crop
    images = scratch_array(np.uint8, (len(sequence), height, width, 3))
    rights = scratch_array(np.uint8, images.shape) if stereo else None
    baselines = np.full(len(sequence), np.nan, np.float32)
    K = np.zeros((len(sequence), 3, 3), np.float32)
    depths, flows, masks = ([None] * len(sequence) for _ in range(3))
    readable = np.zeros(len(sequence), bool)
    for i, frame in track(readable_frames(sequence), 'Reading frames', total=len(sequence)):
        readable[i] = True
        camera = needed_camera(frame, 'depth cannot be learned', name)
        image, camera = camera.undistort(frame.image)
        resized = preprocessing.resize(image)
        left, top = preprocessing.centre(resized.shape[1], resized.shape[0])
        images[i] = preprocessing.centre_crop(resized)
        K[i] = camera.resized(resized.shape[1], resized.shape[0]).cropped(
            left, top, width, height).K
        depths[i] = matching_depth(frame, preprocessing)
        # Of distorted images, and to the frame after this one.
        straight = not frame.camera.distorts
        flows[i] = _matching_flow(frame, preprocessing) if straight and step == 1 else None
        masks[i] = _matching(frame.motion_mask, preprocessing) if straight else None
        if stereo and frame.right is not None:
            check_pair(frame, name)
            if frame.camera.distorts:
                raise RecordingError(f'{name}: pair {frame.name} is not rectified; rectify both '
                                     'eyes first')
            rights[i] = preprocessing.centre_crop(preprocessing.resize(frame.right))
            # A sign that the images contradict is only warned of, one that they confirm refused.
            baselines[i] = abs(frame.baseline)
    snippets = snippets[readable[snippets].all(1)]
    if stereo:
        snippets = snippets[np.isfinite(baselines[snippets[:, length // 2]])]
        if not len(snippets):
            raise RecordingError(f'{name} has no snippet around a stereo pair; set data.stereo to '
                                 'false, or data.right_topic')
    snippets = moving_snippets(snippets, image_motion(images))
    return Video(images, K, snippets, depths, sequence.poses, flows, masks, rights, baselines)


def check_pair(frame, name):
    """
    Refuse a pair whose disparity is no depth.

    Parameters
    ----------
    frame : Frame
        With a right image.
    name : str
        Of the recording, for messages.

    Raises
    ------
    RecordingError
        When it lacks intrinsics or baseline, or its eyes differ in size.

    """
    if frame.camera is None or not frame.baseline:
        raise RecordingError(f'{name}: pair {frame.name} lacks '
                             f'{"intrinsics" if frame.camera is None else "a baseline"}, and '
                             'disparity is no depth without; record camera_info of both eyes')
    if frame.right.shape != frame.image.shape:
        raise RecordingError(f'{name}: the eyes of pair {frame.name} differ in size, left '
                             f'{frame.image.shape[1::-1]}, right {frame.right.shape[1::-1]}')


def matching_depth(frame, preprocessing):
    """
    Return the true depth that belongs to the resized image.

    Parameters
    ----------
    frame : Frame
        As recorded.
    preprocessing : Preprocessing
        Says the size.

    Returns
    -------
    np.ndarray or None
        Metres, shape (h, w); None where it is not known.

    """
    return _matching(frame.depth, preprocessing)


def _matching(truth, preprocessing):
    """Return what is true of each pixel of an image for the resized one, or None."""
    if truth is None:
        return None
    height, width = truth.shape[:2]
    size = preprocessing.resized_size(width, height)
    # Nearest neighbour: a mean of near and far is neither.
    return preprocessing.centre_crop(cv2.resize(truth, size, interpolation=cv2.INTER_NEAREST))


def _matching_flow(frame, preprocessing):
    """Return the true flow in pixels of the resized image, or None."""
    if frame.flow is None:
        return None
    height, width = frame.flow.shape[:2]
    size = np.array(preprocessing.resized_size(width, height), np.float32)
    return _matching(frame.flow, preprocessing) * (size / [width, height]).astype(np.float32)


class Snippets(Dataset):
    """
    Snippets of several videos.

    Parameters
    ----------
    videos : list of Video
        Where they come from.

    """

    def __init__(self, videos):
        self.videos = videos
        self._index = [(v, s) for v, video in enumerate(videos)
                       for s in range(len(video.snippets))]

    def __len__(self):
        """Return the number of snippets."""
        return len(self._index)

    def __getitem__(self, index):
        """Return images (length, H, W, 3), K (3, 3), what is known of the truth, and the index."""
        which, snippet = self._index[index]
        video = self.videos[which]
        frames = video.snippets[snippet]
        centre = frames[len(frames) // 2]
        item = {'images': np.array(video.images[frames]), 'K': video.K[centre], 'index': index}
        height, width = video.images.shape[1:3]
        depth = video.depths[centre]
        item['depth'] = (np.full((height, width), np.nan, np.float32) if depth is None else depth)
        flow, mask = video.flows[centre], video.motion_masks[centre]
        item['flow'] = (np.full((height, width, 2), np.nan, np.float32) if flow is None else flow)
        # 0 or 1, and NaN where nobody says.
        item['moving'] = (np.full((height, width), np.nan, np.float32) if mask is None
                          else (mask != 0).astype(np.float32))
        if video.rights is not None:
            item['right'] = np.array(video.rights[centre])
            item['baseline'] = video.baselines[centre]
        item['poses'] = (np.full((len(frames), 4, 4), np.nan) if video.poses is None
                         else video.poses[frames])
        return item


def recording_name(spec):
    """
    Return what a recording is called; a list of a prepared folder also by the folder.

    Parameters
    ----------
    spec : str
        As the user named it.

    Returns
    -------
    str

    """
    path = Path(spec)
    return f'{path.parent.name}/{path.name}' if path.name in LISTS else path.name


def _origin(specs):
    """Return dataset and split of prepared folders, so that no test set is scored by mistake."""
    folders = [Path(spec).expanduser().parent for spec in specs if Path(spec).name in LISTS]
    settings = [read_settings(folder) for folder in folders if (folder / SETTINGS).is_file()]
    return [f"{there.get('dataset')} {there.get('split')}" for there in settings]


class ViewSynthesisData(SeededBatches):
    """
    Training and validation videos.

    Parameters
    ----------
    train : str or list of str
        Recordings to learn from: anything with images and intrinsics; slices as in
        ``bag[0:500]``. Of a prepared folder this is ``train.txt``.
    val : str, optional
        Recording that selects the checkpoint and measures the scale. Without it ``val.txt`` of
        the (last) training recording counts if that is a prepared folder, else its last tenth is
        held out. Of a prepared folder this is ``val.txt``.
    length : int
        Frames of a snippet, odd.
    step : int
        Every how many frames of the recording one is taken.
    batch_size : int
        Snippets a step, on each process.
    image_topic : str, optional
        Image topic of a bag, where it has several.
    camera_info_topic : str, optional
        Calibration topic of a bag.
    pose_topic : str, optional
        Pose topic of a bag, where it has several; poses only measure, nothing is learned from
        them.
    stereo : bool
        Training recordings are of a rectified stereo camera: what its right eye sees of each
        target is a further source view, whose motion is known. Depth and motion are in metres
        then, and ``model.loss.scale_anchor_weight`` does not count.
    right_topic : str, optional
        Image topic of the right eye in a bag, where the choice is not clear.
    accept_rig : bool
        Train although the check of the stereo rig finds it hopeless.

    """

    def __init__(self, train: Union[str, List[str]], val: Optional[str] = None,
                 length: PositiveInt = 3, step: PositiveInt = 1, batch_size: PositiveInt = 4,
                 image_topic: Optional[str] = None, camera_info_topic: Optional[str] = None,
                 pose_topic: Optional[str] = None, stereo: bool = False,
                 right_topic: Optional[str] = None, accept_rig: bool = False):
        super().__init__()
        if right_topic is not None and not stereo:
            raise ConfigurationError(f"data.right_topic '{right_topic}' is of a stereo camera; "
                                     'set data.stereo to true, or leave it out')
        if length < 3 or length % 2 == 0:
            raise ConfigurationError(f'data.length is {length}; snippets have 3 or 5 frames, an '
                                     'odd number with the target in the middle')
        specs = [train] if isinstance(train, str) else list(train)
        lists = [split_lists(spec) for spec in specs]
        self._train_specs = [two[0] if two else spec for two, spec in zip(lists, specs)]
        held_out = split_lists(val) if val is not None else lists[-1]
        self._val_spec = held_out[1] if held_out else val
        self._options = {'image_topic': image_topic, 'camera_info_topic': camera_info_topic,
                         'pose_topic': pose_topic, 'beside': ('depth', 'flow')}
        # Plain numbers again: checkpoints hold nothing that needs code to be read.
        self.length, self._step, self.batch_size = int(length), int(step), batch_size
        self._stereo, self._right_topic, self._accept_rig = stereo, right_topic, accept_rig
        self.train, self.val = None, None

    def setup(self, stage):
        """Read all recordings."""
        if self.train is not None:
            return
        module = self.trainer.lightning_module
        # Before minutes of reading.
        module.check_length(self.length)
        if self._stereo:
            module.use_stereo()
        sequences = [self._open_pairs(spec) if self._stereo else
                     open_with_poses_if_any(spec, **self._options) for spec in self._train_specs]
        if self._val_spec is not None:
            val = open_with_poses_if_any(self._val_spec, **self._options)
        else:
            whole, n = sequences[-1], len(sequences[-1])
            cut = n - max(n // PARTS, self.length * self._step)
            sequences[-1] = SlicedSequence(whole, np.arange(cut))
            val = SlicedSequence(whole, np.arange(cut, n))
        preprocessing = module.preprocessing
        self.train = Snippets([
            load_video(sequence, preprocessing, self.length, self._step, spec, self._stereo)
            for sequence, spec in zip(sequences, self._train_specs)])
        self.val = Snippets([load_video(val, preprocessing, self.length, self._step,
                                        self._val_spec or self._train_specs[-1])])
        module.describe_data({
            'train': [recording_name(spec) for spec in self._train_specs],
            'train_snippets': len(self.train), 'val_snippets': len(self.val),
            'val': ('the end of the last' if self._val_spec is None
                    else recording_name(self._val_spec)),
            'length': self.length, 'step': self._step,
            'interval': self._step * usual_interval(sequences[0].stamps),
            'prepared': _origin(self._train_specs), **({} if not self._stereo else {
                'baseline': float(np.nanmedian(self.train.videos[0].baselines))})},
            TrainingCamera.of(first_readable(sequences[0]).camera))

    def _open_pairs(self, spec):
        """Return a recording of a stereo camera whose rig is no hopeless one."""
        sequence = open_stereo(spec, self._options['image_topic'], self._right_topic,
                               self._options['camera_info_topic'])
        check_recorded_rig(spec, sequence, LARGEST_DISPARITY, self._accept_rig)
        return sequence
