# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Where the camera of a bag was at the times of its images."""

import logging

import numpy as np

from geo_perception.datasets.bag_topics import choose_pose_topic, POSES, TF, tf_topics
from geo_perception.datasets.trajectory import interpolate_poses, labels_from_quaternions
from geo_perception.errors import RecordingError, TransformError
from geo_perception.geometry.transform_tree import TransformTree

# A robot at walking pace that turns or brakes is 3 cm off a straight line after half a second.
MAX_GAP_NS = 500_000_000
# A clock may be a little out of order between drivers, but not by this much.
_MAX_BACKWARD_NS = 10**9
_GLOBAL_FRAMES = ('map', 'world')

_logger = logging.getLogger(__name__)


def stamp_of(message, recorded):
    """
    Return the header stamp of a message, or the time of its recording where it has none.

    Parameters
    ----------
    message : object
        Any message with a header.
    recorded : int
        Nanoseconds.

    Returns
    -------
    int
        Nanoseconds.

    """
    stamp = message.header.stamp
    return int(stamp.sec) * 10**9 + int(stamp.nanosec) or int(recorded)


def in_order(stamps, topic, path):
    """
    Return the order in which stamps increase strictly.

    Parameters
    ----------
    stamps : np.ndarray
        Nanoseconds, in the order of recording.
    topic : str
        For the message.
    path : Path
        For the message.

    Returns
    -------
    np.ndarray
        Indices; of equal stamps the first is kept.

    Raises
    ------
    RecordingError
        When time went back by more than a second.

    """
    behind = np.maximum.accumulate(stamps) - stamps
    if len(stamps) and behind.max() > _MAX_BACKWARD_NS:
        i = int(np.argmax(behind > _MAX_BACKWARD_NS))
        raise RecordingError(
            f'the stamps of {topic} in {path} go back by {behind[i] * 1e-9:.3f} s at message {i}: '
            'the clock was set back or two recordings were joined; split the bag there')
    return np.unique(stamps, return_index=True)[1]


def add_transforms(tree, topic, message):
    """
    Add the transforms of one message.

    Parameters
    ----------
    tree : TransformTree
        Where to.
    topic : str
        Those of ``tf_static`` hold for ever.
    message : tf2_msgs/TFMessage
        As decoded.

    Returns
    -------
    str or None
        Why one of them was left out.

    """
    ignored = None
    for link in message.transforms:
        p, q = link.transform.translation, link.transform.rotation
        labels = labels_from_quaternions([[p.x, p.y, p.z]], [[q.w, q.x, q.y, q.z]],
                                         [link.child_frame_id])
        stamp = int(link.header.stamp.sec) * 10**9 + int(link.header.stamp.nanosec)
        try:
            if not labels.valid[0]:
                raise TransformError(labels.problems[0])
            tree.add(link.header.frame_id, link.child_frame_id, stamp, labels.poses[0],
                     static=topic.endswith('tf_static'))
        except TransformError as error:
            ignored = ignored or str(error)
    return ignored


