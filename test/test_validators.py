# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The rules of others for our messages: good ones pass, and each broken rule has its sentence."""

import copy

from geometry_msgs.msg import PoseWithCovarianceStamped
import numpy as np
import pytest

from geo_perception.geometry import se3
from geo_perception.geometry.camera import Camera
from geo_perception.ros import validators
from geo_perception.ros.messages import (
    camera_info_message, image_message, odometry_message, pose_with_covariance_stamped,
    transform_stamped)

SECOND = 1_000_000_000
T = se3.make_transform(se3.matrix_from_rotation_vector([0.1, 0.2, 0.3]), [1.0, 2.0, 3.0])
DIAGONAL = np.diag([0.01, 0.02, 0.03, 0.001, 0.002, 0.003])
CORRELATED = DIAGONAL.copy()
CORRELATED[0, 5] = CORRELATED[5, 0] = -0.004


def fix(covariance=DIAGONAL, frame_id='map'):
    """Return a good fix."""
    return pose_with_covariance_stamped(SECOND, frame_id, T, covariance)


def odometry(stamp=SECOND, where=T, twist=(1.0, 0, 0, 0, 0, 0.5), child='base_link'):
    """Return good odometry."""
    return odometry_message(stamp, 'odom', child, where, DIAGONAL, twist, CORRELATED)


def depth():
    """Return a good depth image and its calibration, with all that may be in one."""
    camera = Camera(np.array([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]]), 64, 48)
    metres = np.full((48, 64), 2.0, np.float32)
    metres[0, :3] = np.nan, np.inf, -np.inf
    return (image_message(SECOND, 'camera', metres, '32FC1'),
            camera_info_message(SECOND, 'camera', camera))


def broken(message, **changes):
    """Return a copy with fields set, by their path with __ for the dot."""
    message = copy.deepcopy(message)
    for path, value in changes.items():
        *parents, name = path.split('__')
        part = message
        for parent in parents:
            part = getattr(part, parent)
        setattr(part, name, value)
    return message


def said(found, text):
    """Demand one sentence with a text."""
    assert len(found) == 1 and text in found[0], found


def covariance_of(**elements):
    """Return the diagonal covariance with some elements replaced, row-major; r0c5 is one."""
    covariance = DIAGONAL.copy()
    for where, value in elements.items():
        covariance[int(where[1]), int(where[3])] = value
    return covariance.ravel()


def test_good_messages_pass():
    """Also with correlations, which are useful to filters."""
    assert validators.fix_problems(fix(CORRELATED)) == []
    assert validators.amcl_seed_problems(fix(), map_size=(100, 100)) == []
    assert validators.odometry_problems(odometry()) == []
    assert validators.depth_problems(*depth()) == []
    assert validators.transform_problems(transform_stamped(SECOND, 'map', 'odom', T)) == []
    assert validators.transform_problems(transform_stamped(SECOND, 'odom', 'base_link', T)) == []


@pytest.mark.parametrize('changes, text', [
    ({'header__frame_id': ''}, 'frame_id is empty'),
    ({'header__frame_id': '/map'}, 'leading slash'),
    ({'pose__pose__position__x': np.nan}, 'not finite'),
    ({'pose__pose__orientation__w': np.inf}, 'not finite'),
    ({'pose__pose__orientation__w': 1.2}, 'norm'),
    ({'pose__covariance': np.zeros(36)}, 'zero'),
    ({'pose__covariance': np.eye(6).ravel()}, 'identity'),
    ({'pose__covariance': covariance_of(r0c0=np.nan)}, 'not finite'),
    ({'pose__covariance': covariance_of(r0c1=0.001)}, 'not symmetric'),
    ({'pose__covariance': covariance_of(r2c2=0.0)}, 'not positive definite'),
    ({'pose__covariance': covariance_of(r0c1=0.1, r1c0=0.1)}, 'not positive definite')])
