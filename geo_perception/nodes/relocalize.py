# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Where am I: a pose in the map from each camera image.

    python -m geo_perception.nodes.relocalize --ros-args -p model:=X -r image:=/camera/image_raw
"""

from dataclasses import dataclass
import sys

from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
import numpy as np

from geo_perception.errors import ConfigurationError, PoseError, TransformError
from geo_perception.ros.amcl_seed import AmclSeed
from geo_perception.ros.calibration import CalibrationCheck
from geo_perception.ros.fix_track import FixLimits, FixTrack
from geo_perception.ros.localization import (
    move_pose_to_base, OdometryCorrection, uncouple_plane)
from geo_perception.ros.messages import (
    LOST_VARIANCE, pose_stamped, pose_with_covariance_stamped)
from geo_perception.ros.node import (
    broken_rule, PerceptionNode, PerceptionParameters, Rejection)
from geo_perception.ros.parameters import parameter
from geo_perception.ros.run import run_node
from geo_perception.ros.transforms import TransformListener
from geo_perception.ros.validators import fix_problems

_LOST_COVARIANCE = LOST_VARIANCE * np.eye(6)
_LONGEST_SILENCE_NS = 2_000_000_000   # of odometry; then it is gone


@dataclass(frozen=True)
class RelocalizeParameters(PerceptionParameters):
    """The parameters of the node ``relocalize``."""

    samples: int = parameter(
        40, 'Monte-Carlo dropout samples for the covariance; 0 gives the calibrated least one.',
        minimum=0, maximum=1000)
    verify: bool = parameter(
        True, 'Verify poses with the place memory, where the model is a place file (made by '
        'geo_perception map); false publishes what the network says.')
    rectified: bool = parameter(
        False, 'The images are rectified: their intrinsics, for verifying, are P of camera_info. '
        'false takes K and the distortion.')
    gate: str = parameter(
        'withhold', 'What to do with a pose of low confidence: withhold publishes nothing, '
        'inflate publishes it on ~/pose_with_covariance only, with a covariance that says "not '
        'measured" (9999).',
        choices=('withhold', 'inflate'))
    gate_threshold: float = parameter(
        -1.0, 'Score (0 to 1) that a pose needs; negative takes the default of the pipeline, '
        '0.5.', minimum=-1.0, maximum=1.0)
    map_frame: str = parameter(
        '', "Frame of the poses; empty takes the model's world frame.")
    base_frame: str = parameter(
        '', 'Robot frame whose pose is published, through TF from the camera frame; empty '
        'publishes the pose of the camera (optical frame). AMCL calls it base_footprint.')
    camera_frame: str = parameter(
        '', "Optical frame of the camera; empty takes the image's frame_id.")
    odom_frame: str = parameter(
        'odom', 'Odometry frame, for publish_tf.')
    publish_tf: bool = parameter(
        False, 'Broadcast map_frame -> odom_frame; needs base_frame. Only when no AMCL or SLAM '
        'does so.')
    two_d: bool = parameter(
        False, 'The robot moves in a plane: reduce the broadcast correction to x, y and yaw; in '
        'covariances z, roll and pitch are correlated with nothing.')
    largest_jump_m: float = parameter(
        0.0, 'Withhold a fix that is farther than this from where odometry (TF odom_frame -> '
        'base_frame) has carried the fix before; 0 sets no limit. Needs base_frame.', unit='m',
        minimum=0.0, maximum=1e6)
    largest_innovation: float = parameter(
        0.0, 'The same as Mahalanobis distance, by the covariances of both fixes and 10 % drift '
        'of odometry, e.g. 5; 0 sets no limit. Needs base_frame.', minimum=0.0, maximum=1000.0)
    fixes_to_start: int = parameter(
        1, 'So many fixes in a row must agree before the first is believed. More than 1 needs a '
        'limit above.', minimum=1, maximum=100)
    fixes_to_recover: int = parameter(
        3, 'So many fixes in a row that agree with each other, but not with odometry, win over '
        'the old place: the robot was carried away.', minimum=1, maximum=1000)
    seed: str = parameter(
        'never', 'first_fix sends the first fix to AMCL, once, on the topic initialpose; the '
        'service ~/seed sends the next one at any time. Needs base_frame.',
        choices=('never', 'first_fix'))
    transform_tolerance_s: float = parameter(
        1.0, 'The broadcast transform is stamped this much ahead, so that others can use it until '
        'the next, which comes ten times a second, or more often where this is short.', unit='s',
        minimum=0.0, maximum=60.0)
    tf_timeout_s: float = parameter(
        0.5, 'How long to wait for a transform at the stamp of the image; longer than odometry '
        'takes, which comes after its image where it is from images itself.', unit='s',
        minimum=0.0, maximum=10.0)

    def __post_init__(self):
        """Check what concerns more than one parameter."""
        super().__post_init__()
        if not self.base_frame:
            for name, is_set in (('publish_tf', self.publish_tf),
                                 ('seed: first_fix', self.seed == 'first_fix'),
                                 ('largest_jump_m', self.largest_jump_m > 0),
                                 ('largest_innovation', self.largest_innovation > 0)):
                if is_set:
                    raise ConfigurationError(f"{name} needs 'base_frame', the frame that odometry "
                                             'moves, e.g. base_link')
        if self.fixes_to_start > 1 and not self.limits.needs_odometry:
            raise ConfigurationError(
                f'fixes_to_start is {self.fixes_to_start}, but neither largest_jump_m nor '
                'largest_innovation says what it is for fixes to agree; set one of them')
        for name in ('map_frame', 'base_frame', 'camera_frame', 'odom_frame'):
            if getattr(self, name).startswith('/'):
                raise ConfigurationError(f"parameter '{name}' is {getattr(self, name)!r}; "
                                         'frame names have no leading slash')

    @property
    def limits(self):
        """When a fix contradicts odometry."""
        return FixLimits(self.largest_jump_m, self.largest_innovation, self.fixes_to_start,
                         self.fixes_to_recover, self.two_d)


class RelocalizeNode(PerceptionNode):
    """
    Publishes ``~/pose`` and ``~/pose_with_covariance`` and, if asked, ``map -> odom``.

    With a place file these are verified poses; ``~/coarse_pose`` is what the network alone says.
    With odometry in TF it withholds fixes that contradict it, ``~/fused_pose`` is the last fix as
    odometry carries it on, and it seeds AMCL on demand.
    """

    parameters_class = RelocalizeParameters
    subsystem = 'relocalization'

    def __init__(self, **options):
        self._listener = self._correction = self._calibration = None
        self._seed = AmclSeed(self)
        self._track = FixTrack(FixLimits())
        self._forget()
        super().__init__('relocalize', **options)

    def load_pipeline(self):
        """Load the relocalizer; nothing heavy is imported before."""
        from geo_perception.inference.verified import load_relocalizer

        threshold = self.parameters.gate_threshold
        gate = {} if threshold < 0 else {'gate': threshold}
        pipeline = load_relocalizer(
            self.parameters.model, self.parameters.verify, device=self.parameters.device,
            precision=self.parameters.precision, samples=self.parameters.samples,
            threads=self.threads, **gate)
        frame = self.parameters.map_frame or pipeline.world_frame
        for name in ('odom_frame', 'base_frame') if self.parameters.publish_tf else ():
            if frame == getattr(self.parameters, name):
                raise ConfigurationError(
                    f'publish_tf needs a frame above odometry, but map_frame and {name} are both '
                    f"'{frame}'; set map_frame, which is the model's world frame by default, e.g. "
                    'to map')
        return pipeline

    def open_outputs(self):
        """Create publishers and, where asked for, the TF side."""
        self._map_frame = self.parameters.map_frame or self.pipeline.world_frame
        self.verb = f"Relocalizing {self.parameters.base_frame or 'the camera'}"
        self._pose = self.add_output(PoseStamped, '~/pose')
        self._pose_with_covariance = self.add_output(
            PoseWithCovarianceStamped, '~/pose_with_covariance')
        self._coarse = None
        if self._verifies:
            self._coarse = self.add_output(PoseWithCovarianceStamped, '~/coarse_pose')
        self._track = FixTrack(self.parameters.limits)
        self._fused = None
        if self.parameters.base_frame:
            self._listener = TransformListener(self)
            self._fused = self.add_output(PoseWithCovarianceStamped, '~/fused_pose')
        self._seed.advertise(
            self.parameters.seed == 'first_fix', '' if self.parameters.base_frame else
            "seeding needs 'base_frame'; the pose of the camera is not that of the robot")
        if self.parameters.publish_tf:
            self._correction = OdometryCorrection(
                self, self._map_frame, self.parameters.odom_frame,
                self.parameters.transform_tolerance_s, self.parameters.two_d,
                self._why_odometry_is_gone)

    def close_outputs(self):
        """Destroy what ``open_outputs`` made."""
        for entity in (self._listener, self._correction, self._seed):
            if entity is not None:
                entity.close()
        self._listener = self._correction = None
        super().close_outputs()

    def open_inputs(self):
        """Subscribe to calibration."""
        self._forget()
        self._calibration = CalibrationCheck(
            self, self._input.info_topics, self.parameters.rectified)

    def close_inputs(self):
        """Unsubscribe, and end the broadcast."""
        if self._correction is not None:
            self._correction.reset()
        if self._calibration is not None:
            self._calibration.close()
            self._calibration = None

    def is_wanted(self):
        """Work for subscribers, for TF, and for AMCL that waits for a seed."""
        return self.parameters.publish_tf or self._seed.is_due() or super().is_wanted()

    def process(self, stamp, frame_id, image):
        """Relocalize one image; publish the fix, and what odometry makes of the last one."""
        frame_id = frame_id.lstrip('/')
        self._camera_frame = self.parameters.camera_frame or frame_id
        self._frames = frame_id, self._camera_frame
        # A broadcast would ask, but not all do so.
        gone = self._listener is not None and bool(self._why_odometry_is_gone(stamp))
        if self._odometry_was_gone:
            self._odometry_was_gone = gone   # fixes until it is back are not of what comes then
            self._track.reset()   # it may have begun elsewhere since
        self._T_odom_base, self._has_looked_up = None, False
        try:
            self._fix(stamp, image)
        finally:
            self._publish_fused(stamp)

    def _fix(self, stamp, image):
        """Relocalize one image and publish the pose."""
        fix = self.pipeline(image, self._calibration.camera() if self._verifies else None)
        if self._coarse is not None and self._coarse.get_subscription_count():
            self._publish_coarse(stamp, fix.coarse)
        refusal = self._marked(self._judge(fix))
        T, covariance = self._of_base(stamp, fix)
        if refusal is None and self.parameters.limits.needs_odometry:
            refusal = self._marked(self._compare_with_odometry(stamp, T, covariance))
        try:
            message = pose_with_covariance_stamped(
                stamp, self._map_frame, T, covariance if refusal is None else _LOST_COVARIANCE)
            broken = broken_rule(fix_problems(message))
        except PoseError as error:
            broken = broken_rule([str(error)])
        if broken:
            raise broken
        self._pose_with_covariance.publish(message)
        if refusal is not None:
            raise refusal
        self._pose.publish(pose_stamped(stamp, self._map_frame, T))
        self._last_fix = stamp, fix.score
        # AMCL believes what it is sent, so not a fix that should have been compared and was not.
        if self._T_odom_base is not None or not self.parameters.limits.needs_odometry:
            self._seed.offer(stamp, self._map_frame, T, covariance)
        self._correct_odometry(stamp, T, covariance)

    def on_arrival(self, stamp):
        """Tell the broadcast of ``map -> odom`` what time it is."""
        if self._correction is not None:
            self._correction.see(stamp)

    def reset(self):
        """Forget motion from before a jump in time."""
        self._forget()
        for entity in (self._listener, self._correction):
            if entity is not None:
                entity.reset()

    def describe(self):
        """Say what is published, from which model, and how old the last fix is."""
        values = {'model': self.parameters.model}
        if self.pipeline is not None:
            values['engine'] = self.pipeline.describe()
            values['model sha256'] = self.pipeline.model.sha256
            values['pose of'] = self.parameters.base_frame or f'{self._camera_frame} (camera)'
            values['map frame'] = self._map_frame
            values['seed'] = self._seed.state
            if self._correction is not None:
                values[f'{self._map_frame} -> {self.parameters.odom_frame}'] = \
                    self._correction.state
        now = self.get_clock().now().nanoseconds
        if self._last_fix is not None:
            values['last fix age [s]'] = f'{1e-9 * (now - self._last_fix[0]):.2f}'
            values['last fix score'] = f'{self._last_fix[1]:.2f}'
        warning = self._correction is not None and self._correction.problem or (
            self._tf_problem if self.phase == 'active' and self._needs_odometry() else '')
        if self._verifies and not warning:
            warning = self.pipeline.warning()
        if self._calibration is not None:
            self._calibration.find_publisher()   # once a second is enough, for it is optional
        if self._calibration is not None and not warning:
            warning = self._calibration.problem(
                self._frames, self.pipeline.model.metadata.training_camera)
        return values, self._camera_frame, warning

    def _forget(self):
        self._camera_frame = self._tf_problem = self._odometry_lacks = ''
        self._frames = ()
        self._last_fix = self._T_odom_base = None
        self._odometry_was_gone = self._has_looked_up = False
        self._track.reset()

    @property
    def _verifies(self):
        """Whether the pipeline has a place memory."""
        return getattr(self.pipeline, 'place', None) is not None

    def _of_base(self, stamp, fix):
        """Return pose and covariance of what is to be published, the base or the camera."""
        T, covariance = fix.T_world_camera, fix.covariance
        if self.parameters.base_frame:
            T_base_camera = self._look_up(self.parameters.base_frame, self._camera_frame, stamp)
            T, covariance = move_pose_to_base(T, covariance, T_base_camera)
        return T, uncouple_plane(covariance) if self.parameters.two_d else covariance

    def _publish_coarse(self, stamp, coarse):
        """Publish what the network alone says, as refused as it was."""
        T, covariance = self._of_base(stamp, coarse)
        self._coarse.publish(pose_with_covariance_stamped(
            stamp, self._map_frame, T, covariance if coarse.accepted else _LOST_COVARIANCE))

    def _judge(self, fix):
        """Return why a fix is not trusted, None where it is."""
        threshold = self.parameters.gate_threshold
        trusted, reason = fix.score >= threshold, (
            f'the score {fix.score:.2f} is below gate_threshold {threshold:.2f}')
        if threshold < 0 or self._verifies:   # verified ones are judged by it already
            trusted, reason = fix.accepted, fix.reason
        return None if trusted else Rejection('gate', reason)

    def _look_up(self, target, source, stamp, waits=True):
        try:
            return self._listener.lookup(
                target, source, stamp, self.parameters.tf_timeout_s if waits else 0.0)
        except TransformError as error:
            raise Rejection('transform', f'waiting for TF: {error}') from error

    def _look_up_odometry(self, stamp, consequence):
        """Return where odometry has the base, or None; waited for where lack has consequences."""
        if not self._has_looked_up:   # nobody waits twice for one image
            self._has_looked_up = True
            try:
                self._T_odom_base = self._look_up(
                    self.parameters.odom_frame, self.parameters.base_frame, stamp,
                    waits=bool(consequence))
                self._tf_problem = ''
            except Rejection as rejection:
                self._odometry_lacks = (f'{rejection}; where it comes later, raise tf_timeout_s '
                                        f'({self.parameters.tf_timeout_s} s)')
                if consequence:
                    self._tf_problem = f'{consequence}{self._odometry_lacks}.'
            self._catch_up(stamp)
        return self._T_odom_base

    def _catch_up(self, now):
        """Take over fixes whose odometry has come only since, before newer ones."""
        fixes, self._track.waiting = self._track.waiting, []
        for stamp, T_map_base, covariance in fixes:
            if now - stamp > _LONGEST_SILENCE_NS:
                continue
            try:
                T_odom_base = self._look_up(
                    self.parameters.odom_frame, self.parameters.base_frame, stamp, waits=False)
            except Rejection:
                T_odom_base = None
            doubt = self._follow(stamp, T_map_base, covariance, T_odom_base)
            if T_odom_base is not None and not doubt and self._correction is not None:
                self._correction.update(stamp, T_map_base, T_odom_base)

    def _follow(self, stamp, T_map_base, covariance, T_odom_base):
        """Return what speaks against a fix; without odometry it waits, and nothing does yet."""
        if T_odom_base is None:
            self._track.waiting.append((stamp, T_map_base, covariance))
            return ''
        doubt, news = self._track.judge(T_map_base, covariance, T_odom_base)
        if news:
            self.get_logger().warning(news)
        return doubt

    def _compare_with_odometry(self, stamp, T_map_base, covariance):
        """Return why a fix is refused, None where odometry, or enough other fixes, agree."""
        T_odom_base = self._look_up_odometry(stamp, 'Fixes are not compared with odometry: ')
        doubt = self._follow(stamp, T_map_base, covariance, T_odom_base)
        # Later ones are published all the same: the robot was somewhere for certain.
        if T_odom_base is None and self.parameters.fixes_to_start > 1 and self._last_fix is None:
            doubt = f'where the robot starts is not certain yet: {self._odometry_lacks}'
        return Rejection('odometry', doubt) if doubt else None

    def _correct_odometry(self, stamp, T_map_base, covariance):
        """Take over a fix into ``map -> odom`` (ros2_conventions.md section 3), and follow it."""
        if self._correction is None and not self._fused_is_wanted():
            if not self.parameters.limits.needs_odometry:
                self._track.reset()   # rather than falling behind until somebody listens
            return
        T_odom_base = self._look_up_odometry(
            stamp, 'There is no fused pose: ' if self._correction is None else
            f'{self._map_frame} -> {self.parameters.odom_frame} is not corrected yet: ')
        if not self.parameters.limits.needs_odometry:   # else it was judged already
            self._follow(stamp, T_map_base, covariance, T_odom_base)
        if T_odom_base is not None and self._correction is not None:
            self._correction.update(stamp, T_map_base, T_odom_base)

    def _why_odometry_is_gone(self, now):
        """Return it in a sentence, '' while odometry lives (executor's or worker's thread)."""
        odom, base = self.parameters.odom_frame, self.parameters.base_frame
        try:
            newest = self._listener.newest(odom, base)
        except TransformError:
            return ''   # it was never there, which is told when a fix needs it
        if newest is None or now - newest < _LONGEST_SILENCE_NS:
            return ''
        self._odometry_was_gone = True
        return (f'{self._map_frame} -> {odom} is not broadcast: TF {odom} -> {base} ended '
                f'{1e-9 * (now - newest):.1f} s ago, so odometry is gone; after it has come back '
                'the next fix starts anew.')

    def _needs_odometry(self):
        return (self.parameters.limits.needs_odometry or self._correction is not None
                or self._fused_is_wanted())

    def _fused_is_wanted(self):
        return self._fused is not None and self._fused.get_subscription_count() > 0

    def _publish_fused(self, stamp):
        """Follow the last believed fix by odometry; publish it for whoever listens."""
        if self._fused is None:
            return
        wanted = self._fused_is_wanted()
        T_odom_base = self._look_up_odometry(stamp, 'There is no fused pose: ' if wanted else '')
        T, covariance = (None, None) if T_odom_base is None else self._track.predict(T_odom_base)
        if T is not None and wanted:
            self._fused.publish(pose_with_covariance_stamped(
                stamp, self._map_frame, T, covariance))

    def _marked(self, refusal):
        """Raise a refusal, or return it where the pose is to be published as what it is."""
        if refusal is not None and self.parameters.gate == 'withhold':
            raise refusal
        return refusal


def main(args=None):
    """Run the node; the console script."""
    sys.exit(run_node(RelocalizeNode, args))


if __name__ == '__main__':
    main()
