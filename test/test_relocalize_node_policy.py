# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The node ``relocalize`` among others: fixes against odometry, and seeding AMCL."""

from geometry_msgs.msg import PoseWithCovarianceStamped
import numpy as np
import pytest
from rclpy.parameter import Parameter
from relocalize_scene import Scene, SECOND, values_of
from std_srvs.srv import Trigger

from geo_perception.errors import ConfigurationError, TransformError
from geo_perception.geometry import se3
from geo_perception.nodes.relocalize import RelocalizeParameters
from geo_perception.ros.diagnostics import OK, WARN
from geo_perception.ros.messages import matrix_from_pose, stamp_to_ns
from geo_perception.ros.validators import (
    amcl_seed_problems, fix_problems, transform_problems)

T_BASE_CAMERA = se3.make_transform(se3.R_BODY_OPTICAL, [0.3, 0.1, 0.5])


def at(x):
    """Return a pose of the base in the plane."""
    return se3.make_transform(np.eye(3), [x, 0.0, 0.0])


class Robot(Scene):
    """A scene whose robot has a camera, and odometry that moves on by 1 m/s."""

    def __init__(self, graph, tf, **parameters):
        super().__init__(graph, **{'base_frame': 'base_link', 'map_frame': 'map',
                                   'tf_timeout_s': 5.0, **parameters})
        self._tf = tf

    def start(self):
        """Bring everything up, until the node knows the transforms."""
        super().start()
        self._tf(0, 'base_link', 'camera', T_BASE_CAMERA)
        for second in (99, 106):   # the first alone is not old enough to count as gone
            self._tf(second * SECOND, 'odom', 'base_link', at(second))
        return self

    def believe(self, x, **how):
        """Let the network see the base at x; return whether the fix is published."""
        published = self.count('published')
        self.pipeline.T_world_camera = at(x) @ T_BASE_CAMERA
        self.process(**how)
        return self.count('published') > published

    def fix_at(self, x):
        """Let the network see the base at x, once the transforms are known."""
        assert self.believe(x)
        self.graph.spin_until(lambda: self.covariances, what='the fix')

    def odometry(self):
        """Return where odometry has the base at the next image."""
        return 1e-9 * (self.stamp + SECOND // 10)


# Fixes against odometry


def test_a_fix_that_odometry_cannot_explain_is_withheld_with_the_reason(graph, tf):
    """Those before and after it are published; map -> odom stays."""
    robot = Robot(graph, tf, largest_jump_m=0.5).start()
    assert robot.believe(robot.odometry() + 5.0)
    assert robot.believe(robot.odometry() + 5.1)
    assert not robot.believe(robot.odometry() + 9.0)
    values = values_of(robot.graph.diagnosis(robot.node))
    assert values['no result: odometry'] == '1'
    assert robot.believe(robot.odometry() + 5.0)


def test_a_kidnapped_robot_is_followed_after_enough_fixes(graph, tf):
    """The map jumps once; meanwhile the diagnostics say what is going on."""
    robot = Robot(graph, tf, listen=False, publish_tf=True, largest_jump_m=0.5,
                  fixes_to_recover=3, transform_tolerance_s=0.0)
    heard = graph.listen(tf.message_class, '/tf')
    robot.start()

    def corrections():
        return [t.transform.translation.x for message in heard for t in message.transforms
                if t.child_frame_id == 'odom']

    assert robot.believe(robot.odometry() + 5.0)
    for _ in range(2):
        assert not robot.believe(robot.odometry() + 30.0)
    assert robot.believe(robot.odometry() + 30.0)
    robot.process()
    graph.spin_until(lambda: corrections() and corrections()[-1] > 29.0, what='the jump')
    assert np.allclose(np.unique(np.round(corrections(), 3)), [5.0, 30.0], atol=0.01)
    assert [transform_problems(t) for message in heard for t in message.transforms
            if t.header.frame_id == 'map'][0] == []


def test_with_images_of_another_size_the_map_stays(graph, tf):
    """Both map -> odom and what fixes are compared with."""
    robot = Robot(graph, tf, publish_tf=True, largest_jump_m=0.5)
    heard = graph.listen(tf.message_class, '/tf')
    robot.start()

    def ends():
        return [stamp_to_ns(t.header.stamp) for message in heard for t in message.transforms
                if t.child_frame_id == 'odom']

    assert robot.believe(robot.odometry() + 5.0)
    assert not robot.believe(robot.odometry() + 9.0, height=24, width=32)
    graph.spin_until(lambda: ends() and ends()[-1] > robot.stamp + SECOND, what='map -> odom')
    assert values_of(graph.diagnosis(robot.node))['map -> odom'] == 'is broadcast'


def test_the_fused_pose_goes_on_between_fixes(graph, tf):
    """By odometry, less certain with the way; nothing before the first fix."""
    robot = Robot(graph, tf)
    fused = graph.listen(PoseWithCovarianceStamped, '/relocalize/fused_pose')
    robot.start()
    graph.spin_until(lambda: robot.node._fused.get_subscription_count() > 0)
    robot.pipeline.accepted = False
    robot.process()
    robot.pipeline.accepted = True
    robot.fix_at(robot.odometry() + 5.0)
    graph.spin_until(lambda: fused, what='the fused pose')
    assert len(fused) == 1 and fused[0] == robot.covariances[-1]
    robot.pipeline.accepted = False
    robot.stamp += 2 * SECOND
    stamp = robot.process()
    graph.spin_until(lambda: len(fused) == 2, what='the fused pose')
    assert fix_problems(fused[1]) == [] and stamp_to_ns(fused[1].header.stamp) == stamp
    assert matrix_from_pose(fused[1].pose.pose)[0, 3] == pytest.approx(1e-9 * stamp + 5.0)
    before, after = (np.reshape(message.pose.covariance, (6, 6)) for message in fused)
    # 2.1 m further on: a tenth of that, a twentieth of a radian for each metre, and the lever arm.
    assert after[0, 0] == pytest.approx(before[0, 0] + 0.21 ** 2)
    assert after[5, 5] == pytest.approx(before[5, 5] + 0.105 ** 2)
    assert after[1, 1] == pytest.approx(before[1, 1] + 0.21 ** 2 + 2.1 ** 2 * before[5, 5]
                                        + 2 * 2.1 * before[1, 5])


def test_the_fused_pose_is_of_no_fix_from_before_there_were_listeners(graph, tf):
    """Where nothing else follows the fixes: later ones were believed and not followed."""
    robot = Robot(graph, tf).start()

    def listen():
        fused = []
        subscription = graph.peer.create_subscription(
            PoseWithCovarianceStamped, '/relocalize/fused_pose', fused.append, 10)
        graph.spin_until(robot.node._fused_is_wanted, what='the listener')
        return fused, subscription

    fused, subscription = listen()
    assert robot.believe(robot.odometry() + 5.0)
    graph.spin_until(lambda: fused, what='the fused pose')
    graph.peer.destroy_subscription(subscription)
    graph.spin_until(lambda: not robot.node._fused_is_wanted(), what='its end')
    assert robot.believe(robot.odometry() + 30.0)
    fused, _ = listen()
    robot.pipeline.accepted = False
    robot.process()
    robot.pipeline.accepted = True
    where = robot.odometry() + 30.0
    assert robot.believe(where)
    graph.spin_until(lambda: fused, what='the fused pose')
    assert [message.pose.pose.position.x for message in fused] == pytest.approx([where])


def test_odometry_that_was_gone_starts_anew(graph, tf):
    """It may have begun elsewhere: nothing is compared with what it said before."""
    robot = Robot(graph, tf, largest_jump_m=0.5).start()
    assert robot.believe(robot.odometry() + 5.0)
    robot.pipeline.accepted = False
    robot.stamp = 110 * SECOND   # 4 s after the last odometry
    robot.process()
    robot.pipeline.accepted = True
    for second in (112, 115):
        tf(second * SECOND, 'odom', 'base_link', at(second - 112))
    robot.stamp = 112 * SECOND
    assert robot.believe(50.0)
    assert not robot.believe(52.0)


class LateRobot(Robot):
    """A robot whose odometry comes later than its images, when a test says so."""

    def __init__(self, graph, tf, **parameters):
        super().__init__(graph, tf, tf_timeout_s=0.0, **parameters)
        self.fused = graph.listen(PoseWithCovarianceStamped, '/relocalize/fused_pose')

    def start(self):
        """Bring everything up; odometry is known until 106 s, when the next image comes."""
        super().start()
        self.graph.spin_until(self.node._fused_is_wanted, what='the listener')
        self.know(106)
        self.stamp = 106 * SECOND
        return self

    def know(self, second):
        """Let odometry come until a time."""
        self._tf(second * SECOND, 'odom', 'base_link', at(second))

        def known():
            try:
                self.node._listener.lookup('odom', 'camera', second * SECOND, 0.0)
            except TransformError:
                return False
            return True

        self.graph.spin_until(known, what='the odometry')

    def fixes(self, *offsets):
        """Let the network see the base this far from where odometry has it; tell what is out."""
        return [self.believe(self.odometry() + offset) for offset in offsets]

    def look_away(self):
        """Have an image processed that gives no fix; return its stamp."""
        self.pipeline.accepted = False
        stamp = self.process()
        self.pipeline.accepted = True
        return stamp

    def followed(self):
        """Return how far from odometry the fused pose is, at an image without a fix."""
        known, stamp = len(self.fused), self.look_away()
        self.graph.spin_until(lambda: len(self.fused) > known, what='the fused pose')
        return self.fused[-1].pose.pose.position.x - 1e-9 * stamp


def test_a_fix_waits_for_odometry_that_comes_later(graph, tf):
    """Newer ones win, whether their odometry is late or not."""
    robot = LateRobot(graph, tf).start()
    assert all(robot.fixes(5.0, 7.0)) and not robot.fused
    robot.know(107)
    assert robot.followed() == pytest.approx(7.0)
    robot.stamp = 107 * SECOND
    assert all(robot.fixes(9.0))
    robot.know(108)
    assert all(robot.fixes(11.0))
    assert robot.followed() == pytest.approx(11.0)


def test_a_fix_whose_odometry_comes_later_is_compared_then(graph, tf):
    """Also one that says where the robot starts."""
    robot = LateRobot(graph, tf, largest_jump_m=0.5, fixes_to_start=2).start()
    assert not any(robot.fixes(5.0, 5.1, 9.0))
    robot.know(107)
    assert robot.followed() == pytest.approx(5.1)
    assert all(robot.fixes(5.2))
    robot.stamp = 107 * SECOND
    assert all(robot.fixes(5.3, 9.0))
    robot.know(108)
    assert robot.followed() == pytest.approx(5.3)


@pytest.mark.parametrize('limit, believed', [(0.0, {5.0, 9.0}), (0.5, {5.0})])
def test_map_to_odom_takes_fixes_whose_odometry_comes_later(graph, tf, limit, believed):
    """Those that odometry can explain; here it always comes later."""
    robot = LateRobot(graph, tf, publish_tf=True, largest_jump_m=limit)
    heard = graph.listen(tf.message_class, '/tf')
    robot.start()
    seconds = iter(range(106, 1000))

    def corrections():
        second = next(seconds)
        robot.stamp = second * SECOND
        robot.fixes(5.0, 9.0)
        robot.know(second + 1)
        robot.look_away()
        return [round(t.transform.translation.x, 6) for message in heard
                for t in message.transforms if t.child_frame_id == 'odom']

    graph.spin_until(lambda: len(corrections()) > 5, what='map -> odom')
    assert set(corrections()) == believed


def test_no_fix_waits_for_odometry_that_begins_anew(graph, tf):
    """It may do so elsewhere, so in between nobody knows where the robot was."""
    robot = LateRobot(graph, tf).start()
    robot.stamp = 108 * SECOND
    assert all(robot.fixes(5.0))
    robot.know(109)
    robot.look_away()
    assert all(robot.fixes(9.0))
    graph.spin_until(lambda: robot.fused, what='the fused pose')
    assert stamp_to_ns(robot.fused[0].header.stamp) == robot.stamp


def test_no_fix_waits_for_ever(graph, tf):
    """Where odometry never comes."""
    robot = LateRobot(graph, tf, odom_frame='nowhere').start()
    assert all(robot.fixes(*[5.0] * 30))
    assert 0 < len(robot.node._track.waiting) < 25


@pytest.mark.parametrize('fixes_to_start', [1, 2])
def test_of_odometry_that_is_late_the_wait_is_told(graph, tf, fixes_to_start):
    """Our own takes as long as its network."""
    robot = Robot(graph, tf, tf_timeout_s=0.125, largest_jump_m=0.5,
                  fixes_to_start=fixes_to_start).start()
    robot.stamp = 107 * SECOND
    graph.spin_until(lambda: robot.process() and 'known until 106.000 s' in robot.diagnosis(
        'waiting for TF').message, what='the odometry')
    robot.diagnosis('; where it comes later, raise tf_timeout_s (0.125 s).')


def test_the_way_counts_also_while_there_are_no_fixes(graph, tf):
    """Forth and back is 12 m, on which odometry may well be 2 m off."""
    robot = Robot(graph, tf, largest_innovation=5.0).start()
    assert robot.believe(100.1 + 5.0)
    tf(108 * SECOND, 'odom', 'base_link', at(100.0))
    graph.spin_until(lambda: robot.node._listener.newest('odom', 'base_link') == 108 * SECOND,
                     what='the odometry')
    robot.pipeline.accepted = False
    for second in range(101, 108):
        robot.stamp = second * SECOND
        robot.process()
    robot.pipeline.accepted = True
    robot.stamp = 108 * SECOND - SECOND // 10
    assert robot.believe(100.0 + 5.0 + 2.0)


def test_nothing_but_outliers_is_a_warning(graph, tf):
    """Withheld fixes are no silence without reason."""
    robot = Robot(graph, tf, largest_innovation=5.0, fixes_to_start=5).start()
    robot.believe(robot.odometry())
    status = robot.diagnosis('where the robot starts is not certain yet (1 of 5 fixes agree)')
    assert status.level == WARN


def test_without_odometry_fixes_are_published_and_that_is_said(graph, tf):
    """They cannot be compared; a transform is not invented."""
    robot = Robot(graph, tf, largest_jump_m=0.5, odom_frame='nowhere', tf_timeout_s=0.1).start()
    graph.spin_until(lambda: robot.believe(0.0), what='the first pose')
    assert robot.believe(50.0)
    robot.diagnosis('Fixes are not compared with odometry: waiting for TF')


def test_without_odometry_there_is_no_certain_start(graph, tf):
    """Nothing is believed that could not be compared; once something is, the rest comes out."""
    robot = Robot(graph, tf, fixes_to_start=2, largest_jump_m=0.5, tf_timeout_s=0.0).start()
    robot.stamp = 110 * SECOND
    graph.spin_until(lambda: not robot.believe(77.0) and (
        "where the robot starts is not certain yet: waiting for TF: the transform from 'odom'"
        in robot.diagnosis('waiting for TF').message), what='the reason')
    assert robot.count('published') == 0
    robot.stamp = 110 * SECOND + SECOND // 2
    tf(115 * SECOND, 'odom', 'base_link', at(115.0))
    graph.spin_until(lambda: robot.believe(robot.odometry() + 5.0), what='a start')
    robot.stamp = 120 * SECOND
    assert robot.believe(77.0)
    robot.diagnosis('Fixes are not compared with odometry: waiting for TF')


def test_odometry_that_nobody_needs_any_more_is_not_missed(graph, tf):
    """Only a fused pose takes it here, and only while somebody listens."""
    robot = Robot(graph, tf, odom_frame='nowhere', tf_timeout_s=0.1).start()
    graph.spin_until(lambda: robot.believe(0.0), what='the first pose')
    fused = graph.peer.create_subscription(
        PoseWithCovarianceStamped, '/relocalize/fused_pose', lambda message: None, 10)
    graph.spin_until(robot.node._fused_is_wanted, what='the listener')
    assert robot.believe(1.0)
    assert robot.diagnosis('There is no fused pose: waiting for TF').level == WARN
    graph.peer.destroy_subscription(fused)
    graph.spin_until(lambda: not robot.node._fused_is_wanted(), what='its end')
    assert robot.diagnosis('Relocalizing base_link at').level == OK


@pytest.mark.parametrize('parameters, named', [
    ({'largest_jump_m': 1.0}, 'base_frame'), ({'largest_innovation': 5.0}, 'base_frame'),
    ({'seed': 'first_fix'}, 'base_frame'),
    ({'fixes_to_start': 2, 'base_frame': 'base_link'}, 'largest_jump_m')])
def test_what_cannot_work_is_refused(parameters, named):
    """At configuration, with what is missing."""
    with pytest.raises(ConfigurationError, match=named):
        RelocalizeParameters(**parameters)


# Seeding AMCL


def ask(graph, node='/relocalize'):
    """Call the service; return its answer."""
    return graph.call(Trigger, f'{node}/seed')


def test_the_first_fix_is_sent_to_amcl_once(graph, tf):
    """With the stamp of its image and a covariance that AMCL takes; nobody else need listen."""
    robot = Robot(graph, tf, listen=False, seed='first_fix')
    seeds = graph.listen(PoseWithCovarianceStamped, '/initialpose')
    robot.start()
    graph.spin_until(robot.node.is_wanted, what='AMCL')
    robot.pipeline.T_world_camera = at(4.0) @ T_BASE_CAMERA
    robot.pipeline.accepted = False
    robot.process()
    assert not seeds and robot.node.is_wanted()
    robot.pipeline.accepted = True
    stamp = robot.process()
    graph.spin_until(lambda: seeds, what='the seed')
    assert not robot.node.is_wanted()
    robot.send()
    graph.spin_until(lambda: robot.count('skipped') == 1)
    message, = seeds
    assert stamp_to_ns(message.header.stamp) == stamp and message.header.frame_id == 'map'
    assert np.allclose(matrix_from_pose(message.pose.pose), at(4.0))
    assert amcl_seed_problems(message) == []
    covariance = np.reshape(message.pose.covariance, (6, 6))
    # The lever arm of the camera correlates position with orientation; none of that is sent.
    assert np.count_nonzero(covariance) == 6 and np.all(np.diag(covariance) > 0)


def test_amcl_is_not_sent_a_fix_that_was_not_compared(graph, tf):
    """Where there is a limit, but no odometry yet; the first that was compared is sent."""
    robot = Robot(graph, tf, seed='first_fix', largest_jump_m=0.5, tf_timeout_s=0.0)
    seeds = graph.listen(PoseWithCovarianceStamped, '/initialpose')
    robot.start()
    graph.spin_until(robot.node.is_wanted, what='AMCL')
    robot.stamp = 110 * SECOND
    graph.spin_until(lambda: robot.believe(77.0), what='a fix')
    tf(115 * SECOND, 'odom', 'base_link', at(115.0))
    graph.spin_until(lambda: robot.believe(4.0) and seeds, what='the seed')
    assert np.allclose(matrix_from_pose(seeds[0].pose.pose), at(4.0))


def test_amcl_that_comes_later_is_waited_for(graph, tf):
    """Fixes before are not wasted on nobody."""
    robot = Robot(graph, tf, seed='first_fix').start()
    graph.spin_until(lambda: robot.believe(1.0), what='a fix')
    assert 'listener' in values_of(graph.diagnosis(robot.node))['seed']
    seeds = graph.listen(PoseWithCovarianceStamped, '/initialpose')
    graph.spin_until(lambda: graph.peer.count_subscribers('/initialpose') and robot.believe(2.0)
                     and seeds, what='the seed')
    assert len(seeds) == 1


@pytest.mark.parametrize('how', ['model', 'lifecycle'])
def test_there_is_no_second_seed_unasked(graph, tf, how):
    """Neither with another model nor configured anew; what was asked for is not forgotten."""
    robot = Robot(graph, tf, seed='first_fix')
    seeds = graph.listen(PoseWithCovarianceStamped, '/initialpose')

    def begin_anew():
        if how == 'model':
            assert robot.node.set_parameters([Parameter('model', value='other')])[0].successful
        else:
            robot.node.trigger_deactivate()
            robot.node.trigger_cleanup()
            assert robot.node.start()
        graph.spin_until(
            lambda: robot.camera.get_subscription_count() > 0 and robot.node.is_wanted()
            and robot.node._seed._heard(), what='the match')

    robot.start()
    graph.spin_until(lambda: robot.believe(4.0) and seeds, what='the seed')
    begin_anew()
    graph.spin_until(lambda: robot.believe(5.0), what='a fix')
    assert values_of(graph.diagnosis(robot.node))['seed'] == 'nothing to send'
    assert ask(graph).success
    begin_anew()
    graph.spin_until(lambda: robot.believe(6.0) and len(seeds) > 1, what='the seed')
    assert np.allclose([matrix_from_pose(seed.pose.pose)[0, 3] for seed in seeds], [4.0, 6.0])


def test_the_service_sends_the_next_fix(graph, tf):
    """However often it is asked for, once an asking."""
    robot = Robot(graph, tf)
    seeds = graph.listen(PoseWithCovarianceStamped, '/initialpose')
    robot.start()
    robot.process()
    assert not seeds
    for number in (1, 2):
        answer = ask(graph)
        assert answer.success and '/initialpose' in answer.message
        robot.process()
        robot.process()
        graph.spin_until(lambda: len(seeds) == number, what='the seed')


def test_the_service_says_why_it_cannot(graph):
    """The pose of the camera is not that of the robot."""
    Scene(graph).start()
    answer = ask(graph)
    assert not answer.success and 'base_frame' in answer.message


def test_an_inactive_node_does_not_seed(graph, tf):
    """It says what to do."""
    robot = Robot(graph, tf).start()
    robot.node.trigger_deactivate()
    answer = ask(graph)
    assert not answer.success and 'inactive' in answer.message
