# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Messages to arrays and back: order of quaternions, stamps, covariances."""

from geometry_msgs.msg import Pose
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
import ros_harness
from sensor_msgs.msg import Image, PointCloud2

from geo_perception.errors import PoseError
from geo_perception.geometry import se3
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.point_cloud import coloured_points
from geo_perception.image_codec import decode_rgb
from geo_perception.ros import messages
from geo_perception.ros.calibration import checked_camera
from geo_perception.ros.validators import odometry_problems


def random_transform(rng):
    """Return any rigid transform."""
    return se3.make_transform(se3.matrix_from_rotation_vector(rng.normal(size=3)),
                              rng.normal(size=3) * 10)


@pytest.mark.parametrize('nanoseconds', [0, 1, 999_999_999, 10**9, 1_700_000_000_123456789])
def test_stamps_keep_every_nanosecond(nanoseconds):
    """A float would not."""
    stamp = messages.ns_to_stamp(nanoseconds)
    assert messages.stamp_to_ns(stamp) == nanoseconds
    assert stamp.nanosec < 1_000_000_000


def test_the_optical_frame_has_the_quaternion_of_the_specification():
    """Is (x, y, z, w) = (-0.5, 0.5, -0.5, 0.5), posenet.md section 12.4."""
    pose = messages.pose_from_matrix(se3.make_transform(se3.R_BODY_OPTICAL, [1.0, 2.0, 3.0]))
    q = pose.orientation
    assert np.allclose([q.x, q.y, q.z, q.w], [-0.5, 0.5, -0.5, 0.5])
    assert [pose.position.x, pose.position.y, pose.position.z] == [1.0, 2.0, 3.0]


def test_poses_and_transforms_survive_the_way_through_a_message():
    """Round trip of random ones."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        T = random_transform(rng)
        assert np.allclose(messages.matrix_from_pose(messages.pose_from_matrix(T)), T)
        message = messages.transform_stamped(5, 'a', 'b', T)
        assert np.allclose(messages.matrix_from_transform(message.transform), T)
        assert (message.header.frame_id, message.child_frame_id) == ('a', 'b')


@pytest.mark.parametrize('field, value', [('w', 2.0), ('w', 0.0), ('x', float('nan'))])
def test_a_quaternion_that_is_none_is_refused(field, value):
    """Also the all-zero one that an empty message has."""
    pose = Pose()
    setattr(pose.orientation, field, value)
    with pytest.raises(PoseError, match='quaternion'):
        messages.matrix_from_pose(pose)


def test_a_covariance_is_row_major_and_exactly_symmetric():
    """Element (row, column) is number 6 row + column."""
    A = np.random.default_rng(1).normal(size=(6, 6))
    covariance = A @ A.T + np.eye(6)
    covariance[0, 1] *= 1 + 1e-9
    message = messages.pose_with_covariance_stamped(7, 'map', np.eye(4), covariance)
    assert (message.header.frame_id, message.header.stamp.nanosec) == ('map', 7)
    assert np.isclose(message.pose.covariance[6 * 2 + 5], covariance[2, 5])
    matrix = np.reshape(message.pose.covariance, (6, 6))
    assert np.array_equal(matrix, matrix.T)


@pytest.mark.parametrize('covariance', [
    np.zeros((6, 6)), np.diag([1, 1, 1, 1, 1, -1e-3]), np.full((6, 6), np.nan), np.eye(3),
    np.eye(6) + np.eye(6, k=1)])
def test_a_covariance_that_filters_would_misread_is_refused(covariance):
    """Zero, indefinite, NaN, of another size, asymmetric."""
    with pytest.raises(PoseError, match='covariance'):
        messages.covariance_to_row_major(covariance)


def test_images_cross_the_wire():
    """An image message serialises and decodes to the same picture."""
    image = ros_harness.picture()
    message = messages.image_message(3, 'camera', image, 'rgb8')
    received = deserialize_message(serialize_message(message), Image)
    assert np.array_equal(decode_rgb(received), image)
    assert received.header.frame_id == 'camera'


def test_odometry_holds_velocity_in_the_child_frame():
    """Linear and angular in their places, both covariances."""
    covariance = np.diag([1.0, 2, 3, 4, 5, 6])
    message = messages.odometry_message(7, 'odom', 'base_link', np.eye(4), covariance,
                                        [1.0, 2, 3, 4, 5, 6], 2 * covariance)
    assert odometry_problems(message) == []
    assert (message.header.frame_id, message.child_frame_id) == ('odom', 'base_link')
    assert (message.twist.twist.linear.y, message.twist.twist.angular.z) == (2.0, 6.0)
    assert message.twist.covariance[7] == 4.0 and message.pose.covariance[7] == 2.0


def test_calibration_of_a_depth_image_is_that_of_a_pinhole():
    """K and P say the same, and D is zero."""
    camera = Camera(np.array([[50.0, 0, 32], [0, 51, 24], [0, 0, 1]]), 64, 48)
    message = messages.camera_info_message(7, 'camera', camera)
    assert checked_camera(message).K == pytest.approx(camera.K)
    assert checked_camera(message, rectified=True).K == pytest.approx(camera.K)
    assert (message.width, message.height, message.header.frame_id) == (64, 48, 'camera')
    assert not np.any(message.d) and message.r[0] == 1


def test_colours_follow_the_distortion_of_the_picture():
    """A pixel of the depth image has the colour of where its ray meets the picture."""
    K = np.array([[60.0, 0, 40], [0, 60, 30], [0, 0, 1]])
    straight = Camera(K, 80, 60)
    raw = Camera(K, 80, 60, np.array([-0.4, 0.1, 0.0, 0.0, 0.0]))
    image = np.zeros((60, 80, 3), np.uint8)
    image[..., 0] = 3 * np.arange(80)
    points = coloured_points(np.ones((60, 80), np.float32), straight, image, raw)
    red = np.ascontiguousarray(points[..., 3]).view(np.uint32) >> 16
    x = (75 - 40) / 60   # of the ray, which OpenCV's polynomial moves inwards
    u = 40 + 60 * x * (1 - 0.4 * x ** 2 + 0.1 * x ** 4)
    assert u < 73 and red[30, 75] == pytest.approx(3 * u, abs=3)


def test_a_cloud_crosses_the_wire():
    """A point of a known pixel has its place and colour there."""
    camera = Camera(np.array([[10.0, 0, 2], [0, 10, 1], [0, 0, 1]]), 5, 3)
    image = np.zeros((3, 5, 3), np.uint8)
    image[2, 4] = 250, 20, 3
    depth = np.full((3, 5), np.nan, np.float32)
    depth[2, 4] = 2.0
    message = messages.point_cloud_message(7, 'camera', coloured_points(depth, camera, image,
                                                                        camera))
    received = deserialize_message(serialize_message(message), PointCloud2)
    assert [field.name for field in received.fields] == ['x', 'y', 'z', 'rgb']
    assert (received.width, received.height, received.is_dense) == (5, 3, False)
    point = received.data[2 * received.row_step + 4 * received.point_step:]
    assert np.frombuffer(point, np.float32, 3) == pytest.approx([0.4, 0.2, 2.0])
    assert bytes(point[12:16]) == bytes([3, 20, 250, 0])   # little-endian 0x00RRGGBB
    assert np.isnan(np.frombuffer(received.data, np.float32, 3)).all()
