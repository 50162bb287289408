# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Messages to arrays and back.

The only place where quaternions change from (w, x, y, z) to the (x, y, z, w) of ROS.
"""

from array import array
import sys

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, PoseStamped, PoseWithCovarianceStamped
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Twist, Vector3
from nav_msgs.msg import Odometry
import numpy as np
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header

from geo_perception.errors import PoseError
from geo_perception.geometry import se3
from geo_perception.image_codec import image_fields

_NS = 1_000_000_000

# Beyond it, metres, a position is damage: distances between such places overflow.
_FARTHEST = 1e9

# What filters take for "not measured" (rtabmap's value for a lost pose), m^2 and rad^2.
LOST_VARIANCE = 9999.0


def stamp_to_ns(stamp):
    """
    Return a message stamp as integer nanoseconds.

    Parameters
    ----------
    stamp : builtin_interfaces.msg.Time
        As in a header.

    Returns
    -------
    int

    """
    return stamp.sec * _NS + stamp.nanosec


def ns_to_stamp(nanoseconds):
    """
    Return integer nanoseconds as a message stamp.

    Parameters
    ----------
    nanoseconds : int
        Since the epoch of the clock in use.

    Returns
    -------
    builtin_interfaces.msg.Time

    """
    return Time(sec=int(nanoseconds // _NS), nanosec=int(nanoseconds % _NS))


def make_header(stamp, frame_id):
    """
    Return a header.

    Parameters
    ----------
    stamp : int
        Nanoseconds.
    frame_id : str
        Frame that the content is given in.

    Returns
    -------
    std_msgs.msg.Header

    """
    return Header(stamp=ns_to_stamp(stamp), frame_id=frame_id)


def pose_from_matrix(T):
    """
    Return a rigid transform as a pose message.

    Parameters
    ----------
    T : np.ndarray
        ``T_frame_body``, 4x4, metres.

    Returns
    -------
    geometry_msgs.msg.Pose
        Pose of the body in the frame.

    """
    x, y, z = T[:3, 3].tolist()
    return Pose(position=Point(x=x, y=y, z=z), orientation=_quaternion(T))


def matrix_from_pose(pose):
    """
    Return a pose message as a rigid transform.

    Parameters
    ----------
    pose : geometry_msgs.msg.Pose
        Pose of a body in a frame.

    Returns
    -------
    np.ndarray
        ``T_frame_body``, 4x4 float64, metres.

    Raises
    ------
    PoseError
        When a number is not finite or the quaternion is not of norm 1 within 1 %.

    """
    return _matrix(pose.position, pose.orientation)


def pose_stamped(stamp, frame_id, T):
    """
    Return a stamped pose message.

    Parameters
    ----------
    stamp : int
        Nanoseconds, of the image that the pose comes from.
    frame_id : str
        Frame that the pose is given in.
    T : np.ndarray
        ``T_frame_body``, 4x4, metres.

    Returns
    -------
    geometry_msgs.msg.PoseStamped

    """
    return PoseStamped(header=make_header(stamp, frame_id), pose=pose_from_matrix(T))


def pose_with_covariance_stamped(stamp, frame_id, T, covariance):
    """
    Return a stamped pose message with its covariance.

    Parameters
    ----------
    stamp : int
        Nanoseconds, of the image that the pose comes from.
    frame_id : str
        Frame that pose and covariance are given in.
    T : np.ndarray
        ``T_frame_body``, 4x4, metres.
    covariance : np.ndarray
        6x6, order (x, y, z, rot X, rot Y, rot Z), fixed axes of the frame, m^2 and rad^2.

    Returns
    -------
    geometry_msgs.msg.PoseWithCovarianceStamped

    Raises
    ------
    PoseError
        When the covariance is not finite, symmetric and positive definite.

    """
    message = PoseWithCovarianceStamped(header=make_header(stamp, frame_id))
    message.pose.pose = pose_from_matrix(T)
    message.pose.covariance = covariance_to_row_major(covariance)
    return message


def covariance_to_row_major(covariance):
    """
    Return a covariance as the 36 numbers of a message.

    Parameters
    ----------
    covariance : np.ndarray
        6x6, order (x, y, z, rot X, rot Y, rot Z), fixed axes, SI squared.

    Returns
    -------
    np.ndarray
        Shape (36,), exactly symmetric.

    Raises
    ------
    PoseError
        When it is not finite, symmetric and positive definite: filters take zeros for perfect
        or for unknown, and refuse the rest (ros2_conventions.md section 6).

    """
    covariance = np.asarray(covariance, float)
    if covariance.shape != (6, 6) or not np.all(np.isfinite(covariance)):
        raise PoseError('a pose covariance must be a 6x6 matrix of finite numbers')
    symmetric = 0.5 * (covariance + covariance.T)
    smallest = np.linalg.eigvalsh(symmetric)[0]
    if not np.allclose(covariance, symmetric, rtol=1e-6, atol=1e-12) or smallest <= 0:
        raise PoseError('a pose covariance must be symmetric and positive definite '
                        f'(smallest eigenvalue {smallest:.3g})')
    return symmetric.reshape(36)


def transform_stamped(stamp, frame_id, child_frame_id, T):
    """
    Return a stamped transform message.

    Parameters
    ----------
    stamp : int
        Nanoseconds.
    frame_id, child_frame_id : str
        Parent and child frame.
    T : np.ndarray
        ``T_parent_child``, 4x4, metres.

    Returns
    -------
    geometry_msgs.msg.TransformStamped

    """
    x, y, z = T[:3, 3].tolist()
    return TransformStamped(
        header=make_header(stamp, frame_id), child_frame_id=child_frame_id,
        transform=Transform(translation=Vector3(x=x, y=y, z=z), rotation=_quaternion(T)))


def matrix_from_transform(transform):
    """
    Return a transform message as a rigid transform.

    Parameters
    ----------
    transform : geometry_msgs.msg.Transform
        As in a TransformStamped.

    Returns
    -------
    np.ndarray
        ``T_parent_child``, 4x4 float64, metres.

    Raises
    ------
    PoseError
        When a number is not finite or the quaternion is not of norm 1 within 1 %.

    """
    return _matrix(transform.translation, transform.rotation)


def image_message(stamp, frame_id, array, encoding):
    """
    Return an image message.

    Parameters
    ----------
    stamp : int
        Nanoseconds.
    frame_id : str
        Optical frame.
    array : np.ndarray
        (H, W) or (H, W, C), of the type that the encoding says.
    encoding : str
        As in ``sensor_msgs/image_encodings``, e.g. ``rgb8`` or ``32FC1``.

    Returns
    -------
    sensor_msgs.msg.Image

    """
    return Image(header=make_header(stamp, frame_id), **image_fields(array, encoding))


def odometry_message(stamp, frame_id, child_frame_id, T, covariance, twist, twist_covariance):
    """
    Return an odometry message.

    Parameters
    ----------
    stamp : int
        Nanoseconds, of the later image.
    frame_id, child_frame_id : str
        The fixed frame and the moving one.
    T : np.ndarray
        ``T_frame_child``, 4x4, metres.
    covariance : np.ndarray
        Of the pose, 6x6, order (x, y, z, rot X, rot Y, rot Z), fixed axes of the frame.
    twist : np.ndarray
        Linear and angular velocity of the child in its own axes, m/s and rad/s, shape (6,).
    twist_covariance : np.ndarray
        Of the twist, 6x6, axes of the child.

    Returns
    -------
    nav_msgs.msg.Odometry

    Raises
    ------
    PoseError
        When a covariance is not finite, symmetric and positive definite.

    """
    message = Odometry(header=make_header(stamp, frame_id), child_frame_id=child_frame_id)
    message.pose.pose = pose_from_matrix(T)
    message.pose.covariance = covariance_to_row_major(covariance)
    vx, vy, vz, wx, wy, wz = np.asarray(twist, float).tolist()
    message.twist.twist = Twist(linear=Vector3(x=vx, y=vy, z=vz),
                                angular=Vector3(x=wx, y=wy, z=wz))
    message.twist.covariance = covariance_to_row_major(twist_covariance)
    return message


def camera_info_message(stamp, frame_id, camera):
    """
    Return the calibration of an image without distortion.

    Parameters
    ----------
    stamp : int
        Nanoseconds, of the image.
    frame_id : str
        Optical frame.
    camera : Camera
        Pinhole intrinsics; K and P say the same.

    Returns
    -------
    sensor_msgs.msg.CameraInfo

    """
    P = np.hstack([camera.K, np.zeros((3, 1))])
    return CameraInfo(header=make_header(stamp, frame_id), width=camera.width,
                      height=camera.height, distortion_model='plumb_bob', d=[0.0] * 5,
                      k=camera.K.ravel(), r=np.eye(3).ravel(), p=P.ravel())


def point_cloud_message(stamp, frame_id, points):
    """
    Return an organised cloud of coloured points.

    Parameters
    ----------
    stamp : int
        Nanoseconds.
    frame_id : str
        Frame of the coordinates.
    points : np.ndarray
        From :func:`geo_perception.geometry.point_cloud.coloured_points`: float32, shape
        (H, W, 4).

    Returns
    -------
    sensor_msgs.msg.PointCloud2
        Fields x, y, z and rgb, one row an image row; points without depth are NaN.

    """
    height, width, _ = points.shape
    data = array('B')
    data.frombytes(memoryview(np.ascontiguousarray(points)).cast('B'))
    return PointCloud2(
        header=make_header(stamp, frame_id), height=height, width=width, is_dense=False,
        is_bigendian=sys.byteorder == 'big', point_step=16, row_step=16 * width, data=data,
        fields=[PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
                for i, name in enumerate(('x', 'y', 'z', 'rgb'))])


def _quaternion(T):
    w, x, y, z = se3.quaternion_from_matrix(T[:3, :3]).tolist()
    return Quaternion(x=x, y=y, z=z, w=w)


def _matrix(position, rotation):
    q = np.array([rotation.w, rotation.x, rotation.y, rotation.z])
    t = np.array([position.x, position.y, position.z])
    norm = np.linalg.norm(q)
    if not (np.all(np.abs(t) < _FARTHEST) and abs(norm - 1.0) < 0.01):
        raise PoseError(f'the pose with position {t.tolist()} and quaternion (w, x, y, z) '
                        f'{q.tolist()} is not finite, or beyond {_FARTHEST:g} m, or its '
                        'quaternion not of norm 1')
    return se3.make_transform(se3.matrix_from_quaternion(q), t)
