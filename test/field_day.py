# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
A bad day in the field: real nodes with small real models, and the record of how they took it.

Each test names its fault by `fault`; what it records becomes a row of the page, `field_page`.
"""

from functools import lru_cache
import re
import time
from typing import NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
from field_page import CASES, ROWS
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
import numpy as np
import pytest
from ros_harness import TIMEOUT
from sensor_msgs.msg import CameraInfo, Image
import small_world
from tiny_geometry_model import CALIBRATION, write_flow_model, write_geometry_model
import tiny_model
import tiny_stereo_model

from geo_perception.geometry import se3
from geo_perception.inference.motion_uncertainty import MotionCalibration
from geo_perception.inference.retrieval import thumbnail
from geo_perception.model_file import save_model_file, TrainingCamera
from geo_perception.nodes.geometry import GeometryNode
from geo_perception.nodes.relocalize import RelocalizeNode
from geo_perception.nodes.stereo_depth import StereoDepthNode
from geo_perception.ros.diagnostics import ERROR, OK, WARN
from geo_perception.ros.messages import camera_info_message, image_message, stamp_to_ns
from geo_perception.ros.validators import fix_problems, odometry_problems

SECOND = 1_000_000_000
STEP = 0.1      # s, between stamps of images
PACE = 0.025    # s, between images; a day need not take its time
LEVELS = {OK: 'OK', WARN: 'WARN', ERROR: 'ERROR'}
BOTH = ('relocalize', 'geometry')
ALL = (*BOTH, 'stereo_depth')
WELL = '{verb} at … Hz from images at … Hz.'
CAMERA = small_world.CAMERA
BASELINE = 0.12   # m, of the stereo camera; the wall is 3 m away
T_BASE_CAMERA = se3.make_transform(se3.R_BODY_OPTICAL, [0.3, 0.1, 0.5])


class Kind(NamedTuple):
    """What one node is given and what it gives."""

    node_class: type
    outputs: dict     # topic: message class and validator
    verb: str


KINDS = {
    'relocalize': Kind(
        RelocalizeNode,
        {'/relocalize/pose_with_covariance': (PoseWithCovarianceStamped, fix_problems)},
        'Relocalizing the camera'),
    'geometry': Kind(
        GeometryNode,
        {'/geometry/depth': (Image, lambda message: []),
         '/geometry/odometry': (Odometry, odometry_problems)}, 'Depth and odometry'),
    'stereo_depth': Kind(
        StereoDepthNode,
        {'/stereo_depth/depth': (Image, lambda message: []),
         '/stereo_depth/confidence': (Image, lambda message: [])}, 'Depth')}


@lru_cache
def scenery():
    """Return the pictures that a camera sees on its way, over and over."""
    return [small_world.view(T)[0] for T in small_world.poses(40)]


@lru_cache
def other_eye():
    """Return what the right eye of a stereo camera sees on that way."""
    shift = se3.make_transform(np.eye(3), [BASELINE, 0, 0])
    return [small_world.view(T @ shift)[0] for T in small_world.poses(40)]


def write_models(folder):
    """Write model files, of each node one and another to swap it for; return paths by name."""
    # With such a residual expected no motion of the untrained network passes for a cut.
    calibration = {**CALIBRATION, **{
        f'motion_{name}': value
        for name, value in vars(MotionCalibration(usual_residual=1.0)).items()}}
    paths = {name: folder / f'{name}.safetensors' for kind in ALL for name in (
        kind, f'other {kind}')}
    place = {'retrieval.thumbnails': np.stack([
                 thumbnail(image) for image in scenery()]).astype(np.float16),
             'retrieval.poses': small_world.poses(len(scenery()))}
    tiny_model.write_model(paths['relocalize'], place)
    tiny_model.write_model(paths['other relocalize'], place, world_frame='cellar')
    write_geometry_model(paths['geometry'], calibration=calibration)
    write_flow_model(paths['other geometry'], calibration=calibration)
    reach = CAMERA.K[0, 0] / CAMERA.width * BASELINE
    for name, depth in (('stereo_depth', 3.0), ('other stereo_depth', 1.5)):
        save_model_file(paths[name], tiny_stereo_model.metadata(
            training_camera=TrainingCamera(96, 64, 80.0, 80.0, 47.5, 31.5),
            calibration={'reach': reach}), tiny_stereo_model.weights(reach / depth))
    paths['text'] = folder / 'text.safetensors'
    paths['text'].write_text('no model')
    return {name: str(path) for name, path in paths.items()}


def fault(section, text, *nodes):
    """
    Return the decorator of a test, which is run for each of the nodes.

    Parameters
    ----------
    section : str
        Of the page.
    text : str
        What happens, a sentence.
    *nodes : str
        Of `KINDS`.

    """
    def decorate(function):
        CASES.extend((section, text, node) for node in nodes)
        function.fault = text
        return pytest.mark.parametrize('day', nodes, indirect=True)(function)

    return decorate


class Day:
    """
    One node, its camera and its listeners.

    Parameters
    ----------
    graph : ros_harness.Graph
        All but the processes of others.
    fault, node : str
        Of `field_page.CASES`.
    model : str
        File for the node.

    Attributes
    ----------
    now : int
        Stamp of the newest image, ns.
    sent : list of int
        Stamps of all images.
    heard : dict of str to list
        Messages by topic.

    """

    def __init__(self, graph, fault, node, model):
        self.graph, self.fault, self.name, self.model = graph, fault, node, model
        self.kind = KINDS[node]
        self.now, self.sent = 100 * SECOND, []
        self.count = 0
        self.info = CAMERA        # None where nobody publishes it any more
        self.clock = None                   # publisher of /clock
        self.beside = None                  # called with the stamp of each image, before it
        self._known = {}
        self.cells = {}

    def start(self, node_class=None, **parameters):
        """Bring up node, camera and listeners."""
        graph = self.graph
        base = {'base_frame': ''} if self.name == 'geometry' else {}
        # Diagnostics of the last moments, so that tests need not wait for ten times that.
        self.node = graph.make(node_class or self.kind.node_class, **{
            'model': self.model, 'precision': 'fp32', 'threads': 1, 'watchdog_s': 0.4, **base,
            **parameters})
        self.heard = {topic: graph.listen(kind, topic)
                      for topic, (kind, _) in self.kind.outputs.items()}
        self.statuses = []
        graph.peer.create_subscription(DiagnosticArray, '/diagnostics', self._on_status, 50)
        assert self.node.start(), self.node.last_failure
        self.plug_in()
        graph.spin_until(self.node.is_wanted, what='the listeners')
        return self

    def plug_in(self):
        """Connect a camera."""
        self.camera = self.graph.advertise(Image, '/image')
        self.infos = self.graph.advertise(CameraInfo, '/camera_info')
        self.graph.spin_until(lambda: self.camera.get_subscription_count()
                              and self.infos.get_subscription_count(), what='the match')

    def unplug(self):
        """Take the camera away."""
        for publisher in (self.camera, self.infos):
            self.graph.peer.destroy_publisher(publisher)

    # What happens

    def send(self, step=STEP, stamp=None, picture=None, message=None, info=None):
        """Publish one image, and wait until the node is done with it; return its stamp."""
        self.now += round(step * SECOND) if stamp is None else 0
        stamp = self.now if stamp is None else stamp
        picture = scenery()[self.count % len(scenery())] if picture is None else picture
        if self.beside is not None:
            self.beside(stamp)
        self.count += 1
        if self.clock is not None:
            self.tick(stamp)
        if self.info is not None:
            self.infos.publish(info or camera_info_message(stamp, CAMERA.frame_id, self.info))
        statistics = self.node.statistics
        done = [statistics.count(name) for name in ('received', 'processed', 'skipped')]
        self.camera.publish(message or image_message(stamp, CAMERA.frame_id, picture, 'rgb8'))
        self.sent.append(stamp)
        self.graph.spin_until(lambda: statistics.count('received') > done[0], what='the image')
        self.graph.spin_until(lambda: statistics.count('processed')
                              + statistics.count('skipped') > done[1] + done[2], what='the frame')
        return stamp

    def drive(self, images, **how):
        """Publish good images in a row."""
        for _ in range(images):
            self.send(**how)
            self.graph.spin_for(PACE)

    def tick(self, stamp):
        """Let the clock be at a stamp."""
        from rosgraph_msgs.msg import Clock

        message = Clock()
        message.clock.sec, message.clock.nanosec = divmod(stamp, SECOND)
        self.clock.publish(message)
        self.graph.spin_until(lambda: self.node.get_clock().now().nanoseconds == stamp,
                              what='the clock')

    def settle(self):
        """Drive until all is well, and remember what has come."""
        self._until_normal()
        self.mark()

    # What comes of it

    def mark(self):
        """Remember what has come so far."""
        self.graph.spin_for(PACE)
        self._known = {topic: len(messages) for topic, messages in self.heard.items()}

    def stamps(self, topic=''):
        """Return the stamps of what has come since the mark, on topics that end like this."""
        return [stamp_to_ns(message.header.stamp)
                for name, messages in self.heard.items() if name.endswith(topic)
                for message in messages[self._known.get(name, 0):]]

    def wait_for(self, *stamps, topic=''):
        """Wait until results with these stamps have come, and see that there are no others."""
        wanted = sorted(list(stamps) * sum(name.endswith(topic) for name in self.heard))
        self.graph.spin_until(lambda: len(self.stamps(topic)) >= len(wanted), what='the results')
        self.graph.spin_for(0.02)
        assert sorted(self.stamps(topic)) == wanted

    def says(self, level, sentence, send=None):
        """
        Wait for a diagnosis and keep it for the page.

        Parameters
        ----------
        level : bytes
            Its level.
        sentence : str
            All of it; … stands for anything.
        send : callable, optional
            Called again and again meanwhile.

        """
        sentence = sentence.replace('{verb}', self.kind.verb)
        pattern = re.compile('.+?'.join(map(re.escape, sentence.split('…'))))
        self.statuses.clear()

        def said():
            if send is not None:
                send()
                self.graph.spin_for(PACE)
            self.node.diagnostics.publish()
            return any(status.level == level and pattern.fullmatch(status.message)
                       for status in self.statuses)

        try:
            self.graph.spin_until(said, what='the diagnosis')
        except AssertionError as error:
            raise AssertionError(f'{error}: {sentence!r}, but it says '
                                 f'{[status.message for status in self.statuses[-3:]]}') from None
        self.cells['diagnostics'] = f'{LEVELS[level]}: `{sentence}`'

    def withholds_poses(self, stamps, why, why_no_odometry):
        """See that no pose came for these images, and that the node says why; depth goes on."""
        if self.name == 'relocalize':
            self.wait_for()
            self.says(WARN, f'Images arrive but nothing is published: {why}', send=self.send)
            self.publishes('nothing')
        else:
            self.wait_for(*stamps, topic='depth')
            self.wait_for(topic='odometry')
            self.says(WARN, why_no_odometry, send=self.send)
            self.publishes('depth; no odometry')

    def publishes(self, text):
        """Keep for the page what was published, which the test has looked at."""
        self.cells['published'] = text

    def recovers(self):
        """Take the time until all is well again, now that the fault is gone; keep the row."""
        results, words = self._until_normal()
        self.record(f'{results:.1f}', f'{words:.1f}')
        for topic, (_, problems) in self.kind.outputs.items():
            stamps = [stamp_to_ns(message.header.stamp) for message in self.heard[topic]]
            assert set(stamps) <= set(self.sent), 'what is published has a stamp of its own'
            assert not [problem for message in self.heard[topic] for problem in problems(message)]

    def record(self, results, words):
        """Keep the row, with texts for the two times."""
        self.cells |= {'results': results, 'words': words}
        ROWS[self.fault, self.name] = self.cells

    def _until_normal(self):
        began, seconds = time.monotonic(), []
        known = {topic: len(messages) for topic, messages in self.heard.items()}
        well = f'{self.kind.verb} at '
        self.statuses.clear()

        def is_well():
            self.node.diagnostics.publish()
            return self.statuses and self.statuses[-1].level == OK \
                and self.statuses[-1].message.startswith(well)

        for condition in (lambda: all(len(self.heard[topic]) > known[topic] for topic in known),
                          is_well):
            while not condition():
                assert time.monotonic() - began < TIMEOUT, [s.message for s in self.statuses[-2:]]
                self.drive(1)
            seconds.append(time.monotonic() - began)
        return seconds

    def _on_status(self, message):
        name = f'{self.node.get_fully_qualified_name()}:'
        self.statuses += [status for status in message.status if status.name.startswith(name)]
