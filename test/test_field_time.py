# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Transforms that come late and clocks that jump, see `field_day`."""

import threading

from field_day import ALL, BOTH, CAMERA, fault, SECOND, T_BASE_CAMERA, WELL
import numpy as np
import pytest
from rosgraph_msgs.msg import Clock

from geo_perception.ros.diagnostics import OK
from geo_perception.ros.messages import matrix_from_pose

pytestmark = pytest.mark.usefixtures('without_openvino')


# TF


@fault('TF', 'The place of the camera on the base comes late or never.', *BOTH)
def test_transforms_that_come_late(day, tf):
    day.start(base_frame='base_link', tf_timeout_s=0.0)
    day.mark()
    stamps = [day.send() for _ in range(3)]
    words = "waiting for TF: no transform mentions the frame 'base_link' (known frames: none)"
    day.withholds_poses(stamps, f'{words}.', f'the odometry {words.replace("waiting", "waits")}.')
    tf(0, 'base_link', CAMERA.frame_id, T_BASE_CAMERA)
    day.kind = day.kind._replace(verb=day.kind.verb.replace('the camera', 'base_link'))
    day.recovers()


@fault('TF', 'Transforms come later than their images.', *BOTH)
def test_transforms_that_come_after_the_image(day, tf):
    day.start(base_frame='base_link', tf_timeout_s=10.0)
    day.kind = day.kind._replace(verb=day.kind.verb.replace('the camera', 'base_link'))
    tf(day.now, 'base_link', CAMERA.frame_id, T_BASE_CAMERA)
    stamps = []

    def send():
        stamp = day.now + SECOND // 10
        threading.Timer(0.1, lambda: tf(stamp, 'base_link', CAMERA.frame_id,
                                        T_BASE_CAMERA)).start()
        stamps.append(day.send())

    send()
    send()
    day.wait_for(stamps[-1], *([stamps[0]] if day.name == 'relocalize' else []),
                 topic='odometry' if day.name == 'geometry' else '')
    day.says(OK, WELL, send=send)
    day.publishes('everything, as soon as TF reaches the image, within `tf_timeout_s`')
    tf(0, 'base_link', CAMERA.frame_id, T_BASE_CAMERA)
    day.recovers()


# Time


@pytest.fixture
def simulated(day):
    """Return a day whose time comes from /clock."""
    day.clock = day.graph.advertise(Clock, '/clock')
    day.start(use_sim_time=True)
    day.graph.spin_until(lambda: day.clock.get_subscription_count(), what='the clock')
    day.settle()
    return day


def jump(day, seconds, published):
    """Let time jump; return the odometry before and after, None of a node that has none."""
    before = after = None
    day.now += seconds * SECOND
    if day.name != 'geometry':
        first, second = day.send(), day.send()
        day.wait_for(first, second)
    else:
        before = day.heard['/geometry/odometry'][-1]
        first, second = day.send(), day.send()
        day.wait_for(first, second, topic='depth')
        day.wait_for(second, topic='odometry')
        after = day.heard['/geometry/odometry'][-1]
    day.says(OK, WELL, send=day.send)
    day.publishes('everything' if after is None else published)
    day.recovers()
    return before, after


@fault('Time', '/clock and stamps jump back by a minute.', *ALL)
def test_time_that_jumps_back(simulated):
    _, after = jump(simulated, -60, 'depth; odometry begins anew at zero with the second image')
    assert after is None or np.linalg.norm(matrix_from_pose(after.pose.pose)[:3, 3]) < 0.5


@fault('Time', '/clock and stamps jump ahead by a minute.', *ALL)
def test_time_that_jumps_ahead(simulated):
    before, after = jump(simulated, 60, 'depth; odometry from the second image on, from the last '
                         'pose, with a covariance that grew for a minute')
    assert after is None or after.pose.covariance[0] > before.pose.covariance[0] + 100


@fault('Time', 'The playback is paused.', *BOTH)
def test_a_clock_that_stands(simulated):
    day = simulated
    day.says(OK, '/clock stands still: the playback is paused or over.')
    day.wait_for()
    day.publishes('nothing')
    day.recovers()
