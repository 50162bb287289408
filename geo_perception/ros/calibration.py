# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The calibration of the camera before the robot: is it there, sane, and of this camera."""

import threading

import numpy as np
from rclpy.qos import DurabilityPolicy, qos_profile_sensor_data, QoSProfile
from sensor_msgs.msg import CameraInfo

from geo_perception.datasets.camera_info import camera_from_info, info_numbers
from geo_perception.errors import CalibrationError

# Positions scale with the focal length (posenet.md section 7).
_FIELD_OF_VIEW_TOLERANCE = 0.05
# Focal length over image width: fields of view of 160 and of 1 degrees.
_SHORTEST_FOCAL, _LONGEST_FOCAL = 0.09, 57.0
_INFO_TYPE = 'sensor_msgs/msg/CameraInfo'
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def checked_camera(info, rectified=False):
    """
    Return the camera of a calibration message after looking at every number in it.

    Parameters
    ----------
    info : sensor_msgs.msg.CameraInfo
        Binning and region of interest are applied.
    rectified : bool
        Whether the image is rectified: then P holds its intrinsics, else K and the distortion.

    Returns
    -------
    Camera

    Raises
    ------
    CalibrationError
        What is wrong, with the value.

    """
    name = 'P' if rectified else 'K'
    M = info_numbers(info, name.lower()).reshape(3, -1)[:, :3]
    if M[0, 0] == 0 and rectified and info.k[0] > 0:
        raise CalibrationError('rectified is true, but the matrix P of camera_info is zero; let '
                               'image_proc rectify the images or set rectified: false')
    if not (M[0, 0] > 0 and M[1, 1] > 0 and info.width and info.height):
        raise CalibrationError('camera_info is of an uncalibrated camera: its focal length '
                               f'is {M[0, 0]} and its size {info.width}x{info.height}')
    focal = M[0, 0] / info.width
    centre = M[:2, 2] / (info.width, info.height)
    if not (np.all(np.isfinite(M)) and np.array_equal(M[2], [0, 0, 1])
            and _SHORTEST_FOCAL < focal < _LONGEST_FOCAL and 0.2 < M[0, 0] / M[1, 1] < 5
            and np.all((0 < centre) & (centre < 1))):
        raise CalibrationError(
            f'{name} of camera_info cannot be that of an image of {info.width}x{info.height} '
            f'pixels: [{", ".join(f"{value:g}" for value in M.ravel())}]; calibrate the camera')
    camera = camera_from_info(info, rectified)
    problem = camera.problem()
    if problem:
        raise CalibrationError(f'camera_info cannot be right: {problem}; calibrate the camera, or '
                               'rectify the images')
    return camera


