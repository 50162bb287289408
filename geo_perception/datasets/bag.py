# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""ROS 1 and ROS 2 bags as sequences: images, calibration, depth and interpolated poses."""

from dataclasses import dataclass, field
import logging

import numpy as np

from geo_perception.datasets.bag_file import BagFile
from geo_perception.datasets.bag_poses import (
    add_transforms, in_order, PoseReader, stamp_of)
from geo_perception.datasets.bag_topics import (
    choose_camera_info_topic, choose_depth_topic, choose_flow_topic, choose_image_topic,
    choose_motion_mask_topic, choose_right_topic, tf_topics)
from geo_perception.datasets.camera_info import camera_from_info, info_numbers
from geo_perception.datasets.frame import Frame
from geo_perception.errors import ConfigurationError, ImageError, RecordingError, TransformError
from geo_perception.geometry.camera import same_camera
from geo_perception.geometry.transform_tree import TransformTree
from geo_perception.image_codec import decode_array, decode_depth, decode_flow, decode_rgb

# Flow goes with the mask of what moves.
BESIDE = ('depth', 'flow', 'right')
# Images of one instant: depth of another camera of the device, and the other eye of a stereo pair.
_DEPTH_REACH_NS = 20_000_000
_STEREO_REACH_NS = 1_000_000
# Where pairs are asked for, so that whoever asks can be told how far apart their eyes are.
_ASKED_STEREO_REACH_NS = 100_000_000
_STARTING_IMAGES = 10

_logger = logging.getLogger(__name__)


