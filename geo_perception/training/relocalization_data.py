# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Posed images for training a relocalizer.

Frames are decoded and resized once, into a file that is mapped to memory; where a network has a
frozen part, that part too runs once a view, in the inference engine. A training step then waits
for nothing (speed.md section 4).
"""

from dataclasses import dataclass
import logging
from pathlib import Path
from typing import Optional

from jsonargparse.typing import PositiveInt
import numpy as np
import torch
from torch.utils.data import Dataset

from geo_perception.datasets.frame import SlicedSequence
from geo_perception.datasets.pose_image_check import check_recording
from geo_perception.datasets.readable import first_readable, readable_frames
from geo_perception.datasets.recording import open_recording
from geo_perception.errors import ConfigurationError, RecordingError
from geo_perception.geometry.camera import Camera
from geo_perception.inference.retrieval import thumbnail
from geo_perception.model_file import TrainingCamera
from geo_perception.progress import track
from geo_perception.training.batches import SeededBatches
from geo_perception.training.frozen_features import FrozenFeatures
from geo_perception.training.novel_views import (
    fuse_depth, NovelViewRenderer, NovelViews, SOURCES)
from geo_perception.training.scratch import scratch_array

log = logging.getLogger(__name__)

# Where no validation recording is given, the fifth and the fifteenth of this many stretches are
# held out: inside the path, and long, since frames next to training frames are too easy for the
# covariance.
STRETCHES = 20
SMALLEST_SPLIT = 100
LARGEST_RETRIEVAL = 2000
POINTS_PER_IMAGE = 200


@dataclass
class PosedImages:
    """
    A recording, decoded and resized.

    Attributes
    ----------
    images : np.ndarray
        uint8 RGB, shape (N, H, W, 3), memory-mapped.
    poses : np.ndarray
        ``T_world_camera``, shape (N, 4, 4).
    thumbnails : np.ndarray
        For retrieval, shape (N, 24, 32).
    camera : Camera or None
        Intrinsics of the resized images.
    recorded_camera : TrainingCamera or None
        Intrinsics of the recorded images.
    points : np.ndarray or None
        World points seen in each image, shape (N, G, 3), NaN where unknown.
    world_frame : str
        Name of the frame of the poses.

    """

    images: np.ndarray
    poses: np.ndarray
    thumbnails: np.ndarray
    camera: Optional[Camera]
    recorded_camera: Optional[TrainingCamera]
    points: Optional[np.ndarray]
    world_frame: str

    @property
    def K(self):
        """Intrinsics of the resized images, float64 (3, 3), or None."""
        return None if self.camera is None else torch.from_numpy(self.camera.K)

    def crop_K(self, preprocessing):
        """
        Return the intrinsics of the centre crop.

        Parameters
        ----------
        preprocessing : Preprocessing
            Says where the crop lies.

        Returns
        -------
        torch.Tensor or None
            float64 (3, 3).

        """
        if self.camera is None:
            return None
        left, top = preprocessing.centre(self.camera.width, self.camera.height)
        return torch.from_numpy(self.camera.cropped(left, top, *preprocessing.crop[::-1]).K)


def load_posed_images(sequence, preprocessing, with_points=False):
    """
    Decode and resize a recording once.

    Parameters
    ----------
    sequence : Sequence
        Frames with poses.
    preprocessing : Preprocessing
        Says the size.
    with_points : bool
        Also sample world points from depth.

    Returns
    -------
    PosedImages

    Raises
    ------
    RecordingError
        When there are no frames, no poses, or frames of different size.
    ConfigurationError
        When the images do not fit the disk, or points are asked for without depth.

    """
    if not len(sequence) or sequence.poses is None:
        raise RecordingError('training needs frames with poses, and this recording has '
                             + ('frames without poses' if len(sequence) else 'no frames'))
    first = first_readable(sequence)
    width, height = preprocessing.resized_size(first.image.shape[1], first.image.shape[0])
    images = scratch_array(np.uint8, (len(sequence), height, width, 3))
    seen, thumbnails, points = [], [], []
    random = np.random.default_rng(0)
    for i, frame in track(readable_frames(sequence), 'Reading frames', total=len(sequence)):
        if frame.image.shape != first.image.shape:
            raise RecordingError(f'frame {frame.name} is {frame.image.shape[1]}x'
                                 f'{frame.image.shape[0]}, the first is {first.image.shape[1]}'
                                 f'x{first.image.shape[0]}; train on one size at a time')
        images[len(seen)] = preprocessing.resize(frame.image)
        seen.append(i)
        thumbnails.append(thumbnail(frame.image))
        if with_points:
            points.append(_world_points(frame, random))
    camera, recorded = first.camera, None
    if camera is not None:
        recorded = TrainingCamera.of(camera)
        camera = camera.resized(width, height)
    return PosedImages(images[:len(seen)], sequence.poses[seen], np.stack(thumbnails), camera,
                       recorded, np.stack(points) if with_points else None,
                       sequence.world_frame)


def _world_points(frame, random):
    """Return points on the surfaces that a frame sees, in the world, shape (G, 3)."""
    if frame.depth is None or frame.camera is None:
        raise ConfigurationError('the reprojection loss needs depth and intrinsics with every '
                                 f'frame, and frame {frame.name} lacks them')
    camera = frame.camera.resized(frame.depth.shape[1], frame.depth.shape[0])
    rows, columns = np.nonzero(np.isfinite(frame.depth))
    points = np.full((POINTS_PER_IMAGE, 3), np.nan)
    if len(rows):
        pick = random.integers(len(rows), size=POINTS_PER_IMAGE)
        pixels = np.stack([columns[pick], rows[pick], np.ones(POINTS_PER_IMAGE)], 1)
        points = (pixels @ np.linalg.inv(camera.K).T) * frame.depth[rows, columns][pick, None]
        T = frame.T_world_camera
        points = points @ T[:3, :3].T + T[:3, 3]
    return points


@dataclass(frozen=True)
class FrozenViews:
    """
    Every training view behind the frozen part of a network.

    Attributes
    ----------
    inputs : np.ndarray
        Output of that part, float16, shape (M, ...); the recorded frames come first.
    poses : np.ndarray
        ``T_world_camera``, shape (M, 4, 4).
    sources : np.ndarray
        Recorded frames that a view may show pixels of, -1 for none, shape (M, 4).
    recorded : range
        Rows of the recorded frames as they are.

    """

    inputs: np.ndarray
    poses: np.ndarray
    sources: np.ndarray
    recorded: range


class _Batches(Dataset):
    """Inputs (uint8 images or float16 features) with poses and points."""

    def __init__(self, inputs, poses, points):
        self._inputs, self._poses, self._points = inputs, poses, points

    def __len__(self):
        return len(self._poses)

    def __getitem__(self, index):
        item = {'input': np.array(self._inputs[index]), 'pose': self._poses[index]}
        if self._points is not None:
            item['points'] = self._points[index % len(self._points)].astype(np.float32)
        return item


class RelocalizationData(SeededBatches):
    """
    Training and validation frames.

    Parameters
    ----------
    train : str
        Recording to learn from; slices as in ``bag[0:500]``.
    val : str, optional
        Recording that selects the checkpoint and calibrates the covariance; never the one that
        results are reported on. Without it the training recording is cut into twenty stretches,
        and the fifth and the fifteenth are held out.
    batch_size : int
        Frames a step, on each process.
    views : int
        Augmented views of every frame that pass through the frozen part of the network before
        training; an epoch goes through all of them.
    novel_views : NovelViews
        Further views rendered beside the path, where the recording has depth.
    image_topic : str, optional
        Image topic of a bag, where it has several.
    pose_topic : str, optional
        Pose topic of a bag, where it has several.
    camera_info_topic : str, optional
        Calibration topic of a bag.
    quaternion : str, optional
        ``world_to_camera`` or ``camera_to_world``, for Cambridge-style text labels.
    pose_frame : str, optional
        Frame whose pose the pose topic of a bag gives, where it is not the camera.

    """

    drops_last = False

    def __init__(self, train: str, val: Optional[str] = None, batch_size: PositiveInt = 64,
                 views: PositiveInt = 16, novel_views: NovelViews = NovelViews(),
                 image_topic: Optional[str] = None,
                 pose_topic: Optional[str] = None, camera_info_topic: Optional[str] = None,
                 quaternion: Optional[str] = None, pose_frame: Optional[str] = None):
        super().__init__()
        self._train_spec, self._val_spec = train, val
        self._options = {'image_topic': image_topic, 'pose_topic': pose_topic,
                         'camera_info_topic': camera_info_topic, 'quaternion': quaternion,
                         'pose_frame': pose_frame, 'beside': ('depth',)}
        self.batch_size, self._views, self._novel_views = batch_size, views, novel_views
        self.train, self.val, self.frozen_views = None, None, None

    @property
    def has_validation_drive(self):
        """Whether validation frames are of a drive of their own."""
        return self._val_spec is not None

    def setup(self, stage):
        """Read both recordings and run the frozen part of the network over them."""
        if self.train is not None:
            return
        model = self.trainer.lightning_module
        train, val = self._open()
        self.train = load_posed_images(train, model.preprocessing,
                                       model.loss.kind == 'reprojection')
        self.val = load_posed_images(val, model.preprocessing)
        model.fit_to_scene(self.train, self._summary())
        images, poses, sources = self._with_novel_views(train, model.seed)
        if not model.network.has_frozen_part:
            self._train_set = _Batches(images, poses, self.train.points)
            self._val_set = _Batches(self.val.images, self.val.poses, None)
            return
        features = FrozenFeatures(model)
        inputs, poses = features(images, poses, self.train.K, self._views)
        self.frozen_views = FrozenViews(inputs, poses, np.tile(sources, (self._views, 1)),
                                        range(len(self.train.poses)))
        self._train_set = _Batches(inputs, poses, self.train.points)
        self._val_set = _Batches(*features(self.val.images, self.val.poses, None, 1), None)

    def _with_novel_views(self, sequence, seed):
        """
        Return training images, poses and what they show, rendered ones after the recorded ones.

        What they show: indices of recorded frames, -1 for none, shape (N, 4).
        """
        count = self._novel_views.count
        n = len(self.train.poses)
        sources = np.full((n + count, len(SOURCES)), -1)
        sources[:n, 0] = np.arange(n)
        if count == 0:
            return self.train.images, self.train.poses, sources
        if self.train.points is not None:
            raise ConfigurationError('the reprojection loss knows the points of recorded images '
                                     'only; set data.novel_views.count to 0')
        points = fuse_depth(sequence)
        if not len(points):
            log.warning('%s has no depth with intrinsics, so no views are rendered beside the '
                        'path; set --data.views to 16 or more to turn the camera instead',
                        self._train_spec)
            return self.train.images, self.train.poses, sources[:n]
        renderer = NovelViewRenderer(self.train.images, self.train.poses, self.train.camera,
                                     points, self._novel_views)
        random = np.random.default_rng(seed)
        images = scratch_array(np.uint8, (n + count, *self.train.images.shape[1:]))
        images[:n] = self.train.images
        poses = np.concatenate([self.train.poses, np.zeros((count, 4, 4))])
        for i in track(range(n, n + count), 'Rendering novel views'):
            images[i], poses[i], sources[i] = renderer.draw(random)
        return images, poses, sources

    def _open(self):
        """Return the training and the validation sequence."""
        train = self._open_usable(self._train_spec)
        if self._val_spec is not None:
            return train, self._open_usable(self._val_spec)
        if len(train) < SMALLEST_SPLIT:
            raise RecordingError(f'{self._train_spec} has only {len(train)} frames, too few to '
                                 'hold some out; name a validation recording with --data.val')
        held_out = np.arange(len(train)) * STRETCHES // len(train) % 10 == 4
        return (SlicedSequence(train, np.flatnonzero(~held_out)),
                SlicedSequence(train, np.flatnonzero(held_out)))

    def _open_usable(self, spec):
        """Return the frames of a recording whose poses can be believed; warn about the others."""
        sequence = open_recording(spec, **self._options)
        report = check_recording(sequence)
        for finding in report.findings:
            log.warning('%s: %s', spec, finding)
        if report.valid.all():
            return sequence
        return SlicedSequence(sequence, np.flatnonzero(report.valid))

    def _summary(self):
        """Return what the model file says about its data."""
        return {'train': Path(self._train_spec).name, 'train_frames': len(self.train.poses),
                'val': 'held out of train' if self._val_spec is None
                else Path(self._val_spec).name, 'val_frames': len(self.val.poses)}

    def _sets(self):
        """Return the sets of training and validation."""
        return self._train_set, self._val_set
