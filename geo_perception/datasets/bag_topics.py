# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Which topics of a bag hold the image, its calibration and the poses, if nobody says."""

import re

from geo_perception.errors import RecordingError

IMAGES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
POSES = ('geometry_msgs/msg/PoseStamped', 'geometry_msgs/msg/PoseWithCovarianceStamped',
         'nav_msgs/msg/Odometry')
TF = 'tf2_msgs/msg/TFMessage'
CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'

_DEPTH_ENCODINGS = ('32FC1', '16UC1', '32FC', '16UC')
_COMPUTED = {'depth', 'disparity', 'mask', 'flow', 'label', 'labels', 'segmentation', 'confidence',
             'score', 'overlay', 'debug'}
_RIGHT = {'right', 'infra2'}
_OTHER_CAMERA = _RIGHT | {'thermal'}
_MAIN = {'left', 'color', 'colour', 'rgb', 'infra1'}
# Poses that somebody wished for, not ones that were measured.
_NOT_MEASURED = {'goal', 'initialpose', 'target', 'setpoint', 'desired', 'cmd', 'command'}
_TRUTH = {'groundtruth', 'gt', 'truth', 'mocap', 'vicon', 'optitrack', 'vrpn'}


def words(topic):
    """
    Return the words that a topic name is made of.

    Parameters
    ----------
    topic : str
        Such as ``/camera/depth/image_raw``.

    Returns
    -------
    set of str

    """
    return set(re.split(r'[/_]', topic.lower())) - {''}


def is_computed(topic):
    """
    Tell by its name whether an image topic holds what was made of the images of a camera.

    Parameters
    ----------
    topic : str
        Such as ``/geometry/depth``.

    Returns
    -------
    bool

    """
    return bool(words(topic) & _COMPUTED)


def choose_image_topic(bag, requested=None):
    """
    Return the topic of the main camera.

    A requested topic must exist. Otherwise depth images, masks, right-hand cameras and other
    pictures that are no view of a main camera are put aside by name and encoding; of one camera,
    raw is preferred to compressed; then colour to grey, then names such as ``left`` and ``color``,
    then ``image_raw``. Exactly one must remain.

    Parameters
    ----------
    bag : BagFile
        The bag.
    requested : str, optional
        Topic name.

    Returns
    -------
    str

    Raises
    ------
    RecordingError
        When none or several fit; it lists the topics that could be a camera's.

    """
    topics = bag.of_type(*IMAGES)
    if requested:
        return _requested_image(bag, requested, 'image_topic')
    if not topics:
        raise RecordingError(f'the bag {bag.path} holds no images (no topic of type '
                             f'{" or ".join(IMAGES)}); its topics are {_listed(bag.topics)}')
    pictures = _pictures(bag)
    candidates = {}
    for topic, encoding in pictures.items():
        if not words(topic) & _OTHER_CAMERA:
            colour = 'mono' not in encoding and encoding != '8UC1'
            candidates[topic] = (colour, bool(words(topic) & _MAIN), 'image_raw' in topic)
    for topic in list(candidates):
        if topic.endswith('/compressed') and topic[:-len('/compressed')] in candidates:
            del candidates[topic]
    best = [t for t in candidates if candidates[t] == max(candidates.values())]
    if len(best) == 1:
        return best[0]
    if not pictures:
        raise RecordingError(f'the bag {bag.path} holds no images of a camera, only what is '
                             f'computed of them or measures depth: {_listed(topics)}')
    what = 'holds several cameras' if best else 'holds no picture of a main camera'
    raise RecordingError(f'the bag {bag.path} {what}; set image_topic to one of '
                         f'{_listed(pictures)}')


def choose_camera_info_topic(bag, image_topic, frame_id, requested=None):
    """
    Return the calibration topic of an image topic: the requested one, else ``camera_info``.

    ``camera_info`` beside the image is taken, as in image_transport, else the only calibration in
    the bag with the image's frame.

    Parameters
    ----------
    bag : BagFile
        The bag.
    image_topic, frame_id : str
        The image and its optical frame.
    requested : str, optional
        Topic name.

    Returns
    -------
    str or None

    Raises
    ------
    RecordingError
        When a requested topic does not exist.

    """
    topics = bag.of_type(CAMERA_INFO)
    if requested:
        return _requested(bag, requested, topics, 'calibration', 'camera_info_topic')
    sibling = _base(image_topic).rpartition('/')[0] + '/camera_info'
    if sibling in topics:
        return sibling
    same_frame = [t for t in topics if (message := bag.first(t)) is not None
                  and message.header.frame_id == frame_id]
    return same_frame[0] if len(same_frame) == 1 else None


def choose_depth_topic(bag, frame_id):
    """
    Return the only depth topic that is registered to a camera: one with the camera's frame.

    Parameters
    ----------
    bag : BagFile
        The bag.
    frame_id : str
        Optical frame of the image.

    Returns
    -------
    str or None

    """
    return _only_beside(bag, frame_id, {'depth'}, _DEPTH_ENCODINGS, types=IMAGES)


def choose_flow_topic(bag, frame_id):
    """
    Return the only topic with optical flow of a camera: 32FC2 and the camera's frame.

    Parameters
    ----------
    bag : BagFile
        The bag.
    frame_id : str
        Optical frame of the image.

    Returns
    -------
    str or None

    """
    return _only_beside(bag, frame_id, {'flow'}, ('32FC2',), unlike={'rigid'})