class BagSequence:
    """
    The frames of one camera in a bag, ordered by header stamp.

    Opening reads every message of the needed topics once; a frame is then read by itself. Poses
    are interpolated to the image stamps (linear, slerp) and never extrapolated; frames without a
    pose within reach are left out with one warning. A PoseStamped or PoseWithCovarianceStamped
    does not say whose pose it is: it is taken as that of the camera's optical frame unless
    ``pose_frame`` names another; an Odometry gives the pose of its ``child_frame_id``. Poses of a
    body are moved to the camera through the bag's TF.

    Depth comes from the one depth topic that has the camera's frame, so do flow and the mask of
    what moves; the right image and the baseline come from a stereo pair that is rectified. Flow
    leads to the next image of the bag: where that was left out for want of a pose, so is the flow.

    Parameters
    ----------
    path : str or Path
        Folder of a ROS 2 bag, or a ``.bag``, ``.mcap`` or ``.db3`` file.
    image_topic, pose_topic, camera_info_topic : str, optional
        Topics; None chooses where exactly one fits. ``pose_topic='/tf'`` takes the pose of the
        camera in ``map``, ``world`` or ``odom`` from TF.
    pose_frame : str, optional
        Frame whose pose the pose topic gives, e.g. ``base_link``.
    with_poses : bool
        False keeps all frames and reads no poses.
    beside : collection of str
        What is read beside the image: of `BESIDE`. What is left out costs no time.
    stereo : bool
        True gives the right image whatever calibration and stamps say: faults of the rig are
        found by `geo_perception.datasets.rig_check`. The baseline is then the one of P of the
        right camera, else of TF, with its sign, None where neither says.
    right_topic : str, optional
        Image topic of the right camera, where the choice is not clear.

    Attributes
    ----------
    path : Path
        The bag.
    world_frame : str
        Frame of the poses, empty without poses.
    image_topic, camera_info_topic, pose_topic : str
        The chosen topics; None without calibration, without poses.

    Raises
    ------
    RecordingError
        When the bag is damaged or empty, a topic is missing or ambiguous, time goes back, or no
        image has a pose.
    ConfigurationError
        When something else is asked for beside the image.

    """

    def __init__(self, path, image_topic=None, pose_topic=None, camera_info_topic=None,
                 pose_frame=None, with_poses=True, beside=BESIDE, stereo=False,
                 right_topic=None):
        if unknown := set(beside) - set(BESIDE):
            raise ConfigurationError(f'{", ".join(sorted(unknown))} cannot be read beside the '
                                     f'images of a bag; expected some of {", ".join(BESIDE)}')
        self._bag = bag = BagFile(path)
        self.path = bag.path
        self.image_topic = choose_image_topic(bag, image_topic)
        first = bag.first(self.image_topic)
        if first is None:
            raise RecordingError(f'the image topic {self.image_topic} of {path} holds no messages')
        self._frame_id = first.header.frame_id
        self.camera_info_topic = info_topic = choose_camera_info_topic(
            bag, self.image_topic, self._frame_id, camera_info_topic)
        self._stereo = stereo
        self._depth_topic = self._right_topic = self._flow_topic = self._mask_topic = None
        if 'depth' in beside:
            self._depth_topic = choose_depth_topic(bag, self._frame_id)
        if 'right' in beside:
            self._right_topic = choose_right_topic(bag, self.image_topic, right_topic)
        if 'flow' in beside:
            self._flow_topic = choose_flow_topic(bag, self._frame_id)
            self._mask_topic = choose_motion_mask_topic(bag, self._frame_id)
        reader = PoseReader(bag, pose_topic, pose_frame) if with_poses else None

        images = {t: _ImageIndex() for t in (self.image_topic, self._depth_topic,
                                             self._right_topic, self._flow_topic,
                                             self._mask_topic) if t}
        calibrations = _Calibrations('rect' in self.image_topic.rpartition('/')[2])
        for topic, position, message in bag.messages(
                {*images, *([info_topic] if info_topic else []),
                 *(reader.topics if reader else [])}):
            if topic in images:
                images[topic].add(stamp_of(message, position[0]), position)
            elif topic == info_topic:
                calibrations.add(stamp_of(message, position[0]), message)
            else:
                reader.add(topic, position[0], message)
        self._images = {topic: index.in_time_order(topic, path) for topic, index in images.items()}
        self._calibrations = calibrations
        self._check_calibration(self._first_picture(), info_topic, bool(camera_info_topic))
        self._baseline = self._find_baseline()
        self._positions = self._images[self.image_topic].positions
        self._stamps = self._images[self.image_topic].stamps
        # Whether an image is followed by the one that follows it in the bag.
        self._followed = np.ones(len(self._stamps), bool)
        self._poses, self.world_frame, self.pose_topic = None, '', None
        if reader:
            poses, valid, self.world_frame, self.pose_topic = reader.camera_poses(
                self._stamps, self._frame_id)
            self._poses, self._followed = poses[valid], np.append(valid[1:], True)[valid]
            self._stamps, self._positions = self._stamps[valid], self._positions[valid]
            _logger.info('%s: %d images of %s with poses of %s in %s', path, len(self),
                         self.image_topic, self.pose_topic, self.world_frame)

    def __len__(self):
        """Return the number of frames."""
        return len(self._stamps)

    def __getitem__(self, index):
        """Read one frame."""
        index = range(len(self))[index]
        stamp = int(self._stamps[index])
        name = f'{self.image_topic}@{stamp}'
        try:
            image = decode_rgb(self._bag.read(self.image_topic, self._positions[index]))
        except ImageError as error:
            raise ImageError(f'frame {name} of {self._bag.path}: {error}') from None
        depth = self._read_beside(self._depth_topic, stamp, _DEPTH_REACH_NS, decode_depth)
        right, right_stamp = self._read_right(stamp)
        flow = self._read_same_size(self._flow_topic, stamp, decode_flow, image) \
            if self._followed[index] else None
        return Frame(
            stamp=stamp, image=image, name=name,
            camera=self._calibrations.at(stamp, image.shape[1], image.shape[0], self._frame_id),
            T_world_camera=None if self._poses is None else self._poses[index].copy(),
            depth=depth, flow=flow,
            motion_mask=self._read_same_size(self._mask_topic, stamp, decode_array, image),
            right=right, baseline=None if right is None else self._baseline,
            right_stamp=right_stamp)

    @property
    def stamps(self):
        """Stamps of all frames, int64 nanoseconds, shape (N,)."""
        return self._stamps

    @property
    def poses(self):
        """``T_world_camera`` of all frames, shape (N, 4, 4), or None without poses."""
        return self._poses

    def _first_picture(self):
        """Return an image of the beginning; drivers send broken ones while a camera starts."""
        problem = None
        for position in self._images[self.image_topic].positions[:_STARTING_IMAGES]:
            try:
                return decode_rgb(self._bag.read(self.image_topic, position))
            except ImageError as error:
                problem = problem or error
        raise ImageError(f'the images on {self.image_topic} of {self.path} cannot be read: '
                         f'{problem}')

    def _read_same_size(self, topic, stamp, decode, image):
        """Return what another topic says about each pixel of an image, or None."""
        found = self._read_beside(topic, stamp, _STEREO_REACH_NS, decode)
        if found is not None and found.shape[:2] != image.shape[:2]:
            (height, width), (rows, columns) = image.shape[:2], found.shape[:2]
            raise ImageError(f'{topic}@{stamp} of {self._bag.path} has {columns}x{rows} pixels, '
                             f'but the image that it is about has {width}x{height}; record both '
                             'at one size')
        return found

    def _read_right(self, stamp):
        """Return what the right eye saw and when, or None twice."""
        if not (self._stereo or self._baseline):
            return None, None
        reach = _ASKED_STEREO_REACH_NS if self._stereo else _STEREO_REACH_NS
        right = self._read_beside(self._right_topic, stamp, reach, decode_rgb)
        if right is None:
            return None, None
        stamps = self._images[self._right_topic].stamps
        return right, int(stamps[np.argmin(np.abs(stamps - stamp))])

    def _read_beside(self, topic, stamp, reach, decode):
        """Return the image of another topic nearest in time, or None out of reach."""
        if topic is None or not len(self._images[topic].stamps):
            return None
        stamps = self._images[topic].stamps
        nearest = int(np.argmin(np.abs(stamps - stamp)))
        if abs(int(stamps[nearest]) - stamp) > reach:
            return None
        return decode(self._bag.read(topic, self._images[topic].positions[nearest]))

    def _check_calibration(self, image, topic, requested):
        if topic is None:
            return
        height, width = image.shape[:2]
        problem = self._calibrations.problem(width, height, self._frame_id)
        if problem and requested:
            raise RecordingError(f'{topic} of {self._bag.path} does not fit {self.image_topic}: '
                                 f'{problem}')
        if problem:
            _logger.warning('frames of %s have no intrinsics: %s %s', self._bag.path, topic,
                            problem)

    def _find_baseline(self):
        """Return metres to the right camera, or None unless the pair is rectified."""
        if self._right_topic is None:
            return None
        right = self._bag.first(self._right_topic)
        topic = right and choose_camera_info_topic(self._bag, self._right_topic,
                                                   right.header.frame_id)
        info = topic and self._bag.first(topic)
        baseline = None
        if info is not None:
            P, D = info_numbers(info, 'p'), info_numbers(info, 'd')
            rectified = 'rect' in self._right_topic.rpartition('/')[2] or not np.any(D)
            known = P[0] > 0 and P[3] != 0
            if known and (self._stereo or rectified and P[3] < 0):
                baseline = float(-P[3] / P[0])
        if baseline is None and self._stereo and right is not None:
            baseline = self._baseline_of_tf(right.header.frame_id)
        return baseline

    def _baseline_of_tf(self, right_frame):
        """Return how far to the right TF has the right camera, or None."""
        topics = set(tf_topics(self._bag))
        if right_frame == self._frame_id or not topics:
            return None
        tree = TransformTree()
        for topic, _, message in self._bag.messages(topics):
            add_transforms(tree, topic, message)
            if tree.connected(self._frame_id, right_frame):
                try:
                    # Eyes that move against each other are no rig: any time is as good.
                    T = tree.lookup(self._frame_id, right_frame, _link_stamp(message))
                    return float(T[0, 3]) or None
                except TransformError:
                    continue
        return None