def test_a_bad_fix_is_told(changes, text):
    """One sentence, for the fix and for the seed."""
    said(validators.fix_problems(broken(fix(), **changes)), text)
    assert any(text in sentence for sentence in
               validators.amcl_seed_problems(broken(fix(), **changes)))


@pytest.mark.parametrize('message, text', [
    (fix(CORRELATED), 'send a diagonal'), (fix(1e12 * DIAGONAL), '1e+09'),
    (fix(frame_id='office'), "'office', but AMCL takes seeds in 'map'"),
    (broken(fix(), pose__pose__position__y=300.0), 'outside the map')])
def test_amcl_asks_for_more(message, text):
    """Nothing negative, nothing absurd, its own frame, inside its map."""
    said(validators.amcl_seed_problems(message, map_size=(100, 200)), text)
    assert validators.fix_problems(message) == []


@pytest.mark.parametrize('changes, text', [
    ({'child_frame_id': ''}, 'child_frame_id is empty'), ({'child_frame_id': 'odom'}, 'both'),
    ({'child_frame_id': 'camera_optical_frame'}, 'optical'),
    ({'twist__twist__linear__x': np.nan}, 'twist is not finite'),
    ({'twist__covariance': np.zeros(36)}, 'covariance of the twist is zero'),
    ({'pose__covariance': np.zeros(36)}, 'covariance of the pose is zero')])
def test_bad_odometry_is_told(changes, text):
    """Frames, twist and both covariances."""
    said(validators.odometry_problems(broken(odometry(), **changes)), text)


def test_a_twist_in_the_wrong_axes_is_told():
    """Driving ahead at 1 m/s on a bend, facing along y: in the axes of odom that is (0, 1, 0)."""
    def at(seconds):
        yaw = np.pi / 2 + 0.5 * seconds
        R = se3.matrix_from_rotation_vector([0, 0, yaw])
        return se3.make_transform(R, [2 * np.sin(yaw), -2 * np.cos(yaw), 0.0])

    before, where = odometry(where=at(0.0)), at(0.1)
    good = odometry(SECOND + SECOND // 10, where)
    assert validators.odometry_problems(good, before) == []
    said(validators.odometry_problems(
        odometry(SECOND + SECOND // 10, where, twist=(0, 1.0, 0, 0, 0, 0.5)), before),
        "in those of 'odom'")
    said(validators.odometry_problems(odometry(where=where), before), 'not later')


@pytest.mark.parametrize('changes, text', [
    ({'header__frame_id': 'other'}, 'camera_info are not those'),
    ({'encoding': '16UC1'}, "encoding is '16UC1'"), ({'step': 300}, 'step 300'),
    ({'data': np.zeros(64 * 48, np.float32).tobytes()}, '3072 pixels are 0 m')])
def test_bad_depth_is_told(changes, text):
    """What REP 117 and 118 ask for."""
    message, info = depth()
    said(validators.depth_problems(broken(message, **changes), info), text)


@pytest.mark.parametrize('changes, text', [
    ({'width': 32}, '32x48'), ({'k': np.zeros(9), 'p': np.zeros(12)}, 'uncalibrated'),
    ({'p': np.ones(12)}, 'K and P')])
def test_calibration_that_is_not_that_of_the_depth_is_told(changes, text):
    """Its size and its matrices."""
    message, info = depth()
    said(validators.depth_problems(message, broken(info, **changes)), text)


@pytest.mark.parametrize('parent, child, text', [
    ('map', 'base_link', "leaves out 'odom'"), ('odom', 'odom', 'both'),
    ('/map', 'odom', 'leading slash')])
def test_a_transform_that_breaks_the_tree_is_told(parent, child, text):
    """A localizer does not broadcast map -> base_link."""
    said(validators.transform_problems(transform_stamped(SECOND, parent, child, T)), text)


def test_an_empty_message_is_no_pose():
    """Zero quaternions are what a forgotten field looks like."""
    message = PoseWithCovarianceStamped()
    message.pose.pose.orientation.w = 0.0
    assert len(validators.fix_problems(message)) == 3