def choose_motion_mask_topic(bag, frame_id):
    """
    Return the only topic that says what moves by itself: a mask with the camera's frame.

    Parameters
    ----------
    bag : BagFile
        The bag.
    frame_id : str
        Optical frame of the image.

    Returns
    -------
    str or None

    """
    return _only_beside(bag, frame_id, {'motion', 'mask'}, ('mono8', '8UC1'))


def _only_beside(bag, frame_id, named, encodings, unlike=frozenset(), types=IMAGES[:1]):
    """Return the only topic with these words, frame and encodings, raw before others, or None."""
    found = []
    for topic in bag.of_type(*types):
        fits = named <= words(topic) and not words(topic) & unlike
        message = bag.first(topic) if fits else None
        if message is not None and message.header.frame_id == frame_id \
                and _encoding(message) in encodings:
            found.append(topic)
    raw = [topic for topic in found if not topic.endswith('/compressedDepth')] or found
    return raw[0] if len(raw) == 1 else None


def choose_right_topic(bag, image_topic, requested=None):
    """
    Return the image topic of the right-hand camera of a stereo pair.

    A requested topic must exist. Otherwise it has the type and the last name of the left topic
    and the word ``right``, or ``infra2`` beside ``infra1``.

    Parameters
    ----------
    bag : BagFile
        The bag.
    image_topic : str
        The left image.
    requested : str, optional
        Topic name.

    Returns
    -------
    str or None

    Raises
    ------
    RecordingError
        When a requested topic does not exist.

    """
    if requested:
        return _requested_image(bag, requested, 'right_topic')
    base = _base(image_topic)
    found = [topic for topic in bag.of_type(bag.topics[image_topic])
             if words(topic) & _RIGHT and not words(image_topic) & _RIGHT
             and _base(topic).rpartition('/')[2] == base.rpartition('/')[2]]
    return found[0] if len(found) == 1 else None


def tf_topics(bag, pose_topic=None):
    """
    Return the transform topics of one robot, ``/tf`` and ``/tf_static``.

    Parameters
    ----------
    bag : BagFile
        The bag.
    pose_topic : str, optional
        A ``tf`` topic whose namespace is meant.

    Returns
    -------
    list of str
        Empty without any.

    """
    topics = bag.of_type(TF)
    prefixes = {topic.rpartition('/')[0] for topic in topics}
    prefix = pose_topic.rpartition('/')[0] if pose_topic in topics else ''
    if prefix not in prefixes and len(prefixes) == 1:
        prefix = prefixes.pop()
    return [topic for topic in topics if topic.rpartition('/')[0] == prefix]


def choose_pose_topic(bag, tf_knows_map, requested=None):
    """
    Return the topic that says where the camera was.

    A requested topic must exist. Otherwise, in this order and if exactly one fits: a topic named
    as ground truth; a PoseStamped topic, or TF where it connects ``map`` or ``world`` with the
    camera; a PoseWithCovarianceStamped topic; an Odometry topic. Goals are never taken.

    Parameters
    ----------
    bag : BagFile
        The bag.
    tf_knows_map : bool
        Whether TF connects a global frame with the camera.
    requested : str, optional
        Topic name.

    Returns
    -------
    str or None
        None when there is nothing but perhaps TF from another frame than ``map`` or ``world``.

    Raises
    ------
    RecordingError
        When several fit, or the requested topic does not exist; it lists what there is.

    """
    topics = bag.of_type(*POSES, TF)
    if requested:
        return _requested(bag, requested, topics, 'pose', 'pose_topic')
    measured = [t for t in bag.of_type(*POSES) if not words(t) & _NOT_MEASURED]
    stamped, uncertain, odometry = (
        [t for t in measured if bag.topics[t] == msgtype] for msgtype in POSES)
    truth = [t for t in measured if words(t) & _TRUTH or {'ground', 'truth'} <= words(t)]
    tf = tf_topics(bag)[:1] if tf_knows_map else []
    for candidates in (truth, stamped + tf, uncertain, odometry):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise RecordingError(f'the bag {bag.path} holds several sources of poses; set '
                                 f'pose_topic to one of {_listed(topics)}')
    return None


def _requested_image(bag, topic, option):
    """Return the topic if it holds any images; otherwise name those of cameras."""
    return topic if topic in bag.of_type(*IMAGES) else \
        _requested(bag, topic, _pictures(bag), 'image', option)


def _requested(bag, topic, fitting, kind, option):
    if topic in fitting:
        return topic
    problem = f'has type {bag.topics[topic]}' if topic in bag.topics else 'is not in it'
    there = f'set {option} to one of {_listed(fitting)}' if fitting \
        else f'it has no {kind} topics, only {_listed(bag.topics)}'
    raise RecordingError(f'the {kind} topic {topic} of the bag {bag.path} {problem}; {there}')


def _listed(topics):
    return ', '.join(sorted(topics)) or 'none'


def _base(topic):
    """Return the name without image_transport's suffix."""
    for suffix in ('/compressed', '/compressedDepth'):
        if topic.endswith(suffix):
            return topic[:-len(suffix)]
    return topic


def _encoding(message):
    """Return the encoding of an image, or of what a compressed image was."""
    return getattr(message, 'encoding', None) or message.format.partition(';')[0]


def _pictures(bag):
    """Return the topics that could be images of a camera, with their encodings."""
    found = {}
    for topic in bag.of_type(*IMAGES):
        message = None if is_computed(topic) else bag.first(topic)
        if message is not None and _is_picture(message):
            found[topic] = _encoding(message)
    return found


def _is_picture(message):
    return not (_encoding(message).startswith(('32', '64', '16UC', '16SC'))
                or 'compressedDepth' in getattr(message, 'format', ''))
