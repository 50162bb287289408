# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Write ROS 2 bags without a ROS installation."""

from contextlib import contextmanager
from pathlib import Path
import shutil
import tempfile

import cv2
import numpy as np
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability
from rosbags.interfaces import QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from geo_perception.datasets.bag_file import ros2_types
from geo_perception.errors import ImageError, RecordingError
from geo_perception.geometry.se3 import quaternion_from_matrix
from geo_perception.image_codec import image_fields

_STORAGE = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}


class BagWriter:
    """
    A ROS 2 bag (version 9, Jazzy message types) that appears complete or not at all.

    A context manager: messages go to a hidden folder beside the target, which takes the target's
    name when the block ends without an exception and is removed otherwise. Topics come into being
    with their first message. Every message is stored at its header stamp. The folder that an
    overwritten bag had is kept until the new one stands.

    Parameters
    ----------
    path : str or Path
        Folder of the new bag.
    storage : str
        ``mcap`` (with compressed chunks) or ``sqlite3``.
    overwrite : bool
        Replace a bag that is already there. Anything else there is never replaced.

    Raises
    ------
    RecordingError
        When the path is taken, the storage unknown or the disk full.

    """

    def __init__(self, path, storage='mcap', overwrite=False):
        self.path = Path(path)
        if storage not in _STORAGE:
            raise RecordingError(f"bag storage '{storage}' is unknown; use mcap or sqlite3")
        if self.path.exists() and not overwrite:
            raise RecordingError(f'{self.path} exists already; choose another output or pass '
                                 'overwrite')
        if self.path.exists() and not (self.path / 'metadata.yaml').is_file():
            raise RecordingError(f'{self.path} exists and is not a bag (no metadata.yaml), so it '
                                 'is not overwritten; choose another output or remove it first')
        self._storage = _STORAGE[storage]
        self.typestore = ros2_types()
        self._connections = {}

    def __enter__(self):
        """Create the hidden folder."""
        with self._explained():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._partial = Path(tempfile.mkdtemp(
                prefix=f'.{self.path.name}.', suffix='.partial', dir=self.path.parent))
        # The storage file is named after its folder, so the final name is used from the start.
        self._writer = Writer(self._partial / self.path.name, version=Writer.VERSION_LATEST,
                              storage_plugin=self._storage)
        if self._storage == StoragePlugin.MCAP:
            # By chunks, which keeps random access: half the size of rendered images and depth.
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        return self

    def __exit__(self, exc_type, exc, traceback):
        """Close the bag and give it its name, or remove what was written."""
        try:
            with self._explained():
                self._writer.__exit__(exc_type, exc, traceback)
                if exc_type is None:
                    if self.path.exists():
                        self.path.rename(self._partial / 'replaced')
                    (self._partial / self.path.name).rename(self.path)
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)

    @contextmanager
    def _explained(self):
        """Turn what the disk refuses into one sentence."""
        try:
            yield
        except OSError as error:
            raise RecordingError(f'cannot write the bag {self.path}: '
                                 f'{error.strerror or error}') from error

    def write(self, topic, stamp, message, latched=False):
        """
        Write any message of ``self.typestore``.

        Parameters
        ----------
        topic : str
            Topic name with its leading slash.
        stamp : int
            Nanoseconds.
        message : object
            Instance of a class in ``self.typestore.types``.
        latched : bool
            Offer the topic as transient local, so that a player latches it.

        """
        msgtype = message.__msgtype__
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, msgtype, typestore=self.typestore, offered_qos_profiles=[_qos(latched)])
        with self._explained():
            self._writer.write(self._connections[topic], int(stamp),
                               self.typestore.serialize_cdr(message, msgtype))

    def image(self, topic, stamp, frame_id, array, encoding):
        """
        Write a sensor_msgs/Image.

        Parameters
        ----------
        topic : str
            Topic name.
        stamp : int
            Acquisition time, nanoseconds.
        frame_id : str
            Optical frame of the camera.
        array : np.ndarray
            (H, W) or (H, W, C) of the encoding's type.
        encoding : str
            ROS name of the encoding, e.g. ``rgb8`` or ``32FC1``.

        """
        fields = image_fields(array, encoding)
        fields['data'] = np.frombuffer(fields['data'], np.uint8)
        self.write(topic, stamp, self._new('sensor_msgs/msg/Image',
                                           header=self._header(stamp, frame_id), **fields))

    def compressed_image(self, topic, stamp, frame_id, rgb, format='jpeg'):  # noqa: A002
        """
        Write a sensor_msgs/CompressedImage.

        Parameters
        ----------
        topic : str
            Topic name, usually ending in ``/compressed``.
        stamp : int
            Acquisition time, nanoseconds.
        frame_id : str
            Optical frame of the camera.
        rgb : np.ndarray
            (H, W, 3) uint8 RGB, or (H, W) uint8.
        format : str
            ``jpeg`` or ``png``.

        """
        if format not in ('jpeg', 'png'):
            raise ImageError(f"compressed image format '{format}' is unknown; use jpeg or png")
        picture = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR) if rgb.ndim == 3 else rgb
        _, data = cv2.imencode(f'.{format}', picture)
        # The format string that image_transport's publisher writes.
        described = f'rgb8; {format} compressed bgr8' if rgb.ndim == 3 \
            else f'mono8; {format} compressed '
        self.write(topic, stamp, self._new(
            'sensor_msgs/msg/CompressedImage', header=self._header(stamp, frame_id),
            format=described, data=data.reshape(-1)))

    def camera_info(self, topic, stamp, camera, baseline=0.0):
        """
        Write a sensor_msgs/CameraInfo.

        Parameters
        ----------
        topic : str
            Topic name, ``camera_info`` beside the image.
        stamp : int
            Nanoseconds, that of the image.
        camera : Camera
            Intrinsics; P is ``[K | 0]``.
        baseline : float
            Metres from the left to this camera: ``P[0, 3] = -fx * baseline``.

        """
        P = np.hstack([camera.K, [[-camera.K[0, 0] * baseline], [0.0], [0.0]]])
        roi = self._new('sensor_msgs/msg/RegionOfInterest', x_offset=0, y_offset=0, height=0,
                        width=0, do_rectify=False)
        self.write(topic, stamp, self._new(
            'sensor_msgs/msg/CameraInfo', header=self._header(stamp, camera.frame_id),
            height=int(camera.height), width=int(camera.width),
            distortion_model=camera.distortion_model,
            d=np.asarray(camera.distortion, np.float64), k=np.asarray(camera.K, float).reshape(-1),
            r=np.eye(3).reshape(-1), p=P.reshape(-1), binning_x=0, binning_y=0, roi=roi))

    def pose(self, topic, stamp, frame_id, T):
        """
        Write a geometry_msgs/PoseStamped.

        Parameters
        ----------
        topic : str
            Topic name.
        stamp : int
            Nanoseconds.
        frame_id : str
            Frame that the pose is given in.
        T : np.ndarray
            ``T_frame_camera``, 4x4, metres.

        """
        self.write(topic, stamp, self._new(
            'geometry_msgs/msg/PoseStamped', header=self._header(stamp, frame_id),
            pose=self._pose(T)))

    def odometry(self, topic, stamp, frame_id, child, T, twist=(0.0,) * 6):
        """
        Write a nav_msgs/Odometry with zero (unknown) covariances.

        Parameters
        ----------
        topic : str
            Topic name.
        stamp : int
            Nanoseconds.
        frame_id, child : str
            Frame that the pose is given in, and the body frame, e.g. ``odom``, ``base_link``.
        T : np.ndarray
            ``T_frame_child``, 4x4, metres.
        twist : array_like
            Velocity in the child frame: linear x, y, z (m/s), angular x, y, z (rad/s).

        """
        linear, angular = (self._vector(v) for v in np.reshape(np.asarray(twist, float), (2, 3)))
        self.write(topic, stamp, self._new(
            'nav_msgs/msg/Odometry', header=self._header(stamp, frame_id), child_frame_id=child,
            pose=self._new('geometry_msgs/msg/PoseWithCovariance', pose=self._pose(T),
                           covariance=np.zeros(36)),
            twist=self._new('geometry_msgs/msg/TwistWithCovariance',
                            twist=self._new('geometry_msgs/msg/Twist', linear=linear,
                                            angular=angular),
                            covariance=np.zeros(36))))

    def transform(self, stamp, parent, child, T, static=False):
        """
        Write a tf2_msgs/TFMessage with one transform.

        Parameters
        ----------
        stamp : int
            Nanoseconds.
        parent, child : str
            Frames of the link.
        T : np.ndarray
            ``T_parent_child``, 4x4, metres.
        static : bool
            On ``/tf_static``, latched, instead of ``/tf``.

        """
        transform = self._new('geometry_msgs/msg/Transform', translation=self._vector(T[:3, 3]),
                              rotation=self._quaternion(T))
        stamped = self._new('geometry_msgs/msg/TransformStamped', transform=transform,
                            header=self._header(stamp, parent), child_frame_id=child)
        self.write('/tf_static' if static else '/tf', stamp,
                   self._new('tf2_msgs/msg/TFMessage', transforms=[stamped]), latched=static)

    def _new(self, msgtype, **fields):
        return self.typestore.types[msgtype](**fields)

    def _header(self, stamp, frame_id):
        sec, nanosec = divmod(int(stamp), 10**9)
        time = self._new('builtin_interfaces/msg/Time', sec=sec, nanosec=nanosec)
        return self._new('std_msgs/msg/Header', stamp=time, frame_id=frame_id)

    def _vector(self, v):
        x, y, z = (float(value) for value in v)
        return self._new('geometry_msgs/msg/Vector3', x=x, y=y, z=z)

    def _quaternion(self, T):
        w, x, y, z = (float(value) for value in quaternion_from_matrix(T[:3, :3]))
        return self._new('geometry_msgs/msg/Quaternion', x=x, y=y, z=z, w=w)

    def _pose(self, T):
        x, y, z = (float(value) for value in T[:3, 3])
        return self._new('geometry_msgs/msg/Pose', orientation=self._quaternion(T),
                         position=self._new('geometry_msgs/msg/Point', x=x, y=y, z=z))


def _qos(latched):
    """Return the offered profile: reliable, and transient local where a player must latch."""
    never = QosTime(9223372036, 854775807)  # RMW_DURATION_INFINITE
    return Qos(QosHistory.KEEP_LAST, 100, QosReliability.RELIABLE,
               QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
               never, never, QosLiveliness.AUTOMATIC, never, False)