class CameraInfoInput:
    """
    The newest message of a calibration topic, which may come late, seldom or only once.

    Parameters
    ----------
    node : rclpy.node.Node
        Owner.
    topics : tuple of str
        Full names, of ``sensor_msgs/CameraInfo``; the first that somebody publishes counts.
    rectified : bool
        Whether the images are rectified, see :func:`checked_camera`.

    """

    def __init__(self, node, topics, rectified=False):
        self._node = node
        self._topics = topics
        self._rectified = rectified
        self._arrived = threading.Condition()
        self._listen(topics[0])

    def close(self):
        """End the subscription."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def find_publisher(self):
        """
        Listen to the topic that somebody publishes (executor's thread).

        Also for what was published before, where the publisher offers it: asked of every
        publisher, it would shut the others out and make them warn.
        """
        topic = next(filter(self._node.count_publishers, self._topics), self._topic)
        # What has come stays when its publisher has gone, unless a better one is there.
        if topic != self._topic and (self._info is None or topic == self._topics[0]):
            self.close()
            self._listen(topic)
        if self._info is None and len(self._subscriptions) == 1 and any(
                publisher.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
                for publisher in self._node.get_publishers_info_by_topic(self._topic)):
            self._subscriptions.append(self._node.create_subscription(
                CameraInfo, self._topic, self._on_info, _LATCHED))

    def camera(self):
        """
        Return the camera of the newest message.

        Returns
        -------
        Camera or None
            None before the first message.

        Raises
        ------
        CalibrationError
            What is wrong with it.

        """
        info = self._info   # the other thread may change it
        return None if info is None else checked_camera(info, self._rectified)

    def baseline(self):
        """
        Return the baseline that the newest message, of a right camera, says.

        Returns
        -------
        float
            Metres; 0 before the first message, or where the camera has none.

        """
        if self._info is None:
            return 0.0
        P = info_numbers(self._info, 'p')
        found = -P[3] / P[0] if P[0] > 0 else 0.0
        return float(found) if found > 0 and np.isfinite(found) else 0.0

    def camera_of_image(self, width, height, frames, timeout):
        """
        Return the camera of an image, waiting for the first message if need be.

        Parameters
        ----------
        width, height : int
            Size of the image, pixels.
        frames : tuple of str
            Names that the frame of the camera may have, the one that counts last.
        timeout : float
            Seconds to wait at most.

        Returns
        -------
        Camera

        Raises
        ------
        CalibrationError
            When there is none, it is absurd, or it belongs to another image.

        """
        with self._arrived:
            if not self._arrived.wait_for(lambda: self._info is not None, timeout):
                raise CalibrationError(f'waiting for camera_info: {self.why_missing()}')
            info = self._info
        camera = checked_camera(info, self._rectified)
        if (camera.width, camera.height) != (width, height):
            how = '' if (camera.width, camera.height) == (info.width, info.height) else \
                f' (after binning and region of interest of {info.width}x{info.height})'
            raise CalibrationError(
                f'camera_info on {self._topic} is for {camera.width}x{camera.height} pixels{how}, '
                f'but the image has {width}x{height}; remap camera_info or publish it scaled')
        if camera.frame_id and (problem := _frame_problem(camera.frame_id, frames)):
            raise CalibrationError(problem)
        return camera

    def why_missing(self):
        """
        Return the most likely reason that no message has come, and the mend.

        Returns
        -------
        str
            One sentence without a full stop.

        """
        publishers = self._node.get_publishers_info_by_topic(self._topic)
        if any(publisher.topic_type == _INFO_TYPE for publisher in publishers):
            return f'{self._topic} is published, but nothing has arrived yet'
        if publishers:
            return (f'{self._topic} is published as {publishers[0].topic_type}, but {_INFO_TYPE} '
                    'is expected; remap camera_info')
        name = self._node.get_name()   # what the node itself publishes is no input
        others = sorted(
            topic for topic, types in self._node.get_topic_names_and_types()
            if _INFO_TYPE in types and any(
                publisher.node_name != name
                for publisher in self._node.get_publishers_info_by_topic(topic)))
        mend = f"remap 'camera_info' to one of: {', '.join(others)}" if others else \
            'calibrate the camera and let its driver publish it'
        return (f'nobody publishes {self._topic}, and depth and motion need the intrinsics of the '
                f'camera; {mend}')

    def doubt(self, image_topic, frame):
        """
        Return why the calibration may not be that of the images, though nothing forbids it.

        Parameters
        ----------
        image_topic : str
            Its last name says ``rect`` by convention, or does not.
        frame : str
            Of the camera; empty while unknown.

        Returns
        -------
        str
            One sentence, empty if all is well, nothing is known, or it is unusable anyway.

        """
        info = self._info
        if info is None:
            return ''
        try:
            checked_camera(info, self._rectified)
        except CalibrationError:
            return ''   # the images are refused, with the reason
        distorts = camera_from_info(info, rectified=False).distorts
        named = 'rect' in image_topic.removesuffix('/compressed').rpartition('/')[2]
        if distorts and self._rectified and not named:
            return (f'rectified is true, but {image_topic} is not called so and its camera '
                    'distorts; set rectified: false if these are raw images.')
        if distorts and named and not self._rectified:
            return (f'rectified is false, but {image_topic} is called so; set rectified: true, or '
                    'its distortion is removed twice.')
        theirs = info.header.frame_id.lstrip('/')
        return '' if theirs else _sentence(_frame_problem(theirs, (frame,)))

    def _listen(self, topic):
        """Begin anew with a topic."""
        with self._arrived:
            self._topic, self._info = topic, None
        self._subscriptions = [self._node.create_subscription(
            CameraInfo, topic, self._on_info, qos_profile_sensor_data)]

    def _on_info(self, message):
        with self._arrived:
            self._info = message
            self._arrived.notify_all()


class CalibrationCheck:
    """
    Whether the camera is like the one a network was trained with; there need not be calibration.

    Parameters
    ----------
    node : rclpy.node.Node
        Owner.
    topics : tuple of str
        As for :class:`CameraInfoInput`.
    rectified : bool
        Whether the images are rectified, see :func:`checked_camera`.

    """

    def __init__(self, node, topics, rectified=False):
        self._input = CameraInfoInput(node, topics, rectified)

    def close(self):
        """End the subscription."""
        self._input.close()

    def find_publisher(self):
        """Listen to who is there, see :meth:`CameraInfoInput.find_publisher`."""
        self._input.find_publisher()

    def camera(self):
        """
        Return the camera of the newest message.

        Returns
        -------
        Camera or None
            None before the first message.

        Raises
        ------
        CalibrationError
            What is wrong with it.

        """
        return self._input.camera()

    def problem(self, frames, trained):
        """
        Return what is wrong with the calibration.

        Parameters
        ----------
        frames : tuple of str
            Names that the frame of the camera may have, the one that counts last; empty while
            unknown.
        trained : TrainingCamera or None
            What the model file says.

        Returns
        -------
        str
            One sentence, empty if all is well or nothing is known.

        """
        try:
            camera = self._input.camera()
        except CalibrationError as error:
            return f'{error}.'
        if camera is None:
            return ''
        problem = _sentence(_frame_problem(camera.frame_id, frames))
        if trained is None or problem and camera.frame_id:
            return problem
        live = _field_of_view(camera.width, camera.height, camera.K[0, 0], camera.K[1, 1])
        learnt = _field_of_view(trained.width, trained.height, trained.fx, trained.fy)
        if abs(live / learnt - 1) > _FIELD_OF_VIEW_TOLERANCE:
            return (f'The field of view of this camera ({live:.0f} deg) differs from that of the '
                    f'training camera ({learnt:.0f} deg); positions will be off by about as much.')
        return problem


def _frame_problem(theirs, ours):
    """Return why the frame of a calibration is none of those of the images, '' if it is."""
    if not any(ours) or theirs in ours:
        return ''
    if not theirs:
        return (f"camera_info has no frame_id and may be of another camera than '{ours[-1]}'; let "
                'its driver set it')
    return (f"camera_info is for '{theirs}', but the image is of '{ours[-1]}'; remap camera_info "
            'or set camera_frame')


def _sentence(problem):
    return problem and f'{problem}.'


def _field_of_view(width, height, fx, fy):
    """Return the angle across the shorter side, degrees: that is what the network is given."""
    side, focal = (width, fx) if width < height else (height, fy)
    return np.degrees(2 * np.arctan2(side / 2, focal))