class PoseReader:
    """
    Collects the pose and transform messages of a bag and answers where the camera was.

    Parameters
    ----------
    bag : BagFile
        The bag.
    requested : str, optional
        Pose topic, ``/tf`` included; None chooses (see ``choose_pose_topic``).
    pose_frame : str, optional
        Frame whose pose the topic gives. By default that is the ``child_frame_id`` of an
        Odometry, and the camera for messages that do not say. Poses of another frame than the
        camera are moved to the camera through TF.

    """

    def __init__(self, bag, requested=None, pose_frame=None):
        self._bag = bag
        self._requested = requested
        self._pose_frame = (pose_frame or '').lstrip('/')
        self._tf_topics = tf_topics(bag, requested)
        if requested:
            choose_pose_topic(bag, False, requested)
            self._pose_topics = [requested] if bag.topics[requested] != TF else []
        else:
            self._pose_topics = bag.of_type(*POSES)
        self._tree = TransformTree(max_gap_ns=MAX_GAP_NS)
        self._poses = {topic: [] for topic in self._pose_topics}
        self._frames = {}
        self._ignored = None

    @property
    def topics(self):
        """Topics whose messages ``add`` wants."""
        return [*self._pose_topics, *self._tf_topics]

    def add(self, topic, recorded, message):
        """
        Take one message in.

        Parameters
        ----------
        topic : str
            One of ``topics``.
        recorded : int
            Time of its recording, nanoseconds.
        message : object
            As decoded.

        """
        if topic in self._poses:
            pose = getattr(message.pose, 'pose', message.pose)
            p, q = pose.position, pose.orientation
            self._poses[topic].append((stamp_of(message, recorded),
                                       (p.x, p.y, p.z, q.w, q.x, q.y, q.z)))
            frames = (message.header.frame_id.lstrip('/'),
                      getattr(message, 'child_frame_id', '').lstrip('/'))
            if self._frames.setdefault(topic, frames) != frames:
                raise RecordingError(f'the poses of {topic} in {self._bag.path} change their '
                                     f'frames from {self._frames[topic]} to {frames}')
            return
        ignored = add_transforms(self._tree, topic, message)
        self._ignored = self._ignored or ignored

    def camera_poses(self, stamps, camera_frame):
        """
        Return the poses of the camera at given times.

        Parameters
        ----------
        stamps : np.ndarray
            Nanoseconds, increasing, shape (N,).
        camera_frame : str
            Optical frame, from the images' headers.

        Returns
        -------
        poses : np.ndarray
            ``T_world_camera``, shape (N, 4, 4).
        valid : np.ndarray
            (N,) bool: False where no pose is within reach.
        world_frame : str
            Frame that the poses are given in.
        topic : str
            Topic that they came from.

        Raises
        ------
        RecordingError
            When the bag has no poses, several sources of them, or none within reach of any image.

        """
        camera_frame = camera_frame.lstrip('/')
        if self._ignored:
            _logger.warning('some transforms of %s are ignored: %s', self._bag.path, self._ignored)
        world = next((frame for frame in _GLOBAL_FRAMES if camera_frame
                      and self._tree.connected(frame, camera_frame)), None)
        topic = choose_pose_topic(self._bag, world is not None, self._requested)
        if topic is None or self._bag.topics[topic] == TF:
            poses, valid, world = self._from_tf(stamps, camera_frame, world)
            topic = self._tf_topics[0]
        else:
            world = self._frames.get(topic, ('', ''))[0] or 'map'
            poses, valid = self._from_topic(topic, stamps, camera_frame)
        if not valid.all():
            _logger.warning('%d of %d frames of %s are left out: %s has no pose within %.1f s '
                            'before and after them', np.sum(~valid), len(valid), self._bag.path,
                            topic, MAX_GAP_NS * 1e-9)
        return poses, valid, world, topic

    def _from_tf(self, stamps, camera_frame, world):
        if self._pose_frame:
            raise RecordingError(f"pose_frame '{self._pose_frame}' does not apply to poses from "
                                 'TF, which knows the camera; leave it out')
        if not camera_frame:
            raise RecordingError(f'the images of {self._bag.path} carry no frame_id, so TF cannot '
                                 'say where the camera was; set pose_topic')
        world = world or ('odom' if self._tree.connected('odom', camera_frame)
                          else self._tree.root(camera_frame))
        if world == camera_frame:
            raise RecordingError(
                f'the bag {self._bag.path} does not say where the camera was: it has no pose '
                f"topic, and no transform reaches the camera's frame '{camera_frame}' (frames in "
                f'TF: {", ".join(self._tree.frames) or "none"})')
        poses, valid, reason = self._look_up(world, camera_frame, stamps)
        if not valid.any():
            raise RecordingError(f'no image of {self._bag.path} has a pose: {reason}')
        return poses, valid, world

    def _from_topic(self, topic, stamps, camera_frame):
        rows = self._poses[topic]
        if not rows:
            raise RecordingError(f'the pose topic {topic} of {self._bag.path} holds no messages')
        recorded = np.array([row[0] for row in rows], np.int64)
        numbers = np.array([row[1] for row in rows])
        names = [f'{topic} at {stamp * 1e-9:.3f} s' for stamp in recorded]
        labels = labels_from_quaternions(numbers[:, :3], numbers[:, 3:], names)
        for problem in labels.problems:
            _logger.warning('in %s %s', self._bag.path, problem)
        recorded, body = recorded[labels.valid], labels.poses[labels.valid]
        if not len(recorded):
            raise RecordingError(f'in {self._bag.path} {labels.problems[0]}; no pose remains')
        order = in_order(recorded, topic, self._bag.path)
        recorded, body = recorded[order], body[order]
        poses, valid = interpolate_poses(recorded, body, stamps, MAX_GAP_NS)
        if not valid.any():
            raise RecordingError(
                f'no image of {self._bag.path} has a pose within {MAX_GAP_NS * 1e-9:.1f} s before '
                f'and after it: the images run from {_span(stamps)} s, the poses of {topic} from '
                f'{_span(recorded)} s')
        child = self._pose_frame or self._frames[topic][1]
        if child and child != camera_frame:
            T_child_camera, known, reason = self._look_up(child, camera_frame, stamps)
            if not (known & valid).any():
                raise RecordingError(
                    f"the topic {topic} of {self._bag.path} gives poses of '{child}', and where "
                    f"the camera '{camera_frame}' sits on it is not in the bag: {reason}; record "
                    '/tf_static too, or set pose_frame to the camera frame if the poses are those '
                    'of the camera')
            poses, valid = poses @ T_child_camera, valid & known
        return poses, valid

    def _look_up(self, target, source, stamps):
        """Return (transforms, which are known, why the first is not)."""
        transforms = np.tile(np.eye(4), (len(stamps), 1, 1))
        known = np.ones(len(stamps), bool)
        reason = ''
        for i, stamp in enumerate(stamps):
            try:
                transforms[i] = self._tree.lookup(target, source, int(stamp))
            except TransformError as error:
                known[i] = False
                reason = reason or str(error)
        return transforms, known, reason


def _span(stamps):
    return f'{stamps[0] * 1e-9:.3f} to {stamps[-1] * 1e-9:.3f}'