def _link_stamp(message):
    """Return the stamp of the last transform of a message."""
    stamp = message.transforms[-1].header.stamp
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


@dataclass
class _ImageIndex:
    """Where the images of one topic are."""

    stamps: list = field(default_factory=list)
    positions: list = field(default_factory=list)

    def add(self, stamp, position):
        self.stamps.append(stamp)
        self.positions.append(position)

    def in_time_order(self, topic, path):
        stamps = np.array(self.stamps, np.int64)
        positions = np.array(self.positions, np.int64).reshape(-1, 2)
        order = in_order(stamps, topic, path)
        return _ImageIndex(stamps[order], positions[order])


class _Calibrations:
    """The CameraInfo messages of one camera: kept where they change, looked up by time."""

    def __init__(self, rectified):
        self._rectified = rectified
        self._stamps = []
        self._cameras = []

    def add(self, stamp, info):
        camera = camera_from_info(info, self._rectified)
        if not self._cameras or not same_camera(camera, self._cameras[-1]):
            self._stamps.append(stamp)
            self._cameras.append(camera)

    def at(self, stamp, width, height, frame_id):
        """Return the last calibration before the stamp, or the first; None if it does not fit."""
        if not self._cameras:
            return None
        i = max(int(np.searchsorted(self._stamps, stamp, 'right')) - 1, 0)
        camera = self._cameras[i]
        return None if _misfit(camera, width, height, frame_id) else camera

    def problem(self, width, height, frame_id):
        """Return why the first calibration does not belong to the images, or None."""
        if not self._cameras:
            return 'holds no messages'
        return _misfit(self._cameras[0], width, height, frame_id)


def _misfit(camera, width, height, frame_id):
    """Return why a calibration does not belong to an image, or None."""
    if camera.K[0, 0] == 0:
        return 'is not calibrated (K[0] is 0)'
    if (camera.width, camera.height) != (width, height):
        return (f'is for {camera.width}x{camera.height} pixels, the image has {width}x{height}')
    if camera.frame_id and camera.frame_id != frame_id.lstrip('/'):
        return f"is for the frame '{camera.frame_id}', the image has '{frame_id}'"
    problem = camera.problem()
    return f'cannot be right: {problem}' if problem else None
