# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
What filters, Nav2 and AMCL reject in a message, and what misleads them without a word.

The rules of REP 103, 105, 117 and 118, robot_localization and Nav2 (ros2_conventions.md sections 2
to 6), each once. Every function returns sentences, one for each rule that is broken; none is good.
"""

import numpy as np

from geo_perception.geometry import se3
from geo_perception.ros.messages import matrix_from_pose, stamp_to_ns

# Nav2's limits for what it accepts on initialpose.
_LARGEST_COVARIANCE = 1e9
_QUATERNION_TOLERANCE = 1e-4   # of the squared norm
_SYMMETRY = 1e-9               # relative to the largest element


def frame_problems(name, what):
    """
    Judge the name of a frame.

    Parameters
    ----------
    name : str
        E.g. of a header.
    what : str
        What it is the name of, for the sentence.

    Returns
    -------
    list of str

    """
    if not name:
        return [f'{what} is empty']
    if name.startswith('/'):
        return [f"{what} is '{name}'; tf2 knows no leading slash"]
    return []


def pose_problems(pose):
    """
    Judge a pose: AMCL and tf2 refuse what is not finite or not a rotation.

    Parameters
    ----------
    pose : geometry_msgs.msg.Pose
        Any.

    Returns
    -------
    list of str

    """
    p, q = pose.position, pose.orientation
    return _rigid_problems((p.x, p.y, p.z), (q.x, q.y, q.z, q.w))


def covariance_problems(numbers, what='the covariance'):
    """
    Judge a covariance that a filter is to fuse: known, symmetric and positive definite.

    Parameters
    ----------
    numbers : sequence of float
        36, row-major.
    what : str
        For the sentences.

    Returns
    -------
    list of str

    """
    covariance = np.reshape(numbers, (6, 6))
    if not np.all(np.isfinite(covariance)):
        return [f'{what} is not finite; what was not measured gets a large variance']
    if not covariance.any():
        return [f'{what} is zero, which some read as unknown and filters as perfect']
    if np.array_equal(covariance, np.eye(6)):
        return [f'{what} is the identity, which nobody measured']
    if np.abs(covariance - covariance.T).max() > _SYMMETRY * np.abs(covariance).max():
        return [f'{what} is not symmetric']
    smallest = np.linalg.eigvalsh(covariance)[0]
    if smallest <= 0:
        return [f'{what} is not positive definite (smallest eigenvalue {smallest:.3g})']
    return []


def fix_problems(message):
    """
    Judge a fix for robot_localization and viewers.

    Parameters
    ----------
    message : geometry_msgs.msg.PoseWithCovarianceStamped
        E.g. of ``~/pose_with_covariance``.

    Returns
    -------
    list of str

    """
    return [*frame_problems(message.header.frame_id, 'frame_id'),
            *pose_problems(message.pose.pose), *covariance_problems(message.pose.covariance)]


def amcl_seed_problems(message, global_frame_id='map', map_size=None):
    """
    Judge what is sent to AMCL on ``initialpose``.

    Parameters
    ----------
    message : geometry_msgs.msg.PoseWithCovarianceStamped
        The seed.
    global_frame_id : str
        AMCL's parameter.
    map_size : tuple of int, optional
        Columns and rows of its map; AMCL compares metres with them.

    Returns
    -------
    list of str

    """
    found = fix_problems(message)
    frame_id = message.header.frame_id
    if frame_id != global_frame_id:
        found.append(f"frame_id is '{frame_id}', but AMCL takes seeds in '{global_frame_id}' only")
    numbers = np.asarray(message.pose.covariance)
    wrong = numbers[~((numbers >= 0) & (numbers <= _LARGEST_COVARIANCE))]
    if len(wrong):
        found.append(f'an element of the covariance is {wrong[0]:.3g}; AMCL takes 0 to '
                     f'{_LARGEST_COVARIANCE:.0e}, so send a diagonal')
    position = message.pose.pose.position
    if map_size is not None and (abs(position.x) > map_size[0] or abs(position.y) > map_size[1]):
        found.append(f'the position ({position.x:.1f}, {position.y:.1f}) lies outside the map')
    return found


def odometry_problems(message, before=None):
    """
    Judge odometry for robot_localization and Nav2.

    Parameters
    ----------
    message : nav_msgs.msg.Odometry
        The newest.
    before : nav_msgs.msg.Odometry, optional
        The one before it, where nothing was lost in between: the twist must be the motion since
        then, in the axes of the child. A twist in those of ``odom`` is an old bug.

    Returns
    -------
    list of str

    """
    child = message.child_frame_id
    twist = _twist(message)
    found = [*frame_problems(message.header.frame_id, 'frame_id'),
             *frame_problems(child, 'child_frame_id'), *pose_problems(message.pose.pose),
             *covariance_problems(message.pose.covariance, 'the covariance of the pose'),
             *covariance_problems(message.twist.covariance, 'the covariance of the twist')]
    if child == message.header.frame_id:
        found.append(f"frame_id and child_frame_id are both '{child}'")
    if child.endswith(('_optical', '_optical_frame')):
        found.append(f"child_frame_id is the optical frame '{child}', but bodies have x ahead and "
                     'z up (REP 103)')
    if not np.all(np.isfinite(twist)):
        found.append('the twist is not finite')
    elif before is not None and not found:
        found += _motion_problems(message, before, twist)
    return found


def depth_problems(message, info):
    """
    Judge a depth image with its calibration (REP 118).

    Parameters
    ----------
    message : sensor_msgs.msg.Image
        Depth.
    info : sensor_msgs.msg.CameraInfo
        Of the same image.

    Returns
    -------
    list of str

    """
    found = frame_problems(message.header.frame_id, 'frame_id')
    if info.header != message.header:
        found.append('stamp or frame_id of camera_info are not those of the image')
    if (info.width, info.height) != (message.width, message.height):
        found.append(f'camera_info is for {info.width}x{info.height} pixels, but the image has '
                     f'{message.width}x{message.height}')
    if info.k[0] <= 0:
        found.append('camera_info is uncalibrated: its focal length is 0')
    if not np.array_equal(np.reshape(info.p, (3, 4))[:, :3].ravel(), info.k):
        found.append('K and P of camera_info differ, so the image counts as distorted')
    if message.encoding != '32FC1':
        return [*found, f"the encoding is '{message.encoding}'; depth in metres is 32FC1"]
    if len(message.data) != message.height * message.step or message.step != 4 * message.width:
        return [*found, f'{len(message.data)} bytes and step {message.step} are not those of an '
                'image of that size']
    depth = np.frombuffer(message.data, np.float32)
    wrong = depth[np.isfinite(depth) & (depth <= 0)]
    if len(wrong):
        found.append(f'{len(wrong)} pixels are {wrong[0]:.3g} m away; what is unknown is NaN, '
                     'what is too near -inf (REP 117)')
    return found


def transform_problems(transform, odom_frame='odom'):
    """
    Judge a transform of a localizer or of odometry (REP 105).

    Parameters
    ----------
    transform : geometry_msgs.msg.TransformStamped
        To be broadcast.
    odom_frame : str
        The frame that must lie between map and base.

    Returns
    -------
    list of str

    """
    parent, child = transform.header.frame_id, transform.child_frame_id
    t, q = transform.transform.translation, transform.transform.rotation
    found = [*frame_problems(parent, 'frame_id'), *frame_problems(child, 'child_frame_id'),
             *_rigid_problems((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))]
    if parent == child:
        found.append(f"frame_id and child_frame_id are both '{child}'")
    if odom_frame not in (parent, child):
        found.append(f"'{parent}' -> '{child}' leaves out '{odom_frame}'; a frame has one parent, "
                     'so the base would lose its odometry')
    return found


def _rigid_problems(position, quaternion):
    """Judge numbers of a pose or a transform."""
    if not np.all(np.isfinite([*position, *quaternion])):
        return ['the pose is not finite']
    squared = float(np.dot(quaternion, quaternion))
    if abs(squared - 1) >= _QUATERNION_TOLERANCE:
        return [f'the quaternion has norm {squared ** 0.5:.6g}, not 1']
    return []


def _twist(message):
    twist = message.twist.twist
    return np.array([twist.linear.x, twist.linear.y, twist.linear.z,
                     twist.angular.x, twist.angular.y, twist.angular.z])


def _motion_problems(message, before, twist):
    """Compare a twist with the two poses it lies between."""
    seconds = 1e-9 * (stamp_to_ns(message.header.stamp) - stamp_to_ns(before.header.stamp))
    if seconds <= 0:
        return ['the stamp is not later than the one before']
    T_before, T = matrix_from_pose(before.pose.pose), matrix_from_pose(message.pose.pose)
    moved = se3.inverse_transform(T_before) @ T
    velocity = se3.twist_of_motion(moved)[:3] / seconds
    off = np.linalg.norm(velocity - twist[:3])
    if off > 0.2 * np.linalg.norm(velocity) + 0.01:
        return [f'the twist is off by {off:.2f} m/s from what the poses say in the axes of '
                f"'{message.child_frame_id}'; it must not be in those of "
                f"'{message.header.frame_id}'"]
    return []
