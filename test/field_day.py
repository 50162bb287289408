# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
A bad day in the field: real nodes with small real models, and the record of how they took it.

Each test names its fault by `fault`; what it records becomes a row of ``docs/reliability.md``.
"""

from functools import lru_cache
from pathlib import Path
import re
import time
from typing import NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
import numpy as np
import pytest
from ros_harness import TIMEOUT
from sensor_msgs.msg import CameraInfo, Image
import small_world
import tiny_model

from geo_perception.environment import describe_machine
from geo_perception.geometry import se3
from geo_perception.geometry.camera import Camera
from geo_perception.nodes.geometry import GeometryNode
from geo_perception.nodes.relocalize import RelocalizeNode
from geo_perception.ros.diagnostics import ERROR, OK, WARN
from geo_perception.ros.messages import camera_info_message, image_message, stamp_to_ns
from geo_perception.ros.validators import fix_problems, odometry_problems

PAGE = Path(__file__).parents[1] / 'docs' / 'reliability.md'
SECOND = 1_000_000_000
STEP = 0.1      # s, between stamps of images
PACE = 0.025    # s, between images; a day need not take its time
LEVELS = {OK: 'OK', WARN: 'WARN', ERROR: 'ERROR'}
BOTH = ('relocalize', 'geometry')
T_BASE_CAMERA = se3.make_transform(se3.R_BODY_OPTICAL, [0.3, 0.1, 0.5])

CASES = []     # (section, fault, node) of every row, in order
ROWS = {}      # the same: cells that were recorded in this run


class Kind(NamedTuple):
    """What one node is given and what it gives."""

    node_class: type
    frame: str
    camera: Camera
    outputs: dict     # topic: message class and validator
    verb: str


KINDS = {
    'relocalize': Kind(
        RelocalizeNode, 'camera',
        Camera(np.array([[150.0, 0, 89.5], [0, 150, 59.5], [0, 0, 1]]), 180, 120,
               frame_id='camera'),
        {'/relocalize/pose_with_covariance': (PoseWithCovarianceStamped, fix_problems)},
        'Relocalizing the camera'),
    'geometry': Kind(
        GeometryNode, 'camera', small_world.CAMERA,
        {'/geometry/depth': (Image, lambda message: []),
         '/geometry/odometry': (Odometry, odometry_problems)}, 'Depth and odometry')}


@lru_cache
def scenery(node):
    """Return the pictures that a camera sees on its way, over and over."""
    if node == 'relocalize':
        return list(tiny_model.images())
    return [small_world.view(T)[0] for T in small_world.poses(40)]


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
        Of `CASES`.
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
        self.info = self.kind.camera        # None where nobody publishes it any more
        self.clock = None                   # publisher of /clock
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
        pictures = scenery(self.name)
        picture = pictures[self.count % len(pictures)] if picture is None else picture
        self.count += 1
        if self.clock is not None:
            self.tick(stamp)
        if self.info is not None:
            self.infos.publish(info or camera_info_message(stamp, self.kind.frame, self.info))
        statistics = self.node.statistics
        done = [statistics.count(name) for name in ('received', 'processed', 'skipped')]
        self.camera.publish(message or image_message(stamp, self.kind.frame, picture, 'rgb8'))
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


# The page

_HEAD = """# Reliability

What the nodes do on a bad day. The tests of `test/test_field_day.py` make it happen on a real ROS
graph, with small models that were never trained, and write this page:

```
make reliability
```

- *Published*: what comes out while the fault lasts. Nothing ever has a stamp that its image did
  not have, none is published twice, and what breaks a rule of filters or Nav2
  (`geo_perception/ros/validators.py`) is withheld, with the rule in the diagnostics.
- *Diagnostics*: level and sentence on `/diagnostics`; … is a number or a name.
- *Normal after*: seconds from the end of the fault until each output has a new result, and until
  the diagnostics say OK. Images come 40 times a second there. Diagnostics look back
  `watchdog_s`, 0.4 s in these tests and 5 s by default: with the default they are OK again up to
  that much later.

"""


def page():
    """
    Return the page, of the rows recorded in this run.

    Returns
    -------
    str

    """
    machine = describe_machine()
    lines = [_HEAD, ', '.join(machine[name] for name in ('cpu', 'cores', 'ros') if name in machine)
             .replace(f", {machine['cores']},", f", {machine['cores']} cores,") + '.\n']
    section = None
    for case in CASES:
        if case[1:] not in ROWS:
            continue
        if case[0] != section:
            section = case[0]
            lines.append(f'\n## {section}\n\n| fault | node | published | diagnostics | normal '
                         'after, s |\n| --- | --- | --- | --- | --- |\n')
        lines.append(_line(case[1:], ROWS[case[1:]]))
    return ''.join(lines)


def rows_of(text):
    """
    Return the rows of a page.

    Parameters
    ----------
    text : str
        The page.

    Returns
    -------
    dict
        (fault, node): what is published, and the diagnostics.

    """
    cells = [[cell.strip() for cell in line.strip('|').split('|')]
             for line in text.splitlines() if line.startswith('|')]
    return {(row[0], row[1].strip('`')): row[2:4] for row in cells
            if row[0] not in ('fault', '---')}


def _line(case, row):
    after = row['results'] if row['words'] == row['results'] else \
        f"{row['results']}; diagnostics {row['words']}"
    return (f"| {case[0]} | `{case[1]}` | {row['published']} | {row['diagnostics']} | {after} |\n")
